"""The health of the sites, read from the books; and their alerts."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, and_, bindparam, cast, delete, func, select, update

from printsvc.domain.fleet import AgentHealth, Alert, AlertState, PrinterHealth, Severity, SiteHealth
from printsvc.domain.print_job import JobState
from printsvc.domain.printer import PrinterState
from printsvc.store.doses import insert_or_ignore
from printsvc.store.fleet_tables import OPEN_STATES, alert_looks, alerts
from printsvc.store.tables import agents, print_jobs, printers, sites

KEEP_RESOLVED = timedelta(days=90)
# As text and not as parameters: else no planner knows that the small index over open papers will do.
_IS_OPEN = print_jobs.c.state.in_(bindparam("open_states", OPEN_STATES, expanding=True, literal_execute=True))
_UNRESOLVED = alerts.c.resolved_at.is_(None)


# --- health


def read_fleet(connection: Connection, *, site_id: str | None = None, province: str | None = None) -> list[SiteHealth]:
    """Return the health of all sites, of one, or of a province's, by site_id."""
    query = select(sites.c.site_id, sites.c.province).order_by(sites.c.site_id)
    if site_id is not None:
        query = query.where(sites.c.site_id == site_id)
    if province is not None:
        query = query.where(sites.c.province == province)
    found = {row.site_id: SiteHealth(row.site_id, row.province) for row in connection.execute(query)}
    few = len(found) <= 1

    def here(column: ColumnElement[str]) -> list[ColumnElement[bool]]:
        return [column.in_(list(found))] if few else []

    agents_of: defaultdict[str, list[AgentHealth]] = defaultdict(list)
    for row in _read_agents(connection, here(agents.c.site_id)):
        agents_of[row.site_id].append(
            AgentHealth(row.agent_id, row.enrolled_at, row.seen_at, row.version, row.protocol, row.clock_skew_ms)
        )
    printers_of: defaultdict[str, list[PrinterHealth]] = defaultdict(list)
    for row in _read_printers(connection, here(printers.c.site_id)):
        printers_of[row.site_id].append(
            PrinterHealth(
                row.queue,
                PrinterState(row.state),
                _list(row.state_reasons),
                row.accepting,
                _list(row.marker_levels),
                row.reported_at,
            )
        )
    papers_of: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for row in _read_open_papers(connection, here(print_jobs.c.site_id)):
        _count_paper(papers_of[row.site_id], row)
    return [
        replace(site, agents=tuple(agents_of[name]), printers=tuple(printers_of[name]), **papers_of[name])
        for name, site in found.items()
    ]


def _read_agents(connection: Connection, here: list[ColumnElement[bool]]) -> Iterable[Row[Any]]:
    columns = ("site_id", "agent_id", "enrolled_at", "seen_at", "version", "protocol", "clock_skew_ms")
    query = select(*(agents.c[name] for name in columns)).where(agents.c.revoked_at.is_(None), *here)
    return connection.execute(query.order_by(agents.c.site_id, agents.c.enrolled_at))


def _read_printers(connection: Connection, here: list[ColumnElement[bool]]) -> Iterable[Row[Any]]:
    plain = (printers.c[name] for name in ("site_id", "queue", "state", "accepting", "reported_at"))
    lists = (cast(printers.c[name], Text).label(name) for name in ("state_reasons", "marker_levels"))
    query = select(*plain, *lists).where(*here)
    return connection.execute(query.order_by(printers.c.site_id, printers.c.queue))


@functools.lru_cache(maxsize=4096)
def _list(text: str) -> tuple[Any, ...]:
    """Return a JSON list. Thousands of printers say the same few: each is read once."""
    return tuple(json.loads(text))


def _read_open_papers(connection: Connection, here: list[ColumnElement[bool]]) -> Iterable[Row[Any]]:
    jobs = print_jobs.c
    query = select(
        jobs.site_id,
        jobs.state,
        func.count().label("number"),
        func.min(jobs.created_at).label("created_at"),
        func.min(jobs.changed_at).label("changed_at"),
    )
    return connection.execute(query.where(_IS_OPEN, *here).group_by(jobs.site_id, jobs.state))


