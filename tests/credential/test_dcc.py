from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.dcc import build_vaccination, check_dcc, usage_of
from printsvc.credential.dsc import Usage
from printsvc.domain.dose import DoseKind, Injection
from printsvc.domain.person import IdType, Person, Sex, split_full_name
from printsvc.domain.uvci import make_uvci
from printsvc.domain.valuesets import PRODUCTS
from printsvc.errors import DoseError, InputError, PersonError

UVCI = make_uvci("VN", bytes(16))
WORDS = st.text("AĂÂBCDĐEÊGHIKLMNOÔƠPQRSTUƯVXYẮẾỆỘỨ", min_size=1, max_size=12)
PERSONS = st.builds(
    lambda names, born, sex: Person(" ".join(names), *split_full_name(" ".join(names)), born, sex, "VN", IdType.NONE),
    st.lists(WORDS, min_size=1, max_size=6),
    st.dates(date(1900, 1, 1), date(2021, 1, 1)),
    st.sampled_from(Sex),
)
INJECTIONS = st.builds(
    Injection,
    product=st.sampled_from(sorted(PRODUCTS)),
    lot=st.just("A1"),
    number=st.integers(1, 9),
    series=st.integers(1, 9),
    kind=st.sampled_from(DoseKind),
    injected_at=st.integers(1609459200, 1893456000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)


@given(PERSONS, INJECTIONS)
def test_what_is_built_reads_as_right(person: Person, injection: Injection) -> None:
    payload = build_vaccination(person, injection, uvci=UVCI, issuer="Bộ Y tế")
    assert check_dcc(payload, issued_on=date(2030, 1, 2)) == []
    assert usage_of(payload) is Usage.VACCINATION
    assert payload["nam"]["fn"] + " " + payload["nam"].get("gn", "") == person.family_name + " " + person.given_name


def test_content(person: Person, injection: Injection) -> None:
    assert build_vaccination(person, injection, uvci=UVCI, issuer="Bộ Y tế") == {
        "ver": "1.3.0",
        "nam": {"fn": "NGUYỄN", "fnt": "NGUYEN", "gn": "THỊ MINH KHAI", "gnt": "THI<MINH<KHAI"},
        "dob": "1985-04-12",
        "v": [
            {
                "tg": "840539006",
                "vp": "1119349007",
                "mp": "EU/1/20/1528",
                "ma": "ORG-100030215",
                "dn": 2,
                "sd": 2,
                "dt": "2021-10-30",
                "co": "VN",
                "is": "Bộ Y tế",
                "ci": UVCI,
            }
        ],
    }


@pytest.mark.parametrize(
    ("injected_at", "day"),
    [
        (datetime(2021, 10, 29, 16, 59, 59, tzinfo=UTC), "2021-10-29"),
        (datetime(2021, 10, 29, 17, 0, 0, tzinfo=UTC), "2021-10-30"),
    ],
)
def test_the_day_is_the_site_s_day(person: Person, injection: Injection, injected_at: datetime, day: str) -> None:
    dose = dataclasses.replace(injection, injected_at=injected_at)
    assert build_vaccination(person, dose, uvci=UVCI, issuer="X")["v"][0]["dt"] == day


def test_single_name_has_no_given_name(person: Person, injection: Injection) -> None:
    single = dataclasses.replace(person, full_name="Y", family_name="Y", given_name="")
    assert build_vaccination(single, injection, uvci=UVCI, issuer="X")["nam"] == {"fn": "Y", "fnt": "Y"}


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"family_name": "A" * 81}, "/person/family_name", "name_too_long"),
        ({"given_name": "Ê" * 81}, "/person/given_name", "name_too_long"),
        ({"given_name": "小龙"}, "/person/given_name", "name_not_latin"),
        ({"family_name": ""}, "/person/family_name", "name_missing"),
        ({"date_of_birth": date(1899, 12, 31)}, "/person/date_of_birth", "birth_out_of_range"),
    ],
)
def test_persons_that_do_not_fit(
    person: Person, injection: Injection, changes: dict[str, Any], pointer: str, code: str
) -> None:
    with pytest.raises(PersonError) as caught:
        build_vaccination(dataclasses.replace(person, **changes), injection, uvci=UVCI, issuer="X")
    assert [(problem.pointer, problem.code) for problem in caught.value.problems] == [(pointer, code)]
    assert not any(value in str(caught.value) for value in changes.values() if isinstance(value, str) and value)


