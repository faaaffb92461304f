"""Moving print jobs by the table: leases, their end, and what is lost with an agent. In the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from printsvc.domain.print_job import UNDER_WAY, Happening, JobEvent, JobState, PrintJob
from printsvc.errors import IllegalTransitionError
from printsvc.printing.job import next_state
from printsvc.store import jobs as job_store

SERVICE = "service"


def apply_event(
    connection: Connection, job: PrintJob, happening: Happening, *, now: datetime, **values: Any
) -> PrintJob:
    """Move the job by the table, write the ledger, and return the job as it is now.

    `values` are columns that change with it. An event that the state does not allow goes to the ledger as not applied,
    changes nothing else, and raises IllegalTransitionError; who catches it in the transaction keeps the ledger row.
    """
    try:
        after = next_state(job.state, happening.event)
    except IllegalTransitionError:
        job_store.write_refused(connection, job, happening, now=now)
        raise
    return job_store.move_job(connection, job, happening, after, now=now, **values)


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
    free = job_store.lock_waiting(connection, site_id, agent_id=agent_id, journal_id=journal_id, limit=capacity)
    return [
        apply_event(
            connection,
            job,
            Happening(JobEvent.LEASE, now, agent_id, fencing_token=job.fencing_token + 1),
            now=now,
            holder_agent=agent_id,
            holder_journal=journal_id,
            fencing_token=job.fencing_token + 1,
            deadline=now + timedelta(seconds=lease_s),
        )
        for job in free
    ]


def expire_leases(connection: Connection, site_id: str, *, now: datetime) -> int:
    """Put jobs whose lease ran out back to waiting, for the same journal; return how many."""
    overdue = job_store.lock_overdue(connection, site_id, now=now)
    for job in overdue:
        _by_service(connection, job, JobEvent.EXPIRE, "lease-expired", now)
    return len(overdue)


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

    A lease that ran out while the line was cut is taken up again under its token: nobody else could have had it.
    """
    if not held:
        return [], []
    # Locked, or a lease could expire in another transaction while it is prolonged here.
    jobs = job_store.lock_jobs(connection, [job_id for job_id, _ in held])
    kept: list[tuple[str, int]] = []
    dropped: list[str] = []
    for job_id, _ in held:
        job = jobs.get(job_id)
        if (
            job is None
            or (job.holder_agent, job.holder_journal) != (agent_id, journal_id)
            or job.state not in UNDER_WAY
        ):
            dropped.append(job_id)
            continue
        if job.state is JobState.WAITING:
            happening = Happening(JobEvent.LEASE, now, agent_id, fencing_token=job.fencing_token, reason="renewed")
            apply_event(connection, job, happening, now=now, deadline=deadline)
        elif job.state is JobState.LEASED:
            job_store.set_deadline(connection, job_id, deadline)
        kept.append((job_id, job.fencing_token))
    return kept, dropped


def take_back_unanswered(
    connection: Connection, held: Iterable[str], site_id: str, *, agent_id: str, journal_id: str, now: datetime
) -> int:
    """Put jobs back to waiting whose lease the journal never got: the line was cut, or the agent died, before.

    `held` are all the jobs that the journal knows and whose end was not acknowledged. Return how many.
    """
    known = set(held)
    leased = job_store.lock_leased_to(connection, site_id, agent_id=agent_id, journal_id=journal_id)
    unanswered = [job for job in leased if job.job_id not in known]
    for job in unanswered:
        _by_service(connection, job, JobEvent.EXPIRE, "answer-lost", now)
    return len(unanswered)


def lose_holder(connection: Connection, *, agent_id: str, journal_id: str | None, now: datetime, reason: str) -> int:
    """The journal that knew is gone: its open jobs become uncertain. Return how many.

    `journal_id` None means every journal of the agent.
    """
    lost = job_store.lock_open_of(connection, agent_id=agent_id, journal_id=journal_id)
    for job in lost:
        _by_service(connection, job, JobEvent.HOLDER_LOST, reason, now)
    return len(lost)


def _by_service(connection: Connection, job: PrintJob, event: JobEvent, reason: str, now: datetime) -> None:
    happening = Happening(event, now, SERVICE, fencing_token=job.fencing_token, reason=reason)
    apply_event(connection, job, happening, now=now)
