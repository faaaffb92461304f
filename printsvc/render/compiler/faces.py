"""The fonts of a compiled form: what HarfBuzz shapes with, and TrueType files cut down to what the form may show."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import uharfbuzz as hb
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

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
    """A font file taken apart. Glyphs have new numbers, those of `codes` by the old ones.

    `texts` is what each number shows, whether this font has a glyph there or not. The rest is as `FontProgram` has it.
    """

    codes: Mapping[int, int]
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


@dataclass(frozen=True, slots=True)
class Numbering:
    """Numbers of glyphs that the fonts of a form have in common, so that one table tells what their texts say.

    0 is .notdef. Then come the texts of `first`, of glyphs that are always in a file; `spare` places for glyphs without
    a text that are; and the texts of `every` glyph there may be. A font has a glyph in one of its two places.
    """

    first: tuple[str, ...]
    spare: int
    every: tuple[str, ...]

    @property
    def fixed(self) -> int:
        """How many numbers are those of glyphs that are always there."""
        return 1 + len(self.first) + self.spare

    @property
    def texts(self) -> list[str]:
        return ["", *self.first, *[""] * self.spare, *self.every]


def number_glyphs(fonts: Iterable[tuple[hb.Face, Mapping[int, str], Set[int]]]) -> Numbering:
    """Return the numbering for these fonts, each with what its glyphs show and those that are always there."""
    first: set[str] = set()
    every: set[str] = set()
    spare = 0
    for face, texts, always in fonts:
        there = always | _components(face, always)
        first |= {texts[glyph] for glyph in there if glyph in texts}
        every |= set(texts.values())
        spare = max(spare, sum(glyph not in texts for glyph in there))
    # In the order of their code points, so that tables which lead from one to the other are of ranges.
    return Numbering(tuple(sorted(first)), spare, tuple(sorted(every)))


def _open(face: hb.Face, glyphs: Iterable[int]) -> TTFont:
    """The font with these glyphs, under their own numbers."""
    given = _input(hb.SubsetFlags.RETAIN_GIDS | hb.SubsetFlags.NO_HINTING, _FILE_DROPS)
    given.sets(hb.SubsetInputSets.GLYPH_INDEX).update(glyphs)
    font = TTFont(io.BytesIO(bytes(hb.subset(face, given).blob.data)), recalcBBoxes=False, recalcTimestamp=False)
    font.setGlyphOrder([f"g{glyph}" for glyph in range(font["maxp"].numGlyphs)])
    return font


def _components(face: hb.Face, glyphs: Iterable[int]) -> set[int]:
    return {part for some in _parts(_open(face, glyphs), glyphs).values() for part in some}


def _parts(font: TTFont, glyphs: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """The glyphs of which composite ones consist."""
    table = font["glyf"]
    found = {
        glyph: tuple(int(part.glyphName[1:]) for part in table[f"g{glyph}"].components)
        for glyph in glyphs
        if table[f"g{glyph}"].isComposite()
    }
    if any(table[f"g{part}"].isComposite() for some in found.values() for part in some):
        raise ValueError("a composite glyph of composite glyphs")
    return found


def take_apart(face: hb.Face, texts: Mapping[int, str], always: Set[int], numbering: Numbering) -> TrueType:
    """Return the font with the glyphs of `texts` (by glyph, what each shows) in those places."""
    font = _open(face, texts)
    table = font["glyf"]
    font["hmtx"], font["hhea"], font["head"]  # all that is read by name, before names change
    parts = _parts(font, texts)
    there = {0} | always | {part for glyph in always for part in parts.get(glyph, ())}
    glyphs = {0, *texts, *(part for some in parts.values() for part in some)}
    shown = numbering.texts
    first = {text: code for code, text in enumerate(numbering.first, 1)}
    every = {text: code for code, text in enumerate(numbering.every, numbering.fixed)}
    spare = iter(range(1 + len(first), numbering.fixed))
    codes = {0: 0}
    for glyph in sorted(glyphs - {0}):
        places = first if glyph in there else every
        code = places.pop(texts[glyph], None) if glyph in texts else next(spare) if glyph in there else None
        if code is None:  # a part of others, or a second glyph of one text
            code = len(shown)
            shown.append(texts.get(glyph, ""))
        codes[glyph] = code
    order: list[int | None] = [None] * len(shown)
    for glyph, code in codes.items():
        order[code] = glyph
    font.setGlyphOrder([f"none{code}" if glyph is None else f"g{glyph}" for code, glyph in enumerate(order)])
    outlines = tuple(
        b"" if glyph is None else _aligned(bytes(table[f"g{glyph}"].compile(table, recalcBBoxes=False)))
        for glyph in order
    )
    both = [(0, 0) if glyph is None else font["hmtx"][f"g{glyph}"] for glyph in order]
    head, maxp, hhea = font["head"], font["maxp"], font["hhea"]
    head.indexToLocFormat, head.checkSumAdjustment = 0, 0
    maxp.numGlyphs = hhea.numberOfHMetrics = len(order)
    return TrueType(
        codes=codes,
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


def widths_array(widths: Sequence[int | None]) -> bytes:
    """Return a CIDFont's /W for the widths of glyphs 0, 1, 2…, None where there is none: then any will do."""
    known = [width for width in widths if width is not None]
    last = known[0]
    filled = [last := last if width is None else width for width in widths]
    out: list[bytes] = []
    code, listed = 0, False
    for width, run in groupby(filled):
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
    ranges: list[tuple[int, str, int]] = []  # the first code, its text, how many
    for code, text in enumerate(texts):
        if not text:
            continue
        begin, first, count = ranges[-1] if ranges else (code, "", 0)
        # A range is within codes of one high byte, and so are the characters (ISO 32000-1, 9.10.3).
        goes_on = len(first) == len(text) == 1 and ord(text) == ord(first) + count and ord(text) % 256
        if goes_on and code == begin + count and code % 256:
            ranges[-1] = begin, first, count + 1
        else:
            ranges.append((code, text, 1))
    lines = [
        b"/CIDInit /ProcSet findresource begin", b"12 dict begin", b"begincmap",
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(UCS)/Supplement 0>>def", b"/CMapName/Adobe-Identity-UCS def",
        b"/CMapType 2 def", b"1 begincodespacerange", b"<0000><ffff>", b"endcodespacerange",
    ]  # fmt: skip
    for at in range(0, len(ranges), 100):
        some = ranges[at : at + 100]
        lines.append(b"%d beginbfrange" % len(some))
        lines += [
            b"<%04x><%04x><%s>" % (begin, begin + count - 1, text.encode("utf-16-be").hex().encode())
            for begin, text, count in some
        ]
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
