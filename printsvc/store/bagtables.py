"""The tables of day bags. Like those of `tables`, every column is named in the migrations too."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    and_,
)
from sqlalchemy.types import JSON

from printsvc.store.tables import metadata, sites
from printsvc.store.times import UtcTime

# A day bag: leave for a site to issue without a line, for so many doses and days; and what was given out on it.
day_bags = Table(
    "day_bags",
    metadata,
    Column("bag_id", String(24), primary_key=True),
    Column("site_id", String(64), ForeignKey(sites.c.site_id), nullable=False),
    Column("doses", Integer, nullable=False),
    Column("days", Integer, nullable=False),
    # Whose doses these are: the source of the dose ids that the site writes down.
    Column("source", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("granted_at", UtcTime, nullable=False),
    Column("granted_by", String(64), nullable=False),
    Column("grant_expires_at", UtcTime, nullable=False),
    # The range of UVCIs; no two begin alike.
    Column("uvci_country", String(2), nullable=False),
    Column("uvci_prefix", LargeBinary, nullable=False, unique=True),
    Column("uvci_secret", LargeBinary, nullable=False),
    # Empty until an agent takes it.
    Column("agent_id", String(32), nullable=True),
    Column("journal_id", String(64), nullable=True),
    Column("request", LargeBinary, nullable=True),
    Column("thumbprint", String(64), nullable=True, unique=True),
    Column("taken_at", UtcTime, nullable=True),
    Column("expires_at", UtcTime, nullable=True),
    Column("ended_at", UtcTime, nullable=True),
    Column("end_reason", Text, nullable=False),
    Column("last_seq", Integer, nullable=False),
)
Index("ix_day_bags_site_id", day_bags.c.site_id, day_bags.c.granted_at)

day_bag_entries = Table(
    "day_bag_entries",
    metadata,
    Column("bag_id", String(24), ForeignKey(day_bags.c.bag_id), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("site_id", String(64), nullable=False),
    Column("dose_id", String(128), nullable=False),
    Column("uvci", String(80), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    # What the site brought, kept for as long as a person has to decide about it.
    Column("body", JSON, nullable=True),
    Column("brought_at", UtcTime, nullable=False),
    # The registry's word on an identity that nobody could check at the site: waiting, confirmed, mismatched.
    Column("identity", String(16), nullable=False),
    Column("settled_at", UtcTime, nullable=True),
    Column("settled_by", String(64), nullable=False),
    Column("settlement", String(16), nullable=False),
)
_OPEN_CONFLICT = and_(day_bag_entries.c.outcome == "conflict", day_bag_entries.c.settled_at.is_(None))
Index(
    "ix_day_bag_entries_conflicts",
    day_bag_entries.c.site_id,
    day_bag_entries.c.brought_at,
    sqlite_where=_OPEN_CONFLICT,
    postgresql_where=_OPEN_CONFLICT,
)
Index(
    "ix_day_bag_entries_identity",
    day_bag_entries.c.brought_at,
    sqlite_where=day_bag_entries.c.identity == "waiting",
    postgresql_where=day_bag_entries.c.identity == "waiting",
)
Index("ix_day_bag_entries_uvci", day_bag_entries.c.uvci)
