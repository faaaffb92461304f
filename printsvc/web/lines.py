"""/v1/lines: what went over the lines of the sites."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge

from printsvc.store import lines as line_store
from printsvc.web.access import ADMIN, SITE, require
from printsvc.web.keys import SERVICES


async def list_lines(request: web.Request) -> web.Response:
    """List what each agent counted on its line: ?site_id=…"""
    caller = await require(request, ADMIN, SITE)
    site_id = caller.site_id if caller.role == SITE else request.query.get("site_id")
    found = await request.app[SERVICES].store.read(lambda c: line_store.list_lines(c, site_id))
    return web.json_response({"lines": [line | {"bytes_a_certificate": _each(line)} for line in found]})


def _each(line: dict[str, Any]) -> int | None:
    papers = line["certificates"]
    return round((line["bytes_up"] + line["bytes_down"]) / papers) if papers else None


class LineGauges:
    """What all agents told of their lines, summed: gauges, for an agent that begins anew begins at nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bytes = Gauge(
            "printsvc_line_bytes", "Bytes that went over the agents' lines.", ["direction"], registry=registry
        )
        self._pages = Gauge("printsvc_line_pages", "Pages that came to the sites, by how.", ["how"], registry=registry)
        self._papers = Gauge("printsvc_line_certificates", "Papers whose end the agents reported.", registry=registry)

    def set(self, total: dict[str, int]) -> None:
        self._bytes.labels("up").set(total["bytes_up"])
        self._bytes.labels("down").set(total["bytes_down"])
        for how in ("stamped", "fetched", "mismatched"):
            self._pages.labels(how).set(total[how])
        self._papers.set(total["certificates"])
