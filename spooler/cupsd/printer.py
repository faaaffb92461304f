"""The printer itself, asked over IPP: its health, and as the witness of paper."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
from pyipp import IPP
from pyipp.enums import IppOperation
from pyipp.exceptions import IPPConnectionError, IPPError, IPPParseError, IPPResponseError

from spooler.core.witness import Answer, Heard, Mute, PrinterJob, Unreachable

_JOB_ATTRIBUTES = ["job-id", "job-name", "job-state", "job-impressions-completed"]
_PRINTER_ATTRIBUTES = [
    "printer-state",
    "printer-state-reasons",
    "printer-is-accepting-jobs",
    "printer-up-time",
    "printer-make-and-model",
    "document-format-supported",
    "marker-levels",
    "media-ready",
]
_TRAITS = ["printer-make-and-model", "printer-uuid", "printer-name", "printer-info", "media-ready",
           "printer-resolution-supported", "sides-supported", "document-format-supported"]  # fmt: skip

# IPP status codes, RFC 8011, appendix B.
_FORBIDDEN = frozenset({0x0401, 0x0402, 0x0403})
_OPERATION_NOT_SUPPORTED = 0x0501
# A ValueError is an address that is none, or what answers there and is no printer: a page in another character set.
_NO_ANSWER = (IPPError, TimeoutError, aiohttp.ClientError, OSError, ValueError)
_SERVER_ERRORS = range(0x0500, 0x0600)


@dataclass(frozen=True, slots=True)
class PrinterFacts:
    """What a printer says of itself; `reasons` are verbatim, without "none"."""

    state: int
    reasons: tuple[str, ...]
    accepting: bool
    up_time_s: int | None
    formats: tuple[str, ...]
    marker_levels: tuple[int, ...]
    media_ready: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrinterTraits:
    """What a printer is, by its own word; resolutions are in dots an inch."""

    uri: str
    make_and_model: str
    info: str
    uuid: str
    media_ready: tuple[str, ...]
    resolutions_dpi: tuple[int, ...]
    duplex: bool
    formats: tuple[str, ...]


class Printers:
    """Asks any number of printers over one HTTP session. Made and closed inside a running event loop."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s))

    async def close(self) -> None:
        await self._session.close()

    async def see(self, uri: str) -> PrinterFacts | None:
        """Return the printer's own state; None where it does not answer."""
        try:
            answer = await self._execute(
                uri, IppOperation.GET_PRINTER_ATTRIBUTES, {"requested-attributes": _PRINTER_ATTRIBUTES}
            )
        except _NO_ANSWER:
            return None
        attributes: dict[str, Any] = next(iter(answer["printers"]), {})
        return PrinterFacts(
            state=int(attributes.get("printer-state") or 3),
            reasons=tuple(str(r) for r in _listed(attributes.get("printer-state-reasons")) if r != "none"),
            accepting=bool(attributes.get("printer-is-accepting-jobs", True)),
            up_time_s=_whole(attributes.get("printer-up-time")),
            formats=tuple(str(f) for f in _listed(attributes.get("document-format-supported"))),
            marker_levels=tuple(level for level in _listed(attributes.get("marker-levels")) if isinstance(level, int)),
            media_ready=tuple(str(m) for m in _listed(attributes.get("media-ready"))),
        )

    async def traits(self, uri: str) -> PrinterTraits | None:
        """Return what the printer at `uri` is; None where none answers."""
        wanted = {"requested-attributes": _TRAITS}
        try:
            answer = await self._execute(uri, IppOperation.GET_PRINTER_ATTRIBUTES, wanted)
        except _NO_ANSWER:
            return None
        said: dict[str, Any] = next(iter(answer["printers"]), {})
        return PrinterTraits(
            uri=uri,
            make_and_model=str(said.get("printer-make-and-model") or "")[:128],
            info=str(said.get("printer-info") or said.get("printer-name") or "")[:128],
            uuid=str(said.get("printer-uuid") or "")[:64],
            media_ready=tuple(str(m) for m in _listed(said.get("media-ready"))),
            resolutions_dpi=_resolutions(said.get("printer-resolution-supported")),
            duplex=any(str(s).startswith("two-sided") for s in _listed(said.get("sides-supported"))),
            formats=tuple(str(f) for f in _listed(said.get("document-format-supported"))),
        )

    async def ask(self, uri: str, job_name: str) -> Answer:
        """Return the printer's jobs of that name, or why they cannot be had."""
        try:
            jobs = await self._jobs(uri)
            named = tuple(
                PrinterJob(int(job["job-state"]), _whole(job.get("job-impressions-completed")))
                for job in jobs
                if job.get("job-name") == job_name and "job-state" in job
            )
            if named:
                return Heard(named)
            # That a job is not there says something only of a printer that was not restarted meanwhile.
            facts = await self.see(uri)
            return Heard((), facts.up_time_s) if facts else Unreachable()
        except IPPError as error:
            status = _status_of(error)
            if status in _FORBIDDEN or status == _OPERATION_NOT_SUPPORTED:
                return Mute()
            return Unreachable()
        except _NO_ANSWER:
            return Unreachable()

    async def _jobs(self, uri: str) -> list[dict[str, Any]]:
        try:
            return await self._list(uri, "all")
        except (IPPConnectionError, IPPParseError, IPPResponseError):
            raise
        except IPPError as error:
            status = _status_of(error)
            if status in _FORBIDDEN or status in _SERVER_ERRORS:
                raise
        # "all" came with PWG 5100.7; older printers know these two.
        return await self._list(uri, "not-completed") + await self._list(uri, "completed")

    async def _list(self, uri: str, which: str) -> list[dict[str, Any]]:
        wanted = {"which-jobs": which, "requested-attributes": _JOB_ATTRIBUTES}
        answer = await self._execute(uri, IppOperation.GET_JOBS, wanted)
        return [job for job in answer["jobs"] if job]

    async def _execute(self, uri: str, operation: IppOperation, attributes: dict[str, Any]) -> dict[str, Any]:
        printer = IPP(uri, session=self._session, request_timeout=max(1, round(self._timeout_s)))
        async with asyncio.timeout(self._timeout_s):
            return await printer.execute(operation, {"operation-attributes-tag": attributes})


def _status_of(error: IPPError) -> int | None:
    details = error.args[1] if len(error.args) > 1 else None
    status = details.get("status-code") if isinstance(details, dict) else None
    # An HTTP status (4xx, 5xx in decimal) comes in the same place, from another exception.
    return status if isinstance(status, int) and not isinstance(error, IPPResponseError) else None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _resolutions(value: Any) -> tuple[int, ...]:
    """Return printer-resolution-supported in dots an inch; the unit 4 is dots a centimetre (RFC 8010, 3.9)."""
    several = value if isinstance(value, list) else [value]
    return tuple(
        round(one[0] * 2.54) if one[2] == 4 else one[0] for one in several if isinstance(one, tuple) and len(one) == 3
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None
