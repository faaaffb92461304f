"""/v1/fleet, /v1/sites/{site_id}/health, /v1/alerts: how the sites fare; and the gauges of the same.

The gauges are as many for 19,500 sites as for one: figures of all, and the ten worst sites of each kind by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from printsvc.domain.fleet import Alert, AlertState, SiteHealth
from printsvc.errors import InputError, Problem
from printsvc.flows.alertbook import AlertBook
from printsvc.flows.services import Services
from printsvc.stats.alertrules import MEASURES
from printsvc.stats.alerts import sentence, worst_first
from printsvc.stats.fleet import (
    SILENT_S,
    SKEWED_S,
    FleetSummary,
    silent_s,
    skew_s,
    summarise,
    trouble,
    uncertain_s,
    unprinted_s,
)
from printsvc.store import fleet as fleet_store
from printsvc.store import sites as site_store
from printsvc.web.access import ADMIN, SITE, require, require_site
from printsvc.web.keys import SERVICES

FRESH = timedelta(seconds=10)
MAX_LIMIT = 1000

ONLY: Mapping[str, Callable[[SiteHealth, datetime], bool]] = {
    "silent": lambda site, now: (silent_s(site, now) or 0) > SILENT_S,
    "waiting": lambda site, now: site.waiting > 0,
    "uncertain": lambda site, now: site.uncertain > 0,
    "failed": lambda site, now: site.failed > 0,
    "printer": lambda site, now: any(printer.is_in_error for printer in site.printers),
    "skewed": lambda site, now: (skew_s(site) or 0) > SKEWED_S,
    "trouble": lambda site, now: any(trouble(site, now)),
}


# --- routes


async def get_fleet(request: web.Request) -> web.Response:
    """Say how the sites fare: figures of all, then the sites, the worst first; ?only=…&province=…&order=site&after=…"""
    await require(request, ADMIN)
    limit = _limit(request, 50)
    only = _one_of(request, "only", ONLY)
    order = _one_of(request, "order", ("worst", "site")) or "worst"
    province, after = request.query.get("province"), request.query.get("after", "")
    services = request.app[SERVICES]
    now = services.clock()

    def read(connection: Connection) -> dict[str, Any]:
        fleet = fleet_store.read_fleet(connection, province=province)
        chosen = [site for site in fleet if only is None or ONLY[only](site, now)]
        if order == "worst":
            chosen.sort(key=lambda site: (trouble(site, now), site.site_id), reverse=True)
        else:
            chosen = [site for site in chosen if site.site_id > after]
        return {
            "at": now.isoformat(),
            "summary": summary_document(summarise(fleet, now)),
            "chosen": len(chosen),
            "sites": [site_health_document(site, now) for site in chosen[:limit]],
        }

    return web.json_response(await services.store.read(read))


async def get_site_health(request: web.Request) -> web.Response:
    """Say how a site fares: its agents, printers, and the papers that are not at their end."""
    site_id = request.match_info["site_id"]
    await require_site(request, site_id, ADMIN)
    services = request.app[SERVICES]

    def read(connection: Connection) -> SiteHealth:
        site_store.get_site(connection, site_id)
        return fleet_store.read_fleet(connection, site_id=site_id)[0]

    return web.json_response(site_health_document(await services.store.read(read), services.clock()))


async def list_alerts(request: web.Request) -> web.Response:
    """List alerts, the gravest first: ?state=pending,firing,resolved&site_id=…&limit=…"""
    caller = await require(request, ADMIN, SITE)
    site_id = caller.site_id if caller.role == SITE else request.query.get("site_id")
    limit = _limit(request, 200)
    states = [state.strip() for state in request.query.get("state", AlertState.FIRING).split(",")]
    unknown = sorted(set(states) - set(AlertState))
    if unknown:
        raise InputError([_query_problem("state", ", ".join(AlertState))])
    services = request.app[SERVICES]

    def read(connection: Connection) -> tuple[list[Alert], datetime | None]:
        found = fleet_store.list_alerts(connection, states=states, site_id=site_id, limit=limit)
        return found, fleet_store.looked_at(connection)

    found, looked_at = await services.store.read(read)
    return web.json_response(
        {
            "looked_at": looked_at.isoformat() if looked_at else None,
            "rules_valid": services.alerts.is_valid,
            "alerts": [alert_document(alert, services.alerts) for alert in worst_first(found)],
        }
    )


async def list_alert_rules(request: web.Request) -> web.Response:
    """List the rules that decide about alerts."""
    await require(request, ADMIN, SITE)
    book = request.app[SERVICES].alerts
    return web.json_response(
        {
            "rules_valid": book.is_valid,
            "rules": [
                {
                    "name": rule.name,
                    "measure": rule.measure,
                    "above" if rule.is_above else "below": rule.limit,
                    "while_waiting": rule.while_waiting,
                    "for_s": rule.for_s,
                    "severity": rule.severity,
                    "vi": rule.vi,
                    "en": rule.en,
                }
                for rule in book.rules()
            ],
        }
    )


def _limit(request: web.Request, default: int) -> int:
    text = request.query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MAX_LIMIT):
        raise InputError([_query_problem("limit", f"1–{MAX_LIMIT}")])
    return int(text)


def _one_of(request: web.Request, name: str, known: Any) -> str | None:
    value = request.query.get(name)
    if value is not None and value not in known:
        raise InputError([_query_problem(name, ", ".join(known))])
    return value


def _query_problem(name: str, allowed: str) -> Problem:
    vi, en = f"Tham số {name} phải là: {allowed}.", f"The parameter {name} must be: {allowed}."
    return Problem(f"/{name}", "query_invalid", vi, en)


# --- documents


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


def summary_document(summary: FleetSummary) -> dict[str, Any]:
    return {
        "sites": summary.sites,
        "sites_without_agent": summary.sites_without_agent,
        "sites_silent": summary.silent,
        "sites_silent_with_papers": summary.silent_with_papers,
        "sites_without_printer": summary.sites_without_printer,
        "sites_uncertain": summary.sites_uncertain,
        "sites_skewed": summary.skewed,
        "sites_late": {str(limit): number for limit, number in summary.late.items()},
        "agents": dict(summary.agents),
        "versions": dict(summary.versions),
        "papers_waiting": summary.waiting,
        "papers_uncertain": summary.uncertain,
        "papers_failed": summary.failed,
        "oldest_unprinted_s": round(summary.oldest_unprinted_s),
        "oldest_uncertain_s": round(summary.oldest_uncertain_s),
        "printers": dict(summary.printers),
        "printers_in_error": summary.printers_in_error,
        "printer_reasons": dict(summary.reasons),
        "markers_low": summary.markers_low,
        "clock_skew_max_s": round(summary.skew_max_s, 3),
    }


def site_health_document(site: SiteHealth, now: datetime) -> dict[str, Any]:
    return {
        "site_id": site.site_id,
        "province": site.province,
        "heard_at": _iso(site.heard_at),
        "silent_s": _whole(silent_s(site, now)),
        "waiting": site.waiting,
        "oldest_unprinted_s": _whole(unprinted_s(site, now)),
        "uncertain": site.uncertain,
        "oldest_uncertain_s": _whole(uncertain_s(site, now)),
        "failed": site.failed,
        "clock_skew_s": skew_s(site),
        "agents": [
            {
                "agent_id": agent.agent_id,
                "seen_at": _iso(agent.seen_at),
                "version": agent.version,
                "protocol": agent.protocol,
                "clock_skew_ms": agent.clock_skew_ms,
            }
            for agent in site.agents
        ],
        "printers": [
            {
                "queue": printer.queue,
                "state": printer.state.name.lower(),
                "state_reasons": printer.state_reasons,
                "accepting": printer.accepting,
                "usable": printer.is_usable,
                "marker_levels": printer.marker_levels,
                "reported_at": printer.reported_at.isoformat(),
            }
            for printer in site.printers
        ],
    }


def alert_document(alert: Alert, book: AlertBook) -> dict[str, Any]:
    """Return an alert with its rule's sentences; a rule that is gone has its name for a sentence."""
    rule = book.find(alert.rule)
    texts = {"vi": alert.rule, "en": alert.rule}
    if rule is not None:
        unit = MEASURES[rule.measure].unit
        texts = {"vi": sentence(rule.vi, alert, unit=unit), "en": sentence(rule.en, alert, unit=unit)}
    return {
        "rule": alert.rule,
        "site_id": alert.site_id,
        "subject": alert.subject,
        "severity": alert.severity,
        "state": alert.state,
        "value": alert.value,
        "since_at": alert.since_at.isoformat(),
        "fired_at": _iso(alert.fired_at),
        "resolved_at": _iso(alert.resolved_at),
        **texts,
    }


