"""What the core asks of the site's queues, at CUPS and at the printers: done, and each answered by an event."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, assert_never

import structlog

from spooler.core import messages as m
from spooler.core.attempt import Attempt, Job
from spooler.core.witness import CupsWord, Mute, Unreachable
from spooler.cupsd import server
from spooler.cupsd.describe import CUPS_SILENT, look
from spooler.cupsd.lane import CupsRefusedError, CupsSilentError, Lane
from spooler.cupsd.printer import Printers
from spooler.protocol import PrinterReport, QueueSettings

_ADVICE_EVERY_S = 600.0
_FIND_S = 60.0  # CUPS lists its whole history by name
_WITHDRAW_AGAIN_S = 1.0

log = structlog.get_logger("spooler")

Asked = m.SeeQueues | m.Find | m.Create | m.Release | m.TakeBack | m.Withdraw | m.AskCups | m.AskPrinter
"""The operations that are done at the queues."""


class Site(Protocol):
    """What the agent lends."""

    def now(self) -> datetime: ...

    def tell(self, event: m.Event) -> None:
        """Put an event to the core."""

    async def bring(self, event: m.Event) -> None:
        """Put an event to the core and wait until it is taken."""

    def setting(self, queue: str) -> QueueSettings:
        """Return what the centre has set for a queue."""

    async def document_for(self, job: Job, queue: str) -> bytes | None:
        """Return the job's document as the queue needs it; None where it is missing."""


class Queues:
    """The queues of one agent: those `names`, or all of its CUPS where none is named. `open` it in an event loop.

    `reports` are the printers as they were last seen, for the service.
    """

    def __init__(self, site: Site, lane: Lane, names: Sequence[str]) -> None:
        self._site = site
        self.lane = lane
        self._names = names
        self._cups_answers = True
        self._uris: dict[str, str | None] = {}
        self.reports: tuple[PrinterReport, ...] = ()
        self._advice: tuple[str, ...] = ()
        self._advised_at: float | None = None

    def open(self, *, printer_timeout_s: float) -> None:
        self.printers = Printers(timeout_s=printer_timeout_s)

    async def close(self) -> None:
        self.lane.close()
        await self.printers.close()

    async def do(self, operation: Asked) -> None:
        """Do it and tell the core the answer."""
        match operation:
            case m.SeeQueues():
                await self.see()
            case m.Find() | m.Create() | m.Release() | m.TakeBack():
                self._site.tell(await self._at_cups(operation))
            case m.Withdraw(attempt=attempt):
                with contextlib.suppress(CupsRefusedError):
                    await withdraw(self.lane, attempt)
            case m.AskCups():
                word = await self._ask_cups(operation)
                self._site.tell(m.CupsSaid(operation.job_id, operation.attempt.attempt_id, word))
            case m.AskPrinter():
                await self._ask_printer(operation)
            case _:
                assert_never(operation)

    async def see(self) -> None:
        """Look at all queues and bring the core what was seen; a CUPS that is silent shows none."""
        try:
            if self._advised_at is None or time.monotonic() - self._advised_at > _ADVICE_EVERY_S:
                self._advised_at = time.monotonic()
                self._advice = await self.lane.run(server.check_cupsd)
            seen = await look(
                self.lane,
                self.printers,
                self._names,
                advice=self._advice,
                setting_of=self._site.setting,
                now=self._site.now(),
            )
        except (CupsSilentError, CupsRefusedError) as error:
            if self._cups_answers:
                self._cups_answers = False
                log.error("cups_unreachable", detail=error.en)
            self.reports = tuple(
                report.model_copy(update={"state": 5, "problems": (CUPS_SILENT,)}) for report in self.reports
            )
            self._site.tell(m.QueuesSeen(()))
            return
        if not self._cups_answers:
            self._cups_answers = True
            log.info("cups_reachable")
        self._uris |= seen.uris
        self.reports = seen.reports
        await self._site.bring(m.QueuesSeen(seen.queues))

    async def _at_cups(self, operation: m.Find | m.Create | m.Release | m.TakeBack) -> m.Event:
        attempt = operation.attempt
        job_id = operation.job.job_id if isinstance(operation, m.Create | m.Find) else operation.job_id
        name = attempt.attempt_id
        try:
            match operation:
                case m.Find(job=job):
                    found = await self.lane.run(lambda c: server.find(c, job, attempt), timeout_s=_FIND_S)
                    return (
                        m.Found(job_id, name, found.cups_job_id, found.cups_uuid, found.word)
                        if found
                        else m.Found(job_id, name)
                    )
                case m.Create(job=job):
                    document = await self._site.document_for(job, attempt.queue)
                    if document is None:
                        return m.OperationFailed(job_id, name, "document-missing", document_missing=True)
                    made = await self.lane.run(lambda c: server.create_held(c, job, attempt, document))
                    return m.Created(job_id, name, made.cups_job_id, made.cups_uuid)
                case m.Release():
                    await self.lane.run(lambda c: server.release(c, attempt))
                    return m.Released(job_id, name)
                case m.TakeBack():
                    word = await self.lane.run(lambda c: server.take_back(c, attempt))
                    return m.TakenBack(job_id, name, attempt.cups_uuid, word)
                case _:
                    assert_never(operation)
        except CupsRefusedError as error:
            log.warning("cups_refused", attempt_id=name, status=error.status, detail=error.en)
            return m.OperationFailed(job_id, name, "cups-refused", refused=True)
        except CupsSilentError as error:
            log.warning("cups_silent", attempt_id=name, detail=error.en)
            return m.OperationFailed(job_id, name, "cups-silent")

    async def _ask_cups(self, operation: m.AskCups) -> CupsWord:
        try:
            return await self.lane.run(lambda c: server.ask(c, operation.attempt))
        except (CupsSilentError, CupsRefusedError):
            return CupsWord.UNKNOWN

    async def _ask_printer(self, operation: m.AskPrinter) -> None:
        attempt = operation.attempt
        if attempt.queue not in self._uris:
            await self.see()
        if attempt.queue not in self._uris:
            answer: Any = Unreachable()
        elif (uri := self._uris[attempt.queue]) is None:
            answer = Mute()
        else:
            answer = await self.printers.ask(uri, attempt.attempt_id)
        self._site.tell(m.PrinterSaid(operation.job_id, attempt.attempt_id, answer))


async def withdraw(lane: Lane, attempt: Attempt, *, pause_s: float = _WITHDRAW_AGAIN_S) -> CupsWord:
    """Take what waits of an attempt from CUPS, and return what it was; a CUPS that is silent is asked until it answers.

    One that is started again begins with the jobs that it has. Raises CupsRefusedError.
    """
    while True:
        try:
            return await lane.run(lambda c: server.withdraw(c, attempt))
        except CupsSilentError:
            await asyncio.sleep(pause_s)
