"""/agent/v1: what the agents of the sites call. The wire's records are turned into ours here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from aiohttp import web
from pydantic import ValidationError

from printsvc import __version__
from printsvc.domain.form import FormId
from printsvc.domain.print_job import Happening, JobEvent
from printsvc.domain.printer import Printer, PrinterState
from printsvc.domain.printer_command import JobWish
from printsvc.errors import AccessError, InputError, Problem
from printsvc.flows import dispatch
from printsvc.flows.presence import Presence
from printsvc.flows.services import Services
from printsvc.render.formfile import Form
from printsvc.store.sites import Agent, SitePrinter, enrol
from printsvc.sync import printers
from printsvc.sync.texts import aware as _aware
from printsvc.sync.texts import text as _text
from spooler import compact
from spooler.protocol import (
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    Document,
    EnrollAnswer,
    EnrollRequest,
    EventKind,
    EventResult,
    FormName,
    Held,
    Hello,
    JobId,
    LeaseAnswer,
    LeasedJob,
    LeaseRequest,
    Message,
    Outcome,
    PrinterReport,
    ReportAnswer,
    ReportRequest,
)

MAX_WAIT_S = 55.0  # below the minute after which many a proxy cuts an idle line
SERVICES = web.AppKey("agent_services", Services)
PRESENCE = web.AppKey("agent_presence", Presence)

M = TypeVar("M", bound=Message)

JOB_EVENTS: Mapping[EventKind, JobEvent] = {
    EventKind.SUBMITTED: JobEvent.SUBMIT,
    EventKind.PRINTED: JobEvent.PRINT,
    EventKind.UNCERTAIN: JobEvent.DOUBT,
    EventKind.FAILED: JobEvent.FAIL,
    EventKind.RETURNED: JobEvent.RETURN,
}

_told_printers: web.AppKey[dict[str, tuple[PrinterReport, ...]]] = web.AppKey("told_printers", dict)


def add_routes(application: web.Application, services: Services) -> None:
    """Add the agents' routes."""
    application[SERVICES] = services
    application[_told_printers] = {}
    application[PRESENCE] = presence = Presence(services.store)

    async def close(_: web.Application) -> None:
        await presence.close()

    application.on_shutdown.append(close)
    application.router.add_get("/agent/v1/hello", get_hello)
    application.router.add_post("/agent/v1/enroll", post_enroll)
    application.router.add_post("/agent/v1/lease", post_lease)
    application.router.add_post("/agent/v1/report", post_report)


async def get_hello(request: web.Request) -> web.Response:
    """Say who is here and what time it is; changes nothing. A token that is sent must be known."""
    site_id = (await agent_who_asks(request)).site_id if "Authorization" in request.headers else ""
    now = request.app[SERVICES].clock()
    return _answer(Hello(service_version=__version__, server_time=now, site_id=site_id))


async def post_enroll(request: web.Request) -> web.Response:
    """Use up a one-time code; the answer holds the agent's token, this once."""
    body = await _read(request, EnrollRequest)
    services = request.app[SERVICES]
    token = f"ps_{services.random_bytes(32).hex()}"
    agent_id = services.random_bytes(8).hex()
    agent = await services.store.write(
        lambda c: enrol(
            c,
            body.code.strip(),
            agent_id=agent_id,
            token=token,
            journal_id=_text(body.journal_id, 64),
            version=_text(body.agent_version, 32),
            now=services.clock(),
        )
    )
    return _answer(EnrollAnswer(agent_id=agent.agent_id, site_id=agent.site_id, token=token))


async def post_lease(request: web.Request) -> web.Response:
    """Long-poll for jobs of the agent's site."""
    agent = await agent_who_asks(request)
    return _answer(await answer_lease(request, agent, await _read(request, LeaseRequest)))


