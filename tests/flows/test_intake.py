"""Reading events: what is right comes back as it is, what is wrong is told with its place, code and two sentences."""

from __future__ import annotations

import copy
import json
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.dose import DoseKind, Identity, IdentityStatus
from printsvc.domain.eventdocument import event_from_document, event_to_document
from printsvc.domain.person import IdType, Sex
from printsvc.domain.valuesets import PRODUCTS, PROPHYLAXES
from printsvc.errors import DoseError
from printsvc.flows.intake import COUNTRIES, parse_event, parse_identity
from printsvc.issuing import intake as rules

NOW = datetime(2021, 10, 30, 2, 12, 0, tzinfo=UTC)
VIETNAM = timezone(timedelta(hours=7))

GOOD: dict[str, Any] = {
    "dose_id": "HN-2021-0000017",
    "site_id": "HN-HBT-01",
    "person": {
        "full_name": "NGUYỄN THỊ MINH KHAI",
        "date_of_birth": "1985-04-12",
        "sex": "female",
        "nationality": "VN",
        "id_type": "cccd",
        "id_number": "001185012345",
        "phone": "0912345678",
        "address": "12 Phố Huế, Hai Bà Trưng, Hà Nội",
    },
    "identity": {"status": "matched", "checked_at": "2021-10-30T01:58:00Z", "reference": "NPD-7731"},
    "dose": {
        "product": "EU/1/20/1528",
        "lot": "FG3712",
        "number": 2,
        "series": 2,
        "kind": "basic",
        "injected_at": "2021-10-30T09:12:00+07:00",
    },
}
MISSING = object()


def changed(pointer: str, value: Any) -> Any:
    """Return the good event with one value changed, added, or (MISSING) left out."""
    document = copy.deepcopy(GOOD)
    *path, last = pointer.strip("/").split("/")
    place = document
    for part in path:
        place = place[part]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return document


def mistakes(document: Any, now: datetime = NOW) -> list[tuple[str, str]]:
    """Return (pointer, code) of each problem; empty where the event is right."""
    try:
        parse_event(document, now=now)
    except DoseError as error:
        problems = error.problems
    else:
        return []
    assert problems
    assert all(problem.vi.strip() and problem.en.strip() for problem in problems)
    return [(problem.pointer, problem.code) for problem in problems]


def test_the_example_of_the_contract() -> None:
    event = parse_event(GOOD, now=NOW)
    assert (event.dose_id, event.site_id) == ("HN-2021-0000017", "HN-HBT-01")
    assert (event.person.family_name, event.person.given_name) == ("NGUYỄN", "THỊ MINH KHAI")
    assert event.person.date_of_birth == date(1985, 4, 12)
    assert (event.person.sex, event.person.id_type) == (Sex.FEMALE, IdType.CCCD)
    assert event.identity == Identity(IdentityStatus.MATCHED, datetime(2021, 10, 30, 1, 58, tzinfo=UTC), "NPD-7731")
    assert event.dose.injected_at == datetime(2021, 10, 30, 9, 12, tzinfo=VIETNAM)
    assert event.dose.kind is DoseKind.BASIC


