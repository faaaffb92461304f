"""Issuing again on both databases: one new certificate each, the old one's fate, papers, many at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.credential.trust import make_trust_list
from printsvc.credential.verify import Outcome, verify
from printsvc.domain.print_job import CopyReason, Happening, JobEvent
from printsvc.domain.revocation import RevocationReason
from printsvc.domain.signer import SignerEvent, SignerState
from printsvc.errors import DuplicateError, InputError, NotFoundError, SignerError, StateError
from printsvc.flows import dispatch, leases, reissue, revoke
from printsvc.flows.papers import print_copy, unprinted
from printsvc.flows.revocation_lists import StoreRevocations
from printsvc.flows.revoke import UndoReason
from printsvc.flows.signers import LocalSigners, load_trust_list
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store import reissues as reissue_store
from printsvc.store import signers as signer_store
from printsvc.store.counts import count
from printsvc.store.reissues import Selection
from printsvc.store.revocations import DoseQuery
from printsvc.store.tables import certificates

EVERYTHING = Selection(DoseQuery(site_id="HN-1"))


def another_signer(now: Any) -> LocalSigner:
    csca_key, key = make_private_key(), make_private_key()
    csca = make_csca(csca_key, country="VN", organisation="MOH", common_name="CSCA VN", serial=1, now=now)
    dsc = make_dsc(
        key.public_key(), csca=csca, csca_key=csca_key, organisation="MOH", common_name="DSC 3", serial=3, now=now
    )
    return LocalSigner(dsc, key)


@pytest.fixture
def published(world: Any, publish: Any) -> Any:
    """The world, whose signer is in the books, and a second one that signs from now on."""
    old = world.services.signers.signers[0]
    world.old, world.new = old, another_signer(world.clock.now)
    publish(world.store, old, now=world.clock.now, state=SignerState.VERIFYING)
    publish(world.store, world.new, now=world.clock.now)
    return world


def rotate(world: Any) -> Any:
    """Let the second signer sign; return the flows."""
    world.services = replace(world.services, signers=LocalSigners([world.new]))
    return world.services


async def issue(world: Any, number: int, **changes: Any) -> Any:
    made = await world.record(
        *(world.event(f"D-{n}", id_number=f"0011850{n:05d}", **changes) for n in range(number))
    )  # fmt: skip
    return [one.dose.certificate for one in made]


async def run(world: Any, selection: Selection = EVERYTHING, run_id: str = "run-of-test", **more: Any) -> Any:
    """Preview, begin and work to the end."""
    options = {"is_printed": False, "revokes_old": False, "actor": "admin"} | more
    chosen = await reissue.choose(world.services, selection, options.pop("signer", None))
    shown = await reissue.preview(world.services, chosen)
    begun = await reissue.begin(world.services, run_id, chosen, expected=shown.count, **options)
    return await reissue.work(world.services, begun.run_id)


def rows(world: Any) -> list[Any]:
    query = select(*certificates.columns).order_by(certificates.c.dose_pk, certificates.c.version)
    return list(world.store.read_now(lambda c: c.execute(query).all()))


def verdict(world: Any, hcert: str, trust: Any) -> Outcome:
    return verify(hcert, trust=trust, at=world.clock.now, revocations=StoreRevocations(world.store)).verdict


async def test_a_rotated_signer_leaves_the_old_ones_valid(published: Any) -> None:
    world = published
    before = await issue(world, 3)
    rotate(world)
    world.clock.advance(86_400 * 30)
    chosen = await reissue.choose(world.services, Selection(DoseQuery()), world.old.kid.hex()[:10])
    shown = await reissue.preview(world.services, chosen)
    assert (shown.count, shown.papers, shown.signer) == (3, 0, world.new.kid.hex())
    assert [(one.site_id, one.certificates) for one in shown.by_site] == [("HN-1", 3)]
    assert [(one.kid, one.certificates, one.revoked) for one in shown.by_signer] == [(world.old.kid.hex(), 3, 0)]
    done = await run(world, Selection(DoseQuery()), signer=world.old.kid.hex())
    assert (done.issued, done.already, done.revoked, done.failed, done.left) == (3, 0, 0, 0, 0)
    assert done.ended_at is not None
    trust = await load_trust_list(world.store)
    found = rows(world)
    assert len(found) == 6
    for old, new, was in zip(found[::2], found[1::2], before, strict=True):
        assert (old.uvci, old.superseded_by, old.revoked_at) == (was.uvci, new.uvci, None)
        assert (new.version, new.kid, new.superseded_by) == (2, world.new.kid.hex(), None)
        assert new.uvci != old.uvci
        assert new.expires_at > old.expires_at
        for one in (old, new):
            assert verdict(world, one.hcert, trust) is Outcome.VALID, "the paper in a pocket still passes"
    living = world.store.read_now(lambda c: signer_store.living_certificates(c, world.clock.now))
    assert living == {world.new.kid.hex(): 3}, "nothing hangs on the old signer any more"


async def test_after_a_compromise_the_old_code_fails_and_the_new_one_passes(published: Any) -> None:
    world = published
    await issue(world, 2)
    held_to_the_old_list = await load_trust_list(world.store)
    rotate(world)
    compromise(world)
    done = await run(world, Selection(DoseQuery()), signer=world.old.kid.hex())
    assert done.issued == 2
    trust = await load_trust_list(world.store)
    both = make_trust_list([world.old.certificate, world.new.certificate], version=9, made_at=world.clock.now)
    assert len(held_to_the_old_list.certificates) == 2
    for old, new in zip(rows(world)[::2], rows(world)[1::2], strict=True):
        assert (old.revocation_reason, new.revoked_at) == ("signer_compromised", None)
        assert verdict(world, old.hcert, trust) is Outcome.UNKNOWN_SIGNER
        assert verdict(world, old.hcert, both) is Outcome.REVOKED, "also for who has the old trust list"
        assert verdict(world, new.hcert, trust) is Outcome.VALID
        assert verdict(world, new.hcert, both) is Outcome.VALID


def compromise(world: Any) -> None:
    def write(connection: Any) -> None:
        record = next(r for r in signer_store.list_records(connection) if r.kid == world.old.kid.hex())
        signer_store.move(
            connection,
            record,
            SignerEvent.COMPROMISE,
            SignerState.COMPROMISED,
            now=world.clock.now,
            actor="t",
            reason="stolen",
        )

    world.store.submit(write).result()


async def test_fraud_told_by_the_old_code_ends_the_new_one(published: Any) -> None:
    """The UVCI at hand is that of the paper: what was revoked for its signer's sake lets no fraud through."""
    world = published
    await issue(world, 2)
    rotate(world)
    compromise(world)
    await run(world, Selection(DoseQuery()), signer=world.old.kid.hex())
    old, new, other_old, other_new = rows(world)
    ask = {"actor": "a", "request_id": "r-1"}
    made, replayed = await revoke.revoke(world.services, old.uvci, RevocationReason.FRAUD, **ask)
    assert (made.uvci, made.reason, replayed) == (new.uvci, RevocationReason.FRAUD, False)
    for more in (ask, {"actor": "a"}):
        assert await revoke.revoke(world.services, old.uvci, RevocationReason.FRAUD, **more) == (made, True)
    assert [row.revocation_reason for row in rows(world)] == ["signer_compromised", "fraud", "signer_compromised", ""]
    with pytest.raises(DuplicateError, match="fraud: that cannot be undone"):
        await revoke.revoke(world.services, old.uvci, RevocationReason.DATA_ERROR, actor="a")
    with pytest.raises(DuplicateError, match="signer_compromised: that cannot be undone"):
        await revoke.revoke(world.services, other_old.uvci, RevocationReason.RENEWED, actor="a")
    await revoke.revoke(world.services, other_old.uvci, RevocationReason.DATA_ERROR, actor="a", request_id="r-2")
    await revoke.undo(world.services, other_new.uvci, UndoReason.MISTAKE, actor="a")
    again = await revoke.revoke(
        world.services, other_old.uvci, RevocationReason.DATA_ERROR, actor="a", request_id="r-2"
    )
    assert (again[0].is_current, again[1], rows(world)[3].revoked_at) == (False, True, None), "a late retry"


