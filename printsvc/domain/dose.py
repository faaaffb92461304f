"""A dose: one injection of one person, as the Platform reports it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from printsvc.domain.person import Person
from printsvc.domain.site import SiteId

DoseId = NewType("DoseId", str)


class IdentityStatus(StrEnum):
    """What the national population database said about the person."""

    MATCHED = "matched"
    MISMATCHED = "mismatched"
    UNCHECKED = "unchecked"
    EXEMPT = "exempt"


class DoseKind(StrEnum):
    BASIC = "basic"
    ADDITIONAL = "additional"
    BOOSTER = "booster"


@dataclass(frozen=True, slots=True)
class Identity:
    status: IdentityStatus = IdentityStatus.UNCHECKED
    checked_at: datetime | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Injection:
    """`product` is an EU value-set code; `number` of `series` counts doses from 1; `injected_at` is aware."""

    product: str
    lot: str
    number: int
    series: int
    kind: DoseKind
    injected_at: datetime


@dataclass(frozen=True, slots=True)
class DoseEvent:
    dose_id: DoseId
    site_id: SiteId
    person: Person
    identity: Identity
    dose: Injection
