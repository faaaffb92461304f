"""Signers: their certificates, their states, the ledger of their changes, and what stands under each.

Whoever changes a signer locks out whoever stores certificates, and the other way round (`lock_signers`): once a signer
ends, nothing is stored under it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, func, insert, literal, or_, select, text, update

from printsvc.domain.signer import SignerEvent, SignerRecord, SignerRole, SignerState
from printsvc.errors import StateError
from printsvc.store.doses import insert_or_ignore
from printsvc.store.tables import certificates, doses, signer_events, signers, signers_version

_LOCK = 0x7369676E6572  # PostgreSQL's advisory lock; SQLite has one writer anyway
# Written into the statement, not bound: the index of what signs is partial.
_SIGNING = literal(SignerState.SIGNING.value, literal_execute=True)
_DELEGATES_KEPT = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Trusted:
    """The DSCs that are believed, oldest first, and the version and time of that list."""

    version: int
    changed_at: datetime
    certificates: tuple[bytes, ...]


def lock_signers(connection: Connection, *, to_change: bool) -> None:
    """Wait until nobody changes signers; with `to_change`, until nobody stores certificates either.

    Held until the transaction ends.
    """
    if connection.dialect.name == "postgresql":
        function = "pg_advisory_xact_lock" if to_change else "pg_advisory_xact_lock_shared"
        connection.execute(text(f"SELECT {function}(:key)"), {"key": _LOCK})


def read_clock(connection: Connection) -> datetime | None:
    """Return the time by the database's own clock, aware; None for SQLite, which has this machine's and no other."""
    if connection.dialect.name != "postgresql":
        return None
    moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment


def signing_kid(connection: Connection) -> str | None:
    """Return the kid (hexadecimal) of the DSC that signs."""
    query = select(signers.c.kid).where(signers.c.state == _SIGNING, signers.c.role == SignerRole.DSC.value)
    return connection.execute(query).scalar_one_or_none()


def read_version(connection: Connection) -> int:
    """Return a number that grows with every change of a signer."""
    return int(connection.execute(select(signers_version.c.version)).scalar_one())


def list_records(connection: Connection) -> list[SignerRecord]:
    """Return every signer, oldest first."""
    rows = connection.execute(select(*_COLUMNS).order_by(signers.c.created_at, signers.c.thumbprint))
    return [_record(row) for row in rows]


def read_trusted(connection: Connection) -> Trusted:
    """Return the DSCs on the trust list: all that were ever published, but for the compromised.

    Delegates leave it three months after their end: they are many, and nothing that they signed outlives them.
    """
    version = connection.execute(select(signers_version.c.version, signers_version.c.changed_at)).one()
    lately = and_(
        signers.c.role == SignerRole.DELEGATE.value, signers.c.not_after > version.changed_at - _DELEGATES_KEPT
    )
    query = select(signers.c.certificate).where(
        or_(signers.c.role == SignerRole.DSC.value, lately), signers.c.state != SignerState.COMPROMISED.value
    )
    rows = connection.execute(query.order_by(signers.c.created_at, signers.c.thumbprint))
    return Trusted(version.version, version.changed_at, tuple(bytes(row.certificate) for row in rows))


def read_compromised(connection: Connection) -> list[bytes]:
    """Return the certificates (DER) of the signers, CSCAs too, in which the trust was ended."""
    query = select(signers.c.certificate).where(signers.c.state == SignerState.COMPROMISED.value)
    return [bytes(row.certificate) for row in connection.execute(query)]


def read_authorities(connection: Connection) -> list[bytes]:
    """Return the CSCAs (DER) that were ever registered, but for the compromised, oldest first."""
    query = select(signers.c.certificate).where(
        signers.c.role == SignerRole.CSCA.value, signers.c.state != SignerState.COMPROMISED.value
    )
    rows = connection.execute(query.order_by(signers.c.created_at, signers.c.thumbprint))
    return [bytes(row.certificate) for row in rows]


def insert_record(connection: Connection, record: SignerRecord, *, actor: str) -> bool:
    """Publish a signer; return False where it is there already, which is then left alone."""
    lock_signers(connection, to_change=True)
    values = {
        "thumbprint": record.thumbprint,
        "kid": record.kid,
        "role": record.role.value,
        "certificate": record.certificate,
        "not_before": record.not_before,
        "not_after": record.not_after,
        "created_at": record.created_at,
        "state": record.state.value,
        "signing_from": record.signing_from,
        "signing_until": record.signing_until,
        "key_store": record.key_store,
        "changed_at": record.changed_at,
        "reason": record.reason,
    }
    made = insert_or_ignore(connection, signers).values(**values).returning(signers.c.thumbprint)
    if connection.execute(made).first() is None:
        return False
    _note(connection, record.thumbprint, "plan", "", record.state, record.changed_at, actor, record.reason)
    return True


def move(
    connection: Connection,
    record: SignerRecord,
    event: SignerEvent,
    after: SignerState,
    *,
    now: datetime,
    actor: str,
    reason: str = "",
) -> SignerRecord:
    """Bring a signer to its next state and return it. Raises StateError where it is no longer in `record`'s."""
    lock_signers(connection, to_change=True)
    changed = connection.execute(
        update(signers)
        .where(signers.c.thumbprint == record.thumbprint, signers.c.state == record.state.value)
        .values(state=after.value, changed_at=now, reason=reason or record.reason)
    )
    if changed.rowcount != 1:
        raise StateError("Somebody else has changed this signer meanwhile.", vi="Khóa ký vừa được người khác thay đổi.")
    _note(connection, record.thumbprint, event.value, record.state.value, after, now, actor, reason)
    return replace(record, state=after, changed_at=now, reason=reason or record.reason)


