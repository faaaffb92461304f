"""The once backend as a program: what it asks of its surroundings, and what it does where they fail."""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import io
import os
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pikepdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooler.cupsd.sheets import count_sheets

PROGRAM = Path(__file__).parents[2] / "deploy/cups/printsvc-once"
URI = "ipp://192.0.2.7:631/ipp/print?waitjob=true"

# Stands in for CUPS's own backend: writes down that it ran and what it was given.
STUB = """#!/bin/sh
echo "$DEVICE_URI|$*|$(cat)" >> "$STUB_LOG"
exit ${STUB_EXIT:-0}
"""


@dataclass
class Machine:
    """A ServerBin with a stub, a state directory and what the stub saw."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.home / "bin/backend").mkdir(parents=True)
        stub = self.home / "bin/backend/ipp"
        stub.write_text(STUB)
        stub.chmod(0o755)
        self.once_dir.mkdir()
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "CUPS_SERVERBIN": str(self.home / "bin"),
            "PRINTSVC_ONCE_DIR": str(self.once_dir),
            "STUB_LOG": str(self.home / "stub.log"),
            "DEVICE_URI": f"printsvc-once:/{URI}",
            "PRINTER": "queue1",
        }

    @property
    def once_dir(self) -> Path:
        return self.home / "once"

    def run(
        self, *arguments: str, document: str = "the document", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PROGRAM), *arguments],
            env={**self.environment, **environment},
            input=document,
            capture_output=True,
            text=True,
            timeout=20,
        )

    def start(
        self, title: str, *, job_id: int = 7, document: str = "the document", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        options = "media=iso_a4_210x297mm"
        return self.run(str(job_id), "user", title, "1", options, document=document, **environment)

    def sent(self) -> list[str]:
        log = self.home / "stub.log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture(scope="module")
def once() -> ModuleType:
    """The program as a module."""
    loader = importlib.machinery.SourceFileLoader("printsvc_once", str(PROGRAM))
    spec = importlib.util.spec_from_loader("printsvc_once", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no cache beside the program
    loader.exec_module(module)
    sys.dont_write_bytecode = writes
    return module


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_looking_for_devices_finds_none(machine: Machine) -> None:
    done = machine.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_real_backend_gets_everything_and_its_exit_code_is_returned(machine: Machine) -> None:
    done = machine.start("ps-a-1-1", STUB_EXIT="3")
    assert done.returncode == 3
    assert machine.sent() == [f"{URI}|7 user ps-a-1-1 1 media=iso_a4_210x297mm|the document"]


def test_a_second_start_sends_nothing_and_names_the_first(machine: Machine) -> None:
    assert machine.start("ps-a-1-1").returncode == 0
    done = machine.start("ps-a-1-1", job_id=8, PRINTER="queue2")
    assert done.returncode == 5
    assert done.stderr.startswith("ERROR: printsvc-once: refused: ps-a-1-1 ")
    assert "job-7.queue-queue1." in done.stderr
    assert len(machine.sent()) == 1


def test_a_first_start_that_failed_counts_as_a_start(machine: Machine) -> None:
    """The wrapper cannot know how far the real backend came, so it does not guess."""
    assert machine.start("ps-a-1-1", STUB_EXIT="1").returncode == 1
    assert machine.start("ps-a-1-1").returncode == 5


def test_twenty_starts_at_once_send_once(machine: Machine) -> None:
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda n: machine.start("ps-race-1-1", job_id=n).returncode, range(1, 21)))
    assert sorted(codes) == [0] + [5] * 19
    assert len(machine.sent()) == 1


@pytest.mark.parametrize(
    "title", ["Test page", "", "ps-", "PS-a-1-1", "ps-a/../../b", "ps-a b", "ps-đ", "ps-a\nps-b", "xps-a", "ps-report"]
)
def test_other_jobs_pass_and_leave_no_marker(machine: Machine, title: str) -> None:
    assert [machine.start(title).returncode for _ in range(2)] == [0, 0]
    assert list(machine.once_dir.iterdir()) == []


def test_without_the_directory_nothing_is_sent_and_cups_tries_again(machine: Machine) -> None:
    machine.once_dir.rmdir()
    done = machine.start("ps-a-1-1")
    assert done.returncode == 6
    assert "nothing was sent" in done.stderr
    assert machine.sent() == []
    machine.once_dir.mkdir()
    assert machine.start("ps-a-1-1").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_with_a_full_disk_nothing_is_sent_and_no_marker_stays(machine: Machine) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "tmpfs", str(machine.once_dir)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        (machine.once_dir / "filler").touch()
        done = machine.start("ps-a-1-1")
        assert done.returncode == 6
        assert machine.sent() == []
        (machine.once_dir / "filler").unlink()
        assert machine.start("ps-a-1-1").returncode == 0
    finally:
        subprocess.run(["umount", str(machine.once_dir)], check=True)


def test_a_marker_that_cannot_be_made_durable_is_taken_back(
    tmp_path: Path, once: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    markers = once.Markers(str(tmp_path), "ps-a-1-1", "job-1.queue-q.pid-1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="I/O error"):
            markers.claim()
    assert markers.first() == ""
    assert markers.claim()
    assert not markers.claim()


@pytest.mark.parametrize(
    "uri",
    [
        URI,
        "printsvc-once:/",
        "printsvc-once:/nosuch://h/",
        f"printsvc-once:/printsvc-once:/{URI}",
        "printsvc-once:/../ipp:x",
    ],
)
def test_a_wrong_device_stops_the_queue(machine: Machine, uri: str) -> None:
    done = machine.start("ps-a-1-1", DEVICE_URI=uri)
    assert done.returncode == 4
    assert done.stderr.startswith("ERROR: printsvc-once:")
    assert machine.sent() == []
    assert list(machine.once_dir.iterdir()) == []


def test_old_markers_go_at_every_hundredth_job_and_young_ones_stay(machine: Machine) -> None:
    for name, days in (("ps-old-1-1", 402), ("ps-young-1-1", 399)):
        link = machine.once_dir / name
        link.symlink_to("job-1.queue-q.pid-1")
        when = time.time() - days * 86400
        os.utime(link, (when, when), follow_symlinks=False)
    machine.start("ps-a-1-1", job_id=1299)
    assert (machine.once_dir / "ps-old-1-1").is_symlink()
    machine.start("ps-b-1-1", job_id=1300)
    assert sorted(entry.name for entry in machine.once_dir.iterdir()) == ["ps-a-1-1", "ps-b-1-1", "ps-young-1-1"]


@pytest.mark.parametrize("days", ["x", "0", "-1", "9" * 9])
def test_whatever_is_set_no_marker_goes_before_its_time(machine: Machine, days: str) -> None:
    machine.start("ps-a-1-1", job_id=7)
    for job_id in (100, 200):
        assert machine.start(f"ps-b-1-{job_id}", job_id=job_id, PRINTSVC_ONCE_DAYS=days).returncode == 0
        assert machine.start(f"ps-b-1-{job_id}", job_id=job_id, PRINTSVC_ONCE_DAYS=days).returncode == 5
    assert machine.start("ps-a-1-1", job_id=8).returncode == 5


def test_a_document_that_ends_early_is_not_sent_and_the_third_time_the_attempt_is_closed(machine: Machine) -> None:
    for number in (1, 2):
        done = machine.start("ps-a-1-1", document="%PDF-1.7\nhalf a page")
        assert (done.returncode, machine.sent()) == (6, [])
        assert "ended too early" in done.stderr
        assert "nothing was sent, will try again" in done.stderr
        assert len(list(machine.once_dir.iterdir())) == number
    done = machine.start("ps-a-1-1", document="")
    assert done.returncode == 5
    assert done.stderr.startswith("ERROR: printsvc-once: given up: the document of ps-a-1-1 ended too early 3 times")
    done = machine.start("ps-a-1-1")
    assert (done.returncode, machine.sent()) == (5, [])
    assert "refused" in done.stderr


def test_after_an_early_end_the_whole_document_is_sent(machine: Machine) -> None:
    assert machine.start("ps-a-1-1", document="RaS2").returncode == 6
    assert machine.start("ps-a-1-1").returncode == 0
    assert machine.sent() == [f"{URI}|7 user ps-a-1-1 1 media=iso_a4_210x297mm|the document"]


def test_ended_while_the_document_comes_it_leaves_nothing(machine: Machine) -> None:
    """CUPS ends a backend by SIGTERM: the next start of the attempt is a first one."""
    command = [str(PROGRAM), "7", "user", "ps-a-1-1", "1", ""]
    with subprocess.Popen(command, env=machine.environment, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"half of the document")
        process.stdin.flush()
        process.terminate()
    assert process.returncode == -signal.SIGTERM
    assert list(machine.once_dir.iterdir()) == []
    assert machine.start("ps-a-1-1").returncode == 0


def page_pwg(height: int, groups: bytes) -> bytes:
    """A page of 8 pixels of 8 bits, drawn by `groups`."""
    header = bytearray(1796)
    struct.pack_into(">2I", header, 372, 8, height)
    struct.pack_into(">5I", header, 384, 8, 8, 8, 0, 18)
    return bytes(header) + groups


def page_urf(height: int, groups: bytes) -> bytes:
    header = bytearray(32)
    header[0] = 8
    struct.pack_into(">2I", header, 12, 8, height)
    return bytes(header) + groups


# Eight pixels: one repeated; four repeated and the rest blank; eight as they stand; three and five as they stand.
_LINES = [b"\x07A", b"\x03A\x80", b"\xf9ABCDEFGH", b"\xfeABC\xfcABCDE"]


@st.composite
def rasters(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """A raster document of either kind, and where each of its pages ends."""
    urf = draw(st.booleans())
    document = b"UNIRAST\0" + struct.pack(">I", 0) if urf else b"RaS2"
    ends = []
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.lists(st.tuples(st.integers(1, 256), st.sampled_from(_LINES)), min_size=1, max_size=6))
        bitmap = b"".join(bytes([repeat - 1]) + line for repeat, line in groups)
        document += (page_urf if urf else page_pwg)(sum(repeat for repeat, _ in groups), bitmap)
        ends.append(len(document))
    return document, ends


@settings(max_examples=30)
@given(rasters())
def test_a_raster_is_whole_at_its_end_and_nowhere_else(once: ModuleType, drawn: tuple[bytes, list[int]]) -> None:
    document, ends = drawn
    once.check_whole(document)
    once.check_whole(document, len(ends))
    for end in range(len(document)):
        with pytest.raises(once.CutError):
            once.check_whole(document[:end], len(ends))
        if end not in ends:
            with pytest.raises(once.CutError):
                once.check_whole(document[:end])


@given(pages=st.integers(1, 4), data=st.data())
def test_a_pdf_is_whole_at_its_end_and_nowhere_else(once: ModuleType, pages: int, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    with pikepdf.new() as pdf:
        for _ in range(pages):
            pdf.add_blank_page(page_size=(595.2, 841.92))
        pdf.save(buffer, object_stream_mode=data.draw(st.sampled_from(list(pikepdf.ObjectStreamMode))))
    document = buffer.getvalue()
    once.check_whole(document)
    assert count_sheets(document) == pages
    end = data.draw(st.integers(0, len(document.rstrip()) - 1))
    with pytest.raises(once.CutError):
        once.check_whole(document[:end])


def test_apple_raster_may_leave_its_pages_uncounted(once: ModuleType) -> None:
    document = page_urf(1, b"\0" + _LINES[0])
    for said in (0, 1, 0xFFFFFFFF):
        once.check_whole(b"UNIRAST\0" + struct.pack(">I", said) + document)
    with pytest.raises(once.CutError):
        once.check_whole(b"UNIRAST\0" + struct.pack(">I", 2) + document)


def test_of_an_unknown_format_nothing_is_known(once: ModuleType) -> None:
    once.check_whole(b"\x1b%-12345X@PJL JOB")
    with pytest.raises(once.CutError):
        once.check_whole(b"")


def test_what_python_ignores_is_as_ever_for_the_real_backend(machine: Machine) -> None:
    (machine.home / "bin/backend/ipp").write_text("#!/bin/sh\ngrep SigIgn /proc/self/status\n")
    ignored = int(machine.start("ps-a-1-1").stdout.split()[1], 16)
    assert ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)) == 0


def test_it_needs_nothing_but_python_itself() -> None:
    assert PROGRAM.read_text().startswith("#!/usr/bin/python3 -IS\n")
