"""Rasters are read as they were written, cut ones are refused."""

from __future__ import annotations

import struct
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import LabError
from lab.raster import RasterPage, read_raster

# (PWG colour space, URF colour space or None, bits a pixel)
KINDS = [(3, None, 1), (3, None, 8), (18, 0, 8), (19, 1, 24)]


@st.composite
def sheets(draw: st.DrawFn) -> tuple[RasterPage, int, int | None]:
    space, urf_space, bits = draw(st.sampled_from(KINDS))
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 12))
    size = (width * bits + 7) // 8
    # Few different bytes and lines, so that runs and repeats occur.
    alphabet = draw(st.lists(st.integers(0, 255), min_size=1, max_size=3))
    lines = draw(
        st.lists(st.lists(st.sampled_from(alphabet), min_size=size, max_size=size).map(bytes), min_size=1, max_size=3)
    )
    order = draw(st.lists(st.sampled_from(lines), min_size=height, max_size=height))
    return RasterPage(width, height, (600, 600), bits, space == 3, b"".join(order)), space, urf_space


def pwg(page: RasterPage, space: int) -> bytes:
    header = bytearray(1796)
    header[:9] = b"PwgRaster"
    struct.pack_into(">2I", header, 276, *page.dpi)
    struct.pack_into(">2I", header, 372, page.width, page.height)
    bits = page.bits_per_pixel if page.bits_per_pixel < 24 else 8
    struct.pack_into(
        ">5I", header, 384, bits, page.bits_per_pixel, (page.width * page.bits_per_pixel + 7) // 8, 0, space
    )
    return bytes(header) + coded(page)


def urf(page: RasterPage, space: int) -> bytes:
    header = struct.pack(
        ">8B4x3I8x", page.bits_per_pixel, space, 0, 4, 0, 0, 0, 0, page.width, page.height, page.dpi[0]
    )
    assert len(header) == 32
    return header + coded(page)


def coded(page: RasterPage) -> bytes:
    """Code a bitmap with all three kinds of runs: same, different, and blank to the end of the line."""
    step, size = max(1, page.bits_per_pixel // 8), (page.width * page.bits_per_pixel + 7) // 8
    blank = b"\0" if page.black_is_high else b"\xff"
    lines = [page.pixels[n : n + size] for n in range(0, len(page.pixels), size)]
    out = bytearray()
    for line, same in groupby(lines):
        count = len(list(same))
        for start in range(0, count, 256):
            out.append(min(256, count - start) - 1)
            pixels = [line[n : n + step] for n in range(0, size, step)]
            kept = len(pixels)
            while kept and pixels[kept - 1] == blank * step:
                kept -= 1
            position = 0
            while position < kept:
                run = 1
                while position + run < kept and run < 128 and pixels[position + run] == pixels[position]:
                    run += 1
                if run > 1:
                    out += bytes([run - 1]) + pixels[position]
                else:
                    end = position + 1
                    while end < kept and end - position < 128 and pixels[end] != pixels[end - 1]:
                        end += 1
                    run = end - position
                    literal = b"".join(pixels[position:end])
                    out += (bytes([257 - run]) if run > 1 else b"\0") + literal
                position += run
            if kept < len(pixels):
                out.append(128)
    return bytes(out)


@given(st.lists(sheets(), min_size=1, max_size=3))
def test_pwg_raster_comes_back_as_it_was(drawn: list[tuple[RasterPage, int, int | None]]) -> None:
    document = b"RaS2" + b"".join(pwg(page, space) for page, space, _ in drawn)
    assert read_raster(document, first_only=False) == [page for page, _, _ in drawn]
    assert read_raster(document) == [drawn[0][0]]


@given(sheets().filter(lambda drawn: drawn[2] is not None))
def test_urf_comes_back_as_it_was(drawn: tuple[RasterPage, int, int | None]) -> None:
    page, _, space = drawn
    assert space is not None
    assert read_raster(b"UNIRAST\0" + struct.pack(">I", 1) + urf(page, space)) == [page]


@given(sheets(), st.data())
def test_a_cut_document_is_an_error(drawn: tuple[RasterPage, int, int | None], data: st.DataObject) -> None:
    document = b"RaS2" + pwg(drawn[0], drawn[1])
    with pytest.raises(LabError):
        read_raster(document[: data.draw(st.integers(0, len(document) - 1))])


@pytest.mark.parametrize("space", [1, 6, 62])
def test_a_colour_space_that_we_do_not_read_is_said(space: int) -> None:
    page = RasterPage(8, 1, (300, 300), 8, False, bytes(8))
    with pytest.raises(LabError, match=f"colour space {space} "):
        read_raster(b"RaS2" + pwg(page, space))


def test_something_else_is_an_error() -> None:
    with pytest.raises(LabError, match="neither"):
        read_raster(b"%PDF-1.7")
