"""Identity numbers: what they say about their owner, and whether that agrees with the person.

Sources: Circular 07/2016/TT-BCA and Decree 137/2015/ND-CP for the structure of the 12-digit number; older 9-digit CMND
numbers name only the issuing province. The list of provinces is versioned: numbers issued before a merger stay valid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from printsvc.domain.person import IdType, Person, Sex

_PROVINCES = """
001 002 004 006 008 010 011 012 014 015 017 019 020 022 024 025 026 027 030 031 033 034 035 036 037 038 040 042 044
045 046 048 049 051 052 054 056 058 060 062 064 066 067 068 070 072 074 075 077 079 080 082 083 084 086 087 089 091 092
093 094 095 096
"""
PROVINCE_CODES_2021 = frozenset(_PROVINCES.split())
"""Codes of the province of birth registration, as of 2021."""

_FOREIGN_CODES = range(100, 1000)
"""Codes above the provinces stand for a country of birth; their list is not public, so any is accepted."""

_CCCD = re.compile(r"[0-9]{12}")
_CMND = re.compile(r"[0-9]{9}")
_PASSPORT = re.compile(r"[A-Z0-9]{6,12}")
_PASSPORT_VN = re.compile(r"[A-Z][0-9]{7,8}")


class NumberCheck(StrEnum):
    """What the number alone says of the person."""

    AGREES = "agrees"
    ABSENT = "absent"
    BAD_FORM = "bad_form"
    UNKNOWN_PROVINCE = "unknown_province"
    WRONG_SEX = "wrong_sex"
    WRONG_CENTURY = "wrong_century"
    WRONG_BIRTH_YEAR = "wrong_birth_year"


@dataclass(frozen=True, slots=True)
class CccdParts:
    """`place` is a province or country code; `birth_year` has four digits."""

    place: str
    sex: Sex
    birth_year: int


def parse_cccd(number: str) -> CccdParts | None:
    """Return what a 12-digit number says; None where it has another form."""
    if not _CCCD.fullmatch(number):
        return None
    century, female = divmod(int(number[3]), 2)
    return CccdParts(number[:3], Sex.FEMALE if female else Sex.MALE, 1900 + 100 * century + int(number[4:6]))


def check_number(person: Person) -> NumberCheck:
    """Return whether the person's number agrees with their birth date, sex and nationality: the first contradiction."""
    number = person.id_number
    if person.id_type is IdType.NONE:
        return NumberCheck.ABSENT if not number else NumberCheck.BAD_FORM
    if not number:
        return NumberCheck.ABSENT
    match person.id_type:
        case IdType.CCCD:
            return _check_cccd(number, person.date_of_birth, person.sex)
        case IdType.CMND:
            if not _CMND.fullmatch(number):
                return NumberCheck.BAD_FORM
            return NumberCheck.AGREES if number[:2] != "00" else NumberCheck.UNKNOWN_PROVINCE
        case IdType.PASSPORT:
            form = _PASSPORT_VN if person.nationality == "VN" else _PASSPORT
            return NumberCheck.AGREES if form.fullmatch(number) else NumberCheck.BAD_FORM


def _check_cccd(number: str, born: date, sex: Sex) -> NumberCheck:
    parts = parse_cccd(number)
    if parts is None:
        return NumberCheck.BAD_FORM
    if parts.place not in PROVINCE_CODES_2021 and int(parts.place) not in _FOREIGN_CODES:
        return NumberCheck.UNKNOWN_PROVINCE
    if sex is not Sex.OTHER and parts.sex is not sex:
        return NumberCheck.WRONG_SEX
    if parts.birth_year // 100 != born.year // 100:
        return NumberCheck.WRONG_CENTURY
    if parts.birth_year != born.year:
        return NumberCheck.WRONG_BIRTH_YEAR
    return NumberCheck.AGREES
