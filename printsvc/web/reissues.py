"""/v1/reissues: certificates issued again under another signer, for admins; papers with an old code, for sites too."""

from __future__ import annotations

import asyncio
from typing import Annotated

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from printsvc.errors import InputError, Problem
from printsvc.flows import reissue
from printsvc.flows.intake import problem
from printsvc.store import reissues as reissue_store
from printsvc.store.reissues import ItemOutcome, Selection
from printsvc.store.revocations import DoseQuery
from printsvc.web.access import ADMIN, SITE, require
from printsvc.web.bodies import json_response, read_model
from printsvc.web.keys import SERVICES
from printsvc.web.revocations import ConditionsIn, read_kid, read_number

WORK_S = 2.0
"""How long a request works on a run before it answers how far it is; the next one, or the service itself, goes on."""


class ReissueIn(BaseModel):
    """The body of `POST /v1/reissues`: first with `dry_run`, then with the `run_id` and the count that it gave.

    All that is given must hold. `signer` is a kid or thumbprint (hexadecimal), or the beginning of one. `print` makes
    papers; `revoke_old` revokes the old certificates at once, though their signer is good.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    signer: str | None = Field(default=None, min_length=8, max_length=64)
    expiring_before: AwareDatetime | None = None
    query: ConditionsIn = ConditionsIn()
    print: bool = False
    revoke_old: bool = False
    dry_run: bool = False
    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")] | None = None
    expected: int | None = Field(default=None, ge=0)


def selection_of(body: ReissueIn) -> Selection:
    """Return what a body selects, but for its signer. Raises InputError."""
    query = DoseQuery(**body.query.model_dump(exclude={"kid"}), kid=read_kid(body.query.kid))
    return Selection(query, body.expiring_before)


def counted(body: ReissueIn) -> tuple[str, int]:
    """Return run_id and count of the dry run before. Raises InputError where there was none."""
    if body.run_id is not None and body.expected is not None:
        return body.run_id, body.expected
    vi = "Hãy chạy thử (dry_run) trước rồi gửi lại run_id và count của lần chạy thử."
    missing = [name for name in ("run_id", "expected") if getattr(body, name) is None]
    raise InputError([Problem(f"/{name}", "dry_run_first", vi, "Do a dry run first.") for name in missing])


async def post_reissue(request: web.Request) -> web.Response:
    """Issue certificates again: with `dry_run` count them, then do exactly what was counted."""
    caller = await require(request, ADMIN)
    body = await read_model(request, ReissueIn)
    services = request.app[SERVICES]
    selection = await reissue.choose(services, selection_of(body), body.signer)
    if body.dry_run:
        return json_response(reissue.preview_document(await reissue.preview(services, selection)))
    run_id, expected = counted(body)
    run = await reissue.begin(
        services,
        run_id,
        selection,
        expected=expected,
        is_printed=body.print,
        revokes_old=body.revoke_old,
        actor=caller.name,
    )
    return await _work(request, run.run_id)


async def list_reissues(request: web.Request) -> web.Response:
    """List the runs that issued again, newest first."""
    await require(request, ADMIN)
    runs = await request.app[SERVICES].store.read(lambda c: reissue_store.list_runs(c, limit=100))
    return json_response({"runs": [reissue.run_document(run) for run in runs]})


async def get_reissue(request: web.Request) -> web.Response:
    """Tell how far a run is, and why certificates could not be made."""
    await require(request, ADMIN)
    return json_response(await reissue.run_report(request.app[SERVICES], request.match_info["run_id"]))


async def post_reissue_run(request: web.Request) -> web.Response:
    """Go on with a run: 202 as long as something is left."""
    await require(request, ADMIN)
    return await _work(request, request.match_info["run_id"])


async def list_reissue_items(request: web.Request) -> web.Response:
    """List what came of each certificate, and its new one; ?outcome=issued, already, revoked, failed, or open."""
    await require(request, ADMIN)
    services, run_id = request.app[SERVICES], request.match_info["run_id"]
    await reissue.get_run(services, run_id)
    outcome = request.query.get("outcome")
    if outcome not in (None, "open", *ItemOutcome):
        raise InputError([problem("/outcome", "not_a_choice")])
    limit, after = read_number(request, "limit", 1000, 1, 10_000), read_number(request, "after", 0, 0, 2**31 - 1)
    wanted = "" if outcome == "open" else outcome
    items = await services.store.read(
        lambda c: reissue_store.list_items(c, run_id, outcome=wanted, after=after, limit=limit)
    )
    told = [reissue.item_document(item) for item in items]
    return json_response({"items": told, "next": items[-1].line if len(items) == limit else None})


async def get_reissue_papers(request: web.Request) -> web.Response:
    """Count by site the papers with the code of a certificate that was issued again; with ?site_id=… list them."""
    caller = await require(request, ADMIN, SITE)
    services = request.app[SERVICES]
    site_id = caller.site_id if caller.role == SITE else request.query.get("site_id")
    if site_id is None:
        return json_response(await reissue.stale_document(services))
    limit, after = read_number(request, "limit", 200, 1, 1000), request.query.get("after", "")
    return json_response(await reissue.stale_papers_document(services, site_id, after=after, limit=limit))


async def _work(request: web.Request, run_id: str) -> web.Response:
    # Shielded: who hangs up stops no transaction in the middle of its run, only its own waiting.
    services = request.app[SERVICES]
    run = await asyncio.shield(reissue.work(services, run_id, for_s=WORK_S))
    return json_response(reissue.run_document(run), status=200 if run.ended_at else 202)
