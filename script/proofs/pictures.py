"""Papers as pictures: rasterised by Poppler or Ghostscript, compared to the pixel, photographed."""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageChops

MODES: Final = ("gray", "mono")


@dataclass(frozen=True, slots=True)
class Difference:
    """What two pictures of the same pages differ in: pixels, of how many, and where."""

    pixels: int
    of: int
    box: tuple[int, int, int, int] | None


def poppler(pdf: bytes, folder: Path, *, dpi: int, mode: str = "gray") -> list[Image.Image]:
    """Return each page as pdftoppm draws it: grey, or in 1 bit ("mono"); both in Pillow's mode L."""
    source = folder / "poppler.pdf"
    source.write_bytes(pdf)
    return _pages(["pdftoppm", "-r", dpi, f"-{mode}", source, folder / "poppler"], folder, "poppler")


def ghostscript(pdf: bytes, folder: Path, *, dpi: int, mode: str = "gray") -> list[Image.Image]:
    """Return each page as Ghostscript draws it, without anti-aliasing in 1 bit."""
    source = folder / "ghostscript.pdf"
    source.write_bytes(pdf)
    device = "pgmraw" if mode == "gray" else "pbmraw"
    smooth = ["-dTextAlphaBits=4", "-dGraphicsAlphaBits=4"] if mode == "gray" else []
    target = folder / "ghostscript-%d.pgm"
    command = ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", f"-sDEVICE={device}", f"-r{dpi}", *smooth]
    return _pages([*command, f"-sOutputFile={target}", source], folder, "ghostscript")


def _pages(command: list[Any], folder: Path, stem: str) -> list[Image.Image]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise AssertionError(f"{command[0]}: {done.returncode}, {done.stderr}")
    pictures = []
    for path in sorted(folder.glob(f"{stem}-*.p?m")):
        pictures.append(Image.open(io.BytesIO(path.read_bytes())).convert("L"))
        path.unlink()
    return pictures


def compare(one: Image.Image, other: Image.Image) -> Difference:
    """Return in which pixels two pictures differ; of unequal sizes, in all."""
    area = max(one.width * one.height, other.width * other.height)
    if one.size != other.size:
        return Difference(area, area, None)
    if one.tobytes() == other.tobytes():
        return Difference(0, area, None)
    changed = ImageChops.difference(one, other)
    return Difference(area - changed.histogram()[0], area, changed.getbbox())


def keep_difference(folder: Path, name: str, one: Image.Image, other: Image.Image) -> None:
    """Leave both pictures and what differs, black on white, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    one.save(folder / f"{name}-stamp.png")
    other.save(folder / f"{name}-weasyprint.png")
    if one.size == other.size:
        difference = ImageChops.difference(one, other).point(lambda value: 255 * (value == 0))
        difference.save(folder / f"{name}-difference.png")
