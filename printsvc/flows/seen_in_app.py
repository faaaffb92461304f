"""The other half of the clock: the dose shows in the person's app."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from printsvc.errors import InputError, NotFoundError, Problem, StateError
from printsvc.flows.services import Services
from printsvc.store import doses as dose_store
from printsvc.store import papers as paper_store

CLOCK_SKEW = timedelta(minutes=5)


async def mark_seen_in_app(
    services: Services,
    dose_id: str,
    *,
    seen_at: datetime | None,
    actor: str,
    source: str | None = None,
    site_id: str | None = None,
) -> tuple[datetime, bool]:
    """Remember that a dose was seen in the app; return when it was first, and whether this is news.

    Raises NotFoundError, also for a dose of another source or site; StateError for one that is held: it has no
    certificate to be seen; InputError for a moment in the future, or before the injection.
    """
    now = services.clock()

    def store(connection: Connection) -> tuple[datetime, bool]:
        dose = dose_store.find_dose(connection, dose_id, source=source)
        if dose is None or site_id not in (None, dose.event.site_id):
            raise NotFoundError("There is no such dose.", vi="Không có mũi tiêm này.")
        if dose.certificate is None:
            raise StateError(
                "This dose is held: it has no certificate that an app could show.",
                vi="Mũi tiêm này đang chờ xử lý, chưa có giấy chứng nhận để hiển thị.",
                code="dose_held",
            )
        at = seen_at or now
        if not dose.event.dose.injected_at <= at <= now + CLOCK_SKEW:
            raise InputError(
                [
                    Problem(
                        "/seen_at",
                        "out_of_range",
                        "Thời điểm phải sau khi tiêm và không ở tương lai.",
                        "The moment must be after the injection and not in the future.",
                    )
                ]
            )
        if paper_store.insert_sighting(connection, dose.dose_pk, seen_at=at, now=now, told_by=actor[:64]):
            return at, True
        known = paper_store.find_sighting(connection, dose.dose_pk)
        return known or at, False

    return await services.store.write(store)
