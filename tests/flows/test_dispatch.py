"""Leases and reports where they depend on the database. Over HTTP: tests/sync/test_agents.py."""

from __future__ import annotations

from typing import Any

import pytest

from printsvc.domain.print_job import JobEvent
from printsvc.errors import RenderError
from printsvc.flows import dispatch
from printsvc.store import jobs as job_store
from printsvc.store.jobs import Happening


async def lease(world: Any, agent: Any, **more: Any) -> Any:
    arguments = {"journal_id": agent.journal_id, "capacity": 10, "wait_s": 0} | more
    return await dispatch.lease(world.services, agent, **arguments)


async def job(world: Any, job_id: str) -> Any:
    return await world.store.read(lambda c: job_store.get_job(c, job_id))


async def test_a_page_that_cannot_be_drawn_steps_behind_the_others_and_fails_in_the_end(world: Any) -> None:
    agent = world.add_agent()
    (recorded,) = await world.record(world.event("A"))
    world.renderer.fails_with = RenderError("Drawing failed.", retry_after_s=1)
    assert (await lease(world, agent)).ready == ()
    waiting = await job(world, recorded.job_id)
    assert (waiting.state, waiting.holder_agent, waiting.state_reason) == ("waiting", None, "render_unavailable")
    world.renderer.fails_with = None
    (other,) = await world.record(world.event("B"))
    (ready,) = (await lease(world, agent, capacity=1)).ready
    assert ready.job.job_id == other.job_id
    world.renderer.fails_with = RenderError("Drawing failed.", retry_after_s=1)
    for _ in range(60):
        await lease(world, agent, holding=[(other.job_id, 1)])
    assert (await job(world, recorded.job_id)).state == "failed"


async def test_a_returned_lease_is_not_touched_when_somebody_else_has_the_job_meanwhile(world: Any) -> None:
    agent = world.add_agent()
    (recorded,) = await world.record(world.event("A"))
    await lease(world, agent)
    stale = await job(world, recorded.job_id)
    world.clock.advance(world.services.lease_s + 1)
    await lease(world, agent, holding=[])
    await dispatch._give_back(world.services, stale, JobEvent.FAIL, "late")
    assert (await job(world, recorded.job_id)).state == "leased"


@pytest.mark.parametrize("kinds", [[JobEvent.SUBMIT, JobEvent.PRINT], [JobEvent.PRINT]])
async def test_a_report_is_applied_once_in_order(world: Any, kinds: list[JobEvent]) -> None:
    agent = world.add_agent()
    (recorded,) = await world.record(world.event("A"))
    await lease(world, agent)
    events = [
        (recorded.job_id, Happening(kind, world.clock.now, agent.agent_id, seq=seq, fencing_token=1))
        for seq, kind in enumerate(kinds, start=1)
    ]
    last, told = await dispatch.report(world.services, agent, agent.journal_id, events[::-1])
    assert (last, [one.outcome for one in told]) == (len(kinds), ["applied"] * len(kinds))
    last, told = await dispatch.report(world.services, agent, agent.journal_id, events)
    assert (last, [one.outcome for one in told]) == (len(kinds), ["duplicate"] * len(kinds))
    ledger = await world.store.read(lambda c: job_store.ledger_of(c, recorded.job_id))
    assert [row.event for row in ledger] == ["lease", *kinds]


async def test_the_pdf_of_the_api_is_the_one_that_is_printed(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("A"))
    (ready,) = (await lease(world, agent)).ready
    printed = await dispatch.fetch_document(world.services, agent, ready.sha256)
    assert printed == await dispatch.draw_certificate(world.services, ready.job)


async def test_a_heartbeat_beside_an_open_poll_takes_nothing_back(world: Any) -> None:
    """It tells what the agent held when it was sent: the poll's answer may be on its way."""
    agent = world.add_agent()
    (recorded,) = await world.record(world.event("A"))
    await lease(world, agent)
    await lease(world, agent, capacity=0, holding=[])
    assert ((leased := await job(world, recorded.job_id)).state, leased.fencing_token) == ("leased", 1)
    (again,) = (await lease(world, agent, holding=[])).ready
    assert (again.job.job_id, again.job.fencing_token) == (recorded.job_id, 2), "who asks for more says all that it has"
