"""Pages drawn by the workers of a Dask cluster, behind the same `concurrent.futures.Executor`.

The scheduler gives the page of a worker that died to another one; when as many have died of it as the scheduler allows
(`distributed.scheduler.allowed-failures`), the page is taken for poisoned. Only here is `distributed` imported.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any, Final

from printsvc.errors import RenderError
from printsvc.render.draw import RenderSetup
from printsvc.render.pool import MakeExecutor, PageCrashedError
from printsvc.render.poolworker import Refusal

_CONNECT_S: Final = 10
_LAST_PAGES_S: Final = 15


def cluster_executor(address: str, tls_dir: Path | None) -> MakeExecutor:
    """Return what opens the cluster at `dask://HOST:PORT` or `dask+tls://HOST:PORT`.

    `tls_dir` has ca.pem, cert.pem and key.pem. Raises RenderError where TLS lacks them or `distributed` is missing.
    """
    encrypted = address.startswith("dask+tls://")
    try:
        import distributed  # noqa: F401 - told now, not with the first page
    except ImportError as error:
        raise RenderError(
            "Drawing on a cluster needs the extra `dask`.", vi="Cần cài thêm gói `dask` để tạo trang trên cụm máy."
        ) from error
    if encrypted and (
        tls_dir is None or not all((tls_dir / name).is_file() for name in ("ca.pem", "cert.pem", "key.pem"))
    ):
        raise RenderError(
            "dask+tls needs ca.pem, cert.pem and key.pem in the folder that PRINTSVC_POOL_TLS_DIR names.",
            vi="dask+tls cần ca.pem, cert.pem và key.pem trong thư mục PRINTSVC_POOL_TLS_DIR.",
        )
    place = ("tls://" if encrypted else "tcp://") + address.partition("://")[2]
    return lambda setup, workers: _ClusterExecutor(place, tls_dir if encrypted else None)


class _ClusterExecutor(Executor):
    """A connection to a scheduler of its own. OSError or TimeoutError where nobody answers."""

    def __init__(self, address: str, tls_dir: Path | None) -> None:
        from distributed import Client, Security

        new_client: Any = Client  # its arguments have no types
        new_security: Any = Security
        security = None
        if tls_dir is not None:
            own = {"tls_client_cert": str(tls_dir / "cert.pem"), "tls_client_key": str(tls_dir / "key.pem")}
            security = new_security(require_encryption=True, tls_ca_file=str(tls_dir / "ca.pem"), **own)
        self._client: Any = new_client(
            address, security=security, timeout=_CONNECT_S, set_as_default=False, name="printsvc"
        )
        # Not pure: a result is not kept under the digest of its arguments, nor for the next one who asks.
        self._executor: Any = self._client.get_executor(pure=False)
        self._pending: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._client.status != "running":
            raise BrokenExecutor("the scheduler is gone")
        outer: Future[Any] = Future()
        inner: Future[Any] = self._executor.submit(_within_time, fn, *args, **kwargs)

        def came_back(done: Future[Any]) -> None:
            if not outer.set_running_or_notify_cancel():
                return
            if done.cancelled():
                outer.set_exception(BrokenExecutor("the scheduler is gone"))
            elif (error := done.exception()) is None:
                outer.set_result(done.result())
            else:
                outer.set_exception(_told(error))

        self._pending.add(inner)
        inner.add_done_callback(self._pending.discard)
        inner.add_done_callback(came_back)
        outer.add_done_callback(lambda future: inner.cancel() if future.cancelled() else None)
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if wait:  # but not for ever: there may be no worker left
            wait_for(self._pending, timeout=_LAST_PAGES_S)
        self._executor.shutdown(wait=False)
        self._client.close(timeout=_CONNECT_S if wait else 0)


def _told(error: BaseException) -> BaseException:
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return PageCrashedError()
    return BrokenExecutor(type(error).__name__)  # a page's own errors come back as values: this is the cluster's


def _within_time(fn: Callable[..., Any], setup: RenderSetup, *args: Any) -> Any:
    """In a worker: a page that hangs ends the process, as an alarm does elsewhere, and its nanny starts another."""
    if None in args:
        return fn(setup, *args)
    # A worker that lacks a compiled form draws it slowly; one that refuses to get ready draws nothing.
    if isinstance(unready := fn(setup, None, None), Refusal):
        return unready
    alarm = threading.Timer(setup.timeout_s, os._exit, [1])  # from here on: getting ready may take longer
    alarm.daemon = True
    alarm.start()
    try:
        return fn(setup, *args)
    finally:
        alarm.cancel()
