"""Revocations: what is revoked, and the statement of what is current. In the caller's transaction.

Whoever writes holds one lock until the transaction ends, so `change` counts in the order of the commits: who has read
up to a change has missed none before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, text, update

from printsvc.domain.print_job import JobState
from printsvc.domain.revocation import Revocation, RevocationReason
from printsvc.domain.uvci import Uvci
from printsvc.store.tables import certificates, doses, print_jobs, revocations

_ONE_AT_A_TIME = 0x7265766F6B65  # PostgreSQL's advisory lock; SQLite has one writer anyhow
_CURRENT = revocations.c.undone_at.is_(None)
_COLUMNS = tuple(revocations.columns)
MAX_PARAMETERS = 500


@dataclass(frozen=True, slots=True)
class Revocable:
    """A certificate, as far as it takes to revoke it."""

    uvci: Uvci
    hcert: str
    kid: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewRevocation:
    """What is to be revoked, with its hashes; `request_id` is the same for a retry and for nothing else."""

    uvci: Uvci
    kid: str
    uci_hash: bytes
    country_uci_hash: bytes
    signature_hash: bytes
    expires_at: datetime
    reason: RevocationReason
    request_id: str


@dataclass(frozen=True, slots=True)
class DoseQuery:
    """Which certificates; what is None does not matter. Times are aware, from the first until before the second."""

    site_id: str | None = None
    lot: str | None = None
    product: str | None = None
    kid: str | None = None
    injected_from: datetime | None = None
    injected_before: datetime | None = None
    issued_from: datetime | None = None
    issued_before: datetime | None = None


def lock_revocations(connection: Connection) -> None:
    """Let nobody else revoke or undo until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})


def find_revocable(connection: Connection, uvcis: Iterable[str]) -> dict[str, Revocable]:
    """Return UVCI → certificate, of those that exist."""
    found: dict[str, Revocable] = {}
    wanted = list(dict.fromkeys(uvcis))
    for start in range(0, len(wanted), MAX_PARAMETERS):
        query = select(
            certificates.c.uvci, certificates.c.hcert, certificates.c.kid, certificates.c.expires_at
        ).where(certificates.c.uvci.in_(wanted[start : start + MAX_PARAMETERS]))  # fmt: skip
        for row in connection.execute(query):
            found[row.uvci] = Revocable(Uvci(row.uvci), row.hcert, row.kid, row.expires_at)
    return found


def find_versions(connection: Connection, uvcis: Iterable[str]) -> dict[str, list[Revocable]]:
    """Return UVCI → the other certificates of the same dose that are not revoked, for those that have any."""
    asked, other = certificates.alias("asked"), certificates.alias("other")
    found: dict[str, list[Revocable]] = {}
    wanted = list(dict.fromkeys(uvcis))
    for start in range(0, len(wanted), MAX_PARAMETERS):
        query = (
            select(asked.c.uvci.label("of"), other.c.uvci, other.c.hcert, other.c.kid, other.c.expires_at)
            .join(other, (other.c.dose_pk == asked.c.dose_pk) & (other.c.uvci != asked.c.uvci))
            .where(asked.c.uvci.in_(wanted[start : start + MAX_PARAMETERS]), other.c.revoked_at.is_(None))
            .order_by(other.c.version)
        )
        for row in connection.execute(query):
            found.setdefault(row.of, []).append(Revocable(Uvci(row.uvci), row.hcert, row.kid, row.expires_at))
    return found


def current_of_family(connection: Connection, family: str) -> list[Revocation]:
    """Return the current revocations whose request_id is `family`, or begins with it and a slash."""
    request = revocations.c.request_id
    # As a range, not LIKE: an id may hold an underscore, and the unique index serves it ("0" comes after "/").
    mine = (request == family) | ((request > f"{family}/") & (request < f"{family}0"))
    query = select(*_COLUMNS).where(mine, _CURRENT).order_by(revocations.c.revocation_pk)
    return [_revocation(row) for row in connection.execute(query)]


