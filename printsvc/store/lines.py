"""What went over the lines of the agents, as they last told it: counts since each agent's state folder was made."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from printsvc.store.tables import agents

COUNTS: Final = ("bytes_up", "bytes_down", "certificates", "stamped", "fetched", "mismatched")


def write_lines(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Store what agents told: rows of `agent` (its id) and `told` (COUNTS)."""
    statement = update(agents).where(agents.c.agent_id == bindparam("agent"))
    connection.execute(statement.values(line=bindparam("told")), rows)


def list_lines(connection: Connection, site_id: str | None = None) -> list[dict[str, Any]]:
    """Return `site_id`, `agent_id` and COUNTS of every agent that told and is not revoked, by site."""
    query = select(agents.c.site_id, agents.c.agent_id, agents.c.line).where(
        agents.c.revoked_at.is_(None), agents.c.line.is_not(None)
    )
    if site_id is not None:
        query = query.where(agents.c.site_id == site_id)
    rows = connection.execute(query.order_by(agents.c.site_id, agents.c.enrolled_at))
    return [
        {"site_id": row.site_id, "agent_id": row.agent_id} | {name: int(row.line.get(name, 0)) for name in COUNTS}
        for row in rows
    ]


def sum_lines(connection: Connection) -> dict[str, int]:
    """Return COUNTS, summed over all agents that ever told."""
    total: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
    for line in connection.execute(select(agents.c.line).where(agents.c.line.is_not(None))).scalars():
        total.update({name: int(line.get(name, 0)) for name in COUNTS})
    return dict(total)
