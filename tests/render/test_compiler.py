"""The compiler: what it finds in a template, what it refuses, and when it compiles anew."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from printsvc.domain.form import FormId
from printsvc.errors import RenderError
from printsvc.render.compiler import build, compile_form, digest_of_sources, load_compiled, store
from printsvc.render.compiler.merge import Flag, Merged, Node, merge
from printsvc.render.stamp import CompiledForm, Stamper, parse_compiled
from printsvc.render.stamp.axes import holds
from printsvc.render.stamp.compiled import digest_of
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
RECEIPT = FormId("receipt80/43-2022")

Edited = Callable[..., FormLibrary]


@pytest.fixture
def edited(tmp_path: Path, fonts: Path) -> Edited:
    """`edited(old, new)`: a library of the receipt alone, with one change in its page or another file."""

    def edit(old: str, new: str, file: str = "page.html") -> FormLibrary:
        folder = tmp_path / RECEIPT
        folder.mkdir(parents=True)
        for source in (ROOT / "templates" / RECEIPT).iterdir():
            text = source.read_bytes()
            if source.name == file:
                assert old.encode() in text
                text = text.replace(old.encode(), new.encode(), 1)
            folder.joinpath(source.name).write_bytes(text)
        return FormLibrary(tmp_path, fonts)

    return edit


# --- variants laid over one another


def leaf(text: str) -> Node:
    return Node(text.encode())


def group(*kids: Node) -> Node:
    return Node(b"q", kids)


def shown(tree: Merged, values: list[int]) -> Node:
    return Node(tree.label, tuple(shown(kid, values) for kid in tree.kids if holds(kid.condition, values)))


def test_merged_variants_are_each_what_they_were_and_add_up() -> None:
    base = group(leaf("a"), group(leaf("row 0"), leaf("row 1")), leaf("z"))
    marked = group(leaf("a"), group(leaf("row 0"), leaf("row 1")), group(leaf("mark")), leaf("z"))
    struck = group(leaf("a"), group(leaf("row 0"), leaf("none")), group(leaf("strike")), leaf("z"))
    flags = [Flag(0, 1, 2, 1), Flag(1, 1, 2, 2)]
    merged = merge(base, [(lambda _: flags[0], marked), (lambda _: flags[1], struck)])
    assert shown(merged, [0, 0]) == base
    assert shown(merged, [1, 0]) == marked
    assert shown(merged, [0, 1]) == struck
    both = group(leaf("a"), group(leaf("row 0"), leaf("none")), group(leaf("mark")), group(leaf("strike")), leaf("z"))
    assert shown(merged, [1, 1]) == both


# --- what is refused


def line_of(needle: str, file: str = "page.html") -> int:
    """The line of the receipt's file, as it is, in which that stands first."""
    lines = (ROOT / "templates" / RECEIPT / file).read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if needle in line)


def line_of_slot(name: str) -> int:
    return line_of(f'"{name}"')


def refusal(library: FormLibrary) -> str:
    with pytest.raises(RenderError) as caught:
        compile_form(library, RECEIPT)
    there = pickle.loads(pickle.dumps(caught.value))
    assert (type(there), vars(there)) == (type(caught.value), vars(caught.value)), "it goes from one process to another"
    return caught.value.en


def test_a_text_that_moves_another_is_refused(edited: Edited) -> None:
    """What comes after the last slot: that one is named."""
    said = refusal(edited("</body>", '<p style="position:absolute;top:1mm;left:1mm">{{ page.sex }}<b>x</b></p></body>'))
    where = f"receipt80/43-2022/page.html, line {line_of_slot('site_name')}, slot site_name"
    assert said == f"{where}: a slot's text changes what is not its own."


def test_a_slot_that_its_own_text_moves_is_refused(edited: Edited) -> None:
    """It ends at a fixed place and is as wide as its text: nobody can tell where it begins."""
    old = '{{ slot("sex", page.sex, 37, 81, 33, 4.8, "b") }}'
    style = 'position:absolute;right:2mm;top:81mm;font-size:{{ fit["sex"] }}pt'
    said = refusal(edited(old, f'<div class="slot b" data-slot="sex" style="{style}">{{{{ page.sex }}}}</div>'))
    where = f"receipt80/43-2022/page.html, line {line_of_slot('sex')}, slot sex"
    assert said == f"{where}: its text is not set as HarfBuzz sets it, or not aligned so."


