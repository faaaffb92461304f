"""Trust lists of others, the versions of ours, and the certificates that verifiers fetch one by one"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trust_sources",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("list_format", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("signed_by", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("made_at", sa.BigInteger(), nullable=True),
        sa.Column("imported_at", sa.BigInteger(), nullable=False),
        sa.Column("imported_by", sa.String(length=64), nullable=False),
        sa.Column("skipped", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_trust_sources")),
    )
    op.create_table(
        "trusted_keys",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=True),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("not_after", sa.BigInteger(), nullable=True),
        sa.Column("country", sa.String(length=2), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("usages", sa.JSON(), nullable=False),
        sa.Column("is_anchor", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["trust_sources.source"], name=op.f("fk_trusted_keys_source")),
        sa.PrimaryKeyConstraint("source", "fingerprint", name=op.f("pk_trusted_keys")),
    )
    op.create_table(
        "trust_events",
        sa.Column("event_pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("signed_by", sa.Text(), nullable=False),
        sa.Column("added", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Integer(), nullable=False),
        sa.Column("unchanged", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("event_pk", name=op.f("pk_trust_events")),
    )
    op.create_index("ix_trust_events_source", "trust_events", ["source"])
    op.create_table(
        "trust_lists",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trust_lists")),
    )
    op.create_table(
        "published_certificates",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("thumbprint", sa.String(length=64), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_published_certificates")),
        sa.UniqueConstraint("kid", "thumbprint", name=op.f("uq_published_certificates_kid_thumbprint")),
    )
