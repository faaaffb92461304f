"""agents: thousands of agents in long-poll on one service process: memory, time to wake all, all of them coming back.

The service is the real one, with SQLite, as a process of its own. The agents are connections of this process that send
what a real agent sends, packed; nothing leaves the loopback. Each has its own site, journal and token.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sqlite3
import sys
import tempfile
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lab.processes import ProcessSet
from stack.stack import NDJSON, Service

from benchmarks.measure import Plan, percentile, share_cache
from benchmarks.people import dose_events
from printsvc.domain.site import Site, SiteId
from printsvc.store import migrate
from printsvc.store import sites as site_store
from printsvc.store.engine import Store
from spooler import compact
from spooler.link import backoff_s
from spooler.protocol import LeaseRequest, LineAnswer, LineRequest

AGENTS = 10_000
WAKINGS = 2_000
SECONDS = 60.0
FORM = "a4/43-2022"
WAIT_S = 50.0
ANSWER_S = 60.0  # what an agent waits beyond its poll before it gives up
DOCUMENT = b"%PDF-1.7 as good as any"
PEOPLE = 0.25


class Line(asyncio.Protocol):
    """One agent's connection: a request at a time, HTTP/1.1, kept alive."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[bytes] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) >= length and self.answered is not None and not self.answered.done():
            self._buffer = b""
            if b" 200 " in head[:16]:
                self.answered.set_result(body)
            else:
                self.answered.set_exception(ConnectionError(head[:16].decode()))

    def connection_lost(self, error: Exception | None) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(ConnectionResetError("cut"))

    async def ask(self, request: bytes, timeout_s: float) -> bytes:
        assert self.transport is not None
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        async with asyncio.timeout(timeout_s):
            return await self.answered


class FakeAgent:
    """An agent of which only the line is real; `polling_since` is None while it has no poll open."""

    def __init__(self, number: int, port: int) -> None:
        self.number = number
        self.token = f"ps_{number:064x}"
        self.journal = f"{number:032x}"
        self.port = port
        self.failures = 0
        self.answers = 0
        self.jobs = 0
        self.answered_at = 0.0
        self.quick_s: list[float] = []  # how long polls took that asked not to wait
        self.line: Line | None = None

    def request(self, wait_s: float, capacity: int = 1) -> bytes:
        asked = LeaseRequest(
            journal_id=self.journal,
            capacity=capacity,
            wait_s=wait_s,
            agent_time=datetime.now(UTC),
            agent_version="1",
            printers_same=True,
        )
        body = compact.join_request(self.token, compact.pack(LineRequest(lease=asked)))
        head = f"POST /agent/v1/line HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    async def connect(self) -> Line:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(15):
            _, self.line = await loop.create_connection(Line, "127.0.0.1", self.port)
        return self.line

    async def poll(self, wait_s: float, capacity: int = 1) -> None:
        """One poll, reconnecting with the agent's own back-off until it is answered."""
        failures = 0
        while True:
            try:
                line = self.line or await self.connect()
                began = time.perf_counter()
                answer = LineAnswer.model_validate(
                    compact.unpack(await line.ask(self.request(wait_s, capacity), wait_s + ANSWER_S))
                )
            except (OSError, TimeoutError):
                self.cut()
                failures += 1
                self.failures += 1
                await asyncio.sleep(backoff_s(failures, random.random(), longest_s=60))
                continue
            self.answers += 1
            self.answered_at = time.perf_counter()
            if not wait_s:
                self.quick_s.append(self.answered_at - began)
            assert answer.lease is not None
            self.jobs += len(answer.lease.jobs)
            return

    def cut(self) -> None:
        if self.line is not None and self.line.transport is not None:
            self.line.transport.abort()
        self.line = None