def test_a_text_in_two_runs_is_refused(edited: Edited) -> None:
    said = refusal(edited("{{ text }}", "{{ text }}<i>x</i>"))
    assert re.fullmatch(r"receipt80/43-2022/page\.html, line \d+, slot \S+: its text is drawn in several runs\.", said)


def test_a_slot_that_form_toml_does_not_know_is_refused(edited: Edited, tmp_path: Path) -> None:
    said = refusal(edited("</body>", '<div class="slot" data-slot="nickname" style="left:0">x</div></body>'))
    where = f"receipt80/43-2022/page.html, line {line_of('</body>')}, slot nickname"
    assert said == f"{where}: it is in form.toml or in the page, but not in both."


def test_a_slot_that_is_called_and_not_declared_is_refused(edited: Edited) -> None:
    said = refusal(edited("</body>", '{{ slot("nickname", page.sex, 1, 1, 3, 3) }}</body>'))
    where = f"receipt80/43-2022/page.html, line {line_of('</body>')}, slot nickname"
    assert said == f"{where}: form.toml does not declare it."


def test_a_slot_that_the_page_does_not_show_is_refused(edited: Edited) -> None:
    said = refusal(edited("[slots.sex]", "[slots.address]\nsizes_pt = [7]\n[slots.sex]", "form.toml"))
    where = f"receipt80/43-2022/form.toml, line {line_of('[slots.sex]', 'form.toml')}, slot address"
    assert said == f"{where}: it is in form.toml or in the page, but not in both."


@pytest.mark.parametrize(
    "style",
    ["letter-spacing: 0.3pt", "word-spacing: 2pt", "font-variant-caps: small-caps", "text-transform: uppercase",
     "text-decoration-line: underline", "direction: rtl", "hyphens: auto", "white-space: nowrap",
     "overflow-wrap: normal", "text-align-all: justify"],
)  # fmt: skip
def test_a_style_that_the_stamp_does_not_know_is_refused(edited: Edited, style: str) -> None:
    name = style.partition(":")[0]
    said = refusal(edited("@page", f".slot {{ {style} !important }}\n@page", "style.css"))
    where = f"receipt80/43-2022/page.html, line {line_of_slot('authority')}, slot authority"
    assert said == f"{where}: the stamp cannot draw its {name}."


def test_texts_in_groups_of_their_own_are_refused(edited: Edited) -> None:
    said = refusal(edited("@page", ".label { opacity: 0.5 }\n@page", "style.css"))
    assert said == "receipt80/43-2022/page.html: a text is drawn in a group of its own, as opacity has it."


def test_slots_whose_colour_is_set_for_several_at_once_are_refused(edited: Edited) -> None:
    said = refusal(edited("@page", ".slot { color: #888 }\n@page", "style.css"))
    assert re.fullmatch(
        r"receipt80/43-2022/page\.html, line \d+, slot \S+: its variants do not add up, at or after this slot\.", said
    )


def test_a_sample_that_does_not_fit_is_an_error_of_the_form(edited: Edited) -> None:
    said = refusal(edited('level = "M"', 'level = "H"', "form.toml"))
    assert said.startswith("receipt80/43-2022/sample.json: it cannot be drawn: The QR text of")


def test_what_nobody_thought_of_is_an_error_of_the_form(edited: Edited, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise IndexError("no such thing")

    monkeypatch.setattr(build, "survey_form", fail)
    said = refusal(edited("</body>", "</body>"))
    assert said == "receipt80/43-2022/page.html: it cannot be compiled: IndexError: no such thing."


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</body>", "{{ page.nickname }}</body>", "A page's data have no field nickname."),
        ("</body>", "{% iff %}</body>", "TemplateSyntaxError: Encountered unknown tag 'iff'.."),
        (
            "</body>",
            "{% if page.full_name == 'NGUYỄN VĂN A' %}<b>x</b>{% endif %}</body>",
            "page.full_name differs from person to person: it may only be shown as it is, or be asked whether it is "
            "empty.",
        ),
        (
            "</body>",
            '<div class="at">{{ page.uvci }}</div></body>',
            "page.uvci differs from person to person, and no slot of form.toml is for it.",
        ),
    ],
)
def test_what_depends_on_the_person_is_refused_with_its_line(edited: Edited, old: str, new: str, said: str) -> None:
    assert refusal(edited(old, new)) == f"receipt80/43-2022/page.html, line {line_of(old)}: {said}"


