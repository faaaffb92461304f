"""The fonts of a compiled form as PDF objects: all that does not depend on which glyphs a certificate shows."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import deflate
import uharfbuzz as hb

from printsvc.render.compiler import faces as faces_of
from printsvc.render.compiler.objects import ObjectTable
from printsvc.render.compiler.survey import Survey
from printsvc.render.fonts import font_bytes
from printsvc.render.stamp.compiled import Face, FontProgram, Page, Static
from printsvc.render.stamp.fontfile import BEST, FontFile, glyph_string
from printsvc.render.template import FormLibrary

_TF: Final = re.compile(rb"/(\S+) (\S+) Tf")
_PACKED: Final = b"/Filter/FlateDecode"
_HEX: Final = re.compile(rb"<([0-9a-f]+)>")


@dataclass(frozen=True, slots=True)
class Fonts:
    """What stands in a compiled form of them: the faces of slots, the programs, and the pages in the new codes."""

    faces: tuple[Face, ...]
    programs: tuple[FontProgram, ...]
    pages: tuple[Page, ...]


def put_fonts(
    table: ObjectTable,
    fonts_number: int,
    library: FormLibrary,
    drawn: Survey,
    faces: Sequence[Face],
    wanted: Mapping[str, set[str]],
    pages: Sequence[Page],
) -> Fonts:
    """Put the fonts among the objects, and return what changes by them; `wanted` is what slots may show, by face."""
    static: dict[str, set[int]] = {}  # of any variant, and of all
    common: dict[str, set[int]] = {}
    for page in pages:
        for stretch in page.statics:
            for name, glyph in _list_glyphs(stretch.plain):
                static.setdefault(name, set()).add(glyph)
                if not stretch.condition:
                    common.setdefault(name, set()).add(glyph)
    fonts = {name: font for drawing in drawn.all() for name, font in drawing.fonts.items()}
    texts: dict[str, dict[int, str]] = {}
    for drawing in drawn.all():
        for name, font in drawing.fonts.items():
            texts.setdefault(name, {}).update(font.to_unicode)
    set_in = {face.name: index for index, face in enumerate(faces)}
    names = sorted(static.keys() | set_in.keys())
    opened = {
        name: hb.Face(hb.Blob(font_bytes(library._faces, faces_of.find_file(library._faces, fonts[name]).filename)))
        for name in names
    }
    shown = {name: {glyph: texts[name][glyph] for glyph in static.get(name, ())} for name in names}
    for name, characters in wanted.items():
        for character in sorted(characters):
            shown[name].setdefault(faces_of.glyph_of(opened[name], character) or 0, character)
    always = {name: common.get(name, set()) for name in names}
    numbering = faces_of.number_glyphs((opened[name], shown[name], always[name]) for name in names)
    finished, entries = list(faces), []
    programs: list[FontProgram] = []
    codes: dict[str, Mapping[int, int]] = {}
    indices: dict[str, int] = {}
    tables: dict[bytes, int] = {}  # what texts say, by object
    for name in names:
        number = table.number()
        entries.append(b"/%s %d 0 R" % (name.encode(), number))
        font = faces_of.take_apart(opened[name], shown[name], always[name], numbering)
        codes[name] = font.codes
        unicode = faces_of.to_unicode(font.texts)
        if unicode not in tables:
            tables[unicode] = table.number()
            table.put_stream(tables[unicode], _PACKED, bytes(deflate.zlib_compress(unicode, BEST)))
        file = _put_font(table, number, font, fonts[name], opened[name], tables[unicode])
        program = _program(file, font, numbering.fixed, always[name])
        if shown[name].keys() == always[name]:
            table.streams.append((file, FontFile(program).streams([0])[0]))
            continue
        if name in set_in:
            index = set_in[name]
            finished[index] = replace(
                faces[index],
                codes=tuple((glyph, font.codes[glyph]) for glyph, _ in faces[index].widths),
                program=len(programs),
            )
        indices[name] = len(programs)
        programs.append(program)
    table.put(fonts_number, b"<<" + b"".join(entries) + b">>")
    recoded = tuple(
        replace(
            page,
            statics=tuple(_recode(one, codes, indices) for one in page.statics),
        )
        for page in pages
    )
    return Fonts(tuple(finished), tuple(programs), recoded)


def _put_font(
    table: ObjectTable, number: int, font: faces_of.TrueType, weasyprints: Any, face: hb.Face, unicode: int
) -> int:
    """Put a font's objects, the font itself as `number`; return the number of its file."""
    descendant, descriptor, file = (table.number() for _ in range(3))
    widths: list[int | None] = [None] * len(font.texts)
    for glyph, code in font.codes.items():
        widths[code] = faces_of.width_of(face, glyph)
    base_name = weasyprints.name
    widest = max(width for width in widths if width is not None)
    table.put(
        number,
        b"<</Type/Font/Subtype/Type0/BaseFont%s/Encoding/Identity-H/DescendantFonts[%d 0 R]/ToUnicode %d 0 R>>"
        % (base_name, descendant, unicode),
    )
    table.put(
        descendant,
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont%s/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)"
        b"/Supplement 0>>/CIDToGIDMap/Identity/W%s/FontDescriptor %d 0 R>>"
        % (base_name, faces_of.widths_array(widths), descriptor),
    )
    table.put(
        descriptor,
        b"<</Type/FontDescriptor/FontName%s/Flags %d/FontBBox[0 %d %d %d]/ItalicAngle %d/Ascent %d/Descent %d"
        b"/CapHeight %d/StemV %d/StemH %d/FontFile2 %d 0 R>>"
        % (base_name, weasyprints.flags, weasyprints.descent, widest, weasyprints.ascent,
           weasyprints.italic_angle, weasyprints.ascent, weasyprints.descent, weasyprints.ascent, weasyprints.stemv,
           weasyprints.stemh, file),
    )  # fmt: skip
    return file


