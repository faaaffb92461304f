"""Papers: climbs, scans, requests for copies, sightings in the app, and what of a site is open. Statements only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, case, func, insert, or_, select, update

from printsvc.domain.print_job import ON_PAPER, OPEN, CopyReason, JobState, PrintJob
from printsvc.store.doses import insert_or_ignore
from printsvc.store.jobs import job_from
from printsvc.store.paper_tables import app_sightings, copy_requests, job_climbs, paper_scans
from printsvc.store.tables import certificates, doses, print_jobs, sites

_JOB_NAMES = tuple(column.name for column in print_jobs.columns)


def _insert_once(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row; return False where its key is taken. Asked by RETURNING: the row count says -1 on PostgreSQL."""
    key = next(iter(table.primary_key))
    return connection.execute(insert_or_ignore(connection, table).values(**values).returning(key)).first() is not None


# --- the clock


def lock_climbing(connection: Connection, *, now: datetime, site_id: str | None = None, limit: int) -> list[PrintJob]:
    """Return jobs whose next step is due, of a site or of all, those that wait longest first.

    They are the caller's until the transaction ends; what another transaction has is passed over.
    """
    query = select(print_jobs).where(print_jobs.c.next_climb_at <= now)
    if site_id is not None:
        query = query.where(print_jobs.c.site_id == site_id)
    query = query.order_by(print_jobs.c.next_climb_at, print_jobs.c.job_id).limit(limit)
    return [job_from(row._asdict()) for row in connection.execute(query.with_for_update(skip_locked=True))]


def insert_climb(
    connection: Connection, job_id: str, step: int, *, priority: int, due_at: datetime, now: datetime
) -> bool:
    """Write a step into the ledger; return False where it was written before."""
    values = {"job_id": job_id, "step": step, "priority": priority, "due_at": due_at, "climbed_at": now}
    return _insert_once(connection, job_climbs, values)


def set_climbing(connection: Connection, job_id: str, *, priority: int, next_climb_at: datetime | None) -> None:
    values = {"priority": priority, "next_climb_at": next_climb_at}
    connection.execute(update(print_jobs).where(print_jobs.c.job_id == job_id).values(**values))


def climbs_of(connection: Connection, job_id: str) -> list[Row[Any]]:
    """Return the steps that a job climbed, in order."""
    return list(connection.execute(select(job_climbs).where(job_climbs.c.job_id == job_id).order_by(job_climbs.c.step)))


# --- scans


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """One scan-back; see the columns of `paper_scans`."""

    site_id: str | None
    at: datetime
    actor: str
    verdict: str
    uvci: str | None = None
    job_id: str | None = None
    expected_job_id: str | None = None
    copy_number: int | None = None
    settled: bool = False


def insert_scan(connection: Connection, scan: ScanRecord) -> None:
    connection.execute(insert(paper_scans).values(**{name: getattr(scan, name) for name in ScanRecord.__slots__}))


def scans_of(connection: Connection, job_id: str) -> list[Row[Any]]:
    """Return the scans of a paper, in order."""
    query = select(paper_scans).where(paper_scans.c.job_id == job_id).order_by(paper_scans.c.scan_pk)
    return list(connection.execute(query))


def count_scans(connection: Connection, site_id: str, *, since: datetime) -> dict[str, int]:
    """Return verdict → scans of a site since that moment."""
    query = select(paper_scans.c.verdict, func.count()).where(
        paper_scans.c.site_id == site_id, paper_scans.c.at >= since
    )
    return dict(connection.execute(query.group_by(paper_scans.c.verdict)).all())


def revoked_of_dose(connection: Connection, dose_pk: int) -> frozenset[str]:
    """Return the certificates of a dose that are revoked."""
    query = select(certificates.c.uvci).where(certificates.c.dose_pk == dose_pk, certificates.c.revoked_at.is_not(None))
    return frozenset(connection.execute(query).scalars())


# --- copies


