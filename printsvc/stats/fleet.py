"""The health of all sites in few figures, and who is worst. Pure.

The figures are as many for 19,500 sites as for one: counts, extremes, and the ten worst sites of each kind by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from printsvc.domain.fleet import SiteHealth

SILENT_S = 300
LATE_S = (600, 1200, 1800)  # 10, 20 and 30 minutes: the steps of the half hour for which people are observed
SKEWED_S = 120
LOW_PERCENT = 10
WORST = 10
VERSIONS = 10
# Reasons that printers give themselves ("com.example-…") are many: these are counted by name, the others together.
KNOWN_REASONS = frozenset(
    {
        "connecting-to-device",
        "cover-open",
        "door-open",
        "input-tray-missing",
        "marker-supply-empty",
        "marker-supply-low",
        "marker-waste-almost-full",
        "marker-waste-full",
        "media-empty",
        "media-jam",
        "media-low",
        "media-needed",
        "offline",
        "output-area-full",
        "paused",
        "shutdown",
        "stopped-partly",
        "timed-out",
        "toner-empty",
        "toner-low",
    }
)
OTHER = "other"


def seconds_since(moment: datetime | None, now: datetime) -> float | None:
    """Return the age in seconds, never negative; None of nothing."""
    return None if moment is None else max(0.0, (now - moment) / timedelta(seconds=1))


def silent_s(site: SiteHealth, now: datetime) -> float | None:
    """Return for how long nobody heard the site; None where nobody misses it."""
    return seconds_since(site.silent_since, now)


def unprinted_s(site: SiteHealth, now: datetime) -> float | None:
    """Return the age of the oldest paper that is wanted and not out."""
    return seconds_since(site.oldest_unprinted_at, now)


def uncertain_s(site: SiteHealth, now: datetime) -> float | None:
    """Return for how long nobody has said what became of the oldest uncertain paper."""
    return seconds_since(site.oldest_uncertain_at, now)


def skew_s(site: SiteHealth) -> float | None:
    """Return the largest deviation of a clock of the site, in seconds; None where no agent told."""
    skews = (abs(agent.clock_skew_ms) / 1000 for agent in site.agents if agent.clock_skew_ms is not None)
    return max(skews, default=None)


def reason_label(reason: str) -> str:
    """Return a printer-state-reason without its severity, or OTHER for one that is not of the standards."""
    base = reason.removesuffix("-error").removesuffix("-warning").removesuffix("-report")
    return base if base in KNOWN_REASONS else OTHER


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """`late` is age in seconds → sites whose oldest paper is older; `worst` is kind → (site_id, value), worst first."""

    sites: int
    sites_without_agent: int
    agents: Mapping[str, int]
    versions: Mapping[str, int]
    silent: int
    silent_with_papers: int
    waiting: int
    oldest_unprinted_s: float
    late: Mapping[int, int]
    uncertain: int
    sites_uncertain: int
    oldest_uncertain_s: float
    failed: int
    printers: Mapping[str, int]
    printers_in_error: int
    sites_without_printer: int
    reasons: Mapping[str, int]
    markers_low: int
    skewed: int
    skew_max_s: float
    worst: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)


def summarise(fleet: Sequence[SiteHealth], now: datetime) -> FleetSummary:
    """Return the figures of the whole fleet."""
    agents = [agent for site in fleet for agent in site.agents]
    printers = [printer for site in fleet for printer in site.printers]
    late_by = [unprinted_s(site, now) or 0.0 for site in fleet]
    markers = [printer.lowest_marker for printer in printers]
    skews = [skew_s(site) or 0.0 for site in fleet]
    silences = [silent_s(site, now) or 0.0 for site in fleet]
    silent = [seconds > SILENT_S for seconds in silences]
    return FleetSummary(
        sites=len(fleet),
        sites_without_agent=sum(not site.agents for site in fleet),
        agents=_agents(silences_of=[seconds_since(agent.seen_at, now) for agent in agents]),
        versions=_most(Counter(agent.version or "unknown" for agent in agents)),
        silent=sum(quiet and bool(site.agents) for site, quiet in zip(fleet, silent, strict=True)),
        silent_with_papers=sum(quiet and site.waiting > 0 for site, quiet in zip(fleet, silent, strict=True)),
        waiting=sum(site.waiting for site in fleet),
        oldest_unprinted_s=max(late_by, default=0.0),
        late={limit: sum(age > limit for age in late_by) for limit in LATE_S},
        uncertain=sum(site.uncertain for site in fleet),
        sites_uncertain=sum(site.uncertain > 0 for site in fleet),
        oldest_uncertain_s=max((uncertain_s(site, now) or 0.0 for site in fleet), default=0.0),
        failed=sum(site.failed for site in fleet),
        printers=Counter(printer.state.name.lower() for printer in printers),
        printers_in_error=sum(printer.is_in_error for printer in printers),
        sites_without_printer=sum(
            bool(site.agents) and not any(printer.is_usable for printer in site.printers) for site in fleet
        ),
        reasons=Counter(label for printer in printers for label in {reason_label(r) for r in printer.state_reasons}),
        markers_low=sum(level is not None and level < LOW_PERCENT for level in markers),
        skewed=sum(skew > SKEWED_S for skew in skews),
        skew_max_s=max(skews, default=0.0),
        worst={
            "oldest_unprinted_s": _worst(fleet, lambda site: unprinted_s(site, now)),
            "oldest_uncertain_s": _worst(fleet, lambda site: uncertain_s(site, now)),
            "silent_s": _worst(fleet, lambda site: silent_s(site, now) if site.waiting else None),
            "clock_skew_s": _worst(fleet, skew_s),
            "uncertain": _worst(fleet, lambda site: float(site.uncertain)),
        },
    )


def trouble(site: SiteHealth, now: datetime) -> tuple[float, ...]:
    """Return what sites are put in order by, the worst having the greatest."""
    silence = silent_s(site, now) or 0.0
    return (
        max(unprinted_s(site, now) or 0.0, uncertain_s(site, now) or 0.0),
        silence if silence > SILENT_S else 0.0,
        float(sum(printer.is_in_error for printer in site.printers)),
        float(site.failed),
    )


def _agents(*, silences_of: Iterable[float | None]) -> dict[str, int]:
    counts = {"heard": 0, "silent": 0, "never": 0}
    for seconds in silences_of:
        counts["never" if seconds is None else "silent" if seconds > SILENT_S else "heard"] += 1
    return counts


def _most(counts: Counter[str]) -> dict[str, int]:
    most = dict(counts.most_common(VERSIONS))
    rest = counts.total() - sum(most.values())
    return most | ({OTHER: rest} if rest else {})


def _worst(fleet: Sequence[SiteHealth], measure: Callable[[SiteHealth], float | None]) -> list[tuple[str, float]]:
    measured = [(site.site_id, value) for site in fleet if (value := measure(site))]
    return sorted(measured, key=lambda pair: (-pair[1], pair[0]))[:WORST]
