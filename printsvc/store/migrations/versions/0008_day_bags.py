"""Day bags: what a site without a line may issue, and what it brought home"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SIGNING = sa.text("state = 'signing'")
_SIGNING_HERE = sa.text("state = 'signing' AND role != 'delegate'")
_CONFLICT = sa.text("outcome = 'conflict' AND settled_at IS NULL")
_WAITING = sa.text("identity = 'waiting'")


def _signing_index(where: sa.TextClause) -> None:
    op.drop_index("uq_signers_signing", table_name="signers")
    op.create_index("uq_signers_signing", "signers", ["role"], unique=True, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    _signing_index(_SIGNING_HERE)
    op.create_table(
        "day_bags",
        sa.Column("bag_id", sa.String(length=24), nullable=False),
        sa.Column("site_id", sa.String(length=64), nullable=False),
        sa.Column("doses", sa.Integer(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.Column("granted_by", sa.String(length=64), nullable=False),
        sa.Column("grant_expires_at", sa.BigInteger(), nullable=False),
        sa.Column("uvci_country", sa.String(length=2), nullable=False),
        sa.Column("uvci_prefix", sa.LargeBinary(), nullable=False),
        sa.Column("uvci_secret", sa.LargeBinary(), nullable=False),
        sa.Column("agent_id", sa.String(length=32), nullable=True),
        sa.Column("journal_id", sa.String(length=64), nullable=True),
        sa.Column("request", sa.LargeBinary(), nullable=True),
        sa.Column("thumbprint", sa.String(length=64), nullable=True),
        sa.Column("taken_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.site_id"], name=op.f("fk_day_bags_site_id")),
        sa.PrimaryKeyConstraint("bag_id", name=op.f("pk_day_bags")),
        sa.UniqueConstraint("thumbprint", name=op.f("uq_day_bags_thumbprint")),
        sa.UniqueConstraint("uvci_prefix", name=op.f("uq_day_bags_uvci_prefix")),
    )
    op.create_index("ix_day_bags_site_id", "day_bags", ["site_id", "granted_at"], unique=False)
    op.create_table(
        "day_bag_entries",
        sa.Column("bag_id", sa.String(length=24), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("site_id", sa.String(length=64), nullable=False),
        sa.Column("dose_id", sa.String(length=128), nullable=False),
        sa.Column("uvci", sa.String(length=80), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=True),
        sa.Column("brought_at", sa.BigInteger(), nullable=False),
        sa.Column("identity", sa.String(length=16), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_by", sa.String(length=64), nullable=False),
        sa.Column("settlement", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["bag_id"], ["day_bags.bag_id"], name=op.f("fk_day_bag_entries_bag_id")),
        sa.PrimaryKeyConstraint("bag_id", "seq", name=op.f("pk_day_bag_entries")),
    )
    op.create_index(
        "ix_day_bag_entries_conflicts",
        "day_bag_entries",
        ["site_id", "brought_at"],
        unique=False,
        sqlite_where=_CONFLICT,
        postgresql_where=_CONFLICT,
    )
    op.create_index(
        "ix_day_bag_entries_identity",
        "day_bag_entries",
        ["brought_at"],
        unique=False,
        sqlite_where=_WAITING,
        postgresql_where=_WAITING,
    )
    op.create_index("ix_day_bag_entries_uvci", "day_bag_entries", ["uvci"], unique=False)


def downgrade() -> None:
    op.drop_table("day_bag_entries")
    op.drop_table("day_bags")
    op.execute("DELETE FROM signers WHERE role = 'delegate'")
    _signing_index(_SIGNING)
