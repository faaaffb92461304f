"""Why a page is not stamped: it goes through WeasyPrint, which draws it right or refuses it with a reason."""

from __future__ import annotations


class NeedsWeasyPrint(Exception):  # noqa: N818 - no error: the caller draws the page the slow way
    """`reason` is a word to count by, `slot` where it was met, "" if nowhere in particular. No text of the page."""

    def __init__(self, reason: str, slot: str = "") -> None:
        super().__init__(f"{reason}: {slot}" if slot else reason)
        self.reason = reason
        self.slot = slot
