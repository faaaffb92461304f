"""Which size a text gets in its slot and where its lines break, as WeasyPrint and `fit.py` would have it.

Where the two could differ (a line as wide as its box but for a hair, a word that could be broken inside) nothing is
guessed: NeedsWeasyPrint.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from printsvc.render.stamp.compiled import Size, Slot
from printsvc.render.stamp.shape import PER_PX, Typesetter
from printsvc.render.stamp.wayout import NeedsWeasyPrint

# Both compare whole 1/1024 px; nearer than this the last bit of a float would tell.
_TOO_NEAR: Final = 2
CLOSE: Final = 2 * _TOO_NEAR  # what is wider than `widest` by less neither surely fits nor surely does not
# What is known of line breaking (UAX #14 as Pango 1.50 has it) besides letters, digits and spaces.
_KNOWN: Final = frozenset("-/.,:;'()&+<#•@=*_")
# The last two end a UVCI: its check character may be a stroke or a colon.
_KNOWN_PAIRS: Final = frozenset(("<<", "••", "),", ").", "#/", "#:"))
_NEVER_FIRST: Final = frozenset("/.,:;)")


class Line(NamedTuple):
    """A line's text as a TJ's operand, and the place of its first glyph, in px from the page's top left corner.

    `glyphs` is the set of those that the font file must have.
    """

    text: str
    body: str
    width: int
    x: float
    y: float
    glyphs: int


def lay_out(slot: Slot, text: str, setters: Sequence[Typesetter]) -> tuple[Size, list[Line]]:
    """Return the first size at which the whole text fits, and its lines; `setters` are those of the slot's sizes."""
    for size, setter in zip(slot.sizes, setters, strict=True):
        if not size.lines:
            continue
        body, width, glyphs = setter.set_line(text)
        available = int(size.width * PER_PX)
        if width <= widest(size):
            return size, [place_line(slot, size, 0, text, body, width, glyphs)]
        if width < available + _TOO_NEAR:
            raise NeedsWeasyPrint("close", slot.name)
        if size.lines == 1:
            continue
        lines = _break(slot, text, setter, size.lines, available)
        if lines is not None:
            return size, [
                place_line(slot, size, number, line, *setter.set_line(line)) for number, line in enumerate(lines)
            ]
    raise NeedsWeasyPrint("too_long", slot.name)


def widest(size: Size) -> int:
    """Return how wide a line may be, in 1/1024 px, that surely stands in one."""
    return int(size.width * PER_PX) - _TOO_NEAR


def place_line(slot: Slot, size: Size, number: int, text: str, body: str, width: int, glyphs: int = 0) -> Line:
    """Return the line of that number, its first being 0."""
    y = size.baseline
    for _ in range(number):
        y += size.line_height
    return Line(text, body, width, size.left + (size.width - width / PER_PX) * slot.align, y, glyphs)


def break_points(text: str) -> list[int] | None:
    """Return where a line may begin, 0 among them; None if that is not sure."""
    points = [0]
    for at, character in enumerate(text):
        if not character.isalnum() and character != " " and character not in _KNOWN:
            return None
        if at and character != " ":
            last, before = text[at - 1], text[at - 2] if at > 1 else " "
            if last == " ":
                if before == "'" or character == "'" or before == "(":
                    return None  # quotes and brackets bind over spaces
                if character not in _NEVER_FIRST:
                    points.append(at)
            elif not character.isalnum():
                if not last.isalnum() and last + character not in _KNOWN_PAIRS:
                    return None
            elif last == "-":
                if not before.isalnum():
                    return None
                if character.isalpha():
                    points.append(at)
            elif last in "/.,:;":
                if not before.isalnum():
                    return None
                # A number goes on after its point or stroke; a word ends at a stroke.
                if before.isalpha() if character.isdigit() else last == "/":
                    points.append(at)
    return points


def _break(slot: Slot, text: str, setter: Typesetter, most: int, available: int) -> list[str] | None:
    """The lines, each as long as may be; None if they are more than `most`."""
    words = text.split(" ")
    parts = _words(words, setter) if all(map(str.isalpha, words)) else _parts(text, setter)
    if parts is None:
        if sum(setter.advances(text)) > 1.2 * most * available:
            return None
        raise NeedsWeasyPrint("break", slot.name)
    whole = parts[-1].alone
    lines: list[str] = []
    begin = parts[0]
    end = 0
    for part in parts:
        width = part.alone - begin.left
        # Pango measures the word in its paragraph, kerned to what follows; WeasyPrint measures the line alone.
        in_paragraph = part.followed - begin.left
        if min(width, in_paragraph) <= available + _TOO_NEAR and max(width, in_paragraph) >= available - _TOO_NEAR:
            raise NeedsWeasyPrint("close", slot.name)
        if width > available:
            if part is not begin:
                lines.append(text[begin.begin : end])
                if len(lines) == most:
                    return None
                begin = part
                width = part.alone - begin.left
            if width > available - _TOO_NEAR:
                if whole - begin.left > (most - len(lines)) * available:
                    return None
                raise NeedsWeasyPrint("word_too_long", slot.name)
        end = part.end
    lines.append(text[begin.begin :])
    return lines


class _Part(NamedTuple):
    """What stands on one line: text[begin:end], from `left` on to `alone` at a line's end, to `followed` before more.

    Lengths are from the first part's left.
    """

    begin: int
    end: int
    left: int
    alone: int
    followed: int


def _words(words: Sequence[str], setter: Typesetter) -> list[_Part]:
    """The parts of a text of letters and spaces, as names are: its words."""
    parts = []
    at = left = 0
    for word, (alone, followed, both) in zip(words, setter.measure(words), strict=True):
        parts.append(_Part(at, at + len(word), left, left + alone, left + followed))
        at += len(word) + 1
        left += both
    return parts


def _parts(text: str, setter: Typesetter) -> list[_Part] | None:
    """The parts of any text; None where it is not sure where they begin."""
    points = break_points(text)
    if points is None:
        return None
    sums = [0, *accumulate(setter.advances(text))]
    parts = []
    for at, following in pairwise([*points, len(text)]):
        stop = following if following == len(text) or text[following - 1] != " " else following - 1
        last = setter.advances(text[stop - 1])[0]
        parts.append(_Part(at, stop, sums[at], sums[stop - 1] + last, sums[stop]))
    return parts
