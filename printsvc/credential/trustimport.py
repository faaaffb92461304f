"""Reading somebody else's trust list: which format, who signed it, which keys, and what that would change.

What decides is what a person pinned: a certificate, a key, or the SHA-256 of a list that carries no signature.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from printsvc.credential.dsc import Dsc
from printsvc.credential.trustcms import read_master_list, verify_master_list
from printsvc.credential.trustedkey import CredentialFormat, TrustedKey
from printsvc.credential.trustentry import (
    MAX_ENTRIES,
    MAX_LIST,
    Findings,
    certificate_key,
    digest_of,
    encode_kid,
    encode_public_key,
    fingerprint,
    read_certificate,
    refuse,
)
from printsvc.credential.trustgateway import read_gateway_list, read_german_list
from printsvc.credential.trustjwk import read_did_document, read_jwks, read_vci_snapshot
from printsvc.credential.trustsigned import read_signed_list
from printsvc.errors import Problem


class ListFormat(StrEnum):
    """The lists that are read."""

    PRINTSVC = "printsvc"
    """The signed list of another service of this kind (`GET /v1/trust-list.jws`)."""
    EU = "eu"
    GERMAN = "de"
    ICAO = "icao"
    DID = "did"
    JWKS = "jwks"
    VCI = "vci"
    CERTIFICATES = "certificates"
    """PEM, a PKCS#7 bundle in DER, or one certificate in DER."""


_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]*?)-----END CERTIFICATE-----")
SIGNED: Final = frozenset({ListFormat.PRINTSVC, ListFormat.EU, ListFormat.GERMAN, ListFormat.ICAO})


@dataclass(frozen=True, slots=True)
class Pins:
    """What a person believes, DER: `signers` sign entries or lists, `anchors` vouch for signers within an EU list."""

    signers: tuple[bytes, ...] = ()
    anchors: tuple[bytes, ...] = ()
    public_key: ec.EllipticCurvePublicKey | None = None


@dataclass(frozen=True, slots=True)
class ListFile:
    """A list as it came, and what the person said of it.

    `unsigned` says that it carries no signature that is checked; `sha256` (hexadecimal) is then what it must be.
    `issuer` is whose a key set is, `key_format` what bare certificates are for, `skip_unusable` leaves out entries
    whose key or certificate cannot be used.
    """

    list_format: ListFormat
    raw: bytes = field(repr=False)
    pins: Pins = Pins()
    unsigned: bool = False
    sha256: str = ""
    issuer: str = ""
    key_format: CredentialFormat = CredentialFormat.HCERT
    skip_unusable: bool = False


@dataclass(frozen=True, slots=True)
class ReadList:
    """`signed_by` names the pinned key that decided: `sha256:` of its certificate, key or of the unsigned file."""

    keys: tuple[TrustedKey, ...]
    skipped: tuple[Problem, ...]
    sha256: str
    signed_by: str
    version: int | None = None
    made_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What an import changes, in the list's order."""

    added: tuple[TrustedKey, ...]
    removed: tuple[TrustedKey, ...]
    unchanged: int


def read_list(file: ListFile, *, now: datetime) -> ReadList:
    """Return the keys of a list. Raises InputError for a list that is not what was pinned, or has a mistake."""
    if len(file.raw) > MAX_LIST:
        raise refuse("", "list_too_large")
    digest = digest_of(file.raw)
    if file.sha256 and not hmac.compare_digest(file.sha256.lower().encode(), digest.encode()):
        raise refuse("", "digest_mismatch")
    if file.list_format in SIGNED and file.unsigned:
        raise refuse("", "signed_format")
    if file.list_format not in SIGNED and not (file.unsigned and file.sha256):
        raise refuse("", "unsigned")
    signed_by, version, made_at = f"file sha256:{digest}", None, None
    match file.list_format:
        case ListFormat.PRINTSVC:
            signed = read_signed_list(file.raw, pins=file.pins.signers, now=now)
            found = _own_keys(signed.trust.certificates)
            signed_by, version, made_at = _by(signed.signer), signed.trust.version, signed.issued_at
        case ListFormat.EU:
            found = read_gateway_list(file.raw, anchors=file.pins.anchors, uploads=file.pins.signers)
            signed_by = ", ".join(map(_by, (*file.pins.anchors, *file.pins.signers)))
        case ListFormat.GERMAN:
            found = read_german_list(file.raw, public_key=file.pins.public_key)
            assert file.pins.public_key is not None
            signed_by = f"key sha256:{digest_of(encode_public_key(file.pins.public_key))}"
        case ListFormat.ICAO:
            found, signer, made_at = _master_list(file, now)
            signed_by = _by(signer)
        case ListFormat.DID:
            found = read_did_document(file.raw)
        case ListFormat.JWKS:
            found = read_jwks(file.raw, issuer=file.issuer)
        case ListFormat.VCI:
            found = read_vci_snapshot(file.raw)
        case ListFormat.CERTIFICATES:
            found = _certificates(file)
    keys, skipped = found.finish(skip_unusable=file.skip_unusable)
    return ReadList(keys, skipped, digest, signed_by, version, made_at)


