"""Why a paper that is wanted has not come: whose turn is it? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

SILENT_AFTER = timedelta(minutes=3)
"""An agent asks for jobs about once a minute; one that was not heard for so long is off, or its line is cut."""


class Overdue(StrEnum):
    """Who has to do something about a job that is under way for too long."""

    NO_AGENT = "no-agent"  # the site has none: enrol one
    AGENT_SILENT = "agent-silent"  # the one that has the job, or every one that could take it
    SLOW = "slow"  # the agent lives: look at the printers


def why_overdue(
    holder: str | None, seen_at: Mapping[str, datetime | None], *, now: datetime
) -> tuple[Overdue, datetime | None]:
    """Return why, and when the silent agent was last heard (None: never, or it does not matter).

    `holder` is the agent that holds the job or held it last; `seen_at` are the site's agents that are not revoked.
    """
    if holder is None and not seen_at:
        return Overdue.NO_AGENT, None
    asked = seen_at.values() if holder is None else [seen_at.get(holder)]
    last = max((at for at in asked if at is not None), default=None)
    if last is None or now - last > SILENT_AFTER:
        return Overdue.AGENT_SILENT, last
    return Overdue.SLOW, None
