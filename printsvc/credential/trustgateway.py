"""Signers of HCERT as the EU gateway and those after it list them: JSON entries with a certificate and its signature.

An entry is believed when a pinned upload certificate (NB-UP) of its country signed it, or an upload certificate that
the pinned trust anchor signed in the same list. The German form has one signature over the whole list instead.
Source: EU gateway, `TrustListItem` and its trust anchor model; DGC verification apps, two-line list.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from printsvc.credential.dsc import Dsc, kid_of
from printsvc.credential.keys import issued_by
from printsvc.credential.trustcms import verify_cms
from printsvc.credential.trustedkey import CredentialFormat, TrustedKey
from printsvc.credential.trustentry import (
    Findings,
    certificate_key,
    encode_kid,
    entries_of,
    member,
    parse_base64,
    parse_kid,
    parse_list_json,
    read_certificate,
    refuse,
)
from printsvc.errors import InputError

_UPLOAD, _CSCA, _DSC = "UPLOAD", "CSCA", "DSC"
_TYPES: Final = frozenset({_UPLOAD, _CSCA, _DSC, "AUTHENTICATION"})


@dataclass(slots=True)
class _Vouchers:
    """Who may sign for a country: certificates (DER) by country; `anchors` for every one."""

    anchors: Sequence[bytes]
    uploads: dict[str, list[bytes]] = field(default_factory=dict)
    authorities: dict[str, list[bytes]] = field(default_factory=dict)


def read_gateway_list(raw: bytes, *, anchors: Sequence[bytes], uploads: Sequence[bytes]) -> Findings:
    """Return the DSCs of a gateway's list, each vouched for by a pinned certificate.

    `anchors` and `uploads` are pinned, DER: a trust anchor vouches for upload certificates and authorities of the list
    (and for what it signs itself), an upload certificate for DSCs of its own country. Raises InputError.
    """
    if not anchors and not uploads:
        raise refuse("", "pin_needed")
    vouchers = _Vouchers(anchors)
    for upload in uploads:
        vouchers.uploads.setdefault(read_certificate(upload, "/pins").country, []).append(upload)
    found = Findings()
    entries = [(f"/{number}", entry) for number, entry in enumerate(_entries(parse_list_json(raw)))]
    signers: list[tuple[str, Any]] = []
    for pointer, entry in entries:
        kind = _kind(entry, pointer, found)
        if kind == _DSC:
            signers.append((pointer, entry))
        elif kind in (_UPLOAD, _CSCA) and anchors:
            found.take(pointer, lambda entry=entry, kind=kind: _admit(entry, kind, vouchers))  # type: ignore[misc]
    for pointer, entry in signers:
        found.take(pointer, lambda entry=entry: _vouched(entry, vouchers))  # type: ignore[misc]
    return found


def read_german_list(raw: bytes, *, public_key: ec.EllipticCurvePublicKey | None) -> Findings:
    """Return the DSCs of a list whose first line is its ECDSA signature, in base64, over all that follows.

    The signature is r || s or DER, with SHA-256. Raises InputError where it is not the pinned key's.
    """
    if public_key is None:
        raise refuse("", "pin_needed")
    line, separator, body = raw.partition(b"\n")
    if not separator or len(line) > 512:
        raise refuse("", "not_a_list")
    try:
        signature = parse_base64(line.decode("ascii"), "/signature")
    except UnicodeDecodeError:
        raise refuse("/signature", "not_base64") from None
    if not _ecdsa_agrees(public_key, signature, body):
        raise refuse("/signature", "signature_invalid")
    found = Findings()
    document = parse_list_json(body)
    for number, entry in enumerate(_entries(document)):
        pointer = f"/certificates/{number}" if isinstance(document, dict) else f"/{number}"
        if _kind(entry, pointer, found) == _DSC:
            found.take(pointer, lambda entry=entry: _signer_of(entry))  # type: ignore[misc]
    return found


def encode_gateway_entry(dsc: Dsc, signature: bytes, *, timestamp: datetime) -> dict[str, str]:
    """Return a DSC as the gateway lists it; `signature` is a detached CMS over its DER."""
    return {
        "kid": encode_kid(dsc.kid),
        "timestamp": timestamp.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "country": dsc.country,
        "certificateType": _DSC,
        "thumbprint": dsc.thumbprint,
        "signature": base64.b64encode(signature).decode("ascii"),
        "rawData": base64.b64encode(dsc.der).decode("ascii"),
    }


def _entries(document: Any) -> list[Any]:
    if isinstance(document, dict):
        return entries_of(member(document, "certificates", list), "/certificates")
    return entries_of(document)


def _kind(entry: Any, pointer: str, found: Findings) -> str:
    """Return an entry's type; one that is not known is a mistake, not a signer."""
    try:
        kind: str = member(entry, "certificateType", str)
        if kind.upper() not in _TYPES:
            raise refuse("/certificateType", "wrong_type")
        return kind.upper()
    except InputError as error:
        found.problems += [type(p)(pointer + p.pointer, p.code, p.vi, p.en) for p in error.problems]
        return ""


