"""The clock of a paper: a third, two thirds, the whole of half an hour from the injection."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.print_job import CopyReason
from printsvc.flows.issue import PRIORITY_NEW, PRIORITY_REPRINT
from printsvc.printing.clock import STEPS, PaperClock, Step, climb

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
clocks = st.timedeltas(MINUTE, timedelta(hours=3)).map(PaperClock)
spans = st.timedeltas(-timedelta(days=1), timedelta(days=400))


@pytest.mark.parametrize(
    ("minutes", "step"), [(0, 0), (9.99, 0), (10, 1), (19.99, 1), (20, 2), (29.99, 2), (30, 3), (900, 3)]
)
def test_the_steps_of_half_an_hour(minutes: float, step: int) -> None:
    assert PaperClock().step_at(NOW, NOW + minutes * MINUTE) == step


@pytest.mark.parametrize(("minutes", "left"), [(0, 30), (0.5, 29), (29.5, 0), (30, 0), (30.5, -1), (45, -15)])
def test_minutes_left(minutes: float, left: int) -> None:
    assert PaperClock().minutes_left(NOW, NOW + minutes * MINUTE) == left


@pytest.mark.parametrize(
    ("ago", "starts_ago"),
    [(0, 0), (12, 12), (29.9, 29.9), (30, 0), (31, 0), (60 * 24 * 30, 0), (-1, 0)],
    ids=["now", "just-now", "still-sitting", "gone", "told-late", "history", "clock-of-the-future"],
)
def test_it_runs_since_the_injection_where_the_person_still_sits_there(ago: float, starts_ago: float) -> None:
    assert PaperClock().starts_at(NOW - ago * MINUTE, NOW) == NOW - starts_ago * MINUTE
    assert PaperClock().starts_at(None, NOW) == NOW


@given(clocks, spans, spans)
def test_steps_only_grow_and_the_next_moment_is_where_they_do(
    clock: PaperClock, one: timedelta, two: timedelta
) -> None:
    earlier, later = sorted((NOW + one, NOW + two))
    assert clock.step_at(NOW, earlier) <= clock.step_at(NOW, later)
    following = clock.next_moment(NOW, earlier)
    if following is None:
        assert clock.step_at(NOW, earlier) is Step.PROVINCE
    else:
        assert following > earlier
        assert clock.step_at(NOW, following) == clock.step_at(NOW, earlier) + 1
        assert clock.step_at(NOW, following - timedelta.resolution) == clock.step_at(NOW, earlier)


@pytest.mark.parametrize("reason", CopyReason)
def test_each_step_is_higher_and_a_reprint_stays_below_a_new_paper(reason: CopyReason) -> None:
    owed = reason in (CopyReason.ISSUED, CopyReason.MISSING, CopyReason.SPOILT)
    priority = PRIORITY_NEW if reason is CopyReason.ISSUED else PRIORITY_REPRINT
    climbed = [priority]
    for _ in STEPS:
        climbed.append(climb(climbed[-1], reason))
    assert climbed == sorted(set(climbed))
    assert owed is (climbed[-1] > PRIORITY_NEW), "somebody sits and waits for it, or does not"
