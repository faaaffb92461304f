"""What people hand over: it reads, or it is refused with a reason, whatever it is."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pikepdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from printsvc.domain.form import PageData
from printsvc.errors import ScanError
from printsvc.render.qr import encode_qr
from printsvc.render.scan import MAX_BYTES, read_codes

TEXT = "HC1:" + "6BF+70790T9WJWG.FKY*4GO0.O1CV2 O5 N2FBBRW1*70HS8WY04AC*WIFN0AHCD8KD97TK0F90KECTHGWJC0FDC:5AIA"


def picture(text: str = TEXT, scale: int = 4, kind: str = "PNG", turn: float = 0) -> bytes:
    symbol = Image.open(io.BytesIO(encode_qr(text).png()))
    page = Image.new("L", (symbol.width * scale + 80, symbol.height * scale + 80), 255)
    page.paste(symbol.resize((symbol.width * scale, symbol.height * scale), Image.Resampling.NEAREST), (40, 40))
    target = io.BytesIO()
    page.rotate(turn, Image.Resampling.BICUBIC, expand=True, fillcolor=255).save(target, kind)
    return target.getvalue()


def empty_pdf(pages: int = 1, side_pt: float = 100) -> bytes:
    target = io.BytesIO()
    with pikepdf.new() as document:
        for _ in range(pages):
            document.add_blank_page(page_size=(side_pt, side_pt))
        document.save(target)
    return target.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """A small PNG that says it is side x side: what matters is that nobody unpacks it."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("turn", [0, 90, 7])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_read(kind: str, turn: float) -> None:
    assert read_codes(picture(kind=kind, turn=turn)) == [TEXT]


def test_black_on_transparent_is_read() -> None:
    opaque = Image.open(io.BytesIO(picture()))
    clear = Image.new("LA", opaque.size)
    clear.putalpha(opaque.point(lambda value: 255 - value))
    target = io.BytesIO()
    clear.save(target, "PNG")
    assert read_codes(target.getvalue()) == [TEXT]


def test_white_on_transparent_is_read() -> None:
    """A wallet's dark mode, saved as a picture."""
    clear = Image.new("LA", Image.open(io.BytesIO(picture())).size, 255)
    clear.putalpha(Image.open(io.BytesIO(picture())))
    target = io.BytesIO()
    clear.save(target, "PNG")
    assert read_codes(target.getvalue()) == [TEXT]


@pytest.mark.parametrize(("dark", "light"), [(0, 65_535), (3_000, 60_000), (20_000, 40_000)])
def test_sixteen_bits_of_grey(dark: int, light: int) -> None:
    eight = Image.open(io.BytesIO(picture()))
    levels = np.where(np.asarray(eight) > 128, light, dark).astype(np.uint16)
    target = io.BytesIO()
    Image.fromarray(levels).save(target, "PNG")
    assert read_codes(target.getvalue()) == [TEXT]


def test_a_locked_pdf_is_told_to_be_locked(sample_pdf: bytes) -> None:
    for user, expected in (("", None), ("secret", "locked")):
        target = io.BytesIO()
        with pikepdf.open(io.BytesIO(sample_pdf)) as document:
            document.save(target, encryption=pikepdf.Encryption(user=user, owner="owner", R=6))
        if expected is None:
            assert read_codes(target.getvalue()) == read_codes(sample_pdf)
        else:
            assert reason(target.getvalue()) == expected


def test_two_pixels_a_module_are_enough() -> None:
    assert read_codes(picture(scale=2)) == [TEXT]


def test_the_paper_itself_is_read_once_though_its_code_stands_twice(sample_pdf: bytes, library: object) -> None:
    (code,) = read_codes(sample_pdf)
    assert code.startswith("HC1:")


def test_the_code_on_the_paper_is_the_one_given(sample_pdf: bytes, sample: PageData) -> None:
    assert read_codes(sample_pdf) == [sample["qr"]]


@pytest.mark.parametrize("text", [TEXT, f"  {TEXT}\r\n", f"{TEXT}\n"])
def test_text_is_taken_as_it_is(text: str) -> None:
    assert read_codes(text.encode()) == [TEXT]


def reason(data: bytes) -> str:
    with pytest.raises(ScanError) as caught:
        read_codes(data)
    assert caught.value.vi != caught.value.en
    return caught.value.code


def test_a_picture_without_a_code() -> None:
    target = io.BytesIO()
    Image.new("L", (300, 300), 200).save(target, "PNG")
    assert reason(target.getvalue()) == "no_code"
    assert reason(empty_pdf()) == "no_code"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"GIF89a" + bytes(100),
        b"%PDF-1.7 nothing",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"HC1:\xff\xfe",
    ],
)
def test_what_is_not_readable(data: bytes) -> None:
    assert reason(data) == "not_readable"


def test_what_is_too_large() -> None:
    assert reason(bytes(MAX_BYTES + 1)) == "too_large"
    assert reason(bomb(8_000)) == "too_large"
    assert reason(bomb(60_000)) in ("too_large", "not_readable")  # Pillow's own limit comes first
    assert reason(empty_pdf(pages=21)) == "too_large"
    assert reason(empty_pdf(side_pt=14_000)) == "too_large"
    assert reason(b"HC1:" + b"A" * 5_000) == "too_large"


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"%PDF-1.7\n", b"HC1:"])
)
@settings(max_examples=150, deadline=None)
def test_noise_is_refused_or_read_and_nothing_else(noise: bytes, start: bytes) -> None:
    try:
        codes = read_codes(start + noise)
    except ScanError:
        return
    assert codes
    assert all(code.upper().startswith("HC1:") for code in codes)


@given(cut=st.floats(0, 1), flip=st.integers(0, 7), kind=st.sampled_from(["PNG", "JPEG", "PDF"]))
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_refused_or_read(cut: float, flip: int, kind: str) -> None:
    whole = DAMAGED[kind]
    at = min(int(cut * len(whole)), len(whole) - 1)
    for data in (whole[:at], whole[:at] + bytes([whole[at] ^ (1 << flip)]) + whole[at + 1 :]):
        try:
            codes = read_codes(data)
        except ScanError:
            continue
        assert codes


DAMAGED = {"PNG": picture(), "JPEG": picture(kind="JPEG"), "PDF": empty_pdf()}
