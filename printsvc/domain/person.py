"""A person as the Platform describes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Sex(StrEnum):
    MALE = "male"
    FEMALE = "female"
    OTHER = "other"


class IdType(StrEnum):
    """CCCD: 12 digits, citizens since 2016; CMND: 9 digits, before; passport; none: children, people without papers."""

    CCCD = "cccd"
    CMND = "cmnd"
    PASSPORT = "passport"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Person:
    """NFC-normalised; `nationality` is ISO 3166-1 alpha-2; `family_name` is empty for nobody, `given_name` may be."""

    full_name: str
    family_name: str
    given_name: str
    date_of_birth: date
    sex: Sex
    nationality: str
    id_type: IdType
    id_number: str | None = None
    phone: str | None = None
    address: str | None = None


def split_full_name(full_name: str) -> tuple[str, str]:
    """Return (family name, given names) by the Vietnamese rule: the first word is the family name."""
    family, _, given = full_name.strip().partition(" ")
    return family, given.strip()


def mask_number(number: str | None, *, keep: int = 4) -> str:
    """Return the number with all but its last `keep` characters as dots; a short one is masked whole."""
    if not number:
        return ""
    if len(number) <= keep:
        return "•" * len(number)
    return "•" * (len(number) - keep) + number[-keep:]
