"""The nouns of the agent's core: a job's phases in one table, its attempts, the queues, and the whole state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from printsvc.domain.printer import stops_paper
from spooler.core.witness import CupsWord, Evidence, Patience
from spooler.protocol import AttemptId, JobId


class Phase(StrEnum):
    """Where a job stands at this agent. The last four are final for the service."""

    LEASED = "leased"  # the document is not here yet
    READY = "ready"  # the document is here; CUPS has not heard of it
    INTENDED = "intended"  # a queue is chosen; CUPS may or may not have a held job
    HELD = "held"  # CUPS has it, held: it cannot print by itself
    RELEASED = "released"  # CUPS was, or is about to be, told to print
    ASKING = "asking"  # CUPS is done with it; the printer is asked
    PRINTED = "printed"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    RETURNED = "returned"


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    Phase.LEASED: frozenset({Phase.READY, Phase.FAILED, Phase.RETURNED}),
    Phase.READY: frozenset({Phase.INTENDED, Phase.RETURNED}),
    # Back: the queue refused it or the document is not here any more. A held job never prints.
    Phase.INTENDED: frozenset(
        {Phase.LEASED, Phase.READY, Phase.HELD, Phase.RELEASED, Phase.FAILED, Phase.RETURNED},
    ),
    # Back: the held job is gone or was taken back. Straight to released: by us, or by somebody else.
    Phase.HELD: frozenset({Phase.READY, Phase.RELEASED, Phase.RETURNED}),
    # Back only on the verdict that certainly no paper came of the attempt.
    Phase.RELEASED: frozenset(
        {Phase.READY, Phase.ASKING, Phase.PRINTED, Phase.UNCERTAIN, Phase.FAILED, Phase.RETURNED}
    ),
    Phase.ASKING: frozenset({Phase.READY, Phase.PRINTED, Phase.UNCERTAIN, Phase.FAILED, Phase.RETURNED}),
    Phase.UNCERTAIN: frozenset({Phase.PRINTED}),  # late evidence: the printer came back and says the page is out
    Phase.PRINTED: frozenset(),
    Phase.FAILED: frozenset(),
    Phase.RETURNED: frozenset(),
}
FINAL = frozenset({Phase.PRINTED, Phase.UNCERTAIN, Phase.FAILED, Phase.RETURNED})
WATCHED = frozenset({Phase.RELEASED, Phase.ASKING, Phase.UNCERTAIN})
MOST_BLOCKED = 50
AT_CUPS = frozenset({Phase.INTENDED, Phase.HELD, Phase.RELEASED, Phase.ASKING})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to print a job on one queue. CUPS uses job ids again: only id and uuid together name a CUPS job."""

    attempt_id: AttemptId
    number: int
    queue: str
    intended_at: datetime
    cups_job_id: int | None = None
    cups_uuid: str = ""
    released_at: datetime | None = None
    why: str = ""  # why this queue, for the service's ledger


