"""A paper that came out of a virtual printer, and the picture on it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import pypdfium2
from PIL import Image

from lab.errors import LabError
from lab.raster import RasterPage, read_raster

_PDFIUM = threading.Lock()
"""PDFium is not safe to call from two threads."""


@dataclass(frozen=True, slots=True)
class Page:
    """One received document. `content_type` is the printer's own word for it; `job_name` the attempt that it proves."""

    path: Path
    job_name: str
    content_type: str

    def image(self, dpi: int = 300) -> Image.Image:
        """Return the first sheet as an RGB or grey picture at `dpi`; LabError where the format is none of ours."""
        return self.images(dpi)[0]

    def images(self, dpi: int = 300) -> list[Image.Image]:
        """Return every sheet, in the order in which it came out.

        A raster document is given at `dpi` too: resampled from what the printer received (see `raster()`).
        """
        if self.content_type == "application/pdf":
            with _PDFIUM, pypdfium2.PdfDocument(self.path) as document:
                return [sheet.render(scale=dpi / 72).to_pil() for sheet in document]
        return [_at_dpi(sheet, dpi) for sheet in self._rasters(first_only=False)]

    def size_mm(self) -> tuple[float, float]:
        """Return width and height of the first sheet in millimetres, as the printer was told."""
        if self.content_type == "application/pdf":
            with _PDFIUM, pypdfium2.PdfDocument(self.path) as document:
                width_pt, height_pt = document[0].get_size()
            return width_pt * 25.4 / 72, height_pt * 25.4 / 72
        page = self.raster()
        return page.width * 25.4 / page.dpi[0], page.height * 25.4 / page.dpi[1]

    def sheets(self) -> int:
        """Return how many sheets the document has."""
        if self.content_type == "application/pdf":
            with _PDFIUM, pypdfium2.PdfDocument(self.path) as document:
                return len(document)
        return len(self._rasters(first_only=False))

    def raster(self) -> RasterPage:
        """Return the first sheet's own pixels; LabError when the document is not a raster."""
        return self._rasters(first_only=True)[0]

    def _rasters(self, *, first_only: bool) -> list[RasterPage]:
        if self.content_type not in ("image/pwg-raster", "image/urf"):
            raise LabError(f"{self.path.name}: no picture can be made of {self.content_type}")
        return read_raster(self.path.read_bytes(), first_only=first_only)


def _at_dpi(page: RasterPage, dpi: int) -> Image.Image:
    picture = _picture(page)
    width, height = round(page.width * dpi / page.dpi[0]), round(page.height * dpi / page.dpi[1])
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.BOX)


def _picture(page: RasterPage) -> Image.Image:
    if page.bits_per_pixel == 1:
        # Raster black is 1, a PIL "1" picture's white is 1.
        return Image.frombytes("1", (page.width, page.height), bytes(b ^ 0xFF for b in page.pixels)).convert("L")
    if page.bits_per_pixel == 8:
        picture = Image.frombytes("L", (page.width, page.height), page.pixels)
        return picture.point(lambda v: 255 - v) if page.black_is_high else picture
    return Image.frombytes("RGB", (page.width, page.height), page.pixels)
