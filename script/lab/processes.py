"""The lab's processes: started with a tag in their environment, found and ended by it.

cupsd puts each filter and backend in its own process group and a backend outlives a killed cupsd, so neither a group
nor a parent says whose a process is. The tag is inherited by all of them (cupsd passes it on by `SetEnv`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.errors import LabError

TAG = "PRINTSVC_LAB"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REAPER = Path(__file__).with_name("reaper.py")

_held: list[socket.socket] = []  # ports that were given out


class ProcessSet:
    """Every process of one lab. `close()` ends them; a reaper does so when this process dies without it."""

    def __init__(self, tag: str, litter: Path | None = None) -> None:
        """`litter` is a directory that goes with the last process."""
        self.tag = tag
        self._started: list[subprocess.Popen[bytes]] = []
        # The write end of this pipe is what keeps the lab alive: it closes when this process ends, however it ends.
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_REAPER), f"{TAG}={tag}", *([] if litter is None else [str(litter)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": PATH},
            start_new_session=True,
        )

    def spawn(self, command: Sequence[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start `command` in a session of its own, its output appended to `log`."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", TAG: self.tag, **environment},
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End all; returns when none is left."""
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait(timeout=30)
        for process in self._started:
            process.wait(timeout=10)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 a process that `spawn` started, with the children that share its process group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on, and that no other search finds while this process runs.

    It stays bound here, without listening: who means to listen on it can (SO_REUSEADDR, as servers have it), also
    again after a kill; to anybody else's port 0 it is taken.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    return int(held.getsockname()[1])


def wait_until(ready: Callable[[], bool], timeout_s: float, what: str, poll_s: float = 0.02) -> None:
    """Return as soon as `ready()` is true; LabError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout_s:g} s")
        time.sleep(poll_s)


def listens(port: int) -> bool:
    """True when somebody accepts connections on this loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