async def test_fraud_is_told_before_the_signers_certificates_are_issued_again(published: Any) -> None:
    world = published
    only, other = await issue(world, 2)
    for one in (only, other):
        await revoke.revoke(world.services, one.uvci, RevocationReason.SIGNER_COMPROMISED, actor="a")
    with pytest.raises(DuplicateError, match="signer_compromised: that cannot be undone"):
        await revoke.revoke(world.services, only.uvci, RevocationReason.DATA_ERROR, actor="a")
    ask = {"actor": "a", "request_id": "r-1"}
    made, replayed = await revoke.revoke(world.services, only.uvci, RevocationReason.FRAUD, **ask)
    assert (made.uvci, made.reason, made.is_current, replayed) == (only.uvci, RevocationReason.FRAUD, True, False)
    for more in (ask, {"actor": "a"}):
        assert await revoke.revoke(world.services, only.uvci, RevocationReason.FRAUD, **more) == (made, True)
    rotate(world)
    compromise(world)
    await run(world, Selection(DoseQuery()), signer=world.old.kid.hex())
    told = [(row.uvci in (only.uvci, other.uvci), row.revocation_reason) for row in rows(world)]
    assert sorted(told) == [(False, ""), (True, "fraud"), (True, "signer_compromised")], "one of the two, once"


