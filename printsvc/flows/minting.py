"""Signing many certificates: on processes of this machine or a Dask cluster where the key is a file, else here.

A worker builds and signs from a stored dose, as everybody does; it opens the key itself, so no key crosses a line. What
cannot be signed elsewhere (a token, a worker without the key, a pool that died) is signed in this process.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final

import structlog

from printsvc.credential.keys import LocalSigner, Signer
from printsvc.errors import InputError, PrintsvcError
from printsvc.flows.issue import CertificateOrder, make_certificates
from printsvc.flows.keystores import FileKeys
from printsvc.flows.services import Minted, Order, Refused, Terms
from printsvc.store.keyfile import KeyFolder

PART: Final = 50
"""Certificates a call to a worker."""

WORKER_TIMEOUT_S: Final = 60.0
_LOG = structlog.get_logger("printsvc.minting")


class HereMinter:
    """Signs in this process, on a thread."""

    async def mint(self, signer: Signer, terms: Terms, orders: Sequence[Order]) -> list[Minted]:
        return await asyncio.to_thread(mint, signer, terms, orders)

    async def close(self) -> None:
        """Do nothing: nothing was started."""


@dataclass(frozen=True, slots=True)
class WorkerKeys:
    """What opens keys in a worker: a function that can be sent there, and how long a call may take."""

    open_keys: Callable[[], FileKeys]
    timeout_s: float = WORKER_TIMEOUT_S


class PoolMinter:
    """Signs on an executor; `make_executor` is called when there is something to sign."""

    def __init__(self, keys: WorkerKeys, make_executor: Callable[[], Executor]) -> None:
        self._keys = keys
        self._make_executor = make_executor
        self._executor: Executor | None = None
        self._here = HereMinter()
        self._starting = asyncio.Lock()

    async def mint(self, signer: Signer, terms: Terms, orders: Sequence[Order]) -> list[Minted]:
        if not isinstance(signer, LocalSigner):  # its key cannot leave the token
            return await self._here.mint(signer, terms, orders)
        try:
            async with self._starting:
                if self._executor is None:
                    self._executor = await asyncio.to_thread(self._make_executor)
            executor = self._executor
            parts = [orders[start : start + PART] for start in range(0, len(orders), PART)]
            futures = [executor.submit(mint_on_worker, self._keys, (signer.certificate, terms, part)) for part in parts]
            minted: list[Minted] = []
            for future in futures:
                minted += await asyncio.wait_for(asyncio.wrap_future(future), WORKER_TIMEOUT_S)
        except (PrintsvcError, OSError, RuntimeError, TimeoutError) as error:  # BrokenExecutor is a RuntimeError
            _LOG.warning("signing in this process", because=type(error).__name__)
            await self.close()
            return await self._here.mint(signer, terms, orders)
        return minted

    async def close(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)


def open_folder(folder: Path, passphrase: bytes) -> FileKeys:
    """Return the key files of a folder."""
    return FileKeys(KeyFolder(folder), passphrase)


def spawn_minters(workers: int) -> Callable[[], Executor]:
    """Return what starts fresh processes for signing."""
    return lambda: ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A worker waits on a pipe of which it holds both ends: it would outlive a killed parent for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def mint(signer: Signer, terms: Terms, orders: Sequence[Order]) -> list[Minted]:
    """Return a certificate for each order, or why there is none. Raises SignerError, SigningError."""
    made = make_certificates(
        [CertificateOrder(order.event, order.opaque, order.version) for order in orders],
        signer=signer,
        form=terms.form,
        issuer=terms.issuer,
        country=terms.country,
        now=terms.now,
    )
    return [_refused(one) if isinstance(one, InputError) else one for one in made]


def _refused(error: InputError) -> Refused:
    first = error.problems[0] if error.problems else None
    return Refused((f"{first.code} {first.pointer}" if first else error.code)[:64])


_opened: dict[bytes, LocalSigner] = {}


def mint_on_worker(keys: WorkerKeys, work: tuple[bytes, Terms, Sequence[Order]] | None, *_: Any) -> Any:
    """In a worker: like `mint`, with the key of a certificate (DER). Without work, None: it is ready."""
    if work is None:
        return None
    certificate, terms, orders = work
    if certificate not in _opened:
        try:
            _opened[certificate] = keys.open_keys().open(certificate)
        except PrintsvcError as error:
            # Errors with arguments of their own do not come through a pipe whole.
            raise RuntimeError(error.code) from None
    return mint(_opened[certificate], terms, orders)
