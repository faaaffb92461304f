"""How a site fares, as the books and its agents last told; and an alert about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from printsvc.domain.printer import PrinterState, stops_paper


@dataclass(frozen=True, slots=True)
class AgentHealth:
    """`seen_at` None: enrolled and never heard. The skew is the agent's clock less the service's, in milliseconds."""

    agent_id: str
    enrolled_at: datetime
    seen_at: datetime | None
    version: str
    protocol: int | None
    clock_skew_ms: int | None


@dataclass(frozen=True, slots=True)
class PrinterHealth:
    """`state_reasons` are IPP keywords, verbatim; `marker_levels` percent, negative where the printer cannot say."""

    queue: str
    state: PrinterState
    state_reasons: tuple[str, ...]
    accepting: bool
    marker_levels: tuple[int, ...]
    reported_at: datetime

    @property
    def is_usable(self) -> bool:
        """Whether a page could come out now, as far as was last told."""
        return self.accepting and not self.is_in_error

    @property
    def is_in_error(self) -> bool:
        return self.state is PrinterState.STOPPED or any(stops_paper(reason) for reason in self.state_reasons)

    @property
    def lowest_marker(self) -> int | None:
        """The emptiest supply, in percent; None where no level is told."""
        return min((level for level in self.marker_levels if 0 <= level <= 100), default=None)


@dataclass(frozen=True, slots=True)
class SiteHealth:
    """`waiting` counts papers under way (waiting, leased, sent); `oldest_unprinted_at` is when the first of them was
    wanted, `oldest_uncertain_at` since when nobody can say of the first uncertain one."""

    site_id: str
    province: str = ""
    agents: tuple[AgentHealth, ...] = ()
    printers: tuple[PrinterHealth, ...] = ()
    waiting: int = 0
    oldest_unprinted_at: datetime | None = None
    uncertain: int = 0
    oldest_uncertain_at: datetime | None = None
    failed: int = 0

    @property
    def heard_at(self) -> datetime | None:
        """The last heartbeat of any of its agents."""
        return max((agent.seen_at for agent in self.agents if agent.seen_at is not None), default=None)

    @property
    def silent_since(self) -> datetime | None:
        """The last heartbeat; of a site that was never heard, when it began to be missed. None: nobody misses it."""
        if self.agents:
            return max(agent.seen_at or agent.enrolled_at for agent in self.agents)
        return self.oldest_unprinted_at


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """PENDING: the condition holds, and not yet for as long as its rule wants. RESOLVED is final."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """`subject` is a queue or an agent of the site, "" where it is about the whole site. `value` is what was measured
    when it changed last, `since_at` since when the condition holds."""

    rule: str
    site_id: str
    subject: str
    severity: Severity
    state: AlertState
    value: str
    since_at: datetime
    changed_at: datetime
    fired_at: datetime | None = None
    resolved_at: datetime | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What there is at most one open alert of."""
        return self.rule, self.site_id, self.subject
