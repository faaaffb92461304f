"""What identity numbers say: each contradiction is found and named."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from printsvc.domain.person import IdType, Person, Sex
from printsvc.identity.numbers import PROVINCE_CODES_2021, CccdParts, NumberCheck, check_number, parse_cccd

KHAI = Person(
    "NGUYỄN THỊ MINH KHAI", "NGUYỄN", "THỊ MINH KHAI", date(1985, 4, 12), Sex.FEMALE, "VN", IdType.CCCD, "001185012345"
)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("001185012345", NumberCheck.AGREES),
        ("096185012345", NumberCheck.AGREES),
        ("100185012345", NumberCheck.AGREES),  # born abroad
        ("999185012345", NumberCheck.AGREES),
        ("000185012345", NumberCheck.UNKNOWN_PROVINCE),
        ("003185012345", NumberCheck.UNKNOWN_PROVINCE),
        ("099185012345", NumberCheck.UNKNOWN_PROVINCE),
        ("001085012345", NumberCheck.WRONG_SEX),
        ("001385012345", NumberCheck.WRONG_CENTURY),
        ("001985012345", NumberCheck.WRONG_CENTURY),
        ("001186012345", NumberCheck.WRONG_BIRTH_YEAR),
        ("001184012345", NumberCheck.WRONG_BIRTH_YEAR),
        ("00118501234", NumberCheck.BAD_FORM),
        ("0011850123456", NumberCheck.BAD_FORM),
        ("00118501234X", NumberCheck.BAD_FORM),
        ("001185012345\n", NumberCheck.BAD_FORM),
        ("００１１８５０１２３４５", NumberCheck.BAD_FORM),
        ("", NumberCheck.ABSENT),
        (None, NumberCheck.ABSENT),
    ],
)
def test_cccd(number: str | None, expected: NumberCheck) -> None:
    assert check_number(replace(KHAI, id_number=number)) is expected


def test_who_is_neither_man_nor_woman_does_not_contradict_the_digit() -> None:
    for digit in "01":
        person = replace(KHAI, sex=Sex.OTHER, id_number=f"001{digit}85012345")
        assert check_number(person) is NumberCheck.AGREES


@pytest.mark.parametrize(
    ("number", "sex", "year"),
    [
        ("001099000001", Sex.MALE, 1999),
        ("001199000001", Sex.FEMALE, 1999),
        ("001203000001", Sex.MALE, 2003),
        ("001303000001", Sex.FEMALE, 2003),
        ("001401000001", Sex.MALE, 2101),
        ("001901000001", Sex.FEMALE, 2301),
    ],
)
def test_the_fourth_digit_is_century_and_sex(number: str, sex: Sex, year: int) -> None:
    assert parse_cccd(number) == CccdParts("001", sex, year)


@st.composite
def holders(draw: st.DrawFn) -> Person:
    """Draw a person whose CCCD agrees with them."""
    born = draw(st.dates(date(1900, 1, 1), date(2099, 12, 31)))
    sex = draw(st.sampled_from([Sex.MALE, Sex.FEMALE]))
    place = draw(st.sampled_from(sorted(PROVINCE_CODES_2021)) | st.integers(100, 999).map(str))
    digit = 2 * (born.year // 100 - 19) + (sex is Sex.FEMALE)
    number = f"{place}{digit}{born.year % 100:02d}{draw(st.integers(0, 999_999)):06d}"
    return replace(KHAI, date_of_birth=born, sex=sex, id_number=number)


@given(holders())
def test_a_right_number_agrees(person: Person) -> None:
    assert check_number(person) is NumberCheck.AGREES


@given(holders(), st.dates(date(1900, 1, 1), date(2099, 12, 31)))
def test_another_year_of_birth_never_agrees(person: Person, born: date) -> None:
    assume(born.year != person.date_of_birth.year)
    expected = (
        NumberCheck.WRONG_BIRTH_YEAR
        if born.year // 100 == person.date_of_birth.year // 100
        else NumberCheck.WRONG_CENTURY
    )
    assert check_number(replace(person, date_of_birth=born)) is expected


@given(holders(), st.integers(0, 5), st.sampled_from("0123456789"))
def test_one_wrong_digit_before_the_serial_number_is_found_unless_it_names_another_place(
    person: Person, place: int, digit: str
) -> None:
    number = person.id_number or ""
    assume(number[place] != digit)
    wrong = number[:place] + digit + number[place + 1 :]
    check = check_number(replace(person, id_number=wrong))
    if place < 3:
        known = wrong[:3] in PROVINCE_CODES_2021 or int(wrong[:3]) >= 100
        assert check is (NumberCheck.AGREES if known else NumberCheck.UNKNOWN_PROVINCE)
    else:
        assert check in {NumberCheck.WRONG_SEX, NumberCheck.WRONG_CENTURY, NumberCheck.WRONG_BIRTH_YEAR}


@pytest.mark.parametrize(
    ("id_type", "nationality", "number", "expected"),
    [
        (IdType.CMND, "VN", "012345678", NumberCheck.AGREES),
        (IdType.CMND, "VN", "002345678", NumberCheck.UNKNOWN_PROVINCE),
        (IdType.CMND, "VN", "01234567", NumberCheck.BAD_FORM),
        (IdType.CMND, "VN", "0123456789", NumberCheck.BAD_FORM),
        (IdType.CMND, "VN", "01234567A", NumberCheck.BAD_FORM),
        (IdType.CMND, "VN", "001185012345", NumberCheck.BAD_FORM),
        (IdType.PASSPORT, "VN", "B1234567", NumberCheck.AGREES),
        (IdType.PASSPORT, "VN", "P12345678", NumberCheck.AGREES),
        (IdType.PASSPORT, "VN", "12345678", NumberCheck.BAD_FORM),
        (IdType.PASSPORT, "VN", "B123456", NumberCheck.BAD_FORM),
        (IdType.PASSPORT, "VN", "b1234567", NumberCheck.BAD_FORM),
        (IdType.PASSPORT, "FR", "12AB34567", NumberCheck.AGREES),
        (IdType.PASSPORT, "GB", "123456789", NumberCheck.AGREES),
        (IdType.PASSPORT, "FR", "12AB", NumberCheck.BAD_FORM),
        (IdType.PASSPORT, "FR", "12-AB-345", NumberCheck.BAD_FORM),
        (IdType.PASSPORT, "FR", "ABCDEFGH12345", NumberCheck.BAD_FORM),
        (IdType.NONE, "VN", None, NumberCheck.ABSENT),
        (IdType.NONE, "VN", "001185012345", NumberCheck.BAD_FORM),
        (IdType.CMND, "VN", None, NumberCheck.ABSENT),
        (IdType.PASSPORT, "FR", None, NumberCheck.ABSENT),
    ],
)
def test_other_papers(id_type: IdType, nationality: str, number: str | None, expected: NumberCheck) -> None:
    person = replace(KHAI, id_type=id_type, nationality=nationality, id_number=number)
    assert check_number(person) is expected


def test_the_63_provinces_of_2021() -> None:
    assert len(PROVINCE_CODES_2021) == 63
    assert {"001", "079", "048", "096"} <= PROVINCE_CODES_2021
