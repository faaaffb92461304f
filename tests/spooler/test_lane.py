"""The lane to CUPS: a silent server costs a timeout, not the agent."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from spooler.core.witness import Heard, Mute, PrinterJob, Unreachable
from spooler.cupsd.lane import CupsSilentError, Lane
from spooler.cupsd.printer import Printers


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_silent_server_is_given_up_and_the_next_call_has_a_new_lane(silent_port: int) -> None:
    lane = Lane("127.0.0.1", silent_port, timeout_s=0.3)
    for count in (1, 2):
        began = time.monotonic()
        with pytest.raises(CupsSilentError):
            await lane.run(lambda connection: connection.getPrinters())
        assert time.monotonic() - began < 30  # half of what pycups itself waits
        assert lane.abandoned == count
    lane.close()


async def test_calls_behind_a_silent_one_are_not_begun_later(silent_port: int) -> None:
    lane = Lane("127.0.0.1", silent_port, timeout_s=0.3)
    begun: list[str] = []
    blocked = threading.Event()

    def block(_connection: object) -> None:
        begun.append("first")
        blocked.wait(5)

    def second(_connection: object) -> None:
        begun.append("second")

    lane._calls = None
    results = await asyncio.gather(lane.run(block), lane.run(second), return_exceptions=True)
    assert all(isinstance(result, CupsSilentError) for result in results)
    blocked.set()
    await asyncio.sleep(0.2)
    assert "second" not in begun
    lane.close()


async def test_loop_goes_on_while_a_call_waits(silent_port: int) -> None:
    """The call waits for the loop: were it the other way round too, the call would give up."""
    lane = Lane("127.0.0.1", silent_port, timeout_s=60)
    loop, reached, let_go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait(_connection: object) -> bool:
        loop.call_soon_threadsafe(reached.set)
        return let_go.wait(30)

    async def go_on() -> None:
        await reached.wait()
        let_go.set()

    waited, _ = await asyncio.gather(lane.run(wait), go_on())
    assert waited
    assert lane.abandoned == 0
    lane.close()


async def test_server_that_is_off_is_the_same_error_at_once(closed_port: int) -> None:
    lane = Lane("127.0.0.1", closed_port, timeout_s=60)
    began = time.monotonic()
    with pytest.raises(CupsSilentError):
        await lane.run(lambda connection: connection.getPrinters())
    assert time.monotonic() - began < 30  # half of what it may take
    assert lane.abandoned == 0
    lane.close()


async def test_silent_or_absent_printer_is_unreachable(silent_port: int, closed_port: int) -> None:
    printers = Printers(timeout_s=0.3)
    for port in (silent_port, closed_port):
        assert await printers.ask(f"ipp://127.0.0.1:{port}/ipp/print", "ps-x-1-1") == Unreachable()
        assert await printers.see(f"ipp://127.0.0.1:{port}/ipp/print") is None
    await printers.close()


def _attribute(tag: int, name: str, value: bytes) -> bytes:
    return bytes([tag]) + len(name).to_bytes(2) + name.encode() + len(value).to_bytes(2) + value


def _reply(status: int, *groups: bytes) -> bytes:
    head = b"\x02\x00" + status.to_bytes(2) + b"\x00\x00\x00\x01\x01"
    charset = _attribute(0x47, "attributes-charset", b"utf-8") + _attribute(0x48, "attributes-natural-language", b"en")
    return head + charset + b"".join(groups) + b"\x03"


def _job(name: str, state: int, impressions: int | None) -> bytes:
    group = b"\x02" + _attribute(0x42, "job-name", name.encode()) + _attribute(0x23, "job-state", state.to_bytes(4))
    if impressions is not None:
        group += _attribute(0x21, "job-impressions-completed", impressions.to_bytes(4))
    return group


_UP = b"\x04" + _attribute(0x21, "printer-up-time", (77).to_bytes(4))


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([_reply(0, _job("ps-x-1-1", 9, 1), _job("other", 5, 0))], Heard((PrinterJob(9, 1),))),
        ([_reply(0, _job("ps-x-1-1", 9, None))], Heard((PrinterJob(9, None),))),
        ([_reply(0, _job("other", 9, 1)), _reply(0, _UP)], Heard((), 77)),
        ([_reply(0), _reply(0, _UP)], Heard((), 77)),
        # An older printer: "all" is not known, the two older keywords are.
        (
            [_reply(0x040B), _reply(0), _reply(0, _job("ps-x-1-1", 8, 0))],
            Heard((PrinterJob(8, 0),)),
        ),
        ([_reply(0x0501)], Mute()),
        ([_reply(0x0403)], Mute()),
        ([_reply(0x0507)], Unreachable()),
        ([b"nonsense"], Unreachable()),
        ([b""], Unreachable()),
        ([_reply(0, _job("ps-x-1-1", 9, 1))[:-9]], Unreachable()),
        # The list is empty and then the printer is gone: that is not "no such job".
        ([_reply(0), b""], Unreachable()),
    ],
)
async def test_what_a_printer_answers(replies: list[bytes], expected: object) -> None:
    from aiohttp import web

    left = list(replies)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=left.pop(0), content_type="application/ipp")

    application = web.Application()
    application.router.add_post("/ipp/print", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    printers = Printers(timeout_s=60)
    try:
        uri = f"ipp://127.0.0.1:{runner.addresses[0][1]}/ipp/print"
        assert await printers.ask(uri, "ps-x-1-1") == expected
        assert left == []
    finally:
        await printers.close()
        await runner.cleanup()
