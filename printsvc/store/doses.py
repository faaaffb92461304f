"""Doses and their certificates: statements, all on one connection, all in the caller's transaction."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent, Identity
from printsvc.domain.eventdocument import (
    event_from_document,
    event_to_document,
    identity_from_document,
    identity_to_document,
)
from printsvc.domain.person import Person
from printsvc.domain.uvci import Uvci
from printsvc.errors import NotFoundError
from printsvc.store.tables import certificates, doses

ISSUED = "issued"
HELD = "held"
REFUSED = "refused"
"""A certificate that a site issued and that must not count: its dose is kept so that it can be revoked."""
# Written into the statement, not bound: the index of held doses is partial.
_HELD = literal(HELD, literal_execute=True)


@dataclass(frozen=True, slots=True)
class NewDose:
    """What is to be stored for one event. `certificate` is there exactly when `outcome` is issued."""

    source: str
    event: DoseEvent
    outcome: str
    reasons: tuple[dict[str, str], ...]
    mark: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class StoredDose:
    """`event` is as it was sent; `identity` is the result that counts now."""

    dose_pk: int
    source: str
    event: DoseEvent
    identity: Identity
    outcome: str
    reasons: tuple[dict[str, str], ...]
    mark: str
    received_at: datetime
    certificate: Certificate | None = None


def insert_or_ignore(connection: Connection, table: Table) -> Any:
    """Return an INSERT that does nothing where a unique key is taken, in the connection's own dialect."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def person_key(person: Person) -> str | None:
    """Return what finds a person's other doses; None without a number.

    SHA-256 over number, birth date and name: a number alone may have been two people's (a passport that nobody checked,
    a slip of the pen), and another's dose must never stand on a paper. Accents and case of the name do not count.
    """
    if not person.id_number:
        return None
    plain = unicodedata.normalize("NFD", person.full_name.casefold().replace("đ", "d"))
    name = "".join(character for character in plain if not unicodedata.combining(character))
    born = person.date_of_birth.isoformat()
    text = "|".join((person.nationality, person.id_type, person.id_number, born, name))
    return hashlib.sha256(text.encode()).hexdigest()


def find_doses(connection: Connection, source: str, dose_ids: Iterable[str]) -> dict[str, StoredDose]:
    """Return the stored doses with these ids, with their newest certificate."""
    query = _query().where(doses.c.source == source, doses.c.dose_id.in_(list(dose_ids)))
    return _newest(connection.execute(query))


def find_dose(connection: Connection, dose_id: str, *, source: str | None = None) -> StoredDose | None:
    """Return one dose; without a source, that of any source (the first that was received)."""
    query = _query().where(doses.c.dose_id == dose_id).order_by(doses.c.dose_pk)
    if source is not None:
        query = query.where(doses.c.source == source)
    found = list(_newest_by_pk(connection.execute(query)).values())
    return found[0] if found else None


def get_dose_of(connection: Connection, uvci: str) -> StoredDose:
    """Return the dose of a certificate, with that certificate. Raises NotFoundError."""
    row = connection.execute(_query().where(certificates.c.uvci == uvci)).first()
    if row is None:
        raise NotFoundError("There is no such certificate.", vi="Không có giấy chứng nhận này.")
    return _dose(row)


def doses_of_person(connection: Connection, key: str, *, limit: int = 64) -> list[StoredDose]:
    """Return the newest doses of a person that have a certificate which is not revoked, oldest first."""
    living = certificates.c.revoked_at.is_(None) & certificates.c.superseded_by.is_(None)
    query = _query().where(doses.c.person_key == key, doses.c.outcome == ISSUED, living)
    query = query.order_by(doses.c.injected_at.desc(), doses.c.dose_pk.desc()).limit(limit)
    return list(_newest_by_pk(connection.execute(query)).values())[::-1]


def held_doses(connection: Connection, site_id: str, *, limit: int = 500) -> list[StoredDose]:
    """Return the doses of a site that wait for somebody to look, oldest first."""
    query = (
        _query()
        .where(doses.c.site_id == site_id, doses.c.outcome == _HELD)
        .order_by(doses.c.received_at, doses.c.dose_pk)
        .limit(limit)
    )
    return [_dose(row) for row in connection.execute(query)]


