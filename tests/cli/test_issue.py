"""printsvc issue as people run it: real keys, real papers, and a kill in the middle."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from benchmarks.people import SITES, dose_events
from printsvc_service_harness import COMMAND, ROOT, environment, run

from printsvc.app import open_signer
from printsvc.credential.trust import make_trust_list
from printsvc.flows.verify import verify_file
from printsvc.settings import read_settings

LINES = 4000


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, seed_forms: Callable[[Path], None]) -> Path:
    """A data folder with development keys and the compiled form."""
    folder = tmp_path_factory.mktemp("data")
    seed_forms(folder / "cache")
    open_signer(read_settings(data_dir=folder, development=True))
    return folder


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    source = dose_events(11, now=datetime.now(UTC).replace(microsecond=0))
    return [next(source) for _ in range(LINES)]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return path


def digests(folder: Path) -> dict[str, str]:
    paths = sorted(folder.glob("*/*.pdf"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_a_file_becomes_papers_that_read_and_verify(
    data_dir: Path, events: list[dict[str, Any]], tmp_path: Path
) -> None:
    held = events[3] | {"identity": {"status": "unchecked"}}
    file = write(tmp_path / "doses.ndjson", [*events[:3], held, events[0]])
    sites = tmp_path / "sites.json"
    sites.write_text(
        json.dumps({"sites": [dict(zip(("site_id", "name", "authority"), s, strict=True)) for s in SITES]})
    )
    out = tmp_path / "out"
    arguments = ["issue", "--in", str(file), "--out", str(out), "--sites", str(sites), "--jobs", "1"]
    ended = run(*arguments, "--merge", "site", PRINTSVC_DATA_DIR=str(data_dir))
    assert ended.returncode == 1, "a line was held"
    assert "1 held, 3 issued, 1 replayed" in ended.stdout.decode()
    assert "5 of 5 lines" in ended.stderr.decode()
    assert "3 of 3 papers" in ended.stderr.decode()
    every = [json.loads(line) for line in (out / "issued.ndjson").read_text().splitlines()]
    print_files = {one["print_file"] for one in every}
    assert f"{len(print_files)} files in {out / 'merged'}" in ended.stdout.decode()
    assert {path.relative_to(out).as_posix() for path in (out / "merged").iterdir()} == print_files
    issued = every[0]
    certificate = next((data_dir / "keys").glob("dsc-*.der")).read_bytes()
    now = datetime.now(UTC)
    trust = make_trust_list([certificate], version=1, made_at=now)
    (verdict,) = verify_file((out / issued["file"]).read_bytes(), trust=trust, now=now)
    assert verdict["verdict"] == "valid"
    assert verdict["claims"]["hcert"]["v"][0]["ci"] == issued["uvci"]
    assert [json.loads(line)["outcome"] for line in (out / "report.ndjson").read_text().splitlines()] == [
        "held",
        "replayed",
    ]
    assert {path.stat().st_mode & 0o077 for path in out.glob("*/*.pdf")} == {0}, "papers are their owner's"


@pytest.mark.faults
def test_a_killed_run_goes_on_where_it_was_with_the_same_bytes(
    data_dir: Path, events: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = write(tmp_path / "doses.ndjson", events)
    out = tmp_path / "out"
    arguments = ["issue", "--in", str(file), "--out", str(out), "--jobs", "2"]
    env = environment(PYTHONPATH=str(ROOT), PRINTSVC_DATA_DIR=str(data_dir))
    for wanted in (50, 400):
        with subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 100
            while len(list(out.glob("*/*.pdf"))) < wanted and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        time.sleep(1)  # its processes end by themselves
    before = digests(out)
    assert 400 <= len(before) < LINES
    assert not (out / "issued.ndjson").exists()
    ended = run(*arguments, PRINTSVC_DATA_DIR=str(data_dir))
    assert (ended.returncode, ended.stdout.decode().splitlines()[0]) == (0, f"{out}: {LINES} issued")
    after = digests(out)
    assert before.items() <= after.items(), "what was there stayed as it was"
    issued = [json.loads(line) for line in (out / "issued.ndjson").read_text().splitlines()]
    assert [one["dose_id"] for one in issued] == [event["dose_id"] for event in events]
    assert len({one["uvci"] for one in issued}) == LINES
    assert sorted(after) == sorted(one["file"] for one in issued), "no dose has a second paper"
    again = run(*arguments, PRINTSVC_DATA_DIR=str(data_dir))
    assert again.returncode == 0
    assert digests(out) == after


def test_a_pipe_is_refused_in_a_sentence(data_dir: Path, tmp_path: Path) -> None:
    """It would be empty when it is read again."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ended = run("issue", "--in", str(pipe), "--out", str(tmp_path / "out"), PRINTSVC_DATA_DIR=str(data_dir))
    assert ended.returncode == 1
    assert b"is no file" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_without_a_signer_it_says_so(events: list[dict[str, Any]], tmp_path: Path) -> None:
    file = write(tmp_path / "doses.ndjson", events[:1])
    arguments = ["issue", "--in", str(file), "--out", str(tmp_path / "out")]
    ended = run(*arguments, PRINTSVC_DATA_DIR=str(tmp_path / "data"), PRINTSVC_KEY_PASSPHRASE="open")
    assert ended.returncode == 1
    assert b"no signer" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_list_of_sites_that_is_none_is_named(data_dir: Path, events: list[dict[str, Any]], tmp_path: Path) -> None:
    file = write(tmp_path / "doses.ndjson", events[:1])
    arguments = ["issue", "--in", str(file), "--out", str(tmp_path / "out"), "--sites", str(file)]
    ended = run(*arguments, PRINTSVC_DATA_DIR=str(data_dir))
    assert ended.returncode == 1
    assert b"not a list of sites" in ended.stderr
