"""Leases and reports: who may print what, until when, and whose word counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from printsvc.domain.print_job import CopyReason, Happening, JobEvent, JobState, PrintJob
from printsvc.domain.printer import Printer, PrinterState
from printsvc.errors import AccessError, IllegalTransitionError, NotFoundError, RenderError, StateError
from printsvc.flows import dispatch, leases
from printsvc.flows.papers import Seen, print_copy, retry_job, settle_job
from printsvc.store import jobs as job_store
from printsvc.store import sites as site_store
from printsvc.store.sites import Agent, Caller, SitePrinter

LEASE_S = 120.0


async def claim(world: Any, agent: Agent, capacity: int = 10, journal_id: str | None = None) -> list[PrintJob]:
    """Lease through the store alone, as of the world's clock."""
    return await world.store.write(
        lambda c: leases.claim_waiting(
            c,
            agent.site_id,
            agent_id=agent.agent_id,
            journal_id=journal_id or agent.journal_id,
            capacity=capacity,
            now=world.clock.now,
            lease_s=LEASE_S,
        )
    )


async def expire(world: Any, site_id: str = "HN-1") -> int:
    return await world.store.write(lambda c: leases.expire_leases(c, site_id, now=world.clock.now))


async def renew(
    world: Any, agent: Agent, held: Sequence[tuple[str, int]], journal_id: str | None = None
) -> tuple[list[tuple[str, int]], list[str]]:
    now = world.clock.now
    return await world.store.write(
        lambda c: leases.renew(
            c,
            held,
            agent_id=agent.agent_id,
            journal_id=journal_id or agent.journal_id,
            now=now,
            deadline=now + timedelta(seconds=LEASE_S),
        )
    )


def job_of(world: Any, job_id: str) -> PrintJob:
    return world.store.read_now(lambda c: job_store.get_job(c, job_id))


def happening(world: Any, job: PrintJob, event: JobEvent, seq: int, **changes: Any) -> tuple[str, Happening]:
    values = {"fencing_token": job.fencing_token, "actor": job.holder_agent or "agent-1"} | changes
    return job.job_id, Happening(event, world.clock.now, seq=seq, **values)


async def report(world: Any, agent: Agent, *events: tuple[str, Happening], journal_id: str | None = None) -> Any:
    return await dispatch.report(world.services, agent, journal_id or agent.journal_id, events)


# --- claiming


async def test_capacity_and_order(world: Any) -> None:
    agent = world.add_agent()
    issued = []
    for n in range(4):
        issued += await world.record(world.event(f"D-{n}"))
        world.clock.advance(1)
    await world.store.write(lambda c: _set_priority(c, issued[2].job_id, 90))
    assert await claim(world, agent, capacity=0) == []
    first = await claim(world, agent, capacity=2)
    second = await claim(world, agent, capacity=10)
    assert [job.job_id for job in first + second] == [issued[n].job_id for n in (2, 0, 1, 3)]
    assert {(job.state, job.fencing_token, job.holder_agent, job.holder_journal) for job in first + second} == {
        (JobState.LEASED, 1, "agent-1", "journal-1")
    }
    assert first[0].deadline == world.clock.now + timedelta(seconds=LEASE_S)
    assert await claim(world, agent) == []


def _set_priority(connection: Any, job_id: str, priority: int) -> None:
    jobs = job_store.print_jobs
    connection.execute(job_store.update(jobs).where(jobs.c.job_id == job_id).values(priority=priority))


async def test_a_site_leases_its_own_jobs_alone(world: Any) -> None:
    world.add_site("HN-2")
    stranger = world.add_agent("agent-2", "HN-2", "journal-2")
    await world.record(world.event("D-1"))
    assert await claim(world, stranger) == []
    assert world.store.read_now(job_store.sites_with_waiting_jobs) == ["HN-1"]


