"""The QR symbol: the one that the standard and an independent encoder give, and one that readers read."""

from __future__ import annotations

import io

import numpy as np
import pytest
import qrcode
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from qrcode import util

from printsvc.errors import QrCapacityError
from printsvc.render import qr
from printsvc.render.qr import QrMatrix, encode_qr

LEVELS = {
    "L": qrcode.constants.ERROR_CORRECT_L,
    "M": qrcode.constants.ERROR_CORRECT_M,
    "Q": qrcode.constants.ERROR_CORRECT_Q,
    "H": qrcode.constants.ERROR_CORRECT_H,
}
ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
payloads = st.text(ALPHANUMERIC, min_size=1, max_size=700)


def read(matrix: QrMatrix) -> zxingcpp.Barcode:
    symbol = Image.open(io.BytesIO(matrix.png()))
    page = Image.new("L", (symbol.width * 4 + 40, symbol.height * 4 + 40), 255)
    page.paste(symbol.resize((symbol.width * 4, symbol.height * 4), Image.Resampling.NEAREST), (20, 20))
    (found,) = zxingcpp.read_barcodes(page)
    return found


@given(payload=payloads, level=st.sampled_from("LMQH"))
@settings(max_examples=60, deadline=None)
def test_a_reader_gets_the_text_back(payload: str, level: str) -> None:
    found = read(encode_qr(payload, level=level))
    assert found.text == payload
    assert found.ec_level == level


@given(payload=payloads, level=st.sampled_from("LMQH"))
@settings(max_examples=25, deadline=None)
def test_the_symbol_is_that_of_an_independent_drawing_with_the_same_mask(payload: str, level: str) -> None:
    matrix = encode_qr(payload, level=level)
    other = qrcode.QRCode(version=matrix.version, error_correction=LEVELS[level], border=0, mask_pattern=matrix.mask)
    other.add_data(util.QRData(payload.encode(), mode=util.MODE_ALPHA_NUM), optimize=0)
    other.make(fit=False)
    assert matrix.rows == tuple(bytes(map(int, row)) for row in other.modules)


def slow_penalty(modules: list[list[int]]) -> int:
    """ISO/IEC 18004, 7.8.3.1, read line by line."""
    side = len(modules)
    lines = modules + [list(column) for column in zip(*modules, strict=True)]
    total = 0
    for line in lines:
        run = 1
        for before, module in zip(line, [*line[1:], None], strict=True):
            if module == before:
                run += 1
                continue
            total += 3 + run - 5 if run >= 5 else 0
            run = 1
        text = "".join(map(str, line))
        for at in range(side - 10):
            total += 40 * (text[at : at + 11] in ("10111010000", "00001011101"))
    for row in range(side - 1):
        for column in range(side - 1):
            square = {modules[row + i][column + j] for i in (0, 1) for j in (0, 1)}
            total += 3 * (len(square) == 1)
    dark = 100 * sum(map(sum, modules)) / side**2
    return total + 10 * int(abs(dark - 50) / 5)


@given(
    bits=st.lists(st.lists(st.integers(0, 1), min_size=21, max_size=21), min_size=21, max_size=21),
    stripe=st.integers(1, 20),
)
@settings(max_examples=50, deadline=None)
def test_the_penalty_is_the_standards(bits: list[list[int]], stripe: int) -> None:
    bits[stripe] = [1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0] + [1] * 10  # random bits rarely hold runs and finders
    assert qr._penalty(np.array(bits, dtype=np.uint8)) == slow_penalty(bits)


@given(payload=st.text(ALPHANUMERIC, min_size=1, max_size=60))
@settings(max_examples=15, deadline=None)
def test_the_mask_has_the_lowest_penalty(payload: str) -> None:
    def penalty(mask: int) -> int:
        other = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_Q, border=0, mask_pattern=mask)
        other.add_data(util.QRData(payload.encode(), mode=util.MODE_ALPHA_NUM), optimize=0)
        other.make()
        return slow_penalty([[int(module) for module in row] for row in other.modules])

    penalties = [penalty(mask) for mask in range(8)]
    assert penalties[encode_qr(payload).mask] == min(penalties)


def test_short_texts_get_the_least_version() -> None:
    matrix = encode_qr("HC1:A", min_version=18)
    assert (matrix.version, matrix.size, len(matrix.rows[0])) == (18, 89, 89)
    assert encode_qr("HC1:A").version == 1


@pytest.mark.parametrize(("version", "capacity"), [(18, 574), (19, 644), (24, 963), (40, 2420)])
def test_capacity_at_level_q(version: int, capacity: int) -> None:
    """ISO/IEC 18004, table 7."""
    assert encode_qr("A" * capacity, max_version=version).version == version
    with pytest.raises(QrCapacityError) as caught:
        encode_qr("A" * (capacity + 1), max_version=version)
    assert caught.value.code == "qr_capacity"
    assert str(version) in caught.value.en


@pytest.mark.parametrize("payload", ["", "HC1:abc", "Ễ", "A_B", "A\n"])
def test_only_alphanumeric_text_is_taken(payload: str) -> None:
    with pytest.raises(QrCapacityError) as caught:
        encode_qr(payload)
    assert caught.value.code == "qr_alphabet"