async def answer_lease(request: web.Request, agent: Agent, body: LeaseRequest) -> LeaseAnswer:
    """Return the answer to a lease call, however it came."""
    services = request.app[SERVICES]
    now = services.clock()
    told = request.app[_told_printers]
    skew = _fit(round((_aware(body.agent_time) - now).total_seconds() * 1000)) if body.agent_time else None
    # Printers are stored when something about them changed; a poll that says the same again writes nothing itself.
    news = not body.printers_same and told.get(agent.agent_id) != body.printers
    journal_id, version = _text(body.journal_id, 64), _text(body.agent_version, 32)
    if news or (agent.journal_id, agent.version, agent.protocol) != (journal_id, version, body.protocol):
        await dispatch.agent_seen(
            services,
            agent,
            journal_id=journal_id,
            version=version,
            clock_skew_ms=skew,
            protocol=_fit(body.protocol),
            printers=[_printer(agent, report, services) for report in body.printers] if news else None,
        )
    request.app[PRESENCE].seen(agent.agent_id, now, skew, body.counts.model_dump() if body.counts else None)
    if news:
        told[agent.agent_id] = body.printers
    await printers.take(services, agent, body)
    result = await dispatch.lease(
        services,
        agent,
        journal_id=journal_id,
        capacity=body.capacity,
        wait_s=min(body.wait_s, MAX_WAIT_S),
        holding=[(held.job_id, held.fencing_token) for held in body.holding],
        is_gone=lambda: request.transport is None or request.transport.is_closing(),
        forms=body.forms,
        work_of=request.app[PRESENCE].work_of,
        is_called=lambda c: printers.is_called(services, agent, body.settings_version, c),
    )
    job_ids = [ready.job.job_id for ready in result.ready]
    commands, settings, wishes = await printers.give(services, agent, body.settings_version, job_ids)
    known = {str(form.form_id): form for form in services.known_forms}
    return LeaseAnswer(
        server_time=services.clock(),
        jobs=tuple(
            _leased(ready, wishes.get(ready.job.job_id, JobWish()).asked, known.get(ready.job.form))
            for ready in result.ready
        ),
        renewed=tuple(Held(job_id=JobId(job_id), fencing_token=token) for job_id, token in result.renewed),
        dropped=tuple(JobId(job_id) for job_id in result.dropped),
        line=compact.NEWEST,
        forms=await _forms_to_fetch(services, body, result),
        commands=commands,
        settings=settings,
    )


async def _forms_to_fetch(services: Services, body: LeaseRequest, result: dispatch.LeaseResult) -> tuple[FormName, ...]:
    if services.shelf is None or not body.stamps:
        return ()
    wanted = {services.form.form_id, *(FormId(ready.job.form) for ready in result.ready)}
    shelved = [await services.shelf.find(form_id) for form_id in sorted(wanted)]
    return tuple(
        FormName(form=one.form_id, digest=one.digest)
        for one in shelved
        if one is not None and one.digest not in body.forms
    )


async def post_report(request: web.Request) -> web.Response:
    """Take an agent's events: each once, in order."""
    agent = await agent_who_asks(request)
    return _answer(await answer_report(request, agent, await _read(request, ReportRequest)))


async def answer_report(request: web.Request, agent: Agent, body: ReportRequest) -> ReportAnswer:
    """Return the answer to a report, however it came."""
    events = [
        (
            _text(event.job_id, 64),
            Happening(
                event=_event_of(event.kind),
                at=_aware(event.at),
                actor=agent.agent_id,
                seq=event.seq,
                fencing_token=_fit(event.fencing_token),
                attempt_id=_text(event.attempt_id, 96),
                queue=_text(event.queue, 128),
                reason=_text(event.reason if event.kind in JOB_EVENTS else event.kind, 64),
                witness=_text(event.witness, 16),
                impressions=None if event.impressions is None else _fit(event.impressions),
                printer_said=_text(event.printer_said, 64),
                printer_said_at=None if event.printer_said_at is None else _aware(event.printer_said_at),
            ),
        )
        for event in body.events
    ]
    acknowledged, told = await dispatch.report(request.app[SERVICES], agent, _text(body.journal_id, 64), events)
    results = tuple(EventResult(seq=one.seq, outcome=Outcome(one.outcome), state=one.state) for one in told)
    applied = {one.seq for one in told if one.outcome == Outcome.APPLIED}
    await printers.take_submitted(request.app[SERVICES], agent, [e for e in body.events if e.seq in applied])
    return ReportAnswer(acknowledged=acknowledged, results=results)


