"""The same pages from a real Dask cluster: a scheduler and two workers as processes, with TLS on both ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from printsvc.domain.form import FormId, PageData
from printsvc.errors import InputError, RenderError
from printsvc.render.cluster import cluster_executor
from printsvc.render.draw import Drawer, RenderSetup, sources_digest
from printsvc.render.pool import RenderPool

ROOT = Path(__file__).resolve().parents[2]
A4 = FormId("a4/43-2022")
PAGES = 40


def make_certificates(folder: Path) -> Path:
    """Write ca.pem, cert.pem and key.pem: one authority, one certificate for everybody at 127.0.0.1."""
    folder.mkdir()
    now = datetime.now(UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster member")])
    ca = _certificate(authority, authority, authority_key, authority_key, now, ca=True)
    cert = _certificate(name, authority, key, authority_key, now, ca=False)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


def _certificate(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    *,
    ca: bool,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=2))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


@dataclass
class Cluster:
    address: str
    tls_dir: Path
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def tls(self) -> list[str]:
        names = {"--tls-ca-file": "ca.pem", "--tls-cert": "cert.pem", "--tls-key": "key.pem"}
        return [part for option, name in names.items() for part in (option, str(self.tls_dir / name))]

    def start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        number = len(self.processes)
        with (self.folder / f"{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli." + module, *arguments, *self.tls()],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"},
            )
        self.processes.append(process)
        return process

    def start_worker(self) -> None:
        # Without a nanny: what is killed here is the worker itself, and nobody starts another.
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--protocol", "tls", "--host", "127.0.0.1"]
        local = ["--local-directory", str(self.folder)]
        self.workers.append(self.start("dask_worker", f"tls://{self.address}", *options, *local))

    def pool(self, setup: RenderSetup) -> RenderPool:
        make = cluster_executor(f"dask+tls://{self.address}", self.tls_dir)
        return RenderPool(setup, workers=4, make_executor=make, answer_s=60)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster("", make_certificates(tmp_path / "tls"), tmp_path)
    contact = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--protocol", "tls", "--no-dashboard", "--no-show"]
    running.start("dask_scheduler", *options, "--scheduler-file", str(contact))
    try:
        for _ in range(300):
            if contact.exists() and '"address"' in (text := contact.read_text()):
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"no scheduler: {(tmp_path / '0.log').read_text()[-2000:]}")
        running.address = text.partition("tls://")[2].partition('"')[0]
        for _ in range(2):
            running.start_worker()
        yield running
    finally:
        for process in running.processes:
            process.kill()
            process.wait()


@pytest.fixture
def setup(fonts: Path, tmp_path: Path, seed_forms: Callable[[Path], None]) -> RenderSetup:
    """With templates of our own: the digest is over all of them, and nobody else changes these."""
    shutil.copytree(ROOT / "templates" / A4, tmp_path / "templates" / A4)
    seed_forms(tmp_path / "cache")
    plain = RenderSetup(tmp_path / "templates", fonts, tmp_path / "cache", forms=(A4,))
    return replace(plain, sources=sources_digest(plain))


@pytest.mark.faults
async def test_a_killed_worker_loses_no_page_and_the_bytes_are_those_of_this_machine(
    cluster: Cluster, setup: RenderSetup, sample: PageData
) -> None:
    pages = [cast(PageData, sample | {"full_name": f"NGUYỄN VĂN {chr(65 + number % 26)}"}) for number in range(PAGES)]
    local = Drawer(setup)
    expected = [local.draw(A4, page).pdf for page in pages]
    async with cluster.pool(setup) as pool:
        await asyncio.wait_for(pool.warm_up(), 60)
        drawing = asyncio.gather(*(pool.render(A4, page) for page in pages))
        while sum(pool.counts.drawn.values()) < PAGES // 8:  # noqa: ASYNC110 - the counter tells nobody
            await asyncio.sleep(0.001)
        cluster.workers[0].send_signal(signal.SIGKILL)
        assert await asyncio.wait_for(drawing, 120) == expected
        assert sum(pool.counts.drawn.values()) == PAGES
        assert pool.poisoned == []
        with pytest.raises(InputError) as wrong:
            await pool.render(A4, cast(PageData, sample | {"full_name": "漢"}))
        assert wrong.value.problems[0].pointer == "/full_name"


@pytest.mark.faults
async def test_a_worker_with_other_forms_draws_nothing(
    cluster: Cluster, templates: Path, fonts: Path, sample: PageData
) -> None:
    async with cluster.pool(RenderSetup(templates, fonts, sources="0" * 64)) as pool:
        with pytest.raises(RenderError) as caught:
            await asyncio.wait_for(pool.render(A4, sample), 60)
        assert "other forms" in caught.value.en


@pytest.mark.faults
async def test_a_page_that_hangs_ends_its_worker_and_is_listed(
    cluster: Cluster, setup: RenderSetup, sample: PageData
) -> None:
    trap = (
        '{% if page.full_name == "HANG" %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}'
        "{% endfor %}{% endif %}"
    )
    page = setup.templates_dir / A4 / "page.html"
    page.write_text(page.read_text("utf-8") + trap, "utf-8")
    # More doses than the table holds: no stamp draws that, WeasyPrint runs the template.
    row = next(row for row in sample["rows"] if row is not None)
    hangs = cast(PageData, sample | {"full_name": "HANG", "more_rows": [row | {"attested": False}]})
    for _ in range(2):
        cluster.start_worker()
    async with cluster.pool(replace(setup, timeout_s=4, sources="")) as pool:
        await asyncio.wait_for(pool.warm_up(), 60)
        assert (await pool.render(A4, sample)).startswith(b"%PDF")
        with pytest.raises(RenderError) as caught:
            await asyncio.wait_for(pool.render(A4, hangs), 120)
        assert caught.value.code == "render_crashed"
        assert len(pool.poisoned) == 1


def test_tls_without_certificates_is_refused_at_once(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(RenderError) as caught:
            cluster_executor("dask+tls://127.0.0.1:8786", folder)
        assert "PRINTSVC_POOL_TLS_DIR" in caught.value.en


async def test_where_no_scheduler_answers_it_says_so(
    templates: Path, fonts: Path, sample: PageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("printsvc.render.cluster._CONNECT_S", 1)
    make = cluster_executor("dask://127.0.0.1:9", None)
    async with RenderPool(RenderSetup(templates, fonts), workers=1, make_executor=make) as pool:
        with pytest.raises(RenderError) as caught:
            await pool.render(A4, sample)
        assert caught.value.code == "render_unavailable"
