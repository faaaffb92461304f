"""A dose event as JSON: what is stored, what a replay is compared with, and what a site brings home."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from printsvc.domain.dose import DoseEvent, DoseId, DoseKind, Identity, IdentityStatus, Injection
from printsvc.domain.person import IdType, Person, Sex
from printsvc.domain.site import SiteId


def event_to_document(event: DoseEvent) -> dict[str, Any]:
    """Return the event as normalised JSON: what is stored, and what a replay is compared with."""
    person, dose = event.person, event.dose
    return {
        "dose_id": event.dose_id,
        "site_id": event.site_id,
        "person": {
            "full_name": person.full_name,
            "family_name": person.family_name,
            "given_name": person.given_name,
            "date_of_birth": person.date_of_birth.isoformat(),
            "sex": person.sex.value,
            "nationality": person.nationality,
            "id_type": person.id_type.value,
            "id_number": person.id_number,
            "phone": person.phone,
            "address": person.address,
        },
        "identity": identity_to_document(event.identity),
        "dose": {
            "product": dose.product,
            "lot": dose.lot,
            "number": dose.number,
            "series": dose.series,
            "kind": dose.kind.value,
            "injected_at": dose.injected_at.isoformat(),
        },
    }


def event_from_document(document: dict[str, Any]) -> DoseEvent:
    """Return the event that `event_to_document` wrote."""
    person, dose = document["person"], document["dose"]
    return DoseEvent(
        DoseId(document["dose_id"]),
        SiteId(document["site_id"]),
        Person(
            full_name=person["full_name"],
            family_name=person["family_name"],
            given_name=person["given_name"],
            date_of_birth=date.fromisoformat(person["date_of_birth"]),
            sex=Sex(person["sex"]),
            nationality=person["nationality"],
            id_type=IdType(person["id_type"]),
            id_number=person["id_number"],
            phone=person["phone"],
            address=person["address"],
        ),
        identity_from_document(document["identity"]),
        Injection(
            product=dose["product"],
            lot=dose["lot"],
            number=dose["number"],
            series=dose["series"],
            kind=DoseKind(dose["kind"]),
            injected_at=datetime.fromisoformat(dose["injected_at"]),
        ),
    )


def identity_to_document(identity: Identity) -> dict[str, Any]:
    """Return an identity result as JSON."""
    return {
        "status": identity.status.value,
        "checked_at": identity.checked_at.isoformat() if identity.checked_at else None,
        "reference": identity.reference,
    }


def identity_from_document(document: dict[str, Any]) -> Identity:
    """Return the identity result that `identity_to_document` wrote."""
    checked_at = document["checked_at"]
    return Identity(
        IdentityStatus(document["status"]),
        datetime.fromisoformat(checked_at) if checked_at else None,
        document["reference"],
    )


def differing_fields(stored: DoseEvent, sent: DoseEvent) -> list[str]:
    """Return JSON pointers of what differs between two events; empty for the same event.

    The parts of a name are told only where the whole is the same: they may never have been sent.
    """
    found = _differences(event_to_document(stored), event_to_document(sent))
    if "/person/full_name" in found:
        return [pointer for pointer in found if pointer not in ("/person/family_name", "/person/given_name")]
    return found


def _differences(one: dict[str, Any], other: dict[str, Any], at: str = "") -> list[str]:
    found: list[str] = []
    for name, value in one.items():
        pointer = f"{at}/{name}"
        if isinstance(value, dict):
            found += _differences(value, other[name], pointer)
        elif value != other[name]:
            found.append(pointer)
    return found
