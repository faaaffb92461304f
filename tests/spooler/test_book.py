"""The book of commands: each is begun once, whatever comes again, and what was cut off is told as it is."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from spooler.agent import Agent
from spooler.book import KEEP_FOR, Book, BookUnwritableError
from spooler.commands import Desk
from spooler.core.attempt import Choice, Job, Phase, State
from spooler.journal import Journal
from spooler.protocol import (
    Command,
    CommandOutcome,
    CommandResult,
    JobId,
    LeaseAnswer,
    LeaseRequest,
    QueueSettings,
    SiteSettings,
)
from spooler.settings import Settings

NOW = datetime(2021, 10, 30, 8, tzinfo=UTC)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with contextlib.closing(Book(tmp_path)) as opened:
        yield opened


def command(command_id: str = "one", verb: str = "test-page", **more: Any) -> Command:
    return Command(command_id=command_id, verb=verb, queue="a", **more)


def result(command_id: str = "one") -> CommandResult:
    return CommandResult(command_id=command_id, outcome=CommandOutcome.DONE, at=NOW)


def test_a_command_is_begun_once_also_after_a_restart(book: Book, tmp_path: Path) -> None:
    assert book.begin(command(), NOW)
    assert not book.begin(command(), NOW)
    with contextlib.closing(Book(tmp_path)) as again:
        assert [one.command_id for one in again.cut_off()] == ["one"]
        assert not again.begin(command(), NOW)
        again.end(result())
        assert again.cut_off() == []
        again.told(["one"])
        assert again.untold() == ()
        assert not again.begin(command(), NOW + timedelta(days=1)), "told, and known for long"
        again.begin(command("two"), NOW + KEEP_FOR + timedelta(days=1))
        assert again.begin(command(), NOW + KEEP_FOR + timedelta(days=2)), "forgotten at last"


def test_outcomes_wait_until_they_are_told(book: Book) -> None:
    for name in ("one", "two"):
        book.begin(command(name), NOW)
        book.end(result(name))
    assert [one.command_id for one in book.untold()] == ["one", "two"]
    book.told(["one"])
    assert [one.command_id for one in book.untold()] == ["two"]


def test_settings_outlive_the_agent(book: Book, tmp_path: Path) -> None:
    assert book.settings() == SiteSettings(version="")
    kept = SiteSettings(version="v", queues=(QueueSettings(queue="a", pool="front", dpi=600, pull_back=1),))
    book.keep_settings(kept)
    with contextlib.closing(Book(tmp_path)) as again:
        assert again.settings() == kept


def test_a_book_that_cannot_be_written_begins_nothing(book: Book, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "commands.db", timeout=0)) as other:
        other.execute("BEGIN EXCLUSIVE")
        book._connection.execute("PRAGMA busy_timeout = 1")
        with pytest.raises(BookUnwritableError):
            book.begin(command(), NOW)


def test_a_damaged_book_is_laid_aside_and_printing_goes_on(tmp_path: Path) -> None:
    damage = b"not a database at all, and long enough to be taken for one" * 40
    with contextlib.closing(Book(tmp_path)) as book:
        book.begin(command(), NOW)
    for path in tmp_path.glob("commands.db*"):
        path.write_bytes(damage)
    with contextlib.closing(Book(tmp_path)) as book:
        assert book.begin(command("two"), NOW)
    assert (tmp_path / "commands.db.damaged").read_bytes() == damage


async def test_an_answer_that_cannot_be_kept_does_not_end_the_agent(tmp_path: Path) -> None:
    with contextlib.closing(Journal.open(tmp_path, make_journal_id=lambda: "j" * 32)) as journal:
        agent = Agent(Settings(state_dir=tmp_path), journal)
        book = agent._desk._book
        book.begin(command(), NOW)
        book.end(result())
        agent._desk._results = book.untold()
        book._connection.execute("PRAGMA busy_timeout = 1")
        asked: list[LeaseRequest] = []

        class Service:
            async def lease(self, request: LeaseRequest) -> LeaseAnswer:
                asked.append(request)
                await asyncio.sleep(0)
                return LeaseAnswer(server_time=NOW)

        class Line:
            def told(self) -> dict[str, Any]:
                return {}

            async def prepare(self, answer: LeaseAnswer) -> None:
                pass

        agent._link, agent._poor = cast(Any, Service()), cast(Any, Line())
        with contextlib.closing(sqlite3.connect(tmp_path / "commands.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asking = asyncio.ensure_future(agent._ask_for_jobs())
            while len(asked) < 2 and not asking.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        while book.untold() and not asking.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not asking.done(), asking.exception()
        asking.cancel()
        await asyncio.wait([asking])
        assert [one.command_id for request in asked[:2] for one in request.results] == ["one", "one"], "told again"
        assert book.untold() == ()
        agent._disk.shutdown()  # first, as the agent does: its thread may still be writing
        agent._desk.close()


class FakeSite:
    """What the agent lends; nothing of CUPS is touched by what these tests ask."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or State()
        self.told = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.lane: Any = None
        self.printers: Any = None

    async def bring(self, event: Any) -> None:
        raise AssertionError(event)

    async def see_queues(self) -> None:
        pass

    async def on_disk(self, function: Any, *args: Any) -> Any:
        return function(*args)

    def start(self, work: Any) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    def now(self) -> datetime:
        return NOW

    def news(self) -> None:
        self.told += 1

    async def settle(self) -> None:
        while self.tasks:
            await self.tasks.pop()