RULES = [
    # --- shape
    ("/dose_id", MISSING, "/dose_id", "missing"),
    ("/person", MISSING, "/person", "missing"),
    ("/person", "x", "/person", "not_object"),
    ("/person", None, "/person", "not_object"),
    ("/dose", [], "/dose", "not_object"),
    ("/extra", 1, "/extra", "unknown_field"),
    ("/person/extra", 1, "/person/extra", "unknown_field"),
    ("/dose_id", 17, "/dose_id", "not_text"),
    ("/person/full_name", ["x"], "/person/full_name", "not_text"),
    ("/dose/number", "2", "/dose/number", "not_integer"),
    ("/dose/number", 2.0, "/dose/number", "not_integer"),
    ("/dose/number", True, "/dose/number", "not_integer"),
    ("/person/sex", "f", "/person/sex", "not_a_choice"),
    ("/person/sex", {}, "/person/sex", "not_a_choice"),
    ("/person/id_type", "driving licence", "/person/id_type", "not_a_choice"),
    ("/identity/status", "maybe", "/identity/status", "not_a_choice"),
    ("/dose/kind", "third", "/dose/kind", "not_a_choice"),
    # --- ids
    ("/dose_id", "", "/dose_id", "dose_id_form"),
    ("/dose_id", "D 1", "/dose_id", "dose_id_form"),
    ("/dose_id", "D-1\n", "/dose_id", "dose_id_form"),
    ("/dose_id", "Đ-1", "/dose_id", "dose_id_form"),
    ("/dose_id", "D" * 129, "/dose_id", "dose_id_form"),
    ("/site_id", "../x", "/site_id", "unknown_site"),
    ("/site_id", "", "/site_id", "unknown_site"),
    ("/site_id", "S" * 65, "/site_id", "too_long"),
    # --- names and texts
    ("/person/full_name", MISSING, "/person/full_name", "missing"),
    ("/person/full_name", "", "/person/full_name", "missing"),
    ("/person/full_name", "  ", "/person/full_name", "missing"),
    ("/person/full_name", "123 456", "/person/full_name", "name_without_letters"),
    ("/person/full_name", "\u0301", "/person/full_name", "name_without_letters"),
    ("/person/full_name", "A" * 161, "/person/full_name", "too_long"),
    ("/person/full_name", "A" * 81, "/person/full_name", "name_too_long"),
    ("/person/full_name", "A " + "B" * 81, "/person/full_name", "name_too_long"),
    ("/person/family_name", "A" * 81, "/person/family_name", "too_long"),
    ("/person/given_name", "A" * 81, "/person/given_name", "too_long"),
    ("/person/address", "A" * 301, "/person/address", "too_long"),
    ("/person/nationality", "XX", "/person/nationality", "unknown_country"),
    ("/person/nationality", "vn", "/person/nationality", "unknown_country"),
    ("/person/nationality", "VNM", "/person/nationality", "unknown_country"),
    ("/person/nationality", "EU", "/person/nationality", "unknown_country"),
    ("/person/nationality", "IC", "/person/nationality", "unknown_country"),
    ("/person/phone", "call me", "/person/phone", "phone_form"),
    ("/person/phone", "1" * 33, "/person/phone", "too_long"),
    ("/person/id_number", "1" * 33, "/person/id_number", "too_long"),
    # --- dates
    ("/person/date_of_birth", "1985-02-29", "/person/date_of_birth", "not_a_date"),
    ("/person/date_of_birth", "12/04/1985", "/person/date_of_birth", "not_a_date"),
    ("/person/date_of_birth", "1985", "/person/date_of_birth", "not_a_date"),
    ("/person/date_of_birth", "1985-04-12T00:00:00Z", "/person/date_of_birth", "not_a_date"),
    ("/person/date_of_birth", "１９８５-04-12", "/person/date_of_birth", "not_a_date"),
    ("/person/date_of_birth", 482112000, "/person/date_of_birth", "not_a_date"),
    ("/person/date_of_birth", "2021-11-01", "/person/date_of_birth", "in_future"),
    ("/person/date_of_birth", "2021-10-31", "/person/date_of_birth", "in_future"),
    ("/person/date_of_birth", "1891-10-29", "/person/date_of_birth", "too_old"),
    ("/person/date_of_birth", "0001-01-01", "/person/date_of_birth", "too_old"),
    ("/dose/injected_at", "2021-10-30T09:12:00", "/dose/injected_at", "not_a_time"),
    ("/dose/injected_at", "2021-10-30", "/dose/injected_at", "not_a_time"),
    ("/dose/injected_at", "2021-02-30T09:12:00Z", "/dose/injected_at", "not_a_time"),
    ("/dose/injected_at", "2021-10-30T25:12:00Z", "/dose/injected_at", "not_a_time"),
    ("/dose/injected_at", "1635559920", "/dose/injected_at", "not_a_time"),
    ("/dose/injected_at", 1635559920, "/dose/injected_at", "not_text"),
    ("/dose/injected_at", "2021-10-30T02:17:01Z", "/dose/injected_at", "in_future"),
    ("/dose/injected_at", "9999-12-31T23:59:59-14:00", "/dose/injected_at", "in_future"),
    ("/dose/injected_at", "2020-11-30T23:59:59+07:00", "/dose/injected_at", "before_first_vaccine"),
    ("/identity/checked_at", "2021-10-30T02:17:01Z", "/identity/checked_at", "in_future"),
    ("/identity/checked_at", "0001-01-01T00:00:00+14:00", "/identity/checked_at", "not_a_time"),
    ("/identity/reference", "R" * 129, "/identity/reference", "too_long"),
    # --- the dose
    ("/dose/product", "EU/1/20/9999", "/dose/product", "unknown_product"),
    ("/dose/product", "P" * 81, "/dose/product", "too_long"),
    ("/dose/lot", "", "/dose/lot", "lot_form"),
    ("/dose/lot", "   ", "/dose/lot", "lot_form"),
    ("/dose/lot", "L" * 21, "/dose/lot", "lot_form"),
    ("/dose/lot", "LÔ 1", "/dose/lot", "lot_form"),
    ("/dose/lot", "FG_3712", "/dose/lot", "lot_form"),
    ("/dose/lot", "FG3712\n", "/dose/lot", "lot_form"),
    ("/dose/number", 3, "/dose/number", "beyond_series"),
    ("/dose/number", 0, "/dose/number", "dose_number_range"),
    ("/dose/number", -1, "/dose/number", "dose_number_range"),
    ("/dose/series", 10, "/dose/series", "dose_number_range"),
]


