"""What an administrator may do to a queue: each function is one call of a lane, on a `cups.Connection`.

CUPS prints a job again that it began and was kept from ending: after disable and enable, hold and release, a move, a
restart. Cancelled, a page that is on its way comes out all the same. So each of these looks first, in the same call,
and refuses with the reason where it could make a second paper. Seen and counted: docs/printing.md.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import cups

from spooler.cupsd.server import ONCE

ATTEMPT = "ps-"
"""Jobs with such names are ours; see `spooler.protocol.attempt_id`."""

_NOT_FOUND = 0x0406  # RFC 8011, appendix B
_JOB_ATTRIBUTES = [
    "job-id",
    "job-name",
    "job-state",
    "job-printer-uri",
    "job-priority",
    "job-hold-until",
    "time-at-creation",
    "time-at-processing",
]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PRINTER_URI = re.compile(r"ipps?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/-]*)?")


class Refused(Exception):  # noqa: N818 - a refusal is the answer, not a fault
    """Nothing was done, on purpose. `reason` is a keyword."""

    def __init__(self, reason: str, en: str, vi: str) -> None:
        super().__init__(reason)
        self.reason, self.en, self.vi = reason, en, vi


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job in CUPS that has not ended. `begun`: CUPS has started it once, so its paper may exist or be coming."""

    cups_job_id: int
    name: str
    queue: str
    begun: bool
    held: bool
    priority: int
    created_at: int

    @property
    def ours(self) -> bool:
        return self.name.startswith(ATTEMPT)

    def document(self) -> dict[str, Any]:
        """Return what is told of it; the name of another's job may hold anything, and stays here."""
        return {
            "job": self.name if self.ours else f"cups-{self.cups_job_id}",
            "ours": self.ours,
            "begun": self.begun,
            "held": self.held,
            "priority": self.priority,
        }


def list_jobs(connection: Any, queue: str = "") -> list[QueuedJob]:
    """Return the jobs that have not ended, of one queue or of all, in the order in which CUPS prints them."""
    found = []
    for cups_job_id, attributes in connection.getJobs("not-completed", False, -1, -1, _JOB_ATTRIBUTES).items():
        state = int(attributes.get("job-state") or 0)
        where = str(attributes.get("job-printer-uri") or "").rpartition("/")[2]
        if queue and where != queue:
            continue
        found.append(
            QueuedJob(
                cups_job_id=cups_job_id,
                name=str(attributes.get("job-name") or ""),
                queue=where,
                begun=state in (5, 6) or bool(attributes.get("time-at-processing")),
                held=state == 4,
                priority=int(attributes.get("job-priority") or 50),
                created_at=int(attributes.get("time-at-creation") or 0),
            )
        )
    return sorted(found, key=lambda job: (not job.begun, -job.priority, job.cups_job_id))


def device_of(connection: Any, queue: str) -> str:
    """Return the queue's device URI. Refused where there is no such queue."""
    try:
        attributes = connection.getPrinterAttributes(queue, requested_attributes=["device-uri"])
    except cups.IPPError as error:
        if error.args[0] == _NOT_FOUND:
            raise Refused("no-such-queue", f"CUPS has no queue {queue}.", f"CUPS không có hàng đợi {queue}.") from None
        raise
    return str(attributes.get("device-uri") or "")


def refuse_begun(connection: Any, queue: str, doing_en: str, doing_vi: str) -> None:
    """Refuse where a job of the queue ("": of any) has begun; `doing` is what would then make a second paper."""
    begun = [job for job in list_jobs(connection, queue) if job.begun]
    if begun:
        name = begun[0].document()["job"]
        raise Refused(
            "job-active",
            f"{name} has begun on {begun[0].queue}: {doing_en} may print it twice. Drain the queue first.",
            f"{name} đang in trên {begun[0].queue}: {doing_vi} có thể in hai lần. Hãy rút cạn hàng đợi trước.",
        )


def disable(connection: Any, queue: str) -> None:
    """Stop the queue, unless a job has begun there: enabled again, CUPS would print that one twice."""
    device_of(connection, queue)
    refuse_begun(connection, queue, "stopping the queue and starting it again", "dừng rồi mở lại hàng đợi")
    connection.disablePrinter(queue)


def enable(connection: Any, queue: str) -> None:
    """Start the queue, unless a job has begun there and nothing keeps it from being printed again."""
    if not device_of(connection, queue).startswith(f"{ONCE}:/"):
        refuse_begun(connection, queue, "starting the queue", "mở lại hàng đợi")
    connection.enablePrinter(queue)


def accept(connection: Any, queue: str, *, yes: bool) -> bool:
    """Let the queue take jobs, or none; return whether it took them before."""
    device_of(connection, queue)
    attributes = connection.getPrinterAttributes(queue, requested_attributes=["printer-is-accepting-jobs"])
    before = bool(attributes.get("printer-is-accepting-jobs", True))
    if yes:
        connection.acceptJobs(queue)
    else:
        connection.rejectJobs(queue)
    return before


