"""Version 1 of the wire protocol, frozen: what agents and services of the first release say and understand.

Never changed, whatever spooler/protocol.py becomes: tests put an old side against the new one with it.

Flow: `POST /agent/v1/enroll` once; then for ever `POST /agent/v1/lease` (long-poll),
`GET /agent/v1/documents/{sha256}`, `POST /agent/v1/report`. The agent calls; the service never does.

*Holder.* A lease belongs to (agent, journal). The journal knows what was handed to CUPS, so a job that was once leased
is given again only to the same journal; when that journal is lost the job becomes `uncertain` and goes to a person.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NewType

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL_VERSION = 1

JobId = NewType("JobId", str)
AttemptId = NewType("AttemptId", str)


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class EnrollRequest(Message):
    """`code` is the one-time code that an admin made for the site."""

    protocol: int = PROTOCOL_VERSION
    code: str
    journal_id: str
    agent_version: str = ""


class EnrollAnswer(Message):
    protocol: int = PROTOCOL_VERSION
    agent_id: str
    site_id: str
    token: str


class PrinterReport(Message):
    """One queue of the site. `state` is RFC 8011 printer-state (3, 4, 5); reasons are IPP keywords, verbatim."""

    queue: str
    uri: str = ""
    make_and_model: str = ""
    state: int = 3
    state_reasons: tuple[str, ...] = ()
    accepting: bool = True
    formats: tuple[str, ...] = ()
    marker_levels: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()  # what the agent's own check found wrong with the queue or cupsd


class Held(Message):
    """A job that the agent still has work with; the service prolongs its deadline."""

    job_id: JobId
    fencing_token: int


class LeaseRequest(Message):
    """Ask for up to `capacity` jobs; wait up to `wait_s` seconds where there are none.

    `holding` names every job that the journal knows and whose end the service has not acknowledged: one that is leased
    to this journal and not named was in an answer that never arrived, and is given again.
    """

    protocol: int = PROTOCOL_VERSION
    journal_id: str
    capacity: int = Field(ge=0, le=1000)
    wait_s: float = Field(default=0.0, ge=0, le=120)
    agent_time: datetime | None = None
    agent_version: str = ""
    holding: tuple[Held, ...] = ()
    printers: tuple[PrinterReport, ...] = ()


class Document(Message):
    """Fetched from `/agent/v1/documents/{sha256}`; the agent checks the digest."""

    sha256: str
    size: int
    media_type: str = "application/pdf"


class LeasedJob(Message):
    """`media` is a PWG 5101.1 name and always explicit. `fencing_token` grows with every lease of the job."""

    job_id: JobId
    fencing_token: int
    deadline: datetime
    document: Document
    media: str = "iso_a4_210x297mm"
    form: str = ""
    copy_number: int = 1
    priority: int = 50


class LeaseAnswer(Message):
    """`dropped` are held jobs that the agent must not start any more; one handed to CUPS is reported as usual."""

    protocol: int = PROTOCOL_VERSION
    server_time: datetime
    jobs: tuple[LeasedJob, ...] = ()
    renewed: tuple[Held, ...] = ()
    dropped: tuple[JobId, ...] = ()


class EventKind(StrEnum):
    """`submitted`: CUPS has the document and was told to print it. `printed`: the printer itself says that the page is
    out (or, where it cannot answer, CUPS does: then `witness` is "cups"). `uncertain`: nobody can say; a person must
    look. `failed`: certainly no paper. `returned`: given back, never handed to CUPS."""

    SUBMITTED = "submitted"
    PRINTED = "printed"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    RETURNED = "returned"


class Event(Message):
    """`seq` counts from 1 within a journal, without gaps; the service applies each once and in order.

    `reason` is a short keyword (`witness-empty`, `aborted-by-printer`, `document-digest`); `witness` is "printer" or
    "cups" or "" and `impressions` what it said.
    """

    seq: int = Field(ge=1)
    kind: EventKind
    job_id: JobId
    fencing_token: int
    attempt_id: AttemptId = AttemptId("")
    at: datetime
    queue: str = ""
    reason: str = ""
    witness: str = ""
    impressions: int | None = None


class ReportRequest(Message):
    """The oldest events that were not acknowledged, without a gap between them."""

    protocol: int = PROTOCOL_VERSION
    journal_id: str
    events: tuple[Event, ...] = Field(max_length=1000)


class Outcome(StrEnum):
    """`applied`; `duplicate`: had it already; `refused`: the job's state does not allow it (kept in the ledger)."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class EventResult(Message):
    seq: int
    outcome: Outcome
    state: str = ""


class ReportAnswer(Message):
    """All events up to `acknowledged` are durable at the service; the agent may forget them."""

    protocol: int = PROTOCOL_VERSION
    acknowledged: int
    results: tuple[EventResult, ...] = ()


def attempt_id(job_id: JobId, fencing_token: int, number: int) -> AttemptId:
    """Return the name of one attempt to print a job: the CUPS job name. No personal data, unique for ever."""
    return AttemptId(f"ps-{job_id}-{fencing_token}-{number}")
