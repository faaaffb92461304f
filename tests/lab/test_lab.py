"""The lab is what it says: real parts, A4 at its true size, faults on demand, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cups
import pikepdf
import pytest
import qrcode
import zxingcpp
from lab import PDF, PWG, URF, Lab, LabError, Page
from PIL import Image

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="a cupsd of one's own needs root"),
    pytest.mark.skipif(shutil.which("ippeveprinter") is None, reason="needs cups-ipp-utils"),
]

MODULE_PT = 1.44  # six dots at 300 dpi
CORNER_PT = (200.0, 300.0)  # the QR's lower left corner, off the grid's lines
TEXT = "HC1:" + "6BF+70790T9WJWG.FKY*4GO0" * 8


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        yield lab


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A4 with a line at every inch from the lower left corner, and a QR of known size."""
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_Q, border=0)
    code.add_data(TEXT)
    code.make(fit=True)
    matrix = code.get_matrix()
    drawing = ["0.5 w 0 G"]
    drawing += [f"{72 * n} 0 m {72 * n} 841.92 l S" for n in range(1, 9)]
    drawing += [f"0 {72 * n} m 595.2 {72 * n} l S" for n in range(1, 12)]
    side = len(matrix) * MODULE_PT
    drawing.append(f"1 g {CORNER_PT[0] - 9} {CORNER_PT[1] - 9} {side + 18} {side + 18} re f 0 g")
    for row, line in enumerate(reversed(matrix)):
        for column, dark in enumerate(line):
            if dark:
                x, y = CORNER_PT[0] + column * MODULE_PT, CORNER_PT[1] + row * MODULE_PT
                drawing.append(f"{x:.3f} {y:.3f} {MODULE_PT} {MODULE_PT} re f")
    path = tmp_path_factory.mktemp("document") / "grid.pdf"
    with pikepdf.new() as pdf:
        pdf.add_blank_page(page_size=(595.2, 841.92))
        pdf.pages[0].Contents = pdf.make_stream("\n".join(drawing).encode())
        pdf.save(path)
    return path


def native_dpi(page: Page) -> int:
    return 600 if page.content_type == PDF else page.raster().dpi[0]


def dark_centres(line: bytes) -> list[float]:
    """Return the middle of each run of dark pixels."""
    centres, start = [], None
    for position, value in enumerate(line + b"\xff"):
        if value < 128 and start is None:
            start = position
        elif value >= 128 and start is not None:
            centres.append((start + position - 1) / 2)
            start = None
    return centres


@pytest.mark.parametrize("content_type", [PDF, PWG, URF])
def test_an_a4_page_arrives_as_a4_at_its_true_size(lab: Lab, document: Path, content_type: str) -> None:
    printer = lab.add_printer("p", (content_type,))
    job_id = lab.submit(lab.add_queue("p", printer), document, "ps-a4-1-1")
    page = printer.wait_for_pages(1)[0]
    assert (page.job_name, page.content_type, page.sheets()) == ("ps-a4-1-1", content_type, 1)
    assert page.size_mm() == pytest.approx((210, 297), abs=0.1)
    dpi = native_dpi(page)
    picture = page.image(dpi).convert("L")
    half_inch = dpi // 2
    across = dark_centres(picture.crop((0, half_inch, picture.width, half_inch + 1)).tobytes())
    column = picture.crop((half_inch, 0, half_inch + 1, picture.height))
    down = [picture.height - y for y in reversed(dark_centres(column.tobytes()))]
    # Every inch is an inch from edge to edge, and the page lies where it was drawn, to half a millimetre.
    assert across == pytest.approx([dpi * n for n in range(1, 9)], abs=dpi / 50.8)
    assert down == pytest.approx([dpi * n for n in range(1, 12)], abs=dpi / 50.8)
    assert across[-1] - across[0] == pytest.approx(7 * dpi, abs=1)
    assert down[-1] - down[0] == pytest.approx(10 * dpi, abs=1)

    (code,) = zxingcpp.read_barcodes(picture)
    assert code.text == TEXT
    at_300 = page.image(300)
    assert at_300.size == pytest.approx((2480, 3508), abs=1)
    assert [read.text for read in zxingcpp.read_barcodes(at_300)] == [TEXT]
    assert lab.wait_for_job(job_id, 9)["job-media-sheets-completed"] == 1


