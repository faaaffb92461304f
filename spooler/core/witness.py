"""What may be concluded about paper from what CUPS says and what the printer itself says.

CUPS's "completed" is only that its filter and backend ended: seen with no page at all when a printer died after taking
the data. So the printer is asked for its own job of the attempt's name, and the rules here weigh both.

A printer forgets ended jobs (some within a minute) and everything when it restarts. Its empty list is therefore proof
of no paper only where it was asked without a gap since before the release and was not restarted meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never


class CupsWord(StrEnum):
    """What CUPS says of a job. HELD: held and never started; ACTIVE: anything else that is not ended.

    REFUSED: the backend was started a second time for the same attempt (cupsd was restarted while it printed) and would
    not send it again; the first one may still be sending.
    NEVER_SENT: the backend got no whole document, has closed the attempt, and vouches that nothing was or will be sent.
    """

    UNKNOWN = "unknown"  # CUPS could not be asked
    HELD = "held"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELED = "canceled"
    ABORTED = "aborted"
    REFUSED = "refused"
    NEVER_SENT = "never-sent"
    GONE = "gone"


_ENDED = frozenset(CupsWord) - {CupsWord.UNKNOWN, CupsWord.HELD, CupsWord.ACTIVE}
_ENDED_CLEANLY = frozenset({CupsWord.COMPLETED, CupsWord.CANCELED, CupsWord.ABORTED})

_CANCELED, _ABORTED, _COMPLETED = 7, 8, 9  # RFC 8011, 5.3.7 job-state


@dataclass(frozen=True, slots=True)
class PrinterJob:
    """The printer's own record; `impressions` is None where it does not count."""

    state: int
    impressions: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """The printer's jobs of the attempt's name, ended ones too; empty: it has none, or none any more."""

    jobs: tuple[PrinterJob, ...]
    up_time_s: int | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    pass


@dataclass(frozen=True, slots=True)
class Mute:
    """The printer answers, or is driven by other means than IPP, but cannot list its jobs."""


Answer = Heard | Unreachable | Mute

_KEYWORDS = {
    3: "pending", 4: "pending-held", 5: "processing", 6: "processing-stopped", 7: "canceled", 8: "aborted",
    9: "completed",
}  # fmt: skip
"""RFC 8011, 5.3.7 job-state."""


def words_of(answer: Answer | None) -> str:
    """Return a printer's answer in words that go into the books; "" where it was not asked yet."""
    match answer:
        case None:
            return ""
        case Unreachable():
            return "unreachable"
        case Mute():
            return "cannot-tell"
        case Heard(jobs=()):
            return "no-such-job"
        case Heard(jobs=jobs):
            return ",".join(_KEYWORDS.get(job.state, str(job.state)) for job in jobs[:4])
        case _:
            assert_never(answer)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for better evidence, in seconds."""

    absent_s: float = 3.0  # CUPS has ended, the printer has no such job
    orphan_s: float = 15.0  # the same, where a backend may have outlived its cupsd
    silence_s: float = 60.0  # the printer does not answer
    stall_s: float = 300.0  # CUPS does not get on and the printer never had the job
    gap_s: float = 10.0  # longest time between two answers that still counts as watching
    late_s: float = 600.0  # how long an uncertain attempt is watched after CUPS has ended


@dataclass(frozen=True, slots=True)
class Verdict:
    """`outcome` is printed, uncertain or failed (failed: certainly no paper)."""

    outcome: str
    reason: str = ""
    witness: str = ""
    impressions: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was said about one attempt in this run of the agent.

    `unbroken`: the printer was asked from before the release on, without a gap, and was not restarted.
    """

    cups: CupsWord = CupsWord.UNKNOWN
    cups_at: datetime | None = None
    ended_at: datetime | None = None
    printer: Answer | None = None
    printer_at: datetime | None = None
    answered_at: datetime | None = None
    silent_since: datetime | None = None
    ever_heard: bool = False
    unbroken: bool = False
    up_time_base: tuple[datetime, int] | None = None

    @staticmethod
    def begun(answered_at: datetime, up_time_s: int | None) -> Evidence:
        """Return the evidence at the moment of release, where the printer has answered just before it."""
        base = None if up_time_s is None else (answered_at, up_time_s)
        return Evidence(answered_at=answered_at, unbroken=base is not None, up_time_base=base)

    def cups_has_ended(self) -> bool:
        return self.cups in _ENDED

    def printer_is_mute(self) -> bool:
        return isinstance(self.printer, Mute)

    def with_cups(self, word: CupsWord, now: datetime) -> Evidence:
        """Return the evidence with CUPS's newest word; a failed question does not erase an earlier answer."""
        if word is CupsWord.UNKNOWN:
            return self
        ended_at = (self.ended_at or now) if word in _ENDED else None
        return replace(self, cups=word, cups_at=now, ended_at=ended_at)

    def with_printer(self, answer: Answer, now: datetime, patience: Patience) -> Evidence:
        if isinstance(answer, Unreachable):
            return replace(self, printer=answer, printer_at=now, silent_since=self.silent_since or now)
        watched = self.answered_at is not None and now - self.answered_at <= timedelta(seconds=patience.gap_s)
        heard = isinstance(answer, Heard)
        return replace(
            self,
            printer=answer,
            printer_at=now,
            answered_at=now,
            silent_since=None,
            ever_heard=self.ever_heard or (isinstance(answer, Heard) and bool(answer.jobs)),
            unbroken=self.unbroken and watched and heard and self._not_restarted(answer, now),
        )

    def _not_restarted(self, answer: Answer, now: datetime) -> bool:
        if self.up_time_base is None or not isinstance(answer, Heard) or answer.up_time_s is None:
            return False
        began, up_time_s = self.up_time_base
        # Two seconds of slack: up-time is in whole seconds and the answers take time.
        return answer.up_time_s >= up_time_s + (now - began).total_seconds() - 2

    def is_closed(self, now: datetime, patience: Patience) -> bool:
        """Return whether nothing more can be learnt about an uncertain attempt."""
        if self.ended_at is None:
            return False
        waited_s = (now - self.ended_at).total_seconds()
        answered_after = self.answered_at is not None and self.answered_at > self.ended_at
        at_work = isinstance(self.printer, Heard) and any(job.state < _CANCELED for job in self.printer.jobs)
        return waited_s >= patience.late_s or (answered_after and not at_work and waited_s >= patience.orphan_s)


