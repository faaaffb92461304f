"""The parts of a stack, each a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab import PDF, PWG, Lab, VirtualPrinter
from lab.processes import ProcessSet, free_port, kill_session, wait_until

from printsvc.credential.trust import TrustList
from stack.api import Answer, Api, ApiError
from stack.papers import Paper, read_paper

NDJSON = "application/x-ndjson"
_PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class SitePlan:
    """A site to be made. `printers` are kind → formats; by default one takes PDF, one raster."""

    site_id: str
    name: str = "Điểm tiêm chủng"
    authority: str = "TRUNG TÂM Y TẾ"
    printers: tuple[tuple[str, tuple[str, ...]], ...] = (("pdf", (PDF,)), ("raster", (PWG,)))


class Service:
    """`printsvc up` as a process: killed and started, it keeps its port and its data."""

    def __init__(self, data_dir: Path, log: Path, processes: ProcessSet, environment: dict[str, str]) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._log = log
        self._processes = processes
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def compile_forms(self, *forms: str) -> None:
        """Compile forms for the stamp, so that the first page is stamped too."""
        command = [sys.executable, "-m", "printsvc", "forms", "compile", *forms]
        environment = self._environment | {"PRINTSVC_DATA_DIR": str(self.data_dir)}
        ended = self._processes.spawn(command, self._log, environment).wait(timeout=900)
        if ended != 0:
            raise RuntimeError(f"a form cannot be compiled: see {self._log}")

    def start(self, patience_s: float = 60.0) -> None:
        """Start, and return when it is ready. Raises LabError where it is not in time."""
        command = [sys.executable, "-m", "printsvc", "up", "--data-dir", str(self.data_dir), "--port", str(self.port)]
        self._process = self._processes.spawn(command, self._log, self._environment)
        wait_until(self._ready, patience_s, f"the service (see {self._log})", poll_s=0.05)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            kill_session(self._process)

    def stop(self, patience_s: float = 60.0) -> None:
        """SIGTERM, and wait. Raises TimeoutExpired where it does not end in time."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=patience_s)

    def api(self, role: str = "platform") -> Api:
        """Return a client with the development token of `platform` or `admin`."""
        return Api(self.url, (self.data_dir / "dev" / f"{role}.token").read_text().strip())

    def _ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the service ended at its start: see {self._log}")
        try:
            return Api(self.url).call("GET", "/readyz").status == 200
        except ApiError:
            return False


