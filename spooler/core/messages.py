"""Events that the shell brings to the core, and actions that the core asks of the shell.

Actions come in two kinds. A `Record` goes into the journal; an `Operation` is done after the records are durable, and
answered by an event, always: a failure or a timeout is an answer too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spooler.core.attempt import Attempt, Job, Queue
from spooler.core.witness import Answer, CupsWord
from spooler.protocol import AttemptId, EventKind, JobId, LeasedJob

_NO_ATTEMPT = AttemptId("")


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Leased:
    jobs: tuple[LeasedJob, ...]
    dropped: tuple[JobId, ...] = ()


@dataclass(frozen=True, slots=True)
class Authorised:
    """Whether the service knows this agent's token; without it no new job is printed."""

    yes: bool


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Reports up to `seq` are durable at the service."""

    seq: int


@dataclass(frozen=True, slots=True)
class Changed:
    """An operator changes a job that CUPS has not heard of; None leaves things as they are."""

    job_id: JobId
    priority: int | None = None
    asked: str | None = None
    kept: bool | None = None

    def changes(self) -> dict[str, Any]:
        given = {"priority": self.priority, "asked": self.asked, "kept": self.kept}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class QueuesSeen:
    """All queues of this agent; empty where CUPS did not answer."""

    queues: tuple[Queue, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    job_id: JobId


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """`permanent`: the service has no such document, or it is not what its digest says."""

    job_id: JobId
    reason: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to `Find`: the CUPS job of that name, or none (`cups_job_id` None)."""

    job_id: JobId
    attempt_id: AttemptId
    cups_job_id: int | None = None
    cups_uuid: str = ""
    word: CupsWord = CupsWord.GONE


@dataclass(frozen=True, slots=True)
class Created:
    job_id: JobId
    attempt_id: AttemptId
    cups_job_id: int
    cups_uuid: str


@dataclass(frozen=True, slots=True)
class Released:
    job_id: JobId
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The answer to `TakeBack`: `word` is what CUPS said of the job before it was cancelled (held), else untouched."""

    job_id: JobId
    attempt_id: AttemptId
    cups_uuid: str
    word: CupsWord


@dataclass(frozen=True, slots=True)
class OperationFailed:
    """No answer, or an error, to Find, Create, Release or TakeBack: what CUPS did is not known.

    `refused`: CUPS answered that it does not take the job, and has none. `document_missing`: it was never asked.
    """

    job_id: JobId
    attempt_id: AttemptId
    reason: str
    refused: bool = False
    document_missing: bool = False


@dataclass(frozen=True, slots=True)
class CupsSaid:
    job_id: JobId
    attempt_id: AttemptId
    word: CupsWord


@dataclass(frozen=True, slots=True)
class PrinterSaid:
    job_id: JobId
    attempt_id: AttemptId
    answer: Answer


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The journal could not store a step: the answers about these jobs that were in it are lost."""

    job_ids: frozenset[JobId]


Event = (
    Tick | Leased | Authorised | Acknowledged | Changed | QueuesSeen | Fetched | FetchFailed | Found | Created
    | Released | TakenBack | OperationFailed | CupsSaid | PrinterSaid | Forgotten
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Save:
    job: Job


@dataclass(frozen=True, slots=True)
class Report:
    """An event for the service; `seq` has no gaps."""

    seq: int
    kind: EventKind
    job_id: JobId
    fencing_token: int
    at: datetime
    attempt_id: AttemptId = _NO_ATTEMPT
    queue: str = ""
    reason: str = ""
    witness: str = ""
    impressions: int | None = None
    printer_said: str = ""
    printer_said_at: datetime | None = None
    route: str = ""


@dataclass(frozen=True, slots=True)
class Erase:
    """The service has the job's final report: the journal may forget it."""

    job_id: JobId


@dataclass(frozen=True, slots=True)
class Trim:
    """Reports up to `seq` may be forgotten."""

    seq: int


@dataclass(frozen=True, slots=True)
class Fetch:
    job_id: JobId
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Discard:
    """No job needs this document any more."""

    sha256: str


@dataclass(frozen=True, slots=True)
class SeeQueues:
    pass


@dataclass(frozen=True, slots=True)
class Find:
    job: Job
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Create:
    job: Job
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Release:
    job_id: JobId
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Cancel the CUPS job if, and only if, it is still held and never started."""

    job_id: JobId
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Cancel the CUPS job if it has not ended: another paper was asked for in its place. Nothing is answered."""

    job_id: JobId
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class AskCups:
    job_id: JobId
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class AskPrinter:
    job_id: JobId
    attempt: Attempt


Record = Save | Report | Erase | Trim
Operation = Fetch | Discard | SeeQueues | Find | Create | Release | TakeBack | Withdraw | AskCups | AskPrinter
Action = Record | Operation