def judge(evidence: Evidence, now: datetime, began_at: datetime, patience: Patience) -> Verdict | None:
    """Return what is certain or must be given up as uncertain; None: wait and ask again."""
    ended_s = -1.0 if evidence.ended_at is None else (now - evidence.ended_at).total_seconds()
    stalled = now - began_at >= timedelta(seconds=patience.stall_s)
    if evidence.cups is CupsWord.NEVER_SENT and not evidence.ever_heard:
        return Verdict("failed", "document-cut")
    match evidence.printer:
        case None:
            return None
        case Mute():
            if evidence.cups is CupsWord.COMPLETED:
                return Verdict("printed", witness="cups")
            if ended_s >= patience.absent_s:
                return Verdict("uncertain", f"{evidence.cups.value}-by-cups")
            return Verdict("uncertain", "stalled") if stalled and not evidence.cups_has_ended() else None
        case Unreachable():
            silent_s = 0.0 if evidence.silent_since is None else (now - evidence.silent_since).total_seconds()
            return Verdict("uncertain", "printer-silent") if silent_s >= patience.silence_s else None
        case Heard(jobs=()):
            if evidence.cups_has_ended():
                return _judge_absent(evidence, patience)
            return Verdict("uncertain", "stalled") if stalled else None
        case Heard(jobs=jobs):
            return _judge_heard(jobs, evidence, ended_s, patience)
        case _:
            assert_never(evidence.printer)


def _judge_absent(evidence: Evidence, patience: Patience) -> Verdict | None:
    asked_s = (
        -1.0
        if evidence.ended_at is None or evidence.printer_at is None
        else (evidence.printer_at - evidence.ended_at).total_seconds()
    )
    # CUPS calls a job cancelled while our backend lets the real one end what it has begun to send.
    over = evidence.cups in _ENDED_CLEANLY and evidence.cups is not CupsWord.CANCELED
    wait_s = patience.absent_s if over else patience.orphan_s
    # The answer must come so late that it was asked after CUPS had ended: an older one may have been on its way.
    if asked_s < wait_s:
        return None
    never_sent = evidence.cups in (CupsWord.CANCELED, CupsWord.ABORTED)
    if never_sent and evidence.unbroken and not evidence.ever_heard:
        return Verdict("failed", "never-sent", "printer", 0)
    return Verdict("uncertain", "witness-empty", "printer")


def _judge_heard(
    jobs: tuple[PrinterJob, ...], evidence: Evidence, ended_s: float, patience: Patience
) -> Verdict | None:
    printed = [job for job in jobs if job.state == _COMPLETED and job.impressions != 0]
    if printed:
        counted = [job.impressions for job in printed if job.impressions is not None]
        reason = "printed-more-than-once" if len(printed) > 1 else ""
        return Verdict("printed", reason, "printer", sum(counted) if counted else None)
    if any(job.state < _CANCELED for job in jobs):
        return None  # at work, or waiting for paper: for as long as it takes
    no_page = all(job.state == _ABORTED and job.impressions == 0 for job in jobs)
    if no_page and evidence.cups in _ENDED_CLEANLY:
        return Verdict("failed", "aborted-by-printer", "printer", 0)
    # A cancelled page was seen to come out all the same. While CUPS is at it, it may also send the job once more.
    if ended_s >= (patience.absent_s if evidence.cups in _ENDED_CLEANLY else patience.orphan_s):
        counted = [job.impressions for job in jobs if job.impressions is not None]
        ended = {_CANCELED: "canceled-at-printer", _ABORTED: "aborted-by-printer", _COMPLETED: "no-impressions"}
        return Verdict("uncertain", ended.get(jobs[0].state, "witness"), "printer", sum(counted) if counted else None)
    return None
