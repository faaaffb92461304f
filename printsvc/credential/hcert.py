"""HCERT: claims → CBOR → COSE_Sign1 → zlib → base45 → `HC1:`, and back.

Source: eHealth Network, "Electronic Health Certificate Specification" (hcert_spec.md), 3 and 4.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeGuard

from printsvc.credential.base45 import encode_base45, parse_base45
from printsvc.credential.cbor import Tagged, encode_cbor, parse_cbor
from printsvc.credential.cose import (
    Algorithm,
    CoseSign1,
    encode_cose_sign1,
    encode_protected,
    encode_to_be_signed,
    parse_cose_sign1,
)
from printsvc.credential.hcertcontent import DCC, find_content
from printsvc.credential.keys import Signer
from printsvc.credential.limits import MAX_DECOMPRESSED, MAX_HCERT_TEXT
from printsvc.errors import NotHcertError, SigningError

PREFIX: Final = "HC1:"
ISS, EXP, IAT, HCERT = 1, 4, 6, -260
_TAG_DATE_TIME = 0
_TEXT: Final = frozenset({str})
_LEAVES: Final = frozenset({str, int, float, bool, type(None)})
_MAX_DATE_TEXT = 40
_SMALL: Final = 1_000  # bytes: of as many symbols zlib makes one block, with these tables too
_LAST_INSTANT = 253_402_214_400  # 9999-12-31T00:00:00Z


class DecodedHcert(NamedTuple):
    """A code that could be read; nothing about it is verified yet.

    `payload` is the certificate as it came, from claim -260/1 or another of `hcertcontent.SUB_CLAIMS`. Times are aware
    UTC, whole seconds.
    """

    cose: CoseSign1
    issuer: str | None
    issued_at: datetime | None
    expires_at: datetime | None
    payload: dict[str, Any]
    sub_claim: int = DCC

    @property
    def algorithm(self) -> Algorithm | None:
        return self.cose.algorithm

    @property
    def kid(self) -> bytes | None:
        return self.cose.kid


def encode_hcert(
    payload: dict[str, Any], *, issuer: str, issued_at: datetime, expires_at: datetime, signer: Signer
) -> str:
    """Return the QR text of a signed certificate; times are cut to whole seconds.

    Raises SigningError where the certificate would outlive its signer or end before it begins, and whatever the
    signer raises. With a deterministic signature the same input gives the same text.
    """
    return encode_hcerts([payload], issuer=issuer, issued_at=issued_at, expires_at=expires_at, signer=signer)[0]


def encode_hcerts(
    payloads: Sequence[dict[str, Any]], *, issuer: str, issued_at: datetime, expires_at: datetime, signer: Signer
) -> list[str]:
    """Return the QR text of each payload, all with the same times; raises as `encode_hcert`.

    Each step is done for all before the next: its code and tables are then at hand, which takes half the time.
    """
    issued, expires = int(issued_at.timestamp()), int(expires_at.timestamp())
    if expires <= issued:
        raise SigningError("A certificate must expire after it is issued.")
    if expires > signer.not_after.timestamp():
        raise SigningError("A certificate must not outlive its signer.", code="outlives_signer")
    times = {ISS: issuer, EXP: expires, IAT: issued}
    claims = [encode_cbor(times | {HCERT: {DCC: payload}}) for payload in payloads]
    protected = encode_protected(signer.algorithm, signer.kid)
    signatures = [signer.sign(encode_to_be_signed(protected, one)) for one in claims]
    signed = [encode_cose_sign1(protected, *both) for both in zip(claims, signatures, strict=True)]
    # The poor line sends what this makes as what it was made of, and makes it again: see spooler.compact.
    packed = [compress(one) for one in signed]
    return [PREFIX + encode_base45(one) for one in packed]


def compress(data: bytes) -> bytes:
    """Return what `zlib.compress(data, 9)` returns.

    For the little that a certificate is, zlib takes most of its time to clear a quarter of a megabyte of tables: with a
    window of 4 kB, enough for all of it, tables are a tenth. The header names the window of 32 kB nevertheless: readers
    tell by its first byte that a code is compressed at all.
    """
    if len(data) > _SMALL:
        return zlib.compress(data, 9)
    packer = zlib.compressobj(9, zlib.DEFLATED, -12, 4)
    return b"".join([b"\x78\xda", packer.compress(data), packer.flush(), zlib.adler32(data).to_bytes(4)])


def strip_prefix(text: str) -> str | None:
    """Return what follows `HC1:`, or None where it is missing.

    Line ends and a byte order mark around the code are a scanner's, not the code's; a space at the end is base45.
    """
    text = text.lstrip("\ufeff\r\n\t ").rstrip("\r\n\t")
    return text[len(PREFIX) :] if text.startswith(PREFIX) else None


def decompress(data: bytes) -> bytes:
    """Return the inflated bytes; never makes more than `MAX_DECOMPRESSED`. Raises NotHcertError(step="zlib")."""
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(data, MAX_DECOMPRESSED)
    except zlib.error:
        raise NotHcertError("zlib", "The code is not compressed as it should be, or is damaged.") from None
    if not inflater.eof:
        if inflater.unconsumed_tail or len(inflated) >= MAX_DECOMPRESSED:
            raise NotHcertError("zlib", "The code grows beyond 10 kB when it is decompressed.")
        raise NotHcertError("zlib", "The compressed data ends in the middle.")
    if inflater.unused_data:
        raise NotHcertError("zlib", "Bytes follow the compressed data.")
    return inflated


def decode_hcert(text: str) -> DecodedHcert:
    """Return the parts of a code, unverified.

    Raises NotHcertError with the step that failed: prefix, base45, zlib, cose, cbor, claims.
    """
    # The limit comes first, so that nothing is done with a megabyte of anything.
    body = strip_prefix(text) if len(text) <= MAX_HCERT_TEXT + 8 else None
    if body is None:
        if text[:8].lstrip("\ufeff\r\n\t ").startswith(PREFIX):
            raise NotHcertError("base45", "The code is longer than any QR code.")
        raise NotHcertError("prefix", "The text does not begin with HC1:.")
    cose = parse_cose_sign1(decompress(parse_base45(body)))
    claims = parse_cbor(cose.payload, step="cbor", tags=(_TAG_DATE_TIME,))
    if not isinstance(claims, dict):
        raise NotHcertError("claims", "The signed content is not a map of claims.")
    issuer = claims.get(ISS)
    if not (issuer is None or isinstance(issuer, str)):
        raise NotHcertError("claims", "The issuer is not a text.")
    found = find_content(claims.get(HCERT))
    if found is None:
        raise NotHcertError("claims", "There is no health certificate in the claims.")
    return DecodedHcert(
        cose=cose,
        issuer=issuer,
        issued_at=_instant(claims.get(IAT)),
        expires_at=_instant(claims.get(EXP)),
        payload=_plain(found[1]),
        sub_claim=found[0],
    )


def _instant(value: Any) -> datetime | None:
    if value is None:
        return None
    if not _is_number(value):
        raise NotHcertError("claims", "A time in the claims is not a number.")
    if not 0 <= value < _LAST_INSTANT:
        raise NotHcertError("claims", "A time in the claims is out of range.")
    return datetime.fromtimestamp(int(value), UTC)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return type(value) is int or type(value) is float


def _plain(value: Any) -> Any:
    """Return `value` with tag 0 taken off its texts and text keys alone."""
    if isinstance(value, dict):
        if not _TEXT.issuperset(map(type, value)):
            raise NotHcertError("claims", "A key of the health certificate is not a text.")
        if _LEAVES.issuperset(map(type, value.values())):
            return value
        return {key: item if type(item) in _LEAVES else _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Tagged):
        if isinstance(value.value, str) and len(value.value) <= _MAX_DATE_TEXT:
            return value.value
        raise NotHcertError("claims", "A date tag stands around something else than a date.")
    if isinstance(value, bytes):
        raise NotHcertError("claims", "A health certificate holds no byte strings.")
    return value
