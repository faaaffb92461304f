"""A filter that ends in the middle of a page: CUPS prints half a sheet and calls it completed; our backend does not.

Real cupsd, real IPP printers of each kind. The filter is held where it has given half of its page, and then struck.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pikepdf
import pytest
from lab import PDF, PWG, URF, Lab, LabError, VirtualPrinter
from lab.poorline import PoorLine
from lab.processes import wait_until
from lab.queues import once_uri

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.geteuid() != 0, reason="a cupsd of one's own needs root"),
    pytest.mark.skipif(shutil.which("ippeveprinter") is None, reason="needs cups-ipp-utils"),
]

CANCELED, COMPLETED = 7, 9
FINAL = (7, 8, 9)
ATTEMPT = "ps-job1-1-1"
LAST_FILTER = {PDF: "pdftopdf", PWG: "gstoraster", URF: "rastertopwg"}

# The first start gives so many bytes and then hangs, as on a machine that swaps; `half` holds its process id. The state
# directory is the one place that lp may write to and a new cupsd does not sweep.
HANGS_ONCE = """\
if mkdir "$PRINTSVC_ONCE_DIR/begun" 2>/dev/null; then
    "$REAL" "$@" | head -c {size}
    echo $$ >"$PRINTSVC_ONCE_DIR/half"
    exec sleep 1000
fi
exec "$REAL" "$@\""""
ENDS_EARLY = '"$REAL" "$@" | head -c 3000'


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        yield lab


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """Two sheets with something on each, enough of it that a page does not fit into a pipe."""
    path = tmp_path / "page.pdf"
    with pikepdf.new() as pdf:
        for sheet in range(2):
            page = pdf.add_blank_page(page_size=(595.2, 841.92))
            marks = b"\n".join(b"%d %d 3 3 re f" % (7 * i % 590, (13 + sheet) * i % 840) for i in range(4000))
            page.Contents = pdf.make_stream(marks)
        pdf.save(path)
    return path


def is_whole(printer: VirtualPrinter, document: Path) -> bool:
    """Return whether the one paper that came out has both sheets to their ends."""
    (page,) = printer.pages()
    try:
        with pikepdf.open(document) as sent:
            return page.sheets() == len(sent.pages)
    except LabError:
        return False


def kill_filter(lab: Lab, job_id: int, pid: int) -> None:
    """As the kernel does where memory runs out."""
    os.kill(pid, signal.SIGKILL)


def kill_cupsd_and_filter(lab: Lab, job_id: int, pid: int) -> None:
    """A filter of a cupsd that is gone ends with its next word to it; the backend lives on."""
    lab.cupsd.kill()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    lab.cupsd.start()


def restart_cupsd(lab: Lab, job_id: int, pid: int) -> None:
    lab.cupsd.restart()
    # After a restart CUPS may leave the job pending until somebody touches it.
    lab.connection().setJobHoldUntil(job_id, "indefinite")
    lab.connection().setJobHoldUntil(job_id, "no-hold")


def disable_and_enable(lab: Lab, job_id: int, pid: int) -> None:
    connection = lab.connection()
    connection.disablePrinter("a")
    lab.wait_for_job(job_id, 3)
    connection.enablePrinter("a")


Fault = Callable[[Lab, int, int], None]


def strike(lab: Lab, document: Path, kind: str, fault: Fault, *, once: bool, size: int = 40_000) -> int:
    """Print with a filter that hangs in the middle, strike then, and return the job's id when all is over."""
    printer = lab.add_printer("a", (kind,))
    queue = lab.add_queue("a", printer, once=once)
    lab.cupsd.stand_in(LAST_FILTER[kind], HANGS_ONCE.format(size=size))
    job_id = lab.submit(queue, document, ATTEMPT, {"printsvc-sheets": "2"})
    half = lab.cupsd.once_dir / "half"
    wait_until(lambda: half.exists() and half.read_text().strip() != "", 20, "half a page")
    time.sleep(0.3)  # what there is of it goes on its way
    fault(lab, job_id, int(half.read_text()))
    lab.wait_for_job(job_id, *FINAL)
    return job_id


