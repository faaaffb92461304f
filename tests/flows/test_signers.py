"""Who signs: many processes follow one database, through plans, rotations, lost keys and compromise."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from printsvc.credential.dsc import Usage, read_dsc
from printsvc.credential.keys import Algorithm, LocalSigner, issued_by, make_dsc
from printsvc.credential.life import find_signing
from printsvc.credential.verify import verify
from printsvc.domain.signer import SignerRecord, SignerRole, SignerState
from printsvc.errors import IllegalTransitionError, InputError, NotFoundError, SignerError, StateError, StoreError
from printsvc.flows.firstkeys import make_development_signer
from printsvc.flows.keymaking import Wanted, default_period, find_authority, make_authority, make_signer
from printsvc.flows.keys import (
    compromise,
    get_record,
    overview,
    record_of_document,
    register,
    signer_document,
    stale_document,
    start,
)
from printsvc.flows.keystores import FileKeys
from printsvc.flows.signers import FollowedSigners, LocalSigners, load_trust_list
from printsvc.store import signers as signer_store
from printsvc.store.engine import Store
from printsvc.store.keyfile import KeyFolder
from printsvc.store.tables import certificates, signers

NOW = datetime.fromisoformat("2021-10-30T02:12:00+00:00")
DAY = timedelta(days=1)


@dataclass
class Office:
    """An admin with the keys of a data folder, over a store."""

    store: Store
    folder: KeyFolder
    passphrase: bytes = b"open sesame"

    @property
    def keys(self) -> FileKeys:
        return FileKeys(self.folder, self.passphrase)

    def records(self) -> list[SignerRecord]:
        return self.store.read_now(signer_store.list_records)

    def do(self, function: Any, *arguments: Any, **named: Any) -> Any:
        return self.store.submit(lambda c: function(c, *arguments, **named)).result()

    def csca(self, now: datetime = NOW) -> SignerRecord:
        authority, _ = make_authority(
            self.folder,
            self.passphrase,
            country="VN",
            organisation="MOH",
            common_name="CSCA VN",
            now=now,
            random_bytes=os.urandom,
        )
        return self.do(register, authority.certificate, key_store="file", now=now, actor="admin")[0]

    def make(self, now: datetime = NOW, **wanted: Any) -> tuple[bytes, Wanted]:
        begins, ends = default_period(self.records(), now)
        if "begins" in wanted:
            begins = wanted.pop("begins")
            ends = begins + 180 * DAY
        chosen = Wanted(begins, ends, **wanted)

        def authority() -> Any:
            found = find_authority(self.folder, self.passphrase, now)
            assert found is not None
            return found

        known = self.records()
        return make_signer(self.keys, authority, chosen, known=known, now=now, random_bytes=os.urandom), chosen

    def plan(self, now: datetime = NOW, **wanted: Any) -> SignerRecord:
        certificate, chosen = self.make(now, **wanted)
        return self.publish(certificate, chosen, now)

    def publish(self, certificate: bytes, chosen: Wanted, now: datetime = NOW) -> SignerRecord:
        times = {"signing_from": chosen.signing_from, "signing_until": chosen.signing_until}
        return self.do(register, certificate, key_store="file", now=now, actor="admin", **times)[0]

    def signing(self) -> SignerRecord:
        found = find_signing(self.records())
        assert found is not None
        return found

    def start(self, record: SignerRecord, now: datetime = NOW) -> SignerRecord:
        return self.do(start, record.thumbprint, now=now, actor="admin")

    def process(self, folder: KeyFolder | None = None, *, now: datetime = NOW) -> FollowedSigners:
        """Return the signers of one more service process, looked at once."""
        followed = FollowedSigners(self.store, {"file": FileKeys(folder or self.folder, self.passphrase)})
        followed.look_now(now)
        return followed


@pytest.fixture
def office(store: Store, tmp_path: Path) -> Office:
    return Office(store, KeyFolder(tmp_path / "keys"))


@pytest.fixture
def ready(office: Office) -> Office:
    """An office whose first signer signs."""
    office.csca()
    office.start(office.plan())
    return office


def world_of(office: Office, make_world: Any, **how: Any) -> Any:
    """Return flows whose signers follow the database."""
    world = make_world(office.store, **how)
    services = replace(world.services, signers=office.process())
    return replace(world, services=services)


def kid_of_signing(office: Office) -> str:
    return office.store.read_now(signer_store.signing_kid) or ""


# --- making


def test_certificates_have_the_usages_the_dates_and_the_authority(office: Office) -> None:
    csca = office.csca()
    record = office.plan(usages=(Usage.TEST, Usage.VACCINATION, Usage.RECOVERY), algorithm=Algorithm.PS256)
    dsc = read_dsc(record.certificate)
    assert dsc.usages == {Usage.TEST, Usage.VACCINATION, Usage.RECOVERY}
    assert dsc.country == "VN"
    assert dsc.not_after - dsc.not_before <= timedelta(days=730)
    assert record.signing_until - record.signing_from == timedelta(days=180)
    assert (csca.state, record.state) == (SignerState.SIGNING, SignerState.PLANNED)
    assert office.keys.open(record.certificate).algorithm is Algorithm.PS256
    assert all(path.stat().st_mode & 0o077 == 0 for path in office.folder.folder.glob("*.pem"))


def test_the_authority_is_made_once(office: Office) -> None:
    assert office.csca() == office.csca()
    assert len(list(office.folder.folder.glob("csca-*.der"))) == 1


def test_a_plan_follows_on_the_signer_that_signs(ready: Office) -> None:
    [first] = [r for r in ready.records() if r.role == "dsc"]
    second = ready.plan()
    assert second.signing_from == first.signing_until
    assert record_of_document(signer_document(second)) == second


def test_what_a_kill_left_is_taken_up_or_cleared_away(office: Office) -> None:
    office.csca()
    certificate, chosen = office.make()  # and killed before it was published
    assert office.make()[0] == certificate
    assert office.make(algorithm=Algorithm.PS256)[0] != certificate, "it would not do"
    office.publish(certificate, chosen)
    assert office.make(begins=NOW + DAY)[0] != certificate, "it is in the books"
    half = office.folder.folder / "dsc-0011223344556677.key.pem"
    half.write_text("a key whose certificate was never written")
    office.folder.folder.joinpath("dsc-00.der.new").write_text("half")
    known = office.folder.folder / "dsc-8899aabbccddeeff.key.pem"
    known.write_text("its certificate is in the database alone")
    office.folder.clear_half_written(known={"dsc-8899aabbccddeeff"})
    assert not half.exists()
    assert known.exists()
    assert not list(office.folder.folder.glob("*.new"))


@pytest.mark.parametrize("what", ["other", "long", "test", "outlives", "nonsense"])
def test_only_certificates_that_may_sign_here_are_published(office: Office, signer: LocalSigner, what: str) -> None:
    office.csca()
    if what == "other":
        certificate, chosen = signer.certificate, Wanted(NOW, NOW + DAY)  # of another CSCA
    elif what == "test":
        certificate, chosen = office.make(usages=(Usage.TEST,))
    elif what == "nonsense":
        certificate, chosen = b"nonsense", Wanted(NOW, NOW + DAY)
    else:
        certificate, chosen = office.make()
        days = 182 if what == "long" else 800
        chosen = replace(chosen, signing_from=NOW + (days - 182) * DAY, signing_until=NOW + days * DAY)
    with pytest.raises(InputError) as raised:
        office.publish(certificate, chosen)
    assert raised.value.problems[0].vi != raised.value.problems[0].en
    assert [r.role for r in office.records()] == ["csca"]


# --- following


def test_every_process_follows_a_rotation_without_a_restart(ready: Office) -> None:
    processes = [ready.process() for _ in range(3)]
    old = {p.current(NOW).kid.hex() for p in processes}
    second = ready.start(ready.plan())
    for process in processes:
        process.look_now(NOW)
    assert {p.current(NOW).kid.hex() for p in processes} == {second.kid} != old
    assert [r.state for r in ready.records() if r.kid in old] == [SignerState.VERIFYING]
    assert all(p.held() == {second.thumbprint} for p in processes), "a key that signs no more leaves the memory"


async def test_the_calendar_rotates_within_a_request(ready: Office) -> None:
    first = ready.process()
    second = ready.plan()
    at = second.signing_from
    first.look_now(NOW)
    assert first.current(at - timedelta(seconds=1)).kid.hex() != second.kid
    with pytest.raises(SignerError):
        first.current(at)  # nobody has written it yet
    await first.follow(at)
    assert first.current(at).kid.hex() == second.kid == kid_of_signing(ready)
    # A process whose clock is late believes the database.
    late = ready.process()
    assert late.current(at - timedelta(seconds=5)).kid.hex() == second.kid


def test_a_period_without_successor_ends(ready: Office) -> None:
    process = ready.process()
    first = ready.signing()
    end = first.signing_until
    process.look_now(end)
    with pytest.raises(SignerError) as raised:
        process.current(end)
    assert raised.value.vi != raised.value.en
    assert get_record(ready.records(), first.thumbprint).state is SignerState.VERIFYING


def test_a_machine_with_a_clock_that_is_years_ahead_ends_no_signer_of_all(postgres_url: str, tmp_path: Path) -> None:
    right = datetime.now(UTC)
    with contextlib.closing(Store(postgres_url)) as store:
        office = Office(store, KeyFolder(tmp_path / "keys"))
        office.csca(right)
        office.start(office.plan(right), right)
        wrong, good = office.process(now=right), office.process(now=right)
        late = right + 3 * 365 * DAY
        wrong.look_now(late)
        with pytest.raises(SignerError, match="ahead of the database's") as raised:
            wrong.current(late)
        assert raised.value.vi != raised.value.en
        good.look_now(right)
        assert good.current(right).kid.hex() == office.signing().kid
        drifted = office.plan(right, begins=right + timedelta(minutes=5))
        wrong.look_now(late)
        assert drifted.thumbprint in [one.thumbprint for one in wrong.records()], "it sees what others do"
        assert len(office.process(now=late).records()) == 3, "and can be started, for all that needs no signer"
        # While its signer's period lasts it signs: to be ahead is no harm to that.
        wrong.look_now(right + DAY)
        assert wrong.current(right + DAY).kid.hex() == office.signing().kid != drifted.kid
        wrong.look_now(right + timedelta(minutes=5))
        assert office.signing().thumbprint == drifted.thumbprint, "a clock may drift by minutes"


def test_a_key_that_does_not_open_is_reported_and_stops_nobody(ready: Office, tmp_path: Path) -> None:
    elsewhere = ready.process(KeyFolder(tmp_path / "other"))
    with pytest.raises(SignerError, match="key file"):
        elsewhere.current(NOW)
    [why] = elsewhere.closed().values()
    assert why.code == "key_missing"
    assert ready.process().closed() == {}
    # Planned with a key that is nowhere: the old one goes on.
    second = ready.plan(begins=NOW + DAY)
    key = ready.folder.folder / f"dsc-{second.kid}.key.pem"
    key.rename(key.with_suffix(".away"))
    process = ready.process()
    process.look_now(NOW + DAY)
    assert process.current(NOW + DAY).kid.hex() != second.kid
    assert [error.code for error in process.closed().values()] == ["key_missing"]
    key.with_suffix(".away").rename(key)
    process.look_now(NOW + DAY + timedelta(seconds=1))
    assert process.closed(), "not tried at every look"
    process.look_now(NOW + DAY + timedelta(seconds=30))
    assert process.current(NOW + DAY + timedelta(seconds=30)).kid.hex() == second.kid


def test_a_wrong_passphrase_and_an_unknown_key_store_are_reported(ready: Office) -> None:
    wrong = FollowedSigners(ready.store, {"file": FileKeys(ready.folder, b"wrong")})
    wrong.look_now(NOW)
    assert [error.code for error in wrong.closed().values()] == ["signer_locked"]
    none = FollowedSigners(ready.store, {})
    none.look_now(NOW)
    assert [error.code for error in none.closed().values()] == ["key_store_missing"]


def test_a_look_without_news_reads_one_number(ready: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    process = ready.process()
    process.look_now(NOW)
    read, list_records = [], signer_store.list_records
    monkeypatch.setattr(signer_store, "list_records", lambda connection: read.append(1) or list_records(connection))
    process.look_now(NOW + timedelta(seconds=1))
    assert read == []
    ready.start(ready.plan())
    read.clear()
    process.look_now(NOW + timedelta(seconds=2))
    assert read, "there is news"


# --- signing while signers change


async def test_nothing_is_stored_under_a_signer_that_has_ended(ready: Office, make_world: Any) -> None:
    """A process that has not looked yet prepares with the old one, is refused in the transaction, and signs again."""
    world = world_of(ready, make_world)
    [before] = await world.record(world.event("D-1"))
    second = ready.start(ready.plan())
    [after] = await world.record(world.event("D-2"))
    assert (before.dose.certificate.kid, after.dose.certificate.kid) != (second.kid, before.dose.certificate.kid)
    assert after.dose.certificate.kid == second.kid


async def test_rotations_among_many_requests_of_two_processes_lose_none(
    ready: Office, make_world: Any, store_url: str
) -> None:
    """Each dose has one certificate, under the signer that signed when it was stored; no request is refused."""
    one = world_of(ready, make_world)
    worlds = [one, replace(one, services=replace(one.services, signers=ready.process()))]
    done = asyncio.Event()

    async def post(world: Any, name: str) -> list[str]:
        kids = []
        number = 0
        while not done.is_set() or number < 20:
            [recorded] = await world.record(world.event(f"{name}-{number}"))
            kids.append(recorded.dose.certificate.kid)
            number += 1
        return kids

    async def rotate() -> list[str]:
        used = [kid_of_signing(ready)]
        for _ in range(4):
            await asyncio.sleep(0.05)
            record = await asyncio.to_thread(lambda: ready.start(ready.plan()))
            used.append(record.kid)
        await asyncio.sleep(0.05)
        done.set()
        return used

    *posted, used = await asyncio.gather(post(worlds[0], "A"), post(worlds[1], "B"), rotate())
    for kids in posted:
        assert [kid for n, kid in enumerate(kids) if n == 0 or kids[n - 1] != kid] == [
            kid for kid in used if kid in kids
        ], "in the order of the rotations, never back"
    assert {kid for kids in posted for kid in kids} <= set(used)
    assert sum(record.state is SignerState.SIGNING for record in ready.records() if record.role == "dsc") == 1


async def test_a_certificate_never_outlives_its_signer(ready: Office, make_world: Any) -> None:
    world = world_of(ready, make_world)
    record = ready.signing()
    await ready.store.write(
        lambda c: c.execute(
            update(signers).where(signers.c.thumbprint == record.thumbprint).values(not_after=NOW + 30 * DAY)
        )
    )
    [recorded] = await world.record(world.event("D-1"))
    assert recorded.dose.certificate.expires_at <= read_dsc(record.certificate).not_after


# --- compromise


async def test_a_compromised_signer_is_believed_by_nobody_and_the_rest_goes_on(ready: Office, make_world: Any) -> None:
    world = world_of(ready, make_world)
    [lost] = await world.record(world.event("D-1"))
    heir = ready.plan()
    before = await load_trust_list(ready.store)
    stale = ready.store.read_now(lambda c: stale_document(c, lost.dose.certificate.kid, now=NOW))
    assert (stale["certificates"], stale["sites"]) == (1, [{"site_id": "HN-1", "certificates": 1}])
    record, signing = ready.do(
        compromise, lost.dose.certificate.kid, reason="stolen", now=NOW, actor="admin", held={heir.thumbprint}
    )
    assert record.state is SignerState.COMPROMISED
    assert signing is not None
    assert signing.kid == heir.kid
    [good] = await world.record(world.event("D-2"))
    assert good.dose.certificate.kid == heir.kid
    trust = await load_trust_list(ready.store)
    assert trust.version > before.version
    verdicts = [verify(one.dose.certificate.hcert, trust=trust, at=NOW).to_json()["verdict"] for one in (lost, good)]
    assert verdicts == ["unknown_signer", "valid"]
    with pytest.raises(IllegalTransitionError):
        ready.do(compromise, record.thumbprint, reason="again", now=NOW, actor="admin", held=set())
    told = ready.store.read_now(lambda c: signer_store.list_events(c, record.thumbprint))
    assert [(entry["event"], entry["after"]) for entry in told] == [
        ("plan", "planned"),
        ("start", "signing"),
        ("compromise", "compromised"),
    ]
    assert told[-1]["reason"] == "stolen"


async def test_a_compromised_csca_takes_its_signers_along(ready: Office, make_world: Any) -> None:
    world = world_of(ready, make_world)
    [one] = await world.record(world.event("D-1"))
    heir = ready.plan()
    csca = next(r for r in ready.store.read_now(signer_store.list_records) if r.role is SignerRole.CSCA)
    counted = ready.store.read_now(lambda c: stale_document(c, csca.thumbprint, now=NOW))
    assert counted["certificates"] == 1
    lost, signing = ready.do(
        compromise, csca.thumbprint, reason="stolen", now=NOW, actor="admin", held={heir.thumbprint}
    )
    assert lost.thumbprint == csca.thumbprint
    assert signing is None, "who was planned under it is no heir"
    states = {r.state for r in ready.store.read_now(signer_store.list_records)}
    assert states == {SignerState.COMPROMISED}
    trust = await load_trust_list(ready.store)
    assert verify(one.dose.certificate.hcert, trust=trust, at=NOW).to_json()["verdict"] == "unknown_signer"
    with pytest.raises(SignerError):
        await world.record(world.event("D-2"))


def test_the_key_of_a_compromised_signer_is_not_published_again(ready: Office) -> None:
    lost = ready.signing()
    ready.do(compromise, lost.thumbprint, reason="stolen", now=NOW, actor="admin", held=set())
    authority = find_authority(ready.folder, ready.passphrase, NOW)
    assert authority is not None
    again = make_dsc(
        read_dsc(lost.certificate).public_key,
        csca=authority.certificate,
        csca_key=authority.key,
        organisation="MOH",
        common_name="DSC again",
        serial=77,
        now=NOW,
    )
    with pytest.raises(InputError, match="compromised"):
        ready.publish(again, Wanted(NOW, NOW + DAY))


async def test_compromise_without_an_heir_stops_issuing_and_nothing_else(ready: Office, make_world: Any) -> None:
    world = world_of(ready, make_world)
    [first] = await world.record(world.event("D-1"))
    ready.do(compromise, kid_of_signing(ready), reason="stolen", now=NOW, actor="admin", held=set())
    with pytest.raises(SignerError):
        await world.record(world.event("D-2"))
    [again] = await world.record(world.event("D-1"))
    assert again.dose.certificate == first.dose.certificate, "what is stored is still answered"


async def test_counts_leave_out_what_has_expired_or_is_under_another(ready: Office, make_world: Any) -> None:
    world = world_of(ready, make_world)
    await world.record(*(world.event(f"D-{n}") for n in range(3)))
    first = kid_of_signing(ready)
    ready.start(ready.plan())
    await world.record(world.event("D-9"))
    one = select(certificates.c.uvci).where(certificates.c.kid == first).limit(1).scalar_subquery()
    expire = update(certificates).where(certificates.c.uvci == one).values(expires_at=NOW)
    await ready.store.write(lambda c: c.execute(expire))
    counted = ready.store.read_now(lambda c: overview(c, now=NOW))
    assert Counter({s["thumbprint"][:16]: s["certificates"] for s in counted["signers"]})[first] == 2


# --- the store's own guard


def test_the_database_refuses_a_second_signer_that_signs(ready: Office) -> None:
    other = ready.plan()
    with pytest.raises(StoreError, match=r"IntegrityError|UniqueViolation"):
        ready.store.submit(
            lambda c: c.execute(update(signers).where(signers.c.thumbprint == other.thumbprint).values(state="signing"))
        ).result()


def test_start_is_idempotent_and_refuses_what_has_ended(ready: Office) -> None:
    first = ready.signing()
    assert ready.start(first) == first
    ready.start(ready.plan())
    with pytest.raises(IllegalTransitionError):
        ready.start(first)
    with pytest.raises(StateError, match="over"):
        ready.start(ready.plan(), NOW + 600 * DAY)


def test_a_signer_is_found_by_the_beginning_of_its_thumbprint(ready: Office) -> None:
    records = ready.records()
    assert get_record(records, records[0].kid.upper()) == records[0]
    for name in (records[0].kid[:7], "0123456789abcdef", ""):
        with pytest.raises(NotFoundError):
            get_record(records, name)


# --- others


async def test_the_trust_list_has_the_planned_and_those_that_signed(ready: Office) -> None:
    planned = ready.plan()
    trust = await load_trust_list(ready.store)
    thumbprints = {hashlib.sha256(dsc.der).hexdigest() for dsc in trust.certificates}
    assert thumbprints == {planned.thumbprint, ready.signing().thumbprint}


def test_signers_without_a_database_are_those_given(signer: LocalSigner) -> None:
    book = LocalSigners([signer])
    assert book.current(NOW).kid == signer.kid
    with pytest.raises(SignerError) as raised:
        book.current(signer.not_after)
    assert raised.value.retry_after_s == 60


def test_development_makes_a_signer_once_and_another_before_it_ends(office: Office) -> None:
    def renew(now: datetime) -> None:
        make_development_signer(
            office.store,
            office.folder,
            office.passphrase,
            office.keys,
            country="VN",
            organisation="MOH",
            now=now,
            random_bytes=os.urandom,
        )

    def process() -> FollowedSigners:
        return FollowedSigners(office.store, {"file": office.keys}, renew=renew)

    first, second = process(), process()
    first.look_now(NOW)
    second.look_now(NOW)
    assert first.current(NOW).kid == second.current(NOW).kid
    assert len(office.records()) == 2
    at = NOW + 174 * DAY
    first.look_now(at)
    assert first.current(at).kid != second.current(at).kid
    assert len(office.records()) == 3


def test_development_goes_on_after_a_compromised_csca(office: Office) -> None:
    def renew(now: datetime) -> None:
        make_development_signer(
            office.store,
            office.folder,
            office.passphrase,
            office.keys,
            country="VN",
            organisation="MOH",
            now=now,
            random_bytes=os.urandom,
        )

    process = FollowedSigners(office.store, {"file": office.keys}, renew=renew)
    process.look_now(NOW)
    lost = next(record for record in office.records() if record.role is SignerRole.CSCA)
    office.do(compromise, lost.thumbprint, reason="stolen", now=NOW, actor="admin", held=set())
    process.look_now(NOW + timedelta(seconds=1))
    csca = find_signing(office.records(), SignerRole.CSCA)
    assert csca is not None
    assert csca.thumbprint != lost.thumbprint
    assert issued_by(process.current(NOW).certificate, csca.certificate)


MakeWorld = Callable[[Store], Any]
