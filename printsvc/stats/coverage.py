"""Coverage: of the doses given, how many have a certificate, and how many of these a paper. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from printsvc.domain.print_job import JobState


@dataclass(frozen=True, slots=True)
class Coverage:
    """Counts of one site or of all. "printed" (the printer's word) and "confirmed" (a person's) are two figures.

    `papers` counts jobs by their state; a reprint is a job of its own. `with_paper` counts certificates.
    """

    doses: int
    held: int
    certificates: int
    with_paper: int
    papers: Mapping[str, int]

    @property
    def printed(self) -> int:
        """Papers that the printer says are out, those that a person confirmed among them."""
        return self.papers.get(JobState.PRINTED, 0) + self.papers.get(JobState.CONFIRMED, 0)

    @property
    def confirmed(self) -> int:
        return self.papers.get(JobState.CONFIRMED, 0)

    @property
    def unaccounted(self) -> int:
        """Doses that have neither a certificate nor a place on a worklist: anything but 0 is a fault of ours."""
        return self.doses - self.held - self.certificates

    @property
    def paper_percent(self) -> float | None:
        """Certificates with a paper, in percent of the doses; None where there is no dose. Never rounded up to 100."""
        return 10_000 * self.with_paper // self.doses / 100 if self.doses else None
