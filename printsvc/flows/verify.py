"""Verifying what somebody holds up: the text of a code, a picture or a PDF of it, a line of a batch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from printsvc.credential.trust import TrustList
from printsvc.credential.verify import verify
from printsvc.credential.batch import verify_line, verify_request
from printsvc.errors import ScanError
from printsvc.render.scan import read_codes


def verify_file(body: bytes, *, trust: TrustList, now: datetime) -> list[dict[str, Any]]:
    """Return a verdict for each code in a text, PNG, JPEG or PDF; at least one.

    Raises ScanError where there is nothing to read.
    """
    codes = read_codes(body)
    if not codes:
        raise ScanError(en="There is no code in this file.", vi="Không tìm thấy mã nào trong tệp này.")
    return [verify(code, trust=trust, at=now).to_json() for code in codes]


__all__ = ["verify_file", "verify_line", "verify_request"]