async def agent_who_asks(request: web.Request) -> Agent:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return await agent_of(request, token.strip() if scheme.lower() == "bearer" and token.isascii() else "")


async def agent_of(request: web.Request, token: str) -> Agent:
    """Return the agent with this token. Raises AccessError."""
    agent = await request.app[PRESENCE].find_agent(token) if token else None
    if agent is None:
        raise AccessError(
            401,
            "This agent is unknown or revoked: enrol it again.",
            vi="Tác nhân in không tồn tại hoặc đã bị thu hồi: hãy đăng ký lại.",
        )
    return agent


async def _read(request: web.Request, model: type[M]) -> M:
    raw = await request.read()
    with as_problems():
        message = model.model_validate_json(raw)
    if getattr(message, "protocol", PROTOCOL_VERSION) < OLDEST_PROTOCOL:
        raise InputError(
            en=f"This agent is too old: install one that speaks version {OLDEST_PROTOCOL} of the protocol or newer.",
            vi=f"Phiên bản phần mềm tại điểm tiêm quá cũ: hãy cài bản dùng giao thức {OLDEST_PROTOCOL} trở lên.",
            code="protocol_too_old",
        )
    return message


@contextmanager
def as_problems() -> Iterator[None]:
    """Turn what pydantic finds wrong with a message into our error."""
    try:
        yield
    except ValidationError as error:
        problems = [
            Problem(
                "".join(f"/{part}" for part in detail["loc"]),
                "invalid",
                "Giá trị không hợp lệ.",
                f"Not valid: {detail['type'].replace('_', ' ')}.",
            )
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise InputError(problems) from None


def _event_of(kind: str) -> JobEvent:
    """Return our word; UNKNOWN for that of a newer agent: it is refused, and the journal goes on behind it."""
    return JOB_EVENTS[EventKind(kind)] if kind in JOB_EVENTS else JobEvent.UNKNOWN


def _fit(number: int) -> int:
    """Return the number, or the nearest that a 32-bit column holds."""
    return max(-(2**31), min(2**31 - 1, number))


def _answer(message: Message) -> web.Response:
    response = web.Response(body=message.model_dump_json().encode(), content_type="application/json")
    response.enable_compression()
    return response


def _leased(ready: dispatch.Ready, asked: str, form: Form | None) -> LeasedJob:
    job = ready.job
    assert job.deadline is not None, "a leased job has a deadline"
    return LeasedJob(
        job_id=JobId(job.job_id),
        fencing_token=job.fencing_token,
        deadline=job.deadline,
        document=Document(sha256=ready.sha256, size=ready.size),
        media=job.media,
        form=job.form,
        copy_number=job.copy_number,
        priority=job.priority,
        form_digest=ready.form_digest,
        data=cast("dict[str, Any]", ready.page) if ready.page is not None else None,
        asked=asked,
        module_um=printers.module_um(form),
    )


def _printer(agent: Agent, report: PrinterReport, services: Services) -> SitePrinter:
    known = report.state in set(PrinterState)
    return SitePrinter(
        site_id=agent.site_id,
        printer=Printer(
            queue=_text(report.queue, 128),
            uri=_text(report.uri, 512),
            make_and_model=_text(report.make_and_model, 128),
            state=PrinterState(report.state) if known else PrinterState.STOPPED,
            state_reasons=report.state_reasons,
            accepting=report.accepting,
            formats=report.formats,
        ),
        marker_levels=report.marker_levels,
        problems=report.problems,
        reported_at=services.clock(),
        facts={"queued": report.queued, "oldest_s": report.oldest_s, "media_ready": list(report.media_ready)},
    )


# What other modules of this room use.
caller, read_message, answer, aware = agent_who_asks, _read, _answer, _aware
