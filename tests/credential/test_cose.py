from __future__ import annotations

from typing import Any

import cbor2
import pytest

from printsvc.credential.cbor import encode_cbor
from printsvc.credential.cose import (
    Algorithm,
    encode_cose_sign1,
    encode_protected,
    encode_to_be_signed,
    parse_cose_sign1,
    signature_agrees,
)
from printsvc.credential.keys import make_private_key
from printsvc.errors import NotHcertError

KID = bytes(range(8))


def envelope(
    protected: Any = None, unprotected: Any = None, payload: Any = b"p", signature: Any = b"s", tags: Any = (18,)
) -> bytes:
    header = encode_cbor({1: -7, 4: KID} if protected is None else protected)
    value: Any = [header, {} if unprotected is None else unprotected, payload, signature]
    for tag in reversed(tags):
        value = cbor2.CBORTag(tag, value)
    return cbor2.dumps(value)


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 65535, 65536])
def test_encoding_is_that_of_a_general_encoder(length: int) -> None:
    protected = encode_protected(Algorithm.ES256, KID)
    payload, signature = b"p" * length, b"s" * 64
    assert encode_cose_sign1(protected, payload, signature) == cbor2.dumps(
        cbor2.CBORTag(18, [protected, {}, payload, signature])
    )
    assert encode_to_be_signed(protected, payload) == cbor2.dumps(["Signature1", protected, b"", payload])


@pytest.mark.parametrize("tags", [(), (18,), (61, 18), (18, 18)])
def test_tags_that_are_read(tags: tuple[int, ...]) -> None:
    parsed = parse_cose_sign1(envelope(tags=tags))
    assert (parsed.algorithm, parsed.kid, parsed.payload, parsed.signature) == (Algorithm.ES256, KID, b"p", b"s")


@pytest.mark.parametrize("tags", [(98,), (61,), (18, 61), (18, 18, 18), (2,), (35, 18)])
def test_tags_that_are_refused(tags: tuple[int, ...]) -> None:
    with pytest.raises(NotHcertError):
        parse_cose_sign1(envelope(tags=tags))


def test_the_protected_kid_wins() -> None:
    assert parse_cose_sign1(envelope(unprotected={4: b"attacker"})).kid == KID
    assert parse_cose_sign1(envelope({1: -7}, {4: KID})).kid == KID
    assert parse_cose_sign1(envelope({1: -7, 4: 5}, {4: KID})).kid is None
    assert parse_cose_sign1(envelope({1: -7})).kid is None


@pytest.mark.parametrize("algorithm", [None, 0, 5, -8, -35, "ES256", -7.0, True, []])
def test_algorithms_that_are_not_allowed(algorithm: Any) -> None:
    header = {4: KID} if algorithm is None else {1: algorithm, 4: KID}
    assert parse_cose_sign1(envelope(header, {1: -7})).algorithm is None


@pytest.mark.parametrize(
    "parts",
    [
        {"protected": []},
        {"protected": {1: -7, 2: [4]}},
        {"unprotected": {2: [4]}},
        {"unprotected": []},
        {"payload": None},
        {"payload": "text"},
        {"signature": "text"},
    ],
)
def test_broken_parts(parts: dict[str, Any]) -> None:
    with pytest.raises(NotHcertError) as caught:
        parse_cose_sign1(envelope(**parts))
    assert caught.value.step == "cose"


def test_signature_checks_never_raise() -> None:
    ec_key, rsa_key = make_private_key(), make_private_key(Algorithm.PS256)
    for key in (ec_key.public_key(), rsa_key.public_key()):
        for algorithm in Algorithm:
            for signature in (b"", b"\0" * 64, b"\xff" * 64, b"\0" * 384, b"\xff" * 384, b"x" * 3):
                assert not signature_agrees(key, algorithm, signature, b"data")
