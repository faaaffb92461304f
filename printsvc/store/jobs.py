"""Print jobs: statements, and the ledger of what happened to each. Which move is allowed is decided above."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, exists, func, insert, literal, or_, select, update

from printsvc.domain.print_job import NEEDS_A_PERSON, UNDER_WAY, CopyReason, Happening, JobState, PrintJob
from printsvc.errors import NotFoundError
from printsvc.store.printertables import job_wishes
from printsvc.store.tables import certificates, job_events, print_jobs

# Written into the statement, not bound: a partial index serves only a query that says its condition outright.
_WAITING = literal("waiting", literal_execute=True)
_LEASED = literal("leased", literal_execute=True)


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


def jobs_of_family(connection: Connection, uvci: str) -> list[PrintJob]:
    """Return the jobs of all certificates of this one's dose, by copy number."""
    query = select(certificates.c.dose_pk).where(certificates.c.uvci == uvci)
    dose_pk = connection.execute(query).scalar_one_or_none()
    return jobs_of_doses(connection, [dose_pk]).get(dose_pk, []) if dose_pk is not None else []


def jobs_of_doses(connection: Connection, dose_pks: Iterable[int]) -> dict[int, list[PrintJob]]:
    """Return dose_pk → the jobs of all certificates that the dose ever had, by copy number."""
    found: dict[int, list[PrintJob]] = {}
    query = (
        select(certificates.c.dose_pk, *print_jobs.columns)
        .join(certificates, certificates.c.uvci == print_jobs.c.uvci)
        .where(certificates.c.dose_pk.in_(list(dose_pks)))
        .order_by(print_jobs.c.copy_number, print_jobs.c.created_at)
    )
    for row in connection.execute(query):
        values = row._asdict()
        found.setdefault(values.pop("dose_pk"), []).append(job_from(values))
    return found


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


def jobs_under_way_since(connection: Connection, site_id: str, before: datetime) -> list[PrintJob]:
    """Return the jobs of a site that were made before that moment and are under way still, oldest first."""
    query = select(print_jobs).where(
        print_jobs.c.site_id == site_id, print_jobs.c.state.in_(UNDER_WAY), print_jobs.c.created_at < before
    )
    return _jobs(connection, query.order_by(print_jobs.c.created_at, print_jobs.c.job_id).limit(200))


def count_states(connection: Connection, site_id: str | None = None) -> dict[str, int]:
    """Return how many jobs are in each state."""
    query = select(print_jobs.c.state, func.count()).group_by(print_jobs.c.state)
    if site_id is not None:
        query = query.where(print_jobs.c.site_id == site_id)
    return dict(connection.execute(query).all())


def move_job(
    connection: Connection, job: PrintJob, happening: Happening, after: JobState, *, now: datetime, **values: Any
) -> PrintJob:
    """Put the job in the state `after`, write the ledger, and return the job as it is now.

    `values` are columns that change with it.
    """
    changed: dict[str, Any] = {"state": after, "state_reason": happening.reason, "changed_at": now} | values
    connection.execute(update(print_jobs).where(print_jobs.c.job_id == job.job_id).values(**changed))
    _write_ledger(connection, job, happening, after=after, applied=True, now=now)
    return replace(job, **changed)


def write_refused(connection: Connection, job: PrintJob, happening: Happening, *, now: datetime) -> None:
    """Keep an event in the ledger that changes nothing."""
    _write_ledger(connection, job, happening, after=job.state, applied=False, now=now)


def set_deadline(connection: Connection, job_id: str, deadline: datetime) -> None:
    connection.execute(update(print_jobs).where(print_jobs.c.job_id == job_id).values(deadline=deadline))


def lock_waiting(connection: Connection, site_id: str, *, agent_id: str, journal_id: str, limit: int) -> list[PrintJob]:
    """Return jobs of the site that (agent, journal) may take, the most urgent first, then the oldest.

    They are the caller's until the transaction ends; what another transaction has is passed over, and what an operator
    keeps back.
    """
    mine = and_(print_jobs.c.holder_agent == agent_id, print_jobs.c.holder_journal == journal_id)
    free = or_(print_jobs.c.holder_agent.is_(None), mine)
    kept = exists().where(job_wishes.c.job_id == print_jobs.c.job_id, job_wishes.c.kept)
    query = select(print_jobs).where(print_jobs.c.site_id == site_id, print_jobs.c.state == _WAITING, free, ~kept)
    query = query.order_by(print_jobs.c.priority.desc(), print_jobs.c.created_at).limit(limit)
    return _jobs(connection, query.with_for_update(skip_locked=True))


