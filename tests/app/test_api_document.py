"""docs/api.md is true: its examples run, and its routes are those of the table."""

from __future__ import annotations

import json
import re
import subprocess

from printsvc_service_harness import ROOT, Service, environment

from printsvc.web.routes import ROUTES

DOCUMENT = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_every_route_is_told_and_no_other() -> None:
    calls = re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?]*)", DOCUMENT)
    told = {f"{method} {path}" for method, path in calls}
    posted = {f"POST {path}" for path in re.findall(r'"\$URL(/[^"]*)"[^\n]*(?:-d|Content-Type)', DOCUMENT)}
    fetched = {f"GET {path}" for path in re.findall(r'"\$URL(/[^"]*)"', DOCUMENT)}
    served = {f"{route.method} {route.path}" for route in ROUTES}
    assert told <= served | {"GET /openapi.json"}
    assert served - told - posted - fetched == set()


def test_the_examples_run(service: Service) -> None:
    if not (service.folder / "docs").exists():
        (service.folder / "docs").symlink_to(ROOT / "docs")
    script = "\n".join(EXAMPLES).replace("http://127.0.0.1:8080", service.url)
    script = "set -eu\n" + script.replace("curl -sS", "curl -sS --fail -w '\\n'")
    ended = subprocess.run(
        ["bash", "-c", script], cwd=service.folder, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines() if line]
    site, dose, *others = answers
    assert site["site_id"] == "HN-HBT-01"
    assert dose["outcome"] == "issued"
    lines = [answer for answer in others if "line" in answer]
    examples = (ROOT / "docs" / "examples" / "doses.ndjson").read_text().splitlines()
    assert len(lines) == len([line for line in examples if line.strip()])
    verdicts = [answer["verdict"] for answer in others if "verdict" in answer]
    assert verdicts == ["unreadable", "malformed"], "a paper that is scanned back, a code that is verified"
    (listed,) = [answer for answer in others if "jws" in answer]
    assert listed["certificates"]


def test_the_verdicts_are_those_of_the_verifier() -> None:
    from printsvc.credential.verify import Outcome

    (told,) = re.findall(r"`verdict` \((.*?)\)", DOCUMENT, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", told)) == {outcome.value for outcome in Outcome}
