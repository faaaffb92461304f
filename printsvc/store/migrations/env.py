"""Alembic's entry: the connection comes from printsvc.store.migrate, never from an ini file."""

from __future__ import annotations

from alembic import context

from printsvc.store import bagtables, fleet_tables, paper_tables, printertables  # noqa: F401  their tables are among the metadata
from printsvc.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
