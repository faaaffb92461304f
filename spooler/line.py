"""What the agent does so that a poor line carries little: stamps pages, gathers reports, tells what went over it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import structlog

from printsvc.errors import PrintsvcError
from spooler.link import Link
from spooler.protocol import Event, EventKind, FormName, LeaseAnswer, LeasedJob, ReportAnswer
from spooler.stamping import SiteForms, Stamped, can_stamp

_GATHER_S: Final = 1.0
_TELL_COUNTS_S: Final = 60.0
_FETCH_AGAIN_S: Final = 30.0
log = structlog.get_logger("spooler")

KeepDocument = Callable[[str, bytes], Awaitable[None]]


class LineDesk:
    """Beside the agent's link. Made inside a running event loop; `keep_document` stores one under its SHA-256."""

    def __init__(self, state_dir: Path, link: Link, keep_document: KeepDocument, *, stamps: bool = True) -> None:
        self._link = link
        self._keep_document = keep_document
        self._counts_file = state_dir / "line.json"
        self._counts_told_at = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stamp")
        self._stamps = stamps and can_stamp()
        self._forms = SiteForms(state_dir / "forms")
        self._digests = self._forms.digests() if self._stamps else ()
        self._fetching: asyncio.Task[None] | None = None
        self._fetch_again_at = 0.0
        self._waited = False
        link.meter.remember(self._counts_file)

    def close(self) -> None:
        self._link.meter.keep(self._counts_file)
        if self._fetching is not None:
            self._fetching.cancel()
        self._thread.shutdown(wait=False)

    def told(self) -> dict[str, Any]:
        """Return the fields of a lease request that are about the line; the counts once in a minute."""
        fields: dict[str, Any] = {"stamps": self._stamps, "forms": self._digests}
        now = asyncio.get_running_loop().time()
        if now >= self._counts_told_at + _TELL_COUNTS_S or not self._counts_told_at:
            self._counts_told_at = now
            fields["counts"] = self._link.meter.counts()
            self._link.meter.keep(self._counts_file)
        return fields

    async def prepare(self, answer: LeaseAnswer) -> None:
        """Stamp the jobs that brought their data and keep the documents: then nothing of them needs to be fetched."""
        for job in answer.jobs:
            if job.data is not None and self._stamps:
                await self._stamp(job)
        if answer.forms and self._stamps and self._fetching is None:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._fetch_again_at:
                self._fetching = loop.create_task(self._fetch_forms(answer.forms))

    async def gathers(self, events: Sequence[Event], woken: asyncio.Event) -> bool:
        """Return whether it waited for company: word that CUPS has a job goes with word of what became of it."""
        if self._waited or any(event.kind is not EventKind.SUBMITTED for event in events):
            self._waited = False
            return False
        self._waited = True
        try:
            await asyncio.wait_for(woken.wait(), _GATHER_S)
        except TimeoutError:
            return True
        self._waited = False  # more came: look what it is
        return True

    def count(self, events: Sequence[Event], answer: ReportAnswer) -> None:
        """Count the papers whose end the service now knows."""
        ends = (EventKind.PRINTED, EventKind.UNCERTAIN, EventKind.FAILED)
        self._link.meter.certificates += sum(e.kind in ends and e.seq <= answer.acknowledged for e in events)

    async def _stamp(self, job: LeasedJob) -> None:
        outcome, pdf = await self._in_thread(self._forms.stamp, job)
        meter = self._link.meter
        if outcome is Stamped.SAME:
            try:
                await self._keep_document(job.document.sha256, pdf)
                meter.stamped += 1
            except PrintsvcError as error:
                log.warning("stamped_not_kept", job_id=job.job_id, code=error.code)
        elif outcome is Stamped.DIFFERS:
            meter.mismatched += 1
            self._counts_told_at = 0.0  # tell at once
            self._digests = await self._in_thread(self._forms.digests)

    async def _fetch_forms(self, names: Sequence[FormName]) -> None:
        """Fetch what the service stamps with, beside everything else: until it is here pages are fetched."""
        try:
            for name in await self._in_thread(self._forms.lacks, names):
                encoded = await self._link.fetch_form(name)
                if await self._in_thread(self._forms.keep, name.digest, encoded):
                    log.info("form_kept", form=name.form, digest=name.digest[:16])
            self._digests = await self._in_thread(self._forms.digests)
        except PrintsvcError as error:
            log.warning("form_not_fetched", code=error.code, detail=error.en)
        finally:
            # A line that is cut again and again brings it in pieces.
            self._fetch_again_at = asyncio.get_running_loop().time() + (0.0 if self._digests else 1.0)
            self._fetching = None

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
