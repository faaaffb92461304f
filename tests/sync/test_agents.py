"""/agent/v1 over real HTTP: enrolment, leases, reports, documents."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from printsvc_api_harness import Api, told

from printsvc.errors import InputError, Problem, RenderError


async def test_a_code_enrols_one_agent(api: Api) -> None:
    code = (await api.call("POST", "/v1/sites/HN-1/enrolment-codes", by="admin")).body["code"]
    first = await api.call("POST", "/agent/v1/enroll", {"code": f" {code}\n", "journal_id": "j-1"}, by=None)
    assert (first.status, first.body["site_id"]) == (200, "HN-1")
    other = await api.call("POST", "/agent/v1/enroll", {"code": code, "journal_id": "j-2"}, by=None)
    assert other.status == 401
    assert (await api.call("POST", "/agent/v1/enroll", {"code": "no", "journal_id": "j-2"}, by=None)).status == 401
    # The answer was lost on the way: the same journal gets another token, and the first one ends.
    again = await api.call("POST", "/agent/v1/enroll", {"code": code, "journal_id": "j-1"}, by=None)
    assert (again.status, again.body["agent_id"]) == (200, first.body["agent_id"])
    body = {"journal_id": "j-1", "capacity": 0}
    assert (await api.call("POST", "/agent/v1/lease", body, by=first.body["token"])).status == 401
    assert (await api.call("POST", "/agent/v1/lease", body, by=again.body["token"])).status == 200


async def test_a_code_expires(api: Api) -> None:
    code = (await api.call("POST", "/v1/sites/HN-1/enrolment-codes", by="admin")).body["code"]
    api.world.clock.advance(24 * 3600 + 1)
    assert (await api.call("POST", "/agent/v1/enroll", {"code": code, "journal_id": "j"}, by=None)).status == 401


async def test_an_agents_token_opens_nothing_else_and_no_other_token_leases(api: Api) -> None:
    _, token = await api.enrol()
    assert (await api.call("GET", "/v1/sites", by=token)).status == 401
    for by in ("admin", "platform", "site", None):
        assert (await api.call("POST", "/agent/v1/lease", {"journal_id": "j", "capacity": 1}, by=by)).status == 401


async def test_a_job_is_leased_fetched_and_reported(api: Api) -> None:
    issued = await api.issue()
    agent_id, token = await api.enrol()
    (job,) = (await api.lease(token))["jobs"]
    assert job["job_id"] == issued["job_id"]
    assert job["media"] == "iso_a4_210x297mm"
    assert (job["copy_number"], job["fencing_token"]) == (1, 1)
    assert (await api.lease(token))["jobs"] == []
    document = await api.call("GET", f"/agent/v1/documents/{job['document']['sha256']}", by=token)
    assert document.headers["Content-Type"] == "application/pdf"
    assert hashlib.sha256(document.body).hexdigest() == job["document"]["sha256"]
    assert len(document.body) == job["document"]["size"]

    submitted = told("submitted", job["job_id"], 1, attempt_id="ps-a-1-1", queue="lp")
    printed = told("printed", job["job_id"], 2, attempt_id="ps-a-1-1", queue="lp", witness="printer", impressions=1)
    printed |= {"printer_said": "completed", "printer_said_at": "2021-10-30T02:12:58+00:00"}
    answer = await api.report(token, printed, submitted)
    assert answer["acknowledged"] == 2
    assert [(one["outcome"], one["state"]) for one in answer["results"]] == [
        ("applied", "sent"),
        ("applied", "printed"),
    ]
    again = await api.report(token, submitted, printed)
    assert [one["outcome"] for one in again["results"]] == ["duplicate", "duplicate"]
    found = await api.job(job["job_id"])
    assert (found["state"], found["queue"], found["witness"]) == ("printed", "lp", "printer")
    said = {"by": "printer", "said": "completed", "at": "2021-10-30T02:12:58+00:00", "impressions": 1}
    assert found["witnessed"] | said == found["witnessed"], "what it said, when, and how many impressions"
    assert found["events"][-1]["printer_said"] == "completed"
    assert [(one["event"], one["actor"]) for one in found["events"]] == [
        ("lease", agent_id),
        ("submit", agent_id),
        ("print", agent_id),
    ]
    gone = await api.call("GET", f"/agent/v1/documents/{job['document']['sha256']}", by=token)
    assert gone.status == 404, "what is on paper is drawn again when it is asked for, not kept"


async def test_a_gap_in_the_numbers_stops_the_work_there(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    answer = await api.report(token, told("submitted", issued["job_id"], 1), told("printed", issued["job_id"], 3))
    assert (answer["acknowledged"], len(answer["results"])) == (1, 1)
    assert (await api.job(issued["job_id"]))["state"] == "sent"
    assert (await api.report(token, told("printed", issued["job_id"], 2)))["acknowledged"] == 2


async def test_a_journal_enrols_again_as_the_same_agent(api: Api) -> None:
    """A lost token, or a copied disk: the newest token counts, and what the journal holds stays its own."""
    issued = await api.issue()
    first, token = await api.enrol(journal_id="j-1")
    await api.lease(token, journal_id="j-1")
    again, newer = await api.enrol(journal_id="j-1")
    assert again == first
    refused = await api.call("POST", "/agent/v1/lease", {"journal_id": "j-1", "capacity": 1}, by=token)
    assert refused.status == 401
    held = [{"job_id": issued["job_id"], "fencing_token": 1}]
    assert (await api.lease(newer, journal_id="j-1", holding=held))["renewed"] == held


async def test_an_event_that_the_state_does_not_allow_changes_nothing_and_does_not_stop_the_journal(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    kinds = ("printed", "submitted", "failed", "returned")
    assert await api.put(issued["job_id"], token, *kinds) == ["applied", "refused", "refused", "refused"]
    assert (await api.job(issued["job_id"]))["state"] == "printed"
    assert await api.put("no-such-job", token, "printed", first_seq=5) == ["refused"]


async def test_a_long_poll_wakes_when_a_dose_comes(api: Api) -> None:
    """Nothing else ends the wait: it looks again after a third of the lease, and not before."""
    assert api.world.services.lease_s / 3 >= 20
    _, token = await api.enrol()
    for number in range(5):
        poll = asyncio.create_task(api.lease(token, wait_s=20))
        await asyncio.sleep(0.1)
        assert not poll.done()
        issued = await api.issue(f"W-{number}")
        (job,) = (await asyncio.wait_for(poll, 15))["jobs"]
        assert job["job_id"] == issued["job_id"]


async def test_a_long_poll_ends_without_jobs_and_other_sites_sleep_on(api: Api) -> None:
    _, token = await api.enrol("HN-2")
    poll = asyncio.create_task(api.lease(token, wait_s=0.4))
    await asyncio.sleep(0.1)
    await api.issue()
    assert (await poll)["jobs"] == []


async def test_an_agent_that_hung_up_leases_nothing(api: Api) -> None:
    _, token = await api.enrol()
    poll = asyncio.create_task(api.lease(token, wait_s=20))
    await asyncio.sleep(1)  # it has looked, and waits
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    await asyncio.sleep(1)
    issued = await api.issue()
    await asyncio.sleep(0.1)
    assert (await api.job(issued["job_id"]))["state"] == "waiting"


async def test_no_capacity_leases_nothing_and_answers_at_once(api: Api) -> None:
    await api.issue()
    _, token = await api.enrol()
    assert (await asyncio.wait_for(api.lease(token, capacity=0, wait_s=60), 30))["jobs"] == []
    assert len((await api.lease(token, capacity=1))["jobs"]) == 1


async def test_two_agents_share_a_sites_jobs(api: Api) -> None:
    for number in range(10):
        await api.issue(f"S-{number}")
    tokens = [(await api.enrol(journal_id=f"j-{number}"))[1] for number in range(2)]

    async def work(number: int) -> list[str]:
        found = []
        for _ in range(4):
            answer = await api.lease(tokens[number], journal_id=f"j-{number}", capacity=2)
            found += [job["job_id"] for job in answer["jobs"]]
        return found

    leased = [job_id for found in await asyncio.gather(work(0), work(1)) for job_id in found]
    assert len(leased) == len(set(leased)) == 10


# --- the renderer


@pytest.fixture
def render_by(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], None]], list[str]]:
    """`render_by(check)`: `check(page)` may raise; the list gets the UVCI of every page that is asked for."""

    def use(check: Callable[[Any], None]) -> list[str]:
        asked: list[str] = []
        draw = type(api.world.renderer).render

        async def render(self: Any, form_id: Any, page: Any) -> bytes:
            asked.append(page["uvci"])
            check(page)
            return bytes(await draw(self, form_id, page))

        monkeypatch.setattr(type(api.world.renderer), "render", render)
        return asked

    return use


async def test_a_page_that_no_form_can_hold_fails_alone_with_its_reason(api: Api, render_by: Any) -> None:
    issued = [await api.issue(f"P-{number}") for number in range(3)]

    def check(page: Any) -> None:
        if page["uvci"] == issued[1]["uvci"]:
            raise InputError([Problem("/person", "text_too_long", "Quá dài.", "Too long.")], code="text_too_long")

    render_by(check)
    _, token = await api.enrol()
    jobs = (await api.lease(token))["jobs"]
    assert {job["job_id"] for job in jobs} == {issued[0]["job_id"], issued[2]["job_id"]}
    failed = await api.job(issued[1]["job_id"])
    assert (failed["state"], failed["state_reason"]) == ("failed", "text_too_long /person")
    worklist = (await api.call("GET", "/v1/sites/HN-1/worklist", by="site")).body
    assert [job["job_id"] for job in worklist["print_jobs"]] == [issued[1]["job_id"]]


async def test_when_pages_cannot_be_drawn_jobs_wait_and_the_renderer_is_left_alone(api: Api, render_by: Any) -> None:
    issued = await api.issue()
    broken, at = [True], []

    def check(page: Any) -> None:
        at.append(time.monotonic())
        if broken[0]:
            raise RenderError("No worker.", retry_after_s=1)

    asked = render_by(check)
    _, token = await api.enrol()
    poll = asyncio.create_task(api.lease(token, wait_s=20))
    for _ in range(6):
        await asyncio.sleep(0.1)
        api.world.services.wakeups.notify("HN-1")
    async with asyncio.timeout(15):
        while (await api.job(issued["job_id"]))["state"] != "waiting":  # noqa: ASYNC110 - it is asked over HTTP
            await asyncio.sleep(0.05)
    broken[0] = False
    (job,) = (await asyncio.wait_for(poll, 30))["jobs"]
    assert (job["job_id"], job["fencing_token"]) == (issued["job_id"], len(asked))
    # Counted in pauses: on a busy machine the first may be over before the last wake-up.
    assert len(asked) > 1
    assert min(after - before for before, after in pairwise(at)) > 0.99, "no hot loop, however often it is woken"


@pytest.mark.parametrize("error", [RenderError("Drawing failed: KeyError."), KeyError("a name")])
async def test_a_page_that_never_comes_out_does_not_block_its_site(api: Api, render_by: Any, error: Exception) -> None:
    bad = await api.issue("BAD")
    good = [await api.issue(f"G-{number}") for number in range(2)]

    def check(page: Any) -> None:
        if page["uvci"] == bad["uvci"]:
            raise error

    render_by(check)
    _, token = await api.enrol()
    leased = []
    for _ in range(3):
        leased += [job["job_id"] for job in (await api.lease(token, capacity=1))["jobs"]]
    assert leased == [one["job_id"] for one in good]
    for _ in range(60):
        await api.lease(token, capacity=1)
    found = await api.job(bad["job_id"])
    assert found["state"] == "failed", "in the end it stands on the worklist"
    assert found["state_reason"] in ("render_unavailable", "service-error")
    assert (await api.call("POST", f"/v1/print-jobs/{bad['job_id']}/retry", by="site")).status == 200
    await api.lease(token, capacity=1)
    assert (await api.job(bad["job_id"]))["state"] == "waiting", "a retry has all its chances again"


async def test_a_busy_renderer_costs_no_job_its_place(api: Api, render_by: Any) -> None:
    issued = await api.issue()
    busy = RenderError("Too many pages wait.", retry_after_s=1)
    busy.code = "render_busy"

    def check(page: Any) -> None:
        raise busy

    render_by(check)
    _, token = await api.enrol()
    for _ in range(60):
        await api.lease(token)
    assert (await api.job(issued["job_id"]))["state"] == "waiting"


# --- whose job it is


async def let_leases_run_out(api: Api) -> None:
    """Let time pass, and let another agent of the site ask: that is when the service looks."""
    _, other = await api.enrol(journal_id="j-other")
    api.world.clock.advance(api.world.services.lease_s + 1)
    assert (await api.lease(other, journal_id="j-other"))["jobs"] == []


async def test_a_lease_that_ran_out_goes_to_the_same_journal_under_a_greater_token(api: Api) -> None:
    issued = await api.issue()
    _, mine = await api.enrol(journal_id="j-1")
    _, other = await api.enrol(journal_id="j-2")
    (first,) = (await api.lease(mine, journal_id="j-1"))["jobs"]
    api.world.clock.advance(api.world.services.lease_s + 1)
    assert (await api.lease(other, journal_id="j-2"))["jobs"] == [], "another agent cannot know what is with CUPS"
    (again,) = (await api.lease(mine, journal_id="j-1", holding=[]))["jobs"]
    assert again["job_id"] == first["job_id"] == issued["job_id"]
    assert again["fencing_token"] > first["fencing_token"]
    # Late word from the first lease: the paper is a fact all the same.
    answer = await api.report(mine, told("printed", issued["job_id"], 1, fencing_token=1), journal_id="j-1")
    assert [(one["outcome"], one["state"]) for one in answer["results"]] == [("applied", "printed")]


async def test_printed_that_comes_after_the_lease_ran_out_is_counted_once(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    await let_leases_run_out(api)
    assert (await api.job(issued["job_id"]))["state"] == "waiting"
    assert await api.put(issued["job_id"], token, "printed") == ["applied"]
    assert await api.put(issued["job_id"], token, "printed") == ["duplicate"]
    assert (await api.lease(token))["jobs"] == [], "no second paper"
    assert (await api.call("GET", "/v1/stats")).body["printed"] == 1


async def test_failed_from_one_who_no_longer_holds_the_job_is_refused(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    await let_leases_run_out(api)
    (again,) = (await api.lease(token, holding=[]))["jobs"]
    assert again["fencing_token"] == 2, "its journal does not know the job: leased anew"
    assert await api.put(issued["job_id"], token, "failed", "returned", fencing_token=1) == ["refused", "refused"]
    found = await api.job(issued["job_id"])
    assert (found["state"], found["events"][-1]["reason"]) == ("leased", "stale-fencing-token")
    assert await api.put(issued["job_id"], token, "failed", first_seq=3, fencing_token=again["fencing_token"]) == [
        "applied"
    ]


async def test_what_is_held_is_renewed_and_what_is_not_is_dropped(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    for _ in range(3):
        api.world.clock.advance(api.world.services.lease_s - 1)
        answer = await api.lease(
            token,
            capacity=0,
            holding=[{"job_id": issued["job_id"], "fencing_token": 1}, {"job_id": "gone", "fencing_token": 1}],
        )
        assert answer["renewed"] == [{"job_id": issued["job_id"], "fencing_token": 1}]
        assert answer["dropped"] == ["gone"]
    assert (await api.job(issued["job_id"]))["state"] == "leased"


async def test_a_job_whose_lease_never_arrived_is_given_again_at_once(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    (again,) = (await api.lease(token, holding=[]))["jobs"]
    assert (again["job_id"], again["fencing_token"]) == (issued["job_id"], 2)


async def test_a_returned_job_goes_to_any_agent(api: Api) -> None:
    issued = await api.issue()
    _, mine = await api.enrol(journal_id="j-1")
    _, other = await api.enrol(journal_id="j-2")
    await api.lease(mine, journal_id="j-1")
    await api.report(mine, told("returned", issued["job_id"], 1), journal_id="j-1")
    (job,) = (await api.lease(other, journal_id="j-2"))["jobs"]
    assert job["job_id"] == issued["job_id"]


async def test_a_new_journal_makes_the_old_ones_jobs_uncertain(api: Api) -> None:
    issued = [await api.issue(f"J-{number}") for number in range(3)]
    _, token = await api.enrol()
    await api.lease(token)
    await api.put(issued[0]["job_id"], token, "submitted", "printed")
    await api.put(issued[1]["job_id"], token, "submitted", first_seq=3)
    await api.lease(token, journal_id="journal-2")
    states = [(await api.job(one["job_id"]))["state"] for one in issued]
    assert states == ["printed", "uncertain", "uncertain"]
    assert (await api.job(issued[2]["job_id"]))["state_reason"] == "journal-lost"
    # The new journal counts from 1.
    fourth = await api.issue("J-4")
    await api.lease(token, journal_id="journal-2")
    answer = await api.report(token, told("printed", fourth["job_id"], 1), journal_id="journal-2")
    assert [one["outcome"] for one in answer["results"]] == ["applied"]


async def test_a_revoked_agent_is_shut_out_and_its_jobs_go_to_a_person(api: Api) -> None:
    issued = await api.issue()
    agent_id, token = await api.enrol()
    await api.lease(token)
    wrong_site = await api.call("DELETE", f"/v1/sites/HN-2/agents/{agent_id}", by="admin")
    assert wrong_site.status == 404
    answer = await api.call("DELETE", f"/v1/sites/HN-1/agents/{agent_id}", by="admin")
    assert (answer.status, answer.body) == (200, {"uncertain": 1})
    found = await api.job(issued["job_id"])
    assert (found["state"], found["state_reason"]) == ("uncertain", "agent-revoked")
    for path in ("lease", "report"):
        body = {"journal_id": "journal-1", "capacity": 1, "events": []}
        assert (await api.call("POST", f"/agent/v1/{path}", body, by=token)).status == 401
    assert (await api.call("GET", "/v1/sites/HN-1/agents", by="site")).body == {"agents": []}


async def test_another_sites_documents_and_jobs_are_not_there(api: Api) -> None:
    issued = await api.issue()
    _, mine = await api.enrol()
    _, other = await api.enrol("HN-2", journal_id="j-2")
    (job,) = (await api.lease(mine))["jobs"]
    theirs = await api.call("GET", f"/agent/v1/documents/{job['document']['sha256']}", by=other)
    missing = await api.call("GET", f"/agent/v1/documents/{'0' * 64}", by=other)
    assert theirs.status == missing.status == 404
    assert theirs.body == missing.body
    answer = await api.report(other, told("printed", issued["job_id"], 1), journal_id="j-2")
    assert answer["results"] == [{"seq": 1, "outcome": "refused", "state": ""}]
    assert (await api.job(issued["job_id"]))["state"] == "leased"
    for path in ("..%2f..%2fetc", "0" * 63, "Z" * 64):
        assert (await api.call("GET", f"/agent/v1/documents/{path}", by=mine)).status == 404


# --- the wire


async def test_fields_of_a_newer_agent_are_accepted(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(
        token,
        protocol=7,
        mood="fine",
        agent_time="2021-10-30T02:12:09Z",
        holding=[{"job_id": "x", "fencing_token": 1, "since": 3}],
        printers=[{"queue": "lp", "state": 4, "toner": {"k": 1}}, {"queue": "lp2", "state": 99}, {"queue": "lp"}],
    )
    event_ = told("printed", issued["job_id"], 1, mood="fine")
    answer = await api.call(
        "POST", "/agent/v1/report", {"journal_id": "journal-1", "events": [event_], "more": []}, by=token
    )
    assert answer.body["results"][0]["outcome"] == "applied"
    printers = (await api.call("GET", "/v1/printers", by="site")).body["printers"]
    assert [(one["queue"], one["state"]) for one in printers] == [("lp", "processing"), ("lp2", "stopped")]
    (agent,) = (await api.call("GET", "/v1/sites/HN-1/agents", by="site")).body["agents"]
    assert (agent["version"], agent["clock_skew_ms"]) == ("", 9000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"agent_time": "2021-10-30T02:12:09"},
        {"agent_time": "9999-12-31T23:59:59Z"},
        {"agent_version": "v" * 500 + "\0"},
        {"printers": [{"queue": "q" * 300, "uri": "u" * 9000, "state": 2**70, "marker_levels": [2**40]}]},
        {"holding": [{"job_id": "x" * 999, "fencing_token": 2**65}]},
    ],
)
async def test_odd_values_of_an_agent_do_not_make_the_service_fail(api: Api, wrong: dict[str, Any]) -> None:
    _, token = await api.enrol()
    body = {"journal_id": "journal-1", "capacity": 1} | wrong
    assert (await api.call("POST", "/agent/v1/lease", body, by=token)).status in (200, 422)


async def test_odd_events_are_kept_or_refused_but_never_block_the_journal(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    answer = await api.report(
        token,
        told("failed", issued["job_id"], 1, fencing_token=2**62),
        told("submitted", issued["job_id"], 2, attempt_id="a" * 500, queue="q\0" * 300, reason="r" * 500),
        told("printed", issued["job_id"], 3, impressions=2**62, witness="w" * 99) | {"at": "2021-10-30T02:12:09"},
    )
    assert [one["outcome"] for one in answer["results"]] == ["refused", "applied", "applied"]


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"journal_id": "\\ud800", "capacity": 1}', b'{"journal_id": "j"}']
    + [json.dumps({"journal_id": "j", "capacity": capacity}).encode() for capacity in (-1, 1001, "x")],
)
async def test_bodies_that_are_no_lease_request(api: Api, data: bytes) -> None:
    _, token = await api.enrol()
    answer = await api.call("POST", "/agent/v1/lease", data=data, by=token)
    assert answer.status == 422
    assert answer.body["errors"]


async def test_too_many_events_at_once_are_refused(api: Api) -> None:
    _, token = await api.enrol()
    events = [told("printed", "x", seq) for seq in range(1, 1002)]
    answer = await api.call("POST", "/agent/v1/report", {"journal_id": "journal-1", "events": events}, by=token)
    assert answer.status == 422


async def test_a_compressed_report_is_read(api: Api) -> None:
    _, token = await api.enrol()
    body = gzip.compress(json.dumps({"journal_id": "journal-1", "events": []}).encode())
    answer = await api.call("POST", "/agent/v1/report", data=body, headers={"Content-Encoding": "gzip"}, by=token)
    assert (answer.status, answer.body["acknowledged"]) == (200, 0)
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    refused = await api.call("POST", "/agent/v1/report", data=bomb, headers={"Content-Encoding": "gzip"}, by=token)
    assert refused.status == 413


async def test_waiting_sites_are_forgotten(api: Api) -> None:
    _, token = await api.enrol()
    await api.lease(token, wait_s=0.2)
    assert api.world.services.wakeups.waiting_sites() == []
