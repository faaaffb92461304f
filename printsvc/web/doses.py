"""/v1/doses: what the Platform sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict

from printsvc.domain.dose import DoseEvent
from printsvc.errors import DuplicateError, InputError, NotFoundError, PrintsvcError
from printsvc.flows.check_identity import check
from printsvc.flows.intake import IdentityIn, PersonIn, parse_event, parse_identity, problem
from printsvc.flows.record_dose import Recorded, RecordOutcome, record_doses, settle_identity
from printsvc.flows.seen_in_app import mark_seen_in_app
from printsvc.store.doses import HELD, StoredDose, find_dose
from printsvc.store.papers import find_sighting
from printsvc.web.access import ADMIN, PLATFORM, SITE, require
from printsvc.web.bodies import dump_json, json_response, parse_json, read_json, read_model
from printsvc.web.keys import SERVICES
from printsvc.web.problems import document_of, response

MAX_LINES = 1000
NDJSON = "application/x-ndjson"

_STATUS = {
    RecordOutcome.ISSUED: 201,
    RecordOutcome.HELD: 202,
    RecordOutcome.REPLAYED: 200,
}


def dose_document(dose: StoredDose, *, job_id: str | None = None, replayed: bool = False) -> dict[str, Any]:
    """Return what is told of a stored dose: no personal data, which the caller has."""
    document: dict[str, Any] = {"dose_id": dose.event.dose_id, "site_id": dose.event.site_id, "outcome": dose.outcome}
    if dose.outcome == HELD:
        document["reasons"] = list(dose.reasons)
    if dose.mark:
        document["mark"] = dose.mark
    if dose.certificate is not None and dose.outcome != HELD:
        certificate = dose.certificate
        document["uvci"] = certificate.uvci
        document["certificate"] = {
            "uvci": certificate.uvci,
            "version": certificate.version,
            "hcert": certificate.hcert,
            "kid": certificate.kid,
            "issued_at": certificate.issued_at.isoformat(),
            "expires_at": certificate.expires_at.isoformat(),
        }
    if job_id is not None:
        document["job_id"] = job_id
    if replayed:
        document["replayed"] = True
    return document


def _error_of(recorded: Recorded) -> PrintsvcError:
    if recorded.outcome is RecordOutcome.CONFLICT:
        fields = list(recorded.fields)
        return DuplicateError(
            fields,
            f"This dose_id was recorded with other values of: {', '.join(fields)}.",
            vi=f"Mã mũi tiêm này đã được ghi với giá trị khác ở: {', '.join(fields)}.",
        )
    return InputError(list(recorded.problems), code="dose_invalid")


def _answer(recorded: Recorded) -> tuple[int, dict[str, Any]]:
    if recorded.dose is None or recorded.outcome is RecordOutcome.CONFLICT:
        document = document_of(_error_of(recorded))
        return document["status"], document
    replayed = recorded.outcome is RecordOutcome.REPLAYED
    return _STATUS[recorded.outcome], dose_document(recorded.dose, job_id=recorded.job_id, replayed=replayed)


async def post_doses(request: web.Request) -> web.Response:
    """Record one dose event (JSON), or up to 1,000 (NDJSON, an answer per line in the same order)."""
    caller = await require(request, PLATFORM)
    if request.content_type == NDJSON:
        return await _post_batch(request, caller.name)
    if request.content_type not in ("application/json", "application/octet-stream"):
        raise web.HTTPUnsupportedMediaType(reason="Send application/json or application/x-ndjson.")
    services = request.app[SERVICES]
    event = parse_event(await read_json(request), now=services.clock())
    (recorded,) = await record_doses(services, caller.name, [event])
    status, document = _answer(recorded)
    return response(document) if status >= 400 else json_response(document, status=status)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    dose_id: str | None
    event: DoseEvent | None
    error: PrintsvcError | None = None


async def _post_batch(request: web.Request, source: str) -> web.Response:
    services = request.app[SERVICES]
    raw = [line for line in enumerate((await request.read()).split(b"\n"), start=1) if line[1].strip()]
    if len(raw) > MAX_LINES:
        raise web.HTTPRequestEntityTooLarge(MAX_LINES, len(raw), reason=f"A request has at most {MAX_LINES} lines.")
    now = services.clock()
    lines = [_read_line(number, text, now) for number, text in raw]
    answers: list[dict[str, Any]] = []
    recorded = iter(await record_doses(services, source, [line.event for line in lines if line.event is not None]))
    for line in lines:
        if line.error is not None:
            problem_ = document_of(line.error)
            answers.append({"line": line.number, "dose_id": line.dose_id, "status": problem_["status"]} | problem_)
            continue
        status, document = _answer(next(recorded))
        answers.append({"line": line.number, "dose_id": line.dose_id, "status": status} | document)
    body = b"".join(dump_json(answer) + b"\n" for answer in answers)
    return web.Response(body=body, content_type=NDJSON)


def _read_line(number: int, text: bytes, now: Any) -> _Line:
    dose_id: str | None = None
    try:
        document = parse_json(text)
        if isinstance(document, dict) and isinstance(document.get("dose_id"), str):
            dose_id = document["dose_id"]
        return _Line(number, dose_id, parse_event(document, now=now))
    except InputError as error:
        return _Line(number, dose_id, None, error)


async def get_dose(request: web.Request) -> web.Response:
    """Tell what became of a dose."""
    caller = await require(request, PLATFORM, ADMIN, SITE)
    source = caller.name if caller.role == PLATFORM else None
    dose_id = request.match_info["dose_id"]
    dose = await request.app[SERVICES].store.read(lambda c: find_dose(c, dose_id, source=source))
    if dose is None or (caller.role == SITE and dose.event.site_id != caller.site_id):
        raise _no_such_dose()
    seen = await request.app[SERVICES].store.read(lambda c: find_sighting(c, dose.dose_pk))
    return json_response(dose_document(dose) | {"seen_in_app_at": seen.isoformat() if seen is not None else None})


def _no_such_dose() -> NotFoundError:
    return NotFoundError("There is no such dose.", vi="Không có mũi tiêm này.")


class SeenInAppIn(BaseModel):
    """The body of `POST /v1/doses/{dose_id}/seen-in-app`, which may be left out: `seen_at` is then now."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seen_at: AwareDatetime | None = None