@pytest.mark.parametrize(("at", "value", "pointer", "code"), RULES)
def test_each_rule_has_its_pointer_and_code(at: str, value: Any, pointer: str, code: str) -> None:
    assert mistakes(changed(at, value)) == [(pointer, code)]


@pytest.mark.parametrize("field", ["full_name", "family_name", "given_name", "address"])
@pytest.mark.parametrize(
    "character",
    [
        "\x00",
        "\n",
        "\t",
        "\x7f",
        "\x85",
        "\u200b",
        "\u200e",
        "\u202e",
        "\u2066",
        "\u2069",
        "\u2028",
        "\ufeff",
        "\ue000",
    ],
    ids=lambda character: f"U+{ord(character):04X}",
)
def test_control_and_bidi_characters_are_refused(field: str, character: str) -> None:
    found = mistakes(changed(f"/person/{field}", f"NGUYỄN{character}KHAI"))
    assert (f"/person/{field}", "control_character") in found
    assert {pointer for pointer, _ in found} <= {f"/person/{field}", "/person/full_name"}


@given(address=st.text(max_size=40))
def test_a_text_is_refused_for_what_any_of_its_characters_is(address: str) -> None:
    """Spaces of all kinds are folded; controls, formats, what is private, unassigned or a separator is refused."""
    refused = any(unicodedata.category(one) in {"Cc", "Cf", "Co", "Cn", "Zl", "Zp"} for one in address)
    assert mistakes(changed("/person/address", address)) == [("/person/address", "control_character")] * refused


GOOD_CHANGES = [
    ("/person/date_of_birth", "1891-10-30"),  # 130 years, and not a day more
    ("/person/date_of_birth", "2021-10-30"),  # born today
    ("/dose/injected_at", "2021-10-30T02:16:59Z"),  # clocks differ
    ("/dose/injected_at", "2020-12-01T00:00:00+07:00"),
    ("/dose/injected_at", "2021-10-30 09:12+0700"),
    ("/dose/lot", "A-1/b 2"),
    ("/dose/lot", "L" * 20),
    ("/dose_id", "D" * 128),
    ("/person/full_name", "Đ"),
    ("/person/full_name", "A" * 79 + " " + "B" * 80),
    ("/person/phone", "+84 (0)91 234-5678"),
    ("/person/phone", None),
    ("/person/id_number", None),
    ("/person/address", MISSING),
    ("/identity", None),
    ("/identity", MISSING),
]


@pytest.mark.parametrize(("at", "value"), GOOD_CHANGES)
def test_what_is_just_right_is_taken(at: str, value: Any) -> None:
    assert mistakes(changed(at, value)) == []


def test_all_mistakes_are_told_at_once() -> None:
    document = changed("/dose/lot", "")
    document["person"]["nationality"] = "XX"
    document["dose"]["number"] = 12
    assert set(mistakes(document)) == {
        ("/dose/lot", "lot_form"),
        ("/person/nationality", "unknown_country"),
        ("/dose/number", "dose_number_range"),
        ("/dose/number", "beyond_series"),
    }


def test_born_after_the_injection() -> None:
    document = changed("/person/date_of_birth", "2021-10-02")
    document["dose"]["injected_at"] = "2021-10-01T23:00:00+07:00"
    assert mistakes(document) == [("/person/date_of_birth", "born_after_injection")]


def test_a_pointer_is_escaped() -> None:
    document = copy.deepcopy(GOOD)
    document["a/b~c"] = 1
    assert mistakes(document) == [("/a~1b~0c", "unknown_field")]


# --- names


def test_decomposed_text_is_composed_before_it_is_measured() -> None:
    name = "NGUYỄN THỊ " + "Ệ" * 70
    decomposed = unicodedata.normalize("NFD", name)
    assert len(decomposed) > 200
    event = parse_event(changed("/person/full_name", decomposed), now=NOW)
    assert event.person.full_name == name
    assert event == parse_event(changed("/person/full_name", name), now=NOW)


