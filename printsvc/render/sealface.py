"""What the seal looks like: a frame with a few lines, in a face of ours, the same bytes for the same words.

pyHanko's own text stamp subsets the font anew for every file, under a random name, for a fifth of a second. Here the
subset is made once for the letters that a seal can have.
"""

# pyHanko has types, but for the constructors of its PDF objects.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from fontTools import subset  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import pdf_name
from pyhanko.pdf_utils.writer import BasePdfFileWriter

_MARGIN_PT = 3.0
_MAX_SIZE_PT = 7.5
_LEADING = 1.35
_ANY_TIME = "0123456789/:.+- ()UTC"


@dataclass(frozen=True, slots=True)
class SealFace:
    """A subset of a TrueType face; widths, ascent and descent are in thousandths of the size."""

    font: bytes
    name: str
    glyphs: Mapping[str, int]
    widths: Mapping[str, int]
    box: tuple[int, int, int, int]
    ascent: int
    descent: int

    def width(self, text: str) -> int:
        return sum(self.widths.get(character, 0) for character in text)

    def encode(self, text: str) -> str:
        """Return the text as a Tj's operand; letters that the face lacks are left out."""
        return "<" + "".join(f"{self.glyphs[character]:04x}" for character in text if character in self.glyphs) + ">"


def make_face(font: bytes, texts: Iterable[str]) -> SealFace:
    """Return the face for these texts, and for any time; equal arguments give equal bytes."""
    return _make_face(font, "".join(sorted(set("".join(texts)) | set(_ANY_TIME))))


@cache
def _make_face(font: bytes, letters: str) -> SealFace:
    options = subset.Options(
        layout_features=[], hinting=False, notdef_outline=True, name_IDs=[6], recalc_timestamp=False
    )
    options.drop_tables += ["GPOS", "GDEF", "GSUB", "DSIG"]
    opened = TTFont(io.BytesIO(font), recalcTimestamp=False)
    subsetter = subset.Subsetter(options=options)
    subsetter.populate(text=letters)
    subsetter.subset(opened)
    written = io.BytesIO()
    opened.save(written)
    scale = 1000 / opened["head"].unitsPerEm
    names = {chr(code): name for code, name in opened.getBestCmap().items()}
    head, metrics = opened["head"], opened["hhea"]
    digest = hashlib.sha256(written.getvalue()).digest()
    prefix = "".join(chr(ord("A") + byte % 26) for byte in digest[:6])
    return SealFace(
        font=written.getvalue(),
        name=f"{prefix}+{opened['name'].getDebugName(6)}",
        glyphs={letter: opened.getGlyphID(name) for letter, name in names.items()},
        widths={letter: round(opened["hmtx"][name][0] * scale) for letter, name in names.items()},
        box=tuple(round(edge * scale) for edge in (head.xMin, head.yMin, head.xMax, head.yMax)),
        ascent=round(metrics.ascent * scale),
        descent=round(metrics.descent * scale),
    )


def draw_seal(
    writer: BasePdfFileWriter, face: SealFace, lines: Sequence[str], width_pt: float, height_pt: float
) -> generic.IndirectObject:
    """Add the appearance to a PDF and return it: the lines as large as they fit, in a thin frame."""
    widest = max(face.width(line) for line in lines)
    size = min(
        _MAX_SIZE_PT,
        (width_pt - 2 * _MARGIN_PT) * 1000 / widest,
        (height_pt - 2 * _MARGIN_PT) / (_LEADING * len(lines)),
    )
    top = (height_pt + len(lines) * _LEADING * size) / 2
    parts = [f"q 0.5 w 0 G 0.25 0.25 {width_pt - 0.5:.3f} {height_pt - 0.5:.3f} re S Q q BT 0 g /F {size:.3f} Tf"]
    for number, line in enumerate(lines):
        baseline = top - number * _LEADING * size - size
        parts.append(f"1 0 0 1 {_MARGIN_PT:.3f} {baseline:.3f} Tm {face.encode(line)} Tj")
    parts.append("ET Q")
    form = generic.StreamObject(
        dict_data={
            pdf_name("/Type"): pdf_name("/XObject"),
            pdf_name("/Subtype"): pdf_name("/Form"),
            pdf_name("/BBox"): _numbers(0, 0, width_pt, height_pt),
            pdf_name("/Resources"): generic.DictionaryObject(
                {pdf_name("/Font"): generic.DictionaryObject({pdf_name("/F"): _embed(writer, face)})}
            ),
        },
        stream_data="\n".join(parts).encode("ascii"),
    )
    form.compress()
    return writer.add_object(form)


