"""The core step by step: what is done in which order, and what each kind of restart leads to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from spooler.core import messages as m
from spooler.core import restore, step
from spooler.core.attempt import Attempt, Job, Phase, Policy, Queue, State, capacity, stops_paper
from spooler.core.witness import CupsWord, Heard, Mute, PrinterJob
from spooler.protocol import AttemptId, Document, JobId, LeasedJob

T0 = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
JOB = JobId("j1")
NAME = AttemptId("ps-j1-1-1")
QUEUE = Queue("a", up_time_s=100)


def leased(job_id: str = "j1", token: int = 1, priority: int = 50) -> LeasedJob:
    document = Document(sha256="0" * 64, size=1)
    return LeasedJob(job_id=JobId(job_id), fencing_token=token, deadline=T0, document=document, priority=priority)


def run(state: State, *events: m.Event, at: datetime = T0) -> tuple[State, list[m.Action]]:
    actions: list[m.Action] = []
    for event in events:
        state, actions = step(state, event, at)
    return state, actions


def kinds(actions: list[m.Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def fresh(*jobs: Job) -> State:
    return restore(jobs, next_order=9, next_seq=1, acknowledged=0, policy=Policy())


def at_phase(phase: Phase, **more: object) -> Job:
    attempt = Attempt(NAME, 1, "a", T0)
    if phase is not Phase.INTENDED:
        attempt = replace(attempt, cups_job_id=5, cups_uuid="u", released_at=None if phase is Phase.HELD else T0)
    job = Job(JOB, 1, "0" * 64, 1, 1, phase=phase, attempt=attempt, number=1)
    return replace(job, **more)  # type: ignore[arg-type]


def test_way_of_one_job_with_every_record_before_its_deed() -> None:
    state, actions = run(fresh(), m.QueuesSeen((QUEUE,)), m.Leased((leased(),)))
    assert kinds(actions) == ["Save", "Fetch"]
    state, actions = run(state, m.Fetched(JOB))
    assert kinds(actions) == ["Save", "Save", "Create"]
    assert state.jobs[JOB].phase is Phase.INTENDED
    state, actions = run(state, m.Created(JOB, NAME, 5, "u"))
    assert kinds(actions) == ["Save", "Save", "Report", "Release"]
    assert state.jobs[JOB].phase is Phase.RELEASED
    state, actions = run(state, m.Released(JOB, NAME), m.PrinterSaid(JOB, NAME, Heard((PrinterJob(9, 1),))))
    assert [a.kind.value for a in actions if isinstance(a, m.Report)] == ["printed"]
    assert "Discard" in kinds(actions)
    state, actions = run(state, m.Acknowledged(2))
    assert kinds(actions) == ["Trim", "Erase"]
    assert state.jobs == {}


def test_what_the_printer_said_is_told_with_its_moment() -> None:
    asked_at = T0 + timedelta(seconds=1)
    state, _ = run(fresh(at_phase(Phase.RELEASED)), m.QueuesSeen((QUEUE,)))
    _, actions = run(state, m.PrinterSaid(JOB, NAME, Heard((PrinterJob(9, 1),))), at=asked_at)
    [report] = [action for action in actions if isinstance(action, m.Report)]
    told = (report.kind, report.witness, report.impressions, report.printer_said, report.printer_said_at)
    assert told == ("printed", "printer", 1, "completed", asked_at)
    _, actions = run(state, m.CupsSaid(JOB, NAME, CupsWord.COMPLETED), m.PrinterSaid(JOB, NAME, Mute()), at=asked_at)
    [report] = [action for action in actions if isinstance(action, m.Report)]
    assert (report.kind, report.witness, report.printer_said) == ("printed", "cups", "cannot-tell")


def test_unanswered_create_is_looked_for_before_it_is_made_again() -> None:
    state, actions = run(fresh(at_phase(Phase.INTENDED)), m.QueuesSeen((QUEUE,)))
    assert kinds(actions) == ["Find"]
    _, none = run(state, m.Found(JOB, NAME))
    assert kinds(none) == ["Create"]
    held, adopted = run(state, m.Found(JOB, NAME, 5, "u", CupsWord.HELD))
    assert "Release" in kinds(adopted)
    assert "Create" not in kinds(adopted)
    assert held.jobs[JOB].phase is Phase.RELEASED
    other, watched = run(state, m.Found(JOB, NAME, 5, "u", CupsWord.COMPLETED))
    assert "Release" not in kinds(watched)
    assert other.jobs[JOB].phase is Phase.RELEASED


def test_intended_job_that_cups_does_not_have_leaves_a_queue_that_cannot_print() -> None:
    full = Queue("a", accepting=False)
    state, actions = run(fresh(at_phase(Phase.INTENDED)), m.QueuesSeen((full,)))
    assert kinds(actions) == ["Find"]
    state, actions = run(state, m.Found(JOB, NAME))
    assert state.jobs[JOB].phase is Phase.READY
    assert "Create" not in kinds(actions)


def test_held_job_of_a_queue_that_is_not_ours_any_more_is_taken_back() -> None:
    _, actions = run(fresh(at_phase(Phase.HELD)), m.QueuesSeen((Queue("b"),)))
    assert kinds(actions) == ["TakeBack"]
    _, actions = run(fresh(at_phase(Phase.HELD)), m.QueuesSeen(()))
    assert kinds(actions) == ["AskCups"]


def test_held_job_is_asked_for_after_a_restart_and_released_only_if_it_is_still_held() -> None:
    state, actions = run(fresh(at_phase(Phase.HELD)), m.QueuesSeen((QUEUE,)))
    assert kinds(actions) == ["AskCups"]
    _, still = run(state, m.CupsSaid(JOB, NAME, CupsWord.HELD))
    assert "Release" in kinds(still)
    gone, _ = run(state, m.CupsSaid(JOB, NAME, CupsWord.GONE))
    assert gone.jobs[JOB].phase is Phase.READY
    later, actions = run(gone, m.QueuesSeen((QUEUE,)), at=T0 + timedelta(seconds=2))
    assert later.jobs[JOB].attempt is not None
    assert later.jobs[JOB].attempt.attempt_id == "ps-j1-1-2"
    unknown, actions = run(state, m.CupsSaid(JOB, NAME, CupsWord.UNKNOWN))
    assert unknown.jobs[JOB].phase is Phase.HELD
    assert actions == []


def test_held_job_on_a_broken_queue_is_taken_back_and_goes_elsewhere() -> None:
    broken = Queue("a", reasons=("media-jam-error",))
    state, actions = run(fresh(at_phase(Phase.HELD)), m.QueuesSeen((broken, Queue("b", up_time_s=1))))
    assert kinds(actions) == ["TakeBack"]
    state, _ = run(state, m.TakenBack(JOB, NAME, "u", CupsWord.HELD))
    assert state.jobs[JOB].phase is Phase.READY
    later = T0 + timedelta(seconds=1.2)
    state, actions = run(state, m.Tick(), at=later)
    assert state.jobs[JOB].attempt is not None
    assert state.jobs[JOB].attempt.queue == "b"
    # Had somebody released it meanwhile, it would be watched and never made again.
    state, _ = run(fresh(at_phase(Phase.HELD)), m.QueuesSeen((broken,)), m.TakenBack(JOB, NAME, "u", CupsWord.ACTIVE))
    assert state.jobs[JOB].phase is Phase.RELEASED


def test_released_job_is_released_again_only_while_cups_never_started_it() -> None:
    state, actions = run(fresh(at_phase(Phase.RELEASED)), m.QueuesSeen((QUEUE,)))
    assert set(kinds(actions)) == {"AskCups", "AskPrinter"}
    _, actions = run(state, m.CupsSaid(JOB, NAME, CupsWord.HELD))
    assert kinds(actions) == ["Release"]
    for word in set(CupsWord) - {CupsWord.HELD}:
        _, actions = run(state, m.CupsSaid(JOB, NAME, word))
        assert not {"Release", "Create"} & set(kinds(actions))


def test_failed_for_certain_is_tried_on_another_queue_and_at_most_three_times() -> None:
    state = fresh()
    now = T0
    queues = (QUEUE, Queue("b", up_time_s=100))
    state, _ = run(state, m.Leased((leased(),)), m.Fetched(JOB))
    tried = []
    for _ in range(3):
        now += timedelta(seconds=2)
        state, _ = run(state, m.QueuesSeen(queues), at=now)
        attempt = state.jobs[JOB].attempt
        assert attempt is not None
        tried.append(attempt.queue)
        state, actions = run(state, m.OperationFailed(JOB, attempt.attempt_id, "cups-refused", refused=True), at=now)
    assert tried == ["a", "b", "a"]
    assert [a.kind.value for a in actions if isinstance(a, m.Report)] == ["failed"]


def test_uncertain_is_never_tried_again_and_the_lane_goes_on() -> None:
    other = Job(JobId("j2"), 1, "1" * 64, 1, 2, phase=Phase.READY)
    state, _ = run(fresh(at_phase(Phase.RELEASED), other), m.QueuesSeen((QUEUE,)))
    state, _ = run(state, m.CupsSaid(JOB, NAME, CupsWord.COMPLETED), m.PrinterSaid(JOB, NAME, Heard((), 100)))
    assert state.jobs[JobId("j2")].phase is Phase.READY, "nothing passes a job that is not decided"
    now = T0 + timedelta(seconds=4)
    state, actions = run(state, m.PrinterSaid(JOB, NAME, Heard((), 104)), at=now)
    assert [a.kind.value for a in actions if isinstance(a, m.Report)] == ["uncertain"]
    state, actions = run(state, m.QueuesSeen((QUEUE,)), at=now)
    assert state.jobs[JobId("j2")].phase is Phase.INTENDED
    assert state.jobs[JOB].phase is Phase.UNCERTAIN
    for second in range(5, 100):
        state, actions = run(state, m.Tick(), at=T0 + timedelta(seconds=second))
        assert not any(isinstance(a, m.Create | m.Release) and a.attempt.attempt_id == NAME for a in actions)
    state, actions = run(state, m.PrinterSaid(JOB, NAME, Heard((PrinterJob(9, 1),))), at=T0 + timedelta(seconds=100))
    assert [a.kind.value for a in actions if isinstance(a, m.Report)] == ["printed"]


def test_a_job_wanted_anew_takes_from_cups_what_waits_of_its_old_attempt() -> None:
    """The printer may be off, with the old paper still before it."""
    doubted = at_phase(Phase.UNCERTAIN, final_seq=1, reason="printer-silent")
    state, actions = run(replace(fresh(doubted), acknowledged=1, next_seq=2), m.Leased((leased(token=2),)))
    assert [action.attempt.attempt_id for action in actions if isinstance(action, m.Withdraw)] == [NAME]
    assert state.jobs[JOB].phase is Phase.LEASED
    over, _ = run(replace(fresh(doubted), acknowledged=0, next_seq=2), m.CupsSaid(JOB, NAME, CupsWord.COMPLETED))
    late = T0 + timedelta(days=30)
    over, _ = run(over, m.PrinterSaid(JOB, NAME, Mute()), at=late)
    _, actions = run(replace(over, acknowledged=1), m.Leased((leased(token=2),)), at=late)
    assert "Withdraw" not in kinds(actions), "CUPS has ended it"


def test_urgent_first_then_as_they_came() -> None:
    state, _ = run(fresh(), m.Leased((leased("j1"), leased("j2"), leased("j3", priority=90))))
    for name in ("j1", "j2", "j3"):
        state, _ = run(state, m.Fetched(JobId(name)))
    state, actions = run(state, m.QueuesSeen((QUEUE, Queue("b"))))
    assert {a.job.job_id for a in actions if isinstance(a, m.Create)} == {"j3", "j1"}


def test_capacity_is_a_small_multiple_of_what_can_print() -> None:
    state, _ = run(fresh(), m.QueuesSeen((QUEUE, Queue("b"), Queue("c", reasons=("media-empty-error",)))))
    assert capacity(state, T0) == 4
    state, _ = run(state, m.Leased((leased(),)))
    assert capacity(state, T0) == 3
    off, _ = run(state, m.Authorised(False))
    assert capacity(off, T0) == 0
    none, _ = run(state, m.QueuesSeen((Queue("a", state=5), Queue("b", accepting=False), Queue("c", answers=False))))
    assert capacity(none, T0) == 0
    stuck = fresh(at_phase(Phase.RELEASED))
    stuck, _ = run(stuck, m.QueuesSeen((QUEUE,)), at=T0 + timedelta(seconds=61))
    assert capacity(stuck, T0 + timedelta(seconds=61)) == 0


def test_unsent_jobs_go_back_when_no_queue_is_usable_for_long() -> None:
    state, _ = run(fresh(), m.Leased((leased(),)), m.Fetched(JOB))
    state, actions = run(state, m.Tick(), at=T0 + timedelta(seconds=19))
    assert "Report" not in kinds(actions)
    state, actions = run(state, m.Tick(), at=T0 + timedelta(seconds=21))
    assert [(a.kind.value, a.reason) for a in actions if isinstance(a, m.Report)] == [("returned", "no-usable-queue")]


def test_dropped_job_is_not_started_and_one_at_the_printer_is_reported_as_usual() -> None:
    state, _ = run(fresh(), m.Leased((leased(),)))
    _, actions = run(state, m.Leased((), (JOB,)))
    assert [a.kind.value for a in actions if isinstance(a, m.Report)] == ["returned"]
    state, actions = run(fresh(at_phase(Phase.RELEASED)), m.Leased((), (JOB,)))
    assert not state.jobs[JOB].dropped
    state, actions = run(fresh(at_phase(Phase.HELD)), m.Leased((), (JOB,)))
    assert "TakeBack" in kinds(actions)
    state, actions = run(state, m.TakenBack(JOB, NAME, "u", CupsWord.HELD))
    assert [a.kind.value for a in actions if isinstance(a, m.Report)] == ["returned"]


def test_job_given_again_keeps_its_work_and_a_lost_report_is_repeated_under_the_new_token() -> None:
    state, actions = run(fresh(at_phase(Phase.RELEASED)), m.Leased((leased(token=2),)))
    assert state.jobs[JOB].phase is Phase.RELEASED
    assert state.jobs[JOB].fencing_token == 2
    done = at_phase(Phase.PRINTED, final_seq=1)
    state = restore([done], next_order=9, next_seq=2, acknowledged=0, policy=Policy())
    state, actions = run(state, m.Leased((leased(token=2),)))
    assert [(a.kind.value, a.fencing_token) for a in actions if isinstance(a, m.Report)] == [("printed", 2)]
    assert "Fetch" not in kinds(actions)
    # The same token again is an echo.
    _, actions = run(state, m.Leased((leased(token=2),)))
    assert actions == []


def test_lost_step_is_taken_up_again() -> None:
    state, _ = run(fresh(), m.QueuesSeen((QUEUE,)), m.Leased((leased(),)), m.Fetched(JOB))
    assert state.watches[JOB].busy == "create"
    state, _ = run(state, m.Forgotten(frozenset({JOB})))
    state, actions = run(state, m.Tick(), at=T0 + timedelta(seconds=2))
    assert kinds(actions) == ["Find"]


@pytest.mark.parametrize(
    ("reason", "stops"),
    [
        ("media-empty-error", True),
        ("media-empty-warning", False),
        ("media-empty", True),
        ("toner-low-report", False),
        ("cups-waiting-for-job-completed", False),
        ("connecting-to-device", False),
        ("paused", True),
        ("other-error", True),
    ],
)
def test_which_reasons_stop_paper(reason: str, stops: bool) -> None:
    assert stops_paper(reason) is stops
