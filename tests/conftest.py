"""What tests of several rooms share: a private PostgreSQL, a fresh store, and flows without WeasyPrint.

`store` runs a test twice, on SQLite and on PostgreSQL. `world` puts flows on top of it: a clock that stands still, a
signer that was made once, a renderer that draws a line of text.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest

from printsvc.credential.dsc import read_dsc
from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.domain.dose import DoseEvent, DoseId, DoseKind, Identity, IdentityStatus, Injection
from printsvc.domain.form import FormChoice, FormId, PageData
from printsvc.domain.person import IdType, Person, Sex
from printsvc.domain.signer import SignerRecord, SignerRole, SignerState
from printsvc.domain.site import Site, SiteId
from printsvc.flows.record_dose import Recorded, record_doses
from printsvc.flows.services import Services
from printsvc.flows.signers import LocalSigners
from printsvc.store import migrate
from printsvc.store import signers as signer_store
from printsvc.store import sites as site_store
from printsvc.store.engine import Store
from printsvc.store.sites import Agent

NOW = datetime(2021, 10, 30, 2, 12, 0, tzinfo=UTC)

# No example fails for the time that it takes: the machine may be busy with other things.
hypothesis.settings.register_profile("printsvc", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("printsvc")


# --- the order of files

# What takes longest, of two kinds: what waits for printers and processes, and what draws pages or opens databases.
_WAIT = ("faults", "spooler/test_system", "lab", "spooler", "app", "cli", "store/test_durability")
_COMPUTE = ("render", "contract", "flows", "credential", "web")

# Half a minute and more each, two thirds of the whole: marked `long`, so that a quick look can leave them out.
_LONG = (
    "faults",
    "app/test_process",
    "cli/test_forms",
    "cli/test_issue",
    "render/test_compiler",
    "render/test_forms",
    "render/test_pool",
    "render/test_pool_cluster",
    "render/test_pool_renewal",
    "render/test_stamp",
    "render/test_template",
    "render/test_template_hostile",
    "spooler/test_doctor",
    "spooler/test_system",
    "store/test_durability",
)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first and of both kinds in turn, whole files together: no worker is left alone with a long one."""
    root = Path(__file__).parent

    def rank(path: Path, places: tuple[str, ...]) -> int:
        name = path.relative_to(root).with_suffix("").as_posix()
        return next((at for at, place in enumerate(places) if f"{name}/".startswith(f"{place}/")), len(places))

    files = list(dict.fromkeys(item.path for item in items))
    waiting = [path for path in files if rank(path, _WAIT) < len(_WAIT)]
    others = [path for path in files if rank(path, _WAIT) == len(_WAIT)]
    waiting.sort(key=lambda path: rank(path, _WAIT))
    others.sort(key=lambda path: rank(path, _COMPUTE))
    order = {}
    for pair in itertools.zip_longest(waiting, others):
        order |= {path: len(order) + at for at, path in enumerate(pair) if path is not None}
    items.sort(key=lambda item: order[item.path])
    for item in items:
        if rank(item.path, _LONG) < len(_LONG):
            item.add_marker(pytest.mark.long)


# --- PostgreSQL


def _programs() -> Path:
    """Return the folder of the newest PostgreSQL that Debian has installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        pytest.fail("PostgreSQL is not installed: run script/setup", pytrace=False)
    return found[-1].parent


@dataclass
class Postgres:
    """A cluster of our own; `url(name)` is SQLAlchemy's address of a database."""

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None
    _names: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def make(cls) -> Postgres:
        # Not under pytest's own folder: nobody but its owner may enter that, and as root the server runs as postgres.
        folder = Path(tempfile.mkdtemp(prefix="printsvc-pg-"))
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        from lab.processes import free_port  # who imports this module without pytest's paths needs no server

        cluster = cls(folder, free_port())
        initdb = [_programs() / "initdb", "-D", folder / "data", "-U", "printsvc", "-A", "trust", "-E", "UTF8"]
        made = subprocess.run(
            [*cls._as_owner(), *initdb, "--no-locale", "--no-sync"], cwd="/", capture_output=True, text=True
        )
        if made.returncode:
            pytest.fail(f"initdb failed: {made.stderr}", pytrace=False)
        return cluster

    @staticmethod
    def _as_owner() -> list[str]:
        # The server goes when we go, however that is.
        command = ["setpriv", "--pdeathsig", "QUIT"]
        if os.geteuid() == 0:
            command += ["--reuid=postgres", "--regid=postgres", "--init-groups"]
        return [*command, "--"]

    def start(self, **settings: str) -> None:
        """Start the server and wait until it answers. From the main thread: the server goes when its thread ends."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "max_connections": "60",
            "shared_buffers": "32MB",
        } | settings
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_owner(), _programs() / "postgres", "-D", self.folder / "data", *arguments],
                cwd="/",
                stdout=log,
                stderr=log,
            )
        ready = [_programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        for _ in range(200):
            if self._process.poll() is not None:
                break
            if subprocess.run(ready).returncode == 0:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        pytest.fail(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}", pytrace=False)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT is a fast shutdown, SIGQUIT an immediate one."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://printsvc@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        address = f"host=127.0.0.1 port={self.port} user=printsvc dbname={database}"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)

    def new_database(self, template: str = "template0") -> str:
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running private cluster for the whole session."""
    cluster = Postgres.make()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


