"""The life of a print job: the table, and nothing but the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.print_job import NEEDS_A_PERSON, ON_PAPER, UNDER_WAY, JobEvent, JobState
from printsvc.errors import IllegalTransitionError
from printsvc.printing.job import TRANSITIONS, diagram, next_state

FINAL = {JobState.CONFIRMED, JobState.CANCELED}


def test_the_states_are_those_of_the_design() -> None:
    assert {state.value for state in JobState} == {
        "waiting",
        "leased",
        "sent",
        "printed",
        "confirmed",
        "uncertain",
        "failed",
        "canceled",
    }


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("event", JobEvent)
def test_an_event_follows_the_table_or_is_refused_with_both_names(state: JobState, event: JobEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransitionError) as raised:
        next_state(state, event)
    assert state in raised.value.en
    assert event in raised.value.en
    assert raised.value.vi != raised.value.en


def test_every_state_is_reached_and_every_event_is_used() -> None:
    reached, news = {JobState.WAITING}, {JobState.WAITING}
    while news:
        news = {after for (before, _), after in TRANSITIONS.items() if before in news} - reached
        reached |= news
    assert reached == set(JobState)
    assert {event for _, event in TRANSITIONS} == set(JobEvent) - {JobEvent.UNKNOWN}


def test_final_states_are_left_by_nothing_and_all_others_lead_to_one() -> None:
    assert set(JobState) - {before for before, _ in TRANSITIONS} == FINAL
    ends = set(FINAL)
    while True:
        more = {before for (before, _), after in TRANSITIONS.items() if after in ends} | ends
        if more == ends:
            break
        ends = more
    assert ends == set(JobState)


def test_every_state_is_of_one_kind() -> None:
    kinds = [UNDER_WAY, ON_PAPER, NEEDS_A_PERSON, {JobState.CANCELED}]
    assert sorted(state for kind in kinds for state in kind) == sorted(JobState)


def test_what_may_be_on_paper_is_never_printed_again_silently() -> None:
    """From uncertain or printed, no event leads back to waiting: only a person's RETRY of a certain failure does."""
    back = {(before, event) for (before, event), after in TRANSITIONS.items() if after is JobState.WAITING}
    assert back == {
        (JobState.LEASED, JobEvent.RETURN),
        (JobState.LEASED, JobEvent.EXPIRE),
        (JobState.FAILED, JobEvent.RETRY),
    }


@given(st.lists(st.sampled_from(JobEvent), max_size=40))
def test_no_sequence_of_events_leaves_a_final_state_or_the_table(events: list[JobEvent]) -> None:
    state = JobState.WAITING
    for event in events:
        try:
            after = next_state(state, event)
        except IllegalTransitionError:
            continue
        assert state not in FINAL
        assert TRANSITIONS[state, event] is after
        state = after


def test_the_diagram_shows_each_transition_once() -> None:
    lines = diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> waiting"]
    drawn = {}
    for line in lines[2:]:
        arrow, _, events = line.strip().partition(": ")
        before, _, after = arrow.partition(" --> ")
        if after == "[*]":
            assert before in FINAL
            continue
        for event in events.split(", "):
            assert (before, event) not in drawn
            drawn[before, event] = after
    assert drawn == {(str(before), str(event)): str(after) for (before, event), after in TRANSITIONS.items()}


def test_the_docs_show_this_diagram() -> None:
    text = (Path(__file__).parents[2] / "docs/print-job.md").read_text(encoding="utf-8")
    assert text.split("```mermaid\n")[1].split("```")[0] == diagram(), "run script/diagrams"
