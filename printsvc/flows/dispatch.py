"""Handing print jobs to the agents of a site, and taking their word for what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from printsvc.domain.form import FormId, PageData
from printsvc.domain.print_job import ON_PAPER, Happening, JobEvent, JobState, PrintJob
from printsvc.errors import (
    IllegalTransitionError,
    InputError,
    NotFoundError,
    PrintsvcError,
    StateError,
    UnavailableError,
)
from printsvc.flows import leases
from printsvc.flows.climbing import climb_due
from printsvc.flows.page import page_of
from printsvc.flows.printers import cancel_if_asked
from printsvc.flows.revoked import REVOKED_CODE, refuse_revoked
from printsvc.flows.services import Services
from printsvc.flows.witness import witness_values
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store import sites as site_store
from printsvc.store.sites import Agent, SitePrinter

ERROR_PAUSE_S = 5.0
_LOG = structlog.get_logger("printsvc.dispatch")


@dataclass(frozen=True, slots=True)
class Ready:
    """A leased job whose document can be fetched; with `page` and `form_digest` it can be stamped as well."""

    job: PrintJob
    sha256: str
    size: int
    page: PageData | None = None
    form_digest: str = ""


@dataclass(frozen=True, slots=True)
class LeaseResult:
    """`renewed` are (job_id, fencing_token) that the agent keeps; `dropped` are those that it must not start."""

    ready: tuple[Ready, ...]
    renewed: tuple[tuple[str, int], ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one event: its number in the journal, applied, duplicate or refused, and the job's state."""

    seq: int
    outcome: str
    state: str


async def lease(
    services: Services,
    agent: Agent,
    *,
    journal_id: str,
    capacity: int,
    wait_s: float,
    holding: Sequence[tuple[str, int]] = (),
    is_gone: Callable[[], bool] = lambda: False,
    forms: Collection[str] = (),
    work_of: Callable[[str], Awaitable[Collection[JobState]]] | None = None,
    is_called: Callable[[Connection], bool] = lambda _: False,
) -> LeaseResult:
    """Lease jobs of the agent's site, waiting up to `wait_s` seconds for the first.

    A page that no form can hold fails its job, with the reason. When pages cannot be drawn now (UnavailableError), the
    jobs go back to waiting, behind the others, and the renderer is left alone for as long as it asked. `is_gone` says
    that the agent hung up: then nothing more is leased. `forms` are digests of the compiled forms that the agent stamps
    with: a job on one of them brings its page. `work_of` says whether the site has
    anything waiting, or leased, and spares an idle poll the transaction. `is_called` says that there is something else
    to tell the agent.
    """
    give_up_at = asyncio.get_running_loop().time() + wait_s
    with services.wakeups.listening(agent.site_id) as called:
        while True:
            called.clear()
            renewed: list[tuple[str, int]] = []
            dropped: list[str] = []
            ready: list[Ready] = []
            pause_s = 0.0
            work: Collection[JobState] = tuple(JobState)
            if work_of is not None and not holding:
                work = await work_of(agent.site_id) if capacity > 0 else ()
            if work:
                has_leased = JobState.LEASED in work
                jobs, renewed, dropped = await _claim(services, agent, journal_id, capacity, holding, has_leased)
                ready, pause_s = await _draw_all(services, jobs, forms)
            has_news = await services.store.read(is_called)
            remaining = give_up_at - asyncio.get_running_loop().time()
            if ready or dropped or has_news or remaining <= 0 or capacity == 0 or is_gone():
                return LeaseResult(tuple(ready), tuple(renewed), tuple(dropped))
            if pause_s:
                await asyncio.sleep(min(remaining, pause_s))
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(called.wait(), min(remaining, services.lease_s / 3))
            if is_gone():
                return LeaseResult((), tuple(renewed), tuple(dropped))