# --- compiled forms


_COMPILE = """
import sys
from pathlib import Path
from printsvc.domain.form import FormId
from printsvc.render.draw import Drawer, RenderSetup
root, cache, form_id = Path(sys.argv[1]), Path(sys.argv[2]), FormId(sys.argv[3])
assert Drawer(RenderSetup(root / "templates", root / "fonts", cache)).stamper(form_id) is not None
"""


@pytest.fixture(scope="session")
def forms_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A cache folder that all workers of a run share, with the default form compiled: that takes ten seconds a time.

    Nothing stale is ever taken from it: the file of a compiled form is named after all that went into it. In a process
    of its own: WeasyPrint is not to be imported here before a test wants it.
    """
    own = tmp_path_factory.getbasetemp()
    cache = (own if worker_id == "master" else own.parent) / "compiled"
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", _COMPILE, root, cache, "a4/43-2022"], cwd=root, check=True)
    return cache


@pytest.fixture(scope="session")
def seed_forms(forms_cache: Path) -> Callable[[Path], None]:
    """`seed_forms(cache)`: put what is compiled into a cache folder of one's own; of a service, `cache` of its data."""

    def seed(cache: Path) -> None:
        cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copytree(forms_cache / "forms", cache / "forms", ignore=shutil.ignore_patterns("lock", "*.cbor.*"))

    return seed


# --- stores


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without a table, once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/printsvc.db"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "printsvc.db"
    with contextlib.closing(Store(f"sqlite:///{path}")) as store:
        migrate.upgrade(store)
    return path


@pytest.fixture(scope="session")
def _postgres_template(postgres: Postgres) -> str:
    name = postgres.new_database()
    with contextlib.closing(Store(postgres.url(name))) as store:
        migrate.upgrade(store)
    return name


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """The address of a fresh SQLite file with our tables."""
    path = tmp_path / "printsvc.db"
    shutil.copy(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: Postgres, _postgres_template: str) -> Iterator[str]:
    """The address of a fresh PostgreSQL database with our tables."""
    name = postgres.new_database(_postgres_template)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The address of a fresh database with our tables, once for each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An open store with our tables, once for each kind of database."""
    with contextlib.closing(Store(store_url)) as opened:
        yield opened


# --- flows


@dataclass
class Clock:
    """A clock that a test moves."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


class TextRenderer:
    """Draws a page as one line of bytes; `fails_with` makes it raise."""

    def __init__(self) -> None:
        self.pages: list[PageData] = []
        self.fails_with: Exception | None = None

    async def render(self, form_id: FormId, page: PageData) -> bytes:
        if self.fails_with is not None:
            raise self.fails_with
        self.pages.append(page)
        return f"%PDF {form_id} {page['uvci']} {page['copy_number']}".encode()


