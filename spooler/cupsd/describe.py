"""A queue as the core and the service see it: what CUPS says and what the printer says, put together."""

from __future__ import annotations

from spooler.core.attempt import Queue
from spooler.cupsd import server
from spooler.cupsd.printer import PrinterFacts
from spooler.protocol import PrinterReport

CUPS_SILENT = "cups-silent: CUPS does not answer / CUPS không trả lời"
_PRINTER_SILENT = "printer-silent: the printer does not answer / máy in không trả lời"


def describe(
    queue: server.CupsQueue, facts: PrinterFacts | None, *, asked: bool, advice: tuple[str, ...]
) -> tuple[Queue, PrinterReport]:
    """Return a queue for the core and for the service, from what CUPS and the printer say of it.

    `advice` is for people: unlike a problem it does not stop printing.
    """
    problems = server.check_queue(queue)
    answers = facts is not None or not asked
    reasons = queue.reasons + tuple(r for r in (facts.reasons if facts else ()) if r not in queue.reasons)
    stopped = queue.state == 5 or (facts is not None and facts.state == 5)
    state = 5 if stopped or not answers else queue.state
    accepting = queue.accepting and (facts is None or facts.accepting)
    silent = () if answers else (_PRINTER_SILENT,)
    core_queue = Queue(
        name=queue.name,
        state=state,
        accepting=accepting,
        reasons=reasons,
        answers=answers,
        problems=problems,
        up_time_s=facts.up_time_s if facts else None,
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
    )
    return core_queue, report
