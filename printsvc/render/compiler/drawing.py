"""One variant of a form, drawn by WeasyPrint and taken apart: content, structure and the boxes of its slots.

WeasyPrint's box tree and PDF objects have no public names; they are read here and in `fit.py` only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pydyf

from printsvc.domain.form import FormId, PageData, fit_rows
from printsvc.errors import RenderError
from printsvc.render import template
from printsvc.render.compiler.merge import Node
from printsvc.render.qr import encode_qr
from printsvc.render.template import FormLibrary

SLOT: Final = b"@slot:"
TM: Final = re.compile(rb"1 0 0 -1 (\S+) (\S+) Tm")
_TF: Final = re.compile(rb"/(\S+) (\S+) Tf")
_TJ: Final = re.compile(rb"\[(.*)\] TJ")
_MCID: Final = re.compile(rb"<</MCID (\d+)>>")
_REFERENCE: Final = re.compile(rb"(\d+) 0 R")
# What the stamp takes for granted of a slot's text; alignment, font, size and leading it is told.
_STYLES: Final = {
    "hyphens": ("none", "manual"),
    "overflow_wrap": ("anywhere", "break-word"),
    "word_break": ("normal",),
    "white_space": ("normal",),
    "letter_spacing": ("normal",),
    "word_spacing": (0,),
    "text_transform": ("none",),
    "font_variant_caps": ("normal",),
    "text_decoration_line": ("none",),
    "direction": ("ltr",),
    "text_align_all": ("start", "left", "center", "right", "end"),
}
_TABLE_ID: Final = re.compile(rb"\((\d+)(-\d+-\d+)\)")


@dataclass(frozen=True, slots=True)
class Run:
    """A line of text as it was drawn: the place as the PDF has it, the font, the operand of its TJ."""

    text: str
    x: bytes
    y: bytes
    face: str
    size: str
    body: str
    head: tuple[bytes, ...]


@dataclass(slots=True)
class Box:
    """A slot's box in CSS pixels, and what stood in it. `state` is the graphics state that it is drawn in."""

    page: int
    left: float
    width: float
    bottom: float
    first_top: float
    baseline: float
    line_height: float
    align: float
    language: str
    features: tuple[tuple[str, int], ...]
    line_count: int
    lines: list[tuple[str, float, float]]
    runs: list[Run] = field(default_factory=list)
    state: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawn form: one tree of content a page, the structure tree, and the slots' boxes."""

    pages: tuple[Node, ...]
    structure: Node
    boxes: Mapping[str, Box]
    streams: tuple[bytes, ...]
    pdf: Any
    fonts: Mapping[str, Any]


def draw(library: FormLibrary, form_id: FormId, page: PageData, fit: Mapping[str, int]) -> Drawing:
    """Return the page drawn with each slot at the size of that index; RenderError if it cannot be drawn."""
    loaded = library._get(form_id)
    form = loaded.form
    page = fit_rows(page, form.doses)
    matrix = encode_qr(
        page["qr"], level=form.qr.level, min_version=form.qr.min_version, max_version=form.qr.max_version
    )
    images = template._place_qr(form, matrix)
    resources = {f"form:{name}": data for name, data in loaded.assets.items()}
    png = matrix.png()
    resources |= {image.url: png for image in images.values() if image is not None}
    html = library._html(loaded, page, template._sheets(form, page), fit, images)
    document = library._lay_out(loaded, html, resources, papers=1)
    boxes = _boxes(form_id, document)
    kept: list[Any] = []
    document.write_pdf(
        pdf_variant="pdf/ua-1",
        uncompressed_pdf=True,
        pdf_identifier=b"0" * 16,
        finisher=lambda _, pdf: kept.append(pdf),
    )
    return _take_apart(form_id, kept[0], boxes, {font.hash: font for font in document.fonts.values()})


class TemplateFaultError(RenderError):
    """What is wrong with a template: `what` in words, the slot it is about, or a variable whose first use is meant."""

    def __init__(self, form_id: str, what: str, slot: str, *, about: str, file: str, line: int) -> None:
        # A slot that stands elsewhere in a variant has another name there: see `survey.py`.
        self.what, self.slot, self.about, self.line = what, slot.partition("~")[0], about, line
        self.file = file
        places = [f"{form_id}/{file}"] + [f"line {line}"] * bool(line) + [f"slot {self.slot}"] * bool(slot)
        where = ", ".join(places)
        super().__init__(f"{where}: {what}.", vi=f"{where}: {what}.")


