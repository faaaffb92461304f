"""What is printed is compared with what the code says, on every form, however it was drawn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from printsvc.domain.form import FormId, PageData
from printsvc.render.agreement import Agreement, compare_text
from printsvc.render.formfile import Form, find_forms, read_form
from printsvc.render.scan import PrintedPage, read_text

UVCI = "URN:UVCI:01:VN:5F0C3A9B7E2D4681A0C9E8F7B6D5C4A3#E"
FORMS = ("a4/3588-2021", "a4/43-2022", "a4/5772-2021", "a5/43-2022", "cr80/43-2022", "receipt80/43-2022")


def claims_of(**changes: Any) -> dict[str, Any]:
    """Return what the code of the samples says; `changes` are members of its name, its dose, or `dob`."""
    name = {"fn": "NGUYỄN", "gn": "THỊ MINH KHAI", "fnt": "NGUYEN", "gnt": "THI<MINH<KHAI"}
    dose = {"dn": 2, "sd": 2, "dt": "2021-10-30", "mp": "EU/1/20/1528", "ci": UVCI}
    payload: dict[str, Any] = {"dob": changes.get("dob", "1985-04-12")}
    payload["nam"] = name | {key: value for key, value in changes.items() if key in name}
    payload["v"] = [dose | {key: value for key, value in changes.items() if key in dose}]
    return {"issued_at": "2021-10-30T02:12:00+00:00", "expires_at": "2022-10-30T02:12:00+00:00", "hcert": payload}


@pytest.fixture(scope="module")
def forms(templates: Path) -> list[Form]:
    return [read_form(templates / form_id, form_id) for form_id in find_forms(templates)]


@pytest.fixture(scope="module")
def pages_of(library: Any) -> Callable[..., list[PrintedPage]]:
    drawn: dict[str, list[PrintedPage]] = {}

    def pages(form: str, **changes: Any) -> list[PrintedPage]:
        """Return the text of a form's sample; drawn once where nothing is changed."""
        sample: PageData = copy.deepcopy(library.sample(FormId(form)))
        if changes:
            return read_text(library.render_pdf(FormId(form), sample | changes))
        if form not in drawn:
            drawn[form] = read_text(library.render_pdf(FormId(form), sample))
        return drawn[form]

    return pages


def wrong(pages: list[PrintedPage], forms: list[Form], **changes: Any) -> set[str]:
    return {one.field for one in compare_text(pages, claims_of(**changes), forms).fields if not one.agrees}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_agrees_and_each_datum_that_differs_is_named(form: str, pages_of: Any, forms: list[Form]) -> None:
    pages = pages_of(form)
    report = compare_text(pages, claims_of(), forms)
    assert (report.state, report.form) == (Agreement.AGREES, form)
    compared = {one.field for one in report.fields}
    assert {"full_name", "date_of_birth", "injected_on", "product", "uvci"} <= compared
    assert wrong(pages, forms, gn="THỊ MINH KHANH") == {"full_name"}
    assert wrong(pages, forms, gnt="THI<MINH<KHANH") == ({"name_line"} & compared)
    assert wrong(pages, forms, dob="1985-04-21") == {"date_of_birth"}
    assert wrong(pages, forms, dt="2021-10-29") == {"injected_on"}
    assert wrong(pages, forms, mp="EU/1/20/1507") == {"product"}
    assert wrong(pages, forms, ci=UVCI.replace("5F0C", "6F0C")) == {"uvci"}
    assert wrong(pages, forms, dn=1) == ({"dose_number", "doses_received"} & compared)
    assert wrong(pages, forms, sd=3) == ({"doses_received"} & compared)


def test_one_place_of_several_is_enough_to_differ(pages_of: Any, forms: list[Form]) -> None:
    """The name on the card below is still right: the one above was altered."""
    pages = pages_of("a4/43-2022")
    altered = [
        PrintedPage(
            page.text.replace("NGUYỄN THỊ MINH KHAI", "TRẦN VĂN GIẢ", 1), page.width_pt, page.height_pt, page.words
        )
        for page in pages
    ]
    report = compare_text(altered, claims_of(), forms)
    assert report.state is Agreement.DIFFERS
    name = next(one for one in report.fields if one.field == "full_name")
    assert (name.places, name.found) == (2, 1)
    told = report.to_json()
    assert "full name" in told["detail"]
    assert "họ và tên" in told["detail_vi"]
    assert "GIẢ" not in str(told)


def test_a_stamped_page_has_its_labels_first_and_agrees_all_the_same(
    stamper_of: Any, library: Any, forms: list[Form]
) -> None:
    form = FormId("a4/43-2022")
    pages = read_text(stamper_of(form).stamp(library.sample(form)))
    assert compare_text(pages, claims_of(), forms).state is Agreement.AGREES
    assert wrong(pages, forms, dn=1) == {"dose_number", "doses_received"}


def test_names_are_compared_as_people_read_them(pages_of: Any, forms: list[Form]) -> None:
    pages = pages_of("a5/43-2022", full_name="Anna Maria Schmidt")
    assert wrong(pages, forms, fn="SCHMIDT", gn="ANNA MARIA") == set(), "given name first, small letters"
    decomposed = "NGUYE\u0302\u0303N"
    assert wrong(pages_of("a5/43-2022"), forms, fn=decomposed) == set()


def test_further_sheets_repeat_the_head(library: Any, forms: list[Form]) -> None:
    form = FormId("a5/43-2022")
    sample: Any = copy.deepcopy(library.sample(form))
    sample["more_rows"] = [dict(row, attested=False) for row in sample["rows"] if row is not None] * 2
    pages = read_text(library.render_pdf(form, sample))
    assert len(pages) == 2
    report = compare_text(pages, claims_of(), forms)
    assert report.state is Agreement.AGREES
    assert {one.field: one.places for one in report.fields}["full_name"] == 2
    second = pages[1].text.replace("NGUYỄN THỊ MINH KHAI", "TRẦN VĂN GIẢ")
    pages[1] = PrintedPage(second, pages[1].width_pt, pages[1].height_pt, pages[1].words)
    assert wrong(pages, forms) == {"full_name"}


def test_what_cannot_be_compared_is_told_and_accuses_nobody(pages_of: Any, forms: list[Form]) -> None:
    blank = [PrintedPage("", 595.2, 841.92)]
    assert compare_text(blank, claims_of(), forms).state is Agreement.NO_TEXT
    foreign = [PrintedPage("Certificat COVID numérique UE", 500.0, 500.0)]
    report = compare_text(foreign, claims_of(), forms)
    assert (report.state, report.is_bad) == (Agreement.UNCLEAR, False)
    for odd in (
        None,
        {},
        {"hcert": []},
        {"hcert": {"v": [], "nam": {}}},
        {"hcert": {"t": [{}], "nam": {}, "dob": "x"}},
    ):
        assert compare_text(pages_of("a4/43-2022"), odd, forms).state is Agreement.NOT_COMPARED
    endless = claims_of(dob="1985", fn=5)
    assert compare_text(pages_of("a4/43-2022"), endless, forms).state is Agreement.NOT_COMPARED
