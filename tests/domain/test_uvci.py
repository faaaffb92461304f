"""The certificate's identifier and its check character."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from printsvc.domain.uvci import check_character, checksum_agrees, make_uvci

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:"


@pytest.mark.parametrize(
    "uvci", ["URN:UVCI:01:AT:10807843F94AEE0EE5093FBC254BD813#B", "URN:UVCI:01:SE:EHM/V12907267LAJW#E"]
)
def test_published_identifiers_of_other_countries_agree(uvci: str) -> None:
    # Samples of Austria and Sweden in the EU's test data.
    assert checksum_agrees(uvci) is True


@given(st.binary(min_size=16, max_size=16))
def test_an_identifier_is_short_enough_and_agrees_with_its_check(opaque: bytes) -> None:
    uvci = make_uvci("VN", opaque)
    assert len(uvci) == 49
    assert uvci.startswith("URN:UVCI:01:VN:")
    assert checksum_agrees(uvci) is True


@given(st.text(ALPHABET, min_size=1, max_size=60), st.data())
def test_one_wrong_character_is_noticed(payload: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(payload) - 1))
    other = data.draw(st.sampled_from(ALPHABET))
    assume(other != payload[place])
    wrong = payload[:place] + other + payload[place + 1 :]
    assert check_character(wrong) != check_character(payload)


@pytest.mark.parametrize(
    ("uvci", "agrees"), [("URN:UVCI:01:VN:ABC", None), ("", None), ("urn:uvci:01:vn:abc#A", False), ("ABC#", False)]
)
def test_identifiers_of_others_are_no_reason_to_fail(uvci: str, agrees: bool | None) -> None:
    assert checksum_agrees(uvci) is agrees


def test_letters_outside_the_alphabet_have_no_check() -> None:
    with pytest.raises(ValueError, match="A-Z"):
        check_character("urn:uvci")
