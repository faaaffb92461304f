"""Recording doses, on both databases. Over HTTP: tests/web/test_doses.py."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from printsvc.domain.dose import Identity, IdentityStatus
from printsvc.errors import NotFoundError, SignerError, StateError
from printsvc.flows.record_dose import RecordOutcome, settle_identity

MATCHED = Identity(IdentityStatus.MATCHED)


async def test_one_batch_with_everything_in_it(world: Any) -> None:
    event = world.event
    recorded = await world.record(
        event("A"), world.held_event("B"), event("A"), event("A", lot="X"), event("C", site_id="NONE"), event("D")
    )
    outcomes = [one.outcome.value for one in recorded]
    assert outcomes == ["issued", "held", "replayed", "conflict", "invalid", "issued"]
    assert recorded[2].dose.certificate == recorded[0].dose.certificate
    assert recorded[2].job_id == recorded[0].job_id
    assert recorded[3].fields == ("/dose/lot",)
    assert [problem.pointer for problem in recorded[4].problems] == ["/site_id"]
    again = await world.record(event("D"), event("A", lot="X"), world.held_event("B"))
    assert [one.outcome.value for one in again] == ["replayed", "conflict", "replayed"]
    assert again[0].job_id == recorded[5].job_id


async def test_no_events_are_no_work(world: Any) -> None:
    assert await world.record() == []


async def test_two_sources_may_use_one_id(world: Any) -> None:
    (first,) = await world.record(world.event("A"))
    world.source = "another platform"
    (second,) = await world.record(world.event("A"))
    assert second.outcome is RecordOutcome.ISSUED
    assert first.dose.certificate.uvci != second.dose.certificate.uvci


async def test_at_once_from_many_sides_there_is_one_certificate(world: Any) -> None:
    batches = await asyncio.gather(*(world.record(*(world.event(f"A-{n}") for n in range(12))) for _ in range(5)))
    for column in zip(*batches, strict=True):
        assert sorted(one.outcome.value for one in column) == ["issued"] + ["replayed"] * 4
        assert len({one.dose.certificate.uvci for one in column}) == 1
        assert len({one.job_id for one in column}) == 1


async def test_a_replay_needs_no_signer_and_a_new_dose_does(world: Any) -> None:
    (first,) = await world.record(world.event("A"))
    world.clock.now += timedelta(days=3 * 365)
    (again,) = await world.record(world.event("A"))
    assert (again.outcome, again.dose.certificate) == (RecordOutcome.REPLAYED, first.dose.certificate)
    with pytest.raises(SignerError):
        await world.record(world.event("A"), world.event("B"))
    assert (await world.record(world.event("A")))[0].outcome is RecordOutcome.REPLAYED


async def test_a_released_dose_is_released_once_and_replayed_by_its_first_body(world: Any) -> None:
    held = world.held_event("A")
    await world.record(held)
    answers = await asyncio.gather(*(settle_identity(world.services, None, "A", MATCHED) for _ in range(5)))
    assert sorted(one.outcome.value for one in answers) == ["issued"] + ["replayed"] * 4
    assert len({one.dose.certificate.uvci for one in answers}) == 1
    (again,) = await world.record(held)
    assert (again.outcome, again.job_id) == (RecordOutcome.REPLAYED, answers[0].job_id)
    with pytest.raises(StateError):
        await settle_identity(world.services, None, "A", Identity(IdentityStatus.EXEMPT))


async def test_an_identity_is_settled_by_its_own_source_alone(world: Any) -> None:
    await world.record(world.held_event("A"))
    with pytest.raises(NotFoundError):
        await settle_identity(world.services, "another platform", "A", MATCHED)
