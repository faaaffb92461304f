"""What service and agent say to each other: version 2, which any side of version 1 understands.

The only door between the two. Every field that is added later has a default, and unknown fields are ignored, so that
any service meets any agent that is one release older or newer; tests/protocol keeps version 1 as it was. A word that a
side does not know (a kind of event, an outcome) is refused by it alone, not the message around it; a service of version
1 refuses the message, so a new kind of event goes only to one whose answers say that it is newer.

Flow: `POST /agent/v1/enroll` once; then for ever `POST /agent/v1/lease` (long-poll),
`GET /agent/v1/documents/{sha256}`, `POST /agent/v1/report`. The agent calls; the service never does.

*Poor lines.* A service whose answers say `line` > 0 takes `lease` and `report` packed, at `POST /agent/v1/line` (see
`compact`). Where the agent holds a form compiled (`GET /agent/v1/forms/{digest}`, once), a job may bring the page's
data: the agent stamps them, and prints what it stamped only if its SHA-256 is the document's.

*Holder.* A lease belongs to (agent, journal). The journal knows what was handed to CUPS, so a job that was once leased
is given again only to the same journal; when that journal is lost the job becomes `uncertain` and goes to a person.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, NewType

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL_VERSION = 2
OLDEST_PROTOCOL = 1  # still understood

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
    queued: int = 0  # jobs in CUPS that are not ours, and the age of the oldest
    oldest_s: int | None = None
    media_ready: tuple[str, ...] = ()  # loaded, by the printer's word


class QueueSettings(Message):
    """What the centre has set for a queue. `media` (PWG 5101.1) are the sizes it takes, the first its default; empty:
    whatever the printer says. A QR's dark modules are drawn `pull_back` dots smaller at `dpi`; `dpi` 0: not set."""

    queue: str
    pool: str = ""
    media: tuple[str, ...] = ()
    dpi: int = 0
    pull_back: int = 0


class SiteSettings(Message):
    """All queues of a site that have settings; `version` is the settings' digest."""

    version: str
    queues: tuple[QueueSettings, ...] = ()


class Command(Message):
    """One thing to do at the site, once: `command_id` is never used again. Not begun within `within_s` seconds of this
    answer, it is not done. `verb` and `arguments`: see spooler.commands; an agent refuses a verb that it does not know.
    """

    command_id: str
    verb: str
    queue: str = ""
    arguments: dict[str, Any] = {}
    within_s: float = Field(default=60.0, ge=0)


class CommandOutcome(StrEnum):
    """`refused`: nothing was done, on purpose; `failed`: it did not work; `unknown`: the agent died while at it."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


class CommandResult(Message):
    """Sent with each lease request until one is answered. `reason` is a keyword; `en`, `vi` are a sentence."""

    command_id: str
    outcome: Annotated[CommandOutcome | str, Field(union_mode="left_to_right")]  # plain text: a newer agent's
    reason: str = ""
    en: str = ""
    vi: str = ""
    detail: dict[str, Any] = {}
    at: datetime


class RouteNote(Message):
    """Why a job goes to `queue`, or waits (`queue` is ""). Advice for people: a lost one is not sent again."""

    job_id: JobId
    at: datetime
    queue: str = ""
    en: str = ""
    vi: str = ""


class Held(Message):
    """A job that the agent still has work with; the service prolongs its deadline."""

    job_id: JobId
    fencing_token: int


class LineCounts(Message):
    """What went over the line since the journal was made: bytes of all connections, TLS included, and pages.

    `certificates` are papers whose end was reported; `stamped` pages came as data, `fetched` as documents, and
    `mismatched` were stamped, gave another digest than the service's, and were fetched.
    """

    bytes_up: int = Field(default=0, ge=0)
    bytes_down: int = Field(default=0, ge=0)
    certificates: int = Field(default=0, ge=0)
    stamped: int = Field(default=0, ge=0)
    fetched: int = Field(default=0, ge=0)
    mismatched: int = Field(default=0, ge=0)


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
    printers_same: bool = False  # `printers` is left out: nothing changed since they were told
    stamps: bool = False  # this agent can stamp pages
    forms: tuple[str, ...] = ()  # digests of the compiled forms that it stamps with
    counts: LineCounts | None = None
    site_words: int = 0  # CRC-32 of what the agent knows its site's pages to say: see compact.site_words
    results: tuple[CommandResult, ...] = Field(default=(), max_length=100)
    routes: tuple[RouteNote, ...] = Field(default=(), max_length=200)
    settings_version: str | None = None  # None: an agent that knows neither commands nor settings


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
    form_digest: str = ""  # of the compiled form that `data` is for
    data: dict[str, Any] | None = None  # the page (printsvc.domain.form.PageData), where it need not be fetched
    asked: str = ""  # the operator's choice: a queue, "pool:NAME", or "" for any
    module_um: int = 0  # side of a module of the QR in micrometres, for a queue with pull-back; 0: not known


class FormName(Message):
    """A compiled form, to be fetched from `/agent/v1/forms/{digest}?form={form}`."""

    form: str
    digest: str


class LeaseAnswer(Message):
    """`dropped` are held jobs that the agent must not start any more; one handed to CUPS is reported as usual.

    `forms` are those that the site prints and the agent did not name.
    """

    protocol: int = PROTOCOL_VERSION
    server_time: datetime
    jobs: tuple[LeasedJob, ...] = ()
    renewed: tuple[Held, ...] = ()
    dropped: tuple[JobId, ...] = ()
    line: int = 0  # the newest packing that the service understands; 0: none
    forms: tuple[FormName, ...] = ()
    commands: tuple[Command, ...] = ()
    settings: SiteSettings | None = None  # None: the agent has the newest


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
    "cups" or "" and `impressions` what it said. `printer_said` is what the printer itself last answered about the
    attempt, and when: job-state keywords (RFC 8011), `no-such-job`, `unreachable`, or `cannot-tell` where it lists no
    jobs.
    """

    seq: int = Field(ge=1)
    kind: Annotated[EventKind | str, Field(union_mode="left_to_right")]  # plain text: a newer agent's
    job_id: JobId
    fencing_token: int
    attempt_id: AttemptId = AttemptId("")
    at: datetime
    queue: str = ""
    reason: str = ""
    witness: str = ""
    impressions: int | None = None
    printer_said: str = ""
    printer_said_at: datetime | None = None
    route: str = ""  # of `submitted`: why this queue


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
    outcome: Annotated[Outcome | str, Field(union_mode="left_to_right")]  # plain text: a newer service's
    state: str = ""


class ReportAnswer(Message):
    """All events up to `acknowledged` are durable at the service; the agent may forget them."""

    protocol: int = PROTOCOL_VERSION
    acknowledged: int
    results: tuple[EventResult, ...] = ()


class LineRequest(Message):
    """Both calls in one; the report is taken first. A lease beside a report does not wait."""

    lease: LeaseRequest | None = None
    report: ReportRequest | None = None


class LineAnswer(Message):
    lease: LeaseAnswer | None = None
    report: ReportAnswer | None = None


class Hello(Message):
    """The answer to `GET /agent/v1/hello`, new in version 2; asking changes nothing.

    `site_id` is the agent's, "" without a token.
    """

    protocol: int = PROTOCOL_VERSION
    oldest_protocol: int = OLDEST_PROTOCOL
    service_version: str = ""
    server_time: datetime
    site_id: str = ""


def attempt_id(job_id: JobId, fencing_token: int, number: int) -> AttemptId:
    """Return the name of one attempt to print a job: the CUPS job name. No personal data, unique for ever."""
    return AttemptId(f"ps-{job_id}-{fencing_token}-{number}")
