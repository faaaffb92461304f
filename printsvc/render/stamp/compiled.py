"""What the compiler hands to the stamp: a form with everything that does not depend on the person already done.

What all certificates have was compressed by the compiler; the little that the stamp compresses itself it gives to
libdeflate, whose version is pinned and whose output does not depend on the machine: equal data give equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import cbor2

from printsvc.errors import RenderError

FORMAT: Final = 2

Condition = tuple[tuple[int, tuple[int, ...]], ...]
"""For each axis that matters, its index and the values (indices) with which the thing is there; () is always."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Something that a form shows in one of several ways; `values[0]` is how it was compiled first.

    `kind` and `subject` say how the value follows from the page: see `axes.read_axes`.
    """

    kind: str
    subject: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Face:
    """A font file that slots are set in.

    `name` is that of the PDF resource; `shaping` is the font that HarfBuzz reads, glyph ids as in the original;
    `widths` are the PDF's, in thousandths of the em; `codes` are the glyphs' numbers in the file, which is made from
    the font program of index `program`.
    """

    name: str
    shaping: bytes
    widths: tuple[tuple[int, int], ...]
    codes: tuple[tuple[int, int], ...]
    program: int


@dataclass(frozen=True, slots=True)
class FontProgram:
    """A TrueType file of which a certificate has the glyphs it shows; `number` is the object's.

    The first `fixed` glyphs are always there, and those of `always` shown. `head` is that table; `tables` are the
    others that never change, with their tags, in the order of the file, and `lead` is these and the fixed outlines as
    raw deflate, ending on a byte.
    `outlines` are those of every glyph, each a multiple of four bytes long; `parts` are the glyphs of which a composite
    one consists; `metrics` is the whole hmtx, one entry of four bytes a glyph; `characters` are the code points of the
    glyphs that have one.
    """

    number: int
    fixed: int
    always: tuple[int, ...]
    head: bytes
    tables: tuple[tuple[str, bytes], ...]
    lead: bytes
    outlines: tuple[bytes, ...]
    parts: tuple[tuple[int, tuple[int, ...]], ...]
    metrics: bytes
    characters: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Size:
    """A slot at one of its sizes; lengths are CSS pixels on the page.

    `units` is the size in 1/1024 px, `size` as the PDF has it. `lines` is how many lines fit; they are `line_height`
    apart, the first one's baseline at `baseline`. A line has `width` from `left` on.
    """

    face: int
    units: int
    size: str
    left: float
    width: float
    baseline: float
    line_height: float
    lines: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A variable text. `align` is 0, 0.5 or 1; `path` leads to the text in PageData; `blank` is drawn for "".

    It is there if one of `conditions` holds.
    """

    name: str
    path: tuple[str | int, ...]
    page: int
    required: bool
    blank: str
    align: float
    alphabet: str
    language: str
    features: tuple[tuple[str, int], ...]
    conditions: tuple[Condition, ...]
    mcid: int
    sizes: tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a page's content in the order in which WeasyPrint paints it: static, or (`slot` >= 0) a slot's."""

    condition: Condition
    static: bytes
    slot: int


@dataclass(frozen=True, slots=True)
class Static:
    """A stretch of the static content stream; `glyphs` are those it shows, by font program."""

    condition: Condition
    plain: bytes
    glyphs: tuple[tuple[int, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """`static_number` and `text_number` are its two content streams; texts stand between `before` and `after`."""

    pieces: tuple[Piece, ...]
    statics: tuple[Static, ...]
    static_number: int
    text_number: int
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Loose:
    """A PDF object that is no stream, as it stands in an object stream."""

    condition: Condition
    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Branch:
    """An object whose array has one entry or another: `head`, the entries that hold, `tail`."""

    condition: Condition
    number: int
    head: bytes
    entries: tuple[tuple[Condition, bytes], ...]
    tail: bytes


@dataclass(frozen=True, slots=True)
class QrRules:
    level: str
    min_version: int
    max_version: int
    image_number: int


@dataclass(frozen=True, slots=True)
class CompiledForm:
    """A form as the stamp wants it. `sources` is the digest of what it was made from, `digest` that of all of it.

    `streams` are the stream objects that every certificate has, with their numbers, from "n 0 obj" to "endobj";
    `objects_number` is that of the object stream.
    """

    form_id: str
    sources: str
    digest: str
    doses: int
    axes: tuple[Axis, ...]
    faces: tuple[Face, ...]
    programs: tuple[FontProgram, ...]
    slots: tuple[Slot, ...]
    pages: tuple[Page, ...]
    streams: tuple[tuple[int, bytes], ...]
    loose: tuple[Loose, ...]
    objects_number: int
    branches: tuple[Branch, ...]
    qr: QrRules
    size: int
    root: int
    info: int

    def encode(self) -> bytes:
        """Return the form as CBOR, to be kept in a file or sent to a site."""
        return cbor2.dumps({"format": FORMAT, **asdict(self)}, canonical=True)


def digest_of(form: CompiledForm) -> str:
    """Return the SHA-256, in hex, over everything but the digest itself."""
    table = asdict(form)
    del table["digest"]
    return hashlib.sha256(cbor2.dumps(table, canonical=True)).hexdigest()


def parse_compiled(data: bytes) -> CompiledForm:
    """Return the form; RenderError if it is damaged or of another format."""
    try:
        table = cbor2.loads(data)
        if table.pop("format") != FORMAT:
            raise ValueError("another format")
        form = _form_of(table)
        if digest_of(form) != form.digest:
            raise ValueError("another digest")
    except (ValueError, LookupError, TypeError, AttributeError, cbor2.CBORError) as error:
        raise RenderError(
            f"The compiled form cannot be read: {type(error).__name__}.",
            vi=f"Không đọc được biểu mẫu đã biên dịch: {type(error).__name__}.",
        ) from error
    return form


def _form_of(table: Mapping[str, Any]) -> CompiledForm:
    return CompiledForm(
        **{
            **table,
            "axes": tuple(Axis(**_frozen(axis)) for axis in table["axes"]),
            "faces": tuple(Face(**_frozen(face)) for face in table["faces"]),
            "programs": tuple(FontProgram(**_frozen(program)) for program in table["programs"]),
            "slots": tuple(
                Slot(**{**_frozen(slot), "sizes": tuple(Size(**size) for size in slot["sizes"])})
                for slot in table["slots"]
            ),
            "pages": tuple(
                Page(
                    **{
                        **page,
                        "pieces": tuple(Piece(**_frozen(piece)) for piece in page["pieces"]),
                        "statics": tuple(Static(**_frozen(static)) for static in page["statics"]),
                    }
                )
                for page in table["pages"]
            ),
            "streams": _tuple(table["streams"]),
            "loose": tuple(Loose(**_frozen(loose)) for loose in table["loose"]),
            "branches": tuple(Branch(**_frozen(branch)) for branch in table["branches"]),
            "qr": QrRules(**table["qr"]),
        }
    )


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in table.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else value
