"""Which characters of a PDF's page a person can read: its text layer also holds what is hidden.

Who forges a plain copy covers a name and writes another over it, or keeps the right one in white letters: the text
layer then still has what the code says. So the page is drawn twice, once whole and once with its text objects alone,
and a character counts only where both show the same ink, in a size that can be read, with no other character and no
annotation on top of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import c_int
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pypdfium2.raw as pdfium

SCALE: Final = 3.0
"""Pixels for each point: a full stop of six points still is a pixel."""
MAX_PIXELS: Final = 50_000_000
MAX_OBJECTS: Final = 20_000
"""Objects on a page; the forms have some three hundred."""
MIN_SIZE_PT: Final = 3.0
"""Height of a line of the smallest letters that count; the forms' own have more than five."""
_LIGHT: Final = 200
_DIFFERENT: Final = 96
_SHARE: Final = 0.3
"""Of a character's ink, or of its box: more that is otherwise, or under another character, hides it."""
_NEIGHBOURS: Final = 3
"""Characters that follow one another may overlap: marks stand on their letters, pairs are drawn closer."""
_COVERING: Final = frozenset(range(64)) - {pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP}

_Pixels = npt.NDArray[np.uint8]
_Box = tuple[int, int, int, int]


def hidden_characters(page: Any, layer: Any) -> set[int]:
    """Return which characters of the text layer, by their number in it, nobody can read on the page; spaces never are.

    The page is of no use afterwards: what is no text was taken from it. All are hidden where the page is too large.
    """
    count = layer.count_chars()
    everything = set(range(count))
    width_pt, height_pt = page.get_size()
    if width_pt * height_pt * SCALE**2 > MAX_PIXELS:
        return everything
    objects: list[Any] = []
    for one in page.get_objects():
        if len(objects) == MAX_OBJECTS:
            return everything
        objects.append(one)
    size = round(width_pt * SCALE), round(height_pt * SCALE)
    boxes = dict(_boxes(page, layer, count, size))
    small = {number for number in boxes if _is_small(layer, number)}
    covered = _under_annotations(page, boxes, size) | _under_others(boxes, layer, size)
    whole = _draw(page)
    for one in objects:
        if one.type not in (pdfium.FPDF_PAGEOBJ_TEXT, pdfium.FPDF_PAGEOBJ_FORM):
            page.remove_obj(one)
    alone = _draw(page)
    faint = {number for number, box in boxes.items() if not _shows(whole, alone, box)}
    return small | covered | faint


def _boxes(page: Any, layer: Any, count: int, size: tuple[int, int]) -> Iterator[tuple[int, _Box]]:
    """Yield (number, box in pixels) of each character that has ink."""
    for number in range(count):
        code = pdfium.FPDFText_GetUnicode(layer, number)
        if code <= 0x20 or chr(code).isspace() or pdfium.FPDFText_IsGenerated(layer, number):
            continue
        yield number, _to_pixels(page, layer.get_charbox(number), size)


def _to_pixels(page: Any, edges_pt: tuple[float, float, float, float], size: tuple[int, int]) -> _Box:
    """Return (left, top, right, bottom): the page may be turned, or cut to a part of its canvas."""
    left, bottom, right, top = edges_pt
    corners = []
    for x, y in ((left, bottom), (right, top)):
        across, down = c_int(), c_int()
        pdfium.FPDF_PageToDevice(page, 0, 0, *size, 0, x, y, across, down)
        corners.append((across.value, down.value))
    (x0, y0), (x1, y1) = corners
    return min(x0, x1), min(y0, y1), max(x0, x1) + 1, max(y0, y1) + 1


def _is_small(layer: Any, number: int) -> bool:
    left, bottom, right, top = layer.get_charbox(number, loose=True)
    return bool(max(top - bottom, 0) < MIN_SIZE_PT and max(right - left, 0) < MIN_SIZE_PT)


def _under_annotations(page: Any, boxes: dict[int, _Box], size: tuple[int, int]) -> set[int]:
    """Return the characters that an annotation or a field stands on; a link draws nothing over its text."""
    found: set[int] = set()
    for index in range(min(pdfium.FPDFPage_GetAnnotCount(page), MAX_OBJECTS)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            rect = pdfium.FS_RECTF()
            draws = pdfium.FPDFAnnot_GetSubtype(annotation) in _COVERING or pdfium.FPDFAnnot_GetAP(
                annotation, pdfium.FPDF_ANNOT_APPEARANCEMODE_NORMAL, None, 0
            ) > 2  # fmt: skip
            if draws and pdfium.FPDFAnnot_GetRect(annotation, rect):
                area = _to_pixels(page, (rect.left, rect.bottom, rect.right, rect.top), size)
                found |= {number for number, box in boxes.items() if _overlap(box, area) > _SHARE * _area(box)}
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)
    return found


def _under_others(boxes: dict[int, _Box], layer: Any, size: tuple[int, int]) -> set[int]:
    """Return the characters that stand on one another; the same one drawn twice is bold."""
    owners = np.full((size[1], size[0]), -1, np.int32)
    found: set[int] = set()
    for number, (left, top, right, bottom) in boxes.items():
        region = owners[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if region.size and region.max() >= 0:
            for other in np.unique(region[(region >= 0) & (number - region > _NEIGHBOURS)]).tolist():
                shared = _overlap(boxes[number], boxes[other])
                if shared > _SHARE * min(_area(boxes[number]), _area(boxes[other])) and pdfium.FPDFText_GetUnicode(
                    layer, number
                ) != pdfium.FPDFText_GetUnicode(layer, other):
                    found |= {number, other}
        region[...] = number
    return found


def _area(box: _Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(one: _Box, other: _Box) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def _draw(page: Any) -> _Pixels:
    bitmap = page.render(scale=SCALE, grayscale=True, may_draw_forms=False, draw_annots=False)
    try:
        pixels: _Pixels = bitmap.to_numpy().reshape(bitmap.height, bitmap.width).copy()
        return pixels
    finally:
        bitmap.close()


def _shows(whole: _Pixels, alone: _Pixels, box: _Box) -> bool:
    """Return whether the page shows a character as its text alone would."""
    left, top, right, bottom = box
    if left < 0 or top < 0 or right > alone.shape[1] + 1 or bottom > alone.shape[0] + 1:
        return False
    # A pixel more on each side: a thin letter's ink is spread over the edge of its box.
    around = slice(max(top - 1, 0), bottom + 1), slice(max(left - 1, 0), right + 1)
    seen, own = whole[around], alone[around]
    ink = own < _LIGHT
    inked = int(ink.sum())
    if not inked:
        return False
    differs = np.abs(seen.astype(np.int16) - own) > _DIFFERENT
    return bool((differs & ink).sum() <= _SHARE * inked and (differs & ~ink).sum() <= _SHARE * ink.size)
