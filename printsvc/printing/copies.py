"""How many further papers of a certificate one may ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from printsvc.domain.print_job import JobState, PrintJob
from printsvc.errors import StateError


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """`per_certificate` further papers of one certificate, whoever asked for them; `per_day` a site, None: any."""

    per_certificate: int
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class CopyRules:
    """The limits of each role."""

    operator: CopyLimits = CopyLimits(2, 50)
    admin: CopyLimits = CopyLimits(10)


def further_copies(jobs: Iterable[PrintJob]) -> int:
    """Return how many papers of one certificate were wanted beyond its first; `jobs` are all of it.

    One that nobody wanted any more before it came out does not count.
    """
    return max(0, sum(job.state is not JobState.CANCELED for job in jobs) - 1)


def refuse_copy(limits: CopyLimits, *, made: int, asked_today: int) -> None:
    """Raise StateError (copy_limit, copy_limit_day) where one more would be too many.

    `made` are the certificate's further copies so far, `asked_today` those that the site asked for today.
    """
    if made >= limits.per_certificate:
        raise StateError(
            f"This certificate has {made} further papers already, and you may ask for {limits.per_certificate}: "
            "an admin can print more.",
            vi=f"Chứng nhận này đã được in thêm {made} lần, giới hạn của bạn là {limits.per_certificate}: "
            "hãy nhờ quản trị viên in thêm.",
            code="copy_limit",
        )
    if limits.per_day is not None and asked_today >= limits.per_day:
        raise StateError(
            f"The site asked for {asked_today} further papers today, and may ask for {limits.per_day} a day: "
            "an admin can print more.",
            vi=f"Hôm nay điểm tiêm đã in thêm {asked_today} bản, giới hạn mỗi ngày là {limits.per_day}: "
            "hãy nhờ quản trị viên in thêm.",
            code="copy_limit_day",
        )
