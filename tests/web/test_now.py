"""What is the matter now: a site's screen, a province's list, and that neither tells more than it costs."""

from __future__ import annotations

from typing import Any

import pytest
from printsvc_api_harness import Api, event, held, told

NOW = "/v1/sites/HN-1/now"


async def screen(api: Api, **headers: str) -> Any:
    answer = await api.call("GET", NOW, by="site", headers=headers)
    assert answer.status in (200, 304), answer.body
    return answer


def states(body: Any) -> dict[str, str]:
    return {dose["dose_id"]: dose["state"] for dose in body["doses"]}


async def test_one_answer_has_all_that_a_screen_needs(api: Api) -> None:
    issued = {name: await api.issue(name, id_number=f"00118501234{n}") for n, name in enumerate("ABCDEF")}
    await api.call("POST", "/v1/doses", held("HELD"))
    _, token = await api.enrol()
    printer = {"queue": "lp", "state": 5, "state_reasons": ["media-empty-error"], "marker_levels": [7]}
    await api.lease(token, capacity=5, printers=[printer])
    jobs = {name: one["job_id"] for name, one in issued.items()}
    said = {
        "witness": "printer",
        "printer_said": "completed",
        "printer_said_at": "2021-10-30T02:12:30Z",
        "impressions": 1,
    }
    await api.report(
        token,
        told("submitted", jobs["A"], 1),
        told("printed", jobs["B"], 2, **said),
        told("printed", jobs["C"], 3, witness="cups", printer_said="cannot-tell"),
        told("uncertain", jobs["D"], 4, reason="printer-silent", printer_said="unreachable"),
        told("failed", jobs["E"], 5, reason="aborted"),
    )
    await api.call("POST", f"/v1/print-jobs/{jobs['C']}/settle", {"seen": "here"}, by="site")
    await api.call("POST", "/v1/doses/B/seen-in-app", {"seen_at": "2021-10-30T02:12:00Z"})
    body = (await screen(api)).body
    assert states(body) == {
        "A": "printing",
        "B": "printed",
        "C": "confirmed",
        "D": "uncertain",
        "E": "failed",
        "F": "waiting",
    }
    assert body["counts"] | {"overdue": 0, "held": 1, "printing": 1, "uncertain": 1} == body["counts"]
    doses = {dose["dose_id"]: dose for dose in body["doses"]}
    assert {name: dose["minutes_left"] for name, dose in doses.items()} == dict.fromkeys("ADEF", 20) | dict.fromkeys(
        "BC"
    )
    assert doses["A"]["due_at"] == "2021-10-30T02:32:00+00:00"
    assert doses["A"]["full_name"] == "NGUYỄN THỊ MINH KHAI"
    assert (doses["B"]["app"], doses["A"]["app"]) == ("seen", "waiting")
    assert doses["B"]["witnessed"]["detail"] == "The printer itself says so."
    assert (doses["B"]["witnessed"]["said"], doses["B"]["witnessed"]["impressions"]) == ("completed", 1)
    listed = {job["dose_id"]: job for job in body["worklist"]["print_jobs"]}
    assert {name: job["why"] for name, job in listed.items()} == {"D": "uncertain", "E": "failed"}
    assert listed["D"]["witnessed"]["said"] == "unreachable"
    assert [dose["dose_id"] for dose in body["worklist"]["held"]] == ["HELD"]
    assert body["printers"][0] | {"state": "stopped", "state_reasons": ["media-empty-error"]} == body["printers"][0]
    assert [agent["state"] for agent in body["agents"]] == ["alive"]
    today = body["today"]
    assert today | {"certificates": 6, "copies": 0, "printed": 2, "confirmed": 1, "seen_in_app": 1, "held": 1} == today


