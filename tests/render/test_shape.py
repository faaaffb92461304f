"""The quick ways to set a text against the slow ones: word by word, and character by character."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from printsvc.domain.form import FormId
from printsvc.render.stamp import NeedsWeasyPrint, Stamper
from printsvc.render.stamp.layout import _parts, _words
from printsvc.render.stamp.shape import Typesetter

A4 = FormId("a4/43-2022")
LETTERS = (
    "ABCDEGHIKLMNOPQRSTUVWXYÀÁẢÃẠĂẰẮẲẴẶÂẦẤẨẪẬĐÈÉẺẼẸÊỀẾỂỄỆÌÍỈĨỊÒÓỎÕỌÔỒỐỔỖỘƠỜỚỞỠỢ"
    "ÙÚỦŨỤƯỪỨỬỮỰỲÝỶỸỴabcdeghiklmnopqrstuvxyđơưéø"
)

StamperOf = Callable[[FormId], Stamper]


@pytest.fixture(scope="module")
def stamper(stamper_of: StamperOf) -> Stamper:
    return stamper_of(A4)


def setters_of(stamper: Stamper, name: str) -> tuple[str, list[Typesetter]]:
    """The alphabet of a slot, and what sets it at each size."""
    found = next(one for one in stamper.slots if one.slot.name == name)
    return found.slot.alphabet, found.setters


@given(words=st.lists(st.text(LETTERS, min_size=1, max_size=9), min_size=1, max_size=8), size=st.integers(0, 8))
@settings(max_examples=300, deadline=None)
def test_words_are_the_parts_of_a_text_of_letters(stamper: Stamper, words: list[str], size: int) -> None:
    setter = setters_of(stamper, "card.full_name")[1][size]
    try:
        expected = _parts(" ".join(words), setter)
    except NeedsWeasyPrint:
        with pytest.raises(NeedsWeasyPrint):
            _words(words, setter)
        return
    assert _words(words, setter) == expected


@pytest.mark.parametrize("name", ["uvci", "name_line", "card.date_of_birth"])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_an_alphabet_without_neighbours_is_set_as_pairs_are(stamper: Stamper, name: str, data: st.DataObject) -> None:
    alphabet, setters = setters_of(stamper, name)
    setter = data.draw(st.sampled_from(setters))
    plain = setter.plain(alphabet)
    text = data.draw(st.text(alphabet, min_size=1, max_size=60))
    if plain is None:
        assert any(setter.advances(one + other)[0] != setter.advances(one)[0] for one in alphabet for other in alphabet)
    else:
        assert plain.set_line(text) == setter.set_line(text)


def test_codes_are_set_without_neighbours_and_names_with(stamper: Stamper) -> None:
    for name, is_plain in (("uvci", True), ("name_line", True), ("date_of_birth", False), ("full_name", False)):
        alphabet, setters = setters_of(stamper, name)
        assert (setters[0].plain(alphabet) is not None) == is_plain, name


def test_brackets_at_the_end_are_kept(stamper: Stamper) -> None:
    """A shift is taken away only after the last glyph, where its brackets are empty."""
    _, setters = setters_of(stamper, "site_name")
    for text in ("A()", "Trạm (2)", "))", "T"):
        body, width, _ = setters[0].set_line(text)
        assert body[0] == "("
        assert not body.endswith("()") or body[-3] == "\\"
        assert width == sum(setters[0].advances(text))
