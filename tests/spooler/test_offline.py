"""The desk and the book of a site without a line: issued once, each UVCI once, whatever is killed or repeated."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proofs.daybag import BagAgent, Country, dose_document, elliptic

from printsvc.credential.keys import make_private_key, open_private_key, seal_private_key
from printsvc.credential.trust import make_trust_list
from printsvc.credential.verify import Outcome, verify
from printsvc.domain.copies import CopyLimits
from printsvc.domain.form import PageData
from printsvc.domain.print_job import CopyReason
from printsvc.errors import (
    AccessError,
    DuplicateError,
    InputError,
    NotFoundError,
    PrintsvcError,
    SigningError,
    StateError,
)
from printsvc.issuing.bag import make_request, open_bag
from printsvc.render.stamp import NeedsWeasyPrint
from spooler.bagprotocol import EntryResult, SyncAnswer, SyncRequest, is_offline
from spooler.core.attempt import Job, Phase
from spooler.core.messages import Save
from spooler.journal import Identity, Journal
from spooler.link import LinkDownError
from spooler.offline.book import Book
from spooler.offline.carrier import Carrier, leased_of
from spooler.offline.desk import Desk, offline_job_id
from spooler.offline.line import BagLine, BagRefusedError, NoBagError
from spooler.offline.taking import Desks, open_held, take_bag
from spooler.offlinecli import _documents as read_documents
from spooler.offlinecli import _parsed as parse_document
from spooler.offlinecli import offline as offline_commands
from spooler.offlinecli import summary_document
from spooler.peek import peek
from spooler.protocol import EnrollAnswer, Event, EventKind, JobId, LeasedJob

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
COUNTRY = Country(NOW)
AGENT = BagAgent(COUNTRY)
ARCHIVE = AGENT.archive()
PASSPHRASE = b"a long passphrase"
IDENTITY = Identity("journal-1", "http://127.0.0.1:1", "agent-1", "HN-1", "token")


class TextStamp:
    """Draws a line of text; a name with a star needs the centre; `fails` makes it break in the middle."""

    def __init__(self) -> None:
        self.fails = False

    def stamp(self, page: PageData) -> bytes:
        if self.fails:
            raise KeyboardInterrupt
        if page["full_name"].startswith("XA"):
            raise NeedsWeasyPrint("glyph", "full_name")
        return f"%PDF {page['uvci']} {page['qr']}".encode()


class Site:
    def __init__(self, state_dir: Path, agent: BagAgent = AGENT, archive: bytes = ARCHIVE) -> None:
        self.agent, self.state_dir, self.stamp = agent, state_dir, TextStamp()
        self.book = Book.open(state_dir)
        if not self.book.bags():
            self.book.add_key(b"request", seal_private_key(agent.key, PASSPHRASE), NOW)
            manifest = agent.manifest
            self.book.pin(COUNTRY.csca)
            self.book.add_bag("bag-1", 1, archive, request=b"request", expires_at=manifest.expires_at, now=NOW)
        held = self.book.bags()[0]
        bag = open_held(self.book, held, IDENTITY, PASSPHRASE)
        self.desk = Desk(self.book, bag, held.sealed, PASSPHRASE, stamper=self.stamp)

    def enter(self, dose_id: str = "D-1", *, now: datetime = NOW, **changes: Any) -> Any:
        return self.desk.enter(dose_document(dose_id, **changes), now=now)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.book.close()


def test_a_dose_is_issued_signed_and_ready_to_print(site: Site) -> None:
    answer = site.enter()
    assert (answer.outcome, answer.uvci, answer.paper, answer.left) == ("issued", AGENT.range.uvci(0), "site", 4)
    (paper,) = site.book.unhanded()
    code = paper.document.decode().partition(" HC1:")[2]
    trust = make_trust_list([AGENT.dsc], version=1, made_at=NOW)
    assert verify(f"HC1:{code}", trust=trust, at=NOW).verdict is Outcome.VALID
    assert is_offline(paper.job_id)
    assert paper.job_id == offline_job_id(answer.uvci)
    assert not is_offline(JobId("0123456789abcdef0123"))
    assert leased_of(paper).document.size == len(paper.document)


def test_a_replay_is_answered_and_another_body_is_not(site: Site) -> None:
    first = site.enter()
    again = site.enter(now=NOW + timedelta(minutes=3))
    assert (again.outcome, again.uvci, len(site.book.unhanded())) == ("replayed", first.uvci, 1)
    with pytest.raises(DuplicateError) as caught:
        site.enter(lot="OTHER")
    assert caught.value.fields == ["/dose/lot"]


def test_held_refused_and_what_needs_the_centre_use_what_they_should(site: Site) -> None:
    held = site.enter("D-1", id_number="001285012345")
    assert (held.outcome, held.uvci, held.paper, held.left) == ("held", "", "", 5)
    with pytest.raises(InputError):
        site.enter("D-2", product="none")
    with pytest.raises(InputError):
        site.enter("D-2", site_id="HN-2")
    centre = site.enter("D-3", full_name="XA THỊ MỶ")
    assert (centre.outcome, centre.paper, centre.paper_reason) == ("issued", "centre", "glyph")
    assert site.book.unhanded() == []
    summary = site.book.summary()
    assert (summary["held"], summary["needs_the_centre"], summary["issued"]) == (["D-1"], ["D-3"], 1)


def hand_over(site: Site) -> None:
    """As the agent does."""
    for paper in site.book.unhanded():
        site.book.mark_handed(paper)


def test_a_spoilt_paper_gets_a_numbered_copy(site: Site) -> None:
    first = site.enter()
    copies = []
    jobs = []
    for _ in range(2):
        jobs += [leased_of(paper) for paper in site.book.unhanded()]
        hand_over(site)
        copies.append(site.desk.again("D-1", CopyReason.SPOILT, now=NOW + timedelta(minutes=1)))
    jobs += [leased_of(paper) for paper in site.book.unhanded()]
    hand_over(site)
    assert [(job.copy_number, job.module_um) for job in jobs] == [(1, 339), (2, 339), (3, 339)]
    assert {one.uvci for one in copies} == {first.uvci}
    assert len({first.job_id, *(one.job_id for one in copies)}) == 3
    carrier = Carrier(site.state_dir, "journal-1")
    carrier.open()
    request = carrier.next_request()
    assert request is not None
    told = [(entry.copy_number, entry.copy_reason, entry.uvci) for entry in request.entries]
    assert told == [(1, "", ""), (2, "spoilt", first.uvci), (3, "spoilt", first.uvci)]
    carrier.close()
    assert site.enter(now=NOW + timedelta(minutes=2)).outcome == "replayed"
    second = site.enter("D-2", now=NOW + timedelta(minutes=2))
    assert second.uvci == AGENT.range.uvci(1)  # a copy uses no certificate
    site.enter("D-3", now=NOW + timedelta(minutes=2), id_number="001285012345")
    for dose_id, error in (("D-3", StateError), ("D-9", NotFoundError)):
        with pytest.raises(error):
            site.desk.again(dose_id, CopyReason.MISSING, now=NOW)
    with pytest.raises(InputError):
        site.desk.again("D-1", CopyReason.RENEWED, now=NOW)


def test_a_site_makes_two_copies_of_a_certificate_and_so_many_a_day(site: Site) -> None:
    def refused(dose_id: str, **more: Any) -> str:
        with pytest.raises(StateError) as caught:
            site.desk.again(dose_id, CopyReason.SPOILT, **({"now": NOW} | more))
        assert caught.value.vi != caught.value.en
        return caught.value.code

    for number in range(2):
        site.enter(f"D-{number}")
    for _ in range(2):
        hand_over(site)
        site.desk.again("D-0", CopyReason.SPOILT, now=NOW)
    assert refused("D-0") == "copy_under_way"  # the journal does not have it yet
    hand_over(site)
    assert refused("D-0") == "copy_limit"
    assert refused("D-1", limits=CopyLimits(2, 2)) == "copy_limit_day"
    tomorrow = NOW + timedelta(hours=15)  # 00:12 in Vietnam
    site.desk.again("D-1", CopyReason.MISSING, now=tomorrow, limits=CopyLimits(2, 1))


def test_no_copy_is_made_while_the_agent_still_prints(site: Site) -> None:
    first = site.enter()
    hand_over(site)
    with pytest.raises(StateError) as caught:
        site.desk.again("D-1", CopyReason.MISSING, now=NOW, under_way=lambda: {first.job_id})
    assert caught.value.code == "copy_under_way"
    assert site.desk.again("D-1", CopyReason.MISSING, now=NOW, under_way=lambda: {"another"}).outcome == "copy"


def test_a_book_with_more_copies_than_we_allow_is_brought_home(site: Site) -> None:
    site.enter()
    for _ in range(110):
        hand_over(site)
        site.desk.again("D-1", CopyReason.SPOILT, now=NOW, limits=CopyLimits(1000))
    hand_over(site)
    carrier = Carrier(site.state_dir, "journal-1")
    carrier.open()
    numbers: list[int] = []
    while (request := carrier.next_request()) is not None:
        sent = SyncRequest.model_validate_json(request.model_dump_json())
        numbers += [entry.copy_number for entry in sent.entries]
        carrier.take_answer("bag-1", SyncAnswer(acknowledged=sent.entries[-1].seq))
    assert numbers == list(range(1, 112))
    carrier.close()


def test_an_empty_bag_and_an_ended_one_issue_nothing(site: Site) -> None:
    for number in range(5):
        site.enter(f"D-{number}")
    with pytest.raises(StateError) as empty:
        site.enter("D-5")
    assert empty.value.code == "bag_empty"
    for moment, code in ((AGENT.signer.not_after, "bag_expired"), (NOW - timedelta(hours=3), "bag_not_yet")):
        with pytest.raises(InputError) as over:
            site.enter("D-6", now=moment)
        assert over.value.code == code
        assert over.value.vi != over.value.en
    assert site.book.summary()["entered"] == 5


def test_a_clock_that_went_back_is_told(site: Site) -> None:
    site.enter(now=NOW + timedelta(hours=2))
    with pytest.raises(StateError) as caught:
        site.enter("D-2", now=NOW + timedelta(hours=1))
    assert caught.value.code == "clock_backwards"


def test_the_key_opens_with_this_passphrase_on_this_machine_alone(tmp_path: Path) -> None:
    here, there = Book.open(tmp_path / "here"), Book.open(tmp_path / "there")
    secret = here.passphrase("a long passphrase", os.urandom)
    assert here.passphrase("a long passphrase", os.urandom) == secret
    sealed = seal_private_key(AGENT.key, secret)
    for wrong in (here.passphrase("another one", os.urandom), there.passphrase("a long passphrase", os.urandom)):
        with pytest.raises(SigningError):
            open_private_key(sealed, wrong)
    assert (tmp_path / "here" / "daybag" / "agent.secret").stat().st_mode & 0o077 == 0
    assert (tmp_path / "here" / "daybag" / "book.db").stat().st_mode & 0o077 == 0


def test_a_bag_that_somebody_changed_on_the_disk_is_not_used(site: Site) -> None:
    held = site.book.bags()[0]
    changed = bytearray(held.file.read_bytes())
    changed[len(changed) // 2] ^= 1
    held.file.write_bytes(bytes(changed))
    with pytest.raises(InputError):
        open_held(site.book, held, IDENTITY, PASSPHRASE)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=14))
def test_each_uvci_is_used_once_whatever_breaks(tmp_path_factory: Any, steps: list[tuple[int, bool]]) -> None:
    state_dir = tmp_path_factory.mktemp("site")
    site = Site(state_dir)
    issued: dict[str, str] = {}
    for number, breaks in steps:
        dose_id = f"D-{number}"
        site.stamp.fails = breaks and dose_id not in issued
        try:
            answer = site.enter(dose_id)
        except KeyboardInterrupt:
            site.book.close()
            site = Site(state_dir)  # as after a kill: all that is left is on the disk
            continue
        except StateError:
            assert len(issued) == 5  # the bag is empty
            continue
        assert issued.setdefault(dose_id, answer.uvci) == answer.uvci
    assert sorted(issued.values()) == sorted(AGENT.range.uvci(number) for number in range(len(issued)))
    assert len(site.book.unhanded()) == len(issued)
    site.book.close()


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


def add_second_bag(site: Site, passphrase: bytes = PASSPHRASE, *, hours: int = 23) -> None:
    """Take another bag, an hour later."""
    agent = BagAgent(COUNTRY)
    request = make_request(agent.key, "agent-1")
    site.book.add_key(request, seal_private_key(agent.key, passphrase), NOW)
    until = NOW + timedelta(hours=hours)
    archive = agent.archive(bag_id="bag-2", expires_at=until)
    later = NOW + timedelta(hours=1)
    site.book.add_bag("bag-2", 1, archive, request=request, expires_at=until, now=later)


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


def test_a_book_of_before_gets_the_newer_columns(site: Site) -> None:
    site.enter()
    site.book.close()
    with contextlib.closing(sqlite3.connect(site.state_dir / "daybag" / "book.db", isolation_level=None)) as old:
        for table, column in (
            ("bags", "refused"),
            ("bags", "size"),
            ("entries", "told_before"),
            ("entries", "module_um"),
        ):
            old.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    site.book = Book.open(site.state_dir)
    assert site.book.refusals() == {}
    assert len(site.book.unhanded()) == 1


def test_of_two_bags_the_oldest_with_numbers_left_is_used(site: Site) -> None:
    add_second_bag(site, hours=2)
    desks = Desks(site.book, IDENTITY, PASSPHRASE, stamper=site.stamp)

    def enter(dose_id: str, hours: float = 1.5) -> str:
        answer = desks.enter(dose_document(dose_id), now=NOW + timedelta(hours=hours))
        assert answer.outcome == "issued"
        return site.book.entries_of(dose_id)[0].bag_id

    assert [enter(f"D-{number}") for number in range(7)] == ["bag-1"] * 5 + ["bag-2"] * 2
    with pytest.raises(StateError, match="All 5") as caught:  # the second is over, the first is used up
        enter("D-7", hours=2.5)
    assert caught.value.code == "bag_empty"
    with pytest.raises(InputError) as over:
        enter("D-7", hours=30)
    assert over.value.code == "bag_expired"


def test_a_bag_that_is_over_hides_none_that_is_not(site: Site) -> None:
    add_second_bag(site, hours=2)
    held = {one.bag_id: one for one in site.book.bags()}
    desks = Desks(site.book, IDENTITY, PASSPHRASE, stamper=site.stamp)
    assert desks.enter(dose_document("D-1"), now=NOW + timedelta(hours=3)).left == 4
    assert site.book.entries_of("D-1")[0].bag_id == "bag-1"
    held["bag-1"].file.write_bytes(b"changed")
    desks = Desks(site.book, IDENTITY, PASSPHRASE, stamper=site.stamp)
    with pytest.raises(InputError):
        desks.enter(dose_document("D-2"), now=NOW + timedelta(hours=4))


def test_a_further_paper_is_made_of_a_dose_of_any_bag(site: Site) -> None:
    other = b"of another team"
    first = site.enter("D-1")
    add_second_bag(site, other)
    hand_over(site)
    late = NOW + timedelta(hours=2)
    for passphrase in (PASSPHRASE, other):
        desks = Desks(site.book, IDENTITY, passphrase, stamper=site.stamp)
        second = desks.enter(dose_document(f"D-{len(passphrase)}", full_name="LÊ THỊ BA"), now=late)
        assert second.outcome == "issued"
    hand_over(site)
    dose_id = f"D-{len(other)}"
    desks = Desks(site.book, IDENTITY, PASSPHRASE, stamper=site.stamp)
    copy = desks.again(dose_id, CopyReason.SPOILT, now=late)
    assert (copy.outcome, copy.uvci) == ("copy", second.uvci)
    hand_over(site)
    assert desks.again("D-1", CopyReason.SPOILT, now=late).uvci == first.uvci
    with pytest.raises(NotFoundError):
        desks.again("D-9", CopyReason.SPOILT, now=late)
    with pytest.raises(SigningError):
        Desks(site.book, IDENTITY, b"of nobody", stamper=site.stamp)


def test_status_shows_every_paper_that_needs_a_person_and_what_is_left(tmp_path: Path) -> None:
    book = Book.open(tmp_path)
    secret = book.passphrase("a long passphrase", os.urandom)
    line: Any = FakeLine()
    asyncio.run(take_bag(book, line, IDENTITY, secret, csca_file=None, clock=lambda: NOW))
    desks = Desks(book, IDENTITY, secret, stamper=TextStamp())
    answers = [desks.enter(dose_document(f"D-{number}"), now=NOW) for number in range(4)]
    for paper in book.unhanded():
        book.mark_handed(paper)
    copy = desks.again("D-3", CopyReason.MISSING, now=NOW)
    phases = (Phase.FAILED, Phase.UNCERTAIN, Phase.LEASED, Phase.FAILED)
    jobs = [
        Job(JobId(answer.job_id), 1, "0" * 64, 1, order, phase=phase, reason=f"because-{order}")
        for order, (answer, phase) in enumerate(zip(answers, phases, strict=True))
    ]
    jobs += [Job(JobId(copy.job_id), 1, "0" * 64, 1, 9, phase=Phase.PRINTED)]
    jobs += [Job(JobId("0" * 20), 1, "0" * 64, 1, 10, phase=Phase.FAILED)]  # of the centre, who sees to it
    with contextlib.closing(Journal.open(tmp_path, make_journal_id=lambda: "j" * 32)) as journal:
        journal.commit([Save(job) for job in jobs])
    told = summary_document(book, peek(tmp_path, with_failed=True), NOW)
    assert [
        (one["dose_id"], one["phase"], one["reason"], one.get("command", "").partition("printsvc-spooler ")[2])
        for one in told["not_printed"]
    ] == [
        ("D-0", "failed", "because-0", "offline again D-0 --reason missing"),
        ("D-1", "uncertain", "because-1", "offline again D-1 --reason missing"),
        ("D-2", "leased", "because-2", ""),
    ]
    (bag,) = told["bags"]
    assert (bag["is_over"], bag["left"]) == (False, 1)
    later = summary_document(book, {"jobs": []}, NOW + timedelta(hours=13))
    assert (later["bags"][0]["is_over"], "left" in later["bags"][0]) == (True, False)
    book.close()


class FakeLine:
    """A centre that gives a bag over whatever key it is asked for; the first answers may be lost."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.requests: list[bytes] = []
        self.agents: dict[bytes, BagAgent] = {}

    async def take_bag(self, request: bytes, journal_id: str) -> bytes:
        from printsvc.issuing.bag import read_request

        self.requests.append(request)
        agent = self.agents.setdefault(request, BagAgent(COUNTRY))
        public = read_request(request, "agent-1")

        class Over:
            def public_key(self) -> Any:
                return public

        dsc = COUNTRY.delegate(Over(), agent.range)
        bag_id = f"bag-{list(self.agents).index(request) + 1}"
        archive = agent.archive(dsc=dsc, expires_at=NOW + timedelta(hours=12), bag_id=bag_id)
        if self.failures:
            raise self.failures.pop(0)
        return archive


