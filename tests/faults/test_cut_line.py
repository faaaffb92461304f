"""A line that is down a third of the time, and one that is away for long: every paper once, every word once, in order.

Real service, agent, cupsd and printers; the line is a proxy in user space.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.poorline import PoorLine
from stack import SitePlan, Stack

pytestmark = [pytest.mark.faults, pytest.mark.system]

SITE = "HN-HBT-01"
A4 = "a4/43-2022"


def event(number: int) -> bytes:
    """Return the line of a dose that is issued at once."""
    return json.dumps(
        {
            "dose_id": f"CUT-{number:04d}",
            "site_id": SITE,
            "person": {
                "full_name": f"Trần Văn {chr(65 + number)}",
                "date_of_birth": "1985-04-12",
                "sex": "male",
                "nationality": "VN",
                "id_type": "cccd",
                "id_number": f"001085{number:06d}",
            },
            "identity": {"status": "matched"},
            "dose": {
                "product": "EU/1/20/1528",
                "lot": "FG3712",
                "number": 1,
                "series": 2,
                "kind": "basic",
                "injected_at": "2021-10-30T09:12:00+07:00",
            },
        },
        ensure_ascii=False,
    ).encode()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Stack, PoorLine]]:
    lines: list[PoorLine] = []

    def between(url: str) -> str:
        lines.append(PoorLine(int(url.rpartition(":")[2]), round_trip_s=0.02))
        return lines[0].url

    environment = {"PRINTSVC_SPOOLER_BACKOFF_MAX_S": "1", "PRINTSVC_SPOOLER_POLL_WAIT_S": "3"}
    try:
        with Stack(
            tmp_path / "stack", [SitePlan(SITE)], agent_environment=environment, forms=[A4], agent_url=between
        ) as stack:
            yield stack, lines[0]
    finally:
        for line in lines:
            line.close()


def wait_for(ready: Callable[[], bool], what: str, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.1)


def jobs(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.service.api("admin").get("/v1/print-jobs")["print_jobs"]
    return found


def check(stack: Stack, answers: list[dict[str, Any]]) -> None:
    """Each certificate has one sheet, the books say so, and the ledger has each word once."""
    papers = stack.read_back()
    assert all(paper.reads for paper in papers)
    assert Counter(paper.uvci for paper in papers) == Counter(answer["uvci"] for answer in answers)
    admin = stack.service.api("admin")
    for job in jobs(stack):
        assert job["state"] == "printed", job
        told = [one["event"] for one in admin.get(f"/v1/print-jobs/{job['job_id']}")["events"]]
        assert told[-2:] == ["submit", "print"], told
        assert (told.count("submit"), told.count("print")) == (1, 1), told


def agent_counts(stack: Stack) -> dict[str, int]:
    return dict(json.loads((stack.sites[SITE].agent.state_dir / "line.json").read_text()))


def test_a_line_that_is_down_a_third_of_the_time(opened: tuple[Stack, PoorLine]) -> None:
    stack, line = opened
    line.cut_often(0.35, 0.7, seed=20211030)
    answers = []
    for number in range(16):
        answers += stack.post_doses([event(number)])
        time.sleep(0.3)
    wait_for(lambda: stack.stats()["printed"] == len(answers), "all papers")
    assert line.cuts > 3
    check(stack, answers)


def test_without_the_centre_what_is_held_is_printed_and_told_afterwards(opened: tuple[Stack, PoorLine]) -> None:
    stack, line = opened
    for printer in stack.printers.values():
        printer.behave(sleep_s=3)
    answers = stack.post_doses([event(number) for number in range(4)])
    wait_for(lambda: all(job["state"] in ("leased", "sent") for job in jobs(stack)), "all leased")
    documents = stack.sites[SITE].agent.state_dir / "documents"
    wait_for(lambda: len(list(documents.iterdir())) + stack.sheets() >= 4, "all documents at the site")
    line.down()
    wait_for(lambda: stack.sheets() == 4, "papers without the centre")
    assert stack.stats()["printed"] < 4
    stack.sites[SITE].agent.kill()  # what it has to tell is in the journal
    stack.sites[SITE].agent.start()
    time.sleep(2)
    line.down(False)
    wait_for(lambda: stack.stats()["printed"] == 4, "word of all papers")
    check(stack, answers)


def test_pages_come_as_data_over_a_line_that_is_cut(opened: tuple[Stack, PoorLine]) -> None:
    stack, line = opened
    forms = stack.sites[SITE].agent.state_dir / "forms"
    wait_for(lambda: any(forms.glob("*.cbor")), "the compiled form")
    time.sleep(10)  # a poll that was open before knew nothing of it
    before = sum(line.bytes())
    answers = []
    for number in range(6):
        answers += stack.post_doses([event(number)])
        if number % 2:
            line.cut_now()
        time.sleep(0.5)
    wait_for(lambda: stack.stats()["printed"] == len(answers), "all papers")
    assert (sum(line.bytes()) - before) / len(answers) < 5_000, "a page as PDF has 25,000 bytes"
    check(stack, answers)
