"""The centre, a real agent process, a real cupsd and virtual printers: what is asked of printers, and what is refused.

The printers' own log is the truth: after each refusal, one page.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system
A4 = "iso_a4_210x297mm"


def _make_pdf(text: str) -> bytes:
    spec = importlib.util.spec_from_file_location("spooler_conftest", Path(__file__).parents[1] / "spooler/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("spooler_conftest", module)
    spec.loader.exec_module(module)
    return bytes(module.make_pdf(text))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if os.geteuid() != 0 or not shutil.which("ippeveprinter") or not shutil.which("cupsd"):
        pytest.skip("a printing lab needs root, cupsd and ippeveprinter")
    from lab import PDF, Lab

    with Lab(tmp_path_factory.mktemp("lab")) as opened:
        for name in ("a", "b"):
            opened.add_queue(name, opened.add_printer(name, (PDF,)))
        opened.add_printer("spare", (PDF,))
        yield opened


@dataclass
class Site:
    api: Any
    lab: Any
    agent: subprocess.Popen[bytes]
    log: Path

    async def ask(self, verb: str, queue: str = "", **more: Any) -> dict[str, Any]:
        """Ask, wait for the outcome, and return it."""
        body = {"verb": verb, "queue": queue, "within_s": 60} | more
        asked = await self.api.call("POST", "/v1/printers/HN-1/commands", body, by="admin")
        assert asked.status in (200, 202), asked.body
        path = f"/v1/printers/HN-1/commands/{asked.body['command_id']}"
        return await self.until(lambda: self._outcome(path), f"outcome of {verb}")

    async def _outcome(self, path: str) -> dict[str, Any] | None:
        told = (await self.api.call("GET", path, by="admin")).body
        return None if told["state"] in ("waiting", "given") else dict(told)

    async def until(self, look: Callable[[], Awaitable[Any]], what: str, timeout_s: float = 90.0) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not (found := await look()):
            if loop.time() > deadline:
                raise AssertionError(f"no {what} within {timeout_s} s\n{self.log.read_text()[-3000:]}")
            await asyncio.sleep(0.1)
        return found

    async def printer(self, queue: str) -> dict[str, Any] | None:
        answer = await self.api.call("GET", f"/v1/printers/HN-1/queues/{queue}", by="admin")
        return answer.body if answer.status == 200 else None

    async def wait_for_state(self, job_id: str, *states: str) -> dict[str, Any]:
        async def look() -> Any:
            job = await self.api.job(job_id)
            return job if job["state"] in states else None

        return dict(await self.until(look, f"{states} of {job_id}"))

    def pages(self, queue: str, job_id: str) -> int:
        return sum(page.job_name.startswith(f"ps-{job_id}-") for page in self.lab.printers[queue].pages())

    async def started(self, queue: str, job_id: str) -> None:
        async def look() -> bool:
            events = self.lab.printers[queue].truth()
            return any(one.event == "started" and one.job_name.startswith(f"ps-{job_id}-") for one in events)

        await self.until(look, f"start of {job_id} on {queue}")


@pytest.fixture
async def start(api: Any, lab: Any, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    async def render(form_id: str, page: Any) -> bytes:
        return _make_pdf(f"{page['uvci']} {page['copy_number']}")

    api.world.renderer.render = render
    # Ids of their own for each test: the once backend, which all share, would refuse an attempt that it has seen.
    object.__setattr__(api.world.services, "random_bytes", os.urandom)

    processes = []
    connection = lab.connection()
    for name in ("a", "b"):
        lab.printers[name].behave()
        connection.enablePrinter(name)
        connection.acceptJobs(name)

    async def begin(queues: str = "") -> Site:
        code = (await api.call("POST", "/v1/sites/HN-1/enrolment-codes", by="admin")).body["code"]
        environment = {
            "PRINTSVC_SPOOLER_URL": str(api.client.make_url("/")),
            "PRINTSVC_SPOOLER_STATE_DIR": str(tmp_path / "agent"),
            "PRINTSVC_SPOOLER_CUPS_HOST": lab.host,
            "PRINTSVC_SPOOLER_CUPS_PORT": str(lab.port),
            "PRINTSVC_SPOOLER_CUPS_FILES": str(lab.cupsd.base / "etc/cups-files.conf"),
            "PRINTSVC_SPOOLER_ENROLL_CODE": code,
            "PRINTSVC_SPOOLER_QUEUES": queues,
            "PRINTSVC_SPOOLER_POLL_WAIT_S": "10",
            "PRINTSVC_SPOOLER_HEARTBEAT_S": "1",
            "PRINTSVC_SPOOLER_HEALTH_S": "1",
        }
        log = tmp_path / "agent.log"
        with log.open("ab") as file:
            process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "spooler", "run"], env=os.environ | environment, stderr=file
            )
        processes.append(process)
        site = Site(api, lab, process, log)
        await site.until(lambda: site.printer((queues or "a").split(",")[0]), "printers")
        return site

    yield begin
    for process in processes:
        process.kill()
        process.wait()


async def test_a_printer_is_found_added_checked_and_removed(start: Any) -> None:
    site = await start()
    spare = site.lab.printers["spare"]
    found = await site.ask("discover", hosts=[f"localhost:{spare.port}", "localhost:1"])
    assert found["state"] == "done"
    assert any(one["uri"] == spare.uri and one["make_and_model"] for one in found["result"]["printers"])
    assert found["result"]["looked"]
    for line in found["result"]["not_looked"]:
        assert line["en"] != line["vi"]
    nothing = await site.ask("discover")
    assert "lan" in {line["what"] for line in nothing["result"]["not_looked"]}, "it says what was not searched"
    assert (await site.ask("discover", hosts=["192.0.2.0/8"]))["reason"] == "network-too-large"

    silent = await site.ask("add", "new", uri="ipp://localhost:1/ipp/print")
    assert (silent["state"], silent["reason"]) == ("refused", "printer-silent")
    added = await site.ask("add", "new", uri=spare.uri)
    assert added["state"] == "done", added
    assert "IPP Everywhere" in added["result"]["make_and_model"]
    assert added["result"]["device_uri"] == f"printsvc-once:/{spare.uri}"
    assert (await site.ask("add", "new", uri=spare.uri))["reason"] == "queue-exists"
    shown = await site.until(lambda: site.printer("new"), "the new printer")
    assert (shown["state"], shown["accepting"]) == ("idle", True)

    checked = await site.ask("check", "new", media=A4)
    facts = checked["result"]["queues"]["new"]
    assert facts["error_policy"] == "retry-job"
    assert facts["media_default"]
    assert facts["resolutions_dpi"] == [600]
    # What the lab's printer has loaded is Letter; its cupsd keeps files on purpose.
    assert {one["code"] for one in facts["findings"]} == {"media-not-loaded"}
    assert {one["code"] for one in checked["result"]["cupsd"]} == {"cupsd-preservejobfiles"}
    for one in [*facts["findings"], *checked["result"]["cupsd"]]:
        assert all(one[name] for name in ("en", "vi", "mend_en", "mend_vi"))

    removed = await site.ask("remove", "new")
    assert removed["state"] == "done"
    assert "new" not in site.lab.connection().getPrinters()


async def test_what_would_print_twice_is_refused_and_a_drained_queue_hands_over(start: Any) -> None:
    site = await start("a,b")
    for printer in ("a", "b"):
        site.lab.printers[printer].behave(media_empty=True)
    job_id = (await site.api.issue("D-1"))["job_id"]
    sent = await site.wait_for_state(job_id, "sent")
    queue = sent["queue"]
    await site.started(queue, job_id)
    for verb in ("disable", "remove"):
        refused = await site.ask(verb, queue)
        assert (refused["state"], refused["reason"]) == ("refused", "job-active"), refused
        assert refused["detail"] != refused["detail_vi"]
    other = "b" if queue == "a" else "a"
    for verb, more in (("move", {"to": other}), ("hold", {}), ("cancel", {}), ("priority", {"priority": 1})):
        refused = await site.ask(verb, job=job_id, **more)
        assert (refused["state"], refused["reason"]) == ("refused", "job-active"), refused
    draining = asyncio.create_task(site.ask("drain", queue))

    async def is_closed() -> bool:
        shown = await site.printer(queue)
        return shown is not None and not shown["accepting"]

    await site.until(is_closed, "closed queue")
    assert not draining.done(), "it waits for the job"
    site.lab.printers[queue].refill()
    drained = await draining
    assert drained["state"] == "done", drained
    assert site.pages(queue, job_id) == 1, "what was there came out first"
    assert (await site.wait_for_state(job_id, "printed"))["witness"] == "printer"
    shown = await site.printer(queue)
    assert shown is not None
    assert (shown["state"], shown["accepting"]) == ("stopped", False)
    site.lab.printers[other].behave()
    next_id = (await site.api.issue("D-2"))["job_id"]
    printed = await site.wait_for_state(next_id, "printed")
    assert printed["queue"] == other

    async def why() -> Any:  # it is written behind the events that came with it
        return [one for one in (await site.api.job(next_id))["routes"] if one["queue"]]

    (route, *_) = await site.until(why, "reason of the queue")
    assert route["why"].startswith(f"{other}: one of 1 that can; not {queue}: takes no jobs")
    for verb in ("accept", "enable"):
        assert (await site.ask(verb, queue))["state"] == "done"
    shown = await site.printer(queue)
    assert shown is not None
    assert (shown["state"], shown["accepting"]) == ("idle", True)
    assert (site.pages("a", job_id), site.pages("b", job_id)) in ((1, 0), (0, 1))
    ledger = (await site.api.call("GET", f"/v1/printers/HN-1/commands?queue={queue}", by="admin")).body["commands"]
    assert sorted(one["verb"] for one in ledger) == ["accept", "disable", "drain", "enable", "remove"]
    assert {one["asked_by"] for one in ledger} == {"admin"}


async def test_jobs_that_are_not_sent_are_held_moved_reordered_and_cancelled(start: Any) -> None:
    site = await start("a")
    site.lab.printers["a"].behave(media_empty=True)
    first = (await site.api.issue("D-1"))["job_id"]
    await site.started("a", first)
    waiting = (await site.api.issue("D-2"))["job_id"]
    await site.wait_for_state(waiting, "leased")

    async def is_told() -> Any:
        return (await site.api.job(waiting))["routes"]

    told = await site.until(is_told, "why it waits")
    assert told[-1]["why"] == "waits: a: has another job"
    assert told[-1]["why_vi"] != told[-1]["why"]
    for verb, more in (("priority", {"priority": 90}), ("hold", {}), ("move", {"to": "a"})):
        done = await site.ask(verb, job=waiting, **more)
        assert done["state"] == "done", done
    job = await site.api.job(waiting)
    assert (job["priority"], job["kept"], job["asked"]) == (90, True, "a")
    assert (await site.ask("move", job=waiting, to="nowhere"))["reason"] == "no-such-queue"
    site.lab.printers["a"].refill()
    await site.wait_for_state(first, "printed")
    assert (await site.api.job(waiting))["state"] == "leased", "kept back beside a free printer"
    cancelled = await site.ask("cancel", job=waiting)
    assert cancelled["state"] == "done", cancelled
    await site.wait_for_state(waiting, "canceled")
    last = (await site.api.issue("D-3"))["job_id"]
    await site.wait_for_state(last, "printed")
    assert [site.pages("a", job_id) for job_id in (first, waiting, last)] == [1, 0, 1]


async def test_a_test_page_reads_back_as_the_answer_says(start: Any) -> None:
    import zxingcpp

    site = await start("a")
    before = len(site.lab.printers["a"].pages())
    printed = await site.ask("test-page", "a", dpi=600)
    assert printed["state"] == "done", printed
    pages = await asyncio.to_thread(site.lab.printers["a"].wait_for_pages, before + 1, 60)
    picture = pages[-1].image(600)
    assert abs(picture.size[0] - 4961) <= 2
    read = {code.text for code in zxingcpp.read_barcodes(picture)}
    fields = printed["result"]["fields"]
    assert len(fields) == 12
    assert {field["payload"] for field in fields} == read
    assert len({(field["module_dots"], field["pull_back"]) for field in fields}) == 12


async def test_settings_reach_the_agent_and_bound_its_choice(start: Any) -> None:
    site = await start("a,b")
    for queue, setting in (("a", {"media": ["om_card_54x86mm"], "pool": "cards"}), ("b", {"pool": "front"})):
        path = f"/v1/printers/HN-1/queues/{queue}/settings"
        assert (await site.api.call("PUT", path, setting, by="admin")).status == 200
    # The answer to an open lease brings them at once; the check is what the agent then believes.
    await site.until(lambda: _has_settings(site), "settings at the agent")
    job_id = (await site.api.issue("D-1"))["job_id"]
    job = await site.wait_for_state(job_id, "printed")
    assert job["queue"] == "b"
    assert any(f"a: does not take {A4}" in route["why"] for route in job["routes"])
    assert any("pool front" in route["why"] for route in job["routes"])


async def _has_settings(site: Site) -> bool:
    return any("settings_taken" in line and '"queues": 2' in line for line in site.log.read_text().splitlines())
