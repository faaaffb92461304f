"""COSE_Sign1: the signed envelope around the claims.

Source: RFC 9052, sections 3 (headers) and 4.2 (COSE_Sign1), 4.4 (what is signed); RFC 9053, section 2.1 (ECDSA), RFC
8230 (PSS); hcert_spec.md, 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from printsvc.credential.cbor import Tagged, encode_cbor, parse_cbor
from printsvc.errors import NotHcertError

ALG, CRIT, KID = 1, 2, 4
TAG_COSE_SIGN1, TAG_CWT = 18, 61

TOLERANCES: Mapping[str, str] = MappingProxyType(
    {
        "kid-unprotected": "The kid may stand in the unprotected header alone: hcert_spec.md, 3.2.2 allows it, and "
        "issuers of eight countries do it. A protected kid always wins.",
        "untagged": "COSE_Sign1 without tag 18: RFC 9052 lets the context say what it is; Spanish issuers left it out.",
        "double-tagged": "Tag 61 (CWT, RFC 8392, section 6) or a second 18 around tag 18: seen from CWT libraries.",
        "null-unprotected": "An unprotected header that is null instead of an empty map: Spanish issuers. It is not "
        "signed and nothing is taken from it.",
        "float-time": "iat and exp as floats: RFC 8392 allows a NumericDate to be one; Spanish issuers. Read down to "
        "the second.",
        "date-tag": "A date inside the certificate as tag 0 (RFC 8949, 3.4.1) around the same text: Swedish issuers.",
        "indefinite-length": "Maps of indefinite length instead of canonical CBOR: Austrian issuers.",
        "null-group": "v, t or r that is null instead of absent: Bulgarian issuers.",
        "date-with-time": "A time of day after a date where the schema wants a date only: Bulgarian, Polish and "
        "Singaporean issuers.",
        "two-entries": "Two entries in one group before schema 1.3.0, which first forbade it: Romanian and Slovak.",
        "empty-country": "An empty country of vaccination, test or recovery: Dutch issuers.",
        "float-dose-number": "Dose numbers as 3.0: JSON Schema counts it as an integer; Irish issuers.",
        "domestic-times": "The United Kingdom's domestic pass (group d) is in force from its entry's df to its du: its "
        "issuer wrote exp and iat the wrong way round.",
        "sub-claim-list": "A content of the WHO that is a list of one: its logical model allows a list.",
        "seal-list": "A VDS-NC that is a list of one: seen from readers that collect seals.",
        "card-prefix": "SHC:/ in capitals: scanners that read a code as alphanumeric text.",
        "pss-salt": "A DIVOC signature whose salt is longer than the digest: signers took their library's default.",
        "p-384": "ES256 with a P-384 key: RFC 9053, 2.1 names the digest only; Spanish issuers.",
    }
)
"""All that is read although the specifications would have it otherwise, each with its reason."""


_ECDSA = ec.ECDSA(hashes.SHA256())
_MAX_USUAL_HEADER: Final = 64
"""Bytes of a protected header that is kept once it was read: those in use have some 15."""


class Algorithm(IntEnum):
    """The two that a verifier must do (hcert_spec.md, 3.3.2). There is no "none" and no HMAC: those are refused."""

    ES256 = -7
    PS256 = -37


class CoseSign1(NamedTuple):
    """`algorithm` is None where the protected header names none that is allowed; `to_be_signed` is Sig_structure."""

    algorithm: Algorithm | None
    kid: bytes | None
    payload: bytes
    signature: bytes
    to_be_signed: bytes


@lru_cache(maxsize=64)
def encode_protected(algorithm: Algorithm, kid: bytes) -> bytes:
    """Return the protected header's bytes: what a signer uses for every certificate."""
    return encode_cbor({ALG: int(algorithm), KID: kid})


