"""The compiled forms that pages are drawn with, as sites fetch them: by digest, compressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from printsvc.domain.form import FormId
from printsvc.errors import PrintsvcError, UnavailableError
from printsvc.render.stamp import parse_compiled

_FRESH_S: Final = 600.0
_LOOK_AGAIN_S: Final = 10.0
_MOST: Final = 200
_LOG = structlog.get_logger("printsvc.forms")

FetchForm = Callable[[FormId], Awaitable[bytes | None]]
"""Return a compiled form as it is encoded, None where the form is not compiled."""


@dataclass(frozen=True, slots=True)
class ShelvedForm:
    """`body` is the encoded form, compressed (zlib)."""

    form_id: FormId
    digest: str
    body: bytes


class FormShelf:
    """What the drawing processes stamp with; asked for once, and again after a while: they may have been renewed.

    An older form than theirs does no harm: what a site stamps with it has another digest, and is fetched.
    """

    def __init__(self, fetch: FetchForm) -> None:
        self._fetch = fetch
        self._kept: dict[FormId, ShelvedForm | None] = {}
        self._fresh_until: dict[FormId, float] = {}
        self._asking: dict[FormId, asyncio.Task[None]] = {}

    async def find(self, form_id: FormId) -> ShelvedForm | None:
        """Return the form; None where it is not compiled, or nobody can be asked now."""
        if asyncio.get_running_loop().time() >= self._fresh_until.get(form_id, 0.0):
            task = self._asking.get(form_id)
            if task is None:
                task = self._asking[form_id] = asyncio.create_task(self._ask(form_id))
            if form_id not in self._kept:
                await asyncio.shield(task)
        return self._kept.get(form_id)

    async def _ask(self, form_id: FormId) -> None:
        loop = asyncio.get_running_loop()
        found = None
        try:
            encoded = await self._fetch(form_id)
            if encoded is not None:
                found = await asyncio.to_thread(_shelved, form_id, encoded)
        except PrintsvcError as error:
            level = _LOG.warning if isinstance(error, UnavailableError) else _LOG.error
            level("compiled form not had", form=form_id, code=error.code)
            found = self._kept.get(form_id)
        finally:
            if len(self._kept) >= _MOST:  # names that no form has
                self._kept.clear()
            self._kept[form_id] = found
            self._fresh_until[form_id] = loop.time() + (_FRESH_S if found else _LOOK_AGAIN_S)
            self._asking.pop(form_id, None)


def _shelved(form_id: FormId, encoded: bytes) -> ShelvedForm:
    return ShelvedForm(form_id, parse_compiled(encoded).digest, zlib.compress(encoded, 9))
