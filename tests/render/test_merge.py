"""Merged papers: the same pages, a twentieth of the bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pikepdf
import pytest
from PIL import Image, ImageChops

from printsvc.domain.form import FormId, PageData
from printsvc.errors import RenderError
from printsvc.render.draw import Drawer, RenderSetup
from printsvc.render.merge import merge_papers

A4 = FormId("a4/43-2022")
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.fixture(scope="module")
def papers(templates: Path, fonts: Path, forms_cache: Path) -> list[bytes]:
    """Thirty stamped ones, each with a code of its own, and one that WeasyPrint drew."""
    drawer = Drawer(RenderSetup(templates, fonts, forms_cache, forms=(A4,)))
    sample = drawer.library.sample(A4)
    pages = [
        {**sample, "full_name": f"NGUYỄN VĂN {letter}", "qr": "HC1:" + (ALPHABET[index:] + ALPHABET) * 9}
        for index, letter in enumerate("ABCDEGHIKLMNOPQRSTUVXY" + "ĂÂĐÊÔƠƯÝ")
    ]
    drawn = [drawer.draw(A4, cast(PageData, page)).pdf for page in pages]
    return [*drawn, drawer.library.render_pdf(A4, sample)]


def test_pages_look_the_same_and_share_what_they_have_in_common(
    papers: list[bytes], raster: Callable[..., Image.Image]
) -> None:
    merged = merge_papers(papers).pdf
    with pikepdf.open(io.BytesIO(merged)) as document:
        assert len(document.pages) == len(papers)
        assert "/StructTreeRoot" not in document.Root
        for index in (0, 7, len(papers) - 1):
            single = pikepdf.new()
            single.pages.append(document.pages[index])
            body = io.BytesIO()
            single.save(body)
            same = ImageChops.difference(raster(body.getvalue(), 150), raster(papers[index], 150))
            assert same.getbbox() is None
    # The fonts are there once, whoever drew the page, or nearly so: WeasyPrint makes subsets of its own.
    assert len(merge_papers(papers[:30]).pdf) - len(merge_papers(papers[:10]).pdf) <= 20 * 4096
    assert len(merged) <= 4096 * len(papers) + 65_536


def test_equal_papers_give_equal_bytes(papers: list[bytes]) -> None:
    assert merge_papers(papers[:3]).pdf == merge_papers(papers[:3]).pdf
    assert merge_papers(papers[:3]).pdf != merge_papers(reversed(papers[:3])).pdf


def test_what_is_no_pdf_is_said(papers: list[bytes]) -> None:
    with pytest.raises(RenderError):
        merge_papers([papers[0], b"%PDF-1.7 no"])
