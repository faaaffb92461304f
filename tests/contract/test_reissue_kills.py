"""kill -9 in the middle of issuing again, on both databases, with signing processes: nothing half done, each once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key, seal_private_key
from printsvc.domain.signer import SignerState
from printsvc.flows import reissue
from printsvc.store import reissues as reissue_store
from printsvc.store.engine import Store
from printsvc.store.reissues import Selection
from printsvc.store.revocations import DoseQuery
from printsvc.store.tables import certificates, print_jobs, reissue_chunks, reissue_items, revocations

CERTIFICATES = 120
RUN = "run-that-is-killed"
RUNNER = """
import asyncio, functools, os, sys
from datetime import UTC, datetime
from pathlib import Path
from printsvc.domain.form import FormChoice, FormId
from printsvc.flows import reissue
from printsvc.flows.minting import PoolMinter, WorkerKeys, open_folder, spawn_minters
from printsvc.flows.services import Services
from printsvc.flows.signers import LocalSigners
from printsvc.store.engine import Store

async def main(url, folder, where):
    reissue.CHUNK, reissue.SMALL = 7, 0
    keys = open_folder(Path(folder), b"open sesame")
    signer = keys.open(keys.kept()[0])
    services = Services(
        store=Store(url), signers=LocalSigners([signer]), renderer=None,
        form=FormChoice(FormId("a4/43-2022"), "iso_a4_210x297mm", 1000),
        clock=lambda: datetime.now(UTC), random_bytes=os.urandom,
        minter=PoolMinter(WorkerKeys(functools.partial(open_folder, Path(folder), b"open sesame")), spawn_minters(1))
        if where == "pool" else None,
    )
    print("begun", flush=True)
    run = await reissue.get_run(services, "run-that-is-killed")
    while run.ended_at is None:
        run = await reissue.work(services, run.run_id, for_s=0)
        print(run.issued, flush=True)
    services.store.close()

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
"""


def new_signer(folder: Path) -> LocalSigner:
    """Make a signer whose key is a file in `folder`."""
    csca_key, key, now = make_private_key(), make_private_key(), datetime.now(UTC) - timedelta(days=1)
    csca = make_csca(csca_key, country="VN", organisation="MOH", common_name="CSCA VN", serial=1, now=now)
    dsc = make_dsc(
        key.public_key(), csca=csca, csca_key=csca_key, organisation="MOH", common_name="DSC 9", serial=9, now=now
    )
    signer = LocalSigner(dsc, key)
    folder.mkdir()
    (folder / f"dsc-{signer.kid.hex()}.key.pem").write_bytes(seal_private_key(key, b"open sesame"))
    (folder / f"dsc-{signer.kid.hex()}.der").write_bytes(dsc)
    return signer


def kill_after(lines: int, command: list[str]) -> None:
    """Start the run and kill it a moment after it has told so many lines."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(lines):
            if not process.stdout.readline():
                break
        time.sleep(0.003 * lines)
        process.send_signal(signal.SIGKILL)
        stderr = process.stderr.read()
        code = process.wait()
    assert code == -signal.SIGKILL, stderr


