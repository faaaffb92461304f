"""The pages that a form is compiled from: each slot with a short text, each axis once with each of its values."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from printsvc.domain.form import PageData, fit_rows
from printsvc.render.compiler.faces import ALPHABETS
from printsvc.render.fastqr import alphanumeric_capacity
from printsvc.render.formfile import Form
from printsvc.render.stamp.axes import COPY, COPY_VALUES, FILLED, FILLED_VALUES, QR, ROW, ROW_VALUES
from printsvc.render.stamp.compiled import Axis

Path = tuple[str | int, ...]

# Of two widths, so that an alignment shows; letters where a slot takes no digits.
SHORT: Final = "1A"
LONGER: Final = "18AV"
_ROW_FIELDS: Final = ("label", "date", "product", "manufacturer", "lot", "site")


def slot_paths(form: Form) -> dict[str, Path]:
    """Return where each slot's text is; slots of continuation pages are not among them."""
    paths: dict[str, Path] = {}
    for name in form.slot_names():
        slot = form.rule(name)
        source = name if "*" in slot.of else slot.of
        paths[name] = tuple(int(part) if part.isdigit() else part for part in source.split("."))
    return paths


def list_axes(form: Form, paths: dict[str, Path]) -> list[Axis]:
    """Return all ways in which the form may vary, in the order in which a page is read."""
    axes = [Axis(ROW, str(row), ROW_VALUES) for row in range(form.doses)]
    axes.append(Axis(COPY, "", COPY_VALUES))
    fields = dict.fromkeys(str(path[0]) for path in paths.values() if len(path) == 1)
    required = {str(paths[name][0]) for name in paths if form.rule(name).required}
    axes += [Axis(FILLED, field, FILLED_VALUES) for field in fields if field not in required and field != "copy_number"]
    versions = tuple(str(version) for version in range(form.qr.min_version, form.qr.max_version + 1))
    return [*axes, Axis(QR, "", versions)]


def base_page(form: Form, sample: PageData, paths: dict[str, Path], text: str = SHORT) -> PageData:
    """Return the page with each axis at its first value and `text` in every slot, but for the copy's number."""
    page = cast(dict[str, Any], copy.deepcopy(fit_rows(sample, form.doses)))
    row = {field: _taken(field, text) for field in _ROW_FIELDS} | {"attested": False}
    page["rows"] = [dict(row) for _ in range(form.doses)]
    page["more_rows"] = []
    page["qr"] = "0" * 10
    for path in paths.values():
        if len(path) == 1:
            mine = _taken(str(path[0]), text)
            page[str(path[0])] = [mine] if isinstance(page[str(path[0])], list) else mine
    page["copy_number"] = 1
    return cast(PageData, page)


def _taken(field: str, text: str) -> str:
    """As much of the text as the field may hold."""
    alphabet = ALPHABETS.get(field, text)
    return "".join(character for character in text if character in alphabet)


def text_at(page: PageData, path: Path) -> str:
    """Return the text that a slot of that path shows."""
    value: Any = page
    for part in path:
        value = value[part]
    return " ".join(value) if isinstance(value, list) else str(value)


def with_value(form: Form, page: PageData, axis: Axis, value: str) -> PageData:
    """Return the page with one axis at another value."""
    changed = cast(dict[str, Any], copy.deepcopy(page))
    if axis.kind == ROW:
        row = changed["rows"][int(axis.subject)]
        changed["rows"][int(axis.subject)] = None if value == "unused" else row | {"attested": value == "attested"}
    elif axis.kind == COPY:
        changed["copy_number"] = 2
    elif axis.kind == FILLED:
        changed[axis.subject] = [] if isinstance(changed[axis.subject], list) else ""
    elif axis.kind == QR:
        changed["qr"] = "0" * alphanumeric_capacity(form.qr.level, int(value))
    return cast(PageData, changed)


def without_unknown(form: Form, page: PageData) -> PageData:
    """Return the page with everything empty that may be unknown of a dose."""
    changed = cast(dict[str, Any], copy.deepcopy(page))
    for row in changed["rows"]:
        row |= {
            field: ""
            for field in _ROW_FIELDS
            if f"rows.*.{field}" in form.slots and not form.slots[f"rows.*.{field}"].required
        }
    return cast(PageData, changed)


def probes(form: Form, page: PageData, axes: list[Axis]) -> Iterator[PageData]:
    """Yield pages with several axes off their first value at once: what the merged form must still draw.

    Any two values of two axes stand on one of them together, so that no page depends on a pair unseen. Of the QR's
    versions only the last one is asked for here: places come and go with its size, and each was drawn by itself.
    """
    choices = [(0, len(axis.values) - 1) if axis.kind == QR else tuple(range(len(axis.values))) for axis in axes]
    unseen = {
        ((one, value), (other, beside))
        for one, other in itertools.combinations(range(len(axes)), 2)
        for value in choices[one]
        for beside in choices[other]
        if value and beside  # one axis alone off its first value is what the form was merged from
    }
    while unseen:
        taken = dict(min(unseen))
        for index, values in enumerate(choices):
            if index not in taken:
                # Towards the values that were seen with the others least often; a later one where it is all the same.
                met = {value: len(unseen & set(_pairs(index, value, taken))) for value in values}
                taken[index] = max(values, key=lambda value: (met[value], value))
        unseen -= set(itertools.combinations(sorted(taken.items()), 2))
        probe = page
        for index, value in sorted(taken.items()):
            if value:
                probe = with_value(form, probe, axes[index], axes[index].values[value])
        yield probe


def _pairs(index: int, value: int, taken: Mapping[int, int]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The pairs of one axis's value with the others'."""
    for other, beside in taken.items():
        yield ((index, value), (other, beside)) if index < other else ((other, beside), (index, value))
