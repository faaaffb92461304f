"""The agent's side of the book: what is to be printed, and what is to be brought home. One thread at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from printsvc.errors import AccessError, PrintsvcError, StoreError
from spooler.bagprotocol import SyncAnswer, SyncRequest
from spooler.core.attempt import Job
from spooler.link import LinkDownError
from spooler.offline.book import Book, Paper
from spooler.offline.line import BagLine
from spooler.protocol import Document, Held, JobId, LeasedJob

_NO_DEADLINE = datetime.max.replace(tzinfo=UTC)
LOOK_S = 0.5
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

    `unknown_jobs` are the jobs of which the service does not know.
    """

    def __init__(self, state_dir: Path, journal_id: str) -> None:
        self._state_dir = state_dir
        self._journal_id = journal_id
        self._book: Book | None = None
        self.unknown_jobs: frozenset[JobId] = frozenset()

    def open(self) -> None:
        """Look for the book, before anything is said to the service."""
        if self._book is None and Book.exists(self._state_dir):
            self._book = Book.open(self._state_dir)
        self._look()

    def close(self) -> None:
        if self._book is not None:
            self._book.close()

    def unhanded(self) -> list[Paper]:
        """Return the papers that the journal does not have; from now on their jobs are unknown to the service."""
        self.open()
        papers = self._book.unhanded() if self._book is not None else []
        if papers:
            self._look()
        return papers

    def mark_handed(self, paper: Paper) -> None:
        assert self._book is not None
        self._book.mark_handed(paper)

    def next_request(self) -> SyncRequest | None:
        """Return what is to be brought home next; None where nothing is, or its paper is not in the journal yet."""
        if self._book is None:
            return None
        batch = self._book.next_to_bring()
        if batch is None:
            return None
        return SyncRequest(journal_id=self._journal_id, bag_id=batch[0], entries=batch[1])

    def take_answer(self, bag_id: str, answer: SyncAnswer) -> None:
        """Note what the service said; then its jobs are known there."""
        assert self._book is not None
        self._book.mark_brought(bag_id, answer.acknowledged, answer.results)
        self._look()

    def holding(self, jobs: Iterable[Job]) -> tuple[Held, ...]:
        """Return what the service is told of the jobs that the journal has: not of those that it does not know yet."""
        known = (job for job in jobs if job.job_id not in self.unknown_jobs)
        return tuple(Held(job_id=job.job_id, fencing_token=job.fencing_token) for job in known)

    async def is_home(self) -> None:
        """Return when the service knows every job that was made here."""
        while self.unknown_jobs:  # noqa: ASYNC110 - another thread changes them
            await asyncio.sleep(LOOK_S)

    async def hand_over(self, on_disk: OnDisk, take_paper: TakePaper, pause: Pause) -> None:
        """Give what was entered at the desk to the agent's core, each paper once; for ever.

        A book that cannot be written is a cut line: told once, and tried again.
        """
        failures = 0
        while True:
            try:
                for paper in await on_disk(self.unhanded):
                    if not await take_paper(leased_of(paper), paper.document):
                        break  # it comes again
                    await on_disk(self.mark_handed, paper)
                    _LOG.info("job_entered", job_id=paper.job_id)
            except StoreError as error:
                failures += 1
                if failures == 1:
                    _LOG.error("daybag_book_unwritable", code=error.code, detail=error.en, detail_vi=error.vi)
                await pause(failures, error)
                continue
            failures = 0
            await asyncio.sleep(LOOK_S)

    async def bring_home(self, line: BagLine, on_disk: OnDisk, pause: Pause) -> None:
        """Bring home what was entered without a line, in order, until the service has it; for ever.

        What could not be written down here of an answer is brought again, and answered again.
        """
        failures = 0
        while True:
            request: SyncRequest | None = None
            try:
                request = await on_disk(self.next_request)
                if request is None:
                    await asyncio.sleep(LOOK_S)
                    continue
                answer = await line.bring(request)
                await on_disk(self.take_answer, request.bag_id, answer)
            except (LinkDownError, AccessError, StoreError) as error:
                failures += 1
                if failures == 1:
                    entries = len(request.entries) if request is not None else 0
                    _LOG.warning("bring_failed", code=error.code, detail=error.en, entries=entries)
                await pause(failures, error)
                continue
            for result in answer.results:
                if result.outcome == "conflict":
                    _LOG.warning("brought_conflict", bag_id=request.bag_id, seq=result.seq, reason=result.reason)
            failures = 0 if answer.acknowledged >= request.entries[0].seq else failures + 1
            if failures:
                await pause(failures, None)

    def _look(self) -> None:
        self.unknown_jobs = self._book.jobs_not_brought() if self._book is not None else frozenset()


def leased_of(paper: Paper) -> LeasedJob:
    """Return the job of a paper as the service would lease it."""
    return LeasedJob(
        job_id=paper.job_id,
        fencing_token=1,
        deadline=_NO_DEADLINE,
        document=Document(sha256=paper.sha256, size=len(paper.document)),
        media=paper.media,
        form=paper.form,
    )
