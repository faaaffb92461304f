"""/agent/v1 for poor lines: lease and report packed into few bytes, and what is fetched by its digest, in pieces."""

from __future__ import annotations

from aiohttp import web

from printsvc.domain.form import FormId
from printsvc.errors import NotFoundError
from printsvc.flows import dispatch
from printsvc.sync.agents import SERVICES, agent_of, agent_who_asks, answer_lease, answer_report, as_problems
from spooler import compact
from spooler.protocol import EventResult, LeaseAnswer, LineAnswer, LineRequest


def add_routes(application: web.Application) -> None:
    """Add the routes."""
    application.router.add_post("/agent/v1/line", post_line)
    application.router.add_get("/agent/v1/documents/{sha256:[0-9a-f]{64}}", get_document)
    application.router.add_get("/agent/v1/forms/{digest:[0-9a-f]{64}}", get_form)
    application.on_response_prepare.append(_shorten_headers)


async def post_line(request: web.Request) -> web.Response:
    """Take a report, then long-poll for jobs, packed both ways; the token travels in the body."""
    raw = await request.read()
    token, packed = compact.split_request(raw)
    agent = await agent_of(request, token)
    fields = compact.unpack(packed)
    with as_problems():
        body = LineRequest.model_validate(fields)
    report = await answer_report(request, agent, body.report) if body.report is not None else None
    lease = None
    words = b""
    if body.lease is not None:
        asked = body.lease if report is None else body.lease.model_copy(update={"wait_s": 0.0})
        lease = _in_seconds(await answer_lease(request, agent, asked))
        words = compact.site_words(lease)
        if compact.crc_of(words) != asked.site_words:
            words = b""
    answer = LineAnswer(lease=lease, report=report and report.model_copy(update={"results": _refused(report.results)}))
    return web.Response(body=compact.pack(answer, packed[0], site_words=words))


def _refused(results: tuple[EventResult, ...]) -> tuple[EventResult, ...]:
    """Of results only the bad ones: what was acknowledged and is not named was taken."""
    return tuple(result for result in results if result.outcome == "refused")


def _in_seconds(lease: LeaseAnswer) -> LeaseAnswer:
    """Times to the second are half as long, and nobody needs them finer."""
    jobs = tuple(job.model_copy(update={"deadline": job.deadline.replace(microsecond=0)}) for job in lease.jobs)
    return lease.model_copy(update={"server_time": lease.server_time.replace(microsecond=0), "jobs": jobs})


async def get_document(request: web.Request) -> web.Response:
    """Return a document of one of the site's jobs, by its SHA-256; from where a cut line left off, with Range."""
    agent = await agent_who_asks(request)
    body = await dispatch.fetch_document(request.app[SERVICES], agent, request.match_info["sha256"])
    return _from_there(request, body, "application/pdf")


async def get_form(request: web.Request) -> web.Response:
    """Return a compiled form, compressed (zlib), by its digest; `form` names it."""
    await agent_who_asks(request)
    shelf = request.app[SERVICES].shelf
    shelved = await shelf.find(FormId(request.query.get("form", ""))) if shelf is not None else None
    if shelved is None or shelved.digest != request.match_info["digest"]:
        raise NotFoundError("There is no such compiled form.", vi="Không có biểu mẫu đã biên dịch này.")
    return _from_there(request, shelved.body, "application/zlib")


def _from_there(request: web.Request, body: bytes, content_type: str) -> web.Response:
    try:
        start = request.http_range.start
    except ValueError:
        start = None
    if not start or not 0 < start < len(body) or request.http_range.stop is not None:
        return web.Response(body=body, content_type=content_type, headers={"Accept-Ranges": "bytes"})
    place = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
    return web.Response(status=206, body=body[start:], content_type=content_type, headers=place)


async def _shorten_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Take from the answers to agents what tells an agent nothing."""
    if request.path.startswith("/agent/"):
        response.headers.popall("Server", None)
        if request.path == "/agent/v1/line" and response.status == 200:
            response.headers.popall("Content-Type", None)
            response.headers.popall("Date", None)
