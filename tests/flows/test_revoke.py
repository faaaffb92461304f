"""Revoking on both databases: once however often it is asked, never half, undone by the rules alone."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import pytest

from printsvc.credential.hcert import decode_hcert
from printsvc.credential.revocation import HashType, revocation_hashes
from printsvc.credential.verify import Outcome, subject_of, verify
from printsvc.domain.print_job import CopyReason, Happening, JobEvent
from printsvc.domain.revocation import REASONS, RevocationReason
from printsvc.errors import DuplicateError, InputError, NotFoundError, StateError
from printsvc.flows import dispatch, revoke
from printsvc.flows.papers import Seen, print_copy, retry_job, settle_job
from printsvc.flows.revocation_lists import StoreRevocations
from printsvc.flows.revoke import UndoReason
from printsvc.flows.signers import load_trust_list
from printsvc.store import jobs as job_store
from printsvc.store import revocations as revocation_store
from printsvc.store.revocations import DoseQuery

FRAUD, DATA = RevocationReason.FRAUD, RevocationReason.DATA_ERROR


async def issue(world: Any, dose_id: str = "A", **changes: Any) -> Any:
    """Return a certificate that was issued now."""
    (recorded,) = await world.record(world.event(dose_id, **changes))
    return recorded.dose.certificate


async def is_revoked(world: Any, uvci: str) -> bool:
    """Ask all who know: the current revocation, the certificate's mark; they must agree."""
    current = await world.store.read(lambda c: revocation_store.find_current(c, uvci))
    marks = await world.store.read(lambda c: revocation_store.known_certificates(c, [uvci]))
    assert (current is not None) == marks[uvci]
    return current is not None


async def history(world: Any, uvci: str) -> list[Any]:
    return list(await world.store.read(lambda c: revocation_store.history_of(c, uvci)))


async def test_a_revoked_certificate_is_revoked_for_every_verifier(world: Any) -> None:
    certificate = await issue(world)
    trust = await load_trust_list(world.store)
    if not trust.certificates:
        from printsvc.credential.trust import make_trust_list

        der = world.services.signers.current(world.clock.now).certificate
        trust = make_trust_list([der], version=1, made_at=world.clock.now)
    ask = StoreRevocations(world.store)

    async def verdict() -> Any:
        return await asyncio.to_thread(
            verify, certificate.hcert, trust=trust, at=world.clock.now, revocations=ask
        )  # fmt: skip

    assert (await verdict()).is_valid
    made, replayed = await revoke.revoke(world.services, certificate.uvci, DATA, actor="admin")
    assert (made.reason, made.revoked_by, made.kid, replayed) == (DATA, "admin", certificate.kid, False)
    told = await verdict()
    assert told.verdict is Outcome.REVOKED
    assert told.revocation.to_json() == {
        "revoked_at": "2021-10-30T02:12:00Z",
        "reason": "data_error",
        "reason_en": REASONS[DATA].en,
        "reason_vi": REASONS[DATA].vi,
        "certain": True,
    }
    assert await is_revoked(world, certificate.uvci)
    await revoke.undo(world.services, certificate.uvci, UndoReason.MISTAKE, actor="chief")
    assert (await verdict()).is_valid, "undone is undone for everybody at once"
    assert not await is_revoked(world, certificate.uvci)


async def test_the_hashes_are_those_of_the_code(world: Any) -> None:
    certificate = await issue(world)
    made, _ = await revoke.revoke(world.services, certificate.uvci, FRAUD, actor="a")
    subject = subject_of(decode_hcert(certificate.hcert))
    assert (made.uci_hash,) == revocation_hashes(HashType.UCI, subject)
    assert made.uci_hash == hashlib.sha256(certificate.uvci.encode()).digest()[:16]
    assert (made.signature_hash,) == revocation_hashes(HashType.SIGNATURE, subject)
    for digest in (made.uci_hash, made.country_uci_hash, made.signature_hash):
        found = await world.store.read(lambda c, d=digest: revocation_store.find_by_hash(c, d))
        assert found == made
    assert await world.store.read(lambda c: revocation_store.find_by_hash(c, bytes(16))) is None


