"""The real form with the real fonts, drawn once for all tests of this room."""

from __future__ import annotations

import copy
import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from printsvc.domain.form import FormId, PageData
from printsvc.render.draw import Drawer, RenderSetup
from printsvc.render.stamp import Stamper
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
A4 = FormId("a4/43-2022")


@pytest.fixture(scope="session")
def templates() -> Path:
    return ROOT / "templates"


@pytest.fixture(scope="session")
def fonts() -> Path:
    return ROOT / "fonts"


@pytest.fixture(scope="session")
def library(templates: Path, fonts: Path) -> FormLibrary:
    return FormLibrary(templates, fonts)


@pytest.fixture(scope="session")
def stamper_of(templates: Path, fonts: Path, forms_cache: Path) -> Callable[[FormId], Stamper]:
    """`stamper_of(form_id)`: compiled once for all tests, and once for all workers of a run."""
    drawer = Drawer(RenderSetup(templates, fonts, forms_cache))

    def stamper(form_id: FormId) -> Stamper:
        found = drawer.stamper(form_id)
        assert found is not None, f"{form_id} does not compile"
        return found

    return stamper


@pytest.fixture
def sample(library: FormLibrary) -> PageData:
    return copy.deepcopy(library.sample(A4))


@pytest.fixture(scope="session")
def sample_pdf(library: FormLibrary) -> bytes:
    return library.render_pdf(A4, library.sample(A4))


@pytest.fixture(scope="session")
def library_with(templates: Path, fonts: Path) -> Callable[[Path, str], FormLibrary]:
    """`library_with(folder, snippet)`: the real form, copied there, with one more element in its body."""

    def made(folder: Path, snippet: str) -> FormLibrary:
        form = folder / A4
        form.mkdir(parents=True)
        for source in (templates / A4).iterdir():
            form.joinpath(source.name).write_bytes(source.read_bytes())
        page = form / "page.html"
        page.write_text(page.read_text("utf-8").replace("</body>", snippet + "</body>"), "utf-8")
        return FormLibrary(folder, fonts)

    return made


Raster = Callable[..., Image.Image]


@pytest.fixture
def raster(tmp_path: Path) -> Raster:
    """`raster(pdf, dpi, mode)`: the page as Poppler prints it, grey or in 1 bit ("mono"), in Pillow's mode L."""

    def draw(pdf: bytes, dpi: int, mode: str = "gray") -> Image.Image:
        source = tmp_path / "page.pdf"
        source.write_bytes(pdf)
        command: list[Any] = ["pdftoppm", "-r", dpi, f"-{mode}", "-singlefile", source, tmp_path / "page"]
        subprocess.run([str(part) for part in command], check=True)
        picture = tmp_path / ("page.pbm" if mode == "mono" else "page.pgm")
        return Image.open(io.BytesIO(picture.read_bytes())).convert("L")

    return draw
