"""/v1/printers over HTTP: what a command needs, who may, what the agent is told, and what an older one is not."""

from __future__ import annotations

from typing import Any

import pytest
from printsvc_api_harness import Api, told

COMMANDS = "/v1/printers/HN-1/commands"


async def with_agent(api: Api) -> str:
    _, token = await api.enrol()
    await api.lease(token, capacity=0, printers=[{"queue": "lp", "queued": 2, "oldest_s": 60, "media_ready": ["x"]}])
    return token


async def test_a_command_rides_on_the_lease_and_its_outcome_comes_with_the_next(api: Api) -> None:
    token = await with_agent(api)
    body = {"verb": "drain", "queue": "lp", "within_s": 300, "command_id": "mine"}
    asked = await api.call("POST", COMMANDS, body, by="site")
    assert (asked.status, asked.body["state"], asked.body["asked_by"]) == (202, "waiting", "site:HN-1")
    assert (await api.call("POST", COMMANDS, body, by="site")).body == asked.body
    other = await api.call("POST", COMMANDS, body | {"verb": "enable"}, by="site")
    assert (other.status, other.body["fields"]) == (409, ["/verb"])
    (command,) = (await api.lease(token, settings_version=""))["commands"]
    assert (command["command_id"], command["verb"], command["queue"]) == ("mine", "drain", "lp")
    assert 0 < command["within_s"] <= 300
    result = {
        "command_id": "mine",
        "outcome": "refused",
        "reason": "not-drained",
        "en": "A job is there still.",
        "vi": "Vẫn còn lệnh.",
        "at": "2021-10-30T02:13:00Z",
    }
    for _ in range(2):
        await api.lease(token, settings_version="", results=[result])
    ended = (await api.call("GET", f"{COMMANDS}/mine", by="admin")).body
    assert (ended["state"], ended["reason"], ended["detail_vi"]) == ("refused", "not-drained", "Vẫn còn lệnh.")
    assert ended["ended_at"]
    ledger = (await api.call("GET", COMMANDS + "?queue=lp", by="site")).body["commands"]
    assert [one["command_id"] for one in ledger] == ["mine"]


async def test_an_older_agent_is_not_called_and_waits_as_ever(api: Api) -> None:
    token = await with_agent(api)
    await api.call("PUT", "/v1/printers/HN-1/queues/lp/settings", {"pool": "front"}, by="admin")
    await api.call("POST", COMMANDS, {"verb": "enable", "queue": "lp"}, by="admin")
    answer = await api.lease(token)
    assert (answer["commands"], answer["settings"]) == ([], None)
    newer = await api.lease(token, settings_version="")
    assert [queue["pool"] for queue in newer["settings"]["queues"]] == ["front"]
    again = await api.lease(token, settings_version=newer["settings"]["version"])
    assert again["settings"] is None


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"verb": "enable"}, ["/queue"]),
        ({"verb": "add", "queue": "lp"}, ["/uri"]),
        ({"verb": "move", "job": "j1"}, ["/to"]),
        ({"verb": "priority", "job": "j1"}, ["/priority"]),
        ({"verb": "cancel"}, ["/job"]),
        ({"verb": "cancel", "job": "cups-7"}, ["/queue"]),
        ({"verb": "restart"}, ["/verb"]),
        ({"verb": "enable", "queue": "a/b"}, None),
        ({"verb": "enable", "queue": "lp", "within_s": 0}, ["/within_s"]),
        ({"verb": "priority", "job": "j1", "priority": 101}, ["/priority"]),
        ({"verb": "enable", "queue": "lp", "force": True}, ["/force"]),
    ],
)
async def test_what_a_command_lacks_is_said_with_its_place(api: Api, body: Any, pointers: list[str] | None) -> None:
    answer = await api.call("POST", COMMANDS, body, by="admin")
    assert answer.status == 422, answer.body
    told_pointers = [one["pointer"] for one in answer.body["errors"]]
    assert pointers is None or told_pointers == pointers


