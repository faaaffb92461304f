"""Which variant of a form a page wants: read off the page, axis by axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from printsvc.render.stamp.compiled import Axis, Condition

ROW: Final = "row"  # subject: its index; used, unused or attested
COPY: Final = "copy"  # first or again
FILLED: Final = "filled"  # subject: a field of PageData that may be empty; filled or empty
QR: Final = "qr"  # the version
SIZE: Final = "size"  # subject: a slot that is painted at another time at another size; matters to `content` only

ROW_VALUES: Final = ("used", "unused", "attested")
COPY_VALUES: Final = ("first", "again")
FILLED_VALUES: Final = ("filled", "empty")


def read_axes(axes: Sequence[Axis], page: Mapping[str, Any], version: int) -> list[int]:
    """Return the index of each axis's value; of a slot's size the first, for texts are not laid out yet.

    ValueError if the form has no such variant.
    """
    return [_value(axis, page, version) for axis in axes]


def _value(axis: Axis, page: Mapping[str, Any], version: int) -> int:
    kind = axis.kind
    if kind == ROW:
        row = page["rows"][int(axis.subject)]
        return 1 if row is None else 2 if row["attested"] else 0
    if kind == QR:
        return axis.values.index(str(version))
    if kind == COPY:
        return 1 if page["copy_number"] > 1 else 0
    if kind == FILLED:
        return 0 if page[axis.subject] else 1
    return 0


def holds(condition: Condition, values: Sequence[int]) -> bool:
    return all(values[axis] in allowed for axis, allowed in condition)
