"""Issuing again: which certificates a run means, its items, its ledger, and what replaced what.

In the caller's transaction. A run's writers hold the lock of revocations, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, insert, literal, or_, select, update

from printsvc.domain.dose import DoseEvent
from printsvc.domain.eventdocument import event_from_document
from printsvc.domain.print_job import JobState
from printsvc.domain.revocation import RevocationReason
from printsvc.store.doses import insert_or_ignore
from printsvc.store.revocations import MAX_PARAMETERS, DoseQuery, Revocable, where_query
from printsvc.store.tables import certificates, doses, print_jobs, reissue_chunks, reissue_items, reissue_runs

# Written into the statement, not bound: the index of open items is partial.
_OPEN = literal("", literal_execute=True)
ON_PAPER = (JobState.PRINTED, JobState.CONFIRMED, JobState.UNCERTAIN, JobState.SENT)
"""A paper exists, or may exist."""


class ItemOutcome(StrEnum):
    ISSUED = "issued"
    ALREADY = "already"  # another run, or another process of this one, was here
    REVOKED = "revoked"  # it no longer counts: it must not come back
    FAILED = "failed"  # no certificate can be made of its dose; `problem` says why


@dataclass(frozen=True, slots=True)
class Selection:
    """Which certificates: what `query` means, those that end before a time, or both."""

    query: DoseQuery
    expiring_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class SignerShare:
    kid: str
    certificates: int
    revoked: int


@dataclass(frozen=True, slots=True)
class SiteShare:
    """`papers` exist, or may exist, and have the old code."""

    site_id: str
    certificates: int
    papers: int


@dataclass(frozen=True, slots=True)
class Item:
    """One certificate of a run, and what came of it."""

    line: int
    uvci: str
    outcome: str = ""
    new_uvci: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A certificate that is to be issued again, and the dose that it is of."""

    dose_pk: int
    event: DoseEvent
    version: int
    old: Revocable


@dataclass(frozen=True, slots=True)
class Standing:
    """How a certificate stands now. `newest` is the highest version that its dose has."""

    dose_pk: int
    version: int
    newest: int
    kid: str
    is_superseded: bool
    revoked_for: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """`asked` is the selection; `papers` are print jobs that were made; `working_s` is spent in its transactions."""

    run_id: str
    asked: dict[str, Any]
    is_printed: bool
    revokes_old: bool
    asked_by: str
    begun_at: datetime
    total: int
    ended_at: datetime | None
    issued: int = 0
    already: int = 0
    revoked: int = 0
    failed: int = 0
    papers: int = 0
    chunks: int = 0
    stored_at: datetime | None = None

    @property
    def left(self) -> int:
        return self.total - self.issued - self.already - self.revoked - self.failed


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row of the ledger: what one transaction of a run did, in `seconds`, under the signer `kid`."""

    run_id: str
    first_line: int
    last_line: int
    kid: str
    issued: int
    already: int
    revoked: int
    failed: int
    papers: int
    seconds: float
    stored_at: datetime


def select_certificates(selection: Selection, *columns: Any) -> Any:
    """Return a SELECT of the newest certificates of their doses that a selection means and that may be issued again.

    One that is revoked may not, unless it was for its signer's sake: its holder has done nothing.
    """
    newer = certificates.alias("newer")
    found = (
        select(*columns)
        .select_from(certificates.join(doses, doses.c.dose_pk == certificates.c.dose_pk))
        .where(
            certificates.c.superseded_by.is_(None),
            or_(
                certificates.c.revoked_at.is_(None),
                certificates.c.revocation_reason == RevocationReason.SIGNER_COMPROMISED.value,
            ),
            ~select(newer.c.uvci)
            .where(newer.c.dose_pk == certificates.c.dose_pk, newer.c.version > certificates.c.version)
            .exists(),
        )
    )
    if selection.expiring_before is not None:
        found = found.where(certificates.c.expires_at < selection.expiring_before)
    return where_query(found, selection.query)


def count_by_signer(connection: Connection, selection: Selection) -> list[SignerShare]:
    """Return how many certificates a selection means, by signer; `revoked` of them are, for its sake."""
    revoked = func.sum(case((certificates.c.revoked_at.is_not(None), 1), else_=0))
    query = select_certificates(selection, certificates.c.kid, func.count(), revoked).group_by(certificates.c.kid)
    rows = connection.execute(query.order_by(certificates.c.kid))
    return [SignerShare(kid, number, int(gone)) for kid, number, gone in rows]


def count_by_site(connection: Connection, selection: Selection) -> list[SiteShare]:
    """Return how many certificates a selection means, and how many papers of them are out, by the dose's site."""
    numbers = select_certificates(selection, doses.c.site_id, func.count()).group_by(doses.c.site_id)
    chosen = select_certificates(selection, certificates.c.uvci, doses.c.site_id).subquery()
    papers = (
        select(chosen.c.site_id, func.count())
        .join(print_jobs, print_jobs.c.uvci == chosen.c.uvci)
        .where(print_jobs.c.state.in_(ON_PAPER))
        .group_by(chosen.c.site_id)
    )
    out: dict[str, int] = dict(connection.execute(papers).all())
    rows = connection.execute(numbers.order_by(doses.c.site_id))
    return [SiteShare(site_id, number, out.get(site_id, 0)) for site_id, number in rows]


