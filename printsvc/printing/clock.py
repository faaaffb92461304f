"""The clock of a paper: people are observed for half an hour after the injection, and leave with it. Pure.

At a third of the time the job climbs in priority, at two thirds it stands on the site's list, at the end on the
province's. The clock runs for as long as the paper is not out, and does not stop at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from printsvc.domain.print_job import CopyReason


class Step(IntEnum):
    """How far a paper's clock is; each step holds what the ones before it brought."""

    BEGUN = 0
    URGENT = 1  # climbed in priority
    SITE = 2  # on the site's list
    PROVINCE = 3  # on the province's list: late


STEPS = (Step.URGENT, Step.SITE, Step.PROVINCE)
_OWED = frozenset({CopyReason.ISSUED, CopyReason.MISSING, CopyReason.SPOILT})
_RISE, _RISE_OF_A_REPRINT = 10, 5


@dataclass(frozen=True, slots=True)
class PaperClock:
    """`total` is the time from the injection until the paper must be in the person's hand."""

    total: timedelta = timedelta(minutes=30)

    def starts_at(self, injected_at: datetime | None, wanted_at: datetime) -> datetime:
        """Return since when the clock runs: since the injection, where the paper was wanted while it still ran.

        A paper that is wanted later (a dose told late, a copy asked for after a week) has all the time from then on:
        nobody sits and waits for it.
        """
        if injected_at is None or not wanted_at - self.total < injected_at <= wanted_at:
            return wanted_at
        return injected_at

    def moment_of(self, step: Step, started_at: datetime) -> datetime:
        return started_at + self.total * int(step) / len(STEPS)

    def due_at(self, started_at: datetime) -> datetime:
        """Return the moment from which the paper is late."""
        return self.moment_of(Step.PROVINCE, started_at)

    def step_at(self, started_at: datetime, now: datetime) -> Step:
        """Return the step at `now`; the moment itself counts."""
        reached = [step for step in STEPS if self.moment_of(step, started_at) <= now]
        return reached[-1] if reached else Step.BEGUN

    def next_moment(self, started_at: datetime, now: datetime) -> datetime | None:
        """Return when the next step is due; None after the last."""
        coming = [at for at in (self.moment_of(step, started_at) for step in STEPS) if at > now]
        return coming[0] if coming else None

    def minutes_left(self, started_at: datetime, now: datetime) -> int:
        """Return the whole minutes until the paper is late, below 0 once it is: -1 within the first minute after."""
        return (self.due_at(started_at) - now) // timedelta(minutes=1)


def climb(priority: int, reason: CopyReason) -> int:
    """Return the priority one step higher. A copy that was asked for rises less, and never above a paper that is owed
    from the beginning: reprints come last."""
    return priority + (_RISE if reason in _OWED else _RISE_OF_A_REPRINT)