def _program(number: int, font: faces_of.TrueType, fixed: int, always: Iterable[int]) -> FontProgram:
    characters = tuple(
        (code, ord(font.texts[code])) for code in sorted(font.codes.values()) if len(font.texts[code]) == 1
    )
    return FontProgram(
        number=number,
        fixed=fixed,
        always=tuple(sorted(font.codes[glyph] for glyph in always)),
        head=font.head,
        tables=font.tables,
        lead=_deflate_open(b"".join([*(data for _, data in font.tables), *font.outlines[:fixed]])),
        outlines=font.outlines,
        parts=tuple(sorted(font.parts.items())),
        metrics=font.metrics,
        characters=characters,
    )


def _deflate_open(plain: bytes) -> bytes:
    """Raw deflate blocks after which others may follow; they end on a byte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    return packer.compress(plain) + packer.flush(zlib.Z_SYNC_FLUSH)


def _list_glyphs(content: bytes) -> Iterator[tuple[str, int]]:
    """The fonts and glyphs of the text in it; a font holds until the next one, as each text names its own."""
    name = ""
    for line in content.split(b"\n"):
        if font := _TF.fullmatch(line):
            name = font[1].decode()
        elif line.endswith(b" TJ"):
            for run in _HEX.findall(line):
                for at in range(0, len(run), 4):
                    yield name, int(run[at : at + 4], 16)


def _recode(static: Static, codes: Mapping[str, Mapping[int, int]], programs: Mapping[str, int]) -> Static:
    """The same with glyphs by their numbers in the files of the form, and which of them each program must have."""
    out: list[bytes] = []
    mine: Mapping[int, int] = {}
    shown: dict[int, set[int]] = {}
    there: set[int] = set()
    for line in static.plain.split(b"\n"):
        if font := _TF.fullmatch(line):
            name = font[1].decode()
            mine = codes[name]
            there = shown.setdefault(programs[name], set()) if name in programs else set()
        elif line.endswith(b" TJ"):
            there.update(mine[int(run[at : at + 4], 16)] for run in _HEX.findall(line) for at in range(0, len(run), 4))
            plain = line.replace(b">0<", b"").replace(b">0]", b">]")
            line = _HEX.sub(partial(_shown, codes=mine), plain)
        out.append(line)
    return Static(
        static.condition,
        b"\n".join(out),
        tuple((program, tuple(sorted(glyphs))) for program, glyphs in sorted(shown.items()) if glyphs),
    )


def _shown(run: re.Match[bytes], codes: Mapping[int, int]) -> bytes:
    glyphs = (codes[int(run[1][at : at + 4], 16)] for at in range(0, len(run[1]), 4))
    return b"(%s)" % "".join(map(glyph_string, glyphs)).encode("latin-1")
