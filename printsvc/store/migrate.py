"""Bringing a database to this version's tables."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from printsvc.errors import StoreError
from printsvc.store import fleet_tables, paper_tables  # noqa: F401  their tables are among the metadata
from printsvc.store.engine import Store

_FOLDER = Path(__file__).parent / "migrations"
_ONE_AT_A_TIME = 0x7072696E74  # PostgreSQL's advisory lock: processes that start together upgrade one after the other


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    """Return the revision that this code was written for."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current_revision(connection: Connection) -> str:
    """Return the database's revision; empty for a new database."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def upgrade(store: Store) -> str:
    """Bring the store to the newest revision and return it; does nothing when it is there already.

    Raises StoreError for a database that a newer version has upgraded.
    """

    def run(connection: Connection) -> str:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
        found = current_revision(connection)
        if found != newest_revision():
            try:
                command.upgrade(_config(connection), "head")
            except CommandError as error:
                raise _wrong_revision(found) from error
        return current_revision(connection)

    return store.submit(run).result()


def check(store: Store) -> None:
    """Raise StoreError where the database is not at this code's revision."""
    found = store.read_now(current_revision)
    if found != newest_revision():
        raise _wrong_revision(found)


def _wrong_revision(found: str) -> StoreError:
    return StoreError(
        f"The database is at revision {found or 'none'}, this version needs {newest_revision()}: "
        "run printsvc migrate, of the newest version that was ever used here.",
        vi="Cơ sở dữ liệu chưa đúng phiên bản: hãy chạy printsvc migrate của phiên bản mới nhất từng dùng.",
    )
