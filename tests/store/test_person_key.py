"""A person's doses find each other, and never another person's."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from printsvc.domain.person import IdType, Person, Sex
from printsvc.store.doses import person_key

ALICE = Person("Alice ANDERSON", "ANDERSON", "Alice", date(1970, 1, 2), Sex.FEMALE, "GB", IdType.PASSPORT, "123456789")


def test_accents_and_case_of_a_name_do_not_count() -> None:
    khai = replace(ALICE, full_name="Nguyễn Thị Đào")
    assert person_key(khai) == person_key(replace(khai, full_name="NGUYEN THI DAO"))


def test_the_same_number_does_not_make_the_same_person() -> None:
    bob = replace(ALICE, full_name="Bob BROWN", date_of_birth=date(1999, 3, 4), sex=Sex.MALE)
    assert person_key(ALICE) != person_key(bob)
    assert person_key(ALICE) != person_key(replace(ALICE, date_of_birth=date(1970, 1, 3)))
    assert person_key(ALICE) != person_key(replace(ALICE, nationality="IE"))


def test_without_a_number_nobody_is_found() -> None:
    assert person_key(replace(ALICE, id_type=IdType.NONE, id_number=None)) is None