def compile_error(
    form_id: str, what: str, slot: str = "", *, about: str = "", file: str = "page.html", line: int = 0
) -> TemplateFaultError:
    """An error of the template, for its author: it names no person's data. `compile_form` finds its line."""
    return TemplateFaultError(form_id, what, slot, about=about, file=file, line=line)


def _boxes(form_id: str, document: Any) -> dict[str, Box]:
    from weasyprint.formatting_structure.boxes import LineBox, TextBox
    from weasyprint.text.fonts import font_features

    found: dict[str, Box] = {}
    for number, page in enumerate(document.pages):
        for box in page._page_box.descendants(placeholders=True):
            name = None if box.element is None else box.element.get("data-slot")
            if name is None or name in found:
                continue
            lines = [child for child in box.children if isinstance(child, LineBox)]
            texts = [[text for text in line.descendants() if isinstance(text, TextBox)] for line in lines]
            style = texts[0][0].style if texts and texts[0] else box.style
            for key, known in _STYLES.items():
                if style[key] not in known:
                    raise compile_error(form_id, f"the stamp cannot draw its {key.replace('_', '-')}", name)
            features = font_features(
                style["font_kerning"], style["font_variant_ligatures"], style["font_variant_position"],
                style["font_variant_caps"], style["font_variant_numeric"], style["font_variant_alternates"],
                style["font_variant_east_asian"], style["font_feature_settings"],
            )  # fmt: skip
            found[name] = Box(
                page=number,
                left=box.content_box_x(),
                width=box.width,
                bottom=box.content_box_y() + box.height,
                first_top=lines[0].position_y if lines else box.content_box_y(),
                baseline=texts[0][0].position_y + texts[0][0].baseline if texts and texts[0] else 0.0,
                line_height=lines[0].height if lines else 0.0,
                align={"center": 0.5, "right": 1.0, "end": 1.0}.get(box.style["text_align_all"], 0.0),
                language=style["lang"] or "",
                features=tuple(sorted((name, int(value)) for name, value in features.items())),
                line_count=len(lines),
                lines=[
                    (t.text, t.position_x, t.position_y + t.baseline) for line in texts for t in line if t.text.strip()
                ],
            )
    return found


def _take_apart(form_id: str, pdf: Any, boxes: dict[str, Box], fonts: Mapping[str, Any]) -> Drawing:
    reader = _Reader(form_id, pdf, boxes)
    streams, pages = [], []
    for number, reference in enumerate(pdf.page_references):
        page = reader.object(reference)
        stream = reader.object(page["Contents"])
        text = b"\n".join(pydyf._to_bytes(item) for item in stream.stream)
        streams.append(text)
        pages.append(reader.content(number, text))
    for name, box in boxes.items():
        if len(box.lines) > box.line_count:
            raise compile_error(form_id, "its text is drawn in several runs", name)
        if len(box.runs) != len(box.lines):
            raise compile_error(form_id, "its text is not drawn as one run a line", name)
    return Drawing(tuple(pages), reader.structure(), boxes, tuple(streams), pdf, fonts)


