"""Print jobs: making, leasing, and the ledger of what happened to each.

Every change of state goes through `apply_event`, which asks the transition table and writes the ledger in the same
transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, literal, or_, select, update

from printsvc.domain.site import SiteId
from printsvc.domain.uvci import Uvci
from printsvc.errors import IllegalTransitionError, NotFoundError
from printsvc.printing.job import NEEDS_A_PERSON, CopyReason, JobEvent, JobState, next_state
from printsvc.store.tables import job_events, print_jobs

# Written into the statement, not bound: a partial index serves only a query that says its condition outright.
_WAITING = literal("waiting", literal_execute=True)
_LEASED = literal("leased", literal_execute=True)


@dataclass(frozen=True, slots=True)
class PrintJob:
    """One paper wanted; see the columns of `print_jobs`."""

    job_id: str
    uvci: Uvci
    copy_number: int
    reason: CopyReason
    asked_by: str
    site_id: SiteId
    form: str
    media: str
    priority: int
    state: JobState
    state_reason: str
    created_at: datetime
    changed_at: datetime
    holder_agent: str | None = None
    holder_journal: str | None = None
    fencing_token: int = 0
    deadline: datetime | None = None
    document_sha256: str | None = None
    queue: str = ""
    attempt_id: str = ""
    witness: str = ""


@dataclass(frozen=True, slots=True)
class Happening:
    """What is told about a job: the event, when and by whom, and what else is known."""

    event: JobEvent
    at: datetime
    actor: str
    journal_id: str | None = None
    seq: int | None = None
    fencing_token: int = 0
    attempt_id: str = ""
    queue: str = ""
    reason: str = ""
    witness: str = ""
    impressions: int | None = None


def insert_jobs(connection: Connection, jobs: Sequence[PrintJob]) -> None:
    """Insert jobs as they are."""
    if jobs:
        connection.execute(insert(print_jobs), [{name: getattr(job, name) for name in _NAMES} for job in jobs])


def get_job(connection: Connection, job_id: str, *, lock: bool = False) -> PrintJob:
    """Return a job; with `lock` nobody else changes it until the transaction ends. Raises NotFoundError."""
    query = select(print_jobs).where(print_jobs.c.job_id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFoundError("There is no such print job.", vi="Không có lệnh in này.")
    return _job(row)


def jobs_of(connection: Connection, uvcis: Iterable[str]) -> list[PrintJob]:
    """Return all jobs of these certificates, by copy number."""
    query = select(print_jobs).where(print_jobs.c.uvci.in_(list(uvcis))).order_by(print_jobs.c.copy_number)
    return [_job(row) for row in connection.execute(query)]


def list_jobs(
    connection: Connection, *, site_id: str | None = None, states: Iterable[str] = (), limit: int = 200
) -> list[PrintJob]:
    """Return jobs, oldest change first."""
    query = select(print_jobs).order_by(print_jobs.c.changed_at, print_jobs.c.job_id).limit(limit)
    if site_id is not None:
        query = query.where(print_jobs.c.site_id == site_id)
    wanted = list(states)
    if wanted:
        query = query.where(print_jobs.c.state.in_(wanted))
    return [_job(row) for row in connection.execute(query)]


def jobs_for_a_person(connection: Connection, site_id: str) -> list[PrintJob]:
    """Return the jobs of a site that nobody but a person can settle."""
    return list_jobs(connection, site_id=site_id, states=NEEDS_A_PERSON)


def count_states(connection: Connection, site_id: str | None = None) -> dict[str, int]:
    """Return how many jobs are in each state."""
    query = select(print_jobs.c.state, func.count()).group_by(print_jobs.c.state)
    if site_id is not None:
        query = query.where(print_jobs.c.site_id == site_id)
    return dict(connection.execute(query).all())


def apply_event(
    connection: Connection, job: PrintJob, happening: Happening, *, now: datetime, **values: Any
) -> PrintJob:
    """Move the job by the table, write the ledger, and return the job as it is now.

    `values` are columns that change with it. An event that the state does not allow goes to the ledger as not applied,
    changes nothing else, and raises IllegalTransitionError; the caller's transaction keeps the ledger row.
    """
    try:
        after = next_state(job.state, happening.event)
    except IllegalTransitionError:
        _write_ledger(connection, job, happening, after=job.state, applied=False, now=now)
        raise
    changed = {"state": after, "state_reason": happening.reason, "changed_at": now} | values
    connection.execute(update(print_jobs).where(print_jobs.c.job_id == job.job_id).values(**changed))
    _write_ledger(connection, job, happening, after=after, applied=True, now=now)
    return get_job(connection, job.job_id)


def claim_waiting(
    connection: Connection,
    site_id: str,
    *,
    agent_id: str,
    journal_id: str,
    capacity: int,
    now: datetime,
    lease_s: float,
) -> list[PrintJob]:
    """Lease up to `capacity` waiting jobs of the site to (agent, journal): the most urgent, then the oldest."""
    if capacity <= 0:
        return []
    mine = and_(print_jobs.c.holder_agent == agent_id, print_jobs.c.holder_journal == journal_id)
    query = (
        select(print_jobs)
        .where(
            print_jobs.c.site_id == site_id,
            print_jobs.c.state == _WAITING,
            or_(print_jobs.c.holder_agent.is_(None), mine),
        )
        .order_by(print_jobs.c.priority.desc(), print_jobs.c.created_at)
        .limit(capacity)
        .with_for_update(skip_locked=True)
    )
    deadline = now + timedelta(seconds=lease_s)
    return [
        apply_event(
            connection,
            job,
            Happening(JobEvent.LEASE, now, agent_id, journal_id=None, fencing_token=job.fencing_token + 1),
            now=now,
            holder_agent=agent_id,
            holder_journal=journal_id,
            fencing_token=job.fencing_token + 1,
            deadline=deadline,
        )
        for job in [_job(row) for row in connection.execute(query)]
    ]


def expire_leases(connection: Connection, site_id: str, *, now: datetime) -> int:
    """Put jobs whose lease ran out back to waiting, for the same journal; return how many."""
    query = (
        select(print_jobs)
        .where(print_jobs.c.site_id == site_id, print_jobs.c.state == _LEASED, print_jobs.c.deadline < now)
        .with_for_update(skip_locked=True)
    )
    expired = [_job(row) for row in connection.execute(query)]
    for job in expired:
        happening = Happening(JobEvent.EXPIRE, now, "service", fencing_token=job.fencing_token, reason="lease-expired")
        apply_event(connection, job, happening, now=now)
    return len(expired)


def renew(
    connection: Connection,
    held: Sequence[tuple[str, int]],
    *,
    agent_id: str,
    journal_id: str,
    now: datetime,
    deadline: datetime,
) -> tuple[list[tuple[str, int]], list[str]]:
    """Prolong the leases of (job_id, fencing_token) pairs; return those that hold, and the ids of the others.

    A lease that ran out while the line was cut is taken up again, under a new token: nobody else could have had it.
    """
    if not held:
        return [], []
    # Locked, or a lease could expire in another transaction while it is prolonged here.
    query = select(print_jobs).where(print_jobs.c.job_id.in_([job_id for job_id, _ in held]))
    rows = connection.execute(query.order_by(print_jobs.c.job_id).with_for_update())
    jobs = {job.job_id: job for job in map(_job, rows)}
    kept: list[tuple[str, int]] = []
    dropped: list[str] = []
    for job_id, _token in held:
        job = jobs.get(job_id)
        mine = job is not None and (job.holder_agent, job.holder_journal) == (agent_id, journal_id)
        if job is None or not mine or job.state not in (JobState.LEASED, JobState.SENT, JobState.WAITING):
            dropped.append(job_id)
            continue
        if job.state is JobState.WAITING:
            token = job.fencing_token + 1
            happening = Happening(JobEvent.LEASE, now, agent_id, fencing_token=token, reason="renewed")
            job = apply_event(connection, job, happening, now=now, fencing_token=token, deadline=deadline)
        kept.append((job_id, job.fencing_token))
        if job.state is JobState.LEASED:
            connection.execute(update(print_jobs).where(print_jobs.c.job_id == job_id).values(deadline=deadline))
    return kept, dropped


def lose_holder(connection: Connection, *, agent_id: str, journal_id: str | None, now: datetime, reason: str) -> int:
    """The journal that knew is gone: its open jobs become uncertain. Return how many.

    `journal_id` None means every journal of the agent.
    """
    query = (
        select(print_jobs)
        .where(print_jobs.c.holder_agent == agent_id, print_jobs.c.state.in_(["waiting", "leased", "sent"]))
        .with_for_update()
    )
    if journal_id is not None:
        query = query.where(print_jobs.c.holder_journal == journal_id)
    lost = [_job(row) for row in connection.execute(query)]
    for job in lost:
        happening = Happening(JobEvent.HOLDER_LOST, now, "service", fencing_token=job.fencing_token, reason=reason)
        apply_event(connection, job, happening, now=now)
    return len(lost)


def sites_with_waiting_jobs(connection: Connection) -> list[str]:
    """Return the sites that have a job to lease."""
    query = select(print_jobs.c.site_id).where(print_jobs.c.state == _WAITING).distinct()
    return list(connection.execute(query).scalars())


def set_document(connection: Connection, job_id: str, sha256: str) -> None:
    """Remember which document the job prints."""
    connection.execute(update(print_jobs).where(print_jobs.c.job_id == job_id).values(document_sha256=sha256))


def site_prints(connection: Connection, site_id: str, sha256: str) -> bool:
    """Return whether one of the site's jobs prints this document."""
    query = select(print_jobs.c.job_id).where(print_jobs.c.document_sha256 == sha256, print_jobs.c.site_id == site_id)
    return connection.execute(query.limit(1)).first() is not None


