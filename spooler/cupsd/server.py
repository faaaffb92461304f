"""What is asked of CUPS: each function is one call of a lane, on a `cups.Connection`.

Queues are checked as sites were seen to get them wrong: a queue stays raw when its printer was off at creation, and a
driver of a maker may scale the page and with it the QR.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cups

from spooler.core.attempt import Attempt, Job
from spooler.core.witness import CupsWord
from spooler.cupsd.lane import CupsRefusedError
from spooler.cupsd.sheets import count_sheets

_QUEUE_ATTRIBUTES = [
    "printer-state",
    "printer-state-reasons",
    "printer-is-accepting-jobs",
    "printer-make-and-model",
    "device-uri",
]
_JOB_ATTRIBUTES = ["job-id", "job-name", "job-uuid", "job-state", "time-at-processing", "job-printer-state-message"]
_FIND_ATTRIBUTES = [*_JOB_ATTRIBUTES, "number-of-documents", "job-k-octets"]

# IPP status codes, RFC 8011, appendix B.
_NOT_FOUND = 0x0406
_NO_SUCH_QUEUE = (0x0406, 0x0500)  # cupsd 2.4 answers Create-Job for an unknown queue with an internal error

ONCE = "printsvc-once"  # the backend that refuses to send an attempt a second time
_GIVEN_UP = f"{ONCE}: given up: "  # its word that of this attempt nothing was sent and nothing will be
_SHEETS = "printsvc-sheets"  # job attribute by which it knows a document that lacks its last sheets


@dataclass(frozen=True, slots=True)
class CupsQueue:
    """A queue as CUPS describes it; `reasons` without "none"."""

    name: str
    device_uri: str
    make_and_model: str
    state: int
    reasons: tuple[str, ...]
    accepting: bool


@dataclass(frozen=True, slots=True)
class CupsJob:
    cups_job_id: int
    cups_uuid: str
    word: CupsWord


def printer_uri_of(device_uri: str) -> str | None:
    """Return the ipp(s) URI of the printer behind a queue, without its options; None where it is not driven by IPP."""
    uri = device_uri.removeprefix(f"{ONCE}:/").partition("?")[0]
    return uri if uri.startswith(("ipp://", "ipps://")) else None


def check_queue(queue: CupsQueue) -> tuple[str, ...]:
    """Return what makes the queue unfit for certificates, each in English and Vietnamese; empty when it is fit."""
    problems = []
    model = queue.make_and_model.lower()
    if not model or "raw" in model.split():
        problems.append(
            "queue-raw: CUPS does not know the printer's language; create the queue while the printer is on / "
            "hàng đợi thô: hãy tạo lại khi máy in đang bật"
        )
    elif "ipp everywhere" not in model and "driverless" not in model:
        problems.append(
            "queue-not-driverless: use the model everywhere / hàng đợi phải dùng trình điều khiển everywhere"
        )
    if not queue.device_uri or queue.device_uri.startswith(("file:", "/dev/null")):
        problems.append("queue-no-device: no printer behind the queue / hàng đợi không có máy in")
    return tuple(problems)


def advise_queue(queue: CupsQueue) -> tuple[str, ...]:
    """Return what a person should change of a queue that may print all the same."""
    advice = []
    if not queue.device_uri.startswith(f"{ONCE}:/"):
        advice.append(
            "queue-not-once: CUPS may print a page again after a restart; put printsvc-once:/ before the device URI / "
            "CUPS có thể in lại sau khi khởi động lại; thêm printsvc-once:/ vào trước URI của máy in"
        )
    if printer_uri_of(queue.device_uri) is None:
        advice.append(
            "printer-no-witness: the printer cannot be asked over IPP, so CUPS is believed / "
            "không thể hỏi máy in qua IPP, phải tin vào CUPS"
        )
    return tuple(advice)


# What cupsd.conf must say so that no job is lost or given up, and no document kept, with what cupsd does where it says
# nothing.
_CUPSD_CONF = {
    "preservejobfiles": ("No", "86400", "printed certificates stay on this disk / giấy đã in còn lưu trên máy"),
    "dirtycleaninterval": ("0", "30", "a crash loses queued jobs / mất lệnh in khi sự cố"),
    "maxjobtime": ("0", "10800", "a job that waits for paper is cancelled / lệnh in chờ giấy bị huỷ"),
    "jobretrylimit": ("0", "5", "a job is given up after some tries / lệnh in bị bỏ sau vài lần thử"),
    "maxjobs": ("0", "500", "a full list refuses jobs / danh sách đầy thì từ chối lệnh in"),
}


_SAME = {"No": ("no", "off", "false", "0")}


def check_cupsd(connection: Any) -> tuple[str, ...]:
    """Return what is wrong with cupsd's configuration; empty where it is right or may not be read."""
    text = read_cupsd_conf(connection)
    return () if text is None else advise_cupsd(text)


