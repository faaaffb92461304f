"""Whether cupsd and its queues are as certificates need them: pure checks, each finding with what to do about it.

Sites were seen to get these wrong: a queue stays raw when its printer was off at creation, the driver of a maker scales
the page and with it the QR, and what cupsd does by itself loses queued jobs, gives them up or keeps printed papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from printsvc.domain.printer import stops_paper
from spooler.cupsd.server import ONCE, CupsQueue, printer_uri_of


class Weight(StrEnum):
    """PROBLEM: certificates must not, or cannot, be printed so. ADVICE: they are, and a person should change it."""

    PROBLEM = "problem"
    ADVICE = "advice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `place` is a queue or a file; `mend_…` say what to do."""

    code: str
    place: str
    weight: Weight
    en: str
    vi: str
    mend_en: str = ""
    mend_vi: str = ""

    def line(self) -> str:
        """Return it as the wire has it: `code: English / Vietnamese`."""
        return f"{self.code}: {self.en} / {self.vi}"


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """What a queue does by itself: IPP attributes, "" where CUPS did not say."""

    error_policy: str = ""
    is_shared: bool = False
    media_supported: tuple[str, ...] = ()


# --- queues


def check_queue(queue: CupsQueue) -> tuple[Finding, ...]:
    """Return what makes the queue unfit for certificates, empty when it is fit."""
    found = []
    model = queue.make_and_model.lower()
    plain = queue.device_uri.removeprefix(f"{ONCE}:/") or "ipp://ADDRESS/ipp/print"
    again = f"lpadmin -p {queue.name} -E -m everywhere -v {plain}"
    if not model or "raw" in model.split():
        found.append(
            Finding(
                "queue-raw",
                queue.name,
                Weight.PROBLEM,
                "CUPS does not know the printer's language; create the queue while the printer is on",
                "hàng đợi thô: hãy tạo lại khi máy in đang bật",
                f"switch the printer on, then: {again}",
                f"bật máy in rồi chạy: {again}",
            )
        )
    elif "ipp everywhere" not in model and "driverless" not in model:
        found.append(
            Finding(
                "queue-not-driverless",
                queue.name,
                Weight.PROBLEM,
                "use the model everywhere",
                "hàng đợi phải dùng trình điều khiển everywhere",
                again,
                again,
            )
        )
    if not queue.device_uri or queue.device_uri.startswith(("file:", "/dev/null")):
        found.append(
            Finding(
                "queue-no-device",
                queue.name,
                Weight.PROBLEM,
                "no printer behind the queue",
                "hàng đợi không có máy in",
                again,
                again,
            )
        )
    return tuple(found)


def advise_queue(queue: CupsQueue) -> tuple[Finding, ...]:
    """Return what a person should change of a queue that may print all the same."""
    found = []
    if not queue.device_uri.startswith(f"{ONCE}:/"):
        mend = f"lpadmin -p {queue.name} -v {ONCE}:/{queue.device_uri}"
        found.append(
            Finding(
                "queue-not-once",
                queue.name,
                Weight.ADVICE,
                f"CUPS may print a page again after a restart; put {ONCE}:/ before the device URI",
                f"CUPS có thể in lại sau khi khởi động lại; thêm {ONCE}:/ vào trước URI của máy in",
                mend,
                mend,
            )
        )
    if printer_uri_of(queue.device_uri) is None:
        found.append(
            Finding(
                "printer-no-witness",
                queue.name,
                Weight.ADVICE,
                "the printer cannot be asked over IPP, so CUPS is believed",
                "không thể hỏi máy in qua IPP, phải tin vào CUPS",
                "connect the printer over IPP: by network (ipp://…), or by USB with the package ipp-usb",
                "kết nối máy in qua IPP: qua mạng (ipp://…), hoặc qua USB với gói ipp-usb",
            )
        )
    return tuple(found)


def check_queue_settings(name: str, settings: QueueSettings, *, media: str) -> tuple[Finding, ...]:
    """Return what a queue does by itself that it should not; `media` is the PWG 5101.1 name of the paper.

    Its default paper is not looked at: CUPS tells the driver's even where the queue has another, and every job names
    its own. An attribute that CUPS did not say is not found wrong.
    """
    found = []
    if settings.error_policy not in ("", "retry-job"):
        mend = f"lpadmin -p {name} -o printer-error-policy=retry-job"
        found.append(
            Finding(
                "queue-error-policy",
                name,
                Weight.ADVICE,
                f"the error policy is {settings.error_policy}: after one fault a person must start the queue again"
                if settings.error_policy == "stop-printer"
                else f"the error policy is {settings.error_policy}, should be retry-job",
                f"chính sách lỗi là {settings.error_policy}, phải là retry-job",
                mend,
                mend,
            )
        )
    if settings.media_supported and media not in settings.media_supported:
        found.append(
            Finding(
                "queue-media-missing",
                name,
                Weight.PROBLEM,
                f"the printer does not know the paper {media}",
                f"máy in không có khổ giấy {media}",
                "use a printer that takes this paper for certificates",
                "dùng máy in có khổ giấy này để in giấy chứng nhận",
            )
        )
    if settings.is_shared:
        mend = f"lpadmin -p {name} -o printer-is-shared=false"
        found.append(
            Finding(
                "queue-shared",
                name,
                Weight.ADVICE,
                "other machines may print on it, between the certificates",
                "máy khác có thể in chen vào hàng đợi này",
                mend,
                mend,
            )
        )
    return tuple(found)


