"""Errors as RFC 9457 problems. The one place that maps a class of ours to an HTTP status."""

from __future__ import annotations

from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from printsvc.errors import (
    AccessError,
    CredentialError,
    DuplicateError,
    InputError,
    NotFoundError,
    PrintsvcError,
    Problem,
    RenderBusyError,
    SigningError,
    StateError,
    UnavailableError,
)
from printsvc.web.bodies import dump_json

CONTENT_TYPE = "application/problem+json"
_LOG = structlog.get_logger("printsvc.web")

# The first class that fits decides; a test fails on a class of the tree that none fits.
STATUS: tuple[tuple[type[PrintsvcError], int], ...] = (
    (AccessError, 401),
    (InputError, 422),
    (NotFoundError, 404),
    (DuplicateError, 409),
    (StateError, 409),
    (RenderBusyError, 429),
    (UnavailableError, 503),
    (SigningError, 503),  # nothing was stored, and what was sent is not wrong: it may be sent again
    (CredentialError, 500),
)

_TITLES = {
    400: ("Bad request", "Yêu cầu không hợp lệ."),
    401: ("Not signed in", "Chưa đăng nhập."),
    403: ("Not allowed", "Không được phép."),
    404: ("Not found", "Không có địa chỉ này."),
    405: ("Method not allowed", "Phương thức không dùng được ở địa chỉ này."),
    409: ("Conflict", "Xung đột dữ liệu."),
    413: ("Too large", "Yêu cầu quá lớn."),
    415: ("Unsupported media type", "Kiểu nội dung không được hỗ trợ."),
    422: ("Invalid", "Dữ liệu không hợp lệ."),
    429: ("Too many requests", "Quá nhiều yêu cầu, hãy thử lại sau ít giây."),
    500: ("Internal error", "Hệ thống gặp lỗi, hãy thử lại."),
    503: ("Unavailable", "Hệ thống tạm thời không phục vụ được."),
}
_OTHER = ("Error", "Yêu cầu không thực hiện được.")
SIGNER_RETRY_S = 60


def status_of(error: PrintsvcError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, AccessError):
        return error.status
    return next(status for kind, status in STATUS if isinstance(error, kind))


def problem_document(
    status: int, code: str, en: str, vi: str, problems: list[Problem] | tuple[Problem, ...] = (), **more: Any
) -> dict[str, Any]:
    """Return a problem: RFC 9457's members, the code, and the sentence in both languages."""
    document: dict[str, Any] = {
        "type": f"urn:printsvc:problem:{code}",
        "title": _TITLES.get(status, _OTHER)[0],
        "status": status,
        "code": code,
        "detail": en,
        "detail_vi": vi,
    }
    if problems:
        document["errors"] = [{"pointer": p.pointer, "code": p.code, "vi": p.vi, "en": p.en} for p in problems]
    return document | more


def document_of(error: PrintsvcError) -> dict[str, Any]:
    """Return the problem of an error of ours."""
    status = status_of(error)
    more: dict[str, Any] = {}
    if isinstance(error, DuplicateError):
        more["fields"] = error.fields
    problems = error.problems if isinstance(error, InputError) else ()
    return problem_document(status, error.code, error.en, error.vi, problems, **more)


def response(document: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    """Return a problem as a response."""
    body = dump_json(document)
    return web.Response(status=document["status"], body=body, content_type=CONTENT_TYPE, headers=headers)


def response_of(error: PrintsvcError) -> web.Response:
    """Return an error of ours as a response."""
    headers = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, SigningError):
        headers["Retry-After"] = str(SIGNER_RETRY_S)
    if isinstance(error, AccessError) and error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="printsvc"'
    return response(document_of(error), headers)


def http_problem(status: int, detail: str = "") -> web.Response:
    """Return the problem of an HTTP error that is not ours; `detail` must not quote what was sent."""
    title, vi = _TITLES.get(status, _OTHER)
    return response(problem_document(status, f"http_{status}", detail or f"{title}.", vi))


@web.middleware
async def problems_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem; what is not ours is logged by its class alone and answered as 500."""
    if "\0" in request.path or "\0" in request.query_string:
        return http_problem(400)  # no id holds it, and PostgreSQL takes it in no text
    try:
        return await handler(request)
    except PrintsvcError as error:
        if isinstance(error, UnavailableError | SigningError):
            _LOG.warning("unavailable", code=error.code, detail=error.en)
        return response_of(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        # The class's own sentence is a title; a handler's own `reason` says more.
        said = error.reason if isinstance(error, web.HTTPUnsupportedMediaType | web.HTTPRequestEntityTooLarge) else ""
        answer = http_problem(error.status, said)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except (HttpProcessingError, web.RequestPayloadError, ConnectionError):
        # Bad chunks or gzip, or a line that was cut. Where the next request would begin, nobody knows.
        broken = http_problem(400, "The body of the request is broken.")
        broken.force_close()
        return broken
    except Exception as error:
        # The text of a library's exception may quote what was sent, and that may be a name: class and place only.
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f"{where.tb_frame.f_globals.get('__name__', '')}:{where.tb_lineno}" if where is not None else ""
        _LOG.error("internal error", error=type(error).__name__, place=place)
        return response(
            problem_document(500, "internal", "Something failed on our side.", "Hệ thống gặp lỗi, hãy thử lại.")
        )