async def _claim(
    services: Services,
    agent: Agent,
    journal_id: str,
    capacity: int,
    holding: Sequence[tuple[str, int]],
    has_leased: bool,
) -> tuple[list[PrintJob], list[tuple[str, int]], list[str]]:
    """Return the jobs that are leased now, what was renewed, and what is dropped."""
    now = services.clock()

    def claim(connection: Connection) -> tuple[list[PrintJob], list[tuple[str, int]], list[str]]:
        deadline = now + timedelta(seconds=services.lease_s)
        kept, gone = leases.renew(
            connection, holding, agent_id=agent.agent_id, journal_id=journal_id, now=now, deadline=deadline
        )
        if capacity > 0 and has_leased:  # a heartbeat goes beside an open poll, whose answer it may not know yet
            known = [job_id for job_id, _ in holding]
            leases.take_back_unanswered(
                connection, known, agent.site_id, agent_id=agent.agent_id, journal_id=journal_id, now=now
            )
        if has_leased:
            leases.expire_leases(connection, agent.site_id, now=now)
        climb_due(connection, clock=services.paper_clock, now=now, site_id=agent.site_id)
        claimed = leases.claim_waiting(
            connection,
            agent.site_id,
            agent_id=agent.agent_id,
            journal_id=journal_id,
            capacity=capacity,
            now=now,
            lease_s=services.lease_s,
        )
        return claimed, kept, gone

    return await services.store.write(claim)


async def _draw_all(services: Services, jobs: Sequence[PrintJob], forms: Collection[str]) -> tuple[list[Ready], float]:
    """Return the jobs whose page is drawn, and for how many seconds to leave the renderer alone."""
    drawn = await asyncio.gather(*(_draw(services, job, forms) for job in jobs), return_exceptions=True)
    ready: list[Ready] = []
    pause_s = 0.0
    for job, outcome in zip(jobs, drawn, strict=True):
        match outcome:
            case Ready():
                ready.append(outcome)
            case UnavailableError() if outcome.code != "render_crashed":
                pause_s = max(pause_s, outcome.retry_after_s)
                await _put_back(services, job, outcome.code, is_busy=outcome.code == "render_busy")
            case InputError(problems=[first, *_]):
                # Where and why, for the worklist: a pointer into the page names a slot, never what stands there.
                await _give_back(services, job, JobEvent.FAIL, f"{first.code} {first.pointer}".strip())
            case StateError() if outcome.code == REVOKED_CODE:
                await _cancel_revoked(services, job)
            case PrintsvcError():
                await _give_back(services, job, JobEvent.FAIL, outcome.code)
            case Exception():
                # Its text may hold what stands on the page: the class alone.
                _LOG.error("drawing failed", error=type(outcome).__name__, job_id=job.job_id)
                pause_s = max(pause_s, ERROR_PAUSE_S)
                await _put_back(services, job, "service-error")
            case _:
                raise outcome
    return ready, pause_s


async def _put_back(services: Services, job: PrintJob, reason: str, *, is_busy: bool = False) -> None:
    """Let a job wait again, behind the others: a page that never comes out must not block a whole site.

    When it is behind everything and still cannot be drawn, it fails and stands on the site's worklist.
    """
    if is_busy:
        await _give_back(services, job, JobEvent.RETURN, reason)
    elif job.priority > 1:
        await _give_back(services, job, JobEvent.RETURN, reason, priority=job.priority - 1)
    else:
        await _give_back(services, job, JobEvent.FAIL, reason)


async def _give_back(services: Services, job: PrintJob, event: JobEvent, reason: str, **values: object) -> None:
    now = services.clock()
    happening = Happening(event, now, "service", fencing_token=job.fencing_token, reason=reason[:64])
    values |= {"holder_agent": None, "holder_journal": None}

    def store(connection: Connection) -> None:
        current = job_store.get_job(connection, job.job_id, lock=True)
        if (current.state, current.fencing_token) == (JobState.LEASED, job.fencing_token):
            leases.apply_event(connection, current, happening, now=now, **values)

    await services.store.write(store)


