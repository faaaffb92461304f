"""The store's engine: units of work on SQLite (one writer, group commit) or PostgreSQL (several writers).

A *unit* is a plain function of a connection. Units that arrive while a commit is under way share the next one, so that
many small transactions cost one fsync; each has its own savepoint, so that one failure does not touch the others. What
`write` returned is on disk.

SQLite: WAL, synchronous=FULL, one connection that writes and checkpoints, readers that cannot write, and a lock file
that refuses a second process (SQLite before 3.51.3 can corrupt a WAL that two connections write or checkpoint).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from printsvc.errors import PrintsvcError, StoreError, StoreLockedError

T = TypeVar("T")
Unit = Callable[[Connection], T]

_BATCH = 256
_RETRIES = 5
_STOP = object()
# Another transaction won: the same unit may simply run again (serialization failure, deadlock; SQLite busy).
_AGAIN = frozenset({"40001", "40P01"})
# What a database raises; SQLite's own class comes from the hooks that prepare a connection, where nobody wraps it.
_DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error)


@dataclass(slots=True)
class _Task:
    unit: Unit[Any]
    done: Future[Any]


class Store:
    """Open with `Store(url)`; `await write(unit)` and `await read(unit)`; `close()` at the end.

    `url` is an SQLAlchemy URL: `sqlite:////path/to/file` or `postgresql+psycopg://…`. Raises StoreLockedError when
    another process has the SQLite file open. Units raise StoreError (nothing was stored; try again) when the database
    fails, and their own errors otherwise.
    """

    def __init__(self, url: str, *, writers: int = 4, readers: int = 4) -> None:
        parsed = make_url(url)
        self.dialect = parsed.get_backend_name()
        self._lock: IO[str] | None = None
        if self.dialect == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise ValueError("the SQLite store needs a file")
            path = Path(parsed.database).resolve()  # or the same file by another name would have another lock
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock_file(path)
            writers = 1
            self.engine = _sqlite_writer(path)
            self._read_engine = _sqlite_reader(path, readers)
        else:
            self.engine = create_engine(
                parsed, hide_parameters=True, pool_size=writers + 2, max_overflow=4, pool_pre_ping=True
            )
            # One snapshot for all statements of a unit, as SQLite has it: figures that are counted together agree.
            self._read_engine = self.engine.execution_options(
                postgresql_readonly=True, isolation_level="REPEATABLE READ"
            )
        self._tasks: queue.SimpleQueue[_Task | object] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._write_loop, name=f"store-writer-{n}", daemon=True) for n in range(writers)
        ]
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="store-reader")
        self._closed = False
        self._closing = threading.Lock()
        for thread in self._threads:
            thread.start()

    async def write(self, unit: Unit[T]) -> T:
        """Run `unit` in a transaction and return its value once it is committed."""
        return await asyncio.wrap_future(self.submit(unit))

    def submit(self, unit: Unit[T]) -> Future[T]:
        """Like `write`, for callers without an event loop."""
        task = _Task(unit, Future())
        with self._closing:  # after the writers were told to stop, nobody would do it
            if self._closed:
                raise _closed()
            self._tasks.put(task)
        return task.done

    async def read(self, unit: Unit[T]) -> T:
        """Run `unit` on a connection that cannot write and sees one moment throughout, and return its value."""
        if self._closed:
            raise _closed()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, unit)

    def read_now(self, unit: Unit[T]) -> T:
        """Like `read`, on the caller's thread."""
        if self._closed:
            raise _closed()
        try:
            with self._read_engine.connect() as connection:
                return unit(connection)
        except _DATABASE_ERRORS as error:
            raise _store_error(error) from error

    def ping(self) -> None:
        """Raise StoreError where the database does not answer."""
        self.read_now(lambda connection: connection.execute(text("SELECT 1")).scalar_one())

    def close(self) -> None:
        """Finish what was submitted, then close. Safe to call twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for _ in self._threads:
                self._tasks.put(_STOP)
        for thread in self._threads:
            thread.join(timeout=30)
        self._readers.shutdown()
        self._read_engine.dispose()
        self.engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def _write_loop(self) -> None:
        while True:
            first = self._tasks.get()
            if not isinstance(first, _Task):
                return
            batch = [first]
            stop = False
            while len(batch) < _BATCH:
                try:
                    following = self._tasks.get_nowait()
                except queue.Empty:
                    break
                if not isinstance(following, _Task):
                    stop = True
                    break
                batch.append(following)
            # From here on a caller that goes away no longer takes its unit back.
            batch = [task for task in batch if task.done.set_running_or_notify_cancel()]
            if batch:
                self._commit(batch)
            if stop:
                return

    def _commit(self, batch: list[_Task], attempt: int = 1) -> None:
        """Run the batch in one transaction; where that fails as a whole, run each unit alone."""
        outcomes: list[tuple[bool, Any]] = []
        try:
            with self.engine.begin() as connection:
                for task in batch:
                    outcomes.append(_run(connection, task.unit, alone=len(batch) == 1))
        except BaseException as error:
            if len(batch) > 1:
                for task in batch:
                    self._commit([task])
                return
            if not isinstance(error, _DATABASE_ERRORS):  # the unit raised its own error: rolled back
                batch[0].done.set_exception(error)
                return
            if _may_retry(error) and attempt < _RETRIES:
                self._commit(batch, attempt + 1)
                return
            batch[0].done.set_exception(_store_error(error))
            return
        for task, (good, value) in zip(batch, outcomes, strict=True):
            if good:
                task.done.set_result(value)
            else:
                task.done.set_exception(value)


def _run(connection: Connection, unit: Unit[Any], *, alone: bool) -> tuple[bool, Any]:
    if alone:
        return True, unit(connection)
    savepoint = connection.begin_nested()
    try:
        value = unit(connection)
    except SQLAlchemyError:
        raise
    except Exception as error:
        savepoint.rollback()
        return False, error
    savepoint.commit()
    return True, value


def _closed() -> StoreError:
    return StoreError("The store is closed.", vi="Kho dữ liệu đã đóng.")


def _may_retry(error: Exception) -> bool:
    original = getattr(error, "orig", None)
    disconnected = isinstance(error, DBAPIError) and error.connection_invalidated
    return getattr(original, "sqlstate", None) in _AGAIN or disconnected


def _store_error(error: Exception) -> PrintsvcError:
    # The database's own text may quote a row, and a row may hold a name: only its class is passed on.
    original = getattr(error, "orig", None)
    what = type(original or error).__name__
    full = "disk is full" in str(original or error) or getattr(original, "sqlstate", "") == "53100"
    if full:
        return StoreError(
            "The disk is full: nothing was stored.", vi="Ổ đĩa đã đầy: chưa lưu được gì.", retry_after_s=30
        )
    return StoreError(f"The database failed ({what}): nothing was stored.", vi="Kho dữ liệu lỗi: chưa lưu được gì.")


def read_beside(url: str, unit: Unit[T]) -> T:
    """Run `unit` on a connection of its own that cannot write, whoever has the store open. Raises StoreError."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite_reader(Path(parsed.database or "").resolve(), 1)
    else:
        engine = create_engine(parsed, hide_parameters=True)
    try:
        with engine.connect() as connection:
            return unit(connection)
    except _DATABASE_ERRORS as error:
        raise _store_error(error) from error
    finally:
        engine.dispose()


def _lock_file(path: Path) -> IO[str]:
    lock = path.with_name(path.name + ".lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StoreLockedError(
            f"Another process has {path.name} open. Stop it first, or use PostgreSQL for several processes.",
            vi=f"Một tiến trình khác đang mở {path.name}. Hãy dừng nó, hoặc dùng PostgreSQL cho nhiều tiến trình.",
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _keep_private(path: Path) -> None:
    """Take the database's files from everybody but their owner; SQLite gives the new ones the mode of the first."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}.lock"):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # another's file is for that one to close
            path.with_name(name).chmod(0o600)


def _sqlite_writer(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        hide_parameters=True,
        pool_size=1,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": 10},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we begin ourselves: the driver would begin too late
        _keep_private(path)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _sqlite_reader(path: Path, readers: int) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"}),
        hide_parameters=True,
        pool_size=readers + 1,
        connect_args={"check_same_thread": False, "timeout": 10},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