def known_certificates(connection: Connection, uvcis: Iterable[str]) -> dict[str, bool]:
    """Return UVCI → whether it is revoked, of the certificates that exist."""
    found: dict[str, bool] = {}
    wanted = list(dict.fromkeys(uvcis))
    for start in range(0, len(wanted), MAX_PARAMETERS):
        query = select(certificates.c.uvci, certificates.c.revoked_at.is_not(None).label("revoked")).where(
            certificates.c.uvci.in_(wanted[start : start + MAX_PARAMETERS])
        )
        found |= {row.uvci: bool(row.revoked) for row in connection.execute(query)}
    return found


def insert_revocations(
    connection: Connection, new: Sequence[NewRevocation], *, revoked_by: str, now: datetime
) -> list[Revocation]:
    """Revoke what is not revoked and was not asked for before under its request_id; return what was revoked now.

    The lock is taken; the certificate's own mark changes with it.
    """
    lock_revocations(connection)
    taken = {one.uvci for one in current_of(connection, [one.uvci for one in new]).values()}
    asked = find_requests(connection, [one.request_id for one in new])
    change = last_change(connection)
    rows: list[dict[str, Any]] = []
    for one in new:
        if one.uvci in taken or one.request_id in asked:
            continue
        taken.add(one.uvci)
        change += 1
        rows.append(
            {name: getattr(one, name) for name in NewRevocation.__slots__}
            | {"revoked_at": now, "revoked_by": revoked_by[:64], "change": change}
            | {"undone_at": None, "undone_by": "", "undo_reason": ""}
        )
    if not rows:
        return []
    connection.execute(insert(revocations), rows)
    for reason in RevocationReason:
        uvcis = [row["uvci"] for row in rows if row["reason"] is reason]
        if uvcis:
            connection.execute(
                update(certificates)
                .where(certificates.c.uvci.in_(uvcis))
                .values(revoked_at=now, revocation_reason=reason.value)
            )
    return list(current_of(connection, [row["uvci"] for row in rows]).values())


def undo_revocation(
    connection: Connection, revocation: Revocation, *, undone_by: str, undo_reason: str, now: datetime
) -> bool:
    """Let a certificate count again; return False where it does already. The lock is taken."""
    lock_revocations(connection)
    changed = connection.execute(
        update(revocations)
        .where(revocations.c.revocation_pk == revocation.revocation_pk, _CURRENT)
        .values(
            undone_at=now, undone_by=undone_by[:64], undo_reason=undo_reason, change=last_change(connection) + 1
        )
    )  # fmt: skip
    if changed.rowcount != 1:
        return False
    connection.execute(
        update(certificates)
        .where(certificates.c.uvci == revocation.uvci)
        .values(revoked_at=None, revocation_reason="")
    )  # fmt: skip
    return True


def last_change(connection: Connection) -> int:
    """Return the number of the last change; 0 where there was none."""
    return connection.execute(select(func.max(revocations.c.change))).scalar() or 0


def current_of(connection: Connection, uvcis: Iterable[str]) -> dict[str, Revocation]:
    """Return UVCI → revocation, of those certificates that are revoked now."""
    query = select(*_COLUMNS).where(revocations.c.uvci.in_(list(uvcis)), _CURRENT)
    return {row.uvci: _revocation(row) for row in connection.execute(query)}


def find_current(connection: Connection, uvci: str) -> Revocation | None:
    """Return why a certificate does not count now; None where it does."""
    return current_of(connection, [uvci]).get(uvci)


def current_of_others(connection: Connection, uvci: str) -> list[Revocation]:
    """Return the current revocations of the other certificates of the same dose, that of the newest first."""
    asked, other = certificates.alias("asked"), certificates.alias("other")
    query = (
        select(*_COLUMNS)
        .join(other, other.c.uvci == revocations.c.uvci)
        .join(asked, (asked.c.dose_pk == other.c.dose_pk) & (asked.c.uvci != other.c.uvci))
        .where(asked.c.uvci == uvci, _CURRENT)
        .order_by(other.c.version.desc())
    )
    return [_revocation(row) for row in connection.execute(query)]


