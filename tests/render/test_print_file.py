"""Print files that the stamp writes at once: the pages of the single papers, a fourteenth of their bytes."""

from __future__ import annotations

import io
import itertools
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pikepdf
import pytest
from proofs.persons import everybody

from printsvc.domain.form import FormId, PageData
from printsvc.errors import FormError, RenderError
from printsvc.render.draw import Drawer, Drawn, RenderSetup, Way
from printsvc.render.formfile import find_forms
from printsvc.render.stamp import NeedsWeasyPrint, Stamper
from printsvc.render.stamp.printfile import Paper
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
FORMS = find_forms(ROOT / "templates")
A4 = FormId("a4/43-2022")
LETTERS = "ABCDEGHIKLMNOPQRSTUVXYZ01234"
MOST_BYTES = 4096  # of a paper, in a file of two hundred

StamperOf = Callable[[FormId], Stamper]


def pages_of(library: FormLibrary, stamper: Stamper, form_id: FormId, count: int) -> list[PageData]:
    """Pages that the stamp can draw, of people as they come."""
    pages = []
    for _, page in everybody("print file", library.sample(form_id), library.form(form_id)):
        if not isinstance(stamper.stamp_all([page])[0], Exception):
            pages.append(page)
        if len(pages) == count:
            break
    return pages


def papers_of(stamper: Stamper, pages: list[PageData]) -> list[Paper]:
    papers = [paper for paper in stamper.papers(pages) if isinstance(paper, Paper)]
    assert len(papers) == len(pages)
    return papers


def pictures(folder: Path, pdf: bytes, *options: str) -> list[bytes]:
    """Each page as Poppler prints it; what it complains of is an error."""
    folder.mkdir()
    (folder / "file.pdf").write_bytes(pdf)
    command = ["pdftoppm", *options, str(folder / "file.pdf"), str(folder / "page")]
    done = subprocess.run(command, check=True, capture_output=True)
    assert done.stderr == b""
    return [path.read_bytes() for path in sorted(folder.glob("page*"))]


@pytest.mark.parametrize("form_id", FORMS)
@pytest.mark.parametrize("options", [("-r", "150", "-gray"), ("-r", "203", "-mono")], ids=["grey", "1 bit"])
def test_its_pages_are_those_of_the_single_papers(
    library: FormLibrary, stamper_of: StamperOf, tmp_path: Path, form_id: FormId, options: tuple[str, ...]
) -> None:
    stamper = stamper_of(form_id)
    pages = pages_of(library, stamper, form_id, 6)
    together = pictures(tmp_path / "together", stamper.print_file(papers_of(stamper, pages)), *options)
    alone = [pictures(tmp_path / str(number), stamper.stamp(page), *options) for number, page in enumerate(pages)]
    assert together == list(itertools.chain.from_iterable(alone))
    assert len(set(together)) > 1


@pytest.mark.parametrize("form_id", FORMS)
def test_no_reader_complains_and_nothing_is_in_it_twice(
    library: FormLibrary, stamper_of: StamperOf, tmp_path: Path, form_id: FormId
) -> None:
    stamper = stamper_of(form_id)
    pages = pages_of(library, stamper, form_id, 12)
    file = tmp_path / "file.pdf"
    file.write_bytes(stamper.print_file(papers_of(stamper, pages)))
    stop = ["-dPDFSTOPONERROR", "-dPDFSTOPONWARNING", "-sDEVICE=nullpage"]
    for command in (
        ["qpdf", "--check", str(file)],
        ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", *stop, str(file)],
        ["pdffonts", str(file)],
        ["pdftotext", str(file), "-"],
    ):
        done = subprocess.run(command, check=True, capture_output=True)
        assert done.stderr == b""
    with pikepdf.open(file) as document:
        assert document.check_pdf_syntax() == []
        assert len(document.pages) == len(stamper.form.pages) * len(pages)
        assert not {"/StructTreeRoot", "/MarkInfo", "/Metadata"} & set(document.Root.keys())
        assert not any({"/StructParents", "/Annots", "/Tabs"} & set(page.keys()) for page in document.pages)
        # Nothing is there that nothing leads to, and no font file and no drawing more than once.
        reached = document.objects
        assert len(reached) < 12 * 5 * len(stamper.form.pages) + 60
        streams = [bytes(one.read_raw_bytes()) for one in reached if isinstance(one, pikepdf.Stream)]
        large = [body for body in streams if len(body) > 2_000]
        assert len(large) == len(set(large))
        programs = [one for one in reached if isinstance(one, pikepdf.Stream) and "/Length1" in one]
        assert len(programs) <= len(stamper.form.programs) + sum(
            b"/Length1" in data for _, data in stamper.form.streams
        )


