"""The once backend on real parts: what makes CUPS print twice, counted at the printer."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cups
import pikepdf
import pytest
from lab import PDF, Lab, VirtualPrinter
from lab.processes import wait_until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.geteuid() != 0, reason="a cupsd of one's own needs root"),
    pytest.mark.skipif(shutil.which("ippeveprinter") is None, reason="needs cups-ipp-utils"),
]

CANCELED, COMPLETED = 7, 9
FINAL = (7, 8, 9)
ATTEMPT = "ps-job1-1-1"

Fault = Callable[[Lab, int], None]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Two printers at one site; each page takes 2 s, so that a fault can strike in the middle."""
    with Lab(tmp_path / "lab") as lab:
        for name in ("a", "b"):
            lab.add_printer(name, (PDF,)).behave(sleep_s=2)
        yield lab


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "page.pdf"
    with pikepdf.new() as pdf:
        pdf.add_blank_page(page_size=(595.2, 841.92))
        pdf.save(path)
    return path


def wait_for_the_backend(lab: Lab) -> None:
    """It leaves its mark before it does anything else, and waits for the printer from then on."""
    wait_until((lab.cupsd.once_dir / ATTEMPT).is_symlink, 60, "the backend's first start")


def kill_cupsd(lab: Lab, job_id: int) -> None:
    lab.cupsd.kill()
    lab.cupsd.start()


def disable_and_enable(lab: Lab, job_id: int) -> None:
    connection = lab.connection()
    connection.disablePrinter("a")
    lab.wait_for_job(job_id, 3)
    connection.enablePrinter("a")


def restart_hold_release(lab: Lab, job_id: int) -> None:
    lab.cupsd.restart()
    connection = lab.connection()
    connection.setJobHoldUntil(job_id, "indefinite")
    connection.setJobHoldUntil(job_id, "no-hold")


def move(lab: Lab, job_id: int) -> None:
    lab.connection().moveJob(job_id=job_id, job_printer_uri="ipp://localhost/printers/b")


FAULTS = [kill_cupsd, disable_and_enable, restart_hold_release, move]


def strike(lab: Lab, document: Path, fault: Fault, *, once: bool) -> int:
    """Submit to queue a, strike while printer a has the document whole, and return the job id when all is quiet."""
    for name, printer in lab.printers.items():
        lab.add_queue(name, printer, once=once)
    job_id = lab.submit(lab.queues["a"], document, ATTEMPT)
    lab.printers["a"].wait_for("started")
    fault(lab, job_id)
    lab.wait_for_job(job_id, *FINAL)
    settle(lab)
    return job_id


def settle(lab: Lab) -> None:
    """Return when no printer has begun a page that is not out, twice in a row a second apart."""
    quiet = 0
    while quiet < 2:
        time.sleep(1)
        quiet = quiet + 1 if all(ended(printer) for printer in lab.printers.values()) else 0


def ended(printer: VirtualPrinter) -> bool:
    events = [line.event for line in printer.truth()]
    return events.count("started") == events.count("printed")


def pages_in_total(lab: Lab) -> int:
    return sum(len(printer.pages()) for printer in lab.printers.values())