def find_by_hash(connection: Connection, digest: bytes) -> Revocation | None:
    """Return the current revocation that has this hash, in any of the three forms."""
    # One after the other: each is an index of its own, an OR over three is a plan that depends on the day.
    for column in (revocations.c.uci_hash, revocations.c.country_uci_hash, revocations.c.signature_hash):
        row = connection.execute(select(*_COLUMNS).where(column == digest, _CURRENT).limit(1)).first()
        if row is not None:
            return _revocation(row)
    return None


def find_requests(connection: Connection, request_ids: Iterable[str]) -> dict[str, Revocation]:
    """Return request_id → what it revoked, be it undone since or not."""
    query = select(*_COLUMNS).where(revocations.c.request_id.in_(list(request_ids)))
    return {row.request_id: _revocation(row) for row in connection.execute(query)}


def history_of(connection: Connection, uvci: str) -> list[Revocation]:
    """Return every revocation that a certificate ever had, oldest first."""
    query = select(*_COLUMNS).where(revocations.c.uvci == uvci).order_by(revocations.c.revocation_pk)
    return [_revocation(row) for row in connection.execute(query)]


def list_revocations(
    connection: Connection,
    *,
    after: int = 0,
    limit: int = 100,
    is_current: bool | None = None,
    uvci: str | None = None,
    reason: RevocationReason | None = None,
    kid: str | None = None,
    site_id: str | None = None,
) -> list[Revocation]:
    """Return revocations in the order in which they were made, those after the key `after`."""
    query = select(*_COLUMNS).where(revocations.c.revocation_pk > after)
    if is_current is not None:
        query = query.where(_CURRENT if is_current else revocations.c.undone_at.is_not(None))
    for column, value in ((revocations.c.uvci, uvci), (revocations.c.reason, reason), (revocations.c.kid, kid)):
        if value is not None:
            query = query.where(column == value)
    if site_id is not None:
        query = query.where(
            revocations.c.uvci.in_(
                select(certificates.c.uvci)
                .join(doses, doses.c.dose_pk == certificates.c.dose_pk)
                .where(doses.c.site_id == site_id)
            )
        )
    return [_revocation(row) for row in connection.execute(query.order_by(revocations.c.revocation_pk).limit(limit))]


def select_uvcis(query: DoseQuery) -> Any:
    """Return a SELECT of the certificates that a query means and that are not revoked, with their sites."""
    found = select(certificates.c.uvci, doses.c.site_id).join(doses, doses.c.dose_pk == certificates.c.dose_pk)
    return where_query(found.where(certificates.c.revoked_at.is_(None)), query)


def where_query(found: Any, query: DoseQuery) -> Any:
    """Return a SELECT over certificates and their doses, cut down to what a query means."""
    event = doses.c.event["dose"]
    for column, value in (
        (doses.c.site_id, query.site_id),
        (event["lot"].as_string(), query.lot),
        (event["product"].as_string(), query.product),
        (certificates.c.kid, query.kid),
    ):
        if value is not None:
            found = found.where(column == value)
    for column, first, end in (
        (doses.c.injected_at, query.injected_from, query.injected_before),
        (certificates.c.issued_at, query.issued_from, query.issued_before),
    ):
        if first is not None:
            found = found.where(column >= first)
        if end is not None:
            found = found.where(column < end)
    return found


def count_by_site(connection: Connection, query: DoseQuery) -> dict[str, int]:
    """Return site → number of certificates that a query means."""
    found = select_uvcis(query).subquery()
    counted = select(found.c.site_id, func.count()).group_by(found.c.site_id).order_by(found.c.site_id)
    return dict(connection.execute(counted).all())


def sample_of(connection: Connection, query: DoseQuery, *, limit: int) -> list[str]:
    """Return some of the UVCIs that a query means."""
    found = select_uvcis(query).subquery()
    return list(connection.execute(select(found.c.uvci).order_by(found.c.uvci).limit(limit)).scalars())


