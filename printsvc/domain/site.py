"""An injection site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

SiteId = NewType("SiteId", str)


@dataclass(frozen=True, slots=True)
class Site:
    """`authority` stands on the paper as the issuing unit; `province` is a code of the 2021 list, or empty."""

    site_id: SiteId
    name: str
    authority: str
    province: str = ""