def _count_paper(papers: dict[str, Any], row: Row[Any]) -> None:
    match row.state:
        case JobState.UNCERTAIN:
            papers |= {"uncertain": row.number, "oldest_uncertain_at": row.changed_at}
        case JobState.FAILED:
            papers["failed"] = row.number
        case _:
            oldest = papers.get("oldest_unprinted_at") or row.created_at
            papers["waiting"] = papers.get("waiting", 0) + row.number
            papers["oldest_unprinted_at"] = min(oldest, row.created_at)


# --- alerts


def claim_look(connection: Connection, *, now: datetime, every: timedelta) -> bool:
    """Return whether it is the caller's turn to look at the alerts: of all processes one, once in `every`."""
    first = {"alert_look_pk": 1, "at": now}
    made = insert_or_ignore(connection, alert_looks).values(**first).returning(alert_looks.c.at)
    if connection.execute(made).first() is not None:
        return True
    due = update(alert_looks).where(alert_looks.c.at <= now - every).values(at=now)
    return bool(connection.execute(due).rowcount)


def looked_at(connection: Connection) -> datetime | None:
    """Return when the alerts were looked at last."""
    return connection.execute(select(alert_looks.c.at)).scalar()


def open_alerts(connection: Connection) -> list[Alert]:
    """Return what is pending or firing."""
    return [_alert(row) for row in connection.execute(select(alerts).where(_UNRESOLVED))]


def list_alerts(
    connection: Connection, *, states: Iterable[str], site_id: str | None = None, limit: int = 200
) -> list[Alert]:
    """Return alerts in these states, the newest change first."""
    query = select(alerts).where(alerts.c.state.in_(list(states)))
    if site_id is not None:
        query = query.where(alerts.c.site_id == site_id)
    return [_alert(row) for row in connection.execute(query.order_by(alerts.c.alert_pk.desc()).limit(limit))]


def count_open_alerts(connection: Connection) -> dict[tuple[str, str, str], int]:
    """Return (rule, severity, state) → number of open alerts."""
    columns = (alerts.c.rule, alerts.c.severity, alerts.c.state)
    rows = connection.execute(select(*columns, func.count()).where(_UNRESOLVED).group_by(*columns))
    return {(row[0], row[1], row[2]): row[3] for row in rows}


def change_alert(connection: Connection, before: Alert | None, after: Alert | None) -> bool:
    """Make one change; return whether it was made, and not by another process before.

    `before` None: it is new; `after` None: it is forgotten.
    """
    if before is None:
        assert after is not None, "something changes"
        made = insert_or_ignore(connection, alerts).values(**_values(after)).returning(alerts.c.alert_pk)
        return connection.execute(made).first() is not None
    rule, site_id, subject = before.key
    same = and_(
        alerts.c.rule == rule,
        alerts.c.site_id == site_id,
        alerts.c.subject == subject,
        alerts.c.state == before.state,
        alerts.c.since_at == before.since_at,
        _UNRESOLVED,
    )
    if after is None:
        return bool(connection.execute(delete(alerts).where(same)).rowcount)
    return bool(connection.execute(update(alerts).where(same).values(**_values(after))).rowcount)


def forget_resolved(connection: Connection, *, now: datetime) -> int:
    """Delete what was resolved long ago; return how many."""
    old = delete(alerts).where(alerts.c.resolved_at < now - KEEP_RESOLVED)
    return connection.execute(old).rowcount


_NAMES = (
    "rule",
    "site_id",
    "subject",
    "severity",
    "state",
    "value",
    "since_at",
    "changed_at",
    "fired_at",
    "resolved_at",
)


def _values(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in _NAMES}


def _alert(row: Row[Any]) -> Alert:
    values = {name: getattr(row, name) for name in _NAMES}
    return Alert(**values | {"severity": Severity(row.severity), "state": AlertState(row.state)})


__all__ = [
    "change_alert",
    "claim_look",
    "count_open_alerts",
    "forget_resolved",
    "list_alerts",
    "looked_at",
    "open_alerts",
    "read_fleet",
]
