"""Papers: what the printer said of each, the clock, scan-back, requests for copies, seen in the app"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_CLIMBING = sa.text("next_climb_at IS NOT NULL")
_TIMES = ("printer_said_at", "clock_from", "next_climb_at")


def upgrade() -> None:
    op.add_column("print_jobs", sa.Column("impressions", sa.Integer(), nullable=True))
    op.add_column("print_jobs", sa.Column("printer_said", sa.String(length=64), nullable=True))
    for name in _TIMES:
        op.add_column("print_jobs", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("job_events", sa.Column("printer_said", sa.String(length=64), nullable=True))
    op.add_column("job_events", sa.Column("printer_said_at", sa.BigInteger(), nullable=True))
    op.add_column("api_tokens", sa.Column("province", sa.String(length=3), nullable=True))
    # What is open now climbs too, from when it was wanted; ten minutes are the first step.
    op.execute(
        "UPDATE print_jobs SET clock_from = created_at, next_climb_at = created_at + 600000000"
        " WHERE state IN ('waiting', 'leased', 'sent', 'uncertain', 'failed')"
    )
    op.create_index(
        "ix_print_jobs_next_climb_at",
        "print_jobs",
        ["next_climb_at"],
        unique=False,
        sqlite_where=_CLIMBING,
        postgresql_where=_CLIMBING,
    )
    op.create_index("ix_print_jobs_site_created", "print_jobs", ["site_id", "created_at"], unique=False)
    op.create_table(
        "job_climbs",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("climbed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["print_jobs.job_id"], name=op.f("fk_job_climbs_job_id")),
        sa.PrimaryKeyConstraint("job_id", "step", name=op.f("pk_job_climbs")),
    )
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "paper_scans",
        sa.Column("scan_pk", serial, autoincrement=True, nullable=False),
        sa.Column("site_id", sa.String(length=64), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("uvci", sa.String(length=80), nullable=True),
        sa.Column("job_id", sa.String(length=32), nullable=True),
        sa.Column("expected_job_id", sa.String(length=32), nullable=True),
        sa.Column("copy_number", sa.Integer(), nullable=True),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("scan_pk", name=op.f("pk_paper_scans")),
    )
    op.create_index("ix_paper_scans_job_id", "paper_scans", ["job_id"], unique=False)
    op.create_index("ix_paper_scans_site_id_at", "paper_scans", ["site_id", "at"], unique=False)
    op.create_table(
        "copy_requests",
        sa.Column("asked_by", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("uvci", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["print_jobs.job_id"], name=op.f("fk_copy_requests_job_id")),
        sa.PrimaryKeyConstraint("asked_by", "request_id", name=op.f("pk_copy_requests")),
    )
    op.create_table(
        "app_sightings",
        sa.Column("dose_pk", serial, autoincrement=False, nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("told_by", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["dose_pk"], ["doses.dose_pk"], name=op.f("fk_app_sightings_dose_pk")),
        sa.PrimaryKeyConstraint("dose_pk", name=op.f("pk_app_sightings")),
    )


def downgrade() -> None:
    for name in ("app_sightings", "copy_requests", "paper_scans", "job_climbs"):
        op.drop_table(name)
    op.drop_index("ix_print_jobs_site_created", table_name="print_jobs")
    op.drop_index("ix_print_jobs_next_climb_at", table_name="print_jobs")
    with op.batch_alter_table("api_tokens", schema=None) as batch_op:
        batch_op.drop_column("province")
    with op.batch_alter_table("job_events", schema=None) as batch_op:
        batch_op.drop_column("printer_said_at")
        batch_op.drop_column("printer_said")
    with op.batch_alter_table("print_jobs", schema=None) as batch_op:
        for name in (*_TIMES, "printer_said", "impressions"):
            batch_op.drop_column(name)
