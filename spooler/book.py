"""The agent's book of commands: `commands.db` beside the journal, fsynced before a command is begun.

A command is done once: the book is asked by its id, whatever the service sends again. One that was begun and has no
outcome when the agent starts was cut off: `unknown`, unless doing it again does no harm. The queues' settings are kept
here too, so that a site without a line prints as the centre last said. Losing the file loses no job.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from printsvc.errors import StoreError
from spooler.protocol import Command, CommandResult, SiteSettings

KEEP_FOR = timedelta(days=30)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
  command_id TEXT PRIMARY KEY, begun_at TEXT NOT NULL, command TEXT NOT NULL, result TEXT, told INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS settings (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL);
"""


class BookUnwritableError(StoreError):
    """Nothing was stored: a command must not be begun."""

    code = "book_unwritable"


class Book:
    """All calls block (fsync) and may come from one thread at a time."""

    def __init__(self, directory: Path) -> None:
        """Open or make the book. Raises BookUnwritableError."""
        path = directory / "commands.db"
        try:
            try:
                self._connection = _open(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                # Damaged. No job is in it: it is laid aside, for whoever wants to look, and printing goes on.
                for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        path.with_name(name).replace(path.with_name(f"{name}.damaged"))
                self._connection = _open(path)
        except (sqlite3.Error, OSError) as error:
            raise _unwritable(error) from error

    def close(self) -> None:
        self._connection.close()

    def begin(self, command: Command, now: datetime) -> bool:
        """Write down that the command is begun; False where it was already. Raises BookUnwritableError."""
        row = (command.command_id, now.isoformat(), command.model_dump_json())
        try:
            cursor = self._connection.execute("INSERT OR IGNORE INTO commands VALUES (?, ?, ?, NULL, 0)", row)
            self._connection.execute(
                "DELETE FROM commands WHERE told = 1 AND begun_at < ?", ((now - KEEP_FOR).isoformat(),)
            )
        except sqlite3.Error as error:
            raise _unwritable(error) from error
        return cursor.rowcount == 1

    def end(self, result: CommandResult) -> None:
        """Write down what came of a command. Raises BookUnwritableError."""
        try:
            self._connection.execute(
                "UPDATE commands SET result = ? WHERE command_id = ? AND result IS NULL",
                (result.model_dump_json(), result.command_id),
            )
        except sqlite3.Error as error:
            raise _unwritable(error) from error

    def cut_off(self) -> list[Command]:
        """Return the commands that were begun and have no outcome, the oldest first."""
        rows = self._connection.execute("SELECT command FROM commands WHERE result IS NULL ORDER BY rowid")
        return [Command.model_validate_json(body) for (body,) in rows]

    def untold(self, limit: int = 20) -> tuple[CommandResult, ...]:
        """Return the outcomes that the service has not acknowledged."""
        query = "SELECT result FROM commands WHERE result IS NOT NULL AND told = 0 ORDER BY rowid LIMIT ?"
        return tuple(CommandResult.model_validate_json(body) for (body,) in self._connection.execute(query, (limit,)))

    def told(self, command_ids: Iterable[str]) -> None:
        """The service has these outcomes."""
        try:
            self._connection.executemany(
                "UPDATE commands SET told = 1 WHERE command_id = ?", [(command_id,) for command_id in command_ids]
            )
        except sqlite3.Error as error:
            raise _unwritable(error) from error

    def settings(self) -> SiteSettings:
        row = self._connection.execute("SELECT body FROM settings").fetchone()
        return SiteSettings.model_validate_json(row[0]) if row else SiteSettings(version="")

    def keep_settings(self, settings: SiteSettings) -> None:
        try:
            self._connection.execute("INSERT OR REPLACE INTO settings VALUES (1, ?)", (settings.model_dump_json(),))
        except sqlite3.Error as error:
            raise _unwritable(error) from error


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        connection.execute("SELECT count(*) FROM commands WHERE result IS NULL").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _unwritable(error: Exception) -> BookUnwritableError:
    return BookUnwritableError(
        f"The book of commands could not be written ({type(error).__name__}): the command was not begun.",
        vi="Không ghi được sổ lệnh: chưa thực hiện.",
    )