async def test_many_who_revoke_at_once_revoke_once(world: Any) -> None:
    certificate = await issue(world)
    answers = await asyncio.gather(
        *(revoke.revoke(world.services, certificate.uvci, DATA, actor="a") for _ in "123456")
    )
    assert sorted(replayed for _, replayed in answers) == [False, True, True, True, True, True]
    assert len({made.revocation_pk for made, _ in answers}) == 1
    with pytest.raises(DuplicateError) as caught:
        await revoke.revoke(world.services, certificate.uvci, FRAUD, actor="a")
    assert caught.value.fields == ["/reason"]
    assert len(await history(world, certificate.uvci)) == 1


async def test_a_late_retry_does_not_revoke_what_was_undone(world: Any) -> None:
    certificate = await issue(world)
    ask = {"actor": "a", "request_id": "r-1"}
    first, _ = await revoke.revoke(world.services, certificate.uvci, DATA, **ask)
    await revoke.undo(world.services, certificate.uvci, UndoReason.MISTAKE, actor="a")
    again, replayed = await revoke.revoke(world.services, certificate.uvci, DATA, **ask)
    assert (again.revocation_pk, again.is_current, replayed) == (first.revocation_pk, False, True)
    assert not await is_revoked(world, certificate.uvci)
    with pytest.raises(DuplicateError):
        await revoke.revoke(world.services, certificate.uvci, FRAUD, **ask)
    other, replayed = await revoke.revoke(world.services, certificate.uvci, DATA, actor="a", request_id="r-2")
    assert not replayed
    assert other.change > again.change
    assert [one.is_current for one in await history(world, certificate.uvci)] == [False, True]


async def test_undo_keeps_to_the_rules(world: Any) -> None:
    begun = world.clock.now
    for number, (reason, rule) in enumerate(REASONS.items()):
        world.clock.now = begun
        uvci = (await issue(world, f"A{number}", id_number=f"00118501234{number}")).uvci
        await revoke.revoke(world.services, uvci, reason, actor="a")
        world.clock.now += timedelta(days=30, seconds=1)
        with pytest.raises(StateError) as caught:
            await revoke.undo(world.services, uvci, UndoReason.MISTAKE, actor="a")
        assert caught.value.code == "undo_not_allowed"
        world.clock.now -= timedelta(seconds=1)
        if rule.undo_within is None:
            with pytest.raises(StateError, match="cannot be undone"):
                await revoke.undo(world.services, uvci, UndoReason.MISTAKE, actor="a")
            assert await is_revoked(world, uvci)
            continue
        assert "until 2021-11-29" in caught.value.en
        undone, before = await revoke.undo(world.services, uvci, UndoReason.CONFIRMED, actor="chief")
        assert (undone.undone_by, undone.undo_reason, before) == ("chief", "confirmed", False)
        assert undone.undone_at == world.clock.now
        assert await revoke.undo(world.services, uvci, UndoReason.CONFIRMED, actor="chief") == (undone, True)


async def test_what_is_not_there_is_not_revoked(world: Any) -> None:
    certificate = await issue(world)
    with pytest.raises(NotFoundError):
        await revoke.revoke(world.services, "URN:UVCI:01:VN:NOBODY#A", DATA, actor="a")
    with pytest.raises(NotFoundError):
        await revoke.undo(world.services, certificate.uvci, UndoReason.MISTAKE, actor="a")


# --- papers


async def jobs(world: Any, uvci: str) -> list[Any]:
    return list(await world.store.read(lambda c: job_store.jobs_of(c, [uvci])))


