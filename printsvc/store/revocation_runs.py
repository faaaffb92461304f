"""Runs that revoke many certificates, and the snapshots that are published. In the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, String, cast, func, insert, literal, select, update

from printsvc.domain.revocation import RevocationReason
from printsvc.store.doses import insert_or_ignore
from printsvc.store.revocations import DoseQuery, select_uvcis
from printsvc.store.tables import revocation_items, revocation_runs, revocation_snapshots, revocations

# Written into the statement, not bound: the index of open items is partial.
_OPEN = literal("", literal_execute=True)
REVOKED = "revoked"
ALREADY = "already"


@dataclass(frozen=True, slots=True)
class Item:
    """One certificate of a run. `line` is its line in the file, or its place in what the query found."""

    line: int
    uvci: str
    reason: RevocationReason


@dataclass(frozen=True, slots=True)
class Run:
    """`asked` is the query, or what is told of the file; `undone` is how many of its revocations were undone since."""

    run_id: str
    kind: str
    asked: dict[str, Any]
    asked_by: str
    begun_at: datetime
    total: int
    ended_at: datetime | None
    revoked: int = 0
    already: int = 0
    undone: int = 0

    @property
    def left(self) -> int:
        return self.total - self.revoked - self.already


def insert_run(connection: Connection, run: Run) -> bool:
    """Store a run; return False where there is one with that id."""
    names = ("run_id", "kind", "asked", "asked_by", "begun_at", "total", "ended_at")
    statement = insert_or_ignore(connection, revocation_runs).values({name: getattr(run, name) for name in names})
    return connection.execute(statement.returning(revocation_runs.c.run_id)).first() is not None


def insert_items(connection: Connection, run_id: str, items: Sequence[Item]) -> None:
    """Store what a run is to revoke."""
    if items:
        connection.execute(
            insert(revocation_items),
            [
                {"run_id": run_id, "line": one.line, "uvci": one.uvci, "reason": one.reason.value, "outcome": ""}
                for one in items
            ],
        )


def insert_items_of_query(connection: Connection, run_id: str, query: DoseQuery, reason: RevocationReason) -> int:
    """Store what a query means as the items of a run; return how many."""
    found = select_uvcis(query).subquery()
    numbered = select(
        literal(run_id),
        func.row_number().over(order_by=found.c.uvci),
        found.c.uvci,
        literal(reason.value),
        literal(""),
    )
    columns = ["run_id", "line", "uvci", "reason", "outcome"]
    connection.execute(insert(revocation_items).from_select(columns, numbered))
    counted = select(func.count()).select_from(revocation_items).where(revocation_items.c.run_id == run_id)
    return connection.execute(counted).scalar_one()


def open_items(connection: Connection, run_id: str, *, limit: int) -> list[Item]:
    """Return the next items of a run that are not done."""
    query = select(revocation_items.c.line, revocation_items.c.uvci, revocation_items.c.reason).where(
        revocation_items.c.run_id == run_id, revocation_items.c.outcome == _OPEN
    )
    rows = connection.execute(query.order_by(revocation_items.c.line).limit(limit))
    return [Item(row.line, row.uvci, RevocationReason(row.reason)) for row in rows]


def end_items(connection: Connection, run_id: str, lines: Sequence[int], outcome: str) -> None:
    """Mark items as done."""
    if lines:
        connection.execute(
            update(revocation_items)
            .where(revocation_items.c.run_id == run_id, revocation_items.c.line.in_(lines))
            .values(outcome=outcome)
        )


def end_run(connection: Connection, run_id: str, *, now: datetime) -> None:
    """Mark a run as done."""
    connection.execute(
        update(revocation_runs)
        .where(revocation_runs.c.run_id == run_id, revocation_runs.c.ended_at.is_(None))
        .values(ended_at=now)
    )


def find_run(connection: Connection, run_id: str) -> Run | None:
    """Return a run with what came of it so far."""
    row = connection.execute(select(*revocation_runs.columns).where(revocation_runs.c.run_id == run_id)).first()
    if row is None:
        return None
    counted = (
        select(revocation_items.c.outcome, func.count())
        .where(revocation_items.c.run_id == run_id)
        .group_by(revocation_items.c.outcome)
    )
    counts: dict[str, int] = dict(connection.execute(counted).all())
    request_id = literal(f"{run_id}:") + cast(revocation_items.c.line, String)
    undone = (
        select(func.count())
        .select_from(revocation_items)
        .join(revocations, revocations.c.request_id == request_id)
        .where(
            revocation_items.c.run_id == run_id,
            revocation_items.c.outcome == REVOKED,
            revocations.c.undone_at.is_not(None),
        )
    )
    return Run(
        **row._asdict(),
        revoked=counts.get(REVOKED, 0),
        already=counts.get(ALREADY, 0),
        undone=connection.execute(undone).scalar_one(),
    )


def asked_by(connection: Connection, run_id: str) -> str:
    """Return the author of a run that is there."""
    query = select(revocation_runs.c.asked_by).where(revocation_runs.c.run_id == run_id)
    return str(connection.execute(query).scalar_one())


def open_runs(connection: Connection) -> list[str]:
    """Return the runs that are not done, oldest first."""
    query = select(revocation_runs.c.run_id).where(revocation_runs.c.ended_at.is_(None))
    return list(connection.execute(query.order_by(revocation_runs.c.begun_at)).scalars())


def list_runs(connection: Connection, *, limit: int) -> list[Run]:
    """Return runs, newest first, without what came of each."""
    query = select(*revocation_runs.columns).order_by(revocation_runs.c.begun_at.desc()).limit(limit)
    return [Run(**row._asdict()) for row in connection.execute(query)]


def request_id_of(run_id: str, line: int) -> str:
    """Return the request_id of what a run revokes: an item that is done twice is found the second time."""
    return f"{run_id}:{line}"


# --- snapshots


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A published version without its body; `manifest` is signed."""

    version: int
    made_at: datetime
    expires_at: datetime
    bucket_bits: int
    count: int
    change: int
    manifest: bytes


