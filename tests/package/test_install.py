"""The package on a fresh Debian: built, installed, at work, installed again, removed, purged. Minutes; needs root.

The fresh Debian is a folder made by debootstrap; what is mounted in it is so for the test's own processes alone. The
service, cupsd and the printer run outside it: they share the loopback network.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spooler.offline.book import Book

pytestmark = [pytest.mark.slow, pytest.mark.system]
ROOT = Path(__file__).parents[2]
_ENTER = 'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; exec chroot "$0" /bin/sh -c "$1"'
_KEEP = re.compile(r"(https?|no)_proxy", re.IGNORECASE)


class FreshDebian:
    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command in it, with mounts that go with it."""
        plain = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        kept = {name: value for name, value in os.environ.items() if _KEEP.fullmatch(name)}
        return subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", _ENTER, str(self.root), command],
            env=plain | kept | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str, *, code: int = 0, **environment: str) -> str:
        process = self.start(command, **environment)
        out, _ = process.communicate(timeout=1800)
        assert process.returncode == code, f"{command}\n{out[-4000:]}"
        return out

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill -9 what was started, and all that lives in here: one that became another user outlives its parent."""
        process.kill()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # gone meanwhile
                if entry.name.isdigit() and (entry / "root").readlink() == self.root:
                    os.kill(int(entry.name), signal.SIGKILL)
        process.communicate(timeout=30)

    def has(self, path: str) -> bool:
        return os.path.lexists(self.root / path)


@pytest.fixture(scope="module")
def deb() -> Path:
    if given := os.environ.get("PRINTSVC_TEST_DEB"):  # one that script/package made before
        return Path(given)
    done = subprocess.run([ROOT / "script" / "package"], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreshDebian]:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        pytest.skip("a fresh Debian needs root and debootstrap (apt install debootstrap)")
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    assert release is not None
    base = tmp_path_factory.mktemp("debian")
    base.chmod(0o755)
    root = base / "root"
    given = os.environ.get("PRINTSVC_TEST_DEBIAN")  # one that debootstrap made before: it is copied
    if given:
        subprocess.run(["cp", "-a", given, root], check=True)
    else:
        command = ["debootstrap", "--variant=minbase", "--include=ca-certificates", release[1], str(root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout[-2000:]
    root.chmod(0o755)
    for name in ("apt/sources.list", "apt/sources.list.d", "apt/apt.conf.d", "resolv.conf", "hosts"):
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, root / "etc" / name, dirs_exist_ok=True)
        elif source.exists():
            shutil.copyfile(source, root / "etc" / name)
    subprocess.run(["cp", "-a", "/etc/ssl/certs/.", root / "etc/ssl/certs/"], check=True)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # its cupsd must not take the port of this machine's
    policy.chmod(0o755)
    yield FreshDebian(root)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "script"))
    from lab import PDF, Lab

    with Lab(tmp_path_factory.mktemp("lab")) as opened:
        opened.add_queue("desk1", opened.add_printer("desk1", (PDF,)))
        yield opened


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory, seed_forms: Any) -> Iterator[Any]:
    name, path = "printsvc_app_service", ROOT / "tests" / "app" / "service.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for service in module.running(tmp_path_factory.mktemp("centre"), seed_forms):
        service.recent = module.recent
        yield service


def enter_a_dose(state: Path) -> None:
    """Make a day bag's book with an entry that never came home."""
    with contextlib.closing(Book.open(state)), contextlib.closing(sqlite3.connect(state / "daybag/book.db")) as book:
        book.execute("PRAGMA foreign_keys = OFF")
        columns = [row[1:3] for row in book.execute("PRAGMA table_info(entries)")]
        values = [0 if name == "brought" or kind == "INTEGER" else "" for name, kind in columns]
        book.execute(f"INSERT INTO entries VALUES ({','.join('?' * len(values))})", values)
        book.commit()