def write_refused(connection: Connection, job: PrintJob, happening: Happening, *, now: datetime) -> None:
    """Keep an event in the ledger that changes nothing."""
    _write_ledger(connection, job, happening, after=job.state, applied=False, now=now)


def ledger_of(connection: Connection, job_id: str) -> list[Row[Any]]:
    """Return what happened to a job, in order."""
    query = select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.event_pk)
    return list(connection.execute(query))


_NAMES = tuple(column.name for column in print_jobs.columns)


def _job(row: Row[Any]) -> PrintJob:
    values = row._asdict()
    values["state"] = JobState(values["state"])
    values["reason"] = CopyReason(values["reason"])
    return PrintJob(**values)


def _write_ledger(
    connection: Connection, job: PrintJob, happening: Happening, *, after: JobState, applied: bool, now: datetime
) -> None:
    connection.execute(
        insert(job_events).values(
            job_id=job.job_id,
            event=happening.event,
            before=job.state,
            after=after,
            applied=applied,
            at=happening.at,
            recorded_at=now,
            actor=happening.actor,
            journal_id=happening.journal_id,
            seq=happening.seq,
            fencing_token=happening.fencing_token,
            attempt_id=happening.attempt_id,
            queue=happening.queue,
            reason=happening.reason,
            witness=happening.witness,
            impressions=happening.impressions,
        )
    )
