"""What answers at a printer's address may be no printer: a router, a page of errors, nothing at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from spooler.core.witness import Unreachable
from spooler.cupsd.printer import Printers

NOT_UTF8 = b"<html>Kh\xf4ng t\xecm th\xe2\xfd</html>"


@pytest.fixture
async def printers() -> AsyncIterator[Printers]:
    opened = Printers(timeout_s=2)
    yield opened
    await opened.close()


@pytest.mark.parametrize(("status", "body"), [(404, NOT_UTF8), (401, NOT_UTF8), (500, b""), (200, b"<html>")])
async def test_another_server_at_the_address_is_no_answer(printers: Printers, status: int, body: bytes) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, body=body, content_type="text/html")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        uri = f"ipp://{host}:{port}/ipp/print"
        assert await printers.see(uri) is None
        assert await printers.traits(uri) is None
        assert isinstance(await printers.ask(uri, "ps-j1-1-1"), Unreachable)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("uri", ["ipp://host:99999/ipp", "ipp://[fe80::1%eth0]:1/ipp", "ipp://", "ipp:///ipp/print"])
async def test_an_address_that_is_none_is_no_answer(printers: Printers, uri: str) -> None:
    assert await printers.see(uri) is None
    assert isinstance(await printers.ask(uri, "ps-j1-1-1"), Unreachable)
