"""No reader complains of a stamped file: every form, every variant of it, and what was merged from them."""

from __future__ import annotations

import io
import itertools
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pikepdf
import pytest
from proofs.persons import changed, everybody

from printsvc.domain.form import FormId, PageData
from printsvc.render.fastqr import alphanumeric_capacity
from printsvc.render.formfile import Form, find_forms
from printsvc.render.merge import merge_papers
from printsvc.render.stamp import NeedsWeasyPrint, Stamper
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
FORMS = find_forms(ROOT / "templates")
RECEIPT = FormId("receipt80/43-2022")
OPTIONAL = ("id_label", "id_masked", "phone_masked", "address")

StamperOf = Callable[[FormId], Stamper]


def variants(form: Form, sample: PageData) -> Iterator[PageData]:
    """The sample as it may vary: rows, copy number, empty fields, each size of code."""
    yield sample
    yield changed(sample, copy_number=2)
    yield changed(sample, copy_number=188, **dict.fromkeys(OPTIONAL, ""))
    for version in range(form.qr.min_version, form.qr.max_version + 1):
        yield changed(sample, qr="0" * alphanumeric_capacity(form.qr.level, version))
    if not form.doses:
        return
    row = cast(dict[str, Any], next(row for row in sample["rows"] if row is not None))
    for fill in (0, 1, 0b0101010, 0b1000000, 0b1111111):
        if fill.bit_count() > form.doses:
            continue
        last = fill.bit_length() - 1
        given = [{**row, "attested": n == last} if fill >> n & 1 else None for n in range(7)]
        yield changed(sample, rows=given)
        yield changed(sample, rows=[one and one | {"lot": "", "site": "", "manufacturer": ""} for one in given])


def complaints(paths: Sequence[Path]) -> list[str]:
    """What readers say of the files, one line a command; nothing of sound ones."""
    found = []
    stop = ["-dPDFSTOPONERROR", "-dPDFSTOPONWARNING"]
    commands: list[list[Any]] = [["gs", "-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", *stop, "-sDEVICE=nullpage", *paths]]
    for path in paths:
        commands += [["qpdf", "--check", path], ["pdfinfo", "-struct-text", path], ["pdffonts", path]]
        commands += [["pdftotext", path, "-"], ["pdftoppm", "-r", "50", "-gray", path, path.with_suffix("")]]
    for command in commands:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode or done.stderr:
            found.append(f"{command[0]} {command[-1]}: {done.returncode} {done.stderr.strip()}")
    for path in paths:
        with pikepdf.open(path) as document:
            found += [f"pikepdf {path}: {problem}" for problem in document.check_pdf_syntax()]
    return found


def write(folder: Path, papers: Sequence[bytes]) -> list[Path]:
    paths = [folder / f"{number}.pdf" for number in range(len(papers))]
    for path, paper in zip(paths, papers, strict=True):
        path.write_bytes(paper)
    return paths


def test_a_few_variants_are_sound_alone_and_merged(library: FormLibrary, stamper_of: StamperOf, tmp_path: Path) -> None:
    pages = [*itertools.islice(variants(library.form(RECEIPT), library.sample(RECEIPT)), 2)]
    pages.append([*variants(library.form(RECEIPT), library.sample(RECEIPT))][-2])
    papers = [stamper_of(RECEIPT).stamp(page) for page in pages]
    assert complaints(write(tmp_path, [*papers, merge_papers(papers).pdf])) == []


def test_a_broken_file_is_complained_of(library: FormLibrary, stamper_of: StamperOf, tmp_path: Path) -> None:
    broken = io.BytesIO()
    with pikepdf.open(io.BytesIO(stamper_of(RECEIPT).stamp(library.sample(RECEIPT)))) as paper:
        text = paper.pages[0].Contents[-1]
        text.write(text.read_bytes().replace(b"BT\n", b"Q Q\nBT\n", 1))
        paper.save(broken)
    assert len(complaints(write(tmp_path, [broken.getvalue()]))) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("form_id", FORMS)
def test_every_variant_of_every_form_is_sound(
    library: FormLibrary,
    stamper_of: StamperOf,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    form_id: FormId,
) -> None:
    form, sample, stamper = library.form(form_id), library.sample(form_id), stamper_of(form_id)
    papers = [stamper.stamp(page) for page in variants(form, sample)]
    for _, page in itertools.islice(everybody("valid", sample, form), 20):
        try:
            papers.append(stamper.stamp(page))
        except NeedsWeasyPrint:
            papers.append(library.render_pdf(form_id, page))
    merged = merge_papers(papers).pdf
    record_property("files", len(papers) + 1)
    assert complaints(write(tmp_path, [*papers, merged])) == []
    with pikepdf.open(io.BytesIO(merged)) as document:
        assert len(document.pages) == form.pages * len(papers)
