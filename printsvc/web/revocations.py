"""/v1/revocations: revoking and undoing for admins; for verifiers, who need no token, hashes alone."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from datetime import datetime
from typing import Annotated, Any

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from printsvc.credential.revocation import HASH_BYTES, HashType
from printsvc.credential.revocation_snapshot import MEDIA_TYPE
from printsvc.domain.revocation import REASONS, Revocation, RevocationReason, undo_until
from printsvc.domain.uvci import full_uvci
from printsvc.errors import InputError, NotFoundError, Problem
from printsvc.flows import revocation_lists, revoke
from printsvc.flows.intake import problem
from printsvc.flows.revocation_csv import CsvProblem
from printsvc.flows.revoke import UndoReason
from printsvc.store import revocation_runs as run_store
from printsvc.store import revocations as revocation_store
from printsvc.store.revocation_runs import Run
from printsvc.store.revocations import DoseQuery
from printsvc.web.access import ADMIN, PLATFORM, SITE, require
from printsvc.web.bodies import json_response, read_model
from printsvc.web.keys import SERVICES

CSV = "text/csv"
WORK_S = 10.0
"""How long a request works on a run before it answers how far it is; the next one, or the service itself, goes on."""

MAX_ERRORS = 1000
_RUN_ID = r"^[A-Za-z0-9_-]{8,64}$"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RevokeIn(_Body):
    """The body of `POST /v1/revocations`. A retry has the `request_id` of the first try."""

    uvci: str = Field(max_length=100)
    reason: RevocationReason
    request_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    dry_run: bool = False


class UndoIn(_Body):
    """The body of `POST /v1/revocations/undo`."""

    uvci: str = Field(max_length=100)
    reason: UndoReason


class ConditionsIn(_Body):
    """Which certificates: all that is given must hold. Times from the first until before the second."""

    site_id: str | None = Field(default=None, max_length=64)
    lot: str | None = Field(default=None, max_length=20)
    product: str | None = Field(default=None, max_length=80)
    kid: str | None = Field(default=None, max_length=32, description="Hexadecimal or base64.")
    injected_from: AwareDatetime | None = None
    injected_before: AwareDatetime | None = None
    issued_from: AwareDatetime | None = None
    issued_before: AwareDatetime | None = None


class QueryIn(_Body):
    """The body of `POST /v1/revocations/query`: first with `dry_run`, then with the `run_id` and `count` it gave."""

    query: ConditionsIn
    reason: RevocationReason
    dry_run: bool = False
    run_id: Annotated[str, Field(pattern=_RUN_ID)] | None = None
    expected: int | None = Field(default=None, ge=0)


def revocation_document(revocation: Revocation) -> dict[str, Any]:
    """Return what is told of a revocation to those who may see the certificate."""
    rule, until = REASONS[revocation.reason], undo_until(revocation)
    return {
        "uvci": revocation.uvci,
        "state": "current" if revocation.is_current else "undone",
        "reason": revocation.reason.value,
        "reason_en": rule.en,
        "reason_vi": rule.vi,
        "revoked_at": revocation.revoked_at.isoformat(),
        "revoked_by": revocation.revoked_by,
        "kid": revocation.kid,
        "expires_at": revocation.expires_at.isoformat(),
        "undo_until": _iso(until),
        "undone_at": _iso(revocation.undone_at),
        "undone_by": revocation.undone_by,
        "undo_reason": revocation.undo_reason,
        "change": revocation.change,
    }


async def list_revocations(request: web.Request) -> web.Response:
    """List revocations: ?uvci=…&reason=…&kid=…&state=current or undone; `next` is the `after` of the next page."""
    caller = await require(request, ADMIN, PLATFORM, SITE)
    limit = read_number(request, "limit", 100, 1, 1000)
    state = request.query.get("state", "")
    if state not in ("", "current", "undone") or request.query.get("reason", "fraud") not in set(RevocationReason):
        raise InputError([problem("/state", "not_a_choice")])
    after = read_number(request, "after", 0, 0, 2**63 - 1)
    reason, uvci, kid = (request.query.get(name) for name in ("reason", "uvci", "kid"))

    found = await request.app[SERVICES].store.read(
        lambda c: revocation_store.list_revocations(
            c,
            after=after,
            limit=limit,
            is_current=None if not state else state == "current",
            uvci=full_uvci(uvci) if uvci else None,
            reason=RevocationReason(reason) if reason else None,
            kid=read_kid(kid),
            site_id=caller.site_id if caller.role == SITE else None,
        )
    )
    following = found[-1].revocation_pk if len(found) == limit else None
    return json_response({"revocations": [revocation_document(one) for one in found], "next": following})


async def post_revocation(request: web.Request) -> web.Response:
    """Revoke a certificate; 200 where it is revoked already, 409 where for another reason."""
    caller = await require(request, ADMIN)
    body = await read_model(request, RevokeIn)
    services, uvci = request.app[SERVICES], full_uvci(body.uvci)
    if body.dry_run:
        known = await services.store.read(lambda c: revocation_store.known_certificates(c, [uvci]))
        if uvci not in known:
            raise NotFoundError("There is no such certificate.", vi="Không có giấy chứng nhận này.")
        return json_response({"dry_run": True, "count": int(not known[uvci]), "already": int(known[uvci])})
    made, replayed = await revoke.revoke(
        services, uvci, body.reason, actor=caller.name, request_id=body.request_id
    )  # fmt: skip
    return json_response(revocation_document(made) | {"replayed": replayed}, status=200 if replayed else 201)


async def post_undo(request: web.Request) -> web.Response:
    """Let a revoked certificate count again, where the rules allow it; 200 also where it does already."""
    caller = await require(request, ADMIN)
    body = await read_model(request, UndoIn)
    undone, replayed = await revoke.undo(
        request.app[SERVICES], full_uvci(body.uvci), body.reason, actor=caller.name
    )  # fmt: skip
    return json_response(revocation_document(undone) | {"replayed": replayed})


async def post_query(request: web.Request) -> web.Response:
    """Revoke all that a query means: with `dry_run` count and show some, then revoke exactly what was counted."""
    caller = await require(request, ADMIN)
    body = await read_model(request, QueryIn)
    services = request.app[SERVICES]
    query = DoseQuery(**body.query.model_dump(exclude={"kid"}), kid=read_kid(body.query.kid))
    if body.dry_run:
        shown = await revoke.preview(services, query)
        return json_response(
            {
                "dry_run": True,
                "run_id": shown.run_id,
                "count": shown.count,
                "by_site": shown.by_site,
                "sample": shown.sample,
            }
        )
    missing = [name for name in ("run_id", "expected") if getattr(body, name) is None]
    if body.run_id is None or body.expected is None:
        raise InputError(
            [Problem(f"/{name}", "dry_run_first", _DRY_RUN_VI, "Do a dry run first.") for name in missing]
        )  # fmt: skip
    run = await revoke.begin_query(
        services, body.run_id, query, body.reason, expected=body.expected, actor=caller.name
    )  # fmt: skip
    return await _work(request, run.run_id)


_DRY_RUN_VI = "Hãy chạy thử (dry_run) trước rồi gửi lại run_id và count của lần chạy thử."


async def post_csv(request: web.Request) -> web.Response:
    """Revoke what a CSV names: ?dry_run=1 shows what is wrong, ?skip_bad=1 does the good lines, ?reason=… for all."""
    caller = await require(request, ADMIN)
    if request.content_type != CSV:
        raise web.HTTPUnsupportedMediaType(reason=f"Send {CSV}.")
    services, body = request.app[SERVICES], await request.read()
    name, run_id = request.query.get("reason"), request.query.get("run_id")
    if name is not None and name not in set(RevocationReason):
        raise InputError([problem("/reason", "not_a_choice")])
    reason = RevocationReason(name) if name is not None else None
    if _flag(request, "dry_run"):
        report = await revoke.check_csv(services, body, reason)
        return json_response(
            {"dry_run": True, "good": len(report.items), "already": report.already} | _bad(report.problems)
        )  # fmt: skip
    if run_id is not None and not re.fullmatch(_RUN_ID, run_id):
        raise InputError([problem("/run_id", "invalid")])
    run, problems = await revoke.begin_csv(
        services, body, reason, skip_bad=_flag(request, "skip_bad"), actor=caller.name, run_id=run_id
    )
    return await _work(request, run.run_id, _bad(problems))


def _bad(problems: tuple[CsvProblem, ...]) -> dict[str, Any]:
    told = [
        {"line": one.line, "column": one.column, "code": one.code, "vi": one.vi, "en": one.en}
        for one in problems[:MAX_ERRORS]
    ]
    return {"bad": len(problems), "errors": told}


async def list_runs(request: web.Request) -> web.Response:
    """List the runs that revoked many, newest first."""
    await require(request, ADMIN)
    runs = await request.app[SERVICES].store.read(lambda c: run_store.list_runs(c, limit=100))
    return json_response({"runs": [_run_document(run, counted=False) for run in runs]})


async def get_run(request: web.Request) -> web.Response:
    """Tell how far a run is."""
    await require(request, ADMIN)
    run = await revoke.find_run(request.app[SERVICES], request.match_info["run_id"])
    if run is None:
        raise NotFoundError("There is no such run.", vi="Không có đợt thu hồi này.")
    return json_response(_run_document(run))


async def post_run(request: web.Request) -> web.Response:
    """Go on with a run: 202 as long as something is left."""
    await require(request, ADMIN)
    run_id = request.match_info["run_id"]
    if await revoke.find_run(request.app[SERVICES], run_id) is None:
        raise NotFoundError("There is no such run.", vi="Không có đợt thu hồi này.")
    return await _work(request, run_id)


async def _work(request: web.Request, run_id: str, more: dict[str, Any] | None = None) -> web.Response:
    # Shielded: who hangs up stops no transaction in the middle of its run, only its own waiting.
    run = await asyncio.shield(revoke.work(request.app[SERVICES], run_id, for_s=WORK_S))
    return json_response(_run_document(run) | (more or {}), status=200 if run.ended_at else 202)


def _run_document(run: Run, *, counted: bool = True) -> dict[str, Any]:
    document: dict[str, Any] = {
        "run_id": run.run_id,
        "kind": run.kind,
        "asked": run.asked,
        "asked_by": run.asked_by,
        "begun_at": run.begun_at.isoformat(),
        "ended_at": _iso(run.ended_at),
        "total": run.total,
    }
    if counted:
        document |= {"revoked": run.revoked, "already": run.already, "left": run.left, "undone": run.undone}
    return document


async def get_stale_papers(request: web.Request) -> web.Response:
    """Count the papers of revoked certificates by site; with ?site_id=… list them."""
    caller = await require(request, ADMIN, SITE)
    store = request.app[SERVICES].store
    site_id = caller.site_id if caller.role == SITE else request.query.get("site_id")
    if site_id is None:
        return json_response({"sites": await store.read(revocation_store.count_stale_papers)})
    limit, after = read_number(request, "limit", 200, 1, 1000), request.query.get("after", "")
    papers = await store.read(lambda c: revocation_store.stale_papers(c, site_id, limit=limit, after=after))
    following = papers[-1]["job_id"] if len(papers) == limit else None
    told = [paper | {"revoked_at": paper["revoked_at"].isoformat()} for paper in papers]
    return json_response({"site_id": site_id, "papers": told, "next": following})


# --- for verifiers


async def get_hash(request: web.Request) -> web.Response:
    """Say for certain whether the certificate with this hash (32 hexadecimal digits, any of the forms) is revoked."""
    text = request.match_info["hash"]
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != HASH_BYTES or len(text) != 2 * HASH_BYTES:
        raise InputError(
            [Problem("/hash", "hash_form", "Phải gồm 32 chữ số thập lục phân.", "A hash is 32 hex digits.")]
        )
    found = await request.app[SERVICES].store.read(lambda c: revocation_store.find_by_hash(c, digest))
    revoked = revocation_lists.revoked_of(found)
    body: dict[str, Any] = {"hash": text.lower(), "revoked": revoked is not None}
    answer = json_response(body | (revoked.to_json() if revoked is not None else {}))
    answer.headers["Cache-Control"] = "no-store"
    return answer


async def get_snapshot(request: web.Request) -> web.Response:
    """Return all current revocations as one signed file (docs/revocation.md); its ETag is its version."""
    snapshot, body = await revocation_lists.load_snapshot(request.app[SERVICES])
    return _file(request, snapshot.version, body)


async def get_delta(request: web.Request) -> web.Response:
    """Return what leads from the version ?from=… to the newest; 304 for the newest, 404 where only the whole helps."""
    version = read_number(request, "from", 0, 0, 2**31 - 1)
    snapshot, body = await revocation_lists.load_delta(request.app[SERVICES], version)
    return _file(request, snapshot.version, body)


def _file(request: web.Request, version: int, body: bytes | None) -> web.Response:
    tag = f'"v{version}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    asked = [one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")]
    if body is None or tag in asked or "*" in asked:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=MEDIA_TYPE, headers=headers)


async def list_batches(request: web.Request) -> web.Response:
    """List the batches of the EU: `deleted` is one of which nothing is left; ?after=… goes on."""
    limit = read_number(request, "limit", 1000, 1, 1000)
    services = request.app[SERVICES]
    found = await revocation_lists.list_batches(services, after=request.query.get("after", ""), limit=limit)
    batches = [
        {
            "batchId": one.batch_id,
            "country": services.country,
            "date": one.changed_at.isoformat(),
            "deleted": one.count == 0,
        }
        for one in found
    ]
    return json_response({"more": len(found) == limit, "batches": batches})


async def get_batch(request: web.Request) -> web.Response:
    """Return a batch of the EU: ?hash_type=UCI, COUNTRYCODEUCI or SIGNATURE."""
    name = request.query.get("hash_type", HashType.UCI.value)
    if name not in set(HashType):
        raise InputError([problem("/hash_type", "not_a_choice")])
    batch = await revocation_lists.load_batch(request.app[SERVICES], request.match_info["batch_id"], HashType(name))
    return json_response(batch.to_json())


def read_number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise InputError([Problem(f"/{name}", "not_in_range", f"Phải là số từ {least} đến {most}.",
                                  f"This must be a number from {least} to {most}.")])  # fmt: skip
    return int(text)


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "0").casefold()
    if text not in ("0", "1", "true", "false"):
        raise InputError([problem(f"/{name}", "not_a_choice")])
    return text in ("1", "true")


def read_kid(text: str | None) -> str | None:
    """Return a kid in hexadecimal, given so or in base64. Raises InputError."""
    if text is None:
        return None
    try:
        return bytes.fromhex(text).hex()
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        raise InputError([problem("/query/kid", "invalid")]) from None


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
