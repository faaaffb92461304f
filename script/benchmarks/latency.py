"""latency: from a dose that was accepted to bytes at the printer, on a site with a real cupsd and virtual printers.

Alone: a dose when the one before is long done. Under load: ten doses a second. Where the time goes is read off the
service's own ledger, the agent's events and the printers' log.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab import PDF
from stack.stack import SitePlan, Stack

from benchmarks.measure import Plan, percentile, share_cache
from benchmarks.people import SITES, dose_events

ALONE = 20
LOADED_S = 5.0
PER_S = 10
PRINTERS = 5
EVERY_S = 3.0
FORM = "a4/43-2022"
PATIENCE_S = 300.0


def run(plan: Plan) -> dict[str, Any]:
    """Return the figures; docs/bench.md says what each means. `--count` is the number of doses that come alone."""
    site_id, title, authority = SITES[0]
    site = SitePlan(site_id, title, authority, tuple((f"p{n}", (PDF,)) for n in range(1, PRINTERS + 1)))
    with tempfile.TemporaryDirectory(prefix="printsvc-latency-") as folder:
        share_cache(plan, Path(folder) / "service")
        with Stack(Path(folder), [site], told=told, forms=[FORM]) as stack:
            events = dose_events(plan.seed, now=datetime.now(UTC))
            time.sleep(3)
            told("a first dose, which loads what is loaded once")
            for _ in range(3):
                measure(stack, [next(events) | {"site_id": site_id}], 0.0)
                time.sleep(EVERY_S)
            told("doses alone")
            alone: list[dict[str, float]] = []
            for _ in range(plan.count or ALONE):
                alone += measure(stack, [next(events) | {"site_id": site_id}], 0.0)
                time.sleep(EVERY_S)
            told("ten doses a second")
            count = round((plan.seconds or LOADED_S) * PER_S)
            loaded = measure(stack, [next(events) | {"site_id": site_id} for _ in range(count)], 1 / PER_S)
    return {"printers": PRINTERS, "alone": figures(alone), "loaded": figures(loaded) | {"doses": len(loaded)}}


def figures(took: list[dict[str, float]]) -> dict[str, Any]:
    names = ("total", "to_lease", "to_release", "to_printer")
    found: dict[str, Any] = {}
    for name in names:
        values = [one[name] for one in took]
        found[f"{name}_ms_p50"] = round(1000 * percentile(values, 50))
        found[f"{name}_ms_p99"] = round(1000 * percentile(values, 99))
    return found


def measure(stack: Stack, events: list[dict[str, Any]], every_s: float) -> list[dict[str, float]]:
    """Post the doses at that pace; return the seconds of each one's stages."""
    printed = stack.stats()["printed"]
    accepted: dict[str, float] = {}

    def post(event: dict[str, Any]) -> None:
        (answer,) = stack.post_doses([json.dumps(event).encode()])
        accepted[answer["job_id"]] = time.time()

    began = time.monotonic()
    threads = []
    for number, event in enumerate(events):
        time.sleep(max(0.0, began + number * every_s - time.monotonic()))
        threads.append(threading.Thread(target=post, args=(event,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    stack.wait_for_papers(printed + len(events), PATIENCE_S)
    arrived = {
        event.job_name.removeprefix("ps-").rsplit("-", 2)[0]: datetime.fromisoformat(event.at).timestamp()
        for printer in stack.printers.values()
        for event in printer.truth()
        if event.event == "started"
    }
    api = stack.service.api("admin")
    took = []
    for job_id, at in accepted.items():
        ledger = api.get(f"/v1/print-jobs/{job_id}")["events"]
        leased = _moment(ledger, "lease")
        released = _moment(ledger, "submit")
        took.append(
            {
                "total": arrived[job_id] - at,
                "to_lease": leased - at,
                "to_release": released - leased,
                "to_printer": arrived[job_id] - released,
            }
        )
    return took


def _moment(ledger: list[dict[str, Any]], name: str) -> float:
    return next(datetime.fromisoformat(one["at"]).timestamp() for one in ledger if one["event"] == name)


def told(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