@pytest.mark.parametrize("kind", [PDF, PWG, URF])
def test_without_the_backend_half_a_page_comes_out_and_is_called_completed(lab: Lab, document: Path, kind: str) -> None:
    """The control: where this fails, the next test proves nothing any more."""
    job_id = strike(lab, document, kind, kill_filter, once=False, size=20_000)
    assert lab.job(job_id)["job-state"] == COMPLETED
    (event,) = [line for line in lab.printers["a"].truth() if line.event == "printed"]
    assert event.bytes == 20_000


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (PDF, kill_filter),
        (PWG, kill_filter),
        (URF, kill_filter),
        (PWG, kill_cupsd_and_filter),
        (PWG, restart_cupsd),
        (PWG, disable_and_enable),
    ],
)
def test_with_the_backend_the_whole_page_comes_out_once(lab: Lab, document: Path, kind: str, fault: Fault) -> None:
    job_id = strike(lab, document, kind, fault, once=True, size=20_000)
    assert lab.job(job_id)["job-state"] == COMPLETED
    assert [line.event for line in lab.printers["a"].truth()] == ["started", "printed"]
    assert is_whole(lab.printers["a"], document)


@pytest.mark.parametrize("kind", [PWG, URF])
def test_a_document_that_lacks_its_last_sheet_is_not_whole(lab: Lab, document: Path, kind: str, tmp_path: Path) -> None:
    """Killed exactly between two sheets: every sheet that there is has its end."""
    first = tmp_path / "first.pdf"
    with pikepdf.open(document) as pdf:
        del pdf.pages[1]
        pdf.save(first)
    measure = lab.add_printer("measure", (kind,))
    lab.wait_for_job(lab.submit(lab.add_queue("measure", measure), first, "Test page"), *FINAL)
    size = measure.truth()[0].bytes
    strike(lab, document, kind, kill_filter, once=True, size=size)
    assert [line.event for line in lab.printers["a"].truth()] == ["started", "printed"]
    assert is_whole(lab.printers["a"], document)


def test_a_filter_that_always_ends_early_closes_the_attempt(lab: Lab, document: Path) -> None:
    """After three starts the job is cancelled with our word that nothing was sent, and no later start may send."""
    printer = lab.add_printer("a", (PWG,))
    queue = lab.add_queue("a", printer)
    lab.cupsd.stand_in("gstoraster", ENDS_EARLY)
    job_id = lab.submit(queue, document, ATTEMPT)
    job = lab.wait_for_job(job_id, *FINAL, timeout_s=40)
    assert job["job-state"] == CANCELED
    assert f"printsvc-once: given up: the document of {ATTEMPT} " in job["job-printer-state-message"]
    lab.cupsd.stand_in("gstoraster", 'exec "$REAL" "$@"')
    again = lab.wait_for_job(lab.submit(queue, document, ATTEMPT), *FINAL)
    assert again["job-state"] == CANCELED
    assert "printsvc-once: refused: " in again["job-printer-state-message"]
    assert printer.truth() == []


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A sheet that no compression makes small: megabytes, more than sockets hold."""
    path, size = tmp_path / "noise.pdf", (1000, 1400)
    dots = random.Random(20211030).randbytes(size[0] * size[1])
    with pikepdf.new() as pdf:
        page = pdf.add_blank_page(page_size=(595.2, 841.92))
        image = pdf.make_stream(dots, Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Image, Width=size[0])
        image.Height, image.ColorSpace, image.BitsPerComponent = size[1], pikepdf.Name.DeviceGray, 8
        page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Noise=image))
        page.Contents = pdf.make_stream(b"595.2 0 0 841.92 0 0 cm /Noise Do")
        pdf.save(path)
    return path


@pytest.mark.parametrize("once", [False, True], ids=["CUPS by itself", "here"])
@pytest.mark.parametrize("fault", ["restart", "disable"])
def test_the_backend_is_ended_while_it_sends(lab: Lab, noise: Path, fault: str, once: bool) -> None:
    """CUPS's backend ends the document where it is, and the printer calls it a page: seen in a chaos run."""
    printer = lab.add_printer("a", (PWG,))
    queue = lab.add_queue("a", printer, once=once)
    with PoorLine(printer.port, holds=8192, bits_per_s=8_000_000) as line:
        uri = f"ipp://localhost:{line.port}/ipp/print"
        lab.connection().setPrinterDevice("a", once_uri(uri) if once else uri)
        lab.submit(queue, noise, ATTEMPT)
        wait_until(lambda: line.bytes_up > 100_000, 60, "the middle of a document")
        if fault == "restart":
            lab.cupsd.restart()
        else:
            lab.connection().disablePrinter("a")
        printer.wait_for_pages(1, 90)
    page = printer.pages()[0]
    if once:
        assert page.sheets() == 1
        assert len(printer.pages()) == 1
    else:
        with pytest.raises(LabError, match="cut"):
            page.sheets()
