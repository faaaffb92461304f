"""Day bags: leaves to issue without a line, what an agent took, and what it brought home. All in the caller's
transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, literal, select, update

from printsvc.domain.uvcirange import UvciRange
from printsvc.errors import NotFoundError
from printsvc.store.bagtables import day_bag_entries, day_bags
from printsvc.store.tables import certificates, doses


class BagState(StrEnum):
    GRANTED = "granted"  # an agent of the site may take it
    REQUESTED = "requested"  # an agent asked, and its signer waits for the CSCA
    OUT = "out"  # taken: the site may issue
    ENDED = "ended"  # the centre ended it, or it was brought home


class EntryOutcome(StrEnum):
    STORED = "stored"
    HELD = "held"
    CONFLICT = "conflict"


class LaterIdentity(StrEnum):
    """What the registry said of an identity that could not be checked at the site."""

    NONE = ""
    WAITING = "waiting"
    CONFIRMED = "confirmed"
    MISMATCHED = "mismatched"


@dataclass(frozen=True, slots=True)
class Bag:
    """See the columns of `day_bags`; `thumbprint` is that of the delegated signer."""

    bag_id: str
    site_id: str
    doses: int
    days: int
    source: str
    state: BagState
    granted_at: datetime
    granted_by: str
    grant_expires_at: datetime
    range: UvciRange
    agent_id: str | None = None
    journal_id: str | None = None
    request: bytes | None = field(default=None, repr=False)
    thumbprint: str | None = None
    taken_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str = ""
    last_seq: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one dose that a site brought. `body` is there for a conflict: event, hcert, entered_at, paper."""

    bag_id: str
    seq: int
    site_id: str
    dose_id: str
    uvci: str
    outcome: EntryOutcome
    reason: str
    detail: str
    brought_at: datetime
    body: dict[str, Any] | None = field(default=None, repr=False)
    identity: LaterIdentity = LaterIdentity.NONE
    settled_at: datetime | None = None
    settled_by: str = ""
    settlement: str = ""


# Written into the statements, not bound: the indexes are partial.
_CONFLICT = literal(EntryOutcome.CONFLICT.value, literal_execute=True)
_WAITING = literal(LaterIdentity.WAITING.value, literal_execute=True)
_SAME = (
    "bag_id", "site_id", "doses", "days", "source", "granted_at", "granted_by", "grant_expires_at", "agent_id",
    "journal_id", "request", "thumbprint", "taken_at", "expires_at", "ended_at", "end_reason", "last_seq",
)  # fmt: skip


def insert_bag(connection: Connection, bag: Bag) -> None:
    """Store a leave. The database refuses a range that begins like another's."""
    values = {name: getattr(bag, name) for name in _SAME} | {
        "state": bag.state.value,
        "uvci_country": bag.range.country,
        "uvci_prefix": bag.range.prefix,
        "uvci_secret": bag.range.secret,
    }
    connection.execute(insert(day_bags).values(**values))


