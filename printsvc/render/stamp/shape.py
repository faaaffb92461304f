"""Text to glyphs, with HarfBuzz and the form's own fonts, as Pango has it done for WeasyPrint.

Arithmetic (WeasyPrint 70, draw/text.py; Pango 1.50): lengths are in 1/1024 px; a glyph's width in the PDF is in whole
thousandths of the em, and what its advance falls short of that is written after it, cut to a whole number. With
ligatures off, an advance depends on the glyph and the next one alone: results are kept per pair of characters, and each
pair is checked for that before it is kept.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Final

import uharfbuzz as hb

from printsvc.render.stamp.compiled import Face, Slot
from printsvc.render.stamp.fontfile import FontFile, glyph_string
from printsvc.render.stamp.wayout import NeedsWeasyPrint

PER_PX: Final = 1024
_END: Final = "\0"
_KEPT_PAIRS: Final = 16_384  # of each face and size; Vietnamese names and places have some 3,000
_KEPT_STRETCHES: Final = 8_192
# Of these the first that the face has stands before and after a pair that is tried.
_PROBES: Final = "nN0"

_SCRIPTS: Final = {True: "Latn", False: "Zyyy"}  # with letters, and without
_MOST_PLAIN: Final = 64  # characters of an alphabet of which all pairs are tried

_Glyph = tuple[int, int]  # glyph id, advance in 1/1024 px


class Plain:
    """An alphabet each of whose characters is always set the same, whatever stands beside it, as digits mostly are.

    `pieces` are what each adds to a TJ, its advance, its bits.
    """

    def __init__(self, pieces: dict[str, tuple[str, int, int]]) -> None:
        self._operands = str.maketrans({character: piece for character, (piece, _, _) in pieces.items()})
        self._advances = {character: advance for character, (_, advance, _) in pieces.items()}
        self._bits = {character: bits for character, (_, _, bits) in pieces.items()}

    def set_line(self, text: str) -> tuple[str, int, int]:
        """Like `Typesetter.set_line`."""
        width = sum(map(self._advances.__getitem__, text))
        return _operand(text.translate(self._operands)), width, reduce(or_, map(self._bits.__getitem__, set(text)))


class Typesetter:
    """One face at one size in one language. `features` are OpenType's, as CSS turns them on and off.

    `codes` are, by glyph, what shows it and its bits in the set of glyphs that a file must have.
    """

    def __init__(
        self,
        font: hb.Face,
        widths: dict[int, int],
        units: int,
        language: str,
        features: dict[str, int],
        codes: dict[int, tuple[str, int]],
    ) -> None:
        self._font = hb.Font(font)
        self._font.scale = (units, units)
        self._units = units
        self._widths = widths
        self._codes = codes
        self._language = language
        self._features: dict[str, int | bool] = dict(features)
        self.probe = next((c for c in _PROBES if self._font.get_nominal_glyph(ord(c)) in widths), "")
        self._pairs = {is_latin: _Pairs(self, script) for is_latin, script in _SCRIPTS.items()}
        self._stretches = _Stretches(self._pairs[True])
        self._plain: dict[str, Plain | None] = {}

    def set_line(self, text: str) -> tuple[str, int, int]:
        """Return the operand of a TJ, without its brackets, the width in 1/1024 px, and the set of glyphs."""
        is_latin = any(map(str.isalpha, text))
        if text.isascii() or not is_latin:  # numbers and codes, whose words hardly come again
            pairs = self._pairs[is_latin]
            found = [*map(pairs.__getitem__, pairwise(text + _END))]
        else:
            stretches = self._stretches
            before, *words = text.split(" ")
            found = []
            for word in words:
                found.append(stretches[f"{before} {word[:1] or ' '}"])
                before = word
            found.append(stretches[before + _END])
        pieces, advances, bits = zip(*found, strict=True)
        return _operand("".join(pieces)), sum(advances), reduce(or_, bits)

    def plain(self, alphabet: str) -> Plain | None:
        """Return what sets texts of that alphabet character by character, None where neighbours matter.

        All pairs are shaped in one text, so that each has others about it, too.
        """
        if alphabet not in self._plain:
            self._plain[alphabet] = self._make_plain(alphabet) if len(alphabet) <= _MOST_PLAIN else None
        return self._plain[alphabet]

    def _make_plain(self, alphabet: str) -> Plain | None:
        pairs = "".join([one + other for one in alphabet for other in alphabet])
        found: dict[str, _Glyph] = {}
        try:
            for script in self._pairs:
                for text in (pairs, *alphabet):
                    glyphs = self.shape(text, _SCRIPTS[script])
                    if len(glyphs) != len(text) or any(
                        found.setdefault(character, glyph) != glyph
                        for character, glyph in zip(text, glyphs, strict=True)
                    ):
                        return None
        except NeedsWeasyPrint:
            return None
        if any(unicodedata.category(character)[0] == "M" for character in alphabet):
            return None
        return Plain({character: self.piece(*glyph) for character, glyph in found.items()})

    def measure(self, words: Sequence[str]) -> list[tuple[int, int, int]]:
        """Return each word's width at a line's end, that before a space, and that of both up to the next word.

        The words are of letters alone; of the last one all three are its width.
        """
        stretches, pairs = self._stretches, self._pairs[True]
        widths = []
        for word, following in pairwise(words):
            _, both, _ = stretches[f"{word} {following[0]}"]
            widths.append((stretches[word + _END][1], both - pairs[" ", following[0]][1], both))
        _, last, _ = stretches[words[-1] + _END]
        return [*widths, (last, last, last)]

    def advances(self, text: str) -> list[int]:
        """Return each character's advance, the last one's as at a line's end."""
        pairs = self._pairs[any(map(str.isalpha, text))]
        return [pairs[pair][1] for pair in zip(text, text[1:] + _END, strict=True)]

    def set_exactly(self, text: str) -> tuple[str, int]:
        """Return what WeasyPrint itself writes: the same places, with every zero, and shaped as a whole."""
        glyphs = self.shape(text, _SCRIPTS[any(map(str.isalpha, text))])
        body = "<"
        for glyph, advance in glyphs:
            missing = self._shortfall(glyph, advance)
            body += f"{glyph:04x}" + (f">{int(missing)}<" if missing else "")
        return (body[:-1] if body.endswith("<") else body + ">"), sum(advance for _, advance in glyphs)

    def shape(self, text: str, script: str) -> list[_Glyph]:
        """Return the glyphs of the whole text; NeedsWeasyPrint where one is lacking or stands off the line."""
        buffer = hb.Buffer()
        buffer.add_str(text)
        buffer.direction = "ltr"
        buffer.script = script
        buffer.language = self._language
        hb.shape(self._font, buffer, self._features)
        for position in buffer.glyph_positions:
            if position.x_offset or position.y_offset:
                raise NeedsWeasyPrint("offset")
        glyphs = [
            (info.codepoint, p.x_advance) for info, p in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True)
        ]
        if any(glyph not in self._widths for glyph, _ in glyphs):
            raise NeedsWeasyPrint("glyph")
        return glyphs

    def piece(self, glyph: int, advance: int) -> tuple[str, int, int]:
        """Return what the glyph adds to a TJ, its advance, its bits."""
        missing = int(self._shortfall(glyph, advance))
        shown, bits = self._codes[glyph]
        return (f"{shown}){missing}(" if missing else shown), advance, bits

    def _shortfall(self, glyph: int, advance: int) -> float:
        # In WeasyPrint's own order of operations: the last bit counts where the result is cut.
        return self._widths[glyph] - advance * 1000 * (1 / PER_PX) / (self._units / PER_PX)


