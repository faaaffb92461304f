"""The table of routes: roles, other sites' data, the OpenAPI document."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from printsvc_api_harness import HELD, MATCHED, Api, event, held

from printsvc.domain.revocation import RevocationReason
from printsvc.flows import reissue
from printsvc.flows.revocation_lists import publish_snapshot
from printsvc.flows.revoke import begin_query, work
from printsvc.store.reissues import Selection
from printsvc.store.revocations import DoseQuery
from printsvc.web.openapi import openapi_document
from printsvc.web.routes import ROUTES, Route

ROLES = ("platform", "admin", "site")
BODIES: dict[str, Any] = {
    "/v1/doses": event(),
    "/v1/doses/{dose_id}/identity": HELD,
    "/v1/identity-checks": {"person": event()["person"]},
    "/v1/certificates/{uvci}/papers": {"reason": "lost"},
    "/v1/print-jobs/{job_id}/settle": {"seen": "here"},
    "/v1/papers/scan": {"code": "HC1:NONSENSE"},
    "/v1/sites": {"site_id": "HN-9", "name": "Điểm tiêm 9"},
    "/v1/sites/{site_id}": {"name": "Điểm tiêm 1", "province": "01"},
    "/v1/signers/{thumbprint}/compromise": {"reason": "the token was stolen"},
    "/v1/verify": {"code": "HC1:NONSENSE"},
    "/v1/printers/{site_id}/commands": {"verb": "enable", "queue": "lp"},
    "/v1/printers/{site_id}/queues/{queue}/settings": {"pool": "front", "media": ["iso_a4_210x297mm"], "dpi": 600},
    "/v1/day-bags": {"site_id": "HN-1", "doses": 3},
    "/v1/day-bags/{bag_id}/certify": {"certificate": ""},
    "/v1/day-bags/{bag_id}/end": {"reason": "the day is over"},
    "/v1/day-bags/{bag_id}/conflicts/{seq}": {"decision": "dismiss"},
    "/v1/reissues": {"query": {"site_id": "HN-1"}, "dry_run": True},
}
PRINTERS = "/v1/printers/{site_id}"
DAY_BAGS = "/v1/day-bags"
# Only a site's own agent makes what these two act on (tests/flows/test_daybags.py has that); here the bag has neither.
NOTHING_YET = {"/v1/day-bags/{bag_id}/certify": (409, 422), "/v1/day-bags/{bag_id}/conflicts/{seq}": (404, 409)}
TRUST = "/v1/trust-sources/{source}"
REVOCATIONS = "/v1/revocations"
REISSUES = "/v1/reissues"


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


async def path_of(api: Api, route: Route) -> str:
    """Return the route's path with ids of things that are there, at site HN-1."""
    issued = await api.issue("KNOWN")
    await api.call("POST", "/v1/doses", held("HELD"))
    agent_id, _ = await api.enrol(journal_id="journal-of-routes")
    own = api.world.services.signers.signers[0]
    api.world.services.trust.list_signer = own  # any signer will do: what is asked here is who gets an answer
    imported = certificates_body(own.certificate)
    assert (await api.call("POST", "/v1/trust-sources/de", imported, by="admin")).status == 200
    if "provinces" in route.path:
        assert (await api.call("PUT", "/v1/sites/HN-1", BODIES["/v1/sites/{site_id}"], by="admin")).status == 200
    values = {
        "code": "01",
        "source": "de",
        "dose_id": "HELD" if route.path.endswith("/identity") else "KNOWN",
        "uvci": issued["uvci"].replace("#", "%23"),
        "job_id": issued["job_id"],
        "site_id": "HN-1",
        "agent_id": agent_id,
        "thumbprint": hashlib.sha256(api.world.services.signers.signers[0].certificate).hexdigest(),
    }
    if route.path.startswith(REVOCATIONS):
        return await revocation_path(api, route, issued["uvci"])
    if route.path.startswith(REISSUES):
        here = Selection(DoseQuery(site_id="HN-1"))
        run = await reissue.begin(
            api.world.services,
            "run-of-routes",
            here,
            expected=1,
            is_printed=False,
            revokes_old=False,
            actor="admin",
        )
        return route.path.format(run_id=run.run_id)
    if route.path.startswith(f"{DAY_BAGS}/{{"):
        given = await api.call("POST", DAY_BAGS, BODIES[DAY_BAGS], by="admin")
        assert given.status == 201, given.body
        values |= {"bag_id": given.body["bag_id"], "seq": "1"}
    if route.path.startswith(PRINTERS):
        _, token = await api.enrol()
        await api.lease(token, capacity=0, printers=[{"queue": "lp"}])
        body = {"verb": "check", "command_id": "of-routes"}
        assert (await api.call("POST", "/v1/printers/HN-1/commands", body, by="admin")).status == 202
        values |= {"queue": "lp", "command_id": "of-routes"}
    if route.path.endswith("/settle"):
        _, token = await api.enrol()
        await api.lease(token)
        await api.put(issued["job_id"], token, "submitted", "printed")
    if route.path.endswith("/holder-lost"):
        _, token = await api.enrol()
        await api.lease(token)
    if route.path.endswith("/retry"):
        _, token = await api.enrol()
        await api.lease(token)
        await api.put(issued["job_id"], token, "failed")
    if route.path.endswith("/papers") and route.method == "POST":
        _, token = await api.enrol()
        await api.lease(token)
        await api.put(issued["job_id"], token, "printed")
    return route.path.format(**values)


