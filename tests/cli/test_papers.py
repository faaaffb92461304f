"""What operators type: scanning a paper back, copies, and what is the matter at a site."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import qrcode
from printsvc_service_harness import Service, recent, run


def admin(service: Service, *arguments: str) -> tuple[int, str, str]:
    token = service.data_dir / "dev" / "admin.token"
    ended = run(*arguments, "--url", service.url, "--token-file", str(token))
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


@pytest.fixture(scope="module")
def issued(service: Service) -> Any:
    """A dose at the site HN-P in the province 31, whose paper the printer says is out."""
    service.call("POST", "/v1/sites", {"site_id": "HN-P", "name": "Trạm P", "province": "31"})
    _, made = service.call("POST", "/v1/doses", recent("P-1") | {"site_id": "HN-P"}, by="platform")
    token = service.enrol("HN-P")
    service.call("POST", "/agent/v1/lease", {"journal_id": "j-HN-P", "capacity": 1, "wait_s": 10}, by=token)
    event = {"seq": 1, "kind": "printed", "job_id": made["job_id"], "fencing_token": 1, "at": "2026-01-01T00:00:00Z"}
    event |= {"witness": "printer", "impressions": 1, "printer_said": "completed", "queue": "lp"}
    service.call("POST", "/agent/v1/report", {"journal_id": "j-HN-P", "events": [event]}, by=token)
    return made


def test_a_paper_is_scanned_back_from_its_text_or_its_picture(service: Service, issued: Any, tmp_path: Path) -> None:
    hcert = issued["certificate"]["hcert"]
    code, out, err = admin(service, "papers", "scan", hcert, "--job", issued["job_id"])
    assert (code, err) == (0, "")
    assert out.startswith("right_paper: The right paper: hand it over.")
    assert "Đúng giấy" in out
    assert "copy 1  confirmed  current" in out
    file = io.BytesIO()
    qrcode.make(hcert, border=4, box_size=4).save(file, format="PNG")
    (tmp_path / "photo.png").write_bytes(file.getvalue())
    code, out, _ = admin(service, "papers", "scan", str(tmp_path / "photo.png"), "--site", "HN-P", "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "right_paper")
    assert admin(service, "papers", "scan", hcert, "--site", "HN-1")[:2][0] == 2, "another site's"
    code, _, err = admin(service, "papers", "scan", str(tmp_path / "no-such.png"))
    assert (code, err.startswith("printsvc: No such file")) == (1, True)


def test_a_copy_is_printed_once_and_the_list_says_which_counts(service: Service, issued: Any) -> None:
    made = [
        admin(service, "papers", "copy", issued["uvci"], "lost", "--request-id", issued["job_id"]) for _ in range(2)
    ]
    assert made[0][:2] == made[1][:2]
    assert made[0][1].startswith("copy 2: ")
    code, out, _ = admin(service, "papers", "list", issued["uvci"])
    lines = {line.split()[0]: line for line in out.splitlines() if line[:1].isdigit()}
    assert code == 0
    assert "replaced" in lines["1"]
    assert "completed 1" in lines["1"]
    assert "current" in lines["2"]
    code, out, _ = admin(service, "papers", "scan", issued["certificate"]["hcert"])
    assert (code, out.split(":")[0]) == (2, "old_copy")
    assert "Copy 2 is the one that counts." in out


def test_what_is_the_matter_now(service: Service, issued: Any) -> None:
    code, out, err = admin(service, "sites", "now", "HN-P")
    assert (code, err) == (0, "")
    assert issued["dose_id"] in out
    assert "Nothing waits for a person." in out
    assert json.loads(admin(service, "sites", "now", "HN-P", "--json")[1])["site_id"] == "HN-P"
    assert "No paper is late." in admin(service, "sites", "now", "31", "--province")[1]
    assert "seen in the app since" in admin(service, "papers", "in-app", issued["dose_id"])[1]
    assert json.loads(admin(service, "sites", "now", "HN-P", "--json")[1])["doses"][0]["app"] == "seen"
