from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.binary(max_size=300), st.binary(max_size=70), st.integers(min_value=0), st.integers(0, 255))
def test_an_envelope_as_nearly_all_write_it_is_read_as_any_other(
    payload: bytes, signature: bytes, place: int, byte: int
) -> None:
    """Tag 18 once is read on the spot, twice by the reader for all: both say the same of whatever follows."""
    data = bytearray(encode_cose_sign1(encode_protected(Algorithm.ES256, b"12345678"), payload, signature))
    data[2 + place % (len(data) - 2)] = byte

    def read(envelope: bytes) -> object:
        try:
            return parse_cose_sign1(envelope)
        except NotHcertError as error:
            return error.en

    assert read(bytes(data)) == read(b"\xd2" + data)


def test_signature_checks_never_raise() -> None:
    ec_key, rsa_key = make_private_key(), make_private_key(Algorithm.PS256)
    for key in (ec_key.public_key(), rsa_key.public_key()):
        for algorithm in Algorithm:
            for signature in (b"", b"\0" * 64, b"\xff" * 64, b"\0" * 384, b"\xff" * 384, b"x" * 3):
                assert not signature_agrees(key, algorithm, signature, b"data")


def test_the_example_of_the_rfc() -> None:
    """RFC 9052, C.2.1, with the key "11" of C.7.1."""
    code = bytes.fromhex(
        "d28443a10126a10442313154546869732069732074686520636f6e74656e742e5840"
        "8eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4d25a91aef0b0117e"
        "2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36"
    )
    x = int("bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff", 16)
    y = int("20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e", 16)
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    sign1 = parse_cose_sign1(code)
    assert (sign1.algorithm, sign1.kid, sign1.payload) == (Algorithm.ES256, b"11", b"This is the content.")
    assert signature_agrees(key, Algorithm.ES256, sign1.signature, sign1.to_be_signed)
    for position in range(len(sign1.to_be_signed)):
        turned = bytearray(sign1.to_be_signed)
        turned[position] ^= 1
        assert not signature_agrees(key, Algorithm.ES256, sign1.signature, bytes(turned))