def insert_run(connection: Connection, run: Run) -> bool:
    """Store a run; return False where there is one with that id."""
    values = {name: getattr(run, name) for name in _RUN_COLUMNS}
    statement = insert_or_ignore(connection, reissue_runs).values(values)
    return connection.execute(statement.returning(reissue_runs.c.run_id)).first() is not None


def insert_items(connection: Connection, run_id: str, selection: Selection) -> int:
    """Store what a selection means as the items of a run, site by site; return how many."""
    found = select_certificates(selection, certificates.c.uvci, doses.c.site_id, doses.c.dose_pk).subquery()
    numbered = select(
        literal(run_id),
        func.row_number().over(order_by=(found.c.site_id, found.c.dose_pk)),
        found.c.uvci,
        literal(""),
        literal(""),
    )
    columns = ["run_id", "line", "uvci", "outcome", "problem"]
    connection.execute(insert(reissue_items).from_select(columns, numbered))
    counted = select(func.count()).select_from(reissue_items).where(reissue_items.c.run_id == run_id)
    return connection.execute(counted).scalar_one()


def open_items(connection: Connection, run_id: str, *, after: int = 0, limit: int) -> list[Item]:
    """Return the next items of a run that are not done, those after the line `after`."""
    query = select(reissue_items.c.line, reissue_items.c.uvci).where(
        reissue_items.c.run_id == run_id, reissue_items.c.outcome == _OPEN, reissue_items.c.line > after
    )
    return [Item(*row) for row in connection.execute(query.order_by(reissue_items.c.line).limit(limit))]


def lines_left(connection: Connection, run_id: str, first: int, last: int) -> set[int]:
    """Return the lines from `first` to `last` that are not done."""
    query = select(reissue_items.c.line).where(
        reissue_items.c.run_id == run_id, reissue_items.c.outcome == _OPEN, reissue_items.c.line.between(first, last)
    )
    return set(connection.execute(query).scalars())


def load_candidates(connection: Connection, uvcis: Iterable[str]) -> dict[str, Candidate]:
    """Return UVCI → what it takes to issue it again."""
    found: dict[str, Candidate] = {}
    for some in _parts(uvcis):
        query = (
            select(
                certificates.c.dose_pk,
                certificates.c.uvci,
                certificates.c.version,
                certificates.c.hcert,
                certificates.c.kid,
                certificates.c.expires_at,
                doses.c.event,
            )
            .join(doses, doses.c.dose_pk == certificates.c.dose_pk)
            .where(certificates.c.uvci.in_(some))
        )
        for row in connection.execute(query):
            old = Revocable(row.uvci, row.hcert, row.kid, row.expires_at)
            found[row.uvci] = Candidate(row.dose_pk, event_from_document(row.event), row.version, old)
    return found


def standings(connection: Connection, uvcis: Iterable[str]) -> dict[str, Standing]:
    """Return UVCI → how it stands now."""
    other = certificates.alias("other")
    newest = select(func.max(other.c.version)).where(other.c.dose_pk == certificates.c.dose_pk).scalar_subquery()
    found: dict[str, Standing] = {}
    for some in _parts(uvcis):
        query = select(
            certificates.c.uvci,
            certificates.c.dose_pk,
            certificates.c.version,
            newest.label("newest"),
            certificates.c.kid,
            certificates.c.superseded_by,
            certificates.c.revoked_at,
            certificates.c.revocation_reason,
        ).where(certificates.c.uvci.in_(some))
        for row in connection.execute(query):
            revoked_for = row.revocation_reason if row.revoked_at is not None else None
            superseded = row.superseded_by is not None
            found[row.uvci] = Standing(row.dose_pk, row.version, row.newest, row.kid, superseded, revoked_for)
    return found


