"""The books of a chaos run held against the ground truth. Pure.

The truth is how many sheets came out of the printers for each print job, by the printers' own logs. A print job is one
paper that was asked for: a second sheet of the same job is one that nobody asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from printsvc.domain.print_job import NEEDS_A_PERSON, ON_PAPER, JobState


@dataclass(frozen=True, slots=True)
class BookedJob:
    """A print job as the service tells it."""

    job_id: str
    uvci: str
    site_id: str
    state: JobState
    reason: str


@dataclass(frozen=True, slots=True)
class PostedDose:
    """A dose and the last answer to it. `uvci` is empty where none was issued; one that is held is on the worklist."""

    dose_id: str
    site_id: str
    uvci: str = ""
    held: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """What was found. The lists name print jobs (or doses) once for each sheet that is too many or missing."""

    papers_true: int
    papers_booked: int
    uncertain: int
    booked_but_absent: tuple[str, ...]
    second_unasked: tuple[str, ...]
    denied_but_present: tuple[str, ...]
    unaccounted: tuple[str, ...]
    on_lists: Mapping[str, int] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """True when books and truth say the same and no dose is forgotten."""
        return not (self.booked_but_absent or self.second_unasked or self.denied_but_present or self.unaccounted)

    def troubles(self) -> list[str]:
        """Return a line for each thing that is not as it should be."""
        named = (
            ("booked but absent: job", self.booked_but_absent),
            ("a second paper that nobody asked for: job", self.second_unasked),
            ("booked as not printed, but there: job", self.denied_but_present),
            ("neither paper nor on a list: dose", self.unaccounted),
        )
        return [f"{what} {one}" for what, ones in named for one in ones]


def hold_against(doses: Iterable[PostedDose], jobs: Sequence[BookedJob], sheets: Mapping[str, int]) -> Account:
    """Hold doses and print jobs (each certificate's in the order of their copies) against the sheets of each job."""
    of_certificate: dict[str, list[BookedJob]] = {}
    for job in jobs:
        of_certificate.setdefault(job.uvci, []).append(job)
    known = {job.job_id for job in jobs}
    booked = [job for job in jobs if job.state in ON_PAPER]
    second = [job_id for job_id, count in sheets.items() for _ in range(count - (job_id in known))]
    denying = (JobState.FAILED, JobState.CANCELED)
    return Account(
        papers_true=sum(sheets.values()),
        papers_booked=len(booked),
        uncertain=sum(job.state is JobState.UNCERTAIN for job in jobs),
        booked_but_absent=tuple(job.job_id for job in booked if not sheets.get(job.job_id)),
        second_unasked=tuple(second),
        denied_but_present=tuple(job.job_id for job in jobs if job.state in denying and sheets.get(job.job_id)),
        unaccounted=tuple(
            dose.dose_id
            for dose in doses
            if not dose.held and not _stands_somewhere(of_certificate.get(dose.uvci, []), sheets)
        ),
        on_lists=Counter(
            f"{job.state}: {job.reason}"
            for own in of_certificate.values()
            for job in own[-1:]
            if job.state in NEEDS_A_PERSON
        ),
    )


def _stands_somewhere(jobs: Sequence[BookedJob], sheets: Mapping[str, int]) -> bool:
    """Return whether a certificate has a paper in books and truth, or its newest job is on a list with a reason."""
    if any(job.state in ON_PAPER and sheets.get(job.job_id) for job in jobs):
        return True
    return bool(jobs) and jobs[-1].state in NEEDS_A_PERSON and bool(jobs[-1].reason)
