"""What is wrong with a form, for the person who makes it: each finding with its file, line and slot, in both languages.

A form that passes draws every kind of page: all rows used and one, a reprint, every field empty that may be, and more
doses than its table holds. What it cannot tell is whether the paper looks right: look at it (`printsvc forms preview`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from printsvc.domain.form import DoseRow, FormId, PageData, fit_rows
from printsvc.errors import FormError, InputError, PrintsvcError, RenderError
from printsvc.render.compiler import compile_form
from printsvc.render.fastqr import alphanumeric_capacity
from printsvc.render.formfile import Form, QrPlace, read_form, read_form_text
from printsvc.render.formplaces import find_overlaps, holds_symbol
from printsvc.render.formsample import changed_page, find_misshapen, variants_of
from printsvc.render.formstyle import (
    check_braces,
    check_colours,
    check_fonts,
    check_loads,
    check_outside,
    engine_warnings,
    own_families,
    split_warning,
)
from printsvc.render.pagedoc import PageScan, boxes_of, draw_pages, is_tagged, scan_html
from printsvc.render.pagesyntax import check_syntax, line_of_slot
from printsvc.render.scan import read_codes
from printsvc.render.template import FormLibrary

_LEVELS: Final = "LMQH"
_QUIET_MODULES: Final = 4
_POINTS_PER_INCH: Final = 72
_INK: Final = 128  # darker than that is ink on a 1-bit printer
_MODULE_MM: Final = 0.35  # below it, readers fail often (docs/forms.md)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong; `line` counts from 1 and is 0 where it is about the whole file, `slot` is empty for no slot."""

    file: str
    line: int
    slot: str
    code: str
    vi: str
    en: str


def check_form(library: FormLibrary, form_id: FormId) -> list[Finding]:
    """Return all that is wrong with the form; nothing for a sound one. NotFoundError if there is none of that id."""
    if form_id in library.unfinished_ids():
        return [
            Finding(
                "form.toml",
                0,
                "",
                "missing",
                "Thư mục này không có form.toml, nên chưa phải là biểu mẫu: hãy thêm tệp, hoặc bỏ thư mục.",
                "This folder has no form.toml, and so is no form: write one, or take the folder away.",
            )
        ]
    check = _Check(library, form_id)
    with engine_warnings() as warnings:
        check.run(warnings)
    return check.findings()


def check_compiling(library: FormLibrary, form_id: FormId) -> list[Finding]:
    """Return why the stamp cannot draw the form, nothing if it can. It takes half a minute, and nothing is kept."""
    try:
        compile_form(library, form_id)
    except FormError as error:
        return [Finding(error.file, error.line, error.slot, "compile", error.vi, error.en)]
    except RenderError as error:
        return [Finding("page.html", 0, "", "compile", error.vi, error.en)]
    return []


