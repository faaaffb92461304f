"""Read PWG Raster and Apple Raster (URF) documents: the sheets as plain pixels. Pure: bytes in, values out.

Source: PWG 5102.4-2012, clauses 4.2 (synchronisation word), 4.3 (page header) and 4.4 (bitmap); URF shares the coding
of the bitmap and has a page header of 32 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lab.errors import LabError

_PWG_SYNC = b"RaS2"
_PWG_HEADER = 1796
_URF_SYNC = b"UNIRAST\0"
_URF_HEADER = 32

_BLACK = 3  # PWG colour space: 0 is white, the most is black; the others that we read have white at the top
_PWG_SPACES = {_BLACK: 1, 18: 1, 19: 3, 20: 3}  # black, sGray, sRGB, Adobe RGB: colours a pixel
_URF_SPACES = {0: 1, 1: 3, 3: 3, 4: 1, 5: 3}  # sGray, sRGB, Adobe RGB, device W, device RGB


@dataclass(frozen=True, slots=True)
class RasterPage:
    """One sheet: `pixels` row by row from the top, each row padded to whole bytes. `dpi` across and down."""

    width: int
    height: int
    dpi: tuple[int, int]
    bits_per_pixel: int  # 1, 8 or 24
    black_is_high: bool
    pixels: bytes


def read_raster(document: bytes, *, first_only: bool = True) -> list[RasterPage]:
    """Return the sheets (or the first alone) of either format; LabError on another format or a cut document."""
    try:
        if document.startswith(_PWG_SYNC):
            return _sheets(document, len(_PWG_SYNC), _PWG_HEADER, first_only)
        if document.startswith(_URF_SYNC):
            # After the word comes the count of sheets, 0 where the sender did not know: we read to the end.
            return _sheets(document, len(_URF_SYNC) + 4, _URF_HEADER, first_only)
    except (IndexError, struct.error) as error:
        raise LabError("the raster document is cut") from error
    raise LabError("neither PWG Raster nor URF")


def _sheets(document: bytes, offset: int, header_size: int, first_only: bool) -> list[RasterPage]:
    pages: list[RasterPage] = []
    while offset < len(document) and not (first_only and pages):
        header = document[offset : offset + header_size]
        width, height, dpi, bits, high = _pwg_header(header) if header_size == _PWG_HEADER else _urf_header(header)
        pixels, offset = _bitmap(document, offset + header_size, width, height, bits, blank=0 if high else 0xFF)
        pages.append(RasterPage(width, height, dpi, bits, high, pixels))
    if not pages:
        raise LabError("the raster document has no sheet")
    return pages


def _pwg_header(header: bytes) -> tuple[int, int, tuple[int, int], int, bool]:
    dpi_x, dpi_y = struct.unpack_from(">2I", header, 276)
    width, height = struct.unpack_from(">2I", header, 372)
    bits_per_colour, bits_per_pixel, _line, order, space = struct.unpack_from(">5I", header, 384)
    colours = _PWG_SPACES.get(space)
    if colours is None or order != 0 or bits_per_pixel not in (1, 8, 24) or bits_per_colour * colours != bits_per_pixel:
        raise LabError(f"PWG colour space {space} with {bits_per_pixel} bits is none that we read")
    return width, height, (dpi_x, dpi_y), bits_per_pixel, space == _BLACK


def _urf_header(header: bytes) -> tuple[int, int, tuple[int, int], int, bool]:
    bits_per_pixel, space = header[0], header[1]
    width, height, dpi = struct.unpack_from(">3I", header, 12)
    if _URF_SPACES.get(space, 0) * 8 != bits_per_pixel:
        raise LabError(f"URF colour space {space} with {bits_per_pixel} bits is none that we read")
    return width, height, (dpi, dpi), bits_per_pixel, False


def _bitmap(document: bytes, offset: int, width: int, height: int, bits: int, blank: int) -> tuple[bytes, int]:
    """Return the decoded bitmap and the offset behind it.

    Each group: lines less one, then runs until the line is full. A run's first byte n: up to 127, the next pixel n + 1
    times; from 129, 257 - n pixels as they stand; 128, the rest of the line blank.
    """
    line_bytes = (width * bits + 7) // 8
    step = max(1, bits // 8)
    lines: list[bytes] = []
    while len(lines) < height:
        repeat = document[offset] + 1
        offset += 1
        line = bytearray()
        while len(line) < line_bytes:
            n = document[offset]
            offset += 1
            if n < 128:
                if offset + step > len(document):
                    raise IndexError
                line += document[offset : offset + step] * (n + 1)
                offset += step
            elif n > 128:
                size = (257 - n) * step
                line += document[offset : offset + size]
                offset += size
            else:
                line += bytes([blank]) * (line_bytes - len(line))
        if len(line) != line_bytes or offset > len(document):
            raise LabError("a raster line has more pixels than its page is wide")
        lines += [bytes(line)] * repeat
    if len(lines) != height:
        raise LabError("the raster document has more lines than its page is high")
    return b"".join(lines), offset
