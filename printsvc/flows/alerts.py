"""Alerts about the sites: looking at all of them now and again, and keeping what changed."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from printsvc import __version__
from printsvc.domain.fleet import Alert, AlertState
from printsvc.errors import UnavailableError
from printsvc.flows.services import Services
from printsvc.stats.alerts import Change, evaluate
from printsvc.store import fleet as fleet_store

_LOG = structlog.get_logger("printsvc.alerts")


async def tend_alerts(services: Services, *, every_s: float, version: str) -> list[Alert] | None:
    """Look at all sites where it is this process's turn; return the alerts that fire or were resolved just now.

    None: it is another's turn. Whatever many processes do, an alert fires once and is resolved once: the database
    decides who did it. Raises StoreError.
    """
    now = services.clock()
    every = timedelta(seconds=every_s)
    if not await services.store.write(lambda c: fleet_store.claim_look(c, now=now, every=every)):
        return None
    await asyncio.to_thread(services.alerts.look)
    rules = services.alerts.rules()

    def decide(connection: Connection) -> list[Change]:
        fleet, known = fleet_store.read_fleet(connection), fleet_store.open_alerts(connection)
        return evaluate(rules, fleet, known, now=now, version=version)

    changes = await services.store.read(decide)
    made: list[Alert] = []
    for start in range(0, len(changes), _CHUNK):
        part = changes[start : start + _CHUNK]
        made += await services.store.write(lambda c, p=part: _store(c, p))  # type: ignore[misc]
    await services.store.write(lambda c: fleet_store.forget_resolved(c, now=now))
    for alert in made:
        _note(alert, now)
    return made


async def keep_alerts(services: Services, *, every_s: float) -> None:
    """Look at all sites for ever; ends only by cancellation."""
    while True:
        try:
            await tend_alerts(services, every_s=every_s, version=__version__)
        except UnavailableError as error:
            _LOG.warning("alerts wait", code=error.code, detail=error.en)
        await asyncio.sleep(every_s / 2)  # another process may have been first, and may be gone


_CHUNK = 500  # a storm of alerts must not hold up the doses


def _store(connection: Connection, changes: list[Change]) -> list[Alert]:
    told = []
    for change in changes:
        before = change.before.state if change.before else None
        if not fleet_store.change_alert(connection, change.before, change.after) or change.after is None:
            continue
        if change.after.state is not before and change.after.state is not AlertState.PENDING:
            told.append(change.after)
    return told


def _note(alert: Alert, now: datetime) -> None:
    level = _LOG.warning if alert.state is AlertState.FIRING else _LOG.info
    level(
        f"alert {alert.state}",
        rule=alert.rule,
        severity=alert.severity,
        site_id=alert.site_id,
        subject=alert.subject,
        value=alert.value,
        for_s=round((now - alert.since_at).total_seconds()),
    )