def get_bag(connection: Connection, bag_id: str, *, lock: bool = False) -> Bag:
    """Return a bag; with `lock` nobody else changes it until the transaction ends. Raises NotFoundError."""
    query = select(day_bags).where(day_bags.c.bag_id == bag_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFoundError("There is no such day bag.", vi="Không có gói ngày này.")
    return _bag(row)


def find_bag_of_signer(connection: Connection, thumbprint: str) -> Bag | None:
    """Return the bag whose delegated signer this is."""
    row = connection.execute(select(day_bags).where(day_bags.c.thumbprint == thumbprint)).first()
    return None if row is None else _bag(row)


def list_bags(connection: Connection, site_id: str | None = None, *, limit: int = 500) -> list[Bag]:
    """Return bags, newest first."""
    query = select(day_bags).order_by(day_bags.c.granted_at.desc(), day_bags.c.bag_id).limit(limit)
    if site_id is not None:
        query = query.where(day_bags.c.site_id == site_id)
    return [_bag(row) for row in connection.execute(query)]


def find_requested(connection: Connection, site_id: str, request: bytes) -> Bag | None:
    """Return the bag that was given to this very request."""
    query = select(day_bags).where(day_bags.c.site_id == site_id, day_bags.c.request == request)
    row = connection.execute(query).first()
    return None if row is None else _bag(row)


def lock_granted(connection: Connection, site_id: str, now: datetime) -> Bag | None:
    """Return the oldest leave of a site that nobody has taken and that is in time."""
    query = (
        select(day_bags)
        .where(
            day_bags.c.site_id == site_id,
            day_bags.c.state == BagState.GRANTED.value,
            day_bags.c.grant_expires_at > now,
        )
        .order_by(day_bags.c.granted_at, day_bags.c.bag_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(query).first()
    return None if row is None else _bag(row)


def update_bag(connection: Connection, bag_id: str, **values: Any) -> None:
    connection.execute(update(day_bags).where(day_bags.c.bag_id == bag_id).values(**values))


def insert_entry(connection: Connection, entry: Entry) -> None:
    """Store what became of an entry."""
    connection.execute(insert(day_bag_entries).values({name: getattr(entry, name) for name in _ENTRY_NAMES}))


def get_entry(connection: Connection, bag_id: str, seq: int, *, lock: bool = False) -> Entry:
    """Return an entry. Raises NotFoundError."""
    query = select(day_bag_entries).where(day_bag_entries.c.bag_id == bag_id, day_bag_entries.c.seq == seq)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFoundError("There is no such entry.", vi="Không có mục này trong gói ngày.")
    return _entry(row)


def list_entries(connection: Connection, bag_id: str) -> list[Entry]:
    """Return what was brought home of a bag, in order."""
    query = select(day_bag_entries).where(day_bag_entries.c.bag_id == bag_id).order_by(day_bag_entries.c.seq)
    return [_entry(row) for row in connection.execute(query)]


def open_conflicts(connection: Connection, site_id: str | None = None, *, limit: int = 500) -> list[Entry]:
    """Return the conflicts that nobody has decided, oldest first."""
    query = select(day_bag_entries).where(
        day_bag_entries.c.outcome == _CONFLICT, day_bag_entries.c.settled_at.is_(None)
    )
    if site_id is not None:
        query = query.where(day_bag_entries.c.site_id == site_id)
    query = query.order_by(day_bag_entries.c.brought_at, day_bag_entries.c.bag_id, day_bag_entries.c.seq)
    return [_entry(row) for row in connection.execute(query.limit(limit))]


def settle_entry(connection: Connection, entry: Entry, *, settlement: str, actor: str, now: datetime) -> None:
    """Note a person's decision; what the site brought is not needed any more."""
    connection.execute(
        update(day_bag_entries)
        .where(day_bag_entries.c.bag_id == entry.bag_id, day_bag_entries.c.seq == entry.seq)
        .values(settled_at=now, settled_by=actor, settlement=settlement, body=None)
    )


def waiting_identities(connection: Connection, *, limit: int = 500) -> list[Entry]:
    """Return the doses whose identity the registry is to be asked about, oldest first."""
    query = (
        select(day_bag_entries)
        .where(day_bag_entries.c.identity == _WAITING)
        .order_by(day_bag_entries.c.brought_at, day_bag_entries.c.bag_id, day_bag_entries.c.seq)
        .limit(limit)
    )
    return [_entry(row) for row in connection.execute(query)]


def set_identity(connection: Connection, uvci: str, identity: LaterIdentity) -> None:
    """Note the registry's word on the holder of a certificate that a site brought."""
    connection.execute(update(day_bag_entries).where(day_bag_entries.c.uvci == uvci).values(identity=identity.value))


def taken_uvcis(connection: Connection, uvcis: Sequence[str]) -> set[str]:
    """Return those of these UVCIs that have a certificate."""
    query = select(certificates.c.uvci).where(certificates.c.uvci.in_(list(uvcis)))
    return set(connection.execute(query).scalars())


def confirm_dose(
    connection: Connection, dose_pk: int, *, outcome: str, identity: Any, reasons: list[dict[str, str]], mark: str,
    before: str, now: datetime,
) -> bool:  # fmt: skip
    """Store the registry's word on a dose that has the mark `before`; return False where it has it no more."""
    changed = connection.execute(
        update(doses)
        .where(doses.c.dose_pk == dose_pk, doses.c.mark == before)
        .values(outcome=outcome, identity=identity, reasons=reasons, mark=mark, decided_at=now)
    )
    return changed.rowcount == 1


_ENTRY_NAMES = tuple(column.name for column in day_bag_entries.columns)


def _bag(row: Any) -> Bag:
    given = UvciRange(row.uvci_country, bytes(row.uvci_prefix), bytes(row.uvci_secret), row.doses)
    values = {name: getattr(row, name) for name in _SAME}
    if values["request"] is not None:
        values["request"] = bytes(values["request"])
    return Bag(**values, state=BagState(row.state), range=given)


def _entry(row: Any) -> Entry:
    values = row._asdict()
    return Entry(**values | {"outcome": EntryOutcome(values["outcome"]), "identity": LaterIdentity(values["identity"])})
