"""What is installed at a site, looked at without installing it: units, scripts, the command, the settings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spooler.__main__ import main
from spooler.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_exposes_little(unit: Path) -> None:
    """Of systemd's own exposure levels (0 to 10), at most 2.0."""
    command = [str(ANALYZE), "security", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SYSTEMD_COLORS": "0"})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_knows_every_word_of_a_unit(unit: Path, tmp_path: Path) -> None:
    # The programs and manual pages that a unit names are not installed here: of those it may complain.
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    done = subprocess.run([str(ANALYZE), "verify", str(copy)], capture_output=True, text=True)
    assert unit.name not in done.stdout + done.stderr, done.stderr


def test_the_agents_unit_starts_what_the_package_installs() -> None:
    unit = (DEPLOY / "systemd" / "printsvc-spooler.service").read_text()
    package = (ROOT / "script" / "package").read_text()
    assert "ExecStart=/usr/bin/printsvc-spooler run" in unit
    assert "put 755 deploy/debian/printsvc-spooler usr/bin/printsvc-spooler" in package
    for word in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "WatchdogSec="):
        assert word in unit


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_scripts_of_the_package_are_shell_and_leave_cupsd_alone(name: str) -> None:
    path = DEPLOY / "debian" / name
    assert path.read_text().startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", str(path)]).returncode == 0
    commands = [line.split("#")[0] for line in path.read_text().splitlines()]
    for line in commands:
        assert not re.search(r"(restart|reload|stop|try-restart)\s+cups|cupsctl|cupsdisable|killall|pkill", line), line


def test_the_settings_file_names_settings_that_there_are() -> None:
    text = (DEPLOY / "debian" / "printsvc-spooler.default").read_text()
    names = re.findall(r"^#?PRINTSVC_SPOOLER_([A-Z_]+)=", text, re.MULTILINE)
    assert names
    assert {name.lower() for name in names} <= Settings.model_fields.keys()


def test_the_manual_page_has_every_command_and_man_takes_it() -> None:
    page = DEPLOY / "debian" / "printsvc-spooler.1"
    text = page.read_text()
    for command in main.commands:
        assert f".B {command}" in text or f"\\-spooler {command}" in text, command
    if shutil.which("man"):
        done = subprocess.run(["man", "--warnings", "-l", str(page)], capture_output=True, text=True)
        assert done.returncode == 0
        assert done.stderr == ""


def test_the_command_takes_settings_from_the_file_and_the_environment_first(tmp_path: Path) -> None:
    """The launcher with its paths turned to a folder of the test, as nobody's root."""
    settings = tmp_path / "default"
    settings.write_text(
        "# a remark\nPRINTSVC_SPOOLER_QUEUES='a, b'\nPRINTSVC_SPOOLER_CUPS_PORT=6310\nOTHER=1\nnonsense\n"
        f"PRINTSVC_SPOOLER_STATE_DIR={tmp_path / 'from-file'}\n"
    )
    library = tmp_path / "library"
    (library / "spooler").mkdir(parents=True)
    (library / "spooler" / "__init__.py").write_text("")
    (library / "spooler" / "__main__.py").write_text(
        "import json, os, sys\n"
        "def main(prog_name):\n"
        "    told = {k: v for k, v in os.environ.items() if k.startswith('PRINTSVC') or k == 'OTHER'}\n"
        "    print(json.dumps([prog_name, told, os.umask(0), sys.argv]))\n"
    )
    text = (DEPLOY / "debian" / "printsvc-spooler").read_text()
    text = text.replace("/usr/lib/printsvc-spooler", str(library)).replace(
        "/etc/default/printsvc-spooler", str(settings)
    )
    launcher = tmp_path / "printsvc-spooler"
    launcher.write_text(text.replace("if os.geteuid() == 0:", "if False:"))
    done = subprocess.run(
        [sys.executable, "-I", str(launcher), "run"],
        env={"PRINTSVC_SPOOLER_CUPS_PORT": "7000", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == (
        '["printsvc-spooler", {"PRINTSVC_SPOOLER_CUPS_PORT": "7000", "PRINTSVC_SPOOLER_QUEUES": "a, b", '
        f'"PRINTSVC_SPOOLER_STATE_DIR": "{tmp_path / "from-file"}"}}, 63, ["printsvc-spooler", "run"]]'
    )
