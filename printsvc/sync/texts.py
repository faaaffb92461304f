"""What agents send, made fit for the columns it is kept in."""

from __future__ import annotations

from datetime import UTC, datetime


def text(value: str, length: int) -> str:
    """Return text that every database takes and that fits its column."""
    return value.replace("\0", "")[:length]


def aware(moment: datetime) -> datetime:
    """Return the moment; one that names no zone is UTC."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
