"""This agent, as a process on a real cupsd, with a service of the release before: its models are the frozen ones."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system
VERSION1 = Path(__file__).parents[1] / "protocol" / "version1.py"


@pytest.fixture
def old_service(service: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The small service of conftest.py with the words of version 1 alone: it reads and writes nothing newer."""
    spec = importlib.util.spec_from_file_location("printsvc_protocol_version1", VERSION1)
    assert spec is not None
    assert spec.loader is not None
    version1 = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = version1
    spec.loader.exec_module(version1)
    monkeypatch.setitem(type(service)._lease.__globals__, "p", version1)
    return service


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Any]:
    if os.geteuid() != 0 or not shutil.which("ippeveprinter") or not shutil.which("cupsd"):
        pytest.skip("a printing lab needs root, cupsd and ippeveprinter")
    from lab import PDF, Lab

    with Lab(tmp_path / "lab") as opened:
        opened.add_queue("a", opened.add_printer("a", (PDF,)))
        yield opened


def test_this_agent_prints_for_a_service_of_the_release_before(
    lab: Any, old_service: Any, tmp_path: Path, pdf: Callable[..., bytes]
) -> None:
    service = old_service
    environment = {
        **os.environ,
        "PRINTSVC_SPOOLER_URL": service.url,
        "PRINTSVC_SPOOLER_STATE_DIR": str(tmp_path / "agent"),
        "PRINTSVC_SPOOLER_CUPS_HOST": lab.host,
        "PRINTSVC_SPOOLER_CUPS_PORT": str(lab.port),
        "PRINTSVC_SPOOLER_ENROLL_CODE": "one-time",
        "PRINTSVC_SPOOLER_POLL_WAIT_S": "5",
    }
    log = (tmp_path / "agent.log").open("ab")
    agent = subprocess.Popen([sys.executable, "-m", "spooler", "run"], env=environment, stderr=log)
    try:
        service.wait(lambda: any(lease.capacity for lease in service.leases))
        jobs = [service.add(f"old{number}", pdf(f"old{number}")) for number in range(2)]
        service.wait(lambda: all(service.kinds(job) == ["submitted", "printed"] for job in jobs), 60)
    finally:
        agent.terminate()
        agent.wait(15)
        log.close()
    assert type(service.events[0]).__module__ == "printsvc_protocol_version1"
    assert {event.witness for event in service.of_kind("printed")} == {"printer"}
    assert sorted(page.job_name.split("-")[1] for page in lab.printers["a"].pages()) == ["old0", "old1"]
    # Bounds of version 1 that a newer agent keeps to: what breaks them is answered 422, for ever.
    assert all(lease.capacity <= 1000 and lease.wait_s <= 120 for lease in service.leases)
