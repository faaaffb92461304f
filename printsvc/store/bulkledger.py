"""The ledger of a bulk run: one SQLite file in the folder of its papers, apart from the service's database.

A line is in it when all that it brought about is on disk; what is not in it is done again, with the same outcome.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from printsvc.errors import StateError, StoreError

FILE_NAME: Final = "ledger.db"
_FORMAT: Final = 3
_TABLES: Final = """
CREATE TABLE run (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE lines (
    line INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    status TEXT NOT NULL,
    dose_id TEXT NOT NULL,
    site_id TEXT NOT NULL,
    uvci TEXT NOT NULL,
    file TEXT NOT NULL,
    size INTEGER NOT NULL,
    page INTEGER NOT NULL DEFAULT 1,
    way TEXT NOT NULL,
    way_out TEXT NOT NULL,
    reasons TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_answer_a_dose ON lines (dose_id) WHERE status IN ('issued', 'held');
CREATE UNIQUE INDEX one_line_a_uvci ON lines (uvci) WHERE uvci <> '';
CREATE INDEX lines_of_a_site ON lines (site_id, line) WHERE status = 'issued';
"""
# Where single papers are once more, in files to be printed, and of which size these are; files that are being written.
_MERGED: Final = """
CREATE TABLE merged (
    line INTEGER PRIMARY KEY REFERENCES lines (line),
    print_file TEXT NOT NULL,
    print_page INTEGER NOT NULL,
    print_size INTEGER NOT NULL
) STRICT;
CREATE INDEX papers_of_a_print_file ON merged (print_file, print_page);
CREATE TABLE begun (print_file TEXT PRIMARY KEY) STRICT;
"""
_SINCE: Final = {  # what each format has and the one before had not
    2: "ALTER TABLE lines ADD COLUMN page INTEGER NOT NULL DEFAULT 1;",
    3: _MERGED,
}
COLUMNS: Final = "line, body, status, dose_id, site_id, uvci, file, size, page, way, way_out, reasons"

_MOST_VALUES: Final = 500  # of one statement


class BulkLedger:
    """Open for one process: a second one is refused. Raises StoreError where the file is broken or the disk is full."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None, timeout=0)
        except sqlite3.Error as error:
            raise _store_error(error) from error
        try:
            self._execute("PRAGMA locking_mode = EXCLUSIVE")
            self._execute("PRAGMA journal_mode = WAL")
            self._execute("PRAGMA synchronous = NORMAL")
            version = self._execute("PRAGMA user_version").fetchone()[0]
            if version > _FORMAT:
                raise StateError("This folder's ledger is of another version.", vi="Sổ của thư mục này khác phiên bản.")
            if version < _FORMAT:
                news = [_SINCE[one] for one in range(version + 1, _FORMAT + 1)] if version else [_TABLES, _MERGED]
                script = f"BEGIN IMMEDIATE; {' '.join(news)} PRAGMA user_version = {_FORMAT}; COMMIT"
                self._execute(script, script=True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def run(self) -> dict[str, str]:
        """Return what the run was begun with; empty where it has not begun."""
        return dict(self._execute("SELECT name, value FROM run").fetchall())

    def begin(self, values: dict[str, str]) -> None:
        self._all("INSERT INTO run VALUES (?, ?)", values.items())

    def enter(self, rows: Sequence[Sequence[Any]]) -> None:
        """Store rows, all or none of them, in the order of `COLUMNS`."""
        self._all(f"INSERT INTO lines ({COLUMNS}) VALUES ({', '.join('?' * 12)})", rows)  # noqa: S608 - our own words

    def replace(self, rows: Sequence[Sequence[Any]]) -> None:
        """Store rows in place of those of the same lines, all or none of them."""
        names = COLUMNS.split(", ")
        given = ", ".join(f"{name} = ?{place}" for place, name in enumerate(names, 1))
        self._all(f"UPDATE lines SET {given} WHERE line = ?1", rows)  # noqa: S608 - our own words

    def enter_print_file(self, file: str, size: int, first_pages: Mapping[int, int]) -> None:
        """Store that a print file has these lines' papers, each from that page on, and no others."""
        self._all(
            "INSERT INTO merged VALUES (?1, ?2, ?3, ?4) "
            "ON CONFLICT (line) DO UPDATE SET print_page = ?3, print_size = ?4 WHERE print_file = ?2",
            [(line, file, page, size) for line, page in first_pages.items()],
        )

    def bodies(self, first: int, last: int) -> dict[int, tuple[bytes, str]]:
        """Return line to (body digest, status) of the lines from `first` to `last` that are done."""
        query = "SELECT line, body, status FROM lines WHERE line BETWEEN ? AND ?"
        return {line: (bytes(body), status) for line, body, status in self._execute(query, (first, last))}

    def find_doses(self, dose_ids: Collection[str]) -> dict[str, tuple[int, bytes]]:
        """Return, by dose, the line that its answer comes from and the digest of its body; nothing for the others."""
        found: dict[str, tuple[int, bytes]] = {}
        wanted = list(dose_ids)
        for start in range(0, len(wanted), _MOST_VALUES):
            some = wanted[start : start + _MOST_VALUES]
            marks = ", ".join("?" * len(some))
            query = (
                f"SELECT dose_id, line, body FROM lines WHERE dose_id IN ({marks}) "  # noqa: S608 - our own words
                "AND status IN ('issued', 'held')"
            )
            found |= {dose_id: (line, bytes(body)) for dose_id, line, body in self._execute(query, some)}
        return found

    def forget(self, lines: Iterable[int]) -> None:
        """Take lines out, so that they are done again."""
        self._all("DELETE FROM lines WHERE line = ?", [(line,) for line in lines])

    def rows(self, *statuses: str) -> Iterator[dict[str, Any]]:
        """Give the rows of these statuses by line, in the order of the file.

        `print_file`, `print_page` and `print_size` are None where a paper is in no merged file.
        """
        marks = ", ".join("?" * len(statuses))
        query = (
            f"SELECT {COLUMNS}, print_file, print_page, print_size FROM lines LEFT JOIN merged USING (line) "  # noqa: S608
            f"WHERE status IN ({marks}) ORDER BY line"
        )
        cursor = self._execute(query, statuses)
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))

    def files(self) -> set[str]:
        """Return the names of all files that papers are in."""
        return {file for (file,) in self._execute("SELECT DISTINCT file FROM lines WHERE file <> ''")}

    def begin_files(self, files: Iterable[str]) -> None:
        """Store that these files are going to be written: what is there and not entered after a kill is nothing."""
        self._all("INSERT OR IGNORE INTO begun VALUES (?)", [(file,) for file in files])

    def end_files(self) -> set[str]:
        """Return the files that were begun and not entered, and forget all that were begun."""
        begun = {file for (file,) in self._execute("SELECT print_file FROM begun")}
        self._all("DELETE FROM begun WHERE print_file = ?", [(file,) for file in begun])
        return begun - self.files() - self.print_files()

    def lost_files(self, is_whole: Callable[[str, int], bool]) -> set[str]:
        """Return the files of papers of which `is_whole`, given the size that one has, is not true of every paper."""
        query = "SELECT file, min(size), max(size) FROM lines WHERE file <> '' GROUP BY file"
        return {file for file, least, most in self._execute(query) if least != most or not is_whole(file, most)}

    def print_files(self) -> set[str]:
        """Return the names of the files that single papers are in once more, to be printed."""
        return {file for (file,) in self._execute("SELECT DISTINCT print_file FROM merged")}

    def unstamped_sites(self) -> dict[str, int]:
        """Return site to number of papers, of the sites of which the stamp drew none."""
        query = (
            "SELECT site_id, count(*) FROM lines WHERE status = 'issued' GROUP BY site_id "
            "HAVING sum(way <> 'weasyprint') = 0 ORDER BY site_id"
        )
        return dict(self._execute(query).fetchall())

    def counts(self) -> dict[str, int]:
        """Return status to number of lines."""
        return dict(self._execute("SELECT status, count(*) FROM lines GROUP BY status").fetchall())

    def ways_out(self) -> dict[str, int]:
        """Return reason to number of pages that the stamp did not draw."""
        query = "SELECT way_out, count(*) FROM lines WHERE way = 'weasyprint' GROUP BY way_out"
        return dict(self._execute(query).fetchall())

    def _execute(self, statement: str, values: Sequence[Any] = (), *, script: bool = False) -> sqlite3.Cursor:
        try:
            return self._connection.executescript(statement) if script else self._connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StateError(
                    "Another run is at work in this folder.", vi="Thư mục này đang được một tiến trình khác dùng."
                ) from error
            raise _store_error(error) from error
        except sqlite3.Error as error:
            raise _store_error(error) from error

    def _all(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(statement, rows)
            self._execute("COMMIT")
        except sqlite3.Error as error:
            self._connection.rollback()
            raise _store_error(error) from error


def _store_error(error: sqlite3.Error) -> StoreError:
    return StoreError(f"The ledger cannot be used: {type(error).__name__}.", vi="Không dùng được sổ của lần cấp này.")