def request_of(desk: Desk) -> LeaseRequest:
    return LeaseRequest(journal_id="j", capacity=0, **desk.to_tell())


async def test_what_was_cut_off_is_unknown_unless_doing_it_again_does_no_harm(book: Book) -> None:
    book.begin(command("page", "test-page"), NOW)
    book.begin(command("look", "no-such-verb"), NOW)
    site = FakeSite()
    desk = Desk(site, Settings(), book)
    await desk.open()
    await site.settle()
    told = {one.command_id: (one.outcome, one.reason) for one in request_of(desk).results}
    assert told == {
        "page": (CommandOutcome.UNKNOWN, "agent-restarted"),
        "look": (CommandOutcome.UNKNOWN, "agent-restarted"),
    }
    await desk.take(LeaseAnswer(server_time=NOW), request_of(desk))
    assert request_of(desk).results == ()


async def test_a_command_that_comes_twice_is_done_once_and_an_unknown_verb_is_refused(book: Book) -> None:
    site = FakeSite()
    desk = Desk(site, Settings(), book)
    answer = LeaseAnswer(server_time=NOW, commands=(command(verb="from-the-future"),))
    for _ in range(3):
        await desk.take(answer, request_of(desk))
    await site.settle()
    (told,) = request_of(desk).results
    assert (told.outcome, told.reason) == (CommandOutcome.REFUSED, "unknown-verb")
    assert site.told == 1
    await desk.take(answer, request_of(desk))
    await site.settle()
    assert request_of(desk).results == (), "told, and not done again"


async def test_a_command_whose_time_is_over_is_not_done(book: Book) -> None:
    site = FakeSite()
    desk = Desk(site, Settings(), book)
    late = command(verb="move", within_s=0, arguments={"job": "nobody", "to": ""})
    await desk.take(LeaseAnswer(server_time=NOW, commands=(late,)), request_of(desk))
    await site.settle()
    (told,) = request_of(desk).results
    assert (told.outcome, told.reason) == (CommandOutcome.REFUSED, "too-late")


@pytest.mark.parametrize("phase", [Phase.INTENDED, Phase.HELD, Phase.RELEASED, Phase.ASKING])
@pytest.mark.parametrize("verb", ["hold", "cancel", "move", "priority"])
async def test_a_job_at_cups_is_refused_whatever_is_asked(book: Book, phase: Phase, verb: str) -> None:
    from spooler.core.attempt import Attempt
    from spooler.protocol import AttemptId

    attempt = Attempt(AttemptId("ps-j1-1-1"), 1, "a", NOW)
    job = Job(JobId("j1"), 1, "0" * 64, 1, 1, phase=phase, attempt=attempt)
    site = FakeSite(State(jobs={job.job_id: job}))
    desk = Desk(site, Settings(), book)
    asked = command(verb=verb, arguments={"job": "j1", "to": "", "priority": 1})
    await desk.take(LeaseAnswer(server_time=NOW, commands=(asked,)), request_of(desk))
    await site.settle()
    (told,) = request_of(desk).results
    assert (told.outcome, told.reason) == (CommandOutcome.REFUSED, "job-active")


async def test_routes_are_told_when_they_change(book: Book) -> None:
    job = Job(JobId("j1"), 1, "0" * 64, 1, 1, phase=Phase.READY)
    site = FakeSite(State(jobs={job.job_id: job}, choices={job.job_id: Choice("", "waits: a: stopped", "chờ")}))
    desk = Desk(site, Settings(), book)
    desk.note_routes()
    desk.note_routes()
    (note,) = request_of(desk).routes
    assert (note.queue, note.en) == ("", "waits: a: stopped")
    assert site.told == 1
    await desk.take(LeaseAnswer(server_time=NOW), request_of(desk))
    assert request_of(desk).routes == ()
    site.state = State(jobs={job.job_id: job}, choices={job.job_id: Choice("a", "a: one of 1 that can", "a")})
    desk.note_routes()
    assert [one.queue for one in request_of(desk).routes] == ["a"]


def test_the_book_is_for_its_owner_alone(book: Book, tmp_path: Path) -> None:
    assert (tmp_path / "commands.db").stat().st_mode & 0o077 == 0
