"""What stands on a drawn page: the slots, tags and letters of its HTML, where its boxes are, and its picture."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final

from PIL import Image

_POINTS_PER_PX: Final = 0.75
_POINTS_PER_INCH: Final = 72
_GAP_PX: Final = 12
_UNSEEN: Final = ("title", "style", "script")

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in points from the page's top left corner."""


@dataclass(slots=True)
class PageScan:
    """`slots` are in the order of the page; `characters` are those that it draws."""

    slots: list[str] = field(default_factory=list)
    elements: set[str] = field(default_factory=set)
    languages: set[str] = field(default_factory=set)
    characters: set[str] = field(default_factory=set)
    language: str = ""
    title: str = ""
    images_without_text: int = 0
    headers_without_scope: int = 0


def scan_html(html: str) -> PageScan:
    """Return what a page holds."""
    parser = _Scanner()
    parser.feed(html)
    parser.close()
    return parser.scan


class _Scanner(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scan = PageScan()
        self._unseen = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.scan.elements.add(tag)
        if "data-slot" in found:
            self.scan.slots.append(found["data-slot"])
        if found.get("lang"):
            self.scan.languages.add(found["lang"])
        if tag == "html":
            self.scan.language = found.get("lang", "")
        if tag == "img" and not found.get("alt"):
            self.scan.images_without_text += 1
        if tag == "th" and found.get("scope") not in ("col", "row"):
            self.scan.headers_without_scope += 1
        if tag in _UNSEEN:
            self._unseen = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._unseen:
            self._unseen = ""

    def handle_data(self, data: str) -> None:
        if self._unseen == "title":
            self.scan.title += data.strip()
        elif not self._unseen:
            self.scan.characters.update(character for character in data if not character.isspace())


def boxes_of(document: Any) -> tuple[list[tuple[int, Box]], list[tuple[str, int, Box]]]:
    """Return the QRs of a laid-out page, each with the number of its page from 0, and the slots with theirs."""
    images: list[tuple[int, Box]] = []
    slots: list[tuple[str, int, Box]] = []
    for number, page in enumerate(document.pages):
        seen: set[int] = set()
        for box in page._page_box.descendants(placeholders=True):
            if box.element is None or id(box.element) in seen:
                continue
            name = box.element.get("data-slot")
            is_qr = box.element.tag == "img" and (box.element.get("src") or "").startswith("qr:")
            if name is None and not is_qr:
                continue
            seen.add(id(box.element))
            left, top = box.content_box_x(), box.content_box_y()
            right, bottom = left + box.width, top + box.height
            place = (left * _POINTS_PER_PX, top * _POINTS_PER_PX, right * _POINTS_PER_PX, bottom * _POINTS_PER_PX)
            if name is None:
                images.append((number, place))
            else:
                slots.append((name, number, place))
    return images, slots


def is_tagged(pdf: bytes) -> bool:
    """Return whether the PDF says that it has a structure."""
    import pypdfium2
    from pypdfium2 import raw

    with pypdfium2.PdfDocument(pdf) as document:
        return bool(raw.FPDFCatalog_IsTagged(document.raw))


def draw_pages(pdf: bytes, *, dpi: int) -> list[Image.Image]:
    """Return a grey picture of each page."""
    import pypdfium2

    with pypdfium2.PdfDocument(pdf) as document:
        scale = dpi / _POINTS_PER_INCH
        return [page.render(scale=scale, grayscale=True).to_pil().convert("L") for page in document]


def draw_png(pdf: bytes, *, dpi: int) -> bytes:
    """Return the pages as one grey PNG, one under the other with a dark gap between them."""
    pages = draw_pages(pdf, dpi=dpi)
    height = sum(page.height + _GAP_PX for page in pages) - _GAP_PX
    picture = Image.new("L", (max(page.width for page in pages), height), 96)
    top = 0
    for page in pages:
        picture.paste(page, (0, top))
        top += page.height + _GAP_PX
    target = io.BytesIO()
    picture.save(target, "PNG", dpi=(dpi, dpi))
    return target.getvalue()
