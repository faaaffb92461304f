"""doctor, as a stranger at a site meets it: real files, a real cupsd and printers, a real service."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spooler.doctor.report import Check, Status, as_document, as_text, is_well

ROOT = Path(__file__).parents[2]
FAKETIME = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def _harness() -> Any:
    """Test folders are no packages: tests/web/harness.py is loaded by its path, as tests/sync does."""
    name = "printsvc_api_harness"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "web" / "harness.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


api = _harness().api
NOWHERE = "http://127.0.0.1:9"


def spooler(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PRINTSVC_")}
    return subprocess.run(
        [sys.executable, "-m", "spooler", *arguments],
        env=clean | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )


def examine(**environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code, and the checks by code; of several with one code the gravest."""
    done = spooler("doctor", "--json", **environment)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    grave = ["ok", "unseen", "advice", "problem"]
    checks = sorted(document["checks"], key=lambda check: grave.index(check["status"]))
    assert document["ok"] == (done.returncode == 0)
    return done.returncode, {check["code"]: check for check in checks}


# --- what is told


def test_the_words_are_for_a_person_in_both_languages() -> None:
    checks = [
        Check("computer", "room", Status.OK, "9 MB are free", "còn trống 9 MB"),
        Check("desk1", "queue-raw", Status.PROBLEM, "it is raw", "hàng đợi thô", "make it again", "tạo lại"),
    ]
    told = as_text(checks)
    assert (
        told.index("it is raw") < told.index("hàng đợi thô") < told.index("→ make it again") < told.index("→ tạo lại")
    )
    assert "Queue desk1 / Hàng đợi desk1" in told
    assert "2 checks: 1 ok, 0 advice, 1 problems, 0 not seen." in told
    assert told.rstrip().endswith("Hãy xử lý các lỗi (→) rồi chạy lại doctor.")
    assert not is_well(checks)
    assert as_document(checks)["checks"][1]["mend_vi"] == "tạo lại"
    assert is_well([Check("cups", "x", Status.ADVICE, "", ""), Check("cups", "y", Status.UNSEEN, "", "")])


# --- a computer on which nothing was done yet


def test_a_fresh_computer_is_told_the_first_steps_and_nothing_is_made(tmp_path: Path) -> None:
    state = tmp_path / "none"
    settings = {"PRINTSVC_SPOOLER_STATE_DIR": str(state), "PRINTSVC_SPOOLER_CUPS_PORT": "9"}
    code, found = examine(**settings)
    assert code == 1
    assert found["folder-missing"]["status"] == found["not_set_up"]["status"] == found["url"]["status"] == "problem"
    assert found["cups-silent"]["mend_en"].startswith("systemctl start cups")
    assert found["libraries"]["status"] == "ok"
    assert not state.exists()
    told = spooler("doctor", **settings)
    assert told.returncode == 1
    assert "→ enrol this agent: printsvc-spooler enroll --code CODE --url URL" in told.stdout
    assert "chưa đăng ký" in told.stdout
    assert "Traceback" not in told.stdout + told.stderr


def test_a_wrong_setting_is_named_and_its_value_is_not(tmp_path: Path) -> None:
    code, found = examine(PRINTSVC_SPOOLER_CUPS_PORT="Geheim")
    assert code == 1
    assert "PRINTSVC_SPOOLER_CUPS_PORT" in found["setting-invalid"]["en"]
    assert "Geheim" not in json.dumps(found)


@pytest.fixture
def enrolled(service: Any, tmp_path: Path) -> dict[str, str]:
    """Settings of an agent that is enrolled with the small service of conftest.py, which is of version 1."""
    state = tmp_path / "state"
    done = spooler("enroll", "--code", "one-time", "--url", service.url, "--state-dir", str(state))
    assert done.returncode == 0, done.stderr
    return {"PRINTSVC_SPOOLER_STATE_DIR": str(state), "PRINTSVC_SPOOLER_CUPS_PORT": "9"}


def test_a_service_of_version_1_is_no_problem(enrolled: dict[str, str], service: Any) -> None:
    _, found = examine(**enrolled)
    for code in ("enrolled", "folder", "folder-writable", "reachable", "token", "protocol"):
        assert found[code]["status"] == "ok", found[code]
    assert "service ? speaks 1" in found["protocol"]["en"]
    assert found["clock"]["status"] == "unseen"
    assert found["agent-stopped"]["mend_en"] == "systemctl start printsvc-spooler"
    assert service.token not in json.dumps(found)
    assert service.leases == [], "doctor asks for nothing that a service takes for the agent's word"


def test_an_agent_that_runs_is_seen_and_not_disturbed(enrolled: dict[str, str], service: Any) -> None:
    environment = {**os.environ, **enrolled}
    agent = subprocess.Popen([sys.executable, "-m", "spooler", "run"], env=environment, stderr=subprocess.DEVNULL)
    try:
        service.wait(lambda: bool(service.leases), 60)
        _, found = examine(**enrolled)
        assert found["agent"]["status"] == "ok"
        assert agent.poll() is None
    finally:
        agent.terminate()
        agent.wait(15)


def test_a_token_that_was_revoked_is_found(enrolled: dict[str, str], service: Any) -> None:
    service.token = "another"
    code, found = examine(**enrolled)
    assert code == 1
    assert "new code" in found["token-refused"]["mend_en"]


def test_what_others_may_read_is_found(enrolled: dict[str, str]) -> None:
    state = Path(enrolled["PRINTSVC_SPOOLER_STATE_DIR"])
    (state / "journal.db").chmod(0o644)
    code, found = examine(**enrolled)
    assert code == 1
    assert "journal.db" in found["folder-open"]["en"]


