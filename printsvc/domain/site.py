"""An injection site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

SiteId = NewType("SiteId", str)


@dataclass(frozen=True, slots=True)
class Site:
    """`authority` is the name that stands on the paper as the issuing unit; `province` is its two- or three-digit code."""

    site_id: SiteId
    name: str
    authority: str
    province: str = ""