@pytest.mark.parametrize("verb", ["discover", "add", "remove"])
async def test_an_operator_may_not_change_which_printers_there_are(api: Api, verb: str) -> None:
    await with_agent(api)
    body = {"verb": verb, "queue": "lp", "uri": "ipp://192.0.2.7/ipp/print"}
    assert (await api.call("POST", COMMANDS, body, by="site")).status == 403
    assert (await api.call("POST", COMMANDS, body, by="admin")).status == 202


async def test_another_sites_printers_and_jobs_are_as_if_they_were_not_there(api: Api) -> None:
    await with_agent(api)
    issued = await api.issue()
    for site_id, by in (("HN-1", "site2"), ("HN-2", "site2"), ("HN-2", "admin"), ("NONE", "admin")):
        job = await api.call(
            "POST", f"/v1/printers/{site_id}/commands", {"verb": "cancel", "job": issued["job_id"]}, by=by
        )
        queue = await api.call("POST", f"/v1/printers/{site_id}/commands", {"verb": "enable", "queue": "lp"}, by=by)
        shown = await api.call("GET", f"/v1/printers/{site_id}/queues/lp", by=by)
        assert (job.status, queue.status, shown.status) == (404, 404, 404)
    made_up = await api.call("POST", "/v1/printers/HN-2/commands", {"verb": "cancel", "job": "f" * 20}, by="site2")
    theirs = await api.call(
        "POST", "/v1/printers/HN-2/commands", {"verb": "cancel", "job": issued["job_id"]}, by="site2"
    )
    assert made_up.body == theirs.body
    assert (await api.job(issued["job_id"]))["state"] == "waiting"


async def test_a_printer_is_shown_with_its_settings_and_what_waits_there(api: Api) -> None:
    await with_agent(api)
    setting = {"pool": "front", "media": ["iso_a4_210x297mm"], "dpi": 600, "pull_back": 1}
    path = "/v1/printers/HN-1/queues/lp"
    assert (await api.call("PUT", path + "/settings", setting, by="admin")).body == setting
    shown = (await api.call("GET", path, by="site")).body
    assert (shown["settings"], shown["queued"], shown["oldest_s"], shown["media_ready"]) == (setting, 2, 60, ["x"])
    wrong = ({"pull_back": 1}, {"pool": "Front!"}, {"media": ["A4"]}, {"dpi": -1}, {"tray": 1})
    for body in wrong:
        assert (await api.call("PUT", path + "/settings", body, by="admin")).status == 422, body
    assert (await api.call("GET", path, by="site")).body["settings"] == setting


async def test_a_job_tells_why_it_went_where_it_went(api: Api) -> None:
    token = await with_agent(api)
    issued = await api.issue()
    await api.lease(token)
    note = {
        "job_id": issued["job_id"],
        "at": "2021-10-30T02:12:30Z",
        "en": "waits: lp: media-jam",
        "vi": "chờ: lp: media-jam",
    }
    strange = note | {"job_id": "f" * 20}
    await api.lease(token, routes=[note, strange])
    route = {"queue": "lp", "attempt_id": "ps-x-1-1", "route": "lp: one of 1 that can"}
    await api.report(token, told("submitted", issued["job_id"], 1, **route))
    job = (await api.call("GET", f"/v1/print-jobs/{issued['job_id']}", by="site")).body
    assert [(one["queue"], one["why"]) for one in job["routes"]] == [
        ("", "waits: lp: media-jam"),
        ("lp", "lp: one of 1 that can"),
    ]
    assert job["routes"][0]["why_vi"] == "chờ: lp: media-jam"
    assert job["routes"][1]["attempt_id"] == "ps-x-1-1"


async def test_a_job_asks_for_a_queue_and_the_agent_is_told(api: Api) -> None:
    token = await with_agent(api)
    issued = await api.issue()
    moved = await api.call("POST", COMMANDS, {"verb": "move", "job": issued["job_id"], "to": "lp"}, by="site")
    assert (moved.status, moved.body["reason"]) == (200, "at-centre")
    (job,) = (await api.lease(token))["jobs"]
    assert job["asked"] == "lp"
