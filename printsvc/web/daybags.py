"""/v1/day-bags: leave for sites to issue without a line, and what of it needs a person's decision."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from printsvc.credential.dsc import read_dsc
from printsvc.errors import CredentialError, InputError, NotFoundError, Problem
from printsvc.flows.daybags import bag_document, certificates_document, end, entry_document, grant, publish
from printsvc.flows.daybagsync import Settlement, settle_conflict
from printsvc.issuing.bag import MAX_DAYS
from printsvc.store import daybags as bag_store
from printsvc.web.access import ADMIN, PLATFORM, SITE, require
from printsvc.web.bodies import read_model
from printsvc.web.keys import SERVICES


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DayBagIn(_Body):
    """The body of `POST /v1/day-bags`. `source` is whose dose ids the site writes down."""

    site_id: str = Field(max_length=64)
    doses: int
    days: int = Field(default=1, le=MAX_DAYS)
    source: str = Field(default="platform", min_length=1, max_length=64)


class CertifiedIn(_Body):
    """The body of `POST /v1/day-bags/{bag_id}/certify`: the delegated signer's certificate, DER in base64."""

    certificate: str = Field(max_length=32_768)


class EndIn(_Body):
    """The body of `POST /v1/day-bags/{bag_id}/end`."""

    reason: str = Field(default="", max_length=500)


class DecisionIn(_Body):
    """The body of `POST /v1/day-bags/{bag_id}/conflicts/{seq}`."""

    decision: Settlement


async def post_day_bag(request: web.Request) -> web.Response:
    """Give a site leave to take a day bag within 48 hours: its agent makes a key, and gets a signer for a week at most.

    The answer holds nothing secret.
    """
    caller = await require(request, ADMIN)
    body = await read_model(request, DayBagIn)
    bag = await grant(
        request.app[SERVICES], body.site_id, doses=body.doses, days=body.days, source=body.source, actor=caller.name
    )
    return web.json_response(bag_document(bag), status=201)


async def list_day_bags(request: web.Request) -> web.Response:
    """List day bags, newest first: ?site_id=…"""
    caller = await require(request, ADMIN, SITE)
    site_id = caller.site_id if caller.role == SITE else request.query.get("site_id")
    found = await request.app[SERVICES].store.read(lambda c: bag_store.list_bags(c, site_id))
    return web.json_response({"day_bags": [bag_document(bag) for bag in found]})


async def get_day_bag(request: web.Request) -> web.Response:
    """Tell of a bag (by its id or its signer's kid): its signer, and every UVCI of its range one by one."""
    await require(request, ADMIN)
    name = request.match_info["bag_id"]
    return web.json_response(await request.app[SERVICES].store.read(lambda c: certificates_document(c, name)))


async def post_certificate(request: web.Request) -> web.Response:
    """Publish the delegated signer of a bag that was requested, certified where the CSCA's key is."""
    caller = await require(request, ADMIN)
    body = await read_model(request, CertifiedIn)
    services, bag_id = request.app[SERVICES], request.match_info["bag_id"]
    try:
        certificate = base64.b64decode(body.certificate, validate=True)
        read_dsc(certificate)
    except (binascii.Error, ValueError, CredentialError):
        vi, en = "Không đọc được chứng thư.", "The certificate cannot be read."
        raise InputError([Problem("/certificate", "certificate_unreadable", vi, en)]) from None
    now = services.clock()

    def write(connection: Connection) -> dict[str, Any]:
        bag = bag_store.get_bag(connection, bag_id, lock=True)
        return bag_document(publish(connection, bag, certificate, now=now, actor=caller.name))

    document = await services.store.write(write)
    await services.signers.look(now)
    return web.json_response(document)


async def end_day_bag(request: web.Request) -> web.Response:
    """End a bag: its signer signs no more. A key in wrong hands is for /v1/signers/{thumbprint}/compromise."""
    caller = await require(request, ADMIN)
    body = await read_model(request, EndIn)
    bag = await end(request.app[SERVICES], request.match_info["bag_id"], reason=body.reason, actor=caller.name)
    return web.json_response(bag_document(bag))


async def list_conflicts(request: web.Request) -> web.Response:
    """List what sites brought and what could not be stored, and that nobody has decided: ?site_id=…"""
    caller = await require(request, ADMIN, SITE)
    site_id = caller.site_id if caller.role == SITE else request.query.get("site_id")
    found = await request.app[SERVICES].store.read(lambda c: bag_store.open_conflicts(c, site_id))
    return web.json_response({"conflicts": [entry_document(entry) for entry in found]})


async def settle_day_bag(request: web.Request) -> web.Response:
    """Decide a conflict: accept, revoke or dismiss."""
    caller = await require(request, ADMIN)
    body = await read_model(request, DecisionIn)
    seq = request.match_info["seq"]
    if not (seq.isascii() and seq.isdigit() and len(seq) < 9):
        raise NotFoundError("There is no such entry.", vi="Không có mục này trong gói ngày.")
    entry = await settle_conflict(
        request.app[SERVICES], request.match_info["bag_id"], int(seq), body.decision, actor=caller.name
    )
    return web.json_response(entry_document(entry))


async def list_identities(request: web.Request) -> web.Response:
    """List the doses that sites issued unchecked: the registry's word goes to POST /v1/doses/{dose_id}/identity."""
    await require(request, ADMIN, PLATFORM)
    found = await request.app[SERVICES].store.read(bag_store.waiting_identities)
    return web.json_response({"identities": [entry_document(entry) for entry in found]})
