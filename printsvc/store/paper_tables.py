"""The tables of what happens to papers after they are wanted: climbing, scanning, asking for more, the app."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table

from printsvc.store.tables import metadata, print_jobs
from printsvc.store.times import UtcTime

_Serial = BigInteger().with_variant(Integer(), "sqlite")

# The ledger of the clock: one row for each step of a job, by its key once and never again.
job_climbs = Table(
    "job_climbs",
    metadata,
    Column("job_id", String(32), ForeignKey("print_jobs.job_id"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("priority", Integer, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("climbed_at", UtcTime, nullable=False),
)
Index(
    "ix_print_jobs_next_climb_at",
    print_jobs.c.next_climb_at,
    sqlite_where=print_jobs.c.next_climb_at.is_not(None),
    postgresql_where=print_jobs.c.next_climb_at.is_not(None),
)
# What a site did lately: the figures of its day, its screen, and how many copies it asked for.
Index("ix_print_jobs_site_created", print_jobs.c.site_id, print_jobs.c.created_at)

# Every scan-back. Nothing of the code itself, and of one that is not ours no word.
paper_scans = Table(
    "paper_scans",
    metadata,
    Column("scan_pk", _Serial, primary_key=True, autoincrement=True),
    Column("site_id", String(64), nullable=True),
    Column("at", UtcTime, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("uvci", String(80), nullable=True),
    Column("job_id", String(32), nullable=True),
    Column("expected_job_id", String(32), nullable=True),
    Column("copy_number", Integer, nullable=True),
    Column("settled", Boolean, nullable=False),
)
Index("ix_paper_scans_job_id", paper_scans.c.job_id)
Index("ix_paper_scans_site_id_at", paper_scans.c.site_id, paper_scans.c.at)

# A request for a further copy that is sent again finds the paper that it made.
copy_requests = Table(
    "copy_requests",
    metadata,
    Column("asked_by", String(64), primary_key=True),
    Column("request_id", String(64), primary_key=True),
    Column("uvci", String(80), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("job_id", String(32), ForeignKey("print_jobs.job_id"), nullable=False),
    Column("asked_at", UtcTime, nullable=False),
)

app_sightings = Table(
    "app_sightings",
    metadata,
    Column("dose_pk", _Serial, ForeignKey("doses.dose_pk"), primary_key=True, autoincrement=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("told_by", String(64), nullable=False),
)
