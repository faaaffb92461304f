"""HCERT by the specification's text: CBOR, COSE_Sign1, zlib, base45, prefix."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import cbor2

from vectors.signing import NOW, Holder, sign_raw

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"


def base45(data: bytes) -> str:
    """RFC 9285, 4: two bytes are three characters, the least significant first."""
    text = ""
    for index in range(0, len(data), 2):
        pair = data[index : index + 2]
        number = int.from_bytes(pair, "big")
        for _ in range(len(pair) + 1):
            number, digit = divmod(number, 45)
            text += ALPHABET[digit]
    return text


def kid_of(der: bytes) -> bytes:
    return hashlib.sha256(der).digest()[:8]


def make_claims(payload: Any, *, sub_claim: int = 1, **changes: Any) -> dict[int, Any]:
    issued = int(NOW.timestamp())
    claims = {1: "UT", 6: issued, 4: issued + 365 * 86400, -260: {sub_claim: payload}}
    return claims | {int(name): value for name, value in changes.items()}


def cose_sign1(holder: Holder, claims: Any, *, header: dict[Any, Any] | None = None, algorithm: int = -7) -> list[Any]:
    """Return the four parts: protected header, unprotected header, payload, signature (RFC 9052, 4.2 and 4.4)."""
    protected = cbor2.dumps({1: algorithm, 4: kid_of(holder.der)} if header is None else header)
    payload = cbor2.dumps(claims)
    signature = sign_raw(holder.key, cbor2.dumps(["Signature1", protected, b"", payload]))
    return [protected, {}, payload, signature]


def pack(parts: Any) -> str:
    return "HC1:" + base45(zlib.compress(cbor2.dumps(cbor2.CBORTag(18, parts)), 9))


def make_hcert(holder: Holder, payload: Any, *, algorithm: int = -7, sub_claim: int = 1) -> str:
    return pack(cose_sign1(holder, make_claims(payload, sub_claim=sub_claim), algorithm=algorithm))


def person() -> dict[str, Any]:
    name = {"fn": "Đặng", "fnt": "DANG", "gn": "Thị Ánh", "gnt": "THI<ANH"}
    return {"ver": "1.3.0", "nam": name, "dob": "1990-02-28"}


def vaccination(**changes: Any) -> dict[str, Any]:
    entry = {
        "tg": "840539006",
        "vp": "1119349007",
        "mp": "EU/1/20/1528",
        "ma": "ORG-100030215",
        "dn": 2,
        "sd": 2,
        "dt": "2021-11-30",
        "co": "UT",
        "is": "Ministry of Health",
        "ci": "URN:UVCI:01:UT:0123456789ABCDEF",
    }
    return person() | {"v": [entry | changes]}


def test_result() -> dict[str, Any]:
    entry = {
        "tg": "840539006",
        "tt": "LP6464-4",
        "nm": "PCR",
        "sc": "2021-11-30T10:00:00Z",
        "tr": "260415000",
        "tc": "Laboratory",
        "co": "UT",
        "is": "Ministry of Health",
        "ci": "URN:UVCI:01:UT:TEST",
    }
    return person() | {"t": [entry]}


def recovery() -> dict[str, Any]:
    entry = {
        "tg": "840539006",
        "fr": "2021-06-01",
        "df": "2021-06-15",
        "du": "2022-01-01",
        "co": "UT",
        "is": "Ministry of Health",
        "ci": "URN:UVCI:01:UT:REC",
    }
    return person() | {"r": [entry]}
