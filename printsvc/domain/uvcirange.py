"""A range of UVCIs that is given away before anybody knows which doses they are for.

All of them begin alike, so that whoever holds one can tell the range; the rest follows from a secret, so that nobody
can guess a neighbour's. Two ranges never meet: their beginnings differ.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from printsvc.domain.uvci import Uvci, make_uvci

PREFIX_BYTES = 8
SECRET_BYTES = 16
MAX_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class UvciRange:
    """`size` UVCIs, numbered from 0. `prefix` is 8 bytes that no other range has, `secret` is 16 random bytes."""

    country: str
    prefix: bytes
    secret: bytes = field(repr=False)
    size: int

    def __post_init__(self) -> None:
        if len(self.prefix) != PREFIX_BYTES or len(self.secret) != SECRET_BYTES or not 0 < self.size <= MAX_SIZE:
            raise ValueError("not a range of UVCIs")

    @property
    def beginning(self) -> str:
        """What every UVCI of the range begins with: `URN:UVCI:01:VN:8F3A…`."""
        return f"URN:UVCI:01:{self.country}:{self.prefix.hex().upper()}"

    def opaque(self, number: int) -> bytes:
        """Return the 16 bytes of UVCI `number`. Raises IndexError outside the range."""
        if not 0 <= number < self.size:
            raise IndexError("outside the range")
        digest = hmac.digest(self.secret, self.prefix + number.to_bytes(4, "big"), hashlib.sha256)
        return self.prefix + digest[: 16 - PREFIX_BYTES]

    def uvci(self, number: int) -> Uvci:
        """Return UVCI `number`. Raises IndexError outside the range."""
        return make_uvci(self.country, self.opaque(number))

    def find(self, uvci: str) -> int | None:
        """Return the number of a UVCI, None where it is not of this range."""
        if not uvci.startswith(self.beginning):
            return None
        return next((number for number in range(self.size) if self.uvci(number) == uvci), None)
