"""A poor line between an agent and its service, in user space: slow, far, and cut. It counts what goes over it.

This kernel has no `tc netem`. A connection of the agent is taken here and made anew to the service; what goes over
waits for its turn on the line (all connections of a direction share its rate) and then for the way. While the line is
down every connection is reset, and so is every new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from types import TracebackType
from typing import Self

_CHUNK = 512


class PoorLine:
    """Opened by its constructor, in a thread of its own; `close()` or `with` ends it.

    `bits_per_s` is the rate of each direction, None for any; `round_trip_s` is the way there and back. `holds` bounds
    the bytes that are taken from the agent ahead of the rate, None leaves it to the kernel, which takes megabytes.
    """

    def __init__(
        self,
        target_port: int,
        *,
        bits_per_s: float | None = None,
        round_trip_s: float = 0.0,
        holds: int | None = None,
    ) -> None:
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections = 0
        self.cuts = 0
        self.port = 0
        self._target_port = target_port
        self._bits_per_s = bits_per_s
        self._holds = holds
        self._way_s = round_trip_s / 2
        self._free_at = {True: 0.0, False: 0.0}
        self._open: set[asyncio.StreamWriter] = set()
        self._taking: set[asyncio.Task[None]] = set()
        self._is_down = False
        self._outages: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the line did not open")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _closed(self) -> bool:
        return not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bytes(self) -> tuple[int, int]:
        """Return the bytes up to the service and down from it, so far: payload of TCP."""
        return self.bytes_up, self.bytes_down

    def cut_now(self) -> None:
        """Reset every connection; new ones are taken at once."""
        self._loop.call_soon_threadsafe(self._cut)

    def down(self, is_down: bool = True) -> None:
        """Take the line down, or up again."""
        self._loop.call_soon_threadsafe(self._set_down, is_down)

    def cut_often(self, share: float, mean_s: float, seed: int) -> None:
        """From now on the line is down for that share of the time; an outage lasts `mean_s` in the mean."""

        def begin() -> None:
            self._outages = self._loop.create_task(self._come_and_go(share, mean_s, random.Random(seed)))

        self._loop.call_soon_threadsafe(begin)

    def heal(self) -> None:
        """No more outages."""

        def end() -> None:
            if self._outages is not None:
                self._outages.cancel()
            self._set_down(False)

        self._loop.call_soon_threadsafe(end)

    def close(self) -> None:
        """End it; calling it twice does no harm."""
        if not self._closed:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        try:
            self._loop.run_until_complete(self._serve(ready))
        finally:
            self._loop.close()

    def _cut(self) -> None:
        self.cuts += bool(self._open)
        for writer in self._open:
            writer.transport.abort()

    def _set_down(self, is_down: bool) -> None:
        self._is_down = is_down
        if is_down:
            self._cut()

    async def _come_and_go(self, share: float, mean_s: float, chance: random.Random) -> None:
        while True:
            self._set_down(True)
            await asyncio.sleep(chance.expovariate(1 / mean_s))
            self._set_down(False)
            await asyncio.sleep(chance.expovariate(share / (mean_s * (1 - share))))

    async def _serve(self, ready: threading.Event) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        if self._holds is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._holds)
        # The reader's own bound: it takes twice that before it waits.
        server = await asyncio.start_server(self._accept, sock=listener, limit=(self._holds or 1 << 17) // 2)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        # What comes in while a server closes, asyncio 3.11 loses without closing it: first nothing more is taken.
        self._loop.remove_reader(listener)
        await asyncio.sleep(0.01)
        server.close()
        self._cut()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # one that is just accepted begins another
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # A connection whose task was cancelled before its first step still has its socket. To be made takes a turn of
        # the loop, and so does to be lost.
        for _ in range(3):
            for writer in self._open:
                writer.transport.abort()
            await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        task = self._loop.create_task(self._take(reader, writer))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_down:
            self._open.discard(writer)
            writer.transport.abort()
            return
        self.connections += 1
        try:
            there, to_service = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            self._open.discard(writer)
            writer.transport.abort()
            return
        both = {writer, to_service}
        self._open |= both
        ends = self._loop.time() + 2 * self._way_s  # the handshake: there and back
        try:
            await asyncio.gather(
                self._carry(reader, to_service, up=True, not_before=ends),
                self._carry(there, writer, up=False, not_before=ends),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open -= both
            for one in both:
                one.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool, not_before: float
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                at, data = await under_way.get()
                await asyncio.sleep(max(0.0, at - self._loop.time()))
                if not data:
                    if writer.can_write_eof():
                        with contextlib.suppress(OSError):
                            writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        arriving = self._loop.create_task(arrive())
        try:
            while (data := await reader.read(_CHUNK)) and not writer.transport.is_closing():
                if up:
                    self.bytes_up += len(data)
                else:
                    self.bytes_down += len(data)
                sent_at = max(self._loop.time(), not_before, self._free_at[up])
                if self._bits_per_s is not None:
                    sent_at += 8 * len(data) / self._bits_per_s
                    self._free_at[up] = sent_at
                under_way.put_nowait((sent_at + self._way_s, data))
                await asyncio.sleep(max(0.0, sent_at - self._loop.time()))
            under_way.put_nowait((self._loop.time() + self._way_s, b""))
            await arriving
        finally:
            arriving.cancel()