class _Pairs(dict[tuple[str, str], tuple[str, int, int]]):
    """(character, the next one) to what the first one adds to the TJ, its advance, its bits."""

    def __init__(self, setter: Typesetter, script: str) -> None:
        super().__init__()
        self._setter = setter
        self._script = script

    def __missing__(self, pair: tuple[str, str]) -> tuple[str, int, int]:
        text = pair[0] + (pair[1] if pair[1] != _END else "")
        if any(unicodedata.category(character)[0] == "M" for character in text):
            raise NeedsWeasyPrint("mark")
        alone = self._setter.shape(text, self._script)
        probe = self._setter.probe
        # In between others it must be the same, or it takes more than two to know.
        between = self._setter.shape(f"{probe}{text}{probe}", self._script)
        if not probe or len(alone) != len(text) or len(between) != len(text) + 2:
            raise NeedsWeasyPrint("ligature")
        if [glyph for glyph, _ in between[1:-1]] != [glyph for glyph, _ in alone]:
            raise NeedsWeasyPrint("context")
        if len(text) == 2 and between[1] != alone[0]:
            raise NeedsWeasyPrint("context")
        glyph, advance = alone[0]
        if len(self) >= _KEPT_PAIRS:
            self.clear()
        found = self[pair] = self._setter.piece(glyph, advance)
        return found


class _Stretches(dict[str, tuple[str, int, int]]):
    """A word, its space and the next character, to what word and space add to a TJ, their advance, their bits."""

    def __init__(self, pairs: _Pairs) -> None:
        super().__init__()
        self._pairs = pairs

    def __missing__(self, text: str) -> tuple[str, int, int]:
        if text == _END:  # after a space at the end
            return "", 0, 0
        pieces, advances, bits = zip(*map(self._pairs.__getitem__, pairwise(text)), strict=True)
        found = "".join(pieces), sum(advances), reduce(or_, bits)
        if text[:-2].isalpha():  # names come again; numbers and codes hardly do
            if len(self) >= _KEPT_STRETCHES:
                self.clear()
            self[text] = found
        return found


def _operand(pieces: str) -> str:
    body = f"({pieces})"
    # A shift after the last glyph, and no bracket that is one.
    return body[:-2] if body.endswith("()") and body[-3] != "\\" else body


def open_face(face: Face) -> hb.Face:
    return hb.Face(hb.Blob(face.shaping))


def typesetters(
    faces: tuple[Face, ...], slots: tuple[Slot, ...], files: Sequence[FontFile]
) -> dict[tuple[int, int, str, object], Typesetter]:
    """Return one for each face, size, language and features that slots are set in."""
    opened = [open_face(face) for face in faces]
    widths = [dict(face.widths) for face in faces]
    codes = [
        {glyph: (glyph_string(code), files[face.program].bits(code)) for glyph, code in face.codes} for face in faces
    ]
    return {
        key: Typesetter(opened[key[0]], widths[key[0]], key[1], slot.language, dict(slot.features), codes[key[0]])
        for slot in slots
        for size in slot.sizes
        for key in [(size.face, size.units, slot.language, slot.features)]
    }
