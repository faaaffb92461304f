"""A revocation: a certificate that no longer counts, why, by whom, and whether that may be taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from printsvc.domain.uvci import Uvci


class RevocationReason(StrEnum):
    IDENTITY_MISMATCH = "identity_mismatch"
    DATA_ERROR = "data_error"
    FRAUD = "fraud"
    CORRECTED = "corrected"
    SIGNER_COMPROMISED = "signer_compromised"
    HOLDER_REQUEST = "holder_request"
    DOSE_WITHDRAWN = "dose_withdrawn"
    RENEWED = "renewed"


@dataclass(frozen=True, slots=True)
class ReasonRule:
    """What people read, and how long after it a revocation for this reason can be undone; None: never."""

    vi: str
    en: str
    undo_within: timedelta | None


_MONTH = timedelta(days=30)

REASONS: Mapping[RevocationReason, ReasonRule] = MappingProxyType(
    {
        RevocationReason.IDENTITY_MISMATCH: ReasonRule(
            "Thông tin cá nhân không khớp hoặc không còn xác thực được.",
            "The identity does not match, or can no longer be confirmed.",
            _MONTH,
        ),
        RevocationReason.DATA_ERROR: ReasonRule(
            "Dữ liệu trên chứng nhận bị sai.", "The certificate holds wrong data.", _MONTH
        ),
        RevocationReason.FRAUD: ReasonRule("Gian lận.", "Fraud.", None),
        # Its replacement counts: undone, one dose would have two certificates.
        RevocationReason.CORRECTED: ReasonRule(
            "Đã được thay bằng chứng nhận đính chính.", "A corrected certificate replaces it.", None
        ),
        RevocationReason.SIGNER_COMPROMISED: ReasonRule(
            "Khóa ký không còn đáng tin cậy.", "The key that signed it can no longer be trusted.", None
        ),
        RevocationReason.HOLDER_REQUEST: ReasonRule(
            "Theo yêu cầu của người được cấp.", "Its holder asked for it.", _MONTH
        ),
        RevocationReason.DOSE_WITHDRAWN: ReasonRule(
            "Mũi tiêm không được công nhận (lô vắc xin, bảo quản).",
            "The dose does not count (lot of vaccine, storage).",
            _MONTH,
        ),
        RevocationReason.RENEWED: ReasonRule(
            "Đã được thay bằng chứng nhận cấp lại.", "A certificate that was issued again replaces it.", None
        ),
    }
)
"""Every reason; the table of docs/revocation.md is compared with it."""

OF_ONE_CERTIFICATE = frozenset(
    {RevocationReason.CORRECTED, RevocationReason.SIGNER_COMPROMISED, RevocationReason.RENEWED}
)
"""Reasons that lie in one certificate. The others lie in the dose or the person: they end all its certificates."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """See the columns of `revocations`. Current is the one that is not undone; a certificate has at most one of these.

    Hashes are the first 16 bytes of SHA-256 (credential/revocation.py); `kid` is hexadecimal; `change` is the number of
    the last change, which grows with every revocation and every undoing in the whole store.
    """

    revocation_pk: int
    uvci: Uvci
    kid: str
    uci_hash: bytes
    country_uci_hash: bytes
    signature_hash: bytes
    reason: RevocationReason
    revoked_at: datetime
    revoked_by: str
    expires_at: datetime
    request_id: str
    change: int
    undone_at: datetime | None = None
    undone_by: str = ""
    undo_reason: str = ""

    @property
    def is_current(self) -> bool:
        return self.undone_at is None


def undo_until(revocation: Revocation) -> datetime | None:
    """Return the last moment at which a revocation can be undone; None where it never can."""
    within = REASONS[revocation.reason].undo_within
    return None if within is None else revocation.revoked_at + within
