"""The code of a stamped page reads back: from a 1-bit print, a grey scan, and a phone's picture of it."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from proofs.persons import everybody
from proofs.phone import Shot, photograph, some_shot
from proofs.pictures import poppler

from printsvc.domain.form import FormId
from printsvc.errors import ScanError
from printsvc.render.formfile import find_forms
from printsvc.render.scan import read_codes
from printsvc.render.stamp import NeedsWeasyPrint, Stamper
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
FORMS = find_forms(ROOT / "templates")
SHOTS = 3  # of each page

StamperOf = Callable[[FormId], Stamper]


def png(picture: Image.Image) -> bytes:
    target = io.BytesIO()
    picture.save(target, "PNG")
    return target.getvalue()


def codes(picture: bytes) -> list[str]:
    try:
        return read_codes(picture)
    except ScanError:
        return []


def read_back(
    library: FormLibrary, stamper: Stamper, form_id: FormId, seed: str, *, persons: int, folder: Path
) -> tuple[Counter[str], Counter[str]]:
    """How many pictures of each sort there were, and how many did not read; those are left in `folder`."""
    tried: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    form = library.form(form_id)
    pages = []
    for _, page in everybody(seed, library.sample(form_id), form):
        try:
            pages.append((page["qr"], stamper.stamp(page)))
        except NeedsWeasyPrint:
            continue
        if len(pages) == persons:
            break
    for number, (text, pdf) in enumerate(pages):
        dice = random.Random(f"{seed}/{number}")
        # A head of 203 dpi prints its own form at 203; the others are for printers of 300 and more.
        dpi = form.qr.dpi
        views = {
            "mono": png(poppler(pdf, folder, dpi=dpi, mode="mono")[0]),
            "scan": png(poppler(pdf, folder, dpi=200)[0]),
        }
        paper = poppler(pdf, folder, dpi=300)[0]
        views |= {f"phone {shot}": photograph(paper, some_shot(dice), dice) for shot in range(SHOTS)}
        for view, picture in views.items():
            kind = view.split()[0]
            tried[kind] += 1
            if codes(picture) != [text]:
                unread[kind] += 1
                (folder / f"{number}-{view}.{'jpg' if kind == 'phone' else 'png'}").write_bytes(picture)
    return tried, unread


def test_a_page_reads_back_from_every_picture(library: FormLibrary, stamper_of: StamperOf, tmp_path: Path) -> None:
    form_id = FormId("receipt80/43-2022")
    tried, unread = read_back(library, stamper_of(form_id), form_id, "default", persons=2, folder=tmp_path)
    assert tried == {"mono": 2, "scan": 2, "phone": 2 * SHOTS}
    assert not unread, (unread, tmp_path)


def test_the_phone_does_harm(library: FormLibrary, tmp_path: Path) -> None:
    """A picture that is bad enough reads no more: the others prove something."""
    form_id = FormId("receipt80/43-2022")
    paper = poppler(library.render_pdf(form_id, library.sample(form_id)), tmp_path, dpi=300)[0]
    bad = Shot(scale=0.3, tilt_deg=9, lean=0.1, blur=2.0, shade=0.5, noise=20, quality=60)
    assert codes(photograph(paper, bad, random.Random(1))) == []


@pytest.mark.slow
@pytest.mark.parametrize("form_id", FORMS)
def test_sixty_pages_of_every_form_read_back(
    library: FormLibrary,
    stamper_of: StamperOf,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    form_id: FormId,
) -> None:
    tried, unread = read_back(library, stamper_of(form_id), form_id, "readback", persons=60, folder=tmp_path)
    for kind, number in tried.items():
        record_property(kind, f"{number - unread[kind]}/{number}")
    assert tried == {"mono": 60, "scan": 60, "phone": 60 * SHOTS}
    assert not unread, (unread, tmp_path)
