"""The store against a small model of it: any order of doses, releases, leases, reports, lapses of time and people.

Three agents of two sites; the model is plain dictionaries. What must hold after every step is in `invariant`s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select

from printsvc.domain.dose import Identity, IdentityStatus
from printsvc.domain.print_job import UNDER_WAY, CopyReason, Happening, JobEvent, JobState, PrintJob
from printsvc.errors import IllegalTransitionError, NotFoundError, StateError
from printsvc.flows import dispatch, leases
from printsvc.flows.papers import Seen, print_copy, retry_job, settle_job
from printsvc.flows.record_dose import RecordOutcome, settle_identity
from printsvc.printing.job import TRANSITIONS
from printsvc.store import jobs as job_store
from printsvc.store.counts import count
from printsvc.store.engine import Store
from printsvc.store.tables import certificates, doses, job_events, metadata, print_jobs

SITES = ("HN-1", "HN-2")
AGENTS = {"agent-1": "HN-1", "agent-2": "HN-1", "agent-3": "HN-2"}
MATCHED = Identity(IdentityStatus.MATCHED, None, "NPD-1")
LEASE_S = 120.0
REPORTED = (JobEvent.SUBMIT, JobEvent.PRINT, JobEvent.DOUBT, JobEvent.FAIL, JobEvent.RETURN)

numbers = st.integers(0, 11)
agents = st.sampled_from(sorted(AGENTS))


class StoreMachine(RuleBasedStateMachine):
    """`outcomes` is the model of the doses, `jobs` of the papers; `leases` is what each agent believes to hold."""

    store: Store
    make_world: Any
    runner: asyncio.Runner

    @initialize()
    def empty(self) -> None:
        def clear(connection: Any) -> None:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))

        self.store.submit(clear).result()
        self.world = self.make_world(self.store)
        self.world.add_site("HN-2")
        self.agents = {name: self.world.add_agent(name, site, f"journal-{name}") for name, site in AGENTS.items()}
        self.journals = {name: f"journal-{name}" for name in AGENTS}
        self.told = dict.fromkeys(AGENTS, 0)
        self.outcomes: dict[str, str] = {}
        self.lots: dict[str, str] = {}
        self.uvcis: dict[str, str] = {}
        self.states: dict[str, JobState] = {}
        self.leases: dict[str, dict[str, int]] = {name: {} for name in AGENTS}

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def all_jobs(self) -> dict[str, PrintJob]:
        return {job.job_id: job for job in self.store.read_now(lambda c: job_store.list_jobs(c, limit=10_000))}

    # --- doses

    @rule(picked=st.lists(st.tuples(numbers, st.booleans(), st.sampled_from("AB")), min_size=1, max_size=4))
    def record(self, picked: list[tuple[int, bool, str]]) -> None:
        events = []
        for n, matched, lot in picked:
            make = self.world.event if matched else self.world.held_event
            events.append(make(f"D-{n}", lot=lot, site_id=SITES[n % 2]))
        for event, answer in zip(events, self.run(self.world.record(*events)), strict=True):
            body = f"{event.dose.lot} {event.identity.status}"
            if event.dose_id not in self.outcomes:
                expected = "issued" if event.identity.status == "matched" else "held"
                self.outcomes[event.dose_id], self.lots[event.dose_id] = expected, body
                if answer.dose.certificate:
                    self.uvcis[event.dose_id] = answer.dose.certificate.uvci
                    self.states[answer.job_id] = JobState.WAITING
            else:
                expected = "replayed" if self.lots[event.dose_id] == body else "conflict"
            assert answer.outcome == expected
            assert answer.dose.outcome == self.outcomes[event.dose_id]
            uvci = answer.dose.certificate.uvci if answer.dose.certificate else None
            assert uvci == self.uvcis.get(event.dose_id), "one dose, one certificate, for ever"

    @rule(n=numbers, matched=st.booleans())
    def identify(self, n: int, matched: bool) -> None:
        dose_id = f"D-{n}"
        identity = MATCHED if matched else Identity(IdentityStatus.MISMATCHED)
        held = self.outcomes.get(dose_id) == "held"
        try:
            answer = self.run(settle_identity(self.world.services, None, dose_id, identity))
        except NotFoundError:
            assert dose_id not in self.outcomes
            return
        except StateError:
            assert self.outcomes[dose_id] == "issued"
            return
        if not held:
            assert answer.outcome is RecordOutcome.REPLAYED
        elif matched:
            assert answer.outcome is RecordOutcome.ISSUED
            self.outcomes[dose_id] = "issued"
            self.uvcis[dose_id] = answer.dose.certificate.uvci
            self.states[answer.job_id] = JobState.WAITING
        else:
            assert answer.outcome is RecordOutcome.HELD

    # --- agents

    @rule(name=agents, capacity=st.integers(0, 3))
    def lease(self, name: str, capacity: int) -> None:
        agent, held = self.agents[name], sorted(self.leases[name].items())
        result = self.run(
            dispatch.lease(
                self.world.services,
                agent,
                journal_id=self.journals[name],
                capacity=capacity,
                wait_s=0,
                holding=held,
            )
        )
        assert len(result.ready) <= capacity
        for job_id in result.dropped:
            del self.leases[name][job_id]
        self.leases[name] |= dict(result.renewed)
        for ready in result.ready:
            assert ready.job.site_id == agent.site_id
            assert ready.job.fencing_token > self.leases[name].get(ready.job.job_id, 0), "a token grows with each lease"
            self.leases[name][ready.job.job_id] = ready.job.fencing_token
        now = self.world.clock.now
        mine = [job for job in self.all_jobs().values() if job.state is JobState.LEASED and job.holder_agent == name]
        assert all(job.deadline is not None and job.deadline >= now for job in mine)
        # The model does not say which jobs are taken; nothing but taking and lapsing may have happened.
        for job_id, job in self.all_jobs().items():
            before = self.states[job_id]
            assert job.state is before or {job.state, before} == {JobState.WAITING, JobState.LEASED}
            assert job.state is before or job.site_id == agent.site_id
            self.states[job_id] = job.state

    @precondition(lambda self: any(self.leases.values()))
    @rule(data=st.data(), event=st.sampled_from(REPORTED), gap=st.sampled_from([0, 0, 0, 0, 1]))
    def report(self, data: st.DataObject, event: JobEvent, gap: int) -> None:
        name = data.draw(st.sampled_from([name for name, held in self.leases.items() if held]))
        job_id = data.draw(st.sampled_from(sorted(self.leases[name])))
        token = self.leases[name][job_id]
        before = self.all_jobs()[job_id]
        seq = self.told[name] + 1 + gap
        happening = Happening(event, self.world.clock.now, name, seq=seq, fencing_token=token)

        async def send() -> Any:
            return await dispatch.report(
                self.world.services, self.agents[name], self.journals[name], [(job_id, happening)]
            )

        _, told = self.run(send())  # a gap before a batch: the service was restored, or the agent enrolled anew
        self.told[name] = seq
        after = self.all_jobs()[job_id]
        [one] = told
        stale = (before.holder_agent, before.holder_journal, before.fencing_token) != (name, self.journals[name], token)
        legal = (before.state, event) in TRANSITIONS
        if legal and not (stale and event in (JobEvent.RETURN, JobEvent.FAIL)):
            assert one.outcome == "applied"
            assert after.state is TRANSITIONS[before.state, event]
        else:
            assert one.outcome == "refused"
            assert after == before, "a refused event changes nothing"
        assert one.state == after.state
        self.states[job_id] = after.state
        again_acknowledged, [again] = self.run(send())
        assert (again_acknowledged, again.outcome) == (seq, "duplicate")
        assert self.all_jobs()[job_id] == after
        if event is not JobEvent.SUBMIT:
            del self.leases[name][job_id]

    @rule(name=agents)
    def forget(self, name: str) -> None:
        """The agent loses its journal: what it held can only be settled by a person."""
        open_states = (JobState.WAITING, JobState.LEASED, JobState.SENT)
        mine = [j.job_id for j in self.all_jobs().values() if j.holder_agent == name and j.state in open_states]
        self.journals[name] += "'"
        self.told[name] = 0
        self.leases[name] = {}
        lost = self.run(
            dispatch.agent_seen(
                self.world.services,
                self.agents[name],
                journal_id=self.journals[name],
                version="1",
                clock_skew_ms=None,
                printers=None,
            )
        )
        assert lost == len(mine)
        self.states |= dict.fromkeys(mine, JobState.UNCERTAIN)

    @rule(seconds=st.sampled_from([1.0, 60.0, LEASE_S + 1]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(site_id=st.sampled_from(SITES))
    def expire(self, site_id: str) -> None:
        now = self.world.clock.now
        due = {
            job.job_id
            for job in self.all_jobs().values()
            if job.site_id == site_id and job.state is JobState.LEASED and job.deadline and job.deadline < now
        }
        assert self.store.submit(lambda c: leases.expire_leases(c, site_id, now=now)).result() == len(due)
        self.states |= dict.fromkeys(due, JobState.WAITING)

    # --- people

    @precondition(lambda self: self.states)
    @rule(data=st.data(), seen=st.sampled_from(Seen))
    def settle(self, data: st.DataObject, seen: Seen) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.states)))
        before = self.all_jobs()[job_id]
        jobs = self.store.read_now(lambda c: job_store.jobs_of(c, [before.uvci]))
        event = JobEvent.SCAN if seen is Seen.HERE else JobEvent.MISS
        try:
            settled, copy = self.run(settle_job(self.world.services, job_id, seen, actor="nurse"))
        except IllegalTransitionError:
            assert (before.state, event) not in TRANSITIONS
            assert self.all_jobs()[job_id] == before
            return
        assert settled.state is TRANSITIONS[before.state, event]
        self.states[job_id] = settled.state
        dead = (JobState.FAILED, JobState.CANCELED)
        later = [job for job in jobs if job.copy_number > before.copy_number]
        replaced = bool(later) and later[-1].state not in dead
        assert (copy is None) is (seen is Seen.HERE or replaced)
        if copy is not None:
            self.states[copy.job_id] = copy.state

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.states)))
        with contextlib.suppress(StateError):
            self.states[job_id] = self.run(retry_job(self.world.services, job_id, actor="nurse")).state
            assert self.states[job_id] is JobState.WAITING

    @precondition(lambda self: self.uvcis)
    @rule(data=st.data())
    def ask_for_a_copy(self, data: st.DataObject) -> None:
        uvci = data.draw(st.sampled_from(sorted(self.uvcis.values())))
        with contextlib.suppress(StateError):
            copy = self.run(print_copy(self.world.services, uvci, CopyReason.LOST, actor="nurse"))
            self.states[copy.job_id] = copy.state

    # --- what must hold, always

    @invariant()
    def every_dose_is_held_or_has_a_certificate(self) -> None:
        counts = self.store.read_now(count)
        assert counts["doses"] == counts["held"] + counts["certificates"] == len(self.outcomes)
        assert counts["held"] == sum(outcome == "held" for outcome in self.outcomes.values())
        per_site = [self.store.read_now(lambda c, s=site: count(c, s)) for site in SITES]
        for name in ("doses", "held", "certificates", "with_paper"):
            assert sum(one[name] for one in per_site) == counts[name]

    @invariant()
    def every_certificate_has_a_job_and_every_job_a_certificate(self) -> None:
        def read(connection: Any) -> tuple[set[str], set[str], int]:
            issued = set(connection.execute(select(certificates.c.uvci)).scalars())
            printing = set(connection.execute(select(print_jobs.c.uvci)).scalars())
            released = connection.execute(select(doses.c.dose_pk).where(doses.c.outcome == "issued")).all()
            return issued, printing, len(released)

        issued, printing, released = self.store.read_now(read)
        assert issued == printing == set(self.uvcis.values())
        assert len(issued) == released

    @invariant()
    def jobs_are_where_the_model_says(self) -> None:
        assert {job_id: job.state for job_id, job in self.all_jobs().items()} == self.states

    @invariant()
    def copies_are_counted_without_gaps_and_never_two_are_under_way(self) -> None:
        papers: dict[str, list[PrintJob]] = {}
        for job in self.all_jobs().values():
            papers.setdefault(job.uvci, []).append(job)
        for jobs in papers.values():
            assert sorted(job.copy_number for job in jobs) == list(range(1, len(jobs) + 1))
            assert all((job.reason is CopyReason.ISSUED) is (job.copy_number == 1) for job in jobs)
            assert sum(job.state in UNDER_WAY for job in jobs) <= 1, "a second paper that nobody meant"

    @invariant()
    def nobody_holds_what_another_holds(self) -> None:
        for job in self.all_jobs().values():
            if job.state is JobState.LEASED:
                assert job.holder_agent is not None
                assert job.deadline is not None
                assert AGENTS[job.holder_agent] == job.site_id

    @invariant()
    def the_ledger_tells_the_whole_story_by_the_table(self) -> None:
        ledger = self.store.read_now(lambda c: list(c.execute(select(job_events).order_by(job_events.c.event_pk))))
        state = dict.fromkeys(self.states, JobState.WAITING)
        for row in ledger:
            assert row.before == state[row.job_id]
            if row.applied:
                assert TRANSITIONS[JobState(row.before), JobEvent(row.event)] == row.after
            else:
                assert row.after == row.before
            state[row.job_id] = JobState(row.after)
        assert state == self.states


def machine(store: Store, make_world: Any, runner: asyncio.Runner) -> type[StoreMachine]:
    return type("Machine", (StoreMachine,), {"store": store, "make_world": staticmethod(make_world), "runner": runner})


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


def explore(found: type[StoreMachine], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        found,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_the_store_does_as_the_model_says(store: Store, make_world: Any, runner: asyncio.Runner) -> None:
    explore(machine(store, make_world, runner), examples=12, steps=30)


@pytest.mark.slow
def test_the_store_does_as_the_model_says_for_long(store: Store, make_world: Any, runner: asyncio.Runner) -> None:
    explore(machine(store, make_world, runner), examples=100, steps=50)
