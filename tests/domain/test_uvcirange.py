"""Ranges of UVCIs: each in its own, none in another's, none guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.uvci import checksum_agrees, make_uvci
from printsvc.domain.uvcirange import UvciRange

prefixes = st.binary(min_size=8, max_size=8)
secrets = st.binary(min_size=16, max_size=16)


@given(prefixes, secrets, st.integers(1, 300), st.data())
def test_each_number_has_one_uvci_and_finds_its_number(
    prefix: bytes, secret: bytes, size: int, data: st.DataObject
) -> None:
    own = UvciRange("VN", prefix, secret, size)
    number = data.draw(st.integers(0, size - 1))
    uvci = own.uvci(number)
    assert uvci.startswith(own.beginning)
    assert checksum_agrees(uvci)
    assert own.find(uvci) == number
    assert len({own.uvci(one) for one in range(size)}) == size


@given(st.lists(prefixes, min_size=2, max_size=2, unique=True), secrets, secrets)
def test_two_ranges_share_nothing(two: list[bytes], one_secret: bytes, other_secret: bytes) -> None:
    one, other = UvciRange("VN", two[0], one_secret, 50), UvciRange("VN", two[1], other_secret, 50)
    assert not {one.uvci(number) for number in range(50)} & {other.uvci(number) for number in range(50)}
    assert all(other.find(one.uvci(number)) is None for number in range(50))


@given(prefixes, secrets, st.binary(min_size=8, max_size=8))
def test_a_uvci_that_only_begins_like_the_range_is_not_of_it(prefix: bytes, secret: bytes, rest: bytes) -> None:
    own = UvciRange("VN", prefix, secret, 20)
    if prefix + rest not in [own.opaque(number) for number in range(20)]:
        assert own.find(make_uvci("VN", prefix + rest)) is None


def test_nothing_outside_the_range() -> None:
    own = UvciRange("VN", bytes(8), bytes(16), 3)
    for number in (-1, 3):
        with pytest.raises(IndexError):
            own.uvci(number)
    assert own.find(make_uvci("LA", own.opaque(0))) is None
    for wrong in ({"size": 0}, {"size": 10_001}, {"prefix": b"1"}, {"secret": b""}):
        with pytest.raises(ValueError, match="not a range"):
            UvciRange(**({"country": "VN", "prefix": bytes(8), "secret": bytes(16), "size": 3} | wrong))  # type: ignore[arg-type]
