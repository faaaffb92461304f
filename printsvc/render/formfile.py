"""A form's `form.toml`: what the paper is, where its QR stands, and how each variable text may be fitted."""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from printsvc.domain.form import FormId
from printsvc.domain.seal import SealPlace
from printsvc.errors import FormError, RenderError

_POINTS_PER_INCH = 72
_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset(
        ("id", "version", "languages", "doses", "more_doses", "pages", "assets", "title", "size", "qr", "slots", "seal")
    ),
    "title": frozenset(("vi", "en")),
    "size": frozenset(("media", "width_pt", "height_pt")),
    "qr": frozenset(("level", "min_version", "max_version", "module_dots", "quiet_modules", "dpi", "places")),
    "qr.places": frozenset(("name", "left_dots", "top_dots", "side_dots", "max_version")),
    "seal": frozenset(("left_pt", "top_pt", "width_pt", "height_pt", "page")),
}
_SLOT_KEYS: Final = frozenset(("of", "sizes_pt", "max_lines", "required"))
MIN_SEAL_PT = 18
"""A seal of three lines that is less high could not be read."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A variable text of the form.

    `of` is where the text is in PageData, with `*` for any row: `rows.*.site`. `sizes_pt` are tried from the first on
    until the text fits its box in `max_lines` lines. `required` texts must not be empty.

    On a continuation page stand `more_rows.*.site` and, once a page, `sheets.*.full_name`; what is taken `of` a sheet
    stands only where there is such a page.
    """

    name: str
    of: str
    sizes_pt: tuple[float, ...]
    max_lines: int
    required: bool


@dataclass(frozen=True, slots=True)
class QrPlace:
    """A square for a QR with its quiet zone, in printer dots from the top left corner of the page."""

    name: str
    left_dots: int
    top_dots: int
    side_dots: int
    max_version: int


@dataclass(frozen=True, slots=True)
class QrSettings:
    """How the form's QR is drawn: a module is `module_dots` dots at `dpi`, so that no edge falls between two dots."""

    level: str
    min_version: int
    max_version: int
    module_dots: int
    quiet_modules: int
    dpi: int
    places: tuple[QrPlace, ...]

    @property
    def module_um(self) -> int:
        """The side of a module in micrometres."""
        return round(self.module_dots * 25_400 / self.dpi)

    def side_dots(self, version: int) -> int:
        """Return the side of a symbol without its quiet zone."""
        return (17 + 4 * version) * self.module_dots

    def points(self, dots: int) -> float:
        return dots * _POINTS_PER_INCH / self.dpi


