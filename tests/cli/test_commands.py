"""The commands of an admin, and what a stranger is told when something is wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from printsvc_service_harness import Service, recent, run, run_here

from printsvc.store.migrate import newest_revision


def admin(service: Service, *arguments: str) -> tuple[int, str, str]:
    token = service.data_dir / "dev" / "admin.token"
    ended = run_here(*arguments, "--url", service.url, "--token-file", str(token))
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


def test_an_admin_makes_a_site_and_sees_what_happens_there(service: Service) -> None:
    code, out, err = admin(service, "sites", "add", "HN-7", "--name", "Trạm Y tế [bold]7[/bold]", "--province", "01")
    assert (code, err) == (0, "")
    assert "HN-7" in out
    assert "Trạm Y tế [bold]7[/bold]" in admin(service, "sites", "list")[1], "no markup in what others typed"
    code, out, err = admin(service, "sites", "add", "HN-7", "--name", "Other")
    assert (code, out) == (1, "")
    assert "with another name, province; nothing was changed" in err
    code, out, _ = admin(service, "sites", "change", "HN-7", "--authority", "SỞ Y TẾ HÀ NỘI")
    assert (code, out) == (0, "Site HN-7: Trạm Y tế [bold]7[/bold], SỞ Y TẾ HÀ NỘI 01\n")
    code, _, err = admin(service, "sites", "change", "HN-NONE", "--name", "Other")
    assert (code, err.splitlines()[0]) == (1, "printsvc: There is no such site.")
    assert "–" in admin(service, "stats", "--site", "HN-7")[1], "no dose, no percent"
    code, out, err = admin(service, "sites", "enrol", "HN-7")
    assert len(out.strip()) == 20
    assert "Works once" in err
    event = recent("W") | {"site_id": "HN-7", "identity": {"status": "unchecked"}}
    assert service.call("POST", "/v1/doses", event, by="platform")[0] == 202
    worklist = admin(service, "sites", "worklist", "HN-7")[1]
    for words in ("held", event["dose_id"], "was not checked"):
        assert words in worklist
    assert "No agent told of a printer yet." in admin(service, "printers", "list", "--site", "HN-7")[1]
    figures = json.loads(admin(service, "stats", "--site", "HN-7", "--json")[1])
    assert (figures["doses"], figures["held"], figures["unaccounted"]) == (1, 1, 0)
    assert "coverage" in admin(service, "stats")[1]
    assert "VN" in admin(service, "keys", "list")[1]


def test_an_admin_settles_and_retries(service: Service) -> None:
    service.call("POST", "/v1/sites", {"site_id": "HN-8", "name": "8"})
    _, issued = service.call("POST", "/v1/doses", recent("S") | {"site_id": "HN-8"}, by="platform")
    job_id = issued["job_id"]
    token = service.enrol("HN-8")
    service.call("POST", "/agent/v1/lease", {"journal_id": "j-HN-8", "capacity": 1, "wait_s": 10}, by=token)
    event = {"seq": 1, "kind": "uncertain", "job_id": job_id, "fencing_token": 1, "at": "2026-01-01T00:00:00Z"}
    service.call("POST", "/agent/v1/report", {"journal_id": "j-HN-8", "events": [event]}, by=token)
    assert job_id in admin(service, "jobs", "list", "--site", "HN-8", "--state", "uncertain,failed")[1]
    code, _, err = admin(service, "jobs", "retry", job_id)
    assert (code, err.startswith("printsvc: A job that is uncertain cannot")) == (1, True)
    code, out, _ = admin(service, "jobs", "settle", job_id, "not_here")
    assert code == 0
    assert f"{job_id}: failed" in out
    assert "copy 2: " in out
    copy_id = out.split()[-1]
    assert admin(service, "jobs", "lost", copy_id)[2].startswith("printsvc: No agent ever held this job")
    service.call("POST", "/agent/v1/lease", {"journal_id": "j-HN-8", "capacity": 1, "wait_s": 10}, by=token)
    assert admin(service, "jobs", "lost", copy_id)[:2] == (0, "uncertain\n")
    assert admin(service, "jobs", "list", "--state", "nonsense")[0] == 1


def test_what_is_wrong_is_named_with_its_place(service: Service) -> None:
    code, out, err = admin(service, "sites", "add", "a b", "--name", "x")
    assert (code, out) == (1, "")
    assert "/site_id" in err
    code, _, err = admin(service, "sites", "worklist", "no/such?site")
    assert (code, err.splitlines()[0]) == (1, "printsvc: There is no such site.")


def test_without_a_right_token_it_says_which_file(service: Service, tmp_path: Path) -> None:
    ended = run("sites", "list", "--url", service.url, cwd=tmp_path)
    assert ended.returncode == 1
    assert b"var/dev/admin.token" in ended.stderr
    wrong = tmp_path / "token"
    wrong.write_text("ps_wrong\n")
    ended = run_here("sites", "list", "--url", service.url, "--token-file", str(wrong))
    assert ended.returncode == 1
    assert b"does not know the token" in ended.stderr
    here = run_here("sites", "list", "--url", service.url, PRINTSVC_DATA_DIR=str(service.data_dir))
    assert here.returncode == 0, "the data folder's own token is found"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[", "nonsense", "http://no-such-host.invalid"])
def test_without_a_service_it_says_so(url: str) -> None:
    ended = run_here("stats", "--url", url)
    assert ended.returncode == 1
    assert b"is the service running?" in ended.stderr
    assert b"Traceback" not in ended.stderr


WRONG = {
    "port": ({"PRINTSVC_PORT": "abc"}, "PRINTSVC_PORT"),
    "workers": ({"PRINTSVC_RENDER_WORKERS": "0"}, "PRINTSVC_RENDER_WORKERS"),
    "country": ({"PRINTSVC_COUNTRY": "Vietnam"}, "PRINTSVC_COUNTRY"),
    "level": ({"PRINTSVC_LOG_LEVEL": "LOUD"}, "PRINTSVC_LOG_LEVEL"),
    "database": ({"PRINTSVC_DATABASE_URL": "mysql://u:Chimhoangyen@h/d"}, "PRINTSVC_DATABASE_URL"),
    "fonts": ({"PRINTSVC_FONTS_DIR": "/nonexistent"}, "manifest.toml"),
    "templates": ({"PRINTSVC_TEMPLATES_DIR": "/nonexistent"}, "a4/43-2022"),
    "folder": ({"PRINTSVC_DATA_DIR": "/proc/nothing"}, "/proc/nothing"),
    "passphrase": ({"PRINTSVC_KEY_PASSPHRASE_FILE": "/nonexistent"}, "/nonexistent"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named_and_no_traceback_is_shown(name: str, tmp_path: Path) -> None:
    settings, named = WRONG[name]
    ended = (
        run("up", "--port", "0", **({"PRINTSVC_DATA_DIR": str(tmp_path / "var")} | settings))
        if name != "port"
        else (run("up", PRINTSVC_DATA_DIR=str(tmp_path / "var"), **settings))
    )
    err = ended.stderr.decode()
    assert ended.returncode == 1, err
    assert err.startswith("printsvc: ")
    assert named in err
    assert "Traceback" not in err
    assert "Chimhoangyen" not in err
    assert ended.stdout == b""


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = run("up", "--data-dir", str(tmp_path / "var"), "--port", port)
    assert ended.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use." in ended.stderr.decode()


def test_serve_makes_no_keys_and_says_what_is_missing(tmp_path: Path) -> None:
    without = run("serve", "--port", "0", PRINTSVC_DATA_DIR=str(tmp_path / "var"))
    assert (without.returncode, b"PRINTSVC_KEY_PASSPHRASE_FILE" in without.stderr) == (1, True)
    empty = run("serve", "--port", "0", PRINTSVC_DATA_DIR=str(tmp_path / "var"), PRINTSVC_KEY_PASSPHRASE="x")
    assert (empty.returncode, b"There is no signer yet" in empty.stderr) == (1, True)
    assert not list((tmp_path / "var" / "keys").glob("*.pem"))


def test_migrate_and_openapi(tmp_path: Path) -> None:
    ended = run("migrate", PRINTSVC_DATA_DIR=str(tmp_path / "var"))
    assert ended.returncode == 0
    assert f"The database is at revision {newest_revision()}.".encode() in ended.stdout
    assert json.loads(run("openapi").stdout)["openapi"] == "3.1.0"


def test_every_command_explains_itself() -> None:
    told = run("--help").stdout.decode()
    for name in ("up", "serve", "migrate", "verify", "sites", "printers", "jobs", "keys", "stats", "openapi"):
        assert f"\n  {name} " in told
    assert run("no-such-command").returncode == 2
    assert "0.1.0" in run("--version").stdout.decode()
