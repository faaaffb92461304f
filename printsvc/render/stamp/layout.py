"""Which size a text gets in its slot and where its lines break, as WeasyPrint and `fit.py` would have it.

Where the two could differ (a line as wide as its box but for a hair, a word that could be broken inside) nothing is
guessed: NeedsWeasyPrint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from printsvc.render.stamp.compiled import Size, Slot
from printsvc.render.stamp.shape import PER_PX, Typesetter
from printsvc.render.stamp.wayout import NeedsWeasyPrint

# Both compare whole 1/1024 px; nearer than this the last bit of a float would tell.
_TOO_NEAR: Final = 2
# Between these a line breaks only at a space (UAX #14: AL, NU, IS, QU, OP and CL, but for their odd pairs).
_UNBROKEN: Final = frozenset(".,'()")


@dataclass(frozen=True, slots=True)
class Line:
    """A line's text as a TJ's operand, and the place of its first glyph, in px from the page's top left corner."""

    text: str
    body: str
    width: int
    x: float
    y: float


def lay_out(slot: Slot, text: str, setters: Sequence[Typesetter]) -> tuple[Size, list[Line]]:
    """Return the first size at which the whole text fits, and its lines; `setters` are those of the slot's sizes."""
    for size, setter in zip(slot.sizes, setters, strict=True):
        if not size.lines:
            continue
        body, width = setter.set_line(text)
        available = int(size.width * PER_PX)
        if width <= available - _TOO_NEAR:
            return size, [place_line(slot, size, 0, text, body, width)]
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


def place_line(slot: Slot, size: Size, number: int, text: str, body: str, width: int) -> Line:
    """Return the line of that number, its first being 0."""
    y = size.baseline
    for _ in range(number):
        y += size.line_height
    return Line(text, body, width, size.left + (size.width - width / PER_PX) * slot.align, y)


def _break(slot: Slot, text: str, setter: Typesetter, most: int, available: int) -> list[str] | None:
    """The lines, each as long as may be; None if they are more than `most`."""
    words = text.split(" ")
    advances = setter.advances(text)
    sums = [0]
    for advance in advances:
        sums.append(sums[-1] + advance)
    lines: list[str] = []
    begin = at = 0  # of the line; of the word
    end = -1  # where the line would end without the word
    for word in words:
        stop = at + len(word)
        width = _width(setter, sums, text, begin, stop)
        # Pango measures the word in its paragraph, kerned to the space after it; WeasyPrint measures the line alone.
        in_paragraph = sums[stop] - sums[begin]
        if min(width, in_paragraph) <= available + _TOO_NEAR and max(width, in_paragraph) >= available - _TOO_NEAR:
            raise NeedsWeasyPrint("close", slot.name)
        if width > available:
            if end < 0:
                if sums[-1] - sums[begin] > most * available:
                    return None
                raise NeedsWeasyPrint("word_too_long", slot.name)
            lines.append(text[begin:end])
            if len(lines) == most:
                return None
            if not all(character.isalnum() or character in _UNBROKEN for character in word):
                raise NeedsWeasyPrint("break_inside", slot.name)
            begin = at
            if _width(setter, sums, text, begin, stop) > available - _TOO_NEAR:
                if sums[-1] - sums[begin] > (most - len(lines)) * available:
                    return None
                raise NeedsWeasyPrint("word_too_long", slot.name)
        end = stop
        at = stop + 1
    lines.append(text[begin:])
    return lines


def _width(setter: Typesetter, sums: Sequence[int], text: str, begin: int, end: int) -> int:
    """The width of text[begin:end] on a line of its own."""
    return sums[end - 1] - sums[begin] + setter.advances(text[end - 1])[0]
