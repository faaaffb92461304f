from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.base45 import ALPHABET, encode_base45, parse_base45
from printsvc.errors import NotHcertError

# RFC 9285, 4.3 and 4.4.
VECTORS = [
    (b"", ""),
    (b"AB", "BB8"),
    (b"Hello!!", "%69 VD92EX0"),
    (b"base-45", "UJCLQE7W581"),
    (b"ietf!", "QED8WEX0"),
]


@pytest.mark.parametrize(("data", "text"), VECTORS)
def test_rfc_vectors(data: bytes, text: str) -> None:
    assert encode_base45(data) == text
    assert parse_base45(text) == data


@pytest.mark.parametrize(
    "text", ["GGW", ":::", "A", "BB8A", "::", "5U0::", "bb8", "BB8é", "BB_", "BB\x00", "\ud800AB", "B\u0661B", "BB\n"]
)
def test_refuses(text: str) -> None:
    with pytest.raises(NotHcertError) as caught:
        parse_base45(text)
    assert caught.value.step == "base45"


def test_largest_words() -> None:
    assert encode_base45(b"\xff\xff") == "FGW"
    assert parse_base45("FGW") == b"\xff\xff"
    assert parse_base45("U5") == b"\xff"
    with pytest.raises(NotHcertError):
        parse_base45("V5")


@given(st.binary(max_size=700))
def test_round_trip(data: bytes) -> None:
    text = encode_base45(data)
    assert set(text) <= set(ALPHABET)
    assert len(text) == len(data) // 2 * 3 + len(data) % 2 * 2
    assert parse_base45(text) == data


@pytest.mark.parametrize("length", [2863, 2864, 2865, 2866, 2868, 10_001])
def test_round_trip_of_what_no_code_holds(length: int) -> None:
    data = bytes(number * 7 % 256 for number in range(length))
    assert parse_base45(encode_base45(data)) == data


@given(st.text(alphabet=ALPHABET, max_size=60))
def test_a_text_has_one_meaning_or_none(text: str) -> None:
    """What is accepted is what would have been written: no two texts for the same bytes."""
    try:
        data = parse_base45(text)
    except NotHcertError:
        return
    assert encode_base45(data) == text
