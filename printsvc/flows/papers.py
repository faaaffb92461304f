"""Papers: further copies, and a person's word on what became of one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection

from printsvc.domain.form import FormId
from printsvc.domain.print_job import UNDER_WAY, CopyReason, Happening, JobEvent, JobState, PrintJob
from printsvc.domain.uvci import Uvci
from printsvc.errors import NotFoundError, StateError
from printsvc.flows import leases
from printsvc.flows.issue import PRIORITY_NEW, make_job, new_job_id
from printsvc.flows.page import VIETNAM_TIME
from printsvc.flows.printers import withdraw
from printsvc.flows.revoked import refuse_revoked
from printsvc.flows.services import Services
from printsvc.flows.witness import FORGOTTEN
from printsvc.printing.copies import CopyLimits, further_copies, refuse_copy
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store import papers as paper_store
from printsvc.store.reissues import find_superseding
from printsvc.store.revocations import find_current


class Seen(StrEnum):
    """What a person says who looked at the printer."""

    HERE = "here"
    NOT_HERE = "not_here"
    SPOILT = "spoilt"


async def settle_job(
    services: Services, job_id: str, seen: Seen, *, actor: str, limits: CopyLimits | None = None
) -> tuple[PrintJob, PrintJob | None]:
    """Take a person's word on an uncertain, printed or failed job; return it and the copy that replaces it, if any.

    `here` confirms the paper. `not_here` and `spoilt` end this paper and make the next copy, with its reason, unless a
    further copy is out or under way already, the certificate is revoked, or `limits` are reached: then the word counts
    all the same, the job stands on the worklist as failed, and `why_no_copy` says why. Raises NotFoundError,
    IllegalTransitionError.
    """
    now = services.clock()
    replacement_id = new_job_id(services)

    def store(connection: Connection) -> tuple[PrintJob, PrintJob | None]:
        job = job_store.get_job(connection, job_id, lock=True)
        event = JobEvent.SCAN if seen is Seen.HERE else JobEvent.MISS
        settled = leases.apply_event(connection, job, Happening(event, now, actor, reason=seen), now=now)
        if event is JobEvent.MISS and job.state is JobState.UNCERTAIN:
            withdraw(connection, services, job, actor=actor)  # or it comes out when the printer is switched on
        if seen is Seen.HERE or find_current(connection, job.uvci) is not None:
            return settled, None
        newest = job_store.jobs_of_family(connection, job.uvci)[-1]
        if newest.copy_number > job.copy_number and newest.state not in (JobState.FAILED, JobState.CANCELED):
            return settled, None  # a further copy was asked for before: it is the one that replaces this paper
        reason = CopyReason.SPOILT if seen is Seen.SPOILT else CopyReason.MISSING
        uvci = find_superseding(connection, job.uvci) or job.uvci
        if uvci != job.uvci and find_current(connection, uvci) is not None:
            return settled, None
        try:
            _refuse_too_many(connection, limits, uvci, settled.site_id, actor, now)
        except StateError:
            return settled, None
        copy = _next_copy(connection, services, uvci, replacement_id, reason, actor)
        return settled, copy

    settled, copy = await services.store.write(store)
    services.wakeups.notify(settled.site_id)
    return settled, copy


async def why_no_copy(services: Services, job: PrintJob, *, actor: str, limits: CopyLimits) -> StateError | None:
    """Return why a settled paper was not replaced; None where a further copy is there, or on its way."""
    now = services.clock()

    def read(connection: Connection) -> None:
        refuse_revoked(connection, job.uvci)
        newest = job_store.jobs_of_family(connection, job.uvci)[-1]
        if newest.copy_number <= job.copy_number:
            _refuse_too_many(connection, limits, job.uvci, job.site_id, actor, now)

    try:
        await services.store.read(read)
    except StateError as error:
        return error
    return None


async def retry_job(services: Services, job_id: str, *, actor: str) -> PrintJob:
    """Print again a job that certainly made no paper.

    Raises NotFoundError, IllegalTransitionError, StateError (replaced, certificate_revoked).
    """
    now = services.clock()

    def store(connection: Connection) -> PrintJob:
        job = job_store.get_job(connection, job_id, lock=True)
        refuse_revoked(connection, job.uvci)
        newest = job_store.jobs_of_family(connection, job.uvci)[-1]
        if newest.copy_number > job.copy_number:
            raise StateError(
                "This paper was replaced by a further copy.",
                vi="Bản in này đã được thay bằng bản khác.",
                code="replaced",
            )
        happening = Happening(JobEvent.RETRY, now, actor)
        return leases.apply_event(
            connection,
            job,
            happening,
            now=now,
            holder_agent=None,
            holder_journal=None,
            deadline=None,
            priority=max(PRIORITY_NEW, job.priority),
            **FORGOTTEN,
        )

    job = await services.store.write(store)
    services.wakeups.notify(job.site_id)
    return job


async def declare_holder_lost(services: Services, job_id: str, *, actor: str) -> PrintJob:
    """Take a person's word that the agent which held a job is gone for good: its paper becomes uncertain.

    Raises NotFoundError, IllegalTransitionError, and StateError for a job that no agent ever held.
    """
    now = services.clock()

    def store(connection: Connection) -> PrintJob:
        job = job_store.get_job(connection, job_id, lock=True)
        if job.state is JobState.WAITING and job.holder_agent is None:
            raise StateError(
                "No agent ever held this job: the next agent of the site takes it.",
                vi="Chưa có tác nhân in nào nhận lệnh này: tác nhân tiếp theo sẽ nhận.",
                code="never_held",
            )
        happening = Happening(JobEvent.HOLDER_LOST, now, actor, fencing_token=job.fencing_token, reason="declared-lost")
        return leases.apply_event(connection, job, happening, now=now)

    return await services.store.write(store)


async def print_copy(
    services: Services,
    uvci: str,
    reason: CopyReason,
    *,
    actor: str,
    site_id: str | None = None,
    limits: CopyLimits | None = None,
    request_id: str | None = None,
) -> PrintJob:
    """Print a further paper of a certificate, under the next copy number; it takes the place of every earlier one.

    Refused while an earlier paper of the dose is still under way (it would be a second paper that nobody asked for),
    for a certificate that is revoked, and beyond `limits`. With `site_id`, the certificate must be that site's. The
    same `request_id` of the same actor finds the paper that it made before. Raises NotFoundError, StateError.
    """
    if reason is CopyReason.ISSUED:
        raise StateError("A further copy needs a reason.", vi="Bản in thêm cần có lý do.", code="copy_reason")
    job_id, now = new_job_id(services), services.clock()

    def store(connection: Connection) -> PrintJob:
        dose = dose_store.get_dose_of(connection, uvci)
        if site_id is not None and dose.event.site_id != site_id:
            dose_store.get_dose_of(connection, "")  # the same answer as for one that is not there
        earlier = job_store.jobs_of_family(connection, uvci)
        if earlier:
            # Locked, then read: two who ask at once, or one who retries meanwhile, come one after the other.
            job_store.get_job(connection, earlier[-1].job_id, lock=True)
        made = _asked_before(connection, actor, request_id, uvci, reason)
        if made is not None:
            return made
        refuse_revoked(connection, uvci)
        _refuse_superseded(connection, uvci)
        family = job_store.jobs_of_family(connection, uvci)
        if not family:
            raise StateError(
                "This certificate was never printed: there is no paper to make another one of.",
                vi="Chứng nhận này chưa từng được in, không có bản nào để in lại.",
                code="never_printed",
            )
        waiting = [job for job in family if job.state in UNDER_WAY or job.state is JobState.UNCERTAIN]
        if waiting:
            raise StateError(
                f"Copy {waiting[-1].copy_number} of this certificate is still {waiting[-1].state}: settle it first.",
                vi=f"Bản in số {waiting[-1].copy_number} chưa xong: hãy xử lý bản đó trước.",
                code="copy_under_way",
            )
        _refuse_too_many(connection, limits, uvci, family[-1].site_id, actor, now)
        copy = _next_copy(connection, services, uvci, job_id, reason, actor)
        if request_id is not None:
            paper_store.insert_copy_request(connection, request_id, copy, now=now)
        return copy

    job = await services.store.write(store)
    services.wakeups.notify(job.site_id)
    return job


def _asked_before(
    connection: Connection, actor: str, request_id: str | None, uvci: str, reason: CopyReason
) -> PrintJob | None:
    asked = paper_store.find_copy_request(connection, actor[:64], request_id) if request_id is not None else None
    if asked is None:
        return None
    if (asked.uvci, asked.reason) != (uvci, reason):
        raise StateError(
            "This request_id was used for another paper.",
            vi="Mã request_id này đã dùng cho bản in khác.",
            code="conflict",
        )
    return job_store.get_job(connection, asked.job_id)


def _refuse_too_many(
    connection: Connection, limits: CopyLimits | None, uvci: str, site_id: str, actor: str, now: datetime
) -> None:
    if limits is None:
        return
    asked = paper_store.count_copies_asked(connection, site_id, asked_by=actor[:64], since=day_of(now))
    refuse_copy(limits, made=further_copies(job_store.jobs_of(connection, [uvci])), asked_today=asked)


def day_of(now: datetime) -> datetime:
    """Return the beginning of the day in Vietnam."""
    return now.astimezone(VIETNAM_TIME).replace(hour=0, minute=0, second=0, microsecond=0)


async def unprinted(services: Services, uvci: str) -> PrintJob:
    """Return the paper that a certificate without one would be, on the form of its dose's last paper; stores nothing.

    Raises NotFoundError.
    """
    family = await services.store.read(lambda c: job_store.jobs_of_family(c, uvci))
    if not family:
        raise NotFoundError("There is no such certificate.", vi="Không có giấy chứng nhận này.")
    return replace(family[-1], job_id="", uvci=Uvci(uvci), copy_number=1, document_sha256=None)


def _refuse_superseded(connection: Connection, uvci: str) -> None:
    newer = find_superseding(connection, uvci)
    if newer is not None:
        raise StateError(
            f"This certificate was issued again: print {newer}.",
            vi=f"Chứng nhận này đã được cấp lại: hãy in {newer}.",
            code="certificate_superseded",
        )


def _next_copy(
    connection: Connection, services: Services, uvci: str, job_id: str, reason: CopyReason, actor: str
) -> PrintJob:
    # Numbers go on from those of earlier certificates of the dose: one that was issued again may have no paper yet.
    latest = job_store.jobs_of_family(connection, uvci)[-1]
    form = replace(services.form, form_id=FormId(latest.form), media=latest.media)
    copy = make_job(
        Uvci(uvci),
        latest.site_id,
        form=form,
        job_id=job_id,
        now=services.clock(),
        copy_number=latest.copy_number + 1,
        reason=reason,
        asked_by=actor[:64],
        injected_at=dose_store.get_dose_of(connection, uvci).event.dose.injected_at,
        clock=services.paper_clock,
    )
    job_store.insert_jobs(connection, [copy])
    return copy