def _embed(writer: BasePdfFileWriter, face: SealFace) -> generic.IndirectObject:
    file = generic.StreamObject(
        dict_data={pdf_name("/Length1"): generic.NumberObject(len(face.font))}, stream_data=face.font
    )
    file.compress()
    descriptor = generic.DictionaryObject(
        {
            pdf_name("/Type"): pdf_name("/FontDescriptor"),
            pdf_name("/FontName"): pdf_name("/" + face.name),
            pdf_name("/Flags"): generic.NumberObject(4),
            pdf_name("/FontBBox"): _numbers(*face.box),
            pdf_name("/ItalicAngle"): generic.NumberObject(0),
            pdf_name("/Ascent"): generic.NumberObject(face.ascent),
            pdf_name("/Descent"): generic.NumberObject(face.descent),
            pdf_name("/CapHeight"): generic.NumberObject(face.ascent),
            pdf_name("/StemV"): generic.NumberObject(80),
            pdf_name("/FontFile2"): writer.add_object(file),
        }
    )
    widths = generic.ArrayObject()
    for letter, glyph in sorted(face.glyphs.items(), key=lambda pair: pair[1]):
        widths += [generic.NumberObject(glyph), _numbers(face.widths[letter])]
    cid_font = generic.DictionaryObject(
        {
            pdf_name("/Type"): pdf_name("/Font"),
            pdf_name("/Subtype"): pdf_name("/CIDFontType2"),
            pdf_name("/BaseFont"): pdf_name("/" + face.name),
            pdf_name("/CIDSystemInfo"): generic.DictionaryObject(
                {
                    pdf_name("/Registry"): generic.pdf_string("Adobe"),
                    pdf_name("/Ordering"): generic.pdf_string("Identity"),
                    pdf_name("/Supplement"): generic.NumberObject(0),
                }
            ),
            pdf_name("/FontDescriptor"): writer.add_object(descriptor),
            pdf_name("/W"): widths,
            pdf_name("/CIDToGIDMap"): pdf_name("/Identity"),
        }
    )
    unicode_map = generic.StreamObject(stream_data=_unicode_map(face))
    unicode_map.compress()
    return writer.add_object(
        generic.DictionaryObject(
            {
                pdf_name("/Type"): pdf_name("/Font"),
                pdf_name("/Subtype"): pdf_name("/Type0"),
                pdf_name("/BaseFont"): pdf_name("/" + face.name),
                pdf_name("/Encoding"): pdf_name("/Identity-H"),
                pdf_name("/DescendantFonts"): generic.ArrayObject([writer.add_object(cid_font)]),
                pdf_name("/ToUnicode"): writer.add_object(unicode_map),
            }
        )
    )


def _unicode_map(face: SealFace) -> bytes:
    """Return a ToUnicode CMap (ISO 32000-1, 9.10.3), a hundred letters a block at most."""
    pairs = [
        f"<{glyph:04x}> <{letter.encode('utf-16be').hex()}>"
        for letter, glyph in sorted(face.glyphs.items(), key=lambda pair: pair[1])
    ]
    blocks = [pairs[start : start + 100] for start in range(0, len(pairs), 100)]
    lines = [
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
        "/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
        "1 begincodespacerange <0000> <ffff> endcodespacerange",
    ]
    for block in blocks:
        lines += [f"{len(block)} beginbfchar", *block, "endbfchar"]
    lines.append("endcmap CMapName currentdict /CMap defineresource pop end end")
    return "\n".join(lines).encode("ascii")


def _numbers(*values: float) -> generic.ArrayObject:
    return generic.ArrayObject(
        generic.NumberObject(value) if isinstance(value, int) else generic.FloatObject(f"{value:.3f}")
        for value in values
    )
