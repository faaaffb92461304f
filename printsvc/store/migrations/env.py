"""Alembic's entry: the connection comes from printsvc.store.migrate, never from an ini file."""

from __future__ import annotations

from alembic import context

from printsvc.store import paper_tables  # noqa: F401  its tables are among the metadata
import printsvc.store.printertables  # noqa: F401 - they are the same metadata's
from printsvc.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
