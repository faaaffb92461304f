"""The life of a print job: one paper wanted, from waiting to a paper that somebody holds.

`TRANSITIONS` is the whole truth; the diagram in docs/print-job.md is generated from it. An event that a state does not
allow changes nothing and raises IllegalTransitionError.

"printed" means that the printer itself said so; "confirmed" that the paper was seen or scanned. Neither is CUPS's word.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from printsvc.errors import IllegalTransitionError


class JobState(StrEnum):
    WAITING = "waiting"
    LEASED = "leased"
    SENT = "sent"
    PRINTED = "printed"
    CONFIRMED = "confirmed"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    CANCELED = "canceled"


class JobEvent(StrEnum):
    """What may happen to a job, in the order of its life."""

    LEASE = "lease"  # an agent takes it
    RETURN = "return"  # the agent gives it back: it was never handed to CUPS
    EXPIRE = "expire"  # the lease ran out; the job waits for the same journal
    HOLDER_LOST = "holder-lost"  # the journal that knew is gone
    SUBMIT = "submit"  # handed to CUPS and released
    PRINT = "print"  # the printer says that the page is out
    DOUBT = "doubt"  # nobody can say
    FAIL = "fail"  # certainly no paper
    SCAN = "scan"  # the paper was scanned, or a person has it in hand
    MISS = "miss"  # a person looked: there is no paper, or it is spoilt
    RETRY = "retry"  # print again what certainly did not come out
    CANCEL = "cancel"  # no paper is wanted any more


_S, _E = JobState, JobEvent

TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    (_S.WAITING, _E.LEASE): _S.LEASED,
    (_S.WAITING, _E.CANCEL): _S.CANCELED,
    (_S.WAITING, _E.HOLDER_LOST): _S.UNCERTAIN,
    (_S.LEASED, _E.RETURN): _S.WAITING,
    (_S.LEASED, _E.EXPIRE): _S.WAITING,
    (_S.LEASED, _E.HOLDER_LOST): _S.UNCERTAIN,
    (_S.LEASED, _E.SUBMIT): _S.SENT,
    (_S.LEASED, _E.FAIL): _S.FAILED,
    (_S.LEASED, _E.DOUBT): _S.UNCERTAIN,
    (_S.LEASED, _E.PRINT): _S.PRINTED,
    (_S.SENT, _E.PRINT): _S.PRINTED,
    (_S.SENT, _E.DOUBT): _S.UNCERTAIN,
    (_S.SENT, _E.FAIL): _S.FAILED,
    (_S.SENT, _E.HOLDER_LOST): _S.UNCERTAIN,
    (_S.SENT, _E.SCAN): _S.CONFIRMED,
    # Late word from an agent whose lease ran out while the line was cut: the paper is a fact all the same.
    (_S.WAITING, _E.SUBMIT): _S.SENT,
    (_S.WAITING, _E.PRINT): _S.PRINTED,
    (_S.WAITING, _E.DOUBT): _S.UNCERTAIN,
    (_S.WAITING, _E.FAIL): _S.FAILED,
    (_S.UNCERTAIN, _E.PRINT): _S.PRINTED,
    (_S.UNCERTAIN, _E.FAIL): _S.FAILED,
    (_S.UNCERTAIN, _E.SCAN): _S.CONFIRMED,
    (_S.UNCERTAIN, _E.MISS): _S.FAILED,
    (_S.PRINTED, _E.SCAN): _S.CONFIRMED,
    (_S.PRINTED, _E.MISS): _S.FAILED,
    (_S.FAILED, _E.RETRY): _S.WAITING,
    (_S.FAILED, _E.SCAN): _S.CONFIRMED,
    (_S.FAILED, _E.CANCEL): _S.CANCELED,
}

ON_PAPER = frozenset({JobState.PRINTED, JobState.CONFIRMED})
"""A paper exists, by the printer's or a person's word."""

UNDER_WAY = frozenset({JobState.WAITING, JobState.LEASED, JobState.SENT})
NEEDS_A_PERSON = frozenset({JobState.UNCERTAIN, JobState.FAILED})


class CopyReason(StrEnum):
    """Why a paper is printed. All but `issued` have a copy number of 2 or more and somebody who asked."""

    ISSUED = "issued"
    MISSING = "missing"  # the printer swallowed it
    SPOILT = "spoilt"
    LOST = "lost"
    CORRECTED = "corrected"
    RENEWED = "renewed"


@dataclass(frozen=True, slots=True)
class Transition:
    before: JobState
    event: JobEvent
    after: JobState


def next_state(state: JobState, event: JobEvent) -> JobState:
    """Return the state after `event`. Raises IllegalTransitionError where the table has no such row."""
    after = TRANSITIONS.get((state, event))
    if after is None:
        raise IllegalTransitionError(
            f"A job that is {state} cannot take the event {event}.",
            vi=f"Lệnh in đang ở trạng thái “{state}” không nhận được sự kiện “{event}”.",
        )
    return after


def diagram() -> str:
    """Return the table as a Mermaid state diagram; docs/print-job.md holds it and a test compares."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.WAITING}"]
    arrows: dict[tuple[JobState, JobState], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        arrows.setdefault((before, after), []).append(event)
    lines += [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in arrows.items()]
    leaving = {before for before, _ in TRANSITIONS}
    lines += [f"    {state} --> [*]" for state in JobState if state not in leaving]
    return "\n".join(lines) + "\n"
