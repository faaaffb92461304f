"""The fonts of a compiled form: what HarfBuzz shapes with, and TrueType files cut down to what the form may show."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import uharfbuzz as hb
from fontTools.ttLib import TTFont

_VIETNAMESE: Final = "ÀÁÂÃÈÉÊÌÍÒÓÔÕÙÚÝàáâãèéêìíòóôõùúýĂăĐđĨĩŨũƠơƯư" + "".join(map(chr, range(0x1EA0, 0x1EFA)))
_ASCII: Final = "".join(map(chr, range(32, 127)))
_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS: Final = "0123456789"
TEXT: Final = (
    _ASCII
    + _VIETNAMESE
    + "–—•·…‘’“”"
    + "".join(map(chr, (*range(0xC0, 0xD7), *range(0xD8, 0xF7), *range(0xF8, 0x180))))
)
# What a field of PageData may hold; any other text may hold all of TEXT.
ALPHABETS: Final = {
    "name_line": _UPPER + "<",
    "uvci_groups": _UPPER + _DIGITS + ":/#.- ",
    "copy_number": _DIGITS,
    "dose_number": _DIGITS,
    "doses_received": _DIGITS + "/",
    "id_masked": _UPPER + _DIGITS + "•",
    "phone_masked": _DIGITS + "•+ ",
    **dict.fromkeys(("date", "date_of_birth", "injected_on", "issued_on", "expires_on"), _DIGITS + "/-"),
}

_SHAPING_DROPS: Final = ("glyf", "loca", "cvt ", "fpgm", "prep", "DSIG", "STAT", "gasp", "meta", "name", "post", "OS/2")
_FILE_DROPS: Final = ("GSUB", "GPOS", "GDEF", "BASE", "DSIG", "STAT", "kern", "gasp", "meta", "name", "OS/2", "post")
_CMAP_BMP: Final = (3, 1)


@dataclass(frozen=True, slots=True)
class TrueType:
    """A font file taken apart. Glyphs have new numbers, those of `codes` by the old ones; 0 is .notdef.

    `fixed` of them come first. `texts` is what each number shows, also those of which there is no glyph: they stand for
    one of the first, where it would be if it had no place of its own, so that few ranges tell what a text says.
    The rest is as `FontProgram` has it.
    """

    codes: Mapping[int, int]
    fixed: int
    texts: tuple[str, ...]
    outlines: tuple[bytes, ...]
    parts: Mapping[int, tuple[int, ...]]
    metrics: bytes
    head: bytes
    tables: tuple[tuple[str, bytes], ...]


def glyph_of(face: hb.Face, character: str) -> int | None:
    return hb.Font(face).get_nominal_glyph(ord(character)) or None


def width_of(face: hb.Face, glyph: int) -> int:
    """Return the advance in thousandths of the em, rounded as WeasyPrint does."""
    width: int = round(hb.Font(face).get_glyph_h_advance(glyph) * 1000 / face.upem)
    return width


def shaping_font(face: hb.Face, characters: Iterable[str]) -> bytes:
    """Return what HarfBuzz needs to set these characters: metrics and layout, no outlines; glyph ids stay."""
    given = _input(hb.SubsetFlags.RETAIN_GIDS | hb.SubsetFlags.NO_HINTING, _SHAPING_DROPS)
    given.sets(hb.SubsetInputSets.UNICODE).update(map(ord, characters))
    every_feature = given.sets(hb.SubsetInputSets.LAYOUT_FEATURE_TAG)
    every_feature.clear()
    every_feature.invert()
    return bytes(hb.subset(face, given).blob.data)


def take_apart(face: hb.Face, texts: Mapping[int, str], first: Iterable[int]) -> TrueType:
    """Return the font with the glyphs of `texts` (by glyph, what each shows), those of `first` coming first.

    Otherwise they stand in the order of what they show, so that few ranges tell a reader what the text says.
    """
    flags = hb.SubsetFlags.RETAIN_GIDS | hb.SubsetFlags.NO_HINTING
    given = _input(flags, _FILE_DROPS)
    given.sets(hb.SubsetInputSets.GLYPH_INDEX).update(texts)
    font = TTFont(io.BytesIO(bytes(hb.subset(face, given).blob.data)), recalcBBoxes=False, recalcTimestamp=False)
    names = [f"g{glyph}" for glyph in range(font["maxp"].numGlyphs)]
    font.setGlyphOrder(names)
    table = font["glyf"]
    font["hmtx"], font["hhea"], font["head"]  # all that is read by name, before names change
    composite = {glyph for glyph in texts if table[names[glyph]].isComposite()}
    parts = {glyph: tuple(int(part.glyphName[1:]) for part in table[names[glyph]].components) for glyph in composite}
    if any(table[names[part]].isComposite() for some in parts.values() for part in some):
        raise ValueError("a composite glyph of composite glyphs")
    always = {0, *first}
    always |= {part for glyph in always for part in parts.get(glyph, ())}
    every = texts.keys() | {part for some in parts.values() for part in some} | always

    def by_text(glyphs: Iterable[int]) -> list[int]:
        return sorted(glyphs, key=lambda glyph: (glyph != 0, texts.get(glyph, "\uffff"), glyph))

    order: list[int | None] = [*by_text(always)]
    shown = [texts.get(glyph, "") for glyph in by_text(always)]
    for glyph in by_text(every):
        if glyph not in always:
            order.append(glyph)
            shown.append(texts.get(glyph, ""))
        elif glyph in texts:
            order.append(None)
            shown.append(texts[glyph])
    while order[-1] is None:
        del order[-1], shown[-1]
    codes = {glyph: code for code, glyph in enumerate(order) if glyph is not None}
    font.setGlyphOrder([f"none{code}" if glyph is None else names[glyph] for code, glyph in enumerate(order)])
    outlines = tuple(
        b"" if glyph is None else _aligned(bytes(table[names[glyph]].compile(table, recalcBBoxes=False)))
        for glyph in order
    )
    both = [(0, 0) if glyph is None else font["hmtx"][names[glyph]] for glyph in order]
    head, maxp, hhea = font["head"], font["maxp"], font["hhea"]
    head.indexToLocFormat, head.checkSumAdjustment = 0, 0
    maxp.numGlyphs = hhea.numberOfHMetrics = len(order)
    return TrueType(
        codes=codes,
        fixed=len(always),
        texts=tuple(shown),
        outlines=outlines,
        parts={codes[glyph]: tuple(codes[part] for part in some) for glyph, some in parts.items()},
        metrics=b"".join(advance.to_bytes(2) + bearing.to_bytes(2, signed=True) for advance, bearing in both),
        head=bytes(head.compile(font)),
        tables=tuple((tag, _aligned(bytes(font[tag].compile(font)))) for tag in ("hhea", "maxp")),
    )


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _input(flags: hb.SubsetFlags, drops: Sequence[str]) -> hb.SubsetInput:
    given = hb.SubsetInput()
    given.flags = flags
    given.sets(hb.SubsetInputSets.DROP_TABLE_TAG).update({int.from_bytes(tag.encode()) for tag in drops})
    return given


def widths_array(widths: Sequence[int]) -> bytes:
    """Return a CIDFont's /W for the widths of glyphs 0, 1, 2…: a range where three neighbours are alike."""
    out: list[bytes] = []
    code, listed = 0, False
    for width, run in groupby(widths):
        count = len(list(run))
        if count > 2:
            out.append((b"]" if listed else b"") + b" %d %d %d" % (code, code + count - 1, width))
            listed = False
        else:
            out.append(b" %d" % width * count if listed else b" %d[" % code + (b" %d" % width * count)[1:])
            listed = True
        code += count
    return b"[" + b"".join(out)[1:] + (b"]]" if listed else b"]")


