"""What polls ask together: one read for all who wait, each with its own answer, on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection

from printsvc.domain.print_job import JobState
from printsvc.errors import StoreError
from printsvc.flows.presence import Gathered, Presence
from printsvc.store import lines as line_store
from printsvc.store import sites as site_store


async def test_who_asks_together_is_answered_by_one_read(world: Any) -> None:
    asked: list[tuple[str, ...]] = []

    def look(_: Connection, keys: Sequence[str]) -> dict[str, int]:
        asked.append(tuple(keys))
        return {key: len(key) for key in keys if key != "unknown"}

    gathered = Gathered(world.store, look)
    names = ["a", "bb", "unknown", "bb"]
    assert await asyncio.gather(*(gathered.find(name) for name in names)) == [1, 2, None, 2]
    assert asked == [("a", "bb", "unknown")]
    leaver = asyncio.create_task(gathered.find("gone"))
    await asyncio.sleep(0)
    leaver.cancel()
    assert await gathered.find("ccc") == 3, "who hung up takes nobody along"


async def test_a_failing_store_is_an_error_for_each_who_asked(world: Any) -> None:
    def look(_: Connection, keys: Sequence[str]) -> dict[str, int]:
        raise StoreError("no")

    gathered: Gathered[int] = Gathered(world.store, look)
    answers = await asyncio.gather(*(gathered.find(name) for name in "ab"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreError, StoreError]
    with pytest.raises(StoreError):
        await gathered.find("a")


async def test_a_site_has_work_while_a_job_waits_or_is_leased(world: Any) -> None:
    presence = Presence(world.store)
    world.add_agent("agent-1")
    assert await presence.work_of("HN-1") == frozenset()
    await world.record(world.event("D-1"))
    assert await presence.work_of("HN-1") == {JobState.WAITING}
    assert await presence.work_of("HN-2") == frozenset()
    found = await presence.find_agent("token-agent-1")
    assert found is not None
    assert found.agent_id == "agent-1"
    assert await presence.find_agent("token-agent-9") is None
    await presence.close()


async def test_sightings_are_written_together_and_never_go_back(world: Any) -> None:
    presence = Presence(world.store)
    for number in (1, 2):
        world.add_agent(f"agent-{number}", journal_id=f"j-{number}")
    early = world.clock.now
    late = world.clock.advance(60)
    counts = {"bytes_up": 7, "bytes_down": 8, "certificates": 1, "stamped": 1, "fetched": 0, "mismatched": 0}
    presence.seen("agent-1", late, 12, counts)
    presence.seen("agent-2", late, None)
    await presence.close()
    presence.seen("agent-1", early, 99)
    await presence.close()
    seen = {agent.agent_id: agent for agent in world.store.read_now(site_store.list_agents)}
    assert (seen["agent-1"].seen_at, seen["agent-1"].clock_skew_ms) == (late, 12)
    assert seen["agent-2"].seen_at == late
    assert world.store.read_now(line_store.sum_lines) == counts
    assert [line["agent_id"] for line in world.store.read_now(line_store.list_lines)] == ["agent-1"]
