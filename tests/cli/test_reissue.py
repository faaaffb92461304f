"""printsvc reissue as an admin runs it: through the service that has the database open, and without it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from printsvc_service_harness import Service, recent

from printsvc.cli import main


def command(service: Service, *arguments: str, code: int = 0, **settings: str) -> str:
    given: dict[str, str | None] = {name: None for name in os.environ if name.startswith("PRINTSVC_")}
    given |= {"PRINTSVC_DATA_DIR": str(service.data_dir)} | settings
    umask = os.umask(0o077)
    try:
        ended = CliRunner().invoke(main, arguments, env=given)
    finally:
        os.umask(umask)
    assert ended.exit_code == code, ended.output
    return ended.stdout


def told(service: Service, *arguments: str, code: int = 0, **settings: str) -> Any:
    return json.loads(command(service, *arguments, "--json", code=code, **settings).splitlines()[-1])


def test_from_a_compromise_to_new_certificates(own_service: Service) -> None:
    service = own_service
    service.add_site()
    there = {"PRINTSVC_URL": service.url}
    issued = []
    for _ in range(3):
        status, body = service.call("POST", "/v1/doses", recent("RI"), by="platform")
        assert status == 201
        issued.append(body)
    listed = told(service, "keys", "list", **there)["signers"]
    kid = next(one for one in listed if (one["role"], one["state"]) == ("dsc", "signing"))
    kid = kid["thumbprint"][:16]
    assert "still signs" in CliRunner().invoke(
        main, ["reissue", "--signer", kid], env={"PRINTSVC_DATA_DIR": str(service.data_dir)} | there
    ).output  # fmt: skip
    told(service, "keys", "rotate", **there)
    told(service, "keys", "compromise", kid, "--reason", "stolen", "--yes", **there)
    status, answer = service.call("POST", "/v1/verify", {"code": issued[0]["certificate"]["hcert"]}, by=None)
    assert answer["verdict"] == "unknown_signer"

    shown = told(service, "reissue", "--signer", kid, **there)
    assert (shown["dry_run"], shown["count"], shown["by_signer"][0]["state"]) == (True, 3, "compromised")
    words = command(service, "reissue", "--query", "site=HN-1", "--signer", kid, "--dry-run", **there)
    assert "3 certificates" in words
    assert "the old ones are revoked" in words
    assert "no papers, but for those that are still owed" in words
    done = told(service, "reissue", "--signer", kid, "--yes", **there)
    assert (done["issued"], done["left"], done["print_jobs"]) == (3, 0, 3), "no paper had come out yet"
    assert told(service, "reissue", "--signer", kid, "--yes", **there)["count"] == 0
    items = [
        json.loads(line) for line in command(service, "reissue", "items", done["run_id"], "--json", **there).split("\n")
        if line
    ]  # fmt: skip
    assert {one["uvci"] for one in items} == {one["uvci"] for one in issued}
    for one in items:
        path = "/v1/certificates/" + one["uvci"].replace("#", "%23")
        old = service.call("GET", path)[1]
        assert (old["superseded_by"], old["revoked"]) == (one["new_uvci"], True)
    newest = service.call("GET", f"/v1/doses/{issued[0]['dose_id']}", by="platform")[1]
    assert newest["certificate"]["version"] == 2
    status, answer = service.call("POST", "/v1/verify", {"code": newest["certificate"]["hcert"]}, by=None)
    assert answer["verdict"] == "valid"
    assert done["run_id"] in command(service, "reissue", "runs", **there)
    assert command(service, "reissue", "stale", **there).startswith("There are none.")

    # Without the service the same commands work on the database.
    service.stop()
    assert told(service, "reissue", "--expiring-before", "2000-01-01")["count"] == 0
    assert json.loads(command(service, "reissue", "runs", "--json"))["run_id"] == done["run_id"]
    again = told(service, "reissue", "--query", "site=HN-1", "--print", "--yes")
    assert (again["issued"], again["print_jobs"], again["print"]) == (3, 3, True)
    assert "There are none" in command(service, "reissue", "resume")
    assert json.loads(command(service, "reissue", "stale", "--json")) == {"sites": []}
    assert command(service, "reissue", "--yes", code=1) == "", "what would mean everything is refused"


@pytest.mark.parametrize("query", ["site", "colour=red", "=x", "lot="])
def test_a_query_that_is_none_is_refused(query: str, tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["reissue", "--query", query], env={"PRINTSVC_DATA_DIR": str(tmp_path)})
    assert ended.exit_code == 2
    assert "--query takes NAME=VALUE" in ended.stderr
