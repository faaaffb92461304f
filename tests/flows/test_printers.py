"""Commands for printers: asked once, given to the right agent, ended once, in time or not; both stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from printsvc.domain.print_job import Happening, JobEvent, JobState
from printsvc.domain.printer import Printer, PrinterState
from printsvc.domain.printer_command import NO_ANSWER_AFTER, CommandState, JobRoute, JobWish, QueueSetting, Verb
from printsvc.errors import DuplicateError, NotFoundError, StateError
from printsvc.flows import dispatch
from printsvc.flows import printers as flow
from printsvc.flows.printers import Result, Wanted
from printsvc.store import jobs as job_store
from printsvc.store import printers as book
from printsvc.store.sites import SitePrinter


async def has_queue(world: Any, agent: Any, name: str = "desk1") -> None:
    printer = Printer(name, "ipp://192.0.2.7/ipp/print", "Printer - IPP Everywhere", PrinterState.IDLE)
    told = SitePrinter(agent.site_id, printer, (80,), (), world.clock.now)
    await dispatch.agent_seen(
        world.services, agent, journal_id=agent.journal_id, version="1", clock_skew_ms=0, printers=[told]
    )


async def give(world: Any, agent: Any) -> list[Any]:
    return list(
        await world.store.write(
            lambda c: book.give_commands(c, agent.site_id, agent.agent_id, now=world.services.clock())
        )
    )


async def answer(world: Any, agent: Any, command_id: str, state: CommandState, **more: Any) -> None:
    result = Result(command_id, state, more.get("reason", ""), "Said so.", "Đã nói.", more.get("detail", {}))
    await world.store.write(lambda c: flow.take_results(c, agent, [result], now=world.services.clock()))


async def read(world: Any, command_id: str) -> Any:
    return await world.store.read(lambda c: book.find_command(c, command_id))


async def lease(world: Any, agent: Any, **more: Any) -> Any:
    return await dispatch.lease(world.services, agent, journal_id=agent.journal_id, capacity=9, wait_s=0, **more)


async def test_a_command_is_kept_with_who_asked_and_given_until_it_is_answered(world: Any) -> None:
    agent = world.add_agent()
    await has_queue(world, agent)
    asked = await flow.ask(world.services, "HN-1", Wanted(Verb.CHECK, "desk1", command_id="one"), actor="admin")
    assert (asked.state, asked.agent_id, asked.asked_by) == (CommandState.WAITING, agent.agent_id, "admin")
    assert [command.command_id for command in await give(world, agent)] == ["one"]
    assert await give(world, agent) == [], "not twice in one breath"
    world.clock.now += timedelta(seconds=30)
    assert [command.command_id for command in await give(world, agent)] == ["one"], "the answer may have been lost"
    await answer(world, agent, "one", CommandState.DONE, detail={"findings": ["x"]})
    ended = await read(world, "one")
    assert (ended.state, ended.detail, ended.ended_at) == (
        CommandState.DONE,
        {"findings": ["x"]},
        world.clock.now,
    )
    await answer(world, agent, "one", CommandState.FAILED)
    assert (await read(world, "one")).state is CommandState.DONE, "an outcome is not changed by a late echo"
    assert await give(world, agent) == []


async def test_the_same_command_again_is_the_stored_one_and_another_under_its_id_is_refused(world: Any) -> None:
    await has_queue(world, world.add_agent())
    wanted = Wanted(Verb.ENABLE, "desk1", command_id="one")
    first = await flow.ask(world.services, "HN-1", wanted, actor="admin")
    assert await flow.ask(world.services, "HN-1", wanted, actor="admin") == first
    with pytest.raises(DuplicateError) as caught:
        await flow.ask(world.services, "HN-1", replace(wanted, verb=Verb.DISABLE), actor="admin")
    assert caught.value.fields == ["/verb"]


async def test_a_command_that_nobody_takes_expires_and_one_that_nobody_answers_says_so(world: Any) -> None:
    agent = world.add_agent()
    await has_queue(world, agent)
    for name in ("left", "taken"):
        await flow.ask(world.services, "HN-1", Wanted(Verb.ENABLE, "desk1", command_id=name), actor="admin")
        if name == "left":
            world.clock.now += timedelta(seconds=61)
            assert await give(world, agent) == [], "not begun after its time"
        else:
            assert [command.command_id for command in await give(world, agent)] == ["taken"]
    assert (await read(world, "left")).state_at(world.clock.now) is CommandState.EXPIRED
    world.clock.now += timedelta(seconds=61) + NO_ANSWER_AFTER
    assert (await read(world, "taken")).state_at(world.clock.now) is CommandState.NO_ANSWER
    await world.store.write(lambda c: flow.take_results(c, agent, [], now=world.clock.now))
    states = {one.command_id: one.state for one in await world.store.read(lambda c: book.list_commands(c, "HN-1"))}
    assert states == {"left": CommandState.EXPIRED, "taken": CommandState.NO_ANSWER}
    await answer(world, agent, "taken", CommandState.REFUSED, reason="job-active")
    assert (await read(world, "taken")).state is CommandState.REFUSED, "late, and yet the truth"


async def test_another_agent_neither_gets_nor_answers_a_command(world: Any) -> None:
    world.add_site("HN-2")
    mine, other = world.add_agent(), world.add_agent("agent-2", "HN-2", "journal-2")
    second = world.add_agent("agent-3", "HN-1", "journal-3")
    await has_queue(world, mine)
    await flow.ask(world.services, "HN-1", Wanted(Verb.ENABLE, "desk1", command_id="one"), actor="admin")
    for agent in (other, second):
        assert await give(world, agent) == []
        await answer(world, agent, "one", CommandState.DONE)
    assert (await read(world, "one")).state is CommandState.WAITING
    for site_id, queue in (("HN-2", "desk1"), ("HN-1", "desk9")):
        with pytest.raises(NotFoundError):
            await flow.ask(world.services, site_id, Wanted(Verb.ENABLE, queue), actor="admin")
    with pytest.raises(NotFoundError):
        await world.store.read(lambda c: book.get_command(c, "HN-2", "one"))


async def test_a_site_without_an_agent_is_told_so_at_once(world: Any) -> None:
    with pytest.raises(StateError) as caught:
        await flow.ask(world.services, "HN-1", Wanted(Verb.DISCOVER), actor="admin")
    assert caught.value.code == "no_agent"


async def test_what_no_agent_has_is_changed_here(world: Any) -> None:
    agent = world.add_agent()
    await has_queue(world, agent)
    (recorded,) = await world.record(world.event())
    job_id = recorded.job_id

    async def do(verb: Verb, **arguments: Any) -> Any:
        return await flow.ask(world.services, "HN-1", Wanted(verb, job=job_id, arguments=arguments), actor="admin")

    assert (await do(Verb.HOLD)).reason == "at-centre"
    assert (await lease(world, agent)).ready == (), "kept back"
    assert (await do(Verb.PRIORITY, priority=90)).state is CommandState.DONE
    assert (await do(Verb.MOVE, to="desk1")).state is CommandState.DONE
    assert (await do(Verb.MOVE, to="desk9")).reason == "no-such-queue"
    wish = await world.store.read(lambda c: book.wishes_of(c, [job_id]))
    assert wish == {job_id: JobWish("desk1", kept=True)}
    await do(Verb.RELEASE)
    (ready,) = (await lease(world, agent)).ready
    assert (ready.job.job_id, ready.job.priority) == (job_id, 90)


async def test_a_job_at_a_printer_is_left_alone_whatever_is_asked(world: Any) -> None:
    agent = world.add_agent()
    (recorded,) = await world.record(world.event())
    (ready,) = (await lease(world, agent)).ready
    happening = Happening(JobEvent.SUBMIT, world.clock.now, agent.agent_id, seq=1, fencing_token=1, queue="desk1")
    await dispatch.report(world.services, agent, "journal-1", [(ready.job.job_id, happening)])
    for verb in (Verb.HOLD, Verb.CANCEL, Verb.MOVE, Verb.PRIORITY):
        wanted = Wanted(verb, job=recorded.job_id, arguments={"to": "", "priority": 1})
        refused = await flow.ask(world.services, "HN-1", wanted, actor="admin")
        assert (refused.state, refused.reason) == (CommandState.REFUSED, "job-active")
        assert "desk1" in refused.en
        assert refused.vi != refused.en
    assert len(await world.store.read(lambda c: book.list_commands(c, "HN-1"))) == 4, "refusals are in the ledger too"


@pytest.mark.parametrize("answered_first", [True, False])
async def test_a_cancelled_job_comes_back_from_its_agent_and_is_not_given_again(
    world: Any, answered_first: bool
) -> None:
    agent = world.add_agent()
    (recorded,) = await world.record(world.event())
    (ready,) = (await lease(world, agent)).ready
    asked = await flow.ask(world.services, "HN-1", Wanted(Verb.CANCEL, job=recorded.job_id), actor="desk")
    assert (asked.state, asked.agent_id) == (CommandState.WAITING, agent.agent_id)
    assert await give(world, agent)
    if answered_first:
        await answer(world, agent, asked.command_id, CommandState.DONE)
    returned = Happening(JobEvent.RETURN, world.clock.now, agent.agent_id, seq=1, fencing_token=1, reason="dropped")
    await dispatch.report(world.services, agent, "journal-1", [(ready.job.job_id, returned)])
    job = await world.store.read(lambda c: job_store.get_job(c, recorded.job_id))
    assert job.state is JobState.CANCELED
    ledger = await world.store.read(lambda c: job_store.ledger_of(c, recorded.job_id))
    assert (ledger[-1].event, ledger[-1].actor) == ("cancel", "desk")
    assert (await lease(world, agent)).ready == ()


async def test_routes_are_kept_once_each_for_the_sites_own_jobs(world: Any) -> None:
    agent = world.add_agent()
    (recorded,) = await world.record(world.event())

    async def tell(queue: str, en: str, attempt_id: str = "", job_id: str = recorded.job_id) -> None:
        route = JobRoute(job_id, world.clock.now, queue, en, en, attempt_id)
        await world.store.write(lambda c: flow.take_routes(c, agent, [route], now=world.clock.now))

    await tell("", "waits: desk1: media-empty-error")
    await tell("", "waits: desk1: media-empty-error")
    await tell("desk1", "desk1: one of 1 that can")
    await tell("desk1", "desk1: one of 1 that can", "ps-1")
    await tell("desk1", "desk1: one of 1 that can", "ps-1")
    await tell("desk1", "desk1: one of 1 that can", "ps-2")
    await tell("desk1", "of nobody", job_id="f" * 20)
    routes = await world.store.read(lambda c: book.routes_of(c, recorded.job_id))
    assert [(route.queue, route.attempt_id) for route in routes] == [("", ""), ("desk1", "ps-1"), ("desk1", "ps-2")]
    for number in range(book.KEPT_ROUTES + 9):
        await tell("", f"waits {number}")
    assert len(await world.store.read(lambda c: book.routes_of(c, recorded.job_id))) == book.KEPT_ROUTES


async def test_settings_have_a_version_that_changes_with_them(world: Any) -> None:
    def version() -> str:
        return book.settings_version(world.store.read_now(lambda c: book.list_settings(c, "HN-1")))

    assert version() == ""
    setting = QueueSetting("HN-1", "desk1", "front", ("iso_a4_210x297mm",), 600, 1)
    await flow.put_setting(world.services, setting, actor="admin")
    first = version()
    await flow.put_setting(world.services, replace(setting, pull_back=2), actor="admin")
    assert version() not in ("", first)
    await flow.put_setting(world.services, setting, actor="admin")
    assert version() == first
    with pytest.raises(NotFoundError):
        await flow.put_setting(world.services, replace(setting, site_id="HN-9"), actor="admin")


async def test_a_waiting_command_wakes_its_site(world: Any) -> None:
    await has_queue(world, world.add_agent())
    assert world.store.read_now(flow.sites_with_work) == set()
    await flow.ask(world.services, "HN-1", Wanted(Verb.ENABLE, "desk1"), actor="admin")
    assert world.store.read_now(flow.sites_with_work) == {"HN-1"}


async def test_an_open_lease_call_ends_for_a_command(world: Any) -> None:
    agent = world.add_agent()
    await has_queue(world, agent)
    await flow.ask(world.services, "HN-1", Wanted(Verb.ENABLE, "desk1"), actor="admin")
    result = await dispatch.lease(
        world.services,
        agent,
        journal_id="journal-1",
        capacity=9,
        wait_s=3600,
        is_called=lambda c: book.is_called(c, "HN-1", agent.agent_id, now=world.clock.now),
    )
    assert result.ready == ()