def test_what_only_two_variants_together_show_is_refused(edited: Edited) -> None:
    """A reprint with an unused fourth row: no variant alone has it."""
    new = '{% if page.copy_number > 1 and not page.rows[3] %}<div class="rule" style="{{ box(1, 2, 9, 0) }}"></div>'
    said = refusal(edited("</body>", new + "{% endif %}</body>"))
    assert re.fullmatch(
        r"receipt80/43-2022/page\.html, line \d+, slot \S+: its variants do not add up, at or after this slot\.", said
    )


# --- what is kept


@pytest.mark.slow
@pytest.mark.parametrize("folder", sorted((ROOT / "templates").glob("*/*/")), ids=lambda folder: folder.parent.name)
def test_every_form_compiles_and_its_sample_has_the_same_picture(
    library: FormLibrary, raster: Callable[..., Image.Image], folder: Path
) -> None:
    form_id = FormId(folder.relative_to(ROOT / "templates").as_posix())
    page = library.sample(form_id)
    stamped, drawn = Stamper(compile_form(library, form_id)).stamp(page), library.render_pdf(form_id, page)
    for dpi in (203, 300):
        assert raster(stamped, dpi, "mono").tobytes() == raster(drawn, dpi, "mono").tobytes()
        assert raster(stamped, dpi).tobytes() == raster(drawn, dpi).tobytes()


@pytest.fixture(scope="module")
def receipt(
    library: FormLibrary, stamper_of: Callable[[FormId], Stamper], forms_cache: Path, tmp_path_factory: Any
) -> tuple[CompiledForm, Path]:
    """The form, and a folder with nothing but it."""
    stamper_of(RECEIPT)
    (file,) = (forms_cache / "forms").glob("receipt80-*.cbor")
    cache: Path = tmp_path_factory.mktemp("compiled")
    shutil.copy(file, cache)
    return load_compiled(library, RECEIPT, cache), cache


def test_a_compiled_form_is_taken_from_the_folder(
    library: FormLibrary, receipt: tuple[CompiledForm, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    form, cache = receipt
    (file,) = cache.iterdir()
    assert parse_compiled(file.read_bytes()) == form
    assert form.sources[:32] in file.name
    monkeypatch.setattr(store, "compile_form", None)
    assert load_compiled(library, RECEIPT, cache) == form


def test_a_template_that_cannot_be_loaded_is_refused_with_its_line(edited: Edited, tmp_path: Path) -> None:
    library = edited("</body>", "{% iff %}</body>")
    with pytest.raises(RenderError, match=rf"page\.html, line {line_of('</body>')}: TemplateSyntaxError"):
        load_compiled(library, RECEIPT, tmp_path / "cache")


def test_half_a_file_is_compiled_anew(
    library: FormLibrary, receipt: tuple[CompiledForm, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, cache = receipt
    (file,) = cache.iterdir()
    (tmp_path / file.name).write_bytes(file.read_bytes()[:1000])
    calls: list[FormId] = []

    def again(_: FormLibrary, form_id: FormId, *, sources: str) -> CompiledForm:
        assert sources == form.sources
        calls.append(form_id)
        return form

    monkeypatch.setattr(store, "compile_form", again)
    assert load_compiled(library, RECEIPT, tmp_path) == form
    assert calls == [RECEIPT]
    assert (tmp_path / file.name).read_bytes() == form.encode()


def test_compiling_twice_gives_the_same_form(library: FormLibrary, receipt: tuple[CompiledForm, Path]) -> None:
    form, _ = receipt
    assert compile_form(library, RECEIPT, sources=form.sources) == form
    assert digest_of(form) == form.digest


def test_any_change_of_the_template_is_another_source(edited: Edited, library: FormLibrary) -> None:
    before = digest_of_sources(library, RECEIPT)
    assert before == digest_of_sources(library, RECEIPT)
    assert digest_of_sources(edited("</body>", " </body>"), RECEIPT) != before
