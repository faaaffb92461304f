"""Several day bags of one site, and how they are taken: the right key, the right numbers, the right passphrase."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from proofs.bagsite import (
    ARCHIVE,
    COUNTRY,
    IDENTITY,
    NOW,
    PASSPHRASE,
    Site,
    TextStamp,
    add_second_bag,
    hand_over,
)
from proofs.daybag import BagAgent, dose_document, elliptic

from printsvc.credential.keys import make_private_key
from printsvc.domain.print_job import CopyReason
from printsvc.errors import (
    InputError,
    NotFoundError,
    SigningError,
    StateError,
)
from printsvc.issuing.bag import open_bag
from spooler.core.attempt import Job, Phase
from spooler.core.messages import Save
from spooler.journal import Identity, Journal
from spooler.link import LinkDownError
from spooler.offline.book import Book
from spooler.offline.line import NoBagError
from spooler.offline.taking import Desks, open_held, take_bag
from spooler.offlinecli import summary_document
from spooler.peek import peek
from spooler.protocol import JobId


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