def test_spaces_are_folded() -> None:
    event = parse_event(changed("/person/full_name", "  NGUYỄN   THỊ\u00a0KHAI "), now=NOW)
    assert event.person.full_name == "NGUYỄN THỊ KHAI"


@pytest.mark.parametrize(
    ("full", "family", "given", "expected"),
    [
        ("NGUYỄN VĂN A", None, None, ("NGUYỄN VĂN A", "NGUYỄN", "VĂN A")),
        ("SUKARNO", None, None, ("SUKARNO", "SUKARNO", "")),
        ("Anna van der Berg", "van der Berg", "Anna", ("Anna van der Berg", "van der Berg", "Anna")),
        (None, "van der Berg", "Anna", ("van der Berg Anna", "van der Berg", "Anna")),
        ("SUKARNO", "SUKARNO", None, ("SUKARNO", "SUKARNO", "")),
        (None, None, "SUHARTO", ("SUHARTO", "SUHARTO", "")),
        ("NGUYỄN VĂN A", None, "VĂN A", ("NGUYỄN VĂN A", "NGUYỄN", "VĂN A")),
    ],
)
def test_family_and_given_names(
    full: str | None, family: str | None, given: str | None, expected: tuple[str, str, str]
) -> None:
    document = copy.deepcopy(GOOD)
    document["person"] |= {"full_name": full, "family_name": family, "given_name": given}
    person = parse_event(document, now=NOW).person
    assert (person.full_name, person.family_name, person.given_name) == expected


@pytest.mark.parametrize(
    ("full", "family", "given", "code"),
    [
        ("NGUYỄN THỊ MINH KHAI", "TRẦN", "A", "name_parts_differ"),
        ("Sophie MÜLLER", "Müller", "Sophie Anna", "name_parts_differ"),
        ("<b>Lan</b> Nguyễn", None, None, "name_character"),
        ("Li<Wang", None, None, "name_character"),
    ],
)
def test_a_name_that_the_paper_and_the_code_would_say_differently_is_refused(
    full: str, family: str | None, given: str | None, code: str
) -> None:
    document = copy.deepcopy(GOOD)
    document["person"] |= {"full_name": full, "family_name": family, "given_name": given}
    assert mistakes(document) == [("/person/full_name", code)]


def test_the_parts_may_stand_in_any_order_and_case() -> None:
    document = copy.deepcopy(GOOD)
    document["person"] |= {"full_name": "Sophie MÜLLER-WEISS", "family_name": "Müller-Weiß", "given_name": "Sophie"}
    assert parse_event(document, now=NOW).person.family_name == "Müller-Weiß"
    document["person"] |= {"full_name": "NGUYỄN VĂN A", "family_name": "NGUYỄN", "given_name": None}
    assert parse_event(document, now=NOW).person.given_name == "VĂN A", "one part alone loses nothing"


def test_an_identity_number_is_kept_without_spaces_in_capitals() -> None:
    document = changed("/person/id_number", " b 123 4567 ")
    assert parse_event(document, now=NOW).person.id_number == "B1234567"


# --- whole events

