"""Does what a PDF says in letters agree with what its code says? Field by field, by the form that it is drawn on.

A form says by its slots how often each datum stands on it: on the certificate, on the card below, in the table, on each
further sheet. A page on which one is found less often was altered. The order of texts in the file does not count: a
stamped page has its labels first. What nobody can see on the page does not count (`render.legible`). Whether a datum
stands where its label says is beyond this; that is the seal's business.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, Final

from printsvc.domain.valuesets import PRODUCTS
from printsvc.render.formfile import Form
from printsvc.render.scan import PrintedPage, PrintedWord

_VIETNAM: Final = timezone(timedelta(hours=7))
_SIZE_TOLERANCE_PT: Final = 1.0
_NUMBER_LABEL: Final = re.compile(r"Dose (number|No\.)", re.IGNORECASE)
_OF_SERIES: Final = re.compile(r"(?<![\d/])\d{1,2}/\d{1,2}(?![\d/])")
_ROW_FIELDS: Final = ("injected_on", "product")


class Agreement(StrEnum):
    """`unclear`: not one of our forms, and something was not found on it. `no_text`: a scan, or a picture."""

    AGREES = "agrees"
    DIFFERS = "differs"
    UNCLEAR = "unclear"
    NO_TEXT = "no_text"
    NOT_COMPARED = "not_compared"


SENTENCES: Final[dict[Agreement, tuple[str, str]]] = {
    Agreement.AGREES: ("The printed text is what the code says.", "Chữ in trên giấy khớp với mã QR."),
    Agreement.DIFFERS: (
        "The printed text is not what the code says; the code is what was issued.",
        "Chữ in trên giấy không khớp với mã QR; nội dung trong mã mới là nội dung đã cấp.",
    ),
    Agreement.UNCLEAR: (
        "This is not one of our forms, and not everything that the code says was found on it.",
        "Không phải biểu mẫu của chúng tôi; không tìm thấy đủ nội dung của mã QR.",
    ),
    Agreement.NO_TEXT: ("There is no text to compare: a picture of a page.", "Tệp chỉ có ảnh, không có chữ để so."),
    Agreement.NOT_COMPARED: (
        "The text was not compared: the code is no vaccination certificate of the EU format.",
        "Không so được chữ in với loại mã này.",
    ),
}
LABELS: Final[dict[str, tuple[str, str]]] = {
    "full_name": ("full name", "họ và tên"),
    "name_line": ("name in ICAO letters", "tên theo ICAO"),
    "date_of_birth": ("date of birth", "ngày sinh"),
    "doses_received": ("doses received", "số mũi đã tiêm"),
    "dose_number": ("dose number", "mũi số"),
    "injected_on": ("date of the dose", "ngày tiêm"),
    "product": ("product", "vắc xin"),
    "uvci": ("certificate code", "mã chứng nhận"),
    "issued_on": ("date of issue", "ngày cấp"),
    "expires_on": ("valid until", "có hiệu lực đến"),
}


@dataclass(frozen=True, slots=True)
class FieldAgreement:
    """One datum: as the code has it, on how many places the form has it, and on how many it was found."""

    field: str
    in_code: str
    places: int
    found: int

    @property
    def agrees(self) -> bool:
        return self.found >= self.places


@dataclass(frozen=True, slots=True)
class TextReport:
    state: Agreement
    fields: tuple[FieldAgreement, ...] = ()
    form: str = ""

    @property
    def is_bad(self) -> bool:
        return self.state is Agreement.DIFFERS

    def to_json(self) -> dict[str, Any]:
        """Return the member `text` of a verdict on a code that was found in a PDF."""
        en, vi = SENTENCES[self.state]
        wrong = [one.field for one in self.fields if not one.agrees]
        if wrong:
            en += f" Differs: {', '.join(LABELS[name][0] for name in wrong)}."
            vi += f" Sai khác: {', '.join(LABELS[name][1] for name in wrong)}."
        body: dict[str, Any] = {"state": self.state.value, "detail": en, "detail_vi": vi}
        if self.form:
            body["form"] = self.form
        if self.fields:
            body["fields"] = [
                {
                    "field": one.field,
                    "agrees": one.agrees,
                    "in_code": one.in_code,
                    "places": one.places,
                    "found": one.found,
                }
                for one in self.fields
            ]
        return body


def compare_text(pages: Sequence[PrintedPage], claims: Mapping[str, Any] | None, forms: Iterable[Form]) -> TextReport:
    """Return whether the pages say what the claims of a verdict say; `claims` as `POST /v1/verify` gives them."""
    said = _said(claims)
    if said is None:
        return TextReport(Agreement.NOT_COMPARED)
    if not any(page.text.strip() for page in pages):
        return TextReport(Agreement.NO_TEXT)
    candidates = _forms_of(pages, forms)
    if not candidates:
        fields = tuple(_compare(pages, said, Counter(dict.fromkeys(said.keys() & _EVERYWHERE, 1))))
        return TextReport(_state(fields, Agreement.UNCLEAR), fields)
    reports = [
        TextReport(_state(fields, Agreement.DIFFERS), fields, form.form_id)
        for form in candidates
        for fields in [tuple(_compare(pages, said, _places(form, len(pages))))]
    ]
    return min(reports, key=lambda report: sum(not one.agrees for one in report.fields))


_EVERYWHERE: Final = frozenset({"full_name", "date_of_birth", "injected_on", "uvci"})


def _state(fields: Sequence[FieldAgreement], otherwise: Agreement) -> Agreement:
    return Agreement.AGREES if all(one.agrees for one in fields) else otherwise


def _said(claims: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return how the code's claims look on paper, by the name of the slot; None for a code that is not compared."""
    try:
        assert claims is not None
        payload = claims["hcert"]
        dose, name = payload["v"][0], payload["nam"]
        said = {
            "full_name": " ".join(part for part in (name.get("fn"), name.get("gn")) if part),
            "name_line": "<<".join(part for part in (name.get("fnt"), name.get("gnt")) if part),
            "date_of_birth": _day(date.fromisoformat(payload["dob"][:10])),
            "doses_received": f"{int(dose['dn'])}/{int(dose['sd'])}",
            "dose_number": str(int(dose["dn"])),
            "injected_on": _day(date.fromisoformat(dose["dt"][:10])),
            "product": PRODUCTS[dose["mp"]].name if dose["mp"] in PRODUCTS else str(dose["mp"]),
            "uvci": str(dose["ci"]),
        }
        for slot, claim in (("issued_on", "issued_at"), ("expires_on", "expires_at")):
            if claims.get(claim):
                said[slot] = _day(datetime.fromisoformat(claims[claim]).astimezone(_VIETNAM).date())
    except (AssertionError, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return said


def _day(day: date) -> str:
    return f"{day.day:02d}/{day.month:02d}/{day.year}"


def _forms_of(pages: Sequence[PrintedPage], forms: Iterable[Form]) -> list[Form]:
    """Return the forms that this may be: of the page's size, and if there is one, with its title on it."""
    first, text = pages[0], squeeze(pages[0].text)
    fitting = [
        form
        for form in forms
        if abs(form.width_pt - first.width_pt) < _SIZE_TOLERANCE_PT
        and abs(form.height_pt - first.height_pt) < _SIZE_TOLERANCE_PT
        and len(pages) >= form.pages
    ]
    titled = [form for form in fitting if squeeze(form.title_en) in text]
    longest = max((len(form.title_en) for form in titled), default=0)
    return [form for form in titled if len(form.title_en) == longest] or fitting


def _places(form: Form, pages: int) -> Counter[str]:
    """Return on how many places each datum stands that the code has too."""
    further = max(0, pages // form.pages - 1) if form.more_doses else 0
    places: Counter[str] = Counter()
    for name, slot in form.slots.items():
        field = {"uvci_groups": "uvci"}.get(slot.of, slot.of)
        if name.startswith("rows.*."):
            column = {"rows.*.date": "injected_on", "rows.*.product": "product"}.get(name)
            if column is not None and form.doses:
                places[column] += 1  # the row of the dose that the code attests
        elif field in LABELS:
            places[field] += further if name.startswith("sheets.*.") else 1
    return places


def _compare(pages: Sequence[PrintedPage], said: Mapping[str, str], places: Counter[str]) -> Iterable[FieldAgreement]:
    text = "\n".join(page.text for page in pages)
    squeezed = squeeze(text)
    machine = squeeze(said["name_line"])
    without_machine = squeezed.replace(machine, "\n") if machine else squeezed
    found = {
        "full_name": _count_name(without_machine, said["full_name"]),
        "name_line": squeezed.count(machine) if "<<" in machine else places["name_line"],
        "doses_received": _OF_SERIES.findall(text).count(said["doses_received"]),
        "dose_number": _count_number(pages, said["dose_number"]),
        "product": squeezed.count(squeeze(said["product"])),
        "uvci": _count_uvci(squeezed, squeeze(said["uvci"])),
    }
    found |= _count_days(squeezed, said, places)
    return [FieldAgreement(field, said[field], places[field], found[field]) for field in said if places[field]]


def _count_name(text: str, name: str) -> int:
    family_first = squeeze(name)
    found = text.count(family_first)
    words = [squeeze(word) for word in name.split()]
    for turn in range(1, len(words)):  # given name first, wherever the family name ends
        other = "".join(words[turn:] + words[:turn])
        if other != family_first:
            found += text.count(other)
    return found


def _count_days(text: str, said: Mapping[str, str], places: Counter[str]) -> dict[str, int]:
    """Return how often each date was found; of dates that are the same day, each gets what is missing of all."""
    fields = ("date_of_birth", "injected_on", "issued_on", "expires_on")
    wanted = Counter[str]()
    for field in fields:
        if field in said:
            wanted[said[field]] += places[field]
    missing = {day: max(0, number - text.count(day)) for day, number in wanted.items()}
    return {field: max(0, places[field] - missing[said[field]]) for field in fields if field in said}


def _count_uvci(text: str, uvci: str) -> int:
    """Return how often the code's UVCI stands there; 0 where another one does, too."""
    found = text.count(uvci)
    return found if text.count("urn:uvci:") == found or not uvci.startswith("urn:uvci:") else 0


def _count_number(pages: Sequence[PrintedPage], number: str) -> int:
    """Return on how many places a dose's number stands beside or under its label; a single digit is everywhere."""
    found = 0
    for page in pages:
        for label in page.words:
            match = _NUMBER_LABEL.search(label.text)
            if match is None:
                continue
            numbers = [word for word in page.words if re.fullmatch(r"\d{1,2}", word.text)]
            near = [word for word in numbers if _is_beside(label, word)]
            near = near or [word for word in numbers if _is_under(label, word)]
            nearest = min(near, key=lambda word: _distance(label, word), default=None)
            found += nearest is not None and nearest.text == number
    return found


def _is_beside(label: PrintedWord, word: PrintedWord) -> bool:
    return word.left >= label.right - 1 and abs(word.bottom - label.bottom) < 12


def _is_under(label: PrintedWord, word: PrintedWord) -> bool:
    """The label's English part may begin some way to the right of where the value does."""
    below = word.top <= label.bottom + 6 and label.bottom - word.bottom < 26
    return below and word.left <= label.right and word.right >= label.left - 40


def _distance(label: PrintedWord, word: PrintedWord) -> float:
    across = max(0.0, word.left - label.right, label.left - word.right)
    return across + abs(word.bottom - label.bottom)


def squeeze(text: str) -> str:
    """Return the text without spaces, in small letters and composed: lines break anywhere."""
    composed = unicodedata.normalize("NFC", text).casefold()
    return "".join(composed.split()).replace("\u00ad", "")
