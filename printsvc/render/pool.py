"""Pages drawn in other processes, so that the event loop never waits for one.

Any `concurrent.futures.Executor` will do; the default is a process pool. A worker that dies (killed, out of memory, a
crash in a C library, or a page that hung) takes the whole process pool with it: that is how `concurrent.futures` works.
So the pool is made anew, and each page that was being drawn is tried once more alone in a process of its own. The one
that kills that process too is refused; the others come out.
"""

from __future__ import annotations

import asyncio
import gc
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from printsvc.domain.form import FormId, PageData
from printsvc.errors import InputError, NotFoundError, PrintsvcError, Problem, RenderError
from printsvc.render.template import FormLibrary, process_cache_dir

MakeExecutor = Callable[["RenderSetup", int], Executor]

_MAX_RETRY_AFTER_S: Final = 60
# How much the newest page weighs in the running mean of the time a page takes.
_NEWEST_WEIGHT: Final = 0.1


@dataclass(frozen=True, slots=True)
class RenderSetup:
    """What a worker needs to draw; `timeout_s` ends a page that hangs, with its worker."""

    templates_dir: Path
    fonts_dir: Path
    cache_dir: Path | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An error of ours on its way back: the exceptions have keyword arguments, which pickle does not keep."""

    kind: type[PrintsvcError]
    code: str
    en: str
    vi: str
    problems: tuple[Problem, ...]

    def error(self) -> PrintsvcError:
        if issubclass(self.kind, InputError):
            return self.kind(list(self.problems), en=self.en, vi=self.vi, code=self.code)
        error = self.kind(self.en, vi=self.vi)
        error.code = self.code
        return error


class RenderPool:
    """Draws pages in `workers` processes; at most `max_waiting` pages wait for one.

    Use it in one event loop, and `close()` it (or `async with`). Processes start with the first page or `warm_up()`,
    and end by themselves when their parent is killed.
    """

    def __init__(
        self,
        setup: RenderSetup,
        *,
        workers: int | None = None,
        max_waiting: int = 256,
        make_executor: MakeExecutor | None = None,
    ) -> None:
        if make_executor is None and setup.cache_dir is None:
            # Shared by all workers, and cleared by this process: a worker that is killed clears nothing.
            setup = replace(setup, cache_dir=process_cache_dir())
        self._setup = setup
        self._workers = workers or os.cpu_count() or 1
        self._max_waiting = max_waiting
        self._make_executor = make_executor or process_executor
        self._executor: Executor | None = None
        self._places = asyncio.Semaphore(self._workers)
        self._alone = asyncio.Lock()
        self._waiting = 0
        self._page_s = 0.2
        self._closed = False
        self.rebuilt = 0

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

    async def warm_up(self) -> None:
        """Start the processes and load fonts and forms, so that the first page is as quick as the rest."""
        executor = self._current()
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._submit(executor, loop, None, None))

    async def render(self, form_id: FormId, page: PageData) -> bytes:
        """Return the page as PDF, as `FormLibrary.render_pdf` does and with its errors.

        RenderError, also: when too many pages wait (`render_busy`, with `retry_after_s`), when the page killed two
        workers (`render_crashed`: do not send it again), or after `close()`.
        """
        if self._closed:
            raise RenderError("The renderer is closed.", vi="Bộ phận tạo trang in đã đóng.")
        if self._places.locked() and self._waiting >= self._max_waiting:
            raise _unavailable(
                "render_busy",
                "Too many pages wait to be drawn.",
                "Quá nhiều trang đang chờ tạo.",
                self._retry_after_s(),
            )
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._draw(form_id, page)
        finally:
            self._places.release()

    async def close(self) -> None:
        """End the processes; pages being drawn come out first, waiting ones are refused."""
        self._closed = True
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)

    async def _draw(self, form_id: FormId, page: PageData) -> bytes:
        loop = asyncio.get_running_loop()
        started = loop.time()
        executor = self._current()
        try:
            outcome = await self._submit(executor, loop, form_id, page)
        except BrokenExecutor:
            self._discard(executor)
            outcome = await self._draw_alone(loop, form_id, page)
        self._page_s += _NEWEST_WEIGHT * (loop.time() - started - self._page_s)
        if isinstance(outcome, _Refusal):
            raise outcome.error()
        return outcome

    async def _draw_alone(self, loop: asyncio.AbstractEventLoop, form_id: FormId, page: PageData) -> bytes | _Refusal:
        async with self._alone:
            executor = self._make_executor(self._setup, 1)
            try:
                return await self._submit(executor, loop, form_id, page)
            except BrokenExecutor as error:
                raise _unavailable(
                    "render_crashed",
                    "This page ended two drawing processes and is not tried again.",
                    "Trang này đã làm hỏng hai tiến trình tạo trang nên không thử lại nữa.",
                    _MAX_RETRY_AFTER_S,
                ) from error
            finally:
                await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)

    async def _submit(
        self, executor: Executor, loop: asyncio.AbstractEventLoop, form_id: FormId | None, page: PageData | None
    ) -> bytes | _Refusal:
        try:
            # In a thread: submitting may start a process, which takes some 20 ms.
            future = await asyncio.to_thread(executor.submit, _draw, self._setup, form_id, page)
        except BrokenExecutor:
            raise
        except RuntimeError as error:  # shut down in the meantime: by close(), or by another page's crash
            if self._closed:
                raise RenderError("The renderer is closed.", vi="Bộ phận tạo trang in đã đóng.") from error
            raise BrokenExecutor("shut down") from error
        return await asyncio.wrap_future(future, loop=loop)

    def _current(self) -> Executor:
        if self._executor is None:
            self._executor = self._make_executor(self._setup, self._workers)
        return self._executor

    def _discard(self, executor: Executor) -> None:
        """Let the next page make a new executor; only the first page of those that a crash hit does so."""
        if self._executor is executor:
            self._executor = None
            self.rebuilt += 1
            executor.shutdown(wait=False, cancel_futures=True)

    def _retry_after_s(self) -> int:
        return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(self._waiting * self._page_s / self._workers)))


def _unavailable(code: str, en: str, vi: str, retry_after_s: int) -> RenderError:
    error = RenderError(en, vi=vi, retry_after_s=retry_after_s)
    error.code = code
    return error


def process_executor(setup: RenderSetup, workers: int) -> Executor:
    """Return a pool of fresh processes (spawn): WeasyPrint must meet our fonts first, and no lock comes forked."""
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(setup,)
    )


def _start_worker(setup: RenderSetup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _draw(setup, None, None)
    # What is loaded stays: the collector need not walk it for every page (a tenth of a page's time).
    gc.collect()
    gc.freeze()


def _end_with_parent() -> None:
    """A worker waits on a pipe of which it holds both ends: it would outlive a killed parent for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@cache
