"""Counts what goes over the line: every byte of every connection, TLS and headers included, and the pages."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spooler.protocol import LineCounts


class Meter:
    """The counts of one agent; `keep` and `remember` let them outlive it (a kill loses what came since `keep`)."""

    def __init__(self) -> None:
        self.bytes_up = 0
        self.bytes_down = 0
        self.certificates = 0
        self.stamped = 0
        self.fetched = 0
        self.mismatched = 0

    def counts(self) -> LineCounts:
        return LineCounts(**{name: getattr(self, name) for name in LineCounts.model_fields})

    def remember(self, path: Path) -> None:
        """Go on from what `keep` wrote; a file that is not there or damaged counts as nothing."""
        with suppress(OSError, ValueError, ValidationError):
            kept = LineCounts.model_validate(json.loads(path.read_bytes()))
            for name in LineCounts.model_fields:
                setattr(self, name, getattr(self, name) + getattr(kept, name))

    def keep(self, path: Path) -> None:
        """Write the counts; where there is no room, not."""
        with suppress(OSError):
            part = path.with_suffix(".part")
            part.write_text(self.counts().model_dump_json())
            part.rename(path)

    def socket_of(self, address: Sequence[Any]) -> socket.socket:
        """Return a new socket for an address as `getaddrinfo` gives it, whose bytes are counted here."""
        family, kind, protocol = address[:3]
        made = _CountedSocket(family, kind, protocol)
        made.meter = self
        return made


class _CountedSocket(socket.socket):
    """What asyncio reads and writes with is counted, below TLS."""

    meter: Meter

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        self.meter.bytes_down += len(data)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0, /) -> int:
        count = super().recv_into(buffer, nbytes, flags)
        self.meter.bytes_down += count
        return count

    def send(self, data: Any, flags: int = 0, /) -> int:
        count = super().send(data, flags)
        self.meter.bytes_up += count
        return count

    def sendmsg(self, buffers: Any, *more: Any) -> int:
        count = super().sendmsg(buffers, *more)
        self.meter.bytes_up += count
        return count
