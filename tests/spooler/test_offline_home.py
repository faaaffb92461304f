"""A book that comes home: brought once, whatever is full, damaged or refused, and told in a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from proofs.bagsite import (
    AGENT,
    IDENTITY,
    NOW,
    PASSPHRASE,
    Site,
    add_second_bag,
    hand_over,
)
from proofs.daybag import dose_document

from printsvc.errors import (
    AccessError,
    InputError,
    PrintsvcError,
)
from spooler.bagprotocol import EntryResult, SyncAnswer, SyncRequest
from spooler.core.attempt import Job
from spooler.journal import Journal
from spooler.link import LinkDownError
from spooler.offline.carrier import Carrier
from spooler.offline.desk import Desk
from spooler.offline.line import BagLine, BagRefusedError
from spooler.offline.taking import open_held
from spooler.offlinecli import _documents as read_documents
from spooler.offlinecli import _parsed as parse_document
from spooler.offlinecli import offline as offline_commands
from spooler.offlinecli import summary_document
from spooler.protocol import EnrollAnswer, Event, EventKind, JobId, LeasedJob


def test_papers_are_handed_before_they_are_brought_and_brought_once(site: Site) -> None:
    carrier = Carrier(site.state_dir, "journal-1")
    carrier.open()
    for number in range(3):
        site.enter(f"D-{number}")
    assert carrier.next_request() is None  # not in the journal yet
    papers = carrier.unhanded()
    assert carrier.unknown_jobs == {paper.job_id for paper in papers}
    carrier.mark_handed(papers[0])
    request = carrier.next_request()
    assert request is not None
    assert [entry.seq for entry in request.entries] == [1]
    for paper in papers[1:]:
        carrier.mark_handed(paper)
    assert carrier.unhanded() == []
    request = carrier.next_request()
    assert request is not None
    assert [entry.seq for entry in request.entries] == [1, 2, 3]
    said = EntryResult(seq=2, outcome="conflict", reason="person_has_dose")
    carrier.take_answer("bag-1", SyncAnswer(acknowledged=2, results=(said,)))
    assert carrier.unknown_jobs == {papers[2].job_id}
    request = carrier.next_request()
    assert request is not None
    assert [entry.seq for entry in request.entries] == [3]
    assert site.book.summary()["conflicts"] == [
        {"dose_id": "D-1", "uvci": AGENT.range.uvci(1), "reason": "person_has_dose"}
    ]
    carrier.take_answer("bag-1", SyncAnswer(acknowledged=3))
    assert carrier.next_request() is None
    carrier.close()


class Home:
    """A centre that takes everything, and notes what it was brought; `answer` may say otherwise."""

    def __init__(self, answer: Any = None) -> None:
        self.brought: list[tuple[str, list[int]]] = []
        self.answer = answer

    async def bring(self, request: SyncRequest) -> SyncAnswer:
        self.brought.append((request.bag_id, [entry.seq for entry in request.entries]))
        if self.answer is not None:
            self.answer(request)
        return SyncAnswer(acknowledged=request.entries[-1].seq)


async def on_disk(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


@contextlib.contextmanager
def unwritable(carrier: Carrier, state_dir: Path) -> Iterator[None]:
    """As on a full disk: what is read is read, and nothing is written."""
    assert carrier._book is not None
    carrier._book._connection.execute("PRAGMA busy_timeout = 1")
    with contextlib.closing(sqlite3.connect(state_dir / "daybag" / "book.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def test_a_full_disk_is_a_cut_line_and_nothing_is_lost(site: Site) -> None:
    carrier = Carrier(site.state_dir, "journal-1")
    carrier.open()
    for number in range(2):
        site.enter(f"D-{number}")
    taken: list[JobId] = []
    home: Any = Home()
    pauses: list[str] = []
    full = contextlib.ExitStack()

    async def take_paper(job: LeasedJob, document: bytes) -> bool:
        if job.job_id not in taken:
            taken.append(job.job_id)
        return True

    async def pause(failures: int, error: PrintsvcError | None) -> None:
        assert error is not None
        pauses.append(error.code)
        if failures == 2:
            full.close()
        await asyncio.sleep(0)

    async def until(ready: Callable[[], bool], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        while not ready() and not task.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert ready(), task.exception()
        task.cancel()
        await asyncio.wait([task])

    full.enter_context(unwritable(carrier, site.state_dir))
    await until(lambda: site.book.unhanded() == [], carrier.hand_over(on_disk, take_paper, pause))
    assert (pauses, len(taken)) == (["book_unwritable"] * 2, 2)
    full.enter_context(unwritable(carrier, site.state_dir))
    await until(lambda: not carrier.unknown_jobs, carrier.bring_home(home, on_disk, pause))
    assert pauses == ["book_unwritable"] * 4
    assert home.brought == [("bag-1", [1, 2])] * 3
    assert site.book.summary()["not_brought"] == 0
    carrier.close()


def event_of(job_id: str, seq: int) -> Event:
    return Event(seq=seq, kind=EventKind.PRINTED, job_id=JobId(job_id), fencing_token=1, at=NOW)


async def test_a_damaged_book_stops_no_job_of_the_centre(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    offline = site.enter().job_id
    site.book.close()
    path = site.state_dir / "daybag" / "book.db"
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    whole = path.read_bytes()
    path.write_bytes(b"garbage" * 1000)

    carrier = Carrier(site.state_dir, "journal-1")
    carrier.start()  # and does not end the agent
    online = "0123456789abcdef0123"
    jobs = [Job(JobId(job_id), 1, "0" * 64, 1, 1) for job_id in (online, offline)]
    assert [held.job_id for held in carrier.holding(jobs)] == [online]
    events = (event_of(online, 1), event_of(offline, 2), event_of(online, 3))
    assert carrier.reportable(events) == events
    await carrier.is_home()
    taken: list[JobId] = []
    pauses: list[int] = []

    async def take_paper(job: LeasedJob, document: bytes) -> bool:
        taken.append(job.job_id)
        return True

    async def pause(failures: int, error: PrintsvcError | None) -> None:
        assert error is not None
        assert error.code == "book_damaged"
        pauses.append(failures)
        if failures == 3:  # somebody has put it right
            path.write_bytes(whole)
        await asyncio.sleep(0)

    work = asyncio.ensure_future(carrier.hand_over(on_disk, take_paper, pause))
    while not taken and not work.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not work.done(), work.exception()
    work.cancel()
    assert (taken, pauses) == ([offline], [1, 2, 3])
    assert carrier.unknown_jobs == {offline}
    assert capsys.readouterr().out.count("book_damaged") == 1, "told once"
    carrier.close()


async def test_reports_of_own_jobs_wait_for_a_book_that_cannot_be_opened(site: Site) -> None:
    offline = site.enter().job_id
    site.book.close()
    path = site.state_dir / "daybag" / "book.db"
    aside = path.with_suffix(".aside")
    path.rename(aside)
    path.mkdir()  # as where it may not be read
    carrier = Carrier(site.state_dir, "journal-1")
    carrier.start()
    online = event_of("0" * 20, 1)
    assert carrier.reportable((online, event_of(offline, 2), event_of("1" * 20, 3))) == (online,)
    path.rmdir()
    aside.rename(path)
    assert len(carrier.unhanded()) == 1
    assert len(carrier.reportable((online, event_of(offline, 2)))) == 2
    carrier.close()


def test_offline_commands_refuse_a_damaged_book_in_a_sentence(tmp_path: Path) -> None:
    enrolled(tmp_path)
    (tmp_path / "daybag").mkdir()
    (tmp_path / "daybag" / "book.db").write_bytes(b"garbage" * 1000)
    for command in ("status", "sync"):
        result = CliRunner().invoke(offline_commands, [command, "--state-dir", str(tmp_path)])
        assert (result.exit_code, "damaged" in result.output, "bị hỏng" in result.output) == (1, True, True)


def test_offline_commands_without_enrolment_say_what_to_do(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a long passphrase")
    for command in (["take", "--passphrase-file", str(passphrase)], ["sync"]):
        for _ in range(2):
            result = CliRunner().invoke(offline_commands, [*command, "--state-dir", str(tmp_path / "state")])
            assert result.exit_code == 1, result.output
            assert "not enrolled: printsvc-spooler enroll" in result.output
            assert "Chưa đăng ký" in result.output
            Journal.open(tmp_path / "state", make_journal_id=lambda: "j" * 32).close()  # made, and not enrolled
        shutil.rmtree(tmp_path / "state")


def test_a_passphrase_that_is_no_text_is_told(tmp_path: Path) -> None:
    enrolled(tmp_path)
    (tmp_path / "passphrase").write_bytes(b"\xff\xfe a long passphrase")
    arguments = ["take", "--passphrase-file", str(tmp_path / "passphrase"), "--state-dir", str(tmp_path)]
    result = CliRunner().invoke(offline_commands, arguments)
    assert (result.exit_code, "UTF-8" in result.output) == (1, True), result.output


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b'\n \n{"a": 1}\n\n{"a": 2}\n', [3, 5]),
        (b'{bad\n{"a": 1}\n{"a": 2}\n', [1, 2, 3]),
        (b'{"a": 1}\n{bad\n{"a": 2}', [1, 2, 3]),
        (b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n', [1, 2]),
        (b'\n{\n"a":\n1\n}\n', [2]),
        (b'{\n"a":\n"text"\n', [1]),
        (b"[" * 200_000, [1]),
        (b"[" * 200_000 + b'\n{"a": 1}\n', [1, 2]),
        (b"\n\n", []),
        (b"", []),
    ],
)
def test_a_line_that_is_no_json_costs_only_itself(text: bytes, lines: list[int]) -> None:
    found = list(read_documents(io.BytesIO(text)))
    assert [number for number, _ in found] == lines
    for _, document in found:
        with contextlib.suppress(InputError):  # the answer of that line
            assert isinstance(parse_document(document), dict)


def enrolled(state_dir: Path) -> None:
    answer = EnrollAnswer(agent_id="agent-1", site_id="HN-1", token="token")
    with contextlib.closing(Journal.open(state_dir, make_journal_id=lambda: "j" * 32)) as journal:
        journal.enroll("http://127.0.0.1:1", answer)


def second_bag(site: Site) -> Desk:
    """Take another bag, and open its desk."""
    add_second_bag(site)
    held = next(one for one in site.book.bags() if one.bag_id == "bag-2")
    bag = open_held(site.book, held, IDENTITY, PASSPHRASE)
    return Desk(site.book, bag, held.sealed, PASSPHRASE, stamper=site.stamp)


async def test_a_bag_that_the_centre_refuses_stops_nothing_else(site: Site) -> None:
    refused = site.enter("D-1").job_id
    other = second_bag(site).enter(dose_document("D-2"), now=NOW).job_id
    carrier = Carrier(site.state_dir, "journal-1")
    carrier.open()
    hand_over(site)

    def refuse(request: SyncRequest) -> None:
        if request.bag_id == "bag-1":
            raise BagRefusedError("This day bag is another agent's.", vi="Của điểm in khác.", code="access")

    home: Any = Home(refuse)

    async def pause(failures: int, error: PrintsvcError | None) -> None:
        raise AssertionError(error)

    assert carrier.unknown_jobs == {refused, other}
    bringing = asyncio.ensure_future(carrier.bring_home(home, on_disk, pause))
    await asyncio.wait({bringing, waits := asyncio.ensure_future(carrier.is_home())}, return_when="FIRST_COMPLETED")
    assert waits.done()
    bringing.cancel()
    assert home.brought == [("bag-1", [1]), ("bag-2", [1])], "asked once, and the others after it"
    assert carrier.unknown_jobs == {refused}, "not told as a job that the service knows"
    document = summary_document(site.book, {"jobs": []}, NOW)
    assert [(one["bag_id"], "refused" in one) for one in document["bags"]] == [("bag-2", False), ("bag-1", True)]
    assert document["bags"][1]["refused"]["detail_vi"] == "Của điểm in khác."

    carrier.note_reported([JobId(refused), JobId(other)])
    carrier.close()
    carrier = Carrier(site.state_dir, "journal-1")  # as after a restart: it is tried again
    carrier.open()
    await carrier.is_home()
    request = carrier.next_request()
    assert request is not None
    assert [(entry.seq, entry.told_before) for entry in request.entries] == [(1, True)]
    carrier.take_answer("bag-1", SyncAnswer(acknowledged=1))
    assert (carrier.unknown_jobs, site.book.refusals()) == (frozenset(), {})
    carrier.close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, b'{"code": "access", "detail": "no", "detail_vi": "kh\xc3\xb4ng"}', BagRefusedError),
        (404, b'{"code": "not_found", "detail": "no"}', BagRefusedError),
        (404, b"<html>", LinkDownError),
        (503, b'{"code": "busy", "detail": "no"}', LinkDownError),
        (401, b'{"code": "access", "detail": "no"}', AccessError),
        (200, b"<html>", LinkDownError),
    ],
)
async def test_only_a_sentence_of_the_centre_refuses_a_bag(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, error: type[Exception]
) -> None:
    async def call(*_: Any, **__: Any) -> tuple[int, bytearray, int]:
        return status, bytearray(body), 0

    line = BagLine("http://127.0.0.1:1")
    monkeypatch.setattr(line, "_call", call)
    with pytest.raises(error):
        await line.bring(SyncRequest(journal_id="j", bag_id="b", entries=()))
    await line.close()
