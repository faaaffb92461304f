"""The fastest others on the same certificate: the A4 form's own texts and rules, a QR that is ready, nothing signed.

PlutoPrint draws the form's HTML. ReportLab and typst have no HTML: they get every text and rule of the form with its
place, read off once from the laid-out page, as somebody would who drew the form by hand. No text is fitted to its
box, no tag is written, and nothing goes to a file: all that is in the others' favour.
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from printsvc.domain.form import FormId, PageData
from printsvc.render.template import FormLibrary

NAMES: Final = ("reportlab", "plutoprint", "typst")
_POINTS_PER_PX: Final = 0.75


class Peer(Protocol):
    """Draws a certificate; `qr` is its symbol as PNG."""

    def draw(self, page: PageData, qr: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text: its first letter's place on the base line, in points from the top left corner."""

    x: float
    y: float
    font: str
    size: float
    text: str
    slot: str


@dataclass(frozen=True, slots=True)
class Rule:
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Layout:
    """A laid-out page, taken apart: what stands on it and where. `codes` are the squares of the QRs."""

    width: float
    height: float
    texts: Sequence[Text]
    rules: Sequence[Rule]
    codes: Sequence[Rule]

    def filled(self, texts: Mapping[str, str]) -> list[Text]:
        """The texts of one person; slots that the person does not have are left out."""
        return [replace(one, text=texts[one.slot]) if one.slot else one for one in self.texts if one.slot in texts]


def missing(name: str) -> str:
    """Return why the peer cannot be measured here, "" if it can."""
    return "" if importlib.util.find_spec(name) else "not installed: uv sync --all-extras --group bench"


def open_peer(name: str, library: FormLibrary, form_id: FormId, sample: PageData, folder: Path) -> Peer:
    makers: Mapping[str, Callable[[FormLibrary, FormId, PageData, Path], Peer]] = {
        "reportlab": ReportLab,
        "plutoprint": PlutoPrint,
        "typst": Typst,
    }
    return makers[name](library, form_id, sample, folder)


class ReportLab:
    """Drawn by hand, operator by operator."""

    def __init__(self, library: FormLibrary, form_id: FormId, sample: PageData, folder: Path) -> None:
        from reportlab.pdfbase import pdfmetrics
        from reportlab.pdfbase.ttfonts import TTFont

        self._library, self._form_id = library, form_id
        self._layout = layout_of(library, form_id, sample)
        for font in {text.font for text in self._layout.texts}:
            path = next(face.path for face in library._faces if face.path.stem == font)
            pdfmetrics.registerFont(TTFont(font, str(path)))

    def draw(self, page: PageData, qr: bytes) -> bytes:
        from reportlab.lib.utils import ImageReader
        from reportlab.pdfgen.canvas import Canvas

        layout, target = self._layout, io.BytesIO()
        canvas = Canvas(target, pagesize=(layout.width, layout.height), pageCompression=1)
        for rule in layout.rules:
            top = layout.height - rule.y - rule.height
            canvas.rect(rule.x, top, rule.width, rule.height, stroke=0, fill=1)
        for text in layout.filled(texts_of(self._library, self._form_id, page)):
            canvas.setFont(text.font, text.size)
            canvas.drawString(text.x, layout.height - text.y, text.text)
        symbol = ImageReader(io.BytesIO(qr))
        for code in layout.codes:
            canvas.drawImage(symbol, code.x, layout.height - code.y - code.height, code.width, code.height)
        canvas.save()
        return target.getvalue()


class PlutoPrint:
    """The form's own HTML and style sheet; fonts are found by fontconfig, as WeasyPrint's configuration has them."""

    def __init__(self, library: FormLibrary, form_id: FormId, sample: PageData, folder: Path) -> None:
        import plutoprint

        self._library, self._form_id = library, form_id
        self._fit = dict.fromkeys(library.form(form_id).slot_names(), 0)
        files = library.folder(form_id)
        self._style = (files / "style.css").read_text("utf-8")
        assets = {f"form:{name}": (files / name).read_bytes() for name in library.form(form_id).assets}
        self._fetcher = _fetcher(plutoprint, assets)

    def draw(self, page: PageData, qr: bytes) -> bytes:
        import plutoprint

        form = self._library.form(self._form_id)
        size = plutoprint.PageSize(form.width_pt, form.height_pt)
        book = plutoprint.Book(size, plutoprint.PAGE_MARGINS_NONE, plutoprint.MEDIA_TYPE_PRINT)
        self._fetcher.resources["qr:symbol"] = qr
        book.custom_resource_fetcher = self._fetcher
        html = self._library.html(self._form_id, page, self._fit)
        book.load_html(html, user_style=self._style)
        target = io.BytesIO()
        book.write_to_pdf_stream(target)
        return target.getvalue()


def _fetcher(plutoprint: Any, assets: Mapping[str, bytes]) -> Any:
    class Fetcher(plutoprint.ResourceFetcher):  # type: ignore[misc]
        def __init__(self) -> None:
            self.resources = dict(assets)

        def fetch_url(self, url: str) -> Any:
            kind = "image/svg+xml" if url.endswith(".svg") else "image/png"
            return plutoprint.ResourceData(self.resources[url], kind, "utf-8")

    return Fetcher()


