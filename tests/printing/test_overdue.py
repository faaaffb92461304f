"""Why a paper has not come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from printsvc.printing.overdue import SILENT_AFTER, Overdue, why_overdue

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
FRESH, OLD, OLDER = NOW - SILENT_AFTER, NOW - SILENT_AFTER - timedelta(seconds=1), NOW - timedelta(days=1)


@pytest.mark.parametrize(
    ("holder", "seen_at", "why"),
    [
        (None, {}, (Overdue.NO_AGENT, None)),
        (None, {"a": None}, (Overdue.AGENT_SILENT, None)),
        (None, {"a": OLDER, "b": OLD}, (Overdue.AGENT_SILENT, OLD)),
        (None, {"a": OLDER, "b": FRESH}, (Overdue.SLOW, None)),
        ("a", {"a": OLDER, "b": FRESH}, (Overdue.AGENT_SILENT, OLDER)),
        ("a", {"a": FRESH, "b": OLDER}, (Overdue.SLOW, None)),
        ("revoked", {"b": FRESH}, (Overdue.AGENT_SILENT, None)),
        ("revoked", {}, (Overdue.AGENT_SILENT, None)),
    ],
)
def test_who_has_to_do_something(
    holder: str | None, seen_at: dict[str, datetime | None], why: tuple[Overdue, datetime | None]
) -> None:
    assert why_overdue(holder, seen_at, now=NOW) == why