def test_a_paper_of_two_hundred_takes_little(library: FormLibrary, stamper_of: StamperOf) -> None:
    stamper = stamper_of(A4)
    sample = library.sample(A4)
    pages: list[PageData] = [
        {**sample, "full_name": f"NGUYỄN VĂN {one} {other}", "qr": "HC1:" + (LETTERS[at:] + LETTERS) * 11}
        for at, one in enumerate(LETTERS)
        for other in "ĂÂĐÊÔƠƯÝ"
    ]
    papers = papers_of(stamper, pages[:200])
    assert len(stamper.print_file(papers)) <= MOST_BYTES * len(papers)


def test_equal_papers_give_equal_bytes(library: FormLibrary, stamper_of: StamperOf) -> None:
    stamper = stamper_of(A4)
    papers = papers_of(stamper, pages_of(library, stamper, A4, 5))
    file = stamper.print_file(papers)
    assert file == stamper.print_file(papers) == Stamper(stamper.form).print_file(papers)
    assert file != stamper.print_file(papers[::-1])


def test_what_the_stamp_cannot_set_is_left_to_others(
    library: FormLibrary, templates: Path, fonts: Path, forms_cache: Path
) -> None:
    drawer = Drawer(RenderSetup(templates, fonts, forms_cache, forms=(A4,)))
    stamper = drawer.stamper(A4)
    assert stamper is not None
    one, other = pages_of(library, stamper, A4, 2)
    strange: PageData = {**one, "full_name": "NGUYỄN ☃"}
    with pytest.raises(NeedsWeasyPrint):
        stamper.stamp(strange)
    made = drawer.stamp_print_file(A4, [strange, one, strange, other])
    many = len(stamper.form.pages)
    assert made.first_page == {1: 1, 3: 1 + many}
    with pikepdf.open(io.BytesIO(made.pdf)) as document:
        assert len(document.pages) == 2 * many
    nothing = drawer.stamp_print_file(A4, [strange])
    assert (nothing.pdf, nothing.first_page) == (b"", {})


def test_a_drawer_that_starts_quickly_draws_the_same(
    library: FormLibrary, templates: Path, fonts: Path, forms_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WeasyPrint is asked for nothing before a page needs it."""
    asked: list[str] = []
    render_pdf = FormLibrary.render_pdf

    def counted(own: FormLibrary, form_id: FormId, page: PageData) -> bytes:
        asked.append(page["full_name"])
        return render_pdf(own, form_id, page)

    monkeypatch.setattr(FormLibrary, "render_pdf", counted)
    sample = library.sample(A4)
    strange: PageData = {**sample, "full_name": "NGUYỄN X\u0302"}  # a mark on a letter that has none
    quick = RenderSetup(templates, fonts, forms_cache, forms=(A4,), warms_way_out=False)
    drawn = {}
    for setup in (quick, replace(quick, warms_way_out=True)):
        drawer = Drawer(setup)
        drawer.warm_up()
        assert asked == ([sample["full_name"]] if setup.warms_way_out else [])
        drawn[setup] = [*drawer.draw_all(A4, [sample, strange])]
        asked.clear()
    first, second = drawn.values()
    assert first == second
    assert [one.way for one in first if isinstance(one, Drawn)] == [Way.STAMP, Way.WEASYPRINT]


def test_a_page_that_cannot_be_drawn_is_its_own_error(
    library: FormLibrary, templates: Path, fonts: Path, forms_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a form that is wrong is the error of all its pages."""
    drawer = Drawer(RenderSetup(templates, fonts, forms_cache, forms=(A4,)))
    sample = library.sample(A4)
    strange: PageData = {**sample, "full_name": "NGUYỄN ☃"}

    def fail(error: Exception) -> None:
        def render_pdf(*_: object) -> bytes:
            raise error

        monkeypatch.setattr(drawer.library, "render_pdf", render_pdf)

    fail(RenderError("This page."))
    drawn = [*drawer.draw_all(A4, [sample, strange, sample])]
    assert [type(one) for one in drawn] == [Drawn, RenderError, Drawn]
    with pytest.raises(RenderError, match="This page"):
        drawer.draw(A4, strange)
    fail(FormError("The form."))
    with pytest.raises(FormError):
        list(drawer.draw_all(A4, [sample, strange, sample]))
