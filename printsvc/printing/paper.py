"""Which of a dose's papers counts, and what a scanned paper is. Pure.

A paper's *job* says whether it exists; its *standing* whether it may be handed over. The standing follows from the
books alone, so that no replacement can be forgotten: of all papers that a dose ever had, under whichever certificate,
the newest that is still wanted is current, and every earlier one is replaced by it.

Copies of one certificate have the same QR, to the bit: the HCERT knows nothing of paper. What tells them apart is the
copy number, which every form prints. Where the code alone cannot tell, the ruling is `which_copy` and says which number
must be seen; it never guesses.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from printsvc.domain.print_job import JobEvent, JobState, PrintJob

SPOILT = "spoilt"
"""The word of a person (flows/papers.Seen) by which a paper ends for good, whatever comes after it."""


class PaperState(StrEnum):
    CURRENT = "current"  # the one that counts
    REPLACED = "replaced"  # a later paper counts: this one must not be handed over
    VOID = "void"  # no paper counts in its place: revoked, spoilt, or not wanted any more


@dataclass(frozen=True, slots=True)
class Standing:
    """`replaced_by` is the next paper; `reason` is that paper's, or of one that is void revoked, spoilt or canceled."""

    state: PaperState
    reason: str = ""
    replaced_by: PrintJob | None = None


def standings(family: Sequence[PrintJob], revoked: Collection[str]) -> dict[str, Standing]:
    """Return job_id → standing of the papers of one dose.

    `family` are the jobs of all its certificates, `revoked` the UVCIs of those that are revoked.
    """
    in_order = sorted(family, key=_age)
    found: dict[str, Standing] = {}
    later: PrintJob | None = None
    for job in reversed(in_order):
        found[job.job_id] = _standing(job, later, revoked)
        if job.state is not JobState.CANCELED:
            later = job
    return found


def _standing(job: PrintJob, later: PrintJob | None, revoked: Collection[str]) -> Standing:
    if job.state is JobState.CANCELED:
        return Standing(PaperState.VOID, "canceled")
    if job.uvci in revoked:
        return Standing(PaperState.VOID, "revoked")
    if later is not None:
        return Standing(PaperState.REPLACED, later.reason, later)
    if job.state is JobState.FAILED and job.state_reason == SPOILT:
        return Standing(PaperState.VOID, SPOILT)
    return Standing(PaperState.CURRENT)


def _age(job: PrintJob) -> tuple[int, datetime, str]:
    return job.copy_number, job.created_at, job.job_id


class ScanVerdict(StrEnum):
    """What a scanned paper is. Only the first may be handed over."""

    RIGHT_PAPER = "right_paper"
    WRONG_PERSON = "wrong_person"  # another person's than the one expected
    WRONG_PAPER = "wrong_paper"  # the right person's, of another dose
    OLD_COPY = "old_copy"  # replaced, or spoilt
    WHICH_COPY = "which_copy"  # the code cannot tell: read the printed copy number
    UNKNOWN_COPY = "unknown_copy"  # the books have no paper of that number
    NOT_PRINTED = "not_printed"  # the books have not printed it: a printout of the file, or the agent has yet to say
    REVOKED = "revoked"
    NOT_OURS = "not_ours"
    UNREADABLE = "unreadable"


class Relation(StrEnum):
    """How the scanned certificate stands to the paper that was expected."""

    SAME_DOSE = "same_dose"
    SAME_PERSON = "same_person"
    OTHER_PERSON = "other_person"


@dataclass(frozen=True, slots=True)
class Ruling:
    """`paper` is the one that was scanned, where it is known; `must_see` the copy number of the one that counts.

    `event` is what happens to the scanned paper's job; None: nothing.
    """

    verdict: ScanVerdict
    paper: PrintJob | None = None
    must_see: int | None = None
    event: JobEvent | None = None


_SETTLES = frozenset({JobState.SENT, JobState.PRINTED, JobState.UNCERTAIN, JobState.FAILED})


def judge_scan(
    uvci: str,
    family: Sequence[PrintJob],
    *,
    revoked: Collection[str] = (),
    relation: Relation = Relation.SAME_DOSE,
    copy_number: int | None = None,
) -> Ruling:
    """Return what a paper is whose code is that of the certificate `uvci`, one of the family's.

    `copy_number` is what somebody read on it. A paper that is not the right one settles no job, but that an uncertain
    one is there after all.
    """
    if relation is Relation.OTHER_PERSON:
        return Ruling(ScanVerdict.WRONG_PERSON)
    if relation is Relation.SAME_PERSON:
        return Ruling(ScanVerdict.WRONG_PAPER)
    standing = standings(family, revoked)
    current = next((job for job in family if standing[job.job_id].state is PaperState.CURRENT), None)
    must_see = current.copy_number if current is not None else None
    mine = sorted((job for job in family if job.uvci == uvci), key=_age)
    there = [job for job in mine if may_exist(job)]
    if uvci in revoked:
        return _refused(ScanVerdict.REVOKED, there, copy_number, must_see)
    if copy_number is not None:
        paper = next((job for job in mine if job.copy_number == copy_number), None)
        if paper is None:
            return Ruling(ScanVerdict.UNKNOWN_COPY, must_see=must_see)
    elif not there:
        return Ruling(ScanVerdict.NOT_PRINTED, mine[-1] if mine else None, must_see)
    elif current not in there:
        return _refused(ScanVerdict.OLD_COPY, there, None, must_see)
    elif len(there) > 1:
        return Ruling(ScanVerdict.WHICH_COPY, must_see=must_see)
    else:
        paper = there[0]
    if paper is not current:
        return _refused(ScanVerdict.OLD_COPY, [paper], copy_number, must_see)
    if paper.state in _SETTLES:
        return Ruling(ScanVerdict.RIGHT_PAPER, paper, must_see, JobEvent.SCAN)
    if paper.state is JobState.CONFIRMED:
        return Ruling(ScanVerdict.RIGHT_PAPER, paper, must_see)
    return Ruling(ScanVerdict.NOT_PRINTED, paper, must_see)


def may_exist(job: PrintJob) -> bool:
    """Return whether a paper of this job may be somewhere: all but those that no agent ever had."""
    if job.state is JobState.WAITING:
        return job.holder_agent is not None
    return job.state is not JobState.CANCELED or bool(job.attempt_id)


def _refused(verdict: ScanVerdict, there: Sequence[PrintJob], copy_number: int | None, must_see: int | None) -> Ruling:
    if copy_number is not None:
        there = [job for job in there if job.copy_number == copy_number]
    paper = there[0] if len(there) == 1 else None
    doubted = paper is not None and paper.state is JobState.UNCERTAIN
    return Ruling(verdict, paper, must_see, JobEvent.SCAN if doubted else None)
