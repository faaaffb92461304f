"""Reading a dose event by the rules of `issuing.intake`, with the value sets of this release."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from babel import Locale

from printsvc.domain.dose import DoseEvent
from printsvc.domain.valuesets import PRODUCTS, PROPHYLAXES, ValueSets
from printsvc.issuing import intake
from printsvc.issuing.intake import (
    CLOCK_SKEW,
    SITE_ID,
    DoseEventIn,
    IdentityIn,
    PersonIn,
    parse_identity,
    problem,
    unknown_site,
)

__all__ = [
    "CLOCK_SKEW",
    "COUNTRIES",
    "SITE_ID",
    "VALUE_SETS",
    "DoseEventIn",
    "IdentityIn",
    "PersonIn",
    "parse_event",
    "parse_identity",
    "problem",
    "unknown_site",
]

# The CLDR's groupings, and territories that have a code on reserve but no nationality.
_NO_COUNTRIES = frozenset(["AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "ZZ"])
COUNTRIES = {
    code: (name, Locale("en").territories[code])
    for code, name in Locale("vi").territories.items()
    if re.fullmatch(r"[A-Z]{2}", code) and code not in _NO_COUNTRIES
}
"""ISO 3166-1 alpha-2 → (Vietnamese, English) name, from the CLDR; and XK, which passports of Kosovo have."""

VALUE_SETS = ValueSets(PRODUCTS, PROPHYLAXES, COUNTRIES)


def parse_event(document: Any, *, now: datetime) -> DoseEvent:
    """Return the event of a decoded JSON document. Raises DoseError with a Problem for each mistake."""
    return intake.parse_event(document, now=now, values=VALUE_SETS)
