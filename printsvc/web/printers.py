"""/v1/printers: the printers of the sites, what is set for them, and what is asked of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Connection

from printsvc.domain.printer_command import (
    ADMINS_ONLY,
    OF_A_JOB,
    OF_A_QUEUE,
    CommandState,
    JobRoute,
    PrinterCommand,
    QueueSetting,
    Verb,
)
from printsvc.errors import AccessError, InputError, NotFoundError, Problem
from printsvc.flows.intake import problem
from printsvc.flows.printers import CUPS_JOB, Wanted, ask, put_setting
from printsvc.store import printers as book
from printsvc.store import sites as site_store
from printsvc.store.sites import SitePrinter
from printsvc.web.access import ADMIN, SITE, require, require_site
from printsvc.web.bodies import read_model
from printsvc.web.keys import SERVICES

Media = Annotated[str, Field(pattern=r"^[a-z][a-z0-9._-]{2,63}$")]
QueueName = Annotated[str, Field(pattern=r"^[^\s/\\#'\"\x00-\x1f]{1,127}$")]


class SettingIn(BaseModel):
    """The body of `PUT /v1/printers/{site_id}/queues/{queue}/settings`: all of it; what is absent is unset."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    pool: str = Field(default="", pattern=r"^[a-z0-9-]{0,32}$")
    media: list[Media] = Field(default=[], max_length=20)
    dpi: int = Field(default=0, ge=0, le=4800)
    pull_back: int = Field(default=0, ge=0, le=8)

    @model_validator(mode="after")
    def _has_dpi(self) -> SettingIn:
        if self.pull_back and not self.dpi:
            raise ValueError("pull_back needs dpi")
        return self


class CommandIn(BaseModel):
    """The body of `POST /v1/printers/{site_id}/commands`; docs/printing.md has the verbs and what each needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    verb: Verb
    queue: QueueName | Literal[""] = ""
    job: str = Field(default="", pattern=r"^[A-Za-z0-9-]{0,32}$")
    uri: str = Field(default="", max_length=512)
    hosts: list[str] = Field(default=[], max_length=64)
    media: Media | Literal[""] = ""
    dpi: int = Field(default=0, ge=0, le=4800)
    priority: int | None = Field(default=None, ge=1, le=100)
    to: str | None = Field(default=None, max_length=160)
    drain: bool = False
    command_id: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    within_s: float = Field(default=60.0, ge=1, le=86_400)


async def list_printers(request: web.Request) -> web.Response:
    """List the printers as their agents last told: ?site_id=…"""
    caller = await require(request, ADMIN, SITE)
    site_id = caller.site_id if caller.role == SITE else request.query.get("site_id")

    def read(connection: Connection) -> tuple[list[SitePrinter], list[QueueSetting]]:
        return site_store.list_printers(connection, site_id), book.list_settings(connection, site_id)

    found, settings = await request.app[SERVICES].store.read(read)
    of = {(one.site_id, one.queue): one for one in settings}
    return web.json_response(
        {"printers": [printer_document(one, of.get((one.site_id, one.printer.queue))) for one in found]}
    )


async def get_printer(request: web.Request) -> web.Response:
    """Tell a printer, what is set for it, and what was asked of it lately."""
    site_id, queue = request.match_info["site_id"], request.match_info["queue"]
    await require_site(request, site_id, ADMIN)
    services = request.app[SERVICES]

    def read(connection: Connection) -> dict[str, Any]:
        site_store.get_site(connection, site_id)
        printer = next((p for p in site_store.list_printers(connection, site_id) if p.printer.queue == queue), None)
        if printer is None:
            raise NotFoundError("There is no such printer.", vi="Không có máy in này.")
        setting = next((s for s in book.list_settings(connection, site_id) if s.queue == queue), None)
        commands = book.list_commands(connection, site_id, queue=queue, limit=20)
        now = services.clock()
        return printer_document(printer, setting) | {"commands": [command_document(c, now) for c in commands]}

    return web.json_response(await services.store.read(read))


async def put_settings(request: web.Request) -> web.Response:
    """Set pool, media, dpi and pull-back of a queue; the agent has them with its next call."""
    caller = await require(request, ADMIN)
    body = await read_model(request, SettingIn)
    setting = QueueSetting(
        request.match_info["site_id"],
        request.match_info["queue"],
        body.pool,
        tuple(body.media),
        body.dpi,
        body.pull_back,
    )
    return web.json_response(setting_document(await put_setting(request.app[SERVICES], setting, actor=caller.name)))


async def post_command(request: web.Request) -> web.Response:
    """Ask something of a site's printers: 202 while the agent has it to do, 200 with the outcome where it is known."""
    site_id = request.match_info["site_id"]
    caller = await require_site(request, site_id, ADMIN)
    body = await read_model(request, CommandIn)
    if body.verb in ADMINS_ONLY and caller.role != ADMIN:
        raise AccessError(403, f"The role {caller.role} may not do this.", vi="Vai trò này không được phép.")
    problems = [*_lacking(body)]
    if problems:
        raise InputError(problems)
    services = request.app[SERVICES]
    command = await ask(
        services,
        site_id,
        Wanted(body.verb, body.queue, body.job, _arguments(body), body.command_id, body.within_s),
        actor=caller.name,
    )
    document = command_document(command, services.clock())
    return web.json_response(document, status=200 if command.ended_at else 202)


