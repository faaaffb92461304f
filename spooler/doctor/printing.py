"""Looks at CUPS, its configuration, our backend, and each queue with the printer behind it. Changes nothing."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

from spooler.cupsd import look, server
from spooler.cupsd.findings import (
    advise_queue,
    check_cups_files_conf,
    check_cupsd_conf,
    check_queue,
    check_queue_settings,
    check_queue_state,
)
from spooler.cupsd.lane import CupsRefusedError, CupsSilentError, Lane
from spooler.cupsd.printer import Printers
from spooler.cupsd.server import ONCE, CupsQueue, printer_uri_of
from spooler.doctor.report import Check, Status, of_finding, ok
from spooler.settings import Settings

_ABOUT = "cups"
A4 = "iso_a4_210x297mm"
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


async def look_at_printing(settings: Settings) -> AsyncIterator[Check]:
    """Look at cupsd, and at each queue that the agent may use."""
    lane = Lane(settings.cups_host, settings.cups_port, timeout_s=settings.cups_timeout_s)
    printers = Printers(timeout_s=settings.printer_timeout_s)
    where = f"{settings.cups_host}:{settings.cups_port}"
    try:
        try:
            queues = await lane.run(lambda c: server.see_queues(c, settings.queues))
        except (CupsSilentError, CupsRefusedError) as error:
            yield Check(
                _ABOUT,
                "cups-silent",
                Status.PROBLEM,
                f"CUPS does not answer at {where}: {error.en}",
                f"CUPS không trả lời tại {where}",
                "systemctl start cups; or set PRINTSVC_SPOOLER_CUPS_HOST and …_CUPS_PORT",
                "systemctl start cups; hoặc đặt PRINTSVC_SPOOLER_CUPS_HOST và …_CUPS_PORT",
            )
            return
        yield ok(_ABOUT, "cups", f"CUPS answers at {where}", f"CUPS trả lời tại {where}")
        texts = {name: await _read_conf(lane, settings, name) for name in ("cupsd.conf", "cups-files.conf")}
        for check in _look_at_conf(settings, texts):
            yield check
        for check in _look_at_once(settings, texts["cups-files.conf"] or ""):
            yield check
        for name in sorted(set(settings.queues) - {queue.name for queue in queues}):
            yield Check(
                name,
                "queue-missing",
                Status.PROBLEM,
                "PRINTSVC_SPOOLER_QUEUES names it, and CUPS does not know it",
                "có trong PRINTSVC_SPOOLER_QUEUES nhưng CUPS không có",
                f"lpadmin -p {name} -E -m everywhere -v ipp://ADDRESS/ipp/print",
                f"lpadmin -p {name} -E -m everywhere -v ipp://ĐỊA_CHỈ/ipp/print",
            )
        if not queues:
            yield Check(
                _ABOUT,
                "no-queue",
                Status.PROBLEM,
                "there is no queue",
                "chưa có hàng đợi nào",
                "add the printer: lpadmin -p desk1 -E -m everywhere -v ipp://ADDRESS/ipp/print",
                "thêm máy in: lpadmin -p desk1 -E -m everywhere -v ipp://ĐỊA_CHỈ/ipp/print",
            )
        for queue in queues:
            async for check in _look_at_queue(lane, printers, queue):
                yield check
    finally:
        lane.close()
        await printers.close()


async def _read_conf(lane: Lane, settings: Settings, name: str) -> str | None:
    """Return a configuration file: from the disk where CUPS is here, else as cupsd sends it; None: it is not shown."""
    if settings.cups_host in _LOCAL or settings.cups_host.startswith("/"):
        try:
            return (settings.cups_conf_dir / name).read_text("utf-8", "replace")
        except OSError:
            pass
    try:
        return await lane.run(lambda c: look.read_conf(c, name))
    except (CupsSilentError, CupsRefusedError):
        return None


def _look_at_conf(settings: Settings, texts: dict[str, str | None]) -> Iterator[Check]:
    place = {name: str(settings.cups_conf_dir / name) for name in texts}
    for name, text in texts.items():
        if text is None:
            yield Check(
                _ABOUT,
                "conf-unseen",
                Status.UNSEEN,
                f"{place[name]} may not be read",
                f"không đọc được {place[name]}",
                "run doctor as root",
                "chạy doctor bằng quyền root",
            )
            continue
        if name == "cupsd.conf":
            findings = check_cupsd_conf(text, place=place[name], thorough=True)
        else:
            findings = check_cups_files_conf(text, place=place[name])
        for finding in findings:
            yield of_finding(_ABOUT, finding)
        if not findings:
            yield ok(_ABOUT, f"{name}-right", f"{name} is right: no job is lost or given up", f"{name} đã đúng")


def _said(text: str, name: str, default: str) -> str:
    """Return what cups-files.conf says of ServerBin, or of a variable that it sets."""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words[:-1] == name.split():
            default = words[-1]
    return default


def _look_at_once(settings: Settings, text: str) -> Iterator[Check]:
    if settings.cups_host not in _LOCAL and not settings.cups_host.startswith("/"):
        yield Check(_ABOUT, "once-unseen", Status.UNSEEN, "CUPS is on another machine", "CUPS nằm trên máy khác")
        return
    backend = Path(_said(text, "ServerBin", "/usr/lib/cups")) / "backend" / ONCE
    markers = Path(_said(text, "SetEnv PRINTSVC_ONCE_DIR", "/var/lib/printsvc-once"))
    again = "apt install --reinstall printsvc-spooler"
    try:
        about = backend.stat()
    except OSError:
        yield Check(
            _ABOUT,
            "once-missing",
            Status.PROBLEM,
            f"the backend {backend} is not installed: CUPS may print a certificate twice",
            f"chưa cài {backend}: CUPS có thể in một giấy hai lần",
            again,
            again,
        )
        return
    if about.st_uid != 0 or about.st_mode & 0o022 or not about.st_mode & 0o100 or not stat.S_ISREG(about.st_mode):
        mend = f"chown root:root {backend}; chmod 0755 {backend}"
        yield Check(
            _ABOUT,
            "once-mode",
            Status.PROBLEM,
            f"{backend} has the mode {stat.filemode(about.st_mode)}, user {about.st_uid}: CUPS does not run it",
            f"{backend} có quyền {stat.filemode(about.st_mode)}: CUPS sẽ không chạy",
            mend,
            mend,
        )
    else:
        yield ok(_ABOUT, "once", f"the backend {ONCE} is installed", f"đã cài {ONCE}")
    user = _said(text, "User", "lp")
    mend = f"install -d -o {user} -g lp -m 0700 {markers}"
    try:
        about = markers.stat()
        is_there = stat.S_ISDIR(about.st_mode)
    except OSError:
        is_there = False
    if not is_there:
        yield Check(
            _ABOUT,
            "once-markers",
            Status.PROBLEM,
            f"the folder {markers} is missing: no certificate is printed without it",
            f"thiếu thư mục {markers}: không in được giấy nào",
            mend,
            mend,
        )
    elif not _may_write(about, user):
        yield Check(
            _ABOUT,
            "once-markers-mode",
            Status.PROBLEM,
            f"{markers} has the mode {stat.filemode(about.st_mode)}, user {about.st_uid}: CUPS's backends (user "
            f"{user}) cannot write there, and every certificate waits for ever",
            f"{markers} có quyền {stat.filemode(about.st_mode)}: CUPS (người dùng {user}) không ghi được, "
            "giấy sẽ chờ mãi",
            mend,
            mend,
        )
    elif os.geteuid() == 0 or os.access(markers.parent, os.R_OK):
        yield ok(_ABOUT, "once-markers", f"its marks are kept in {markers}", f"dấu in được giữ trong {markers}")


def _may_write(about: os.stat_result, user: str) -> bool:
    try:
        is_own = about.st_uid == pwd.getpwnam(user).pw_uid
    except KeyError:
        return True  # CUPS has no such user either, and says so itself
    return about.st_mode & 0o300 == 0o300 if is_own else about.st_mode & 0o003 == 0o003


async def _look_at_queue(lane: Lane, printers: Printers, queue: CupsQueue) -> AsyncIterator[Check]:
    found = [*check_queue(queue), *advise_queue(queue)]
    try:
        settings = await lane.run(lambda c: look.see_settings(c, queue.name))
        found += check_queue_settings(queue.name, settings, media=A4)
    except (CupsSilentError, CupsRefusedError) as error:
        yield Check(queue.name, "queue-unseen", Status.UNSEEN, error.en, error.vi)
    uri = printer_uri_of(queue.device_uri)
    facts = None if uri is None else await printers.see(uri)
    if facts is not None:
        reasons = queue.reasons + tuple(reason for reason in facts.reasons if reason not in queue.reasons)
        queue = replace(queue, reasons=reasons, state=5 if 5 in (facts.state, queue.state) else queue.state)
    found += check_queue_state(queue)
    if uri is not None and facts is None:
        yield Check(
            queue.name,
            "printer-silent",
            Status.PROBLEM,
            f"the printer does not answer at {uri}",
            f"máy in không trả lời tại {uri}",
            "switch it on, check its cable or network; a new address needs the queue to be made again",
            "bật máy in, kiểm tra cáp hoặc mạng; nếu đổi địa chỉ thì tạo lại hàng đợi",
        )
    elif facts is not None:
        yield ok(queue.name, "printer", f"the printer answers at {uri}", f"máy in trả lời tại {uri}")
        if low := [level for level in facts.marker_levels if 0 <= level < 10]:
            yield Check(
                queue.name,
                "marker-low",
                Status.ADVICE,
                f"ink or toner at {min(low)} %",
                f"mực còn {min(low)} %",
                "lay some ready",
                "chuẩn bị mực thay thế",
            )
    for finding in found:
        yield of_finding(queue.name, finding)
    if not found:
        yield ok(
            queue.name,
            "queue",
            f"driverless, A4, {queue.make_and_model}, takes jobs",
            f"không cần trình điều khiển, A4, {queue.make_and_model}, sẵn sàng",
        )
