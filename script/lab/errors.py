"""What can go wrong in the lab: one class, for a message that names the log to read."""

from __future__ import annotations


class LabError(Exception):
    """A part did not start, did not answer in time, or cannot be read."""