def _admit(entry: Any, kind: str, vouchers: _Vouchers) -> Sequence[TrustedKey]:
    """Take an upload certificate or authority that a trust anchor signed; it is no key for codes itself."""
    dsc, country, signature = _certificate_of(entry)
    if verify_cms(signature, vouchers.anchors, content=dsc.der) is None:
        raise refuse("/signature", "signature_invalid")
    group = vouchers.uploads if kind == _UPLOAD else vouchers.authorities
    group.setdefault(country, []).append(dsc.der)
    return ()


def _vouched(entry: Any, vouchers: _Vouchers) -> TrustedKey:
    dsc, country, signature = _certificate_of(entry)
    may_sign = [*vouchers.uploads.get(country, ()), *vouchers.anchors]
    if verify_cms(signature, may_sign, content=dsc.der) is None:
        raise refuse("/signature", "signature_invalid")
    authorities = vouchers.authorities.get(country)
    if authorities and not any(issued_by(dsc.der, authority) for authority in authorities):
        raise refuse("/rawData", "not_issued_by_authority")
    return _signer_of(entry)


def _certificate_of(entry: Any) -> tuple[Dsc, str, bytes]:
    """Return (certificate, country, CMS signature) of an entry whose fields agree with each other."""
    signer = _signer_of(entry, check=False)
    assert signer.certificate is not None
    if "signature" not in entry:
        raise refuse("/signature", "signature_missing")
    signature = parse_base64(member(entry, "signature", str), "/signature")
    dsc = read_certificate(signer.certificate, "/rawData")
    return dsc, signer.country, signature


def _signer_of(entry: Any, *, check: bool = True) -> TrustedKey:
    raw = parse_base64(member(entry, "rawData", str), "/rawData")
    dsc = read_certificate(raw, "/rawData")
    kid = parse_kid(member(entry, "kid", str), "/kid") if check or "kid" in entry else kid_of(raw)
    if "thumbprint" in entry and member(entry, "thumbprint", str).lower() != dsc.thumbprint:
        raise refuse("/thumbprint", "thumbprint_mismatch")
    country = member(entry, "country", str).upper() if "country" in entry else dsc.country.upper()
    if dsc.country and country != dsc.country.upper():
        raise refuse("/country", "country_mismatch")
    if not check:
        return TrustedKey("", CredentialFormat.HCERT, dsc.public_key, country=country, certificate=raw)
    return certificate_key(raw, CredentialFormat.HCERT, "/rawData", kid=encode_kid(kid))


def _ecdsa_agrees(key: ec.EllipticCurvePublicKey, signature: bytes, body: bytes) -> bool:
    width = (key.key_size + 7) // 8
    forms = [signature]
    if len(signature) == 2 * width:
        r, s = int.from_bytes(signature[:width], "big"), int.from_bytes(signature[width:], "big")
        forms.insert(0, encode_dss_signature(r, s))
    for form in forms:
        try:
            key.verify(form, body, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            continue
        return True
    return False