@dataclass(frozen=True, slots=True)
class Choice:
    """A queue for a job ("": none), and why, in a line. `blocked`: no queue could take it even if all were free."""

    queue: str
    en: str
    vi: str
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What the journal holds of a job. `order` is the place in the line: jobs of one priority keep it.

    `asked` is the operator's choice: a queue, `pool:NAME`, or "" for none; a `kept` job is not started.
    """

    job_id: JobId
    fencing_token: int
    sha256: str
    size: int
    order: int
    media_type: str = "application/pdf"
    media: str = "iso_a4_210x297mm"
    priority: int = 50
    phase: Phase = Phase.LEASED
    attempt: Attempt | None = None
    number: int = 0  # attempts begun
    failures: int = 0  # attempts that certainly gave no paper
    avoid: tuple[str, ...] = ()  # the queues of those
    dropped: bool = False  # the service does not want it any more
    reason: str = ""
    final_seq: int = 0  # seq of the report that settled it; 0 while unsettled
    copy_number: int = 1
    asked: str = ""
    kept: bool = False
    module_um: int = 0  # side of a module of the QR; 0: not known


@dataclass(frozen=True, slots=True)
class Queue:
    """A CUPS queue and the printer behind it, as last seen.

    `answers`: the printer itself answered, or cannot be asked at all. `problems` make the queue unfit for certificates.
    `up_time_s` is None where the printer did not say. `media` are the sizes it takes (empty: not known), `ready` those
    that are loaded; `queued` and `oldest_s` are of the jobs in CUPS that are not ours.
    """

    name: str
    state: int = 3
    accepting: bool = True
    reasons: tuple[str, ...] = ()
    answers: bool = True
    problems: tuple[str, ...] = ()
    up_time_s: int | None = None
    seen_at: datetime | None = None
    pool: str = ""
    media: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()
    queued: int = 0
    oldest_s: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and times (seconds) of the agent."""

    attempts: int = 3
    jobs_per_queue: int = 2  # asked from the service: one at the printer and one ready
    fresh_s: float = 1.5  # a queue must have been seen so lately when a job is given to it
    retry_s: float = 1.0
    return_s: float = 20.0  # unsent jobs go back when no queue was usable for so long
    stuck_s: float = 60.0  # a queue that is at one attempt for so long is not counted on
    poll_s: float = 0.12
    poll_slow_s: float = 1.0
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of a job only while the agent runs. `busy` is the operation under way, "" for none."""

    busy: str = ""
    retry_at: datetime | None = None
    cups_at: datetime | None = None  # when CUPS, and the printer, are to be asked next
    printer_at: datetime | None = None
    asking_cups: bool = False
    asking_printer: bool = False
    fetches: int = 0
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, slots=True)
class State:
    """`jobs` is what the journal holds, final ones until the service has their report; the rest is memory."""

    jobs: Mapping[JobId, Job] = field(default_factory=dict)
    watches: Mapping[JobId, Watch] = field(default_factory=dict)
    queues: Mapping[str, Queue] = field(default_factory=dict)
    choices: Mapping[JobId, Choice] = field(default_factory=dict)  # the newest, of jobs that are here
    next_order: int = 1
    next_seq: int = 1
    acknowledged: int = 0
    authorised: bool = True
    unusable_since: datetime | None = None
    health_asked_at: datetime | None = None
    policy: Policy = field(default_factory=Policy)


def is_usable(queue: Queue) -> bool:
    """Return whether a new job may be given to the queue, as far as was last seen."""
    return (
        queue.accepting
        and queue.state != 5
        and queue.answers
        and not queue.problems
        and not any(stops_paper(reason) for reason in queue.reasons)
    )


def taken_queues(jobs: Mapping[JobId, Job], watches: Mapping[JobId, Watch]) -> set[str]:
    """Return the queues that have a job; an uncertain one counts while CUPS is still at it: nothing passes it there."""
    taken = set()
    for job in jobs.values():
        if job.attempt is None:
            continue
        watch = watches.get(job.job_id) or Watch()
        at_it = job.phase is Phase.UNCERTAIN and not watch.evidence.cups_has_ended()
        if job.phase in AT_CUPS or at_it:
            taken.add(job.attempt.queue)
    return taken


def stuck_queues(state: State, now: datetime) -> set[str]:
    """Return the queues that are at one attempt for too long: an empty tray may be only a warning."""
    return {
        job.attempt.queue
        for job in state.jobs.values()
        if job.attempt is not None
        and job.attempt.released_at is not None
        and job.phase in WATCHED
        and now - job.attempt.released_at > timedelta(seconds=state.policy.stuck_s)
        and not state.watches.get(job.job_id, Watch()).evidence.cups_has_ended()
    }


def open_queues(state: State, now: datetime) -> list[Queue]:
    """Return the queues to count on: usable, and not stuck."""
    stuck = stuck_queues(state, now)
    return [queue for queue in state.queues.values() if is_usable(queue) and queue.name not in stuck]


def capacity(state: State, now: datetime) -> int:
    """Return how many more jobs to ask for: 0 when no queue is open, so that jobs stay where everybody sees them."""
    if not state.authorised:
        return 0
    open_count = len(open_queues(state, now))
    unsettled = [job.job_id for job in state.jobs.values() if job.phase not in FINAL]
    # Jobs that no queue here can take must not keep others out; yet they are not hoarded without end.
    blocked = sum((choice := state.choices.get(job_id)) is not None and choice.blocked for job_id in unsettled)
    return max(0, open_count * state.policy.jobs_per_queue - len(unsettled) + min(blocked, MOST_BLOCKED))


def unacknowledged(state: State) -> list[Job]:
    """Return the jobs that the agent still has work with, a final one until the service has its report."""
    return [job for job in state.jobs.values() if job.phase not in FINAL or job.final_seq > state.acknowledged]


__all__ = [
    "AT_CUPS",
    "FINAL",
    "TRANSITIONS",
    "WATCHED",
    "Attempt",
    "Choice",
    "CupsWord",
    "Job",
    "Phase",
    "Policy",
    "Queue",
    "State",
    "Watch",
    "capacity",
    "is_usable",
    "open_queues",
    "stops_paper",
    "taken_queues",
    "unacknowledged",
]
