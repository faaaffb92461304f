"""printsvc trust: what an admin types, and a verifier who has no line tomorrow."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from printsvc_service_harness import Service, recent

from printsvc.cli import main
from printsvc.credential.keys import LocalSigner, make_csca, make_private_key, open_private_key
from printsvc.credential.trust import TrustList
from printsvc.credential.trustsigned import read_signed_list, sign_trust_list


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process: what is tested is what it says, not how it starts."""
    ended = CliRunner().invoke(main, arguments)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.stdout, ended.stderr


def admin(service: Service, *arguments: str) -> tuple[int, str, str]:
    token = service.data_dir / "dev" / "admin.token"
    return run("trust", *arguments, "--url", service.url, "--token-file", str(token))


def pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


@pytest.fixture
def pin(service: Service, tmp_path: Path) -> Path:
    """The CSCA's certificate in PEM."""
    (csca,) = (service.data_dir / "keys").glob("csca*.der")
    path = tmp_path / "csca.pem"
    path.write_bytes(pem(csca.read_bytes()))
    return path


def list_signer(service: Service) -> LocalSigner:
    (path,) = (service.data_dir / "keys").glob("list-*.der")
    passphrase = (service.data_dir / "keys" / "development.passphrase").read_bytes().strip()
    return LocalSigner(path.read_bytes(), open_private_key(path.with_suffix(".key.pem").read_bytes(), passphrase))


def test_a_fetched_list_verifies_offline_and_never_goes_back(service: Service, pin: Path, tmp_path: Path) -> None:
    event = recent("T")
    _, issued = service.call("POST", "/v1/doses", event, by="platform")
    code = tmp_path / "code.txt"
    code.write_text(issued["certificate"]["hcert"])
    file = tmp_path / "list.jws"

    def fetch(pinned: Path = pin) -> tuple[int, str]:
        code_, _, err = run("trust", "fetch", str(file), "--url", service.url, "--pin", str(pinned))
        return code_, err

    def verify(pinned: Path = pin) -> tuple[int, str]:
        code_, out, err = run("verify", "--trust", str(file), "--pin", str(pinned), str(code))
        return code_, out + err

    assert fetch()[0] == 0
    assert verify()[0] == 0
    stranger = tmp_path / "stranger.pem"
    made = make_csca(
        make_private_key(), country="VN", organisation="x", common_name="x", serial=1, now=datetime.now(UTC)
    )
    stranger.write_bytes(pem(made))
    kept = file.read_bytes()
    assert (fetch(stranger)[0], verify(stranger)[0]) == (1, 1)
    assert file.read_bytes() == kept
    # A list that is newer and out of date by now, as after months in a drawer: the service's own is older.
    pinned, now = [x509.load_pem_x509_certificate(pin.read_bytes()).public_bytes(Encoding.DER)], datetime.now(UTC)
    trust = read_signed_list(kept, pins=pinned, now=now).trust
    newer = sign_trust_list(replace(trust, version=99), list_signer(service), now=now - timedelta(hours=12))
    file.write_text(newer)
    returncode, told = fetch()
    assert (returncode, "older than the one that is here" in told) == (1, True)
    assert file.read_text() == newer
    stale = sign_trust_list(trust, list_signer(service), now=now - timedelta(hours=12), fresh_for=timedelta(hours=1))
    file.write_text(stale)
    returncode, told_too = verify()
    assert (returncode, "out of date" in told_too) == (1, True)
    assert fetch()[0] == 0


def test_our_list_is_exported_in_every_form(service: Service, pin: Path, tmp_path: Path) -> None:
    out = {name: tmp_path / name for name in ("json", "jws", "eu", "der")}
    for name, path in out.items():
        assert admin(service, "export", "--format", name, "--out", str(path))[0] == 0
    own = TrustList.from_json(json.loads(out["json"].read_bytes()))
    ders = {dsc.der for dsc in own.certificates}
    assert {base64.b64decode(entry["rawData"]) for entry in json.loads(out["eu"].read_bytes())} == ders
    bundled = pkcs7.load_der_pkcs7_certificates(out["der"].read_bytes())
    assert {one.public_bytes(Encoding.DER) for one in bundled} == ders
    upload = tmp_path / "list-signer.pem"
    upload.write_bytes(pem(list_signer(service).certificate))
    for source, name, more in (("mirror-eu", "eu", upload), ("mirror", "printsvc", pin)):
        given = str(out["eu" if name == "eu" else "jws"])
        code, told, err = admin(service, "import", source, given, "--format", name, "--pin", str(more), "--dry-run")
        assert (code, err) == (0, "")
        assert told.endswith(f"{source}: {len(ders)} added, 0 removed, 0 unchanged, 0 left out (dry run)\n")
    assert "mirror" not in admin(service, "list")[1]


def test_a_list_is_imported_shown_and_removed(service: Service, pin: Path, tmp_path: Path) -> None:
    file = tmp_path / "cscas.pem"
    file.write_bytes(pin.read_bytes())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    command = ["import", "icao", str(file), "--format", "certificates", "--for", "vds-nc"]
    code, out, err = admin(service, *command)
    assert (code, out) == (1, "")
    assert "carries no signature" in err
    assert "SHA-256" in err
    wrong = admin(service, *command, "--unsigned", "--sha256", "0" * 64)
    assert (wrong[0], "is not the one that was pinned" in wrong[2]) == (1, True)
    code, out, err = admin(service, *command, "--unsigned", "--sha256", digest)
    assert (code, err) == (0, "")
    assert out.startswith("+ vds-nc  ")
    assert out.endswith("icao: 1 added, 0 removed, 0 unchanged, 0 left out\n")
    assert "icao" in admin(service, "list")[1]
    shown = admin(service, "list", "icao")[1]
    assert "import" in shown
    assert "admin" in shown
    file.write_bytes(file.read_bytes() + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    code, _, err = admin(service, *command, "--unsigned", "--sha256", digest)
    assert (code, "/1: The certificate cannot be read." in err) == (1, True)
    assert "/1: Không đọc được chứng thư." in err
    out = admin(service, *command, "--unsigned", "--sha256", digest, "--skip-unusable")[1]
    assert "! /1: The certificate cannot be read." in out
    assert admin(service, "remove", "icao")[:2] == (0, "icao: 1 keys removed\n")
    assert admin(service, "remove", "icao")[0] == 1
