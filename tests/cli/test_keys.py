"""printsvc keys as an admin runs it: on the database, and through the service that has it open."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from printsvc_service_harness import Service, recent

from printsvc.cli import main


def keys(data_dir: Path, *arguments: str, stdin: bytes = b"", **settings: str) -> tuple[int, str, str]:
    """Run the command in this process: some forty runs would take a minute otherwise."""
    given = {name: None for name in os.environ if name.startswith("PRINTSVC_")}
    given |= {"PRINTSVC_DATA_DIR": str(data_dir), "PRINTSVC_KEY_PASSPHRASE": "open sesame"} | settings
    umask = os.umask(0o077)
    try:
        ended = CliRunner().invoke(main, ["keys", *arguments], input=stdin, env=given)
    finally:
        os.umask(umask)
    return ended.exit_code, ended.stdout, ended.stderr


def told(data_dir: Path, *arguments: str, **settings: str) -> Any:
    code, out, err = keys(data_dir, *arguments, "--json", **settings)
    assert code == 0, err
    return json.loads(out)


def by_state(data_dir: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for signer in told(data_dir, "list")["signers"]:
        if signer["role"] == "dsc":
            found.setdefault(signer["state"], []).append(signer["thumbprint"][:16])
    return found


def test_the_first_production_signer_and_the_ones_after_it(tmp_path: Path) -> None:
    data_dir, safe = tmp_path / "var", tmp_path / "safe"
    safe.mkdir(mode=0o700)
    (safe / "passphrase").write_text("another secret\n")
    csca = ("--csca-dir", str(safe), "--csca-passphrase-file", str(safe / "passphrase"))
    code, _, err = keys(data_dir, "plan", *csca)
    assert (code, "init-csca" in err, "Chưa có CSCA" in err) == (1, True, True)
    made = told(data_dir, "init-csca", *csca)
    assert (made["made"], told(data_dir, "init-csca", *csca)["made"]) == (True, False)
    assert not list((data_dir / "keys").glob("csca-*")), "its key is on the other medium alone"
    code, out, _ = keys(data_dir, "plan", *csca)
    assert code == 0
    assert "signs from" in out
    assert "Khóa ký" in out
    assert told(data_dir, "plan", *csca)["made"] is False
    [first] = by_state(data_dir)["planned"]
    assert told(data_dir, "rotate", *csca)["signer"]["state"] == "signing"
    assert told(data_dir, "rotate", "--to", first)["signer"]["thumbprint"].startswith(first), "may be repeated"
    second = told(data_dir, "rotate", *csca)
    assert second["before"] == first
    assert by_state(data_dir) == {"verifying": [first], "signing": [second["signer"]["thumbprint"][:16]]}
    code, out, _ = keys(data_dir, "list")
    assert code == 0
    for words in (first, "verifying", "signing", "csca", "VN"):
        assert words in out
    code, _, err = keys(data_dir, "plan", "--from", "2036-01-01", *csca)
    assert (code, "/signing_from" in err) == (1, True)


def test_the_trust_list_has_a_signer_where_the_csca_is_locked_away(tmp_path: Path) -> None:
    data_dir, safe = tmp_path / "var", tmp_path / "safe"
    safe.mkdir(mode=0o700)
    (safe / "passphrase").write_text("another secret\n")
    csca = ("--csca-dir", str(safe), "--csca-passphrase-file", str(safe / "passphrase"))
    code, _, err = keys(data_dir, "list-signer", *csca)
    assert (code, "init-csca" in err) == (1, True)
    told(data_dir, "init-csca", *csca)
    made = told(data_dir, "list-signer", *csca)
    again = told(data_dir, "list-signer", *csca)
    assert (made["made"], again["made"]) == (True, False)
    assert made["list_signer"] == again["list_signer"] == told(data_dir, "list")["list_signer"]
    kid = made["list_signer"]["thumbprint"][:16]
    names = {path.name for path in (data_dir / "keys").iterdir()} - {"lock"}
    assert names == {f"list-{kid}.der", f"list-{kid}.key.pem"}, "no key of the CSCA is left behind"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (data_dir / "keys").iterdir())
    code, out, _ = keys(data_dir, "list-signer", *csca)
    assert (code, f"List signer {kid} is there already" in out, "Khóa ký danh sách" in out) == (0, True, True)
    assert kid in keys(data_dir, "list")[1]


def test_after_a_compromised_csca_the_same_folder_takes_another(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    lost = told(data_dir, "init-csca")["signer"]["thumbprint"]
    told(data_dir, "rotate")
    told(data_dir, "list-signer")
    told(data_dir, "compromise", lost, "--reason", "stolen", "--yes")
    code, _, err = keys(data_dir, "plan")
    assert (code, "init-csca" in err) == (1, True), "nothing is signed with a compromised authority any more"
    assert (keys(data_dir, "list-signer")[0], keys(data_dir, "rotate")[0]) == (1, 1)
    new = told(data_dir, "init-csca")
    assert (new["made"], new["signer"]["state"], new["signer"]["thumbprint"] != lost) == (True, "signing", True)
    assert told(data_dir, "rotate")["signer"]["state"] == "signing"
    assert told(data_dir, "list-signer")["made"] is True, "the one under the lost authority is replaced"
    assert told(data_dir, "list-signer")["made"] is False


def test_secrets_that_everybody_may_read_are_named(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    told(data_dir, "init-csca")
    settings = {"PRINTSVC_KEY_PASSPHRASE": ""}
    # Not in pytest's own folder: that is closed, and what lies in it is nobody else's to read.
    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
        Path(open_to_all).chmod(0o755)
        exposed = Path(open_to_all) / "passphrase"
        exposed.write_text("open sesame\n")
        given = settings | {"PRINTSVC_KEY_PASSPHRASE_FILE": str(exposed)}
        for mode, said in ((0o644, True), (0o640, False), (0o600, False)):
            exposed.chmod(mode)
            code, _, err = keys(data_dir, "list", **given)
            assert (code, f"chmod 600 {exposed}" in err, "Mọi người dùng" in err) == (0, said, said)


def test_a_plan_that_cuts_certificates_short_says_so(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    told(data_dir, "init-csca")
    assert "12 months" not in keys(data_dir, "plan")[1]
    far = f"{datetime.now(UTC) + timedelta(days=400):%Y-%m-%d}"
    code, out, _ = keys(data_dir, "plan", "--from", far)
    assert (code, "not for 12 months" in out, "thay vì 12 tháng" in out) == (0, True, True)


def test_compromise_counts_asks_and_hands_over(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    told(data_dir, "init-csca")
    first = told(data_dir, "rotate")["signer"]["thumbprint"]
    heir = told(data_dir, "plan")["signer"]["thumbprint"]
    counted = told(data_dir, "compromise", first, "--reason", "stolen")
    assert (counted["done"], counted["certificates"]) == (False, 0)
    code, out, _ = keys(data_dir, "compromise", first, "--reason", "stolen", stdin=b"n\n")
    assert (code, "0 valid certificates" in out, "0 giấy còn hiệu lực" in out) == (1, True, True)
    assert by_state(data_dir) == {"signing": [first[:16]], "planned": [heir[:16]]}
    code, out, _ = keys(data_dir, "compromise", first[:16], "--reason", "stolen", stdin=b"y\n")
    assert (code, f"Signer {heir[:16]} signs now." in out) == (0, True)
    assert by_state(data_dir) == {"compromised": [first[:16]], "signing": [heir[:16]]}
    code, _, err = keys(data_dir, "compromise", first, "--reason", "again", "--yes")
    assert (code, "compromised" in err) == (1, True)
    code, _, err = keys(data_dir, "stale", "0123456789abcdef")
    assert (code, "Không có khóa ký này" in err) == (1, True)


def test_a_token_that_does_not_answer_is_said(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    told(data_dir, "init-csca")
    nowhere = {"PRINTSVC_PKCS11_MODULE": str(tmp_path / "no.so")}
    code, _, err = keys(data_dir, "plan", **nowhere)
    assert (code, "The token printsvc does not answer" in err, "không trả lời" in err) == (1, True, True)
    assert told(data_dir, "plan", "--store", "file", **nowhere)["made"] is True


def test_a_running_service_rotates_without_a_restart(own_service: Service) -> None:
    """SQLite is the service's: the command asks it. What was signed before stays valid."""
    data_dir = own_service.data_dir
    where = {"PRINTSVC_URL": own_service.url, "PRINTSVC_KEY_PASSPHRASE": ""}
    _, first = own_service.call("POST", "/v1/doses", recent("K"), by="platform")
    before = told(data_dir, "list", **where)
    [signing] = [s for s in before["signers"] if s["state"] == "signing" and s["role"] == "dsc"]
    assert signing["certificates"] == 1
    planned = told(data_dir, "plan", **where)["signer"]
    assert planned["signing_from"] == signing["signing_until"]
    assert told(data_dir, "rotate", "--to", planned["thumbprint"], **where)["before"] == signing["thumbprint"][:16]
    status, second = own_service.call("POST", "/v1/doses", recent("K"), by="platform")
    assert (status, first["uvci"] != second["uvci"]) == (201, True)
    after = {s["thumbprint"]: s for s in told(data_dir, "list", **where)["signers"]}
    assert (after[signing["thumbprint"]]["state"], after[signing["thumbprint"]]["certificates"]) == ("verifying", 1)
    assert (after[planned["thumbprint"]]["state"], after[planned["thumbprint"]]["certificates"]) == ("signing", 1)
    stale = told(data_dir, "stale", signing["thumbprint"][:16], **where)
    assert stale["sites"] == [{"site_id": "HN-1", "certificates": 1}]


def test_without_an_address_a_locked_database_means_the_service_on_this_machine(own_service: Service) -> None:
    code, _, err = keys(own_service.data_dir, "list", PRINTSVC_KEY_PASSPHRASE="")
    assert code == 1
    assert "127.0.0.1:8080" in err


@pytest.mark.parametrize("command", ["init-csca", "plan", "rotate", "list", "stale", "compromise"])
def test_every_command_explains_itself(command: str) -> None:
    code, out, _ = keys(Path("var"), command, "--help")
    assert (code, "--json" in out) == (0, True)