def set_period(
    connection: Connection, record: SignerRecord, *, signing_from: datetime, signing_until: datetime
) -> SignerRecord:
    """Change when a signer signs, and return it; the ledger's entry is that of the event which this is for."""
    connection.execute(
        update(signers)
        .where(signers.c.thumbprint == record.thumbprint)
        .values(signing_from=signing_from, signing_until=signing_until)
    )
    return replace(record, signing_from=signing_from, signing_until=signing_until)


def living_certificates(connection: Connection, now: datetime) -> dict[str, int]:
    """Return kid (hexadecimal) → how many certificates under it are neither expired nor revoked nor issued again."""
    query = select(certificates.c.kid, func.count().label("number")).where(_living(now))
    return {row.kid: row.number for row in connection.execute(query.group_by(certificates.c.kid))}


def living_by_site(connection: Connection, kid: str, now: datetime) -> dict[str, int]:
    """Return site_id → how many certificates under this kid are neither expired nor revoked nor issued again."""
    query = (
        select(doses.c.site_id, func.count().label("number"))
        .select_from(certificates.join(doses))
        .where(certificates.c.kid == kid, _living(now))
        .group_by(doses.c.site_id)
        .order_by(doses.c.site_id)
    )
    return {row.site_id: row.number for row in connection.execute(query)}


def _living(now: datetime) -> Any:
    return and_(
        certificates.c.expires_at > now, certificates.c.revoked_at.is_(None), certificates.c.superseded_by.is_(None)
    )


def list_events(connection: Connection, thumbprint: str) -> list[Mapping[str, object]]:
    """Return the ledger of a signer, oldest first: event, before, after, at, actor, reason."""
    columns = [signer_events.c[name] for name in ("event", "before", "after", "at", "actor", "reason")]
    query = select(*columns).where(signer_events.c.thumbprint == thumbprint).order_by(signer_events.c.event_pk)
    return [dict(row) for row in connection.execute(query).mappings()]


def _note(
    connection: Connection, thumbprint: str, event: str, before: str, after: str, at: datetime, actor: str, reason: str
) -> None:
    connection.execute(
        insert(signer_events).values(
            thumbprint=thumbprint, event=event, before=before, after=str(after), at=at, actor=actor, reason=reason
        )
    )
    connection.execute(update(signers_version).values(version=signers_version.c.version + 1, changed_at=at))


_COLUMNS = (
    signers.c.thumbprint,
    signers.c.kid,
    signers.c.role,
    signers.c.state,
    signers.c.certificate,
    signers.c.not_before,
    signers.c.not_after,
    signers.c.signing_from,
    signers.c.signing_until,
    signers.c.key_store,
    signers.c.created_at,
    signers.c.changed_at,
    signers.c.reason,
)


def _record(row: Any) -> SignerRecord:
    return SignerRecord(
        thumbprint=row.thumbprint,
        kid=row.kid,
        role=SignerRole(row.role),
        state=SignerState(row.state),
        certificate=bytes(row.certificate),
        not_before=row.not_before,
        not_after=row.not_after,
        signing_from=row.signing_from,
        signing_until=row.signing_until,
        key_store=row.key_store,
        created_at=row.created_at,
        changed_at=row.changed_at,
        reason=row.reason,
    )
