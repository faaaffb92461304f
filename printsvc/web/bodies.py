"""Reading request bodies: JSON that says where it is wrong."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from printsvc.errors import InputError, Problem
from printsvc.flows.intake import problem

M = TypeVar("M", bound=BaseModel)


def parse_json(raw: bytes | str) -> Any:
    """Return decoded JSON. Raises InputError for what is not JSON in UTF-8 (NaN and Infinity are not)."""
    try:
        return json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InputError([problem("", "not_json")], code="not_json") from None


def _refuse(_: str) -> Any:
    raise ValueError("not JSON")


async def read_json(request: web.Request) -> Any:
    """Return the decoded body. Raises InputError."""
    return parse_json(await request.read())


async def read_model(request: web.Request, model: type[M]) -> M:
    """Return the body as a model. Raises InputError with a problem for each mistake."""
    document = await read_json(request)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InputError([_problem(detail) for detail in error.errors(include_url=False)]) from None


def _problem(detail: Any) -> Problem:
    pointer = "".join(f"/{part}" for part in detail["loc"])
    return Problem(pointer, "invalid", "Giá trị không hợp lệ.", f"Not valid: {detail['type'].replace('_', ' ')}.")
