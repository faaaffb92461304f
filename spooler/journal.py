"""The agent's memory: one SQLite file that is fsynced before anything is done, and the documents beside it.

Layout of the state directory::

    journal.db  journal.db-wal   the tables below
    journal.lock                 held while an agent runs; a second one refuses to start
    journal.id                   the journal's id once more: tells a lost journal from a new one
    documents/<sha256>           PDFs of unsettled jobs

What is committed here is the only truth after a crash. A file that is damaged or missing is an error for a person,
never a fresh start: the jobs in it may have paper.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, assert_never

from printsvc.errors import StateError, StoreError, StoreLockedError
from spooler.core.attempt import FINAL, Attempt, Job, Phase
from spooler.core.messages import Erase, Record, Report, Save, Trim
from spooler.protocol import AttemptId, EnrollAnswer, Event, JobId

_APPLICATION_ID = 0x5053504A  # "PSPJ"
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE identity (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  journal_id TEXT NOT NULL,
  url TEXT NOT NULL DEFAULT '', agent_id TEXT NOT NULL DEFAULT '', site_id TEXT NOT NULL DEFAULT '',
  token TEXT NOT NULL DEFAULT '',
  last_order INTEGER NOT NULL DEFAULT 0, last_seq INTEGER NOT NULL DEFAULT 0, acknowledged INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE jobs (
  job_id TEXT PRIMARY KEY, fencing_token INTEGER NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
  "order" INTEGER NOT NULL, media_type TEXT NOT NULL, media TEXT NOT NULL, priority INTEGER NOT NULL,
  phase TEXT NOT NULL, attempt_id TEXT, number INTEGER NOT NULL, failures INTEGER NOT NULL, avoid TEXT NOT NULL,
  dropped INTEGER NOT NULL, reason TEXT NOT NULL, final_seq INTEGER NOT NULL
);
CREATE TABLE attempts (
  attempt_id TEXT PRIMARY KEY, job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, number INTEGER NOT NULL,
  queue TEXT NOT NULL, intended_at TEXT NOT NULL, cups_job_id INTEGER, cups_uuid TEXT NOT NULL, released_at TEXT
);
CREATE INDEX attempts_job ON attempts (job_id);
CREATE TABLE outbox (seq INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""
_JOB_COLUMNS = (
    'job_id, fencing_token, sha256, size, "order", media_type, media, priority, phase, attempt_id, number, failures, '
    "avoid, dropped, reason, final_seq, copy_number, asked, kept, module_um"
)
_ATTEMPT_COLUMNS = "attempt_id, number, queue, intended_at, cups_job_id, cups_uuid, released_at, why"
# Columns that came later. They have defaults, so that an agent which is older can go on with the file.
_ADDED = {
    "jobs": {
        "copy_number": "INTEGER NOT NULL DEFAULT 1",
        "asked": "TEXT NOT NULL DEFAULT ''",
        "kept": "INTEGER NOT NULL DEFAULT 0",
        "module_um": "INTEGER NOT NULL DEFAULT 0",
    },
    "attempts": {"why": "TEXT NOT NULL DEFAULT ''"},
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this agent is to the service; `token` is empty before enrolment. It is a secret: never logged."""

    journal_id: str
    url: str = ""
    agent_id: str = ""
    site_id: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything the core needs to go on after a start."""

    jobs: tuple[Job, ...]
    next_order: int
    next_seq: int
    acknowledged: int


class JournalUnwritableError(StoreError):
    """Nothing was stored: no room, or a failing disk."""

    code = "journal_unwritable"


class JournalDamagedError(StateError):
    """The journal is lost or not readable: a person must look."""

    code = "journal_damaged"


def _full(error: Exception) -> JournalUnwritableError:
    return JournalUnwritableError(
        f"The journal could not be written ({error}): no job is given to a printer until there is room again.",
        vi="Không ghi được nhật ký in: tạm dừng in cho đến khi ổ đĩa có chỗ trống.",
    )


def damaged(path: Path, what: str) -> JournalDamagedError:
    """Return the error of a journal that cannot be read: `what` is wrong with it."""
    return JournalDamagedError(
        f"The journal {path.name} is damaged ({what}). Papers of its jobs may exist: keep the file, look at the "
        "printers, then start with a new state directory and enrol again.",
        vi="Nhật ký in bị hỏng. Giữ lại tệp, kiểm tra máy in, sau đó dùng thư mục mới và đăng ký lại.",
    )


@contextlib.contextmanager
def _write_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise _full(error) from error


class Journal:
    """One open journal. All calls block (fsync) and may come from one thread at a time."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, lock: int) -> None:
        self._directory = directory
        self._connection = connection
        self._lock = lock

    @classmethod
    def open(cls, directory: Path, *, make_journal_id: Callable[[], str]) -> Journal:
        """Open or make the journal in `directory`.

        Raises StoreLockedError where another agent has it, JournalDamagedError, JournalUnwritableError.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            (directory / "documents").mkdir(exist_ok=True, mode=0o700)
            (directory / "documents").chmod(0o700)
            lock = os.open(directory / "journal.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _full(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StoreLockedError(
                "Another agent is running with this journal.", vi="Một tiến trình in khác đang dùng nhật ký này."
            ) from error
        try:
            return cls(directory, _open_database(directory, make_journal_id), lock)
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        self._connection.close()
        os.close(self._lock)

    # -- identity

    def identity(self) -> Identity:
        row = self._connection.execute("SELECT journal_id, url, agent_id, site_id, token FROM identity").fetchone()
        return Identity(*row)

    def enroll(self, url: str, answer: EnrollAnswer) -> None:
        """Keep what the service at `url` answered to the enrolment."""
        row = (url, answer.agent_id, answer.site_id, answer.token)
        with _write_errors(), self._transaction():
            self._connection.execute("UPDATE identity SET url = ?, agent_id = ?, site_id = ?, token = ?", row)

    def probe(self) -> None:
        """Write something that changes nothing. Raises JournalUnwritableError where there is no room."""
        with _write_errors(), self._transaction():
            self._connection.execute("UPDATE identity SET last_seq = last_seq")

    # -- jobs and reports

    def contents(self) -> Contents:
        """Return all jobs with their present attempts, in the order they came."""
        attempts = {
            row[0]: Attempt(
                attempt_id=AttemptId(row[0]),
                number=row[1],
                queue=row[2],
                intended_at=datetime.fromisoformat(row[3]),
                cups_job_id=row[4],
                cups_uuid=row[5],
                released_at=datetime.fromisoformat(row[6]) if row[6] else None,
                why=row[7],
            )
            for row in self._connection.execute(f"SELECT {_ATTEMPT_COLUMNS} FROM attempts")  # noqa: S608
        }
        jobs = tuple(
            _job_of(row, attempts)
            for row in self._connection.execute(f'SELECT {_JOB_COLUMNS} FROM jobs ORDER BY "order"')  # noqa: S608
        )
        order, seq, acknowledged = self._connection.execute(
            "SELECT last_order, last_seq, acknowledged FROM identity"
        ).fetchone()
        return Contents(jobs, order + 1, seq + 1, acknowledged)

    def commit(self, records: Iterable[Record]) -> None:
        """Make all records durable in one transaction, or none. Raises JournalUnwritableError."""
        with _write_errors(), self._transaction():
            for record in records:
                self._write(record)

    def outbox(self, limit: int) -> tuple[Event, ...]:
        """Return the oldest reports that the service has not acknowledged, in order."""
        rows = self._connection.execute("SELECT body FROM outbox ORDER BY seq LIMIT ?", (limit,))
        return tuple(Event.model_validate_json(body) for (body,) in rows)

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each phase, and `outbox`: reports not yet acknowledged."""
        counts: dict[str, int] = dict(self._connection.execute("SELECT phase, count(*) FROM jobs GROUP BY phase"))
        counts["outbox"] = self._connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
        return counts

    def _write(self, record: Record) -> None:
        execute = self._connection.execute
        match record:
            case Save(job=job):
                self._write_job(job)
            case Report():
                body = Event(**{f.name: getattr(record, f.name) for f in fields(record)}).model_dump_json()
                execute("INSERT INTO outbox (seq, body) VALUES (?, ?)", (record.seq, body))
                execute("UPDATE identity SET last_seq = ?", (record.seq,))
            case Erase(job_id=job_id):
                execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))
            case Trim(seq=seq):
                execute("DELETE FROM outbox WHERE seq <= ?", (seq,))
                execute("UPDATE identity SET acknowledged = max(acknowledged, ?)", (seq,))
            case _:
                assert_never(record)

    def _write_job(self, job: Job) -> None:
        row = {f.name: getattr(job, f.name) for f in fields(job) if f.name != "attempt"}
        row |= {
            "phase": job.phase.value,
            "avoid": json.dumps(job.avoid),
            "attempt_id": job.attempt.attempt_id if job.attempt else None,
        }
        names = [name.strip().strip('"') for name in _JOB_COLUMNS.split(",")]
        updates = ", ".join(f'"{name}" = excluded."{name}"' for name in names[1:])
        self._connection.execute(
            f"INSERT INTO jobs ({_JOB_COLUMNS}) VALUES ({', '.join(':' + name for name in names)}) "  # noqa: S608
            f"ON CONFLICT (job_id) DO UPDATE SET {updates}",
            row,
        )
        self._connection.execute("UPDATE identity SET last_order = max(last_order, ?)", (job.order,))
        if job.attempt is not None:
            attempt = asdict(job.attempt) | {
                "job_id": job.job_id,
                "intended_at": job.attempt.intended_at.isoformat(),
                "released_at": job.attempt.released_at.isoformat() if job.attempt.released_at else None,
            }
            self._connection.execute(
                f"INSERT OR REPLACE INTO attempts (job_id, {_ATTEMPT_COLUMNS}) VALUES "  # noqa: S608
                "(:job_id, :attempt_id, :number, :queue, :intended_at, :cups_job_id, :cups_uuid, :released_at, :why)",
                attempt,
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # -- documents

    def document_path(self, sha256: str) -> Path:
        return self._directory / "documents" / sha256

    def store_document(self, sha256: str, content: bytes) -> None:
        """Keep a document durably under its digest. Raises JournalUnwritableError; ValueError for a wrong digest."""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("the document is not what its digest says")
        path = self.document_path(sha256)
        part = path.with_suffix(".part")
        with _write_errors():
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
            _sync_directory(path.parent)

    def find_document(self, sha256: str) -> bytes | None:
        """Return a stored document, or None where it is missing or not what it was."""
        try:
            content = self.document_path(sha256).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == sha256 else None

    def discard_document(self, sha256: str) -> None:
        with contextlib.suppress(OSError):
            self.document_path(sha256).unlink()

    def sweep_documents(self) -> None:
        """Remove files that no unsettled job needs: what a crash between two steps left behind."""
        needed = {job.sha256 for job in self.contents().jobs if job.phase not in FINAL}
        for path in (self._directory / "documents").iterdir():
            if path.name not in needed:
                with contextlib.suppress(OSError):
                    path.unlink()


def _job_of(row: tuple[Any, ...], attempts: dict[str, Attempt]) -> Job:
    return Job(
        job_id=JobId(row[0]),
        fencing_token=row[1],
        sha256=row[2],
        size=row[3],
        order=row[4],
        media_type=row[5],
        media=row[6],
        priority=row[7],
        phase=Phase(row[8]),
        attempt=attempts[row[9]] if row[9] else None,
        number=row[10],
        failures=row[11],
        avoid=tuple(json.loads(row[12])),
        dropped=bool(row[13]),
        reason=row[14],
        final_seq=row[15],
        copy_number=row[16],
        asked=row[17],
        kept=bool(row[18]),
        module_um=row[19],
    )


def _open_database(directory: Path, make_journal_id: Callable[[], str]) -> sqlite3.Connection:
    path, marker = directory / "journal.db", directory / "journal.id"
    # The marker is written last: without it the journal was never used, and its making may start anew.
    known = marker.read_text().strip() if marker.exists() else ""
    if known and (not path.exists() or path.stat().st_size == 0):
        raise damaged(path, "missing or empty")
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            _keep_private(path)
            _prepare(connection, path, known, make_journal_id)
        except BaseException:
            connection.close()
            raise
    except sqlite3.OperationalError as error:
        raise _full(error) from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error
    if not known:
        with _write_errors():
            journal_id = connection.execute("SELECT journal_id FROM identity").fetchone()[0]
            with open(marker, "w") as file:
                file.write(journal_id + "\n")
                file.flush()
                os.fsync(file.fileno())
            _sync_directory(directory)
    return connection


def _keep_private(path: Path) -> None:
    """Take the journal's files (they hold the token) from everybody else; SQLite gives new ones the mode of the first.

    A file of another user is left: it is for that one to close.
    """
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            path.with_name(name).chmod(0o600)


def _prepare(connection: sqlite3.Connection, path: Path, known: str, make_journal_id: Callable[[], str]) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables == 0 and not known:
        # executescript would commit by itself: the schema and the mark must come together.
        connection.execute("BEGIN IMMEDIATE")
        for statement in filter(str.strip, _SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute("INSERT INTO identity (one, journal_id) VALUES (1, ?)", (make_journal_id(),))
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        _add_columns(connection)
        connection.execute("COMMIT")
        return
    if application_id != _APPLICATION_ID:
        raise damaged(path, "not a journal")
    if version > _SCHEMA_VERSION:
        raise StateError("The journal was written by a newer agent.", vi="Nhật ký in thuộc phiên bản mới hơn.")
    (check,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if check != "ok":
        raise damaged(path, "integrity check failed")
    if known and connection.execute("SELECT journal_id FROM identity").fetchone()[0] != known:
        raise damaged(path, "another journal's file")
    _add_columns(connection)


def _add_columns(connection: sqlite3.Connection) -> None:
    for table, columns in _ADDED.items():
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        for name in columns.keys() - there:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