def test_a_key_is_kept_until_its_bag_comes_and_pins_the_first_authority(tmp_path: Path) -> None:
    book = Book.open(tmp_path)
    secret = book.passphrase("a long passphrase", os.urandom)
    line: Any = FakeLine(NoBagError("not yet", code="no_day_bag"), NoBagError("over", code="bag_over"))

    def take() -> Any:
        return asyncio.run(take_bag(book, line, IDENTITY, secret, csca_file=None, clock=lambda: NOW))

    for _ in range(2):
        with pytest.raises(NoBagError):
            take()
    bag = take()
    assert line.requests[0] == line.requests[1]  # the same key, until its bag was said to be over
    assert line.requests[1] != line.requests[2]
    assert book.pins() == [COUNTRY.csca]
    held = book.bags()[0]
    assert open_held(book, held, IDENTITY, secret).manifest == bag.manifest
    assert b"PRIVATE" in held.sealed
    with pytest.raises(InputError):
        open_held(book, held, Identity("journal-1", "", "agent-2"), secret)
    book.close()


def test_taken_again_without_new_leave_the_bag_that_is_here_comes_again(tmp_path: Path) -> None:
    book = Book.open(tmp_path)
    secret = book.passphrase("a long passphrase", os.urandom)
    line: Any = FakeLine()

    def take(now: datetime = NOW) -> Any:
        return asyncio.run(take_bag(book, line, IDENTITY, secret, csca_file=None, clock=lambda: now))

    first = take()
    line.failures = [NoBagError("none granted")]
    again = take()
    assert (again.manifest.bag_id, again.manifest.range) == (first.manifest.bag_id, first.manifest.range)
    assert [held.bag_id for held in book.bags()] == [first.manifest.bag_id]
    fresh, held = line.requests[-2:]
    assert held == line.requests[0] != fresh
    assert book.pending_requests() == []  # the next leave may be another team's, with its own passphrase

    for failures, message in (
        ([NoBagError("none granted"), NoBagError("over", code="bag_over")], "over"),
        ([NoBagError("none granted"), NoBagError("of another", code="request_of_another")], "none granted"),
        ([NoBagError("waits", code="day_bag_waits")], "waits"),
    ):
        line.failures = failures
        with pytest.raises(NoBagError, match=message):
            take()
    waits = line.requests[-1]
    assert [request for request, _ in book.pending_requests()] == [waits]  # the centre knows of this key
    line.failures = [NoBagError("none granted")]
    with pytest.raises(NoBagError, match="none granted"):
        take(NOW + timedelta(hours=13))  # what is here is of no more use
    assert [held.bag_id for held in book.bags()] == [first.manifest.bag_id]
    book.close()


