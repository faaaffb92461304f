"""/healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from printsvc.errors import PrintsvcError
from printsvc.render.draw import PageCounts
from printsvc.store import counts
from printsvc.store import lines as line_store
from printsvc.web.fleet import GAUGES
from printsvc.web.keys import READY_CHECKS, SERVICES
from printsvc.web.lines import LineGauges
from printsvc.web.signers import warnings


class Metrics:
    """One registry an application: two in one process must not share counters."""

    def __init__(self, pages: PageCounts) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "printsvc_http_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "printsvc_http_request_seconds", "Time to answer, by route.", ["route"], registry=self.registry
        )
        self.doses = Gauge("printsvc_doses", "Doses by what became of them.", ["outcome"], registry=self.registry)
        self.papers = Gauge("printsvc_papers", "Papers by their state.", ["state"], registry=self.registry)
        self.unaccounted = Gauge(
            "printsvc_doses_unaccounted", "Doses with neither certificate nor hold: must be 0.", registry=self.registry
        )
        self.lines = LineGauges(self.registry)
        self.registry.register(_PagesDrawn(pages))


class _PagesDrawn(Collector):
    """What the renderer of this process drew since it started, read when somebody asks."""

    def __init__(self, pages: PageCounts) -> None:
        self._pages = pages

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "printsvc_pages_drawn", "Pages by how they were drawn, and why not by the stamp.", labels=["way", "reason"]
        )
        for (way, reason), number in self._pages.drawn.items():
            family.add_metric([way, reason], number)
        yield family


METRICS = web.AppKey("metrics", Metrics)


@web.middleware
async def metrics_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count answers by route (never by path: a path may hold a UVCI)."""
    metrics = request.app[METRICS]
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unknown"
    long_poll = route.startswith("/agent/v1/lease")
    with metrics.seconds.labels("long-poll" if long_poll else route).time():
        answer = await handler(request)
    metrics.requests.labels(route, str(answer.status)).inc()
    return answer


async def healthz(request: web.Request) -> web.Response:
    """Say that the process lives."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Say whether store and signer work; 503 names what does not, warnings what soon will not."""
    failing = []
    for check in request.app[READY_CHECKS]:
        try:
            await check()
        except PrintsvcError as error:
            failing.append({"code": error.code, "detail": error.en, "detail_vi": error.vi})
    status = "unavailable" if failing else "ok"
    services = request.app[SERVICES]
    body = {"status": status, "failing": failing, "warnings": await warnings(services, services.clock())}
    return web.json_response(body, status=503 if failing else 200)


async def get_metrics(request: web.Request) -> web.Response:
    """Prometheus text: counts only, nothing personal."""
    metrics = request.app[METRICS]
    store = request.app[SERVICES].store
    numbers = await store.read(counts.count)
    metrics.lines.set(await store.read(line_store.sum_lines))
    await request.app[GAUGES].look()
    metrics.doses.labels("held").set(numbers["held"])
    metrics.doses.labels("certified").set(numbers["certificates"])
    metrics.unaccounted.set(numbers["doses"] - numbers["held"] - numbers["certificates"])
    metrics.papers.clear()
    for state, number in numbers["papers"].items():
        metrics.papers.labels(state).set(number)
    return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
