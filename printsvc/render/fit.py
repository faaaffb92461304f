"""Whether the texts of a laid-out page fit their boxes, and which size to try next where they do not.

What is measured is the layout itself, so there is no second opinion on widths. WeasyPrint's box tree has no public
name; this is the one module that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any, Final

from printsvc.render.formfile import Form, Slot

# Layout is in floating point: what stands out by less than this is no overflow.
_TOLERANCE_PX: Final = 0.05


def find_tight(form: Form, document: Any, shown: Set[str], fit: Mapping[str, int]) -> dict[str, int | None]:
    """Return the slots whose text does not fit its box, each with the index of the next size to try, or None.

    `fit` has the index of each slot's present size. ValueError if the page's slots are not the `shown` ones.
    """
    from weasyprint.formatting_structure.boxes import LineBox, TextBox

    boxes: dict[str, Any] = {}
    for page in document.pages:
        for box in page._page_box.descendants(placeholders=True):
            name = None if box.element is None else box.element.get("data-slot")
            if name is not None:
                boxes.setdefault(name, box)  # the slot's own box comes before those inside it
    if boxes.keys() != shown:
        raise ValueError("the page's slots are not those of its form.toml")

    tight: dict[str, int | None] = {}
    for name, box in boxes.items():
        slot = form.rule(name)
        lines = [child for child in box.children if isinstance(child, LineBox)]
        texts = [text for line in lines for text in line.descendants() if isinstance(text, TextBox)]
        left, right = box.content_box_x() - _TOLERANCE_PX, box.content_box_x() + box.width + _TOLERANCE_PX
        bottom = box.content_box_y() + box.height + _TOLERANCE_PX
        fits = (
            len(lines) <= slot.max_lines
            and all(left <= text.position_x and text.position_x + text.width <= right for text in texts)
            and all(line.position_y + line.height <= bottom for line in lines)
        )
        if not fits:
            tight[name] = _next_fit(slot, fit[name], box, sum(text.width for text in texts), lines[0].height)
    return tight


def _next_fit(slot: Slot, index: int, box: Any, length_px: float, line_px: float) -> int | None:
    """The next size at which the whole text may fit, however it is broken: all lengths grow with the size.

    The last size is always tried.
    """
    last = len(slot.sizes_pt) - 1
    if index == last:
        return None
    for candidate in range(index + 1, last):
        scale = slot.sizes_pt[candidate] / slot.sizes_pt[index]
        lines = max(1, math.ceil((length_px * scale - _TOLERANCE_PX) / box.width))
        if lines <= slot.max_lines and lines * line_px * scale <= box.height + _TOLERANCE_PX:
            return candidate
    return last
