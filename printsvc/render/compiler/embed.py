"""The fonts of a compiled form as PDF objects, one set for each tier of each face."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Final

import uharfbuzz as hb

from printsvc.render.compiler import faces as faces_of
from printsvc.render.compiler.objects import ObjectTable
from printsvc.render.compiler.survey import Survey
from printsvc.render.fonts import font_bytes
from printsvc.render.stamp.compiled import Condition, Face, Page
from printsvc.render.template import FormLibrary

_TF: Final = re.compile(rb"/(\S+) (\S+) Tf")
_HEX: Final = re.compile(rb"<([0-9a-f]+)>")


def _static_glyphs(pages: Sequence[Page]) -> dict[str, set[int]]:
    """The glyphs of what is always the same, by font."""
    found: dict[str, set[int]] = {}
    for page in pages:
        for static in page.statics:
            glyphs: set[int] = set()
            for line in static.plain.split(b"\n"):
                if font := _TF.fullmatch(line):
                    glyphs = found.setdefault(font[1].decode(), set())
                elif line.endswith(b" TJ"):
                    for run in _HEX.findall(line):
                        glyphs.update(int(run[at : at + 4], 16) for at in range(0, len(run), 4))
    return found


def put_fonts(
    table: ObjectTable,
    fonts_number: int,
    library: FormLibrary,
    drawn: Survey,
    faces: Sequence[Face],
    pages: Sequence[Page],
) -> None:
    static = _static_glyphs(pages)
    fonts = {name: font for drawing in drawn.all() for name, font in drawing.fonts.items()}
    texts: dict[str, dict[int, str]] = {}
    for drawing in drawn.all():
        for name, font in drawing.fonts.items():
            texts.setdefault(name, {}).update(font.to_unicode)
    entries = []
    set_in = {face.name: face for face in faces}
    for name in sorted(static.keys() | set_in.keys()):
        number = table.number()
        entries.append(b"/%s %d 0 R" % (name.encode(), number))
        opened = hb.Face(hb.Blob(font_bytes(library._faces, faces_of.find_file(library._faces, fonts[name]).filename)))
        face = set_in.get(name)
        always = {glyph: texts[name][glyph] for glyph in static.get(name, set())}
        variants: list[tuple[Condition, str]] = [((), "")]
        if face is not None:
            variants = [
                (((face.axis, (tier,)),) if len(face.tiers) > 1 else (), characters)
                for tier, characters in enumerate(face.tiers)
            ]
        descendant, descriptor, file, unicode = (table.number() for _ in range(4))
        base_name = fonts[name].name
        for condition, characters in variants:
            shown = always | {faces_of.glyph_of(opened, c) or 0: c for c in characters}
            widths = {glyph: faces_of.width_of(opened, glyph) for glyph in shown}
            embedded = faces_of.font_file(opened, shown)
            table.put_stream(file, b"/Length1 %d/Filter/FlateDecode" % embedded.length, embedded.data, condition)
            cmap = faces_of.to_unicode(shown)
            table.put_stream(unicode, b"/Filter/FlateDecode", zlib.compress(cmap, 9), condition)
            table.put(
                number,
                b"<</Type/Font/Subtype/Type0/BaseFont%s/Encoding/Identity-H/DescendantFonts[%d 0 R]/ToUnicode %d 0 R>>"
                % (base_name, descendant, unicode),
                condition,
            )
            table.put(
                descendant,
                b"<</Type/Font/Subtype/CIDFontType2/BaseFont%s/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)"
                b"/Supplement 0>>/CIDToGIDMap/Identity/W%s/FontDescriptor %d 0 R>>"
                % (base_name, faces_of.widths_array(widths), descriptor),
                condition,
            )
            font = fonts[name]
            table.put(
                descriptor,
                b"<</Type/FontDescriptor/FontName%s/Flags %d/FontBBox[0 %d %d %d]/ItalicAngle %d/Ascent %d/Descent %d"
                b"/CapHeight %d/StemV %d/StemH %d/FontFile2 %d 0 R>>"
                % (base_name, font.flags, font.descent, max(widths.values()), font.ascent, font.italic_angle,
                   font.ascent, font.descent, font.ascent, font.stemv, font.stemh, file),
                condition,
            )  # fmt: skip
    table.put(fonts_number, b"<<" + b"".join(entries) + b">>")
