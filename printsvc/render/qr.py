"""The QR symbol of a certificate as a matrix of modules.

HCERT wants alphanumeric mode and recommends level Q (hcert_spec.md, A.4). A small symbol gets the mask with the lowest
penalty, as ISO/IEC 18004, 7.8.3 wants it; a large one always the same mask (`fastqr.FIXED_MASK`): what it holds is as
good as random under each of them, and the stamp has no time to draw it eight times.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from printsvc.errors import QrCapacityError
from printsvc.render.fastqr import (
    ALPHABET,
    FIXED_MASK,
    FIXED_MASK_FROM,
    alphanumeric_capacity,
    draw_modules,
    find_version,
)

__all__ = ["QrMatrix", "alphanumeric_capacity", "encode_qr"]

_ALPHANUMERIC: Final = frozenset(ALPHABET)
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
    version = find_version(len(payload), level, min_version, max_version)
    if version is None:
        raise _too_long(len(payload), max_version)
    masks = (FIXED_MASK,) if version >= FIXED_MASK_FROM else range(_MASKS)
    drawn = {mask: draw_modules(payload, version, level, mask) for mask in masks}
    best = min(drawn, key=lambda mask: _penalty(drawn[mask])) if len(drawn) > 1 else FIXED_MASK
    return QrMatrix(version, level, best, tuple(row.tobytes() for row in drawn[best]))


def _too_long(length: int, max_version: int) -> QrCapacityError:
    return QrCapacityError(
        en=f"The QR text of {length} characters does not fit the form's largest symbol (version {max_version}).",
        vi=f"Nội dung mã QR dài {length} ký tự, vượt quá mã lớn nhất của biểu mẫu (phiên bản {max_version}).",
    )


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
