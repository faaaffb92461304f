"""The QR symbol of a certificate as a matrix of modules.

HCERT wants alphanumeric mode and recommends level Q (hcert_spec.md, A.4). The mask is the one with the lowest penalty,
as ISO/IEC 18004, 7.8.3 wants it; `qrcode` can do that too, but draws the symbol eight times for it (over 100 ms), where
here one drawing is re-masked in numpy.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import qrcode
from numpy.typing import NDArray
from PIL import Image
from qrcode import constants, exceptions, util

from printsvc.errors import QrCapacityError

_LEVELS: Final = {
    "L": constants.ERROR_CORRECT_L,
    "M": constants.ERROR_CORRECT_M,
    "Q": constants.ERROR_CORRECT_Q,
    "H": constants.ERROR_CORRECT_H,
}
_ALPHANUMERIC: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")
_MASKS: Final = 8
# 1:1:3:1:1 with four light modules on one side, as 11-bit numbers: what a reader may take for a finder pattern.
_FINDER_LIKE: Final = (0b10111010000, 0b00001011101)

_Modules = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class QrMatrix:
    """`rows` has one bytes object a row, 1 for a dark module; no quiet zone."""

    version: int
    level: str
    mask: int
    rows: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Modules along one side."""
        return len(self.rows)

    def png(self) -> bytes:
        """Return an 8-bit grey PNG with one pixel a module.

        Not 1-bit: the PDF writer declares every image as 8 bits a component.
        """
        pixels = b"".join(self.rows).translate(bytes([255, 0]) + bytes(254))
        target = io.BytesIO()
        Image.frombytes("L", (self.size, self.size), pixels).save(target, "PNG")
        return target.getvalue()


def encode_qr(payload: str, *, level: str = "Q", min_version: int = 1, max_version: int = 40) -> QrMatrix:
    """Return the smallest symbol from `min_version` on that holds `payload` in one alphanumeric segment.

    QrCapacityError if it does not fit `max_version`, or (code `qr_alphabet`) if a character is not alphanumeric.
    """
    if not payload or not _ALPHANUMERIC.issuperset(payload):
        raise QrCapacityError(
            en="The QR text must be of characters of the alphanumeric mode.",
            vi="Nội dung mã QR chỉ được gồm các ký tự của chế độ chữ và số.",
            code="qr_alphabet",
        )
    symbol: Any = qrcode.QRCode(version=None, error_correction=_LEVELS[level], border=0, mask_pattern=0)
    symbol.add_data(util.QRData(payload.encode("ascii"), mode=util.MODE_ALPHA_NUM, check_data=False), optimize=0)
    try:
        version = symbol.best_fit(start=min_version)
    except (exceptions.DataOverflowError, ValueError) as error:  # over version 40
        raise _too_long(len(payload), max_version) from error
    if version > max_version:
        raise _too_long(len(payload), max_version)
    symbol.makeImpl(False, 0)
    drawn = np.array(symbol.modules, dtype=np.uint8)
    field = _data_field(version)

    best, best_mask, best_penalty = drawn, 0, -1
    for mask in range(_MASKS):
        symbol.setup_type_info(False, mask)
        masked = np.array(symbol.modules, dtype=np.uint8) ^ (field & (_mask(version, 0) ^ _mask(version, mask)))
        penalty = _penalty(masked)
        if best_penalty < 0 or penalty < best_penalty:
            best, best_mask, best_penalty = masked, mask, penalty
    return QrMatrix(version, level, best_mask, tuple(row.tobytes() for row in best))


def _too_long(length: int, max_version: int) -> QrCapacityError:
    return QrCapacityError(
        en=f"The QR text of {length} characters does not fit the form's largest symbol (version {max_version}).",
        vi=f"Nội dung mã QR dài {length} ký tự, vượt quá mã lớn nhất của biểu mẫu (phiên bản {max_version}).",
    )


@cache
def _mask(version: int, mask: int) -> _Modules:
    """The whole plane of one mask pattern; ISO/IEC 18004, table 10."""
    side = 17 + 4 * version
    i, j = np.indices((side, side))
    conditions = (
        lambda: (i + j) % 2,
        lambda: i % 2,
        lambda: j % 3,
        lambda: (i + j) % 3,
        lambda: (i // 2 + j // 3) % 2,
        lambda: (i * j) % 2 + (i * j) % 3,
        lambda: ((i * j) % 2 + (i * j) % 3) % 2,
        lambda: ((i * j) % 3 + (i + j) % 2) % 2,
    )
    return np.asarray(conditions[mask]() == 0, dtype=np.uint8)


@cache
def _data_field(version: int) -> _Modules:
    """1 where a module carries data and is masked: all but the function patterns and the format information."""
    side = 17 + 4 * version
    field = np.ones((side, side), dtype=np.uint8)
    field[6, :] = field[:, 6] = 0  # timing
    field[:9, :9] = field[:9, -8:] = field[-8:, :9] = 0  # finders, separators, format
    if version >= 7:
        field[:6, -11:-8] = field[-11:-8, :6] = 0
    centres = util.pattern_position(version)
    for row in centres:
        for column in centres:
            if (row, column) not in ((6, 6), (6, side - 7), (side - 7, 6)):
                field[row - 2 : row + 3, column - 2 : column + 3] = 0
    return field


def _penalty(modules: _Modules) -> int:
    """The four features of ISO/IEC 18004, table 11."""
    side = len(modules)
    total = 0
    for lines in (modules, modules.T):
        same = lines[:, 1:] == lines[:, :-1]
        five = same[:, :-3] & same[:, 1:-2] & same[:, 2:-1] & same[:, 3:]
        # A run of n >= 5 has n - 4 windows of five and costs n - 2: one a window, and two more where it begins.
        begins = int(np.count_nonzero(five[:, 0]) + np.count_nonzero(five[:, 1:] & ~five[:, :-1]))
        total += int(np.count_nonzero(five)) + 2 * begins
        windows: NDArray[np.unsignedinteger[Any]] = np.zeros((side, side - 10), dtype=np.uint16)
        for offset in range(11):
            windows = windows * 2 + lines[:, offset : side - 10 + offset]
        total += 40 * sum(int(np.count_nonzero(windows == pattern)) for pattern in _FINDER_LIKE)
    block = modules[1:, 1:]
    squares = (block == modules[:-1, 1:]) & (block == modules[1:, :-1]) & (block == modules[:-1, :-1])
    total += 3 * int(np.count_nonzero(squares))
    dark_percent = 100 * np.count_nonzero(modules) / side**2
    return int(total + 10 * int(abs(dark_percent - 50) / 5))


def alphanumeric_capacity(level: str, version: int) -> int:
    """Return how many characters of the alphanumeric mode a symbol holds (ISO/IEC 18004, tables 3 and 7)."""
    bits = util.BIT_LIMIT_TABLE[_LEVELS[level]][version] - 4 - util.length_in_bits(util.MODE_ALPHA_NUM, version)
    pairs, rest = divmod(bits, 11)
    return int(2 * pairs + (1 if rest >= 6 else 0))