_SNAPSHOT = [revocation_snapshots.c[name] for name in StoredSnapshot.__slots__]


def newest_snapshot(connection: Connection) -> StoredSnapshot | None:
    """Return the newest version."""
    row = connection.execute(select(*_SNAPSHOT).order_by(revocation_snapshots.c.version.desc()).limit(1)).first()
    return None if row is None else _stored(row)


def snapshot_body(connection: Connection, version: int) -> bytes | None:
    """Return the body of a version; None where a newer one has replaced it."""
    query = select(revocation_snapshots.c.body).where(revocation_snapshots.c.version == version)
    body = connection.execute(query).scalar()
    return None if body is None else bytes(body)


def insert_snapshot(connection: Connection, snapshot: StoredSnapshot, *, delta: bytes | None, body: bytes) -> bool:
    """Publish a version and drop the bodies before it; return False where another process published it first."""
    values = {name: getattr(snapshot, name) for name in StoredSnapshot.__slots__} | {"delta": delta, "body": body}
    statement = insert_or_ignore(connection, revocation_snapshots).values(values)
    if connection.execute(statement.returning(revocation_snapshots.c.version)).first() is None:
        return False
    connection.execute(
        update(revocation_snapshots)
        .where(revocation_snapshots.c.version < snapshot.version, revocation_snapshots.c.body.is_not(None))
        .values(body=None)
    )
    return True


def deltas_between(connection: Connection, first: int, last: int) -> list[bytes | None]:
    """Return the deltas that lead from version `first` to `last`, one a step; None in it where there is none."""
    query = (
        select(revocation_snapshots.c.delta)
        .where(revocation_snapshots.c.version > first, revocation_snapshots.c.version <= last)
        .order_by(revocation_snapshots.c.version)
    )
    return [None if delta is None else bytes(delta) for delta in connection.execute(query).scalars()]


def _stored(row: Row[Any]) -> StoredSnapshot:
    values = row._asdict()
    values["manifest"] = bytes(values["manifest"])
    return StoredSnapshot(**values)
