"""The workers' temporary files: below the cache, and cleared though their makers were killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

WORKER = """
import sys, tempfile
from pathlib import Path
from printsvc.render import poolworker
poolworker._use_own_temp_folder(Path(sys.argv[1]))
print(tempfile.mkdtemp(prefix="weasyprint-"), flush=True)
sys.stdin.read()
"""


def start(below: Path) -> tuple[subprocess.Popen[str], Path]:
    """Return a process that works as a worker does, and a temporary folder that it made."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(below)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str], how: signal.Signals | None = None) -> None:
    if how is not None:
        process.send_signal(how)
    process.communicate(timeout=30)


def test_what_a_killed_worker_left_is_cleared_and_a_living_ones_is_not(tmp_path: Path) -> None:
    below = tmp_path / "workers"
    living, kept = start(below)
    killed, left = start(below)
    assert kept.parent.parent == left.parent.parent == below
    assert (below.stat().st_mode | kept.parent.stat().st_mode) & 0o077 == 0
    end(killed, signal.SIGKILL)
    assert left.exists(), "who is killed clears nothing"
    other, third = start(below)
    assert not left.parent.exists()
    assert kept.exists()
    for process in (living, other):
        end(process)
    assert not kept.parent.exists()
    assert not third.parent.exists()
    assert list(below.glob("worker-*")) == [], "who ends well clears up"
