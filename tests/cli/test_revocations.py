"""`printsvc revocations` and `printsvc verify` against a real service, as people run them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from printsvc_service_harness import Service, recent

from printsvc.cli import main

NOBODY = "http://127.0.0.1:9"


def issue(service: Service, name: str, folder: Path) -> tuple[str, Path]:
    """Return the UVCI of a new certificate and a file with its code."""
    status, body = service.call("POST", "/v1/doses", recent(name), by="platform")
    assert status == 201
    file = folder / f"{body['dose_id']}.txt"
    file.write_text(body["certificate"]["hcert"])
    return body["uvci"], file


def as_admin(service: Service) -> dict[str, str]:
    return {"PRINTSVC_URL": service.url, "PRINTSVC_TOKEN_FILE": str(service.data_dir / "dev" / "admin.token")}


@pytest.fixture
def admin(service: Service) -> dict[str, str]:
    return as_admin(service)


def told(*arguments: str, code: int = 0, **settings: str) -> str:
    ended = CliRunner().invoke(main, arguments, env={"PRINTSVC_DATA_DIR": "/nowhere"} | settings)
    assert ended.exit_code == code, ended.output
    return ended.output


def test_from_revoking_to_the_verifier_without_a_line(own_service: Service, tmp_path: Path) -> None:
    service, admin = own_service, as_admin(own_service)
    uvci, code = issue(service, "RV", tmp_path)
    _, other = issue(service, "RV", tmp_path)
    _, trust = service.call("GET", "/v1/trust-list", by=None)
    (tmp_path / "trust.json").write_text(json.dumps(trust))
    snapshot, believed = tmp_path / "snapshot", ("--trust", str(tmp_path / "trust.json"))
    assert "version 1 (whole), 0 revocations" in told("revocations", "snapshot", "--out", str(snapshot), **admin)
    assert "would be revoked" in told("revocations", "revoke", uvci, "--reason", "fraud", "--dry-run", **admin)
    assert "current  fraud" in told("revocations", "revoke", uvci, "--reason", "fraud", **admin)
    answer = told("verify", "--url", service.url, str(code), code=1)
    assert "code" not in answer.splitlines()[0].split(": ")[-1]
    assert "Gian lận." in answer
    assert ": revoked" in answer
    assert ": valid" in told("verify", *believed, str(code))
    assert "chưa kiểm tra thu hồi" in told("verify", *believed, str(code)).casefold()
    offline = ("verify", *believed, "--revocations", str(snapshot), "--url", NOBODY)
    assert ": valid" in told(*offline, str(code)), "this snapshot is older than the revocation"
    assert "chưa kiểm tra" not in told(*offline, str(code)).casefold()
    assert uvci in told("revocations", "list", **admin)
    cannot = told("revocations", "undo", uvci, "--reason", "mistake", code=1, **admin)
    assert "cannot be undone" in cannot
    assert ": valid" in told("verify", "--url", service.url, str(other))
    (tmp_path / "broken").write_bytes(snapshot.read_bytes()[:-1])
    broken = told("verify", *believed, "--revocations", str(tmp_path / "broken"), str(code), code=1)
    assert "cut" in broken


def test_a_file_of_many(service: Service, admin: dict[str, str], tmp_path: Path) -> None:
    some = [issue(service, "RC", tmp_path) for _ in range(3)]
    file = tmp_path / "revoke.csv"
    lines = [f"{uvci},data_error" for uvci, _ in some]
    file.write_text("\n".join(["uvci,reason", *lines, "nonsense,fraud"]))
    command = ("revocations", "csv", str(file), "--yes")
    tried = told(*command, "--dry-run", code=1, **admin)
    assert "Line 5, uvci: there is no such certificate." in tried
    assert "3 good lines (0 certificates are revoked already), 1 bad" in tried
    assert "Nothing was revoked" in told(*command, code=1, **admin)
    assert "3 revoked, 0 were revoked before" in told(*command, "--skip-bad", **admin)
    assert "3 revoked, 0 were revoked before" in told(*command, "--skip-bad", **admin), "the same run again"
    assert "3 were revoked before" in told(*command, "--skip-bad", "--again", **admin)
    listed: list[Any] = [
        json.loads(line)
        for line in told("revocations", "list", "--json", "--reason", "data_error", **admin).splitlines()
    ]
    assert {one["uvci"] for one in listed} >= {uvci for uvci, _ in some}
    shown = told("revocations", "query", "--lot", "FG3712", "--reason", "fraud", "--dry-run", **admin)
    assert "certificates" in shown
    folder = tmp_path / "batches"
    told("revocations", "batches", "--out", str(folder), **admin)
    assert sum(len(json.loads(path.read_text())["entries"]) for path in folder.iterdir()) >= 3
