"""What the printer itself said of a paper: kept with the job, and told in words."""

from __future__ import annotations

from typing import Any

from printsvc.domain.print_job import Happening, JobState, PrintJob

_PROOF = {
    "printer": ("The printer itself says so.", "Chính máy in báo như vậy."),
    "cups": (
        "This printer lists no jobs: only CUPS says so, which is no proof. Scan the paper.",
        "Máy in này không trả lời được: chỉ CUPS báo, không phải bằng chứng. Hãy quét tờ giấy.",
    ),
    "": ("No printer was asked.", "Chưa hỏi được máy in."),
}


def witness_values(happening: Happening) -> dict[str, object]:
    """Return the columns of the job that an agent's report changes; a report that asked no printer changes none."""
    if not happening.witness and not happening.printer_said:
        return {}
    return {
        "witness": happening.witness,
        "impressions": happening.impressions,
        "printer_said": happening.printer_said or None,
        "printer_said_at": happening.printer_said_at,
    }


FORGOTTEN: dict[str, object] = {"witness": "", "impressions": None, "printer_said": None, "printer_said_at": None}
"""The columns of a job that is to be printed anew: what was said of an earlier attempt says nothing of this one."""


def witness_document(job: PrintJob) -> dict[str, Any]:
    """Return what the printer said, when, and its impressions; of a printed paper also how good a proof that is."""
    told: dict[str, Any] = {
        "by": job.witness,
        "said": job.printer_said or "",
        "at": job.printer_said_at.isoformat() if job.printer_said_at else None,
        "impressions": job.impressions,
    }
    if job.state is JobState.PRINTED:
        en, vi = _PROOF.get(job.witness, _PROOF[""])
        told |= {"detail": en, "detail_vi": vi}
    return told
