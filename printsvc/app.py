"""The composition root: the one file that names concrete classes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection

from printsvc.clock import clock
from printsvc.credential.keys import KeyStore, Signer
from printsvc.credential.life import find_signing
from printsvc.domain.form import FormChoice, FormId
from printsvc.domain.seal import SealPlace, TimeStamping
from printsvc.domain.signer import SignerRole
from printsvc.errors import (
    InputError,
    SignerError,
    SigningError,
    StoreLockedError,
    UnavailableError,
)
from printsvc.flows import tending
from printsvc.flows.alertbook import AlertBook
from printsvc.flows.alerts import keep_alerts
from printsvc.flows.firstkeys import make_development_signer
from printsvc.flows.formshelf import FormShelf
from printsvc.flows.keymaking import Authority, find_authority
from printsvc.flows.keystores import FileKeys, TokenKeys
from printsvc.flows.minting import PoolMinter, WorkerKeys, open_folder, spawn_minters
from printsvc.flows.seal import SealBook, SealKey, open_seal_key, seal_documents
from printsvc.flows.services import DayBagKit, Services
from printsvc.flows.signers import FollowedSigners
from printsvc.flows.trust import TrustBook, open_list_signer
from printsvc.printing.copies import CopyLimits, CopyRules
from printsvc.render.cluster import cluster_executor
from printsvc.render.draw import PageCounts, RenderSetup, sources_digest
from printsvc.render.fonts import find_face, load_fonts
from printsvc.render.formbytes import compiled_bytes
from printsvc.render.formfile import read_chosen_form, read_form, read_sound_forms
from printsvc.render.pool import RenderPool
from printsvc.render.qr import alphanumeric_capacity
from printsvc.settings import Settings, read_settings
from printsvc.store import migrate
from printsvc.store.engine import Store, read_beside
from printsvc.store.keyfile import KeyFolder
from printsvc.store.signers import list_records, read_compromised
from printsvc.store.sites import Caller, insert_token
from printsvc.store.token import Token
from printsvc.sync import agents, line
from printsvc.sync import daybags as agent_daybags
from printsvc.web import fleet, ops, routes
from printsvc.web.access import ADMIN, PLATFORM
from printsvc.web.keys import READY_CHECKS, SERVICES
from printsvc.web.problems import problems_middleware
from printsvc.web.signers import SignerGauges
from printsvc.web.sites import new_token

MAX_BODY = 16 * 1024 * 1024
ORGANISATION = "Cục Y tế dự phòng"

__all__ = ["assemble", "make_application", "open_signer", "serve", "write_development_tokens"]


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


def key_folder(settings: Settings) -> KeyFolder:
    """Return the folder of the key files."""
    return KeyFolder(settings.data_dir / "keys")


def open_key_stores(settings: Settings) -> dict[str, KeyStore]:
    """Return the key stores that are set up, by name. Raises SigningError where none is."""
    stores: dict[str, KeyStore] = {}
    if settings.pkcs11_module is not None:
        token = Token(settings.pkcs11_module, settings.pkcs11_token, lambda: _pin(settings))
        stores[TokenKeys.name] = TokenKeys(token)
    try:
        folder = key_folder(settings)
        stores[FileKeys.name] = FileKeys(folder, passphrase(settings, folder))
    except SigningError:
        if not stores:  # without a passphrase a token alone will do
            raise
    return stores


def _pin(settings: Settings) -> str:
    if settings.pkcs11_pin_file is not None:
        return settings.pkcs11_pin_file.read_text().strip()
    return settings.pkcs11_pin.get_secret_value()


def open_store(settings: Settings) -> Store:
    """Open the database, at this version's tables: SQLite and development are upgraded, others must be it already."""
    store = Store(settings.store_url)
    try:
        if settings.development or store.dialect == "sqlite":
            migrate.upgrade(store)
        else:
            migrate.check(store)
    except BaseException:
        store.close()
        raise
    return store