async def _cancel_revoked(services: Services, job: PrintJob) -> None:
    """End a job that is leased and of which no paper is wanted any more: nobody has to look at it."""
    now = services.clock()

    def store(connection: Connection) -> None:
        current = job_store.get_job(connection, job.job_id, lock=True)
        if (current.state, current.fencing_token) != (JobState.LEASED, job.fencing_token):
            return
        for event in (JobEvent.FAIL, JobEvent.CANCEL):
            happening = Happening(event, now, "service", fencing_token=job.fencing_token, reason="certificate-revoked")
            current = leases.apply_event(connection, current, happening, now=now)

    await services.store.write(store)


async def _draw(services: Services, job: PrintJob, forms: Collection[str]) -> Ready:
    """Return the job with its document stored: drawn now, or before. Raises as `draw_certificate` does."""
    form_digest = await _stamped_with(services, job, forms)
    if job.document_sha256 is not None:
        sha256 = job.document_sha256

        def find(connection: Connection) -> tuple[int | None, PageData | None]:
            refuse_revoked(connection, job.uvci)
            size = site_store.find_document_size(connection, sha256)
            return size, _load_page(connection, job) if form_digest else None

        size, found = await services.store.read(find)
        if size is not None:
            return Ready(job, sha256, size, found, form_digest)
    page = await services.store.read(lambda c: _load_page(c, job))
    pdf = await services.renderer.render(FormId(job.form), page)

    def store(connection: Connection) -> str:
        sha256 = site_store.insert_document(connection, pdf, now=services.clock())
        job_store.set_document(connection, job.job_id, sha256)
        return sha256

    return Ready(job, await services.store.write(store), len(pdf), page if form_digest else None, form_digest)


async def _stamped_with(services: Services, job: PrintJob, forms: Collection[str]) -> str:
    """Return the digest of the job's compiled form where the agent holds it, else ""."""
    if not forms or services.shelf is None:
        return ""
    shelved = await services.shelf.find(FormId(job.form))
    return shelved.digest if shelved is not None and shelved.digest in forms else ""


async def draw_certificate(services: Services, job: PrintJob) -> bytes:
    """Return the PDF of one paper.

    Raises NotFoundError, RenderError, InputError for what the form cannot hold, StateError (certificate_revoked).
    """
    page = await services.store.read(lambda c: _load_page(c, job))
    return await services.renderer.render(FormId(job.form), page)


def _load_page(connection: Connection, job: PrintJob) -> PageData:
    refuse_revoked(connection, job.uvci)
    dose = dose_store.get_dose_of(connection, job.uvci)
    key = dose_store.person_key(dose.event.person)
    others = dose_store.doses_of_person(connection, key) if key else []
    sites = site_store.find_sites(connection, {dose.event.site_id, *(other.event.site_id for other in others)})
    names = {site_id: site.name for site_id, site in sites.items()}
    return page_of(dose, job=job, site=sites[dose.event.site_id], others=others, site_names=names)


async def fetch_document(services: Services, agent: Agent, sha256: str) -> bytes:
    """Return a document that one of the site's jobs prints. Raises NotFoundError, also for another site's."""

    def read(connection: Connection) -> bytes | None:
        if not job_store.site_prints(connection, agent.site_id, sha256):
            return None
        return site_store.find_document(connection, sha256)

    body = await services.store.read(read)
    if body is None:
        raise NotFoundError("There is no such document.", vi="Không có tài liệu này.")
    return body


async def report(
    services: Services, agent: Agent, journal_id: str, events: Sequence[tuple[str, Happening]]
) -> tuple[int, list[Told]]:
    """Apply (job_id, happening) pairs of a journal in order, each once; return (acknowledged, what became of each).

    An event that the job's state does not allow is kept in the ledger and changes nothing. A gap inside the batch stops
    the work there: what comes after it is not acknowledged. One before the batch is none: an agent keeps what was not
    acknowledged and sends the oldest first, so what is missing was acknowledged by this service before it was restored
    from a backup, or before the agent enrolled anew.
    """
    now = services.clock()

    def store(connection: Connection) -> tuple[int, list[Told]]:
        current = site_store.lock_agent(connection, agent.agent_id)
        last = current.acknowledged if current.journal_id == journal_id else job_store.last_seq(connection, journal_id)
        _leave_old_journal(connection, current, journal_id, now)
        told: list[Told] = []
        settled: list[str] = []
        in_order = sorted(events, key=lambda pair: pair[1].seq or 0)
        if in_order:
            last = max(last, (in_order[0][1].seq or 1) - 1)
        for job_id, happening in in_order:
            seq = happening.seq or 0
            if seq <= last:
                told.append(Told(seq, "duplicate", ""))
                continue
            if seq != last + 1:
                break
            last = seq
            told.append(_apply(connection, agent, job_id, replace(happening, journal_id=journal_id), now, settled))
        site_store.update_agent(connection, agent.agent_id, acknowledged=last, journal_id=journal_id, seen_at=now)
        site_store.delete_documents(connection, settled)
        return last, told

    return await services.store.write(store)