async def test_many_agents_at_once_never_share_a_job(world: Any) -> None:
    agents = [world.add_agent(f"agent-{n}", journal_id=f"journal-{n}") for n in range(8)]
    await world.record(*(world.event(f"D-{n}") for n in range(60)))
    taken = await asyncio.gather(*(claim(world, agent, capacity=7) for agent in agents * 2))
    ids = [job.job_id for jobs in taken for job in jobs]
    assert len(ids) == len(set(ids)) == 60


# --- time


async def test_an_expired_lease_goes_back_to_the_same_journal_only(world: Any) -> None:
    mine, other = world.add_agent(), world.add_agent("agent-2", journal_id="journal-2")
    await world.record(world.event("D-1"))
    [job] = await claim(world, mine)
    world.clock.advance(LEASE_S)
    assert await expire(world) == 0, "the deadline itself still holds"
    world.clock.advance(0.001)
    assert await expire(world) == 1
    assert job_of(world, job.job_id).state is JobState.WAITING
    assert await claim(world, other) == []
    assert await claim(world, mine, journal_id="journal-1b") == []
    [again] = await claim(world, mine)
    assert (again.job_id, again.fencing_token) == (job.job_id, 2)


async def test_renewal_prolongs_what_is_held_and_drops_the_rest(world: Any) -> None:
    mine, other = world.add_agent(), world.add_agent("agent-2", journal_id="journal-2")
    await world.record(*(world.event(f"D-{n}") for n in range(3)))
    [one, two] = await claim(world, mine, capacity=2)
    [theirs] = await claim(world, other, capacity=1)
    world.clock.advance(100)
    held = [(one.job_id, 1), (two.job_id, 1), (theirs.job_id, 1), ("no-such-job", 1)]
    kept, dropped = await renew(world, mine, held)
    assert kept == [(one.job_id, 1), (two.job_id, 1)]
    assert dropped == [theirs.job_id, "no-such-job"]
    world.clock.advance(100)
    assert await expire(world) == 1, "only the other agent's lease ran out"
    assert job_of(world, theirs.job_id).state is JobState.WAITING


