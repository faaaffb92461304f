"""One round of all looks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from spooler.doctor.machine import look_at_folder, look_at_journal, look_at_libraries
from spooler.doctor.printing import look_at_printing
from spooler.doctor.report import Check
from spooler.doctor.service import look_at_service
from spooler.peek import find_token
from spooler.settings import Settings


async def visit(settings: Settings, *, version: str, clock: Callable[[], datetime]) -> list[Check]:
    """Return what is found at this site; `version` is the agent's own. Nothing is changed, here or elsewhere."""
    checks = [*look_at_libraries(), *look_at_folder(settings.state_dir)]
    journal: dict[str, Any] = {}
    for check, told in look_at_journal(settings.state_dir):
        checks.append(check)
        journal = told
    url = settings.url or journal.get("url", "")
    token = find_token(settings.state_dir) if journal.get("enrolled") else ""
    async for check in look_at_service(settings, url=url, token=token, version=version, clock=clock):
        checks.append(check)
    async for check in look_at_printing(settings):
        checks.append(check)
    return checks
