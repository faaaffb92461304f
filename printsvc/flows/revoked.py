"""What a revoked certificate may no longer do: be drawn, be printed."""

from __future__ import annotations

from sqlalchemy import Connection

from printsvc.domain.revocation import REASONS, Revocation
from printsvc.errors import StateError
from printsvc.store.revocations import find_current

REVOKED_CODE = "certificate_revoked"


def revoked_error(revocation: Revocation) -> StateError:
    """Return the error of somebody who wants a revoked certificate; it says since when and why."""
    rule, day = REASONS[revocation.reason], revocation.revoked_at.date()
    return StateError(
        f"The certificate was revoked on {day} (UTC). {rule.en} No paper of it is made.",
        vi=f"Chứng nhận đã bị thu hồi ngày {day:%d/%m/%Y} (UTC). {rule.vi} Không in nữa.",
        code=REVOKED_CODE,
    )


def refuse_revoked(connection: Connection, uvci: str) -> None:
    """Raise StateError (certificate_revoked) where a certificate is revoked."""
    revocation = find_current(connection, uvci)
    if revocation is not None:
        raise revoked_error(revocation)