async def test_who_was_revoked_stays_revoked_but_for_the_signers_sake(published: Any) -> None:
    world = published
    a, b, c = await issue(world, 3)
    await revoke.revoke(world.services, a.uvci, RevocationReason.FRAUD, actor="a")
    await revoke.revoke(world.services, b.uvci, RevocationReason.SIGNER_COMPROMISED, actor="a")
    rotate(world)
    compromise(world)
    chosen = await reissue.choose(world.services, Selection(DoseQuery()), world.old.kid.hex())
    begun = await reissue.begin(
        world.services, "run-of-test", chosen, expected=2, is_printed=False, revokes_old=False, actor="admin"
    )
    await revoke.revoke(world.services, c.uvci, RevocationReason.IDENTITY_MISMATCH, actor="a")
    done = await reissue.work(world.services, begun.run_id)
    assert (done.issued, done.revoked, done.left) == (1, 1, 0), "what was revoked since it was counted stays so"
    assert [row.uvci for row in rows(world) if row.version == 1 and row.superseded_by] == [b.uvci]


async def test_what_lies_in_the_dose_ends_all_its_certificates(published: Any) -> None:
    world = published
    (old,) = await issue(world, 1)
    rotate(world)
    await run(world)
    new = rows(world)[1].uvci
    made, _ = await revoke.revoke(world.services, new, RevocationReason.DATA_ERROR, actor="a")
    assert [row.revocation_reason for row in rows(world)] == ["data_error"] * 2
    assert made.uvci == new
    await revoke.undo(world.services, old.uvci, UndoReason.MISTAKE, actor="a")
    assert [row.revoked_at for row in rows(world)] == [None, None]
    shown = await revoke.preview(world.services, DoseQuery(lot="FG3712"))
    begun = await revoke.begin_query(
        world.services, shown.run_id, DoseQuery(lot="FG3712"), RevocationReason.FRAUD, expected=2, actor="a"
    )
    ended = await revoke.work(world.services, begun.run_id)
    assert (ended.revoked, ended.already) == (2, 0)
    assert (await run(world, run_id="once-more")).total == 0


async def test_held_doses_and_corrected_certificates(published: Any) -> None:
    world = published
    (one,) = await issue(world, 1)
    await world.record(world.held_event("HELD", id_number="001185099999"))

    def correct(connection: Any) -> None:
        """As a correction does it: a second version, the first revoked for that."""
        stored = dose_store.get_dose_of(connection, one.uvci)
        second = replace(one, uvci="URN:UVCI:01:VN:SECOND#A", version=2)
        dose_store.insert_certificates(connection, [(stored.dose_pk, second)])

    await world.store.write(correct)
    await revoke.revoke(world.services, one.uvci, RevocationReason.CORRECTED, actor="a")
    rotate(world)
    done = await run(world)
    assert (done.total, done.issued) == (1, 1), "the held one has no certificate, the corrected one is replaced"
    found = rows(world)
    assert [(row.version, row.superseded_by is not None) for row in found] == [(1, False), (2, True), (3, False)]


