"""Letting jobs climb whose paper does not come: each step once, whoever is first to see that it is due."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from printsvc.domain.print_job import OPEN
from printsvc.flows.services import Services
from printsvc.printing.clock import STEPS, PaperClock
from printsvc.printing.clock import climb as one_higher
from printsvc.store import papers as paper_store

BATCH = 500


def climb_due(
    connection: Connection, *, clock: PaperClock, now: datetime, site_id: str | None = None, limit: int = BATCH
) -> int:
    """Take every step that is due by `now`, of a site's jobs or of all; return how many jobs were looked at.

    Steps that nobody was there to take are taken together. A job whose paper is out, or not wanted any more, climbs no
    further; it is looked at once more and then left alone.
    """
    jobs = paper_store.lock_climbing(connection, now=now, site_id=site_id, limit=limit)
    for job in jobs:
        if job.state not in OPEN:
            paper_store.set_climbing(connection, job.job_id, priority=job.priority, next_climb_at=None)
            continue
        started_at, priority = job.clock_from or job.created_at, job.priority
        for step in STEPS:
            due_at = clock.moment_of(step, started_at)
            if due_at > now:
                break
            higher = one_higher(priority, job.reason)
            if paper_store.insert_climb(connection, job.job_id, step, priority=higher, due_at=due_at, now=now):
                priority = higher
        following = clock.next_moment(started_at, now)
        paper_store.set_climbing(connection, job.job_id, priority=priority, next_climb_at=following)
    return len(jobs)


async def climb_all(services: Services) -> int:
    """Take every step that is due, of all sites; return how many jobs were looked at."""

    def climb(connection: Connection) -> int:
        return climb_due(connection, clock=services.paper_clock, now=services.clock())

    looked_at = 0
    while True:
        found = await services.store.write(climb)
        looked_at += found
        if found < BATCH:
            return looked_at
