from __future__ import annotations

import struct
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.cbor import Tagged, encode_cbor, parse_cbor
from printsvc.credential.limits import MAX_CBOR_DEPTH
from printsvc.errors import NotHcertError

INTEGERS = st.integers(min_value=-(2**64), max_value=2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXTS | st.binary() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS | INTEGERS, inner, max_size=5),
    max_leaves=25,
)


@given(VALUES)
def test_round_trip(value: Any) -> None:
    assert parse_cbor(encode_cbor(value), step="cbor") == value


@given(VALUES)
def test_reads_what_another_encoder_writes(value: Any) -> None:
    assert parse_cbor(cbor2.dumps(value, indefinite_containers=True), step="cbor") == value


MIXED = st.dictionaries(TEXTS | INTEGERS | st.booleans() | st.none(), VALUES, max_size=5)


@given(VALUES | MIXED | st.tuples(VALUES, VALUES) | st.builds(cbor2.CBORTag, st.integers(6, 20), MIXED))
def test_canonical_as_the_library_writes_it(value: Any) -> None:
    assert encode_cbor(value) == cbor2.dumps(value, canonical=True)


@given(st.dictionaries(TEXTS, INTEGERS))
def test_canonical_whatever_the_order(value: dict[str, int]) -> None:
    assert encode_cbor(value) == encode_cbor(dict(reversed(value.items())))


# RFC 8949, appendix A.
@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("00", 0),
        ("1bffffffffffffffff", 2**64 - 1),
        ("3bffffffffffffffff", -(2**64)),
        ("f90001", 5.960464477539063e-8),
        ("fb3ff199999999999a", 1.1),
        ("fac7800000", -65536.0),
        ("f7", None),
        ("62c3bc", "ü"),
        ("5f42010243030405ff", b"\1\2\3\4\5"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf6346756ef563416d7421ff", {"Fun": True, "Amt": -2}),
        ("1818", 24),
    ],
)
def test_rfc_examples(encoded: str, value: object) -> None:
    assert parse_cbor(bytes.fromhex(encoded), step="cbor") == value


@pytest.mark.parametrize(
    ("encoded", "what"),
    [
        ("", "nothing"),
        ("ff", "a break alone"),
        ("a201010102", "a key twice"),
        ("bf01010102ff", "a key twice, indefinite"),
        ("0000", "bytes after the end"),
        ("1c", "a reserved length"),
        ("1f", "an integer of indefinite length"),
        ("df00ff", "a tag of indefinite length"),
        ("c249ffffffffffffffffff", "a bignum"),
        ("c4821b7fffffffffffffff01", "a decimal of huge exponent"),
        ("d8236161", "a regular expression"),
        ("d81c80", "a shared value"),
        ("f97e00", "NaN"),
        ("f97c00", "infinity"),
        ("a1f500", "a key that is true"),
        ("a1800 0".replace(" ", ""), "a key that is an array"),
        ("a14100 00".replace(" ", ""), "a key of bytes"),
        ("61ff", "a text that is no UTF-8"),
        ("63eda080", "a surrogate in a text"),
        ("7f4161ff", "a chunk of another type"),
        ("7f7f6161ffff", "an indefinite chunk"),
        ("5bffffffffffffffff", "a string beyond the end"),
        ("9bffffffffffffffff", "an array beyond the end"),
        ("82ff", "a break in a definite array"),
        ("a101ff", "a break as a value"),
        ("bf01ff", "a break after a key"),
        ("19", "a cut integer"),
        ("fb00", "a cut float"),
        ("f8ff", "an unknown simple value"),
        ("81" * (MAX_CBOR_DEPTH + 2) + "00", "too deep"),
    ],
)
def test_refuses(encoded: str, what: str) -> None:
    with pytest.raises(NotHcertError) as caught:
        parse_cbor(bytes.fromhex(encoded), step="cose")
    assert caught.value.step == "cose", what


def test_a_hundred_thousand_levels_are_refused() -> None:
    with pytest.raises(NotHcertError):
        parse_cbor(b"\x81" * 100_000, step="cbor")


def test_allowed_tags_are_kept() -> None:
    assert parse_cbor(bytes.fromhex("d28101"), step="cose", tags=(18,)) == Tagged(18, [1])


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = parse_cbor(data, step="cbor")
    except NotHcertError:
        return
    assert value == parse_cbor(encode_cbor(value), step="cbor")


@given(st.binary(max_size=60))
def test_agrees_with_another_decoder(data: bytes) -> None:
    """What is read here, another decoder reads the same way: nothing is signed under two meanings."""
    try:
        value = parse_cbor(data, step="cbor")
    except NotHcertError:
        return
    assert _plain(cbor2.loads(data)) == value


@given(VALUES, st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_the_quick_way_through_maps_is_the_long_way(value: Any, place: int, byte: int) -> None:
    """Where the limit of items is near, no text is read on the spot: what is read or refused is the same."""
    data = bytearray(encode_cbor({"a": value, "b": {"c": value}}))
    data[place % len(data)] = byte

    def read(max_items: int) -> str:
        try:
            return repr(parse_cbor(bytes(data), step="cbor", max_items=max_items))
        except NotHcertError as error:
            return error.en

    assert read(len(data)) == read(len(data) - 1)


def _plain(value: Any) -> Any:
    if value is cbor2.undefined:
        return None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    return value


def test_float_width_is_exact() -> None:
    assert parse_cbor(b"\xfb" + struct.pack(">d", 1634824800.5), step="cbor") == 1634824800.5
