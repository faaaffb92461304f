"""What a site says to the centre about day bags, while it has a line."""

from __future__ import annotations

import base64
import json

from pydantic import ValidationError

from printsvc.errors import StateError
from spooler.bagprotocol import BagRequest, SyncAnswer, SyncRequest
from spooler.link import Link, LinkDownError

MAX_BAG_BYTES = 256 * 1024 * 1024
_REFUSED = frozenset({400, 403, 404, 409, 410, 413, 422})


class NoBagError(StateError):
    """The centre gives no bag now; its own sentence says why."""

    code = "no_day_bag"


class BagRefusedError(StateError):
    """The centre does not take what one bag brings, however often it is asked; its own sentence says why."""

    code = "bag_refused"


class BagLine(Link):
    """A line with the two calls of day bags more."""

    async def take_bag(self, request: bytes, journal_id: str) -> bytes:
        """Return the archive. Raises NoBagError (not granted, waits for the CSCA, over), AccessError, LinkDownError."""
        body = BagRequest(journal_id=journal_id, request=base64.b64encode(request).decode("ascii"))
        status, content, retry_after_s = await self._call(
            "POST", "day-bag", body.model_dump_json().encode(), max_bytes=MAX_BAG_BYTES, extra_s=60.0
        )
        if status != 200:
            told = _told(bytes(content))
            if told is not None and status not in (401, 403):
                raise NoBagError(told[1], vi=told[2], code=told[0])
        self._expect_ok(status, retry_after_s)
        return bytes(content)

    async def bring(self, request: SyncRequest) -> SyncAnswer:
        """Bring entries home. Raises AccessError, LinkDownError: then they are to be brought again; BagRefusedError."""
        body = request.model_dump_json().encode()
        status, content, retry_after_s = await self._call("POST", "day-bag/sync", body)
        # Without a sentence of ours it is somebody between us and the centre; 401 is about the agent.
        told = _told(bytes(content)) if status in _REFUSED else None
        if told is not None:
            raise BagRefusedError(told[1], vi=told[2], code=told[0])
        self._expect_ok(status, retry_after_s)
        try:
            return SyncAnswer.model_validate_json(bytes(content))
        except ValidationError as error:
            raise LinkDownError("the service sent no SyncAnswer", retry_after_s=0) from error


def _told(content: bytes) -> tuple[str, str, str] | None:
    """(code, English, Vietnamese) of a problem document (RFC 9457); None for anything else."""
    try:
        document = json.loads(content)
        return str(document["code"]), str(document["detail"]), str(document.get("detail_vi") or document["detail"])
    except (ValueError, KeyError, TypeError):
        return None


__all__ = ["BagLine", "BagRefusedError", "LinkDownError", "NoBagError"]