def test_a_journal_that_is_damaged_is_told_and_left_alone(enrolled: dict[str, str]) -> None:
    path = Path(enrolled["PRINTSVC_SPOOLER_STATE_DIR"]) / "journal.db"
    path.write_bytes(b"not a journal" * 100)
    code, found = examine(**enrolled)
    assert code == 1
    assert found["journal_damaged"]["status"] == "problem"
    assert path.read_bytes() == b"not a journal" * 100


@pytest.mark.parametrize(
    ("url", "code", "word"),
    [
        (NOWHERE, "unreachable", "nothing listens there"),
        ("http://no-such-host.invalid", "unreachable", "name is not known"),
        ("ftp://x", "url", "address"),
        ("nonsense", "url", "address"),
        ("http://192.0.2.1", "url-plain", "not encrypted"),
    ],
)
def test_an_address_that_leads_nowhere(enrolled: dict[str, str], url: str, code: str, word: str) -> None:
    more = {"PRINTSVC_SPOOLER_URL": url, "PRINTSVC_SPOOLER_REQUEST_TIMEOUT_S": "2"}
    status, found = examine(**enrolled, **more)
    assert status == 1
    assert word in found[code]["en"]
    assert found[code]["mend_vi"]


def test_a_file_of_authorities_that_is_missing(enrolled: dict[str, str]) -> None:
    code, found = examine(**enrolled, PRINTSVC_SPOOLER_CA_FILE="/none/ca.pem")
    assert code == 1
    assert "PRINTSVC_SPOOLER_CA_FILE" in found["ca-file"]["mend_en"]


# --- a whole site


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if os.geteuid() != 0 or not shutil.which("ippeveprinter") or not shutil.which("cupsd"):
        pytest.skip("a printing lab needs root, cupsd and ippeveprinter")
    from lab import PDF, Lab

    with Lab(tmp_path_factory.mktemp("lab")) as opened:
        opened.add_queue("a", opened.add_printer("a", (PDF,)))
        yield opened


@pytest.fixture
async def site(lab: Any, api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings of a site where all is well, but for what the lab keeps on purpose (PreserveJobFiles).

    The service is the whole application on a port of this process, with this machine's time.
    """
    monkeypatch.setattr(type(api.world.clock), "__call__", lambda _: datetime.now(UTC))
    code = (await api.call("POST", "/v1/sites/HN-1/enrolment-codes", by="admin")).body["code"]
    url, state = str(api.client.make_url("")).rstrip("/"), tmp_path / "state"
    done = await asyncio.to_thread(spooler, "enroll", "--code", code, "--url", url, "--state-dir", str(state))
    assert done.returncode == 0, done.stderr
    return {
        "PRINTSVC_SPOOLER_STATE_DIR": str(state),
        "PRINTSVC_SPOOLER_CUPS_HOST": lab.host,
        "PRINTSVC_SPOOLER_CUPS_PORT": str(lab.port),
        "PRINTSVC_SPOOLER_CUPS_CONF_DIR": str(lab.cupsd.base / "etc"),
    }


@pytest.mark.system
async def test_a_site_where_all_is_well(site: dict[str, str]) -> None:
    code, found = await asyncio.to_thread(examine, **site)
    assert code == 0, [check for check in found.values() if check["status"] == "problem"]
    assert {name for name, check in found.items() if check["status"] == "advice"} == {
        "agent-stopped",
        "cupsd-preservejobfiles",  # the lab keeps them on purpose
    }
    for name in ("enrolled", "reachable", "token", "protocol", "clock", "cups", "cups-files.conf-right", "once"):
        assert found[name]["status"] == "ok", name
    assert {"once-markers", "printer", "queue"} <= found.keys()
    told = await asyncio.to_thread(spooler, "doctor", **site)
    assert told.returncode == 0
    assert "This site can print certificates." in told.stdout


@pytest.mark.system
async def test_what_goes_wrong_at_a_site_is_found_with_its_mend(site: dict[str, str], lab: Any) -> None:
    connection, printer = lab.connection(), lab.printers["a"]
    backend = lab.cupsd.base / "bin" / "backend" / "printsvc-once"
    connection.setPrinterErrorPolicy("a", "stop-printer")
    connection.rejectJobs("a")
    backend.chmod(0o775)
    printer.kill()
    try:
        code, found = await asyncio.to_thread(examine, **site, PRINTSVC_SPOOLER_QUEUES="a,desk9")
        assert code == 1
        assert found["printer-silent"]["about"] == "a"
        assert found["queue-error-policy"]["mend_en"] == "lpadmin -p a -o printer-error-policy=retry-job"
        assert found["queue-rejecting"]["mend_en"] == "cupsaccept a"
        assert found["queue-missing"]["about"] == "desk9"
        assert found["once-mode"]["status"] == "problem"
        backend.rename(backend.with_name("away"))
        _, gone = await asyncio.to_thread(examine, **site)
        assert gone["once-missing"]["mend_en"] == "apt install --reinstall printsvc-spooler"
        backend.with_name("away").rename(backend)
    finally:
        backend.chmod(0o755)
        printer.start()
        connection.setPrinterErrorPolicy("a", "retry-job")
        connection.acceptJobs("a")


@pytest.mark.system
async def test_a_clock_that_is_wrong_is_found(site: dict[str, str]) -> None:
    library = next(iter(FAKETIME), None)
    assert library is not None, "script/setup installs libfaketime"
    code, found = await asyncio.to_thread(
        examine, **site, LD_PRELOAD=str(library), FAKETIME="-600s", FAKETIME_DONT_FAKE_MONOTONIC="1"
    )
    assert code == 1
    assert found["clock-skew"]["status"] == "problem"
    assert "-600" in found["clock-skew"]["en"] or "-599" in found["clock-skew"]["en"]
    assert found["clock-skew"]["mend_en"] == "timedatectl set-ntp true"
