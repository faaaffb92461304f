"""Which alerts there are now: rules over the health of the fleet, against what is open already. Pure.

`TRANSITIONS` is the whole life of an alert; there is at most one open alert of a rule, a site and a subject::

    (none) ─met─> pending ─held─> firing ─clear─> resolved
                     └────clear──> (forgotten)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from printsvc.domain.fleet import Alert, AlertState, Severity, SiteHealth
from printsvc.stats.alertrules import MEASURES, Rule


class AlertEvent(StrEnum):
    """MET: the condition holds. HELD: it does for as long as the rule wants. CLEAR: it does not, or is not known."""

    MET = "met"
    HELD = "held"
    CLEAR = "clear"


_S, _E = AlertState, AlertEvent
TRANSITIONS: Mapping[tuple[AlertState | None, AlertEvent], AlertState | None] = {
    (None, _E.MET): _S.PENDING,
    (None, _E.HELD): _S.FIRING,
    (_S.PENDING, _E.MET): _S.PENDING,
    (_S.PENDING, _E.HELD): _S.FIRING,
    (_S.PENDING, _E.CLEAR): None,
    (_S.FIRING, _E.MET): _S.FIRING,  # the rule wants longer than it did: what fires goes on
    (_S.FIRING, _E.HELD): _S.FIRING,
    (_S.FIRING, _E.CLEAR): _S.RESOLVED,
}


@dataclass(frozen=True, slots=True)
class Change:
    """`before` None: it is new; `after` None: it is forgotten, for it never fired."""

    before: Alert | None
    after: Alert | None


def evaluate(
    rules: Sequence[Rule], fleet: Iterable[SiteHealth], known: Iterable[Alert], *, now: datetime, version: str
) -> list[Change]:
    """Return what changes of the open alerts `known`; `version` is the service's own.

    An alert whose rule, site or subject is gone ends as if its condition were clear.
    """
    open_alerts = {alert.key: alert for alert in known}
    changes: list[Change] = []
    met: set[tuple[str, str, str]] = set()
    for site in fleet:
        for rule in rules:
            if rule.while_waiting and not site.waiting:
                continue
            for subject, value in MEASURES[rule.measure].take(site, now):
                if value is None or not is_met(rule, value, version=version):
                    continue
                key = (rule.name, site.site_id, subject)
                met.add(key)
                changes += _met(rule, open_alerts.get(key), key, _text(value), now)
    for key, alert in open_alerts.items():
        if key not in met:
            changes.append(Change(alert, _moved(alert, AlertEvent.CLEAR, now)))
    return changes


def is_met(rule: Rule, value: float | str, *, version: str) -> bool:
    """Return whether a value is beyond the rule's limit."""
    if isinstance(value, str) or isinstance(rule.limit, str):
        limit = version if rule.limit == "service" else str(rule.limit)
        has, wants = version_of(str(value)), version_of(limit)
        return has > wants if rule.is_above else has < wants
    return value > rule.limit if rule.is_above else value < rule.limit


def version_of(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version for comparing, without zeros at the end: 1.2.0rc1 is (1, 2)."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits[:9]))
        if digits != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def sentence(template: str, alert: Alert, *, unit: str) -> str:
    """Return a rule's sentence about an alert."""
    return template.format(site=alert.site_id, subject=alert.subject, value=readable(alert.value, unit))


def readable(value: str, unit: str) -> str:
    """Return a value as people read it: 612 s is 10 min."""
    if unit != "s":
        return f"{value} %" if unit == "%" else value
    seconds = float(value)
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (size == 60 and seconds >= 60):
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} s"


def _met(rule: Rule, alert: Alert | None, key: tuple[str, str, str], value: str, now: datetime) -> Iterable[Change]:
    since_at = now if alert is None else alert.since_at
    event = AlertEvent.HELD if now - since_at >= timedelta(seconds=rule.for_s) else AlertEvent.MET
    if alert is None:
        new = Alert(*key, rule.severity, AlertState.PENDING, value, since_at=now, changed_at=now)
        yield Change(None, _moved(new, event, now, is_new=True))
        return
    after = _moved(alert, event, now)
    assert after is not None, "only what is clear is forgotten"
    if after.severity is not rule.severity or _is_news(alert.value, value) or after.state is not alert.state:
        yield Change(alert, replace(after, severity=rule.severity, value=value, changed_at=now))


def _moved(alert: Alert, event: AlertEvent, now: datetime, *, is_new: bool = False) -> Alert | None:
    state = TRANSITIONS[None if is_new else alert.state, event]
    if state is None:
        return None
    if state is alert.state:
        return alert
    fired_at = now if state is AlertState.FIRING else alert.fired_at
    resolved_at = now if state is AlertState.RESOLVED else None
    return replace(alert, state=state, fired_at=fired_at, resolved_at=resolved_at, changed_at=now)


def _is_news(before: str, after: str) -> bool:
    """Return whether a value moved so far that it is worth a write: an age grows at every look."""
    try:
        old, new = float(before), float(after)
    except ValueError:
        return before != after
    return (old == 0) != (new == 0) or (old > 0 and not old / 2 < new < old * 2)


def _text(value: float | str) -> str:
    return value[:32] if isinstance(value, str) else f"{value:.0f}"


def worst_first(alerts: Iterable[Alert]) -> list[Alert]:
    """Return firing before pending before resolved, the gravest first, then the oldest."""
    states = [AlertState.FIRING, AlertState.PENDING, AlertState.RESOLVED]
    severities = [Severity.CRITICAL, Severity.WARNING, Severity.INFO]
    return sorted(alerts, key=lambda a: (states.index(a.state), severities.index(a.severity), a.since_at, a.key))