def supersede(connection: Connection, pairs: Mapping[str, str], *, now: datetime) -> None:
    """Mark certificates (old UVCI → new UVCI) as replaced."""
    if pairs:
        statement = update(certificates).where(certificates.c.uvci == bindparam("old"))
        connection.execute(
            statement.values(superseded_by=bindparam("new"), superseded_at=now),
            [{"old": old, "new": new} for old, new in pairs.items()],
        )


def end_items(connection: Connection, run_id: str, items: Sequence[Item]) -> None:
    """Write what came of items."""
    if items:
        statement = update(reissue_items).where(
            reissue_items.c.run_id == run_id, reissue_items.c.line == bindparam("of_line")
        )
        connection.execute(
            statement.values(outcome=bindparam("came"), new_uvci=bindparam("made"), problem=bindparam("why")),
            [{"of_line": one.line, "came": one.outcome, "made": one.new_uvci, "why": one.problem} for one in items],
        )


def insert_chunk(connection: Connection, chunk: Chunk) -> None:
    """Write the ledger. The caller holds the lock of revocations."""
    last = select(func.max(reissue_chunks.c.chunk)).where(reissue_chunks.c.run_id == chunk.run_id)
    number = (connection.execute(last).scalar() or 0) + 1
    connection.execute(
        insert(reissue_chunks).values(chunk=number, **{one.name: getattr(chunk, one.name) for one in fields(Chunk)})
    )


def end_run(connection: Connection, run_id: str, *, now: datetime) -> None:
    """Mark a run as done."""
    connection.execute(
        update(reissue_runs)
        .where(reissue_runs.c.run_id == run_id, reissue_runs.c.ended_at.is_(None))
        .values(ended_at=now)
    )


def find_run(connection: Connection, run_id: str) -> Run | None:
    """Return a run with what its ledger has."""
    found = connection.execute(_runs().where(reissue_runs.c.run_id == run_id)).first()
    return None if found is None else _run(found)


def list_runs(connection: Connection, *, limit: int, is_open: bool | None = None) -> list[Run]:
    """Return runs, newest first."""
    query = _runs().order_by(reissue_runs.c.begun_at.desc(), reissue_runs.c.run_id).limit(limit)
    if is_open is not None:
        query = query.where(reissue_runs.c.ended_at.is_(None) if is_open else reissue_runs.c.ended_at.is_not(None))
    return [_run(row) for row in connection.execute(query)]


def list_items(
    connection: Connection, run_id: str, *, outcome: str | None = None, after: int = 0, limit: int = 1000
) -> list[Item]:
    """Return items of a run in their order, those after the line `after`."""
    query = select(*(reissue_items.c[one.name] for one in fields(Item)))
    query = query.where(reissue_items.c.run_id == run_id, reissue_items.c.line > after)
    if outcome is not None:
        query = query.where(reissue_items.c.outcome == outcome)
    return [Item(*row) for row in connection.execute(query.order_by(reissue_items.c.line).limit(limit))]


def problems_of(connection: Connection, run_id: str) -> dict[str, int]:
    """Return problem → how many items of a run failed for it."""
    query = (
        select(reissue_items.c.problem, func.count())
        .where(reissue_items.c.run_id == run_id, reissue_items.c.outcome == ItemOutcome.FAILED.value)
        .group_by(reissue_items.c.problem)
        .order_by(reissue_items.c.problem)
    )
    return dict(connection.execute(query).all())