@dataclass(frozen=True, slots=True)
class Form:
    """One version of a statutory layout.

    `media` is a PWG 5101.1 name, `doses` the rows of its dose table, `pages` the sides of one paper (a card has two),
    `more_doses` the rows of a continuation page, 0 for a form that has none. `seal` is where the digital copy shows
    its seal; None where there is no room. It is never on paper.
    """

    form_id: FormId
    version: str
    title_vi: str
    title_en: str
    languages: tuple[str, ...]
    media: str
    width_pt: float
    height_pt: float
    doses: int
    assets: tuple[str, ...]
    qr: QrSettings
    slots: Mapping[str, Slot]
    pages: int = 1
    more_doses: int = 0
    seal: SealPlace | None = None

    def slot_names(self, more_rows: int = 0) -> Iterator[str]:
        """Every slot by its full name: `rows.*.site` once for each row of the form, and so on for `more_rows` more."""
        sheets = self.sheets(more_rows)
        for name, slot in self.slots.items():
            numbers: Sequence[int]
            if slot.of.startswith("sheets.0.") and not sheets:
                continue
            if "*" not in name:
                yield name
                continue
            match name.partition(".")[0]:
                case "more_rows":
                    numbers = range(more_rows)
                case "sheets":
                    numbers = range(1, sheets)
                case _:
                    numbers = range(self.doses)
            yield from (name.replace("*", str(number)) for number in numbers)

    def sheets(self, more_rows: int) -> int:
        """Return how many papers the person's doses need; 0 where the first one holds them all."""
        return 1 + -(-more_rows // self.more_doses) if more_rows and self.more_doses else 0

    def rule(self, name: str) -> Slot:
        """Return what holds for the slot of that full name; KeyError if the form has none."""
        if name in self.slots:
            return self.slots[name]
        return self.slots[".".join("*" if part.isdigit() else part for part in name.split("."))]


def find_forms(templates_dir: Path) -> list[FormId]:
    """Return the ids of all forms, sorted."""
    return sorted(
        FormId(file.parent.relative_to(templates_dir).as_posix()) for file in templates_dir.glob("*/*/form.toml")
    )


def find_unfinished(templates_dir: Path) -> list[FormId]:
    """Return the ids, sorted, of the folders that stand where a form's folder stands and have no form.toml."""
    folders = (folder for folder in templates_dir.glob("*/*") if folder.is_dir())
    return sorted(
        FormId(folder.relative_to(templates_dir).as_posix())
        for folder in folders
        if not folder.name.startswith((".", "_"))
        and not folder.parent.name.startswith((".", "_"))
        and not (folder / "form.toml").exists()
    )


def read_form_text(folder: Path, form_id: str, name: str) -> str:
    """Return the text of one of the form's files; FormError if it is not there or is not UTF-8."""
    try:
        return (folder / name).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise broken_form(
            form_id,
            f"{name} is not UTF-8 from line {line} on: save it as UTF-8",
            vi=f"{name} không phải UTF-8 từ dòng {line}: hãy lưu tệp ở dạng UTF-8",
            file=name,
            line=line,
        ) from error
    except OSError as error:
        raise missing_file(form_id, name, error) from error


def missing_file(form_id: str, name: str, error: OSError | None = None) -> FormError:
    """Return the error of a file of the form that is not there, or that this user may not read."""
    if error is None or isinstance(error, FileNotFoundError):
        return broken_form(form_id, f"{name} is not there", vi=f"không có tệp {name}", file=name)
    why = error.strerror or type(error).__name__
    return broken_form(form_id, f"{name} cannot be read: {why}", vi=f"không đọc được {name}: {why}", file=name)


def read_sound_forms(templates_dir: Path) -> tuple[Form, ...]:
    """Return the forms that printed text is compared by; a broken one elsewhere in the folder stops nobody."""
    found = []
    for form_id in find_forms(templates_dir):
        with contextlib.suppress(RenderError):
            found.append(read_form(templates_dir / form_id, form_id))
    return tuple(found)


def read_form(folder: Path, form_id: FormId) -> Form:
    """Return the form in `folder`; FormError if its form.toml is missing, wrong or of another id."""
    text = read_form_text(folder, form_id, "form.toml")
    try:
        table = tomllib.loads(text)
        _check_keys(table, text, form_id)
        form = _form_of(table, text)
    except KeyError as error:
        missing = error.args[0]
        raise broken_form(form_id, f"it has no {missing}", vi=f"thiếu mục {missing}") from error
    except (ValueError, TypeError, AttributeError) as error:
        line = re.search(r"\(at line (\d+)", str(error))  # tomllib's
        raise broken_form(
            form_id, f"form.toml, {type(error).__name__}: {error}", line=int(line[1]) if line else 0
        ) from error
    if form.form_id != form_id:
        raise broken_form(form_id, f"it calls itself {form.form_id}")
    for slot in form.slots.values():
        if not slot.sizes_pt or list(slot.sizes_pt) != sorted(slot.sizes_pt, reverse=True) or slot.max_lines < 1:
            raise _broken_slot(
                form_id,
                text,
                slot.name,
                "sizes must fall, and there is at least one line",
                "các cỡ chữ phải giảm dần, và có ít nhất một dòng",
            )
    quiet = 2 * form.qr.quiet_modules * form.qr.module_dots
    for place in form.qr.places:
        if form.qr.side_dots(place.max_version) + quiet > place.side_dots:
            raise broken_form(
                form_id,
                f"the QR place {place.name} is too small for version {place.max_version}",
                vi=f"chỗ đặt mã QR {place.name} quá nhỏ cho phiên bản {place.max_version}",
                line=next((at for at, line in enumerate(text.splitlines(), 1) if f'"{place.name}"' in line), 0),
            )
    if form.seal is not None and not _is_inside(form, form.seal):
        raise broken_form(form_id, "the seal is not on the page")
    return form


def _check_keys(table: dict[str, Any], text: str, form_id: str) -> None:
    """FormError for the first key that nothing reads: a slip of the pen would be taken for "not said"."""
    for header, entry, known in _tables(table):
        for key in entry:
            if key in known:
                continue
            near = difflib.get_close_matches(key, known, 1)
            line = _line_of_key(text, header, key)
            slot = header.removeprefix("slots.") if header.startswith("slots.") else ""
            raise broken_form(
                form_id,
                f"there is no key {key} in [{header}]" + (f", but there is {near[0]}" if near else ""),
                vi=f"không có mục {key} trong [{header}]" + (f", nhưng có {near[0]}" if near else ""),
                line=line,
                slot=slot,
            )


def _tables(table: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], frozenset[str]]]:
    """Every table of a form.toml with its header's name and the keys that it may have."""
    yield "", table, _KEYS[""]
    for header in ("title", "size", "qr", "seal"):
        if isinstance(table.get(header), dict):
            yield header, table[header], _KEYS[header]
    qr, slots = table.get("qr"), table.get("slots")
    places = qr.get("places") if isinstance(qr, dict) else None
    for place in places if isinstance(places, list) else ():
        if isinstance(place, dict):
            yield "qr.places", place, _KEYS["qr.places"]
    for name, entry in slots.items() if isinstance(slots, dict) else ():
        if isinstance(entry, dict):
            yield f"slots.{name}", entry, _SLOT_KEYS