# What a person can do at once, by IPP keyword without its severity.
_HANDS: Mapping[str, tuple[str, str]] = {
    "media-empty": ("load paper", "nạp giấy"),
    "media-needed": ("load the paper that the printer asks for", "nạp loại giấy mà máy in yêu cầu"),
    "media-jam": ("take out the jammed sheet", "lấy tờ giấy bị kẹt ra"),
    "media-low": ("lay paper ready", "chuẩn bị thêm giấy"),
    "cover-open": ("close the cover", "đóng nắp máy in"),
    "door-open": ("close the door", "đóng cửa máy in"),
    "interlock-open": ("close the printer", "đóng máy in"),
    "input-tray-missing": ("put the paper tray in", "lắp khay giấy"),
    "output-area-full": ("take the printed sheets away", "lấy bớt giấy đã in"),
    "marker-supply-empty": ("change the ink or toner", "thay mực"),
    "marker-supply-low": ("lay ink or toner ready", "chuẩn bị mực thay thế"),
    "toner-empty": ("change the toner", "thay mực"),
    "toner-low": ("lay toner ready", "chuẩn bị mực thay thế"),
    "offline": ("switch the printer on, check its cable or network", "bật máy in, kiểm tra dây cáp hoặc mạng"),
    "shutdown": ("switch the printer on", "bật máy in"),
    "timed-out": ("switch the printer on, check its cable or network", "bật máy in, kiểm tra dây cáp hoặc mạng"),
    "paused": ("cupsenable {queue}", "cupsenable {queue}"),
}
_QUIET = frozenset({"connecting-to-device", "cups-waiting-for-job-completed", "none"})  # CUPS's own progress


def check_queue_state(queue: CupsQueue) -> tuple[Finding, ...]:
    """Return why no paper comes out of the queue now, or soon will not, each with the hand to lend."""
    found = []
    if not queue.accepting:
        mend = f"cupsaccept {queue.name}"
        found.append(
            Finding(
                "queue-rejecting",
                queue.name,
                Weight.PROBLEM,
                "it takes no jobs",
                "hàng đợi không nhận lệnh in",
                mend,
                mend,
            )
        )
    told = False
    for reason in queue.reasons:
        base = reason.removesuffix("-error").removesuffix("-warning").removesuffix("-report")
        if base in _QUIET:
            continue
        stops = stops_paper(reason)
        told = told or stops
        en, vi = _HANDS.get(base, ("look at the printer's display", "xem màn hình của máy in"))
        found.append(
            Finding(
                f"printer-{base}",
                queue.name,
                Weight.PROBLEM if stops else Weight.ADVICE,
                f"the printer says {reason}",
                f"máy in báo {reason}",
                en.format(queue=queue.name),
                vi.format(queue=queue.name),
            )
        )
    if queue.state == 5 and not told:
        mend = f"cupsenable {queue.name}"
        found.append(
            Finding(
                "queue-stopped", queue.name, Weight.PROBLEM, "the queue is stopped", "hàng đợi đang dừng", mend, mend
            )
        )
    return tuple(found)


# --- cupsd

# What cupsd.conf must say so that no job is lost or given up, and no document kept, with what cupsd does where it says
# nothing.
_CUPSD_CONF: Mapping[str, tuple[str, str, str, str]] = {
    "PreserveJobFiles": ("No", "86400", "printed certificates stay on this disk", "giấy đã in còn lưu trên máy"),
    "DirtyCleanInterval": ("0", "30", "a crash loses queued jobs", "mất lệnh in khi sự cố"),
    "MaxJobTime": ("0", "10800", "a job that waits for paper is cancelled", "lệnh in chờ giấy bị huỷ"),
    "MaxJobs": ("0", "500", "a full list refuses jobs", "danh sách đầy thì từ chối lệnh in"),
}
# Further ones that only a look on the machine itself tells of: they do harm together with other mistakes.
_CUPSD_CONF_MORE: Mapping[str, tuple[str, str, str, str]] = {
    "JobRetryLimit": ("0", "5", "a job is given up after some tries", "lệnh in bị bỏ sau vài lần thử"),
}
# In cups-files.conf. Debian's cupsd syncs where nothing is said.
_CUPS_FILES_CONF: Mapping[str, tuple[str, str, str, str]] = {
    "SyncOnClose": ("Yes", "Yes", "a power cut loses queued jobs", "mất lệnh in khi mất điện"),
}
_SAME = {"No": ("no", "off", "false", "0"), "Yes": ("yes", "on", "true", "1")}


def check_cupsd_conf(text: str, *, place: str = "cupsd.conf", thorough: bool = False) -> tuple[Finding, ...]:
    """Return what is wrong in the text of a cupsd.conf; `thorough` adds JobRetryLimit."""
    return _check_conf(text, {**_CUPSD_CONF, **_CUPSD_CONF_MORE} if thorough else _CUPSD_CONF, place)


def check_cups_files_conf(text: str, *, place: str = "cups-files.conf") -> tuple[Finding, ...]:
    """Return what is wrong in the text of a cups-files.conf."""
    return _check_conf(text, _CUPS_FILES_CONF, place)


def _check_conf(text: str, wanted: Mapping[str, tuple[str, str, str, str]], place: str) -> tuple[Finding, ...]:
    """The last of several lines counts, as for cupsd."""
    said = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 2:
            said[words[0].lower()] = words[1]
    found = []
    for name, (right, default, en, vi) in wanted.items():
        has = said.get(name.lower(), default)
        if has.lower() in _SAME.get(right, (right,)):
            continue
        found.append(
            Finding(
                f"cupsd-{name.lower()}",
                place,
                Weight.ADVICE,
                f"{name} is {has}, should be {right}: {en}",
                f"{name} đang là {has}, phải là {right}: {vi}",
                f"write `{name} {right}` into {place}; restart CUPS only while no job is being printed",
                f"ghi `{name} {right}` vào {place}; chỉ khởi động lại CUPS khi không có lệnh nào đang in",
            )
        )
    return tuple(found)
