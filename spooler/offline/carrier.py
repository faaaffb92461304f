"""The agent's side of the book: what is to be printed, and what is to be brought home. One thread at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from printsvc.errors import AccessError, PrintsvcError, StateError, StoreError
from spooler.bagprotocol import SyncAnswer, SyncRequest, is_offline
from spooler.core.attempt import Job
from spooler.link import LinkDownError
from spooler.offline.book import Book, Paper
from spooler.offline.line import BagLine, BagRefusedError
from spooler.protocol import Document, Event, Held, JobId, LeasedJob

_NO_DEADLINE = datetime.max.replace(tzinfo=UTC)
LOOK_S = 0.5
REFUSED_AGAIN_S = 600.0
_LOG = structlog.get_logger("spooler")
T = TypeVar("T")


class OnDisk(Protocol):
    """Calls what blocks, on the journal's own thread."""

    async def __call__(self, function: Callable[..., T], *args: Any) -> T: ...


TakePaper = Callable[[LeasedJob, bytes], Awaitable[bool]]
"""Gives the core a job with its document; True where the journal has it."""
Pause = Callable[[int, PrintsvcError | None], Awaitable[None]]
"""Waits after so many failures in a row."""


class Carrier:
    """Looks into the book where there is one; a site that never took a bag has none, and this costs it nothing.

    `unknown_jobs` are the jobs of which the service does not know. Reports wait for them to come home, but not for
    those of a bag that the centre refuses: what is then reported of its papers is lost there, and noted here
    (`told_before`). `lock` is held while a bag is brought and while such a report is sent: a bag comes home before
    it, or after.
    """

    def __init__(self, state_dir: Path, journal_id: str) -> None:
        self._state_dir = state_dir
        self._journal_id = journal_id
        self._book: Book | None = None
        self.unknown_jobs: frozenset[JobId] = frozenset()
        self._awaited: frozenset[JobId] = frozenset()
        self._refused: dict[str, float] = {}  # bags, and when they are tried again
        self._troubles: dict[str, StoreError | StateError] = {}  # by what met them
        self.lock = asyncio.Lock()

    def start(self) -> None:
        """Look for the book, before anything is said to the service; one that cannot be opened is tried again."""
        try:
            self.open()
        except (StoreError, StateError) as error:
            self._met("open", error)

    def open(self) -> None:
        """Look for the book, and into it. Raises BookUnwritableError, StateError for one that is damaged."""
        if self._book is None and Book.exists(self._state_dir):
            self._book = Book.open(self._state_dir)
            self._refused = dict.fromkeys(self._book.refusals(), 0.0)
        self._look()
        self._troubles.pop("open", None)

    def close(self) -> None:
        if self._book is not None:
            self._book.close()
            self._book = None

    def unhanded(self) -> list[Paper]:
        """Return the papers that the journal does not have; from now on their jobs are unknown to the service."""
        self.open()
        papers = self._book.unhanded() if self._book is not None else []
        if papers:
            self._look()
        return papers

    def mark_handed(self, paper: Paper) -> None:
        self._opened().mark_handed(paper)

    def next_request(self) -> SyncRequest | None:
        """Return what is to be brought home next; None where nothing is, or its paper is not in the journal yet."""
        if self._book is None:
            self.open()
        if self._book is None:
            return None
        now = time.monotonic()
        later = {bag_id for bag_id, again_at in self._refused.items() if again_at > now}
        batch = self._book.next_to_bring(without=later)
        if batch is None:
            return None
        return SyncRequest(journal_id=self._journal_id, bag_id=batch[0], entries=batch[1])

    def take_answer(self, bag_id: str, answer: SyncAnswer) -> None:
        """Note what the service said; then its jobs are known there."""
        self._opened().mark_brought(bag_id, answer.acknowledged, answer.results)
        self._refused.pop(bag_id, None)
        self._look()

    def take_refusal(self, bag_id: str, error: BagRefusedError) -> bool:
        """Go on without this bag, and try it again later; return whether this is news."""
        self._opened().refuse_bag(bag_id, error.code, error.en, error.vi)
        is_news = bag_id not in self._refused
        self._refused[bag_id] = time.monotonic() + REFUSED_AGAIN_S
        self._look()
        return is_news

    def reportable(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Return the events that may be reported now.

        While the book cannot be opened, nobody knows whether the service knows the site's own jobs: their events wait,
        and what comes after. A damaged book does not hold anything up: it may never be whole again.
        """
        if "open" not in self._troubles or self._is_damaged():
            return tuple(events)
        return tuple(takewhile(lambda event: not is_offline(event.job_id), events))

    def note_reported(self, job_ids: Iterable[JobId]) -> None:
        """Note what is about to be reported of jobs that the service does not know. Raises BookUnwritableError."""
        unknown = self.unknown_jobs.intersection(job_ids)
        if unknown and self._book is not None:
            try:
                self._book.mark_told(unknown)
            except StateError as error:
                self._met("open", error)

    def holding(self, jobs: Iterable[Job]) -> tuple[Held, ...]:
        """Return what the service is told of the jobs that the journal has: not of those that it does not know yet."""
        doubtful = "open" in self._troubles or self._is_damaged()
        known = (
            job for job in jobs if job.job_id not in self.unknown_jobs and not (doubtful and is_offline(job.job_id))
        )
        return tuple(Held(job_id=job.job_id, fencing_token=job.fencing_token) for job in known)

    async def is_home(self) -> None:
        """Return when the service knows every job that was made here, but for those of a bag that it refuses."""
        while self._awaited and not self._is_damaged():  # noqa: ASYNC110 - another thread changes them
            await asyncio.sleep(LOOK_S)

    async def hand_over(self, on_disk: OnDisk, take_paper: TakePaper, pause: Pause) -> None:
        """Give what was entered at the desk to the agent's core, each paper once; for ever.

        A book that cannot be written is a cut line: told once, and tried again; so is a damaged one, until somebody has
        seen to it.
        """
        failures = 0
        while True:
            try:
                for paper in await on_disk(self.unhanded):
                    if not await take_paper(leased_of(paper), paper.document):
                        break  # it comes again
                    await on_disk(self.mark_handed, paper)
                    _LOG.info("job_entered", job_id=paper.job_id)
            except (StoreError, StateError) as error:
                failures += 1
                await on_disk(self._met, "open" if self._book is None else "hand_over", error)
                await pause(failures, error)
                continue
            failures = 0
            self._troubles.pop("hand_over", None)
            await asyncio.sleep(LOOK_S)

    async def bring_home(self, line: BagLine, on_disk: OnDisk, pause: Pause) -> None:
        """Bring home what was entered without a line, in order, until the service has it; for ever.

        What could not be written down here of an answer is brought again, and answered again.
        """
        failures = 0
        while True:
            request: SyncRequest | None = None
            answer: SyncAnswer | None = None
            try:
                async with self.lock:
                    request = await on_disk(self.next_request)
                    if request is not None:
                        answer = await self._bring(line, request, on_disk)
                self._troubles.pop("bring_home", None)
                if request is None:
                    await asyncio.sleep(LOOK_S)
                    continue
            except (StoreError, StateError) as error:
                failures += 1
                await on_disk(self._met, "open" if self._book is None else "bring_home", error)
                await pause(failures, error)
                continue
            except (LinkDownError, AccessError) as error:
                failures += 1
                if failures == 1:
                    _LOG.warning("bring_failed", code=error.code, detail=error.en)
                await pause(failures, error)
                continue
            if answer is None:
                continue  # refused: the other bags
            for result in answer.results:
                if result.outcome == "conflict":
                    _LOG.warning("brought_conflict", bag_id=request.bag_id, seq=result.seq, reason=result.reason)
            failures = 0 if answer.acknowledged >= request.entries[0].seq else failures + 1
            if failures:
                await pause(failures, None)

    async def _bring(self, line: BagLine, request: SyncRequest, on_disk: OnDisk) -> SyncAnswer | None:
        """Return the answer, written down; None where the centre does not take this bag."""
        try:
            answer = await line.bring(request)
        except BagRefusedError as error:
            if await on_disk(self.take_refusal, request.bag_id, error):
                _LOG.error("bag_refused", bag_id=request.bag_id, code=error.code, detail=error.en, detail_vi=error.vi)
            return None
        await on_disk(self.take_answer, request.bag_id, answer)
        return answer

    def _met(self, where: str, error: StoreError | StateError) -> None:
        """Remember a trouble with the book, and tell of it once."""
        if error.code not in {one.code for one in list(self._troubles.values())}:
            _LOG.error(error.code, detail=error.en, detail_vi=error.vi)
        self._troubles[where] = error
        if isinstance(error, StateError):
            self.close()  # it may be put right, or another be put in its place

    def _is_damaged(self) -> bool:
        return any(isinstance(error, StateError) for error in list(self._troubles.values()))

    def _opened(self) -> Book:
        if self._book is None:
            self.open()
        if self._book is None:
            raise StateError(
                "The book of the day bag is gone.", vi="Sổ của gói ngày không còn trên máy.", code="book_damaged"
            )
        return self._book

    def _look(self) -> None:
        jobs = self._book.jobs_not_brought() if self._book is not None else {}
        self.unknown_jobs = frozenset(jobs)
        self._awaited = frozenset(job_id for job_id, bag_id in jobs.items() if bag_id not in self._refused)


def leased_of(paper: Paper) -> LeasedJob:
    """Return the job of a paper as the service would lease it."""
    return LeasedJob(
        job_id=paper.job_id,
        fencing_token=1,
        deadline=_NO_DEADLINE,
        document=Document(sha256=paper.sha256, size=len(paper.document)),
        media=paper.media,
        form=paper.form,
        copy_number=paper.copy_number,
        module_um=paper.module_um,
    )
