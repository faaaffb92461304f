"""What stands on a page: the data that a form draws, already worded and formatted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType, NotRequired, TypedDict, cast

FormId = NewType("FormId", str)
"""`<form>/<version>`, the folder under templates/: `a4/43-2022`."""


@dataclass(frozen=True, slots=True)
class FormChoice:
    """The form that new certificates get: its PWG 5101.1 media name, and the longest QR text that it takes."""

    form_id: FormId
    media: str
    qr_capacity: int


class DoseRow(TypedDict):
    """One row of the dose table; `attested` marks the dose that the QR states. Empty strings where not known here."""

    label: str  # "Mũi 2 / Dose 2", "Nhắc lại 1 / Booster 1"
    date: str  # DD/MM/YYYY
    product: str  # "Comirnaty"
    manufacturer: str
    lot: str
    site: str
    attested: bool


class PageData(TypedDict):
    """The variables of every certificate form. All text is NFC; nothing here is HTML.

    `qr` is the HC1 text. `rows` are in the order of the form (3 basic, 1 additional, 3 boosters in 43/2022); rows
    that are not used come as `None` and are struck by the form. `more_rows` are the doses that found no row: they
    go to a continuation page. What is `NotRequired` came later than the rest and is empty where it is absent.
    """

    qr: str
    full_name: str
    name_line: str  # ICAO style: NGUYEN<<THI<MINH<KHAI
    date_of_birth: str  # DD/MM/YYYY
    sex: str  # "Nữ / Female"
    nationality: str  # "Việt Nam / Viet Nam"
    id_label: str  # "CCCD", "CMND", "Hộ chiếu / Passport", "" where there is none
    id_masked: str  # "••••••••2345"
    disease: str  # "COVID-19"
    doses_received: str  # "2/2"
    injected_on: str  # DD/MM/YYYY, of the attested dose
    dose_number: str  # "2"
    vaccine: str  # "Vắc xin mRNA SARS-CoV-2 / SARS-CoV-2 mRNA vaccine"
    product: str
    manufacturer: str
    uvci: str  # URN:UVCI:01:VN:…#X, ungrouped
    uvci_groups: list[str]  # the same in groups for reading; joined they give `uvci`
    authority: str
    site_name: str
    issued_on: str  # DD/MM/YYYY
    expires_on: str  # DD/MM/YYYY
    copy_number: int
    rows: list[DoseRow | None]
    more_rows: NotRequired[list[DoseRow]]
    phone_masked: NotRequired[str]  # "••••••5678"
    address: NotRequired[str]


def fit_rows(page: PageData, doses: int) -> PageData:
    """Return the page for a form whose table has `doses` rows, with every optional field there.

    A table of fewer rows takes the doses in their order, the attested one always among them; what is left goes to
    `more_rows`. A form without a table (`doses` is 0) shows the attested dose alone, in its fields. A page with fewer
    rows than the form comes back as it is: that is the caller's mistake.
    """
    rows, more = page["rows"], page.get("more_rows", [])
    if doses == 0:
        rows, more = [], []
    elif len(rows) > doses:
        used = [row for row in rows if row is not None]
        if any(rows[doses:]) or more:
            used += more
            first, rest = used[:doses], used[doses:]
            attested = next((row for row in rest if row["attested"]), None)
            if attested is not None:
                rest = [first[-1], *(row for row in rest if row is not attested)]
                first[-1] = attested
            rows, more = [*first, *[None] * (doses - len(first))], rest
        else:
            rows = rows[:doses]  # each dose keeps the row of its number
    absent = {"phone_masked": "", "address": ""}
    return cast(PageData, absent | page | {"rows": rows, "more_rows": more})