async def test_many_runs_and_many_workers_at_once_make_one(published: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = published
    monkeypatch.setattr(reissue, "CHUNK", 5)
    await issue(world, 30)
    rotate(world)
    options = {"expected": 30, "is_printed": False, "revokes_old": True, "actor": "a"}
    for run_id in ("run-number-1", "run-number-2"):
        await reissue.begin(world.services, run_id, EVERYTHING, **options)
    done = await asyncio.gather(
        *(reissue.work(world.services, run_id) for run_id in ("run-number-1", "run-number-2") * 2)
    )
    by_run = {one.run_id: await reissue.get_run(world.services, one.run_id) for one in done}
    assert sum(one.issued for one in by_run.values()) == 30
    assert sum(one.already for one in by_run.values()) == 30
    assert [row.version for row in rows(world)] == [1, 2] * 30
    assert {row.revocation_reason for row in rows(world) if row.version == 1} == {"renewed"}
    for one in by_run.values():
        items = world.store.read_now(lambda c, r=one.run_id: reissue_store.list_items(c, r))
        assert [item.line for item in items] == list(range(1, 31))
        assert sum(item.outcome == "issued" for item in items) == one.issued
    with pytest.raises(DuplicateError):
        await reissue.begin(world.services, "run-number-1", EVERYTHING, **(options | {"revokes_old": False}))
    assert (await reissue.begin(world.services, "run-number-1", EVERYTHING, **options)).issued in range(31)


async def test_a_rotation_in_the_middle_of_a_run(published: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signer changes under the hands of a run: nothing is stored under the one that has ended."""
    world = published
    monkeypatch.setattr(reissue, "CHUNK", 4)
    await issue(world, 20)

    class Rotating(LocalSigners):
        """Two signers; the second signs once two chunks are stored."""

        stored, looked = 0, False

        def still_signs(self, connection: Any, signer: Any) -> bool:
            Rotating.stored += 1
            return Rotating.stored <= 2 or signer.kid == self.signers[1].kid

        async def look(self, now: Any) -> None:
            Rotating.looked = True

        def current(self, now: Any) -> Any:
            return self.signers[Rotating.looked]

    third = another_signer(world.clock.now)
    world.services = replace(world.services, signers=Rotating([world.new, third]))
    done = await run(world)
    assert done.issued == 20
    kids = {row.kid for row in rows(world) if row.version == 2}
    assert kids == {world.new.kid.hex(), third.kid.hex()}
    assert sum(row.kid == world.new.kid.hex() for row in rows(world) if row.version == 2) == 8


async def test_nobody_signs_and_the_run_waits(published: Any) -> None:
    world = published
    await issue(world, 2)
    rotate(world)
    chosen = await reissue.choose(world.services, EVERYTHING, None)
    await reissue.begin(
        world.services, "run-of-test", chosen, expected=2, is_printed=False, revokes_old=False, actor="a"
    )
    nobody = replace(world.services, signers=LocalSigners([]))
    with pytest.raises(SignerError):
        await reissue.work(nobody, "run-of-test")
    assert await reissue.resume_runs(world.services) == 0, "somebody may be at it"
    world.clock.advance(61)
    assert await reissue.resume_runs(world.services) == 1
    assert (await reissue.get_run(world.services, "run-of-test")).issued == 2
    assert await reissue.resume_runs(world.services) == 0


# --- papers


async def put(world: Any, uvci: str, *events: JobEvent) -> None:
    def write(connection: Any) -> None:
        job = job_store.jobs_of(connection, [uvci])[-1]
        for event in events:
            job = leases.apply_event(
                connection, job, Happening(event, world.clock.now, "t"), now=world.clock.now, holder_agent="a"
            )

    await world.store.write(write)


async def papers(world: Any, uvci: str) -> list[tuple[int, str, str]]:
    jobs = await world.store.read(lambda c: job_store.jobs_of(c, [uvci]))
    return [(job.copy_number, job.reason.value, job.state.value) for job in jobs]


async def test_digital_only_prints_what_is_still_owed_and_lists_what_is_stale(published: Any) -> None:
    world = published
    printed, waiting = await issue(world, 2)
    await put(world, printed.uvci, JobEvent.LEASE, JobEvent.PRINT)
    rotate(world)
    done = await run(world)
    assert done.papers == 1
    new = {row.dose_pk: row.uvci for row in rows(world) if row.version == 2}
    of_printed, of_waiting = new[rows(world)[0].dose_pk], new[rows(world)[2].dose_pk]
    assert await papers(world, waiting.uvci) == [(1, "issued", "canceled")]
    assert await papers(world, of_waiting) == [(1, "issued", "waiting")]
    assert await papers(world, of_printed) == []
    counted = (await reissue.stale_document(world.services))["sites"]
    assert counted == [{"site_id": "HN-1", "papers": 1, "invalid": 0, "replaced": 0}]
    # A digital copy can be drawn, a paper asked for: number 2, at the site of the first.
    pdf = await dispatch.draw_certificate(world.services, await unprinted(world.services, of_printed))
    assert of_printed.encode() in pdf
    with pytest.raises(StateError) as caught:
        await print_copy(world.services, printed.uvci, CopyReason.LOST, actor="a")
    assert caught.value.code == "certificate_superseded"
    assert of_printed in caught.value.vi
    copy = await print_copy(world.services, of_printed, CopyReason.RENEWED, actor="a")
    assert (copy.copy_number, copy.site_id) == (2, "HN-1")
    await put(world, of_printed, JobEvent.LEASE, JobEvent.PRINT)
    world.clock.advance(86_400 * 400)
    listed = await reissue.stale_papers_document(world.services, "HN-1", after="", limit=9)
    ((paper,), following) = (listed["papers"], listed["next"])
    assert following is None
    assert (paper["uvci"], paper["superseded_by"], paper["replaced"]) == (printed.uvci, of_printed, True)
    counted = (await reissue.stale_document(world.services))["sites"]
    assert counted == [{"site_id": "HN-1", "papers": 1, "invalid": 1, "replaced": 1}]
    figures = world.store.read_now(count)
    assert (figures["doses"], figures["certificates"], figures["with_paper"]) == (2, 2, 1), "a dose counts once"


async def test_print_makes_a_paper_for_each(published: Any) -> None:
    world = published
    printed, leased = await issue(world, 2)
    await put(world, printed.uvci, JobEvent.LEASE, JobEvent.PRINT)
    await put(world, leased.uvci, JobEvent.LEASE)
    rotate(world)
    assert (await run(world, is_printed=True)).papers == 2
    for row in rows(world):
        if row.version == 2:
            assert await papers(world, row.uvci) == [(2, "renewed", "waiting")]


# --- what is refused


async def test_what_would_mean_everything_or_never_end_is_refused(published: Any) -> None:
    world = published
    await issue(world, 1)
    now = world.clock.now
    with pytest.raises(InputError, match="empty query"):
        await reissue.choose(world.services, Selection(DoseQuery()), None)
    with pytest.raises(NotFoundError):
        await reissue.choose(world.services, EVERYTHING, "00" * 8)
    with pytest.raises(StateError) as caught:
        await reissue.choose(world.services, EVERYTHING, world.old.kid.hex())
    assert caught.value.code == "signer_still_signs"
    with pytest.raises(InputError, match="name an earlier time"):
        await reissue.choose(world.services, Selection(DoseQuery(), now + timedelta(days=366)), None)
    soon = Selection(DoseQuery(), now + timedelta(days=364))
    assert (await reissue.preview(world.services, await reissue.choose(world.services, soon, None))).count == 0
    world.clock.advance(86_400 * 30)
    assert (await reissue.preview(world.services, Selection(DoseQuery(), now + timedelta(days=366)))).count == 1
    with pytest.raises(StateError) as changed:
        await reissue.begin(
            world.services, "run-of-test", EVERYTHING, expected=5, is_printed=False, revokes_old=False, actor="a"
        )
    assert changed.value.code == "count_changed"
    with pytest.raises(NotFoundError):
        await reissue.work(world.services, "run-of-test")


async def test_a_dose_that_no_certificate_can_hold_now_is_told_and_stops_nobody(published: Any) -> None:
    world = published
    long_name = "".join(chr(65 + (n * n * 7 + n // 3) % 26) for n in range(78))  # zlib finds nothing to spare
    names = {"family_name": long_name, "given_name": long_name[::-1]}
    await world.record(world.event("LONG", full_name=f"{long_name} {long_name[::-1]}", **names))
    await issue(world, 2)
    *_, second, longest = sorted(len(row.hcert) for row in rows(world))
    capacity = (second + longest) // 2  # a random UVCI and signature change a code's length by some characters
    assert second + 20 < capacity < longest - 20, "one alone no longer fits"
    rotate(world)
    world.services = replace(world.services, form=replace(world.services.form, qr_capacity=capacity))
    done = await run(world)
    assert (done.issued, done.failed) == (2, 1)
    report = await reissue.run_report(world.services, done.run_id)
    assert report["problems"] == {"qr_capacity /person": 1}
    (failed,) = world.store.read_now(lambda c: reissue_store.list_items(c, done.run_id, outcome="failed"))
    assert failed.new_uvci is None
