"""Whether what is variable on a form's page stands clear of what else is: slots of one another, a QR on its dots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from printsvc.render.formfile import Form, QrPlace
from printsvc.render.pagedoc import Box

_MM_PER_POINT: Final = 25.4 / 72
_TOUCH_PT: Final = 0.5 / _MM_PER_POINT
# Half of a line's leading is above its letters and half below (docs/forms.md: it is 1.35 at least): a box may reach
# that far into the next one, and no letter is touched.
_HALF_LEADING: Final = 0.175


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two slots, by their full names, whose boxes share a rectangle of that size."""

    first: str
    second: str
    width_mm: float
    height_mm: float


def find_overlaps(form: Form, boxes: Sequence[tuple[str, int, Box]], shown: Mapping[str, str]) -> Iterator[Overlap]:
    """Yield the slots of one page that stand on one another; `shown` has their texts, and an empty one covers nothing.

    `boxes` are those of `boxes_of`: name, page, and place in points. What only touches, by half a millimetre, passes.
    """
    seen = [entry for entry in boxes if shown.get(entry[0], "").strip()]
    for (first, page, one), (second, other_page, other) in combinations(seen, 2):
        if page != other_page or first == second:
            continue
        width = min(one[2], other[2]) - max(one[0], other[0])
        height = min(one[3], other[3]) - max(one[1], other[1])
        leading = _HALF_LEADING * (form.rule(first).sizes_pt[0] + form.rule(second).sizes_pt[0])
        if width > _TOUCH_PT and height > max(_TOUCH_PT, leading):
            yield Overlap(first, second, width * _MM_PER_POINT, height * _MM_PER_POINT)


def holds_symbol(place: QrPlace, box: Box, scale: float) -> bool:
    """Return whether the picture stands in the middle of the place, on its dots; `scale` is points a dot."""
    left, top, right, bottom = (value / scale for value in box)
    inset = (place.side_dots - (right - left)) / 2
    return (
        abs(left - place.left_dots - inset) < 0.6
        and abs(top - place.top_dots - inset) < 0.6
        and all(abs(value - round(value)) < 0.02 for value in (left, top, right, bottom))
    )
