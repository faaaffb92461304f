"""The tables of the fleet's health: alerts, and who looked last."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table

from printsvc.store.tables import metadata, print_jobs
from printsvc.store.times import UtcTime

_Serial = BigInteger().with_variant(Integer(), "sqlite")

OPEN_STATES = ("failed", "leased", "sent", "uncertain", "waiting")

# What is not at its end, of all sites: some thousands of rows beside a table of all papers.
_IS_OPEN = print_jobs.c.state.in_(OPEN_STATES)
Index(
    "ix_print_jobs_open",
    print_jobs.c.site_id,
    print_jobs.c.state,
    print_jobs.c.created_at,
    print_jobs.c.changed_at,
    sqlite_where=_IS_OPEN,
    postgresql_where=_IS_OPEN,
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_pk", _Serial, primary_key=True, autoincrement=True),
    Column("rule", String(64), nullable=False),
    Column("site_id", String(64), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("value", String(32), nullable=False),
    Column("since_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("fired_at", UtcTime, nullable=True),
    Column("resolved_at", UtcTime, nullable=True),
)
# The database itself refuses a second open alert of the same thing, however many processes look.
Index(
    "uq_alerts_open",
    alerts.c.rule,
    alerts.c.site_id,
    alerts.c.subject,
    unique=True,
    sqlite_where=alerts.c.resolved_at.is_(None),
    postgresql_where=alerts.c.resolved_at.is_(None),
)
Index("ix_alerts_resolved_at", alerts.c.resolved_at)

# One row: when alerts were looked at last, by whichever process.
alert_looks = Table(
    "alert_looks",
    metadata,
    Column("alert_look_pk", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
)
