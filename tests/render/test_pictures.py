"""Stamp and WeasyPrint as pictures: not one pixel differs, for every form, resolution and mode.

Two thousand persons; each is drawn at one resolution, in grey or in 1 bit, in turns. See docs/development.md for the
command. A failure leaves the record, both pictures and their difference.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from proofs.persons import everybody
from proofs.pictures import MODES, compare, ghostscript, keep_difference, poppler

from printsvc.domain.form import FormId, PageData
from printsvc.render.formfile import find_forms
from printsvc.render.stamp import NeedsWeasyPrint, Stamper
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
FORMS = find_forms(ROOT / "templates")
VIEWS = list(itertools.product((96, 150, 200, 300), MODES))
PARTS = 6  # of a form's persons, so that several processes share them
PERSONS = 56  # of a part: 2,016 in all, 42 for each form, resolution and mode

StamperOf = Callable[[FormId], Stamper]
Draw = Callable[..., list[Image.Image]]


def stamped(library: FormLibrary, stamper: Stamper, form_id: FormId, seed: str) -> Iterator[tuple[PageData, bytes]]:
    """Pages that the stamp draws, without end, each with its PDF."""
    for _, page in everybody(seed, library.sample(form_id), library.form(form_id)):
        try:
            yield page, stamper.stamp(page)
        except NeedsWeasyPrint:
            continue  # both ways are one then


def differing(
    draw: Draw, ours: bytes, theirs: bytes, page: PageData, folder: Path, *, dpi: int, mode: str
) -> tuple[int, int]:
    """How many pixels differ, of how many; if any do, the record and the pictures are left in `folder`."""
    folder.mkdir(exist_ok=True)
    pixels = area = 0
    for number, (one, other) in enumerate(
        zip(draw(ours, folder, dpi=dpi, mode=mode), draw(theirs, folder, dpi=dpi, mode=mode), strict=True)
    ):
        found = compare(one, other)
        if found.pixels:
            keep_difference(folder, f"{draw.__name__}-{dpi}-{mode}-{number}", one, other)
            (folder / "record.json").write_text(json.dumps(page, ensure_ascii=False, indent=1), "utf-8")
            (folder / "stamp.pdf").write_bytes(ours)
            (folder / "weasyprint.pdf").write_bytes(theirs)
        pixels += found.pixels
        area += found.of
    return pixels, area


@pytest.mark.slow
@pytest.mark.parametrize("form_id", FORMS)
@pytest.mark.parametrize("part", range(PARTS))
def test_two_thousand_persons_have_the_same_picture(
    library: FormLibrary, stamper_of: StamperOf, tmp_path: Path, form_id: FormId, part: int
) -> None:
    differ: Counter[tuple[int, str]] = Counter()
    found = stamped(library, stamper_of(form_id), form_id, f"pictures/{part}")
    for number, (page, ours) in enumerate(itertools.islice(found, PERSONS)):
        dpi, mode = VIEWS[number % len(VIEWS)]
        theirs = library.render_pdf(form_id, page)
        pixels, _ = differing(poppler, ours, theirs, page, tmp_path / str(number), dpi=dpi, mode=mode)
        differ[dpi, mode] += pixels
    assert differ.total() == 0, (differ, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form_id", FORMS)
def test_ghostscript_draws_the_same_picture(
    library: FormLibrary,
    stamper_of: StamperOf,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    form_id: FormId,
) -> None:
    """A dozen persons of each form, each at two resolutions."""
    whole = area = 0
    found = stamped(library, stamper_of(form_id), form_id, "ghostscript")
    for number, (page, ours) in enumerate(itertools.islice(found, 12)):
        theirs = library.render_pdf(form_id, page)
        for dpi, mode in (VIEWS[number % len(VIEWS)], VIEWS[(number + 3) % len(VIEWS)]):
            pixels, of = differing(ghostscript, ours, theirs, page, tmp_path / str(number), dpi=dpi, mode=mode)
            whole += pixels
            area += of
    record_property("pixels", whole)
    record_property("of", area)
    assert whole == 0, (whole, area, tmp_path)


def test_a_difference_is_found_and_left(library: FormLibrary, stamper_of: StamperOf, tmp_path: Path) -> None:
    form_id = FormId("receipt80/43-2022")
    stamper = stamper_of(form_id)
    (page, ours), (_, other) = itertools.islice(stamped(library, stamper, form_id, "default"), 2)
    assert differing(poppler, ours, library.render_pdf(form_id, page), page, tmp_path, dpi=150, mode="gray")[0] == 0
    assert list(tmp_path.glob("*.png")) == []
    pixels, area = differing(poppler, ours, other, page, tmp_path, dpi=150, mode="mono")
    assert 0 < pixels < area
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert json.loads((tmp_path / "record.json").read_text("utf-8")) == page
