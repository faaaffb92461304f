"""A signer's life: state, signing period, key store, and a ledger of its changes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_DAY = 86_400_000_000
_SIGNING = sa.text("state = 'signing'")
# The defaults fill the rows that are there; the columns themselves have none.
_ADDED = (
    ("state", sa.String(length=16), "verifying"),
    ("signing_from", sa.BigInteger(), "0"),
    ("signing_until", sa.BigInteger(), "0"),
    ("key_store", sa.String(length=16), "file"),
    ("changed_at", sa.BigInteger(), "0"),
    ("reason", sa.Text(), ""),
)


def upgrade() -> None:
    with op.batch_alter_table("signers", schema=None) as batch_op:
        for name, kind, value in _ADDED:
            batch_op.add_column(sa.Column(name, kind, nullable=False, server_default=value))
    with op.batch_alter_table("signers", schema=None) as batch_op:
        for name, kind, _ in _ADDED:
            batch_op.alter_column(name, existing_type=kind, existing_nullable=False, server_default=None)
    # Until now the signer that is valid longest signed. It goes on, for the half year that it had from the beginning.
    op.execute(
        sa.text(
            "UPDATE signers SET changed_at = created_at, signing_from = not_before,"
            " signing_until = CASE WHEN not_before + :period < not_after THEN not_before + :period ELSE not_after END"
        ).bindparams(period=180 * _DAY)
    )
    op.execute(
        "UPDATE signers SET state = 'signing' WHERE thumbprint = (SELECT thumbprint FROM signers WHERE role = 'dsc'"
        " ORDER BY not_after DESC, thumbprint LIMIT 1)"
    )
    op.create_index(
        "uq_signers_signing", "signers", ["role"], unique=True, sqlite_where=_SIGNING, postgresql_where=_SIGNING
    )
    op.create_table(
        "signers_version",
        sa.Column("signers_version_pk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("signers_version_pk", name=op.f("pk_signers_version")),
    )
    # Lists that were given away had the number of signers for their version: it only grows.
    op.execute(
        "INSERT INTO signers_version (signers_version_pk, version, changed_at)"
        " SELECT 1, COUNT(*), COALESCE(MAX(created_at), 0) FROM signers"
    )
    op.create_table(
        "signer_events",
        sa.Column("event_pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("thumbprint", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("before", sa.String(length=16), nullable=False),
        sa.Column("after", sa.String(length=16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_pk", name=op.f("pk_signer_events")),
    )
    op.create_index("ix_signer_events_thumbprint", "signer_events", ["thumbprint"], unique=False)
    op.create_index("ix_certificates_kid_expires_at", "certificates", ["kid", "expires_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_certificates_kid_expires_at", table_name="certificates")
    op.drop_index("ix_signer_events_thumbprint", table_name="signer_events")
    op.drop_table("signer_events")
    op.drop_table("signers_version")
    op.drop_index("uq_signers_signing", table_name="signers")
    with op.batch_alter_table("signers", schema=None) as batch_op:
        for name, _, _ in reversed(_ADDED):
            batch_op.drop_column(name)
