"""The file of a site's book: made, opened, and written in transactions that are fsynced before anything is printed.

Layout, in the state directory of the agent::

    daybag/book.db           the tables below
    daybag/<bag>-<n>.zip     day bags as they came
    daybag/agent.secret      32 random bytes: with the passphrase it opens the signing key; never leaves this machine
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from printsvc.errors import StateError, StoreError

_APPLICATION_ID = 0x50534442  # "PSDB"
_SCHEMA_VERSION = 1
_ADDED = {  # later than the first books; an older agent does not mind them
    "bags": {"refused": "TEXT NOT NULL DEFAULT ''", "refused_en": "TEXT NOT NULL DEFAULT ''",
             "refused_vi": "TEXT NOT NULL DEFAULT ''", "size": "INTEGER"},
    "entries": {"told_before": "INTEGER NOT NULL DEFAULT 0", "module_um": "INTEGER NOT NULL DEFAULT 0"},
}  # fmt: skip
_SCHEMA = """
CREATE TABLE keys (request BLOB PRIMARY KEY, sealed BLOB NOT NULL, made_at TEXT NOT NULL, bag_id TEXT UNIQUE);
CREATE TABLE pins (csca BLOB PRIMARY KEY);
CREATE TABLE bags (
  bag_id TEXT PRIMARY KEY, request BLOB NOT NULL REFERENCES keys, file TEXT NOT NULL, taken_at TEXT NOT NULL,
  expires_at TEXT NOT NULL
);
CREATE TABLE entries (
  bag_id TEXT NOT NULL REFERENCES bags, seq INTEGER NOT NULL, dose_id TEXT NOT NULL, event TEXT NOT NULL,
  outcome TEXT NOT NULL, reasons TEXT NOT NULL, number INTEGER, uvci TEXT NOT NULL, hcert TEXT NOT NULL,
  job_id TEXT NOT NULL, form TEXT NOT NULL, media TEXT NOT NULL, paper TEXT NOT NULL, paper_reason TEXT NOT NULL,
  document BLOB, sha256 TEXT NOT NULL, size INTEGER NOT NULL, entered_at TEXT NOT NULL,
  handed INTEGER NOT NULL DEFAULT 0, brought INTEGER NOT NULL DEFAULT 0, said TEXT NOT NULL DEFAULT '',
  said_reason TEXT NOT NULL DEFAULT '', said_detail TEXT NOT NULL DEFAULT '',
  copy_number INTEGER NOT NULL DEFAULT 1, copy_reason TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (bag_id, seq), UNIQUE (bag_id, number), UNIQUE (dose_id, copy_number)
);
CREATE INDEX entries_open ON entries (bag_id, seq) WHERE brought = 0;
"""


class BookUnwritableError(StoreError):
    """Nothing was stored: no room, or a failing disk."""

    code = "book_unwritable"


class BookFile:
    """One open file. All calls block (fsync); several processes may have it open."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self._directory = directory
        self._connection = connection

    @classmethod
    def open(cls, state_dir: Path) -> Self:
        """Open or make the book of this agent. Raises BookUnwritableError, StateError for what is no book."""
        directory = state_dir / "daybag"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = sqlite3.connect(
                directory / "book.db", isolation_level=None, check_same_thread=False, timeout=10
            )
        except (OSError, sqlite3.OperationalError) as error:
            raise full(error) from error
        try:
            _prepare(connection)
            (directory / "book.db").chmod(0o600)
        except sqlite3.OperationalError as error:
            connection.close()
            raise full(error) from error
        except sqlite3.DatabaseError as error:
            connection.close()
            raise damaged(error) from error
        return cls(directory, connection)

    @classmethod
    def exists(cls, state_dir: Path) -> bool:
        return (state_dir / "daybag" / "book.db").exists()

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, durable when it ends; what is read in it stays true until then.

        Raises BookUnwritableError, StateError where the file is damaged: then nothing was written.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise full(error) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise damaged(error) from error

    def _read(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, arguments).fetchall()
        except sqlite3.OperationalError as error:
            raise full(error) from error
        except sqlite3.DatabaseError as error:
            raise damaged(error) from error


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("BEGIN IMMEDIATE")
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        elif application_id != _APPLICATION_ID or version > _SCHEMA_VERSION:
            raise StateError(
                "This is not the book of a day bag, or a newer agent wrote it.",
                vi="Đây không phải sổ gói ngày, hoặc thuộc phiên bản mới hơn.",
                code="book_damaged",
            )
        for table, columns in _ADDED.items():
            there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for name in columns.keys() - there:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def damaged(error: Exception) -> StateError:
    """Return the error of a file that cannot be read as a book."""
    return StateError(
        f"The book of the day bag is damaged ({error}): keep the file, and tell the centre.",
        vi="Sổ của gói ngày bị hỏng: hãy giữ lại tệp và báo cho trung tâm.",
        code="book_damaged",
    )


def full(error: Exception) -> BookUnwritableError:
    """Return the error of what could not be written."""
    return BookUnwritableError(
        f"The book could not be written ({error}): nothing was issued.",
        vi="Không ghi được sổ: chưa cấp giấy nào. Hãy kiểm tra dung lượng ổ đĩa.",
    )