letters = st.characters(categories=["Lu", "Ll", "Lo", "Lm"])
word = st.text(letters, min_size=1, max_size=12).filter(lambda t: len(unicodedata.normalize("NFC", t)) <= 20)
moments = st.datetimes(datetime.fromisoformat("2020-12-02"), datetime.fromisoformat("2021-10-29"))
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@st.composite
def good_events(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an event that breaks no rule."""
    series = draw(st.integers(1, 9))
    injected_at = draw(moments).replace(tzinfo=draw(offsets))
    optional = st.one_of(st.none(), word)
    event: dict[str, Any] = {
        "dose_id": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}", fullmatch=True)),
        "site_id": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)),
        "person": {
            "full_name": " ".join(draw(st.lists(word, min_size=1, max_size=3))),
            "date_of_birth": draw(st.dates(date(1892, 1, 1), date(2020, 12, 1))).isoformat(),
            "sex": draw(st.sampled_from(Sex)).value,
            "nationality": draw(st.sampled_from(sorted(COUNTRIES))),
            "id_type": draw(st.sampled_from(IdType)).value,
            "id_number": draw(st.one_of(st.none(), st.text(letters, max_size=20))),
            "address": draw(optional),
        },
        "dose": {
            "product": draw(st.sampled_from(sorted(PRODUCTS))),
            "lot": draw(st.from_regex(r"[A-Za-z0-9/-][A-Za-z0-9/ -]{0,19}", fullmatch=True)),
            "number": draw(st.integers(1, series)),
            "series": series,
            "kind": draw(st.sampled_from(DoseKind)).value,
            "injected_at": injected_at.isoformat(),
        },
    }
    if draw(st.booleans()):
        checked_at = draw(st.one_of(st.none(), moments))
        event["identity"] = {
            "status": draw(st.sampled_from(IdentityStatus)).value,
            "checked_at": checked_at.replace(tzinfo=UTC).isoformat() if checked_at else None,
            "reference": draw(optional),
        }
    return event


@given(good_events())
def test_a_good_event_is_read_and_comes_back_from_the_store_unchanged(document: dict[str, Any]) -> None:
    event = parse_event(document, now=NOW)
    stored = json.loads(json.dumps(event_to_document(event)))
    assert event_from_document(stored) == event
    assert event.person.family_name, "empty for nobody"
    text = [event.person.full_name, event.person.family_name, event.person.given_name, event.person.address or ""]
    assert all(unicodedata.is_normalized("NFC", one) for one in text)
    assert event.dose.injected_at.utcoffset() == datetime.fromisoformat(document["dose"]["injected_at"]).utcoffset()
    # What was stored may be sent again as it is, and says the same.
    assert parse_event(stored, now=NOW) == event


@pytest.mark.parametrize("letter", "\u0390\u03b0\u1fd2\u1fd3\u1fd7\u1fe2\u1fe3\u1fe7")
def test_a_number_that_no_longer_is_composed_as_capitals_may_be_sent_again(letter: str) -> None:
    event = parse_event(changed("/person/id_number", letter), now=NOW)
    assert event.person.id_number == unicodedata.normalize("NFC", letter.upper())
    assert parse_event(json.loads(json.dumps(event_to_document(event))), now=NOW) == event


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["VN", "2021-10-30", "none"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(any_json)
def test_nonsense_is_a_dose_error(document: Any) -> None:
    assert mistakes(document)


FIELDS = [f"/{name}" for name in GOOD] + [
    f"/{block}/{name}" for block in ("person", "identity", "dose") for name in GOOD[block]
]


@given(st.sampled_from(FIELDS), any_json)
def test_nonsense_in_one_field_is_taken_or_told_there(at: str, value: Any) -> None:
    for pointer, _ in mistakes(changed(at, value)):
        assert pointer.startswith((at, "/person/date_of_birth", "/dose/number"))


@given(st.sampled_from(["/person/date_of_birth", "/dose/injected_at", "/identity/checked_at"]), st.datetimes(), offsets)
def test_no_date_of_the_calendar_breaks_the_reading(at: str, moment: datetime, offset: timezone) -> None:
    text = moment.date().isoformat() if at.endswith("birth") else moment.replace(tzinfo=offset).isoformat()
    for pointer, _ in mistakes(changed(at, text)):
        assert pointer in (at, "/person/date_of_birth")


@given(any_json)
def test_an_identity_result_is_read_or_refused(document: Any) -> None:
    with pytest.raises(DoseError):
        parse_identity(document, now=NOW)


def test_identity_results_point_into_their_own_document() -> None:
    assert parse_identity(GOOD["identity"], now=NOW).reference == "NPD-7731"
    with pytest.raises(DoseError) as raised:
        parse_identity({"status": "matched", "checked_at": "2031-01-01T00:00:00Z"}, now=NOW)
    assert [(p.pointer, p.code) for p in raised.value.problems] == [("/checked_at", "in_future")]


# --- tables


def test_every_code_has_a_sentence_in_both_languages() -> None:
    for code in set(rules._SENTENCES) | set(rules._PYDANTIC_CODES.values()):
        problem = rules.problem("/x", code)
        assert problem.vi.endswith((".", "-"))
        assert problem.en.endswith((".", "-"))
        assert problem.vi != problem.en


def test_countries_are_those_of_iso_3166() -> None:
    assert len(COUNTRIES) == 249 + 1
    assert COUNTRIES["VN"] == ("Việt Nam", "Vietnam")
    assert all(vi and en for vi, en in COUNTRIES.values())


def test_every_product_has_its_prophylaxis() -> None:
    for product in PRODUCTS.values():
        assert product.prophylaxis in PROPHYLAXES
        assert product.name
        assert product.manufacturer


def test_the_sample_events_are_read() -> None:
    lines = (Path(__file__).parents[2] / "docs/examples/doses.ndjson").read_text(encoding="utf-8").splitlines()
    assert [mistakes(json.loads(line), now=datetime.now(UTC)) for line in lines] == [[]] * len(lines)
