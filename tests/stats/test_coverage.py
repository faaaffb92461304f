"""Coverage: the figures that leaders see."""

from __future__ import annotations

import pytest

from printsvc.domain.print_job import JobState
from printsvc.stats.coverage import Coverage


def test_printed_and_confirmed_are_two_figures() -> None:
    papers = {JobState.PRINTED: 30, JobState.CONFIRMED: 50, JobState.WAITING: 5, JobState.FAILED: 3}
    coverage = Coverage(doses=100, held=10, certificates=90, with_paper=78, papers=papers)
    assert (coverage.printed, coverage.confirmed) == (80, 50)
    assert coverage.paper_percent == 78.0
    assert coverage.unaccounted == 0


def test_a_dose_with_neither_certificate_nor_place_on_a_worklist_is_unaccounted() -> None:
    assert Coverage(doses=10, held=2, certificates=7, with_paper=7, papers={}).unaccounted == 1


@pytest.mark.parametrize(("doses", "with_paper", "percent"), [(0, 0, None), (3, 1, 33.33), (3, 3, 100.0), (7, 0, 0.0)])
def test_percent(doses: int, with_paper: int, percent: float | None) -> None:
    assert Coverage(doses, 0, doses, with_paper, {}).paper_percent == percent


def test_a_nation_without_one_paper_is_not_rounded_up() -> None:
    coverage = Coverage(doses=200_000, held=0, certificates=200_000, with_paper=199_999, papers={})
    assert coverage.paper_percent is not None
    assert coverage.paper_percent < 100
