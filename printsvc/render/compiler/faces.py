"""The fonts of a compiled form: subset once, glyph ids kept, one file a tier of characters."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import uharfbuzz as hb

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
_CORE: Final = _UPPER + _UPPER.lower() + _DIGITS + " .,-/():'"

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


@dataclass(frozen=True, slots=True)
class FontFile:
    """A subset for embedding: compressed, with the length of what it holds."""

    data: bytes
    length: int


def tiers_of(wanted: set[str], sample: set[str]) -> list[set[str]]:
    """Return the sets of characters that a file may come with, a small one first, all that are wanted last.

    Names are in capitals, sites and authorities are not: few certificates need both of a face. What the form's own
    sample holds is in all of them.
    """
    core = wanted & (set(_CORE) | sample)
    upper = {character for character in _VIETNAMESE if character.isupper()} & wanted
    lower = {character for character in _VIETNAMESE if character.islower()} & wanted
    tiers = [core, core | upper, core | lower, core | upper | lower, wanted]
    return [tier for index, tier in enumerate(tiers) if tier not in tiers[index + 1 :]]


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


def font_file(face: hb.Face, glyphs: Iterable[int]) -> FontFile:
    """Return the font with these glyphs, under their own ids."""
    flags = hb.SubsetFlags.RETAIN_GIDS | hb.SubsetFlags.NO_HINTING | hb.SubsetFlags.DESUBROUTINIZE
    given = _input(flags, _FILE_DROPS)
    given.sets(hb.SubsetInputSets.GLYPH_INDEX).update(glyphs)
    data = bytes(hb.subset(face, given).blob.data)
    return FontFile(zlib.compress(data, 9), len(data))


def _input(flags: hb.SubsetFlags, drops: Sequence[str]) -> hb.SubsetInput:
    given = hb.SubsetInput()
    given.flags = flags
    given.sets(hb.SubsetInputSets.DROP_TABLE_TAG).update({int.from_bytes(tag.encode()) for tag in drops})
    return given


def widths_array(widths: Mapping[int, int]) -> bytes:
    """Return a CIDFont's /W: runs of neighbours."""
    out = []
    for glyph in sorted(widths):
        out.append((b" " if glyph - 1 in widths else b"]%d[" % glyph) + b"%d" % widths[glyph])
    return b"[" + b"".join(out)[1:] + b"]]"


def to_unicode(texts: Mapping[int, str]) -> bytes:
    """Return a ToUnicode CMap, uncompressed."""
    lines = [
        b"/CIDInit /ProcSet findresource begin", b"12 dict begin", b"begincmap",
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(UCS)/Supplement 0>>def", b"/CMapName/Adobe-Identity-UCS def",
        b"/CMapType 2 def", b"1 begincodespacerange", b"<0000><ffff>", b"endcodespacerange",
    ]  # fmt: skip
    items = sorted(texts.items())
    for start in range(0, len(items), 100):
        some = items[start : start + 100]
        lines.append(b"%d beginbfchar" % len(some))
        lines += [b"<%04x><%s>" % (glyph, text.encode("utf-16-be").hex().encode()) for glyph, text in some]
        lines.append(b"endbfchar")
    lines += [b"endcmap", b"CMapName currentdict /CMap defineresource pop", b"end", b"end"]
    return b"\n".join(lines)


def find_file(faces: Sequence[Any], font: Any) -> Any:
    """Return the FontFace that a font of WeasyPrint's was read from; ValueError if there is none."""
    style = "normal" if font.style == 0 else "italic"
    for face in faces:
        if (face.family, face.weight, face.style) == (font.family, int(font.weight), style):
            return face
    raise ValueError(f"{font.family} {font.weight} {style} is no face of the manifest")
