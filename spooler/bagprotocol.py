"""What service and agent say to each other about day bags: `POST /agent/v1/day-bag`, `POST /agent/v1/day-bag/sync`.

The first is asked in the morning, with a request for a certificate over the key that the agent made; the answer is the
archive (issuing/bag). The second brings what was entered without a line, oldest first, for as long as any of it is not
acknowledged. Both may be repeated. See `spooler.protocol` for the rest.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from spooler.protocol import PROTOCOL_VERSION, JobId, Message

OFFLINE = "o"


class BagRequest(Message):
    """`request` is PKCS#10, DER in base64; the same one gets the same signer again."""

    protocol: int = PROTOCOL_VERSION
    journal_id: str
    request: str = Field(max_length=8192)


class BagEntry(Message):
    """One dose as it was entered. `hcert` is empty for one that is held; `paper` is "site" where the site prints it,
    "centre" where its page needs the centre to be drawn.

    With `copy_number` above 1 it is a further paper of the certificate `uvci`, and `copy_reason` says why.

    `told_before`: the agent reported on its paper while the service refused the bag, so that word is lost: the paper is
    uncertain, and must not be printed again by itself.
    """

    seq: int = Field(ge=1)
    event: dict[str, Any]
    hcert: str = Field(default="", max_length=8192)
    entered_at: datetime
    paper: str = "site"
    form: str = ""
    media: str = ""
    uvci: str = Field(default="", max_length=80)
    copy_number: int = Field(default=1, ge=1, le=2**31 - 1)
    copy_reason: str = ""
    told_before: bool = False


class SyncRequest(Message):
    """The oldest entries that were not acknowledged, without a gap between them."""

    protocol: int = PROTOCOL_VERSION
    journal_id: str
    bag_id: str
    entries: tuple[BagEntry, ...] = Field(max_length=200)


class EntryResult(Message):
    """`outcome`: stored, held, or conflict: then `reason` is a code, and a person at the centre decides."""

    seq: int
    outcome: str
    reason: str = ""
    detail: str = ""


class SyncAnswer(Message):
    """All entries up to `acknowledged` are durable at the service."""

    protocol: int = PROTOCOL_VERSION
    acknowledged: int
    results: tuple[EntryResult, ...] = ()


def is_offline(job_id: JobId) -> bool:
    """Return whether a site made this job itself: the ids of the service are hexadecimal."""
    return job_id.startswith(OFFLINE)
