"""A form's sample: whether it is shaped as a page's data are, and every kind of page that is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from printsvc.domain.form import DoseRow, PageData
from printsvc.render.formfile import Form

_ROWS: Final = ("rows", "more_rows")
_ROW_TEXTS: Final = tuple(name for name in DoseRow.__annotations__ if name != "attested")
_TEXTS: Final = tuple(name for name in PageData.__annotations__ if name not in (*_ROWS, "uvci_groups", "copy_number"))


def find_misshapen(page: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each field that is there and is not what PageData says: its name, and why in Vietnamese and English."""
    for name in _TEXTS:
        if not isinstance(page.get(name, ""), str):
            yield name, f"Mục {name} phải là chữ.", f"The field {name} is a text."
    groups, number = page["uvci_groups"], page["copy_number"]
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        yield "uvci_groups", "Mục uvci_groups phải là danh sách chữ.", "The field uvci_groups is a list of texts."
    if not isinstance(number, int) or isinstance(number, bool):
        yield "copy_number", "Mục copy_number phải là số nguyên.", "The field copy_number is a whole number."
    for name in _ROWS:
        rows = page.get(name, [])
        if not isinstance(rows, list) or not all(_is_row(row) or (row is None and name == "rows") for row in rows):
            texts = ", ".join(_ROW_TEXTS)
            vi = f"Mục {name} là danh sách dòng; mỗi dòng có {texts} (chữ) và attested (true hoặc false)."
            en = f"The field {name} is a list of rows; each has {texts} (texts) and attested (true or false)."
            yield name, vi, en


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(name), str) for name in _ROW_TEXTS)
        and isinstance(row.get("attested"), bool)
    )


def variants_of(form: Form, sample: PageData) -> Iterator[PageData]:
    """Every kind of page, with the texts of the sample."""
    used = next((row for row in sample["rows"] if row), None)
    yield sample
    yield changed_page(sample, copy_number=2)
    required = {slot.of for slot in form.slots.values() if slot.required}
    fields = {slot.of for slot in form.slots.values()} - required
    yield changed_page(
        sample, **{name: "" for name, value in sample.items() if name in fields and isinstance(value, str)}
    )
    if used is None:
        return
    full = [used | {"attested": number == 0} for number in range(form.doses)]
    yield changed_page(sample, rows=[full[0], *[None] * (form.doses - 1)])
    yield changed_page(sample, rows=full)
    if form.more_doses:
        yield changed_page(sample, rows=full, more_rows=[used | {"attested": False}] * (form.more_doses + 1))


def changed_page(page: PageData, **values: Any) -> PageData:
    return cast(PageData, {**page, **values})
