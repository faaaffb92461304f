"""/v1/fleet, /v1/sites/{site_id}/health, /v1/alerts and their gauges, over real HTTP."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from printsvc_api_harness import Api
from prometheus_client.parser import text_string_to_metric_families

from printsvc.flows.alerts import tend_alerts

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "printsvc.rules.yml"
PRINTER = {
    "queue": "desk1",
    "uri": "ipp://192.0.2.7/ipp/print",
    "state": 5,
    "state_reasons": ["media-empty-error", "com.example-odd-warning"],
    "marker_levels": [7, -2],
}


async def told(api: Api, site_id: str = "HN-1", **changes: Any) -> str:
    """Let an agent of a site be heard once; return its token."""
    _, token = await api.enrol(site_id, journal_id=f"journal-{site_id}")
    body = {"agent_time": api.world.clock.now.isoformat(), "agent_version": "0.1.0", "protocol": 2}
    await api.lease(token, capacity=0, journal_id=f"journal-{site_id}", **(body | changes))
    return token


async def metrics(api: Api) -> dict[str, dict[tuple[str, ...], float]]:
    text = (await api.call("GET", "/metrics", by=None)).body.decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


async def test_the_health_of_a_site(api: Api) -> None:
    late = api.world.clock.now + timedelta(seconds=130)
    await told(api, printers=[PRINTER], agent_time=late.isoformat())
    await api.issue()
    api.world.clock.advance(700)
    (agent,) = (await api.call("GET", "/v1/sites/HN-1/health", by="site")).body.pop("agents")
    assert (agent["version"], agent["protocol"], agent["clock_skew_ms"]) == ("0.1.0", 2, 130_000)
    health = (await api.call("GET", "/v1/sites/HN-1/health", by="admin")).body
    assert {k: health[k] for k in ("waiting", "oldest_unprinted_s", "silent_s", "uncertain", "clock_skew_s")} == {
        "waiting": 1,
        "oldest_unprinted_s": 700,
        "silent_s": 700,
        "uncertain": 0,
        "clock_skew_s": 130.0,
    }
    (printer,) = health["printers"]
    assert (printer["state"], printer["usable"], printer["marker_levels"]) == ("stopped", False, [7, -2])
    assert printer["state_reasons"] == ["media-empty-error", "com.example-odd-warning"]
    assert (await api.call("GET", "/v1/sites/HN-2/health", by="site")).status == 404
    assert (await api.call("GET", "/v1/sites/none/health", by="admin")).status == 404


async def test_uncertain_and_failed_papers_are_counted_with_their_age(api: Api) -> None:
    token = await told(api)
    for number in range(3):
        await api.issue(f"D-{number}")
    leased = (await api.lease(token, journal_id="journal-HN-1"))["jobs"]
    api.world.clock.advance(60)
    at = api.world.clock.now.isoformat()
    kinds = ("uncertain", "failed")
    events = [
        {"seq": n, "kind": kind, "job_id": leased[n - 1]["job_id"], "fencing_token": 1, "at": at}
        for n, kind in enumerate(kinds, 1)
    ]
    await api.report(token, *events, journal_id="journal-HN-1")
    api.world.clock.advance(900)
    health = (await api.call("GET", "/v1/sites/HN-1/health", by="admin")).body
    assert (health["uncertain"], health["oldest_uncertain_s"], health["failed"]) == (1, 900, 1)
    assert (health["waiting"], health["oldest_unprinted_s"]) == (1, 960)


async def test_the_fleet_is_listed_with_the_worst_site_first(api: Api) -> None:
    await told(api, "HN-1")
    await api.issue(site_id="HN-2")
    api.world.clock.advance(400)
    answer = (await api.call("GET", "/v1/fleet", by="admin")).body
    assert [site["site_id"] for site in answer["sites"]] == ["HN-2", "HN-1"]
    summary = answer["summary"]
    assert (summary["sites"], summary["sites_without_agent"], summary["sites_silent_with_papers"]) == (2, 1, 1)
    assert summary["versions"] == {"0.1.0": 1}
    for only, expected in (("waiting", ["HN-2"]), ("uncertain", []), ("silent", ["HN-2", "HN-1"])):
        listed = (await api.call("GET", f"/v1/fleet?only={only}", by="admin")).body
        assert [site["site_id"] for site in listed["sites"]] == expected
        assert listed["chosen"] == len(expected)
    page = (await api.call("GET", "/v1/fleet?order=site&limit=1&after=HN-1", by="admin")).body
    assert [site["site_id"] for site in page["sites"]] == ["HN-2"]
    assert (await api.call("GET", "/v1/fleet?province=79", by="admin")).body["sites"] == []


@pytest.mark.parametrize("query", ["only=bad", "limit=0", "limit=1001", "limit=x", "order=up"])
async def test_a_wrong_question_is_answered_with_what_is_right(api: Api, query: str) -> None:
    answer = await api.call("GET", f"/v1/fleet?{query}", by="admin")
    assert answer.status == 422
    assert answer.body["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"
    assert (await api.call("GET", "/v1/alerts?state=odd", by="admin")).status == 422


async def test_only_admins_see_the_fleet(api: Api) -> None:
    for by, status in (("site", 403), ("platform", 403), (None, 401)):
        assert (await api.call("GET", "/v1/fleet", by=by)).status == status


async def test_alerts_are_listed_with_their_sentences_and_a_site_sees_its_own(api: Api) -> None:
    await api.issue(site_id="HN-1")
    await api.issue("D-2", site_id="HN-2")
    assert (await api.call("GET", "/v1/alerts", by="admin")).body == {
        "looked_at": None,
        "rules_valid": True,
        "alerts": [],
    }
    api.world.clock.advance(1801)
    await tend_alerts(api.world.services, every_s=30, version="0.1.0")
    answer = (await api.call("GET", "/v1/alerts", by="admin")).body
    assert [alert["rule"] for alert in answer["alerts"][:2]] == ["agent-silent", "agent-silent"]
    assert {(alert["rule"], alert["site_id"]) for alert in answer["alerts"]} == {
        (rule, site) for rule in ("agent-silent", "paper-late", "paper-overdue") for site in ("HN-1", "HN-2")
    }
    overdue = next(a for a in answer["alerts"] if a["rule"] == "paper-overdue")
    assert "30 min" in overdue["en"]
    assert "30 min" in overdue["vi"]
    assert overdue["vi"] != overdue["en"]
    own = (await api.call("GET", "/v1/alerts?site_id=HN-2", by="site")).body
    assert {alert["site_id"] for alert in own["alerts"]} == {"HN-1"}
    rules = (await api.call("GET", "/v1/alert-rules", by="admin")).body["rules"]
    assert {"name": "clock-skew", "above": 120.0}.items() <= next(r for r in rules if r["name"] == "clock-skew").items()


async def test_the_gauges_of_the_fleet(api: Api) -> None:
    await told(api, printers=[PRINTER])
    await api.issue()
    api.world.clock.advance(1801)
    await tend_alerts(api.world.services, every_s=30, version="0.1.0")
    found = await metrics(api)
    assert found["printsvc_fleet_sites"][()] == 2
    assert found["printsvc_fleet_agents"] == {("heard",): 0, ("silent",): 1, ("never",): 0}
    assert found["printsvc_fleet_oldest_unprinted_seconds"][()] == 1801
    assert found["printsvc_fleet_sites_late"] == {("600",): 1, ("1200",): 1, ("1800",): 1}
    assert found["printsvc_fleet_printer_reasons"] == {("media-empty",): 1, ("other",): 1}
    assert found["printsvc_fleet_worst_unprinted_seconds"] == {("HN-1",): 1801}
    assert found["printsvc_alerts"]["agent-silent", "critical", "firing"] == 1
    assert found["printsvc_alerts"]["printer-in-error", "warning", "pending"] == 1
    assert found["printsvc_alert_rules_valid"][()] == 1
    # Read again only after some seconds: a scrape of every process must not read all sites each time.
    await api.issue("D-2")
    assert (await metrics(api))["printsvc_fleet_papers_waiting"][()] == 1
    api.world.clock.advance(10)
    assert (await metrics(api))["printsvc_fleet_papers_waiting"][()] == 2


def _expressions() -> list[tuple[str, str]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on this machine (Debian: prometheus)")
def test_promtool_takes_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(_expressions())} rules found" in done.stdout + done.stderr


async def test_every_metric_that_the_prometheus_rules_name_is_exported(api: Api) -> None:
    token = await told(api, printers=[PRINTER])
    for number in range(2):
        await api.issue(f"D-{number}")
    late = (api.world.clock.now - timedelta(seconds=5)).isoformat()
    (job, _) = (await api.lease(token, journal_id="journal-HN-1", agent_time=late))["jobs"]
    at = api.world.clock.now.isoformat()
    event = {"seq": 1, "kind": "uncertain", "job_id": job["job_id"], "fencing_token": 1, "at": at}
    await api.report(token, event, journal_id="journal-HN-1")
    api.world.clock.advance(1801)
    await tend_alerts(api.world.services, every_s=30, version="0.1.0")
    found = await metrics(api)
    expressions = _expressions()
    assert len(expressions) >= 10
    for alert, expression in expressions:
        names = set(re.findall(r"\bprintsvc_[a-z0-9_]+", expression))
        assert names or expression.startswith("up{"), alert
        assert names <= found.keys(), (alert, names - found.keys())
