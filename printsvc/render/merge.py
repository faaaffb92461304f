"""Many papers in one PDF to be printed: what pages have in common (fonts, the form's own drawing) is in it once.

The tags are left out: they describe a document to a reader, and this one is for a printer. The papers themselves stay
as they are, and their pages look the same here.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from printsvc.errors import RenderError
from printsvc.render.fontunion import unite

_LETTERS: Final = re.compile(rb"<([0-9a-fA-F]{4})>\s*<([0-9a-fA-F]+)>\n")
_MOST_LETTERS: Final = 100  # of a bfchar block


def check_merging() -> None:
    """RenderError where the library for merging is not installed."""
    try:
        import pikepdf  # noqa: F401
    except ImportError as error:
        raise RenderError("Merging needs the extra `merge`.", vi="Cần cài thêm gói `merge` để gộp tệp.") from error


class Merged(NamedTuple):
    """A PDF with the pages of several, and the page on which each of them begins, the first being 1."""

    pdf: bytes
    first_pages: Sequence[int]


def merge_papers(papers: Iterable[bytes]) -> Merged:
    """Return one PDF with the pages of all, in their order; equal papers give equal bytes.

    RenderError where the library for it is not installed or a paper is no PDF.
    """
    check_merging()
    import pikepdf

    merged = pikepdf.new()
    first_pages = []
    try:
        for paper in papers:
            first_pages.append(len(merged.pages) + 1)
            with pikepdf.open(io.BytesIO(paper)) as source:
                for page in source.pages:
                    for key in ("/StructParents", "/Tabs", "/Annots", "/Metadata"):
                        if key in page.obj:
                            del page.obj[key]
                    merged.pages.append(page)
    except pikepdf.PdfError as error:
        raise RenderError("A paper to be merged is no PDF.", vi="Một tệp cần gộp không phải PDF.") from error
    placed: list[Any] = [page.obj for page in merged.pages]
    _unite_fonts(merged, placed)
    share = _Sharer()
    for one in placed:
        for key in ("/Resources", "/Contents"):
            one[key] = share(one[key])
    target = io.BytesIO()
    merged.save(
        target,
        deterministic_id=True,
        object_stream_mode=pikepdf.ObjectStreamMode.generate,
        compress_streams=True,
    )
    return Merged(target.getvalue(), first_pages)


class _Sharer:
    """Gives for each thing the same one as before, where there was one like it; its parts are shared first."""

    def __init__(self) -> None:
        self._known: dict[bytes, Any] = {}
        self._kept: set[tuple[int, int]] = set()

    def __call__(self, thing: Any) -> Any:
        import pikepdf

        if isinstance(thing, pikepdf.Object) and thing.is_indirect and thing.objgen in self._kept:
            return thing
        if isinstance(thing, (pikepdf.Dictionary, pikepdf.Stream)):
            for key in list(thing.keys()):
                if key not in ("/Parent", "/Length"):
                    part = thing[key]
                    better = self(part)
                    if better is not part:
                        thing[key] = better
        elif isinstance(thing, pikepdf.Array):
            for index, part in enumerate(list(thing)):
                better = self(part)
                if better is not part:
                    thing[index] = better
        else:
            return thing
        if not thing.is_indirect:
            return thing
        body = thing.unparse(resolved=True) if not isinstance(thing, pikepdf.Stream) else _stream_text(thing)
        found = self._known.setdefault(hashlib.sha256(body).digest(), thing)
        self._kept.add(found.objgen)
        return found


def _stream_text(stream: Any) -> bytes:
    keys = sorted(key for key in stream.keys() if key != "/Length")  # noqa: SIM118 - no mapping
    parts = [f"{key} ".encode() + _text(stream[key]) for key in keys]
    return b"stream" + b"\n".join(parts) + b"\n" + bytes(stream.read_raw_bytes())


def _text(value: Any) -> bytes:
    unparse = getattr(value, "unparse", None)
    return bytes(unparse(resolved=False)) if unparse is not None else repr(value).encode()


# --- fonts


def _unite_fonts(merged: Any, pages: Sequence[Any]) -> None:
    """Have all subsets of a face be one, in the place of each; what is not such a subset stays as it is."""
    of_face: dict[tuple[str, bytes], list[Any]] = {}
    seen: set[tuple[int, int]] = set()
    for font in (font for page in pages for font in _fonts(page)):
        if font.objgen not in seen and _is_subset(font):
            seen.add(font.objgen)
            of_face.setdefault((str(font.BaseFont), _numbering(font)), []).append(font)
    for (_, numbering), fonts in of_face.items():
        try:
            unions = unite(bytes(font.DescendantFonts[0].FontDescriptor.FontFile2.read_bytes()) for font in fonts)
        except ValueError:
            continue
        for union, places in unions:
            one, *others = (fonts[place] for place in places)
            if not others:
                continue
            descendant = one.DescendantFonts[0]
            file = union.encode()
            descendant.FontDescriptor.FontFile2 = merged.make_stream(file, Length1=len(file))
            if not numbering:
                widths: dict[int, Any] = {}
                letters: dict[bytes, bytes] = {}
                for font in (one, *others):
                    widths |= _widths(font.DescendantFonts[0].W)
                    letters |= dict(_LETTERS.findall(font.ToUnicode.read_bytes()))
                descendant.W = _width_array(widths)
                one.ToUnicode = merged.make_stream(_to_unicode(letters))
            for font in others:
                font.DescendantFonts, font.ToUnicode = one.DescendantFonts, one.ToUnicode


def _fonts(page: Any) -> Iterator[Any]:
    resources = page.get("/Resources", {})
    yield from resources.get("/Font", {}).values()
    for drawing in resources.get("/XObject", {}).values():
        if "/Resources" in drawing:
            yield from drawing.Resources.get("/Font", {}).values()


def _is_subset(font: Any) -> bool:
    """Whether it is a subset whose codes are the glyph ids of the whole face."""
    if font.get("/Subtype") != "/Type0" or "/ToUnicode" not in font or font.get("/Encoding") != "/Identity-H":
        return False
    descendant = font.DescendantFonts[0]
    return (
        descendant.get("/CIDToGIDMap") == "/Identity"
        and "/W" in descendant
        and "/DW" not in descendant
        and "/FontFile2" in descendant.FontDescriptor
        and "/CIDSet" not in descendant.FontDescriptor
    )


def _numbering(font: Any) -> bytes:
    """What tells the glyph ids of one stamped form from another's; empty where ids are those of the whole face.

    A stamped page has the widths and texts of all glyphs of its form, whichever its subset holds.
    """
    text = bytes(font.ToUnicode.read_bytes())
    if b"beginbfrange" not in text:
        return b""
    return hashlib.sha256(text + bytes(font.DescendantFonts[0].W.unparse(resolved=True))).digest()


def _widths(array: Any) -> dict[int, Any]:
    """Each glyph's width. Source: ISO 32000-1, 9.7.4.3."""
    found: dict[int, Any] = {}
    parts = list(array)
    while parts:
        first, second = int(parts.pop(0)), parts.pop(0)
        if isinstance(second, int):
            found |= dict.fromkeys(range(first, second + 1), parts.pop(0))
        else:
            found |= {first + place: width for place, width in enumerate(second)}
    return found


def _width_array(widths: Mapping[int, Any]) -> Any:
    import pikepdf

    parts: list[Any] = []
    for glyph in sorted(widths):
        if glyph - 1 not in widths:
            parts += [glyph, pikepdf.Array()]
        parts[-1].append(widths[glyph])
    return pikepdf.Array(parts)


def _to_unicode(letters: Mapping[bytes, bytes]) -> bytes:
    """A CMap from glyphs to text. Source: ISO 32000-1, 9.10.3."""
    lines = [
        b"/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap",
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(UCS)/Supplement 0>>def",
        b"/CMapName/Adobe-Identity-UCS def\n/CMapType 2 def",
        b"1 begincodespacerange\n<0000><ffff>\nendcodespacerange",
    ]
    pairs = [b"<%s><%s>" % pair for pair in sorted(letters.items())]
    for start in range(0, len(pairs), _MOST_LETTERS):
        block = pairs[start : start + _MOST_LETTERS]
        lines += [b"%d beginbfchar" % len(block), *block, b"endbfchar"]
    lines.append(b"endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend")
    return b"\n".join(lines)
