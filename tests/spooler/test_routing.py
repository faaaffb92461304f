"""Routing: no job to a printer in error, the pool as a bound, urgent first and reprints last, and a line for each."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooler.core import messages as m
from spooler.core import restore, step
from spooler.core.attempt import Attempt, Job, Phase, Policy, Queue, capacity, is_usable
from spooler.core.routing import AS_NEW, POOL, choose_queue, line_up, plan
from spooler.protocol import AttemptId, JobId

NOW = datetime(2021, 10, 30, 8, tzinfo=UTC)
FRESH_S = 1.5
A4, CARD = "iso_a4_210x297mm", "om_card_54x86mm"
REASONS = (
    "media-empty-error",
    "media-empty-warning",
    "media-jam",
    "toner-low-report",
    "paused",
    "cups-waiting-for-job-completed",
)

names = st.sampled_from(["a", "b", "c", "d"])
queues = st.builds(
    Queue,
    name=names,
    state=st.sampled_from([3, 3, 4, 5]),
    accepting=st.sampled_from([True, True, False]),
    reasons=st.lists(st.sampled_from(REASONS), max_size=2).map(tuple),
    answers=st.sampled_from([True, True, False]),
    problems=st.sampled_from([(), (), ("queue-raw: x / y",)]),
    seen_at=st.sampled_from([NOW, NOW - timedelta(seconds=60), None]),
    pool=st.sampled_from(["", "front", "cards"]),
    media=st.sampled_from([(), (A4,), (CARD,), (A4, CARD)]),
    ready=st.sampled_from([(), (A4,), (CARD,)]),
    levels=st.sampled_from([(), (80,), (3,), (-3,)]),
    queued=st.integers(0, 3),
    oldest_s=st.sampled_from([None, 5, 600]),
)
sites = st.lists(queues, max_size=4, unique_by=lambda queue: queue.name).map(lambda many: {q.name: q for q in many})


@st.composite
def jobs(draw: st.DrawFn, order: int = 1) -> Job:
    return Job(
        JobId(f"j{order}"),
        1,
        "0" * 64,
        1,
        order,
        phase=Phase.READY,
        media=draw(st.sampled_from([A4, A4, CARD])),
        priority=draw(st.sampled_from([10, 30, 50, 80, 100])),
        copy_number=draw(st.sampled_from([1, 1, 2])),
        asked=draw(st.sampled_from(["", "", "a", "gone", f"{POOL}front", f"{POOL}cards"])),
        kept=draw(st.sampled_from([False, False, False, True])),
        avoid=tuple(draw(st.lists(names, max_size=2))),
    )


lines = st.integers(0, 6).flatmap(lambda n: st.tuples(*(jobs(order) for order in range(1, n + 1))))


def pick(job: Job, site: dict[str, Queue], taken: frozenset[str] = frozenset()) -> str:
    return choose_queue(job, site, taken=taken, now=NOW, fresh_s=FRESH_S).queue


@given(lines, sites, st.frozensets(names))
def test_no_job_goes_where_it_cannot_print(
    many: tuple[Job, ...], site: dict[str, Queue], taken: frozenset[str]
) -> None:
    chosen = [(job, choice) for job, choice in plan(many, site, taken=taken, now=NOW, fresh_s=FRESH_S) if choice.queue]
    for job, choice in chosen:
        queue = site[choice.queue]
        assert is_usable(queue)
        assert queue.seen_at == NOW
        assert not queue.media or job.media in queue.media
        assert not job.kept
        assert choice.queue not in taken
        if job.asked.startswith(POOL):
            assert queue.pool == job.asked.removeprefix(POOL)
        elif job.asked in site:
            assert queue.pool == site[job.asked].pool, "in place of a queue, another of its pool"
    assert len({choice.queue for _, choice in chosen}) == len(chosen), "one job a queue"


@given(lines, sites, st.frozensets(names))
def test_no_queue_stands_idle_beside_a_job_that_it_could_print(
    many: tuple[Job, ...], site: dict[str, Queue], taken: frozenset[str]
) -> None:
    planned = plan(many, site, taken=taken, now=NOW, fresh_s=FRESH_S)
    used = {choice.queue for _, choice in planned} | taken
    for job, choice in planned:
        if not choice.queue:
            assert pick(job, site, frozenset(used)) == ""
            assert choice.blocked <= (pick(job, site) == "")


@given(lines)
def test_urgent_before_bulk_reprints_last_and_otherwise_as_they_came(many: tuple[Job, ...]) -> None:
    served = line_up(many)
    assert sorted(job.order for job in served) == sorted(job.order for job in many)
    for first, second in itertools.pairwise(served):
        last = [job.copy_number > 1 and job.priority < AS_NEW for job in (first, second)]
        assert last in ([False, False], [False, True], [True, True])
        if last[0] == last[1]:
            assert (-first.priority, first.order) < (-second.priority, second.order)


@given(jobs(), sites, st.frozensets(names))
def test_every_choice_and_every_refusal_names_each_queue_it_is_about(
    job: Job, site: dict[str, Queue], taken: frozenset[str]
) -> None:
    choice = choose_queue(job, site, taken=taken, now=NOW, fresh_s=FRESH_S)
    assert choice.en
    assert choice.vi
    assert len(choice.en) <= 400
    if choice.queue:
        assert choice.en.startswith(f"{choice.queue}: ")
    elif not job.kept:
        assert all(f"{name}: " in choice.en for name in site)
        assert all(f"{name}: " in choice.vi for name in site)


@given(jobs(), sites, names, st.sampled_from(["media-jam-error", "cover-open"]))
def test_a_printer_that_breaks_is_left_at_the_next_choice(
    job: Job, site: dict[str, Queue], name: str, reason: str
) -> None:
    if name not in site:
        return
    broken = site | {name: replace(site[name], reasons=(reason,))}
    choice = choose_queue(job, broken, taken=frozenset(), now=NOW, fresh_s=FRESH_S)
    assert choice.queue != name
    # All else being equal, the others' order is not touched by it; a job that waited for it waits no longer.
    before = pick(job, site)
    if before and before != name:
        assert choice.queue == before
    elif not before and job.asked != name:
        assert choice.queue == pick(job, {other: queue for other, queue in site.items() if other != name})


def ready(**changes: object) -> Job:
    return replace(Job(JobId("j1"), 1, "0" * 64, 1, 1, phase=Phase.READY), **changes)


def fresh(name: str, **changes: object) -> Queue:
    return replace(Queue(name, seen_at=NOW), **changes)


@pytest.mark.parametrize(
    ("job", "site", "queue", "line"),
    [
        (ready(), [fresh("b"), fresh("a")], "a", "a: one of 2 that can"),
        (ready(asked="b"), [fresh("a"), fresh("b")], "b", "b: one of 2 that can, asked for"),
        (
            ready(asked="b"),
            [fresh("a"), fresh("b", reasons=("media-empty-error",))],
            "a",
            "a: one of 1 that can, in place of b; not b: media-empty-error",
        ),
        (
            ready(asked="pool:front"),
            [fresh("a"), fresh("b", pool="front", state=5)],
            "",
            "waits: a: the job asked for pool:front; b: stopped",
        ),
        (ready(avoid=("a",)), [fresh("a"), fresh("b", levels=(2,))], "b", "b: one of 2 that can, supplies low"),
        (ready(), [fresh("a", levels=(2,)), fresh("b", queued=3)], "b", "b: one of 2 that can, 3 wait there"),
        (ready(), [fresh("a", ready=(CARD,)), fresh("b", ready=(A4,))], "b", "b: one of 2 that can"),
        (ready(), [fresh("a", oldest_s=900), fresh("b", oldest_s=5)], "b", "b: one of 2 that can"),
        (ready(media=CARD), [fresh("a", media=(A4,))], "", f"waits: a: does not take {CARD}"),
        (ready(kept=True), [fresh("a")], "", "kept back: an operator holds the job"),
        (ready(), [], "", "waits: CUPS shows no queue"),
    ],
)
def test_lines_that_an_admin_reads(job: Job, site: list[Queue], queue: str, line: str) -> None:
    choice = choose_queue(job, {one.name: one for one in site}, taken=frozenset(), now=NOW, fresh_s=FRESH_S)
    assert (choice.queue, choice.en) == (queue, line)


@pytest.mark.parametrize(
    ("job", "b", "queue", "line"),
    [
        (
            ready(avoid=("a",)),
            fresh("b"),
            "",
            "waits: a: failed there, and another one is soon free; b: has another job",
        ),
        (
            ready(avoid=("a", "b")),
            fresh("b"),
            "a",
            "a: one of 1 that can, failed there 1 times before; not b: has another job",
        ),
        (
            ready(avoid=("a",)),
            fresh("b", state=5),
            "a",
            "a: one of 1 that can, failed there 1 times before; not b: stopped",
        ),
        (
            ready(avoid=("a",), asked="a"),
            fresh("b"),
            "a",
            "a: one of 1 that can, asked for, failed there 1 times before; not b: has another job",
        ),
    ],
)
def test_a_printer_that_gives_up_at_once_does_not_use_up_all_attempts(
    job: Job, b: Queue, queue: str, line: str
) -> None:
    choice = choose_queue(job, {"a": fresh("a"), "b": b}, taken={"b"}, now=NOW, fresh_s=FRESH_S)
    assert (choice.queue, choice.en, choice.blocked) == (queue, line, False)


def test_nobody_waits_for_a_printer_that_is_stuck() -> None:
    """It may wait for paper, and only warn: where the job failed is better than that."""
    queues = {"a": fresh("a"), "b": fresh("b")}
    choice = choose_queue(ready(avoid=("a",)), queues, taken={"b"}, stuck={"b"}, now=NOW, fresh_s=FRESH_S)
    assert (choice.queue, choice.en) == (
        "a",
        "a: one of 1 that can, failed there 1 times before; not b: has another job",
    )


def test_the_core_leaves_a_stuck_printer_out_of_its_waiting() -> None:
    released_at = NOW - timedelta(seconds=Policy().stuck_s + 1)
    attempt = Attempt(
        AttemptId("ps-j2-1-1"), 1, "b", released_at, cups_job_id=5, cups_uuid="u", released_at=released_at
    )
    at_b = replace(ready(), job_id=JobId("j2"), phase=Phase.RELEASED, attempt=attempt, number=1)
    state = restore([ready(avoid=("a",)), at_b], next_order=3, next_seq=1, acknowledged=0, policy=Policy())
    _, actions = step(state, m.QueuesSeen((Queue("a", up_time_s=1), Queue("b", up_time_s=1))), NOW)
    assert [action.attempt.queue for action in actions if isinstance(action, m.Create)] == ["a"]


def test_the_core_sends_the_line_with_the_job_and_keeps_back_what_is_kept() -> None:
    job = ready()
    state = restore([job], next_order=2, next_seq=1, acknowledged=0, policy=Policy())
    state, _ = step(state, m.Changed(job.job_id, kept=True), NOW)
    state, actions = step(state, m.QueuesSeen((Queue("a", up_time_s=1),)), NOW)
    assert not any(isinstance(action, m.Create) for action in actions)
    assert state.choices[job.job_id].blocked
    assert capacity(state, NOW) == 2, "what is kept back keeps nobody out"
    state, actions = step(state, m.Changed(job.job_id, kept=False), NOW)
    (made,) = [action for action in actions if isinstance(action, m.Create)]
    assert made.attempt.why == "a: one of 1 that can"
    state, actions = step(state, m.Created(job.job_id, made.attempt.attempt_id, 5, "u"), NOW)
    (told,) = [action for action in actions if isinstance(action, m.Report)]
    assert (told.kind.value, told.route) == ("submitted", "a: one of 1 that can")
    # At the printer it is not changed any more: it would print twice.
    state, _ = step(state, m.Changed(job.job_id, kept=True, asked="b", priority=1), NOW)
    after = state.jobs[job.job_id]
    assert (after.kept, after.asked, after.priority) == (False, "", 50)
