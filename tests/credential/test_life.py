"""The life of a signer: the table, the calendar, the alarms."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.life import (
    TRANSITIONS,
    Ending,
    alarms,
    check_plan,
    diagram,
    due_events,
    find_signing,
    next_due,
    next_planned,
    next_state,
    signing_covered_until,
)
from printsvc.domain.signer import SignerEvent, SignerRecord, SignerRole, SignerState
from printsvc.errors import IllegalTransitionError, InputError

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
S, E = SignerState, SignerEvent


def record(
    name: str, state: SignerState, begins: float, ends: float, *, valid: float = 700, role: SignerRole = SignerRole.DSC
) -> SignerRecord:
    """Return a signer whose times are days from NOW."""
    thumbprint = name.encode().hex().ljust(64, "0")
    return SignerRecord(
        thumbprint=thumbprint,
        kid=thumbprint[:16],
        role=role,
        state=state,
        certificate=b"",
        not_before=NOW - 400 * DAY,
        not_after=NOW + valid * DAY,
        signing_from=NOW + begins * DAY,
        signing_until=NOW + ends * DAY,
        key_store="file",
        created_at=NOW,
        changed_at=NOW,
    )


def moved(records: list[SignerRecord], now: datetime, held: set[str] | None = None) -> dict[str, SignerState]:
    """Return thumbprint → state once all is done that is due."""
    states = {one.thumbprint: one for one in records}
    for one, event in due_events(records, now, held=held if held is not None else set(states)):
        states[one.thumbprint] = replace(one, state=next_state(states[one.thumbprint].state, event))
    return {name: one.state for name, one in states.items()}


@pytest.mark.parametrize("state", SignerState)
@pytest.mark.parametrize("event", SignerEvent)
def test_an_event_follows_the_table_or_is_refused_with_both_names(state: SignerState, event: SignerEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransitionError) as raised:
        next_state(state, event)
    assert state in raised.value.en
    assert event in raised.value.vi


def test_nothing_comes_back_to_sign_and_compromise_is_final() -> None:
    assert [before for (before, _), after in TRANSITIONS.items() if after is S.SIGNING] == [S.PLANNED]
    assert set(SignerState) - {before for before, _ in TRANSITIONS} == {S.COMPROMISED}
    assert {before for (before, event) in TRANSITIONS if event is E.COMPROMISE} == set(SignerState) - {S.COMPROMISED}


def test_the_docs_show_this_diagram() -> None:
    text = (Path(__file__).parents[2] / "docs/keys.md").read_text(encoding="utf-8")
    assert text.split("```mermaid\n")[1].split("```")[0] == diagram(), "run script/diagrams"


def test_the_planned_signer_takes_over_at_its_moment_and_not_before() -> None:
    old, new = record("old", S.SIGNING, -100, 10), record("new", S.PLANNED, 10, 190)
    both = [old, new]
    assert due_events(both, NOW + 10 * DAY - timedelta(microseconds=1), held={new.thumbprint}) == []
    at = NOW + 10 * DAY
    assert due_events(both, at, held={new.thumbprint}) == [(old, E.END), (new, E.START)], "first the end: one signs"
    assert next_due(both, NOW) == at


def test_a_key_that_is_not_held_never_takes_over() -> None:
    old, new = record("old", S.SIGNING, -100, 20), record("new", S.PLANNED, -1, 170)
    assert due_events([old, new], NOW, held=set()) == []
    assert due_events([old, new], NOW + 20 * DAY, held=set()) == [(old, E.END)], "its own period ends all the same"


def test_the_last_planned_wins_and_the_one_before_it_is_skipped() -> None:
    old, first = record("old", S.SIGNING, -100, 20), record("first", S.PLANNED, -3, 100)
    last, later = record("last", S.PLANNED, -1, 100), record("later", S.PLANNED, 5, 100)
    states = moved([old, first, last, later], NOW)
    assert [states[one.thumbprint] for one in (old, first, last, later)] == [
        S.VERIFYING,
        S.VERIFYING,
        S.SIGNING,
        S.PLANNED,
    ]


def test_whatever_is_past_its_validity_expires_and_the_csca_only_so() -> None:
    csca = record("csca", S.SIGNING, -100, 5, valid=5, role=SignerRole.CSCA)
    dsc, seen = record("dsc", S.SIGNING, -10, 5, valid=5), record("seen", S.VERIFYING, -300, -100, valid=5)
    assert moved([csca, dsc, seen], NOW + 5 * DAY) == dict.fromkeys(
        (one.thumbprint for one in (csca, dsc, seen)), S.EXPIRED
    )
    assert due_events([csca], NOW, held=set()) == []


signers = st.lists(
    st.builds(
        lambda n, state, begins, length, valid: record(f"s{n}", state, begins, begins + length, valid=valid),
        st.integers(0, 10**6),
        st.sampled_from([S.PLANNED, S.PLANNED, S.VERIFYING]),
        st.integers(-200, 200),
        st.integers(1, 181),
        st.integers(-10, 700),
    ),
    max_size=6,
    unique_by=lambda one: one.thumbprint,
)


@given(signers, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_at_most_one_signs_whatever_is_planned_and_nothing_is_due_twice(
    planned: list[SignerRecord], days: list[int], one_signs: bool
) -> None:
    records = [*planned, record("old", S.SIGNING, -50, 50)] if one_signs else planned
    for day in sorted(days):
        now = NOW + day * DAY
        states = moved(records, now)
        records = [replace(one, state=states[one.thumbprint]) for one in records]
        signing = [one for one in records if one.state is S.SIGNING]
        assert len(signing) <= 1
        assert all(one.signing_from <= now < min(one.signing_until, one.not_after) for one in signing)
        assert due_events(records, now, held={one.thumbprint for one in records}) == []


def test_alarms_come_at_60_30_and_7_days_and_a_successor_silences_that_of_signing() -> None:
    signing = record("a", S.SIGNING, -100, 61)
    assert alarms([signing], NOW) == []
    levels = {}
    for left in (60, 31, 30, 8, 7, 1):
        [alarm] = alarms([replace(signing, signing_until=NOW + left * DAY)], NOW)
        assert (alarm.ending, alarm.days) == (Ending.SIGNING, left)
        levels[left] = alarm.level
    assert levels == {60: 60, 31: 60, 30: 30, 8: 30, 7: 7, 1: 7}
    near = replace(signing, signing_until=NOW + 5 * DAY)
    assert alarms([near, record("b", S.PLANNED, 5, 185)], NOW) == []
    [gap] = alarms([near, record("b", S.PLANNED, 6, 185)], NOW)
    assert gap.at == NOW + 5 * DAY, "a day on which nobody signs"
    assert signing_covered_until([near, record("b", S.PLANNED, 5, 185)], NOW) == NOW + 185 * DAY
    assert signing_covered_until([record("b", S.PLANNED, 5, 185)], NOW) is None


def test_validity_warns_for_every_signer_that_lives() -> None:
    ending = [record(state, state, -300, -100, valid=20) for state in SignerState]
    found = alarms(ending, NOW)
    assert {alarm.record.state for alarm in found if alarm.ending is Ending.VALIDITY} == {
        S.PLANNED,
        S.SIGNING,
        S.VERIFYING,
    }
    assert {alarm.level for alarm in found} == {30}


@pytest.mark.parametrize(
    ("begins", "ends", "good"),
    [(0, 181, True), (0, 182, False), (10, 5, False), (-30, -1, False), (600, 710, False), (-401, -390, False)],
)
def test_a_plan_is_for_six_months_at_most_and_within_validity(begins: int, ends: int, good: bool) -> None:
    plan = {"not_before": NOW - 400 * DAY, "not_after": NOW + 700 * DAY, "now": NOW}
    times = {"signing_from": NOW + begins * DAY, "signing_until": NOW + ends * DAY}
    if good:
        check_plan(**plan, **times)
        return
    with pytest.raises(InputError) as raised:
        check_plan(**plan, **times)
    assert all(problem.vi != problem.en and problem.pointer for problem in raised.value.problems)


def test_who_signs_and_who_is_next() -> None:
    now, soon, late = record("n", S.SIGNING, -1, 10), record("s", S.PLANNED, 10, 90), record("l", S.PLANNED, 90, 120)
    csca = record("c", S.SIGNING, -1, 10, role=SignerRole.CSCA)
    assert find_signing([csca, late, now]) == now
    assert find_signing([csca, now], SignerRole.CSCA) == csca
    assert next_planned([late, now, soon], NOW) == soon
    assert next_planned([now], NOW) is None
