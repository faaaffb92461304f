"""Errors as RFC 9457 problems. The one place that maps a class of ours to an HTTP status."""

from __future__ import annotations

import json
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from printsvc.errors import (
    AccessError,
    CredentialError,
    DuplicateError,
    InputError,
    NotFoundError,
    PrintsvcError,
    Problem,
    StateError,
    UnavailableError,
)

CONTENT_TYPE = "application/problem+json"
_LOG = structlog.get_logger("printsvc.web")

# The first class that fits decides; a test fails on a class of the tree that none fits.
STATUS: tuple[tuple[type[PrintsvcError], int], ...] = (
    (AccessError, 401),
    (InputError, 422),
    (NotFoundError, 404),
    (DuplicateError, 409),
    (StateError, 409),
    (UnavailableError, 503),
    (CredentialError, 500),
)

_TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid",
    500: "Internal error",
    503: "Unavailable",
}


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
        "title": _TITLES.get(status, "Error"),
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
    body = json.dumps(document, ensure_ascii=False).encode()
    return web.Response(status=document["status"], body=body, content_type=CONTENT_TYPE, headers=headers)


def response_of(error: PrintsvcError) -> web.Response:
    """Return an error of ours as a response."""
    headers = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, AccessError) and error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="printsvc"'
    return response(document_of(error), headers)


@web.middleware
async def problems_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem; what is not ours is logged by its class alone and answered as 500."""
    try:
        return await handler(request)
    except PrintsvcError as error:
        if isinstance(error, UnavailableError):
            _LOG.warning("unavailable", code=error.code, detail=error.en)
        return response_of(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        sentence = error.reason or _TITLES.get(error.status, "Error")
        problem = problem_document(error.status, f"http_{error.status}", sentence, "Yêu cầu không hợp lệ.")
        keep = {name: value for name, value in error.headers.items() if name == "Allow"}
        return response(problem, keep)
    except Exception as error:
        # The text of a library's exception may quote what was sent, and that may be a name: class and place only.
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where is not None else ""
        _LOG.error("internal error", error=type(error).__name__, place=place)
        return response(
            problem_document(500, "internal", "Something failed on our side.", "Hệ thống gặp lỗi, hãy thử lại.")
        )