async def test_no_paper_is_made_of_what_is_revoked(world: Any) -> None:
    certificate = await issue(world)
    (job,) = await jobs(world, certificate.uvci)
    await revoke.revoke(world.services, certificate.uvci, FRAUD, actor="admin")
    (canceled,) = await jobs(world, certificate.uvci)
    assert (canceled.state, canceled.state_reason) == ("canceled", "certificate-revoked")
    for asked in (
        dispatch.draw_certificate(world.services, job),
        print_copy(world.services, certificate.uvci, CopyReason.LOST, actor="a"),
        retry_job(world.services, job.job_id, actor="a"),
    ):
        with pytest.raises(StateError) as caught:
            await asked
        assert caught.value.code == "certificate_revoked"
        assert "30/10/2021" in caught.value.vi
    assert world.renderer.pages == []
    assert len(await jobs(world, certificate.uvci)) == 1


async def test_a_copy_may_be_printed_again_when_it_was_undone(world: Any) -> None:
    certificate = await issue(world)
    await revoke.revoke(world.services, certificate.uvci, DATA, actor="a")
    await revoke.undo(world.services, certificate.uvci, UndoReason.MISTAKE, actor="a")
    copy = await print_copy(world.services, certificate.uvci, CopyReason.LOST, actor="a")
    assert (copy.copy_number, copy.state) == (2, "waiting")


async def test_a_job_that_an_agent_holds_is_neither_printed_nor_forgotten(world: Any) -> None:
    """Its lease runs out, its certificate is revoked, it is leased again: no page, and nobody has to look."""
    agent = world.add_agent()
    certificate = await issue(world)
    ask = {"journal_id": agent.journal_id, "capacity": 1, "wait_s": 0}
    (ready,) = (await dispatch.lease(world.services, agent, **ask)).ready
    await revoke.revoke(world.services, certificate.uvci, FRAUD, actor="a")
    (held,) = await jobs(world, certificate.uvci)
    assert held.state == "leased", "the agent may be printing it now"
    world.clock.advance(1000)
    again = await dispatch.lease(world.services, agent, **ask)
    assert again.ready == ()
    (ended,) = await jobs(world, certificate.uvci)
    assert (ended.state, ended.state_reason) == ("canceled", "certificate-revoked")
    told = Happening(JobEvent.PRINT, world.clock.now, agent.agent_id, seq=1, fencing_token=ready.job.fencing_token)
    await dispatch.report(world.services, agent, agent.journal_id, [(ready.job.job_id, told)])


async def test_a_paper_that_was_printed_is_stale_at_its_site(world: Any) -> None:
    agent = world.add_agent()
    certificate = await issue(world)
    (ready,) = (
        await dispatch.lease(world.services, agent, journal_id=agent.journal_id, capacity=1, wait_s=0)
    ).ready  # fmt: skip
    told = Happening(JobEvent.DOUBT, world.clock.now, agent.agent_id, seq=1, fencing_token=1)
    await dispatch.report(world.services, agent, agent.journal_id, [(ready.job.job_id, told)])
    assert await world.store.read(revocation_store.count_stale_papers) == {}
    await revoke.revoke(world.services, certificate.uvci, FRAUD, actor="a")
    assert await world.store.read(revocation_store.count_stale_papers) == {"HN-1": 1}
    (paper,) = await world.store.read(lambda c: revocation_store.stale_papers(c, "HN-1", limit=10))
    assert (paper["uvci"], paper["copy_number"], paper["state"]) == (certificate.uvci, 1, "uncertain")
    settled, copy = await settle_job(world.services, ready.job.job_id, Seen.NOT_HERE, actor="a")
    assert (settled.state, copy) == ("failed", None), "no further paper of a revoked certificate"
    assert await world.store.read(revocation_store.count_stale_papers) == {}


async def test_the_dose_of_a_revoked_certificate_stands_on_no_other_paper(world: Any) -> None:
    first = await issue(world, "A", number=1)
    second = await issue(world, "B", number=2)
    (_, job) = (await jobs(world, first.uvci), (await jobs(world, second.uvci))[0])
    await dispatch.draw_certificate(world.services, job)
    await revoke.revoke(world.services, first.uvci, FRAUD, actor="a")
    await dispatch.draw_certificate(world.services, job)
    before, after = (sum(row is not None for row in page["rows"]) for page in world.renderer.pages)
    assert (before, after) == (2, 1)


