"""Trust lists: ours for every verifier, in each form that verifiers know, and those of others for admins."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from printsvc.credential.trustdoc import encode_key, encode_time
from printsvc.credential.trustedkey import CredentialFormat, TrustedKey
from printsvc.credential.trustimport import ListFile, ListFormat, Pins, read_pins, read_public_key
from printsvc.errors import InputError, Problem, SignerError, SigningError
from printsvc.flows import trust as flow
from printsvc.flows.services import Services
from printsvc.flows.trustexport import certificate_bundle, gateway_list
from printsvc.store import trust as trust_store
from printsvc.store.trust import TrustSource
from printsvc.web.access import ADMIN, require
from printsvc.web.bodies import json_response, read_model
from printsvc.web.keys import SERVICES

JOSE, BUNDLE = "application/jose", "application/pkcs7-mime"
RESUME_TOKEN, KID = "X-RESUME-TOKEN", "X-KID"


class ListIn(BaseModel):
    """A trust list to import. `content` is the file in base64; `pins` and `anchors` are certificates in PEM, and
    `public_key` a key in PEM.

    `unsigned` and `sha256` go together, for the formats without a signature that is checked. `issuer` is whose a
    `jwks` is, `key_format` what bare `certificates` are for. `dry_run` tells the difference and changes nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: ListFormat
    content: str
    pins: list[str] = Field(default=[], max_length=500)
    anchors: list[str] = Field(default=[], max_length=50)
    public_key: str = Field(default="", max_length=20_000)
    unsigned: bool = False
    sha256: str = Field(default="", pattern="^([0-9A-Fa-f]{64})?$")
    issuer: str = Field(default="", max_length=512)
    key_format: CredentialFormat = CredentialFormat.HCERT
    skip_unusable: bool = False
    dry_run: bool = False


async def get_trust_list(request: web.Request) -> web.Response:
    """Return the signers that certificates of this service verify against; `jws` is the same, signed."""
    services = request.app[SERVICES]
    now = services.clock()
    body = (await services.trust.load(services.store, now)).own.to_json()
    # Verifiers that ask for the plain list get it also where nobody signs it; the signed forms say why there is none.
    with contextlib.suppress(SignerError, SigningError):
        body["jws"] = await services.trust.signed(services.store, now)
    return json_response(body)


async def get_signed_trust_list(request: web.Request) -> web.Response:
    """Return the trust list as a JWS: who pinned the CSCA checks signature, version and freshness."""
    services = request.app[SERVICES]
    text = await services.trust.signed(services.store, services.clock())
    return web.Response(body=text.encode("ascii"), content_type=JOSE)


async def get_gateway_list(request: web.Request) -> web.Response:
    """Return the trust list as the EU gateway has it, each entry signed by our list signer."""
    services = request.app[SERVICES]
    own = (await services.trust.load(services.store, services.clock())).own
    return json_response(await gateway_list(services.trust, own, now=services.clock()))


async def get_certificate_bundle(request: web.Request) -> web.Response:
    """Return the trust list's certificates as one PKCS#7 bundle in DER."""
    services = request.app[SERVICES]
    own = (await services.trust.load(services.store, services.clock())).own
    return web.Response(body=certificate_bundle(own), content_type=BUNDLE)


async def get_trusted_keys(request: web.Request) -> web.Response:
    """Return every key that codes are verified against here: our signers, and what was imported."""
    services = request.app[SERVICES]
    return json_response((await services.trust.load(services.store, services.clock())).everybody.to_json())


async def get_certificate_update(request: web.Request) -> web.Response:
    """Return the next HCERT signer after X-RESUME-TOKEN, in base64; 204 when there are no more."""
    services = request.app[SERVICES]
    after = request.headers.get(RESUME_TOKEN, "0")
    if not (after.isascii() and after.isdecimal() and len(after) < 18):
        pointer = Problem("", "invalid", f"{RESUME_TOKEN} không hợp lệ.", f"{RESUME_TOKEN} is not one of ours.")
        raise InputError([pointer])
    await services.trust.load(services.store, services.clock())
    found = await services.store.read(lambda c: trust_store.next_published(c, int(after)))
    if found is None:
        return web.Response(status=204, headers={RESUME_TOKEN: after})
    headers = {RESUME_TOKEN: str(found.position), KID: found.kid}
    return web.Response(text=base64.b64encode(found.certificate).decode("ascii"), headers=headers)