async def revocation_path(api: Api, route: Route, uvci: str) -> str:
    """Return the path of a route of revocations, with something revoked that it can tell of."""
    services, query = api.world.services, DoseQuery(site_id="HN-1")
    run = await begin_query(
        services, "run-of-routes", query, RevocationReason.DATA_ERROR, expected=1, actor="admin"
    )  # fmt: skip
    if route.path.endswith("/delta"):
        await publish_snapshot(services)
    await work(services, run.run_id)
    await publish_snapshot(services)
    digest = hashlib.sha256(uvci.encode()).hexdigest()[:32]
    batches = (await api.call("GET", REVOCATIONS + "/batches", by=None)).body["batches"]
    path = route.path.format(run_id=run.run_id, hash=digest, batch_id=batches[0]["batchId"])
    if route.path.endswith("/csv"):
        return path + "?dry_run=1&reason=fraud"
    return path + "?from=1" if route.path.endswith("/delta") else path


def body_of_revocations(route: Route, uvci: str) -> dict[str, Any]:
    """Return what a route of revocations takes."""
    if route.path.endswith("/csv"):
        return {"data": f"uvci\n{uvci}\n".encode(), "headers": {"Content-Type": "text/csv"}}
    if route.path.endswith("/undo"):
        return {"body": {"uvci": uvci, "reason": "mistake"}}
    if route.path.endswith("/query"):
        return {"body": {"query": {"lot": "X"}, "reason": "fraud", "dry_run": True}}
    return {"body": {"uvci": uvci, "reason": "data_error"}} if route.body else {}


