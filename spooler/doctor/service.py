"""Looks at the line to the service: address, certificate, token, protocol, clock. Asks, and changes nothing there."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from urllib.parse import urlsplit

import aiohttp

from printsvc.errors import AccessError
from spooler.doctor.report import Check, Status, ok
from spooler.link import DocumentWrongError, Link, LinkDownError
from spooler.protocol import OLDEST_PROTOCOL, PROTOCOL_VERSION, Hello
from spooler.settings import Settings

_ABOUT = "service"
SKEW_ADVICE_S, SKEW_PROBLEM_S = 5.0, 120.0
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


async def look_at_service(
    settings: Settings, *, url: str, token: str, version: str, clock: Callable[[], datetime]
) -> AsyncIterator[Check]:
    """Look at the service at `url`; `token` is "" where the agent is not enrolled."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield Check(
            _ABOUT,
            "url",
            Status.PROBLEM,
            f"the service's address is {url!r}" if url else "the service's address is not set",
            "địa chỉ dịch vụ chưa đúng",
            "set PRINTSVC_SPOOLER_URL=https://…, or enrol with --url",
            "đặt PRINTSVC_SPOOLER_URL=https://…, hoặc đăng ký với --url",
        )
        return
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        yield Check(
            _ABOUT,
            "url-plain",
            Status.PROBLEM,
            "the line is not encrypted: certificates and the token can be read on the way",
            "đường truyền không mã hoá: có thể bị đọc trộm giấy tờ và mã truy cập",
            "use https://",
            "dùng https://",
        )
    try:
        link = Link(url, token=token, ca_file=settings.ca_file, timeout_s=settings.request_timeout_s)
    except (OSError, ssl.SSLError) as error:
        yield Check(
            _ABOUT,
            "ca-file",
            Status.PROBLEM,
            f"the certificates in {settings.ca_file} cannot be read: {error}",
            f"không đọc được tệp chứng thư {settings.ca_file}",
            "mend PRINTSVC_SPOOLER_CA_FILE: it names a PEM file that the agent's user may read",
            "sửa PRINTSVC_SPOOLER_CA_FILE: tệp PEM mà người dùng của tiến trình in đọc được",
        )
        return
    try:
        began = clock()
        async for check in _ask(link, url=url, token=token, version=version, began=began, clock=clock):
            yield check
    finally:
        await link.close()


async def _ask(
    link: Link, *, url: str, token: str, version: str, began: datetime, clock: Callable[[], datetime]
) -> AsyncIterator[Check]:
    try:
        hello = await link.hello()
    except LinkDownError as error:
        yield _unreachable(url, error)
        return
    except AccessError as error:
        yield ok(_ABOUT, "reachable", f"{url} answers", f"{url} có trả lời")
        yield _refused(error)
        return
    ended = clock()
    yield ok(_ABOUT, "reachable", f"{url} answers", f"{url} có trả lời")
    for check in _versions(hello, version):
        yield check
    yield _clock_check(hello, began, ended)
    if not token:
        yield Check(
            _ABOUT, "token", Status.UNSEEN, "not enrolled: there is no token", "chưa đăng ký: chưa có mã truy cập"
        )
        return
    try:
        # Nothing has this digest: a service of version 1 then says whether it knows the token.
        await link.fetch("0" * 64, size=0, max_bytes=1_000_000)
    except DocumentWrongError:
        yield ok(_ABOUT, "token", "the service knows this agent", "dịch vụ nhận ra máy này")
    except AccessError as error:
        yield _refused(error)
    except LinkDownError as error:
        yield _unreachable(url, error)


def _refused(error: AccessError) -> Check:
    return Check(
        _ABOUT,
        "token-refused",
        Status.PROBLEM,
        error.en,
        error.vi,
        "ask an admin for a new code, then: printsvc-spooler enroll --code CODE --url URL",
        "xin mã mới của quản trị viên, rồi: printsvc-spooler enroll --code MÃ --url ĐỊA_CHỈ",
    )


