"""A document signer certificate (DSC) as a verifier needs it: key, dates, country, and what it may sign.

Source: hcert_spec.md, A.1 (kid) and A.5.1 (extended key usage); X.509 by RFC 5280.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from printsvc.errors import CredentialError

Kid = NewType("Kid", bytes)
"""8 bytes; `.hex()` in the store, base64 on the wire."""

MAX_DER = 16_384


class Usage(StrEnum):
    """The kinds of certificate, by the group of the payload that holds them."""

    TEST = "t"
    VACCINATION = "v"
    RECOVERY = "r"


USAGE_OIDS = {
    Usage.TEST: "1.3.6.1.4.1.1847.2021.1.1",
    Usage.VACCINATION: "1.3.6.1.4.1.1847.2021.1.2",
    Usage.RECOVERY: "1.3.6.1.4.1.1847.2021.1.3",
}
# The first version of the specification had a 0 too many, and signers of 2021 carry it.
_USAGE_OF = {oid: usage for usage, oid in USAGE_OIDS.items()} | {
    oid.replace(".1847.", ".0.1847."): usage for usage, oid in USAGE_OIDS.items()
}
_OID_EXTENDED_KEY_USAGE = "2.5.29.37"


@dataclass(frozen=True, slots=True)
class Dsc:
    """`usages` is empty where the certificate names none: then it may sign every kind.

    `uvci_beginning` is what the UVCIs begin with that a delegated signer may sign; empty for every other signer.
    """

    kid: Kid
    der: bytes
    country: str
    not_before: datetime
    not_after: datetime
    usages: frozenset[Usage]
    public_key: PublicKeyTypes
    uvci_beginning: str = ""

    def may_sign(self, usage: Usage) -> bool:
        return not self.usages or usage in self.usages

    @property
    def thumbprint(self) -> str:
        """SHA-256 over the DER, hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()


def kid_of(dsc_der: bytes) -> Kid:
    """Return a DSC's kid: the first 8 bytes of SHA-256 over its DER.

    Not unique: a verifier tries every DSC with this kid.
    Source: hcert_spec.md, A.1.
    """
    return Kid(hashlib.sha256(dsc_der).digest()[:8])


def read_dsc(der: bytes, kid: Kid | None = None) -> Dsc:
    """Return a DSC; `kid` is what the list calls it, where that is not the usual one.

    Raises CredentialError (code `certificate_unreadable`) for anything that is no X.509 certificate.
    """
    if len(der) > MAX_DER:
        raise _unreadable()
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        ranges = [str(one.value) for one in certificate.subject.get_attributes_for_oid(x509.NameOID.SERIAL_NUMBER)]
        countries = certificate.subject.get_attributes_for_oid(x509.NameOID.COUNTRY_NAME)
        return Dsc(
            kid=kid if kid is not None else kid_of(der),
            der=der,
            country=str(countries[0].value) if countries else "",
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            usages=_usages(certificate.tbs_certificate_bytes),
            public_key=key,
            uvci_beginning=next((name for name in ranges if name.startswith("URN:UVCI:")), ""),
        )
    # TypeError: the library raises it for a name whose parts have types that do not fit.
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise _unreadable() from None


def parse_der_base64(text: str) -> bytes:
    """Return the DER that `text` holds in base64. Raises CredentialError (code `certificate_unreadable`)."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable() from None


def _unreadable() -> CredentialError:
    return CredentialError(
        "The signer's certificate cannot be read.",
        vi="Không đọc được chứng thư của bên ký.",
        code="certificate_unreadable",
    )


def _usages(tbs: bytes) -> frozenset[Usage]:
    """Return the usages that the extended key usage names.

    Read by hand: the library refuses the whole certificate for an encoded default or an empty list, and signers in
    the field have both (Finland 2021; an empty list names nothing, so it forbids nothing).
    """
    for tag, body in _elements(_only(tbs, 0x30)):
        if tag == 0xA3:  # [3] extensions
            for _, extension in _elements(_only(body, 0x30)):
                parts = list(_elements(extension))
                if parts[:1] == [(0x06, _encode_oid(_OID_EXTENDED_KEY_USAGE))]:
                    return frozenset(_usages_in(_only(parts[-1][1], 0x30)))
    return frozenset()


def _usages_in(body: bytes) -> Iterator[Usage]:
    for _, oid in _elements(body):
        usage = _USAGE_BY_DER.get(oid)
        if usage is not None:
            yield usage


def _only(data: bytes, tag: int) -> bytes:
    elements = list(_elements(data))
    if len(elements) != 1 or elements[0][0] != tag:
        raise ValueError("unexpected DER")
    return elements[0][1]


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, content) of each DER element in `data`. Raises ValueError where one is cut."""
    position = 0
    while position < len(data):
        if position + 2 > len(data):
            raise ValueError("DER is cut")
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            width = length & 0x7F
            if not 1 <= width <= 4:
                raise ValueError("DER length")
            length = int.from_bytes(data[position : position + width], "big")
            position += width
        if position + length > len(data):
            raise ValueError("DER is cut")
        yield tag, data[position : position + length]
        position += length


def _encode_oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        encoded.extend(reversed(groups))
    return bytes(encoded)


_USAGE_BY_DER = {_encode_oid(oid): usage for oid, usage in _USAGE_OF.items()}