def certificates_body(der: bytes) -> dict[str, Any]:
    """Return the body that imports one bare certificate."""
    content = base64.b64encode(der).decode()
    return {"format": "certificates", "content": content, "unsigned": True, "sha256": hashlib.sha256(der).hexdigest()}


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
async def test_a_route_works_for_its_roles_and_for_nobody_else(api: Api, route: Route) -> None:
    path = await path_of(api, route)
    body = BODIES.get(route.path)
    if route.path == "/v1/signers":
        body = {"certificate": base64.b64encode(api.world.services.signers.signers[0].certificate).decode()}
    if route.path == TRUST and route.method == "POST":
        body = certificates_body(api.world.services.signers.signers[0].certificate)
    sent: dict[str, Any] = {"body": body}
    if route.path.startswith(REVOCATIONS):
        sent = body_of_revocations(route, (await api.call("GET", "/v1/doses/KNOWN")).body["uvci"])
    if route.roles:
        for by, status in ((None, 401), ("no-such-token", 401)):
            refused = await api.call(route.method, path, **sent, by=by)
            assert (refused.status, refused.headers["Content-Type"]) == (status, "application/problem+json")
        for by in set(ROLES) - set(route.roles):
            assert (await api.call(route.method, path, **sent, by=by)).status == 403, by
    by = route.roles[0] if route.roles else None
    answer = await api.call(route.method, path, **sent, by=by)
    if route.path in NOTHING_YET:
        assert answer.status in NOTHING_YET[route.path], answer.body
        return
    assert answer.status in route.answers, answer.body
    assert answer.headers["Content-Type"].partition(";")[0] == route.media


OF_A_SITE = [route for route in ROUTES if "site" in route.roles and "{" in route.path]


@pytest.mark.parametrize("route", OF_A_SITE, ids=name_of)
async def test_another_sites_data_is_as_if_it_were_not_there(api: Api, route: Route) -> None:
    path = await path_of(api, route)
    body = BODIES.get(route.path)
    theirs = await api.call(route.method, path, body, by="site2")
    missing = await api.call(route.method, re.sub("{.*?}", "00000000000000000000", route.path), body, by="site2")
    assert theirs.status == missing.status == 404
    assert theirs.body == missing.body


@pytest.mark.parametrize("path", ["/v1/print-jobs", "/v1/printers", "/v1/stats"])
async def test_a_list_holds_the_callers_site_alone_whatever_it_asks_for(api: Api, path: str) -> None:
    await api.issue()
    _, token = await api.enrol()
    await api.lease(token, capacity=0, printers=[{"queue": "lp"}])
    mine = (await api.call("GET", path, by="site")).body
    other = (await api.call("GET", path + "?site_id=HN-1", by="site2")).body
    assert mine == (await api.call("GET", path + "?site_id=HN-1", by="admin")).body
    assert mine != other
    assert other == (await api.call("GET", path + "?site_id=HN-2", by="admin")).body


async def test_a_site_is_made_once_and_refused_where_it_is_wrong(api: Api) -> None:
    body = {"site_id": "HN-9", "name": "  Trạm  y tế ", "authority": "SỞ Y TẾ HÀ NỘI", "province": "01"}
    made = await api.call("POST", "/v1/sites", body, by="admin")
    assert (made.status, made.body["name"]) == (201, "Trạm y tế")
    again = await api.call("POST", "/v1/sites", body, by="admin")
    assert (again.status, again.body) == (200, made.body)
    other = await api.call("POST", "/v1/sites", body | {"name": "Other", "province": ""}, by="admin")
    assert (other.status, other.body["code"], other.body["fields"]) == (409, "conflict", ["/name", "/province"])
    assert made.body in (await api.call("GET", "/v1/sites", by="admin")).body["sites"], "nothing was changed"
    for wrong in (
        {"site_id": "a b"},
        {"site_id": "HN-9\n"},
        {"name": ""},
        {"name": " "},
        {"name": "A\r\nB"},
        {"name": "A\u202eB"},
        {"name": 5},
        {"name": "\ud800"},
        {"province": "0001"},
        {"more": 1},
    ):
        answer = await api.call("POST", "/v1/sites", body | {"site_id": "HN-10"} | wrong, by="admin")
        assert answer.status == 422, wrong
        assert [error["pointer"] for error in answer.body["errors"]] == [f"/{next(iter(wrong))}"]
    for path in ("/v1/sites/NONE/enrolment-codes", "/v1/sites/NONE/tokens"):
        assert (await api.call("POST", path, by="admin")).status == 404
    for path in ("/v1/sites/NONE/agents", "/v1/sites/NONE/worklist"):
        assert (await api.call("GET", path, by="admin")).status == 404


