"""The life of a print job: one paper wanted, from waiting to a paper that somebody holds.

`TRANSITIONS` is the whole truth; the diagram in docs/print-job.md is generated from it. An event that a state does not
allow changes nothing and raises IllegalTransitionError.

"printed" means that the printer itself said so; "confirmed" that the paper was seen or scanned. Neither is CUPS's word.
"""

from __future__ import annotations

from printsvc.domain.print_job import JobEvent, JobState
from printsvc.errors import IllegalTransitionError

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
    # Somebody said that it is not there, and then it came out: it lies at a printer, and a person must know of it.
    (_S.FAILED, _E.PRINT): _S.UNCERTAIN,
    (_S.FAILED, _E.RETRY): _S.WAITING,
    (_S.FAILED, _E.SCAN): _S.CONFIRMED,
    (_S.FAILED, _E.CANCEL): _S.CANCELED,
}


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
