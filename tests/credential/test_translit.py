from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.translit import MAX_LENGTH, name_line, transliterate

VIETNAMESE = "aàáảãạăằắẳẵặâầấẩẫậbcdđeèéẻẽẹêềếểễệghiìíỉĩịklmnoòóỏõọôồốổỗộơờớởỡợpqrstuùúủũụưừứửữựvxyỳýỷỹỵ"
PLAIN = "a" * 18 + "bcd" + "d" + "e" * 12 + "gh" + "i" * 6 + "klmn" + "o" * 18 + "pqrst" + "u" * 12 + "vx" + "y" * 6


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NGUYỄN", "NGUYEN"),
        ("Thị Minh Khai", "THI<MINH<KHAI"),
        ("Đỗ", "DO"),
        ("Đặng Thùy Trâm", "DANG<THUY<TRAM"),
        ("Tôn-Nữ  Thị\u00a0Ninh", "TON<NU<THI<NINH"),
        ("d'Červenková Panklová", "DCERVENKOVA<PANKLOVA"),
        ("d’Arc", "DARC"),
        ("Musterfrau-Gößinger", "MUSTERFRAU<GOESSINGER"),
        ("Lövström", "LOEVSTROEM"),
        ("'t Achternaam", "T<ACHTERNAAM"),
        ("Væåëýþÿüïöœœäßðèéùúĳðøáéóúí", "VAEAAEYTHYUEIOEOEOEAESSDEEUUIJDOEAEOUI"),
        ("Rogaliński-Król", "ROGALINSKI<KROL"),
        ("Стамо Георгиев", "STAMO<GEORGIEV"),
        ("Müller, Jr.", "MUELLER<JR"),
        ("ﬁ Ｗａｎｇ", "FI<WANG"),
        ("李小龙", ""),
        ("", ""),
        ("  - ", ""),
        ("<<A<<B<<", "A<B"),
        ("Y 2", "Y"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert transliterate(name) == expected


def test_every_vietnamese_letter_gives_its_base_letter() -> None:
    assert transliterate(VIETNAMESE) == PLAIN.upper()[:MAX_LENGTH]
    for letter, base in zip(VIETNAMESE, PLAIN, strict=True):
        assert transliterate(letter) == transliterate(letter.upper()) == base.upper()


@given(st.text(alphabet=VIETNAMESE + " ", max_size=40))
def test_composed_or_decomposed_is_the_same_name(name: str) -> None:
    decomposed = unicodedata.normalize("NFD", name)
    assert transliterate(name) == transliterate(decomposed) == transliterate(name.upper())


@given(st.text(max_size=200))
def test_always_machine_readable(name: str) -> None:
    result = transliterate(name)
    assert re.fullmatch(r"([A-Z]+(<[A-Z]+)*)?", result)
    assert len(result) <= MAX_LENGTH
    assert transliterate(result) == result


def test_name_line() -> None:
    assert name_line("NGUYỄN", "THỊ MINH KHAI") == "NGUYEN<<THI<MINH<KHAI"
    assert name_line("Sukarno", "") == "SUKARNO"
    assert name_line("李", "Bruce") == "BRUCE"