async def test_a_site_is_changed(api: Api) -> None:
    body = {"name": " Trạm  y tế ", "authority": "SỞ Y TẾ HÀ NỘI", "province": "01"}
    changed = await api.call("PUT", "/v1/sites/HN-1", body, by="admin")
    assert (changed.status, changed.body) == (200, body | {"site_id": "HN-1", "name": "Trạm y tế"})
    assert changed.body in (await api.call("GET", "/v1/sites", by="admin")).body["sites"]
    assert (await api.call("PUT", "/v1/sites/NONE", body, by="admin")).status == 404
    wrong = await api.call("PUT", "/v1/sites/HN-1", body | {"site_id": "HN-2"}, by="admin")
    assert (wrong.status, wrong.body["errors"][0]["pointer"]) == (422, "/site_id")


async def test_a_sites_token_opens_that_site(api: Api) -> None:
    answer = await api.call("POST", "/v1/sites/HN-2/tokens", by="admin")
    assert answer.status == 201
    assert (await api.call("GET", "/v1/sites/HN-2/worklist", by=answer.body["token"])).status == 200
    assert (await api.call("GET", "/v1/sites/HN-1/worklist", by=answer.body["token"])).status == 404


async def test_the_worklist_holds_what_needs_a_person(api: Api) -> None:
    issued = await api.issue()
    await api.call("POST", "/v1/doses", held("D-held"))
    _, token = await api.enrol()
    await api.lease(token)
    await api.put(issued["job_id"], token, "submitted", "uncertain")
    worklist = (await api.call("GET", "/v1/sites/HN-1/worklist", by="site")).body
    assert [dose["dose_id"] for dose in worklist["held"]] == ["D-held"]
    assert [reason["code"] for reason in worklist["held"][0]["reasons"]] == ["identity_unchecked"]
    assert [job["job_id"] for job in worklist["print_jobs"]] == [issued["job_id"]]
    await api.call("POST", "/v1/doses/D-held/identity", MATCHED)
    assert (await api.call("GET", "/v1/sites/HN-1/worklist", by="site")).body["held"] == []


async def test_a_paper_that_does_not_come_stands_on_the_worklist_with_the_reason(api: Api) -> None:
    async def listed() -> list[tuple[str, str, str | None]]:
        worklist = (await api.call("GET", "/v1/sites/HN-1/worklist", by="site")).body
        return [(job["job_id"], job["why"], job["agent_seen_at"]) for job in worklist["print_jobs"]]

    job_id = (await api.issue())["job_id"]
    api.world.clock.advance(599)
    assert await listed() == []
    api.world.clock.advance(1)
    assert await listed() == [(job_id, "no-agent", None)], "20 minutes after the injection, which was 10 minutes ago"
    _, token = await api.enrol()
    assert await listed() == [(job_id, "agent-silent", None)], "enrolled, and never heard"
    seen_at = api.world.clock.now.isoformat()
    await api.lease(token)
    assert await listed() == [(job_id, "slow", None)]
    api.world.clock.advance(181)
    await api.enrol(journal_id="another")
    assert await listed() == [(job_id, "agent-silent", seen_at)], "another agent cannot take it"
    await api.put(job_id, token, "submitted", "uncertain")
    assert await listed() == [(job_id, "uncertain", None)], "once"


async def test_print_jobs_are_chosen_by_state(api: Api) -> None:
    await api.issue()
    for query, number in (("state=waiting", 1), ("state=uncertain,%20failed", 0), ("state=", 1), ("", 1)):
        answer = await api.call("GET", f"/v1/print-jobs?{query}", by="site")
        assert len(answer.body["print_jobs"]) == number, query
    wrong = await api.call("GET", "/v1/print-jobs?state=broken", by="site")
    assert wrong.status == 422, "a state that is none must not list everything"