# --- runs


async def run_to_end(world: Any, run: Any) -> Any:
    return await revoke.work(world.services, run.run_id)


async def test_a_query_is_shown_first_and_revokes_what_was_shown(world: Any) -> None:
    world.add_site("HN-2")
    here = [await issue(world, f"A{number}", lot="BAD-1") for number in range(3)]
    await issue(world, "B", lot="GOOD")
    await issue(world, "C", lot="BAD-1", site_id="HN-2")
    query = DoseQuery(lot="BAD-1", site_id="HN-1")
    shown = await revoke.preview(world.services, query)
    assert (shown.count, shown.by_site) == (3, {"HN-1": 3})
    assert set(shown.sample) == {one.uvci for one in here}
    assert not any([await is_revoked(world, one.uvci) for one in here])
    begin = {"reason": RevocationReason.DOSE_WITHDRAWN, "expected": 3, "actor": "admin"}
    run = await revoke.begin_query(world.services, shown.run_id, query, **begin)
    done = await run_to_end(world, run)
    assert (done.total, done.revoked, done.already, done.left) == (3, 3, 0, 0)
    assert done.ended_at is not None
    assert all([await is_revoked(world, one.uvci) for one in here])
    again = await revoke.begin_query(world.services, shown.run_id, query, **begin)
    assert again == done, "a retry is told what was done"
    with pytest.raises(DuplicateError):
        await revoke.begin_query(world.services, shown.run_id, DoseQuery(lot="GOOD"), **begin)
    assert (await revoke.preview(world.services, query)).count == 0


async def test_a_query_that_means_more_than_was_shown_begins_nothing(world: Any) -> None:
    await issue(world, "A")
    shown = await revoke.preview(world.services, DoseQuery(site_id="HN-1"))
    later = await issue(world, "B")
    begin = {"reason": DATA, "expected": shown.count, "actor": "a"}
    with pytest.raises(StateError) as caught:
        await revoke.begin_query(world.services, shown.run_id, DoseQuery(site_id="HN-1"), **begin)
    assert caught.value.code == "count_changed"
    assert await revoke.find_run(world.services, shown.run_id) is None
    assert not await is_revoked(world, later.uvci)


async def test_every_condition_of_a_query_counts(world: Any) -> None:
    certificate = await issue(world, "A")
    for name, good in {
        "kid": certificate.kid, "product": "EU/1/20/1528", "lot": "FG3712", "site_id": "HN-1"
    }.items():  # fmt: skip
        for value, count in ((good, 1), ("other", 0)):
            assert (await revoke.preview(world.services, DoseQuery(**{name: value}))).count == count


async def test_times_of_a_query_are_from_until_before(world: Any) -> None:
    await issue(world, "A")
    now, injected = world.clock.now, world.clock.now - timedelta(minutes=10)
    second = timedelta(seconds=1)
    for query, count in (
        (DoseQuery(issued_from=now, issued_before=now + second), 1),
        (DoseQuery(issued_from=now - second, issued_before=now), 0),
        (DoseQuery(injected_from=injected), 1),
        (DoseQuery(injected_from=injected + second), 0),
        (DoseQuery(injected_before=injected), 0),
    ):
        assert (await revoke.preview(world.services, query)).count == count, query
    with pytest.raises(InputError):
        await revoke.preview(world.services, DoseQuery())


