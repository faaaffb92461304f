"""Pages drawn in other processes, so that the event loop never waits for one.

Any `concurrent.futures.Executor` will do; the default is a process pool, `cluster.py` has that of many machines. A
worker that dies (killed, out of memory, a crash in a C library, or a page that hung) takes the whole process pool with
it: that is how `concurrent.futures` works. So the pool is made anew, and each page that was being drawn is tried once
more, alone, in a process apart. The one that kills that process too goes on a list of poisoned pages and is refused;
the others come out.

A stamp takes less time than the way to another process and back, and pages are sent there all the same. Measured with
`script/bench render` on two busy cores, all clients waiting: processes 270 pages/s with the loop 9 ms late (p99), the
stamp in threads of the service 2,300/s and 3 ms. Threads would be quicker; but a crash in the shaping library would end
the service with all its sites, and a page that hangs could not be ended. A process of the service needs some ten pages
a second; bulk runs send whole blocks of lines (`flows/bulkrun.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import multiprocessing
import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

import structlog

from printsvc.domain.form import FormId, PageData
from printsvc.errors import PrintsvcError, RenderBusyError, RenderError
from printsvc.render.draw import Drawn, PageCounts, RenderSetup
from printsvc.render.poolworker import Lacking, Outcome, Refusal, draw_page, encode_form, start_worker
from printsvc.render.template import process_cache_dir

__all__ = [
    "MakeExecutor",
    "PageCounts",
    "PageCrashedError",
    "RenderPool",
    "RenderSetup",
    "process_executor",
]

MakeExecutor = Callable[[RenderSetup, int], Executor]
"""Make an executor with that many workers; called in a thread, OSError and TimeoutError mean that there is none now."""

_LOG = structlog.get_logger("printsvc.render")
_MAX_RETRY_AFTER_S: Final = 60
# How much the newest page weighs in the running mean of the time a page takes.
_NEWEST_WEIGHT: Final = 0.1
_MOST_POISONED: Final = 1000
# A page is not refused for ever: what killed two workers may have been the machine, out of memory for a while.
_POISONED_S: Final = 300.0


class _NotTakenError(Exception):
    """The executor was shut down or broken before it took the page."""


class PageCrashedError(Exception):
    """An executor whose workers die singly says so by this of a page whose worker died; the executor lives on."""


class RenderPool:
    """Draws pages in `workers` processes; at most `max_waiting` pages wait for one.

    Use it in one event loop, and `close()` it (or `async with`). Processes start with the first page or `warm_up()`,
    and end by themselves when their parent is killed. After `pages_per_worker` pages the processes are replaced by
    warm ones, 0 for never: no page waits for that. `counts` is told how each page was drawn. An executor that may have
    no workers for a while (a cluster) needs `answer_s`: a page that waits longer is an error; None waits for ever.
    """

    def __init__(
        self,
        setup: RenderSetup,
        *,
        workers: int | None = None,
        max_waiting: int = 256,
        pages_per_worker: int = 0,
        make_executor: MakeExecutor | None = None,
        answer_s: float | None = None,
        counts: PageCounts | None = None,
    ) -> None:
        if make_executor is None and setup.cache_dir is None:
            # Shared by all workers, and cleared by this process: a worker that is killed clears nothing.
            setup = replace(setup, cache_dir=process_cache_dir())
        self._setup = setup
        self._workers = workers or os.cpu_count() or 1
        self._max_waiting = max_waiting
        self._pages_per_worker = pages_per_worker
        self._make_executor = make_executor or process_executor
        self._answer_s = answer_s
        self._executor: Executor | None = None
        self._opening = asyncio.Lock()
        self._places = asyncio.Semaphore(self._workers)
        self._apart: Executor | None = None
        self._one_apart = asyncio.Lock()
        self._wait_apart = 0
        self._waiting = 0
        self._page_s = 0.2
        self._since_renewal = 0
        self._renewal: asyncio.Task[None] | None = None
        self._compiling: asyncio.Task[None] | None = None
        self._poisoned: OrderedDict[str, float] = OrderedDict()
        self._closed = False
        self.counts = counts if counts is not None else PageCounts()
        self.rebuilt = 0
        self.renewed = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def waiting(self) -> int:
        """Pages that wait for a worker."""
        return self._waiting

    @property
    def poisoned(self) -> list[str]:
        """Digests of the pages that killed two workers in the last five minutes, the oldest first; they are refused."""
        return list(self._poisoned)

    async def warm_up(self) -> None:
        """Start the processes and load fonts and forms, so that the first page is as quick as the rest.

        Where the setup's workers do not compile, a process apart does, and nobody waits for it.
        """
        lacking = await self._warm(await self._current())
        if lacking and not self._setup.compiles and self._compiling is None:
            self._compiling = asyncio.create_task(self._compile())

    async def render(self, form_id: FormId, page: PageData) -> bytes:
        """Return the page as PDF, as `FormLibrary.render_pdf` does and with its errors.

        RenderBusyError when too many pages wait. RenderError, also: when the page killed two workers
        (`render_crashed`: do not send it again), or after `close()`.
        """
        if self._closed:
            raise _closed()
        page_key = self._key_if_poisoned(form_id, page)
        if page_key is not None:
            raise _crashed()
        if self._places.locked() and self._waiting >= self._max_waiting:
            raise RenderBusyError(
                "Too many pages wait to be drawn.",
                vi="Quá nhiều trang đang chờ tạo.",
                retry_after_s=self._retry_after_s(),
            )
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            drawn = await self._draw(form_id, page)
        finally:
            self._places.release()
        self.counts.add(drawn)
        self._count_towards_renewal()
        return drawn.pdf

    async def compiled_form(self, form_id: FormId) -> bytes | None:
        """Return the compiled form that a worker stamps with, encoded; None where it has none. Raises RenderError."""
        executor = await self._current()
        try:
            future = await asyncio.to_thread(executor.submit, encode_form, self._setup, form_id, None)
            found: bytes | None = await asyncio.wrap_future(future)
        except (BrokenExecutor, RuntimeError, PageCrashedError) as error:
            raise RenderError("Nobody can be asked.", vi="Không hỏi được tiến trình tạo trang.") from error
        return found

    async def close(self) -> None:
        """End the processes; pages being drawn come out first, waiting ones are refused."""
        self._closed = True
        for task in (self._renewal, self._compiling):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        executor, self._executor = self._executor, None
        if executor is not None:
            await _shut_down(executor)

    async def _draw(self, form_id: FormId, page: PageData) -> Drawn:
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome: Outcome
        while True:
            executor = await self._current()
            try:
                outcome = await self._submit(executor, form_id, page)
            except _NotTakenError:
                self._discard(executor)  # replaced, or broken by another page: this one was not begun
                continue
            except PageCrashedError:
                outcome = await self._draw_apart(form_id, page)
            except BrokenExecutor:
                self._discard(executor)
                outcome = await self._draw_apart(form_id, page)
            break
        self._page_s += _NEWEST_WEIGHT * (loop.time() - started - self._page_s)
        if isinstance(outcome, Refusal):
            raise outcome.error()
        assert isinstance(outcome, Drawn), "a page was sent"
        return outcome

    async def _draw_apart(self, form_id: FormId, page: PageData) -> Outcome:
        """Draw a page whose worker died, alone in a process; that stays for the others that the crash hit."""
        self._wait_apart += 1
        try:
            async with self._one_apart:
                if self._apart is None:
                    self._apart = await self._make(1)
                try:
                    return await self._submit(self._apart, form_id, page)
                except (BrokenExecutor, PageCrashedError, _NotTakenError) as error:
                    broken, self._apart = self._apart, None
                    await _shut_down(broken)
                    self._poison(form_id, page)
                    raise _crashed() from error
        finally:
            self._wait_apart -= 1
            if not self._wait_apart and self._apart is not None:
                unused, self._apart = self._apart, None
                await _shut_down(unused)

    async def _compile(self) -> None:
        setup = replace(self._setup, compiles=True)
        process = multiprocessing.get_context("spawn").Process(target=start_worker, args=(setup,), daemon=True)
        try:
            await asyncio.to_thread(process.start)
            while process.is_alive():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.2)
        finally:
            if process.is_alive():
                process.terminate()
        if process.exitcode:
            _LOG.error("the process that compiles forms died; pages go the slow way")

    async def _warm(self, executor: Executor) -> bool:
        """Return whether a form is not compiled."""
        first = await self._submit(executor, None, None)  # it compiles what the others then only load
        others = await asyncio.gather(*(self._submit(executor, None, None) for _ in range(self._workers)))
        for outcome in (first, *others):
            if isinstance(outcome, Refusal):
                raise outcome.error()
        return any(isinstance(outcome, Lacking) for outcome in (first, *others))

    async def _submit(self, executor: Executor, form_id: FormId | None, page: PageData | None) -> Outcome:
        try:
            # In a thread: submitting may start a process, which takes some 20 ms.
            future = await asyncio.to_thread(executor.submit, draw_page, self._setup, form_id, page)
        except (BrokenExecutor, RuntimeError) as error:
            if self._closed:
                raise _closed() from error
            raise _NotTakenError from error
        except OSError as error:  # the machine starts no more processes
            raise _nobody(error) from error
        try:
            async with asyncio.timeout(self._answer_s if page is not None else None):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise RenderError("Nobody drew the page in time.", vi="Không có tiến trình nào tạo trang kịp.") from error

    async def _current(self) -> Executor:
        async with self._opening:
            if self._executor is None:
                if self._closed:
                    raise _closed()
                self._executor = await self._make(self._workers)
            return self._executor

    async def _make(self, workers: int) -> Executor:
        try:
            return await asyncio.to_thread(self._make_executor, self._setup, workers)
        except OSError as error:
            raise _nobody(error) from error

    def _discard(self, executor: Executor) -> None:
        """Let the next page make a new executor; only the first page of those that a crash hit does so."""
        if self._executor is executor:
            self._executor = None
            self.rebuilt += 1
            _LOG.warning("a drawing process died", rebuilt=self.rebuilt)
            executor.shutdown(wait=False, cancel_futures=True)

    def _count_towards_renewal(self) -> None:
        self._since_renewal += 1
        due = self._pages_per_worker and self._since_renewal >= self._pages_per_worker * self._workers
        if due and not self._closed and (self._renewal is None or self._renewal.done()):
            self._since_renewal = 0
            self._renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Put warm processes in the place of the old ones, which finish what they have."""
        try:
            fresh = await self._make(self._workers)
        except RenderError as error:
            _LOG.warning("the drawing processes were not replaced", error=type(error.__cause__).__name__)
            return
        try:
            await self._warm(fresh)
        except (BrokenExecutor, PageCrashedError, _NotTakenError, PrintsvcError) as error:
            _LOG.warning("the drawing processes were not replaced", error=type(error).__name__)
            await _shut_down(fresh)
            return
        except asyncio.CancelledError:
            await asyncio.shield(_shut_down(fresh))
            raise
        old, self._executor = self._executor, fresh
        self.renewed += 1
        if old is not None:
            await asyncio.to_thread(old.shutdown, wait=True)

    def _poison(self, form_id: FormId, page: PageData) -> None:
        key = _key(form_id, page)
        self._poisoned[key] = asyncio.get_running_loop().time()
        if len(self._poisoned) > _MOST_POISONED:
            self._poisoned.popitem(last=False)
        _LOG.error("a page ended two drawing processes", form=form_id, page=key)

    def _key_if_poisoned(self, form_id: FormId, page: PageData) -> str | None:
        while self._poisoned:
            oldest = next(iter(self._poisoned))
            if asyncio.get_running_loop().time() - self._poisoned[oldest] < _POISONED_S:
                key = _key(form_id, page)
                return key if key in self._poisoned else None
            del self._poisoned[oldest]
        return None

    def _retry_after_s(self) -> int:
        return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(self._waiting * self._page_s / self._workers)))


def _key(form_id: FormId, page: PageData) -> str:
    """A page's digest: it names a page in a log and on the list without telling whose it is (it holds a signature)."""
    text = json.dumps([form_id, page], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


async def _shut_down(executor: Executor) -> None:
    await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)


def _nobody(error: OSError) -> RenderError:
    return RenderError(
        f"There is nobody to draw pages: {type(error).__name__}.",
        vi=f"Không có tiến trình tạo trang nào: {type(error).__name__}.",
    )


def _closed() -> RenderError:
    return RenderError("The renderer is closed.", vi="Bộ phận tạo trang in đã đóng.")


def _crashed() -> RenderError:
    error = RenderError(
        "This page ended two drawing processes and is not tried again.",
        vi="Trang này đã làm hỏng hai tiến trình tạo trang nên không thử lại nữa.",
        retry_after_s=_MAX_RETRY_AFTER_S,
    )
    error.code = "render_crashed"
    return error


def process_executor(setup: RenderSetup, workers: int) -> Executor:
    """Return a pool of fresh processes (spawn): WeasyPrint must meet our fonts first, and no lock comes forked."""
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker, initargs=(setup,)
    )