async def test_a_certificate_is_found_with_and_without_its_check_character(api: Api) -> None:
    uvci = (await api.issue())["uvci"]
    for text in (uvci.replace("#", "%23"), uvci.partition("#")[0], uvci.partition("#")[0].lower()):
        assert (await api.call("GET", f"/v1/certificates/{text}")).body["uvci"] == uvci
        pdf = await api.call("GET", f"/v1/certificates/{text}.pdf")
        assert pdf.body.startswith(b"%PDF")
        assert pdf.headers["Cache-Control"] == "no-store"
    wrong = uvci[:-1].replace("#", "%23") + ("A" if uvci[-1] != "A" else "B")
    assert (await api.call("GET", f"/v1/certificates/{wrong}")).status == 404


# --- OpenAPI


async def test_the_openapi_document_is_valid_and_lists_every_route(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json", by=None)).body
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    listed = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    assert listed == {name_of(route) for route in ROUTES}
    app = api.client.server.app  # type: ignore[attr-defined]
    served = {
        f"{route.method} {re.sub(r':[^}]*', '', route.resource.canonical)}"
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    others = {name for name in served - listed if not re.match(r"\w+ /agent/v1/", name)}
    assert others == {"GET /openapi.json"}, "what is served is in the table, but the agents' own protocol"
    assert listed <= served


def test_every_operation_has_a_name_a_summary_and_its_media_types() -> None:
    document = openapi_document(ROUTES)
    operations = [item for path in document["paths"].values() for item in path.values()]
    assert len({item["operationId"] for item in operations}) == len(operations) == len(ROUTES)
    assert all(item["summary"].endswith((".", "…")) for item in operations)
    doses = document["paths"]["/v1/doses"]["post"]
    assert set(doses["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
    verify = document["paths"]["/v1/verify"]["post"]
    assert {"application/pdf", "image/png"} <= set(verify["requestBody"]["content"])
    assert "security" not in verify


# --- health and figures


async def test_health_readiness_and_metrics(api: Api) -> None:
    await api.issue()
    await api.call("POST", "/v1/doses", held("D-2"))
    assert (await api.call("GET", "/healthz", by=None)).body == {"status": "ok"}
    assert (await api.call("GET", "/readyz", by=None)).body == {"status": "ok", "failing": [], "warnings": []}
    metrics = (await api.call("GET", "/metrics", by=None)).body.decode()
    assert 'printsvc_doses{outcome="held"} 1.0' in metrics
    assert 'printsvc_doses{outcome="certified"} 1.0' in metrics
    assert 'printsvc_papers{state="waiting"} 1.0' in metrics
    assert "printsvc_doses_unaccounted 0.0" in metrics
    assert 'printsvc_http_requests_total{route="/v1/doses",status="201"} 1.0' in metrics


async def test_stats_count_doses_certificates_and_papers(api: Api) -> None:
    issued = await api.issue()
    await api.issue("D-2", site_id="HN-2")
    _, token = await api.enrol()
    await api.lease(token)
    await api.put(issued["job_id"], token, "printed")
    everywhere = (await api.call("GET", "/v1/stats")).body
    here = (await api.call("GET", "/v1/stats", by="site")).body
    assert (await api.call("GET", "/v1/stats?site_id=NONE", by="admin")).status == 404
    await api.call("POST", "/v1/sites", {"site_id": "EMPTY", "name": "E"}, by="admin")
    nothing = (await api.call("GET", "/v1/stats?site_id=EMPTY", by="admin")).body
    assert (nothing["doses"], nothing["paper_percent"]) == (0, None)
    assert (everywhere["doses"], everywhere["with_paper"], everywhere["unaccounted"]) == (2, 1, 0)
    assert (here["doses"], here["with_paper"], here["printed"], here["paper_percent"]) == (1, 1, 1, 100.0)
