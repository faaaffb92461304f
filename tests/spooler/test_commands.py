"""The commands as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spooler.settings import Settings


def spooler(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spooler", *arguments],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_enrol_once_and_see_it_in_the_status(service: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = spooler("enroll", "--code", "one-time", "--url", service.url, "--state-dir", str(state))
    assert done.returncode == 0, done.stderr
    assert "HN-01" in done.stdout
    again = spooler("enroll", "--code", "one-time", "--url", service.url, "--state-dir", str(state))
    assert again.returncode == 1
    assert "does not take this code" in again.stderr
    assert "Mã đăng ký" in again.stderr
    seen = spooler("status", "--state-dir", str(state))
    status = json.loads(seen.stdout)
    assert status["enrolled"] is True
    assert (status["site_id"], status["url"], status["jobs"]) == ("HN-01", service.url, [])
    assert service.token not in done.stdout + done.stderr + seen.stdout + seen.stderr


@pytest.mark.parametrize("command", [("run",), ("status",), ("offline", "status"), ("offline", "take")])
def test_a_wrong_setting_is_named_in_a_sentence(command: tuple[str, ...]) -> None:
    done = spooler(*command, PRINTSVC_SPOOLER_POLL_S="abc")
    assert done.returncode == 1
    assert "PRINTSVC_SPOOLER_POLL_S" in done.stderr
    assert "Thiết lập không hợp lệ" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version_are_where_one_looks_for_them() -> None:
    assert spooler("-h").stdout == spooler("--help").stdout
    assert spooler("--version").stdout.startswith("printsvc-spooler, version ")


def test_status_without_a_journal_is_an_error_and_makes_none(tmp_path: Path) -> None:
    seen = spooler("status", "--state-dir", str(tmp_path / "none"))
    assert seen.returncode == 1
    assert seen.stderr.startswith("Not set up yet")
    assert "printsvc-spooler enroll" in seen.stderr
    assert "Chưa thiết lập" in seen.stderr
    assert "damaged" not in seen.stderr
    assert not (tmp_path / "none").exists()


def test_run_without_a_service_says_what_to_do(tmp_path: Path) -> None:
    done = spooler("run", PRINTSVC_SPOOLER_STATE_DIR=str(tmp_path / "state"))
    assert done.returncode != 0
    assert "enroll --code" in done.stderr


def test_damaged_journal_is_said_in_both_languages(tmp_path: Path) -> None:
    state = tmp_path / "state"
    spooler("run", PRINTSVC_SPOOLER_STATE_DIR=str(state))
    (state / "journal.db").write_bytes(b"")
    done = spooler("run", PRINTSVC_SPOOLER_STATE_DIR=str(state), PRINTSVC_SPOOLER_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert "hỏng" in done.stderr


def test_status_of_a_journal_that_is_lost_is_not_taken_for_a_fresh_site(tmp_path: Path) -> None:
    state = tmp_path / "state"
    spooler("run", PRINTSVC_SPOOLER_STATE_DIR=str(state))
    (state / "journal.db").unlink()
    seen = spooler("status", "--state-dir", str(state))
    assert seen.returncode == 1
    assert "damaged" in seen.stderr


def test_only_the_owner_reads_the_journal_and_the_documents(tmp_path: Path) -> None:
    """Also what an agent of before left open for all."""
    state = tmp_path / "state"
    spooler("run", PRINTSVC_SPOOLER_STATE_DIR=str(state))
    assert state.stat().st_mode & 0o077 == 0
    (state / "documents").chmod(0o755)
    (state / "journal.db").chmod(0o644)
    spooler("run", PRINTSVC_SPOOLER_STATE_DIR=str(state))
    paths = [path for path in state.iterdir() if path.name.startswith("journal.")]
    assert len(paths) >= 3
    for path in (*paths, state / "documents"):
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_the_help_of_run_names_every_setting() -> None:
    told = spooler("run", "--help").stdout
    for name, field in Settings.model_fields.items():
        assert f"PRINTSVC_SPOOLER_{name.upper()} " in told
        assert field.description
        assert field.description in told
