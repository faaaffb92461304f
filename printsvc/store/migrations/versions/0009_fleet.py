"""The fleet's health: alerts, the protocol that an agent speaks, an index over the papers that are not at their end"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_IS_OPEN = sa.text("state IN ('failed', 'leased', 'sent', 'uncertain', 'waiting')")
_UNRESOLVED = sa.text("resolved_at IS NULL")


def upgrade() -> None:
    op.add_column("agents", sa.Column("protocol", sa.Integer(), nullable=True))
    op.create_index(
        "ix_print_jobs_open",
        "print_jobs",
        ["site_id", "state", "created_at", "changed_at"],
        unique=False,
        sqlite_where=_IS_OPEN,
        postgresql_where=_IS_OPEN,
    )
    op.create_table(
        "alerts",
        sa.Column("alert_pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("site_id", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=32), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("fired_at", sa.BigInteger(), nullable=True),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("alert_pk", name=op.f("pk_alerts")),
    )
    op.create_index(
        "uq_alerts_open",
        "alerts",
        ["rule", "site_id", "subject"],
        unique=True,
        sqlite_where=_UNRESOLVED,
        postgresql_where=_UNRESOLVED,
    )
    op.create_index("ix_alerts_resolved_at", "alerts", ["resolved_at"], unique=False)
    op.create_table(
        "alert_looks",
        sa.Column("alert_look_pk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alert_look_pk", name=op.f("pk_alert_looks")),
    )


def downgrade() -> None:
    op.drop_table("alert_looks")
    op.drop_index("ix_alerts_resolved_at", table_name="alerts")
    op.drop_index("uq_alerts_open", table_name="alerts")
    op.drop_table("alerts")
    op.drop_index("ix_print_jobs_open", table_name="print_jobs")
    with op.batch_alter_table("agents", schema=None) as batch_op:
        batch_op.drop_column("protocol")
