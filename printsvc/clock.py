"""The clock: read here and by the site agent, and handed down to all that need the time.

It is no part of the composition root, so that a command which needs the time alone does not wait for everything else.
"""

from __future__ import annotations

from datetime import UTC, datetime


def clock() -> datetime:
    """Return the time now, aware UTC."""
    return datetime.now(UTC)
