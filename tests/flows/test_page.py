"""What stands on the page."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent, DoseId, DoseKind, Identity, Injection
from printsvc.domain.form import FormChoice, FormId
from printsvc.domain.person import IdType, Person, Sex
from printsvc.domain.site import Site, SiteId
from printsvc.domain.uvci import Uvci, group_uvci, make_uvci
from printsvc.errors import NotFoundError
from printsvc.flows.issue import make_job
from printsvc.flows.page import ROWS, dose_rows, more_dose_rows, page_of
from printsvc.store.doses import StoredDose

NOW = datetime(2021, 10, 30, 2, 12, 0, tzinfo=UTC)
UVCI = make_uvci("VN", bytes(range(16)))
SITE = Site(SiteId("HN-1"), "Trạm Y tế phường Phố Huế", "Trung tâm Y tế quận Hai Bà Trưng", "001")
KHAI = Person(
    "NGUYỄN THỊ MINH KHAI", "NGUYỄN", "THỊ MINH KHAI", date(1985, 4, 2), Sex.FEMALE, "VN", IdType.CCCD, "001185012345"
)


def dose(
    dose_pk: int,
    number: int,
    kind: DoseKind = DoseKind.BASIC,
    *,
    at: datetime = NOW,
    person: Person = KHAI,
    site_id: str = "HN-1",
) -> StoredDose:
    injection = Injection("EU/1/20/1528", f"LOT{dose_pk}", number, 9, kind, at)
    event = DoseEvent(DoseId(f"D-{dose_pk}"), SiteId(site_id), person, Identity(), injection)
    certificate = Certificate(UVCI, event.dose_id, 1, "HC1:X", "00", NOW, NOW + timedelta(days=365))
    return StoredDose(dose_pk, "platform", event, event.identity, "issued", (), "", NOW, certificate)


def page(one: StoredDose, **changes: Any) -> Any:
    form = FormChoice(FormId("a4/43-2022"), "iso_a4_210x297mm", 1000)
    job = make_job(UVCI, SITE.site_id, form=form, job_id="1", now=NOW, copy_number=changes.pop("copy_number", 1))
    values: dict[str, Any] = {"others": [], "site_names": {"HN-1": SITE.name}} | changes
    return page_of(one, job=job, site=SITE, **values)


def days(n: int) -> timedelta:
    return timedelta(days=n)


def labels(rows: list[Any]) -> list[str | None]:
    return [row and row["label"].split(" / ")[0] for row in rows]


# --- the rows


def test_a_third_dose_alone_stands_in_the_third_row() -> None:
    rows = dose_rows(dose(1, 3), [], {})
    assert labels(rows) == [None, None, "Mũi 3", None, None, None, None]
    assert rows[2]["attested"]


def test_doses_stand_where_the_form_has_them() -> None:
    first, second = dose(1, 1, at=NOW - days(90)), dose(2, 2, at=NOW - days(60))
    additional = dose(3, 3, DoseKind.ADDITIONAL, at=NOW - days(30))
    booster = dose(4, 4, DoseKind.BOOSTER)
    rows = dose_rows(booster, [second, additional, first, booster], {"HN-1": "Trạm"})
    assert labels(rows) == ["Mũi 1", "Mũi 2", None, "Bổ sung 1", "Nhắc lại 1", None, None]
    assert [bool(row and row["attested"]) for row in rows] == [False] * 4 + [True, False, False]
    assert [row["site"] for row in rows if row] == ["Trạm"] * 4
    assert [row["lot"] for row in rows if row] == ["LOT1", "LOT2", "LOT3", "LOT4"]


def test_boosters_stand_in_the_order_of_time_whichever_is_attested() -> None:
    boosters = [dose(n, 9, DoseKind.BOOSTER, at=NOW + days(n)) for n in (1, 2, 3)]
    for attested in boosters:
        rows = dose_rows(attested, reversed(boosters), {})
        assert labels(rows)[4:] == ["Nhắc lại 1", "Nhắc lại 2", "Nhắc lại 3"]
        assert [row["lot"] for row in rows[4:]] == ["LOT1", "LOT2", "LOT3"]
        assert rows[4 + boosters.index(attested)]["attested"]


def test_a_row_that_is_taken_sends_the_dose_to_the_next_that_is_free() -> None:
    early, late = dose(1, 1, at=NOW - days(30)), dose(2, 1)
    rows = dose_rows(late, [early], {})
    assert rows[0]["lot"] == "LOT2", "the attested dose stands first"
    assert rows[1]["lot"] == "LOT1"
    assert labels(rows)[:2] == ["Mũi 1", "Mũi 1"]


def test_nine_doses_of_one_person_fill_the_form_and_the_attested_one_is_there() -> None:
    doses = [dose(n, n, at=NOW + days(n)) for n in range(1, 10)]
    for attested in doses:
        rows = dose_rows(attested, doses, {})
        assert all(rows)
        assert [row["lot"] for row in rows if row["attested"]] == [f"LOT{attested.dose_pk}"]


@given(
    st.lists(
        st.tuples(st.sampled_from(DoseKind), st.integers(1, 9), st.integers(0, 400)),
        min_size=1,
        max_size=10,
        unique=True,
    ),
    st.data(),
)
def test_rows_hold_each_dose_at_most_once_and_the_attested_one_always(
    drawn: list[tuple[DoseKind, int, int]], data: st.DataObject
) -> None:
    doses = [dose(pk, number, kind, at=NOW + days(day)) for pk, (kind, number, day) in enumerate(drawn, 1)]
    attested = data.draw(st.sampled_from(doses))
    rows = dose_rows(attested, doses, {})
    lots = [row["lot"] for row in rows if row]
    assert len(rows) == len(ROWS) == 7
    assert len(lots) == len(set(lots)) == min(len(doses), 7)
    assert [row["lot"] for row in rows if row and row["attested"]] == [f"LOT{attested.dose_pk}"]
    assert rows == dose_rows(attested, data.draw(st.permutations(doses)), {}), "the order of the input says nothing"
    more = more_dose_rows(attested, data.draw(st.permutations(doses)), {})
    assert sorted(lots + [row["lot"] for row in more]) == sorted(f"LOT{dose.dose_pk}" for dose in doses)
    assert not any(row["attested"] for row in more)


def test_two_records_of_one_injection_are_one_row() -> None:
    """Nobody gets the same dose twice in a day; the record that the QR states wins."""
    doses = [dose(pk, 2, at=NOW) for pk in range(1, 10)]
    rows = dose_rows(doses[4], doses, {})
    assert [row["lot"] for row in rows if row] == ["LOT5"]
    assert more_dose_rows(doses[4], doses, {}) == []
    another_day = dose(20, 2, at=NOW + days(1))
    assert [row["lot"] for row in dose_rows(doses[4], [*doses, another_day], {}) if row] == ["LOT5", "LOT20"]


def test_doses_without_a_row_follow_in_the_order_of_time() -> None:
    doses = [dose(n, n, at=NOW + days(n)) for n in range(1, 10)]
    told = page(doses[0], others=reversed(doses))
    assert [row["lot"] for row in told["more_rows"]] == ["LOT8", "LOT9"]
    assert [row["label"] for row in told["more_rows"]] == ["Mũi 8 / Dose 8", "Mũi 9 / Dose 9"]
    assert page(doses[0])["more_rows"] == []


def test_phone_and_address_are_there_for_the_forms_that_show_them() -> None:
    told = page(dose(1, 1, person=replace(KHAI, phone="0912345678", address="12 Phố Huế")))
    assert (told["phone_masked"], told["address"]) == ("••••••5678", "12 Phố Huế")
    assert "0912345678" not in repr(told)
    unknown = page(dose(1, 1))
    assert (unknown["phone_masked"], unknown["address"]) == ("", "")


# --- the rest of the page


def test_the_page_of_a_dose() -> None:
    told = page(dose(1, 2))
    assert told["qr"] == "HC1:X"
    assert told["full_name"] == "NGUYỄN THỊ MINH KHAI"
    assert told["name_line"] == "NGUYEN<<THI<MINH<KHAI"
    assert told["date_of_birth"] == "02/04/1985"
    assert told["sex"] == "Nữ / Female"
    assert told["nationality"] == "Việt Nam / Vietnam"
    assert (told["id_label"], told["id_masked"]) == ("CCCD / ID card", "••••••••2345")
    assert (told["doses_received"], told["dose_number"]) == ("2/9", "2")
    assert (told["product"], told["manufacturer"]) == ("Comirnaty", "Pfizer/BioNTech")
    assert told["vaccine"] == "Vắc xin mRNA phòng SARS-CoV-2 / SARS-CoV-2 mRNA vaccine"
    assert (told["authority"], told["site_name"]) == (SITE.authority, SITE.name)
    assert (told["issued_on"], told["expires_on"], told["copy_number"]) == ("30/10/2021", "30/10/2022", 1)
    assert "001185012345" not in repr(told), "the whole number stands nowhere"


def test_who_has_no_number_has_no_label_for_it() -> None:
    told = page(dose(1, 1, person=replace(KHAI, id_type=IdType.NONE, id_number=None)))
    assert (told["id_label"], told["id_masked"]) == ("", "")


@pytest.mark.parametrize(
    ("at", "day"),
    [
        (datetime(2021, 10, 29, 17, 0, tzinfo=UTC), "30/10/2021"),
        (datetime(2021, 10, 29, 16, 59, 59, tzinfo=UTC), "29/10/2021"),
        (datetime(2021, 10, 30, 0, 30, tzinfo=timezone(timedelta(hours=7))), "30/10/2021"),
        (datetime(2021, 10, 30, 23, 30, tzinfo=timezone(timedelta(hours=-5))), "31/10/2021"),
    ],
)
def test_the_day_of_the_injection_is_vietnams_in_the_field_and_in_the_row(at: datetime, day: str) -> None:
    told = page(dose(1, 1, at=at))
    assert told["injected_on"] == day
    assert told["rows"][0]["date"] == day


def test_the_days_of_issue_and_expiry_are_vietnams() -> None:
    one = dose(1, 1)
    assert one.certificate
    evening = datetime(2021, 12, 31, 17, 30, tzinfo=UTC)
    late = replace(one, certificate=replace(one.certificate, issued_at=evening, expires_at=evening + days(365)))
    told = page(late)
    assert (told["issued_on"], told["expires_on"]) == ("01/01/2022", "01/01/2023")


def test_a_dose_without_a_certificate_has_no_page() -> None:
    with pytest.raises(NotFoundError):
        page(replace(dose(1, 1), certificate=None))


def test_a_site_without_a_name_is_shown_by_its_id() -> None:
    assert page(dose(1, 1, site_id="HN-9"))["rows"][0]["site"] == "HN-9"


# --- the identifier


@given(st.binary(min_size=1, max_size=20), st.sampled_from(["VN", "DE"]))
def test_groups_of_a_uvci_join_to_it(opaque: bytes, country: str) -> None:
    uvci = make_uvci(country, opaque)
    groups = group_uvci(uvci)
    assert "".join(groups) == uvci
    assert groups[0] == f"URN:UVCI:01:{country}:"
    assert all(0 < len(group) <= 6 for group in groups[1:])
    assert all(len(group) == 4 for group in itertools.islice(groups, 1, len(groups) - 1))


@pytest.mark.parametrize("uvci", ["URN:UVCI:01:VN:ABCDEF", "ABC", "URN:UVCI:01:VN:#X", "", "01:"])
def test_any_identifier_is_grouped_without_loss(uvci: str) -> None:
    assert "".join(group_uvci(uvci)) == uvci
    assert Uvci(uvci) == uvci