def follow_signers(settings: Settings, store: Store) -> FollowedSigners:
    """Return the database's signers, once looked at; in development they are made.

    Raises SignerError where there is none.
    """
    stores = open_key_stores(settings)

    def renew(now: datetime) -> None:
        folder = key_folder(settings)
        make_development_signer(
            store,
            folder,
            passphrase(settings, folder),
            stores[FileKeys.name],
            country=settings.country,
            organisation=ORGANISATION,
            now=now,
            random_bytes=os.urandom,
        )

    signers = FollowedSigners(store, stores, renew=renew if settings.development else None)
    signers.look_now(clock())
    if not any(record.role is SignerRole.DSC for record in signers.records()):
        raise SignerError(
            "There is no signer yet: make one with printsvc keys init-csca and printsvc keys plan.",
            vi="Chưa có khóa ký nào: hãy chạy printsvc keys init-csca rồi printsvc keys plan.",
        )
    return signers


def open_signer(settings: Settings) -> Signer:
    """Return who signs now, for a command; in development the first signer is made. Raises SignerError."""
    try:
        store = open_store(settings)
    except StoreLockedError:  # a service has it open: who signs can be read all the same
        signing = find_signing(read_beside(settings.store_url, list_records))
        if signing is None:
            raise SignerError("No signer signs now.", vi="Không có khóa ký nào còn hiệu lực.") from None
        return open_key_stores(settings)[signing.key_store].open(signing.certificate)
    try:
        return follow_signers(settings, store).current(clock())
    finally:
        store.close()


def open_lists(settings: Settings, store: Store, now: datetime) -> Signer | None:
    """Return who signs trust lists at `now`; None where the key files are not to be opened, or none of them can."""
    folder = key_folder(settings)
    try:
        opened_by = passphrase(settings, folder)
    except SigningError:  # a token alone signs certificates; lists go out unsigned
        return None
    compromised = store.read_now(read_compromised)
    return open_list_signer(folder, opened_by, now=now, random_bytes=os.urandom, compromised=compromised)


def open_seal(settings: Settings, store: Store, now: datetime) -> SealKey | None:
    """Return who seals digital copies at `now`; None where nobody can. Raises SigningError for a wrong passphrase."""
    folder = key_folder(settings)
    try:
        opened_by = passphrase(settings, folder)
    except SigningError:  # a token alone signs certificates; it has no key that seals
        return None
    compromised = store.read_now(read_compromised)
    return open_seal_key(folder, opened_by, now=now, random_bytes=os.urandom, compromised=compromised)


def stamp_authorities(settings: Settings) -> tuple[bytes, ...]:
    """Return the certificates (DER) of whose time stamps on seals are believed. Raises InputError for a wrong file."""
    if settings.seal_tsa_ca is None:
        return ()
    try:
        found = x509.load_pem_x509_certificates(settings.seal_tsa_ca.read_bytes())
    except ValueError:
        raise InputError(
            en=f"PRINTSVC_SEAL_TSA_CA: {settings.seal_tsa_ca} holds no PEM certificates.",
            vi=f"PRINTSVC_SEAL_TSA_CA: {settings.seal_tsa_ca} không chứa chứng thư PEM.",
            code="settings_invalid",
        ) from None
    return tuple(one.public_bytes(Encoding.DER) for one in found)


def seal_book(settings: Settings, store: Store) -> SealBook | None:
    """Return who seals digital copies; None where the settings say that nobody does."""
    if not settings.seal:
        return None
    authorities = stamp_authorities(settings)
    url = settings.seal_tsa_url

    @functools.cache
    def place_of(form_id: FormId) -> SealPlace | None:
        return read_form(settings.templates_dir / form_id, form_id).seal

    return SealBook(
        functools.partial(open_seal, settings, store),
        place_of,
        find_face(load_fonts(settings.fonts_dir)).path.read_bytes(),
        TimeStamping(url, authorities, settings.seal_tsa_timeout_s) if url else None,
        functools.partial(seal_documents, key_folder(settings)),
    )


def choose_form(settings: Settings) -> FormChoice:
    """Return the form of new certificates. Raises RenderError where it is not there or broken."""
    form = read_chosen_form(settings.templates_dir, settings.form)
    return FormChoice(form.form_id, form.media, alphanumeric_capacity(form.qr.level, form.qr.max_version))


def find_csca(settings: Settings, now: datetime) -> Authority | None:
    """Return the CSCA that certifies delegated signers; None where its key is not among the key files here."""
    folder = key_folder(settings)
    try:
        return find_authority(folder, passphrase(settings, folder), now)
    except SigningError:  # no passphrase here, or the CSCA has another: the command certifies
        return None


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