def check_nothing_is_half_done(store: Store) -> int:
    """Every dose has its old certificate alone, or one new one, with all that goes with it; return how many have."""

    def read(connection: Any) -> int:
        rows = connection.execute(select(*certificates.columns)).all()
        versions = Counter(row.dose_pk for row in rows)
        assert set(versions.values()) <= {1, 2}, "issued twice"
        assert len(versions) == CERTIFICATES, "none is lost"
        old = {row.uvci: row for row in rows if row.version == 1}
        new = {row.uvci: row for row in rows if row.version == 2}
        assert {row.superseded_by for row in old.values()} - {None} == set(new)
        marked = {row.uvci for row in old.values() if row.revoked_at is not None}
        assert marked == {row.uvci for row in old.values() if row.superseded_by}
        assert marked == set(connection.execute(select(revocations.c.uvci)).scalars())
        jobs = connection.execute(select(print_jobs.c.uvci, print_jobs.c.state)).all()
        states = {job.uvci: job.state for job in jobs}
        assert len(states) == len(jobs)
        assert {uvci for uvci, state in states.items() if state == "canceled"} == marked
        assert {uvci for uvci in new if states[uvci] == "waiting"} == set(new)
        done = {
            row.uvci: row.new_uvci
            for row in connection.execute(select(*reissue_items.columns).where(reissue_items.c.outcome == "issued"))
        }
        assert done == {row.uvci: row.superseded_by for row in old.values() if row.superseded_by}
        ledger = connection.execute(select(*reissue_chunks.columns).order_by(reissue_chunks.c.chunk)).all()
        assert [row.chunk for row in ledger] == list(range(1, len(ledger) + 1))
        assert sum(row.issued for row in ledger) == sum(row.papers for row in ledger) == len(new)
        return len(new)

    return store.read_now(read)


@pytest.mark.parametrize(
    ("where", "kills"),
    [("here", (1, 3)), pytest.param("pool", (1, 2, 2, 3), marks=pytest.mark.slow)],
)
def test_a_run_that_is_killed_again_and_again(
    where: str,
    kills: tuple[int, ...],
    store_url: str,
    make_world: Callable[[Store], Any],
    publish: Callable[..., Any],
    signer: LocalSigner,
    tmp_path: Path,
) -> None:
    second = new_signer(tmp_path / "keys")
    with contextlib.closing(Store(store_url)) as store:
        world = make_world(store)
        publish(store, signer, now=world.clock.now, state=SignerState.COMPROMISED)
        publish(store, second, now=world.clock.now)
        events = [world.event(f"D-{n}", id_number=f"0011850{n:05d}") for n in range(CERTIFICATES)]
        asyncio.run(world.record(*events))
        selection = Selection(DoseQuery(kid=signer.kid.hex()))
        begun = reissue.begin(
            world.services, RUN, selection, expected=CERTIFICATES, is_printed=False, revokes_old=False, actor="killed"
        )
        asyncio.run(begun)
    script = tmp_path / "runner.py"
    script.write_text(RUNNER)
    command = [sys.executable, str(script), store_url, str(tmp_path / "keys"), where]
    done = 0
    for lines in kills:
        kill_after(lines, command)
        with contextlib.closing(Store(store_url)) as store:
            now_done = check_nothing_is_half_done(store)
        assert now_done >= done, "what was done stays done"
        done = now_done
    assert 0 < done < CERTIFICATES, "the kills came in the middle"
    two = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(1 if "sqlite" in store_url else 2)]
    assert [process.wait(60) for process in two] == [0] * len(two), "two at once, where the database allows it"
    with contextlib.closing(Store(store_url)) as store:
        assert check_nothing_is_half_done(store) == CERTIFICATES
        run = store.read_now(lambda c: reissue_store.find_run(c, RUN))
        assert run is not None
        assert (run.issued, run.already, run.revoked, run.failed, run.left) == (CERTIFICATES, 0, 0, 0, 0)
        assert run.ended_at is not None
        kids = set(store.read_now(lambda c: c.execute(select(reissue_chunks.c.kid)).scalars().all()))
        assert kids == {second.kid.hex()}


@pytest.mark.slow
def test_signing_processes_end_with_the_one_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "orphans.py"
    script.write_text(
        "import time\n"
        "from printsvc.flows.minting import spawn_minters\n"
        "if __name__ == '__main__':\n"
        "    executor = spawn_minters(1)()\n"
        "    executor.submit(time.sleep, 0).result()\n"
        "    print(*executor._processes, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        (worker,) = process.stdout.readline().split()
        process.kill()
    until = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < until:
        if b") Z " in Path(f"/proc/{worker}/stat").read_bytes():
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{worker}").exists(), "it outlived its parent"


@pytest.fixture(autouse=True)
def _python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.fspath(Path(__file__).parents[2]))
