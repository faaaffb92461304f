"""Counting, straight from the records."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, distinct, func, literal, select, true

from printsvc.domain.print_job import ON_PAPER
from printsvc.store.doses import HELD, REFUSED
from printsvc.store.tables import certificates, doses, print_jobs

# Written into the statement: the index of held doses is partial.
_HELD = literal(HELD, literal_execute=True)


def count(connection: Connection, site_id: str | None = None) -> dict[str, Any]:
    """Return doses, held, certificates, with_paper and papers (jobs by state).

    `certificates` and `with_paper` count doses: one that was issued again, and printed again, is one.
    """
    here: ColumnElement[bool] = doses.c.outcome != REFUSED
    if site_id is not None:
        here = and_(here, doses.c.site_id == site_id)
    jobs_here: ColumnElement[bool] = true() if site_id is None else print_jobs.c.site_id == site_id
    total = connection.execute(select(func.count()).select_from(doses).where(here)).scalar_one()
    held = connection.execute(select(func.count()).select_from(doses).where(and_(here, doses.c.outcome == HELD)))
    issued = connection.execute(
        select(func.count(distinct(certificates.c.dose_pk))).select_from(certificates.join(doses)).where(here)
    )
    on_paper = connection.execute(
        select(func.count(distinct(certificates.c.dose_pk)))
        .select_from(print_jobs.join(certificates))
        .where(jobs_here, print_jobs.c.state.in_(ON_PAPER))
    )
    states = connection.execute(select(print_jobs.c.state, func.count()).where(jobs_here).group_by(print_jobs.c.state))
    return {
        "doses": total,
        "held": held.scalar_one(),
        "certificates": issued.scalar_one(),
        "with_paper": on_paper.scalar_one(),
        "papers": dict(states.all()),
    }


def count_held(connection: Connection, site_id: str) -> int:
    """Return how many doses of a site wait for somebody to look."""
    query = select(func.count()).select_from(doses).where(doses.c.site_id == site_id, doses.c.outcome == _HELD)
    return connection.execute(query).scalar_one()
