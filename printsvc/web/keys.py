"""Typed keys of the application's state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from printsvc.flows.services import Services

SERVICES = web.AppKey("services", Services)
READY_CHECKS = web.AppKey("ready_checks", list[Callable[[], Awaitable[None]]])
