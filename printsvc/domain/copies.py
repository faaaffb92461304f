"""The limit of further papers of a certificate, for a site with a line and for one without. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from printsvc.errors import StateError


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """`per_certificate` further papers of one certificate, whoever asked for them; `per_day` a site, None: any."""

    per_certificate: int
    per_day: int | None = None


SITE_COPIES = CopyLimits(2, 50)
ADMIN_COPIES = CopyLimits(10)
"""What they print by themselves, where nothing else is set."""


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
