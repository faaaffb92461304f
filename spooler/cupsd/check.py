"""What is wrong with a queue, its printer or cupsd's configuration, each with the mend, in both languages.

`Finding.stops`: certificates are not printed there until it is mended; the others lose or repeat a job some day.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spooler.cupsd.lane import Lane
from spooler.cupsd.printer import Printers, PrinterTraits
from spooler.cupsd.server import ONCE, printer_uri_of, read_cupsd_conf, see_queues
from spooler.protocol import QueueSettings

A4 = "iso_a4_210x297mm"

_CUPSD_CONF: Mapping[str, tuple[str, str, str, str]] = {
    # directive: what it should be, what cupsd does where nothing is said, why (en, vi)
    "DirtyCleanInterval": (
        "0",
        "30",
        "a crash of cupsd loses all queued jobs, and job ids are used again",
        "khi cupsd gặp sự cố thì mất lệnh in, và mã lệnh bị dùng lại",
    ),
    "MaxJobTime": (
        "0",
        "10800",
        "a job that waits three hours for paper is cancelled",
        "lệnh in chờ giấy quá ba giờ bị huỷ",
    ),
    "JobRetryLimit": ("0", "5", "a job is given up after some tries", "lệnh in bị bỏ sau vài lần thử"),
    "MaxJobs": ("0", "500", "a full list refuses new jobs", "danh sách đầy thì từ chối lệnh in mới"),
    "PreserveJobFiles": (
        "No",
        "86400",
        "printed certificates stay on this disk",
        "giấy chứng nhận đã in còn lưu trên máy",
    ),
}
_CUPS_FILES_CONF: Mapping[str, tuple[str, str, str, str]] = {
    "SyncOnClose": (
        "Yes",
        "No",
        "a power cut loses a job that CUPS has already taken",
        "mất điện thì mất lệnh in mà CUPS đã nhận",
    ),
}
_SAME = {"No": ("no", "off", "false", "0"), "Yes": ("yes", "on", "true")}
_QUEUE_ATTRIBUTES = [
    "printer-make-and-model",
    "printer-error-policy",
    "media-default",
    "media-supported",
    "print-scaling-default",
    "sides-supported",
    "printer-resolution-supported",
    "printer-is-shared",
]
_CUSTOM = re.compile(r"custom_(min|max)_(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)(mm|in)")


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    stops: bool
    en: str
    vi: str
    mend_en: str
    mend_vi: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def directives(text: str) -> dict[str, str]:
    """Return directive (lower case) → value of a configuration; the last of several lines counts, as for cupsd."""
    said = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split(None, 1)
        if len(words) == 2:
            said[words[0].lower()] = words[1].strip()
    return said


def check_conf(text: str | None, name: str) -> list[Finding]:
    """Return what is wrong in cupsd.conf or cups-files.conf (`name`); `text` None: it could not be read."""
    if text is None:
        return [
            Finding(
                f"{name}-unreadable",
                False,
                f"{name} could not be read: its settings were not looked at.",
                f"Không đọc được {name}: chưa kiểm tra được cấu hình.",
                f"Let the agent read /etc/cups/{name}, or compare it with docs/printing.md by hand.",
                f"Hãy cho tiến trình in đọc /etc/cups/{name}, hoặc so với docs/printing.md.",
            )
        ]
    wanted = _CUPSD_CONF if name == "cupsd.conf" else _CUPS_FILES_CONF
    said, findings = directives(text), []
    for directive, (right, default, en, vi) in wanted.items():
        value = said.get(directive.lower(), default)
        if value.lower() in _SAME.get(right, (right,)):
            continue
        findings.append(
            Finding(
                f"cupsd-{directive.lower()}",
                False,
                f"{directive} is {value}: {en}.",
                f"{directive} đang là {value}: {vi}.",
                f"Write {directive} {right} in /etc/cups/{name}; drain the queues, then restart cupsd.",
                f"Ghi {directive} {right} vào /etc/cups/{name}; rút cạn hàng đợi rồi khởi động lại cupsd.",
            )
        )
    return findings


def read_file(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None


def has_once(cups_files: str | None) -> bool | None:
    """Return whether the once backend is installed for this cupsd; None where that cannot be seen."""
    server_bin = directives(cups_files or "").get("serverbin", "/usr/lib/cups")
    backends = Path(server_bin) / "backend"
    with contextlib.suppress(OSError):
        if backends.is_dir():
            return os.access(backends / ONCE, os.X_OK)
    return None


def check_queue(
    connection: Any, name: str, *, media: str, dpi: int, traits: PrinterTraits | None, once: bool | None
) -> tuple[dict[str, Any], list[Finding]]:
    """Return what the queue is, and what is wrong with it. `dpi` is what the centre has set, 0 for nothing."""
    found = see_queues(connection, [name])
    if not found:
        return {}, [
            Finding(
                "no-such-queue",
                True,
                f"CUPS has no queue {name}.",
                f"CUPS không có hàng đợi {name}.",
                f"printsvc printers add SITE {name} ipp://HOST/ipp/print",
                f"printsvc printers add SITE {name} ipp://HOST/ipp/print",
            )
        ]
    queue = found[0]
    attributes = connection.getPrinterAttributes(name, requested_attributes=_QUEUE_ATTRIBUTES)
    supported = tuple(str(one) for one in attributes.get("media-supported") or ())
    sides = tuple(str(one) for one in attributes.get("sides-supported") or ())
    facts = {
        "make_and_model": queue.make_and_model,
        "device_uri": queue.device_uri,
        "media_default": attributes.get("media-default") or "",
        "media_supported": list(supported),
        "media_ready": list(traits.media_ready) if traits else [],
        "duplex": any(one.startswith("two-sided") for one in sides),
        "resolutions_dpi": sorted(set(traits.resolutions_dpi)) if traits else [],
        "error_policy": attributes.get("printer-error-policy") or "",
        "printer_model": traits.make_and_model if traits else "",
    }
    findings = [
        *_check_driver(name, queue.make_and_model),
        *_check_device(name, queue.device_uri, traits, once),
        *_check_media(name, media, facts, supported),
    ]
    if (policy := facts["error_policy"]) not in ("", "retry-job"):
        findings.append(
            Finding(
                "queue-error-policy",
                False,
                f"The error policy is {policy}: a fault of the printer stops the queue or drops the job.",
                f"Chính sách lỗi là {policy}: khi máy in lỗi, hàng đợi dừng hoặc mất lệnh in.",
                f"lpadmin -p {name} -o printer-error-policy=retry-job",
                f"lpadmin -p {name} -o printer-error-policy=retry-job",
            )
        )
    if (scaling := attributes.get("print-scaling-default") or "") not in ("", "none"):
        findings.append(
            Finding(
                "queue-scaling",
                False,
                f"Pages are scaled ({scaling}) where a job does not say otherwise: the QR shrinks.",
                f"Trang in bị co giãn ({scaling}): mã QR nhỏ đi.",
                f"lpadmin -p {name} -o print-scaling-default=none",
                f"lpadmin -p {name} -o print-scaling-default=none",
            )
        )
    if dpi and traits and traits.resolutions_dpi and dpi not in traits.resolutions_dpi:
        findings.append(
            Finding(
                "queue-dpi",
                False,
                f"The centre has set {dpi} dpi, the printer says {facts['resolutions_dpi']}.",
                f"Đã đặt {dpi} dpi nhưng máy in báo {facts['resolutions_dpi']}.",
                f"printsvc printers set SITE {name} --dpi {max(traits.resolutions_dpi)}",
                f"printsvc printers set SITE {name} --dpi {max(traits.resolutions_dpi)}",
            )
        )
    return facts, findings


def _check_driver(name: str, model: str) -> list[Finding]:
    lower = model.lower()
    if "ipp everywhere" in lower or "driverless" in lower:
        return []
    raw = not model or "raw" in lower.split()
    return [
        Finding(
            "queue-raw" if raw else "queue-not-driverless",
            True,
            f"The queue is not driverless ({model or 'no model'}): pages may be scaled, or sent as they are.",
            f"Hàng đợi không dùng trình điều khiển everywhere ({model or 'không rõ'}): trang in có thể bị co giãn.",
            f"With the printer on: printsvc printers remove SITE {name}, then printsvc printers add SITE {name} URI.",
            f"Bật máy in rồi: printsvc printers remove SITE {name}, sau đó printsvc printers add SITE {name} URI.",
        )
    ]


def _check_device(name: str, uri: str, traits: PrinterTraits | None, once: bool | None) -> list[Finding]:
    findings = []
    behind = uri.removeprefix(f"{ONCE}:/")
    if not behind or behind.startswith(("file:", "/dev/null")):
        findings.append(
            Finding(
                "queue-no-device",
                True,
                "There is no printer behind the queue.",
                "Hàng đợi không có máy in.",
                f"printsvc printers remove SITE {name}, then add it with the printer's address.",
                f"printsvc printers remove SITE {name}, rồi thêm lại với địa chỉ máy in.",
            )
        )
    elif not behind.startswith(("ipp://", "ipps://")):
        findings.append(
            Finding(
                "printer-no-witness",
                False,
                "The printer cannot be asked over IPP, so CUPS is believed: 'printed' is then no proof of paper.",
                "Không thể hỏi máy in qua IPP nên phải tin CUPS: “đã in” chưa phải bằng chứng có giấy.",
                "Use the printer's IPP address; a USB printer: install ipp-usb and use ipp://localhost:60000/ipp/print.",
                "Dùng địa chỉ IPP của máy in; máy in USB: cài ipp-usb và dùng ipp://localhost:60000/ipp/print.",
            )
        )
    elif traits is None:
        findings.append(
            Finding(
                "printer-silent",
                True,
                "The printer does not answer.",
                "Máy in không trả lời.",
                "Switch it on, look at its cable or network, and whether its address has changed.",
                "Bật máy in, kiểm tra dây hoặc mạng, và địa chỉ có thay đổi không.",
            )
        )
    if not uri.startswith(f"{ONCE}:/"):
        findings.append(
            Finding(
                "queue-not-once",
                False,
                "CUPS may print a page again after a restart, a disable or a move.",
                "CUPS có thể in lại sau khi khởi động lại, dừng hoặc chuyển hàng đợi.",
                f"lpadmin -p {name} -v {ONCE}:/{uri} (the backend of deploy/cups, see docs/printing.md)",
                f"lpadmin -p {name} -v {ONCE}:/{uri} (chương trình trong deploy/cups, xem docs/printing.md)",
            )
        )
    elif once is False:
        findings.append(
            Finding(
                "once-not-installed",
                True,
                "The queue goes through printsvc-once, which is not installed: nothing prints.",
                "Hàng đợi dùng printsvc-once nhưng chưa cài: không in được.",
                "install -o root -g root -m 0755 deploy/cups/printsvc-once /usr/lib/cups/backend/printsvc-once",
                "install -o root -g root -m 0755 deploy/cups/printsvc-once /usr/lib/cups/backend/printsvc-once",
            )
        )
    return findings


def _check_media(name: str, media: str, facts: Mapping[str, Any], supported: tuple[str, ...]) -> list[Finding]:
    findings = []
    if media and supported and media not in supported and not any(_CUSTOM.match(one) for one in supported):
        findings.append(
            Finding(
                "queue-media",
                True,
                f"The printer has no {media}.",
                f"Máy in không có khổ {media}.",
                f"printsvc printers set SITE {name} --media SIZE, one of: {', '.join(supported[:8])}",
                f"printsvc printers set SITE {name} --media KHỔ, một trong: {', '.join(supported[:8])}",
            )
        )
    elif media and facts["media_ready"] and media not in facts["media_ready"]:
        ready = ", ".join(facts["media_ready"][:4])
        findings.append(
            Finding(
                "media-not-loaded",
                False,
                f"{media} is not loaded, the printer says; it has {ready}.",
                f"Máy in báo chưa nạp {media}; đang có {ready}.",
                "Load the paper, and tell the printer its size.",
                "Nạp giấy và chọn đúng khổ giấy trên máy in.",
            )
        )
    return findings


async def check_all(
    lane: Lane,
    printers: Printers,
    names: Sequence[str],
    setting_of: Callable[[str], QueueSettings],
    *,
    wanted: tuple[str, int],
    cups_files: Path,
) -> dict[str, Any]:
    """Return what is wrong with cupsd and with each queue, and the count in a sentence.

    `wanted` are media and dpi, "" and 0 for the queue's own settings. Raises as the lane does.
    """
    conf = await lane.run(read_cupsd_conf)
    files = read_file(cups_files)
    once = has_once(files)
    cupsd = [*check_conf(conf, "cupsd.conf"), *check_conf(files, "cups-files.conf")]
    queues = {}
    for name in names:
        found = await lane.run(functools.partial(see_queues, names=[name]))
        uri = printer_uri_of(found[0].device_uri) if found else None
        own = setting_of(name)
        looked = functools.partial(
            check_queue,
            name=name,
            media=wanted[0] or (own.media[0] if own.media else A4),
            dpi=wanted[1] or own.dpi,
            traits=await printers.traits(uri) if uri else None,
            once=once,
        )
        facts, findings = await lane.run(looked)
        queues[name] = facts | {"findings": [finding.document() for finding in findings]}
    wrong = len(cupsd) + sum(len(one["findings"]) for one in queues.values())
    return {
        "cupsd": [finding.document() for finding in cupsd],
        "queues": queues,
        "en": f"{wrong} things to mend." if wrong else "All is as it should be.",
        "vi": f"Có {wrong} điểm cần sửa." if wrong else "Mọi thứ đều đúng.",
    }
