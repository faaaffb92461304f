"""Telling systemd that the agent lives: sd_notify(3), by a datagram to the socket that systemd named."""

from __future__ import annotations

import asyncio
import contextlib
import socket


def notify(address: str, state: str) -> None:
    """Send one message, such as READY=1; a socket that is gone is nobody's loss. `address` may be abstract: @…"""
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), name)


async def keep_alive(address: str, every_s: float) -> None:
    """Tell systemd for ever that the event loop turns; where it does not, systemd starts the agent anew."""
    while True:
        notify(address, "WATCHDOG=1")
        await asyncio.sleep(every_s)