def count_copies_asked(connection: Connection, site_id: str, *, asked_by: str, since: datetime) -> int:
    """Return how many further papers of a site somebody asked for since that moment."""
    query = select(func.count()).where(
        print_jobs.c.site_id == site_id,
        print_jobs.c.created_at >= since,
        print_jobs.c.reason != CopyReason.ISSUED,
        print_jobs.c.asked_by == asked_by,
    )
    return connection.execute(query).scalar_one()


def find_copy_request(connection: Connection, asked_by: str, request_id: str) -> Row[Any] | None:
    """Return a request that was made before."""
    query = select(copy_requests).where(copy_requests.c.asked_by == asked_by, copy_requests.c.request_id == request_id)
    return connection.execute(query).first()


def insert_copy_request(connection: Connection, request_id: str, job: PrintJob, *, now: datetime) -> bool:
    """Remember which paper a request made; return False where another one has that id."""
    values = {
        "asked_by": job.asked_by,
        "request_id": request_id,
        "uvci": job.uvci,
        "reason": job.reason,
        "job_id": job.job_id,
        "asked_at": now,
    }
    return _insert_once(connection, copy_requests, values)


# --- the app


def insert_sighting(connection: Connection, dose_pk: int, *, seen_at: datetime, now: datetime, told_by: str) -> bool:
    """Remember that a dose was seen in the person's app; return False where it was before, which stays."""
    values = {"dose_pk": dose_pk, "seen_at": seen_at, "recorded_at": now, "told_by": told_by}
    return _insert_once(connection, app_sightings, values)


def find_sighting(connection: Connection, dose_pk: int) -> datetime | None:
    return connection.execute(
        select(app_sightings.c.seen_at).where(app_sightings.c.dose_pk == dose_pk)
    ).scalar_one_or_none()


# --- what is open


@dataclass(frozen=True, slots=True)
class SitePaper:
    """The newest paper of a dose, with what a screen tells of the dose."""

    job: PrintJob
    dose_pk: int
    dose_id: str
    full_name: str
    injected_at: datetime
    seen_in_app_at: datetime | None


def open_papers(
    connection: Connection, *, site_id: str | None = None, province: str | None = None, limit: int = 500
) -> list[SitePaper]:
    """Return the papers of a site or a province that somebody waits for, those wanted longest first.

    Of those that a later paper of the same dose replaces, only the uncertain: nobody waits for them any more, but
    somebody may find one at the printer.
    """
    query = _papers().where(print_jobs.c.state.in_(OPEN))
    if site_id is not None:
        query = query.where(print_jobs.c.site_id == site_id)
    if province is not None:
        query = query.where(print_jobs.c.site_id.in_(select(sites.c.site_id).where(sites.c.province == province)))
        query = query.where(print_jobs.c.reason != CopyReason.RENEWED)  # made for its code: nobody waits for it
    clock_from = func.coalesce(print_jobs.c.clock_from, print_jobs.c.created_at)
    return _site_papers(connection, query.order_by(clock_from, print_jobs.c.job_id).limit(limit))


def papers_out_since(connection: Connection, site_id: str, since: datetime, *, limit: int = 200) -> list[SitePaper]:
    """Return the papers of a site that were wanted since that moment and are out, the newest first."""
    query = _papers().where(
        print_jobs.c.site_id == site_id, print_jobs.c.created_at >= since, print_jobs.c.state.in_(ON_PAPER)
    )
    return _site_papers(connection, query.order_by(print_jobs.c.created_at.desc(), print_jobs.c.job_id).limit(limit))


def _papers() -> Any:
    return (
        select(
            *print_jobs.columns,
            doses.c.dose_pk,
            doses.c.dose_id,
            doses.c.event,
            doses.c.injected_at,
            app_sightings.c.seen_at,
        )
        .join_from(print_jobs, certificates, certificates.c.uvci == print_jobs.c.uvci)
        .join(doses, doses.c.dose_pk == certificates.c.dose_pk)
        .outerjoin(app_sightings, app_sightings.c.dose_pk == doses.c.dose_pk)
        .where(_counts())
    )


