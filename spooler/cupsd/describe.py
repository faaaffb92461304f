"""A queue as the core and the service see it: what CUPS says and what the printer says, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from spooler.core.attempt import Queue
from spooler.cupsd import server
from spooler.cupsd.admin import QueuedJob, list_jobs
from spooler.cupsd.lane import Lane
from spooler.cupsd.printer import PrinterFacts, Printers
from spooler.protocol import PrinterReport, QueueSettings

CUPS_SILENT = "cups-silent: CUPS does not answer / CUPS không trả lời"
_PRINTER_SILENT = "printer-silent: the printer does not answer / máy in không trả lời"


def describe(
    queue: server.CupsQueue,
    facts: PrinterFacts | None,
    *,
    asked: bool,
    advice: tuple[str, ...],
    setting: QueueSettings,
    others: Sequence[QueuedJob],
    now: datetime,
) -> tuple[Queue, PrinterReport]:
    """Return a queue for the core and for the service, from what CUPS and the printer say of it.

    `advice` is for people: unlike a problem it does not stop printing. `setting` is the centre's; `others` are the jobs
    of the queue that are not ours.
    """
    problems = server.check_queue(queue)
    answers = facts is not None or not asked
    reasons = queue.reasons + tuple(r for r in (facts.reasons if facts else ()) if r not in queue.reasons)
    stopped = queue.state == 5 or (facts is not None and facts.state == 5)
    state = 5 if stopped or not answers else queue.state
    accepting = queue.accepting and (facts is None or facts.accepting)
    silent = () if answers else (_PRINTER_SILENT,)
    oldest = min((job.created_at for job in others), default=None)
    oldest_s = None if oldest is None else max(0, round(now.timestamp()) - oldest)
    core_queue = Queue(
        name=queue.name,
        state=state,
        accepting=accepting,
        reasons=reasons,
        answers=answers,
        problems=problems,
        up_time_s=facts.up_time_s if facts else None,
        pool=setting.pool,
        media=setting.media,
        ready=facts.media_ready if facts else (),
        levels=facts.marker_levels if facts else (),
        queued=len(others),
        oldest_s=oldest_s,
    )
    report = PrinterReport(
        queue=queue.name,
        uri=queue.device_uri,
        make_and_model=queue.make_and_model,
        state=state,
        state_reasons=reasons,
        accepting=accepting,
        formats=facts.formats if facts else (),
        marker_levels=facts.marker_levels if facts else (),
        problems=(*problems, *silent, *server.advise_queue(queue), *advice),
        queued=len(others),
        # In whole minutes, or every look would be news.
        oldest_s=None if oldest_s is None else oldest_s // 60 * 60,
        media_ready=facts.media_ready if facts else (),
    )
    return core_queue, report


@dataclass(frozen=True, slots=True)
class Look:
    """All queues as they are now; `uris` are the printers' own, None where one is not driven by IPP."""

    uris: dict[str, str | None]
    queues: tuple[Queue, ...]
    reports: tuple[PrinterReport, ...]


async def look(
    lane: Lane,
    printers: Printers,
    names: Sequence[str],
    *,
    advice: tuple[str, ...],
    setting_of: Callable[[str], QueueSettings],
    now: datetime,
) -> Look:
    """Ask CUPS for these queues (all, where none is named) and each printer for itself. Raises as the lane does."""
    queues = await lane.run(lambda c: server.see_queues(c, names))
    waiting = await lane.run(list_jobs)
    uris = {queue.name: server.printer_uri_of(queue.device_uri) for queue in queues}

    async def see(uri: str | None) -> PrinterFacts | None:
        return None if uri is None else await printers.see(uri)

    facts = await asyncio.gather(*(see(uri) for uri in uris.values()))
    told = [
        describe(
            queue,
            fact,
            asked=uris[queue.name] is not None,
            advice=advice,
            setting=setting_of(queue.name),
            others=[job for job in waiting if job.queue == queue.name and not job.ours],
            now=now,
        )
        for queue, fact in zip(queues, facts, strict=True)
    ]
    return Look(uris, tuple(queue for queue, _ in told), tuple(report for _, report in told))