async def test_a_file_is_all_or_nothing_unless_it_may_skip(world: Any) -> None:
    good = await issue(world, "A")
    body = f"uvci,reason\n{good.uvci},fraud\nURN:UVCI:01:VN:NOBODY,fraud\nx y,fraud\n{good.uvci},data_error\n".encode()
    report = await revoke.check_csv(world.services, body, None)
    assert [(one.line, one.code) for one in report.problems] == [
        (3, "unknown_certificate"),
        (4, "uvci_form"),
        (5, "another_reason"),
    ]
    with pytest.raises(InputError) as caught:
        await revoke.begin_csv(world.services, body, None, skip_bad=False, actor="a")
    assert [problem.pointer for problem in caught.value.problems] == ["/3/uvci", "/4/uvci", "/5/reason"]
    assert not await is_revoked(world, good.uvci)
    run, problems = await revoke.begin_csv(world.services, body, None, skip_bad=True, actor="a")
    assert len(problems) == 3
    done = await run_to_end(world, run)
    assert (done.total, done.revoked) == (1, 1)
    assert (await history(world, good.uvci))[0].reason is FRAUD


async def test_a_file_sent_twice_is_done_once(world: Any) -> None:
    some = [await issue(world, f"A{number}") for number in range(5)]
    body = ("uvci\n" + "\n".join(one.uvci for one in some)).encode()
    send = {"skip_bad": False, "actor": "a"}
    (one, _), (other, _) = await asyncio.gather(*(revoke.begin_csv(world.services, body, DATA, **send) for _ in "12"))
    assert one.run_id == other.run_id
    await asyncio.gather(*(run_to_end(world, run) for run in (one, other, one)))
    await revoke.undo(world.services, some[0].uvci, UndoReason.MISTAKE, actor="a")
    again, _ = await revoke.begin_csv(world.services, body, DATA, **send)
    done = await run_to_end(world, again)
    assert (done.revoked, done.already, done.undone) == (5, 0, 1)
    assert [len(await history(world, each.uvci)) for each in some] == [1] * 5
    assert not await is_revoked(world, some[0].uvci), "the run was done before it was undone"
    third, _ = await revoke.begin_csv(world.services, body, DATA, run_id="a-new-run-of-it", **send)
    assert (await run_to_end(world, third)).already == 4
    assert await is_revoked(world, some[0].uvci)


async def test_a_run_that_stopped_in_the_middle_goes_on(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoke, "CHUNK", 2)
    some = [await issue(world, f"A{number}") for number in range(5)]
    body = ("uvci\n" + "\n".join(one.uvci for one in some)).encode()
    run, _ = await revoke.begin_csv(world.services, body, DATA, skip_bad=False, actor="a")
    part = await revoke.work(world.services, run.run_id, for_s=0)
    assert (part.revoked, part.left, part.ended_at) == (2, 3, None)
    assert await revoke.resume_runs(world.services) == 1
    done = await revoke.find_run(world.services, run.run_id)
    assert done is not None
    assert (done.revoked, done.left) == (5, 0)
    assert await revoke.resume_runs(world.services) == 0


async def test_changes_count_every_revocation_and_every_undoing(world: Any) -> None:
    some = [await issue(world, f"A{number}") for number in range(4)]
    await asyncio.gather(*(revoke.revoke(world.services, one.uvci, DATA, actor="a") for one in some))
    await revoke.undo(world.services, some[0].uvci, UndoReason.MISTAKE, actor="a")
    listed = await world.store.read(revocation_store.list_revocations)
    undone = next(one for one in listed if not one.is_current)
    assert (undone.uvci, undone.change) == (some[0].uvci, 5)
    assert {one.change for one in listed if one.is_current} < {1, 2, 3, 4}
    current = await world.store.read(lambda c: revocation_store.list_revocations(c, is_current=True))
    assert {one.uvci for one in current} == {one.uvci for one in some[1:]}
    page = await world.store.read(lambda c: revocation_store.list_revocations(c, limit=2))
    rest = await world.store.read(lambda c: revocation_store.list_revocations(c, after=page[-1].revocation_pk))
    assert [*page, *rest] == listed
    assert await world.store.read(lambda c: revocation_store.list_revocations(c, site_id="HN-2")) == []