class _Reader:
    """Reads one PDF's objects; remembers which marked content is what, for its structure tree."""

    def __init__(self, form_id: str, pdf: Any, boxes: Mapping[str, Box]) -> None:
        self._form_id = form_id
        self._pdf = pdf
        self._boxes = boxes
        self._marked: dict[tuple[int, int], bytes | None] = {}
        self._page_numbers = {bytes(reference): number for number, reference in enumerate(pdf.page_references)}
        self._places = {
            (box.page, _fixed(x), _fixed(y)): (name, index)
            for name, box in boxes.items()
            for index, (_, x, y) in enumerate(box.lines)
        }

    def object(self, reference: bytes) -> Any:
        match = _REFERENCE.fullmatch(reference)
        assert match is not None
        return self._pdf.objects[int(match[1])]

    def content(self, page: int, text: bytes) -> Node:
        """The page's content: groups of q ... Q and of marked content; the slots' texts are leaves."""
        stack: list[tuple[bytes, list[Node]]] = [(b"", [])]
        state: list[list[bytes]] = [[]]
        seen: dict[bytes, int] = {}
        for line in text.split(b"\n"):
            kids = stack[-1][1]
            if line == b"q":
                stack.append((b"q", []))
                state.append([])
            elif line == b"BDC":
                properties, tag = kids.pop().label, kids.pop().label
                stack.append((tag + b"\n" + properties + b"\nBDC", []))
            elif line == b"BMC":
                stack.append((kids.pop().label + b"\nBMC", []))
            elif line in (b"Q", b"EMC"):
                label, own = stack.pop()
                if line == b"Q":
                    state.pop()
                node = self._close(page, Node(label, tuple(own)), seen, state)
                if node is not None:
                    stack[-1][1].append(node)
            else:
                state[-1].append(line)
                kids.append(Node(line))
        assert len(stack) == 1
        return Node(b"", tuple(stack[0][1]))

    def _close(self, page: int, node: Node, seen: dict[bytes, int], state: list[list[bytes]]) -> Node | None:
        mcid = _MCID.search(node.label)
        if mcid is None:
            return node
        found = self._slot(page, node)
        if found is not None:
            name, index, run = found
            box = self._boxes[name]
            box.runs.append(run)
            box.state = _state([line for level in state[1:] for line in level])
            self._marked[page, int(mcid[1])] = None if index else SLOT + name.encode()
            # The colour may be set for the first text of a group only: it is part of what must not change.
            return None if index else Node(SLOT + name.encode() + b"\n" + b"".join(line + b"\n" for line in run.head))
        mark = hashlib.sha256(repr(node.kids).encode()).hexdigest()[:24].encode()
        count = seen[mark] = seen.get(mark, -1) + 1
        mark += b"-%d-%d" % (page, count)
        self._marked[page, int(mcid[1])] = mark
        return Node(_MCID.sub(b"<</MCID @" + mark + b">>", node.label), node.kids)

    def _slot(self, page: int, node: Node) -> tuple[str, int, Run] | None:
        lines = [kid.label for kid in node.kids]
        places = [(index, match) for index, line in enumerate(lines) if (match := TM.fullmatch(line))]
        if len(places) != 1:
            return None
        at, place = places[0]
        found = self._places.get((page, place[1], place[2]))
        if found is None:
            return None
        name, index = found
        rest = lines[at:]
        font, body = (_TF.fullmatch(rest[1]), _TJ.fullmatch(rest[2])) if len(rest) == 4 else (None, None)
        if font is None or body is None or rest[3] != b"ET" or lines[at - 1] != b"BT":
            raise compile_error(self._form_id, "its text is drawn in several runs", name)
        text = self._boxes[name].lines[index][0]
        head = tuple(lines[: at - 1])
        return name, index, Run(text, place[1], place[2], font[1].decode(), font[2].decode(), body[1].decode(), head)

    def structure(self) -> Node:
        """The tree under StructTreeRoot; leaves are marked contents by what they are, not by their number."""
        root = self.object(self._pdf.catalog["StructTreeRoot"])
        self._tables: dict[bytes, bytes] = {}
        return self._element(self.object(root["K"][0]))

    def _element(self, element: Any) -> Node:
        about = {key: value for key, value in element.items() if key not in ("Type", "K", "P", "Pg")}
        label = _TABLE_ID.sub(self._table_id, pydyf.Dictionary(about).data[2:-2])
        page = self._page_numbers.get(element.get("Pg", b""), -1)
        kids: list[Node] = []
        for kid in element["K"]:
            if isinstance(kid, int):
                if (page, kid) not in self._marked:
                    raise compile_error(self._form_id, "a text is drawn in a group of its own, as opacity has it")
                mark = self._marked[page, kid]
                if mark is not None:
                    kids.append(Node(b"@" + mark))
            else:
                node = self._element(self.object(kid))
                # What held only a slot's second line holds nothing now.
                if node.kids or not self._only_later_lines(self.object(kid), page):
                    kids.append(node)
        return Node(b"%d %s" % (page, label), tuple(kids))

    def _only_later_lines(self, element: Any, page: int) -> bool:
        return bool(element["K"]) and all(
            isinstance(kid, int) and self._marked[page, kid] is None for kid in element["K"]
        )

    def _table_id(self, match: re.Match[bytes]) -> bytes:
        table = self._tables.setdefault(match[1], b"t%d" % len(self._tables))
        return b"(" + table + match[2] + b")"


def _state(lines: list[bytes]) -> tuple[bytes, ...]:
    """What a text depends on of the operators before it: transformations and clips, the last fill colour and alpha."""
    kept = [line for line in lines if line.endswith((b" cm", b"W", b"W*")) or line.startswith(b"/s")]
    alpha = [line for line in lines if line.startswith(b"/a") and line.endswith(b" gs")]
    colour = [line for line in lines if line.endswith((b" rg", b" g", b" k", b" sc", b" scn"))]
    return (*kept, *alpha[-1:], *colour[-1:])


def _fixed(value: float) -> bytes:
    return pydyf._to_bytes(float(value))  # type: ignore[no-any-return]
