"""One dose, one certificate, one job: whatever is repeated, at once or later, and whatever fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from printsvc.domain.dose import Identity, IdentityStatus
from printsvc.domain.person import IdType
from printsvc.errors import NotFoundError, StateError, StoreError
from printsvc.flows.record_dose import RecordOutcome, settle_identity
from printsvc.identity.gate import DEFAULT_POLICY
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store.counts import count
from printsvc.store.engine import Store
from printsvc.store.tables import certificates, doses, print_jobs, sites


def rows(store: Store) -> dict[str, int]:
    """Return how many rows each of the three tables has."""

    def read(connection: Any) -> dict[str, int]:
        tables = (doses, certificates, print_jobs)
        return {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in tables}

    return store.read_now(read)


async def test_a_dose_is_stored_with_its_certificate_and_job(world: Any) -> None:
    [recorded] = await world.record(world.event("D-1"))
    assert recorded.outcome is RecordOutcome.ISSUED
    assert recorded.dose.certificate.hcert.startswith("HC1:")
    stored = world.store.read_now(lambda c: dose_store.find_dose(c, "D-1"))
    assert stored == recorded.dose
    [job] = world.store.read_now(lambda c: job_store.jobs_of(c, [stored.certificate.uvci]))
    assert (job.job_id, job.copy_number, job.state, job.site_id) == (recorded.job_id, 1, "waiting", "HN-1")


async def test_ten_replays_get_the_stored_answer(world: Any) -> None:
    [first] = await world.record(world.event("D-1"))
    for _ in range(10):
        world.clock.advance(60)
        [again] = await world.record(world.event("D-1"))
        assert (again.outcome, again.dose, again.job_id) == (RecordOutcome.REPLAYED, first.dose, first.job_id)
    assert rows(world.store) == {"doses": 1, "certificates": 1, "print_jobs": 1}


async def test_256_at_once_get_one_uvci(world: Any) -> None:
    answers = await asyncio.gather(*(world.record(world.event("D-1")) for _ in range(256)))
    outcomes = Counter(answer.outcome for [answer] in answers)
    assert outcomes == {RecordOutcome.ISSUED: 1, RecordOutcome.REPLAYED: 255}
    assert len({answer.dose.certificate.uvci for [answer] in answers}) == 1
    assert len({answer.job_id for [answer] in answers}) == 1
    assert rows(world.store) == {"doses": 1, "certificates": 1, "print_jobs": 1}


async def test_batches_that_share_doses_in_any_order_get_one_certificate_each(world: Any) -> None:
    events = [world.event(f"D-{n}") for n in range(40)]
    batches = [events[turn:] + events[:turn] for turn in range(0, 40, 5)] + [events[::-1]]
    answers = await asyncio.gather(*(world.record(*batch) for batch in batches))
    uvcis: dict[str, set[str]] = {}
    for recorded in (one for answer in answers for one in answer):
        uvcis.setdefault(recorded.dose.event.dose_id, set()).add(recorded.dose.certificate.uvci)
    assert {len(found) for found in uvcis.values()} == {1}
    assert rows(world.store) == {"doses": 40, "certificates": 40, "print_jobs": 40}


async def test_a_dose_twice_in_one_batch_is_a_replay(world: Any) -> None:
    first, second = await world.record(world.event("D-1"), world.event("D-1"))
    assert (first.outcome, second.outcome) == (RecordOutcome.ISSUED, RecordOutcome.REPLAYED)
    assert first.job_id == second.job_id


@pytest.mark.parametrize("same_batch", [True, False])
async def test_the_same_key_with_another_body_is_a_conflict_that_says_where(world: Any, same_batch: bool) -> None:
    one = world.event("D-1")
    other = world.event("D-1", full_name="NGUYỄN THỊ MINH KHUÊ", lot="FG3713", number=1)
    if same_batch:
        first, answer = await world.record(one, other)
    else:
        [first], [answer] = await world.record(one), await world.record(other)
    assert answer.outcome is RecordOutcome.CONFLICT
    assert set(answer.fields) == {"/person/full_name", "/dose/lot", "/dose/number"}
    assert answer.dose == first.dose
    assert rows(world.store)["certificates"] == 1


async def test_another_source_may_use_the_same_dose_id(world: Any) -> None:
    [first] = await world.record(world.event("D-1"))
    world.source = "another-platform"
    [second] = await world.record(world.event("D-1"))
    assert second.outcome is RecordOutcome.ISSUED
    assert first.dose.certificate.uvci != second.dose.certificate.uvci


async def test_an_unknown_site_does_not_touch_its_neighbours(world: Any) -> None:
    answers = await world.record(world.event("D-1"), world.event("D-2", site_id="NOWHERE"), world.event("D-3"))
    assert [answer.outcome for answer in answers] == ["issued", "invalid", "issued"]
    assert [(p.pointer, p.code) for p in answers[1].problems] == [("/site_id", "unknown_site")]
    assert rows(world.store)["doses"] == 2


FAIL_JOBS = {
    "sqlite": ["CREATE TRIGGER no_jobs BEFORE INSERT ON print_jobs BEGIN SELECT RAISE(ABORT, 'no job'); END"],
    "postgresql": [
        "CREATE FUNCTION no_jobs() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no job'; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER no_jobs BEFORE INSERT ON print_jobs FOR EACH ROW EXECUTE FUNCTION no_jobs()",
    ],
}
MEND_JOBS = {"sqlite": "DROP TRIGGER no_jobs", "postgresql": "DROP TRIGGER no_jobs ON print_jobs"}


async def test_when_the_job_cannot_be_stored_nothing_is(world: Any) -> None:
    await world.store.write(lambda c: [c.execute(text(one)) for one in FAIL_JOBS[world.store.dialect]])
    with pytest.raises(StoreError) as raised:
        await world.record(world.event("D-1"), world.held_event("D-2"))
    assert raised.value.retry_after_s > 0
    assert rows(world.store) == {"doses": 0, "certificates": 0, "print_jobs": 0}
    await world.store.write(lambda c: c.execute(text(MEND_JOBS[world.store.dialect])))
    answers = await world.record(world.event("D-1"), world.held_event("D-2"))
    assert [answer.outcome for answer in answers] == ["issued", "held"]


async def test_a_crash_between_signature_and_commit_gives_one_certificate(world: Any, monkeypatch: Any) -> None:
    signed = []

    def crash(*_: Any) -> None:
        raise SystemExit("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("printsvc.flows.record_dose._store", crash)
        patch.setattr("printsvc.flows.record_dose.new_job_id", lambda _: signed.append(1) or "never-stored")
        with pytest.raises(SystemExit):
            await world.record(world.event("D-1"))
    assert signed, "the certificate was made before the crash"
    assert rows(world.store) == {"doses": 0, "certificates": 0, "print_jobs": 0}
    [answer] = await world.record(world.event("D-1"))
    assert answer.outcome is RecordOutcome.ISSUED
    assert rows(world.store) == {"doses": 1, "certificates": 1, "print_jobs": 1}


# --- held doses


MATCHED = Identity(IdentityStatus.MATCHED, None, "NPD-1")


async def test_a_held_dose_has_reasons_and_no_certificate(world: Any) -> None:
    [held] = await world.record(world.held_event("D-1"))
    assert held.outcome is RecordOutcome.HELD
    assert held.job_id is None
    assert [reason["code"] for reason in held.dose.reasons] == ["identity_unchecked"]
    assert all(reason["vi"] and reason["en"] for reason in held.dose.reasons)
    assert world.store.read_now(lambda c: dose_store.held_doses(c, "HN-1")) == [held.dose]
    [again] = await world.record(world.held_event("D-1"))
    assert (again.outcome, again.dose) == (RecordOutcome.REPLAYED, held.dose)


async def test_the_worklist_is_the_sites_own_and_oldest_first(world: Any) -> None:
    world.add_site("HN-2")
    for n in (2, 1, 3):
        await world.record(world.held_event(f"D-{n}", site_id="HN-2" if n == 3 else "HN-1"))
        world.clock.advance(1)
    held = world.store.read_now(lambda c: dose_store.held_doses(c, "HN-1"))
    assert [dose.event.dose_id for dose in held] == ["D-2", "D-1"]


async def test_a_new_identity_result_releases_once_even_64_times_at_once(world: Any) -> None:
    await world.record(world.held_event("D-1"))
    answers = await asyncio.gather(*(settle_identity(world.services, None, "D-1", MATCHED) for _ in range(64)))
    assert Counter(answer.outcome for answer in answers) == {"issued": 1, "replayed": 63}
    assert len({answer.dose.certificate.uvci for answer in answers}) == 1
    assert rows(world.store) == {"doses": 1, "certificates": 1, "print_jobs": 1}
    assert world.store.read_now(lambda c: dose_store.held_doses(c, "HN-1")) == []
    # The event is compared as it was sent: its replay is no conflict after the release.
    [replayed] = await world.record(world.held_event("D-1"))
    assert replayed.outcome is RecordOutcome.REPLAYED
    assert replayed.dose.identity == MATCHED


async def test_an_identity_result_that_does_not_match_keeps_the_dose_held(world: Any) -> None:
    await world.record(world.held_event("D-1"))
    answer = await settle_identity(world.services, None, "D-1", replace(MATCHED, status=IdentityStatus.MISMATCHED))
    assert answer.outcome is RecordOutcome.HELD
    assert [reason["code"] for reason in answer.dose.reasons] == ["identity_mismatched"]
    assert world.store.read_now(lambda c: dose_store.held_doses(c, "HN-1")) == [answer.dose]


async def test_identity_of_an_unknown_or_issued_dose(world: Any) -> None:
    with pytest.raises(NotFoundError):
        await settle_identity(world.services, None, "D-0", MATCHED)
    await world.record(world.event("D-1"))
    with pytest.raises(StateError) as raised:
        await settle_identity(world.services, None, "D-1", MATCHED)
    assert raised.value.code == "already_issued"


async def test_the_mark_of_an_exemption_is_kept(world: Any) -> None:
    exempt = Identity(IdentityStatus.EXEMPT)
    [answer] = await world.record(world.event("D-1", identity=exempt, id_type=IdType.NONE, id_number=None))
    assert answer.dose.mark == next(rule.mark for rule in DEFAULT_POLICY if rule.citizen and rule.mark)
    stored = world.store.read_now(lambda c: dose_store.find_dose(c, "D-1"))
    assert stored.mark == answer.dose.mark


# --- counts and a person's doses


async def test_doses_are_held_and_certificates(world: Any) -> None:
    world.add_site("HN-2")
    events = [world.event(f"D-{n}", site_id=f"HN-{1 + n % 2}") for n in range(7)]
    events += [world.held_event(f"H-{n}", site_id=f"HN-{1 + n % 2}") for n in range(3)]
    await world.record(*events)
    await settle_identity(world.services, None, "H-1", MATCHED)
    counts = {site: world.store.read_now(lambda c, site=site: count(c, site)) for site in ("HN-1", "HN-2", None)}
    assert counts["HN-1"] == {"doses": 6, "held": 2, "certificates": 4, "with_paper": 0, "papers": {"waiting": 4}}
    assert counts["HN-2"] == {"doses": 4, "held": 0, "certificates": 4, "with_paper": 0, "papers": {"waiting": 4}}
    for counted in counts.values():
        assert counted["doses"] == counted["held"] + counted["certificates"]
    assert counts[None]["doses"] == 10


async def test_a_persons_doses_come_in_the_order_of_time(world: Any) -> None:
    day = timedelta(days=1)
    first = world.event("D-2").dose.injected_at
    await world.record(
        world.event("D-2", injected_at=first),
        world.event("D-1", injected_at=first - 30 * day, number=1),
        world.held_event("D-3", injected_at=first - 10 * day),
        world.event("OTHER", id_number="001185099999"),
    )
    key = dose_store.person_key(world.event().person)
    found = world.store.read_now(lambda c: dose_store.doses_of_person(c, key))
    assert [dose.event.dose_id for dose in found] == ["D-1", "D-2"]


async def test_a_reader_cannot_write(world: Any) -> None:
    values = {"site_id": "X", "name": "", "authority": "", "province": "", "created_at": world.clock.now}
    with pytest.raises(StoreError):
        await world.store.read(lambda c: c.execute(insert(sites).values(**values)))
    with pytest.raises((StoreError, SQLAlchemyError)):
        await world.store.read(lambda c: c.execute(text("DELETE FROM sites")))
    assert len(world.store.read_now(lambda c: list(c.execute(select(sites.c.site_id))))) == 1
