"""Reading request bodies: JSON that says where it is wrong."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from printsvc.errors import InputError, Problem
from printsvc.flows.intake import problem

M = TypeVar("M", bound=BaseModel)


def parse_json(raw: bytes) -> Any:
    """Return decoded JSON. Raises InputError for what is not JSON in UTF-8 (NaN and Infinity are not)."""
    try:
        # Decoded here: json.loads would guess UTF-16 and UTF-32, and take halves of surrogate pairs.
        return json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InputError([problem("", "not_json")], code="not_json") from None


def _refuse(_: str) -> Any:
    raise ValueError("not JSON")


def dump_json(value: Any) -> bytes:
    """Return a value as JSON in UTF-8; half a surrogate pair, which JSON can hold and UTF-8 cannot, stays an escape."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def json_response(value: Any, *, status: int = 200) -> web.Response:
    """Return a value as a JSON response."""
    return web.Response(body=dump_json(value), status=status, content_type="application/json")


async def read_json(request: web.Request) -> Any:
    """Return the decoded body. Raises InputError."""
    return parse_json(await request.read())


async def read_model(request: web.Request, model: type[M]) -> M:
    """Return the body as a model. Raises InputError with a problem for each mistake."""
    document = await read_json(request)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InputError([problem_of(detail) for detail in error.errors(include_url=False)]) from None


def problem_of(detail: Any) -> Problem:
    """Return the problem of one error of pydantic."""
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in detail["loc"])
    return Problem(pointer, "invalid", "Giá trị không hợp lệ.", f"Not valid: {detail['type'].replace('_', ' ')}.")
