"""The line to the service: HTTPS calls of the wire protocol, with every failure turned into one of three errors.

All calls may be repeated: the service applies each report once and gives a lost lease again.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import ssl
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from pydantic import ValidationError
from yarl import URL

from printsvc.errors import AccessError, InputError, SiteError
from spooler import compact
from spooler.core.attempt import stops_paper
from spooler.meter import Meter
from spooler.protocol import (
    EnrollAnswer,
    EnrollRequest,
    FormName,
    Hello,
    LeaseAnswer,
    LeaseRequest,
    LineAnswer,
    LineRequest,
    Message,
    PrinterReport,
    ReportAnswer,
    ReportRequest,
)

M = TypeVar("M", bound=Message)

_GZIP_FROM_BYTES: Final = 1024
_ANSWER_MAX_BYTES: Final = 16_000_000
_FORM_MAX_BYTES: Final = 8_000_000
_MOST_PIECES: Final = 16  # half-fetched documents that are kept
_IDLE: Final = 3  # RFC 8011, 5.4.11 printer-state
_STOPPED: Final = 5
_KEPT_S: Final = 90.0  # an idle connection; a new one costs a handshake
_TELL_AGAIN_S: Final = 900.0  # printers that did not change: the service may come from a backup


class LinkDownError(SiteError):
    """The service gave no usable answer; whether it acted is not known. `retry_after_s` is 0 where it did not say."""

    code = "service_unreachable"


class DocumentWrongError(InputError):
    """The service has no such document, or sent another one than its digest says."""

    code = "document_wrong"


def _why(error: Exception) -> tuple[str, str]:
    """Return why a call failed, as a person can use it."""
    match error:
        case aiohttp.InvalidURL():
            return (
                "this is no address (http:// or https://, a name, a port)",
                "địa chỉ không đúng dạng http(s)://TÊN:CỔNG",
            )
        case aiohttp.ClientConnectorDNSError():
            return "no computer has this name", "không tìm thấy máy có tên này"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "its certificate is not trusted here, or it speaks no TLS", "chứng thư TLS không được tin cậy"
        case aiohttp.ClientConnectorError():
            return "nothing answers there", "không có máy nào trả lời"
        case TimeoutError():
            return "no answer in time", "không trả lời kịp"
        case _:
            return f"the line was cut ({type(error).__name__})", f"mất kết nối ({type(error).__name__})"


def backoff_s(failures: int, jitter: float, *, longest_s: float) -> float:
    """Return the pause after that many failures in a row: full jitter, `jitter` being in 0..1.

    Thousands of agents lose a service at one moment and must not come back at one moment.
    """
    return jitter * min(longest_s, 2.0 ** min(failures, 16))


def worth_telling(printers: Sequence[PrinterReport]) -> tuple[PrinterReport, ...]:
    """Return the printers without what changes with every page: a line is not used to say that one began to print.

    CUPS tells its progress by reasons too ("cups-waiting-for-job-completed"): they have no severity.
    """
    return tuple(
        one.model_copy(
            update={
                "marker_levels": (),
                "state": _STOPPED if one.state == _STOPPED else _IDLE,
                "state_reasons": tuple(r for r in one.state_reasons if stops_paper(r) or r.endswith("-warning")),
            }
        )
        for one in printers
    )


class Link:
    """One HTTP session to the service. Made and closed inside a running event loop.

    `meter` counts the bytes of every connection. Where the service understands it, leases and reports go packed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        ca_file: Path | None = None,
        timeout_s: float = 15.0,
        packs: bool = True,
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._packs = packs
        self._words = 0  # the packing that both sides know; 0: none, or not known yet
        self._site_words = b""
        self._told: tuple[PrinterReport, ...] | None = None  # the printers that the service knows, and until when
        self._told_until = 0.0
        self._pieces: dict[str, bytearray] = {}
        self.meter = Meter()
        context = ssl.create_default_context()
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        connector = aiohttp.TCPConnector(ssl=context, socket_factory=self.meter.socket_of, keepalive_timeout=_KEPT_S)
        self._session = aiohttp.ClientSession(connector=connector)

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
        printers = request.printers
        now = asyncio.get_running_loop().time()
        same = bool(self._words) and now < self._told_until and worth_telling(printers) == self._told
        if self._words:
            words = self._site_words  # of this call: another one may bring newer ones meanwhile
            changes: dict[str, object] = {"site_words": compact.crc_of(words)}
            if same:
                changes |= {"printers": (), "printers_same": True}
            asked = LineRequest(lease=request.model_copy(update=changes))
            answer = (await self._exchange(asked, words, extra_s=request.wait_s)).lease
            if answer is None:
                raise LinkDownError("the service sent no LeaseAnswer", retry_after_s=0)
        else:
            answer = await self._post("lease", request, LeaseAnswer, extra_s=request.wait_s)
        if not same:
            self._told, self._told_until = worth_telling(printers), asyncio.get_running_loop().time() + _TELL_AGAIN_S
        self._site_words = compact.site_words(answer) or self._site_words
        if self._packs:
            self._words = min(answer.line, compact.NEWEST)
        return answer

    async def report(self, request: ReportRequest) -> ReportAnswer:
        """Bring events. Raises AccessError or LinkDownError: then they are to be brought again."""
        if not self._words:
            return await self._post("report", request, ReportAnswer)
        answer = (await self._exchange(LineRequest(report=request))).report
        if answer is None:
            raise LinkDownError("the service sent no ReportAnswer", retry_after_s=0)
        return answer

    async def fetch(self, sha256: str, *, size: int, max_bytes: int) -> bytes:
        """Return the document of that digest. Raises DocumentWrongError, AccessError or LinkDownError.

        What came before the line was cut is kept, and the next call goes on from there.
        """
        if size > max_bytes:
            raise DocumentWrongError(en="the document is larger than this agent takes", code="document-too-large")
        content = await self._fetch_pieces(sha256, f"documents/{sha256}", max_bytes)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DocumentWrongError(en="the document is not what its digest says", code="document-digest")
        return content

    async def fetch_form(self, name: FormName) -> bytes:
        """Return a compiled form as it is encoded; its digest is for the caller to check. Errors are those of fetch."""
        path = f"forms/{quote(name.digest, safe='')}?{urlencode({'form': name.form})}"
        squeezed = await self._fetch_pieces(name.digest, path, _FORM_MAX_BYTES)
        inflater = zlib.decompressobj()
        try:
            encoded = inflater.decompress(squeezed, _FORM_MAX_BYTES)
        except zlib.error as error:
            raise DocumentWrongError(en="the compiled form is damaged", code="form-damaged") from error
        if not inflater.eof:
            raise DocumentWrongError(en="the compiled form is too large or cut", code="form-damaged")
        return encoded

    async def _fetch_pieces(self, key: str, path: str, max_bytes: int) -> bytes:
        if key not in self._pieces and len(self._pieces) >= _MOST_PIECES:
            self._pieces.pop(next(iter(self._pieces)))
        piece = self._pieces.setdefault(key, bytearray())
        had = len(piece)
        headers = {"Range": f"bytes={had}-"} if had else {}
        status, content, retry_after_s = await self._call(
            "GET", path, None, headers=headers, max_bytes=max_bytes, into=piece
        )
        if status != 206 or content is not piece:
            del self._pieces[key]
        if status in (404, 410):
            raise DocumentWrongError(en="the service has no such document", code="document-missing")
        self._expect_ok(200 if status == 206 else status, retry_after_s)
        self._pieces.pop(key, None)
        return bytes(content)

    async def _exchange(self, request: LineRequest, site_words: bytes = b"", *, extra_s: float = 0.0) -> LineAnswer:
        try:
            body = compact.join_request(self._token, compact.pack(request, self._words))
        except ValueError:
            self._packs, self._words = False, 0
            raise LinkDownError("this token cannot be packed", retry_after_s=0) from None
        status, content, retry_after_s = await self._call("POST", "line", body, extra_s=extra_s)
        if status in (400, 404, 405, 422):
            self._words = 0  # an older service is back in its place, or has other words: plainly, then
        self._expect_ok(status, retry_after_s)
        try:
            fields = compact.unpack(bytes(content), site_words=site_words)
            return LineAnswer.model_validate(fields)
        except (compact.ProtocolError, ValidationError) as error:
            self._words, self._site_words = 0, b""
            raise LinkDownError("the service sent no LineAnswer", retry_after_s=0) from error

    async def _post(self, verb: str, request: Message, answer: type[M], *, extra_s: float = 0.0) -> M:
        body = request.model_dump_json().encode()
        status, content, retry_after_s = await self._call("POST", verb, body, extra_s=extra_s)
        self._expect_ok(status, retry_after_s)
        try:
            return answer.model_validate_json(bytes(content))
        except ValidationError as error:
            raise LinkDownError(f"the service sent no {answer.__name__}", retry_after_s=0) from error

    async def _call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        extra_s: float = 0.0,
        max_bytes: int = _ANSWER_MAX_BYTES,
        into: bytearray | None = None,
    ) -> tuple[int, bytearray, int]:
        """Return status, content and Retry-After; a 206 goes on in `into`, which also keeps what a cut line left."""
        sent = dict(headers)
        skipped = ["User-Agent", "Accept"]
        if path == "line":
            skipped += ["Accept-Encoding", "Content-Type"]  # packed both ways, and the token is in the body
        else:
            if body is not None:
                sent["Content-Type"] = "application/json"
                if len(body) >= _GZIP_FROM_BYTES:
                    body = gzip.compress(body, 5, mtime=0)
                    sent["Content-Encoding"] = "gzip"
            else:
                skipped.append("Accept-Encoding")  # what is fetched is compressed already
            if self._token:
                sent["Authorization"] = f"Bearer {self._token}"
        timeout = aiohttp.ClientTimeout(
            total=None if into is not None else self._timeout_s + extra_s,
            connect=self._timeout_s,
            sock_read=self._timeout_s + extra_s,
        )
        try:
            async with self._session.request(
                method,
                URL(f"{self._url}/agent/v1/{path}"),
                data=body,
                headers=sent,
                skip_auto_headers=skipped,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                content = into if into is not None and response.status in (200, 206) else bytearray()
                if response.status == 200:
                    content.clear()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > max_bytes:
                        content.clear()
                        raise LinkDownError("the service sent more than was agreed", retry_after_s=0)
                return response.status, content, _retry_after_s(response.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # ValueError: an URL that is none, or a header or body that cannot be read.
            en, vi = _why(error)
            place = self._url.rpartition("@")[2]  # without a name and password
            raise LinkDownError(
                f"The service cannot be reached at {place}: {en}.",
                vi=f"Không kết nối được dịch vụ tại {place}: {vi}.",
                retry_after_s=0,
            ) from error

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
