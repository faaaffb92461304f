"""The lab itself: private D-Bus, cupsd, printers and queues under one directory."""

from __future__ import annotations

import os
import stat
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cups

from lab.cupsd import Cupsd
from lab.errors import LabError
from lab.printer import VirtualPrinter
from lab.processes import ProcessSet, wait_until
from lab.queues import A4, Queue, add_queue

PDF = "application/pdf"
PWG = "image/pwg-raster"
URF = "image/urf"

_BACKEND = Path(__file__).parents[2] / "deploy/cups/printsvc-once"
# sockaddr_un holds 108 bytes; the longest socket name below `base` takes 20 of them.
_LONGEST_BASE = 80


class Lab:
    """Opened by its constructor; `close()` or `with` ends it. `backend` is the program put before each printer."""

    host = "127.0.0.1"

    def __init__(self, root: Path, *, backend: Path = _BACKEND) -> None:
        if os.geteuid() != 0:
            raise LabError("a cupsd of one's own needs root")
        self.root = root.resolve()
        self.log = self.root / "log"
        self.log.mkdir(parents=True, exist_ok=True)
        self.printers: dict[str, VirtualPrinter] = {}
        self.queues: dict[str, Queue] = {}
        base, borrowed = self._base()
        self._processes = ProcessSet(uuid.uuid4().hex, borrowed)
        try:
            bus = f"unix:path={self._start_bus(base)}"
            self._bus = bus
            self.cupsd = Cupsd(base, self.log, backend, self._processes, bus)
            self.cupsd.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """cupsd's TCP port; the same after each of its restarts."""
        return self.cupsd.port

    @property
    def server(self) -> str:
        """For `CUPS_SERVER` and `-h`."""
        return f"{self.host}:{self.port}"

    def close(self) -> None:
        """End every process of this lab; calling it twice does no harm."""
        self._processes.close()

    def add_printer(self, name: str, formats: tuple[str, ...] = (PDF, PWG, URF)) -> VirtualPrinter:
        """Switch on a printer that takes these document formats."""
        printer = VirtualPrinter(name, self.root / "printers" / name, formats, self._processes, self._bus)
        self.printers[name] = printer
        printer.start()
        return printer

    def add_queue(self, name: str, printer: VirtualPrinter, *, once: bool = True) -> Queue:
        """Make a driverless queue; `once=False` leaves the once backend out, as CUPS is by itself."""
        queue = add_queue(self.connection(), name, printer.uri, once=once)
        self.queues[name] = queue
        return queue

    def connection(self) -> cups.Connection:
        """Return a new connection to this cupsd. One thread must not use another's.

        Sets the calling thread's default server too: libcups submits a job to the *device* where the connection's
        host and port are not spelled as the thread's default, and the answer is then "printer does not exist".
        """
        cups.setServer(self.host)
        cups.setPort(self.port)
        return cups.Connection(host=self.host, port=self.port)

    def submit(self, queue: Queue, document: Path, job_name: str, options: dict[str, str] | None = None) -> int:
        """Print as the spooler does, with media and scaling said explicitly; return CUPS's job id."""
        chosen = {"media": A4, "print-scaling": "none", **(options or {})}
        return int(self.connection().printFile(queue.name, str(document), job_name, chosen))

    def job(self, job_id: int) -> dict[str, Any]:
        """Return all that CUPS says of a job."""
        return dict(self.connection().getJobAttributes(job_id))

    def wait_for_job(self, job_id: int, *states: int, timeout_s: float = 120.0) -> dict[str, Any]:
        """Return CUPS's attributes of a job as soon as its job-state (RFC 8011: 3 to 9) is one of `states`."""
        wait_until(lambda: self.job(job_id)["job-state"] in states, timeout_s, f"job {job_id} in {states}", poll_s=0.05)
        return self.job(job_id)

    def _base(self) -> tuple[Path, Path | None]:
        """Return the directory for cupsd: below root, or a borrowed one where lp could not pass or the path is long.

        The second value is the borrowed one, to be removed at the end.
        """
        passable = all(parent.stat().st_mode & stat.S_IXOTH for parent in (self.root, *self.root.parents))
        own = self.root / "cups"
        if passable and len(str(own)) <= _LONGEST_BASE:
            own.mkdir(exist_ok=True)
            return own, None
        borrowed = Path(tempfile.mkdtemp(prefix="printsvc-lab-", dir="/tmp"))
        borrowed.chmod(0o755)
        return borrowed, borrowed

    def _start_bus(self, base: Path) -> Path:
        path = base / "bus"
        path.unlink(missing_ok=True)
        command = ["/usr/bin/dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address=unix:path={path}"]
        self._processes.spawn(command, self.log / "dbus.out", {})
        wait_until(path.exists, 10, f"D-Bus (see {self.log}/dbus.out)")
        return path
