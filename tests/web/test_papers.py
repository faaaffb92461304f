"""Papers: a person's word on one, further copies, retries."""

from __future__ import annotations

import pytest
from printsvc_api_harness import Api


async def paper(api: Api, *kinds: str, dose_id: str = "D-1") -> tuple[dict[str, str], str]:
    """Issue a dose and report these events on its paper; return the dose's answer and its path."""
    issued = await api.issue(dose_id)
    _, token = await api.enrol(journal_id=f"journal-{dose_id}")
    await api.lease(token, journal_id=f"journal-{dose_id}")
    at = "2021-10-30T02:13:00Z"
    events = [
        {"seq": seq, "kind": kind, "job_id": issued["job_id"], "fencing_token": 1, "at": at, "reason": "aborted"}
        for seq, kind in enumerate(kinds, start=1)
    ]
    if events:
        await api.report(token, *events, journal_id=f"journal-{dose_id}")
    return issued, f"/v1/print-jobs/{issued['job_id']}"


@pytest.mark.parametrize("kinds", [["submitted"], ["printed"], ["uncertain"], ["failed"]])
async def test_a_paper_that_is_here_is_confirmed_and_settled(api: Api, kinds: list[str]) -> None:
    _, path = await paper(api, *kinds)
    answer = await api.call("POST", path + "/settle", {"seen": "here"}, by="site")
    assert (answer.status, answer.body["print_job"]["state"], answer.body["replacement"]) == (200, "confirmed", None)
    assert (await api.call("GET", "/v1/stats", by="admin")).body["confirmed"] == 1
    again = await api.call("POST", path + "/settle", {"seen": "here"}, by="site")
    assert (again.status, again.body["code"]) == (409, "illegal_transition")


@pytest.mark.parametrize(("seen", "reason"), [("not_here", "missing"), ("spoilt", "spoilt")])
async def test_a_paper_that_is_not_is_replaced_by_copy_2_once(api: Api, seen: str, reason: str) -> None:
    issued, path = await paper(api, "submitted", "uncertain")
    answer = await api.call("POST", path + "/settle", {"seen": seen}, by="site")
    copy = answer.body["replacement"]
    assert (answer.body["print_job"]["state"], answer.body["print_job"]["state_reason"]) == ("failed", seen)
    assert (copy["copy_number"], copy["reason"], copy["asked_by"], copy["state"]) == (2, reason, "site:HN-1", "waiting")
    again = await api.call("POST", path + "/settle", {"seen": seen}, by="site")
    assert again.status == 409, "a second click makes no third copy"
    retried = await api.call("POST", path + "/retry", by="site")
    assert (retried.status, retried.body["code"]) == (409, "replaced")
    papers = (await api.call("GET", f"/v1/certificates/{issued['uvci'].replace('#', '%23')}/papers")).body["papers"]
    assert [(one["copy_number"], one["state"]) for one in papers] == [(1, "failed"), (2, "waiting")]
    _, token = await api.enrol(journal_id="j-2")
    (job,) = (await api.lease(token, journal_id="j-2"))["jobs"]
    assert (job["job_id"], job["copy_number"]) == (copy["job_id"], 2)
    assert api.world.renderer.pages[-1]["copy_number"] == 2


@pytest.mark.parametrize("seen", ["not_here", "spoilt"])
async def test_what_still_waits_at_cups_is_withdrawn_and_a_late_paper_is_told(api: Api, seen: str) -> None:
    """A printer that was off prints when it is switched on: the paper is old by then, and lies there."""
    issued = await api.issue()
    job_id = issued["job_id"]
    path = f"/v1/print-jobs/{job_id}"
    _, token = await api.enrol(journal_id="j-1")
    await api.lease(token, journal_id="j-1")
    event = {"job_id": job_id, "fencing_token": 1, "at": "2021-10-30T02:13:00Z", "queue": "desk1"}
    doubt = event | {"seq": 1, "kind": "uncertain", "reason": "printer-silent"}
    await api.report(token, doubt, journal_id="j-1")
    settled = (await api.call("POST", path + "/settle", {"seen": seen}, by="site")).body
    assert settled["replacement"]["copy_number"] == 2
    answer = await api.lease(token, journal_id="j-1", settings_version="")
    assert [(one["verb"], one["arguments"]) for one in answer["commands"]] == [("withdraw", {"job": job_id})]
    await api.report(token, event | {"seq": 2, "kind": "printed", "witness": "printer"}, journal_id="j-1")
    late = (await api.call("GET", path, by="site")).body
    assert (late["state"], late["state_reason"]) == ("uncertain", "came-late")
    worklist = (await api.call("GET", "/v1/sites/HN-1/worklist", by="site")).body["print_jobs"]
    assert job_id in {one["job_id"] for one in worklist}
    again = (await api.call("POST", path + "/settle", {"seen": "spoilt"}, by="site")).body
    assert (again["print_job"]["state"], again["replacement"]) == ("failed", None), "copy 2 has taken its place"


async def test_a_paper_nobody_printed_yet_is_not_settled(api: Api) -> None:
    issued = await api.issue()
    for seen in ("here", "not_here", "spoilt"):
        answer = await api.call("POST", f"/v1/print-jobs/{issued['job_id']}/settle", {"seen": seen}, by="site")
        assert answer.status == 409
    assert (await api.job(issued["job_id"]))["events"] == []


