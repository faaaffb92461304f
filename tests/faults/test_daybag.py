"""A mobile site with no line: real agent, real cupsd, real printers, a service that is not there, and kill -9.

The truth about paper is the printers' own log; the truth about certificates is what the papers' codes say.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from stack import SitePlan, Stack

pytestmark = [pytest.mark.faults, pytest.mark.system]

SITE = "LC-MUONG-01"
FORM = "a4/43-2022"
PASSPHRASE = "một mật khẩu dài"
INJECTED_AT = datetime.now(UTC).isoformat(timespec="seconds")


def dose(number: int, **changes: Any) -> dict[str, Any]:
    """Return a dose that a site without a line may issue: nobody checked the identity."""
    person = {
        "full_name": f"Giàng Thị {chr(65 + number)}",
        "date_of_birth": "1985-04-12",
        "sex": "female",
        "nationality": "VN",
        "id_type": "cccd",
        "id_number": f"001185{number:06d}",
    }
    return {
        "dose_id": f"MUONG-{number:04d}",
        "site_id": SITE,
        "person": person | changes.pop("person", {}),
        "dose": {
            "product": "EU/1/20/1528",
            "lot": "FG3712",
            "number": 1,
            "series": 2,
            "kind": "basic",
            "injected_at": INJECTED_AT,
        },
    } | changes


class Site:
    """The commands at the site, as processes."""

    def __init__(self, stack: Stack, tmp_path: Path) -> None:
        self.parts = stack.sites[SITE]
        self.passphrase = tmp_path / "passphrase"
        self.passphrase.write_text(PASSPHRASE + "\n")
        self.environment = os.environ | {
            "PRINTSVC_SPOOLER_URL": stack.service.url,
            "PRINTSVC_SPOOLER_STATE_DIR": str(self.parts.agent.state_dir),
            "PRINTSVC_SPOOLER_BAG_PASSPHRASE_FILE": str(self.passphrase),
        }

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "spooler", "offline", *command],
            env=self.environment | more,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, text: str = "", expected: int = 0, **more: str) -> tuple[str, str]:
        process = self.start(*command, **more)
        out, err = process.communicate(text, timeout=240)
        assert process.returncode == expected, (out, err)
        return out, err

    def enter(self, *documents: dict[str, Any], expected: int = 0) -> list[dict[str, Any]]:
        out, _ = self.run("enter", "-", text="\n".join(map(json.dumps, documents)) + "\n", expected=expected)
        return [json.loads(line) for line in out.splitlines()]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status")[0])
        return found


@pytest.fixture(scope="session")
def compiled() -> Path:
    """The folder of the compiled form, under the digest of its sources: compiled once, however many runs there are."""
    data_dir = Path(__file__).parents[2] / "var" / "tests"
    command = [sys.executable, "-m", "printsvc", "forms", "compile", FORM]
    subprocess.run(command, env=os.environ | {"PRINTSVC_DATA_DIR": str(data_dir)}, check=True, capture_output=True)
    return data_dir / "cache"


@pytest.fixture
def stack(tmp_path: Path, compiled: Path) -> Iterator[Stack]:
    shutil.copytree(compiled, tmp_path / "stack" / "service" / "cache")
    environment = {"PRINTSVC_SPOOLER_BACKOFF_MAX_S": "1"}
    with Stack(tmp_path / "stack", [SitePlan(SITE)], agent_environment=environment) as opened:
        yield opened


@pytest.fixture
def site(stack: Stack, tmp_path: Path) -> Site:
    """A site whose agent is enrolled."""
    wait_until(lambda: bool(stack.service.api("admin").get(f"/v1/sites/{SITE}/agents")["agents"]), "the agent")
    return Site(stack, tmp_path)


def wait_until(is_so: Any, what: str, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


def grant(stack: Stack, doses: int = 5) -> dict[str, Any]:
    body = {"site_id": SITE, "doses": doses, "days": 1}
    answer = stack.service.api("admin").call("POST", "/v1/day-bags", body)
    assert answer.status == 201
    made: dict[str, Any] = answer.json()
    return made


def test_a_day_without_a_line(stack: Stack, site: Site) -> None:
    _, told = site.run("take", expected=1)
    assert "daybag make" in told  # nobody granted it yet
    bag = grant(stack)
    site.run("take")
    trust = stack.trust_list()  # as a verifier has it who was at the centre in the morning
    stack.service.kill()

    answers = site.enter(dose(0), dose(1), dose(0), dose(2, person={"id_number": "001285000002"}), dose(3))
    assert [one["outcome"] for one in answers] == ["issued", "issued", "replayed", "held", "issued"]
    refused = site.enter(dose(0) | {"dose": dose(0)["dose"] | {"lot": "ZZ"}}, dose(4) | {"site_id": ""}, expected=1)
    assert [one["code"] for one in refused] == ["conflict", "dose_invalid"]

    wait_until(lambda: stack.sheets() == 3, "three papers without a line")
    wait_until(lambda: site.status()["not_printed"] == [], "the agent knows of the three papers")
    copy = json.loads(site.run("again", "MUONG-0000", "--reason", "spoilt")[0])
    assert (copy["outcome"], copy["uvci"]) == ("copy", answers[0]["uvci"])
    wait_until(lambda: stack.sheets() == 4, "the copy of a spoilt paper")
    status = site.status()
    assert (status["issued"], status["held"], status["not_brought"]) == (3, ["MUONG-0002"], 5)
    uvcis = {one["uvci"] for one in answers if one["outcome"] == "issued"}
    papers = read(stack, trust)
    assert {uvci for uvci, _ in papers} == uvcis
    assert {verdict for _, verdict in papers} == {"valid"}
    assert all(uvci.startswith(bag["range"]) for uvci in uvcis)

    stack.service.start()
    admin, platform = stack.service.api("admin"), stack.service.api()
    wait_until(lambda: under_way(admin) == 0 and site.status()["not_brought"] == 0, "all is home")
    jobs = admin.get("/v1/print-jobs")["print_jobs"]
    assert sorted((job["copy_number"], job["reason"], job["state"]) for job in jobs) == [
        *[(1, "issued", "printed")] * 3,
        (2, "spoilt", "printed"),
    ]
    stats = admin.get("/v1/stats")
    assert (stats["doses"], stats["certificates"], stats["held"]) == (4, 3, 1)
    found = platform.get("/v1/doses/MUONG-0001")
    assert found["mark"] == "identity-later"
    assert found["uvci"] in uvcis
    assert {one["dose_id"] for one in admin.get("/v1/day-bags/identities")["identities"]} == {
        "MUONG-0000",
        "MUONG-0001",
        "MUONG-0003",
    }

    # The registry is asked afterwards: one is confirmed, one is not.
    old = found["uvci"]
    platform.call("POST", "/v1/doses/MUONG-0001/identity", {"status": "matched", "reference": "NPD-1"})
    renewed = platform.get("/v1/doses/MUONG-0001")["certificate"]
    assert (renewed["version"], renewed["uvci"] == old) == (2, False)
    platform.call("POST", "/v1/doses/MUONG-0003/identity", {"status": "mismatched"})
    worklist = admin.get(f"/v1/sites/{SITE}/worklist")
    assert {one["dose_id"] for one in worklist["held"]} == {"MUONG-0002", "MUONG-0003"}
    mismatched = next(one["uvci"] for one in answers if one["dose_id"] == "MUONG-0003")
    assert admin.get(f"/v1/revocations?uvci={mismatched}")["revocations"][0]["reason"] == "identity_mismatch"

    # Ended by the centre: all its certificates are found one by one, and the key is of no more use.
    ended = admin.call("POST", f"/v1/day-bags/{bag['bag_id']}/end", {"reason": "brought home"}).json()
    assert ended["state"] == "ended"
    listed = admin.get(f"/v1/day-bags/{bag['bag_id']}")
    assert Counter(one["state"] for one in listed["certificates"]) == {"stored": 3, "not_brought": 2}
    assert stack.sheets() == 4


def read(stack: Stack, trust: Any) -> list[tuple[str, str]]:
    """Return (UVCI, verdict) of every sheet that came out, as a verifier without a line reads it."""
    from stack.papers import read_paper

    now = datetime.now(UTC)
    found = [
        read_paper(name, page, trust=trust, now=now)
        for name, printer in stack.printers.items()
        for page in printer.pages()
    ]
    return [(paper.uvci, paper.verdict) for paper in found]


def centre(stack: Stack, *command: str) -> Any:
    """Return what `printsvc daybag …` says, as an admin's command."""
    token = stack.service.data_dir / "dev" / "admin.token"
    more = ["--url", stack.service.url, "--token-file", str(token), "--json"]
    told = subprocess.run([sys.executable, "-m", "printsvc", "daybag", *command, *more], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def test_kill_9_at_every_step(stack: Stack, site: Site) -> None:
    admin = stack.service.api("admin")
    bag_id = centre(stack, "make", SITE, "--doses", "6")["bag_id"]
    book = site.parts.agent.state_dir / "daybag"

    def given() -> bool:
        return admin.get("/v1/day-bags")["day_bags"][0]["state"] == "out"

    # Taking: before the key, while it is asked for, when the centre has given it, when it is kept and not yet said.
    for is_so in ((book / "book.db").exists, lambda: keys_of(book) > 0, given, lambda: any(book.glob("*.zip"))):
        process = site.start("take")
        wait_until(is_so, "the step of taking")
        process.kill()
        process.communicate()
    site.run("take")
    assert keys_of(book) <= 2  # that of the bag, and the one that waits for the next leave
    assert [(one["bag_id"], one["state"]) for one in centre(stack, "list")] == [(bag_id, "out")]
    signers = [one for one in admin.get("/v1/signers")["signers"] if one["role"] == "delegate"]
    assert len(signers) == 1
    stack.service.kill()

    agent = stack.sites[SITE].agent
    answers = site.enter(dose(0), dose(1))
    agent.kill()
    answers += site.enter(dose(2), dose(3))  # the desk needs no agent
    agent.start()
    wait_until(lambda: stack.sheets() >= 1, "a paper after the agent was killed")
    agent.kill()
    agent.start()
    wait_until(lambda: stack.sheets() == 4, "every paper, once")

    stack.service.start()
    wait_until(lambda: admin.get("/v1/stats")["doses"] >= 1, "the first doses are home")
    stack.service.kill()
    agent.kill()
    stack.service.start()
    answers += site.enter(dose(0), dose(4))
    agent.start()
    wait_until(lambda: admin.get("/v1/stats")["certificates"] == 5, "all is home")
    wait_until(lambda: stack.sheets() == 5, "the last paper")
    wait_until(lambda: under_way(admin) == 0, "every job is settled")

    uvcis = [one["uvci"] for one in answers if one["outcome"] == "issued"]
    assert len(set(uvcis)) == len(uvcis) == 5
    papers = read(stack, stack.trust_list())
    assert sorted(papers) == sorted((uvci, "valid") for uvci in uvcis)
    jobs = admin.get("/v1/print-jobs")["print_jobs"]
    assert sorted(job["uvci"] for job in jobs) == sorted(uvcis)
    # What nobody could be sure of after a kill stands on the list; nothing is believed that did not come out.
    assert {job["state"] for job in jobs} <= {"printed", "uncertain"}
    assert centre(stack, "conflicts") == []
    listed = centre(stack, "certificates", bag_id)["certificates"]
    assert Counter(one["state"] for one in listed) == {"stored": 5, "not_brought": 1}


def keys_of(book: Path) -> int:
    """Return how many signing keys are in a book."""
    with contextlib.closing(sqlite3.connect(f"file:{book / 'book.db'}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM keys").fetchone()[0])
        except sqlite3.OperationalError:  # no table yet
            return 0


def under_way(admin: Any) -> int:
    """Return how many jobs no agent has settled yet."""
    jobs = admin.get("/v1/print-jobs")["print_jobs"]
    return sum(job["state"] not in ("printed", "uncertain", "failed") for job in jobs)
