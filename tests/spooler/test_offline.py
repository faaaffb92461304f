"""The desk and the book of a site without a line: issued once, each UVCI once, whatever is killed or repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proofs.bagsite import (
    AGENT,
    COUNTRY,
    IDENTITY,
    NOW,
    PASSPHRASE,
    Site,
    hand_over,
)
from proofs.daybag import BagAgent

from printsvc.credential.keys import open_private_key, seal_private_key
from printsvc.credential.trust import make_trust_list
from printsvc.credential.verify import Outcome, verify
from printsvc.domain.copies import CopyLimits
from printsvc.domain.print_job import CopyReason
from printsvc.errors import (
    DuplicateError,
    InputError,
    NotFoundError,
    SigningError,
    StateError,
)
from spooler.bagprotocol import SyncAnswer, SyncRequest, is_offline
from spooler.offline.book import Book
from spooler.offline.carrier import Carrier, leased_of
from spooler.offline.desk import offline_job_id
from spooler.offline.taking import open_held
from spooler.protocol import JobId


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
