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


# RFC 8011, 5.4.12: the severity is the suffix. CUPS sends its own progress without one ("connecting-to-device",
# "cups-waiting-for-job-completed"), so of the bare keywords only those that stop paper count.
_STOPPING = frozenset(
    {
        "cover-open",
        "developer-empty",
        "door-open",
        "fuser-over-temp",
        "input-tray-missing",
        "interlock-open",
        "marker-supply-empty",
        "marker-waste-full",
        "media-empty",
        "media-jam",
        "media-needed",
        "moving-to-paused",
        "opc-life-over",
        "output-area-full",
        "output-tray-missing",
        "paused",
        "power-down",
        "shutdown",
        "spool-area-full",
        "stopped-partly",
        "stopping",
        "subunit-missing",
        "toner-empty",
    }
)


def stops_paper(reason: str) -> bool:
    """Return whether a printer-state-reason means that no page can come out now; warnings and reports do not."""
    return reason.endswith("-error") or reason in _STOPPING