class Bench:
    """One service and its agents."""

    def __init__(self, plan: Plan, root: Path, processes: ProcessSet) -> None:
        self.plan = plan
        self.count = plan.count or AGENTS
        self.wakings = min(self.count, WAKINGS)
        self.seed = plan.seed
        environment = {"HOME": str(root), "PYTHONPATH": str(plan.root), "PRINTSVC_LOG_LEVEL": "WARNING"}
        self.service = Service(root / "service", root / "service.log", processes, environment)
        self.database = root / "service" / "printsvc.db"
        self.agents = [FakeAgent(number, self.service.port) for number in range(1, self.count + 1)]

    def prepare(self) -> None:
        """Make the sites and agents, start the service, and give some sites a certificate."""
        now = datetime.now(UTC)
        share_cache(self.plan, self.service.data_dir)
        with closing(Store(f"sqlite:///{self.database}")) as store:
            migrate.upgrade(store)

            def fill(connection: Any) -> None:
                for agent in self.agents:
                    site = Site(SiteId(f"S-{agent.number}"), "Trạm Y tế", "SỞ Y TẾ")
                    site_store.insert_site(connection, site, now=now)
                    code = f"code-{agent.number}"
                    expires_at = now + timedelta(hours=1)
                    site_store.insert_enrolment_code(connection, code, site.site_id, now=now, expires_at=expires_at)
                    site_store.enrol(
                        connection, code, agent_id=f"{agent.number:016x}", token=agent.token,
                        journal_id=agent.journal, version="1", now=now,
                    )  # fmt: skip

            store.submit(fill).result()
        self.service.compile_forms(FORM)
        self.service.start()
        events = dose_events(self.seed, now=now)
        lines = []
        for agent, event in zip(self.agents[: self.wakings], events, strict=False):
            lines.append(event | {"site_id": f"S-{agent.number}"})
        self._post(lines)
        # Papers that nobody wants now, their page drawn: what is measured is the way to the agents, not the drawing.
        self._sql("INSERT INTO documents (sha256, media_type, body, created_at) VALUES ('f', 'application/pdf', ?, 0)")
        self._sql("UPDATE print_jobs SET state = 'canceled', document_sha256 = 'f'")

    def _post(self, events: list[dict[str, Any]]) -> None:
        import json

        for start in range(0, len(events), 200):
            body = "\n".join(json.dumps(event) for event in events[start : start + 200]).encode()
            answer = self.service.api().call("POST", "/v1/doses", body, content_type=NDJSON)
            assert answer.status == 200, answer.body

    def _sql(self, statement: str) -> int:
        """Change the database beside the service: once, with nothing else going on, and the data are thrown away."""
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            count = connection.execute(statement, (DOCUMENT,) if "?" in statement else ()).rowcount
            connection.commit()
            return count

    def rss_mb(self) -> float:
        process = self.service._process
        assert process is not None
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def cpu_s(self) -> float:
        process = self.service._process
        assert process is not None
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    async def all_poll(self, wait_s: float, *, spread_s: float = 0.0, capacity: int = 1) -> list[asyncio.Task[None]]:
        async def one(agent: FakeAgent) -> None:
            await asyncio.sleep(random.uniform(0, spread_s))
            await agent.poll(wait_s, capacity)

        return [asyncio.create_task(one(agent)) for agent in self.agents]

    async def measure(self, seconds: float) -> dict[str, Any]:
        figures: dict[str, Any] = {"agents": self.count}
        told("all agents connect, one after the other")
        before = self.rss_mb()
        await asyncio.gather(*await self.all_poll(0.0, spread_s=self.count / 1000))
        figures["rss_mb_connected"] = round(self.rss_mb(), 1)
        told("all agents poll")
        polls = await self.all_poll(WAIT_S, spread_s=self.count / 1000)
        await asyncio.sleep(self.count / 1000 + 2)
        figures |= {"rss_mb_start": round(before, 1), "rss_mb_polling": round(self.rss_mb(), 1)}
        figures["kib_each"] = round((self.rss_mb() - before) * 1024 / self.count, 1)
        figures |= await self.wake(polls)
        await asyncio.gather(*polls)
        told("polls that end and begin again")
        figures |= await self.idle(min(seconds / 3, 20.0))
        figures |= await self.come_back(at_once=False)
        figures |= await self.come_back(at_once=True)
        return figures

    async def wake(self, polls: list[asyncio.Task[None]]) -> dict[str, Any]:
        """A job for each of many sites at one moment: how long until its agent has it."""
        told(f"a job for each of {self.wakings} sites at once")
        began = time.perf_counter()
        await asyncio.to_thread(self._sql, "UPDATE print_jobs SET state = 'waiting'")
        await asyncio.gather(*polls[: self.wakings])
        took = [agent.answered_at - began for agent in self.agents[: self.wakings]]
        assert sum(agent.jobs for agent in self.agents) == self.wakings
        await asyncio.to_thread(self._sql, "UPDATE print_jobs SET state = 'canceled'")
        return {
            "woken": self.wakings,
            "wake_s_p50": round(percentile(took, 50), 3),
            "wake_s_p99": round(percentile(took, 99), 3),
            "wake_per_s": round(self.wakings / max(took)),
        }

    async def idle(self, seconds: float) -> dict[str, Any]:
        """Polls that find nothing, as many as come when all agents ask every 25 s."""
        until = time.perf_counter() + seconds
        cpu = self.cpu_s()
        answers = sum(agent.answers for agent in self.agents)

        async def often(agent: FakeAgent) -> None:
            await asyncio.sleep(random.uniform(0, 25))
            while time.perf_counter() < until:
                await agent.poll(0.0)
                await asyncio.sleep(25)

        for agent in self.agents:
            agent.quick_s.clear()
        tasks = [asyncio.create_task(often(agent)) for agent in self.agents]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for agent in self.agents:
            if agent.line is not None and agent.line.answered is not None and not agent.line.answered.done():
                agent.cut()
        polls = sum(agent.answers for agent in self.agents) - answers
        took = [second for agent in self.agents for second in agent.quick_s]
        return {
            "idle_polls_per_s": round(polls / seconds),
            "idle_cpu_ms_each": round(1000 * (self.cpu_s() - cpu) / max(1, polls), 2),
            "idle_ms_p50": round(1000 * percentile(took, 50), 1),
            "idle_ms_p99": round(1000 * percentile(took, 99), 1),
        }

    async def come_back(self, *, at_once: bool) -> dict[str, Any]:
        """Cut every line; they come back, with the agent's own pauses or all in the same moment."""
        name = "at_once" if at_once else "jitter"
        told(f"all lines are cut; all agents come back ({name})")
        for agent in self.agents:
            agent.cut()
            agent.failures = 0
            agent.quick_s.clear()
        doses: list[float] = []

        async def platform() -> None:
            """What the Platform sees meanwhile."""
            number = 0
            while True:
                event = next(dose_events(self.seed, now=datetime.now(UTC), first=500_000 + number))
                event |= {"site_id": "S-1", "dose_id": f"{name}-{number}"}
                began = time.perf_counter()
                answer = await asyncio.to_thread(self.service.api().call, "POST", "/v1/doses", event)
                assert answer.status in (201, 202), answer.body
                doses.append(time.perf_counter() - began)
                number += 1
                await asyncio.sleep(PEOPLE)

        posting = asyncio.create_task(platform())
        began = time.perf_counter()
        back = []

        async def one(agent: FakeAgent) -> None:
            if not at_once:
                await asyncio.sleep(backoff_s(1, random.random(), longest_s=60))
            await agent.poll(0.0, 0)
            back.append(time.perf_counter() - began)

        await asyncio.gather(*(one(agent) for agent in self.agents))
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
        return {
            f"back_{name}_s_p50": round(percentile(back, 50), 2),
            f"back_{name}_s_all": round(max(back), 2),
            f"back_{name}_failures": sum(agent.failures for agent in self.agents),
            f"back_{name}_dose_ms_p99": round(1000 * percentile(doses, 99)),
        }


def run(plan: Plan) -> dict[str, Any]:
    """Return the figures; docs/bench.md says what each means. `--count` is the number of agents."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="printsvc-agents-") as folder:
        processes = ProcessSet(uuid.uuid4().hex)
        try:
            bench = Bench(plan, Path(folder), processes)
            told(f"making {bench.count} sites and agents")
            bench.prepare()
            figures = asyncio.run(bench.measure(plan.seconds or SECONDS))
            bench.service.stop()
        finally:
            processes.close()
    return figures


def told(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