def encode_to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Return Sig_structure (RFC 9052, 4.4) with no external data."""
    return b"\x84\x6aSignature1" + _byte_string(protected) + b"\x40" + _byte_string(payload)


def encode_cose_sign1(protected: bytes, payload: bytes, signature: bytes) -> bytes:
    """Return the tagged COSE_Sign1 with an empty unprotected header."""
    return b"\xd2\x84" + _byte_string(protected) + b"\xa0" + _byte_string(payload) + _byte_string(signature)


def parse_cose_sign1(data: bytes) -> CoseSign1:
    """Return the parts of a COSE_Sign1.

    Raises NotHcertError(step="cose"). An algorithm that is not allowed is no error here: the verdict says it.
    """
    raw_protected, unprotected, payload, signature = _split_usual(data) or _split(data)
    read = _read_protected if len(raw_protected) <= _MAX_USUAL_HEADER else _read_protected.__wrapped__
    header = read(raw_protected)
    if header.is_critical or CRIT in unprotected:
        raise NotHcertError("cose", "A critical header is set that is not understood here (RFC 9052, 3.1).")
    kid = header.kid if header.has_kid else _kid(unprotected)
    return CoseSign1(header.algorithm, kid, payload, signature, encode_to_be_signed(raw_protected, payload))


def signature_agrees(key: PublicKeyTypes, algorithm: Algorithm, signature: bytes, to_be_signed: bytes) -> bool:
    """Return whether `signature` is `key`'s over `to_be_signed`; False also for a key of the other kind.

    Never raises. The signature is no identifier: for ES256 (r, n - s) agrees as well.
    """
    try:
        if algorithm is Algorithm.ES256 and isinstance(key, ec.EllipticCurvePublicKey):
            width = (key.key_size + 7) // 8
            if len(signature) != 2 * width:
                return False
            r, s = int.from_bytes(signature[:width], "big"), int.from_bytes(signature[width:], "big")
            key.verify(encode_dss_signature(r, s), to_be_signed, _ECDSA)
            return True
        if algorithm is Algorithm.PS256 and isinstance(key, rsa.RSAPublicKey):
            key.verify(
                signature, to_be_signed, padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32), hashes.SHA256()
            )
            return True
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return False


_Parts = tuple[bytes, dict[Any, Any], bytes, bytes]


def _split_usual(data: bytes) -> _Parts | None:
    """Return the parts where they stand as nearly every issuer writes them: tag 18, nothing unprotected; else None."""
    try:
        if data[:2] != b"\xd2\x84" or not 0x40 <= data[2] < 0x58:
            return None
        end = data[2] - 0x3D
        payload, after = _string_at(data, end + 1)
        signature, last = _string_at(data, after)
        return (data[3:end], {}, payload, signature) if data[end] == 0xA0 and last == len(data) else None
    except IndexError:
        return None


def _string_at(data: bytes, position: int) -> tuple[bytes, int]:
    """Return (byte string, what follows it), where its length has one byte or two; else raise IndexError."""
    if data[position] == 0x59:
        begin = position + 3
        end = begin + (data[position + 1] << 8) + data[position + 2]
    elif data[position] == 0x58:
        begin = position + 2
        end = begin + data[position + 1]
    else:
        raise IndexError
    return data[begin:end], end


def _split(data: bytes) -> _Parts:
    value = parse_cbor(data, step="cose", tags=(TAG_COSE_SIGN1, TAG_CWT))
    tags = []
    while isinstance(value, Tagged):
        tags.append(value.tag)
        value = value.value
    if tags not in ([], [TAG_COSE_SIGN1], [TAG_CWT, TAG_COSE_SIGN1], [TAG_COSE_SIGN1, TAG_COSE_SIGN1]):
        raise NotHcertError("cose", "The tags are not those of a COSE_Sign1.")
    if not isinstance(value, list) or len(value) != 4:
        raise NotHcertError("cose", "A COSE_Sign1 is an array of four.")
    raw_protected, unprotected, payload, signature = value
    if unprotected is None:
        unprotected = {}
    if not (isinstance(raw_protected, bytes) and isinstance(unprotected, dict)):
        raise NotHcertError("cose", "The headers of the COSE_Sign1 are not headers.")
    if not (isinstance(payload, bytes) and isinstance(signature, bytes)):
        raise NotHcertError("cose", "Payload and signature of a COSE_Sign1 are byte strings.")
    return raw_protected, unprotected, payload, signature


class _Protected(NamedTuple):
    algorithm: Algorithm | None
    kid: bytes | None
    has_kid: bool
    is_critical: bool


@lru_cache(maxsize=2048)
def _read_protected(raw: bytes) -> _Protected:
    """Return what a protected header says: the same bytes stand in all certificates of a signer."""
    header = parse_cbor(raw, step="cose") if raw else {}
    if not isinstance(header, dict):
        raise NotHcertError("cose", "The protected header is not a map.")
    return _Protected(_algorithm(header.get(ALG)), _kid(header), KID in header, CRIT in header)


def _byte_string(data: bytes) -> bytes:
    length = len(data)
    if length < 24:
        return bytes((0x40 | length,)) + data
    if length < 0x100:
        return bytes((0x58, length)) + data
    if length < 0x10000:
        return b"\x59" + length.to_bytes(2, "big") + data
    return b"\x5a" + length.to_bytes(4, "big") + data


def _algorithm(value: Any) -> Algorithm | None:
    try:
        return Algorithm(value) if type(value) is int else None
    except ValueError:
        return None


def _kid(header: dict[Any, Any]) -> bytes | None:
    kid = header.get(KID)
    return kid if isinstance(kid, bytes) else None
