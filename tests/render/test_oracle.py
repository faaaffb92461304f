"""The stamp's content stream is WeasyPrint's byte by byte, for every form.

A thousand records a form, half of them persons, half of them hostile. See docs/development.md for the command.
"""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pikepdf
import pytest
from proofs.persons import everybody, hostile

from printsvc.domain.form import FormId, PageData
from printsvc.errors import InputError
from printsvc.render.formfile import find_forms
from printsvc.render.stamp import NeedsWeasyPrint, Stamper
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
FORMS = find_forms(ROOT / "templates")
PARTS = 8  # of a form's records, so that several processes share them
RECORDS = 128  # of a part
WAYS_OUT = 8  # of a part, drawn to see that each is a page or an error with a pointer

StamperOf = Callable[[FormId], Stamper]


def records(library: FormLibrary, form_id: FormId, part: int) -> Iterator[PageData]:
    form, sample = library.form(form_id), library.sample(form_id)
    for number, (_, page) in enumerate(everybody(f"oracle/{part}", sample, form)):
        yield page
        yield hostile(random.Random(f"oracle/{part}/{number}"), sample, form)


def streams(pdf: bytes) -> list[bytes]:
    with pikepdf.open(io.BytesIO(pdf)) as document:
        return [page.Contents.read_bytes().rstrip() for page in document.pages]


def compare_streams(library: FormLibrary, form_id: FormId, page: PageData, ours: list[bytes], folder: Path) -> None:
    """A failure leaves the record and both streams of each page in `folder`."""
    theirs = streams(library.render_pdf(form_id, page))
    ours = [stream.rstrip() for stream in ours]
    if ours == theirs:
        return
    (folder / "record.json").write_text(json.dumps(page, ensure_ascii=False, indent=1), "utf-8")
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        (folder / f"{number}-stamp.txt").write_bytes(one)
        (folder / f"{number}-weasyprint.txt").write_bytes(other)
    one, other = next(pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1])
    lines = zip(one.split(b"\n"), other.split(b"\n"), strict=False)
    pytest.fail(f"{form_id}: {next(pair for pair in lines if pair[0] != pair[1])}: see {folder}")


def drawn_or_refused(library: FormLibrary, form_id: FormId, page: PageData) -> bool:
    """Whether WeasyPrint draws the page, or it is refused with a pointer to each text that is wrong."""
    try:
        return library.render_pdf(form_id, page).startswith(b"%PDF")
    except InputError as refused:
        return bool(refused.problems) and all(problem.pointer for problem in refused.problems)


def prove(
    library: FormLibrary, stamper: Stamper, form_id: FormId, part: int, *, count: int, ways_out: int, folder: Path
) -> Counter[str]:
    """Compare until `count` records are; return how many there were, and how many took the way out for each reason."""
    found: Counter[str] = Counter()
    for page in records(library, form_id, part):
        try:
            ours = stamper.content(page)
        except NeedsWeasyPrint as why:
            found[why.reason] += 1
            if found.total() - found["compared"] <= ways_out:
                assert drawn_or_refused(library, form_id, page)
            continue
        compare_streams(library, form_id, page, ours, folder)
        found["compared"] += 1
        if found["compared"] == count:
            break
    return found


def test_a_few_of_each_kind(library: FormLibrary, stamper_of: StamperOf, tmp_path: Path) -> None:
    form_id = FormId("receipt80/43-2022")
    found = prove(library, stamper_of(form_id), form_id, 0, count=8, ways_out=1, folder=tmp_path)
    assert found["compared"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("form_id", FORMS)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_stream_is_weasyprints(
    library: FormLibrary,
    stamper_of: StamperOf,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    form_id: FormId,
    part: int,
) -> None:
    found = prove(library, stamper_of(form_id), form_id, part, count=RECORDS, ways_out=WAYS_OUT, folder=tmp_path)
    for reason, number in found.items():
        record_property(reason, number)
    assert found["compared"] == RECORDS
