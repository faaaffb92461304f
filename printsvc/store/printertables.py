"""The tables of printers' commands, settings and routes; see tables.py."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text
from sqlalchemy.types import JSON

from printsvc.store.tables import Serial, metadata
from printsvc.store.times import UtcTime

printer_commands = Table(
    "printer_commands",
    metadata,
    Column("command_id", String(64), primary_key=True),
    Column("site_id", String(64), ForeignKey("sites.site_id"), nullable=False),
    Column("agent_id", String(32), nullable=True),
    Column("verb", String(16), nullable=False),
    Column("queue", String(128), nullable=False),
    Column("job_id", String(32), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("asked_by", String(64), nullable=False),
    Column("asked_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("en", Text, nullable=False),
    Column("vi", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("given_at", UtcTime, nullable=True),
    Column("ended_at", UtcTime, nullable=True),
)
Index("ix_printer_commands_site_id_asked_at", printer_commands.c.site_id, printer_commands.c.asked_at)
Index("ix_printer_commands_job_id", printer_commands.c.job_id)
# A lease looks here each time: only what is under way is in it.
Index(
    "ix_printer_commands_open",
    printer_commands.c.site_id,
    sqlite_where=printer_commands.c.ended_at.is_(None),
    postgresql_where=printer_commands.c.ended_at.is_(None),
)

printer_settings = Table(
    "printer_settings",
    metadata,
    Column("site_id", String(64), ForeignKey("sites.site_id"), primary_key=True),
    Column("queue", String(128), primary_key=True),
    Column("pool", String(64), nullable=False),
    Column("media", JSON, nullable=False),
    Column("dpi", Integer, nullable=False),
    Column("pull_back", Integer, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("changed_by", String(64), nullable=False),
)

job_wishes = Table(
    "job_wishes",
    metadata,
    Column("job_id", String(32), ForeignKey("print_jobs.job_id"), primary_key=True),
    Column("asked", String(160), nullable=False),
    Column("kept", Boolean, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("changed_by", String(64), nullable=False),
)

job_routes = Table(
    "job_routes",
    metadata,
    Column("route_pk", Serial, primary_key=True, autoincrement=True),
    Column("job_id", String(32), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("agent_id", String(32), nullable=False),
    Column("attempt_id", String(96), nullable=False),
    Column("queue", String(128), nullable=False),
    Column("en", Text, nullable=False),
    Column("vi", Text, nullable=False),
)
Index("ix_job_routes_job_id", job_routes.c.job_id)
