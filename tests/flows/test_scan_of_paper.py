"""A paper as it really comes out of the printer, scanned back from its picture."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from printsvc.domain.form import FormId, PageData
from printsvc.domain.print_job import CopyReason, Happening, JobEvent
from printsvc.flows import dispatch
from printsvc.flows.papers import print_copy
from printsvc.flows.scanback import scan_back
from printsvc.printing.paper import ScanVerdict
from printsvc.render.scan import read_text
from printsvc.render.template import FormLibrary
from printsvc.store.engine import Store

ROOT = Path(__file__).resolve().parents[2]


class PaperRenderer:
    """Draws as the service does, in this process."""

    def __init__(self) -> None:
        self.library = FormLibrary(ROOT / "templates", ROOT / "fonts")

    async def render(self, form_id: FormId, page: PageData) -> bytes:
        return self.library.render_pdf(form_id, page)


def picture(pdf: bytes, folder: Path, *options: str) -> bytes:
    """Return the first page as poppler draws it for a printer."""
    (folder / "paper.pdf").write_bytes(pdf)
    subprocess.run(["pdftoppm", *options, "-singlefile", "paper.pdf", "paper"], cwd=folder, check=True)
    [drawn] = folder.glob("paper.[jp][pn]g")
    return drawn.read_bytes()


@pytest.fixture
def world(sqlite_url: str, make_world: Callable[[Store], Any]) -> Any:
    store = Store(sqlite_url)
    yield make_world(store)
    store.close()


async def test_pictures_of_both_copies_are_read_and_the_number_tells_them_apart(world: Any, tmp_path: Path) -> None:
    services = replace(world.services, renderer=PaperRenderer())
    agent = world.add_agent()
    (recorded,) = await world.record(world.event("A"))
    pages = {}
    job_id, seq = recorded.job_id, 0
    for copy_number in (1, 2):
        result = await dispatch.lease(services, agent, journal_id=agent.journal_id, capacity=1, wait_s=0)
        [ready] = result.ready
        pages[copy_number] = await dispatch.fetch_document(services, agent, ready.sha256)
        told = []
        for event in (JobEvent.SUBMIT, JobEvent.PRINT):
            seq += 1
            told.append((job_id, Happening(event, world.clock.now, agent.agent_id, seq=seq, fencing_token=1)))
        await dispatch.report(services, agent, agent.journal_id, told)
        if copy_number == 1:
            first = await scan_back(
                services, picture(pages[1], tmp_path, "-r", "300", "-mono", "-png"), actor="nurse", site_id="HN-1"
            )
            assert (first.verdict, first.settled) == (ScanVerdict.RIGHT_PAPER, True)
            job_id = (await print_copy(services, recorded.dose.certificate.uvci, CopyReason.LOST, actor="a")).job_id
            (tmp_path / "paper.png").unlink()
    assert "BẢN IN LẠI" in read_text(pages[2])[0].text
    photo = picture(pages[2], tmp_path, "-r", "200", "-jpeg")
    asked = await scan_back(services, photo, actor="nurse", site_id="HN-1")
    assert (asked.verdict, asked.must_see) == (ScanVerdict.WHICH_COPY, 2), "the codes are the same to the bit"
    right = await scan_back(services, photo, actor="nurse", site_id="HN-1", copy_number=2)
    assert (right.verdict, right.paper and right.paper.job_id) == (ScanVerdict.RIGHT_PAPER, job_id)
    old = await scan_back(services, pages[1], actor="nurse", site_id="HN-1", copy_number=1)
    assert old.verdict is ScanVerdict.OLD_COPY, "a PDF is read as well"