async def list_commands(request: web.Request) -> web.Response:
    """List what was asked of a site's printers, the newest first: ?queue=…&job_id=…&limit=…"""
    site_id = request.match_info["site_id"]
    await require_site(request, site_id, ADMIN)
    limit = request.query.get("limit", "100")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit) <= 1000):
        raise InputError([problem("/limit", "invalid")])
    services = request.app[SERVICES]

    def read(connection: Connection) -> list[PrinterCommand]:
        site_store.get_site(connection, site_id)
        return book.list_commands(
            connection,
            site_id,
            queue=request.query.get("queue", ""),
            job_id=request.query.get("job_id", ""),
            limit=int(limit),
        )

    commands = await services.store.read(read)
    return web.json_response({"commands": [command_document(command, services.clock()) for command in commands]})


async def get_command(request: web.Request) -> web.Response:
    """Tell a command and what came of it."""
    site_id = request.match_info["site_id"]
    await require_site(request, site_id, ADMIN)
    services = request.app[SERVICES]

    def read(connection: Connection) -> PrinterCommand:
        site_store.get_site(connection, site_id)
        return book.get_command(connection, site_id, request.match_info["command_id"])

    return web.json_response(command_document(await services.store.read(read), services.clock()))


def printer_document(one: SitePrinter, setting: QueueSetting | None) -> dict[str, Any]:
    return {
        "site_id": one.site_id,
        "queue": one.printer.queue,
        "uri": one.printer.uri,
        "make_and_model": one.printer.make_and_model,
        "state": one.printer.state.name.lower(),
        "state_reasons": one.printer.state_reasons,
        "accepting": one.printer.accepting,
        "formats": one.printer.formats,
        "marker_levels": one.marker_levels,
        "problems": one.problems,
        "queued": one.facts.get("queued", 0),
        "oldest_s": one.facts.get("oldest_s"),
        "media_ready": one.facts.get("media_ready", []),
        "settings": setting_document(setting or QueueSetting(one.site_id, one.printer.queue)),
        "reported_at": one.reported_at.isoformat(),
    }


def setting_document(setting: QueueSetting) -> dict[str, Any]:
    return {
        "pool": setting.pool,
        "media": setting.media,
        "dpi": setting.dpi,
        "pull_back": setting.pull_back,
    }


def command_document(command: PrinterCommand, now: Any) -> dict[str, Any]:
    state = command.state_at(now)
    en, vi = command.en, command.vi
    if not en and (told := _TOLD.get(state)):
        en, vi = told
    return {
        "command_id": command.command_id,
        "site_id": command.site_id,
        "verb": command.verb,
        "queue": command.queue,
        "job": command.job_id,
        "arguments": command.arguments,
        "asked_by": command.asked_by,
        "asked_at": command.asked_at.isoformat(),
        "expires_at": command.expires_at.isoformat(),
        "state": state,
        "reason": command.reason,
        "detail": en,
        "detail_vi": vi,
        "result": command.detail,
        "agent_id": command.agent_id,
        "given_at": command.given_at.isoformat() if command.given_at else None,
        "ended_at": command.ended_at.isoformat() if command.ended_at else None,
    }


_TOLD = {
    CommandState.WAITING: ("Waits for the site's agent.", "Đang chờ tiến trình in của điểm tiêm."),
    CommandState.GIVEN: ("The agent is at it.", "Tiến trình in đang thực hiện."),
    CommandState.EXPIRED: (
        "The agent did not come in time: nothing was done. Is its line up?",
        "Tiến trình in không kết nối kịp: chưa thực hiện gì. Hãy kiểm tra đường truyền.",
    ),
    CommandState.NO_ANSWER: (
        "The agent took it and has not said what came of it: look at the printer before you ask again.",
        "Tiến trình in đã nhận nhưng chưa trả lời: hãy xem máy in trước khi yêu cầu lại.",
    ),
}


def route_document(route: JobRoute) -> dict[str, Any]:
    return {
        "at": route.at.isoformat(),
        "queue": route.queue,
        "attempt_id": route.attempt_id,
        "why": route.en,
        "why_vi": route.vi,
    }


def _arguments(body: CommandIn) -> dict[str, Any]:
    given: dict[str, Any] = {
        "uri": body.uri,
        "hosts": body.hosts,
        "media": body.media,
        "dpi": body.dpi,
        "drain": body.drain,
    }
    return {name: value for name, value in given.items() if value} | {
        name: value for name, value in (("priority", body.priority), ("to", body.to)) if value is not None
    }


def _lacking(body: CommandIn) -> list[Problem]:
    """Return what the verb needs and was not given."""
    needed: dict[str, bool] = {
        "queue": body.verb in OF_A_QUEUE or body.verb is Verb.ADD,
        "uri": body.verb is Verb.ADD,
        "job": body.verb in OF_A_JOB,
        "priority": body.verb is Verb.PRIORITY,
        "to": body.verb is Verb.MOVE,
    }
    lacking = [name for name, is_needed in needed.items() if is_needed and getattr(body, name) in ("", None)]
    if body.job.startswith(CUPS_JOB) and not body.queue:
        lacking.append("queue")  # whose CUPS: a site may have two computers
    return [problem(f"/{name}", "missing") for name in lacking]