# A second start that finds the printer busy asks again after 10 s; two such controls are enough for every day.
CONTROLS = [
    kill_cupsd,
    move,
    pytest.param(disable_and_enable, marks=pytest.mark.slow),
    pytest.param(restart_hold_release, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("fault", CONTROLS)
def test_without_the_backend_cups_prints_twice(lab: Lab, document: Path, fault: Fault) -> None:
    """The control: where this fails, the next test proves nothing any more."""
    strike(lab, document, fault, once=False)
    assert pages_in_total(lab) == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_with_the_backend_one_page_comes_out(lab: Lab, document: Path, fault: Fault) -> None:
    job_id = strike(lab, document, fault, once=True)
    assert pages_in_total(lab) == 1
    assert lab.printers["a"].pages()[0].job_name == ATTEMPT
    job = lab.job(job_id)
    assert job["job-state"] == CANCELED
    assert f"printsvc-once: refused: {ATTEMPT} " in job["job-printer-state-message"]


def test_jobs_without_a_fault_print_as_ever(lab: Lab, document: Path) -> None:
    """Two attempts are two pages; so are two jobs of somebody else with the same name."""
    printer = lab.printers["a"]
    printer.behave()
    queue = lab.add_queue("a", printer)
    names = [ATTEMPT, "ps-job1-1-2", "Test page", "Test page"]
    job_ids = [lab.submit(queue, document, name) for name in names]
    assert [lab.wait_for_job(job_id, *FINAL)["job-state"] for job_id in job_ids] == [COMPLETED] * 4
    assert [page.job_name for page in printer.pages()] == names


def test_the_same_attempt_submitted_twice_prints_once(lab: Lab, document: Path) -> None:
    """A spooler that lost its journal hands the attempt over again, under another job id and to another queue."""
    for name, printer in lab.printers.items():
        printer.behave()
        lab.add_queue(name, printer)
    first = lab.submit(lab.queues["a"], document, ATTEMPT)
    assert lab.wait_for_job(first, *FINAL)["job-state"] == COMPLETED
    second = lab.submit(lab.queues["b"], document, ATTEMPT)
    job = lab.wait_for_job(second, *FINAL)
    assert job["job-state"] == CANCELED
    assert f"job-{first}.queue-a." in job["job-printer-state-message"]
    assert pages_in_total(lab) == 1


def test_no_marker_no_printing(lab: Lab, document: Path) -> None:
    """The state directory is gone: the job waits, says why, and prints by itself when the directory is back."""
    printer = lab.printers["a"]
    printer.behave()
    queue = lab.add_queue("a", printer)
    once_dir = lab.cupsd.once_dir
    once_dir.rename(once_dir.with_name("elsewhere"))
    job_id = lab.submit(queue, document, ATTEMPT)
    time.sleep(1)
    job = lab.job(job_id)
    assert job["job-state"] not in FINAL
    assert "nothing was sent" in job["job-printer-state-message"]
    assert printer.truth() == []
    once_dir.with_name("elsewhere").rename(once_dir)
    assert lab.wait_for_job(job_id, *FINAL)["job-state"] == COMPLETED
    assert len(printer.pages()) == 1


def test_as_root_for_backends_that_need_it(lab: Lab, document: Path) -> None:
    """Not executable for others: CUPS runs it as root, as usb wants it."""
    (lab.cupsd.base / "bin/backend/printsvc-once").chmod(0o744)
    printer = lab.printers["a"]
    printer.behave()
    job_id = lab.submit(lab.add_queue("a", printer), document, ATTEMPT)
    assert lab.wait_for_job(job_id, *FINAL)["job-state"] == COMPLETED
    assert len(printer.pages()) == 1
    assert (lab.cupsd.once_dir / ATTEMPT).lstat().st_uid == 0


def test_a_printer_that_is_off_gets_the_job_when_it_is_on_again(lab: Lab, document: Path) -> None:
    """The ipp backend waits within one start, so the marker does not stand in the way."""
    printer = lab.printers["a"]
    printer.behave()
    queue = lab.add_queue("a", printer)
    printer.kill()
    job_id = lab.submit(queue, document, ATTEMPT)
    wait_for_the_backend(lab)
    printer.start()
    assert lab.wait_for_job(job_id, *FINAL)["job-state"] == COMPLETED
    assert len(printer.pages()) == 1


def test_a_job_canceled_before_a_byte_was_sent_stays_canceled(lab: Lab, document: Path) -> None:
    printer = lab.printers["a"]
    printer.behave()
    queue = lab.add_queue("a", printer)
    printer.kill()
    job_id = lab.submit(queue, document, ATTEMPT)
    wait_for_the_backend(lab)
    lab.connection().cancelJob(job_id)
    lab.wait_for_job(job_id, CANCELED)
    printer.start()
    settle(lab)
    assert printer.truth() == []


@pytest.mark.parametrize(
    "fault", [disable_and_enable, lambda lab, job_id: lab.cupsd.restart()], ids=["disable", "restart"]
)
def test_a_wait_for_a_printer_that_is_off_ends_with_its_backend(lab: Lab, document: Path, fault: Fault) -> None:
    """The price: no byte was sent, yet the second start is refused. The agent makes a new attempt, which prints."""
    printer = lab.printers["a"]
    printer.behave()
    queue = lab.add_queue("a", printer)
    printer.kill()
    job_id = lab.submit(queue, document, ATTEMPT)
    wait_for_the_backend(lab)
    fault(lab, job_id)
    # After a restart CUPS may take the job up by itself or leave it pending; too late a release is an error.
    with contextlib.suppress(cups.IPPError):
        lab.connection().setJobHoldUntil(job_id, "no-hold")
    lab.wait_for_job(job_id, CANCELED)
    printer.start()
    again = lab.submit(queue, document, "ps-job1-1-2")
    assert lab.wait_for_job(again, *FINAL)["job-state"] == COMPLETED
    assert [page.job_name for page in printer.pages()] == ["ps-job1-1-2"]


def test_cupsd_killed_while_the_printer_is_off_leaves_it_to_the_first_start(lab: Lab, document: Path) -> None:
    """The backend of the killed cupsd lives on and prints, though CUPS calls the job canceled."""
    printer = lab.printers["a"]
    printer.behave()
    queue = lab.add_queue("a", printer)
    printer.kill()
    job_id = lab.submit(queue, document, ATTEMPT)
    wait_for_the_backend(lab)
    kill_cupsd(lab, job_id)
    assert lab.wait_for_job(job_id, *FINAL)["job-state"] == CANCELED
    printer.start()
    assert len(printer.wait_for_pages(1)) == 1
    settle(lab)
    assert len(printer.pages()) == 1
