"""Structured logs: one JSON object a line on standard error, never a name, a number or a token."""

from __future__ import annotations

import logging
import sys
from types import TracebackType

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError
from structlog.typing import EventDict, WrappedLogger


def configure(level: str = "INFO") -> None:
    """Send structlog and the standard library's loggers to standard error as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _first_line],
            # A library's message without its arguments: those may be what somebody sent.
            use_get_message=False,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _class_and_place,
                structlog.processors.JSONRenderer(ensure_ascii=True),
            ],
        )
    )
    logging.getLogger("aiohttp.server").addFilter(quiet_broken_body)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Paths and queries may hold a UVCI: who called what is counted in the metrics, not written down. SQLAlchemy at
    # DEBUG would write every row.
    for chatty in ("aiohttp.access", "alembic", "fontTools", "sqlalchemy", "weasyprint"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def quiet_broken_body(record: logging.LogRecord) -> bool:
    """Make a note of what aiohttp takes for a fault of ours: a body that is not what its headers say.

    It was answered 400 by then; aiohttp meets the same error once more when it reads what is left of the body.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | RequestPayloadError):
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args, record.exc_info, record.exc_text = "the body of a request was broken", (), None, None
        return logging.getLogger().isEnabledFor(logging.INFO)
    return True


def place_of(trace: TracebackType | None) -> str:
    """Return `module:line` where an exception was raised; empty without a traceback."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__', '')}:{trace.tb_lineno}"


def _first_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Keep the first line of a library's message: asyncio writes the exception, with its text, in those after it."""
    event["event"] = str(event["event"]).partition("\n")[0]
    event.pop("stack_info", None)
    return event


def _class_and_place(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Say of an exception what and where it was; its text may quote a row or a request, and so a name."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        event["error"] = info[0].__name__
        event["place"] = place_of(info[2])
    return event
