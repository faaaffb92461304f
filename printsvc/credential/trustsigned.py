"""The trust list with a signature around it: a JWS that a verifier checks against a certificate it pinned.

The payload is the body of `GET /v1/trust-list` with `issued_at` and `expires_at`. `version` says what the list holds,
the two times how fresh the statement is: who has version 7 refuses version 6, and nobody believes a list whose
`expires_at` is past, so that a listener on the line can neither take a signer back nor hold one up.
Source: RFC 7515, sections 4 and 7.1 (compact serialisation); RFC 7518, 3.1.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtensionOID

from printsvc.credential.cose import Algorithm, signature_agrees
from printsvc.credential.keys import PrivateKey, PublicKey
from printsvc.credential.trust import TrustList
from printsvc.credential.trustdoc import encode_time, parse_time
from printsvc.credential.trustedkey import encode_base64url
from printsvc.credential.trustentry import (
    MAX_LIST,
    member,
    parse_base64,
    parse_base64url,
    parse_list_json,
    read_certificate,
    refuse,
)
from printsvc.errors import CredentialError, InputError, SigningError

TYPE: Final = "trust-list+jws"
LIST_SIGNER: Final = "2.23.136.1.1.3"
"""Extended key usage of who signs lists of certificates (ICAO Doc 9303, part 12)."""
FRESH_FOR: Final = timedelta(hours=48)
"""A verifier that was offline over a weekend day still works; one that is kept offline for longer says so."""
CLOCK_SKEW: Final = timedelta(minutes=5)
_SIGNER_VALIDITY: Final = timedelta(days=2 * 365)
_ONLY_SIGNS: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class ListSigner(Protocol):
    """What signs lists: see `credential.keys.Signer`."""

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def certificate(self) -> bytes: ...

    def sign(self, data: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SignedList:
    """A list whose signature was checked; `signer` is the DER of the certificate."""

    trust: TrustList
    issued_at: datetime
    expires_at: datetime
    signer: bytes


def sign_trust_list(trust: TrustList, signer: ListSigner, *, now: datetime, fresh_for: timedelta = FRESH_FOR) -> str:
    """Return the JWS over a trust list, in compact serialisation."""
    return sign_body(
        trust.to_json() | {"issued_at": encode_time(now), "expires_at": encode_time(now + fresh_for)}, signer
    )


def sign_body(payload: dict[str, Any], signer: ListSigner, *, typ: str = TYPE) -> str:
    """Return the JWS over a payload, in compact serialisation; `typ` says what it is."""
    header = {
        "alg": signer.algorithm.name,
        "typ": typ,
        "x5c": [base64.b64encode(signer.certificate).decode("ascii")],
    }
    signed = ".".join(encode_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, payload))
    return f"{signed}.{encode_base64url(signer.sign(signed.encode('ascii')))}"


def read_signed_list(
    raw: bytes, *, pins: Sequence[bytes], now: datetime, known_version: int | None = None
) -> SignedList:
    """Return the list of a JWS that a pinned certificate signed, or a list signer that a pinned CSCA issued.

    `pins` are DER. Raises InputError, code of its problem: `signature_invalid`, `stale`, `not_yet_valid`, `rollback`
    (older than `known_version`), and others for what is no list.
    """
    signer, body = read_signed_body(raw, pins)
    if not in_force(signer, now):
        raise refuse("/x5c/0", "stale")
    issued_at, expires_at = (_time(body, name) for name in ("issued_at", "expires_at"))
    if issued_at - now > CLOCK_SKEW:
        raise refuse("/issued_at", "not_yet_valid")
    if expires_at < now:
        raise refuse("/expires_at", "stale")
    try:
        trust = TrustList.from_json(body)
    except CredentialError:
        raise refuse("/certificates", "not_a_list") from None
    if known_version is not None and trust.version < known_version:
        raise refuse("/version", "rollback")
    return SignedList(trust, issued_at, expires_at, signer)


def read_version(raw: bytes, *, pins: Sequence[bytes]) -> int | None:
    """Return the version of a list that is under one of `pins`, however old it is; None for anything else.

    What a verifier has seen keeps older lists away, also when it is itself out of date by now.
    """
    try:
        return TrustList.from_json(read_signed_body(raw, pins)[1]).version
    except (InputError, CredentialError):
        return None


def make_list_signer(public_key: PublicKey, *, csca: bytes, csca_key: PrivateKey, serial: int, now: datetime) -> bytes:
    """Return the DER of a list signer under `csca`: it signs lists, and no verifier takes it for a DSC.

    Raises SigningError where the key is not the CSCA's, or `now` is outside its validity.
    """
    authority = x509.load_der_x509_certificate(csca)
    if authority.public_key() != csca_key.public_key():
        raise SigningError("The private key is not that of the CSCA.", code="key_mismatch")
    if not authority.not_valid_before_utc <= now < authority.not_valid_after_utc:
        raise SigningError("The CSCA is not valid now.", code="csca_expired")
    kept = [name for name in authority.subject if name.oid != x509.NameOID.COMMON_NAME]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*kept, x509.NameAttribute(x509.NameOID.COMMON_NAME, "TRUST LIST SIGNER")]))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(serial)
        # A verifier's clock may be behind ours, and it sees the first list within seconds.
        .not_valid_before(max(now - timedelta(days=1), authority.not_valid_before_utc))
        .not_valid_after(min(now + _SIGNER_VALIDITY, authority.not_valid_after_utc))
        .add_extension(_ONLY_SIGNS, critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(LIST_SIGNER)]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)  # type: ignore[arg-type]
    )
    return builder.sign(csca_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def is_list_signer(certificate: bytes, authority: bytes) -> bool:
    """Return whether `authority` issued `certificate` (both DER) and gave it the usage of signing lists."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        found.verify_directly_issued_by(x509.load_der_x509_certificate(authority))
        usages = found.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value
        assert isinstance(usages, x509.ExtendedKeyUsage)
        return any(usage.dotted_string == LIST_SIGNER for usage in usages)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError, x509.ExtensionNotFound):
        return False


