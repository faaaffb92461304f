"""The composition root: the one file that names concrete classes and reads the clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog
from aiohttp import web
from sqlalchemy import Connection

from printsvc.domain.form import FormId
from printsvc.errors import SigningError, StoreError, UnavailableError
from printsvc.flows.services import FormChoice, Services
from printsvc.flows.signers import LocalSigners, open_signers, publish_signers
from printsvc.render.cluster import cluster_executor
from printsvc.render.draw import PageCounts, RenderSetup, sources_digest
from printsvc.render.fonts import load_fonts
from printsvc.render.formfile import read_form
from printsvc.render.pool import RenderPool
from printsvc.render.qr import alphanumeric_capacity
from printsvc.settings import Settings
from printsvc.store import jobs as job_store
from printsvc.store import migrate
from printsvc.store.engine import Store
from printsvc.store.keyfile import KeyFolder
from printsvc.store.sites import Caller, insert_token
from printsvc.sync import agents
from printsvc.web import ops, routes
from printsvc.web.access import ADMIN, PLATFORM
from printsvc.web.keys import READY_CHECKS, SERVICES
from printsvc.web.problems import problems_middleware
from printsvc.web.sites import new_token

MAX_BODY = 16 * 1024 * 1024
POLL_S = 0.5
_LOG = structlog.get_logger("printsvc")

__all__ = ["assemble", "clock", "make_application", "open_keys", "serve", "write_development_tokens"]


def clock() -> datetime:
    """Return the time now, aware UTC."""
    return datetime.now(UTC)


def passphrase(settings: Settings, folder: KeyFolder) -> bytes:
    """Return what opens the key files. Raises SigningError where none is set; in development one is made."""
    if settings.key_passphrase.get_secret_value():
        return settings.key_passphrase.get_secret_value().encode()
    if settings.key_passphrase_file is not None:
        return settings.key_passphrase_file.read_bytes().strip()
    if settings.development:
        return folder.secret("development.passphrase", os.urandom(24).hex().encode())
    raise SigningError(
        "Set PRINTSVC_KEY_PASSPHRASE_FILE: it opens the signing keys.",
        vi="Hãy đặt PRINTSVC_KEY_PASSPHRASE_FILE để mở khóa ký.",
        code="passphrase_missing",
    )


def open_keys(settings: Settings) -> LocalSigners:
    """Open the signers' keys; in development the first ones are made."""
    folder = KeyFolder(settings.data_dir / "keys")
    return open_signers(
        folder,
        passphrase(settings, folder),
        country=settings.country,
        now=clock(),
        random_bytes=os.urandom,
        make_first=settings.development,
    )


def choose_form(settings: Settings) -> FormChoice:
    """Return the form of new certificates. Raises RenderError where it is not there or broken."""
    form = read_form(settings.templates_dir / settings.form, FormId(settings.form))
    return FormChoice(form.form_id, form.media, alphanumeric_capacity(form.qr.level, form.qr.max_version))


def make_pool(settings: Settings, pages: PageCounts) -> RenderPool:
    """Return the pool that PRINTSVC_POOL names, unopened: processes here, or the workers of a Dask cluster."""
    setup = RenderSetup(
        settings.templates_dir,
        settings.fonts_dir,
        settings.data_dir / "cache",
        forms=(FormId(settings.form),),
        compiles=False,
    )
    make_executor = None
    if settings.pool != "processes":
        # A worker elsewhere makes its own cache, and proves that it has our forms.
        setup = replace(setup, cache_dir=None, compiles=True, sources=sources_digest(setup))
        make_executor = cluster_executor(settings.pool, settings.pool_tls_dir)
    return RenderPool(
        setup,
        workers=settings.render_workers,
        max_waiting=settings.render_queue,
        pages_per_worker=settings.render_recycle,
        make_executor=make_executor,
        answer_s=3 * setup.timeout_s if make_executor else None,
        counts=pages,
    )


def write_development_tokens(store: Store, folder: Path) -> None:
    """Make a token of the Platform and one of an admin, once, as `<folder>/platform.token` and `admin.token`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    tokens = {}
    for role in (PLATFORM, ADMIN):
        path = folder / f"{role}.token"
        if not path.exists():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(new_token(os.urandom(32)) + "\n")
        tokens[role] = path.read_text().strip()

    def write(connection: Connection) -> None:
        for role, token in tokens.items():
            insert_token(connection, token, Caller(role, role), now=clock())

    store.submit(write).result()


def assemble(services: Services) -> web.Application:
    """Return the web application over these services; it opens and closes nothing."""
    application = web.Application(middlewares=[ops.metrics_middleware, problems_middleware], client_max_size=MAX_BODY)
    application[ops.METRICS] = ops.Metrics(services.pages)
    application[SERVICES] = services
    application[READY_CHECKS] = _ready_checks(services)
    routes.add_routes(application)
    agents.add_routes(application, services)
    return application


def make_application(settings: Settings) -> web.Application:
    """Return the service; everything opens when it starts and closes when it stops."""
    load_fonts(settings.fonts_dir)  # a renderer without fonts would come up and draw nothing
    store = Store(settings.store_url)
    try:
        if settings.development or store.dialect == "sqlite":
            migrate.upgrade(store)
        else:
            migrate.check(store)
        signers = open_keys(settings)
        form = choose_form(settings)
    except BaseException:
        store.close()
        raise
    pages = PageCounts()
    pool = make_pool(settings, pages)
    services = Services(
        store=store,
        signers=signers,
        renderer=pool,
        form=form,
        clock=clock,
        random_bytes=os.urandom,
        issuer=settings.issuer,
        country=settings.country,
        lease_s=settings.lease_s,
        overdue_s=settings.overdue_s,
        pages=pages,
    )
    application = assemble(services)

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        await publish_signers(store, signers, now=clock())
        if settings.development:
            await asyncio.to_thread(write_development_tokens, store, settings.data_dir / "dev")
        await pool.warm_up()
        waker = asyncio.create_task(_wake_sites(services))
        yield
        waker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waker
        await pool.close()
        await asyncio.to_thread(store.close)

    application.cleanup_ctx.append(lifetime)
    return application


def _ready_checks(services: Services) -> list[Callable[[], Awaitable[None]]]:
    async def store_answers() -> None:
        await asyncio.to_thread(services.store.ping)

    async def store_is_current() -> None:
        await asyncio.to_thread(migrate.check, services.store)

    async def somebody_signs() -> None:
        services.signers.current(services.clock())

    return [store_answers, store_is_current, somebody_signs]


async def _wake_sites(services: Services) -> None:
    """Wake long-polls for jobs that another process made or whose lease ran out: one small query for all sites."""
    while True:
        await asyncio.sleep(POLL_S)
        if not services.wakeups.waiting_sites():
            continue
        try:
            for site_id in await services.store.read(job_store.sites_with_waiting_jobs):
                services.wakeups.notify(site_id)
        except StoreError as error:
            _LOG.warning("store unavailable", detail=error.en)


async def serve(settings: Settings, started: Callable[[str], None]) -> None:
    """Run the service until SIGTERM or SIGINT; `started` is told its address."""
    application = make_application(settings)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            raise UnavailableError(
                f"Cannot listen on {settings.host} port {settings.port}: {os.strerror(error.errno or 0)}.",
                vi=f"Không mở được cổng {settings.port} trên {settings.host}.",
            ) from None
        host, port = runner.addresses[0][:2]
        started(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
    finally:
        await runner.cleanup()
