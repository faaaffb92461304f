"""Who calls: bearer tokens and roles."""

from __future__ import annotations

from aiohttp import web

from printsvc.errors import AccessError, NotFoundError
from printsvc.flows.services import Services
from printsvc.printing.copies import CopyLimits
from printsvc.store.sites import Caller, find_caller
from printsvc.web.keys import SERVICES

PLATFORM = "platform"
ADMIN = "admin"
SITE = "site"
PROVINCE = "province"


def bearer_token(request: web.Request) -> str:
    """Return the token of the Authorization header. Raises AccessError (401)."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip() or not token.isascii():
        raise AccessError(401, "Send a bearer token.", vi="Thiếu mã truy cập (Bearer token).")
    return token.strip()


async def require(request: web.Request, *roles: str) -> Caller:
    """Return the caller, who has one of the roles. Raises AccessError (401, 403)."""
    token = bearer_token(request)
    caller = await request.app[SERVICES].store.read(lambda c: find_caller(c, token))
    if caller is None:
        raise AccessError(401, "The token is unknown or revoked.", vi="Mã truy cập không đúng hoặc đã bị thu hồi.")
    if caller.role not in roles:
        raise AccessError(403, f"The role {caller.role} may not do this.", vi="Vai trò này không được phép.")
    return caller


async def require_site(request: web.Request, site_id: str, *roles: str) -> Caller:
    """Like `require`; a site's own token sees that site alone, and others as if they were not there."""
    caller = await require(request, SITE, *roles)
    if caller.role == SITE and caller.site_id != site_id:
        raise NotFoundError("There is no such site.", vi="Không có điểm tiêm này.")
    return caller


def copy_limits(services: Services, caller: Caller) -> CopyLimits:
    """Return how many further papers the caller may ask for."""
    return services.copies.admin if caller.role == ADMIN else services.copies.operator
