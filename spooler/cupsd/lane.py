"""One thread per CUPS server in which all of pycups happens.

pycups keeps server, port and user per thread, has no timeouts (a silent server holds a call for a minute) and crashes
the process when a connection is shared by threads. So a lane is one thread with its own connection; when a call takes
too long the lane is left to end by itself and a new one is made. What the late call did is then not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import cups

from printsvc.errors import SiteError

T = TypeVar("T")


class CupsSilentError(SiteError):
    """CUPS did not answer in time, or cannot be reached: what the call did is not known."""

    code = "cups_silent"


class CupsRefusedError(SiteError):
    """CUPS answered with an IPP error; `status` is the IPP status code."""

    code = "cups_refused"

    def __init__(self, status: int, en: str) -> None:
        super().__init__(en)
        self.status = status


_Call = tuple[Callable[[Any], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]

# IPP status codes that say nothing about the request itself: RFC 8011, appendix B.
_BUSY = frozenset({0x0500, 0x0502, 0x0503, 0x0505, 0x0506, 0x0507})


class Lane:
    """Runs functions of one argument, a `cups.Connection`, one after the other in a thread of its own."""

    def __init__(self, host: str, port: int, *, timeout_s: float, user: str = "printsvc") -> None:
        self._host, self._port, self._user = host, port, user
        self._timeout_s = timeout_s
        self._calls: queue.SimpleQueue[_Call | None] | None = None
        self.abandoned = 0

    async def run(self, function: Callable[[Any], T], *, timeout_s: float | None = None) -> T:
        """Return what the function returned. Raises CupsSilentError or CupsRefusedError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._calls is None:
            self._calls = queue.SimpleQueue()
            arguments = (self._calls, self._host, self._port, self._user)
            threading.Thread(target=_serve, args=arguments, daemon=True, name="cups-lane").start()
        calls = self._calls
        calls.put((function, future, loop))
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                return await future
        except TimeoutError as error:
            # Calls behind it are still answered there if it comes back while they wait; else they are skipped.
            if self._calls is calls:
                self.abandoned += 1
                self._calls = None
                calls.put(None)
            raise CupsSilentError("CUPS did not answer in time.", vi="CUPS không trả lời.") from error

    def close(self) -> None:
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None


def _serve(calls: queue.SimpleQueue[_Call | None], host: str, port: int, user: str) -> None:
    cups.setServer(host)
    cups.setPort(port)
    cups.setUser(user)
    cups.setPasswordCB(lambda _prompt: "")
    connection: Any = None
    while (call := calls.get()) is not None:
        function, future, loop = call
        if future.done():
            continue
        error: Exception | None = None
        result: Any = None
        try:
            if connection is None:
                connection = cups.Connection(host=host, port=port)
            result = function(connection)
        except cups.IPPError as caught:
            status = int(caught.args[0])
            error = CupsRefusedError(status, f"CUPS answered {caught.args[1]}")
            if status in _BUSY:
                connection = None
                error = CupsSilentError(f"CUPS cannot answer now: {caught.args[1]}")
        except (RuntimeError, cups.HTTPError, OSError) as caught:
            connection = None
            error = CupsSilentError(f"CUPS cannot be reached: {caught}", vi="Không kết nối được CUPS.")
        except Exception as caught:
            connection = None
            error = caught
        # The loop is closed where the agent ended while CUPS was silent: nobody wants the answer any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_answer, future, result, error)


def _answer(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