def _counts() -> ColumnElement[bool]:
    return or_(print_jobs.c.state == JobState.UNCERTAIN, ~_is_replaced())


def _is_replaced() -> ColumnElement[bool]:
    later, theirs = print_jobs.alias("later"), certificates.alias("theirs")
    return (
        select(later.c.job_id)
        .join(theirs, theirs.c.uvci == later.c.uvci)
        .where(
            theirs.c.dose_pk == certificates.c.dose_pk,
            later.c.copy_number > print_jobs.c.copy_number,
            later.c.state != JobState.CANCELED,
        )
        .exists()
    )


def _site_papers(connection: Connection, query: Any) -> list[SitePaper]:
    found = []
    for row in connection.execute(query):
        values = row._asdict()
        found.append(
            SitePaper(
                job=job_from({name: values[name] for name in _JOB_NAMES}),
                dose_pk=row.dose_pk,
                dose_id=row.dose_id,
                full_name=row.event["person"]["full_name"],
                injected_at=row.injected_at,
                seen_in_app_at=row.seen_at,
            )
        )
    return found


# --- figures


def count_day(connection: Connection, site_id: str, *, since: datetime) -> dict[str, int]:
    """Return what a site's papers of a day came to: first papers and copies wanted, out, confirmed; seen in the app."""

    def number(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    first = print_jobs.c.reason == CopyReason.ISSUED
    query = (
        select(
            number(first).label("certificates"),
            number(~first).label("copies"),
            number(print_jobs.c.state.in_(ON_PAPER)).label("printed"),
            number(print_jobs.c.state == JobState.CONFIRMED).label("confirmed"),
            number(and_(first, app_sightings.c.dose_pk.is_not(None))).label("seen_in_app"),
        )
        .join_from(print_jobs, certificates, certificates.c.uvci == print_jobs.c.uvci)
        .outerjoin(app_sightings, app_sightings.c.dose_pk == certificates.c.dose_pk)
        .where(print_jobs.c.site_id == site_id, print_jobs.c.created_at >= since)
    )
    return {name: int(value) for name, value in connection.execute(query).one()._asdict().items()}


def uncertain_since(connection: Connection, site_id: str | None = None) -> tuple[int, datetime | None]:
    """Return how many papers are uncertain, of a site or of all, and since when the oldest of them is."""
    query = select(func.count(), func.min(print_jobs.c.changed_at)).where(print_jobs.c.state == JobState.UNCERTAIN)
    if site_id is not None:
        query = query.where(print_jobs.c.site_id == site_id)
    count, oldest = connection.execute(query).one()
    return count, oldest


def open_by_site(connection: Connection, province: str) -> dict[str, dict[str, int]]:
    """Return site → state → open papers, of the sites of a province."""
    found: dict[str, dict[str, int]] = {}
    query = (
        select(print_jobs.c.site_id, print_jobs.c.state, func.count())
        .join_from(print_jobs, certificates, certificates.c.uvci == print_jobs.c.uvci)
        .where(
            print_jobs.c.site_id.in_(select(sites.c.site_id).where(sites.c.province == province)),
            print_jobs.c.state.in_(OPEN),
            _counts(),
        )
        .group_by(print_jobs.c.site_id, print_jobs.c.state)
    )
    for site_id, state, number in connection.execute(query):
        found.setdefault(site_id, {})[state] = number
    return found


def sites_of_province(connection: Connection, province: str) -> list[Row[Any]]:
    """Return (site_id, name) of a province's sites."""
    query = select(sites.c.site_id, sites.c.name).where(sites.c.province == province).order_by(sites.c.site_id)
    return list(connection.execute(query))


def dose_pks_of(connection: Connection, uvcis: Iterable[str]) -> dict[str, int]:
    """Return UVCI → dose of these certificates, those that exist."""
    query = select(certificates.c.uvci, certificates.c.dose_pk).where(certificates.c.uvci.in_(list(uvcis)))
    return dict(connection.execute(query).all())