def test_another_team_takes_its_bag_with_its_own_passphrase(tmp_path: Path) -> None:
    book = Book.open(tmp_path)
    line: Any = FakeLine()

    def take(passphrase: str) -> Any:
        secret = book.passphrase(passphrase, os.urandom)
        return asyncio.run(take_bag(book, line, IDENTITY, secret, csca_file=None, clock=lambda: NOW))

    line.failures = [LinkDownError("cut", retry_after_s=0)]
    with pytest.raises(LinkDownError):
        take("of the first team")  # its answer is lost: the key waits
    line.failures = [NoBagError("none granted", vi="chưa cấp")]
    with pytest.raises(NoBagError, match="another passphrase") as caught:
        take("of the second team")
    assert "mật khẩu khác" in caught.value.vi
    take("of the second team")
    assert line.requests[1] == line.requests[2] != line.requests[0]
    take("of the first team")
    assert line.requests[3] == line.requests[0], "the first team's bag still comes"
    line.failures = [NoBagError("none granted")]
    take("of the first team")
    assert line.requests[-1] == line.requests[0]
    assert book.pending_requests() == []
    book.close()


def test_a_bag_over_another_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_bag(ARCHIVE, pins=[COUNTRY.csca], key=elliptic(make_private_key()), agent_id="agent-1")
    assert caught.value.code == "bag_of_another"


