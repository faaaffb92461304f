"""What a look found, and how it is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from spooler.cupsd.findings import Finding, Weight


class Status(StrEnum):
    """PROBLEM: certificates are not printed, or not safely, until it is mended. ADVICE: they are, and a person should
    change it. UNSEEN: it could not be looked at."""

    OK = "ok"
    ADVICE = "advice"
    PROBLEM = "problem"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Check:
    """`about` is the part of the site (computer, service, cups, or a queue); `mend_…` say what to do."""

    about: str
    code: str
    status: Status
    en: str
    vi: str
    mend_en: str = ""
    mend_vi: str = ""


def of_finding(about: str, finding: Finding) -> Check:
    """Return a finding of CUPS's checks as a check."""
    status = Status.PROBLEM if finding.weight is Weight.PROBLEM else Status.ADVICE
    return Check(about, finding.code, status, finding.en, finding.vi, finding.mend_en, finding.mend_vi)


def ok(about: str, code: str, en: str, vi: str) -> Check:
    return Check(about, code, Status.OK, en, vi)


def is_well(checks: Iterable[Check]) -> bool:
    """Return whether nothing keeps certificates from being printed."""
    return all(check.status is not Status.PROBLEM for check in checks)


def as_document(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks for a program."""
    return {"ok": is_well(checks), "checks": [asdict(check) for check in checks]}


_TITLES = {
    "computer": "This computer / Máy tính",
    "service": "The service / Dịch vụ trung tâm",
    "cups": "CUPS",
}
_MARKS = {Status.OK: "ok", Status.ADVICE: "ADVICE", Status.PROBLEM: "PROBLEM", Status.UNSEEN: "?"}
_INDENT = " " * 10


def as_text(checks: Sequence[Check]) -> str:
    """Return the checks for a person, in both languages, what is to be done last."""
    lines: list[str] = []
    about = None
    for check in checks:
        if check.about != about:
            about = check.about
            lines += ["", _TITLES.get(about, f"Queue {about} / Hàng đợi {about}")]
        lines.append(f"  {_MARKS[check.status]:<8}{check.en}")
        lines.append(f"{_INDENT}{check.vi}")
        if check.mend_en:
            lines.append(f"{_INDENT}→ {check.mend_en}")
            if check.mend_vi != check.mend_en:
                lines.append(f"{_INDENT}→ {check.mend_vi}")
    counts = {status: sum(check.status is status for check in checks) for status in Status}
    well = is_well(checks)
    lines += [
        "",
        f"{len(checks)} checks: {counts[Status.OK]} ok, {counts[Status.ADVICE]} advice, "
        f"{counts[Status.PROBLEM]} problems, {counts[Status.UNSEEN]} not seen.",
        "This site can print certificates." if well else "Mend the problems (→), then run doctor again.",
        "Điểm này in được giấy chứng nhận." if well else "Hãy xử lý các lỗi (→) rồi chạy lại doctor.",
    ]
    return "\n".join(lines).lstrip("\n") + "\n"