def insert_doses(connection: Connection, new: Sequence[NewDose]) -> dict[str, int]:
    """Insert doses and return dose_id → dose_pk of those that were not there; an id that is taken is left alone."""
    if not new:
        return {}
    rows = [
        {
            "source": dose.source,
            "dose_id": dose.event.dose_id,
            "site_id": dose.event.site_id,
            "person_key": person_key(dose.event.person),
            "event": event_to_document(dose.event),
            "identity": identity_to_document(dose.event.identity),
            "outcome": dose.outcome,
            "reasons": list(dose.reasons),
            "mark": dose.mark,
            "injected_at": dose.event.dose.injected_at,
            "received_at": dose.received_at,
            "decided_at": dose.received_at,
        }
        # One order for every batch: two that share ids must not wait for each other in a circle.
        for dose in sorted(new, key=lambda dose: dose.event.dose_id)
    ]
    inserted: dict[str, int] = {}
    for start in range(0, len(rows), 500):
        statement = insert_or_ignore(connection, doses).values(rows[start : start + 500])
        inserted |= {
            row.dose_id: row.dose_pk
            for row in connection.execute(statement.returning(doses.c.dose_id, doses.c.dose_pk))
        }
    return inserted


def insert_certificates(connection: Connection, new: Sequence[tuple[int, Certificate]]) -> None:
    """Insert (dose_pk, certificate) pairs."""
    if new:
        connection.execute(
            insert(certificates),
            [
                {
                    "uvci": certificate.uvci,
                    "dose_pk": dose_pk,
                    "version": certificate.version,
                    "hcert": certificate.hcert,
                    "kid": certificate.kid,
                    "issued_at": certificate.issued_at,
                    "expires_at": certificate.expires_at,
                    "revoked_at": None,
                    "revocation_reason": "",
                }
                for dose_pk, certificate in new
            ],
        )


def settle_identity(
    connection: Connection,
    dose: StoredDose,
    *,
    identity: Identity,
    outcome: str,
    reasons: tuple[dict[str, str], ...],
    mark: str,
    now: datetime,
) -> bool:
    """Store a new identity result for a held dose; return False when somebody else released it meanwhile."""
    changed = connection.execute(
        update(doses)
        .where(doses.c.dose_pk == dose.dose_pk, doses.c.outcome == HELD)
        .values(
            identity=identity_to_document(identity), outcome=outcome, reasons=list(reasons), mark=mark, decided_at=now
        )
    )
    return changed.rowcount == 1


_DOSE_COLUMNS = (
    doses.c.dose_pk,
    doses.c.source,
    doses.c.event,
    doses.c.identity,
    doses.c.outcome,
    doses.c.reasons,
    doses.c.mark,
    doses.c.received_at,
)
_CERTIFICATE_COLUMNS = (
    certificates.c.uvci,
    certificates.c.version,
    certificates.c.hcert,
    certificates.c.kid,
    certificates.c.issued_at,
    certificates.c.expires_at,
)


def _query() -> Any:
    return select(*_DOSE_COLUMNS, *_CERTIFICATE_COLUMNS).outerjoin_from(doses, certificates)


def _dose(row: Row[Any]) -> StoredDose:
    event = event_from_document(row.event)
    certificate = None
    if row.uvci is not None:
        certificate = Certificate(
            uvci=Uvci(row.uvci),
            dose_id=event.dose_id,
            version=row.version,
            hcert=row.hcert,
            kid=row.kid,
            issued_at=row.issued_at,
            expires_at=row.expires_at,
        )
    return StoredDose(
        dose_pk=row.dose_pk,
        source=row.source,
        event=event,
        identity=identity_from_document(row.identity),
        outcome=row.outcome,
        reasons=tuple(row.reasons),
        mark=row.mark,
        received_at=row.received_at,
        certificate=certificate,
    )


def _newest_by_pk(rows: Iterable[Row[Any]]) -> dict[int, StoredDose]:
    found: dict[int, StoredDose] = {}
    for row in rows:
        dose = _dose(row)
        known = found.get(dose.dose_pk)
        if known is None or _version(dose) > _version(known):
            found[dose.dose_pk] = dose
    return found


def _newest(rows: Iterable[Row[Any]]) -> dict[str, StoredDose]:
    return {dose.event.dose_id: dose for dose in _newest_by_pk(rows).values()}


def _version(dose: StoredDose) -> int:
    return dose.certificate.version if dose.certificate else 0
