"""The compiler: what it finds in a template, what it refuses, and when it compiles anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from printsvc.domain.form import FormId
from printsvc.errors import RenderError
from printsvc.render.compiler import compile_form, digest_of_sources, load_compiled, store
from printsvc.render.compiler.merge import Flag, Merged, Node, merge
from printsvc.render.stamp import CompiledForm, Stamper, parse_compiled
from printsvc.render.stamp.axes import holds
from printsvc.render.stamp.compiled import digest_of
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
RECEIPT = FormId("receipt80/43-2022")

Edited = Callable[[str, str], FormLibrary]


@pytest.fixture
def edited(tmp_path: Path, fonts: Path) -> Edited:
    """`edited(old, new)`: a library of the receipt alone, with one change in its page."""

    def edit(old: str, new: str) -> FormLibrary:
        folder = tmp_path / RECEIPT
        folder.mkdir(parents=True)
        for source in (ROOT / "templates" / RECEIPT).iterdir():
            text = source.read_bytes()
            if source.name == "page.html":
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


def test_a_text_that_moves_another_is_refused(edited: Edited) -> None:
    library = edited("</body>", '<p style="position:absolute;top:1mm;left:1mm">{{ page.sex }}<b>x</b></p></body>')
    with pytest.raises(RenderError, match=r"receipt80/43-2022/page\.html, slot .*: a slot's text changes"):
        compile_form(library, RECEIPT)


def test_a_text_in_two_runs_is_refused(edited: Edited) -> None:
    library = edited("{{ text }}", "{{ text }}<i>x</i>")
    with pytest.raises(RenderError, match=r"page\.html, slot \S+: its text is drawn in several runs"):
        compile_form(library, RECEIPT)


def test_a_slot_that_form_toml_does_not_know_is_refused(edited: Edited) -> None:
    library = edited("</body>", '<div data-slot="nickname" style="position:absolute">x</div></body>')
    with pytest.raises(RenderError, match=r"page\.html, slot nickname"):
        compile_form(library, RECEIPT)


def test_letters_set_apart_are_refused(edited: Edited) -> None:
    library = edited("</head>", "<style>.slot { letter-spacing: 0.3pt }</style></head>")
    with pytest.raises(RenderError, match=r"page\.html, slot \S+: its text is not set as HarfBuzz sets it"):
        compile_form(library, RECEIPT)


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
def receipt(library: FormLibrary, tmp_path_factory: pytest.TempPathFactory) -> tuple[CompiledForm, Path]:
    cache = tmp_path_factory.mktemp("compiled")
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