async def test_a_lease_that_ran_out_is_taken_up_again_under_its_token(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"))
    [job] = await claim(world, agent)
    world.clock.advance(LEASE_S + 1)
    await expire(world)
    assert await renew(world, agent, [(job.job_id, 1)]) == ([(job.job_id, 1)], [])
    assert job_of(world, job.job_id).state is JobState.LEASED
    assert await renew(world, agent, [(job.job_id, 1)], journal_id="other") == ([], [job.job_id])


async def test_a_sent_job_has_no_deadline_that_could_hand_it_on(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"))
    [job] = await claim(world, agent)
    await report(world, agent, happening(world, job, JobEvent.SUBMIT, 1))
    world.clock.advance(24 * 3600)
    assert await expire(world) == 0
    assert await renew(world, agent, [(job.job_id, 1)]) == ([(job.job_id, 1)], [])
    assert job_of(world, job.job_id).state is JobState.SENT


# --- a journal that is lost


@pytest.mark.parametrize("stage", ["leased", "expired", "sent"])
async def test_a_lost_journal_makes_its_open_jobs_uncertain(world: Any, stage: str) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"), world.event("D-2"))
    [job] = await claim(world, agent, capacity=1)
    if stage == "expired":
        world.clock.advance(LEASE_S + 1)
        await expire(world)
    if stage == "sent":
        await report(world, agent, happening(world, job, JobEvent.SUBMIT, 1))
    values = {"version": "1", "clock_skew_ms": 0, "printers": None}
    assert await dispatch.agent_seen(world.services, agent, journal_id="journal-1", **values) == 0
    assert await dispatch.agent_seen(world.services, agent, journal_id="journal-1b", **values) == 1
    lost = job_of(world, job.job_id)
    assert (lost.state, lost.state_reason) == (JobState.UNCERTAIN, "journal-lost")
    assert world.store.read_now(lambda c: job_store.jobs_for_a_person(c, "HN-1")) == [lost]
    assert len(await claim(world, agent, journal_id="journal-1b")) == 1, "the job that nobody held is still to be had"


# --- reports


async def test_a_service_that_was_restored_from_a_backup_goes_on_where_the_journal_is(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"))
    [job] = await claim(world, agent)
    acknowledged, told = await report(world, agent, happening(world, job, JobEvent.PRINT, 57))
    assert acknowledged == 57
    assert [(one.seq, one.outcome) for one in told] == [(57, "applied")]
    assert (await report(world, agent, happening(world, job, JobEvent.PRINT, 57)))[1][0].outcome == "duplicate"


async def test_each_event_counts_once_and_in_order(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"))
    [job] = await claim(world, agent)
    submit = happening(world, job, JobEvent.SUBMIT, 1, queue="HP", attempt_id="ps-1-1-1")
    out = happening(world, job, JobEvent.PRINT, 2, witness="printer", impressions=1)
    later = happening(world, job, JobEvent.DOUBT, 4)
    acknowledged, told = await report(world, agent, later, out, submit)
    assert acknowledged == 2, "a gap in the batch: nothing after it is taken"
    assert [(one.seq, one.outcome, one.state) for one in told] == [(1, "applied", "sent"), (2, "applied", "printed")]
    acknowledged, told = await report(world, agent, submit, out)
    assert acknowledged == 2
    assert [one.outcome for one in told] == ["duplicate", "duplicate"]
    printed = job_of(world, job.job_id)
    assert (printed.state, printed.queue, printed.attempt_id, printed.witness) == (
        JobState.PRINTED,
        "HP",
        "ps-1-1-1",
        "printer",
    )
    ledger = world.store.read_now(lambda c: job_store.ledger_of(c, job.job_id))
    assert [(row.event, row.before, row.after, row.applied, row.seq) for row in ledger] == [
        ("lease", "waiting", "leased", True, None),
        ("submit", "leased", "sent", True, 1),
        ("print", "sent", "printed", True, 2),
    ]


async def test_the_same_report_32_times_at_once_counts_once(world: Any) -> None:
    agent = world.add_agent()
    await world.record(*(world.event(f"D-{n}") for n in range(5)))
    jobs = await claim(world, agent)
    events = [happening(world, job, JobEvent.SUBMIT, seq) for seq, job in enumerate(jobs, 1)]
    answers = await asyncio.gather(*(report(world, agent, *events) for _ in range(32)))
    assert {acknowledged for acknowledged, _ in answers} == {5}
    applied = [one for _, told in answers for one in told if one.outcome == "applied"]
    assert sorted(one.seq for one in applied) == [1, 2, 3, 4, 5]


async def test_an_event_that_the_state_does_not_allow_is_kept_and_changes_nothing(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"))
    [job] = await claim(world, agent)
    await report(world, agent, happening(world, job, JobEvent.PRINT, 1))
    before = job_of(world, job.job_id)
    acknowledged, [told] = await report(world, agent, happening(world, job, JobEvent.SUBMIT, 2))
    assert (acknowledged, told.outcome, told.state) == (2, "refused", "printed")
    assert job_of(world, job.job_id) == before
    last = world.store.read_now(lambda c: job_store.ledger_of(c, job.job_id))[-1]
    assert (last.event, last.applied, last.before, last.after) == ("submit", False, "printed", "printed")


@pytest.mark.parametrize("event", [JobEvent.RETURN, JobEvent.FAIL])
async def test_no_paper_under_a_stale_token_is_refused(world: Any, event: JobEvent) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"))
    [old] = await claim(world, agent)
    world.clock.advance(LEASE_S + 1)
    await expire(world)
    [new] = await claim(world, agent)
    acknowledged, [told] = await report(world, agent, happening(world, old, event, 1))
    assert (acknowledged, told.outcome, told.state) == (1, "refused", "leased")
    assert job_of(world, old.job_id) == new
    _, [told] = await report(world, agent, happening(world, new, event, 2))
    assert told.outcome == "applied"


async def test_late_word_of_paper_counts_once_after_the_lease_ran_out(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"))
    [old] = await claim(world, agent)
    world.clock.advance(LEASE_S + 1)
    await expire(world)
    late = happening(world, old, JobEvent.PRINT, 1)
    assert [one.state for one in (await report(world, agent, late))[1]] == ["printed"]
    assert [one.outcome for one in (await report(world, agent, late))[1]] == ["duplicate"]
    assert await claim(world, agent) == []


async def test_a_returned_job_is_anybodys(world: Any) -> None:
    mine, other = world.add_agent(), world.add_agent("agent-2", journal_id="journal-2")
    await world.record(world.event("D-1"))
    [job] = await claim(world, mine)
    await report(world, mine, happening(world, job, JobEvent.RETURN, 1, reason="no-printer"))
    [theirs] = await claim(world, other)
    assert (theirs.job_id, theirs.fencing_token, theirs.holder_agent) == (job.job_id, 2, "agent-2")


async def test_events_of_no_job_or_another_sites_job_are_refused_without_a_word(world: Any) -> None:
    world.add_site("HN-2")
    agent, stranger = world.add_agent(), world.add_agent("agent-2", "HN-2", "journal-2")
    await world.record(world.event("D-1"))
    [job] = await claim(world, agent)
    events = [
        happening(world, job, JobEvent.PRINT, 1),
        ("no-such-job", Happening(JobEvent.PRINT, world.clock.now, "x", seq=2)),
    ]
    acknowledged, told = await report(world, stranger, *events)
    assert acknowledged == 2
    assert [(one.outcome, one.state) for one in told] == [("refused", ""), ("refused", "")]
    assert job_of(world, job.job_id).state is JobState.LEASED


# --- leasing with documents


async def test_a_lease_has_documents_that_the_site_may_fetch_until_they_are_paper(world: Any) -> None:
    world.add_site("HN-2")
    agent, stranger = world.add_agent(), world.add_agent("agent-2", "HN-2", "journal-2")
    await world.record(world.event("D-1"))
    result = await dispatch.lease(world.services, agent, journal_id="journal-1", capacity=1, wait_s=0)
    [ready] = result.ready
    body = await dispatch.fetch_document(world.services, agent, ready.sha256)
    assert (len(body), body[:4]) == (ready.size, b"%PDF")
    with pytest.raises(NotFoundError):
        await dispatch.fetch_document(world.services, stranger, ready.sha256)
    with pytest.raises(NotFoundError):
        await dispatch.fetch_document(world.services, agent, "0" * 64)
    await report(world, agent, happening(world, ready.job, JobEvent.SUBMIT, 1))
    assert await dispatch.fetch_document(world.services, agent, ready.sha256) == body
    await report(world, agent, happening(world, ready.job, JobEvent.PRINT, 2))
    with pytest.raises(NotFoundError):
        await dispatch.fetch_document(world.services, agent, ready.sha256)


async def test_a_page_is_drawn_once_for_a_job_that_is_leased_twice(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"))
    for _ in range(2):
        result = await dispatch.lease(world.services, agent, journal_id="journal-1", capacity=1, wait_s=0)
        assert len(result.ready) == 1
        world.clock.advance(LEASE_S + 1)
    assert len(world.renderer.pages) == 1


async def test_when_no_page_can_be_drawn_the_jobs_wait_for_anybody(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"))
    world.renderer.fails_with = RenderError("No worker.", retry_after_s=1)
    result = await dispatch.lease(world.services, agent, journal_id="journal-1", capacity=1, wait_s=0)
    assert result.ready == ()
    [job] = world.store.read_now(lambda c: job_store.list_jobs(c, site_id="HN-1"))
    assert (job.state, job.holder_agent, job.state_reason) == (JobState.WAITING, None, "render_unavailable")


# --- a person's word


async def printed_job(world: Any, agent: Agent) -> PrintJob:
    await world.record(world.event("D-1"))
    [job] = await claim(world, agent)
    await report(world, agent, happening(world, job, JobEvent.PRINT, 1))
    return job_of(world, job.job_id)


async def test_a_missing_paper_is_followed_by_the_next_copy_with_its_reason(world: Any) -> None:
    job = await printed_job(world, world.add_agent())
    settled, copy = await settle_job(world.services, job.job_id, Seen.NOT_HERE, actor="nurse")
    assert settled.state is JobState.FAILED
    assert (copy.copy_number, copy.reason, copy.asked_by, copy.state) == (2, CopyReason.MISSING, "nurse", "waiting")
    with pytest.raises(StateError) as raised:
        await retry_job(world.services, job.job_id, actor="nurse")
    assert raised.value.code == "replaced", "or there would be two papers"
    with pytest.raises(IllegalTransitionError):
        await settle_job(world.services, job.job_id, Seen.NOT_HERE, actor="nurse")
    assert len(world.store.read_now(lambda c: job_store.jobs_of(c, [job.uvci]))) == 2


async def test_a_paper_that_is_here_is_confirmed_and_final(world: Any) -> None:
    job = await printed_job(world, world.add_agent())
    settled, copy = await settle_job(world.services, job.job_id, Seen.HERE, actor="nurse")
    assert (settled.state, copy) == (JobState.CONFIRMED, None)
    for seen in Seen:
        with pytest.raises(IllegalTransitionError):
            await settle_job(world.services, job.job_id, seen, actor="nurse")
    assert job_of(world, job.job_id) == settled


async def test_a_further_copy_waits_until_the_first_is_settled(world: Any) -> None:
    [recorded] = await world.record(world.event("D-1"))
    uvci = recorded.dose.certificate.uvci
    with pytest.raises(StateError) as raised:
        await print_copy(world.services, uvci, CopyReason.LOST, actor="nurse")
    assert raised.value.code == "copy_under_way"
    agent = world.add_agent()
    [job] = await claim(world, agent)
    await report(world, agent, happening(world, job, JobEvent.PRINT, 1))
    copy = await print_copy(world.services, uvci, CopyReason.LOST, actor="nurse")
    assert (copy.copy_number, copy.reason) == (2, CopyReason.LOST)


# --- tokens, codes, agents, printers


async def test_a_code_enrols_one_agent_once(world: Any) -> None:
    now = world.clock.now
    await world.store.write(
        lambda c: site_store.insert_enrolment_code(c, "code", "HN-1", now=now, expires_at=now + timedelta(hours=1))
    )

    async def enrol(n: int) -> Agent | None:
        values = {"agent_id": f"a-{n}", "token": f"t-{n}", "journal_id": f"j-{n}", "version": "1" * 80, "now": now}
        with contextlib.suppress(AccessError):
            return await world.store.write(lambda c: site_store.enrol(c, "code", **values))
        return None

    enrolled = [agent for agent in await asyncio.gather(*map(enrol, range(20))) if agent]
    assert len(enrolled) == 1
    assert [agent.agent_id for agent in world.store.read_now(site_store.list_agents)] == [enrolled[0].agent_id]


@pytest.mark.parametrize("code", ["expired", "unknown", ""])
async def test_a_code_that_is_expired_or_unknown_enrols_nobody(world: Any, code: str) -> None:
    now = world.clock.now
    await world.store.write(lambda c: site_store.insert_enrolment_code(c, "expired", "HN-1", now=now, expires_at=now))
    with pytest.raises(AccessError):
        await world.store.write(
            lambda c: site_store.enrol(c, code, agent_id="a", token="t", journal_id="j", version="1", now=now)
        )
    assert world.store.read_now(site_store.list_agents) == []


async def test_a_revoked_agent_is_nobody(world: Any) -> None:
    agent = world.add_agent()
    assert world.store.read_now(lambda c: site_store.find_agent(c, "token-agent-1")) == agent
    assert world.store.read_now(lambda c: site_store.find_agent(c, "token-agent-2")) is None
    await world.store.write(lambda c: site_store.update_agent(c, "agent-1", revoked_at=world.clock.now))
    assert world.store.read_now(lambda c: site_store.find_agent(c, "token-agent-1")) is None
    assert world.store.read_now(site_store.list_agents) == []


async def test_tokens_are_stored_as_digests_and_found(world: Any) -> None:
    caller = Caller("nurse", "site", "HN-1")
    for _ in range(2):  # written again at every start
        await world.store.write(lambda c: site_store.insert_token(c, "secret", caller, now=world.clock.now))
    assert world.store.read_now(lambda c: site_store.find_caller(c, "secret")) == caller
    assert world.store.read_now(lambda c: site_store.find_caller(c, "secret ")) is None
    stored = world.store.read_now(lambda c: c.exec_driver_sql("SELECT * FROM api_tokens").all())
    assert "secret" not in repr(stored)


async def test_printers_are_what_the_agent_told_last(world: Any) -> None:
    agent = world.add_agent()

    def printer(queue: str, state: PrinterState) -> SitePrinter:
        found = Printer(queue, "ipp://printer", "Brand", state, ("media-empty-error",), False, ("application/pdf",))
        return SitePrinter("HN-1", found, (10, -1), ("uri-changed",), world.clock.now)

    first = [printer("B", PrinterState.IDLE), printer("A", PrinterState.STOPPED)]
    await world.store.write(lambda c: site_store.replace_printers(c, agent, first))
    assert world.store.read_now(lambda c: site_store.list_printers(c, "HN-1")) == first[::-1]
    await world.store.write(lambda c: site_store.replace_printers(c, agent, [printer("A", PrinterState.IDLE)]))
    assert world.store.read_now(site_store.list_printers) == [printer("A", PrinterState.IDLE)]


async def test_documents_are_kept_by_their_digest(world: Any) -> None:
    digests = {
        await world.store.write(lambda c: site_store.insert_document(c, b"page", now=world.clock.now)) for _ in range(2)
    }
    [sha256] = digests
    assert world.store.read_now(lambda c: site_store.find_document(c, sha256)) == b"page"
    await world.store.write(lambda c: site_store.delete_documents(c, [sha256]))
    assert world.store.read_now(lambda c: site_store.find_document(c, sha256)) is None


async def test_a_failed_paper_is_not_tried_again_once_a_further_copy_was_asked_for(world: Any) -> None:
    agent = world.add_agent()
    [recorded] = await world.record(world.event("D-1"))
    [job] = await claim(world, agent)
    await report(world, agent, happening(world, job, JobEvent.FAIL, 1, reason="document-digest"))
    copy = await print_copy(world.services, recorded.dose.certificate.uvci, CopyReason.LOST, actor="nurse")
    with pytest.raises(StateError) as raised:
        await retry_job(world.services, job.job_id, actor="nurse")
    assert raised.value.code == "replaced"
    waiting = world.store.read_now(lambda c: job_store.list_jobs(c, states=["waiting"]))
    assert [one.job_id for one in waiting] == [copy.job_id]


async def test_a_paper_that_was_replaced_before_it_was_found_missing_is_not_replaced_twice(world: Any) -> None:
    job = await printed_job(world, world.add_agent())
    copy = await print_copy(world.services, job.uvci, CopyReason.LOST, actor="nurse")
    settled, replacement = await settle_job(world.services, job.job_id, Seen.SPOILT, actor="nurse")
    assert (settled.state, replacement) == (JobState.FAILED, None)
    assert [one.job_id for one in world.store.read_now(lambda c: job_store.jobs_of(c, [job.uvci]))] == [
        job.job_id,
        copy.job_id,
    ]


async def test_a_journal_that_comes_back_goes_on_where_it_was(world: Any) -> None:
    agent = world.add_agent()
    await world.record(world.event("D-1"), world.event("D-2"))
    [one, two] = await claim(world, agent)
    first, second = happening(world, one, JobEvent.PRINT, 1), happening(world, two, JobEvent.PRINT, 2)
    await report(world, agent, first)
    assert await report(world, agent, journal_id="journal-1b") == (0, [])
    acknowledged, told = await report(world, agent, first, second)
    assert acknowledged == 2
    assert [told_one.outcome for told_one in told] == ["duplicate", "applied"]
    assert job_of(world, two.job_id).state is JobState.PRINTED