def read_cupsd_conf(connection: Any) -> str | None:
    """Return the text of cupsd.conf; None where it may not be read."""
    with tempfile.TemporaryFile() as file:
        try:
            # By descriptor: with a file's name, pycups 2.0.4 answers HTTPError(-1) to everything.
            connection.getFile("/admin/conf/cupsd.conf", fd=file.fileno())
        except (cups.HTTPError, RuntimeError, OSError):
            return None
        file.seek(0)
        return file.read().decode("utf-8", "replace")


def advise_cupsd(text: str) -> tuple[str, ...]:
    """Return what is wrong in the text of a cupsd.conf; the last of several lines counts, as for cupsd."""
    said = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 2:
            said[words[0].lower()] = words[1]
    return tuple(
        f"cupsd-{name}: {said.get(name, default)}, should be {right}: {why}"
        for name, (right, default, why) in _CUPSD_CONF.items()
        if said.get(name, default).lower() not in _SAME.get(right, (right,))
    )


def see_queues(connection: Any, names: Iterable[str]) -> list[CupsQueue]:
    """Return the named queues that exist, or all where no name is given."""
    wanted = list(names) or sorted(connection.getPrinters())
    seen = []
    for name in wanted:
        try:
            attributes = connection.getPrinterAttributes(name, requested_attributes=_QUEUE_ATTRIBUTES)
        except cups.IPPError as error:
            if error.args[0] == _NOT_FOUND:
                continue
            raise
        seen.append(
            CupsQueue(
                name=name,
                device_uri=attributes.get("device-uri") or "",
                make_and_model=attributes.get("printer-make-and-model") or "",
                state=int(attributes.get("printer-state") or 3),
                reasons=tuple(r for r in attributes.get("printer-state-reasons") or () if r != "none"),
                accepting=bool(attributes.get("printer-is-accepting-jobs", True)),
            )
        )
    return seen


def find(connection: Any, job: Job, attempt: Attempt) -> CupsJob | None:
    """Return the CUPS job named as the attempt, one that somebody released before one that is held.

    A held job without its whole document is what an agent leaves that dies while it submits: CUPS would "complete" it
    with nothing printed. It is cancelled, and not found.
    """
    found = []
    for cups_job_id, attributes in connection.getJobs("all", False, -1, -1, _FIND_ATTRIBUTES).items():
        if attributes.get("job-name") != attempt.attempt_id or _ended_unstarted(attributes):
            continue
        word = _word_of(attributes)
        if word is CupsWord.HELD and not _is_whole(attributes, job.size):
            connection.cancelJob(cups_job_id)
        else:
            found.append(CupsJob(cups_job_id, attributes.get("job-uuid") or "", word))
    return min(found, key=lambda one: (one.word is CupsWord.HELD, one.cups_job_id), default=None)


