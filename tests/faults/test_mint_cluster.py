"""Signing on a real Dask cluster, whose worker opens the key itself; without the key there, it is signed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from printsvc.app import keys_of_environment
from printsvc.credential.keys import LocalSigner, seal_private_key
from printsvc.flows.minting import HereMinter, PoolMinter, WorkerKeys
from printsvc.flows.services import Order, Terms
from printsvc.render.cluster import cluster_executor
from printsvc.render.draw import RenderSetup
from printsvc.store.engine import Store

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Give what starts a scheduler and a worker, the worker with this passphrase, and returns the address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, *arguments: str, passphrase: str = "") -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PRINTSVC_")}
        clean |= {"PYTHONPATH": str(ROOT), "PRINTSVC_DATA_DIR": str(tmp_path), "PRINTSVC_KEY_PASSPHRASE": passphrase}
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"]
        with (tmp_path / f"{module}.log").open("wb") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, env=clean, stdout=log, stderr=log))

    def cluster(passphrase: str) -> str:
        contact = tmp_path / "scheduler.json"
        place = ["--host", "127.0.0.1"]
        start("dask_scheduler", *place, "--port", "0", "--no-show", "--scheduler-file", str(contact))
        for _ in range(300):
            if contact.exists() and '"address"' in contact.read_text():
                break
            time.sleep(0.1)
        address = str(json.loads(contact.read_text())["address"])
        start("dask_worker", address, *place, "--nthreads", "1", "--no-nanny", passphrase=passphrase)
        return address.removeprefix("tcp://")

    yield cluster
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("passphrase", "on_cluster"), [("open sesame", True), ("another", False)])
async def test_a_cluster_signs_with_the_key_that_its_worker_has(
    passphrase: str,
    on_cluster: bool,
    start_cluster: Callable[[str], str],
    signer: LocalSigner,
    make_world: Callable[[Store], Any],
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    sealed = seal_private_key(signer.private_key, b"open sesame")
    (keys / f"dsc-{signer.kid.hex()}.key.pem").write_bytes(sealed)
    store = Store(sqlite_url)
    world = make_world(store)
    terms = Terms(world.services.form, world.services.issuer, world.services.country, world.clock.now)
    orders = [Order(world.event(f"D-{n}"), bytes([n]) * 16, 2) for n in range(120)]
    connect = cluster_executor(f"dask://{start_cluster(passphrase)}", None)
    setup = RenderSetup(ROOT / "templates", ROOT / "fonts", None)
    pool = PoolMinter(WorkerKeys(keys_of_environment), lambda: connect(setup, 1))
    try:
        assert await pool.mint(signer, terms, orders) == await HereMinter().mint(signer, terms, orders)
        assert (pool._executor is not None) is on_cluster
    finally:
        await pool.close()
        store.close()
