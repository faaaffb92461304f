"""The ledger of printers' commands, the settings of queues, wishes for jobs and their routes: statements."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from printsvc.domain.printer_command import (
    NO_ANSWER_AFTER,
    OPEN,
    CommandState,
    JobRoute,
    JobWish,
    PrinterCommand,
    QueueSetting,
    Verb,
)
from printsvc.errors import NotFoundError
from printsvc.store.printertables import job_routes, job_wishes, printer_commands, printer_settings
from printsvc.store.tables import printers

GIVE_AGAIN_AFTER = timedelta(seconds=20)
"""An answer may have been lost: the agent does a command once, however often it is given."""
KEPT_ROUTES = 50

_c = printer_commands.c


def insert_command(connection: Connection, command: PrinterCommand) -> None:
    connection.execute(insert(printer_commands).values(**asdict(command)))


def find_command(connection: Connection, command_id: str) -> PrinterCommand | None:
    row = connection.execute(select(printer_commands).where(_c.command_id == command_id)).first()
    return _command(row) if row else None


def get_command(connection: Connection, site_id: str, command_id: str) -> PrinterCommand:
    """Return a command of a site. Raises NotFoundError."""
    command = find_command(connection, command_id)
    if command is None or command.site_id != site_id:
        raise NotFoundError("There is no such command.", vi="Không có lệnh này.")
    return command


def list_commands(
    connection: Connection, site_id: str, *, queue: str = "", job_id: str = "", limit: int = 100
) -> list[PrinterCommand]:
    """Return the newest commands of a site, the newest first."""
    query = select(printer_commands).where(_c.site_id == site_id)
    if queue:
        query = query.where(_c.queue == queue)
    if job_id:
        query = query.where(_c.job_id == job_id)
    query = query.order_by(_c.asked_at.desc(), _c.command_id).limit(limit)
    return [_command(row) for row in connection.execute(query)]


def is_called(connection: Connection, site_id: str, agent_id: str, *, now: datetime) -> bool:
    """Return whether there is a command to give to the agent."""
    return connection.execute(_to_give(site_id, agent_id, now).limit(1)).first() is not None


def give_commands(connection: Connection, site_id: str, agent_id: str, *, now: datetime) -> list[PrinterCommand]:
    """Return the commands for an agent, the oldest first, and remember that it was given them."""
    rows = connection.execute(_to_give(site_id, agent_id, now).limit(20).with_for_update(skip_locked=True)).all()
    given = [_command(row) for row in rows]
    connection.execute(
        update(printer_commands)
        .where(_c.command_id.in_([command.command_id for command in given]))
        .values(agent_id=agent_id, state=CommandState.GIVEN, given_at=now)
    )
    return given


def _to_give(site_id: str, agent_id: str, now: datetime) -> Any:
    lost = and_(_c.state == CommandState.GIVEN, _c.given_at < now - GIVE_AGAIN_AFTER)
    return (
        select(printer_commands)
        .where(
            _c.site_id == site_id,
            _c.ended_at.is_(None),
            _c.expires_at > now,
            or_(_c.agent_id.is_(None), _c.agent_id == agent_id),
            or_(_c.state == CommandState.WAITING, lost),
        )
        .order_by(_c.asked_at, _c.command_id)
    )


def end_command(
    connection: Connection,
    command_id: str,
    state: CommandState,
    *,
    reason: str,
    en: str,
    vi: str,
    detail: dict[str, Any],
    now: datetime,
) -> None:
    connection.execute(
        update(printer_commands)
        .where(_c.command_id == command_id)
        .values(state=state, reason=reason, en=en, vi=vi, detail=detail, ended_at=now)
    )


def end_overdue(connection: Connection, site_id: str, *, now: datetime) -> None:
    """Write down the end of what nobody took in time, and of what nobody answered for."""
    for state, after, then in (
        (CommandState.WAITING, timedelta(0), CommandState.EXPIRED),
        (CommandState.GIVEN, NO_ANSWER_AFTER, CommandState.NO_ANSWER),
    ):
        connection.execute(
            update(printer_commands)
            .where(_c.site_id == site_id, _c.ended_at.is_(None), _c.state == state, _c.expires_at <= now - after)
            .values(state=then, ended_at=now)
        )


def sites_with_waiting_commands(connection: Connection) -> list[str]:
    query = select(_c.site_id).where(_c.ended_at.is_(None), _c.state == CommandState.WAITING).distinct()
    return list(connection.execute(query).scalars())


def find_cancel(connection: Connection, job_id: str) -> PrinterCommand | None:
    """Return the command by which an agent gives a job back for good: it has it, or said that it did so."""
    states = (CommandState.GIVEN, CommandState.DONE)
    query = select(printer_commands).where(_c.job_id == job_id, _c.verb == Verb.CANCEL, _c.state.in_(states))
    row = connection.execute(query.order_by(_c.asked_at).limit(1)).first()
    return _command(row) if row else None


# --- settings


def list_settings(connection: Connection, site_id: str | None = None) -> list[QueueSetting]:
    query = select(printer_settings).order_by(printer_settings.c.site_id, printer_settings.c.queue)
    if site_id is not None:
        query = query.where(printer_settings.c.site_id == site_id)
    return [
        QueueSetting(row.site_id, row.queue, row.pool, tuple(row.media), row.dpi, row.pull_back)
        for row in connection.execute(query)
    ]


def put_setting(connection: Connection, setting: QueueSetting, *, actor: str, now: datetime) -> None:
    where = and_(printer_settings.c.site_id == setting.site_id, printer_settings.c.queue == setting.queue)
    connection.execute(delete(printer_settings).where(where))
    values = asdict(setting) | {"media": list(setting.media), "changed_at": now, "changed_by": actor[:64]}
    connection.execute(insert(printer_settings).values(**values))


def settings_version(settings: Sequence[QueueSetting]) -> str:
    """Return a digest by which an agent knows whether it has these settings; empty for none."""
    if not settings:
        return ""
    text = json.dumps([asdict(setting) for setting in settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def agent_of_queue(connection: Connection, site_id: str, queue: str) -> str:
    """Return the agent that told of this queue. Raises NotFoundError."""
    query = select(printers.c.agent_id).where(printers.c.site_id == site_id, printers.c.queue == queue)
    agent_id = connection.execute(query).scalar()
    if agent_id is None:
        raise NotFoundError("There is no such printer.", vi="Không có máy in này.")
    return str(agent_id)


# --- wishes and routes of jobs


def wishes_of(connection: Connection, job_ids: Iterable[str]) -> dict[str, JobWish]:
    wanted = list(job_ids)
    if not wanted:
        return {}
    rows = connection.execute(select(job_wishes).where(job_wishes.c.job_id.in_(wanted)))
    return {row.job_id: JobWish(row.asked, row.kept) for row in rows}


def put_wish(connection: Connection, job_id: str, wish: JobWish, *, actor: str, now: datetime) -> None:
    connection.execute(delete(job_wishes).where(job_wishes.c.job_id == job_id))
    values = {"job_id": job_id, "asked": wish.asked, "kept": wish.kept, "changed_at": now, "changed_by": actor[:64]}
    connection.execute(insert(job_wishes).values(**values))


def insert_routes(connection: Connection, routes: Sequence[JobRoute], *, agent_id: str, now: datetime) -> None:
    """Keep why jobs went where they went; of one job that is refused for days, the newest alone."""
    for route in routes:
        newest = connection.execute(
            select(job_routes)
            .where(job_routes.c.job_id == route.job_id)
            .order_by(job_routes.c.route_pk.desc())
            .limit(1)
        ).first()
        if newest is not None and (newest.queue, newest.en) == (route.queue, route.en):
            # Told before, as it was decided; now it is known for which attempt.
            if route.attempt_id and not newest.attempt_id:
                row = job_routes.c.route_pk == newest.route_pk
                connection.execute(update(job_routes).where(row).values(attempt_id=route.attempt_id))
                continue
            if route.attempt_id == newest.attempt_id or not route.attempt_id:
                continue
        values = asdict(route) | {"agent_id": agent_id, "recorded_at": now}
        connection.execute(insert(job_routes).values(**values))
        kept = (
            select(job_routes.c.route_pk)
            .where(job_routes.c.job_id == route.job_id)
            .order_by(job_routes.c.route_pk.desc())
            .limit(1)
            .offset(KEPT_ROUTES)
        )
        oldest = connection.execute(kept).scalar()
        if oldest is not None:
            connection.execute(
                delete(job_routes).where(job_routes.c.job_id == route.job_id, job_routes.c.route_pk <= oldest)
            )


def routes_of(connection: Connection, job_id: str) -> list[JobRoute]:
    """Return why a job went where it went, in order."""
    query = select(job_routes).where(job_routes.c.job_id == job_id).order_by(job_routes.c.route_pk)
    return [
        JobRoute(row.job_id, row.at, row.queue, row.en, row.vi, row.attempt_id) for row in connection.execute(query)
    ]


def _command(row: Row[Any]) -> PrinterCommand:
    values = row._asdict()
    values["verb"], values["state"] = Verb(values["verb"]), CommandState(values["state"])
    return PrinterCommand(**values)


__all__ = [
    "OPEN",
    "agent_of_queue",
    "end_command",
    "end_overdue",
    "find_cancel",
    "find_command",
    "get_command",
    "give_commands",
    "insert_command",
    "insert_routes",
    "is_called",
    "list_commands",
    "list_settings",
    "put_setting",
    "put_wish",
    "routes_of",
    "settings_version",
    "sites_with_waiting_commands",
    "wishes_of",
]
