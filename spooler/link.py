"""The line to the service: HTTPS calls of the wire protocol, with every failure turned into one of three errors.

All calls may be repeated: the service applies each report once and gives a lost lease again.
"""

from __future__ import annotations

import gzip
import hashlib
import ssl
from pathlib import Path
from typing import TypeVar

import aiohttp
from pydantic import ValidationError

from printsvc.errors import AccessError, InputError, SiteError
from spooler.protocol import (
    EnrollAnswer,
    EnrollRequest,
    Hello,
    LeaseAnswer,
    LeaseRequest,
    Message,
    ReportAnswer,
    ReportRequest,
)

M = TypeVar("M", bound=Message)

_GZIP_FROM_BYTES = 1024
_ANSWER_MAX_BYTES = 16_000_000


class LinkDownError(SiteError):
    """The service gave no usable answer; whether it acted is not known. `retry_after_s` is 0 where it did not say."""

    code = "service_unreachable"


class DocumentWrongError(InputError):
    """The service has no such document, or sent another one than its digest says."""

    code = "document_wrong"


def backoff_s(failures: int, jitter: float, *, longest_s: float) -> float:
    """Return the pause after that many failures in a row: full jitter, `jitter` being in 0..1.

    Thousands of agents lose a service at one moment and must not come back at one moment.
    """
    return jitter * min(longest_s, 0.5 * 2.0 ** min(failures, 16))


class Link:
    """One HTTP session to the service. Made and closed inside a running event loop."""

    def __init__(self, url: str, *, token: str = "", ca_file: Path | None = None, timeout_s: float = 15.0) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        context = ssl.create_default_context()
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))

    async def close(self) -> None:
        await self._session.close()

    def use_token(self, token: str) -> None:
        self._token = token

    async def enroll(self, request: EnrollRequest) -> EnrollAnswer:
        """Trade the one-time code for a token. Raises AccessError for a code that is wrong or used, LinkDownError."""
        try:
            return await self._post("enroll", request, EnrollAnswer)
        except AccessError as error:
            raise AccessError(
                error.status,
                "The service does not take this code: it is wrong, out of date, or used by another agent.",
                vi="Mã đăng ký không đúng, hết hạn hoặc đã được dùng.",
            ) from error

    async def hello(self) -> Hello | None:
        """Return who is there; None: a service of version 1. Raises AccessError, LinkDownError."""
        status, content, retry_after_s = await self._call("GET", "hello", None)
        if status == 404:
            return None
        self._expect_ok(status, retry_after_s)
        try:
            return Hello.model_validate_json(content)
        except ValidationError as error:
            raise LinkDownError("what answers there is no service of ours", retry_after_s=0) from error

    async def lease(self, request: LeaseRequest) -> LeaseAnswer:
        """Ask for jobs; takes up to `request.wait_s`. Raises AccessError or LinkDownError."""
        return await self._post("lease", request, LeaseAnswer, extra_s=request.wait_s)

    async def report(self, request: ReportRequest) -> ReportAnswer:
        """Bring events. Raises AccessError or LinkDownError: then they are to be brought again."""
        return await self._post("report", request, ReportAnswer)

    async def fetch(self, sha256: str, *, size: int, max_bytes: int) -> bytes:
        """Return the document of that digest. Raises DocumentWrongError, AccessError or LinkDownError."""
        if size > max_bytes:
            raise DocumentWrongError(en="the document is larger than this agent takes", code="document-too-large")
        status, content, retry_after_s = await self._call("GET", f"documents/{sha256}", None, max_bytes=max_bytes)
        if status in (404, 410):
            raise DocumentWrongError(en="the service has no such document", code="document-missing")
        self._expect_ok(status, retry_after_s)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DocumentWrongError(en="the document is not what its digest says", code="document-digest")
        return content

    async def _post(self, verb: str, request: Message, answer: type[M], *, extra_s: float = 0.0) -> M:
        body = request.model_dump_json().encode()
        status, content, retry_after_s = await self._call("POST", verb, body, extra_s=extra_s)
        self._expect_ok(status, retry_after_s)
        try:
            return answer.model_validate_json(content)
        except ValidationError as error:
            raise LinkDownError(f"the service sent no {answer.__name__}", retry_after_s=0) from error

    async def _call(
        self, method: str, verb: str, body: bytes | None, *, extra_s: float = 0.0, max_bytes: int = _ANSWER_MAX_BYTES
    ) -> tuple[int, bytes, int]:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
            if len(body) >= _GZIP_FROM_BYTES:
                body = gzip.compress(body, 5, mtime=0)
                headers["Content-Encoding"] = "gzip"
        timeout = aiohttp.ClientTimeout(total=self._timeout_s + extra_s, connect=self._timeout_s)
        try:
            async with self._session.request(
                method,
                f"{self._url}/agent/v1/{verb}",
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                content = bytearray()
                async for chunk in response.content.iter_chunked(65536):
                    content += chunk
                    if len(content) > max_bytes:
                        raise LinkDownError("the service sent more than was agreed", retry_after_s=0)
                return response.status, bytes(content), _retry_after_s(response.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # ValueError: an URL that is none, or a header or body that cannot be read.
            raise LinkDownError(f"the service cannot be reached: {type(error).__name__}", retry_after_s=0) from error

    def _expect_ok(self, status: int, retry_after_s: int) -> None:
        if status in (401, 403):
            raise AccessError(
                status,
                "The service does not know this agent: enrol it again. No new job is printed.",
                vi="Hệ thống không nhận ra điểm in này: cần đăng ký lại. Tạm dừng in.",
            )
        if status != 200:
            raise LinkDownError(f"the service answered {status}", retry_after_s=retry_after_s)


def _retry_after_s(header: str) -> int:
    return min(int(header), 3600) if header.isascii() and header.isdigit() else 0
