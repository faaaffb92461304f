"""What a route is: one row of the table in routes.py, and of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """`roles` is empty where anybody may call; `answers` are the statuses of success, `also_takes` further media types
    of the body, `query` the names of what may stand after the question mark."""

    method: str
    path: str
    handler: Handler
    roles: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    answers: tuple[int, ...] = (200,)
    media: str = "application/json"
    also_takes: tuple[str, ...] = ()
    query: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().splitlines()[0]
