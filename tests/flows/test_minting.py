"""Signing many: the same certificates wherever they are signed, and always by somebody."""

from __future__ import annotations

import functools
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from printsvc.credential.keys import LocalSigner, seal_private_key
from printsvc.flows.minting import HereMinter, PoolMinter, WorkerKeys, mint_on_worker, open_folder, spawn_minters
from printsvc.flows.services import Order, Refused, Terms


@pytest.fixture
def folder(signer: LocalSigner, tmp_path: Path) -> Path:
    name = f"dsc-{signer.kid.hex()}"
    (tmp_path / f"{name}.key.pem").write_bytes(seal_private_key(signer.private_key, b"open sesame"))
    (tmp_path / f"{name}.der").write_bytes(signer.certificate)
    return tmp_path


def work(sqlite_world: Any, number: int = 120) -> tuple[Terms, list[Order]]:
    services = sqlite_world.services
    terms = Terms(services.form, services.issuer, services.country, sqlite_world.clock.now)
    return terms, [Order(sqlite_world.event(f"D-{n}"), bytes([n]) * 16, 2) for n in range(number)]


@pytest.fixture
def one_world(make_world: Any, sqlite_url: str) -> Any:
    from printsvc.store.engine import Store

    store = Store(sqlite_url)
    yield make_world(store)
    store.close()


async def test_a_pool_of_processes_signs_the_same(one_world: Any, signer: LocalSigner, folder: Path) -> None:
    terms, orders = work(one_world)
    expected = await HereMinter().mint(signer, terms, orders)
    pool = PoolMinter(WorkerKeys(functools.partial(open_folder, folder, b"open sesame")), spawn_minters(1))
    try:
        assert await pool.mint(signer, terms, orders) == expected
    finally:
        await pool.close()
    assert [one.version for one in expected if not isinstance(one, Refused)] == [2] * len(orders)


class Broken(Executor):
    """A pool whose workers die."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        from concurrent.futures import BrokenExecutor

        failed: Future[Any] = Future()
        failed.set_exception(BrokenExecutor())
        return failed


async def test_what_the_pool_cannot_sign_is_signed_here(one_world: Any, signer: LocalSigner, folder: Path) -> None:
    terms, orders = work(one_world, 3)
    expected = await HereMinter().mint(signer, terms, orders)
    wrong = WorkerKeys(functools.partial(open_folder, folder / "elsewhere", b"open sesame"))
    from printsvc.flows import minting

    minting._opened.clear()
    for keys, make in ((wrong, lambda: ThreadPoolExecutor(1)), (wrong, Broken)):
        pool = PoolMinter(keys, make)
        assert await pool.mint(signer, terms, orders) == expected
        assert await pool.mint(signer, terms, orders) == expected, "and again"
        await pool.close()


async def test_a_token_never_leaves_this_process(one_world: Any, signer: LocalSigner) -> None:
    class Token:
        """What a token's signer looks like."""

        kid, algorithm = signer.kid, signer.algorithm
        certificate, not_after = signer.certificate, signer.not_after

        def sign(self, data: bytes) -> bytes:
            return signer.sign(data)

    def no_pool() -> Executor:
        raise AssertionError("nothing is started for a token")

    terms, orders = work(one_world, 2)
    pool = PoolMinter(WorkerKeys(lambda: open_folder(Path(), b"")), no_pool)
    assert await pool.mint(Token(), terms, orders) == await HereMinter().mint(signer, terms, orders)


def test_a_worker_that_gets_ready_signs_nothing() -> None:
    assert mint_on_worker(WorkerKeys(lambda: open_folder(Path(), b"")), None, None) is None


async def test_a_dose_without_a_certificate_is_refused_without_its_data(one_world: Any, signer: LocalSigner) -> None:
    terms, orders = work(one_world, 1)
    (refused,) = await HereMinter().mint(signer, replace(terms, form=replace(terms.form, qr_capacity=10)), orders)
    assert refused == Refused("qr_capacity /person")