def find_job(connection: Any, cups_job_id: int) -> QueuedJob:
    """Return another's job that has not begun. Refused for one of ours, one that has, and one that is not there."""
    job = next((job for job in list_jobs(connection) if job.cups_job_id == cups_job_id), None)
    if job is None:
        raise Refused(
            "no-such-job",
            f"CUPS has no job {cups_job_id} that has not ended.",
            f"CUPS không có lệnh in {cups_job_id} đang chờ.",
        )
    if job.ours:
        raise Refused(
            "certificate-job",
            f"{job.name} prints a certificate: name its print job, not the one of CUPS.",
            f"{job.name} là giấy chứng nhận: hãy dùng mã lệnh in của hệ thống.",
        )
    if job.begun:
        raise Refused(
            "job-active",
            f"Job {cups_job_id} has begun on {job.queue}: its paper may come out all the same, and again when it is "
            "held, moved or sent again. Wait for its end.",
            f"Lệnh in {cups_job_id} đã bắt đầu trên {job.queue}: giấy vẫn có thể ra, và ra thêm lần nữa. "
            "Hãy chờ in xong.",
        )
    return job


def hold(connection: Any, cups_job_id: int, *, yes: bool) -> None:
    find_job(connection, cups_job_id)
    connection.setJobHoldUntil(cups_job_id, "indefinite" if yes else "no-hold")


def cancel(connection: Any, cups_job_id: int) -> None:
    find_job(connection, cups_job_id)
    connection.cancelJob(cups_job_id)


def move(connection: Any, cups_job_id: int, queue: str) -> None:
    find_job(connection, cups_job_id)
    device_of(connection, queue)
    connection.moveJob(job_id=cups_job_id, job_printer_uri=f"ipp://localhost/printers/{queue}")


def begin_queue(connection: Any, queue: str, uri: str) -> None:
    """Make a driverless queue for a printer; it becomes one within a second or so: see `is_driverless`.

    Plainly: with options in the URI, or another backend before it, the queue would stay raw for ever.
    """
    if not _NAME.fullmatch(queue):
        raise Refused(
            "queue-name",
            "A queue's name has letters, digits and . _ - only, at most 64.",
            "Tên hàng đợi chỉ gồm chữ không dấu, số và . _ -, tối đa 64 ký tự.",
        )
    if not _PRINTER_URI.fullmatch(uri):
        raise Refused(
            "printer-uri",
            "Driverless needs the printer's own address: ipp://HOST:631/ipp/print, without options.",
            "Cần địa chỉ của máy in, không kèm tuỳ chọn: ipp://HOST:631/ipp/print",
        )
    if queue in connection.getPrinters():
        raise Refused("queue-exists", f"There is a queue {queue} already.", f"Đã có hàng đợi {queue}.")
    connection.addPrinter(queue, ppdname="everywhere", device=uri, info=queue)


def is_driverless(connection: Any, queue: str) -> str:
    """Return the make and model once the queue speaks IPP Everywhere, "" before."""
    attributes = connection.getPrinterAttributes(queue, requested_attributes=["printer-make-and-model"])
    model = str(attributes.get("printer-make-and-model") or "")
    return model if "ipp everywhere" in model.lower() or "driverless" in model.lower() else ""


def finish_queue(connection: Any, queue: str, uri: str, *, media: str, once: bool) -> str:
    """Give a driverless queue what a site's queue needs, start it, and return its device URI as CUPS has it."""
    connection.setPrinterErrorPolicy(queue, "retry-job")
    connection.setPrinterShared(queue, False)
    connection.addPrinterOptionDefault(queue, "media", media)
    connection.addPrinterOptionDefault(queue, "print-scaling", "none")
    if once:
        connection.setPrinterDevice(queue, f"{ONCE}:/{uri}")
    connection.enablePrinter(queue)
    connection.acceptJobs(queue)
    return device_of(connection, queue)


def discard_queue(connection: Any, queue: str) -> None:
    """Remove a queue that did not become what it should."""
    with contextlib.suppress(cups.IPPError):
        connection.deletePrinter(queue)


def remove(connection: Any, queue: str) -> None:
    """Remove a queue that has no job: with it, CUPS would cancel what waits there, and forget what printed."""
    device_of(connection, queue)
    waiting = list_jobs(connection, queue)
    if waiting:
        raise Refused(
            "queue-not-empty",
            f"{queue} has {len(waiting)} jobs that have not ended: drain it first.",
            f"{queue} còn {len(waiting)} lệnh in chưa xong: hãy rút cạn trước.",
        )
    connection.deletePrinter(queue)


def print_test_page(connection: Any, queue: str, pdf: bytes, *, media: str) -> int:
    """Print a document of our own that is no certificate; return CUPS's number of the job."""
    device_of(connection, queue)
    options = {"media": media, "print-scaling": "none", "sides": "one-sided", "copies": "1", "job-sheets": "none,none"}
    cups_job_id = int(connection.createJob(queue, "printsvc test page", options))
    connection.startDocument(queue, cups_job_id, "test page", "application/pdf", 1)
    connection.writeRequestData(pdf, len(pdf))
    connection.finishDocument(queue)
    return cups_job_id
