"""The whole agent as a process, with a real cupsd and virtual printers; the printers' own log is the truth."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system


class AgentProcess:
    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = {**os.environ, **environment, "PRINTSVC_SPOOLER_STATE_DIR": str(directory)}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> None:
        with open(self.directory.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "spooler", "run"], env={**self.environment, **more}, stderr=log
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(15)

    def status(self) -> dict[str, Any]:
        out = subprocess.run(
            [sys.executable, "-m", "spooler", "status"], env=self.environment, check=True, capture_output=True
        )
        return dict(json.loads(out.stdout))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if os.geteuid() != 0 or not shutil.which("ippeveprinter") or not shutil.which("cupsd"):
        pytest.skip("a printing lab needs root, cupsd and ippeveprinter")
    from lab import PDF, PWG, Lab

    with Lab(tmp_path_factory.mktemp("lab")) as opened:
        for name, formats in (("a", (PDF,)), ("b", (PWG,))):
            opened.add_queue(name, opened.add_printer(name, formats))
        yield opened


@pytest.fixture
def printers(lab: Any) -> Iterator[Any]:
    """Return the two printers as they should be at the start of a test."""
    for printer in lab.printers.values():
        printer.behave()
    yield lab.printers
    for printer in lab.printers.values():
        printer.wake()
        printer.behave()


@pytest.fixture
def agent(lab: Any, service: Any, tmp_path: Path, printers: Any) -> Iterator[AgentProcess]:
    process = AgentProcess(
        tmp_path / "agent",
        {
            "PRINTSVC_SPOOLER_URL": service.url,
            "PRINTSVC_SPOOLER_CUPS_HOST": lab.host,
            "PRINTSVC_SPOOLER_CUPS_PORT": str(lab.port),
            "PRINTSVC_SPOOLER_ENROLL_CODE": "one-time",
            "PRINTSVC_SPOOLER_QUEUES": "a,b",
            "PRINTSVC_SPOOLER_POLL_WAIT_S": "5",
            "PRINTSVC_SPOOLER_BACKOFF_MAX_S": "1",
            "PRINTSVC_SPOOLER_PRINTER_TIMEOUT_S": "1",
        },
    )
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


def started(printer: Any) -> int:
    return sum(event.event == "started" for event in printer.truth())


def pages_of(printers: Any, prefix: str) -> Counter[str]:
    """Return how many pages came out for each job (not attempt) whose name begins so."""
    return Counter(
        page.job_name.removeprefix("ps-").rsplit("-", 2)[0]
        for printer in printers.values()
        for page in printer.pages()
        if page.job_name.startswith(f"ps-{prefix}")
    )


def test_one_job_gives_one_page_and_the_printer_is_the_witness(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    agent.start()
    service.wait(lambda: any(lease.capacity for lease in service.leases))
    job = service.add("single", pdf("single"))
    service.wait(lambda: "printed" in service.kinds(job))
    (printed,) = service.of_kind("printed")
    assert printed.witness == "printer"
    assert printed.impressions == 1
    assert printed.printer_said == "completed"
    assert printed.printer_said_at is not None
    assert service.kinds(job) == ["submitted", "printed"]
    assert pages_of(printers, "single") == {"single": 1}
    assert agent.stop() == 0
    assert agent.status()["jobs"] == []
    assert not list((agent.directory / "documents").iterdir())


def test_agent_killed_in_the_middle_of_ten_jobs(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    jobs = [service.add(f"kill{n}", pdf(f"kill{n}")) for n in range(10)]
    agent.start()
    for count in (1, 4, 7):
        service.wait(lambda count=count: len(service.of_kind("submitted")) >= count)
        agent.kill()
        agent.start()
    service.wait(lambda: all(service.jobs[job].state == "printed" for job in jobs), 60)
    assert pages_of(printers, "kill") == dict.fromkeys(jobs, 1)


def test_silent_printer_holds_one_job_and_the_other_queue_goes_on(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    before = started(printers["a"])
    printers["a"].behave(sleep_s=4)
    agent.start(PRINTSVC_SPOOLER_SILENCE_S="3")
    jobs = [service.add(f"silent{n}", pdf(f"silent{n}")) for n in range(5)]
    printers["a"].wait_for("started", before + 1)
    printers["a"].silence()
    service.wait(lambda: any(event.queue == "a" for event in service.events))
    stuck = next(event.job_id for event in service.events if event.queue == "a")
    others = [job for job in jobs if job != stuck]
    service.wait(lambda: all(service.jobs[job].state == "printed" for job in others), 40)
    service.wait(lambda: service.jobs[stuck].state == "uncertain", 20)
    assert service.of_kind("uncertain")[0].reason == "printer-silent"
    # The print command goes on where only the printer's mouth is shut: the stuck job may have its page by now, or not.
    assert all(pages_of(printers, "silent")[job] == 1 for job in others)
    # Late evidence: the printer comes back, the page comes out, and the agent says so without printing again.
    printers["a"].wake()
    service.wait(lambda: service.jobs[stuck].state == "printed", 30)
    assert pages_of(printers, "silent") == dict.fromkeys(jobs, 1)


def test_out_of_paper_then_refilled(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    printers["a"].behave(media_empty=True)
    agent.start(PRINTSVC_SPOOLER_QUEUES="a", PRINTSVC_SPOOLER_SILENCE_S="3", PRINTSVC_SPOOLER_HEALTH_S="1")
    job = service.add("paper", pdf("paper"))
    service.wait(lambda: any("media-empty-warning" in r.state_reasons for x in service.leases for r in x.printers))
    time.sleep(4)
    assert service.kinds(job) == ["submitted"]
    printers["a"].refill()
    service.wait(lambda: service.jobs[job].state == "printed")
    assert pages_of(printers, "paper") == {"paper": 1}


def test_job_aborted_by_a_printer_is_printed_on_the_other(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    printers["a"].behave(exit_code=1)
    agent.start()
    job = service.add("abort", pdf("abort"))
    service.wait(lambda: service.jobs[job].state in ("printed", "failed", "uncertain"), 40)
    assert service.jobs[job].state == "printed", service.events
    assert service.of_kind("printed")[0].queue == "b"
    assert pages_of(printers, "abort") == {"abort": 1}


def test_printer_killed_with_the_data_and_no_page_is_uncertain(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    printers["a"].behave(sleep_s=3)
    before = started(printers["a"])
    agent.start(PRINTSVC_SPOOLER_QUEUES="a")
    job = service.add("cut", pdf("cut"))
    printers["a"].wait_for("started", before + 1)
    printers["a"].kill()
    time.sleep(0.5)
    printers["a"].behave()
    printers["a"].start()
    service.wait(lambda: service.jobs[job].state == "uncertain", 40)
    assert pages_of(printers, "cut") == {}


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_cupsd_killed_or_restarted_while_it_prints(
    lab: Any, agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes], how: str
) -> None:
    printers["a"].behave(sleep_s=1)
    agent.start()
    jobs = [service.add(f"cupsd{how}{n}", pdf(f"cupsd{how}{n}")) for n in range(4)]
    service.wait(lambda: len(service.of_kind("submitted")) >= 2)
    if how == "kill":
        lab.cupsd.kill()
        time.sleep(1)
        lab.cupsd.start()
    else:
        lab.cupsd.restart()
    settled = ("printed", "uncertain")
    service.wait(lambda: all(service.jobs[job].state in settled for job in jobs), 60)
    pages = pages_of(printers, f"cupsd{how}")
    assert max(pages.values()) == 1
    assert all(pages[job] == 1 for job in jobs if service.jobs[job].state == "printed")


def test_second_agent_on_the_same_journal_refuses_to_start(agent: AgentProcess, service: Any) -> None:
    agent.start()
    service.wait(lambda: bool(service.leases))
    second = subprocess.run(
        [sys.executable, "-m", "spooler", "run"], env=agent.environment, check=False, capture_output=True, timeout=120
    )
    assert second.returncode == 1
    assert b"Another agent" in second.stderr
    assert agent.process is not None
    agent.process.send_signal(signal.SIGINT)
    assert agent.process.wait(15) == 0


def test_service_with_every_fault_gets_each_event_once(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    service.fail("enroll", "503", "refuse")
    service.fail("lease", "garbage", "503", "drop", "500")
    service.fail("documents", "503", "500", "refuse")
    service.fail("report", "drop", "garbage", "503", "drop", "refuse")
    jobs = [service.add(f"fault{n}", pdf(f"fault{n}")) for n in range(4)]
    agent.start(PRINTSVC_SPOOLER_REQUEST_TIMEOUT_S="3")
    service.wait(lambda: all(service.jobs[job].state == "printed" for job in jobs), 60)
    assert pages_of(printers, "fault") == dict.fromkeys(jobs, 1)
    assert [event.seq for event in service.events] == list(range(1, len(service.events) + 1))
    assert service.duplicates > 0


def test_unknown_token_stops_new_jobs_and_a_known_one_starts_them_again(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    agent.start()
    service.wait(lambda: any(lease.capacity for lease in service.leases))
    token, service.token = service.token, "another"
    service.fail("lease", *["401"] * 2)
    service.wait(lambda: b'"unauthorised"' in agent.directory.with_suffix(".log").read_bytes(), 20)
    job = service.add("token", pdf("token"))
    time.sleep(1)
    assert pages_of(printers, "token") == {}
    service.token = token
    service.wait(lambda: service.jobs[job].state == "printed")
    assert pages_of(printers, "token") == {"token": 1}
    assert token.encode() not in agent.directory.with_suffix(".log").read_bytes()


def test_full_disk_hands_nothing_to_cups_until_there_is_room(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    agent.directory.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", agent.directory], check=False).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        agent.start()
        service.wait(lambda: any(lease.capacity for lease in service.leases))
        ballast = agent.directory / "ballast"
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        jobs = [service.add(f"disk{n}", pdf(f"disk{n}")) for n in range(3)]
        log = agent.directory.with_suffix(".log")
        service.wait(lambda: b"journal_unwritable" in log.read_bytes(), 20)
        time.sleep(2)
        assert pages_of(printers, "disk") == {}
        assert service.events == []
        ballast.unlink()
        service.wait(lambda: all(service.jobs[job].state == "printed" for job in jobs), 40)
        assert pages_of(printers, "disk") == dict.fromkeys(jobs, 1)
        assert agent.stop() == 0
    finally:
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()
        subprocess.run(["umount", agent.directory], check=True)


def test_urgent_job_goes_first_and_two_queues_work_at_once(
    agent: AgentProcess, service: Any, printers: Any, pdf: Callable[..., bytes]
) -> None:
    for printer in printers.values():
        printer.behave(sleep_s=1)
    jobs = [service.add(f"order{n}", pdf(f"order{n}"), priority=90 if n == 3 else 50) for n in range(4)]
    agent.start()
    service.wait(lambda: all(service.jobs[job].state == "printed" for job in jobs), 40)
    submitted = [event.job_id for event in service.of_kind("submitted")]
    assert submitted.index("order3") < submitted.index("order2")
    kinds = [event.kind.value for event in list(service.events)]
    assert kinds[: kinds.index("printed")].count("submitted") == 2, "one at each printer, before either is done"
