"""The policy that issues or holds, row by row."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.dose import Identity, IdentityStatus
from printsvc.domain.person import IdType, Person, Sex
from printsvc.identity.gate import Hold, Issue, Rule, decide
from printsvc.identity.numbers import NumberCheck, check_number

KHAI = Person(
    "NGUYỄN THỊ MINH KHAI", "NGUYỄN", "THỊ MINH KHAI", date(1985, 4, 12), Sex.FEMALE, "VN", IdType.CCCD, "001185012345"
)
_S, _T = IdentityStatus, IdType


def person_with(nationality: str, id_type: IdType, number: str | None) -> Person:
    return replace(KHAI, nationality=nationality, id_type=id_type, id_number=number)


ISSUED = [
    # status, nationality, id_type, number, mark
    (_S.MATCHED, "VN", _T.CCCD, "001185012345", ""),
    (_S.MATCHED, "VN", _T.CMND, "012345678", ""),
    (_S.MATCHED, "VN", _T.PASSPORT, "B1234567", ""),
    (_S.MATCHED, "FR", _T.PASSPORT, "12AB34567", ""),
    (_S.EXEMPT, "FR", _T.PASSPORT, "12AB34567", "foreign-passport"),
    (_S.EXEMPT, "VN", _T.NONE, None, "no-papers"),
]
HELD = [
    # status, nationality, id_type, number, reasons
    (_S.MATCHED, "VN", _T.CCCD, "001085012345", ["number_wrong_sex"]),
    (_S.MATCHED, "VN", _T.CCCD, "001385012345", ["number_wrong_century"]),
    (_S.MATCHED, "VN", _T.CCCD, "001186012345", ["number_wrong_birth_year"]),
    (_S.MATCHED, "VN", _T.CCCD, "003185012345", ["number_unknown_province"]),
    (_S.MATCHED, "VN", _T.CCCD, "00118501234", ["number_bad_form"]),
    (_S.MATCHED, "VN", _T.CCCD, None, ["number_absent"]),
    (_S.MATCHED, "VN", _T.CMND, "1", ["number_bad_form"]),
    (_S.MATCHED, "VN", _T.NONE, None, ["number_absent"]),
    (_S.MATCHED, "VN", _T.NONE, "001185012345", ["number_bad_form"]),
    (_S.MATCHED, "FR", _T.PASSPORT, "?", ["number_bad_form"]),
    (_S.MISMATCHED, "VN", _T.CCCD, "001185012345", ["identity_mismatched"]),
    (_S.MISMATCHED, "VN", _T.CCCD, "001085012345", ["identity_mismatched", "number_wrong_sex"]),
    (_S.UNCHECKED, "VN", _T.CCCD, "001185012345", ["identity_unchecked"]),
    (_S.UNCHECKED, "VN", _T.CCCD, None, ["identity_unchecked", "number_absent"]),
    (_S.UNCHECKED, "FR", _T.PASSPORT, "12AB34567", ["identity_unchecked"]),
    (_S.UNCHECKED, "VN", _T.NONE, None, ["identity_unchecked"]),
    (_S.EXEMPT, "FR", _T.PASSPORT, "?", ["number_bad_form"]),
    (_S.EXEMPT, "FR", _T.NONE, None, ["exemption_not_allowed"]),
    (_S.EXEMPT, "FR", _T.CCCD, "001185012345", ["exemption_not_allowed"]),
    (_S.EXEMPT, "VN", _T.CCCD, "001185012345", ["exemption_not_allowed"]),
    (_S.EXEMPT, "VN", _T.PASSPORT, "B1234567", ["exemption_not_allowed"]),
    (_S.EXEMPT, "VN", _T.NONE, "1", ["number_bad_form"]),
    (_S.EXEMPT, "VN", _T.CMND, None, ["exemption_not_allowed", "number_absent"]),
]


@pytest.mark.parametrize(("status", "nationality", "id_type", "number", "mark"), ISSUED)
def test_issued(status: IdentityStatus, nationality: str, id_type: IdType, number: str | None, mark: str) -> None:
    assert decide(person_with(nationality, id_type, number), Identity(status)) == Issue(mark)


@pytest.mark.parametrize(("status", "nationality", "id_type", "number", "reasons"), HELD)
def test_held(
    status: IdentityStatus, nationality: str, id_type: IdType, number: str | None, reasons: list[str]
) -> None:
    decision = decide(person_with(nationality, id_type, number), Identity(status))
    assert isinstance(decision, Hold)
    assert [reason.code for reason in decision.reasons] == reasons


def test_no_identity_block_is_unchecked() -> None:
    assert decide(KHAI, Identity()) == decide(KHAI, Identity(_S.UNCHECKED))


numbers = st.one_of(
    st.none(),
    st.sampled_from(["", "001185012345", "001085012345", "012345678", "B1234567", "12AB34567"]),
    st.text(max_size=14),
    st.from_regex(r"[0-9]{9,12}", fullmatch=True),
)


@given(
    st.sampled_from(IdentityStatus),
    st.sampled_from(["VN", "FR", "LA", ""]),
    st.sampled_from(IdType),
    numbers,
    st.sampled_from(Sex),
    st.dates(),
)
def test_every_case_has_a_decision_and_every_hold_its_reasons(
    status: IdentityStatus, nationality: str, id_type: IdType, number: str | None, sex: Sex, born: date
) -> None:
    person = replace(person_with(nationality, id_type, number), sex=sex, date_of_birth=born)
    decision = decide(person, Identity(status))
    match decision:
        case Issue(mark):
            assert status in (_S.MATCHED, _S.EXEMPT)
            assert bool(mark) is (status is _S.EXEMPT), "who is exempt is counted"
            assert check_number(person) in (NumberCheck.AGREES, NumberCheck.ABSENT)
        case Hold(reasons):
            assert reasons
            assert len(reasons) == len(set(reasons))
            assert all(reason.code and reason.vi and reason.en and reason.vi != reason.en for reason in reasons)


def test_the_whole_table_holds_whatever_is_not_issued_by_name() -> None:
    samples = {
        _T.CCCD: ["001185012345", "001085012345", None],
        _T.CMND: ["012345678", "x", None],
        _T.PASSPORT: ["B1234567", "x", None],
        _T.NONE: [None, "x"],
    }
    issued = [
        (status, nationality == "VN", id_type, number)
        for status, nationality, id_type in itertools.product(IdentityStatus, ["VN", "FR"], IdType)
        for number in samples[id_type]
        if isinstance(decide(person_with(nationality, id_type, number), Identity(status)), Issue)
    ]
    good = {_T.CCCD: "001185012345", _T.CMND: "012345678", _T.PASSPORT: "B1234567"}
    expected = [(_S.MATCHED, citizen, id_type, good[id_type]) for citizen in (True, False) for id_type in good]
    expected += [(_S.EXEMPT, False, _T.PASSPORT, "B1234567"), (_S.EXEMPT, True, _T.NONE, None)]
    assert sorted(issued, key=str) == sorted(expected, key=str)


def test_another_policy_decides_otherwise_and_an_empty_one_holds() -> None:
    generous = (Rule(None, None, None, None, issue=True, mark="drill"),)
    assert decide(KHAI, Identity(_S.MISMATCHED), generous) == Issue("drill")
    for policy in ((), (Rule(_S.MATCHED, None, None, None, issue=False),)):
        decision = decide(KHAI, Identity(_S.MATCHED), policy)
        assert isinstance(decision, Hold)
        assert [reason.code for reason in decision.reasons] == ["policy"]