def test_a_site_is_set_up_prints_and_is_taken_down(deb: Path, fresh: FreshDebian, lab: Any, centre: Any) -> None:
    shutil.copyfile(deb, fresh.root / "root" / deb.name)
    install = f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends /root/{deb.name}"
    told = fresh.run(f"apt-get update -q && {install}")
    assert "printsvc-spooler enroll --code CODE" in told
    assert fresh.run("dpkg --verify printsvc-spooler") == ""
    assert fresh.run("stat -c '%U %a' /var/lib/printsvc-spooler /var/lib/printsvc-once") == (
        "printsvc-spooler 700\nlp 700\n"
    )
    assert fresh.run("stat -c '%U %G %a' /usr/lib/cups/backend/printsvc-once") == "root root 755\n"
    assert fresh.has("etc/systemd/system/multi-user.target.wants/printsvc-spooler.service")
    assert fresh.run("cd /tmp && printsvc-spooler status", code=1).startswith("Not set up yet")

    _, code = centre.call("POST", "/v1/sites/HN-1/enrolment-codes")
    settings = f"PRINTSVC_SPOOLER_CUPS_HOST={lab.host}\nPRINTSVC_SPOOLER_CUPS_PORT={lab.port}\n"
    (fresh.root / "etc/default/printsvc-spooler").write_text(settings)
    fresh.run(f"printsvc-spooler enroll --code {code['code']} --url {centre.url}")
    assert fresh.run("stat -c '%U %a' /var/lib/printsvc-spooler/journal.db") == "printsvc-spooler 600\n"

    told = fresh.run("printsvc-spooler doctor")
    assert "This site can print certificates." in told
    assert "cupsd.conf" in told, "a fresh Debian's cupsd loses jobs: doctor says so"

    agent = fresh.start("exec printsvc-spooler run")
    try:
        status, issued = centre.call("POST", "/v1/doses", centre.recent("D-1"), by="platform")
        assert status == 201
        deadline = time.monotonic() + 180
        state = ""
        while state != "printed":
            assert time.monotonic() < deadline, state
            time.sleep(0.2)
            _, job = centre.call("GET", f"/v1/print-jobs/{issued['job_id']}")
            state = job["state"]
        assert job["witness"] == "printer"
        (page,) = lab.printers["desk1"].pages()
        assert issued["job_id"] in page.job_name
        uids = subprocess.run(["pgrep", "-f", "/usr/bin/printsvc-spooler run"], capture_output=True, text=True).stdout
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in uids.split() if Path(f"/proc/{pid}").exists()}
        agent_uid = int(fresh.run("id -u printsvc-spooler"))
        assert agent_uid in owners, "the agent runs as its own user"
    finally:
        fresh.kill(agent)  # the journal stands that

    journal = (fresh.root / "var/lib/printsvc-spooler/journal.id").read_text()
    fresh.run(f"{install} --reinstall")
    assert (fresh.root / "var/lib/printsvc-spooler/journal.id").read_text() == journal
    assert (fresh.root / "etc/default/printsvc-spooler").read_text() == settings, "settings are the site's own"

    fresh.run("apt-get remove -y -q printsvc-spooler")
    for gone in ("usr/bin/printsvc-spooler", "usr/lib/printsvc-spooler", "usr/lib/cups/backend/printsvc-once"):
        assert not fresh.has(gone), gone
    assert (fresh.root / "var/lib/printsvc-spooler/journal.id").read_text() == journal, "the papers' books stay"
    enter_a_dose(fresh.root / "var/lib/printsvc-spooler")
    told = fresh.run("apt-get purge -y -q printsvc-spooler")
    kept = "var/lib/printsvc-spooler.not-brought-home"
    assert f"/{kept}" in told
    assert fresh.has(f"{kept}/daybag/book.db"), "doses that are nowhere else stay"
    assert fresh.run(f"stat -c '%U %a' /{kept}") == "root 700\n"
    for gone in ("var/lib/printsvc-spooler", "var/lib/printsvc-once", "etc/default/printsvc-spooler"):
        assert not fresh.has(gone), gone
    assert not fresh.has("etc/systemd/system/multi-user.target.wants/printsvc-spooler.service")
    fresh.run("getent passwd printsvc-spooler", code=2)


def test_the_same_commit_gives_the_same_package(deb: Path) -> None:
    before = deb.read_bytes()
    done = subprocess.run([ROOT / "script" / "package"], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert deb.read_bytes() == before
