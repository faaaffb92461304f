"""The whole web application in process: real HTTP on a free port, SQLite, a real signer, a renderer that is quick."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from printsvc.app import assemble
from printsvc.store.engine import Store
from printsvc.store.sites import Caller, insert_token

EVENT: dict[str, Any] = {
    "dose_id": "D-1",
    "site_id": "HN-1",
    "person": {
        "full_name": "NGUYỄN THỊ MINH KHAI",
        "date_of_birth": "1985-04-12",
        "sex": "female",
        "nationality": "VN",
        "id_type": "cccd",
        "id_number": "001185012345",
        "phone": "0912345678",
        "address": "12 Phố Huế, Hai Bà Trưng, Hà Nội",
    },
    "identity": {"status": "matched", "checked_at": "2021-10-30T01:58:00Z", "reference": "NPD-7731"},
    "dose": {
        "product": "EU/1/20/1528",
        "lot": "FG3712",
        "number": 2,
        "series": 2,
        "kind": "basic",
        "injected_at": "2021-10-30T09:02:00+07:00",
    },
}
HELD: dict[str, Any] = {"status": "unchecked", "checked_at": None, "reference": None}
MATCHED: dict[str, Any] = {"status": "matched", "checked_at": "2021-10-30T02:10:00Z", "reference": "NPD-9"}


def event(dose_id: str = "D-1", **changes: Any) -> dict[str, Any]:
    """Return an event that is issued; `changes` replace fields of the event, the person or the dose."""
    made = copy.deepcopy(EVENT) | {"dose_id": dose_id}
    for name, value in changes.items():
        for part in (made["person"], made["dose"]):
            if name in part:
                part[name] = value
                break
        else:
            made[name] = value
    return made


def held(dose_id: str, **changes: Any) -> dict[str, Any]:
    """Return an event whose identity nobody checked."""
    return event(dose_id, **changes) | {"identity": HELD}


@dataclass
class Answer:
    """`body` is decoded JSON, or bytes where it is none."""

    status: int
    body: Any
    headers: Any


@dataclass
class Api:
    """`world` is the flows underneath (see tests/conftest.py); `held` what each (token, journal) has leased."""

    client: TestClient[Any, Any]
    world: Any
    tokens: dict[str, str]
    held: defaultdict[tuple[str, str], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))

    async def call(
        self, method: str, path: str, body: Any = None, *, by: str | None = "platform", **more: Any
    ) -> Answer:
        """`by` names a token of `tokens` (or is one); `body` goes as JSON, `data=` as it is."""
        headers = dict(more.pop("headers", {}))
        if by is not None:
            headers["Authorization"] = f"Bearer {self.tokens.get(by, by)}"
        if body is not None:
            more["json"] = body
        if isinstance(more.get("data"), bytes):
            more["data"] = io.BytesIO(more["data"])  # aiohttp warns of large bodies given as bytes
        async with self.client.request(method, path, headers=headers, **more) as response:
            return Answer(response.status, await _decoded(response), response.headers)

    async def batch(self, lines: list[Any], **more: Any) -> tuple[Answer, list[Any]]:
        """Send lines (bytes as they are, others as JSON); return the answer and its lines."""
        data = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        answer = await self.call(
            "POST", "/v1/doses", data=data, headers={"Content-Type": "application/x-ndjson"}, **more
        )
        if answer.status != 200:
            return answer, []
        return answer, [json.loads(line) for line in answer.body.splitlines()]

    async def issue(self, dose_id: str = "D-1", **changes: Any) -> dict[str, Any]:
        """Record a dose and return its answer."""
        answer = await self.call("POST", "/v1/doses", event(dose_id, **changes))
        assert answer.status == 201, answer.body
        return dict(answer.body)

    async def enrol(self, site_id: str = "HN-1", journal_id: str = "journal-1") -> tuple[str, str]:
        """Enrol an agent; return its id and its token."""
        code = await self.call("POST", f"/v1/sites/{site_id}/enrolment-codes", by="admin")
        assert code.status == 201
        body = {"code": code.body["code"], "journal_id": journal_id, "agent_version": "9", "from_the_future": [1]}
        answer = await self.call("POST", "/agent/v1/enroll", body, by=None)
        assert answer.status == 200, answer.body
        return answer.body["agent_id"], answer.body["token"]

    async def lease(self, token: str, **changes: Any) -> dict[str, Any]:
        """Ask for jobs as an agent does, naming all that it holds."""
        body = {"journal_id": "journal-1", "capacity": 10, "wait_s": 0} | changes
        held = self.held[token, body["journal_id"]]
        body.setdefault("holding", [{"job_id": job_id, "fencing_token": n} for job_id, n in held.items()])
        answer = await self.call("POST", "/agent/v1/lease", body, by=token)
        assert answer.status == 200, answer.body
        held |= {job["job_id"]: job["fencing_token"] for job in answer.body["jobs"]}
        return dict(answer.body)

    async def report(self, token: str, *events: dict[str, Any], journal_id: str = "journal-1") -> dict[str, Any]:
        body = {"journal_id": journal_id, "events": list(events)}
        answer = await self.call("POST", "/agent/v1/report", body, by=token)
        assert answer.status == 200, answer.body
        for event_ in events:
            if event_["kind"] != "submitted":
                self.held[token, journal_id].pop(event_["job_id"], None)
        return dict(answer.body)

    async def job(self, job_id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"/v1/print-jobs/{job_id}", by="admin")
        assert answer.status == 200
        return dict(answer.body)

    async def put(self, job_id: str, token: str, *kinds: str, first_seq: int = 1, fencing_token: int = 1) -> list[str]:
        """Report these kinds of event on a job; return their outcomes."""
        events = [
            told(kind, job_id, first_seq + number, fencing_token=fencing_token) for number, kind in enumerate(kinds)
        ]
        return [result["outcome"] for result in (await self.report(token, *events))["results"]]


def told(kind: str, job_id: str, seq: int, *, fencing_token: int = 1, **more: Any) -> dict[str, Any]:
    """Return one event of an agent's report."""
    at = datetime(2021, 10, 30, 2, 13, tzinfo=UTC).isoformat()
    return {"seq": seq, "kind": kind, "job_id": job_id, "fencing_token": fencing_token, "at": at} | more


async def _decoded(response: ClientResponse) -> Any:
    body = await response.read()
    return json.loads(body) if response.content_type in ("application/json", "application/problem+json") else body


@pytest.fixture
async def api(sqlite_url: str, make_world: Callable[[Store], Any], publish: Callable[..., Any]) -> AsyncIterator[Api]:
    """Sites HN-1 and HN-2; tokens platform, admin, site (HN-1) and site2 (HN-2)."""
    with contextlib.closing(Store(sqlite_url)) as store:
        world = make_world(store)
        world.add_site("HN-2")
        callers = {
            "platform": Caller("platform", "platform"),
            "admin": Caller("admin", "admin"),
            "site": Caller("site:HN-1", "site", "HN-1"),
            "site2": Caller("site:HN-2", "site", "HN-2"),
        }
        tokens = {name: f"ps_token-of-{name}" for name in callers}
        for name, caller in callers.items():
            await store.write(lambda c, n=name, who=caller: insert_token(c, tokens[n], who, now=world.clock.now))
        for signer in world.services.signers.signers:
            publish(store, signer, now=world.clock.now)
        async with TestClient(TestServer(assemble(world.services))) as client:
            yield Api(client, world, tokens)
