"""Revocations: what is revoked, the runs that revoke many, the snapshots for verifiers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revocation_runs",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("asked_by", sa.String(length=64), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_revocation_runs")),
    )
    op.create_table(
        "revocation_snapshots",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("bucket_bits", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("delta", sa.LargeBinary(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_revocation_snapshots")),
    )
    op.create_table(
        "revocation_items",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("uvci", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.String(length=24), nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["revocation_runs.run_id"], name=op.f("fk_revocation_items_run_id")),
        sa.ForeignKeyConstraint(["uvci"], ["certificates.uvci"], name=op.f("fk_revocation_items_uvci")),
        sa.PrimaryKeyConstraint("run_id", "line", name=op.f("pk_revocation_items")),
    )
    with op.batch_alter_table("revocation_items", schema=None) as batch_op:
        batch_op.create_index(
            "ix_revocation_items_open",
            ["run_id", "line"],
            unique=False,
            sqlite_where=sa.text("outcome = ''"),
            postgresql_where=sa.text("outcome = ''"),
        )

    op.create_table(
        "revocations",
        sa.Column(
            "revocation_pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uvci", sa.String(length=80), nullable=False),
        sa.Column("kid", sa.String(length=16), nullable=False),
        sa.Column("uci_hash", sa.LargeBinary(), nullable=False),
        sa.Column("country_uci_hash", sa.LargeBinary(), nullable=False),
        sa.Column("signature_hash", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.String(length=24), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_by", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("undone_at", sa.BigInteger(), nullable=True),
        sa.Column("undone_by", sa.String(length=64), nullable=False),
        sa.Column("undo_reason", sa.String(length=24), nullable=False),
        sa.ForeignKeyConstraint(["uvci"], ["certificates.uvci"], name=op.f("fk_revocations_uvci")),
        sa.PrimaryKeyConstraint("revocation_pk", name=op.f("pk_revocations")),
        sa.UniqueConstraint("change", name=op.f("uq_revocations_change")),
        sa.UniqueConstraint("request_id", name=op.f("uq_revocations_request_id")),
    )
    with op.batch_alter_table("revocations", schema=None) as batch_op:
        batch_op.create_index(
            "ix_revocations_current_country_uci_hash",
            ["country_uci_hash"],
            unique=False,
            sqlite_where=sa.text("undone_at IS NULL"),
            postgresql_where=sa.text("undone_at IS NULL"),
        )
        batch_op.create_index(
            "ix_revocations_current_signature_hash",
            ["signature_hash"],
            unique=False,
            sqlite_where=sa.text("undone_at IS NULL"),
            postgresql_where=sa.text("undone_at IS NULL"),
        )
        batch_op.create_index(
            "ix_revocations_current_uci_hash",
            ["uci_hash"],
            unique=False,
            sqlite_where=sa.text("undone_at IS NULL"),
            postgresql_where=sa.text("undone_at IS NULL"),
        )
        batch_op.create_index(
            "ix_revocations_current_uvci",
            ["uvci"],
            unique=True,
            sqlite_where=sa.text("undone_at IS NULL"),
            postgresql_where=sa.text("undone_at IS NULL"),
        )
        batch_op.create_index("ix_revocations_kid_revocation_pk", ["kid", "revocation_pk"], unique=False)
        batch_op.create_index("ix_revocations_uvci", ["uvci"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("revocations", schema=None) as batch_op:
        batch_op.drop_index("ix_revocations_uvci")
        batch_op.drop_index("ix_revocations_kid_revocation_pk")
        batch_op.drop_index(
            "ix_revocations_current_uvci",
            sqlite_where=sa.text("undone_at IS NULL"),
            postgresql_where=sa.text("undone_at IS NULL"),
        )
        batch_op.drop_index(
            "ix_revocations_current_uci_hash",
            sqlite_where=sa.text("undone_at IS NULL"),
            postgresql_where=sa.text("undone_at IS NULL"),
        )
        batch_op.drop_index(
            "ix_revocations_current_signature_hash",
            sqlite_where=sa.text("undone_at IS NULL"),
            postgresql_where=sa.text("undone_at IS NULL"),
        )
        batch_op.drop_index(
            "ix_revocations_current_country_uci_hash",
            sqlite_where=sa.text("undone_at IS NULL"),
            postgresql_where=sa.text("undone_at IS NULL"),
        )

    op.drop_table("revocations")
    with op.batch_alter_table("revocation_items", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_revocation_items_open", sqlite_where=sa.text("outcome = ''"), postgresql_where=sa.text("outcome = ''")
        )

    op.drop_table("revocation_items")
    op.drop_table("revocation_snapshots")
    op.drop_table("revocation_runs")