def _versions(hello: Hello | None, version: str) -> list[Check]:
    theirs = hello.protocol if hello else 1
    oldest = hello.oldest_protocol if hello else 1
    program = (hello.service_version if hello else "") or "?"
    told = f"agent {version or '?'} speaks protocol {PROTOCOL_VERSION}, service {program} speaks {theirs}"
    told_vi = f"máy này {version or '?'} dùng giao thức {PROTOCOL_VERSION}, dịch vụ {program} dùng {theirs}"
    if oldest > PROTOCOL_VERSION:
        mend = "bring this agent up to date: apt install ./printsvc-spooler_….deb"
        mend_vi = "cập nhật phần mềm tại điểm: apt install ./printsvc-spooler_….deb"
        return [Check(_ABOUT, "agent-too-old", Status.PROBLEM, told, told_vi, mend, mend_vi)]
    if theirs < OLDEST_PROTOCOL:
        mend, mend_vi = "the service is too old for this agent: tell the admin", "dịch vụ quá cũ: báo quản trị viên"
        return [Check(_ABOUT, "service-too-old", Status.PROBLEM, told, told_vi, mend, mend_vi)]
    return [ok(_ABOUT, "protocol", told, told_vi)]


def _clock_check(hello: Hello | None, began: datetime, ended: datetime) -> Check:
    if hello is None:
        return Check(
            _ABOUT,
            "clock",
            Status.UNSEEN,
            "the service is of version 1: it does not tell its time",
            "không rõ giờ dịch vụ",
        )
    skew_s = ((began + (ended - began) / 2) - hello.server_time).total_seconds()
    told, told_vi = (
        f"this clock is {skew_s:+.1f} s off the service's",
        f"đồng hồ lệch {skew_s:+.1f} giây so với dịch vụ",
    )
    if abs(skew_s) <= SKEW_ADVICE_S:
        return ok(_ABOUT, "clock", told, told_vi)
    status = Status.PROBLEM if abs(skew_s) > SKEW_PROBLEM_S else Status.ADVICE
    mend = "timedatectl set-ntp true"
    return Check(_ABOUT, "clock-skew", status, told, told_vi, mend, mend)


def _unreachable(url: str, error: LinkDownError) -> Check:
    """Return what is in the way, as far as the error says."""
    why_en, why_vi, mend_en, mend_vi = (
        error.en,
        "không kết nối được dịch vụ",
        "check the line and the address; papers that are here are printed meanwhile",
        "kiểm tra đường truyền và địa chỉ; giấy đã nhận vẫn được in",
    )
    for cause in _causes(error):
        if isinstance(cause, aiohttp.ClientConnectorCertificateError | ssl.SSLError):
            why_en, why_vi = "its certificate is not trusted here", "chứng thư của dịch vụ không được tin cậy"
            mend_en = "check this computer's clock; for an authority of your own, set PRINTSVC_SPOOLER_CA_FILE"
            mend_vi = "kiểm tra đồng hồ máy; nếu dùng CA riêng, đặt PRINTSVC_SPOOLER_CA_FILE"
            break
        if isinstance(cause, socket.gaierror):
            why_en, why_vi = "its name is not known", "không phân giải được tên máy chủ"
            mend_en, mend_vi = "check the address, and the line's DNS", "kiểm tra địa chỉ và DNS"
            break
        if isinstance(cause, ConnectionRefusedError):
            why_en, why_vi = "nothing listens there", "không có dịch vụ nào ở địa chỉ này"
            mend_en, mend_vi = "check address and port; tell the admin", "kiểm tra địa chỉ và cổng; báo quản trị viên"
            break
    return Check(_ABOUT, "unreachable", Status.PROBLEM, f"{url}: {why_en}", f"{url}: {why_vi}", mend_en, mend_vi)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        inner = getattr(error, "os_error", None)
        error = error.__cause__ or (inner if isinstance(inner, BaseException) else None) or error.__context__
    return found
