"""/agent/v1/day-bag: a site takes a day bag in the morning, and brings home what it entered."""

from __future__ import annotations

import base64
import binascii

from aiohttp import web

from printsvc.domain.print_job import CopyReason
from printsvc.errors import InputError, Problem
from printsvc.flows import daybags, daybagsync
from printsvc.issuing.bag import MEDIA_TYPE
from printsvc.sync import agents
from spooler.bagprotocol import BagRequest, EntryResult, SyncAnswer, SyncRequest


def add_routes(application: web.Application) -> None:
    """Add the routes; those of `agents` are there already."""
    application.router.add_post("/agent/v1/day-bag", post_day_bag)
    application.router.add_post("/agent/v1/day-bag/sync", post_sync)


async def post_day_bag(request: web.Request) -> web.Response:
    """Certify the agent's key as a delegated signer, and answer the day bag."""
    agent = await agents.caller(request)
    body = await agents.read_message(request, BagRequest)
    try:
        wanted = base64.b64decode(body.request, validate=True)
    except (binascii.Error, ValueError):
        vi, en = "Yêu cầu chứng thư không phải base64.", "The request is not base64."
        raise InputError([Problem("/request", "request_unreadable", vi, en)]) from None
    archive = await daybags.take(request.app[agents.SERVICES], agent, journal_id=body.journal_id[:64], request=wanted)
    return web.Response(body=archive, content_type=MEDIA_TYPE)


async def post_sync(request: web.Request) -> web.Response:
    """Store what the site entered without a line: each once, in order."""
    agent = await agents.caller(request)
    body = await agents.read_message(request, SyncRequest)
    entries = [
        daybagsync.BroughtEntry(
            seq=entry.seq,
            event=entry.event,
            hcert=entry.hcert,
            entered_at=agents.aware(entry.entered_at),
            paper="site" if entry.paper == "site" else "centre",
            form=entry.form[:64],
            media=entry.media[:64],
            uvci=entry.uvci,
            copy_number=entry.copy_number,
            copy_reason=CopyReason.SPOILT if entry.copy_reason == "spoilt" else CopyReason.MISSING,
            told_before=entry.told_before,
        )
        for entry in body.entries
    ]
    acknowledged, told = await daybagsync.bring(
        request.app[agents.SERVICES], agent, journal_id=body.journal_id[:64], bag_id=body.bag_id[:24], entries=entries
    )
    results = tuple(EntryResult(seq=one.seq, outcome=one.outcome, reason=one.reason, detail=one.detail) for one in told)
    return agents.answer(SyncAnswer(acknowledged=acknowledged, results=results))
