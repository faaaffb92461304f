"""kill -9 of the command that rotates, again and again, while service processes issue: nothing half done, none refused.

Real processes, a real key folder, SQLite and PostgreSQL.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy import select as query

from printsvc.domain.signer import SignerRecord, SignerState
from printsvc.domain.site import Site, SiteId
from printsvc.flows.keystores import FileKeys
from printsvc.store import sites as site_store
from printsvc.store.engine import Store
from printsvc.store.keyfile import KeyFolder
from printsvc.store.signers import list_events, list_records
from printsvc.store.sites import Caller
from printsvc.store.tables import certificates

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = "open sesame"
ROUNDS = 10
HANGS_S = 600
"""After which a process that says nothing hangs; a start takes a second, and minutes on a machine that is very busy."""
# The command, over and over in one process: its start is a second of imports in which nothing can be half done.
ROTATING = """
import contextlib, io, sys
from printsvc.cli import main
out = sys.stdout
while True:
    with contextlib.redirect_stdout(io.StringIO()):
        main.main(["keys", "rotate", "--json"], standalone_mode=False)
    print("rotated", file=out, flush=True)
"""


def environment(folder: Path, url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PRINTSVC_")}
    return clean | {
        "PRINTSVC_DATA_DIR": str(folder),
        "PRINTSVC_DATABASE_URL": url,
        "PRINTSVC_KEY_PASSPHRASE": PASSPHRASE,
        "PRINTSVC_RENDER_WORKERS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def command(folder: Path, url: str, *arguments: str) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-m", "printsvc", "keys", *arguments, "--json"],
        cwd=ROOT,
        env=environment(folder, url),
        capture_output=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return dict(json.loads(ended.stdout))


@contextlib.contextmanager
def rotating(folder: Path, url: str) -> Iterator[None]:
    """Have a process rotate while the block runs; then kill it, wherever it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", ROTATING], cwd=ROOT, env=environment(folder, url), stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], HANGS_S)[0]
        assert process.stdout.readline() == b"rotated\n"
        yield
        assert process.poll() is None, "the command ended by itself"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read_books(connection: Connection) -> list[tuple[SignerRecord, list[Mapping[str, object]]]]:
    """Return each signer with its ledger, all of one moment.

    The books move on meanwhile: the services do what is due every second, and a server ends the COMMIT that a killed
    command had sent.
    """
    return [(record, list_events(connection, record.thumbprint)) for record in list_records(connection)]


def check_books(store: Store, folder: Path) -> None:
    """One signs; whatever is in the books has its key; the ledger tells each signer's life without a gap."""
    books = store.read_now(read_books)
    dscs = [record for record, _ in books if record.role == "dsc"]
    assert sum(record.state is SignerState.SIGNING for record in dscs) == 1
    keys = FileKeys(KeyFolder(folder / "keys"), PASSPHRASE.encode())
    for record in dscs:
        assert keys.open(record.certificate).kid.hex() == record.kid
    for record, events in books:
        assert events[0]["event"] == "plan"
        assert events[-1]["after"] == record.state
        assert all(one["after"] == two["before"] for one, two in itertools.pairwise(events))


def check_folder(store: Store, folder: Path) -> None:
    """After a run to the end nothing is left over: every file is of a signer in the books."""
    known = {f"{record.role}-{record.kid}" for record in store.read_now(list_records)}
    names = {path.name for path in (folder / "keys").iterdir()} - {"lock"}
    assert names == {f"{name}{suffix}" for name in known for suffix in (".der", ".key.pem")}


def test_a_rotation_killed_anywhere_is_whole_or_not_there(store_url: str, tmp_path: Path) -> None:
    folder, chance = tmp_path / "var", random.Random(20211030)
    command(folder, store_url, "init-csca")
    command(folder, store_url, "rotate")
    for _ in range(ROUNDS):
        with rotating(folder, store_url):
            time.sleep(chance.uniform(0.0, 0.4))
        with contextlib.closing(Store(store_url)) as store:
            check_books(store, folder)
    command(folder, store_url, "rotate")
    with contextlib.closing(Store(store_url)) as store:
        check_books(store, folder)
        assert len(store.read_now(list_records)) > ROUNDS, "the kills hit a command at work"
        left = [c for c in FileKeys(KeyFolder(folder / "keys"), b"").kept() if c not in certificates_of(store)]
        assert left == [], "what a kill left was taken up"
        check_folder(store, folder)


def certificates_of(store: Store) -> set[bytes]:
    return {record.certificate for record in store.read_now(list_records)}


# --- with services at work


@pytest.fixture
def services(postgres_url: str, tmp_path: Path, seed_forms: Callable[[Path], None]) -> Iterator[list[str]]:
    """The addresses of two service processes on one database, which share the key folder."""
    folder = tmp_path / "var"
    seed_forms(folder / "cache")
    command(folder, postgres_url, "init-csca")
    command(folder, postgres_url, "rotate")
    now = datetime.now(UTC)
    with contextlib.closing(Store(postgres_url)) as store:
        store.submit(lambda c: site_store.insert_token(c, "of-the-platform", Caller("p", "platform"), now=now)).result()
        site = Site(SiteId("HN-1"), "Trạm Y tế", "SỞ Y TẾ")
        store.submit(lambda c: site_store.insert_site(c, site, now=now)).result()
    started: list[subprocess.Popen[bytes]] = []
    try:
        addresses = []
        for number in range(2):
            with (tmp_path / f"stderr-{number}").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "printsvc", "serve", "--port", "0"],
                    cwd=ROOT,
                    env=environment(folder, postgres_url),
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
            started.append(process)
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], HANGS_S)[0], "the service did not start"
            addresses.append(process.stdout.readline().decode().split()[-1])
        yield addresses
    finally:
        for process in started:
            process.send_signal(signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def post(address: str, dose_id: str) -> tuple[int, Any]:
    at = datetime.now(UTC).isoformat()
    body = {
        "dose_id": dose_id,
        "site_id": "HN-1",
        "person": {
            "full_name": "Trần Đức Anh",
            "date_of_birth": "1990-11-02",
            "sex": "male",
            "nationality": "VN",
            "id_type": "cccd",
            "id_number": "001090004567",
        },
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
    request = urllib.request.Request(f"{address}/v1/doses", data=json.dumps(body).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", "Bearer of-the-platform")
    with urllib.request.urlopen(request, timeout=30) as answer:  # an error of any kind fails the test
        return answer.status, json.load(answer)


def test_services_go_on_while_rotations_are_killed(services: list[str], postgres_url: str, tmp_path: Path) -> None:
    folder, chance = tmp_path / "var", random.Random(5772)
    posted = 0
    with contextlib.closing(Store(postgres_url)) as store:
        for _ in range(4):
            with rotating(folder, postgres_url):
                until = time.monotonic() + chance.uniform(0.5, 1.5)
                while time.monotonic() < until:
                    assert post(services[posted % 2], f"D-{posted}")[0] == 201
                    posted += 1
            assert post(services[posted % 2], f"D-{posted}")[0] == 201
            posted += 1
            check_books(store, folder)
        rows = store.read_now(lambda c: c.execute(query(certificates.c.kid, certificates.c.expires_at)).all())
        known = {record.kid: record for record in store.read_now(list_records)}
        assert len(rows) == posted
        assert len({kid for kid, _ in rows}) > 3, "certificates of several signers"
        assert all(expires_at <= known[kid].not_after for kid, expires_at in rows)
