"""What was acknowledged is there: after kill -9, on a full disk, and while PostgreSQL restarts. Real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from printsvc.errors import StoreError
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store.counts import count
from printsvc.store.engine import Store

HERE = Path(__file__).parent


def start(url: str, first: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, HERE / "recorder.py", url, str(first)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def record_until_killed(url: str, first: int, after_s: float) -> list[str]:
    """Return the doses that the process acknowledged before it was killed, `after_s` seconds after the first."""
    process = start(url, first)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        rest, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL, errors
    lines += rest.splitlines(keepends=True)
    whole = [line.split() for line in lines if line.endswith("\n")]
    assert {outcome for _, outcome in whole} == {"issued"}
    return [dose_id for dose_id, _ in whole]


def check_books(store: Store, acknowledged: list[str]) -> None:
    """Assert that nothing acknowledged is lost and that every dose has one certificate and one job."""
    stored: dict[str, Any] = {}
    for n in range(0, len(acknowledged), 500):
        ids = acknowledged[n : n + 500]
        stored |= store.read_now(lambda c, ids=ids: dose_store.find_doses(c, "platform", ids))
    assert stored.keys() == set(acknowledged)
    assert all(dose.certificate is not None for dose in stored.values())
    counts = store.read_now(count)
    assert counts["doses"] == counts["certificates"] + counts["held"]
    assert counts["certificates"] == sum(counts["papers"].values())
    if store.dialect == "sqlite":
        assert store.read_now(lambda c: c.execute(text("PRAGMA integrity_check")).scalar()) == "ok"
        assert store.read_now(lambda c: c.execute(text("PRAGMA foreign_key_check")).all()) == []


async def kill_loop(store_url: str, make_world: Any, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    with contextlib.closing(Store(store_url)) as store:
        make_world(store)
    acknowledged: list[str] = []
    for turn in range(rounds):
        done = record_until_killed(store_url, first=turn * 100_000, after_s=chance.uniform(0.02, 0.5))
        assert done, "each process must have got somewhere"
        acknowledged += done
        with contextlib.closing(Store(store_url)) as store:
            check_books(store, acknowledged)
    with contextlib.closing(Store(store_url)) as store:
        world = make_world(store)
        again = await world.record(*(world.event(dose_id) for dose_id in acknowledged[-200:]))
        assert {answer.outcome for answer in again} == {"replayed"}


async def test_nothing_acknowledged_is_lost_to_kill_9(store_url: str, make_world: Any) -> None:
    await kill_loop(store_url, make_world, rounds=3, seed=int(time.time()))


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_to_kill_9_many_times(store_url: str, make_world: Any) -> None:
    await kill_loop(store_url, make_world, rounds=40, seed=int(time.time()))


def test_a_second_process_on_the_same_file_refuses_to_start(sqlite_url: str, tmp_path: Path, make_world: Any) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(tmp_path, target_is_directory=True)
    with contextlib.closing(Store(sqlite_url)) as store:
        make_world(store)
        for url in (sqlite_url, f"sqlite:///{link}/printsvc.db"):
            second = start(url, 1)
            out, errors = second.communicate(timeout=30)
            assert (second.returncode, out) == (1, "")
            assert "StoreLockedError" in errors
            assert "printsvc.db" in errors
    # A lock that a killed process left behind does not count.
    assert record_until_killed(sqlite_url, 1, 0.02)


def _may_mount() -> list[str] | None:
    """Return the command that gives a process its own mounts; None where the machine does not allow that."""
    commands = [["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]]
    for command in commands if os.geteuid() == 0 else commands[1:]:
        probe = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            return command
    return None


@pytest.mark.parametrize("limit", ["mount", "rlimit"])
def test_a_full_disk_is_said_loses_nothing_and_is_got_over(tmp_path: Path, limit: str) -> None:
    own_mounts: list[str] = []
    if limit == "mount":
        allowed = _may_mount()
        if allowed is None:
            pytest.skip("this machine lets nobody mount; the case `rlimit` runs the same")
        own_mounts = allowed
    done = subprocess.run(
        [*own_mounts, sys.executable, HERE / "small_disk.py", tmp_path, limit],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["retry_after_s"] > 0
    if limit == "mount":
        assert "disk is full" in told["en"]
    assert told["integrity"] == told["integrity_after"] == "ok"
    assert told["refused_again"] == 3
    assert told["kept"] == told["acknowledged"] == told["counts"]["doses"] == told["counts"]["certificates"] > 0
    assert told["after"] == ["issued"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_postgresql_restarted_under_load(
    postgres: Any, postgres_url: str, make_world: Any, how: signal.Signals
) -> None:
    with contextlib.closing(Store(postgres_url)) as store:
        world = make_world(store)
        acknowledged: list[str] = []
        failures: list[StoreError] = []
        stop = asyncio.Event()

        async def record_until_told(lane: int) -> None:
            n = 0
            while not stop.is_set():
                dose_id = f"D-{lane}-{n}"
                try:
                    [answer] = await world.record(world.event(dose_id))
                except StoreError as error:
                    failures.append(error)
                    await asyncio.sleep(0.05)
                    continue  # the same dose again, as the Platform would
                assert answer.outcome in ("issued", "replayed")
                acknowledged.append(dose_id)
                n += 1

        async with asyncio.TaskGroup() as lanes:
            for lane in range(12):
                lanes.create_task(record_until_told(lane))
            for _ in range(200):
                await asyncio.sleep(0.05)
                if len(acknowledged) > 12:
                    break
            before = len(acknowledged)
            await asyncio.to_thread(postgres.stop, how)
            await asyncio.sleep(0.2)
            postgres.start()
            back_at = len(acknowledged)
            for _ in range(200):
                await asyncio.sleep(0.05)
                if len(acknowledged) > back_at + 50:
                    break
            stop.set()
        assert before > 0
        assert failures, "the restart was felt"
        assert all(error.retry_after_s > 0 for error in failures)
        assert len(acknowledged) > back_at + 50, "the store went on by itself"
        check_books(store, acknowledged)
        jobs = store.read_now(lambda c: job_store.count_states(c, "HN-1"))
        assert jobs == {"waiting": store.read_now(count)["certificates"]}
