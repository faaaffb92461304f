"""Papers over HTTP: their list, further copies, scan-back."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from printsvc.domain.print_job import CopyReason
from printsvc.domain.uvci import full_uvci
from printsvc.errors import InputError, Problem
from printsvc.flows.papers import print_copy
from printsvc.flows.scanback import Expected, ScanReport, papers_of, scan_back
from printsvc.printing.paper import ScanVerdict
from printsvc.store import sites as site_store
from printsvc.web.access import ADMIN, SITE, copy_limits, require
from printsvc.web.bodies import json_response, problem_of, read_model
from printsvc.web.certificates import job_document, load_certificate, paper_document
from printsvc.web.keys import SERVICES

PICTURES = ("image/png", "image/jpeg", "application/pdf")
IN_QUERY = ("job_id", "uvci", "copy_number", "site_id")


class CopyIn(BaseModel):
    """The body of `POST /v1/certificates/{uvci}/papers`. A retry has the `request_id` of the first try."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reason: Literal["spoilt", "lost", "corrected", "renewed"]
    request_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,64}$")


class ExpectedIn(BaseModel):
    """What else is known of a scan: which print job or certificate was expected, what copy number stands on the paper,
    and (of an admin) for which site it is scanned."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    job_id: str | None = Field(default=None, max_length=64)
    uvci: str | None = Field(default=None, max_length=100)
    copy_number: int | None = Field(default=None, ge=1, le=2**31 - 1)
    site_id: str | None = Field(default=None, max_length=64)


class ScanIn(ExpectedIn):
    """The body of `POST /v1/papers/scan`: the text of the code, or a picture in base64; or send the picture itself."""

    code: str | None = Field(default=None, max_length=10_000)
    image: str | None = Field(default=None, max_length=15_000_000)


async def get_papers(request: web.Request) -> web.Response:
    """List the papers of a certificate, by copy number: which is current, which are replaced or void."""
    await load_certificate(request)
    papers = await papers_of(request.app[SERVICES], full_uvci(request.match_info["uvci"]))
    return json_response({"papers": [paper_document(job, standing) for job, standing in papers]})


async def post_paper(request: web.Request) -> web.Response:
    """Print a further copy, with its reason; it replaces every earlier paper."""
    caller = await require(request, ADMIN, SITE)
    body = await read_model(request, CopyIn)
    services = request.app[SERVICES]
    job = await print_copy(
        services,
        full_uvci(request.match_info["uvci"]),
        CopyReason(body.reason),
        actor=caller.name,
        site_id=caller.site_id if caller.role == SITE else None,
        limits=copy_limits(services, caller),
        request_id=body.request_id,
    )
    return json_response(job_document(job), status=201)


async def post_scan(request: web.Request) -> web.Response:
    """Say what a scanned paper is, and confirm the right one: the text of its code (JSON), or a PNG, JPEG or PDF.

    With a picture as the body, what else is known stands in the query: ?job_id=…&copy_number=2.
    """
    caller = await require(request, ADMIN, SITE)
    services = request.app[SERVICES]
    scanned: str | bytes
    if request.content_type in PICTURES:
        known = _from_query(request)
        scanned = await request.read()
    else:
        known = body = await read_model(request, ScanIn)
        scanned = _scanned(body)
    if known.job_id is not None and known.uvci is not None:
        raise InputError(
            [
                Problem(
                    "/uvci", "one_of_two", "Chỉ gửi một trong hai: job_id hoặc uvci.", "Send job_id or uvci, not both."
                )
            ]
        )
    site_id = caller.site_id if caller.role == SITE else known.site_id
    if caller.role != SITE and site_id is not None:
        await services.store.read(lambda c: site_store.get_site(c, site_id))
    report = await scan_back(
        services,
        scanned,
        actor=caller.name,
        site_id=site_id,
        expected=Expected(known.job_id, known.uvci) if known.job_id or known.uvci else None,
        copy_number=known.copy_number,
    )
    return json_response(scan_document(report))


def scan_document(report: ScanReport) -> dict[str, Any]:
    """Return the verdict, whether the paper may be handed over, and the sentence for who holds it."""
    en, vi = report.sentences()
    paper = report.paper
    return {
        "verdict": report.verdict,
        "hand_over": report.verdict is ScanVerdict.RIGHT_PAPER,
        "settled": report.settled,
        "must_see_copy": report.must_see,
        "detail": en,
        "detail_vi": vi,
        "paper": paper_document(paper, report.standing) if paper is not None and report.standing is not None else None,
    }


def _from_query(request: web.Request) -> ExpectedIn:
    given = {name: request.query[name] for name in IN_QUERY if request.query.get(name)}
    try:
        return ExpectedIn.model_validate(given)
    except ValidationError as error:
        raise InputError([problem_of(detail) for detail in error.errors(include_url=False)]) from None


def _scanned(body: ScanIn) -> str | bytes:
    if (body.code is None) == (body.image is None):
        raise InputError(
            [Problem("/code", "one_of_two", "Hãy gửi code hoặc image, một trong hai.", "Send either code or image.")]
        )
    if body.image is None:
        return body.code or ""
    try:
        return base64.b64decode(body.image, validate=True)
    except (binascii.Error, ValueError):
        raise InputError([Problem("/image", "base64", "Ảnh không phải base64.", "The image is not base64.")]) from None
