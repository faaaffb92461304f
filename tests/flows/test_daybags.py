"""Day bags at the centre, on both databases: leave, signer, what is brought home, conflicts, identity afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from proofs.daybag import Country, dose_document, elliptic

from printsvc.credential.dsc import read_dsc
from printsvc.credential.keys import LocalSigner, make_private_key
from printsvc.credential.life import alarms
from printsvc.domain.dose import Identity, IdentityStatus
from printsvc.domain.print_job import CopyReason, Happening, JobEvent, JobState
from printsvc.domain.signer import SignerRole, SignerState
from printsvc.errors import AccessError, InputError, NotFoundError, SignerError, StateError
from printsvc.flows import keys
from printsvc.flows.daybags import bag_document, bag_of_document, certificates_document, end, grant, make_delegate, take
from printsvc.flows.daybags import publish as publish_delegate
from printsvc.flows.daybagsync import BroughtEntry, Settlement, bring, offline_job_id, settle_conflict
from printsvc.flows.dispatch import lease, report
from printsvc.flows.intake import VALUE_SETS, parse_event
from printsvc.flows.keymaking import Authority
from printsvc.flows.record_dose import RecordOutcome, record_doses, settle_identity
from printsvc.flows.services import DayBagKit
from printsvc.flows.trust import TrustBook
from printsvc.identity.gate import IDENTITY_LATER
from printsvc.issuing.bag import make_request, open_bag
from printsvc.issuing.certificate import make_certificate
from printsvc.store import daybags as bag_store
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store import revocations as revocation_store
from printsvc.store import signers as signer_store
from printsvc.store import sites as site_store
from printsvc.store.counts import count

FIRST = [
    ("GIÀNG THỊ MỶ", "001185012345"),
    ("LÒ THỊ HOA", "001185012346"),
    ("VÀNG THỊ SUA", "001185012347"),
    ("SÙNG THỊ DỢ", "001185012348"),
]


class Centre:
    """A world with a CSCA, and an agent that may take a bag."""

    def __init__(self, world: Any, publish: Callable[..., Any], signer: LocalSigner) -> None:
        now = world.clock.now
        self.country = Country(now)
        csca = read_dsc(self.country.csca)
        publish(
            world.store,
            SimpleNamespace(certificate=self.country.csca),
            now=now,
            role=SignerRole.CSCA,
            signing_until=csca.not_after,
        )
        publish(world.store, signer, now=now)
        self.has_csca = True

        async def compiled_form(_: Any) -> bytes:
            return b"compiled"

        authority = Authority(self.country.csca, self.country.csca_key)
        kit = DayBagKit(lambda _: authority if self.has_csca else None, compiled_form)
        world.services = replace(world.services, day_bags=kit, trust=TrustBook(lambda _: self.country.lists))
        self.authority, self.world = authority, world
        self.agent = world.add_agent()
        self.key = make_private_key()
        self.request = make_request(self.key, self.agent.agent_id)

    @property
    def services(self) -> Any:
        return self.world.services

    async def give(self, doses: int = 5, days: int = 1) -> Any:
        return await grant(self.services, "HN-1", doses=doses, days=days, actor="admin")

    async def take(self, key: Any = None) -> Any:
        """Return the open bag, as the site has it."""
        request = self.request if key is None else make_request(key, self.agent.agent_id)
        archive = await take(self.services, self.agent, journal_id="journal-1", request=request)
        public = elliptic(key or self.key)
        return open_bag(archive, pins=[self.country.csca], key=public, agent_id=self.agent.agent_id)

    async def out(self, doses: int = 5) -> Any:
        await self.give(doses)
        bag = await self.take()
        self.manifest = bag.manifest
        self.signer = LocalSigner(bag.manifest.dsc, self.key)
        return bag

    def entry(self, seq: int, document: Any = None, *, number: int | None = None, **changes: Any) -> BroughtEntry:
        """Return what a site writes down of the dose `seq`."""
        document = document or self.document(seq)
        now = self.world.clock.now
        manifest = self.manifest
        opaque = changes.pop("opaque", None) or manifest.range.opaque(seq - 1 if number is None else number)
        hcert = make_certificate(
            parse_event(document, now=now),
            signer=self.signer,
            qr_capacity=1000,
            issuer=manifest.issuer,
            country=manifest.country,
            opaque=opaque,
            now=now,
            products=VALUE_SETS.products,
        ).hcert
        return BroughtEntry(seq, document, changes.pop("hcert", hcert), now, **changes)

    def document(self, seq: int, **changes: Any) -> dict[str, Any]:
        name, number = FIRST[(seq - 1) % len(FIRST)]
        return dose_document(f"D-{seq}", **({"full_name": name, "id_number": number} | changes))

    async def bring(self, *entries: BroughtEntry, agent: Any = None, journal_id: str = "journal-1") -> Any:
        return await bring(
            self.services,
            agent or self.agent,
            journal_id=journal_id,
            bag_id=self.manifest.bag_id,
            entries=entries,
        )

    async def read(self, function: Any, *arguments: Any) -> Any:
        return await self.services.store.read(lambda c: function(c, *arguments))

    async def conflict(self, entry: BroughtEntry) -> Any:
        """Bring an entry that must be a conflict; return its reason."""
        acknowledged, (told,) = await self.bring(entry)
        assert (acknowledged, told.outcome) == (entry.seq, "conflict")
        return told.reason


@pytest.fixture
def centre(world: Any, publish: Callable[..., Any], signer: LocalSigner) -> Centre:
    return Centre(world, publish, signer)


async def test_a_site_takes_what_was_granted_once_and_again(centre: Centre) -> None:
    with pytest.raises(NotFoundError) as caught:
        await centre.take()
    assert caught.value.code == "no_day_bag"
    granted = await centre.give(doses=7)
    bag = await centre.take()
    again = await centre.take()  # the answer was lost on the way
    assert (again.manifest.bag_id, again.manifest.dsc, again.manifest.range) == (
        granted.bag_id,
        bag.manifest.dsc,
        bag.manifest.range,
    )
    dsc = read_dsc(bag.manifest.dsc)
    assert dsc.not_after - dsc.not_before <= timedelta(days=7)
    assert (bag.manifest.range.size, dsc.uvci_beginning) == (7, bag.manifest.range.beginning)
    with pytest.raises(NotFoundError):
        await centre.take(make_private_key())  # one leave, one key


async def test_leave_has_bounds_and_ends(centre: Centre) -> None:
    for wrong in ({"doses": 0, "days": 1}, {"doses": 1, "days": 8}, {"doses": 10_001, "days": 1}):
        with pytest.raises(InputError):
            await grant(centre.services, "HN-1", actor="admin", **wrong)
    with pytest.raises(NotFoundError):
        await grant(centre.services, "HN-9", doses=1, days=1, actor="admin")
    await centre.give(days=7)
    assert read_dsc((await centre.take()).manifest.dsc).not_after <= centre.world.clock.now + timedelta(days=7)
    await centre.give()
    centre.world.clock.advance(49 * 3600)
    with pytest.raises(NotFoundError):
        await centre.take(make_private_key())


async def test_another_agents_request_is_refused(centre: Centre) -> None:
    await centre.give()
    other = centre.world.add_agent("agent-2", journal_id="journal-2")
    with pytest.raises(InputError) as caught:
        await take(centre.services, other, journal_id="journal-2", request=centre.request)
    assert caught.value.code == "request_of_another"
    await centre.out()
    with pytest.raises(AccessError):
        await centre.bring(centre.entry(1), agent=other, journal_id="journal-2")
    with pytest.raises(AccessError):
        await centre.bring(centre.entry(1), journal_id="journal-9")  # another journal of the same agent


async def test_a_machine_that_was_enrolled_anew_brings_its_bag_home(centre: Centre) -> None:
    await centre.out()
    await centre.bring(centre.entry(1))
    await centre.services.store.write(
        lambda c: site_store.update_agent(c, "agent-1", revoked_at=centre.world.clock.now)
    )
    anew = centre.world.add_agent("agent-2", journal_id="journal-1")
    assert (await centre.bring(centre.entry(2), agent=anew))[0] == 2
    (job,) = await centre.read(job_store.jobs_of, [centre.manifest.range.uvci(1)])
    assert (job.state, job.holder_agent, job.holder_journal) == (JobState.LEASED, "agent-2", "journal-1")
    elsewhere = replace(anew, site_id="HN-2")
    with pytest.raises(AccessError):
        await centre.bring(centre.entry(3), agent=elsewhere)


async def test_a_paper_whose_report_was_lost_is_uncertain_and_not_printed_again(centre: Centre) -> None:
    await centre.out()
    first = centre.entry(1, told_before=True)
    uvci = centre.manifest.range.uvci(0)
    copy = replace(first, seq=2, hcert="", uvci=uvci, copy_number=2, copy_reason=CopyReason.SPOILT)
    acknowledged, told = await centre.bring(first, copy)
    assert (acknowledged, [one.outcome for one in told]) == (2, ["stored", "stored"])
    jobs = await centre.read(job_store.jobs_of, [uvci])
    assert [job.state for job in jobs] == [JobState.UNCERTAIN] * 2


async def test_the_authority_may_be_elsewhere(centre: Centre) -> None:
    await centre.give()
    centre.has_csca = False
    with pytest.raises(SignerError):
        await centre.take()
    (waiting,) = await centre.read(bag_store.list_bags)
    asked = bag_of_document(bag_document(waiting))
    now = centre.world.clock.now
    certificate = make_delegate(asked, centre.authority, now=now, serial=bytes(15))
    stranger = make_delegate(
        replace(asked, request=make_request(make_private_key(), centre.agent.agent_id)),
        centre.authority,
        now=now,
        serial=bytes(15),
    )
    for wrong in (stranger, centre.country.csca):
        with pytest.raises(InputError):
            await centre.services.store.write(
                lambda c, w=wrong: publish_delegate(c, waiting, w, now=now, actor="admin")  # type: ignore[misc]
            )
    await centre.services.store.write(lambda c: publish_delegate(c, waiting, certificate, now=now, actor="admin"))
    assert (await centre.take()).manifest.dsc == certificate


async def test_delegates_are_on_the_trust_list_and_do_not_sign_at_the_centre(centre: Centre) -> None:
    await centre.out()
    own = await centre.give()
    second = await centre.take(make_private_key())
    records = await centre.read(signer_store.list_records)
    delegates = [one for one in records if one.role is SignerRole.DELEGATE]
    assert {one.state for one in delegates} == {SignerState.SIGNING}
    assert len(delegates) == 2
    assert own.bag_id == second.manifest.bag_id
    trusted = await centre.read(signer_store.read_trusted)
    assert {centre.manifest.dsc, second.manifest.dsc} <= set(trusted.certificates)
    assert await centre.read(signer_store.signing_kid) not in {one.kid for one in delegates}
    assert not {one.record.thumbprint for one in alarms(records, centre.world.clock.now)} & {
        one.thumbprint for one in delegates
    }
    centre.world.clock.advance(3 * 86400)
    after = await centre.services.store.write(lambda c: keys.apply_due(c, now=centre.world.clock.now, held=frozenset()))
    assert {one.state for one in after if one.role is SignerRole.DELEGATE} == {SignerState.EXPIRED}
    with pytest.raises(StateError) as caught:
        await centre.take()
    assert caught.value.code == "bag_over"


async def test_a_second_signer_at_the_centre_is_still_refused(centre: Centre, publish: Callable[..., Any]) -> None:
    key = make_private_key()
    other = LocalSigner(centre.country.delegate(key, (await centre.give()).range), key)
    signing = await centre.read(signer_store.signing_kid)
    publish(centre.world.store, other, now=centre.world.clock.now)
    assert await centre.read(signer_store.signing_kid) == signing


async def test_what_is_brought_is_stored_once_in_order(centre: Centre) -> None:
    await centre.out()
    first, second, third = (centre.entry(seq) for seq in (1, 2, 3))
    assert (await centre.bring(second, third))[0] == 0  # a gap: nothing is taken
    acknowledged, told = await centre.bring(first, second)
    assert (acknowledged, [one.outcome for one in told]) == (2, ["stored", "stored"])
    acknowledged, told = await centre.bring(first, second, third)  # the answer was lost
    assert (acknowledged, [one.outcome for one in told]) == (3, ["stored"] * 3)
    numbers = await centre.read(count)
    assert (numbers["doses"], numbers["certificates"], numbers["papers"]) == (3, 3, {"leased": 3})
    dose = await centre.read(dose_store.find_dose, "D-1")
    assert (dose.source, dose.mark, dose.certificate.uvci) == (
        "platform",
        IDENTITY_LATER,
        centre.manifest.range.uvci(0),
    )
    # The Platform hears of the same dose afterwards: it is the same dose.
    event = parse_event(centre.document(1), now=centre.world.clock.now)
    (recorded,) = await record_doses(centre.services, "platform", [event])
    assert (recorded.outcome, recorded.dose and recorded.dose.certificate) == (
        RecordOutcome.REPLAYED,
        dose.certificate,
    )


async def test_the_sites_own_reports_of_paper_are_taken(centre: Centre) -> None:
    await centre.out()
    await centre.bring(centre.entry(1), centre.entry(2, paper="centre"))
    job_id = offline_job_id(centre.manifest.range.uvci(0))
    now = centre.world.clock.now
    happenings = [
        Happening(JobEvent.SUBMIT, now, "agent-1", seq=1, fencing_token=1, attempt_id=f"ps-{job_id}-1-1"),
        Happening(JobEvent.PRINT, now, "agent-1", seq=2, fencing_token=1, witness="printer", impressions=1),
    ]
    _, told = await report(centre.services, centre.agent, "journal-1", [(job_id, one) for one in happenings])
    assert [(one.outcome, one.state) for one in told] == [("applied", "sent"), ("applied", "printed")]
    # What the site could not draw, the centre does: the agent gets it as any other job.
    result = await lease(centre.services, centre.agent, journal_id="journal-1", capacity=5, wait_s=0)
    assert [one.job.uvci for one in result.ready] == [centre.manifest.range.uvci(1)]


async def test_a_copy_that_the_site_printed_is_in_the_books(centre: Centre) -> None:
    await centre.out()
    uvci = centre.manifest.range.uvci(0)

    def copy(seq: int, number: int, of: str) -> BroughtEntry:
        document, now = centre.document(1), centre.world.clock.now
        return BroughtEntry(seq, document, "", now, uvci=of, copy_number=number, copy_reason=CopyReason.SPOILT)

    entries = [centre.entry(1), copy(2, 2, uvci), copy(3, 2, uvci), copy(4, 2, centre.manifest.range.uvci(1))]
    _, told = await centre.bring(*entries)
    reasons = [(one.outcome, one.reason) for one in told]
    assert reasons == [("stored", ""), ("stored", "copy"), ("conflict", "copy_unknown"), ("conflict", "copy_unknown")]
    assert (await centre.bring(*entries))[1] == told
    jobs = await centre.read(job_store.jobs_of, [uvci])
    found = [(job.copy_number, job.reason, job.state, job.job_id) for job in jobs]
    assert found == [
        (1, CopyReason.ISSUED, JobState.LEASED, offline_job_id(uvci)),
        (2, CopyReason.SPOILT, JobState.LEASED, offline_job_id(uvci, 2)),
    ]


async def test_a_held_dose_comes_home_held(centre: Centre) -> None:
    await centre.out()
    held = BroughtEntry(1, centre.document(1, id_number="001285012345"), "", centre.world.clock.now, paper="centre")
    _, (told,) = await centre.bring(held)
    assert told.outcome == "held"
    assert [one.event.dose_id for one in await centre.read(dose_store.held_doses, "HN-1")] == ["D-1"]


async def test_what_cannot_be_stored_is_a_conflict_and_stops_nothing(centre: Centre) -> None:
    await centre.out()
    platform = parse_event(centre.document(1, lot="OTHER", identity={"status": "matched"}), now=centre.world.clock.now)
    same = parse_event(centre.document(2), now=centre.world.clock.now)
    await record_doses(centre.services, "platform", [platform, same])
    assert await centre.conflict(centre.entry(1)) == "dose_differs"
    assert await centre.conflict(centre.entry(2)) == "dose_recorded"
    _, (stored,) = await centre.bring(centre.entry(3))
    assert stored.outcome == "stored"
    assert await centre.conflict(centre.entry(4, number=2)) == "uvci_used"
    twice = centre.document(5, full_name=FIRST[2][0], id_number=FIRST[2][1])
    assert await centre.conflict(centre.entry(5, twice)) == "person_has_dose"
    assert await centre.conflict(centre.entry(6, opaque=bytes(16))) == "outside_range"
    assert await centre.conflict(centre.entry(7, number=3, hcert="HC1:no")) == "unreadable"
    listed = await centre.read(bag_store.open_conflicts, "HN-1")
    assert [one.seq for one in listed] == [1, 2, 4, 5, 6, 7]
    assert (await centre.read(bag_store.open_conflicts, "HN-9")) == []
    numbers = await centre.read(count)
    assert (numbers["doses"], numbers["certificates"]) == (3, 2)


async def test_a_person_decides_conflicts(centre: Centre) -> None:
    await centre.out()
    await centre.bring(centre.entry(1))
    twice = centre.document(2, full_name=FIRST[0][0], id_number=FIRST[0][1])
    await centre.bring(centre.entry(2, twice), centre.entry(3, opaque=bytes(16)), centre.entry(4, hcert="HC1:no"))
    bag_id = centre.manifest.bag_id

    async def settle(seq: int, decision: Settlement) -> Any:
        return await settle_conflict(centre.services, bag_id, seq, decision, actor="admin")

    accepted = await settle(2, Settlement.ACCEPT)
    assert (accepted.settlement, accepted.body) == ("accept", None)
    assert await settle(2, Settlement.ACCEPT) == accepted
    with pytest.raises(StateError):
        await settle(2, Settlement.REVOKE)
    (job,) = await centre.read(job_store.jobs_of, [centre.manifest.range.uvci(1)])
    assert job.state is JobState.UNCERTAIN  # somebody must say whether the paper is there
    with pytest.raises(StateError):
        await settle(3, Settlement.ACCEPT)
    revoked = await settle(3, Settlement.REVOKE)
    assert (await centre.read(revocation_store.find_current, revoked.uvci)).reason == "data_error"
    with pytest.raises(StateError):
        await settle(4, Settlement.REVOKE)
    await settle(4, Settlement.DISMISS)
    assert await centre.read(bag_store.open_conflicts) == []
    numbers = await centre.read(count)
    assert numbers["doses"] == 2  # what was refused counts nowhere


async def test_the_registry_is_asked_afterwards(centre: Centre) -> None:
    await centre.out()
    await centre.bring(*(centre.entry(seq) for seq in (1, 2, 3)))
    waiting = await centre.read(bag_store.waiting_identities)
    assert [one.dose_id for one in waiting] == ["D-1", "D-2", "D-3"]
    matched, mismatched = Identity(IdentityStatus.MATCHED), Identity(IdentityStatus.MISMATCHED)

    async def told(dose_id: str, identity: Identity) -> Any:
        return await settle_identity(centre.services, "platform", dose_id, identity)

    old = centre.manifest.range.uvci(0)
    confirmed = await told("D-1", matched)
    assert confirmed.dose is not None
    new = confirmed.dose.certificate
    assert (new.version, new.uvci == old) == (2, False)
    assert new.expires_at > centre.manifest.expires_at + timedelta(days=300)
    assert (await told("D-1", matched)).outcome is RecordOutcome.REPLAYED
    refused = await told("D-2", mismatched)
    assert refused.outcome is RecordOutcome.HELD
    assert (await told("D-2", mismatched)).outcome is RecordOutcome.HELD
    uvci = centre.manifest.range.uvci(1)
    assert (await centre.read(revocation_store.find_current, uvci)).reason == "identity_mismatch"
    assert [one.event.dose_id for one in await centre.read(dose_store.held_doses, "HN-1")] == ["D-2"]
    assert (await told("D-3", Identity())).dose.mark == IDENTITY_LATER  # still nobody knows
    assert [one.dose_id for one in await centre.read(bag_store.waiting_identities)] == ["D-3"]
    # The registry was wrong: the next word gives the person a certificate after all.
    again = await told("D-2", matched)
    assert (again.outcome, again.dose.certificate.version) == (RecordOutcome.ISSUED, 2)


async def test_an_ended_signer_and_a_compromised_one(centre: Centre) -> None:
    await centre.out()
    before = centre.entry(1)
    centre.world.clock.advance(600)
    bag_id = centre.manifest.bag_id
    ended = await end(centre.services, bag_id, reason="came home", actor="admin")
    assert (await end(centre.services, read_dsc(centre.manifest.dsc).kid.hex(), reason="", actor="x")) == ended
    centre.world.clock.advance(600)
    acknowledged, told = await centre.bring(before, centre.entry(2))
    assert [(one.outcome, one.reason) for one in told] == [("stored", ""), ("conflict", "signer_ended")]
    kid = read_dsc(centre.manifest.dsc).kid.hex()
    lost, _ = await centre.services.store.write(
        lambda c: keys.compromise(c, kid, reason="stolen", now=centre.world.clock.now, actor="admin", held=frozenset())
    )
    assert lost.role is SignerRole.DELEGATE
    assert await centre.conflict(centre.entry(3)) == "signer_compromised"
    assert centre.manifest.dsc not in (await centre.read(signer_store.read_trusted)).certificates
    # One by one: what came home, what did not, and what nobody knows of.
    document = await centre.read(certificates_document, kid)
    states = [one["state"] for one in document["certificates"]]
    assert states == ["stored", "conflict", "conflict", "not_brought", "not_brought"]
    assert [one["uvci"] for one in document["certificates"]] == [centre.manifest.range.uvci(n) for n in range(5)]
    assert acknowledged == 2
