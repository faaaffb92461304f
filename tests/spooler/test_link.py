"""The line to the service, against a service that breaks off, repeats, is busy, slow, or talks nonsense."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.errors import AccessError
from spooler.link import DocumentWrongError, Link, LinkDownError, backoff_s, worth_telling
from spooler.protocol import EnrollRequest, Event, EventKind, JobId, LeaseRequest, PrinterReport, ReportRequest

LEASE = LeaseRequest(journal_id="j", capacity=5)


@pytest.fixture
async def link(service: Any) -> AsyncIterator[Link]:
    opened = Link(service.url, token=service.token, timeout_s=30)
    yield opened
    await opened.close()


def event(seq: int, job_id: str) -> Event:
    return Event(seq=seq, kind=EventKind.PRINTED, job_id=JobId(job_id), fencing_token=1, at=datetime.now(UTC))


async def test_code_is_traded_once_for_a_token(service: Any) -> None:
    link = Link(service.url, timeout_s=30)
    answer = await link.enroll(EnrollRequest(code="one-time", journal_id="j"))
    assert answer.token == service.token
    with pytest.raises(AccessError):
        await link.enroll(EnrollRequest(code="one-time", journal_id="j"))
    with pytest.raises(AccessError):
        await link.lease(LEASE)
    link.use_token(answer.token)
    assert (await link.lease(LEASE)).jobs == ()
    await link.close()


@pytest.mark.parametrize("fault", ["drop", "refuse", "503", "500", "429", "404", "400", "slow", "garbage"])
async def test_every_failure_of_the_service_is_one_error(service: Any, link: Link, fault: str) -> None:
    service.fail("lease", fault)
    asking = Link(service.url, token=service.token, timeout_s=0.5 if fault == "slow" else 30)
    with pytest.raises(LinkDownError) as caught:
        await asking.lease(LEASE)
    await asking.close()
    assert caught.value.retry_after_s == (1 if fault == "503" else 0)
    assert (await link.lease(LEASE)).jobs == ()


@pytest.mark.parametrize(
    ("url", "en", "vi"),
    [
        ("notaurl", "at notaurl: this is no address", "địa chỉ không đúng dạng"),
        ("http://user:secret@127.0.0.1:9", "at 127.0.0.1:9: ", "127.0.0.1:9"),
        ("http://127.0.0.1:9", "at http://127.0.0.1:9: nothing answers there", "không có máy nào trả lời"),
    ],
)
async def test_why_the_service_cannot_be_reached(url: str, en: str, vi: str) -> None:
    link = Link(url, token="token", timeout_s=2)
    with pytest.raises(LinkDownError) as caught:
        await link.lease(LEASE)
    await link.close()
    assert en in caught.value.en
    assert vi in caught.value.vi
    assert "secret" not in caught.value.en + caught.value.vi


async def test_unknown_token_is_its_own_error(service: Any, link: Link) -> None:
    service.fail("lease", "401")
    with pytest.raises(AccessError) as caught:
        await link.lease(LEASE)
    assert caught.value.status == 401


async def test_service_that_is_not_there(link: Link) -> None:
    nowhere = Link("http://127.0.0.1:9", timeout_s=1)
    with pytest.raises(LinkDownError):
        await nowhere.lease(LEASE)
    await nowhere.close()
    wrong = Link("not an url", timeout_s=1)
    with pytest.raises(LinkDownError):
        await wrong.lease(LEASE)
    await wrong.close()


async def test_lease_waits_for_a_job(service: Any, link: Link, pdf: Callable[..., bytes]) -> None:
    job = service.add("late", pdf())
    answer = await link.lease(LEASE.model_copy(update={"wait_s": 2.0}))
    assert [leased.job_id for leased in answer.jobs] == [job]


async def test_reports_lost_on_the_way_back_are_applied_once(
    service: Any, link: Link, pdf: Callable[..., bytes]
) -> None:
    service.add("one", pdf())
    events = tuple(event(seq, "one") for seq in range(1, 4))
    service.fail("report", "drop")
    with pytest.raises(LinkDownError):
        await link.report(ReportRequest(journal_id="j", events=events))
    answer = await link.report(ReportRequest(journal_id="j", events=(*events, event(4, "one"))))
    assert answer.acknowledged == 4
    assert [result.outcome for result in answer.results] == ["duplicate"] * 3 + ["applied"]
    assert [one.seq for one in service.events] == [1, 2, 3, 4]


async def test_long_bodies_travel_compressed(service: Any, link: Link) -> None:
    printers = tuple(PrinterReport(queue=f"queue{n}", uri="ipp://printer/ipp/print") for n in range(100))
    await link.lease(LEASE.model_copy(update={"printers": printers}))
    assert service.leases[-1].printers == printers


async def test_document_is_what_its_digest_says_or_an_error(
    service: Any, link: Link, pdf: Callable[..., bytes]
) -> None:
    content = pdf("good")
    digest = hashlib.sha256(content).hexdigest()
    service.add("good", content)
    assert await link.fetch(digest, size=len(content), max_bytes=100_000) == content
    with pytest.raises(DocumentWrongError, match="larger"):
        await link.fetch(digest, size=100_001, max_bytes=100_000)
    with pytest.raises(LinkDownError, match="more than"):
        await link.fetch(digest, size=10, max_bytes=10)
    service.add("bad", content, sha256="0" * 64)
    with pytest.raises(DocumentWrongError) as caught:
        await link.fetch("0" * 64, size=len(content), max_bytes=100_000)
    assert caught.value.code == "document-digest"
    with pytest.raises(DocumentWrongError) as caught:
        await link.fetch("1" * 64, size=1, max_bytes=100_000)
    assert caught.value.code == "document-missing"
    service.fail("documents", "500", "503")
    for _ in range(2):
        with pytest.raises(LinkDownError):
            await link.fetch(digest, size=len(content), max_bytes=100_000)


@given(failures=st.integers(0, 10_000), jitter=st.floats(0, 1), longest_s=st.floats(0.1, 600))
def test_backoff_stays_within_its_bounds(failures: int, jitter: float, longest_s: float) -> None:
    pause = backoff_s(failures, jitter, longest_s=longest_s)
    assert 0 <= pause <= longest_s
    assert pause <= backoff_s(failures, 1.0, longest_s=longest_s) <= backoff_s(failures + 1, 1.0, longest_s=longest_s)


async def test_a_service_that_packs_no_more_is_called_plainly(service: Any) -> None:
    """The centre went back to an older release while the agent was running."""
    link = Link(service.url, token="ps_" + "0" * 64, timeout_s=30)
    service.token, service.line = "ps_" + "0" * 64, 1
    await link.lease(LEASE)
    with pytest.raises(LinkDownError, match="404"):
        await link.lease(LEASE)
    service.line = 0
    for _ in range(2):
        assert (await link.lease(LEASE)).jobs == ()
    assert [verb for verb in service.calls if verb == "lease"] == ["lease"] * 3
    await link.close()


def test_a_line_is_not_used_to_say_that_a_printer_began_to_print() -> None:
    idle = PrinterReport(queue="lp1", state=3, marker_levels=(80,))
    busy = idle.model_copy(
        update={"state": 4, "marker_levels": (79,), "state_reasons": ("cups-waiting-for-job-completed",)}
    )
    assert worth_telling([idle]) == worth_telling([busy])
    for change in ({"state": 5}, {"accepting": False}, {"state_reasons": ("media-empty-error",)}, {"problems": ("x",)}):
        assert worth_telling([idle]) != worth_telling([idle.model_copy(update=change)])
