"""/v1/sites, /v1/printers, /v1/stats: what admins and leaders look at."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import Connection

from printsvc.domain.site import Site, SiteId
from printsvc.errors import DuplicateError, NotFoundError
from printsvc.flows import leases
from printsvc.flows.intake import SITE_ID
from printsvc.stats.coverage import Coverage
from printsvc.store import counts
from printsvc.store import papers as paper_store
from printsvc.store import sites as site_store
from printsvc.store.sites import Agent, Caller
from printsvc.web.access import ADMIN, PLATFORM, SITE, require, require_site
from printsvc.web.bodies import read_model
from printsvc.web.keys import SERVICES
from printsvc.web.now import uncertain_document

CODE_LIFETIME = timedelta(hours=24)


def _one_line(text: str) -> str:
    """Return the text NFC-normalised, spaces folded. Raises ValueError for controls and text-direction characters."""
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for character in text):
        raise ValueError("control_character")
    return " ".join(unicodedata.normalize("NFC", text).split())


Line = Annotated[str, BeforeValidator(lambda value: _one_line(value) if isinstance(value, str) else value)]
"""Text for the paper."""


class SiteChange(BaseModel):
    """The body of `PUT /v1/sites/{site_id}`: all that can be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Line = Field(min_length=1, max_length=120)
    authority: Line = Field(default="SỞ Y TẾ", min_length=1, max_length=120)
    province: Line = Field(default="", max_length=3)


class SiteIn(SiteChange):
    """The body of `POST /v1/sites`."""

    site_id: str = Field(pattern=f"^{SITE_ID.pattern}$")


def site_document(site: Site) -> dict[str, str]:
    return {"site_id": site.site_id, "name": site.name, "authority": site.authority, "province": site.province}


async def post_site(request: web.Request) -> web.Response:
    """Make a site; 200 where it is there already, 409 where it is there with other values."""
    await require(request, ADMIN)
    body = await read_model(request, SiteIn)
    services = request.app[SERVICES]
    site = Site(SiteId(body.site_id), body.name, body.authority, body.province)
    made = await services.store.write(lambda c: site_store.insert_site(c, site, now=services.clock()))
    stored = site_document(await services.store.read(lambda c: site_store.get_site(c, body.site_id)))
    wanted = site_document(site)
    differing = sorted(name for name in wanted if wanted[name] != stored[name])
    if differing:
        raise DuplicateError(
            [f"/{name}" for name in differing],
            f"There is a site {site.site_id} with another {', '.join(differing)}; nothing was changed.",
            vi=f"Đã có điểm tiêm {site.site_id} với thông tin khác ({', '.join(differing)}); chưa thay đổi gì.",
        )
    return web.json_response(stored, status=201 if made else 200)


async def put_site(request: web.Request) -> web.Response:
    """Change the name, authority and province of a site; papers drawn from now on have them."""
    await require(request, ADMIN)
    body = await read_model(request, SiteChange)
    site = Site(SiteId(request.match_info["site_id"]), body.name, body.authority, body.province)

    def write(connection: Connection) -> None:
        if not site_store.update_site(connection, site):
            site_store.get_site(connection, site.site_id)  # says that it is not there

    await request.app[SERVICES].store.write(write)
    return web.json_response(site_document(site))


async def list_sites(request: web.Request) -> web.Response:
    """List the sites."""
    await require(request, ADMIN, PLATFORM)
    sites = await request.app[SERVICES].store.read(site_store.list_sites)
    return web.json_response({"sites": [site_document(site) for site in sites]})


async def post_enrolment_code(request: web.Request) -> web.Response:
    """Make a one-time code with which an agent of the site enrols; it works once, for 24 hours."""
    await require(request, ADMIN)
    services = request.app[SERVICES]
    site_id = request.match_info["site_id"]
    code = services.random_bytes(10).hex()
    now = services.clock()

    def write(connection: Connection) -> None:
        site_store.get_site(connection, site_id)
        site_store.insert_enrolment_code(connection, code, site_id, now=now, expires_at=now + CODE_LIFETIME)

    await services.store.write(write)
    return web.json_response({"code": code, "expires_at": (now + CODE_LIFETIME).isoformat()}, status=201)


