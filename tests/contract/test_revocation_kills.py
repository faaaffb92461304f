"""kill -9 in the middle of a run that revokes many, on both databases: nothing half done, everything once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from printsvc.domain.revocation import RevocationReason
from printsvc.flows import revoke
from printsvc.store import revocation_runs as run_store
from printsvc.store.engine import Store
from printsvc.store.tables import certificates, print_jobs, revocation_items, revocations

CERTIFICATES = 90
RUNNER = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
from printsvc.domain.revocation import RevocationReason
from printsvc.flows import revoke
from printsvc.flows.services import Services
from printsvc.store.engine import Store

async def main(url, file):
    revoke.CHUNK = 7
    nobody = None
    services = Services(
        store=Store(url), signers=nobody, renderer=nobody, form=nobody,
        clock=lambda: datetime.now(UTC), random_bytes=os.urandom,
    )
    body = Path(file).read_bytes()
    run, _ = await revoke.begin_csv(services, body, RevocationReason.FRAUD, skip_bad=False, actor="killed")
    print("begun", flush=True)
    while run.ended_at is None:
        run = await revoke.work(services, run.run_id, for_s=0)
        print(run.revoked, flush=True)
    services.store.close()

asyncio.run(main(*sys.argv[1:]))
"""


def kill_after(lines: int, url: str, file: Path) -> bool:
    """Start the run and kill it when it has told so many lines; return whether it came to its end before."""
    command = [sys.executable, "-c", RUNNER, url, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(lines):
            if not process.stdout.readline():
                break
        process.send_signal(signal.SIGKILL)
        stderr = process.stderr.read()
        code = process.wait()
    assert code in (-signal.SIGKILL, 0), stderr
    return code == 0


def check_nothing_is_half_done(store: Store) -> int:
    """Every certificate is revoked in all places or in none; return how many are."""

    def read(connection: Any) -> int:
        once = Counter(connection.execute(select(revocations.c.uvci)).scalars())
        assert set(once.values()) <= {1}, "revoked twice"
        marked = set(
            connection.execute(select(certificates.c.uvci).where(certificates.c.revoked_at.is_not(None))).scalars()
        )
        canceled = set(connection.execute(select(print_jobs.c.uvci).where(print_jobs.c.state == "canceled")).scalars())
        ended = set(
            connection.execute(select(revocation_items.c.uvci).where(revocation_items.c.outcome == "revoked")).scalars()
        )
        assert set(once) == marked == canceled == ended
        changes = list(connection.execute(select(revocations.c.change).order_by(revocations.c.change)).scalars())
        assert changes == list(range(1, len(once) + 1))
        return len(once)

    return store.read_now(read)


def test_a_run_that_is_killed_again_and_again(
    store_url: str, make_world: Callable[[Store], Any], tmp_path: Path
) -> None:
    with contextlib.closing(Store(store_url)) as store:
        world = make_world(store)
        events = [world.event(f"D-{n}", id_number=f"0011850{n:05d}") for n in range(CERTIFICATES)]
        recorded = asyncio.run(world.record(*events))
    file = tmp_path / "revoke.csv"
    file.write_text("uvci\n" + "\n".join(one.dose.certificate.uvci for one in recorded) + "\n")
    done = 0
    for lines in (1, 2, 4, 3):  # begun, and then after some chunks: the kill comes while the next one is under way
        assert not kill_after(lines, store_url, file)
        with contextlib.closing(Store(store_url)) as store:
            now_done = check_nothing_is_half_done(store)
        assert now_done >= done, "what was done stays done"
        done = now_done
    assert 0 < done < CERTIFICATES
    with contextlib.closing(Store(store_url)) as store:
        services = make_world(store).services
        assert asyncio.run(revoke.resume_runs(services)) == 1, "the service goes on with what was left"
        assert check_nothing_is_half_done(store) == CERTIFICATES
        (run_id,) = (run.run_id for run in store.read_now(lambda c: run_store.list_runs(c, limit=9)))
        run = asyncio.run(revoke.find_run(services, run_id))
        assert run is not None
        assert (run.revoked, run.already, run.left) == (CERTIFICATES, 0, 0)
        assert run.ended_at is not None
        again = revoke.begin_csv(services, file.read_bytes(), RevocationReason.FRAUD, skip_bad=False, actor="killed")
        assert asyncio.run(again)[0].run_id == run_id
        assert check_nothing_is_half_done(store) == CERTIFICATES


def test_the_runner_comes_to_its_end_when_nobody_kills_it(
    sqlite_url: str, make_world: Callable[[Store], Any], tmp_path: Path
) -> None:
    """Or the test above would prove nothing."""
    with contextlib.closing(Store(sqlite_url)) as store:
        (recorded,) = asyncio.run(make_world(store).record(make_world(store).event()))
    file = tmp_path / "revoke.csv"
    file.write_text(f"uvci\n{recorded.dose.certificate.uvci}\n")
    ended = subprocess.run(
        [sys.executable, "-c", RUNNER, sqlite_url, str(file)], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout.split()) == (0, ["begun", "1", "1"]), ended.stderr


@pytest.fixture(autouse=True)
def _python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