async def post_seen_in_app(request: web.Request) -> web.Response:
    """Say that the dose was seen in the person's app; the first time counts, and a repetition answers that."""
    caller = await require(request, PLATFORM, ADMIN, SITE)
    body = await read_model(request, SeenInAppIn) if request.can_read_body else SeenInAppIn()
    seen_at, recorded = await mark_seen_in_app(
        request.app[SERVICES],
        request.match_info["dose_id"],
        seen_at=body.seen_at,
        actor=caller.name,
        source=caller.name if caller.role == PLATFORM else None,
        site_id=caller.site_id if caller.role == SITE else None,
    )
    dose_id = request.match_info["dose_id"]
    return json_response({"dose_id": dose_id, "seen_in_app_at": seen_at.isoformat(), "replayed": not recorded})


async def post_identity(request: web.Request) -> web.Response:
    """Take a new identity result of a held dose; where it is enough, the certificate and the print job are made now."""
    caller = await require(request, PLATFORM, ADMIN)
    services = request.app[SERVICES]
    identity = parse_identity(await read_json(request), now=services.clock())
    source = caller.name if caller.role == PLATFORM else None
    recorded = await settle_identity(services, source, request.match_info["dose_id"], identity)
    status, document = _answer(recorded)
    return json_response(document, status=status)


class CheckIn(BaseModel):
    """The body of `POST /v1/identity-checks`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    person: PersonIn
    identity: IdentityIn | None = None


async def post_identity_check(request: web.Request) -> web.Response:
    """Check a person before the injection: would their dose be issued or held, and why. Stores nothing."""
    await require(request, PLATFORM, ADMIN, SITE)
    services = request.app[SERVICES]
    document = await read_json(request)
    if not isinstance(document, dict):
        raise InputError([problem("", "not_object")])
    return json_response(check(document, now=services.clock()))