@pytest.mark.parametrize("body", [{"seen": "perhaps"}, {}, {"seen": "here", "more": 1}, [], None])
async def test_another_word_is_refused_with_its_place(api: Api, body: object) -> None:
    _, path = await paper(api, "uncertain")
    answer = await api.call("POST", path + "/settle", body, by="site")
    assert answer.status == 422
    assert answer.body["errors"]
    assert (await api.call("GET", path, by="site")).body["state"] == "uncertain"


async def test_what_certainly_made_no_paper_is_printed_again(api: Api) -> None:
    issued, path = await paper(api, "failed")
    answer = await api.call("POST", path + "/retry", by="site")
    assert (answer.status, answer.body["state"], answer.body["copy_number"]) == (200, "waiting", 1)
    assert (await api.call("POST", path + "/retry", by="site")).status == 409, "once"
    _, token = await api.enrol(journal_id="j-2")
    (job,) = (await api.lease(token, journal_id="j-2"))["jobs"]
    assert (job["job_id"], job["fencing_token"]) == (issued["job_id"], 2), "any agent may take it"


@pytest.mark.parametrize("kinds", [["submitted"], ["uncertain"], ["printed"]])
async def test_what_may_have_made_a_paper_is_not_retried(api: Api, kinds: list[str]) -> None:
    _, path = await paper(api, *kinds)
    assert (await api.call("POST", path + "/retry", by="admin")).status == 409


@pytest.mark.parametrize(("kinds", "allowed"), [([], 0), (["submitted"], 0), (["uncertain"], 0), (["printed"], 1)])
async def test_a_further_copy_waits_until_the_one_before_is_settled(api: Api, kinds: list[str], allowed: bool) -> None:
    issued, _ = await paper(api, *kinds)
    path = f"/v1/certificates/{issued['uvci'].replace('#', '%23')}/papers"
    answer = await api.call("POST", path, {"reason": "lost"}, by="site")
    if allowed:
        assert (answer.status, answer.body["copy_number"], answer.body["reason"]) == (201, 2, "lost")
        answer = await api.call("POST", path, {"reason": "lost"}, by="site")
    assert (answer.status, answer.body["code"]) == (409, "copy_under_way")


async def test_a_failed_paper_that_got_a_copy_is_not_retried_as_well(api: Api) -> None:
    """Or two papers came of one wish."""
    issued, path = await paper(api, "failed")
    copies = f"/v1/certificates/{issued['uvci'].replace('#', '%23')}/papers"
    assert (await api.call("POST", copies, {"reason": "spoilt"}, by="site")).status == 201
    answer = await api.call("POST", path + "/retry", by="site")
    assert (answer.status, answer.body["code"]) == (409, "replaced")


@pytest.mark.parametrize("reason", ["issued", "missing", "because", ""])
async def test_a_copy_needs_a_reason_that_a_person_may_give(api: Api, reason: str) -> None:
    issued, _ = await paper(api, "printed")
    path = f"/v1/certificates/{issued['uvci'].replace('#', '%23')}/papers"
    answer = await api.call("POST", path, {"reason": reason}, by="site")
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "/reason")


async def test_another_site_prints_no_copy_and_settles_nothing(api: Api) -> None:
    issued, path = await paper(api, "uncertain")
    copies = f"/v1/certificates/{issued['uvci'].replace('#', '%23')}/papers"
    for target, body in (
        (path + "/settle", {"seen": "not_here"}),
        (path + "/retry", None),
        (copies, {"reason": "lost"}),
    ):
        assert (await api.call("POST", target, body, by="site2")).status == 404
        assert (await api.call("POST", target, body, by="platform")).status == 403
    assert (await api.call("GET", path, by="admin")).body["state"] == "uncertain"


async def test_a_paper_of_an_agent_that_is_gone_goes_to_a_person(api: Api) -> None:
    issued = await api.issue()
    path = f"/v1/print-jobs/{issued['job_id']}"
    never = await api.call("POST", path + "/holder-lost", by="site")
    assert (never.status, never.body["code"]) == (409, "never_held")
    _, token = await api.enrol()
    await api.lease(token)
    assert (await api.call("POST", path + "/holder-lost", by="site2")).status == 404
    lost = await api.call("POST", path + "/holder-lost", by="site")
    assert (lost.status, lost.body["state"], lost.body["state_reason"]) == (200, "uncertain", "declared-lost")
    last = (await api.job(issued["job_id"]))["events"][-1]
    assert (last["event"], last["actor"]) == ("holder-lost", "site:HN-1")
    assert (await api.call("POST", path + "/holder-lost", by="site")).status == 409, "once"
    assert (await api.lease(token))["dropped"] == [issued["job_id"]], "should it live after all, it does not start it"
    settled = await api.call("POST", path + "/settle", {"seen": "not_here"}, by="site")
    assert settled.body["replacement"]["copy_number"] == 2


async def test_a_uvci_whose_check_character_is_a_slash_has_an_address(api: Api) -> None:
    """About one in 38 does; `#` is written %23, the slash may stand as it is."""
    for number in range(400):
        issued = await api.issue(f"SLASH-{number}")
        if issued["uvci"].endswith("/"):
            break
    path = f"/v1/certificates/{issued['uvci'].replace('#', '%23')}"
    assert path.endswith("%23/")
    assert (await api.call("GET", path, by="admin")).body["uvci"] == issued["uvci"]
    assert (await api.call("GET", path + "/papers", by="admin")).body["papers"][0]["uvci"] == issued["uvci"]
    assert (await api.call("GET", path + ".pdf", by="admin")).status == 200