def _line_of_key(text: str, header: str, key: str) -> int:
    """Where a table of that name has the key, or the table itself begins; 0 where the text is written otherwise."""
    at, current = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        begun = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        if begun:
            current = re.sub(r"[\"']", "", begun[1])
            if current == f"{header}.{key}".lstrip("."):
                return number
            at = number if current == header and not at else at
        elif current == header and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return at


def read_chosen_form(templates_dir: Path, name: str) -> Form:
    """Return the form that a setting names; RenderError, with the forms that are there, if it is none; or FormError."""
    there = find_forms(templates_dir)
    if name not in there:
        listed = ", ".join(there) or "—"
        raise RenderError(
            f"There is no form {name}. There are: {listed}.", vi=f"Không có biểu mẫu {name}. Có: {listed}."
        )
    return read_form(templates_dir / name, FormId(name))


def _is_inside(form: Form, place: SealPlace) -> bool:
    return (
        1 <= place.page <= form.pages
        and min(place.left_pt, place.top_pt) >= 0
        and min(place.width_pt, place.height_pt) >= MIN_SEAL_PT
        and place.left_pt + place.width_pt <= form.width_pt
        and place.top_pt + place.height_pt <= form.height_pt
    )


def _broken_slot(form_id: str, text: str, name: str, why: str, vi: str) -> FormError:
    line = _line_of_key(text, f"slots.{name}", "")
    return broken_form(form_id, f"slot {name}: {why}", vi=f"ô {name}: {vi}", line=line, slot=name)


def _slot_of(name: str, entry: dict[str, Any], form_id: str, text: str) -> Slot:
    try:
        return Slot(
            name=name,
            of=str(entry.get("of", name)),
            sizes_pt=tuple(float(size_pt) for size_pt in entry["sizes_pt"]),
            max_lines=int(entry.get("max_lines", 1)),
            required=bool(entry.get("required", False)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken_slot(
            form_id,
            text,
            name,
            "sizes_pt is a list of numbers, and max_lines a number",
            "sizes_pt phải là danh sách số, và max_lines là một số",
        ) from error


def _form_of(table: dict[str, Any], text: str) -> Form:
    size, qr = table["size"], table["qr"]
    slots = {name: _slot_of(name, entry, table["id"], text) for name, entry in table["slots"].items()}
    return Form(
        form_id=FormId(table["id"]),
        version=table["version"],
        title_vi=table["title"]["vi"],
        title_en=table["title"]["en"],
        languages=tuple(table["languages"]),
        media=size["media"],
        width_pt=float(size["width_pt"]),
        height_pt=float(size["height_pt"]),
        doses=int(table["doses"]),
        assets=tuple(table.get("assets", ())),
        qr=QrSettings(
            level=qr["level"],
            min_version=int(qr["min_version"]),
            max_version=int(qr["max_version"]),
            module_dots=int(qr["module_dots"]),
            quiet_modules=int(qr["quiet_modules"]),
            dpi=int(qr["dpi"]),
            places=tuple(QrPlace(**place) for place in qr["places"]),
        ),
        slots=MappingProxyType(slots),
        pages=int(table.get("pages", 1)),
        more_doses=int(table.get("more_doses", 0)),
        seal=SealPlace(**table["seal"]) if "seal" in table else None,
    )


def broken_form(
    form_id: str, why: str, *, vi: str = "", file: str = "form.toml", line: int = 0, slot: str = ""
) -> FormError:
    """Return the error of a form whose own files are wrong: `why` is about them, never about anybody's data."""
    return FormError(
        f"The form {form_id} is broken: {why}.",
        vi=f"Biểu mẫu {form_id} bị lỗi: {vi or why}.",
        file=file,
        line=line,
        slot=slot,
    )
