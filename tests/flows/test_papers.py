"""Papers on both databases: copies are numbered once, whoever asks at the same time. Over HTTP: tests/web."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from printsvc.domain.print_job import CopyReason, JobEvent
from printsvc.errors import NotFoundError, StateError
from printsvc.flows import dispatch
from printsvc.flows.papers import Seen, print_copy, retry_job, settle_job
from printsvc.store import jobs as job_store
from printsvc.store.jobs import Happening


async def printed(world: Any, event: str = "print") -> Any:
    """Return a recorded dose whose first paper went this way."""
    agent = world.add_agent()
    (recorded,) = await world.record(world.event("A"))
    await dispatch.lease(world.services, agent, journal_id=agent.journal_id, capacity=1, wait_s=0)
    happening = Happening(JobEvent(event), world.clock.now, agent.agent_id, seq=1, fencing_token=1)
    await dispatch.report(world.services, agent, agent.journal_id, [(recorded.job_id, happening)])
    return recorded


async def papers(world: Any, uvci: str) -> list[Any]:
    return list(await world.store.read(lambda c: job_store.jobs_of(c, [uvci])))


async def test_many_who_say_that_a_paper_is_missing_get_one_copy(world: Any) -> None:
    recorded = await printed(world, "doubt")
    answers = await asyncio.gather(
        *(settle_job(world.services, recorded.job_id, Seen.NOT_HERE, actor="a") for _ in range(6)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, StateError) for answer in answers) == 5
    assert [one.copy_number for one in await papers(world, recorded.dose.certificate.uvci)] == [1, 2]


async def test_many_who_ask_for_a_copy_get_one(world: Any) -> None:
    recorded = await printed(world)
    uvci = recorded.dose.certificate.uvci
    answers = await asyncio.gather(
        *(print_copy(world.services, uvci, CopyReason.LOST, actor="a") for _ in range(6)), return_exceptions=True
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1, answers
    assert [one.copy_number for one in await papers(world, uvci)] == [1, 2]
    with pytest.raises(NotFoundError):
        await print_copy(world.services, uvci, CopyReason.LOST, actor="a", site_id="HN-2")


async def test_a_failed_paper_is_printed_again_or_replaced_but_not_both(world: Any) -> None:
    recorded = await printed(world, "fail")
    uvci = recorded.dose.certificate.uvci
    answers = await asyncio.gather(
        retry_job(world.services, recorded.job_id, actor="a"),
        print_copy(world.services, uvci, CopyReason.LOST, actor="b"),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, StateError) for answer in answers) == 1, answers
    assert [one.state for one in await papers(world, uvci)].count("waiting") == 1