def test_eighty_characters_fit_however_they_are_spelt(person: Person, injection: Injection) -> None:
    longest = dataclasses.replace(person, family_name="Ü" * 80)
    payload = build_vaccination(longest, injection, uvci=UVCI, issuer="X")
    assert payload["nam"]["fnt"] == "UE" * 40
    assert check_dcc(payload) == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [({"product": "Unknown"}, "/dose/product"), ({"number": 0}, "/dose/number"), ({"series": 100}, "/dose/series")],
)
def test_doses_that_do_not_fit(person: Person, injection: Injection, changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(DoseError) as caught:
        build_vaccination(person, dataclasses.replace(injection, **changes), uvci=UVCI, issuer="X")
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


def test_issuer_too_long(person: Person, injection: Injection) -> None:
    with pytest.raises(InputError):
        build_vaccination(person, injection, uvci=UVCI, issuer="x" * 81)


GOOD: dict[str, Any] = {
    "v": {"tg": "1", "vp": "2", "mp": "3", "ma": "ORG-100030215", "dn": 1, "sd": 2, "dt": "2021-05-01"},
    "t": {"tg": "1", "tt": "LP6464-4", "sc": "2021-05-01T10:00:00Z", "tr": "260415000"},
    "r": {"tg": "1", "fr": "2021-05-01", "df": "2021-05-12", "du": "2021-11-01"},
}


def payload_of(group: str, **changes: Any) -> dict[str, Any]:
    entry = GOOD[group] | {"co": "VN", "is": "X", "ci": UVCI} | changes
    return {
        "ver": "1.3.0",
        "nam": {"fnt": "A"},
        "dob": "1990-01-01",
        group: [{key: value for key, value in entry.items() if value is not ...}],
    }


@pytest.mark.parametrize("group", GOOD)
def test_each_group_alone_is_right_and_two_are_not(group: str) -> None:
    payload = payload_of(group)
    assert check_dcc(payload) == []
    for other in GOOD:
        both = payload | payload_of(other)
        assert bool(check_dcc(both)) == (other != group)
    assert check_dcc(payload | {group: payload[group] * 2}) == [f"{group}: more than one entry"]
    early = payload_of(group, **({"tc": "Centre"} if group == "t" else {})) | {"ver": "1.2.1"}
    assert check_dcc(early | {group: early[group] * 2}) == []
    for key in payload[group][0]:
        assert check_dcc(payload_of(group, **{key: ...})), key
        assert check_dcc(payload_of(group, **{key: []})), key


@pytest.mark.parametrize("zone", ["Z", "+02", "-11", "+0200", "+02:00"])
def test_the_four_forms_of_a_test_s_time(zone: str) -> None:
    assert check_dcc(payload_of("t", sc=f"2021-10-01T10:00:00{zone}")) == []


@pytest.mark.parametrize(
    ("group", "changes"),
    [
        ("v", {"dn": 0}),
        ("v", {"dn": True}),
        ("v", {"dn": 1.5}),
        ("v", {"sd": "2"}),
        ("v", {"sd": 10**18}),
        ("v", {"dt": "2022-17-01"}),
        ("v", {"dt": "2021-05"}),
        ("v", {"ma": "ORG-99999999"}),
        ("v", {"is": "x" * 81}),
        ("t", {"sc": "yesterday"}),
        ("t", {"sc": "2021-10-01T10:00:00+2"}),
        ("t", {"sc": "2021-10-01T10:00:00+25"}),
        ("t", {"sc": "2021-10-01 10:00:00Z"}),
        ("t", {"tc": "x" * 81}),
        ("t", {"nm": 5}),
        ("r", {"co": "XY"}),
        ("r", {"co": "vn"}),
        ("r", {"du": ""}),
    ],
)
def test_wrong_entries(group: str, changes: dict[str, Any]) -> None:
    problems = check_dcc(payload_of(group, **changes))
    assert [problem.partition(":")[0] for problem in problems] == [f"{group}/0/{key}" for key in changes]


@pytest.mark.parametrize(
    "changes",
    [
        {"ver": "2.0.0"},
        {"ver": None},
        {"nam": None},
        {"nam": {}},
        {"nam": {"fnt": "a"}},
        {"nam": {"fnt": "A", "gn": 5}},
        {"nam": {"fnt": "A", "gn": "😀", "gnt": ""}},
        {"nam": {"fnt": "A" * 81}},
        {"dob": "1815-08-24"},
        {"dob": 19900101},
        {"dob": "2023-01-01"},
        {"v": []},
        {"v": {}},
        {"v": [5]},
        {"v": None},
    ],
)
def test_wrong_envelopes(changes: dict[str, Any]) -> None:
    assert check_dcc(payload_of("v") | changes, issued_on=date(2021, 5, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"dob": ""},
        {"dob": "1963"},
        {"dob": "1963-00"},
        {"dob": "1978-01-26T00:00:00"},
        {"nam": {"gnt": "A"}},
        {"nam": {"fn": "李", "fnt": "LI", "gn": "", "gnt": ""}},
        {"t": None, "r": None},
        {"ver": "1.0.4"},
    ],
)
def test_tolerated_envelopes(changes: dict[str, Any]) -> None:
    assert check_dcc(payload_of("v") | changes) == []


@given(
    st.dictionaries(
        st.sampled_from(["ver", "nam", "dob", "v", "t", "r"]),
        st.recursive(
            st.none() | st.text(max_size=4) | st.integers() | st.floats(),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["dn", "sd", "dt", "fnt", "gn", "co", "ma", "sc"]), inner)
            ),
        ),
    )
)
def test_never_raises(payload: dict[str, Any]) -> None:
    assert isinstance(check_dcc(payload, issued_on=date.max), list)