# --- metrics


class FleetGauges(Collector):
    """What was read last of the fleet and its alerts; `look` reads it anew where that is older than FRESH."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._read_at: datetime | None = None
        self._summary: FleetSummary | None = None
        self._alerts: Mapping[tuple[str, str, str], int] = {}
        self._looked_at: datetime | None = None

    async def look(self) -> None:
        """Read what the gauges tell. Raises StoreError."""
        now = self._services.clock()
        if self._read_at is not None and abs(now - self._read_at) < FRESH:
            return

        def read(connection: Connection) -> tuple[FleetSummary, Mapping[tuple[str, str, str], int], datetime | None]:
            summary = summarise(fleet_store.read_fleet(connection), now)
            return summary, fleet_store.count_open_alerts(connection), fleet_store.looked_at(connection)

        self._summary, self._alerts, self._looked_at = await self._services.store.read(read)
        self._read_at = now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self._summary is None:
            return
        yield from _sums(self._summary)
        yield from _by_label(self._summary)
        yield from _worst(self._summary)
        alerts = GaugeMetricFamily(
            "printsvc_alerts", "Alerts that are pending or firing.", labels=["rule", "severity", "state"]
        )
        for labels, number in self._alerts.items():
            alerts.add_metric(list(labels), number)
        yield alerts
        valid = self._services.alerts.is_valid
        yield _gauge("printsvc_alert_rules_valid", "0 while the file of alert rules is wrong.", float(valid))
        if self._looked_at is not None:
            about = "When the alert rules were looked at last, in seconds since 1970."
            yield _gauge("printsvc_alerts_looked_at_seconds", about, self._looked_at.timestamp())


GAUGES = web.AppKey("fleet_gauges", FleetGauges)


def add_gauges(application: web.Application, registry: CollectorRegistry, services: Services) -> None:
    """Register the gauges; /metrics lets them look first."""
    application[GAUGES] = FleetGauges(services)
    registry.register(application[GAUGES])


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=value)


def _sums(fleet: FleetSummary) -> Iterator[GaugeMetricFamily]:
    yield _gauge("printsvc_fleet_sites", "Sites.", fleet.sites)
    yield _gauge("printsvc_fleet_sites_without_agent", "Sites that have no agent.", fleet.sites_without_agent)
    yield _gauge("printsvc_fleet_sites_silent", f"Sites with an agent not heard for {SILENT_S} s.", fleet.silent)
    about = f"Sites not heard for {SILENT_S} s where papers wait."
    yield _gauge("printsvc_fleet_sites_silent_with_papers", about, fleet.silent_with_papers)
    about = "Sites with an agent where no printer can print now."
    yield _gauge("printsvc_fleet_sites_without_printer", about, fleet.sites_without_printer)
    yield _gauge("printsvc_fleet_sites_uncertain", "Sites with an uncertain paper.", fleet.sites_uncertain)
    yield _gauge("printsvc_fleet_sites_skewed", f"Sites with a clock more than {SKEWED_S} s off.", fleet.skewed)
    yield _gauge("printsvc_fleet_papers_waiting", "Papers that are wanted and not out.", fleet.waiting)
    yield _gauge("printsvc_fleet_papers_uncertain", "Papers of which a person must say.", fleet.uncertain)
    yield _gauge("printsvc_fleet_papers_failed", "Papers that certainly did not come out.", fleet.failed)
    about = "Age of the oldest paper that is not out, of all sites."
    yield _gauge("printsvc_fleet_oldest_unprinted_seconds", about, fleet.oldest_unprinted_s)
    about = "Age of the oldest uncertain paper, of all sites."
    yield _gauge("printsvc_fleet_oldest_uncertain_seconds", about, fleet.oldest_uncertain_s)
    yield _gauge("printsvc_fleet_printers_in_error", "Printers from which no page comes now.", fleet.printers_in_error)
    yield _gauge("printsvc_fleet_markers_low", "Printers with a supply below 10 percent.", fleet.markers_low)
    yield _gauge("printsvc_fleet_clock_skew_max_seconds", "Largest deviation of a clock.", fleet.skew_max_s)


def _by_label(fleet: FleetSummary) -> Iterator[GaugeMetricFamily]:
    counts: tuple[tuple[str, str, str, Mapping[Any, int]], ...] = (
        ("printsvc_fleet_agents", "Agents by when they were heard.", "heard", fleet.agents),
        ("printsvc_fleet_agent_versions", "Agents by version, the ten most frequent.", "version", fleet.versions),
        ("printsvc_fleet_sites_late", "Sites whose oldest paper waits for longer.", "seconds", fleet.late),
        ("printsvc_fleet_printers", "Printers by state.", "state", fleet.printers),
        ("printsvc_fleet_printer_reasons", "Printers that give this reason.", "reason", fleet.reasons),
    )
    for name, about, label, numbers in counts:
        family = GaugeMetricFamily(name, about, labels=[label])
        for value, number in numbers.items():
            family.add_metric([str(value)], number)
        yield family


_WORST = {
    "oldest_unprinted_s": (
        "printsvc_fleet_worst_unprinted_seconds",
        "Age of the oldest paper not out: the worst sites.",
    ),
    "oldest_uncertain_s": ("printsvc_fleet_worst_uncertain_seconds", "Age of the oldest uncertain: the worst sites."),
    "silent_s": ("printsvc_fleet_worst_silent_seconds", "Time since the site was heard, where papers wait."),
    "clock_skew_s": ("printsvc_fleet_worst_clock_skew_seconds", "Deviation of the clock: the worst sites."),
    "uncertain": ("printsvc_fleet_worst_uncertain_papers", "Uncertain papers: the worst sites."),
}


def _worst(fleet: FleetSummary) -> Iterator[GaugeMetricFamily]:
    for kind, sites in fleet.worst.items():
        name, about = _WORST[kind]
        family = GaugeMetricFamily(name, about, labels=["site_id"])
        for site_id, value in sites:
            family.add_metric([site_id], value)
        yield family