def make_minter(settings: Settings) -> PoolMinter | None:
    """Return what signs many certificates where PRINTSVC_POOL draws pages; None where no key is a file here."""
    folder = key_folder(settings)
    try:
        opened_by = passphrase(settings, folder)
    except SigningError:
        return None
    if settings.pool == "processes":
        keys = WorkerKeys(functools.partial(open_folder, folder.folder.resolve(), opened_by))
        return PoolMinter(keys, spawn_minters(settings.render_workers))
    connect = cluster_executor(settings.pool, settings.pool_tls_dir)
    setup = RenderSetup(settings.templates_dir, settings.fonts_dir, None)
    return PoolMinter(WorkerKeys(keys_of_environment), lambda: connect(setup, settings.render_workers))


def keys_of_environment() -> FileKeys:
    """Return the key files that the environment names: a worker elsewhere has its own. Raises SigningError."""
    settings = read_settings()
    folder = key_folder(settings)
    return FileKeys(folder, passphrase(settings, folder))


def command_services(settings: Settings, store: Store) -> Services:
    """Return what a command needs that issues on the database itself; it draws nothing. Raises SignerError."""
    pages = PageCounts()
    return Services(
        store=store,
        signers=follow_signers(settings, store),
        renderer=make_pool(settings, pages),
        form=choose_form(settings),
        clock=clock,
        random_bytes=os.urandom,
        issuer=settings.issuer,
        country=settings.country,
        pages=pages,
        minter=make_minter(settings),
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
    application[ops.METRICS].registry.register(SignerGauges(services))
    fleet.add_gauges(application, application[ops.METRICS].registry, services)
    application[SERVICES] = services
    application[READY_CHECKS] = _ready_checks(services)
    routes.add_routes(application)
    agents.add_routes(application, services)
    line.add_routes(application)
    agent_daybags.add_routes(application)
    return application


def make_application(settings: Settings) -> web.Application:
    """Return the service; everything opens when it starts and closes when it stops."""
    load_fonts(settings.fonts_dir)  # a renderer without fonts would come up and draw nothing
    store = open_store(settings)
    try:
        signers = follow_signers(settings, store)
        form = choose_form(settings)
        seal = seal_book(settings, store)
        rules = AlertBook(settings.alert_rules)
    except BaseException:
        store.close()
        raise
    pages = PageCounts()
    pool = make_pool(settings, pages)
    bag_forms = RenderSetup(settings.templates_dir, settings.fonts_dir, settings.data_dir / "cache")
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
        copies=CopyRules(
            operator=CopyLimits(settings.copies_operator, settings.copies_operator_day),
            admin=CopyLimits(settings.copies_admin),
        ),
        pages=pages,
        trust=TrustBook(functools.partial(open_lists, settings, store)),
        minter=make_minter(settings),
        seal=seal,
        stamp_authorities=stamp_authorities(settings),
        known_forms=read_sound_forms(settings.templates_dir),
        shelf=FormShelf(pool.compiled_form),
        day_bags=DayBagKit(functools.partial(find_csca, settings), functools.partial(compiled_bytes, bag_forms)),
        alerts=rules,
    )
    application = assemble(services)

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        if settings.development:
            await asyncio.to_thread(write_development_tokens, store, settings.data_dir / "dev")
        await pool.warm_up()
        tasks = [
            asyncio.create_task(tending.wake_sites(services)),
            asyncio.create_task(tending.follow_signers(services)),
            asyncio.create_task(tending.tend_revocations(services, settings.revocation_snapshot_s)),
            asyncio.create_task(tending.tend_reissues(services)),
            asyncio.create_task(tending.tend_clocks(services)),
            asyncio.create_task(keep_alerts(services, every_s=settings.alert_every_s)),
        ]
        yield
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await pool.close()
        if services.minter is not None:
            await services.minter.close()
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


async def serve(settings: Settings, started: Callable[[str], None]) -> None:
    """Run the service until SIGTERM or SIGINT; `started` is told its address."""
    application = make_application(settings)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=4096)  # all agents may come at once
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
