"""A certificate: a signed statement about one dose."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from printsvc.domain.dose import DoseId
from printsvc.domain.uvci import Uvci


@dataclass(frozen=True, slots=True)
class Certificate:
    """`hcert` is the whole QR text (HC1:…); `kid` is hexadecimal; times are aware UTC."""

    uvci: Uvci
    dose_id: DoseId
    version: int
    hcert: str
    kid: str
    issued_at: datetime
    expires_at: datetime