def compare(before: Iterable[TrustedKey], after: Sequence[TrustedKey]) -> Difference:
    """Return what changes when `after` takes the place of `before`."""
    old = {fingerprint(key): key for key in before}
    new = {fingerprint(key): key for key in after}
    return Difference(
        added=tuple(key for name, key in new.items() if name not in old),
        removed=tuple(key for name, key in old.items() if name not in new),
        unchanged=len(old.keys() & new.keys()),
    )


def read_pins(raw: bytes, pointer: str) -> list[bytes]:
    """Return the certificates (DER) of PEM, a PKCS#7 bundle or one DER. Raises InputError."""
    try:
        ders = _ders(raw)
    except ValueError:
        raise refuse(pointer, "pin_unreadable") from None
    for der in ders:
        read_certificate(der, pointer)
    return ders


def read_public_key(raw: bytes, pointer: str) -> ec.EllipticCurvePublicKey:
    """Return the ECDSA key of PEM or DER: a public key, or a certificate that has it. Raises InputError."""
    loaders: tuple[Callable[[], object], ...] = (
        lambda: serialization.load_pem_public_key(raw),
        lambda: serialization.load_der_public_key(raw),
        lambda: x509.load_pem_x509_certificate(raw).public_key(),
        lambda: x509.load_der_x509_certificate(raw).public_key(),
    )
    for load in loaders:
        try:
            key = load()
        except Exception:  # noqa: S112  the next form is tried; what fits none is told below
            continue
        if isinstance(key, ec.EllipticCurvePublicKey):
            return key
    raise refuse(pointer, "pin_unreadable")


def _by(certificate: bytes) -> str:
    return f"certificate sha256:{digest_of(certificate)}"


def _own_keys(certificates: Iterable[Dsc]) -> Findings:
    found = Findings()
    for number, dsc in enumerate(certificates):
        der, kid = dsc.der, encode_kid(dsc.kid)
        found.take(
            f"/certificates/{number}/rawData",
            lambda der=der, kid=kid: certificate_key(der, CredentialFormat.HCERT, "", kid=kid),  # type: ignore[misc]
        )
    return found


def _master_list(file: ListFile, now: datetime) -> tuple[Findings, bytes, datetime | None]:
    pins = (*file.pins.signers, *file.pins.anchors)
    if not pins:
        raise refuse("", "pin_needed")
    signed = verify_master_list(file.raw, pins, now=now)
    if signed is None:
        raise refuse("", "signature_invalid")
    ders = read_master_list(signed.content)
    if ders is None:
        raise refuse("", "not_a_list")
    return _authorities(ders, CredentialFormat.VDS_NC), signed.signer, signed.signed_at


def _certificates(file: ListFile) -> Findings:
    try:
        ders = _ders(file.raw)
    except ValueError:
        raise refuse("", "not_a_list") from None
    if file.key_format is CredentialFormat.VDS_NC:
        return _authorities(ders, file.key_format)
    if file.key_format is not CredentialFormat.HCERT:
        raise refuse("/key_format", "wrong_type")
    found = Findings()
    for number, der in enumerate(ders):
        found.take(f"/{number}", lambda der=der: certificate_key(der, CredentialFormat.HCERT, ""))  # type: ignore[misc]
    return found


def _authorities(ders: Sequence[bytes], key_format: CredentialFormat) -> Findings:
    """Return CSCAs: what is no authority has no place among them."""
    if len(ders) > MAX_ENTRIES:
        raise refuse("", "too_many_entries")
    found = Findings()
    for number, der in enumerate(ders):

        def read_one(der: bytes = der) -> TrustedKey:
            key = certificate_key(der, key_format, "", is_anchor=True)
            if not _is_authority(der):
                raise refuse("", "not_an_authority")
            return key

        found.take(f"/{number}", read_one)
    return found


def _is_authority(der: bytes) -> bool:
    """Return whether a certificate says that it may sign others."""
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return False


def _ders(raw: bytes) -> list[bytes]:
    """Return the certificates of PEM, PKCS#7 in DER, or one DER. Raises ValueError.

    Those of PEM are unread: a broken one among them is to be named by its place.
    """
    blocks = _PEM.findall(raw)
    if blocks:
        return [base64.b64decode(b"".join(block.split()), validate=True) for block in blocks]
    try:
        found = pkcs7.load_der_pkcs7_certificates(raw)
    except Exception:  # the library has several ways to say "this is none"
        found = [x509.load_der_x509_certificate(raw)]
    return [one.public_bytes(serialization.Encoding.DER) for one in found]
