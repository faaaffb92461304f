"""A name that intake takes has a place on the paper, whatever its letters."""

from __future__ import annotations

import pypdfium2
import pytest

from printsvc.credential.translit import name_line
from printsvc.domain.form import FormId, PageData
from printsvc.render.template import FormLibrary

LONGEST = [
    ("W" * 80, "W" * 80),
    ("NGUYỄN", "Ượng" * 19),
    ("ỄW" * 40, "MW" * 40),
    ("A", " ".join(["WWWWWWW"] * 10)),
]


@pytest.mark.parametrize("name", LONGEST, ids=["letters", "one word", "marks", "words"])
def test_the_longest_names_stand_whole_on_every_sheet(
    library: FormLibrary, sample: PageData, name: tuple[str, str]
) -> None:
    sample["full_name"] = " ".join(name)
    sample["name_line"] = name_line(*name)
    first = sample["rows"][0]
    assert first is not None
    sample["more_rows"] = [first]
    with pypdfium2.PdfDocument(library.render_pdf(FormId("a4/43-2022"), sample)) as document:
        for sheet in document:
            text = "".join(sheet.get_textpage().get_text_range().split())
            assert "".join("".join(name).split()) in text
