"""Every error has a status and both languages; what is not ours tells nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from printsvc_api_harness import Api

from printsvc import errors
from printsvc.errors import (
    AccessError,
    CodeError,
    DuplicateError,
    InputError,
    PrintsvcError,
    UnavailableError,
)
from printsvc.log import quiet_broken_body
from printsvc.render.compiler.drawing import TemplateFaultError, compile_error
from printsvc.web.problems import STATUS, document_of, response_of, status_of

SECRET = "NGUYỄN THỊ BÍ MẬT 001185012345"


def tree(kind: type[PrintsvcError] = PrintsvcError) -> Iterator[type[PrintsvcError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("printsvc."):
            yield child
            yield from tree(child)


def make(kind: type[PrintsvcError]) -> PrintsvcError:
    if issubclass(kind, AccessError):
        return kind(403, "No.")
    if issubclass(kind, DuplicateError):
        return kind(["/dose/lot"], "Other.")
    if issubclass(kind, CodeError):
        return kind("cose", "Broken.")
    if issubclass(kind, TemplateFaultError):
        return compile_error("a4/43-2022", "broken")  # type: ignore[return-value]
    return kind() if issubclass(kind, InputError) else kind("Broken.")


def test_the_walk_finds_the_tree() -> None:
    assert {errors.ScanError, errors.StoreError, errors.StoreLockedError, errors.NotHcertError} <= set(tree())


@pytest.mark.parametrize("kind", sorted(set(tree()), key=lambda kind: kind.__name__))
def test_every_class_has_a_status(kind: type[PrintsvcError]) -> None:
    assert any(issubclass(kind, listed) for listed, _ in STATUS), "put it into STATUS"
    error = make(kind)
    document = document_of(error)
    assert document["status"] == status_of(error) == response_of(error).status
    assert 400 <= document["status"] <= 503
    assert document["code"] == kind.code
    assert document["type"] == f"urn:printsvc:problem:{kind.code}"
    assert document["title"] != "Error"
    answer = response_of(error)
    assert answer.content_type == "application/problem+json"
    assert ("Retry-After" in answer.headers) == (answer.status in (429, 503))
    if isinstance(error, UnavailableError):
        assert answer.headers["Retry-After"] == str(error.retry_after_s)


@pytest.fixture
def failing(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    async def fail(self: Any, unit: Any) -> Any:
        raise KeyError(SECRET)

    monkeypatch.setattr("printsvc.store.engine.Store.read", fail)
    return api


async def test_an_unexpected_exception_is_500_without_its_text(
    failing: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await failing.call("GET", "/v1/sites", by="admin")
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body["code"] == "internal"
    out, err = capsys.readouterr()
    for word in SECRET.split():
        assert word not in json.dumps(answer.body, ensure_ascii=False) + out + err


# --- requests that no client of ours makes

_ADMIN = b"Host: a\r\nAuthorization: Bearer ps_token-of-admin\r\n\r\n"
RAW = {
    "two lengths": b"POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 30\r\n\r\n{}",
    "length and chunks": b"POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "odd encoding": b"POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "negative length": b"POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "header without name": b"GET /healthz HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "space before colon": b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
    "long header": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "long path": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "no protocol": b"GET /v1/sites\r\n\r\n",
    "other protocol": b"GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n",
    "nonsense": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "expectation": b"POST /v1/verify HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nContent-Length: 2\r\n\r\n{}",
    "bad gzip": b"POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "token of bytes": b"GET /v1/sites HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    "agent's token of bytes": b"POST /agent/v1/lease HTTP/1.1\r\nHost: a\r\n"
    b"Authorization: Bearer \xff\r\nContent-Length: 2\r\n\r\n{}",
    "no token": b"GET /v1/sites HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer\r\n\r\n",
    "other scheme": b"GET /v1/sites HTTP/1.1\r\nHost: a\r\nAuthorization: Basic ps_token-of-admin\r\n\r\n",
    "path out of the tree": b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    "zero byte": b"GET /v1/doses/%00 HTTP/1.1\r\n" + _ADMIN,
    "zero byte in a query": b"GET /v1/stats?site_id=%00 HTTP/1.1\r\n" + _ADMIN,
    "half a surrogate pair": b"GET /v1/doses/%ED%A0%80 HTTP/1.1\r\n" + _ADMIN,
    "bad percent": b"GET /v1/doses/%zz%f HTTP/1.1\r\n" + _ADMIN,
    "bytes in the path": b"GET /v1/doses/\xff\xfe HTTP/1.1\r\n" + _ADMIN,
    "method of nobody": b"BREW /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "wrong method": b"PUT /v1/doses HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "odd content type": b"POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Type: ;;;/\r\nContent-Length: 1\r\n\r\n{",
}


@pytest.mark.parametrize("name", RAW)
async def test_odd_requests_are_refused_and_the_service_lives_on(api: Api, name: str) -> None:
    server = api.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(RAW[name])
    status_line = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()
    assert 400 <= int(status_line.split()[1]) < 500, status_line
    assert (await api.call("GET", "/healthz")).status == 200


async def test_a_client_that_hangs_up_in_the_middle_harms_nobody(api: Api) -> None:
    server = api.client.server
    for sent in (b"Content-Length: 500\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", b""):
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST /v1/verify HTTP/1.1\r\nHost: a\r\n" + sent)
        await writer.drain()
        writer.transport.abort()
    assert (await api.call("GET", "/healthz")).status == 200
    metrics = (await api.call("GET", "/metrics")).body.decode()
    assert 'status="500"' not in metrics


async def test_a_wrong_method_says_which_are_right(api: Api) -> None:
    answer = await api.call("PUT", "/v1/sites", {})
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,POST")
    assert answer.body["code"] == "http_405"
    missing = await api.call("GET", "/v1/no-such-thing")
    assert (missing.status, missing.body["title"]) == (404, "Not found")
    assert missing.body["detail"] != missing.body["detail_vi"]


async def test_a_body_that_is_not_gzip_is_no_fault_of_ours(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    server_log = logging.getLogger("aiohttp.server")
    server_log.addFilter(quiet_broken_body)
    caplog.set_level(logging.INFO)
    try:
        answer = await api.call("POST", "/v1/verify", data=b"{}", headers={"Content-Encoding": "gzip"}, by=None)
        assert (answer.status, answer.headers["Connection"]) == (400, "close")
        assert (await api.call("GET", "/healthz", by=None)).status == 200
    finally:
        server_log.removeFilter(quiet_broken_body)
    said = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert {record.getMessage() for record in said} == {"the body of a request was broken"}
    assert {record.levelno for record in said} == {logging.INFO}
    assert not any(record.exc_info for record in said)
