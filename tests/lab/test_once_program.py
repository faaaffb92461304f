"""The once backend as a program: what it asks of its surroundings, and what it does where they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

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

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PROGRAM), *arguments],
            env={**self.environment, **environment},
            input="the document",
            capture_output=True,
            text=True,
            timeout=20,
        )

    def start(self, title: str, *, job_id: int = 7, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(job_id), "user", title, "1", "media=iso_a4_210x297mm", **environment)

    def sent(self) -> list[str]:
        log = self.home / "stub.log"
        return log.read_text().splitlines() if log.exists() else []


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
    "title", ["Test page", "", "ps-", "PS-a-1-1", "ps-a/../../b", "ps-a b", "ps-đ", "ps-a\nps-b", "xps-a"]
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


def test_a_marker_that_cannot_be_made_durable_is_taken_back(machine: Machine) -> None:
    broken = machine.home / "broken"
    broken.mkdir()
    (broken / "sync").write_text("#!/bin/sh\nexit 1\n")
    (broken / "sync").chmod(0o755)
    done = machine.start("ps-a-1-1", PATH=f"{broken}:/usr/bin:/bin")
    assert done.returncode == 6
    assert machine.sent() == []
    assert machine.start("ps-a-1-1").returncode == 0


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


def test_it_is_plain_posix_shell() -> None:
    dash = shutil.which("dash")
    assert dash is not None
    subprocess.run([dash, "-n", str(PROGRAM)], check=True)
