"""A queue (CUPS) and the printer (device) behind it, as an agent reports them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class PrinterState(IntEnum):
    """RFC 8011, 5.4.11."""

    IDLE = 3
    PROCESSING = 4
    STOPPED = 5


@dataclass(frozen=True, slots=True)
class Printer:
    """`state_reasons` are IPP keywords, verbatim: `media-empty-error`."""

    queue: str
    uri: str
    make_and_model: str
    state: PrinterState
    state_reasons: tuple[str, ...] = ()
    accepting: bool = True
    formats: tuple[str, ...] = field(default=())
