"""Verifying what somebody holds up: the text of a code, a picture or a PDF of it, a line of a batch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from printsvc.credential.batch import verify_line, verify_request
from printsvc.credential.formats import recognise
from printsvc.credential.revocation import Revocations
from printsvc.credential.trust import TrustList
from printsvc.credential.verify import verify
from printsvc.render.scan import scan_codes


def verify_file(
    body: bytes, *, trust: TrustList, now: datetime, revocations: Revocations | None = None
) -> list[dict[str, Any]]:
    """Return a verdict for each code in a text, ZIP, PNG, JPEG or PDF; at least one. What it is, its content says.

    Raises ScanError where there is nothing to read.
    """
    codes = [body] if recognise(body) is not None else scan_codes(body)
    return [verify(code, trust=trust, at=now, revocations=revocations).to_json() for code in codes]


__all__ = ["verify_file", "verify_line", "verify_request"]
