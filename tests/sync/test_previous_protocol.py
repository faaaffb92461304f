"""An agent of the release before against this service, and one of the release after: JSON as they send it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from printsvc_api_harness import Api, told

PROTOCOL = Path(__file__).parents[1] / "protocol"


@pytest.fixture(scope="module")
def version1() -> Any:
    spec = importlib.util.spec_from_file_location("printsvc_protocol_version1", PROTOCOL / "version1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def golden(name: str) -> dict[str, Any]:
    return dict(json.loads((PROTOCOL / "v1" / f"{name}.json").read_text()))


async def test_an_agent_of_version_1_enrols_leases_fetches_and_reports(api: Api, version1: Any) -> None:
    issued = await api.issue()
    code = (await api.call("POST", "/v1/sites/HN-1/enrolment-codes", by="admin")).body["code"]
    asked = golden("EnrollRequest") | {"code": code}
    enrolled = version1.EnrollAnswer.model_validate((await api.call("POST", "/agent/v1/enroll", asked, by=None)).body)
    journal = asked["journal_id"]

    request = golden("LeaseRequest") | {"wait_s": 0, "holding": [], "agent_time": api.world.clock.now.isoformat()}
    answer = await api.call("POST", "/agent/v1/lease", request, by=enrolled.token)
    leased = version1.LeaseAnswer.model_validate(answer.body)
    (job,) = leased.jobs
    assert job.job_id == issued["job_id"]
    document = await api.call("GET", f"/agent/v1/documents/{job.document.sha256}", by=enrolled.token)
    assert (document.status, len(document.body)) == (200, job.document.size)

    sample = golden("ReportRequest")["events"]
    events = [
        event | {"seq": number, "job_id": job.job_id, "fencing_token": job.fencing_token}
        for number, event in enumerate((e for e in sample if e["kind"] in ("submitted", "printed")), 1)
    ]
    body = {"protocol": 1, "journal_id": journal, "events": events}
    told_ = version1.ReportAnswer.model_validate(
        (await api.call("POST", "/agent/v1/report", body, by=enrolled.token)).body
    )
    assert told_.acknowledged == 2
    assert [result.outcome for result in told_.results] == ["applied", "applied"]
    assert (await api.job(job.job_id))["state"] == "printed"

    (seen,) = (await api.call("GET", "/v1/sites/HN-1/health", by="admin")).body["agents"]
    assert (seen["protocol"], seen["version"]) == (1, "0.1.0")
    (printer,) = (await api.call("GET", "/v1/printers", by="admin")).body["printers"]
    assert printer["state_reasons"] == ["media-empty-error", "marker-supply-low-warning"]


async def test_an_event_that_only_a_newer_agent_knows_is_refused_alone(api: Api) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    job_id = issued["job_id"]
    answer = await api.report(
        token,
        told("submitted", job_id, 1),
        told("folded-in-three", job_id, 2, reason="of its own", what_else=[{"is": "new"}]),
        told("printed", job_id, 3, witness="printer"),
    )
    assert answer["acknowledged"] == 3, "the journal goes on behind it"
    assert [one["outcome"] for one in answer["results"]] == ["applied", "refused", "applied"]
    found = await api.job(job_id)
    assert found["state"] == "printed"
    (odd,) = [event for event in found["events"] if event["event"] == "unknown"]
    assert (odd["applied"], odd["reason"]) == (False, "folded-in-three")


@pytest.mark.parametrize("kind", ["", "\0", "x" * 5000, "LEASE", "lease", "unknown"])
async def test_no_word_of_an_agent_breaks_a_report_or_moves_a_job(api: Api, kind: str) -> None:
    issued = await api.issue()
    _, token = await api.enrol()
    await api.lease(token)
    answer = await api.report(token, told(kind, issued["job_id"], 1))
    assert [one["outcome"] for one in answer["results"]] == ["refused"]
    assert (await api.job(issued["job_id"]))["state"] == "leased"


async def test_an_agent_of_a_later_release_is_served(api: Api) -> None:
    await api.issue()
    _, token = await api.enrol()
    answer = await api.lease(token, protocol=99, hopes=["well"], agent_version="9.9.9")
    assert len(answer["jobs"]) == 1
    assert answer["protocol"] == 2


async def test_an_agent_older_than_any_release_is_told_so(api: Api) -> None:
    _, token = await api.enrol()
    body = {"journal_id": "journal-1", "capacity": 1, "protocol": 0}
    answer = await api.call("POST", "/agent/v1/lease", body, by=token)
    assert (answer.status, answer.body["code"]) == (422, "protocol_too_old")
    assert "quá cũ" in answer.body["detail_vi"]


async def test_hello_says_who_is_there_and_changes_nothing(api: Api) -> None:
    agent_id, token = await api.enrol()
    nobody = await api.call("GET", "/agent/v1/hello", by=None)
    assert nobody.body == {
        "protocol": 2,
        "oldest_protocol": 1,
        "service_version": "0.1.0",
        "server_time": api.world.clock.now.isoformat().replace("+00:00", "Z"),
        "site_id": "",
    }
    assert (await api.call("GET", "/agent/v1/hello", by=token)).body["site_id"] == "HN-1"
    assert (await api.call("GET", "/agent/v1/hello", by="wrong")).status == 401
    (agent,) = (await api.call("GET", "/v1/sites/HN-1/agents", by="admin")).body["agents"]
    assert (agent["agent_id"], agent["seen_at"]) == (agent_id, None)
