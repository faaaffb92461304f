"""/v1/certificates, /v1/print-jobs: what was issued, and its papers."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from printsvc.domain.print_job import JobState, PrintJob
from printsvc.domain.printer_command import JobRoute, JobWish
from printsvc.domain.uvci import full_uvci
from printsvc.errors import InputError, NotFoundError
from printsvc.flows.copies import digital_copy
from printsvc.flows.intake import problem
from printsvc.flows.papers import Seen, declare_holder_lost, retry_job, settle_job, unprinted, why_no_copy
from printsvc.flows.scanback import papers_of, standing_document
from printsvc.flows.witness import witness_document
from printsvc.printing.clock import Step
from printsvc.printing.paper import Standing
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store import papers as paper_store
from printsvc.store import printers as printer_book
from printsvc.store.doses import StoredDose
from printsvc.store.reissues import find_superseding
from printsvc.store.revocations import history_of
from printsvc.store.sites import Caller
from printsvc.web.access import ADMIN, PLATFORM, SITE, copy_limits, require
from printsvc.web.bodies import read_model
from printsvc.web.doses import dose_document
from printsvc.web.keys import SERVICES
from printsvc.web.printers import route_document
from printsvc.web.revocations import revocation_document


class SeenIn(BaseModel):
    """The body of `POST /v1/print-jobs/{job_id}/settle`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seen: Seen


def job_document(job: PrintJob) -> dict[str, Any]:
    """Return what is told of a print job."""
    return {
        "job_id": job.job_id,
        "uvci": job.uvci,
        "site_id": job.site_id,
        "copy_number": job.copy_number,
        "reason": job.reason,
        "asked_by": job.asked_by,
        "form": job.form,
        "priority": job.priority,
        "state": job.state,
        "state_reason": job.state_reason,
        "queue": job.queue,
        "attempt_id": job.attempt_id,
        "witness": job.witness,
        "witnessed": witness_document(job),
        "created_at": job.created_at.isoformat(),
        "changed_at": job.changed_at.isoformat(),
    }


def paper_document(job: PrintJob, standing: Standing) -> dict[str, Any]:
    """Return what is told of a paper: its job, and whether it may be handed over."""
    return job_document(job) | {"paper": standing_document(standing)}


async def get_certificate(request: web.Request) -> web.Response:
    """Tell a certificate, its papers, and every revocation that it ever had."""
    dose, _ = await load_certificate(request)
    uvci = full_uvci(request.match_info["uvci"])
    papers = await papers_of(request.app[SERVICES], uvci)
    history, newer = await request.app[SERVICES].store.read(lambda c: (history_of(c, uvci), find_superseding(c, uvci)))
    told: dict[str, Any] = {"superseded_by": newer} if newer else {}
    told |= {"papers": [paper_document(job, standing) for job, standing in papers]}
    told |= {"revocations": [revocation_document(r) for r in history]}
    return web.json_response(dose_document(dose) | {"revoked": any(r.is_current for r in history)} | told)


async def get_certificate_pdf(request: web.Request) -> web.Response:
    """Give the certificate as it is on its newest paper: sealed, or as it is printed (?seal=no)."""
    wanted = request.query.get("seal", "yes")
    if wanted not in ("yes", "no"):
        raise InputError([problem("/seal", "not_a_choice")])
    _, jobs = await load_certificate(request)
    uvci = full_uvci(request.match_info["uvci"])
    paper = jobs[-1] if jobs else await unprinted(request.app[SERVICES], uvci)
    known = [tag.value for tag in request.if_none_match or ()]
    copy = await digital_copy(request.app[SERVICES], paper, sealed=wanted == "yes", known_tags=known)
    # Weak where it is sealed: another process seals the same page in other bytes.
    headers = {"ETag": f'W/"{copy.tag}"' if copy.is_sealed else f'"{copy.tag}"', "Cache-Control": "no-store"}
    if not copy.pdf:
        return web.Response(status=304, headers=headers)
    name = "certificate.pdf" if copy.is_sealed else "certificate-unsealed.pdf"
    headers["Content-Disposition"] = f'inline; filename="{name}"'
    return web.Response(body=copy.pdf, content_type="application/pdf", headers=headers)


async def list_print_jobs(request: web.Request) -> web.Response:
    """List print jobs: ?site_id=…&state=uncertain,failed."""
    caller = await require(request, ADMIN, SITE)
    site_id = caller.site_id if caller.role == SITE else request.query.get("site_id")
    states = [state.strip() for state in request.query.get("state", "").split(",") if state.strip()]
    if not set(states) <= set(JobState):
        raise InputError([problem("/state", "not_a_choice")])
    jobs = await request.app[SERVICES].store.read(lambda c: job_store.list_jobs(c, site_id=site_id, states=states))
    return web.json_response({"print_jobs": [job_document(job) for job in jobs]})


