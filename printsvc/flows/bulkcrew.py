"""The processes of a bulk run. One that dies loses none of the lines it had."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from printsvc.credential.keys import LocalSigner, open_private_key
from printsvc.domain.site import Site
from printsvc.errors import RenderError
from printsvc.flows.bulk import NOT_AGAIN, Draws, Issuer, Line, LineResult, LineStatus, Run
from printsvc.flows.bulkinput import FreshLine
from printsvc.render.draw import RenderSetup
from printsvc.render.poolworker import start_worker, worker_drawer
from printsvc.store.keyfile import SealedSigner

_BLOCKS_A_WORKER: Final = 3
CRASHED: Final = {
    "pointer": "",
    "code": "render_crashed",
    "vi": "Dòng này đã làm hỏng mọi tiến trình nhận nó nên lần này không thử lại nữa.",
    "en": "This line ended every process that had it, one of them for itself alone; this run does not try it again.",
}


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a process of the run needs; the key comes sealed, with what opens it."""

    render: RenderSetup
    run: Run
    signer: SealedSigner
    passphrase: bytes
    sites: Mapping[str, Site]
    folder: Path


MakeExecutor = Callable[[WorkerSetup, int], Executor]


@dataclass(slots=True)
class Work:
    """Lines that are with a process, by number; `number` is that of their print file, 0 for none.

    `site` is whose print file it is. It is to have `exactly` these papers where it was lost.
    """

    fresh: dict[int, FreshLine] = field(default_factory=dict)
    number: int = 0
    site: str = ""
    exactly: bool = False
    bytes: int = 0

    @property
    def lines(self) -> list[Line]:
        return [one.line for one in self.fresh.values()]


class Crew:
    """Processes that take blocks of lines. One that dies loses none: its lines are done again one by one, apart."""

    def __init__(self, setup: WorkerSetup, workers: int, make_executor: MakeExecutor) -> None:
        self._setup = setup
        self._make_executor = make_executor
        self._most = workers * _BLOCKS_A_WORKER
        self._workers = workers
        self._executor = self._new(workers)
        self._work: dict[Future[list[LineResult]], Work] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    @property
    def busy(self) -> bool:
        return bool(self._work)

    @property
    def has_place(self) -> bool:
        return len(self._work) < self._most

    def submit(self, work: Work) -> None:
        try:
            self._work[self._executor.submit(_issue, work.lines, work.number, work.exactly)] = work
        except BrokenExecutor:  # told by the futures, too: there all that was with it is done again
            failed: Future[list[LineResult]] = Future()
            failed.set_exception(BrokenExecutor())
            self._work[failed] = work

    def finished(self) -> Iterator[tuple[Work, list[LineResult]]]:
        """Wait for some work and give it with its results."""
        done, _ = wait(self._work, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenExecutor) for future in done):
            wait(self._work)  # a broken pool ends all its futures
            lost = [(future, work) for future, work in self._work.items() if future.exception() is not None]
            whole = [(work, future.result()) for future, work in self._work.items() if future.exception() is None]
            self._work.clear()
            for future, _ in lost:
                if not isinstance(future.exception(), BrokenExecutor):
                    future.result()
            self._executor.shutdown(wait=True)
            self._executor = self._new(self._workers)
            yield from whole
            for _, work in lost:
                yield work, self._apart(work)
            return
        for future in done:
            yield self._work.pop(future), future.result()

    def _apart(self, work: Work) -> list[LineResult]:
        """Do the work in a process of its own: as it was, for most of it did no harm; else line by line."""
        with self._new_one() as executor:
            try:
                return executor.submit(_issue, work.lines, work.number, work.exactly).result()
            except BrokenExecutor:
                pass
        if work.exactly:
            return [LineResult(line.number, LineStatus.INVALID, reasons=(NOT_AGAIN,)) for line in work.lines]
        results = self._one_by_one(work.lines, work.number)
        if not work.number:
            return list(results.values())
        # Each had the print file to itself; now all have it who do no harm, if they do none together either.
        sound = [line for line in work.lines if CRASHED not in results[line.number].reasons]
        with self._new_one() as executor:
            try:
                results |= {one.number: one for one in executor.submit(_issue, sound, work.number).result()}
                return list(results.values())
            except BrokenExecutor:
                pass
        return list((results | self._one_by_one(sound, 0)).values())

    def _one_by_one(self, lines: Sequence[Line], number: int) -> dict[int, LineResult]:
        """The results by line; a line that ends its process has been poison."""
        results: dict[int, LineResult] = {}
        executor = self._new_one()
        try:
            for line in lines:
                try:
                    (results[line.number],) = executor.submit(_issue, [line], number).result()
                except BrokenExecutor:
                    results[line.number] = LineResult(line.number, LineStatus.INVALID, reasons=(CRASHED,))
                    executor.shutdown(wait=True)
                    executor = self._new_one()
        finally:
            executor.shutdown(wait=True)
        return results

    def _new_one(self) -> Executor:
        """Return one process that is up. Raises RenderError where none comes up: that is no line's fault."""
        executor = self._new(1)
        try:
            executor.submit(_is_up).result()
        except BrokenExecutor:
            executor.shutdown(wait=True)
            raise RenderError(
                "The processes that draw end before they have anything to draw: look at memory and disk, run again.",
                vi="Tiến trình tạo trang dừng ngay khi khởi động: hãy kiểm tra bộ nhớ và đĩa rồi chạy lại.",
            ) from None
        return executor

    def _new(self, workers: int) -> Executor:
        return self._make_executor(self._setup, workers)


def spawn_workers(setup: WorkerSetup, workers: int) -> Executor:
    """Return fresh processes that are ready to issue."""
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(setup,)
    )


_issuer: Issuer | None = None
_not_started: Exception | None = None


def _start(setup: WorkerSetup) -> None:
    global _not_started
    try:
        start_worker(setup.render)
        start_issuer(setup, worker_drawer(setup.render))
    except Exception as error:  # else the pool calls itself broken, as if a line had ended the process
        _not_started = error


def _is_up() -> None:
    """In a process: nothing; that it answers is what one wants to know."""


def start_issuer(setup: WorkerSetup, drawer: Draws) -> None:
    """Make this process issue for a run."""
    global _issuer
    key = open_private_key(setup.signer.sealed_key, setup.passphrase)
    signer = LocalSigner(setup.signer.certificate, key)
    _issuer = Issuer(setup.run, signer=signer, drawer=drawer, sites=setup.sites, folder=setup.folder)


def _issue(lines: Sequence[Line], number: int, exactly: bool = False) -> list[LineResult]:
    """In a process: the results of some lines, in a print file of that number, 0 for files of their own.

    A line that takes too long ends the process.
    """
    if _not_started is not None:
        raise _not_started
    assert _issuer is not None, "the process was started by start_issuer"
    in_main_thread = threading.current_thread() is threading.main_thread()
    results: list[LineResult] = []
    coming = _issuer.issue_together(lines, number, exactly=exactly) if number else _issuer.issue_all(lines)
    while len(results) < len(lines):
        if in_main_thread:
            signal.setitimer(signal.ITIMER_REAL, _issuer.timeout_s)
        results.append(next(coming))
    if in_main_thread:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return results