def lock_overdue(connection: Connection, site_id: str, *, now: datetime) -> list[PrintJob]:
    """Return the leased jobs of a site whose deadline is over."""
    query = select(print_jobs).where(
        print_jobs.c.site_id == site_id, print_jobs.c.state == _LEASED, print_jobs.c.deadline < now
    )
    return _jobs(connection, query.with_for_update(skip_locked=True))


def lock_leased_to(connection: Connection, site_id: str, *, agent_id: str, journal_id: str) -> list[PrintJob]:
    """Return the jobs that are leased to (agent, journal)."""
    query = select(print_jobs).where(
        print_jobs.c.site_id == site_id,
        print_jobs.c.state == _LEASED,
        print_jobs.c.holder_agent == agent_id,
        print_jobs.c.holder_journal == journal_id,
    )
    return _jobs(connection, query.with_for_update())


def lock_open_of(connection: Connection, *, agent_id: str, journal_id: str | None) -> list[PrintJob]:
    """Return the jobs under way that an agent holds or held last; `journal_id` None means in any journal."""
    query = select(print_jobs).where(print_jobs.c.holder_agent == agent_id, print_jobs.c.state.in_(UNDER_WAY))
    if journal_id is not None:
        query = query.where(print_jobs.c.holder_journal == journal_id)
    return _jobs(connection, query.with_for_update())


def lock_jobs(connection: Connection, job_ids: Iterable[str]) -> dict[str, PrintJob]:
    """Return these jobs by id, those that exist; always locked in one order."""
    query = select(print_jobs).where(print_jobs.c.job_id.in_(list(job_ids))).order_by(print_jobs.c.job_id)
    return {job.job_id: job for job in _jobs(connection, query.with_for_update())}


def sites_with_waiting_jobs(connection: Connection) -> list[str]:
    """Return the sites that have a job to lease."""
    query = select(print_jobs.c.site_id).where(print_jobs.c.state == _WAITING).distinct()
    return list(connection.execute(query).scalars())


def find_sites_with_work(connection: Connection, site_ids: Sequence[str]) -> dict[str, frozenset[JobState]]:
    """Return site → which of waiting and leased its jobs are, where there are any; from the two partial indexes."""
    found: dict[str, frozenset[JobState]] = {}
    for state, condition in ((JobState.WAITING, _WAITING), (JobState.LEASED, _LEASED)):
        query = select(print_jobs.c.site_id).where(print_jobs.c.state == condition, print_jobs.c.site_id.in_(site_ids))
        for site_id in connection.execute(query.distinct()).scalars():
            found[site_id] = found.get(site_id, frozenset()) | {state}
    return found


def set_priority(connection: Connection, job_id: str, priority: int) -> None:
    connection.execute(update(print_jobs).where(print_jobs.c.job_id == job_id).values(priority=priority))


def jobs_of_site(connection: Connection, site_id: str, job_ids: Iterable[str]) -> set[str]:
    """Return those of the jobs that are the site's."""
    query = select(print_jobs.c.job_id).where(print_jobs.c.job_id.in_(list(job_ids)), print_jobs.c.site_id == site_id)
    return set(connection.execute(query).scalars())


def set_document(connection: Connection, job_id: str, sha256: str) -> None:
    """Remember which document the job prints."""
    connection.execute(update(print_jobs).where(print_jobs.c.job_id == job_id).values(document_sha256=sha256))


def set_witness(connection: Connection, job_id: str, values: Mapping[str, object]) -> None:
    """Keep what the printer said of a job whose state it does not change."""
    if values:
        connection.execute(update(print_jobs).where(print_jobs.c.job_id == job_id).values(**values))


def site_prints(connection: Connection, site_id: str, sha256: str) -> bool:
    """Return whether one of the site's jobs prints this document."""
    query = select(print_jobs.c.job_id).where(print_jobs.c.document_sha256 == sha256, print_jobs.c.site_id == site_id)
    return connection.execute(query.limit(1)).first() is not None


def last_seq(connection: Connection, journal_id: str) -> int:
    """Return the highest number that the ledger has of a journal, 0 for one that is new here."""
    query = select(func.max(job_events.c.seq)).where(job_events.c.journal_id == journal_id)
    return connection.execute(query).scalar() or 0


def ledger_of(connection: Connection, job_id: str) -> list[Row[Any]]:
    """Return what happened to a job, in order."""
    query = select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.event_pk)
    return list(connection.execute(query))


def _jobs(connection: Connection, query: Any) -> list[PrintJob]:
    return [_job(row) for row in connection.execute(query)]


_NAMES = tuple(column.name for column in print_jobs.columns)


def _job(row: Row[Any]) -> PrintJob:
    return job_from(row._asdict())


def job_from(values: dict[str, Any]) -> PrintJob:
    """Return the job of a row's values by column."""
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
            printer_said=happening.printer_said or None,
            printer_said_at=happening.printer_said_at,
        )
    )
