"""Re-issue: which certificate replaces which, the runs that re-issue many, a ledger row for each chunk"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OPEN = sa.text("outcome = ''")
_REPLACED = sa.text("superseded_by IS NOT NULL")


def upgrade() -> None:
    op.add_column("certificates", sa.Column("superseded_by", sa.String(length=80), nullable=True))
    op.add_column("certificates", sa.Column("superseded_at", sa.BigInteger(), nullable=True))
    op.create_index(
        "uq_certificates_superseded_by",
        "certificates",
        ["superseded_by"],
        unique=True,
        sqlite_where=_REPLACED,
        postgresql_where=_REPLACED,
    )
    op.create_table(
        "reissue_runs",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("is_printed", sa.Boolean(), nullable=False),
        sa.Column("revokes_old", sa.Boolean(), nullable=False),
        sa.Column("asked_by", sa.String(length=64), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_reissue_runs")),
    )
    op.create_table(
        "reissue_items",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("uvci", sa.String(length=80), nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("new_uvci", sa.String(length=80), nullable=True),
        sa.Column("problem", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["new_uvci"], ["certificates.uvci"], name=op.f("fk_reissue_items_new_uvci")),
        sa.ForeignKeyConstraint(["run_id"], ["reissue_runs.run_id"], name=op.f("fk_reissue_items_run_id")),
        sa.ForeignKeyConstraint(["uvci"], ["certificates.uvci"], name=op.f("fk_reissue_items_uvci")),
        sa.PrimaryKeyConstraint("run_id", "line", name=op.f("pk_reissue_items")),
    )
    op.create_index(
        "ix_reissue_items_open",
        "reissue_items",
        ["run_id", "line"],
        unique=False,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    op.create_table(
        "reissue_chunks",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("first_line", sa.Integer(), nullable=False),
        sa.Column("last_line", sa.Integer(), nullable=False),
        sa.Column("kid", sa.String(length=16), nullable=False),
        sa.Column("issued", sa.Integer(), nullable=False),
        sa.Column("already", sa.Integer(), nullable=False),
        sa.Column("revoked", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("papers", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["reissue_runs.run_id"], name=op.f("fk_reissue_chunks_run_id")),
        sa.PrimaryKeyConstraint("run_id", "chunk", name=op.f("pk_reissue_chunks")),
    )


def downgrade() -> None:
    op.drop_table("reissue_chunks")
    op.drop_index("ix_reissue_items_open", table_name="reissue_items")
    op.drop_table("reissue_items")
    op.drop_table("reissue_runs")
    op.drop_index("uq_certificates_superseded_by", table_name="certificates")
    with op.batch_alter_table("certificates", schema=None) as batch_op:
        batch_op.drop_column("superseded_at")
        batch_op.drop_column("superseded_by")
