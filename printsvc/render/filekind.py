"""What a file is, by its first bytes: asked before anything is loaded that could open it."""

from __future__ import annotations


def is_pdf(data: bytes) -> bool:
    """Return whether a file says that it is a PDF; the mark may stand anywhere in its first kilobyte."""
    return b"%PDF-" in data[:1024]