async def test_uncertain_papers_have_three_buttons_that_work_and_their_age_counts(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    await api.put(issued["job_id"], token, "submitted", "uncertain")
    api.world.clock.advance(300)
    (job,) = (await screen(api)).body["worklist"]["print_jobs"]
    assert (job["age_s"], [action["body"]["seen"] for action in job["actions"]]) == (
        300,
        ["here", "not_here", "spoilt"],
    )
    for path in ("/v1/sites/HN-1/worklist", "/v1/stats"):
        found = (await api.call("GET", path, by="site")).body["uncertain"]
        assert (found["count"], found["oldest_s"]) == (1, 300)
    action = job["actions"][1]
    answer = await api.call("POST", action["post"], action["body"], by="site")
    assert (answer.status, answer.body["replacement"]["copy_number"]) == (200, 2)
    body = (await screen(api)).body
    assert body["worklist"]["print_jobs"] == [], "the paper that was replaced is nobody's work any more"
    assert [(dose["copy_number"], dose["state"]) for dose in body["doses"]] == [(2, "waiting")]
    assert (await api.call("GET", "/v1/stats", by="site")).body["uncertain"]["oldest_s"] is None


@pytest.mark.parametrize("state", ["waiting", "uncertain"])
async def test_a_paper_goes_to_the_sites_list_and_then_to_the_provinces(api: Api, state: str) -> None:
    change = {"name": "Điểm tiêm 1", "province": "01"}
    assert (await api.call("PUT", "/v1/sites/HN-1", change, by="admin")).status == 200
    issued = await api.issue()  # injected 10 minutes ago
    if state == "uncertain":
        _, token = await api.enrol()
        await api.lease(token)
        await api.put(issued["job_id"], token, "submitted", "uncertain")

    async def listed() -> tuple[int, int]:
        site = (await api.call("GET", "/v1/sites/HN-1/worklist", by="site")).body["print_jobs"]
        province = await api.call("GET", "/v1/provinces/01/now", by="admin")
        assert province.status == 200
        return len(site), len(province.body["overdue"])

    always = int(state == "uncertain")
    assert await listed() == (always, 0)
    api.world.clock.advance(600)
    assert await listed() == (1, 0)
    api.world.clock.advance(600)
    assert await listed() == (1, 1)
    body = (await screen(api)).body
    assert (body["counts"]["overdue"], body["doses"][0]["overdue"], body["doses"][0]["minutes_left"]) == (1, True, 0)
    province = (await api.call("GET", "/v1/provinces/01/now", by="platform")).body
    (late,) = province["overdue"]
    assert "full_name" not in late
    assert (late["site_id"], late["dose_id"], late["step"]) == ("HN-1", "D-1", "province")
    assert late["why"] == ("uncertain" if always else "no-agent")
    assert province["sites"][0] | {"open": 1, "uncertain": always, "overdue": 1} == province["sites"][0]


async def test_a_poor_line_pays_only_for_what_happened(api: Api) -> None:
    await api.issue()
    _, token = await api.enrol()
    await api.lease(token, capacity=0)
    first = await screen(api)
    tag = first.headers["ETag"]
    api.world.clock.advance(45)
    await api.lease(token, capacity=0)
    same = await screen(api, **{"If-None-Match": tag})
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag), "time went by, and the agent was heard"
    await api.issue("D-2", id_number="001185012346")
    changed = await screen(api, **{"If-None-Match": tag})
    assert (changed.status, changed.headers["ETag"] != tag) == (200, True)
    api.world.clock.advance(600)
    assert (await screen(api, **{"If-None-Match": changed.headers["ETag"]})).status == 200, (
        "a step of the clock is news"
    )


async def test_a_provinces_token_reads_its_own_list_and_nothing_else(api: Api) -> None:
    for site_id, province in (("HN-1", "01"), ("HN-2", "02")):
        body = {"name": f"Điểm tiêm {site_id}", "province": province}
        assert (await api.call("PUT", f"/v1/sites/{site_id}", body, by="admin")).status == 200
    made = await api.call("POST", "/v1/provinces/01/tokens", by="admin")
    assert made.status == 201
    token = made.body["token"]
    own = await api.call("GET", "/v1/provinces/01/now", by=token)
    assert [site["site_id"] for site in own.body["sites"]] == ["HN-1"]
    theirs, none = [await api.call("GET", f"/v1/provinces/{code}/now", by=token) for code in ("02", "99")]
    assert (theirs.status, theirs.body) == (none.status, none.body)
    assert theirs.status == 404
    for path in (NOW, "/v1/sites", "/v1/stats", "/v1/sites/HN-1/worklist", "/v1/print-jobs"):
        assert (await api.call("GET", path, by=token)).status == 403
    assert (await api.call("POST", "/v1/provinces/99/tokens", by="admin")).status == 404


async def test_provinces_without_sites_are_not_there_and_sites_see_none(api: Api) -> None:
    assert (await api.call("GET", "/v1/provinces/99/now", by="admin")).status == 404
    assert (await api.call("GET", "/v1/provinces/99/now", by="site")).status == 403


async def test_seen_in_the_app_once_and_only_by_those_who_may_know(api: Api) -> None:
    await api.call("POST", "/v1/doses", event("HN/2021-1"))
    path = "/v1/doses/HN/2021-1/seen-in-app"
    first = await api.call("POST", path)
    assert (first.status, first.body["replayed"]) == (200, False)
    api.world.clock.advance(60)
    again = await api.call("POST", path, {}, by="site")
    assert (again.body["seen_in_app_at"], again.body["replayed"]) == (first.body["seen_in_app_at"], True)
    found = (await api.call("GET", "/v1/doses/HN/2021-1")).body
    assert found["seen_in_app_at"] == first.body["seen_in_app_at"]
    assert (await api.call("POST", path, by="site2")).status == 404
    wrong = await api.call("POST", path, {"seen_at": "2031-01-01T00:00:00Z"})
    assert (wrong.status, wrong.body["errors"][0]["pointer"]) == (422, "/seen_at")
    assert (await api.call("POST", path, {"seen_at": "2021-10-30T02:12:00"})).status == 422, "a moment has its zone"
