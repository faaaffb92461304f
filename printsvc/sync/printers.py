"""What rides on a lease for the site's printers: commands and settings down, outcomes and routes up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from printsvc.domain.printer_command import CommandState, JobRoute, JobWish, PrinterCommand
from printsvc.flows.printers import Result, take_results, take_routes
from printsvc.flows.services import Services
from printsvc.render.formfile import Form
from printsvc.store import printers as book
from printsvc.store.sites import Agent
from printsvc.sync.texts import aware, text
from spooler.protocol import Command, CommandOutcome, Event, LeaseRequest, QueueSettings, SiteSettings

STATES: Mapping[CommandOutcome, CommandState] = {
    CommandOutcome.DONE: CommandState.DONE,
    CommandOutcome.REFUSED: CommandState.REFUSED,
    CommandOutcome.FAILED: CommandState.FAILED,
    CommandOutcome.UNKNOWN: CommandState.UNKNOWN,
}
assert STATES.keys() == set(CommandOutcome)
_LONG = 1000


async def take(services: Services, agent: Agent, body: LeaseRequest) -> None:
    """Keep the outcomes and the routes of a lease request."""
    if not body.results and not body.routes:
        return
    now = services.clock()
    results = [
        Result(
            text(one.command_id, 64),
            _state_of(one.outcome),
            text(one.reason, 64),
            text(one.en, _LONG),
            text(one.vi, _LONG),
            one.detail,
        )
        for one in body.results
    ]
    routes = [
        JobRoute(text(one.job_id, 32), aware(one.at), text(one.queue, 128), text(one.en, _LONG), text(one.vi, _LONG))
        for one in body.routes
    ]

    def store(connection: Connection) -> None:
        take_results(connection, agent, results, now=now)
        take_routes(connection, agent, routes, now=now)

    await services.store.write(store)


async def give(
    services: Services, agent: Agent, settings_version: str | None, job_ids: Sequence[str]
) -> tuple[tuple[Command, ...], SiteSettings | None, dict[str, JobWish]]:
    """Return the commands for an agent, the settings of its queues where it has others, and the wishes for jobs."""
    now = services.clock()

    def read(connection: Connection) -> tuple[bool, SiteSettings, dict[str, JobWish]]:
        settings = book.list_settings(connection, agent.site_id)
        told = tuple(
            QueueSettings(
                queue=one.queue, pool=one.pool, media=one.media, dpi=one.dpi, pull_back=one.pull_back
            )
            for one in settings
        )  # fmt: skip
        knows = settings_version is not None
        called = knows and book.is_called(connection, agent.site_id, agent.agent_id, now=now)
        newest = SiteSettings(version=book.settings_version(settings), queues=told)
        return called, newest, book.wishes_of(connection, job_ids)

    called, settings, wishes = await services.store.read(read)
    commands: list[PrinterCommand] = []
    if called:
        commands = await services.store.write(
            lambda c: book.give_commands(c, agent.site_id, agent.agent_id, now=now)
        )  # fmt: skip
    news = None if settings_version in (None, settings.version) else settings
    return tuple(_command(command, now) for command in commands), news, wishes


def is_called(services: Services, agent: Agent, settings_version: str | None, connection: Connection) -> bool:
    """Return whether there is something to tell an agent that waits for a job; one that would not hear it waits on."""
    if settings_version is None:
        return False
    settings = book.list_settings(connection, agent.site_id)
    return book.settings_version(settings) != settings_version or book.is_called(
        connection, agent.site_id, agent.agent_id, now=services.clock()
    )


async def take_submitted(services: Services, agent: Agent, events: Iterable[Event]) -> None:
    """Keep why the jobs of these events went to their queues."""
    routes = [
        JobRoute(
            text(event.job_id, 32),
            aware(event.at),
            text(event.queue, 128),
            text(event.route, _LONG),
            text(event.route, _LONG),
            text(event.attempt_id, 96),
        )
        for event in events
        if event.route
    ]
    if routes:
        await services.store.write(lambda c: take_routes(c, agent, routes, now=services.clock()))


def module_um(form: Form | None) -> int:
    """Return the side of a module of a form's QR in micrometres; 0 where the form is not known."""
    return 0 if form is None else form.qr.module_um


def _state_of(outcome: str) -> CommandState:
    """Return our word; of a newer agent's word we cannot say what came of the command."""
    return STATES[CommandOutcome(outcome)] if outcome in STATES else CommandState.UNKNOWN


def _command(command: PrinterCommand, now: datetime) -> Command:
    job = {"job": command.job_id} if command.job_id else {}
    return Command(
        command_id=command.command_id,
        verb=command.verb.value,
        queue=command.queue,
        arguments=command.arguments | job,
        within_s=max(0.0, (command.expires_at - now).total_seconds()),
    )


__all__ = ["give", "is_called", "module_um", "take", "take_submitted"]