class _Check:
    def __init__(self, library: FormLibrary, form_id: FormId) -> None:
        self.library = library
        self.form_id = form_id
        self.folder = library.folder(form_id)
        self.found: dict[tuple[str, str, str, str], Finding] = {}
        self.texts = {name: _read(self.folder / name) for name in ("form.toml", "page.html", "style.css")}

    def run(self, warnings: list[str]) -> None:
        """Look at everything; `warnings` are the layout engine's, as they come."""
        self.check_texts()
        self.library.forget(self.form_id)  # what was loaded before has been warned of before
        try:
            self.check_assets("style.css", read_form(self.folder, self.form_id).assets)
            form = self.library.form(self.form_id)
        except RenderError as error:
            self.add_unreadable(error)
            return
        self.add_warnings("style.css", warnings, self.library.face_count)
        warnings.clear()
        for name in form.assets:
            self.check_outside(name, _read(self.folder / Path(name).name))
        self.check_qr(form)
        self.check_sources(form)
        sample = None if self.found else self.sample(form)
        if sample is not None:
            for page in variants_of(form, sample):
                self.check_slots(form, page)
            self.check_assets("page.html", form.assets)
            if not self.found:
                self.check_drawn(form, sample)
        self.check_conditions(form)
        self.add_warnings("page.html", warnings)

    def findings(self) -> list[Finding]:
        return sorted(self.found.values(), key=lambda one: (one.file, one.line, one.slot, one.code))

    def add(self, file: str, line: int, code: str, vi: str, en: str, *, slot: str = "") -> None:
        self.found.setdefault((file, slot, code, en), Finding(file, line, slot, code, vi, en))

    # --- what is written

    def check_texts(self) -> None:
        own = own_families(self.texts["style.css"])
        for fault in check_braces(self.texts["style.css"]):
            self.add("style.css", fault.line, fault.code, fault.vi, fault.en)
        for name in ("page.html", "style.css"):
            for fault in check_fonts(self.texts[name], self.library.families, own=own):
                self.add(name, fault.line, fault.code, fault.vi, fault.en)
            self.check_outside(name, self.texts[name])
            for fault in check_colours(self.texts[name]):
                self.add(name, fault.line, fault.code, fault.vi, fault.en)

    def check_conditions(self, form: Form) -> None:
        """The page depends on data in no way that a stamp could not know of."""
        told = {one.line for one in self.found.values() if one.file == "page.html"}
        for misuse in check_syntax(self.texts["page.html"], form):
            if misuse.line not in told:
                self.add("page.html", misuse.line, "condition", misuse.vi, misuse.en)

    def check_assets(self, name: str, assets: tuple[str, ...]) -> None:
        """Whatever is asked for by `form:FILE` is among the assets, and no font."""
        for fault in check_loads(self.texts[name], assets):
            self.add(name, fault.line, fault.code, fault.vi, fault.en)

    def check_outside(self, name: str, text: str) -> None:
        for fault in check_outside(text):
            self.add(name, fault.line, fault.code, fault.vi, fault.en)

    def check_qr(self, form: Form) -> None:
        qr, file = form.qr, "form.toml"
        if qr.level not in _LEVELS or not 1 <= qr.min_version <= qr.max_version <= 40:
            self.add(
                file,
                self.line_of(file, "[qr]"),
                "qr",
                "Mức sửa lỗi là L, M, Q hoặc H; phiên bản từ 1 đến 40.",
                "The level is L, M, Q or H, and versions are 1 to 40.",
            )
        if qr.quiet_modules < _QUIET_MODULES:
            self.add(
                file,
                self.line_of(file, "quiet_modules"),
                "qr_quiet",
                "Vùng trống quanh mã QR phải rộng ít nhất 4 ô.",
                "The quiet zone is at least 4 modules wide.",
            )
        if qr.module_dots * 25.4 / qr.dpi < _MODULE_MM:
            self.add(
                file,
                self.line_of(file, "module_dots"),
                "qr_module",
                f"Một ô của mã QR phải rộng ít nhất {_MODULE_MM} mm.",
                f"A module is at least {_MODULE_MM} mm wide.",
            )
        if not any(place.max_version >= qr.max_version for place in qr.places):
            self.add(
                file,
                self.line_of(file, "[[qr.places]]"),
                "qr_place",
                "Không có chỗ nào đủ cho mã QR lớn nhất.",
                "No place holds the largest symbol.",
            )
        width, height = (side * qr.dpi / _POINTS_PER_INCH for side in (form.width_pt, form.height_pt))
        for name, dots in (("width_pt", width), ("height_pt", height)):
            if abs(dots - round(dots)) > 0.01:
                self.add(
                    file,
                    self.line_of(file, name),
                    "dots",
                    f"Khổ giấy phải là số chấm nguyên ở {qr.dpi} dpi; ở đây là {dots:.3f}.",
                    f"The page is a whole number of dots at {qr.dpi} dpi; this is {dots:.3f}.",
                )
        for place in qr.places:
            right, bottom = place.left_dots + place.side_dots, place.top_dots + place.side_dots
            if place.left_dots < 0 or place.top_dots < 0 or right > width + 0.01 or bottom > height + 0.01:
                self.add(
                    file,
                    self.line_of(file, f'name = "{place.name}"'),
                    "qr_place",
                    f"Chỗ đặt mã QR {place.name} nằm ngoài trang.",
                    f"The QR place {place.name} leaves the page.",
                )

    def check_sources(self, form: Form) -> None:
        """Each slot's text comes from a field that PageData has."""
        for slot in form.slots.values():
            parts = slot.of.split(".")
            known = parts[0] in PageData.__annotations__ and (
                len(parts) == 1
                or (parts[0] in ("rows", "more_rows") and len(parts) == 3 and parts[2] in DoseRow.__annotations__)
            )
            if not known and not re.fullmatch(r"sheets\.(\*|0)\.number", slot.of):
                self.add(
                    "form.toml",
                    self.line_of_rule(slot.name),
                    "slot_source",
                    f"Dữ liệu của trang không có mục {slot.of}.",
                    f"A page's data have no field {slot.of}.",
                    slot=slot.name,
                )

    def sample(self, form: Form) -> PageData | None:
        """The sample as the form lays it out; None, with the reason among the findings, if it cannot be one."""
        try:
            text = read_form_text(self.folder, self.form_id, "sample.json")
            page = json.loads(text)
        except FormError as error:
            self.add("sample.json", error.line, "form", error.vi, error.en)
            return None
        except ValueError as error:
            line = error.lineno if isinstance(error, json.JSONDecodeError) else 0
            self.add("sample.json", line, "json", "Không đọc được JSON.", "It is not JSON.")
            return None
        missing = sorted(PageData.__required_keys__ - page.keys()) if isinstance(page, dict) else ["full_name"]
        for name in missing:
            self.add("sample.json", 0, "missing", f"Thiếu mục {name}.", f"The field {name} is missing.", slot=name)
        misshapen = [] if missing else list(find_misshapen(page))
        for name, vi, en in misshapen:
            line = next((at for at, written in _lines(text) if f'"{name}"' in written), 0)
            self.add("sample.json", line, "shape", vi, en, slot=name)
        if missing or misshapen:
            return None
        page = fit_rows(cast(PageData, page), form.doses)
        try:
            self.library._check(form, page)
        except InputError as error:
            self.add_problems(error, text)
            return None
        return page

    # --- what is drawn

    def check_slots(self, form: Form, page: PageData) -> None:
        """Every slot that the page must show stands on it once, and no other; the rest is tagged as PDF/UA wants."""
        try:
            shown = self.library._check(form, page)
            fit = dict.fromkeys(form.slot_names(len(page["more_rows"])), 0)
            scan = scan_html(self.library.html(self.form_id, page, fit))
        except (InputError, RenderError) as error:
            self.add_undrawable(error)
            return
        for name, times in Counter(scan.slots).items():
            if name not in fit:
                self.add_slot(name, "slot_unknown", "Ô này không có trong form.toml.", "form.toml does not declare it.")
            elif name not in shown:
                self.add_slot(
                    name, "slot_unused", "Ô này hiện ở dòng không dùng.", "It stands in a row that is not used."
                )
            elif times > 1:
                self.add_slot(name, "slot_twice", "Ô này xuất hiện hai lần.", "It stands on the page twice.")
        for name in shown.keys() - set(scan.slots):
            rule = form.rule(name).name
            self.add(
                "form.toml",
                self.line_of_rule(rule),
                "slot_missing",
                "Ô này không có trong page.html.",
                "page.html does not show it.",
                slot=rule,
            )
        self.check_tags(form, scan)
        for character in sorted(scan.characters):
            if not self.library._can_draw(character):
                self.add(
                    "page.html",
                    self.line_of("page.html", character),
                    "glyph",
                    f"Phông chữ không có ký tự U+{ord(character):04X}.",
                    f"The fonts have no character U+{ord(character):04X}.",
                )

    def check_tags(self, form: Form, scan: PageScan) -> None:
        wanted = (
            (scan.language == form.languages[0], "<html", "Thẻ html phải có lang.", "The html element needs its lang."),
            (bool(scan.title), "<title", "Thiếu thẻ title.", "There is no title."),
            ("h1" in scan.elements, "<body", "Thiếu tiêu đề h1.", "There is no heading h1."),
            (scan.images_without_text == 0, r"<img(?![^>]*alt=)", "Hình phải có alt.", "A picture needs its alt."),
            (
                scan.headers_without_scope == 0,
                r"<th(?![^>]*scope=)\b",
                "Thẻ th phải có scope.",
                "A th needs its scope.",
            ),
            (
                set(form.languages) <= scan.languages,
                "<body",
                "Trang không có đủ các ngôn ngữ của biểu mẫu.",
                "The page is not in all the form's languages.",
            ),
        )
        for holds, needle, vi, en in wanted:
            if not holds:
                line = next((at for at, text in _lines(self.texts["page.html"]) if re.search(needle, text)), 0)
                self.add("page.html", line, "tags", vi, en)

    def check_drawn(self, form: Form, sample: PageData) -> None:
        """Every kind of page comes out; the sample reads back and is tagged; nothing variable stands on the QR."""
        for page in variants_of(form, sample):
            try:
                self.library.render_pdf(self.form_id, page)
            except (InputError, RenderError) as error:
                self.add_undrawable(error)
                return
        pdf = self.library.render_pdf(self.form_id, sample)
        if not is_tagged(pdf):
            self.add("page.html", 0, "tags", "PDF không có cấu trúc.", "The PDF has no structure.")
        try:
            codes = read_codes(pdf)
        except PrintsvcError:
            codes = []
        if codes != [sample["qr"]]:
            self.add("page.html", 0, "qr_unread", "Không đọc được mã QR đã in.", "The drawn QR does not read back.")
        self.check_places(form, sample)
        self.check_overlaps(form, [sample, *list(variants_of(form, sample))[-2:]])  # the fullest ones

    def check_overlaps(self, form: Form, pages: list[PageData]) -> None:
        """No slot stands on another one; what is so in many rows is told once."""
        told = set()
        for page in pages:
            _, boxes = boxes_of(self.library.lay_out(self.form_id, page))
            for one in find_overlaps(form, boxes, self.library._check(form, page)):
                pair = form.rule(one.first).name, form.rule(one.second).name
                if pair in told:
                    continue
                told.add(pair)
                size = f"{one.width_mm:.1f} x {one.height_mm:.1f} mm"
                vi, en = f"Ô này đè lên ô {pair[0]}: {size}.", f"It stands on the slot {pair[0]}: {size} are shared."
                self.add_slot(one.second, "overlap", vi, en)

    def check_places(self, form: Form, sample: PageData) -> None:
        scale = _POINTS_PER_INCH / form.qr.dpi
        images, boxes = boxes_of(self.library.lay_out(self.form_id, sample))
        drawn: list[tuple[int, QrPlace]] = []
        for place in form.qr.places:
            page = next((at for at, box in images if holds_symbol(place, box, scale)), None)
            if page is None:
                self.add(
                    "page.html",
                    self.line_of("page.html", f'"{place.name}"'),
                    "qr_place",
                    f"Mã QR không nằm ở chỗ {place.name} của form.toml.",
                    f"No QR stands at the place {place.name} of form.toml.",
                )
            else:
                drawn.append((page, place))
        self.check_quiet(form, sample, drawn)
        for name, at, (left, top, right, bottom) in boxes:
            for page, place in drawn:
                x, y = place.left_dots * scale, place.top_dots * scale
                side = place.side_dots * scale
                if at == page and left < x + side and right > x and top < y + side and bottom > y:
                    self.add_slot(name, "qr_covered", "Ô này đè lên chỗ của mã QR.", "It stands on the QR's place.")

    def check_quiet(self, form: Form, sample: PageData, drawn: list[tuple[int, QrPlace]]) -> None:
        """Nothing at all is drawn in the quiet zone of the largest symbol."""
        qr = form.qr
        for page, place in drawn:
            largest = "0" * alphanumeric_capacity(qr.level, min(place.max_version, qr.max_version))
            pdf = self.library.render_pdf(self.form_id, changed_page(sample, qr=largest, copy_number=2))
            side, inset = place.side_dots, (place.side_dots - qr.side_dots(place.max_version)) // 2
            picture = draw_pages(pdf, dpi=qr.dpi)[page]
            square = picture.crop((place.left_dots, place.top_dots, place.left_dots + side, place.top_dots + side))
            square.paste(255, (inset - 1, inset - 1, side - inset + 1, side - inset + 1))
            if cast(tuple[int, int], square.getextrema())[0] < _INK:
                self.add(
                    "form.toml",
                    self.line_of("form.toml", f'name = "{place.name}"'),
                    "qr_covered",
                    f"Có nét in trong vùng trống của chỗ {place.name}.",
                    f"Something is drawn in the quiet zone of the place {place.name}.",
                )

    # --- where it is

    def line_of(self, file: str, *needles: str) -> int:
        for needle in needles:
            for number, line in _lines(self.texts[file]):
                if needle in line:
                    return number
        return 0

    def line_of_rule(self, name: str) -> int:
        return self.line_of("form.toml", f'[slots."{name}"]', f"[slots.{name}]")

    def add_slot(self, name: str, code: str, vi: str, en: str) -> None:
        rule = ".".join("*" if part.isdigit() else part for part in name.split("."))
        page = self.texts["page.html"]
        line = line_of_slot(page, name) or self.line_of("page.html", f'"{name.rpartition(".")[2]}"')
        self.add("page.html", line, code, vi, en, slot=rule)

    def add_warnings(self, file: str, warnings: list[str], lines_before: int = 0) -> None:
        """What the layout engine says of the style sheet or the page, which has so many lines before the form's own."""
        for message in warnings:
            line, quoted, said = split_warning(message)
            if file == "page.html":  # there a line is that of a style attribute
                line = self.line_of(file, quoted, quoted.split(":")[0] + ":") if quoted else 0
            self.add(
                file, max(0, line - lines_before), "engine", f"WeasyPrint cảnh báo: {said}", f"WeasyPrint warns: {said}"
            )

    def add_unreadable(self, error: RenderError) -> None:
        """A form that cannot even be loaded: say where form.toml, page.html or style.css is wrong."""
        if isinstance(error, FormError):
            if not any(one.file == error.file and one.code == "asset" for one in self.found.values()):
                self.add(error.file, error.line, "form", error.vi, error.en, slot=error.slot)
            return
        cause = error.__cause__  # Jinja2's
        self.add(
            "page.html", getattr(cause, "lineno", 0), "template", f"Lỗi cú pháp: {cause}", f"Syntax error: {cause}"
        )

    def add_undrawable(self, error: PrintsvcError) -> None:
        if isinstance(error, InputError):
            self.add_problems(error, _read(self.folder / "sample.json"))
            return
        line, trace = 0, getattr(error.__cause__, "__traceback__", None)
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<template>":
                line = trace.tb_lineno
            trace = trace.tb_next
        unknown = re.search(r"has no attribute '([^']+)'", str(error.__cause__))
        fields = PageData.__annotations__.keys() | DoseRow.__annotations__.keys()
        if unknown and not (unknown[1] not in fields and f".{unknown[1]}" in self.texts["page.html"]):
            self.add_slot(
                unknown[1], "slot_unknown", "Ô này không có trong form.toml.", "form.toml does not declare it."
            )
            return
        if unknown:
            line = self.line_of("page.html", f".{unknown[1]}")
            self.add(
                "page.html", line, "template", f"Dữ liệu không có mục {unknown[1]}.", f"There is no field {unknown[1]}."
            )
            return
        why = f" ({error.__cause__})" if line else ""  # Jinja2 names the field, never its text
        self.add("page.html", line, "template", error.vi + why, error.en + why)

    def add_problems(self, error: InputError, sample: str) -> None:
        for problem in error.problems:
            field = problem.pointer.rpartition("/")[2]
            line = next((number for number, text in _lines(sample) if f'"{field}"' in text), 0)
            slot = problem.pointer.strip("/").replace("/", ".")
            self.add("sample.json", line, problem.code, problem.vi, problem.en, slot=slot)
        if not error.problems:
            self.add("sample.json", 0, error.code, error.vi, error.en)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return enumerate(text.splitlines(), 1)
