"""A form file says what the paper is; one that contradicts itself is refused before anything is drawn with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from printsvc.domain.form import FormId
from printsvc.errors import RenderError
from printsvc.render.formfile import read_form

A4 = FormId("a4/43-2022")
DPI = 300


def test_the_a4_form(templates: Path) -> None:
    form = read_form(templates / A4, A4)
    assert (form.media, form.version, form.languages, form.doses) == (
        "iso_a4_210x297mm",
        "43-2022.1",
        ("vi", "en"),
        7,
    )
    # Whole dots, or the QR would stand between them.
    assert form.width_pt * DPI / 72 == pytest.approx(2480)
    assert form.height_pt * DPI / 72 == pytest.approx(3508)
    assert (form.qr.level, form.qr.module_dots, form.qr.quiet_modules, form.qr.dpi) == ("Q", 5, 4, DPI)
    with pytest.raises(AttributeError):
        form.media = "na_letter_8.5x11in"  # type: ignore[misc]
    with pytest.raises(TypeError):
        form.slots["x"] = form.slots["sex"]  # type: ignore[index]


def test_slots_of_rows_stand_once_for_each_row(templates: Path) -> None:
    form = read_form(templates / A4, A4)
    names = list(form.slot_names())
    assert [name for name in names if name.endswith(".site")] == [f"rows.{row}.site" for row in range(7)]
    assert len(set(names)) == len(names)
    assert form.rule("rows.6.site") is form.slots["rows.*.site"]
    assert form.rule("card.full_name").of == "full_name"
    with pytest.raises(KeyError):
        form.rule("rows.0.nickname")


def test_places_of_the_code_do_not_leave_the_page_or_meet(templates: Path) -> None:
    form = read_form(templates / A4, A4)
    width, height = (round(side * DPI / 72) for side in (form.width_pt, form.height_pt))
    main, card = form.qr.places
    for place in (main, card):
        assert 0 < place.left_dots < place.left_dots + place.side_dots < width
        assert 0 < place.top_dots < place.top_dots + place.side_dots < height
    assert main.top_dots + main.side_dots < card.top_dots


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('id = "a4/43-2022"', 'id = "a4/44-2022"'),
        ("[size]", "[seize]"),
        ("[size]", "[size"),
        ("side_dots = 605", "side_dots = 604"),
        ("sizes_pt = [15, 13", "sizes_pt = [13, 15"),
        ("max_lines = 2", "max_lines = 0"),
        ("module_dots = 5", 'module_dots = "wide"'),
    ],
)
def test_a_broken_form_file_is_said_to_be_broken(templates: Path, tmp_path: Path, old: str, new: str) -> None:
    text = (templates / A4 / "form.toml").read_text("utf-8")
    assert old in text
    (tmp_path / "form.toml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(RenderError) as caught:
        read_form(tmp_path, A4)
    assert A4 in caught.value.en
    assert A4 in caught.value.vi


def test_a_missing_form_file(tmp_path: Path) -> None:
    with pytest.raises(RenderError):
        read_form(tmp_path, A4)
