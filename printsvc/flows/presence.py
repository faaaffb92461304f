"""What thousands of polls ask of the database, asked together: who an agent is, whether its site has work.

A poll of a site with nothing to do reads twice, in statements that it shares with all the polls of that moment, and
writes nothing of its own: the moments at which agents were seen are written for all of them, once in a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import structlog
from sqlalchemy import Connection

from printsvc.domain.print_job import JobState
from printsvc.errors import StoreError
from printsvc.store import jobs as job_store
from printsvc.store import lines as line_store
from printsvc.store import sites as site_store
from printsvc.store.engine import Store
from printsvc.store.sites import Agent

V = TypeVar("V")
_TOGETHER: Final = 400
_WRITE_S: Final = 1.0
_SOON_S: Final = 0.005
_LOG = structlog.get_logger("printsvc.presence")


class Gathered(Generic[V]):
    """Answers questions by key with one read for all that wait; `look` returns what it found of the keys."""

    def __init__(self, store: Store, look: Callable[[Connection, Sequence[str]], Mapping[str, V]]) -> None:
        self._store = store
        self._look = look
        self._asked: dict[str, asyncio.Future[V | None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._began_at = 0.0

    async def find(self, key: str) -> V | None:
        """Return what is found of the key. It is looked for after this call, never before. Raises StoreError."""
        future = self._asked.get(key)
        if future is None:
            future = self._asked[key] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer())
        return await asyncio.shield(future)

    async def _answer(self) -> None:
        # Who asks in the same turn of the loop comes along; where questions come thick and fast, who asks soon too.
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(_SOON_S if now - self._began_at < 2 * _SOON_S else 0)
        self._began_at = now
        while self._asked:
            batch = dict(list(self._asked.items())[:_TOGETHER])
            for key in batch:
                del self._asked[key]
            found: Mapping[str, V] = {}
            failed: Exception | None = None
            try:
                found = await self._store.read(lambda c, keys=tuple(batch): self._look(c, keys))  # type: ignore[misc]
            except Exception as error:
                failed = error
            for key, future in batch.items():
                if future.done():
                    continue
                if failed is None:
                    future.set_result(found.get(key))
                else:
                    future.set_exception(failed)
                    future.exception()  # whoever asked may be gone
        self._task = None


@dataclass(frozen=True, slots=True)
class Sighting:
    at: datetime
    clock_skew_ms: int | None
    line: dict[str, int] | None = None


class Presence:
    """One process's view of its agents. Used inside one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._agents: Gathered[Agent] = Gathered(store, site_store.find_agents)
        self._work: Gathered[frozenset[JobState]] = Gathered(store, job_store.find_sites_with_work)
        self._seen: dict[str, Sighting] = {}
        self._writing: asyncio.Task[None] | None = None

    async def find_agent(self, token: str) -> Agent | None:
        """Return the agent with this token; None for an unknown or revoked one."""
        return await self._agents.find(site_store.digest(token))

    async def work_of(self, site_id: str) -> frozenset[JobState]:
        """Return which of waiting and leased the site's jobs are: if neither, no lease call can change anything."""
        return await self._work.find(site_id) or frozenset()

    def seen(self, agent_id: str, at: datetime, clock_skew_ms: int | None, line: dict[str, int] | None = None) -> None:
        """Remember when an agent came, and what it told of its line; written within a second or so."""
        if line is None and agent_id in self._seen:
            line = self._seen[agent_id].line
        self._seen[agent_id] = Sighting(at, clock_skew_ms, line)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def write(self) -> None:
        """Write what was not written yet; what cannot be written now is forgotten: the agents come again."""
        seen, self._seen = self._seen, {}
        rows: list[dict[str, Any]] = [
            {"agent": agent_id, "at": one.at, "skew": one.clock_skew_ms} for agent_id, one in sorted(seen.items())
        ]
        lines = [{"agent": agent_id, "told": one.line} for agent_id, one in sorted(seen.items()) if one.line]

        def write(connection: Connection) -> None:
            site_store.write_sightings(connection, rows)
            if lines:
                line_store.write_lines(connection, lines)

        if rows:
            try:
                await self._store.write(write)
            except StoreError as error:
                _LOG.warning("sightings not written", code=error.code, agents=len(rows))

    async def _write_later(self) -> None:
        try:
            await asyncio.sleep(_WRITE_S)
        finally:
            self._writing = None
        await self.write()

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
        await self.write()
