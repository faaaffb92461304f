"""The seal on a digital copy: a PAdES signature over the PDF, made with a key that signs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

DOCUMENT_SIGNING: Final = "1.3.6.1.5.5.7.3.36"
"""Extended key usage of who signs documents (RFC 9336): without it no certificate of a CSCA seals anything."""


class SealSigner(Protocol):
    """What seals: `certificate` is DER; `sign` returns r || s of 64 bytes (P-256), or PSS with SHA-256 (RSA)."""

    @property
    def certificate(self) -> bytes: ...

    @property
    def not_after(self) -> datetime: ...

    def sign(self, data: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SealPlace:
    """Where a form has room for the seal, in points from the page's top left corner; `page` counts from 1."""

    left_pt: float
    top_pt: float
    width_pt: float
    height_pt: float
    page: int = 1


class SealState(StrEnum):
    INTACT = "intact"
    CHANGED = "changed_after_sealing"
    BROKEN = "broken"
    UNKNOWN_SIGNER = "unknown_signer"
    SIGNER_EXPIRED = "signer_expired"
    ABSENT = "absent"


SENTENCES: Final[dict[SealState, tuple[str, str]]] = {
    SealState.INTACT: (
        "The file is as the issuer sealed it.",
        "Tệp còn nguyên như khi cơ quan cấp đóng dấu số.",
    ),
    SealState.CHANGED: (
        "The file was changed after it was sealed.",
        "Tệp đã bị thay đổi sau khi đóng dấu số.",
    ),
    SealState.BROKEN: (
        "The seal is broken: the file was altered.",
        "Dấu số không còn đúng: tệp đã bị sửa.",
    ),
    SealState.UNKNOWN_SIGNER: (
        "Somebody who is not on the trust list sealed the file.",
        "Bên đóng dấu số không có trong danh sách tin cậy.",
    ),
    SealState.SIGNER_EXPIRED: (
        "The certificate of the seal has expired or is not valid yet, and no trusted time says when it sealed.",
        "Chứng thư của dấu số đã hết hạn hoặc chưa có hiệu lực.",
    ),
    SealState.ABSENT: (
        "The file has no seal: a scan, a print or a plain copy has none.",
        "Tệp không có dấu số (bản quét, bản in hoặc bản thường).",
    ),
}


@dataclass(frozen=True, slots=True)
class SealReport:
    """What a seal says and whether it is to be believed; times are aware UTC.

    `sealed_at` is the time stamp's where that is trusted, else what the signer says. `has_authorities` is
    false where no certificate was at hand to judge the signer by: then `unknown_signer` accuses nobody.
    """

    state: SealState
    signer: str = ""
    issuer: str = ""
    sealed_at: datetime | None = None
    has_timestamp: bool = False
    timestamp_trusted: bool = False
    is_archival: bool = False
    has_authorities: bool = True
    reason: str = ""
    reason_vi: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether the seal speaks against the file; no seal, or one that nobody could judge, does not."""
        if self.state is SealState.UNKNOWN_SIGNER:
            return self.has_authorities
        return self.state not in (SealState.INTACT, SealState.ABSENT)

    def to_json(self) -> dict[str, Any]:
        """Return the member `seal` of an answer about a PDF."""
        en, vi = SENTENCES[self.state]
        body: dict[str, Any] = {
            "state": self.state.value,
            "detail": f"{en} {self.reason}".strip(),
            "detail_vi": f"{vi} {self.reason_vi}".strip(),
        }
        if self.state is SealState.ABSENT:
            return body
        return body | {
            "signer": self.signer,
            "issuer": self.issuer,
            "sealed_at": None if self.sealed_at is None else self.sealed_at.isoformat().replace("+00:00", "Z"),
            "timestamp": _timestamp(self),
        }


def _timestamp(report: SealReport) -> str:
    """Return none, untrusted, trusted, or archival: trusted, with a stamp over the whole file for later."""
    if not report.has_timestamp:
        return "none"
    if not report.timestamp_trusted:
        return "untrusted"
    return "archival" if report.is_archival else "trusted"


@dataclass(frozen=True, slots=True)
class TimeStamping:
    """A time stamping authority (RFC 3161). With its `authorities` (DER) the seal gets all that outlasts it: B-LTA."""

    url: str
    authorities: tuple[bytes, ...] = ()
    timeout_s: float = 5.0
