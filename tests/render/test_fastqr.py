"""The fast QR against `qrcode`: the same modules for the same mask, whatever the text, the version and the level."""

from __future__ import annotations

import numpy as np
import pytest
import qrcode
import zxingcpp
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from qrcode import constants, util

from printsvc.render import fastqr

LEVELS = {
    "L": constants.ERROR_CORRECT_L,
    "M": constants.ERROR_CORRECT_M,
    "Q": constants.ERROR_CORRECT_Q,
    "H": constants.ERROR_CORRECT_H,
}


def reference(payload: str, version: int, level: str, mask: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    symbol = qrcode.QRCode(version=version, error_correction=LEVELS[level], border=0, mask_pattern=mask)
    symbol.add_data(util.QRData(payload.encode(), mode=util.MODE_ALPHA_NUM), optimize=0)
    symbol.makeImpl(False, mask)
    return np.array(symbol.modules, dtype=np.uint8)


@given(data=st.data(), version=st.integers(1, 40), level=st.sampled_from("LMQH"), mask=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_the_modules_are_those_of_an_independent_encoder(
    data: st.DataObject, version: int, level: str, mask: int
) -> None:
    capacity = fastqr.alphanumeric_capacity(level, version)
    size = data.draw(st.sampled_from([1, 2, capacity - 1, capacity]) | st.integers(1, capacity))
    pattern = data.draw(st.text(fastqr.ALPHABET, min_size=1, max_size=60))
    payload = (pattern * (size // len(pattern) + 1))[: max(1, size)]
    drawn = fastqr.draw_modules(payload, version, level, mask)
    try:
        expected = reference(payload, version, level, mask)
    except ValueError as error:
        if str(error) != "glog(0)":  # of a block of nothing but zeros the reference wants the logarithm of 0
            raise
        reject()
    assert np.array_equal(drawn, expected)


def test_a_block_of_zeros_is_read_back() -> None:
    """What the reference cannot draw."""
    payload = "0" * fastqr.alphanumeric_capacity("Q", 3)
    with pytest.raises(ValueError, match=r"glog\(0\)"):
        reference(payload, 3, "Q", 0)
    drawn = fastqr.draw_modules(payload, 3, "Q", 0)
    picture = np.kron(np.pad(1 - drawn, 4, constant_values=1) * np.uint8(255), np.ones((4, 4), dtype=np.uint8))
    assert [code.text for code in zxingcpp.read_barcodes(picture)] == [payload]


@pytest.mark.parametrize("level", "LMQH")
def test_capacities_are_those_of_the_reference(level: str) -> None:
    for version in range(1, 41):
        bits = util.BIT_LIMIT_TABLE[LEVELS[level]][version] - 4 - util.length_in_bits(util.MODE_ALPHA_NUM, version)
        assert fastqr.alphanumeric_capacity(level, version) == 2 * (bits // 11) + (bits % 11 >= 6)


def test_the_smallest_version_that_holds_the_text() -> None:
    assert fastqr.find_version(574, "Q", 18, 24) == 18
    assert fastqr.find_version(575, "Q", 18, 24) == 19
    assert fastqr.find_version(5, "Q", 18, 24) == 18
    assert fastqr.find_version(964, "Q", 18, 24) is None


@given(st.data(), st.integers(1, 40), st.sampled_from("LMQH"))
@settings(max_examples=40, deadline=None)
def test_rows_of_many_symbols_are_those_of_each_alone(data: st.DataObject, version: int, level: str) -> None:
    capacity = fastqr.alphanumeric_capacity(level, version)
    sizes = st.sampled_from([1, 2, capacity - 1, capacity]) | st.integers(1, capacity)
    pattern = data.draw(st.text(fastqr.ALPHABET, min_size=1, max_size=60))
    payloads = [
        (pattern[turn % len(pattern) :] + pattern * size)[: max(1, size)]
        for turn, size in enumerate(data.draw(st.lists(sizes, min_size=1, max_size=20)))
    ]
    expected = [
        np.packbits(fastqr.draw_modules(payload, version, level, 2) ^ 1, axis=1).tobytes() for payload in payloads
    ]
    assert fastqr.draw_rows(payloads, version, level, 2) == expected


def test_rows_are_packed_with_one_for_light() -> None:
    (packed,) = fastqr.draw_rows(["A"], 1, "L", 2)
    assert len(packed) == 21 * 3
    assert packed[0] == 0b0000_0001  # seven dark modules of the finder pattern, then its light border
    assert all(row & 0b111 == 0 for row in packed[2::3])  # 21 modules are filled up to 24 bits
