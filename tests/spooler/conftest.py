"""A small service that speaks the wire protocol, with faults; a document; and a printing lab for the system tests."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from proofs.bagsite import Site

from spooler import protocol as p

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "script"))


def make_pdf(text: str = "x", pages: int = 1) -> bytes:
    """Return an A4 document with a black square on each page; `text` makes it unlike others."""
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(pages))
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {pages}>>".encode()]
    for i in range(pages):
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents {4 + 2 * i} 0 R/Resources<<>>>>".encode()
        )
        stream = f"% {text}\n0 0 0 rg 72 72 99 99 re f".encode()
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


@dataclass
class FakeJob:
    job_id: p.JobId
    sha256: str
    size: int
    priority: int = 50
    token: int = 0
    state: str = "waiting"
    leased_at: float = 0.0


@dataclass
class FakeService:
    """Runs in a thread of its own. `faults[verb]` is eaten from the left: drop, 503, 401, slow, garbage, refuse.

    `drop`: the request is obeyed and its answer is lost. `refuse`: the line breaks before anything was done.
    """

    url: str = ""
    jobs: dict[p.JobId, FakeJob] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    events: list[p.Event] = field(default_factory=list)
    leases: list[p.LeaseRequest] = field(default_factory=list)
    faults: dict[str, deque[str]] = field(default_factory=dict)
    duplicates: int = 0
    token: str = "secret-token"
    codes: set[str] = field(default_factory=lambda: {"one-time"})
    drops: list[p.JobId] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    line: int = 0  # what it says it understands

    def add(self, job_id: str, pdf: bytes, *, priority: int = 50, sha256: str | None = None) -> p.JobId:
        name, digest = p.JobId(job_id), sha256 or hashlib.sha256(pdf).hexdigest()
        self.documents[digest] = pdf
        self.jobs[name] = FakeJob(name, digest, len(pdf), priority)
        return name

    def fail(self, verb: str, *faults: str) -> None:
        self.faults.setdefault(verb, deque()).extend(faults)

    def kinds(self, job_id: str) -> list[str]:
        return [event.kind.value for event in list(self.events) if event.job_id == job_id]

    def of_kind(self, kind: str) -> list[p.Event]:
        return [event for event in list(self.events) if event.kind == kind]

    def wait(self, ready: Callable[[], bool], timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {timeout_s} s; states {[(j.job_id, j.state) for j in self.jobs.values()]}"
                )
            time.sleep(0.02)

    # -- the protocol

    async def _enroll(self, request: web.Request) -> web.Response:
        asked = p.EnrollRequest.model_validate_json(await request.read())
        if asked.code not in self.codes:
            return web.Response(status=403)
        self.codes.discard(asked.code)
        return _json(p.EnrollAnswer(agent_id="agent-1", site_id="HN-01", token=self.token))

    async def _lease(self, request: web.Request) -> web.Response:
        asked = p.LeaseRequest.model_validate_json(await request.read())
        self.leases.append(asked)
        held = {h.job_id for h in asked.holding}
        deadline = time.monotonic() + asked.wait_s
        given: list[p.LeasedJob] = []
        while True:
            now = time.monotonic()
            for job in self.jobs.values():
                lost = job.state == "leased" and job.job_id not in held and now - job.leased_at > 1.0
                if len(given) < asked.capacity and (job.state in ("waiting", "returned") or lost):
                    job.state, job.token, job.leased_at = "leased", job.token + 1, now
                    given.append(
                        p.LeasedJob(
                            job_id=job.job_id,
                            fencing_token=job.token,
                            deadline=datetime.now(UTC) + timedelta(seconds=60),
                            document=p.Document(sha256=job.sha256, size=job.size),
                            priority=job.priority,
                        )
                    )
            if given or now >= deadline:
                break
            await asyncio.sleep(0.02)
        drops, self.drops = tuple(self.drops), []
        return _json(p.LeaseAnswer(server_time=datetime.now(UTC), jobs=tuple(given), dropped=drops, line=self.line))

    async def _report(self, request: web.Request) -> web.Response:
        asked = p.ReportRequest.model_validate_json(await request.read())
        results = []
        for event in asked.events:
            last = self.events[-1].seq if self.events else 0
            if event.seq <= last:
                self.duplicates += 1
                results.append(p.EventResult(seq=event.seq, outcome=p.Outcome.DUPLICATE))
                continue
            assert event.seq == last + 1, "a gap in the reports"
            self.events.append(event)
            self.jobs[event.job_id].state = event.kind.value
            results.append(p.EventResult(seq=event.seq, outcome=p.Outcome.APPLIED))
        return _json(p.ReportAnswer(acknowledged=self.events[-1].seq, results=tuple(results)))

    async def _document(self, request: web.Request) -> web.Response:
        content = self.documents.get(request.match_info["sha256"])
        return web.Response(status=404) if content is None else web.Response(body=content)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=4_000_000)
        application.router.add_post("/agent/v1/enroll", self._wrapped("enroll", self._enroll))
        application.router.add_post("/agent/v1/lease", self._wrapped("lease", self._lease))
        application.router.add_post("/agent/v1/report", self._wrapped("report", self._report))
        application.router.add_get("/agent/v1/documents/{sha256}", self._wrapped("documents", self._document))
        return application

    def _wrapped(
        self, verb: str, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            self.calls.append(verb)
            faults = self.faults.get(verb)
            fault = faults.popleft() if faults else ""
            if fault == "refuse":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            if fault.isdigit():
                return web.Response(status=int(fault), headers={"Retry-After": "1"} if fault == "503" else {})
            if verb != "enroll" and request.headers.get("Authorization") != f"Bearer {self.token}":
                return web.Response(status=401)
            if fault == "slow":
                await asyncio.sleep(1.0)
            response = await handler(request)
            if fault == "drop":
                assert request.transport is not None
                request.transport.abort()
            if fault == "garbage":
                return web.Response(body=b"\x00<html>what", content_type="application/json")
            return response

        return answer


def _json(message: p.Message) -> web.Response:
    response = web.json_response(text=message.model_dump_json())
    response.enable_compression()
    return response


@pytest.fixture
def service() -> Iterator[FakeService]:
    fake = FakeService()
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(fake.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await stop.wait()
        await runner.cleanup()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10)
    yield fake
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def pdf() -> Callable[..., bytes]:
    return make_pdf


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with a day bag and a desk."""
    made = Site(tmp_path)
    yield made
    made.book.close()
