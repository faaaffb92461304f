"""What is fetched over a line that is cut goes on where it was, and what went over the line is counted."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from lab.poorline import PoorLine

from spooler.link import Link, LinkDownError
from spooler.meter import Meter

CONTENT = random.Random(7).randbytes(400_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
async def service() -> AsyncIterator[int]:
    """A service that has one document and gives it from any place on; it yields its port."""

    async def get(request: web.Request) -> web.Response:
        start = request.http_range.start or 0
        headers = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        return web.Response(status=206 if start else 200, body=CONTENT[start:], headers=headers)

    application = web.Application()
    application.router.add_get("/agent/v1/documents/{sha256}", get)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_a_document_goes_on_where_the_line_was_cut(service: int) -> None:
    with PoorLine(service, bits_per_s=2_000_000, round_trip_s=0.02) as line:
        link = Link(line.url, token="t", timeout_s=20)
        for share in (1, 2):
            fetching = asyncio.create_task(link.fetch(DIGEST, size=len(CONTENT), max_bytes=10**6))
            while line.bytes_down < share * len(CONTENT) / 3:
                assert not fetching.done()
                await asyncio.sleep(0.01)
            line.cut_now()
            with pytest.raises(LinkDownError):
                await fetching
        assert await link.fetch(DIGEST, size=len(CONTENT), max_bytes=10**6) == CONTENT
        assert line.cuts == 2
        # What was under way when the line was cut comes twice: nothing like the whole document.
        assert line.bytes_down < 1.4 * len(CONTENT)
        assert link.meter.bytes_down >= len(CONTENT)
        await link.close()


async def test_the_meter_counts_what_the_line_carried(service: int) -> None:
    with PoorLine(service) as line:
        link = Link(line.url, token="t", timeout_s=20)
        await link.fetch(DIGEST, size=len(CONTENT), max_bytes=10**6)
        assert (link.meter.bytes_up, link.meter.bytes_down) == line.bytes()
        await link.close()


def test_counts_outlive_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "line.json"
    meter = Meter()
    meter.remember(path)
    meter.stamped, meter.bytes_up = 3, 1000
    meter.keep(path)
    again = Meter()
    again.bytes_up = 5
    again.remember(path)
    assert (again.stamped, again.bytes_up) == (3, 1005)
    for damage in ("", "[]", '{"stamped": -1}', "\0"):
        path.write_text(damage)
        meter = Meter()
        meter.remember(path)
        assert meter.stamped == 0
