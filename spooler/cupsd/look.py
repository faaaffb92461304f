"""What doctor asks of CUPS beside the agent's own questions; each function is one call of a lane."""

from __future__ import annotations

import tempfile
from typing import Any

import cups

from spooler.cupsd.findings import QueueSettings

_SETTINGS_ATTRIBUTES = ["printer-error-policy", "media-supported", "printer-is-shared"]


def read_conf(connection: Any, name: str) -> str | None:
    """Return a configuration file of cupsd as cupsd itself sends it; None where it may not be read."""
    with tempfile.TemporaryFile() as file:
        try:
            # By descriptor: with a file's name, pycups 2.0.4 answers HTTPError(-1) to everything.
            connection.getFile(f"/admin/conf/{name}", fd=file.fileno())
        except (cups.HTTPError, RuntimeError, OSError):
            return None
        file.seek(0)
        return file.read().decode("utf-8", "replace")


def see_settings(connection: Any, name: str) -> QueueSettings:
    """Return what a queue does by itself."""
    attributes = connection.getPrinterAttributes(name, requested_attributes=_SETTINGS_ATTRIBUTES)
    return QueueSettings(
        error_policy=attributes.get("printer-error-policy") or "",
        is_shared=bool(attributes.get("printer-is-shared", False)),
        media_supported=tuple(str(size) for size in attributes.get("media-supported") or ()),
    )
