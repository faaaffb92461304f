"""Printers: the ledger of commands, settings of queues, wishes for jobs, and why each job went where it went"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.add_column("printers", sa.Column("facts", sa.JSON(), nullable=True))
    op.create_table(
        "printer_commands",
        sa.Column("command_id", sa.String(length=64), nullable=False),
        sa.Column("site_id", sa.String(length=64), nullable=False),
        sa.Column("agent_id", sa.String(length=32), nullable=True),
        sa.Column("verb", sa.String(length=16), nullable=False),
        sa.Column("queue", sa.String(length=128), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("asked_by", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("en", sa.Text(), nullable=False),
        sa.Column("vi", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.site_id"], name=op.f("fk_printer_commands_site_id")),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_printer_commands")),
    )
    op.create_index("ix_printer_commands_site_id_asked_at", "printer_commands", ["site_id", "asked_at"])
    op.create_index("ix_printer_commands_job_id", "printer_commands", ["job_id"])
    op.create_index(
        "ix_printer_commands_open", "printer_commands", ["site_id"], sqlite_where=_OPEN, postgresql_where=_OPEN
    )
    op.create_table(
        "printer_settings",
        sa.Column("site_id", sa.String(length=64), nullable=False),
        sa.Column("queue", sa.String(length=128), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("media", sa.JSON(), nullable=False),
        sa.Column("dpi", sa.Integer(), nullable=False),
        sa.Column("pull_back", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.site_id"], name=op.f("fk_printer_settings_site_id")),
        sa.PrimaryKeyConstraint("site_id", "queue", name=op.f("pk_printer_settings")),
    )
    op.create_table(
        "job_wishes",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("asked", sa.String(length=160), nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["print_jobs.job_id"], name=op.f("fk_job_wishes_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_wishes")),
    )
    op.create_table(
        "job_routes",
        sa.Column("route_pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("agent_id", sa.String(length=32), nullable=False),
        sa.Column("attempt_id", sa.String(length=96), nullable=False),
        sa.Column("queue", sa.String(length=128), nullable=False),
        sa.Column("en", sa.Text(), nullable=False),
        sa.Column("vi", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("route_pk", name=op.f("pk_job_routes")),
    )
    op.create_index("ix_job_routes_job_id", "job_routes", ["job_id"])


def downgrade() -> None:
    op.drop_index("ix_job_routes_job_id", table_name="job_routes")
    op.drop_table("job_routes")
    op.drop_table("job_wishes")
    op.drop_table("printer_settings")
    op.drop_index("ix_printer_commands_open", table_name="printer_commands")
    op.drop_index("ix_printer_commands_job_id", table_name="printer_commands")
    op.drop_index("ix_printer_commands_site_id_asked_at", table_name="printer_commands")
    op.drop_table("printer_commands")
    with op.batch_alter_table("printers", schema=None) as batch_op:
        batch_op.drop_column("facts")