class Agent:
    """`printsvc-spooler run` of one site as a process: killed and started, it keeps its journal."""

    def __init__(self, state_dir: Path, log: Path, processes: ProcessSet, environment: dict[str, str]) -> None:
        self.state_dir = state_dir
        self.log = log
        self._processes = processes
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "spooler", "run"]
        self._process = self._processes.spawn(command, self.log, self._environment)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            kill_session(self._process)

    def stop(self, patience_s: float = 60.0) -> None:
        """SIGTERM, and wait. Raises TimeoutExpired where it does not end in time."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=patience_s)

    def pause(self) -> None:
        """SIGSTOP: it holds what it holds and does nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, after `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None


@dataclass(frozen=True, slots=True)
class SiteParts:
    """What a site is made of; printers by queue name."""

    plan: SitePlan
    agent: Agent
    printers: dict[str, VirtualPrinter] = field(default_factory=dict)


class Stack:
    """Opened by its constructor; `close()` or `with` ends every process. `root` keeps data, logs and papers.

    `told` is called with a line of what is being done. `service_environment` adds PRINTSVC_… settings. `forms` are
    compiled first; without, the service does so while its first pages go through WeasyPrint. `agent_url` gives, for the
    service's URL, the one that a site's agent calls, that of a line in between; it is asked for each site, in order.
    `patience_s` is how long the service may take to start.
    """

    def __init__(
        self,
        root: Path,
        plans: Iterable[SitePlan],
        *,
        told: Callable[[str], None] = lambda _: None,
        service_environment: dict[str, str] | None = None,
        agent_environment: dict[str, str] | None = None,
        forms: Sequence[str] = (),
        agent_url: Callable[[str], str] = lambda url: url,
        patience_s: float = 60.0,
    ) -> None:
        self.root = root.resolve()
        self.logs = self.root / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.sites: dict[str, SiteParts] = {}
        self._processes = ProcessSet(uuid.uuid4().hex)
        base = {"HOME": str(self.root), "PYTHONPATH": str(_PROJECT)}
        self._agent_environment = base | (agent_environment or {})
        try:
            self.lab = Lab(self.root / "lab")
        except BaseException:
            self._processes.close()
            raise
        self.service = Service(
            self.root / "service", self.logs / "service.log", self._processes, base | (service_environment or {})
        )
        try:
            if forms:
                told("compiling the form")
                self.service.compile_forms(*forms)
            told("starting the service")
            self.service.start(patience_s)
            self._agent_url = agent_url
            for number, plan in enumerate(plans, start=1):
                told(f"starting site {plan.site_id}: an agent and two printers")
                self.sites[plan.site_id] = self._start_site(number, plan)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything; calling it twice does no harm."""
        self.service.stop()
        self._processes.close()
        self.lab.close()

    @property
    def printers(self) -> dict[str, VirtualPrinter]:
        """Every printer of every site, by queue name."""
        return self.lab.printers

    def post_doses(self, lines: Sequence[bytes], batch: int = 200, *, patience_s: float = 60.0) -> list[dict[str, Any]]:
        """Post NDJSON lines; return an answer for each. Raises ApiError when the service does not take them."""
        answers: list[dict[str, Any]] = []
        for start in range(0, len(lines), batch):
            part = lines[start : start + batch]
            answer = self._post_until_taken(b"\n".join(part) + b"\n", patience_s)
            got = answer.lines()
            if len(got) != len(part):
                raise ApiError(f"{len(part)} lines posted, {len(got)} answered")
            answers += got
        return answers

    def _post_until_taken(self, body: bytes, patience_s: float) -> Answer:
        """Post as the Platform does: again and again until there is an answer. A replay makes nothing twice."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                answer = self.service.api().call("POST", "/v1/doses", body, content_type=NDJSON)
                if answer.status == 200:
                    return answer
                trouble = f"status {answer.status}"
            except ApiError as error:
                trouble = str(error)
            if time.monotonic() > deadline:
                raise ApiError(f"the doses were not taken: {trouble}")
            time.sleep(0.3)

    def stats(self) -> dict[str, Any]:
        """Return the service's own count."""
        numbers: dict[str, Any] = self.service.api("admin").get("/v1/stats")
        return numbers

    def sheets(self) -> int:
        """Return how many sheets came out of all printers, by their own logs."""
        return sum(len(printer.pages()) for printer in self.printers.values())

    def wait_for_papers(self, count: int, timeout_s: float) -> None:
        """Return when the service's books say that `count` papers are printed. Raises LabError."""

        def enough() -> bool:
            try:
                return bool(self.stats()["printed"] >= count)
            except ApiError:
                return False

        wait_until(enough, timeout_s, f"{count} papers in the books", poll_s=0.2)

    def trust_list(self) -> TrustList:
        """Return the service's trust list."""
        return TrustList.from_json(Api(self.service.url).get("/v1/trust-list"))

    def read_back(self, save_in: Path | None = None, done: Callable[[int], None] = lambda _: None) -> list[Paper]:
        """Read every sheet that came out of every printer; `done` is told how many are read."""
        trust, now = self.trust_list(), datetime.now(UTC)
        if save_in is not None:
            save_in.mkdir(parents=True, exist_ok=True)
        work = [(name, page) for name, printer in self.printers.items() for page in printer.pages()]
        papers = []
        # Decoding releases the interpreter; two threads keep two cores busy.
        with ThreadPoolExecutor(2) as pool:
            reading = [
                pool.submit(read_paper, name, page, trust=trust, now=now, save_in=save_in) for name, page in work
            ]
            for number, future in enumerate(reading, start=1):
                papers.append(future.result())
                done(number)
        return papers

    def _start_site(self, number: int, plan: SitePlan) -> SiteParts:
        admin = self.service.api("admin")
        body = {"site_id": plan.site_id, "name": plan.name, "authority": plan.authority}
        made = admin.call("POST", "/v1/sites", body)
        if made.status >= 400:
            raise ApiError(f"site {plan.site_id}: {made.json().get('detail')}")
        code = admin.call("POST", f"/v1/sites/{plan.site_id}/enrolment-codes").json()["code"]
        printers = {}
        for kind, formats in plan.printers:
            name = f"site{number}-{kind}"
            printers[name] = self.lab.add_printer(name, formats)
            self.lab.add_queue(name, printers[name])
        state_dir = self.root / "agents" / f"site{number}"
        environment = self._agent_environment | {
            "PRINTSVC_SPOOLER_URL": self._agent_url(self.service.url),
            "PRINTSVC_SPOOLER_STATE_DIR": str(state_dir),
            "PRINTSVC_SPOOLER_CUPS_HOST": self.lab.host,
            "PRINTSVC_SPOOLER_CUPS_PORT": str(self.lab.port),
            "PRINTSVC_SPOOLER_QUEUES": ",".join(printers),
            "PRINTSVC_SPOOLER_ENROLL_CODE": code,
        }
        agent = Agent(state_dir, self.logs / f"agent-site{number}.log", self._processes, environment)
        agent.start()
        return SiteParts(plan, agent, printers)