def to_unicode(texts: Sequence[str]) -> bytes:
    """Return a ToUnicode CMap for what glyphs 0, 1, 2… show ("": nothing), uncompressed."""
    ranges: list[list[int | str]] = []
    for code, text in enumerate(texts):
        if not text:
            continue
        # A range goes on while neither its codes nor its characters pass a multiple of 256 (ISO 32000-1, 9.10.3).
        if ranges and code % 256 and len(text) == 1 and ranges[-1][1] == code - 1:
            begin, _, start = ranges[-1]
            assert isinstance(begin, int)
            assert isinstance(start, str)
            if len(start) == 1 and ord(text) == ord(start) + code - begin and ord(text) % 256:
                ranges[-1][1] = code
                continue
        ranges.append([code, code, text])
    lines = [
        b"/CIDInit /ProcSet findresource begin", b"12 dict begin", b"begincmap",
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(UCS)/Supplement 0>>def", b"/CMapName/Adobe-Identity-UCS def",
        b"/CMapType 2 def", b"1 begincodespacerange", b"<0000><ffff>", b"endcodespacerange",
    ]  # fmt: skip
    for at in range(0, len(ranges), 100):
        some = ranges[at : at + 100]
        lines.append(b"%d beginbfrange" % len(some))
        lines += [b"<%04x><%04x><%s>" % (b, e, str(t).encode("utf-16-be").hex().encode()) for b, e, t in some]
        lines.append(b"endbfrange")
    lines += [b"endcmap", b"CMapName currentdict /CMap defineresource pop", b"end", b"end"]
    return b"\n".join(lines)


def find_file(faces: Sequence[Any], font: Any) -> Any:
    """Return the FontFace that a font of WeasyPrint's was read from; ValueError if there is none."""
    style = "normal" if font.style == 0 else "italic"
    for face in faces:
        if (face.family, face.weight, face.style) == (font.family, int(font.weight), style):
            return face
    raise ValueError(f"{font.family} {font.weight} {style} is no face of the manifest")
