"""Pull-back: the same certificate with smaller dark modules, and the page by which it is chosen."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pikepdf
import pypdfium2
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from printsvc.domain.form import FormId, PageData
from printsvc.errors import RenderError
from printsvc.render.stamp import Stamper
from printsvc.render.stamp.pullback import (
    draw_test_page,
    module_dots,
    pull_back_symbol,
    shrink,
    widest_pull_back,
)
from printsvc.render.template import FormLibrary

A4 = FormId("a4/43-2022")
MODULE_UM = 423  # 5 dots of 300 dpi


def draw(pdf: bytes, dpi: int = 600) -> Image.Image:
    return pypdfium2.PdfDocument(pdf)[0].render(scale=dpi / 72, grayscale=True).to_pil()


def texts(picture: Image.Image) -> set[str]:
    return {code.text for code in zxingcpp.read_barcodes(picture)}


def dark(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture) < 128


@pytest.mark.parametrize("way", ["stamp", "weasyprint"])
def test_a_certificate_reads_the_same_with_less_ink_and_nothing_moved(
    stamper_of: Callable[[FormId], Stamper], library: FormLibrary, sample: PageData, way: str
) -> None:
    pdf = stamper_of(A4).stamp(sample) if way == "stamp" else library.render_pdf(A4, sample)
    smaller = pull_back_symbol(pdf, module_um=MODULE_UM, dpi=600, pull_back=2)
    assert smaller.startswith(pdf), "the certificate is as it was; what is changed stands behind it"
    assert smaller == pull_back_symbol(pdf, module_um=MODULE_UM, dpi=600, pull_back=2)
    with pikepdf.open(io.BytesIO(smaller)) as checked:
        assert checked.check_pdf_syntax() == []
    before, after = draw(pdf), draw(smaller)
    assert sample["qr"] in texts(before) & texts(after)
    was, is_now = dark(before), dark(after)
    assert not np.any(is_now & ~was), "nothing is darker anywhere"
    rows, columns = np.nonzero(was & ~is_now)
    # All that is lighter is inside the symbol: 89 modules of 10 dots.
    assert rows.max() - rows.min() <= 890
    assert columns.max() - columns.min() <= 890
    lost = np.count_nonzero(was) - np.count_nonzero(is_now)
    assert lost > 0.1 * np.count_nonzero(was[rows.min() : rows.max(), columns.min() : columns.max()])


def test_without_pull_back_it_is_the_document_itself() -> None:
    assert pull_back_symbol(b"anything", module_um=423, dpi=600, pull_back=0) == b"anything"


@pytest.mark.parametrize(
    ("pdf", "dpi", "pull_back"),
    [(b"%PDF-1.7 nothing", 600, 1), (b"", 600, 1), (b"%PDF", 203, 1), (b"%PDF", 300, 2)],
)
def test_what_cannot_be_drawn_smaller_is_refused(pdf: bytes, dpi: int, pull_back: int) -> None:
    with pytest.raises(RenderError):
        pull_back_symbol(pdf, module_um=MODULE_UM, dpi=dpi, pull_back=pull_back)


@given(st.binary(max_size=300))
def test_no_bytes_break_it(junk: bytes) -> None:
    for pdf in (junk, b"6 0 obj\n<</Subtype/Image/Width 89/Height 89>>\nstream\n" + junk + b"startxref\n0\n%%EOF\n"):
        with pytest.raises(RenderError):
            pull_back_symbol(pdf, module_um=MODULE_UM, dpi=600, pull_back=1)


@given(st.integers(3, 12), st.integers(0, 3), st.integers(0, 2**25 - 1))
def test_each_run_of_dark_dots_is_shorter_by_the_pull_back(dots: int, pull_back: int, bits: int) -> None:
    modules = np.array([[bits >> (5 * row + column) & 1 for column in range(5)] for row in range(5)], np.uint8)
    pull_back = min(pull_back, widest_pull_back(dots))
    smaller, fine = shrink(modules, dots, pull_back), shrink(modules, dots, 0)
    assert smaller.shape == (5 * dots, 5 * dots)
    assert not np.any(smaller > fine)
    if pull_back:
        rows, columns = np.nonzero(modules)
        for row, column in zip(rows, columns, strict=True):
            cell = smaller[row * dots : (row + 1) * dots, column * dots : (column + 1) * dots]
            assert np.count_nonzero(cell) >= (dots - pull_back) ** 2, "a module never goes"
    alone = np.zeros((3, 3), np.uint8)
    alone[1, 1] = 1
    assert np.count_nonzero(shrink(alone, dots, pull_back)) == (dots - pull_back) ** 2


@pytest.mark.parametrize(
    ("module_um", "dpi", "dots"),
    [(423, 300, 5), (423, 600, 10), (423, 1200, 20), (500, 203, 4), (423, 203, None), (10, 300, None)],
)
def test_modules_are_whole_dots_or_not_drawn(module_um: int, dpi: int, dots: int | None) -> None:
    assert module_dots(module_um, dpi) == dots


@pytest.mark.parametrize(
    ("media", "dpi", "fields"),
    [
        ("iso_a4_210x297mm", 600, 12),
        ("iso_a4_210x297mm", 1200, 12),
        ("iso_a5_148x210mm", 300, 6),
        ("custom_receipt80_72x318mm", 203, 5),
        ("na_letter_8.5x11in", 600, 12),
    ],
)
def test_every_field_of_the_test_page_reads(media: str, dpi: int, fields: int) -> None:
    page = draw_test_page(media, dpi=dpi)
    assert len(page.fields) == fields
    with pikepdf.open(io.BytesIO(page.pdf)) as checked:
        assert checked.check_pdf_syntax() == []
    picture = draw(page.pdf, dpi)
    assert {field.payload for field in page.fields} == texts(picture)
    assert page == draw_test_page(media, dpi=dpi)
    if media == "iso_a4_210x297mm":
        # The ruler: its line is 100 mm long, to a dot.
        top, bottom = round(17.9 * dpi / 25.4), round(18.3 * dpi / 25.4)
        columns = np.nonzero(dark(picture)[top:bottom].any(axis=0))[0]
        ruler = columns[columns < picture.width / 2 + 60 * dpi / 25.4]
        assert abs((ruler.max() - ruler.min()) - (100.15 * dpi / 25.4)) <= 2


def test_media_without_a_size_is_refused() -> None:
    with pytest.raises(RenderError):
        draw_test_page("stationery", dpi=600)