@dataclass
class World:
    """Flows over a store, with what a test turns: the clock and the renderer."""

    services: Services
    clock: Clock
    renderer: TextRenderer
    source: str = "platform"

    @property
    def store(self) -> Store:
        return self.services.store

    def event(self, dose_id: str = "D-1", **changes: Any) -> DoseEvent:
        """Return the event of a dose that is issued; `changes` are fields of the event, the person or the dose."""
        person = {
            "full_name": "NGUYỄN THỊ MINH KHAI",
            "family_name": "NGUYỄN",
            "given_name": "THỊ MINH KHAI",
            "date_of_birth": date(1985, 4, 12),
            "sex": Sex.FEMALE,
            "nationality": "VN",
            "id_type": IdType.CCCD,
            "id_number": "001185012345",
        }
        dose = {
            "product": "EU/1/20/1528",
            "lot": "FG3712",
            "number": 2,
            "series": 2,
            "kind": DoseKind.BASIC,
            "injected_at": NOW - timedelta(minutes=10),
        }
        matched = Identity(IdentityStatus.MATCHED, NOW - timedelta(minutes=14), "NPD-7731")
        person |= {name: changes[name] for name in changes if name in Person.__slots__}
        dose |= {name: changes[name] for name in changes if name in Injection.__slots__}
        return DoseEvent(
            DoseId(dose_id),
            SiteId(changes.get("site_id", "HN-1")),
            Person(**person),  # type: ignore[arg-type]
            changes.get("identity", matched),
            Injection(**dose),  # type: ignore[arg-type]
        )

    def held_event(self, dose_id: str, **changes: Any) -> DoseEvent:
        """Return the event of a dose whose identity nobody checked."""
        return self.event(dose_id, identity=Identity(), **changes)

    async def record(self, *events: DoseEvent) -> list[Recorded]:
        return await record_doses(self.services, self.source, events)

    def add_site(self, site_id: str) -> None:
        site = Site(SiteId(site_id), f"Điểm tiêm {site_id}", "Trung tâm Y tế quận Hai Bà Trưng")
        self.store.submit(lambda c: site_store.insert_site(c, site, now=self.clock.now)).result()

    def add_agent(self, agent_id: str = "agent-1", site_id: str = "HN-1", journal_id: str = "journal-1") -> Agent:
        """Enrol an agent with a code of its own; its token is `token-<agent_id>`."""

        def enrol(connection: Any) -> Agent:
            expires_at = self.clock.now + timedelta(hours=1)
            code = f"code-{agent_id}"
            site_store.insert_enrolment_code(connection, code, site_id, now=self.clock.now, expires_at=expires_at)
            return site_store.enrol(
                connection,
                code,
                agent_id=agent_id,
                token=f"token-{agent_id}",
                journal_id=journal_id,
                version="1",
                now=self.clock.now,
            )

        return self.store.submit(enrol).result()


def make_signer() -> LocalSigner:
    """Return a new document signer; it is valid from NOW for two years."""
    csca_key, key = make_private_key(), make_private_key()
    csca = make_csca(csca_key, country="VN", organisation="MOH", common_name="CSCA VN", serial=1, now=NOW)
    dsc = make_dsc(
        key.public_key(), csca=csca, csca_key=csca_key, organisation="MOH", common_name="DSC 2", serial=2, now=NOW
    )
    return LocalSigner(dsc, key)


def new_world(store: Store, signer: LocalSigner, *, seed: int = 20211030) -> World:
    """Return flows over a store, with one site, HN-1. Ids come from the seed: two worlds on one store need two."""
    clock, renderer = Clock(), TextRenderer()
    services = Services(
        store=store,
        signers=LocalSigners([signer]),
        renderer=renderer,
        form=FormChoice(FormId("a4/43-2022"), "iso_a4_210x297mm", 1000),
        clock=clock,
        random_bytes=random.Random(seed).randbytes,
    )
    world = World(services, clock, renderer)
    world.add_site("HN-1")
    return world


def publish_signer(store: Store, signer: LocalSigner, *, now: datetime, **changes: Any) -> SignerRecord:
    """Put a signer into the books as the one that signs; `changes` are fields of its record."""
    dsc = read_dsc(signer.certificate)
    record = SignerRecord(
        thumbprint=dsc.thumbprint,
        kid=dsc.kid.hex(),
        role=SignerRole.DSC,
        state=SignerState.SIGNING,
        certificate=dsc.der,
        not_before=dsc.not_before,
        not_after=dsc.not_after,
        signing_from=dsc.not_before,
        signing_until=dsc.not_before + timedelta(days=180),
        key_store="file",
        created_at=now,
        changed_at=now,
    )
    record = replace(record, **changes)
    store.submit(lambda c: signer_store.insert_record(c, record, actor="test")).result()
    return record


@pytest.fixture
def publish() -> Callable[..., SignerRecord]:
    return publish_signer


@pytest.fixture(scope="session")
def signer() -> LocalSigner:
    return make_signer()


@pytest.fixture
def make_world(signer: LocalSigner) -> Callable[[Store], World]:
    """Return a function that puts flows over a store, with one site, HN-1."""
    return functools.partial(new_world, signer=signer)


@pytest.fixture
def world(store: Store, signer: LocalSigner) -> World:
    """Flows over a fresh store of each kind, with one site, HN-1."""
    return new_world(store, signer)