_DESK = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from proofs.daybag import dose_document
from spooler.journal import Identity
from spooler.link import LinkDownError
from spooler.offline.book import Book
from spooler.offline.desk import Desk
from spooler.offline.taking import open_held


class TextStamp:
    def stamp(self, page):
        return f"%PDF {page['uvci']}".encode()


book = Book.open(Path(sys.argv[1]))
held = book.bags()[0]
bag = open_held(book, held, Identity("journal-1", "", "agent-1"), b"a long passphrase")
desk = Desk(book, bag, held.sealed, b"a long passphrase", stamper=TextStamp())
for number in range(10_000):
    answer = desk.enter(dose_document(f"D-{sys.argv[2]}-{number}"), now=datetime(2021, 10, 30, 2, 12, tzinfo=UTC))
    print(answer.dose_id, answer.uvci, flush=True)
"""


def test_kill_9_at_the_desk_uses_each_uvci_once(tmp_path: Path) -> None:
    agent = BagAgent(COUNTRY, size=2000)
    Site(tmp_path, agent, agent.archive()).book.close()
    answered: dict[str, str] = {}
    for run in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", _DESK, tmp_path, str(run)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3 + 4 * run)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        assert all(line.endswith("\n") for line in lines[:3])
        answered |= dict(line.split() for line in lines if line.endswith("\n"))  # what somebody was told of
    book = Book.open(tmp_path)
    uvcis = [paper.document.decode().split()[1] for paper in book.unhanded(limit=100_000)]
    assert uvcis == [agent.range.uvci(number) for number in range(len(uvcis))]
    assert set(answered.values()) <= set(uvcis)
    assert len(answered) == len(set(answered.values())) >= 3
    book.close()