def _library(setup: RenderSetup) -> FormLibrary:
    library = FormLibrary(setup.templates_dir, setup.fonts_dir, cache_dir=setup.cache_dir)
    for form_id in library.form_ids():
        library.render_pdf(form_id, library.sample(form_id))
    return library


def _draw(setup: RenderSetup, form_id: FormId | None, page: PageData | None) -> bytes | _Refusal:
    """In the worker: draw the page, or only get ready where there is none.

    A page that takes longer than the setup allows kills the worker: SIGALRM, unhandled, also ends a loop in C.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    try:
        library = _library(setup)
        if form_id is None or page is None:
            return b""
        if in_main_thread:
            signal.setitimer(signal.ITIMER_REAL, setup.timeout_s)
        try:
            return library.render_pdf(form_id, page)
        finally:
            if in_main_thread:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except (InputError, NotFoundError, RenderError) as error:
        problems = tuple(error.problems) if isinstance(error, InputError) else ()
        return _Refusal(type(error), error.code, error.en, error.vi, problems)
    except Exception as error:
        # Only its class: the text may hold a person's data, and the exception itself may not pickle.
        name = type(error).__name__
        return _Refusal(RenderError, RenderError.code, f"Drawing failed: {name}.", f"Tạo trang in bị lỗi: {name}.", ())
