"""Names and masks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.person import mask_number, split_full_name


@pytest.mark.parametrize(
    ("full", "expected"),
    [
        ("NGUYỄN THỊ MINH KHAI", ("NGUYỄN", "THỊ MINH KHAI")),
        ("Lê Đạt", ("Lê", "Đạt")),
        ("SUKARNO", ("SUKARNO", "")),
        ("  Lê  Đạt ", ("Lê", "Đạt")),
        ("", ("", "")),
    ],
)
def test_the_first_word_is_the_family_name(full: str, expected: tuple[str, str]) -> None:
    assert split_full_name(full) == expected


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("001185012345", "••••••••2345"),
        ("12345", "•2345"),
        ("1234", "••••"),
        ("1", "•"),
        ("", ""),
        (None, ""),
    ],
)
def test_masks(number: str | None, masked: str) -> None:
    assert mask_number(number) == masked


@given(st.text("0123456789ABC", max_size=20), st.integers(1, 8))
def test_a_mask_is_as_long_as_the_number_and_shows_no_more_than_it_may(number: str, keep: int) -> None:
    masked = mask_number(number, keep=keep)
    assert len(masked) == len(number)
    shown = masked.lstrip("•")
    assert len(shown) <= keep
    assert number.endswith(shown)
