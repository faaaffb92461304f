"""How pages were drawn is told; a full queue is 429; a page that kills its workers is listed with its reason."""

from __future__ import annotations

from typing import Any

from printsvc.errors import RenderBusyError, RenderError
from printsvc.render.draw import Drawn, Way


async def test_the_ways_of_pages_are_told_in_figures_and_metrics(api: Any) -> None:
    pages = api.world.services.pages
    for drawn in (Drawn(b"", Way.STAMP), Drawn(b"", Way.STAMP), Drawn(b"", Way.WEASYPRINT, "too_long")):
        pages.add(drawn)
    figures = await api.call("GET", "/v1/stats", by="admin")
    assert figures.body["pages"] == {"stamped": 2, "way_out": {"too_long": 1}}
    metrics = (await api.call("GET", "/metrics", by=None)).body.decode()
    assert 'printsvc_pages_drawn_total{reason="",way="stamp"} 2.0' in metrics
    assert 'printsvc_pages_drawn_total{reason="too_long",way="weasyprint"} 1.0' in metrics


async def test_a_full_queue_is_429_with_the_time_to_wait(api: Any) -> None:
    issued = await api.issue()
    api.world.renderer.fails_with = RenderBusyError("Too many pages wait.", retry_after_s=7)
    answer = await api.call("GET", f"/v1/certificates/{issued['uvci'].replace('#', '%23')}.pdf", by="admin")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert answer.body["code"] == "render_busy"


async def test_a_page_that_kills_its_workers_fails_its_job_with_the_reason(api: Any) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    crashed = RenderError("This page ended two drawing processes.")
    crashed.code = "render_crashed"
    api.world.renderer.fails_with = crashed
    assert (await api.lease(token))["jobs"] == []
    listed = await api.call("GET", "/v1/print-jobs?state=failed", by="admin")
    assert [(job["job_id"], job["state_reason"]) for job in listed.body["print_jobs"]] == [
        (issued["job_id"], "render_crashed")
    ]
    worklist = await api.call("GET", "/v1/sites/HN-1/worklist", by="admin")
    assert [job["job_id"] for job in worklist.body["print_jobs"]] == [issued["job_id"]]
