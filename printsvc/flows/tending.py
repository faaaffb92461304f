"""What the service does by itself, again and again: each of these ends only by cancellation."""

from __future__ import annotations

import asyncio

import structlog

from printsvc.errors import PrintsvcError, SigningError, StoreError, UnavailableError
from printsvc.flows.climbing import climb_all
from printsvc.flows.printers import sites_with_work
from printsvc.flows.reissue import resume_runs as resume_reissues
from printsvc.flows.revocation_lists import is_signed_by_another, publish_snapshot
from printsvc.flows.revoke import resume_runs
from printsvc.flows.services import Services

POLL_S = 0.5
TEND_S = 60.0
FOLLOW_S = 1.0
CLIMB_S = 5.0
_LOG = structlog.get_logger("printsvc")


async def wake_sites(services: Services) -> None:
    """Wake long-polls for jobs that another process made or whose lease ran out: one small query for all sites."""
    while True:
        await asyncio.sleep(POLL_S)
        if not services.wakeups.waiting_sites():
            continue
        try:
            for site_id in await services.store.read(sites_with_work):
                services.wakeups.notify(site_id)
        except StoreError as error:
            _LOG.warning("store unavailable", detail=error.en)


async def follow_signers(services: Services) -> None:
    """See every second what other processes changed of the signers, and let one sign whose time has come."""
    told: dict[str, str] = {}
    while True:
        try:
            await services.signers.look(services.clock())
        except PrintsvcError as error:
            _LOG.warning("signers not read", code=error.code, detail=error.en)
        closed = {name: error.en for name, error in services.signers.closed().items()}
        for name in closed.keys() - told.keys():
            _LOG.warning("signer's key cannot be opened", kid=name[:16], detail=closed[name])
        told = closed
        await asyncio.sleep(FOLLOW_S)


async def tend_revocations(services: Services, snapshot_s: float) -> None:
    """Bring runs to their end that somebody left, and publish a snapshot where something changed."""
    loop = asyncio.get_running_loop()
    publish_at = loop.time()
    while True:
        try:
            await resume_runs(services)
            if loop.time() >= publish_at or await is_signed_by_another(services):
                await publish_snapshot(services)
                publish_at = loop.time() + snapshot_s
        except (UnavailableError, SigningError) as error:
            _LOG.warning("revocations not tended", code=error.code, detail=error.en)
        await asyncio.sleep(min(TEND_S, snapshot_s))


async def tend_reissues(services: Services) -> None:
    """Bring runs to their end that somebody left."""
    while True:
        try:
            await resume_reissues(services)
        except (UnavailableError, SigningError) as error:
            _LOG.warning("re-issue waits", code=error.code, detail=error.en)
        await asyncio.sleep(TEND_S)


async def tend_clocks(services: Services) -> None:
    """Let jobs climb whose paper does not come, also where no agent asks for them."""
    while True:
        try:
            await climb_all(services)
        except StoreError as error:
            _LOG.warning("store unavailable", detail=error.en)
        await asyncio.sleep(CLIMB_S)
