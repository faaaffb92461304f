"""/v1/verify: open to everybody."""

from __future__ import annotations

import asyncio

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from printsvc.errors import InputError
from printsvc.flows.intake import problem
from printsvc.flows.revocation_lists import StoreRevocations
from printsvc.flows.verify import verify_file, verify_request
from printsvc.web.bodies import json_response, read_json
from printsvc.web.keys import SERVICES

FILES = ("application/pdf", "application/zip", "image/png", "image/jpeg", "text/plain")


class VerifyIn(BaseModel):
    """The body of `POST /v1/verify`, as a line of a batch; or send the picture or PDF itself as the body.

    `at` is ISO 8601 or seconds since 1970; `certificates` (base64 DER) are then the only signers that are believed.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    code: str
    id: str | int | None = None
    at: str | float | None = None
    certificates: list[str] | None = None


async def post_verify(request: web.Request) -> web.Response:
    """Verify the text of a code (JSON), or a PNG, JPEG or PDF sent as the body. Nothing of it is stored.

    Of a PDF it also answers `seal`, `text` and, of the two together, `file_sound`.
    """
    services = request.app[SERVICES]
    now = services.clock()
    book = StoreRevocations(services.store)
    trust = (await services.trust.load(services.store, now)).everybody
    if request.content_type in FILES:
        body = await request.read()
        verdicts = await asyncio.to_thread(
            verify_file,
            body,
            trust=trust,
            now=now,
            revocations=book,
            stamp_authorities=services.stamp_authorities,
            forms=services.known_forms,
        )
        first = verdicts[0]
        return json_response(first | {"others": verdicts[1:]} if verdicts[1:] else first)
    document = await read_json(request)
    if not isinstance(document, dict) or "code" not in document:
        raise InputError([problem("/code", "missing")])
    answer = await asyncio.to_thread(verify_request, document, trust=trust, now=now, revocations=book)
    if "id" not in document:
        del answer["id"]
    return json_response(answer)