def unwanted_jobs(connection: Connection, uvcis: Iterable[str]) -> list[str]:
    """Return the jobs of these certificates of which certainly no paper is there and none is under way."""
    query = select(print_jobs.c.job_id).where(
        print_jobs.c.uvci.in_(list(uvcis)),
        or_(
            print_jobs.c.state == JobState.FAILED,
            # One that an agent held once may have been printed while the line was cut: its word is still to come.
            (print_jobs.c.state == JobState.WAITING) & print_jobs.c.holder_agent.is_(None),
        ),
    )
    return list(connection.execute(query.order_by(print_jobs.c.job_id)).scalars())


_ON_PAPER = (JobState.PRINTED, JobState.CONFIRMED, JobState.UNCERTAIN, JobState.SENT)


def count_stale_papers(connection: Connection) -> dict[str, int]:
    """Return site → papers of revoked certificates that exist, or may exist."""
    query = (
        select(print_jobs.c.site_id, func.count())
        .select_from(revocations)
        .join(print_jobs, print_jobs.c.uvci == revocations.c.uvci)
        .where(_CURRENT, print_jobs.c.state.in_(_ON_PAPER))
        .group_by(print_jobs.c.site_id)
        .order_by(print_jobs.c.site_id)
    )
    return dict(connection.execute(query).all())


def stale_papers(connection: Connection, site_id: str, *, limit: int, after: str = "") -> list[dict[str, Any]]:
    """Return a site's papers of revoked certificates that exist, or may exist, by job id."""
    query = (
        select(
            print_jobs.c.job_id,
            print_jobs.c.uvci,
            print_jobs.c.copy_number,
            print_jobs.c.state,
            revocations.c.reason,
            revocations.c.revoked_at,
        )
        .select_from(revocations)
        .join(print_jobs, print_jobs.c.uvci == revocations.c.uvci)
        .where(
            _CURRENT, print_jobs.c.site_id == site_id, print_jobs.c.state.in_(_ON_PAPER), print_jobs.c.job_id > after
        )
        .order_by(print_jobs.c.job_id)
        .limit(limit)
    )
    return [row._asdict() for row in connection.execute(query)]


def iterate_hashes(connection: Connection, *, now: datetime) -> Iterator[bytes]:
    """Give the UCI hash of every current revocation whose certificate has not expired."""
    query = select(revocations.c.uci_hash).where(_CURRENT, revocations.c.expires_at > now)
    yield from connection.execute(query.execution_options(yield_per=10_000)).scalars()


# --- batches: of one signer, 1,000 keys of the table each, so that what is in one never moves to another


def list_batches(
    connection: Connection, *, now: datetime, width: int, after: tuple[str, int], limit: int
) -> list[Row[Any]]:
    """Return (kid, number, alive, change, changed_at) of batches in order; `alive` is 0 where nothing is left."""
    number = (revocations.c.revocation_pk - revocations.c.revocation_pk % width).label("number")
    alive = _CURRENT & (revocations.c.expires_at > now)
    query = (
        select(
            revocations.c.kid,
            number,
            func.count().filter(alive).label("alive"),
            func.max(revocations.c.change).label("change"),
            func.max(func.coalesce(revocations.c.undone_at, revocations.c.revoked_at)).label("changed_at"),
        )
        .where(
            (revocations.c.kid > after[0])
            | ((revocations.c.kid == after[0]) & (revocations.c.revocation_pk >= after[1] + width))
        )
        .group_by(revocations.c.kid, number)
        .order_by(revocations.c.kid, number)
        .limit(limit)
    )
    return list(connection.execute(query))


def batch_entries(connection: Connection, kid: str, number: int, *, now: datetime, width: int) -> list[Revocation]:
    """Return what is current in a batch; `number` is the first key of its range."""
    query = select(*_COLUMNS).where(
        revocations.c.kid == kid,
        revocations.c.revocation_pk >= number,
        revocations.c.revocation_pk < number + width,
        revocations.c.expires_at > now,
        _CURRENT,
    )
    return [_revocation(row) for row in connection.execute(query.order_by(revocations.c.revocation_pk))]


def _revocation(row: Row[Any]) -> Revocation:
    values = row._asdict()
    values["reason"] = RevocationReason(values["reason"])
    for name in ("uci_hash", "country_uci_hash", "signature_hash"):
        values[name] = bytes(values[name])
    return Revocation(**values)
