"""How many further papers of a certificate one may ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from printsvc.domain.copies import ADMIN_COPIES, SITE_COPIES, CopyLimits, refuse_copy
from printsvc.domain.print_job import JobState, PrintJob

__all__ = ["CopyLimits", "CopyRules", "further_copies", "refuse_copy"]


@dataclass(frozen=True, slots=True)
class CopyRules:
    """The limits of each role."""

    operator: CopyLimits = SITE_COPIES
    admin: CopyLimits = ADMIN_COPIES


def further_copies(jobs: Iterable[PrintJob]) -> int:
    """Return how many papers of one certificate were wanted beyond its first; `jobs` are all of it.

    One that nobody wanted any more before it came out does not count.
    """
    return max(0, sum(job.state is not JobState.CANCELED for job in jobs) - 1)
