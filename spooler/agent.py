"""The agent's shell: brings events to the core, keeps its records, does its operations. Reads the clock.

One task takes events, steps the core and commits the journal; only then are operations started, each as a task of its
own that ends with an event. The others look at the queues, ask the service for jobs and bring it the reports. What is
asked of CUPS and of the printers is done in `spooler.cupsd.queues`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from printsvc.errors import AccessError, PrintsvcError, StoreError
from spooler.book import Book
from spooler.commands import Desk
from spooler.core import messages as m
from spooler.core import restore, step
from spooler.core.attempt import FINAL, Job, State, capacity, unacknowledged
from spooler.cupsd.lane import Lane
from spooler.cupsd.printer import Printers
from spooler.cupsd.queues import Queues
from spooler.journal import Journal, JournalUnwritableError
from spooler.line import LineDesk
from spooler.link import DocumentWrongError, LinkDownError, backoff_s, worth_telling
from spooler.offline.carrier import Carrier
from spooler.offline.line import BagLine
from spooler.protocol import (
    EnrollRequest,
    JobId,
    LeaseAnswer,
    LeasedJob,
    LeaseRequest,
    PrinterReport,
    QueueSettings,
    ReportRequest,
)
from spooler.settings import Settings, policy_of

T = TypeVar("T")
_BATCH = 200
_STORAGE_RETRY_S = 1.0

log = structlog.get_logger("spooler")


def _now() -> datetime:
    return datetime.now(UTC)


clock = _now  # for the commands: nobody else reads it


class Agent:
    """One agent over one open journal; `run` ends only by cancellation or by an error that a person must see."""

    def __init__(self, settings: Settings, journal: Journal, *, version: str = "") -> None:
        self._settings = settings
        self._journal = journal
        self._version = version
        self._identity = journal.identity()
        contents = journal.contents()
        self.state: State = restore(
            contents.jobs,
            next_order=contents.next_order,
            next_seq=contents.next_seq,
            acknowledged=contents.acknowledged,
            policy=policy_of(settings),
        )
        lane = Lane(settings.cups_host, settings.cups_port, timeout_s=settings.cups_timeout_s)
        self._queues = Queues(self, lane, settings.queues)
        self._desk = Desk(self, settings, Book(settings.state_dir))
        self._events: asyncio.Queue[tuple[m.Event, asyncio.Future[None] | None]] = asyncio.Queue()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake_lease = asyncio.Event()
        self._wake_report = asyncio.Event()
        self._storage_ok = True
        self._reported: tuple[PrinterReport, ...] = ()
        self._telling = False
        self._carrier = Carrier(settings.state_dir, self._identity.journal_id)

    # -- life

    async def run(self) -> None:
        settings = self._settings
        identity = self._identity
        self._queues.open(printer_timeout_s=settings.printer_timeout_s)
        self._link = BagLine(
            settings.url or identity.url,
            token=identity.token,
            ca_file=settings.ca_file,
            timeout_s=settings.request_timeout_s,
            packs=settings.packs,
        )
        self._journal.sweep_documents()
        self._poor = LineDesk(settings.state_dir, self._link, self._keep_document, stamps=settings.stamps)
        await self._desk.open()
        self._carrier.start()
        log.info("agent_started", agent_id=identity.agent_id, journal=self._journal.counts())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take_events())
                group.create_task(self._tick())
                group.create_task(self._look_at_queues())
                group.create_task(self._talk())
                group.create_task(self._carrier.hand_over(self.on_disk, self._take_paper, self._pause))
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._poor.close()
            await self._queues.close()
            await self._link.close()
            self._disk.shutdown()
            self._desk.close()
            self._carrier.close()

    async def _talk(self) -> None:
        """Speak to the service: enrol first where that was not done; what is in CUPS is settled meanwhile."""
        failures = 0
        while not self._identity.token:
            if not self._settings.enroll_code:
                log.error("not_enrolled", hint="printsvc-spooler enroll --code CODE --url URL")
                await asyncio.sleep(self._settings.backoff_max_s)
                continue
            request = EnrollRequest(
                code=self._settings.enroll_code, journal_id=self._identity.journal_id, agent_version=self._version
            )
            try:
                answer = await self._link.enroll(request)
                await self.on_disk(self._journal.enroll, self._settings.url, answer)
                self._identity = await self.on_disk(self._journal.identity)
                log.info("enrolled", agent_id=answer.agent_id, site_id=answer.site_id)
            except (LinkDownError, AccessError, JournalUnwritableError) as error:
                failures += 1
                log.warning("enroll_failed", code=error.code, detail=error.en)
                await self._pause(failures, error)
        self._link.use_token(self._identity.token)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_for_jobs())
            group.create_task(self._carrier.bring_home(self._link, self.on_disk, self._pause))
            group.create_task(self._bring_reports())

    # -- what the desk and the queues borrow (spooler.commands.Site, spooler.cupsd.queues.Site)

    @property
    def lane(self) -> Lane:
        return self._queues.lane

    @property
    def printers(self) -> Printers:
        return self._queues.printers

    def now(self) -> datetime:
        return _now()

    async def see_queues(self) -> None:
        await self._queues.see()

    def setting(self, queue: str) -> QueueSettings:
        return self._desk.setting(queue)

    async def document_for(self, job: Job, queue: str) -> bytes | None:
        document = await self.on_disk(self._journal.find_document, job.sha256)
        return None if document is None else await self._desk.fit_document(job, queue, document)

    def news(self) -> None:
        if self._identity.token and not self._telling:
            self._telling = True
            self.start(self._tell_of_change())

    # -- the step

    def tell(self, event: m.Event) -> None:
        self._events.put_nowait((event, None))

    async def bring(self, event: m.Event) -> None:
        """Put an event to the core and wait until it is taken and durable, or given up."""
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events.put_nowait((event, taken))
        await taken

    async def _take_paper(self, job: LeasedJob, document: bytes) -> bool:
        """Print what the site made itself, as if it had been leased; return whether the journal has it."""
        if job.job_id in self.state.jobs:
            return True  # handed over before; only the book could not be written
        try:
            await self.on_disk(self._journal.store_document, job.document.sha256, document)
        except JournalUnwritableError as error:
            log.error("journal_unwritable", detail=error.en, detail_vi=error.vi)
            return False
        await self.bring(m.Leased((job,)))
        return job.job_id in self.state.jobs

    async def on_disk(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, function, *args)

    async def _take_events(self) -> None:
        while True:
            batch = [await self._events.get()]
            while not self._events.empty() and len(batch) < _BATCH:
                batch.append(self._events.get_nowait())
            await self._take([event for event, _ in batch])
            for _, taken in batch:
                if taken is not None and not taken.done():
                    taken.set_result(None)

    async def _take(self, events: list[m.Event]) -> None:
        state, now = self.state, _now()
        records: list[m.Record] = []
        operations: list[m.Operation] = []
        for event in events:
            state, actions = step(state, event, now)
            for action in actions:
                if isinstance(action, m.Save | m.Report | m.Erase | m.Trim):
                    records.append(action)
                else:
                    operations.append(action)
        if records:
            try:
                await self.on_disk(self._journal.commit, records)
            except JournalUnwritableError as error:
                self._storage_failed(error, events)
                return
            self._storage_works()
        self.state = state
        self._desk.note_routes()
        for record in records:
            self._note(record)
        for operation in operations:
            self.start(self._do_or_forget(operation))
        if self._storage_ok and capacity(state, now) > 0:
            self._wake_lease.set()

    def _storage_failed(self, error: JournalUnwritableError, events: list[m.Event]) -> None:
        """Keep the old state: nothing of this step was done, and what its answers said will be asked again."""
        if self._storage_ok:
            self._storage_ok = False
            log.error("journal_unwritable", detail=error.en, detail_vi=error.vi)
            self.start(self._probe_storage())
        lost = frozenset(JobId(event.job_id) for event in events if hasattr(event, "job_id"))
        lost |= frozenset(job_id for event in events if isinstance(event, m.Forgotten) for job_id in event.job_ids)
        loop = asyncio.get_running_loop()
        loop.call_later(_STORAGE_RETRY_S, self.tell, m.Forgotten(lost))

    def _storage_works(self) -> None:
        if not self._storage_ok:
            self._storage_ok = True
            self._wake_lease.set()
            log.info("journal_writable_again")

    async def _probe_storage(self) -> None:
        """With no room there is no capacity, and with no jobs nothing would be written: try until it can be."""
        while not self._storage_ok:
            await asyncio.sleep(_STORAGE_RETRY_S)
            with contextlib.suppress(JournalUnwritableError):
                await self.on_disk(self._journal.probe)
                self._storage_works()

    def _note(self, record: m.Record) -> None:
        if isinstance(record, m.Report):
            self._wake_report.set()
            log.info(
                "job_" + record.kind.value,
                job_id=record.job_id,
                attempt_id=record.attempt_id,
                queue=record.queue,
                reason=record.reason,
                witness=record.witness,
            )

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("operation_broke", error=repr(error))

    # -- operations

    async def _do_or_forget(self, operation: m.Operation) -> None:
        """Do it; a fault of our own is an answer too, or the job would wait for one for ever."""
        try:
            await self._do(operation)
        except Exception as error:
            log.exception("operation_broke", operation=type(operation).__name__, error=type(error).__name__)
            job_id = getattr(operation, "job_id", None) or getattr(getattr(operation, "job", None), "job_id", None)
            self.tell(m.Forgotten(frozenset({job_id} if job_id else ())))

    async def _do(self, operation: m.Operation) -> None:
        match operation:
            case m.Fetch():
                self.tell(await self._fetch(operation))
            case m.Discard():
                await self.on_disk(self._journal.discard_document, operation.sha256)
            case _:
                await self._queues.do(operation)

    async def _fetch(self, operation: m.Fetch) -> m.Event:
        job_id, sha256 = operation.job_id, operation.sha256
        try:
            if await self.on_disk(self._journal.find_document, sha256) is None:
                content = await self._link.fetch(
                    sha256, size=operation.size, max_bytes=self._settings.document_max_bytes
                )
                self._link.meter.fetched += 1
                await self._keep_document(sha256, content)
            return m.Fetched(job_id)
        except DocumentWrongError as error:
            log.error("document_wrong", job_id=job_id, code=error.code)
            return m.FetchFailed(job_id, error.code, permanent=True)
        except PrintsvcError as error:
            log.warning("fetch_failed", job_id=job_id, code=error.code, detail=error.en)
            return m.FetchFailed(job_id, error.code, permanent=False)

    async def _keep_document(self, sha256: str, content: bytes) -> None:
        await self.on_disk(self._journal.store_document, sha256, content)

    # -- queues

    async def _look_at_queues(self) -> None:
        while True:
            try:
                await self.see_queues()
            except Exception as error:  # one odd printer must not end the agent
                log.exception("queues_not_seen", error=type(error).__name__)
            if worth_telling(self._queues.reports) != worth_telling(self._reported):
                self.news()
            busy = any(job.phase not in FINAL for job in self.state.jobs.values())
            await asyncio.sleep(min(1.0, self._settings.health_s) if busy else self._settings.health_s)

    async def _tell_of_change(self) -> None:
        """Tell the service of its printers at once, beside the lease call that may be open for long."""
        try:
            with contextlib.suppress(LinkDownError, AccessError, StoreError):
                request = self._lease_request(0)
                await self._leased(await self._link.lease(request), request)
        finally:
            self._telling = False

    # -- the service

    def _lease_request(self, wanted: int) -> LeaseRequest:
        self._reported = self._queues.reports
        return LeaseRequest(
            journal_id=self._identity.journal_id,
            capacity=wanted,
            # Agents that came back together must not go on asking together.
            wait_s=self._settings.poll_wait_s * random.uniform(0.8, 1.0) if wanted else 0.0,  # noqa: S311
            agent_time=_now(),
            agent_version=self._version,
            holding=self._carrier.holding(unacknowledged(self.state)),
            printers=self._queues.reports,
            **self._poor.told(),
            **self._desk.to_tell(),
        )

    async def _ask_for_jobs(self) -> None:
        failures = 0
        while True:
            self._wake_lease.clear()
            # An agent that was refused asks for nothing, but asks: it may be admitted again.
            wanted = capacity(self.state, _now()) if self._storage_ok else 0
            began = time.monotonic()
            request = self._lease_request(wanted)
            try:
                answer = await self._link.lease(request)
            except (LinkDownError, AccessError) as error:
                failures += 1
                if isinstance(error, AccessError) and self.state.authorised:
                    log.error("unauthorised", detail=error.en, detail_vi=error.vi)
                    await self.bring(m.Authorised(False))
                elif failures == 1:
                    log.warning("service_unreachable", detail=error.en)
                await self._pause(failures, error)
                continue
            try:
                await self._leased(answer, request)
            except StoreError as error:  # what was not written is told, and asked for, again
                failures += 1
                if failures == 1:
                    log.error("answer_not_kept", code=error.code, detail=error.en, detail_vi=error.vi)
                await self._pause(failures, error)
                continue
            failures = 0
            if not wanted:
                await self._rest(self._settings.heartbeat_s)
            elif not answer.jobs and time.monotonic() - began < 0.2:
                await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 the service did not wait

    async def _leased(self, answer: LeaseAnswer, request: LeaseRequest) -> None:
        if not self.state.authorised:
            log.info("authorised_again")
            await self.bring(m.Authorised(True))
        if answer.jobs:
            self.start(self.see_queues())  # meanwhile: a queue must have been seen just before it gets a job
        await self._poor.prepare(answer)
        if answer.jobs or answer.dropped:
            await self.bring(m.Leased(answer.jobs, answer.dropped))
        await self._desk.take(answer, request)

    async def _rest(self, longest_s: float) -> None:
        """Wait until there is capacity again, or for a heartbeat."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake_lease.wait(), longest_s * random.uniform(0.8, 1.2))  # noqa: S311

    async def _bring_reports(self) -> None:
        failures = 0
        while True:
            self._wake_report.clear()
            await self._carrier.is_home()  # the service must know a job before it hears of it
            events = await self.on_disk(self._journal.outbox, _BATCH)
            if not events:
                await self._wake_report.wait()
                continue
            events = self._carrier.reportable(events)
            if not events:
                await self._pause(1, None)
                continue
            if await self._poor.gathers(events, self._wake_report):
                continue
            request = ReportRequest(journal_id=self._identity.journal_id, events=events)
            try:
                async with self._carrier.lock:
                    await self.on_disk(self._carrier.note_reported, [event.job_id for event in events])
                    answer = await self._link.report(request)
            except (LinkDownError, AccessError, StoreError) as error:
                failures += 1
                if failures == 1:
                    log.warning("report_failed", code=error.code, detail=error.en, events=len(events))
                await self._pause(failures, error)
                continue
            for result in answer.results:
                if result.outcome == "refused":
                    log.warning("report_refused", seq=result.seq, state=result.state)
            before = self.state.acknowledged
            self._poor.count(events, answer)
            await self.bring(m.Acknowledged(min(answer.acknowledged, events[-1].seq)))
            failures = 0 if self.state.acknowledged > before else failures + 1
            if failures:
                await self._pause(failures, None)

    async def _pause(self, failures: int, error: PrintsvcError | None) -> None:
        pause_s = backoff_s(failures, random.random(), longest_s=self._settings.backoff_max_s)  # noqa: S311
        if isinstance(error, LinkDownError):
            pause_s = max(pause_s, min(error.retry_after_s, self._settings.backoff_max_s))
        await asyncio.sleep(max(pause_s, 0.05))

    async def _tick(self) -> None:
        while True:
            active = any(job.phase not in FINAL for job in self.state.jobs.values())
            await asyncio.sleep(self._settings.poll_s / 2 if active else 0.5)
            self.tell(m.Tick())
