"""The engine: units of work that are committed together and fail alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from printsvc.errors import NotFoundError, StoreError
from printsvc.store import engine
from printsvc.store.engine import Store
from printsvc.store.tables import sites
from printsvc.store.times import UtcTime

NOW = datetime(2021, 10, 30, 2, 12, 0, 123456, tzinfo=UTC)


def add(site_id: str) -> Any:
    values = {"name": site_id, "authority": "", "province": "", "created_at": NOW}

    def unit(connection: Connection) -> str:
        connection.execute(insert(sites).values(site_id=site_id, **values))
        return site_id

    return unit


def names(store: Store) -> list[str]:
    return store.read_now(lambda c: list(c.execute(select(sites.c.site_id).order_by(sites.c.site_id)).scalars()))


@contextlib.contextmanager
def writers_held(store: Store) -> Any:
    """Keep every writer busy, so that what is submitted meanwhile shares commits."""
    go, busy = threading.Event(), threading.Barrier(len(store._threads) + 1)

    def hold(_: Connection) -> None:
        busy.wait(10)
        go.wait(10)

    held = []
    for _ in store._threads:
        held.append(store.submit(hold))
        while store._tasks.qsize():  # each writer takes one
            threading.Event().wait(0.001)
    busy.wait(10)
    try:
        yield
    finally:
        go.set()
    for one in held:
        one.result(10)


def test_units_share_a_commit(store: Store) -> None:
    commits = []
    event.listen(store.engine, "commit", lambda _: commits.append(1))
    with writers_held(store):
        futures = [store.submit(add(f"S{n:02d}")) for n in range(50)]
        commits.clear()
    assert [future.result(10) for future in futures] == [f"S{n:02d}" for n in range(50)]
    assert len(names(store)) == 50
    # The units that held the writers are committed too.
    assert len(commits) <= 2 * len(store._threads)


def test_a_unit_that_raises_does_not_touch_its_neighbours(store: Store) -> None:
    def write_and_raise(connection: Connection) -> None:
        add("BAD")(connection)
        raise NotFoundError("no")

    with writers_held(store):
        before, bad, after = store.submit(add("A")), store.submit(write_and_raise), store.submit(add("B"))
    assert (before.result(10), after.result(10)) == ("A", "B")
    with pytest.raises(NotFoundError):
        bad.result(10)
    assert names(store) == ["A", "B"]


def test_a_statement_that_fails_does_not_touch_its_neighbours(store: Store) -> None:
    store.submit(add("TAKEN")).result()
    with writers_held(store):
        before, bad, after = store.submit(add("A")), store.submit(add("TAKEN")), store.submit(add("B"))
    assert (before.result(10), after.result(10)) == ("A", "B")
    with pytest.raises(StoreError):
        bad.result(10)
    assert names(store) == ["A", "B", "TAKEN"]


def test_a_unit_that_ends_its_thread_is_answered_like_its_neighbours(store: Store) -> None:
    def leave(_: Connection) -> None:
        raise SystemExit("a unit must not end a writer")

    with writers_held(store):
        before, bad, after = store.submit(add("A")), store.submit(leave), store.submit(add("B"))
    assert (before.result(10), after.result(10)) == ("A", "B")
    assert isinstance(bad.exception(10), SystemExit)
    assert store.submit(add("C")).result(10) == "C"


def test_a_failed_commit_is_tried_unit_by_unit(sqlite_url: str) -> None:
    with contextlib.closing(Store(sqlite_url)) as store:
        ran: list[str] = []

        def fail_the_first(_: Connection) -> None:
            if ran == ["A", "B", "C"]:
                raise OperationalError("COMMIT", {}, sqlite3.OperationalError("no"))

        def noted(name: str) -> Any:
            return lambda c: (ran.append(name), add(name)(c))[1]

        event.listen(store.engine, "commit", fail_the_first)
        with writers_held(store):
            futures = [store.submit(noted(name)) for name in "ABC"]
            ran.clear()
        # The unit that held the writer is committed before: `ran` is empty then.
        assert [future.result(10) for future in futures] == ["A", "B", "C"]
        assert ran == ["A", "B", "C", "A", "B", "C"]
        assert names(store) == ["A", "B", "C"]


def test_units_run_in_their_order_on_sqlite(sqlite_url: str) -> None:
    with contextlib.closing(Store(sqlite_url)) as store:
        ran: list[int] = []
        futures = [store.submit(lambda _, n=n: ran.append(n)) for n in range(2000)]
        for future in futures:
            future.result(30)
    assert ran == list(range(2000))


def test_what_was_submitted_before_close_is_done_and_nothing_after(store_url: str) -> None:
    store = Store(store_url)
    futures = [store.submit(add(f"S{n}")) for n in range(300)]
    store.close()
    store.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(StoreError):
        store.submit(add("LATE"))
    with contextlib.closing(Store(store_url)) as again:
        assert len(names(again)) == 300


async def test_a_closed_store_says_so(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    store.close()
    with pytest.raises(StoreError):
        await store.write(add("A"))
    with pytest.raises(StoreError):
        await store.read(lambda c: c.execute(text("SELECT 1")))


async def test_a_caller_that_gives_up_in_time_takes_its_unit_back(sqlite_url: str) -> None:
    with contextlib.closing(Store(sqlite_url)) as store:
        with writers_held(store):
            writing = asyncio.ensure_future(store.write(add("A")))
            await asyncio.sleep(0)
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing
        assert await store.write(add("B")) == "B"
        assert names(store) == ["B"]


def test_ping_asks_the_database(store: Store) -> None:
    asked: list[str] = []
    event.listen(store._read_engine, "after_cursor_execute", lambda *about: asked.append(about[2]))
    store.ping()
    assert [statement for statement in asked if "SELECT" in statement] == ["SELECT 1"]
    store.close()
    with pytest.raises(StoreError):
        store.ping()


def test_a_unit_that_reads_sees_one_moment(store: Store) -> None:
    """Or figures that are counted one after the other disagree while doses come in."""

    def count_twice(connection: Connection) -> tuple[int, int]:
        first = connection.execute(select(func.count()).select_from(sites)).scalar_one()
        store.submit(add("B")).result(10)
        return first, connection.execute(select(func.count()).select_from(sites)).scalar_one()

    store.submit(add("A")).result(10)
    assert store.read_now(count_twice) == (1, 1)
    assert names(store) == ["A", "B"]


def test_a_database_that_others_could_read_is_closed_to_them(sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "printsvc.db"
    path.chmod(0o644)
    with contextlib.closing(Store(sqlite_url)) as store:
        store.submit(add("A")).result(10)
        files = list(tmp_path.glob("printsvc.db*"))
        assert {file.name for file in files} >= {"printsvc.db", "printsvc.db-wal", "printsvc.db-shm"}
        assert [file.name for file in files if file.stat().st_mode & 0o077] == []


def test_a_database_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    with contextlib.closing(Store("postgresql+psycopg://nobody@127.0.0.1:1/none")) as store:
        with pytest.raises(StoreError):
            store.ping()
        with pytest.raises(StoreError) as raised:
            store.submit(add("A")).result(30)
        assert raised.value.retry_after_s > 0
    with contextlib.closing(Store(f"sqlite:///{tmp_path}/never-made.db")) as store, pytest.raises(StoreError):
        store.ping()


def test_a_file_that_is_no_database_is_a_store_error_for_each_caller(tmp_path: Path) -> None:
    (tmp_path / "printsvc.db").write_bytes(b"this is not a database, but it is long enough to be read as one" * 99)
    with contextlib.closing(Store(f"sqlite:///{tmp_path}/printsvc.db")) as store:
        futures = [store.submit(add(f"S{n}")) for n in range(20)]
        for future in futures:
            assert isinstance(future.exception(30), StoreError)
        with pytest.raises(StoreError):
            names(store)


def test_errors_do_not_hold_what_was_to_be_stored(store: Store) -> None:
    store.submit(add("NGUYỄN-THỊ-BÍ-MẬT")).result()
    with pytest.raises(StoreError) as raised:
        store.submit(add("NGUYỄN-THỊ-BÍ-MẬT")).result()
    assert "BÍ-MẬT" not in f"{raised.value} {raised.value.en} {raised.value.vi}"
    assert "BÍ-MẬT" not in str(raised.value.__cause__).partition("DETAIL")[0]


def test_sqlite_needs_a_file() -> None:
    with pytest.raises(ValueError, match="file"):
        Store("sqlite://")


@pytest.mark.parametrize("folder", ["Kho dữ liệu", "100%41", "a?b#c", "x&mode=memory"])
def test_a_folder_may_have_any_name(tmp_path: Path, folder: str) -> None:
    from sqlalchemy import URL

    path = tmp_path / folder / "printsvc.db"
    with contextlib.closing(Store(URL.create("sqlite", database=str(path)).render_as_string())) as store:
        store.submit(lambda c: c.execute(text("CREATE TABLE t (n INTEGER)"))).result()
        store.submit(lambda c: c.execute(text("INSERT INTO t VALUES (7)"))).result()
        assert store.read_now(lambda c: c.execute(text("SELECT n FROM t")).scalar_one()) == 7
    assert path.exists()


def test_sqlite_is_set_up_for_durability(sqlite_url: str) -> None:
    with contextlib.closing(Store(sqlite_url)) as store:
        pragmas = {
            name: store.submit(lambda c, name=name: c.exec_driver_sql(f"PRAGMA {name}").scalar()).result()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_postgresql_commits_to_disk(postgres_url: str) -> None:
    with contextlib.closing(Store(postgres_url)) as store:
        assert store.read_now(lambda c: c.execute(text("SHOW synchronous_commit")).scalar()) == "on"


@pytest.mark.parametrize(("sqlstate", "tries"), [("40001", 5), ("40P01", 5), ("23505", 1)])
def test_what_another_transaction_spoilt_is_run_again(store: Store, sqlstate: str, tries: int) -> None:
    class SpoiltError(Exception):
        pass

    SpoiltError.sqlstate = sqlstate  # type: ignore[attr-defined]
    ran = []

    def unit(_: Connection) -> None:
        ran.append(1)
        raise DBAPIError("UPDATE", {}, SpoiltError())

    with pytest.raises(StoreError):
        store.submit(unit).result(10)
    assert len(ran) == tries


def test_a_full_disk_is_told_as_one() -> None:
    class FullError(Exception):
        sqlstate = "53100"

    for original in (FullError(), sqlite3.OperationalError("database or disk is full")):
        told = engine._store_error(DBAPIError("INSERT", {}, original))
        assert isinstance(told, StoreError)
        assert "disk" in told.en
        assert told.retry_after_s >= 30


# --- times


@given(st.integers(-(2**52), 2**52), st.integers(-840, 840))
def test_a_time_comes_back_as_the_same_moment(microseconds: int, minutes: int) -> None:
    moment = (NOW + timedelta(microseconds=microseconds)).astimezone(timezone(timedelta(minutes=minutes)))
    kind = UtcTime()
    stored = kind.process_bind_param(moment, None)  # type: ignore[arg-type]
    back = kind.process_result_value(stored, None)  # type: ignore[arg-type]
    assert back == moment
    assert back.utcoffset() == timedelta(0)


def test_a_naive_time_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        store.submit(
            lambda c: c.execute(
                insert(sites).values(
                    site_id="A", name="", authority="", province="", created_at=NOW.replace(tzinfo=None)
                )
            )
        ).result()
    assert names(store) == []


def test_the_lock_names_its_process(sqlite_url: str, tmp_path: Path) -> None:
    with contextlib.closing(Store(sqlite_url)):
        assert (tmp_path / "printsvc.db.lock").read_text() == f"{os.getpid()}\n"