class Typst:
    """One document, compiled again with other inputs; without tags, which would cost it more."""

    _SOURCE: Final = """
#let form = json("form.json")
#let show_texts(texts) = for one in texts {
  place(dx: one.x * 1pt, dy: one.y * 1pt,
    box(text(font: one.family, weight: one.weight, style: one.style, size: one.size * 1pt, one.text)))
}
#set page(width: form.width * 1pt, height: form.height * 1pt, margin: 0pt)
#set text(top-edge: "baseline", bottom-edge: "baseline", ligatures: false)
#for one in form.rules {
  place(dx: one.x * 1pt, dy: one.y * 1pt, rect(width: one.width * 1pt, height: one.height * 1pt, fill: black))
}
#show_texts(form.texts)
#show_texts(json(bytes(sys.inputs.texts)))
#for one in form.codes { place(dx: one.x * 1pt, dy: one.y * 1pt, image("qr.png", width: one.width * 1pt)) }
"""

    def __init__(self, library: FormLibrary, form_id: FormId, sample: PageData, folder: Path) -> None:
        import typst

        self._library, self._form_id, self._folder = library, form_id, folder / "typst"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._layout = layout_of(library, form_id, sample)
        faces = {face.path.stem: face for face in library._faces}
        self._fonts = {
            name: {"family": face.family, "weight": int(face.weight), "style": face.style}
            for name, face in faces.items()
        }
        fonts = sorted({str(face.path.parent) for face in library._faces})
        form = {
            "width": self._layout.width,
            "height": self._layout.height,
            "rules": [asdict(rule) for rule in self._layout.rules],
            "codes": [asdict(code) for code in self._layout.codes],
            "texts": [self._document(text) for text in self._layout.texts if not text.slot],
        }
        (self._folder / "form.json").write_text(json.dumps(form, ensure_ascii=False), "utf-8")
        (self._folder / "page.typ").write_text(self._SOURCE, "utf-8")
        self._compiler = typst.Compiler(
            str(self._folder / "page.typ"),
            root=str(self._folder),
            font_paths=typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=fonts),
        )

    def draw(self, page: PageData, qr: bytes) -> bytes:
        (self._folder / "qr.png").write_bytes(qr)
        texts = self._layout.filled(texts_of(self._library, self._form_id, page))
        own = json.dumps([self._document(text) for text in texts if text.slot], ensure_ascii=False)
        pdf: Any = self._compiler.compile(format="pdf", sys_inputs={"texts": own}, pdf_tags=False)
        return bytes(pdf)

    def _document(self, text: Text) -> dict[str, Any]:
        return {"x": text.x, "y": text.y, "size": text.size, "text": text.text, **self._fonts[text.font]}


def texts_of(library: FormLibrary, form_id: FormId, page: PageData) -> dict[str, str]:
    """Return each slot's text, and "" for what is no slot."""
    return library._check(library.form(form_id), page) | {"": ""}


def layout_of(library: FormLibrary, form_id: FormId, page: PageData) -> Layout:
    """Return what stands where on the page, at each slot's first size."""
    from weasyprint.formatting_structure.boxes import InlineReplacedBox, ReplacedBox, TextBox

    form = library.form(form_id)
    texts: list[Text] = []
    rules: list[Rule] = []
    codes: list[Rule] = []
    faces = {(face.family, int(face.weight), face.style): face.path.stem for face in library._faces}

    def walk(box: Any, slot: str) -> None:
        if box.element is not None:
            slot = box.element.get("data-slot") or slot
        if isinstance(box, TextBox):
            style = box.style
            family = next(name for name in style["font_family"] if any(name == known for known, _, _ in faces))
            italic = "italic" if style["font_style"] == "italic" else "normal"
            wanted = int(style["font_weight"])
            weights = [weight for name, weight, slope in faces if (name, slope) == (family, italic)]
            weight = min(weights, key=lambda known: abs(known - wanted))
            x, y = (_POINTS_PER_PX * float(value) for value in (box.position_x, box.position_y + box.baseline))
            size = _POINTS_PER_PX * float(style["font_size"])
            if box.text.strip():
                texts.append(Text(x, y, faces[family, weight, italic], size, box.text, slot))
            return
        if isinstance(box, (ReplacedBox, InlineReplacedBox)):
            sides = (box.content_box_x(), box.content_box_y(), box.width, box.height)
            codes.append(Rule(*(_POINTS_PER_PX * float(value) for value in sides)))
            return
        rules.extend(_borders(box))
        for child in getattr(box, "all_children", lambda: getattr(box, "children", ()))():
            walk(getattr(child, "_box", child), slot)

    (sheet, *_) = library.lay_out(form_id, page).pages
    walk(sheet._page_box, "")
    first: dict[tuple[str, float, float], Text] = {}
    for text in texts:  # a slot's second line is left out: the first one takes the whole text
        first.setdefault((text.slot, text.x if not text.slot else 0, text.y if not text.slot else 0), text)
    return Layout(form.width_pt, form.height_pt, list(first.values()), rules, codes)


def _borders(box: Any) -> list[Rule]:
    found = []
    for side in ("top", "bottom", "left", "right"):
        width = getattr(box, f"border_{side}_width", 0)
        if not width or not isinstance(width, (int, float)):
            continue
        x, y = box.border_box_x(), box.border_box_y()
        across, down = box.border_width(), box.border_height()
        match side:
            case "top":
                place = (x, y, across, width)
            case "bottom":
                place = (x, y + down - width, across, width)
            case "left":
                place = (x, y, width, down)
            case _:
                place = (x + across - width, y, width, down)
        found.append(Rule(*(_POINTS_PER_PX * float(value) for value in place)))
    return found