async def get_print_job(request: web.Request) -> web.Response:
    """Tell a print job, everything that happened to it, and why it went to its queues."""
    job = await _own_job(request)

    def read(connection: Any) -> tuple[Any, Any, Any, JobWish, list[JobRoute]]:
        return (
            job_store.ledger_of(connection, job.job_id),
            paper_store.climbs_of(connection, job.job_id),
            paper_store.scans_of(connection, job.job_id),
            printer_book.wishes_of(connection, [job.job_id]).get(job.job_id, JobWish()),
            printer_book.routes_of(connection, job.job_id),
        )

    ledger, climbs, scans, wish, routes = await request.app[SERVICES].store.read(read)
    events = [
        {
            "event": row.event,
            "before": row.before,
            "after": row.after,
            "applied": row.applied,
            "at": row.at.isoformat(),
            "actor": row.actor,
            "queue": row.queue,
            "attempt_id": row.attempt_id,
            "reason": row.reason,
            "witness": row.witness,
            "impressions": row.impressions,
            "printer_said": row.printer_said or "",
            "printer_said_at": row.printer_said_at.isoformat() if row.printer_said_at else None,
        }
        for row in ledger
    ]
    told: dict[str, Any] = {"events": events}
    told["climbs"] = [
        {
            "step": Step(row.step).name.lower(),
            "priority": row.priority,
            "due_at": row.due_at.isoformat(),
            "at": row.climbed_at.isoformat(),
        }
        for row in climbs
    ]
    told["scans"] = [
        {
            "verdict": row.verdict,
            "at": row.at.isoformat(),
            "actor": row.actor,
            "copy_number": row.copy_number,
            "settled": row.settled,
        }
        for row in scans
    ]
    told |= {"priority": job.priority, "asked": wish.asked, "kept": wish.kept}
    told["routes"] = [route_document(route) for route in routes]
    return web.json_response(job_document(job) | told)


async def settle_print_job(request: web.Request) -> web.Response:
    """Take a person's word on a paper: here, not_here or spoilt. The latter two print the next copy.

    Where the caller's limit of copies is reached the word counts, and `no_replacement` says why no copy is made.
    """
    caller, job = await _own_job_of(request)
    body = await read_model(request, SeenIn)
    services = request.app[SERVICES]
    limits = copy_limits(services, caller)
    settled, copy = await settle_job(services, job.job_id, body.seen, actor=caller.name, limits=limits)
    told: dict[str, Any] = {"print_job": job_document(settled), "replacement": job_document(copy) if copy else None}
    if copy is None and body.seen is not Seen.HERE:
        refused = await why_no_copy(services, settled, actor=caller.name, limits=limits)
        if refused is not None:
            told["no_replacement"] = {"code": refused.code, "detail": refused.en, "detail_vi": refused.vi}
    return web.json_response(told)


async def retry_print_job(request: web.Request) -> web.Response:
    """Print again what certainly made no paper."""
    caller, job = await _own_job_of(request)
    return web.json_response(job_document(await retry_job(request.app[SERVICES], job.job_id, actor=caller.name)))


async def lose_holder(request: web.Request) -> web.Response:
    """Take a person's word that the agent which held the job is gone: its paper becomes uncertain."""
    caller, job = await _own_job_of(request)
    lost = await declare_holder_lost(request.app[SERVICES], job.job_id, actor=caller.name)
    return web.json_response(job_document(lost))


async def _own_job(request: web.Request) -> PrintJob:
    return (await _own_job_of(request))[1]


async def _own_job_of(request: web.Request) -> tuple[Caller, PrintJob]:
    caller = await require(request, ADMIN, SITE)
    job = await request.app[SERVICES].store.read(lambda c: job_store.get_job(c, request.match_info["job_id"]))
    if caller.role == SITE and job.site_id != caller.site_id:
        raise NotFoundError("There is no such print job.", vi="Không có lệnh in này.")
    return caller, job


async def load_certificate(request: web.Request) -> tuple[StoredDose, list[PrintJob]]:
    """Return a certificate's dose and its jobs, to those who may see them. Raises NotFoundError."""
    caller = await require(request, PLATFORM, ADMIN, SITE)
    uvci = full_uvci(request.match_info["uvci"])

    def read(connection: Any) -> tuple[StoredDose, list[PrintJob]]:
        return dose_store.get_dose_of(connection, uvci), job_store.jobs_of(connection, [uvci])

    dose, jobs = await request.app[SERVICES].store.read(read)
    if caller.role == SITE and dose.event.site_id != caller.site_id:
        raise NotFoundError("There is no such certificate.", vi="Không có giấy chứng nhận này.")
    return dose, jobs
