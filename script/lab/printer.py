"""A virtual printer: a real ippeveprinter whose print command does what a test asks and writes down the truth."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.errors import LabError
from lab.page import Page
from lab.processes import ProcessSet, free_port, kill_session, listens, wait_until

_COMMAND = Path(__file__).with_name("vprint.py")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the printer does with the next documents; `media_empty` is also obeyed by one that waits already."""

    sleep_s: float = 0.0  # before the page is out
    sleep_after_s: float = 0.0  # the page is out, the printer still says processing
    media_empty: bool = False
    exit_code: int = 0  # not 0: the printer aborts the job and no page comes out
    marker_levels: tuple[int, ...] = (80,)


@dataclass(frozen=True, slots=True)
class TruthEvent:
    """One line of `truth.ndjson`. `event`: started, media-empty, printed, aborted. `page` only where printed."""

    event: str
    at: str  # ISO 8601, UTC
    job_name: str
    job_id: int  # the printer's own number, not CUPS's
    content_type: str
    bytes: int
    sha256: str
    page: str = ""


class VirtualPrinter:
    """One device. `home` keeps its log, its behaviour, its truth and its pages over restarts."""

    def __init__(self, name: str, home: Path, formats: tuple[str, ...], processes: ProcessSet, bus: str) -> None:
        self.name = name
        self.home = home
        self.formats = formats
        self.port = 0
        self._processes = processes
        self._bus = bus
        self._process: subprocess.Popen[bytes] | None = None
        for directory in ("spool", "pages"):
            (home / directory).mkdir(parents=True, exist_ok=True)
        command = home / "print"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {shlex.quote(str(_COMMAND))} "$@"\n')
        command.chmod(0o755)
        self.behave()

    @property
    def uri(self) -> str:
        """Where the printer itself answers IPP, past CUPS."""
        return f"ipp://localhost:{self.port}/ipp/print"

    def start(self) -> None:
        """Switch on, at the port it had before or a free one; returns when it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        self.port = self.port or free_port()
        command = ["/usr/sbin/ippeveprinter", "-v", "-r", "off", "-n", "localhost", "-p", str(self.port)]
        command += ["-f", ",".join(self.formats), "-k", "-d", str(self.home / "spool"), "-c", str(self.home / "print")]
        command += ["-s", "60,60", "-2", "-M", "Lab", "-m", self.name, "-l", self.name, f"Lab {self.name}"]
        # ippeveprinter insists on a D-Bus to ask for Avahi, although "-r off" has nothing announced.
        environment = {"DBUS_SYSTEM_BUS_ADDRESS": self._bus, "PRINTSVC_LAB_PRINTER": str(self.home)}
        self._process = self._processes.spawn(command, self.home / "log", environment)
        wait_until(self._answers, 15, f"printer {self.name} (see {self.home}/log)")

    def kill(self) -> None:
        """Power cut: what it was printing is lost with it."""
        if self._process is not None:
            kill_session(self._process)

    def silence(self) -> None:
        """SIGSTOP: connections are taken and nothing is ever answered."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT, after `silence`."""
        self._signal(signal.SIGCONT)

    def behave(
        self,
        *,
        sleep_s: float = 0.0,
        sleep_after_s: float = 0.0,
        media_empty: bool = False,
        exit_code: int = 0,
        marker_levels: tuple[int, ...] = (80,),
    ) -> None:
        """Replace the whole behaviour; no argument: a printer in good order."""
        asked = Behaviour(sleep_s, sleep_after_s, media_empty, exit_code, marker_levels)
        partial = self.home / ".behaviour.json"
        partial.write_text(json.dumps(asdict(asked)), "utf-8")
        partial.rename(self.home / "behaviour.json")

    def refill(self) -> None:
        """Load paper; all else of the behaviour stays."""
        asked = json.loads((self.home / "behaviour.json").read_text("utf-8"))
        self.behave(**{**asked, "media_empty": False, "marker_levels": tuple(asked["marker_levels"])})

    def truth(self) -> list[TruthEvent]:
        """Return all that this printer ever did, in order."""
        try:
            lines = (self.home / "truth.ndjson").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [TruthEvent(**json.loads(line)) for line in lines]

    def pages(self) -> list[Page]:
        """Return the documents that came out, in order; the same job twice is two."""
        printed = [event for event in self.truth() if event.event == "printed"]
        return [Page(self.home / "pages" / event.page, event.job_name, event.content_type) for event in printed]

    def wait_for_pages(self, count: int, timeout_s: float = 120.0) -> list[Page]:
        """Return the pages as soon as there are `count`; LabError when that takes longer."""
        wait_until(lambda: len(self.pages()) >= count, timeout_s, f"page {count} of printer {self.name}")
        return self.pages()

    def wait_for(self, event: str, count: int = 1, timeout_s: float = 120.0) -> None:
        """Return when the truth holds `count` of this event (`started`: a document has arrived whole)."""
        wait_until(
            lambda: sum(line.event == event for line in self.truth()) >= count,
            timeout_s,
            f"{event} {count} of printer {self.name}",
        )

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"printer {self.name} is off")
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"printer {self.name} ended at its start; see {self.home}/log")
        return listens(self.port)
