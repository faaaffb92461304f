"""What a page's text layer holds and nobody can read does not count as printed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pikepdf
import pytest
from pikepdf import Array, Dictionary, Name

from printsvc.domain.form import FormId
from printsvc.render.agreement import Agreement, compare_text
from printsvc.render.formfile import Form, find_forms, read_form
from printsvc.render.scan import PrintedPage, PrintedWord, read_text
from tests.render.test_agreement import FORMS, claims_of

A4 = "a4/43-2022"
NAME, MACHINE = "NGUYỄN THỊ MINH KHAI", "NGUYEN<<THI<MINH<KHAI"


@pytest.fixture(scope="module")
def forms(templates: Any) -> list[Form]:
    return [read_form(templates / form_id, form_id) for form_id in find_forms(templates)]


@pytest.fixture(scope="module")
def drawn(library: Any) -> Callable[..., bytes]:
    return lambda form=A4, **changes: library.render_pdf(FormId(form), library.sample(FormId(form)) | changes)


@pytest.fixture(scope="module")
def page(drawn: Callable[..., bytes]) -> bytes:
    return drawn()


def names_on(pdf: bytes) -> Iterator[PrintedWord]:
    return (word for word in read_text(pdf)[0].words if word.text.startswith("NGUY"))


def forged(pdf: bytes, content: str, annotations: tuple[Any, ...] = ()) -> bytes:
    """Return the page with more drawn over it, in points from its bottom left corner; `/F` is Helvetica."""
    with pikepdf.open(io.BytesIO(pdf)) as document:
        sheet = document.pages[0]
        font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica, Encoding=Name.WinAnsiEncoding)
        sheet.Resources.Font[Name.F] = document.make_indirect(font)
        picture = pikepdf.Stream(document, b"\xff\xff\xff")
        picture.update(Dictionary(Type=Name.XObject, Subtype=Name.Image, Width=1, Height=1, BitsPerComponent=8))
        picture.ColorSpace = Name.DeviceRGB
        form = pikepdf.Stream(document, b"1 g 0 0 300 30 re f 0 g BT /F 14 Tf 2 5 Td (TRAN VAN B) Tj ET")
        form.update(Dictionary(Type=Name.XObject, Subtype=Name.Form, BBox=Array([0, 0, 300, 30])))
        form.Resources = Dictionary(Font=Dictionary(F=font))
        sheet.Resources[Name.XObject] = Dictionary(
            {**dict(sheet.Resources.get(Name.XObject, {})), "/P": picture, "/G": form}
        )
        sheet.contents_add(b"q", prepend=True)
        sheet.contents_add(b"Q q " + content.encode() + b" Q", prepend=False)
        if annotations:
            sheet.Annots = Array([document.make_indirect(one) for one in annotations])
        made = io.BytesIO()
        document.save(made)
        return made.getvalue()


def box(word: PrintedWord) -> str:
    return f"{word.left - 2} {word.bottom - 2} {word.right - word.left + 4} {word.top - word.bottom + 4}"


def written(word: PrintedWord, *, size: int = 12, down: float = 0) -> str:
    return f"0 g BT /F {size} Tf {word.left} {word.bottom + 3 - down} Td (TRAN VAN B) Tj ET "


def covered(word: PrintedWord) -> str:
    return f"1 g {box(word)} re f "


COVERS: dict[str, Callable[[PrintedWord], str]] = {
    "a white box": covered,
    "a white box and another name": lambda word: covered(word) + written(word),
    "another name that reaches into the place": lambda word: covered(word) + written(word, size=16, down=6),
    "a picture": lambda word: f"q {word.right - word.left} 0 0 {word.top - word.bottom} {word.left} {word.bottom} cm "
    "/P Do Q ",
    "a form object with both": lambda word: f"q 1 0 0 1 {word.left} {word.bottom - 4} cm /G Do Q ",
    "letters on letters": lambda word: written(word, size=18),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_on_a_form_everything_can_be_read(form: str, drawn: Callable[..., bytes]) -> None:
    for sheet in read_text(drawn(form)):
        assert "\ufffd" not in sheet.text
        assert sheet.words


@pytest.mark.parametrize("how", COVERS)
def test_a_name_under_something_is_not_on_the_page(how: str, page: bytes, forms: list[Form]) -> None:
    pdf = forged(page, "".join(COVERS[how](word) for word in names_on(page)))
    report = compare_text(read_text(pdf), claims_of(), forms)
    assert report.state is Agreement.DIFFERS, how
    assert {"full_name"} <= {one.field for one in report.fields if not one.agrees}


@pytest.mark.parametrize("paint", ["1 g", "3 Tr", "0.98 g"])
def test_a_right_name_that_nobody_sees_saves_no_wrong_one(
    paint: str, drawn: Callable[..., bytes], forms: list[Form]
) -> None:
    other = drawn(full_name="TRAN VAN B", name_line="TRAN<<VAN<B")
    hidden = "".join(f"BT {paint} /F 9 Tf 40 {y} Td (NGUYEN THI MINH KHAI {MACHINE}) Tj ET " for y in (20, 8))
    claims = claims_of(fn="NGUYEN", gn="THI MINH KHAI")
    report = compare_text(read_text(forged(other, hidden)), claims, forms)
    assert {"full_name", "name_line"} <= {one.field for one in report.fields if not one.agrees}
    seen = compare_text(read_text(forged(other, hidden.replace(paint, "0 g 0 Tr"))), claims, forms)
    assert not {"full_name", "name_line"} & {one.field for one in seen.fields if not one.agrees}


@pytest.mark.parametrize("size", [0.5, 2])
def test_dust_is_no_text(size: float, drawn: Callable[..., bytes], forms: list[Form]) -> None:
    other = drawn(full_name="TRAN VAN B", name_line="TRAN<<VAN<B")
    dust = f"0 g BT /F {size} Tf 40 20 Td (NGUYEN THI MINH KHAI) Tj 0 -4 Td (NGUYEN THI MINH KHAI) Tj ET"
    report = compare_text(read_text(forged(other, dust)), claims_of(fn="NGUYEN", gn="THI MINH KHAI"), forms)
    assert "full_name" in {one.field for one in report.fields if not one.agrees}


@pytest.mark.parametrize("subtype", ["FreeText", "Square", "Stamp"])
def test_a_name_under_an_annotation_is_not_on_the_page(subtype: str, page: bytes, forms: list[Form]) -> None:
    notes = tuple(
        Dictionary(
            Type=Name.Annot, Subtype=Name("/" + subtype), Rect=Array([word.left, word.bottom, word.right, word.top])
        )
        for word in names_on(page)
    )
    report = compare_text(read_text(forged(page, "", notes)), claims_of(), forms)
    assert {"full_name", "name_line"} <= {one.field for one in report.fields if not one.agrees}


def test_a_link_covers_nothing(page: bytes, forms: list[Form]) -> None:
    links = tuple(
        Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=Array([word.left, word.bottom, word.right, word.top]))
        for word in names_on(page)
    )
    assert compare_text(read_text(forged(page, "", links)), claims_of(), forms).state is Agreement.AGREES


def test_a_turned_page_reads_as_an_upright_one(page: bytes) -> None:
    def turned(degrees: int) -> list[PrintedPage]:
        with pikepdf.open(io.BytesIO(page)) as document:
            document.pages[0].Rotate = degrees
            made = io.BytesIO()
            document.save(made)
        return read_text(made.getvalue())

    assert all("\ufffd" not in turned(degrees)[0].text for degrees in (90, 180, 270))


def test_a_searchable_scan_has_no_printed_text(page: bytes, forms: list[Form]) -> None:
    """What a person sees is the picture, and its letters lie under it."""
    whole_page = "q 596 0 0 842 0 0 cm /P Do Q"
    assert compare_text(read_text(forged(page, whole_page)), claims_of(), forms).state is Agreement.NO_TEXT