def test_out_of_paper_is_reported_and_refilling_prints(lab: Lab, document: Path) -> None:
    printer = lab.add_printer("p", (PDF,))
    queue = lab.add_queue("p", printer)
    printer.behave(media_empty=True, marker_levels=(3,))
    lab.submit(queue, document, "ps-empty-1-1")
    printer.wait_for("media-empty")
    asked = ask(printer.uri)
    assert "media-empty-warning" in asked["printer-state-reasons"]
    assert asked["marker-levels"] == "3"
    assert printer.pages() == []
    printer.refill()
    printer.wait_for_pages(1)
    deadline = time.monotonic() + 30
    while "media-empty-warning" in ask(printer.uri)["printer-state-reasons"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "media-empty-warning" not in ask(printer.uri)["printer-state-reasons"]


def test_an_aborted_job_leaves_no_page(lab: Lab, document: Path) -> None:
    printer = lab.add_printer("p", (PDF,))
    printer.behave(exit_code=1)
    job_id = lab.submit(lab.add_queue("p", printer), document, "ps-abort-1-1")
    printer.wait_for("aborted")
    # CUPS mostly says canceled; where the printer was quicker than its question, it even says completed.
    lab.wait_for_job(job_id, 7, 8, 9)
    assert printer.pages() == []
    assert [event.event for event in printer.truth()][-1] == "aborted"


def test_a_power_cut_takes_the_page_with_it_and_the_port_stays(lab: Lab, document: Path) -> None:
    printer = lab.add_printer("p", (PDF,))
    queue = lab.add_queue("p", printer)
    printer.behave(media_empty=True)
    lab.submit(queue, document, "ps-cut-1-1")
    printer.wait_for("media-empty")
    uri = printer.uri
    printer.kill()
    time.sleep(1.2)
    assert printer.pages() == []
    printer.behave()
    printer.start()
    assert printer.uri == uri
    lab.submit(queue, document, "ps-cut-1-2")
    printer.wait_for("printed")
    assert printer.pages()[0].job_name == "ps-cut-1-2"


def test_a_silent_printer_takes_connections_and_says_nothing(lab: Lab) -> None:
    printer = lab.add_printer("p", (PDF,))
    printer.silence()
    with pytest.raises(subprocess.TimeoutExpired):
        ask(printer.uri, timeout_s=1)
    printer.wake()
    assert ask(printer.uri)["printer-state-reasons"] == "none"


def test_the_same_job_twice_is_two_papers(lab: Lab, document: Path) -> None:
    printer = lab.add_printer("p", (PDF,))
    queue = lab.add_queue("p", printer, once=False)
    for _ in range(2):
        lab.submit(queue, document, "ps-twice-1-1")
    pages = printer.wait_for_pages(2)
    assert [page.path.name for page in pages] == ["ps-twice-1-1.pdf", "ps-twice-1-1.2.pdf"]
    assert all(isinstance(page.image(72), Image.Image) for page in pages)


def test_cupsd_keeps_its_jobs_and_its_port_through_kill_9(lab: Lab, document: Path) -> None:
    queue = lab.add_queue("p", lab.add_printer("p", (PDF,)))
    held = lab.submit(queue, document, "ps-held-1-1", {"job-hold-until": "indefinite"})
    port, pid = lab.port, lab.cupsd.pid
    lab.cupsd.kill()
    assert lab.cupsd.pid is None
    lab.cupsd.start()
    assert (lab.port, lab.cupsd.pid != pid) == (port, True)
    assert lab.job(held)["job-name"] == "ps-held-1-1"
    lab.connection().setJobHoldUntil(held, "no-hold")
    assert lab.printers["p"].wait_for_pages(1)[0].job_name == "ps-held-1-1"


def test_two_labs_at_once_do_not_meet(tmp_path: Path, document: Path) -> None:
    with Lab(tmp_path / "one") as one, Lab(tmp_path / "two") as two:
        for lab in (one, two):
            lab.submit(lab.add_queue("p", lab.add_printer("p", (PDF,))), document, f"ps-{lab.root.name}-1-1")
        assert [lab.printers["p"].wait_for_pages(1)[0].job_name for lab in (one, two)] == ["ps-one-1-1", "ps-two-1-1"]
        one.close()
        assert two.connection().getPrinters().keys() == {"p"}
        with pytest.raises(RuntimeError):
            cups.Connection(host=one.host, port=one.port)


def test_papers_stay_when_the_lab_is_closed(tmp_path: Path, document: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        printer = lab.add_printer("p", (PDF,))
        lab.submit(lab.add_queue("p", printer), document, "ps-stay-1-1")
        printer.wait_for_pages(1)
    assert printer.pages()[0].image(150).size == pytest.approx((1240, 1754), abs=1)
    with pytest.raises(LabError):
        printer.wake()


def test_nothing_is_left_when_the_opener_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, time; from lab import *\n"
        "lab = Lab(pathlib.Path(sys.argv[1])); lab.add_queue('p', lab.add_printer('p', (PDF,)))\n"
        "print(lab._processes.tag, lab.cupsd.base, flush=True); time.sleep(60)\n"
    )
    opener = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lab")],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2] / "script")},
    )
    assert opener.stdout is not None
    tag, base_path = opener.stdout.readline().split()
    base = Path(base_path)
    assert len(tagged(tag)) >= 3
    opener.send_signal(signal.SIGKILL)
    opener.wait()
    opener.stdout.close()
    deadline = time.monotonic() + 10
    while (tagged(tag) or base.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert tagged(tag) == []
    assert not base.exists()


def tagged(tag: str) -> list[str]:
    """Return the command lines of living processes that carry a lab's tag."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"PRINTSVC_LAB={tag}".encode() in environ.read_bytes().split(b"\0"):
                found.append(environ.with_name("cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def ask(uri: str, timeout_s: float = 5) -> dict[str, str]:
    """Ask the printer itself, by ipptool, for its state."""
    asked = subprocess.run(
        ["ipptool", "-tv", uri, "get-printer-attributes.test"],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    parts = (line.strip().partition(" = ") for line in asked.stdout.splitlines())
    return {name.split(" ")[0]: value for name, _, value in parts if value}