async def post_site_token(request: web.Request) -> web.Response:
    """Make a token for the operators of a site; it is told this once."""
    await require(request, ADMIN)
    services = request.app[SERVICES]
    site_id = request.match_info["site_id"]
    token = new_token(services.random_bytes(32))

    def write(connection: Connection) -> None:
        site_store.get_site(connection, site_id)
        caller = Caller(f"site:{site_id}"[:64], SITE, site_id)
        site_store.insert_token(connection, token, caller, now=services.clock())

    await services.store.write(write)
    return web.json_response({"token": token}, status=201)


async def list_agents(request: web.Request) -> web.Response:
    """List the agents of a site."""
    site_id = request.match_info["site_id"]
    await require_site(request, site_id, ADMIN)

    def read(connection: Connection) -> list[Agent]:
        site_store.get_site(connection, site_id)
        return site_store.list_agents(connection, site_id)

    agents = await request.app[SERVICES].store.read(read)
    return web.json_response(
        {
            "agents": [
                {
                    "agent_id": agent.agent_id,
                    "site_id": agent.site_id,
                    "seen_at": agent.seen_at.isoformat() if agent.seen_at else None,
                    "version": agent.version,
                    "clock_skew_ms": agent.clock_skew_ms,
                }
                for agent in agents
            ]
        }
    )


async def delete_agent(request: web.Request) -> web.Response:
    """Revoke an agent: its token ends now, and what it held goes to a person."""
    await require(request, ADMIN)
    services = request.app[SERVICES]
    agent_id = request.match_info["agent_id"]
    now = services.clock()

    def write(connection: Connection) -> int:
        agent = site_store.lock_agent(connection, agent_id)
        if agent.site_id != request.match_info["site_id"]:
            raise NotFoundError("There is no such agent.", vi="Không có tác nhân in này.")
        site_store.update_agent(connection, agent_id, revoked_at=now)
        return leases.lose_holder(connection, agent_id=agent_id, journal_id=None, now=now, reason="agent-revoked")

    return web.json_response({"uncertain": await services.store.write(write)})


async def get_stats(request: web.Request) -> web.Response:
    """Count doses, certificates and papers, of all sites or of one: ?site_id=…"""
    caller = await require(request, ADMIN, PLATFORM, SITE)
    site_id = caller.site_id if caller.role == SITE else request.query.get("site_id")
    services = request.app[SERVICES]

    def read(connection: Connection) -> tuple[dict[str, Any], tuple[int, datetime | None]]:
        if site_id is not None:
            site_store.get_site(connection, site_id)
        told = counts.count(connection, site_id)
        return told, paper_store.uncertain_since(connection, site_id)

    numbers, (uncertain, oldest) = await services.store.read(read)
    told = coverage_document(Coverage(**numbers)) | {
        "uncertain": uncertain_document(uncertain, oldest, services.clock()),
    }
    # How pages were drawn is the process's, not a site's, and is counted from its start.
    return web.json_response(told | {"pages": services.pages.document()})


def coverage_document(coverage: Coverage) -> dict[str, Any]:
    return {
        "doses": coverage.doses,
        "held": coverage.held,
        "certificates": coverage.certificates,
        "with_paper": coverage.with_paper,
        "printed": coverage.printed,
        "confirmed": coverage.confirmed,
        "unaccounted": coverage.unaccounted,
        "paper_percent": coverage.paper_percent,
        "papers": dict(coverage.papers),
    }


def new_token(random: bytes) -> str:
    """Return an API token: `ps_` and 256 random bits."""
    return f"ps_{random.hex()}"
