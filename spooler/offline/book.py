"""The book of a site without a line: one SQLite file, fsynced before anything is printed.

Layout, in the state directory of the agent::

    daybag/book.db           the tables below
    daybag/<bag>-<n>.zip     day bags as they came
    daybag/agent.secret      32 random bytes: with the passphrase it opens the signing key; never leaves this machine

The desk (a command) writes entries, the agent hands their papers to its own journal and brings them home: two
processes, so every step is one transaction of the file. Order, which makes each of them happen once:

    entered → handed to the journal → brought home → reported
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from printsvc.errors import StateError, StoreError
from spooler.bagprotocol import BagEntry, EntryResult
from spooler.protocol import JobId

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


@dataclass(frozen=True, slots=True)
class HeldBag:
    """A bag in the book: its file, and the sealed key (PEM) that its signer is over."""

    bag_id: str
    file: Path
    sealed: bytes
    request: bytes
    taken_at: datetime
    expires_at: datetime
    size: int | None = None  # certificates; None: not known, an older agent took it


@dataclass(frozen=True, slots=True)
class Line:
    """One entry. `paper` is "site", "centre" (its page needs the centre to be drawn) or "" (held: no paper)."""

    bag_id: str
    seq: int
    dose_id: str
    event: dict[str, Any]
    outcome: str
    reasons: tuple[dict[str, str], ...]
    number: int | None
    uvci: str
    hcert: str
    job_id: str
    form: str
    media: str
    paper: str
    paper_reason: str
    document: bytes | None
    sha256: str
    size: int
    entered_at: datetime
    copy_number: int = 1
    copy_reason: str = ""
    module_um: int = 0  # side of a module of the QR; 0: not known


@dataclass(frozen=True, slots=True)
class Paper:
    """A document that the agent is to print."""

    bag_id: str
    seq: int
    job_id: JobId
    document: bytes
    sha256: str
    media: str
    form: str
    copy_number: int = 1
    module_um: int = 0


class Book:
    """One open book. All calls block (fsync); several processes may have it open."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self._directory = directory
        self._connection = connection

    @classmethod
    def open(cls, state_dir: Path) -> Book:
        """Open or make the book of this agent. Raises BookUnwritableError, StateError for what is no book."""
        directory = state_dir / "daybag"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = sqlite3.connect(
                directory / "book.db", isolation_level=None, check_same_thread=False, timeout=10
            )
        except (OSError, sqlite3.OperationalError) as error:
            raise _full(error) from error
        try:
            _prepare(connection)
            (directory / "book.db").chmod(0o600)
        except sqlite3.OperationalError as error:
            connection.close()
            raise _full(error) from error
        except sqlite3.DatabaseError as error:
            connection.close()
            raise _damaged(error) from error
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
            raise _full(error) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise _damaged(error) from error

    def _read(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, arguments).fetchall()
        except sqlite3.OperationalError as error:
            raise _full(error) from error
        except sqlite3.DatabaseError as error:
            raise _damaged(error) from error

    # -- the key

    def passphrase(self, given: str, random_bytes: Callable[[int], bytes]) -> bytes:
        """Return what seals the signing key: the given passphrase and this machine's own secret, which is made once.

        Raises BookUnwritableError.
        """
        path = self._directory / "agent.secret"
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}")
            try:
                _write(part, random_bytes(32))
                with contextlib.suppress(FileExistsError):
                    os.link(part, path)  # whole or not at all, and only once
                _sync(self._directory)
            except OSError as error:
                raise _full(error) from error
            finally:
                part.unlink(missing_ok=True)
        return hmac.digest(path.read_bytes(), given.encode(), hashlib.sha256).hex().encode()

    def pending_requests(self) -> list[tuple[bytes, bytes]]:
        """Return (request, sealed key) that no bag was taken for yet, oldest first."""
        rows = self._read("SELECT request, sealed FROM keys WHERE bag_id IS NULL ORDER BY rowid")
        return [(bytes(request), bytes(sealed)) for request, sealed in rows]

    def add_key(self, request: bytes, sealed: bytes, now: datetime) -> None:
        with self.writing():
            self._connection.execute(
                "INSERT INTO keys (request, sealed, made_at) VALUES (?, ?, ?)", (request, sealed, now.isoformat())
            )

    def drop_request(self, request: bytes) -> None:
        """Forget a key that never got a bag."""
        with self.writing():
            self._connection.execute("DELETE FROM keys WHERE request = ? AND bag_id IS NULL", (request,))

    def pins(self) -> list[bytes]:
        """Return the CSCAs (DER) that bags are believed from."""
        return [bytes(row[0]) for row in self._read("SELECT csca FROM pins")]

    def pin(self, csca: bytes) -> None:
        with self.writing():
            self._connection.execute("INSERT OR IGNORE INTO pins (csca) VALUES (?)", (csca,))

    # -- bags

    def add_bag(
        self,
        bag_id: str,
        version: int,
        archive: bytes,
        request: bytes,
        expires_at: datetime,
        now: datetime,
        *,
        size: int | None = None,
    ) -> None:
        """Keep a bag that was checked; one that is here already is replaced by its newer version."""
        name = f"{bag_id}-{version}.zip"
        part = self._directory / f"{name}.part"
        try:
            _write(part, archive)
            part.rename(self._directory / name)
            _sync(self._directory)
        except OSError as error:
            raise _full(error) from error
        row = (bag_id, request, name, now.isoformat(), expires_at.isoformat(), size)
        with self.writing():
            self._connection.execute("UPDATE keys SET bag_id = ? WHERE request = ?", (bag_id, request))
            self._connection.execute(
                "INSERT INTO bags (bag_id, request, file, taken_at, expires_at, size) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (bag_id) DO UPDATE SET file = excluded.file, taken_at = excluded.taken_at, "
                "size = excluded.size",
                row,
            )

    def bags(self) -> list[HeldBag]:
        """Return the bags, newest first."""
        rows = self._read(
            "SELECT b.bag_id, b.file, k.sealed, b.request, b.taken_at, b.expires_at, b.size FROM bags b "
            "JOIN keys k ON k.request = b.request ORDER BY b.taken_at DESC, b.rowid DESC"
        )
        return [
            HeldBag(
                row[0],
                self._directory / row[1],
                bytes(row[2]),
                bytes(row[3]),
                datetime.fromisoformat(row[4]),
                datetime.fromisoformat(row[5]),
                row[6],
            )
            for row in rows
        ]

    # -- entries: inside `writing`

    def entries_of(self, dose_id: str) -> list[Line]:
        """Return what was written down of a dose: as it was entered, then its copies."""
        query = f"SELECT {_COLUMNS} FROM entries WHERE dose_id = ? ORDER BY copy_number"  # noqa: S608
        return [_line(row) for row in self._read(query, (dose_id,))]

    def is_handed(self, line: Line) -> bool:
        """Return whether the agent's journal has the paper."""
        rows = self._read("SELECT handed FROM entries WHERE bag_id = ? AND seq = ?", (line.bag_id, line.seq))
        return bool(rows and rows[0][0])

    def count_copies(self, since: datetime) -> int:
        """Return how many further papers were asked for here since that moment (UTC)."""
        query = "SELECT count(*) FROM entries WHERE outcome = 'copy' AND entered_at >= ?"
        return int(self._read(query, (since.isoformat(),))[0][0])

    def next_numbers(self, bag_id: str) -> tuple[int, int]:
        """Return the next seq of a bag, from 1, and the number of its next free UVCI, from 0."""
        query = "SELECT coalesce(max(seq), 0) + 1, coalesce(max(number), -1) + 1 FROM entries WHERE bag_id = ?"
        ((seq, number),) = self._read(query, (bag_id,))
        return int(seq), int(number)

    def last_entered_at(self) -> datetime | None:
        ((text,),) = self._read("SELECT max(entered_at) FROM entries")
        return datetime.fromisoformat(text) if text else None

    def insert(self, line: Line) -> None:
        values = {name: getattr(line, name) for name in _NAMES} | {
            "event": json.dumps(line.event, ensure_ascii=False),
            "reasons": json.dumps(line.reasons, ensure_ascii=False),
            "entered_at": line.entered_at.isoformat(),
        }
        self._connection.execute(
            f"INSERT INTO entries ({_COLUMNS}) VALUES ({', '.join(':' + name for name in _NAMES)})",  # noqa: S608
            values,
        )

    # -- what the agent does

    def unhanded(self, limit: int = 20) -> list[Paper]:
        """Return papers that the agent's journal does not have yet, oldest first."""
        rows = self._read(
            "SELECT bag_id, seq, job_id, document, sha256, media, form, copy_number, module_um FROM entries "
            "WHERE paper = 'site' AND handed = 0 ORDER BY entered_at, bag_id, seq LIMIT ?",
            (limit,),
        )
        return [Paper(row[0], row[1], JobId(row[2]), bytes(row[3]), *row[4:]) for row in rows]

    def mark_handed(self, paper: Paper) -> None:
        """The journal has the job and its document: the book needs it no more."""
        with self.writing():
            self._connection.execute(
                "UPDATE entries SET handed = 1, document = NULL WHERE bag_id = ? AND seq = ?", (paper.bag_id, paper.seq)
            )

    def jobs_not_brought(self) -> dict[JobId, str]:
        """Return the jobs of which the service does not know, with their bags."""
        rows = self._read("SELECT job_id, bag_id FROM entries WHERE brought = 0 AND job_id <> ''")
        return {JobId(row[0]): row[1] for row in rows}

    def next_to_bring(
        self, limit: int = 50, *, without: Collection[str] = ()
    ) -> tuple[str, tuple[BagEntry, ...]] | None:
        """Return (bag, its oldest entries that the service has not acknowledged); None where all is home.

        A paper that the journal does not have yet stops its bag there: once it is home, its reports may go. Bags
        `without` are passed over.
        """
        bags = self._read(
            "SELECT DISTINCT bag_id FROM entries e JOIN bags b USING (bag_id) WHERE brought = 0 "
            "ORDER BY b.taken_at, b.rowid"
        )
        for (bag_id,) in bags:
            if bag_id not in without and (entries := self._to_bring(bag_id, limit)):
                return bag_id, entries
        return None

    def _to_bring(self, bag_id: str, limit: int) -> tuple[BagEntry, ...]:
        rows = self._read(
            "SELECT seq, event, hcert, entered_at, paper, form, media, uvci, copy_number, copy_reason, handed, "
            "told_before FROM entries WHERE bag_id = ? AND brought = 0 ORDER BY seq LIMIT ?",
            (bag_id, limit),
        )
        entries = []
        for seq, event, hcert, entered_at, paper, form, media, uvci, copy_number, copy_reason, handed, told in rows:
            if paper == "site" and not handed:
                break
            entries.append(
                BagEntry(
                    seq=seq,
                    event=json.loads(event),
                    hcert=hcert,
                    entered_at=datetime.fromisoformat(entered_at),
                    paper=paper or "centre",
                    form=form,
                    media=media,
                    uvci=uvci if copy_number > 1 else "",
                    copy_number=copy_number,
                    copy_reason=copy_reason,
                    told_before=bool(told),
                )
            )
        return tuple(entries)

    def mark_told(self, job_ids: Iterable[JobId]) -> None:
        """Note jobs that are reported on although the service does not know them."""
        with self.writing():
            self._connection.executemany(
                "UPDATE entries SET told_before = 1 WHERE job_id = ? AND brought = 0", [(one,) for one in job_ids]
            )

    def refuse_bag(self, bag_id: str, code: str, en: str, vi: str) -> None:
        """Note that the centre does not take what this bag brings, and its sentence."""
        with self.writing():
            self._connection.execute(
                "UPDATE bags SET refused = ?, refused_en = ?, refused_vi = ? WHERE bag_id = ?", (code, en, vi, bag_id)
            )

    def refusals(self) -> dict[str, dict[str, str]]:
        """Return the bags that the centre does not take, with code and sentence."""
        rows = self._read("SELECT bag_id, refused, refused_en, refused_vi FROM bags WHERE refused <> ''")
        return {row[0]: dict(zip(("code", "detail", "detail_vi"), row[1:], strict=True)) for row in rows}

    def mark_brought(self, bag_id: str, acknowledged: int, results: tuple[EntryResult, ...]) -> None:
        """Note what the service said of entries, and that it has them."""
        with self.writing():
            for one in results:
                self._connection.execute(
                    "UPDATE entries SET said = ?, said_reason = ?, said_detail = ? WHERE bag_id = ? AND seq = ?",
                    (one.outcome, one.reason, one.detail, bag_id, one.seq),
                )
            self._connection.execute(
                "UPDATE entries SET brought = 1 WHERE bag_id = ? AND seq <= ?", (bag_id, acknowledged)
            )
            self._connection.execute("UPDATE bags SET refused = '' WHERE bag_id = ?", (bag_id,))

    def summary(self, bag_id: str | None = None) -> dict[str, Any]:
        """Return counts, and the entries that somebody should look at; nothing of a person but the dose id."""
        where, arguments = ("WHERE bag_id = ?", (bag_id,)) if bag_id else ("", ())
        rows = self._read(
            "SELECT dose_id, outcome, uvci, job_id, paper, paper_reason, handed, brought, said, said_reason, reasons, "  # noqa: S608
            "copy_number "
            f"FROM entries {where} ORDER BY entered_at, seq",
            arguments,
        )
        names = ("dose_id", "outcome", "uvci", "job_id", "paper", "paper_reason", "handed", "brought", "said", "why")
        lines = [
            dict(zip(names, row[:10], strict=True)) | {"reasons": json.loads(row[10]), "copy_number": row[11]}
            for row in rows
        ]
        return {
            "entered": sum(line["outcome"] != "copy" for line in lines),
            "issued": sum(line["outcome"] == "issued" for line in lines),
            "held": [line["dose_id"] for line in lines if line["outcome"] == "held"],
            "needs_the_centre": [
                line["dose_id"] for line in lines if line["paper"] == "centre" and not line["brought"]
            ],
            "not_brought": sum(not line["brought"] for line in lines),
            "conflicts": [
                {"dose_id": line["dose_id"], "uvci": line["uvci"], "reason": line["why"]}
                for line in lines
                if line["said"] == "conflict"
            ],
            "jobs": {line["job_id"]: (line["dose_id"], line["copy_number"]) for line in lines if line["job_id"]},
        }


_NAMES = (
    "bag_id", "seq", "dose_id", "event", "outcome", "reasons", "number", "uvci", "hcert", "job_id", "form", "media",
    "paper", "paper_reason", "document", "sha256", "size", "entered_at", "copy_number", "copy_reason",
    "module_um",
)  # fmt: skip
_COLUMNS = ", ".join(_NAMES)


def _line(row: tuple[Any, ...]) -> Line:
    values = dict(zip(_NAMES, row, strict=True))
    return Line(
        **values
        | {
            "event": json.loads(values["event"]),
            "reasons": tuple(json.loads(values["reasons"])),
            "entered_at": datetime.fromisoformat(values["entered_at"]),
        }
    )


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


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(error: Exception) -> StateError:
    return StateError(
        f"The book of the day bag is damaged ({error}): keep the file, and tell the centre.",
        vi="Sổ của gói ngày bị hỏng: hãy giữ lại tệp và báo cho trung tâm.",
        code="book_damaged",
    )


def _full(error: Exception) -> BookUnwritableError:
    return BookUnwritableError(
        f"The book could not be written ({error}): nothing was issued.",
        vi="Không ghi được sổ: chưa cấp giấy nào. Hãy kiểm tra dung lượng ổ đĩa.",
    )
