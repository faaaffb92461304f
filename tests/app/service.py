"""The service as people run it: a process, a port, files in a folder."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from printsvc.cli import main

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count(1)
COMMAND = [sys.executable, "-W", "error::DeprecationWarning:printsvc", "-m", "printsvc"]


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without settings of ours, and with `settings`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PRINTSVC_")}
    return clean | {"PYTHONUNBUFFERED": "1"} | settings


def run(*arguments: str, stdin: bytes = b"", cwd: Path = ROOT, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    command = [*COMMAND, *arguments]
    env = environment(PYTHONPATH=str(ROOT), **settings)
    return subprocess.run(command, cwd=cwd, env=env, input=stdin, capture_output=True, timeout=120)


def run_here(
    *arguments: str, stdin: bytes = b"", cwd: Path = ROOT, **settings: str
) -> subprocess.CompletedProcess[bytes]:
    """Like `run`, in this process, which saves a second or two of imports: for what a command says and does.

    How it starts and ends as a process is for `run`. What the command does not catch is raised, where a process would
    have shown a traceback.
    """
    given: dict[str, str | None] = {name: None for name in os.environ if name.startswith("PRINTSVC_")}
    umask = os.umask(0o077)
    try:
        with contextlib.chdir(cwd):
            ended = CliRunner().invoke(main, arguments, input=stdin, env=given | settings, catch_exceptions=False)
    finally:
        os.umask(umask)
    return subprocess.CompletedProcess(arguments, ended.exit_code, ended.stdout_bytes, ended.stderr_bytes)


@dataclass
class Service:
    """`url` is set by `start`; standard error goes to `log`."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    url: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        return self.folder / "var"

    @property
    def log(self) -> Path:
        return self.folder / "stderr"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "up", "--data-dir", str(self.data_dir), "--port", "0"],
                cwd=ROOT,
                env=environment(**self.settings),
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        # Two seconds of work; a machine that is busy with other things may give us two in a hundred.
        ready, _, _ = select.select([self.process.stdout], [], [], 180)
        line = self.process.stdout.readline().decode() if ready else ""
        assert line.startswith("printsvc listens on http://"), (line, self.log.read_text()[-2000:])
        self.url = line.split()[-1]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def token(self, role: str) -> str:
        return (self.data_dir / "dev" / f"{role}.token").read_text().strip()

    def call(
        self, method: str, path: str, body: Any = None, *, by: str | None = "admin", media: str = "application/json"
    ) -> tuple[int, Any]:
        """Return (status, decoded body); `by` is a role, or a token. OSError without service."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", media)
        if by is not None:
            request.add_header("Authorization", f"Bearer {self.token(by) if by in ('admin', 'platform') else by}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                raw, status, kind = answer.read(), answer.status, answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            with error:
                raw, status, kind = error.read(), error.code, error.headers.get_content_type()
        return status, json.loads(raw) if kind in ("application/json", "application/problem+json") and raw else raw

    def add_site(self, site_id: str = "HN-1") -> None:
        status, _ = self.call("POST", "/v1/sites", {"site_id": site_id, "name": "Trạm Y tế phường Bạch Mai"})
        assert status in (200, 201)

    def enrol(self, site_id: str = "HN-1") -> str:
        """Return the token of an agent whose journal is `j-` and its site: another site's journal is refused."""
        status, code = self.call("POST", f"/v1/sites/{site_id}/enrolment-codes")
        assert status == 201, code
        body = {"code": code["code"], "journal_id": f"j-{site_id}"}
        status, answer = self.call("POST", "/agent/v1/enroll", body, by=None)
        assert status == 200, answer
        return str(answer["token"])

    def workers(self) -> list[int]:
        """Return the process ids of the processes that draw pages."""
        assert self.process is not None
        found = set()
        for children in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # gone between our look and our question
                for pid in children.read_text().split():
                    if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.add(int(pid))
        return sorted(found)

    def wait_for(self, condition: Any, timeout_s: float = 20.0) -> None:
        give_up_at = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < give_up_at, "waited in vain"
            time.sleep(0.05)


def recent(name: str, **person: Any) -> dict[str, Any]:
    """Return an event of a dose given ten minutes ago by this machine's clock.

    Each call makes a dose of its own, `name` and a number: tests of several files share a service, and the same
    dose_id with another time would be a conflict. Who means the same dose sends the same event.
    """
    dose_id = f"{name}-{next(_numbers)}"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 600))
    return {
        "dose_id": dose_id,
        "site_id": "HN-1",
        "person": {
            "full_name": "Trần Đức Anh",
            "date_of_birth": "1990-11-02",
            "sex": "male",
            "nationality": "VN",
            "id_type": "cccd",
            "id_number": "001090004567",
        }
        | person,
        "identity": {"status": "matched", "checked_at": at, "reference": "NPD-1"},
        "dose": {
            "product": "EU/1/20/1528",
            "lot": "FG3712",
            "number": 1,
            "series": 2,
            "kind": "basic",
            "injected_at": at,
        },
    }


def running(folder: Path, seed_forms: Callable[[Path], None], **settings: str) -> Iterator[Service]:
    """Yield a service that runs; it is stopped afterwards, whatever became of it."""
    made = Service(folder, {"PRINTSVC_RENDER_WORKERS": "1"} | settings)
    seed_forms(made.data_dir / "cache")
    try:
        made.start()
        made.add_site()
        yield made
    finally:
        if made.process is not None:
            made.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, seed_forms: Callable[[Path], None]) -> Iterator[Service]:
    """A service with one site, HN-1, that logs all it can; tests share it and leave it running."""
    yield from running(tmp_path_factory.mktemp("service"), seed_forms, PRINTSVC_LOG_LEVEL="DEBUG")


@pytest.fixture
def own_service(tmp_path: Path, seed_forms: Callable[[Path], None]) -> Iterator[Service]:
    """A service that the test may kill."""
    yield from running(tmp_path, seed_forms)
