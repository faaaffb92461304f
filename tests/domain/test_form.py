"""Doses laid out for a form whose table has another number of rows."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.form import DoseRow, PageData, fit_rows


def row(number: int, *, attested: bool = False) -> DoseRow:
    return DoseRow(
        label=f"Mũi {number}", date="", product="", manufacturer="", lot=str(number), site="", attested=attested
    )


def page(rows: list[DoseRow | None], **values: Any) -> PageData:
    return cast(PageData, {"rows": rows} | values)


@st.composite
def pages(draw: st.DrawFn) -> PageData:
    """A page as the flow makes it: seven rows, the attested dose in one of them, more doses only when all are used."""
    used = draw(st.sets(st.integers(0, 6), min_size=1))
    attested = draw(st.sampled_from(sorted(used)))
    more = draw(st.integers(0, 5)) if len(used) == 7 else 0
    rows = [row(number, attested=number == attested) if number in used else None for number in range(7)]
    return page(rows, more_rows=[row(number) for number in range(7, 7 + more)])


@given(pages(), st.integers(1, 7))
def test_no_dose_is_lost_and_the_attested_one_stands_in_the_table(told: PageData, doses: int) -> None:
    fitted = fit_rows(told, doses)
    before = [one["lot"] for one in [*told["rows"], *told["more_rows"]] if one]
    after = [one["lot"] for one in [*fitted["rows"], *fitted["more_rows"]] if one]
    assert len(fitted["rows"]) == doses
    assert sorted(after) == sorted(before)
    assert [one["attested"] for one in fitted["rows"] if one].count(True) == 1
    assert all(fitted["rows"]) or not fitted["more_rows"], "nothing is sent on while a row is free"
    assert fit_rows(fitted, doses) == fitted


def test_a_table_of_as_many_rows_stays_as_it_is() -> None:
    rows = [None, row(2, attested=True), None, None, None, None, None]
    assert fit_rows(page(rows), 7)["rows"] == rows


def test_a_dose_keeps_the_row_of_its_number_in_a_shorter_table() -> None:
    second = row(2, attested=True)
    assert fit_rows(page([None, second, *[None] * 5]), 2)["rows"] == [None, second]


def test_a_later_dose_takes_a_row_of_a_shorter_table() -> None:
    booster = row(5, attested=True)
    fitted = fit_rows(page([row(1), row(2), None, None, booster, None, None]), 2)
    assert fitted["rows"] == [row(1), booster]
    assert fitted["more_rows"] == [row(2)]


def test_a_form_without_a_table_has_no_rows_at_all() -> None:
    fitted = fit_rows(page([row(1, attested=True), *[None] * 6], more_rows=[row(8)]), 0)
    assert (fitted["rows"], fitted["more_rows"]) == ([], [])


def test_what_came_later_than_the_rest_is_empty_where_it_is_absent() -> None:
    fitted = fit_rows(page([None] * 7), 7)
    assert (fitted["more_rows"], fitted["phone_masked"], fitted["address"]) == ([], "", "")
    assert fit_rows(page([None] * 7, address="12 Phố Huế"), 7)["address"] == "12 Phố Huế"


def test_too_few_rows_are_the_callers_mistake_and_stay_so() -> None:
    assert fit_rows(page([None] * 6), 7)["rows"] == [None] * 6