def _apply(
    connection: Connection, agent: Agent, job_id: str, happening: Happening, now: datetime, settled: list[str]
) -> Told:
    seq = happening.seq or 0
    try:
        job = job_store.get_job(connection, job_id, lock=True)
    except NotFoundError:
        return Told(seq, "refused", "")
    if job.site_id != agent.site_id:
        return Told(seq, "refused", "")  # and no word of the other site's job
    mine = (job.holder_agent, job.holder_journal) == (agent.agent_id, happening.journal_id)
    stale = not mine or happening.fencing_token != job.fencing_token
    if stale and happening.event in (JobEvent.RETURN, JobEvent.FAIL):
        # "No paper" from one who no longer holds the job says nothing about the one who does. Paper is a fact.
        job_store.write_refused(connection, job, replace(happening, reason="stale-fencing-token"), now=now)
        return Told(seq, "refused", job.state)
    values: dict[str, object] = {}
    if happening.event is JobEvent.RETURN:
        values |= {"holder_agent": None, "holder_journal": None}
    if happening.queue:
        values["queue"] = happening.queue
    if happening.attempt_id:
        values["attempt_id"] = happening.attempt_id
    values |= witness_values(happening)
    if happening.event is JobEvent.PRINT and job.state is JobState.FAILED:
        happening = replace(happening, reason="came-late")
    try:
        job = leases.apply_event(connection, job, happening, now=now, **values)
    except IllegalTransitionError:
        if happening.attempt_id == job.attempt_id and job.state in ON_PAPER:
            # A scan was quicker than the printer's word: the word is kept all the same.
            job_store.set_witness(connection, job.job_id, witness_values(happening))
        return Told(seq, "refused", job.state)
    if happening.event is JobEvent.RETURN:
        job = cancel_if_asked(connection, job, now=now)
    if job.state in ON_PAPER and job.document_sha256:
        settled.append(job.document_sha256)
    return Told(seq, "applied", job.state)


def _leave_old_journal(connection: Connection, agent: Agent, journal_id: str, now: datetime) -> int:
    if agent.journal_id == journal_id:
        return 0
    return leases.lose_holder(
        connection, agent_id=agent.agent_id, journal_id=agent.journal_id, now=now, reason="journal-lost"
    )


async def agent_seen(
    services: Services,
    agent: Agent,
    *,
    journal_id: str,
    version: str,
    clock_skew_ms: int | None,
    printers: Sequence[SitePrinter] | None,
    protocol: int | None = None,
) -> int:
    """Remember what an agent told of itself and its printers (None: nothing new).

    A new journal means that the old one is lost: what it held goes to a person. Return how many jobs that were.
    """
    now = services.clock()

    def store(connection: Connection) -> int:
        current = site_store.lock_agent(connection, agent.agent_id)
        values: dict[str, object] = {"seen_at": now, "version": version[:32], "clock_skew_ms": clock_skew_ms}
        values["protocol"] = protocol
        lost = _leave_old_journal(connection, current, journal_id, now)
        if current.journal_id != journal_id:
            values |= {"journal_id": journal_id, "acknowledged": job_store.last_seq(connection, journal_id)}
        site_store.update_agent(connection, agent.agent_id, **values)
        if printers is not None:
            site_store.replace_printers(connection, agent, printers)
        return lost

    return await services.store.write(store)
