"""A print job: one paper wanted, and what may happen to it. Which event leads where is printing/job's table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from printsvc.domain.site import SiteId
from printsvc.domain.uvci import Uvci


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
    UNKNOWN = "unknown"  # the word of a newer agent: no state allows it, the ledger keeps it


ON_PAPER = frozenset({JobState.PRINTED, JobState.CONFIRMED})
"""A paper exists, by the printer's or a person's word."""

UNDER_WAY = frozenset({JobState.WAITING, JobState.LEASED, JobState.SENT})
NEEDS_A_PERSON = frozenset({JobState.UNCERTAIN, JobState.FAILED})
OPEN = UNDER_WAY | NEEDS_A_PERSON
"""Somebody waits for the paper."""


class CopyReason(StrEnum):
    """Why a paper is printed. All but `issued` have a copy number of 2 or more and somebody who asked."""

    ISSUED = "issued"
    MISSING = "missing"  # the printer swallowed it
    SPOILT = "spoilt"
    LOST = "lost"
    CORRECTED = "corrected"
    RENEWED = "renewed"


@dataclass(frozen=True, slots=True)
class PrintJob:
    """One paper wanted; see the columns of `print_jobs`.

    `impressions` and `printer_said` are the printer's own last answer about it, at `printer_said_at`. The clock of the
    paper (printing/clock) runs since `clock_from`; None: since it was wanted.
    """

    job_id: str
    uvci: Uvci
    copy_number: int
    reason: CopyReason
    asked_by: str
    site_id: SiteId
    form: str
    media: str
    priority: int
    state: JobState
    state_reason: str
    created_at: datetime
    changed_at: datetime
    holder_agent: str | None = None
    holder_journal: str | None = None
    fencing_token: int = 0
    deadline: datetime | None = None
    document_sha256: str | None = None
    queue: str = ""
    attempt_id: str = ""
    witness: str = ""
    impressions: int | None = None
    printer_said: str | None = None
    printer_said_at: datetime | None = None
    clock_from: datetime | None = None
    next_climb_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """What is told about a job: the event, when and by whom, and what else is known."""

    event: JobEvent
    at: datetime
    actor: str
    journal_id: str | None = None
    seq: int | None = None
    fencing_token: int = 0
    attempt_id: str = ""
    queue: str = ""
    reason: str = ""
    witness: str = ""
    impressions: int | None = None
    printer_said: str = ""
    printer_said_at: datetime | None = None
