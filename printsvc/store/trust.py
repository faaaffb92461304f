"""Imported trust lists, the versions of ours, and the certificates that verifiers fetch one by one.

A source is one list under one name; an import replaces all its keys. Versions change in the transaction that changes
what they count, and only then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, text, update

from printsvc.store.doses import insert_or_ignore
from printsvc.store.tables import published_certificates, trust_events, trust_lists, trust_sources, trusted_keys

_LOCK = 0x7472757374  # PostgreSQL's advisory lock; SQLite has one writer anyway


@dataclass(frozen=True, slots=True)
class TrustSource:
    """A list that was imported. `version` and `made_at` are what the list says of itself, None where it is silent."""

    source: str
    list_format: str
    sha256: str
    signed_by: str
    version: int | None
    made_at: datetime | None
    imported_at: datetime
    imported_by: str
    skipped: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A pinned key as a row: `public_key` is SubjectPublicKeyInfo in DER, `fingerprint` tells it from every other."""

    fingerprint: str
    format: str
    kid: str
    public_key: bytes
    certificate: bytes | None
    not_before: datetime | None
    not_after: datetime | None
    country: str
    issuer: str
    usages: Sequence[str]
    is_anchor: bool


@dataclass(frozen=True, slots=True)
class Published:
    """A certificate that verifiers fetch; `position` grows and is never used again."""

    position: int
    kid: str
    certificate: bytes