def in_force(certificate: bytes, at: datetime) -> bool:
    """Return whether a readable certificate is valid at `at`."""
    found = x509.load_der_x509_certificate(certificate)
    return found.not_valid_before_utc <= at <= found.not_valid_after_utc


def read_signed_body(raw: bytes, pins: Sequence[bytes], *, typ: str = TYPE) -> tuple[bytes, Any]:
    """Return (signer's certificate, payload) of a JWS that is under one of `pins`; its times are not looked at.

    Raises InputError, as `read_signed_list`.
    """
    if not pins:
        raise refuse("", "pin_needed")
    if len(raw) > MAX_LIST * 4 // 3:
        raise refuse("", "list_too_large")
    try:
        header_text, payload_text, signature_text = raw.decode("ascii").strip().split(".")
    except ValueError:
        raise refuse("", "not_a_list") from None
    header = parse_list_json(parse_base64url(header_text, ""))
    algorithm, signer = _signer_of(header, pins, typ)
    signature = parse_base64url(signature_text, "/signature")
    key = read_certificate(signer, "/x5c/0").public_key
    if not signature_agrees(key, algorithm, signature, f"{header_text}.{payload_text}".encode("ascii")):
        raise refuse("/signature", "signature_invalid")
    return signer, parse_list_json(_decode_payload(payload_text))


def _signer_of(header: Any, pins: Sequence[bytes], typ: str) -> tuple[Algorithm, bytes]:
    name = member(header, "alg", str)
    if name not in Algorithm.__members__ or "crit" in header or header.get("typ") != typ:
        raise refuse("/alg", "not_a_list")
    chain = member(header, "x5c", list)
    if not chain or not isinstance(chain[0], str):
        raise refuse("/x5c/0", "wrong_type")
    signer = parse_base64(chain[0], "/x5c/0")
    read_certificate(signer, "/x5c/0")
    if signer not in pins and not any(is_list_signer(signer, pin) for pin in pins):
        raise refuse("/x5c/0", "signature_invalid")
    return Algorithm[name], signer


def _decode_payload(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refuse("", "not_base64") from None


def _time(body: Any, name: str) -> datetime:
    try:
        return parse_time(member(body, name, str))
    except (ValueError, OverflowError):
        raise refuse(f"/{name}", "wrong_type") from None