def create_held(connection: Any, job: Job, attempt: Attempt, document: bytes) -> CupsJob:
    """Give CUPS the document as a held job: it cannot print before `release`.

    Media is explicit and scaling off: an A4 page scaled to a default of Letter has a smaller QR.
    """
    options = {
        "job-hold-until": "indefinite",
        "media": job.media,
        "print-scaling": "none",
        "sides": "one-sided",
        "copies": "1",
        "job-sheets": "none,none",
        "number-up": "1",
        # PWG 5100.3: the first sheet comes out first; CUPS turns the order around where a printer delivers face up.
        "page-delivery": "same-order-face-down",
    }
    if sheets := count_sheets(document):
        options[_SHEETS] = str(sheets)
    try:
        cups_job_id = connection.createJob(attempt.queue, attempt.attempt_id, options)
    except cups.IPPError as error:
        if error.args[0] in _NO_SUCH_QUEUE and not see_queues(connection, [attempt.queue]):
            raise CupsRefusedError(_NOT_FOUND, "the queue does not exist") from error
        raise
    try:
        connection.startDocument(attempt.queue, cups_job_id, "certificate", job.media_type, 1)
        connection.writeRequestData(document, len(document))
        connection.finishDocument(attempt.queue)
        attributes = connection.getJobAttributes(cups_job_id, _JOB_ATTRIBUTES)
    except cups.IPPError:
        with contextlib.suppress(cups.IPPError):
            connection.cancelJob(cups_job_id)
        raise
    return CupsJob(cups_job_id, attributes["job-uuid"], _word_of(attributes))


def ask(connection: Any, attempt: Attempt) -> CupsWord:
    """Return what CUPS says of the attempt's job; a job of that id with another uuid is somebody else's: GONE."""
    if attempt.cups_job_id is None:
        return CupsWord.GONE
    try:
        attributes = connection.getJobAttributes(attempt.cups_job_id, _JOB_ATTRIBUTES)
    except cups.IPPError as error:
        if error.args[0] == _NOT_FOUND:
            return CupsWord.GONE
        raise
    return _word_of(attributes) if attributes.get("job-uuid") == attempt.cups_uuid else CupsWord.GONE


def release(connection: Any, attempt: Attempt) -> None:
    """Tell CUPS to print the attempt's job if it is still held and never started; else leave it alone."""
    if ask(connection, attempt) is CupsWord.HELD:
        connection.setJobHoldUntil(attempt.cups_job_id, "no-hold")


def take_back(connection: Any, attempt: Attempt) -> CupsWord:
    """Cancel the job if it is still held and never started; return what it was."""
    word = ask(connection, attempt)
    if word is CupsWord.HELD:
        connection.cancelJob(attempt.cups_job_id)
    return word


def withdraw(connection: Any, attempt: Attempt) -> CupsWord:
    """Cancel the job if it has not ended; return what it was. What a printer has begun to take still comes out."""
    word = ask(connection, attempt)
    if word in (CupsWord.HELD, CupsWord.ACTIVE):
        connection.cancelJob(attempt.cups_job_id)
    return word


def _ended_unstarted(attributes: dict[str, Any]) -> bool:
    """Return whether the job was cancelled while it was held, by us or another: it is not there to go on with."""
    return int(attributes.get("job-state") or 0) in (7, 8) and not attributes.get("time-at-processing")


def _is_whole(attributes: dict[str, Any], size: int) -> bool:
    k_octets = attributes.get("job-k-octets")
    return attributes.get("number-of-documents") == 1 and k_octets in (None, -(-size // 1024))


def _word_of(attributes: dict[str, Any]) -> CupsWord:
    started = bool(attributes.get("time-at-processing"))
    match int(attributes.get("job-state") or 0):
        case 4:
            # Held after it had begun: releasing it would print it again.
            return CupsWord.ACTIVE if started else CupsWord.HELD
        case 7 | 8 as state:
            message = str(attributes.get("job-printer-state-message") or "")
            if _GIVEN_UP in message:
                return CupsWord.NEVER_SENT
            if ONCE in message:
                return CupsWord.REFUSED
            return CupsWord.CANCELED if state == 7 else CupsWord.ABORTED
        case 9:
            return CupsWord.COMPLETED
        case _:
            return CupsWord.ACTIVE
