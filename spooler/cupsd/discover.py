"""Printers that could be added: asked over IPP at the addresses that one would look at, and told where one could not.

Nothing here needs Avahi. What CUPS itself finds (`lpinfo -v`: DNS-SD, USB) is added where it finds any; what a person
must know is what was *not* looked at, and why, so every answer has that list.
"""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cups

from spooler.cupsd.admin import Refused
from spooler.cupsd.lane import CupsRefusedError, CupsSilentError, Lane
from spooler.cupsd.printer import Printers, PrinterTraits

IPP_PORT = 631
MOST_ADDRESSES = 1024
_PATHS = ("/ipp/print", "/ipp/printer", "/")  # PWG 5100.14, 4.3; older devices
_USB_PORTS = range(60000, 60010)  # ipp-usb: one port a device, from here on
_CONNECT_S = 0.7
_AT_ONCE = 64
_CUPS_FINDS_S = 20


async def discover(printers: Printers, lane: Lane, hosts: list[Any]) -> dict[str, Any]:
    """Return `printers` that answered, `devices` that CUPS knows of, where was `looked`, and what was `not_looked`."""
    addresses = _addresses(hosts)
    looked = [
        f"IPP, ports given or {IPP_PORT}, at {len(addresses)} addresses",
        f"ipp-usb, localhost {_USB_PORTS.start}-{_USB_PORTS.stop - 1}",
    ]
    not_looked = _not_looked(hosts)
    gate = asyncio.Semaphore(_AT_ONCE)
    places = [*addresses, *(("localhost", port) for port in _USB_PORTS)]
    found = await asyncio.gather(*(_probe(printers, gate, host, port) for host, port in places))
    devices: list[dict[str, str]] = []
    try:
        devices = await lane.run(_cups_devices, timeout_s=_CUPS_FINDS_S)
        looked.append("CUPS's own backends: dnssd, usb, ipp, ipps, socket")
    except (CupsSilentError, CupsRefusedError) as error:
        not_looked.append(_line("cups", f"CUPS could not look: {error.en}", "CUPS không tìm được.", "", ""))
    seen: dict[str, dict[str, Any]] = {}
    for traits in found:
        if traits is not None:
            # A device with two addresses is one printer; one without a uuid is its address.
            seen.setdefault(traits.uuid or traits.uri, _document(traits))
    return {
        "printers": list(seen.values()),
        "devices": devices,
        "looked": looked,
        "not_looked": not_looked,
        "en": f"{len(seen)} printers answered; {len(not_looked)} places were not looked at.",
        "vi": f"Có {len(seen)} máy in trả lời; {len(not_looked)} nơi chưa tìm.",
    }


async def _probe(printers: Printers, gate: asyncio.Semaphore, host: str, port: int) -> PrinterTraits | None:
    async with gate:
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
        except (OSError, TimeoutError):
            return None
        name = f"[{host}]" if ":" in host else host
        for path in _PATHS:
            traits = await printers.traits(f"ipp://{name}:{port}{path}")
            if traits is not None and traits.make_and_model:
                return traits
    return None


def _addresses(hosts: Iterable[Any]) -> list[tuple[str, int]]:
    """Return (host, port) of names, addresses, HOST:PORT and networks. Refused for what is none, or too many."""
    places: dict[tuple[str, int], None] = {}
    for one in hosts:
        text = str(one).strip()
        if "/" in text:
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise _no_host(text) from None
            if network.num_addresses > MOST_ADDRESSES:
                raise Refused(
                    "network-too-large",
                    f"{text} has more than {MOST_ADDRESSES} addresses: name a smaller one.",
                    f"{text} có hơn {MOST_ADDRESSES} địa chỉ: hãy chọn mạng nhỏ hơn.",
                )
            members = list(network.hosts()) or [network.network_address]
            places |= dict.fromkeys((str(address), IPP_PORT) for address in members)
            continue
        host, colon, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "")
        if not (host and host.replace("-", "").replace(".", "").replace(":", "").isalnum()) or (
            colon and not port.isdecimal()
        ):
            raise _no_host(text)
        places[host, int(port) if colon else IPP_PORT] = None
    if len(places) > MOST_ADDRESSES:
        raise Refused(
            "network-too-large",
            f"More than {MOST_ADDRESSES} addresses were named.",
            f"Có hơn {MOST_ADDRESSES} địa chỉ.",
        )
    return list(places)


