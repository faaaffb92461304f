"""Dose in, certificate and print job out: once, whatever is repeated.

The decision and the signature are made before the transaction; what the transaction finds there already wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from printsvc.credential.keys import LocalSigner, Signer
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent, Identity
from printsvc.domain.eventdocument import differing_fields
from printsvc.domain.print_job import PrintJob
from printsvc.errors import DoseError, InputError, NotFoundError, Problem, StateError
from printsvc.flows import identitylater
from printsvc.flows.intake import unknown_site
from printsvc.flows.issue import make_certificate, make_job, new_job_id
from printsvc.flows.services import Services
from printsvc.flows.signers import store_signed
from printsvc.identity.gate import Hold, Issue, decide
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store.doses import HELD, ISSUED, NewDose, StoredDose
from printsvc.store.sites import find_sites


class RecordOutcome(StrEnum):
    ISSUED = "issued"
    HELD = "held"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of one event. `dose` is what is stored; `fields` say where a conflict differs (JSON pointers)."""

    outcome: RecordOutcome
    dose: StoredDose | None = None
    job_id: str | None = None
    fields: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One event, decided and (where it may be issued) signed."""

    new: NewDose
    certificate: Certificate | None
    job: PrintJob | None


async def record_doses(services: Services, source: str, events: Sequence[DoseEvent]) -> list[Recorded]:
    """Record events in their order and return an answer for each.

    All that is new is stored in one transaction: when this returns, it is on disk. What is stored already is answered
    from there, whether somebody can sign now or not. Raises StoreError or SignerError where nothing was stored.
    """
    now = services.clock()
    known_sites, results = await services.store.read(lambda c: _look_up(c, source, events))
    for index, event in enumerate(events):
        if index not in results and event.site_id not in known_sites:
            results[index] = Recorded(RecordOutcome.INVALID, problems=(unknown_site(),))
    new = [index for index in range(len(events)) if index not in results]
    if new:
        results |= zip(new, await _record_new(services, source, [events[index] for index in new], now), strict=True)
    for site_id in {events[i].site_id for i, r in results.items() if r.outcome is RecordOutcome.ISSUED}:
        services.wakeups.notify(site_id)
    return [results[index] for index in range(len(events))]


async def _record_new(services: Services, source: str, events: Sequence[DoseEvent], now: datetime) -> list[Recorded]:
    """Decide, sign and store events that were not there; the answers in their order."""

    async def prepare(signer: Signer) -> list[_Prepared | InputError]:
        # Signing here is 0.1 ms each: a large batch would hold up the event loop, and so would a token.
        sign = _here if len(events) <= 8 and isinstance(signer, LocalSigner) else asyncio.to_thread
        prepared: list[_Prepared | InputError] = await sign(_prepare_all, services, source, events, signer, now)
        return prepared

    def store(connection: Connection, prepared: list[_Prepared | InputError]) -> list[Recorded]:
        stored = iter(_store(connection, source, [one for one in prepared if isinstance(one, _Prepared)]))
        return [
            next(stored)
            if isinstance(one, _Prepared)
            else Recorded(RecordOutcome.INVALID, problems=tuple(one.problems))
            for one in prepared
        ]

    return await store_signed(services, now, prepare, store)


def _look_up(connection: Connection, source: str, events: Sequence[DoseEvent]) -> tuple[set[str], dict[int, Recorded]]:
    """Return the sites that exist, and the answers to the events that are stored already."""
    known = dose_store.find_doses(connection, source, [event.dose_id for event in events])
    job_ids = _first_jobs(connection, known.values())
    answers = {
        index: _answer_from(known[event.dose_id], event, job_ids)
        for index, event in enumerate(events)
        if event.dose_id in known
    }
    return set(find_sites(connection, {event.site_id for event in events})), answers


def _first_jobs(connection: Connection, known: Iterable[StoredDose]) -> dict[str, str]:
    """Return UVCI → the job of its first paper."""
    job_ids: dict[str, str] = {}
    for job in job_store.jobs_of(connection, [dose.certificate.uvci for dose in known if dose.certificate]):
        job_ids.setdefault(job.uvci, job.job_id)
    return job_ids


def _answer_from(there: StoredDose, event: DoseEvent, job_ids: Mapping[str, str]) -> Recorded:
    fields = differing_fields(there.event, event)
    job_id = job_ids.get(there.certificate.uvci) if there.certificate else None
    return Recorded(RecordOutcome.CONFLICT if fields else RecordOutcome.REPLAYED, there, job_id, tuple(fields))


async def _here(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def _prepare_all(
    services: Services, source: str, events: Sequence[DoseEvent], signer: Signer, now: datetime
) -> list[_Prepared | InputError]:
    return [_prepare(services, source, event, signer, now) for event in events]


def _prepare(
    services: Services, source: str, event: DoseEvent, signer: Signer, now: datetime, *, version: int = 1
) -> _Prepared | InputError:
    decision = decide(event.person, event.identity)
    try:
        # Signed even where it will be held: a name that no certificate can hold must be told now, not in a week.
        certificate = _certificate(services, event, signer, now, version)
    except InputError as error:
        return error
    match decision:
        case Issue(mark):
            job = make_job(
                certificate.uvci,
                event.site_id,
                form=services.form,
                job_id=new_job_id(services),
                now=now,
                asked_by=source,
                injected_at=event.dose.injected_at,
                clock=services.paper_clock,
            )
            return _Prepared(NewDose(source, event, ISSUED, (), mark, now), certificate, job)
        case Hold(reasons):
            documents = tuple({"code": r.code, "vi": r.vi, "en": r.en} for r in reasons)
            return _Prepared(NewDose(source, event, HELD, documents, "", now), None, None)


def _certificate(services: Services, event: DoseEvent, signer: Signer, now: datetime, version: int) -> Certificate:
    return make_certificate(
        event,
        signer=signer,
        form=services.form,
        issuer=services.issuer,
        country=services.country,
        opaque=services.random_bytes(16),
        now=now,
        version=version,
    )


def _store(connection: Connection, source: str, prepared: list[_Prepared]) -> list[Recorded]:
    ids = [one.new.event.dose_id for one in prepared]
    known = dose_store.find_doses(connection, source, ids)
    first: dict[str, _Prepared] = {}
    for one in prepared:
        if one.new.event.dose_id not in known:
            first.setdefault(one.new.event.dose_id, one)
    inserted = dose_store.insert_doses(connection, [one.new for one in first.values()])
    fresh = {dose_id: one for dose_id, one in first.items() if dose_id in inserted}
    dose_store.insert_certificates(
        connection, [(inserted[i], one.certificate) for i, one in fresh.items() if one.certificate]
    )
    job_store.insert_jobs(connection, [one.job for one in fresh.values() if one.job])
    if len(fresh) < len(first):  # another process was quicker with some of them
        known |= dose_store.find_doses(connection, source, first.keys() - fresh.keys())

    job_ids = _first_jobs(connection, known.values())
    results = []
    for one in prepared:
        dose_id = one.new.event.dose_id
        if fresh.get(dose_id) is one:
            dose = _stored(one, inserted[dose_id])
            outcome = RecordOutcome.ISSUED if one.certificate else RecordOutcome.HELD
            results.append(Recorded(outcome, dose, one.job.job_id if one.job else None))
            known[dose_id] = dose
            if one.certificate and one.job:
                job_ids[one.certificate.uvci] = one.job.job_id
            continue
        results.append(_answer_from(known[dose_id], one.new.event, job_ids))
    return results


def _stored(one: _Prepared, dose_pk: int) -> StoredDose:
    new = one.new
    return StoredDose(
        dose_pk,
        new.source,
        new.event,
        new.event.identity,
        new.outcome,
        new.reasons,
        new.mark,
        new.received_at,
        one.certificate,
    )


async def settle_identity(services: Services, source: str | None, dose_id: str, identity: Identity) -> Recorded:
    """Take a new identity result for a held dose: the certificate and job are made now, or it stays held.

    One that a site without a line issued unchecked is confirmed or revoked (flows/identitylater). Raises NotFoundError
    for an unknown dose, StateError for one that was issued with another identity, DoseError.
    """
    now = services.clock()
    dose = await services.store.read(lambda c: dose_store.find_dose(c, dose_id, source=source))
    if dose is None:
        raise NotFoundError("There is no such dose.", vi="Không có mũi tiêm này.")
    if identitylater.is_waiting(dose):
        dose = await identitylater.confirm(services, dose, identity)
        return Recorded(RecordOutcome.HELD if dose.outcome == HELD else RecordOutcome.REPLAYED, dose)
    if dose.outcome != HELD:
        return await _already(services, dose, identity)
    event = replace(dose.event, identity=identity)

    # One that a site issued unchecked, and that was revoked when the registry did not know the person, had one before.
    version = dose.certificate.version + 1 if dose.certificate else 1

    async def prepare(signer: Signer) -> _Prepared:
        prepared = _prepare(services, dose.source, event, signer, now, version=version)
        if isinstance(prepared, InputError):
            raise DoseError(prepared.problems)
        return prepared

    def store(connection: Connection, prepared: _Prepared) -> tuple[StoredDose, PrintJob | None] | None:
        new = prepared.new
        changed = dose_store.settle_identity(
            connection, dose, identity=identity, outcome=new.outcome, reasons=new.reasons, mark=new.mark, now=now
        )
        if not changed:
            return None
        if prepared.certificate and prepared.job:
            dose_store.insert_certificates(connection, [(dose.dose_pk, prepared.certificate)])
            job_store.insert_jobs(connection, [prepared.job])
        settled = replace(
            dose,
            identity=identity,
            outcome=new.outcome,
            reasons=new.reasons,
            mark=new.mark,
            certificate=prepared.certificate,
        )
        return settled, prepared.job

    stored = await store_signed(services, now, prepare, store)
    if stored is None:  # somebody else released it between our look and our write
        return await settle_identity(services, source, dose_id, identity)
    settled, job = stored
    if settled.outcome == HELD:
        return Recorded(RecordOutcome.HELD, settled)
    services.wakeups.notify(event.site_id)
    return Recorded(RecordOutcome.ISSUED, settled, job.job_id if job else None)


async def _already(services: Services, dose: StoredDose, identity: Identity) -> Recorded:
    if dose.identity != identity:
        raise StateError(
            "This dose has its certificate already: a new identity result cannot change it.",
            vi="Mũi tiêm này đã có giấy chứng nhận: kết quả xác thực mới không thay đổi được.",
            code="already_issued",
        )
    uvci = dose.certificate.uvci if dose.certificate else None
    jobs = await services.store.read(lambda c: job_store.jobs_of(c, [uvci] if uvci else []))
    return Recorded(RecordOutcome.REPLAYED, dose, jobs[0].job_id if jobs else None)
