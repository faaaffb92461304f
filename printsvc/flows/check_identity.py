"""Asking the identity gate before the needle. Pure: nothing is stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from printsvc.flows.intake import parse_event
from printsvc.identity.gate import Hold, Issue, decide
from printsvc.identity.numbers import check_number


def check(document: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """Return `{"decision": issue | hold, "number": …, "reasons": […]}` for `{"person", "identity"?}`.

    Raises DoseError with problems that point into the document.
    """
    # The person is read by the same rules as an event's; the injection is a stand-in that is always right.
    event = {
        "dose_id": "CHECK",
        "site_id": "CHECK",
        "person": document.get("person"),
        "identity": document.get("identity"),
        "dose": {
            "product": "EU/1/20/1528",
            "lot": "CHECK",
            "number": 1,
            "series": 1,
            "kind": "basic",
            "injected_at": now.isoformat(),
        },
    }
    unknown = set(document) - {"person", "identity"}
    if unknown:
        event[sorted(unknown)[0]] = None
    parsed = parse_event(event, now=now)
    decision = decide(parsed.person, parsed.identity)
    number = check_number(parsed.person)
    match decision:
        case Issue(mark):
            return {"decision": "issue", "number": number, "mark": mark, "reasons": []}
        case Hold(reasons):
            told = [{"code": r.code, "vi": r.vi, "en": r.en} for r in reasons]
            return {"decision": "hold", "number": number, "mark": "", "reasons": told}