def _no_host(text: str) -> Refused:
    return Refused(
        "host-invalid",
        f"{text[:64]!r} is neither a host, HOST:PORT nor a network.",
        f"{text[:64]!r} không phải tên máy, MÁY:CỔNG hay mạng.",
    )


def _cups_devices(connection: Any) -> list[dict[str, str]]:
    """Return what `lpinfo -v` would: the devices that CUPS's backends found; a backend's own name alone is none."""
    schemes = ["dnssd", "usb", "ipp", "ipps", "socket"]
    try:
        found = connection.getDevices(limit=50, include_schemes=schemes, timeout=5)
    except cups.IPPError as error:
        if error.args[0] == 0x0406:  # RFC 8011: not found: CUPS has no device at all
            return []
        raise
    return [
        {
            "uri": uri,
            "make_and_model": str(said.get("device-make-and-model") or "")[:128],
            "info": str(said.get("device-info") or "")[:128],
        }
        for uri, said in found.items()
        if ":" in uri
    ]


def _not_looked(hosts: list[Any]) -> list[dict[str, str]]:
    lines = []
    if not hosts:
        lines.append(
            _line(
                "lan",
                "The local network was not searched: no host or network was named.",
                "Chưa tìm trong mạng nội bộ: chưa nêu máy hay mạng nào.",
                "Name them: --host 192.0.2.7, or a small network: --host 192.0.2.0/24.",
                "Hãy nêu: --host 192.0.2.7, hoặc một mạng nhỏ: --host 192.0.2.0/24.",
            )
        )
    if not any(Path(path).exists() for path in ("/run/avahi-daemon/socket", "/var/run/avahi-daemon/socket")):
        lines.append(
            _line(
                "dnssd",
                "Printers that announce themselves (DNS-SD) were not listened for: avahi-daemon does not run.",
                "Chưa nghe được máy in tự thông báo (DNS-SD, AirPrint): avahi-daemon chưa chạy.",
                "apt-get install avahi-daemon, or name the printer's address.",
                "apt-get install avahi-daemon, hoặc nêu địa chỉ máy in.",
            )
        )
    if shutil.which("ipp-usb") is None and not Path("/usr/sbin/ipp-usb").exists():
        lines.append(
            _line(
                "usb",
                "USB printers were not asked over IPP: ipp-usb is not installed.",
                "Chưa hỏi được máy in USB qua IPP: chưa cài ipp-usb.",
                "apt-get install ipp-usb; a USB printer is then at ipp://localhost:60000/ipp/print.",
                "apt-get install ipp-usb; máy in USB khi đó ở ipp://localhost:60000/ipp/print.",
            )
        )
    if not socket.has_ipv6:
        lines.append(_line("ipv6", "IPv6 was not tried: this computer has none.", "Chưa thử IPv6.", "", ""))
    return lines


def _line(what: str, en: str, vi: str, mend_en: str, mend_vi: str) -> dict[str, str]:
    return {"what": what, "en": en, "vi": vi, "mend_en": mend_en, "mend_vi": mend_vi}


def _document(traits: PrinterTraits) -> dict[str, Any]:
    return {
        "uri": traits.uri,
        "make_and_model": traits.make_and_model,
        "info": traits.info,
        "media_ready": list(traits.media_ready),
        "resolutions_dpi": list(traits.resolutions_dpi),
        "duplex": traits.duplex,
        "formats": list(traits.formats),
    }