def lock_trust(connection: Connection) -> None:
    """Let nobody else change trust lists until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def read_versions(connection: Connection) -> dict[str, tuple[int, str, datetime]]:
    """Return list → (version, digest of its content, when that changed)."""
    query = select(trust_lists.c.name, trust_lists.c.version, trust_lists.c.digest, trust_lists.c.changed_at)
    return {row.name: (row.version, row.digest, row.changed_at) for row in connection.execute(query)}


def note_content(connection: Connection, name: str, digest: str, *, now: datetime) -> bool:
    """Give a list the next version where its content has another digest; return whether it had. Call it locked."""
    start = {"name": name, "version": 0, "digest": "", "changed_at": now}
    connection.execute(insert_or_ignore(connection, trust_lists).values(**start))
    changed = connection.execute(
        update(trust_lists)
        .where(trust_lists.c.name == name, trust_lists.c.digest != digest)
        .values(version=trust_lists.c.version + 1, digest=digest, changed_at=now)
    )
    return bool(changed.rowcount)


def list_sources(connection: Connection) -> list[tuple[TrustSource, int]]:
    """Return (source, number of keys) by name."""
    numbers = select(trusted_keys.c.source, func.count().label("number")).group_by(trusted_keys.c.source).subquery()
    query = (
        select(*trust_sources.columns, func.coalesce(numbers.c.number, 0).label("number"))
        .select_from(trust_sources.outerjoin(numbers, numbers.c.source == trust_sources.c.source))
        .order_by(trust_sources.c.source)
    )
    return [(_source(row), row.number) for row in connection.execute(query)]


def find_source(connection: Connection, source: str) -> TrustSource | None:
    """Return a source; None where there is none of this name."""
    query = select(*trust_sources.columns).where(trust_sources.c.source == source)
    row = connection.execute(query).one_or_none()
    return None if row is None else _source(row)


def list_keys(connection: Connection, source: str | None = None) -> list[tuple[str, StoredKey]]:
    """Return (source, key) of every imported key, or of one source's, in the lists' order."""
    columns = [trusted_keys.c[name] for name in StoredKey.__slots__]
    query = select(trusted_keys.c.source, *columns).order_by(trusted_keys.c.source, trusted_keys.c.position)
    if source is not None:
        query = query.where(trusted_keys.c.source == source)
    return [(row.source, _key(row)) for row in connection.execute(query)]


def replace_source(connection: Connection, source: TrustSource, keys: Sequence[StoredKey]) -> None:
    """Store a source and its keys in place of what was there under its name."""
    delete_source(connection, source.source)
    connection.execute(
        insert(trust_sources).values(
            source=source.source,
            list_format=source.list_format,
            sha256=source.sha256,
            signed_by=source.signed_by,
            version=source.version,
            made_at=source.made_at,
            imported_at=source.imported_at,
            imported_by=source.imported_by,
            skipped=[dict(one) for one in source.skipped],
        )
    )
    if keys:
        rows = [
            {name: getattr(key, name) for name in StoredKey.__slots__} | {"source": source.source, "position": number}
            for number, key in enumerate(keys)
        ]
        connection.execute(insert(trusted_keys), rows)


def delete_source(connection: Connection, source: str) -> bool:
    """Take a source and its keys away; return whether it was there."""
    connection.execute(delete(trusted_keys).where(trusted_keys.c.source == source))
    return bool(connection.execute(delete(trust_sources).where(trust_sources.c.source == source)).rowcount)


def insert_event(
    connection: Connection, event: str, source: TrustSource, *, at: datetime, actor: str, numbers: Mapping[str, int]
) -> None:
    """Note what was done to a source, by whom. `numbers`: added, removed, unchanged."""
    connection.execute(
        insert(trust_events).values(
            source=source.source,
            event=event,
            at=at,
            actor=actor,
            sha256=source.sha256,
            signed_by=source.signed_by,
            **numbers,
        )
    )


def list_events(connection: Connection, source: str) -> list[Mapping[str, Any]]:
    """Return what was done to a source, oldest first."""
    columns = [column for column in trust_events.columns if column.name not in ("event_pk", "source")]
    query = select(*columns).where(trust_events.c.source == source).order_by(trust_events.c.event_pk)
    return [dict(row) for row in connection.execute(query).mappings()]


def publish(connection: Connection, wanted: Iterable[tuple[str, str, bytes]]) -> bool:
    """Make the published certificates these (kid in base64, thumbprint, DER); return whether any changed.

    A new one, and one that comes back, gets a position behind all that ever were. Call it locked.
    """
    columns = (published_certificates.c.position, published_certificates.c.kid, published_certificates.c.thumbprint)
    there = {(row.kid, row.thumbprint): row.position for row in connection.execute(select(*columns))}
    new = {(kid, thumbprint): der for kid, thumbprint, der in wanted}
    gone = [position for name, position in there.items() if name not in new]
    fresh = [(name, der) for name, der in new.items() if name not in there]
    for position in gone:
        connection.execute(delete(published_certificates).where(published_certificates.c.position == position))
    if fresh:
        last = _take_positions(connection, len(fresh))
        rows = [
            {"position": last - len(fresh) + number, "kid": kid, "thumbprint": thumbprint, "certificate": der}
            for number, ((kid, thumbprint), der) in enumerate(fresh, start=1)
        ]
        connection.execute(insert(published_certificates), rows)
    return bool(gone or fresh)


def next_published(connection: Connection, after: int) -> Published | None:
    """Return the first published certificate behind a position."""
    query = (
        select(published_certificates.c.position, published_certificates.c.kid, published_certificates.c.certificate)
        .where(published_certificates.c.position > after)
        .order_by(published_certificates.c.position)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Published(row.position, row.kid, bytes(row.certificate))


def published_kids(connection: Connection) -> list[str]:
    """Return the kid (base64) of every published certificate, each once."""
    query = select(published_certificates.c.kid).order_by(published_certificates.c.position)
    return list(dict.fromkeys(connection.execute(query).scalars()))


def _take_positions(connection: Connection, number: int) -> int:
    """Return the last of `number` positions that nobody had before."""
    first = select(trust_lists.c.version).where(trust_lists.c.name == _POSITIONS)
    last = (connection.execute(first).scalar_one_or_none() or 0) + number
    values = {"name": _POSITIONS, "version": 0, "digest": "", "changed_at": _EPOCH}
    connection.execute(insert_or_ignore(connection, trust_lists).values(**values))
    connection.execute(update(trust_lists).where(trust_lists.c.name == _POSITIONS).values(version=last))
    return last


_POSITIONS = "positions"
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _source(row: Any) -> TrustSource:
    return TrustSource(
        source=row.source,
        list_format=row.list_format,
        sha256=row.sha256,
        signed_by=row.signed_by,
        version=row.version,
        made_at=row.made_at,
        imported_at=row.imported_at,
        imported_by=row.imported_by,
        skipped=tuple(row.skipped),
    )


def _key(row: Row[Any]) -> StoredKey:
    return StoredKey(
        fingerprint=row.fingerprint,
        format=row.format,
        kid=row.kid,
        public_key=bytes(row.public_key),
        certificate=None if row.certificate is None else bytes(row.certificate),
        not_before=row.not_before,
        not_after=row.not_after,
        country=row.country,
        issuer=row.issuer,
        usages=tuple(row.usages),
        is_anchor=row.is_anchor,
    )