async def get_certificate_status(request: web.Request) -> web.Response:
    """Return the kid of every HCERT signer that is believed; one that is missing is believed no more."""
    services = request.app[SERVICES]
    await services.trust.load(services.store, services.clock())
    return json_response(await services.store.read(trust_store.published_kids))


async def list_trust_sources(request: web.Request) -> web.Response:
    """List the trust lists of others that were imported."""
    await require(request, ADMIN)
    found = await request.app[SERVICES].store.read(trust_store.list_sources)
    return json_response({"sources": [_source(source) | {"keys": number} for source, number in found]})


async def get_trust_source(request: web.Request) -> web.Response:
    """Return an imported list: its keys, and who did what to it."""
    await require(request, ADMIN)
    source, keys, events = await flow.get_source(request.app[SERVICES].store, request.match_info["source"])
    told = [{name: encode_time(v) if isinstance(v, datetime) else v for name, v in event.items()} for event in events]
    return json_response(_source(source) | {"keys": [encode_key(key) for key in keys], "events": told})


async def post_trust_source(request: web.Request) -> web.Response:
    """Import a trust list in place of what its source had: all of it, or nothing."""
    caller = await require(request, ADMIN)
    services = request.app[SERVICES]
    given = await read_model(request, ListIn)
    done = await flow.import_list(
        services.store,
        request.match_info["source"],
        await asyncio.to_thread(_list_file, given),
        now=services.clock(),
        actor=caller.name,
        dry_run=given.dry_run,
    )
    return json_response(_imported(request.match_info["source"], done))


async def delete_trust_source(request: web.Request) -> web.Response:
    """Take an imported list away: its keys are believed no more."""
    caller = await require(request, ADMIN)
    services: Services = request.app[SERVICES]
    source = request.match_info["source"]
    number = await flow.remove_source(services.store, source, now=services.clock(), actor=caller.name)
    return json_response({"source": source, "removed": number})


def _list_file(given: ListIn) -> ListFile:
    try:
        raw = base64.b64decode(given.content, validate=True)
    except (binascii.Error, ValueError):
        raise InputError([Problem("/content", "invalid", "Không phải base64.", "This is not base64.")]) from None
    return ListFile(
        list_format=given.format,
        raw=raw,
        pins=Pins(
            signers=_certificates(given.pins, "/pins"),
            anchors=_certificates(given.anchors, "/anchors"),
            public_key=read_public_key(given.public_key.encode(), "/public_key") if given.public_key else None,
        ),
        unsigned=given.unsigned,
        sha256=given.sha256,
        issuer=given.issuer,
        key_format=given.key_format,
        skip_unusable=given.skip_unusable,
    )


def _certificates(texts: list[str], pointer: str) -> tuple[bytes, ...]:
    return tuple(
        der
        for number, text in enumerate(texts)
        for der in read_pins(text.encode("utf-8", "replace"), f"{pointer}/{number}")
    )


def _source(source: TrustSource) -> dict[str, Any]:
    return {
        "source": source.source,
        "format": source.list_format,
        "sha256": source.sha256,
        "signed_by": source.signed_by,
        "version": source.version,
        "made_at": encode_time(source.made_at) if source.made_at else None,
        "imported_at": encode_time(source.imported_at),
        "imported_by": source.imported_by,
        "skipped": list(source.skipped),
    }


def _imported(source: str, done: flow.Imported) -> dict[str, Any]:
    return {
        "source": source,
        "dry_run": done.dry_run,
        "sha256": done.read.sha256,
        "signed_by": done.read.signed_by,
        "keys": len(done.read.keys),
        "added": [_short(key) for key in done.difference.added],
        "removed": [_short(key) for key in done.difference.removed],
        "unchanged": done.difference.unchanged,
        "skipped": [{"pointer": p.pointer, "code": p.code, "vi": p.vi, "en": p.en} for p in done.read.skipped],
    }


def _short(key: TrustedKey) -> dict[str, Any]:
    return {name: value for name, value in encode_key(key).items() if name not in ("public_key", "certificate")}
