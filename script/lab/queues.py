"""Driverless queues of the lab's cupsd, made as a site's installer makes them."""

from __future__ import annotations

from dataclasses import dataclass

import cups

from lab.errors import LabError
from lab.processes import wait_until

A4 = "iso_a4_210x297mm"
ONCE_SCHEME = "printsvc-once"


@dataclass(frozen=True, slots=True)
class Queue:
    """`device_uri` is what CUPS prints to: the printer's own, behind the once backend unless it was left out."""

    name: str
    device_uri: str
    printer_uri: str


def once_uri(printer_uri: str) -> str:
    """Return the device URI that prints an attempt at most once: `printsvc-once:/ipp://host:631/ipp/print`."""
    return f"{ONCE_SCHEME}:/{printer_uri}"


def add_queue(connection: cups.Connection, name: str, printer_uri: str, *, once: bool) -> Queue:
    """Create a driverless A4 queue and return it when it is ready; LabError when it stays raw.

    `everywhere` asks the printer in the background and needs its plain URI: the once backend is put before it after.
    """
    connection.addPrinter(name, ppdname="everywhere", device=printer_uri, info=name)

    def driverless() -> bool:
        attributes = connection.getPrinterAttributes(name, requested_attributes=["printer-make-and-model"])
        return "IPP Everywhere" in str(attributes.get("printer-make-and-model", ""))

    wait_until(driverless, 15, f"driverless queue {name}", poll_s=0.05)
    connection.setPrinterErrorPolicy(name, "retry-job")
    connection.setPrinterShared(name, False)
    connection.addPrinterOptionDefault(name, "media", A4)
    connection.addPrinterOptionDefault(name, "print-scaling", "none")
    device_uri = once_uri(printer_uri) if once else printer_uri
    connection.setPrinterDevice(name, device_uri)
    connection.enablePrinter(name)
    connection.acceptJobs(name)
    stored = connection.getPrinterAttributes(name, requested_attributes=["device-uri"])["device-uri"]
    if stored != device_uri:
        raise LabError(f"queue {name} kept the device {stored}, not {device_uri}")
    return Queue(name, device_uri, printer_uri)