def last_rate(connection: Connection) -> float | None:
    """Return certificates a second of the last run that made many; None where there was none."""
    query = (
        select(
            func.sum(reissue_chunks.c.issued).label("issued"),
            func.min(reissue_chunks.c.stored_at).label("first"),
            func.max(reissue_chunks.c.stored_at).label("last"),
        )
        .group_by(reissue_chunks.c.run_id)
        .having(func.count() >= 10)
        .order_by(func.max(reissue_chunks.c.stored_at).desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None or row.last <= row.first:
        return None
    seconds: float = (row.last - row.first).total_seconds()
    return int(row.issued) / seconds


# --- papers with an old code


def count_stale_papers(connection: Connection, *, now: datetime) -> list[dict[str, Any]]:
    """Return for each site how many papers have the code of a certificate that was issued again.

    `invalid` of them no longer pass: revoked, expired. `replaced` of them have a newer paper.
    """
    dead = or_(certificates.c.revoked_at.is_not(None), certificates.c.expires_at <= now)
    query = (
        _stale(print_jobs.c.site_id)
        .add_columns(
            func.count().label("papers"),
            func.sum(case((dead, 1), else_=0)).label("invalid"),
            func.sum(case((_has_newer_paper(), 1), else_=0)).label("replaced"),
        )
        .group_by(print_jobs.c.site_id)
        .order_by(print_jobs.c.site_id)
    )
    return [
        {name: value if name == "site_id" else int(value) for name, value in row._asdict().items()}
        for row in connection.execute(query)
    ]


def stale_papers(connection: Connection, site_id: str, *, after: str = "", limit: int) -> list[dict[str, Any]]:
    """Return a site's papers that have the code of a certificate that was issued again, by job id."""
    query = (
        _stale(
            print_jobs.c.job_id,
            print_jobs.c.uvci,
            print_jobs.c.copy_number,
            print_jobs.c.state,
            certificates.c.expires_at,
            certificates.c.revoked_at,
            certificates.c.revocation_reason,
            certificates.c.superseded_by,
        )
        .add_columns(case((_has_newer_paper(), 1), else_=0).label("replaced"))
        .where(print_jobs.c.site_id == site_id, print_jobs.c.job_id > after)
        .order_by(print_jobs.c.job_id)
        .limit(limit)
    )
    return [row._asdict() | {"replaced": bool(row.replaced)} for row in connection.execute(query)]


def _stale(*columns: Any) -> Any:
    return (
        select(*columns)
        .select_from(print_jobs.join(certificates, certificates.c.uvci == print_jobs.c.uvci))
        .where(certificates.c.superseded_by.is_not(None), print_jobs.c.state.in_(ON_PAPER))
    )


def _has_newer_paper() -> Any:
    newer, paper = certificates.alias("newer"), print_jobs.alias("paper")
    return (
        select(paper.c.job_id)
        .join(newer, newer.c.uvci == paper.c.uvci)
        .where(
            newer.c.dose_pk == certificates.c.dose_pk,
            newer.c.version > certificates.c.version,
            newer.c.revoked_at.is_(None),
            paper.c.state.in_((JobState.PRINTED, JobState.CONFIRMED)),
        )
        .exists()
    )


def find_superseding(connection: Connection, uvci: str) -> str | None:
    """Return the newest certificate that was issued in place of this one, however often; None where none was."""
    found: str | None = None
    while uvci:
        query = select(certificates.c.superseded_by).where(certificates.c.uvci == uvci)
        uvci = connection.execute(query).scalar() or ""
        found = uvci or found
    return found


_RUN_COLUMNS = tuple(column.name for column in reissue_runs.columns)
_COUNTS = ("issued", "already", "revoked", "failed", "papers")


def _runs() -> Any:
    told = (
        select(
            reissue_chunks.c.run_id,
            *(func.sum(reissue_chunks.c[name]).label(name) for name in _COUNTS),
            func.count().label("chunks"),
            func.max(reissue_chunks.c.stored_at).label("stored_at"),
        )
        .group_by(reissue_chunks.c.run_id)
        .subquery()
    )
    return select(
        *reissue_runs.columns,
        *(func.coalesce(told.c[name], 0).label(name) for name in (*_COUNTS, "chunks")),
        told.c.stored_at,
    ).outerjoin(told, told.c.run_id == reissue_runs.c.run_id)


def _run(row: Row[Any]) -> Run:
    values = row._asdict()
    return Run(**values | {name: int(values[name]) for name in (*_COUNTS, "chunks")})


def _parts(uvcis: Iterable[str]) -> Iterable[list[str]]:
    wanted = list(dict.fromkeys(uvcis))
    return (wanted[start : start + MAX_PARAMETERS] for start in range(0, len(wanted), MAX_PARAMETERS))
