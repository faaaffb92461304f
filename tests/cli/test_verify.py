"""`printsvc verify` as somebody at a gate runs it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from printsvc_service_harness import ROOT, Service, recent, run, run_here
from vectors.signing import NOT_AFTER, NOT_BEFORE, Holder, make_holder
from vectors.vdsnc import make_vdsnc

from printsvc.cli import main
from printsvc.cli.verify import _print
from printsvc.credential import base45
from printsvc.credential.batch import MAX_LINE

NOBODY = "http://127.0.0.1:9"


def forged(code: str) -> str:
    """Return the code with one bit of its signature turned."""
    raw = bytearray(zlib.decompress(base45.parse_base45(code.removeprefix("HC1:"))))
    raw[-1] ^= 1
    return "HC1:" + base45.encode_base45(zlib.compress(bytes(raw)))


@pytest.fixture(scope="module")
def issued(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One certificate on the real service: its code, and files with it."""
    folder = tmp_path_factory.mktemp("codes")
    status, body = service.call("POST", "/v1/doses", recent("V"), by="platform")
    assert status == 201
    uvci = body["uvci"].replace("#", "%23")
    _, pdf = service.call("GET", f"/v1/certificates/{uvci}.pdf")
    (folder / "paper.pdf").write_bytes(pdf)
    (folder / "code.txt").write_text(body["certificate"]["hcert"] + "\n")
    (folder / "forged.txt").write_text(forged(body["certificate"]["hcert"]))
    (folder / "nonsense.txt").write_text("hello")
    _, trust = service.call("GET", "/v1/trust-list", by=None)
    (folder / "trust.json").write_text(json.dumps(trust))
    ders = [base64.b64decode(entry["rawData"]) for entry in trust["certificates"]]
    pems = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in ders]
    (folder / "trust.pem").write_bytes(b"".join(pems))
    certificates = [entry["rawData"] for entry in trust["certificates"]]
    return {"folder": folder, "code": body["certificate"]["hcert"], "certificates": certificates, "uvci": body["uvci"]}


def test_a_text_is_judged_without_loading_the_service(issued: dict[str, Any]) -> None:
    """Somebody at a gate waits for each code: no database, no web server and nothing that draws is loaded for it."""
    folder: Path = issued["folder"]
    script = (
        "import contextlib, sys\n"
        "from printsvc.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(sys.argv[1:])\n"
        "print(*sys.modules)\n"
    )
    arguments = ["verify", "--trust", str(folder / "trust.json"), str(folder / "code.txt")]
    ended = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, check=True)
    *told, loaded = ended.stdout.decode().splitlines()
    assert told[0].endswith(": valid")
    assert not {"printsvc.app", "sqlalchemy", "aiohttp", "weasyprint", "pypdfium2", "PIL"} & set(loaded.split())


@pytest.mark.parametrize("trust", ["--url", "trust.json", "trust.pem"])
def test_a_paper_and_a_text_are_valid(service: Service, issued: dict[str, Any], trust: str) -> None:
    folder: Path = issued["folder"]
    believed = ["--url", service.url] if trust == "--url" else ["--trust", str(folder / trust), "--url", NOBODY]
    ended = run("verify", *believed, str(folder / "paper.pdf"), str(folder / "code.txt"))
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout.decode()
    assert told.count(": valid\n") == 2
    for word in ("Trần Đức Anh", "1990-11-02", "EU/1/20/1528", issued["uvci"], "Chứng nhận là thật"):
        assert word in told, word
    assert ended.stderr == b""


def test_the_worst_file_decides_the_exit_code(issued: dict[str, Any]) -> None:
    folder: Path = issued["folder"]
    trust = ("verify", "--trust", str(folder / "trust.json"))
    good, bad = str(folder / "code.txt"), str(folder / "forged.txt")
    assert run_here(*trust, good, bad).returncode == 1
    assert run_here(*trust, good, bad, str(folder / "not-there.pdf")).returncode == 2
    assert run_here(*trust).returncode == 2
    ended = run_here(*trust, "--json", good, str(folder / "nonsense.txt"), bad)
    assert (ended.returncode, ended.stderr) == (1, b"")
    verdicts = [json.loads(line)["verdict"] for line in ended.stdout.splitlines()]
    assert verdicts == ["valid", "not_a_certificate", "bad_signature"]
    later = run_here(*trust, "--at", "2031-01-01T00:00:00Z", good)
    assert (later.returncode, b": expired" in later.stdout) == (1, True)
    assert run_here(*trust, "--at", "tomorrow", good).returncode == 2
    assert b"valid" in run_here(*trust, "-", stdin=issued["code"].encode()).stdout


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken", b"%PDF-1.7 broken", b"\xff\xfe\x00"])
def test_files_of_nonsense_are_told_not_thrown(issued: dict[str, Any], tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "nonsense"
    path.write_bytes(content)
    ended = run_here("verify", "--trust", str(issued["folder"] / "trust.json"), str(path))
    assert ended.returncode in (1, 2)
    assert b"Traceback" not in ended.stderr
    assert ended.stdout + ended.stderr


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`alone(*arguments, data_dir=…)` runs `verify` where nobody answers at the default address."""
    monkeypatch.setattr("printsvc.cli.remote.DEFAULT_URL", NOBODY)
    monkeypatch.chdir(tmp_path)

    def verify(*arguments: str, data_dir: Path | None = None, stdin: str = "") -> Result:
        env = {"PRINTSVC_DATA_DIR": str(data_dir) if data_dir else None, "PRINTSVC_URL": None}
        return CliRunner().invoke(main, ["verify", *arguments], env=env, input=stdin)

    return verify


def test_on_the_machine_itself_no_service_is_needed(
    service: Service, issued: dict[str, Any], alone: Callable[..., Result]
) -> None:
    """The keys' certificates in the data folder are believed where nothing else was named and nobody answers."""
    file = str(issued["folder"] / "code.txt")
    ended = alone(file, data_dir=service.data_dir)
    assert (ended.exit_code, ended.stderr) == (0, "")
    asked = alone("--url", NOBODY, file, data_dir=service.data_dir)
    assert asked.exit_code == 1, "a service that was named must answer"
    assert "is the service running?" in asked.stderr
    nothing = alone(file)
    assert nothing.exit_code == 1
    assert "--trust" in nothing.stderr, "it says what to do"


def test_a_batch_believes_the_machines_keys_too(
    service: Service, issued: dict[str, Any], alone: Callable[..., Result]
) -> None:
    line = json.dumps({"id": 1, "code": issued["code"]})
    assert json.loads(alone("--batch", data_dir=service.data_dir, stdin=line).stdout)["verdict"] == "valid"
    assert json.loads(alone("--batch", stdin=line).stdout)["verdict"] == "unknown_signer"


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_trust_list_that_is_none(issued: dict[str, Any], tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trust"
    path.write_bytes(content)
    ended = run_here("verify", "--trust", str(path), str(issued["folder"] / "code.txt"))
    assert ended.returncode == 1
    assert ended.stderr.decode().startswith("printsvc: ")
    assert b"Traceback" not in ended.stderr


def test_a_batch_answers_every_line_in_order_with_no_service_at_all(issued: dict[str, Any], tmp_path: Path) -> None:
    good = {"code": issued["code"], "certificates": issued["certificates"]}
    lines = [
        json.dumps({"id": 1} | good).encode(),
        b"nonsense",
        b"\xff\xfe\x00",
        rb'{"id": "\ud800", "code": "\udfff"}',
        b'{"id": 5, "code": "HC1:' + b"A" * 5_000_000 + b'"}',
        b"[" * 200_000,
        b'{"id": 7, "code": 1e999}',
        b'{"id": ' + b"9" * 5000 + b', "code": ""}',
        b'{"id": 9}',
        json.dumps({"id": 10, "at": "never"} | good).encode(),
        json.dumps({"id": 11, "at": "2031-01-01T00:00:00Z"} | good).encode(),
        json.dumps({"id": 12, "code": issued["code"]}).encode(),
        json.dumps({"id": 13, "certificates": ["AAAA", 5]} | {"code": issued["code"]}).encode(),
        json.dumps({"id": 14} | good).encode() + b"\r",
        b"",
        json.dumps({"id": 15} | good).encode(),
        b"\xef\xbb\xbf" + json.dumps({"id": 16} | good).encode(),
        b'{"id": 17, "code": "' + b"A" * (MAX_LINE + 100) + b'"}',
        json.dumps({"id": 18} | good).encode(),
    ]
    ended = run("verify", "--batch", stdin=b"\n".join(lines), cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, b"")
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(answers) == len(lines) - 1, "an answer for each line that is not empty"
    assert [answer["verdict"] for answer in answers] == [
        "valid",
        *["malformed"] * 2,
        "not_a_certificate",
        "malformed",
        "malformed",
        "not_a_certificate",
        "malformed",
        "malformed",
        "malformed",
        "expired",
        "unknown_signer",
        "unknown_signer",
        "valid",
        "valid",
        "valid",
        "malformed",
        "valid",
    ]
    assert [answer["id"] for answer in answers if isinstance(answer["id"], int)] == [
        *(1, 5, 7, 9, 10, 11, 12, 13, 14, 15, 16, 18),
    ]
    assert answers[0]["claims"]["hcert"]["v"][0]["ci"] == issued["uvci"]
    assert all(answer["detail"] for answer in answers)


def test_a_country_of_three_letters_is_no_warning(alone: Callable[..., Result]) -> None:
    """Read without a warning to the terminal: what the library says of a name is not for the caller."""
    with pytest.warns(UserWarning, match="length must be"):
        name = x509.Name([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "UTO", _validate=False)])
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, NOT_BEFORE, NOT_AFTER)
    odd = Holder(key, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER), name)
    line = {"id": 1, "code": make_vdsnc(odd), "certificates": [base64.b64encode(odd.der).decode()]}
    ended = alone("--batch", stdin=json.dumps(line))
    assert (json.loads(ended.stdout)["verdict"], ended.stderr) == ("valid", "")


def test_words_in_a_file_get_a_verdict(alone: Callable[..., Result], tmp_path: Path) -> None:
    odd = make_holder("signer")
    (tmp_path / "trust.pem").write_bytes(x509.load_der_x509_certificate(odd.der).public_bytes(Encoding.PEM))
    (tmp_path / "words.txt").write_text("hello")
    ended = alone("--json", "--trust", str(tmp_path / "trust.pem"), str(tmp_path / "words.txt"))
    assert (ended.exit_code, json.loads(ended.stdout)["verdict"], ended.stderr) == (1, "not_a_certificate", "")


def test_a_line_without_an_end_is_one_verdict(alone: Callable[..., Result]) -> None:
    long = '{"id": 1, "code": "' + "A" * (2 * MAX_LINE)
    ended = alone("--batch", stdin=f'{long}\n\ufeff{{"id": 2, "code": ""}}\n')
    answers = [(answer["id"], answer["verdict"]) for answer in map(json.loads, ended.stdout.splitlines())]
    assert answers == [(None, "malformed"), (2, "not_a_certificate")]


def test_a_forged_code_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    claims = {
        "issuer": "V\x1b[2J",
        "issued_at": None,
        "expires_at": None,
        "person": {"name": "A\x1b]0;x\x07B\r\n  code.txt: valid", "date_of_birth": "\x9b2J"},
        "doses": [{"product": "\u202eX", "date": "\n\n", "number": "\x1b"}, 5],
        "hcert": {"v": [{"ci": "\u202e"}, 5]},
    }
    _print(Path("code.txt"), {"verdict": "bad_signature", "detail": "No.", "detail_vi": "Sai.", "claims": claims})
    told = capsys.readouterr().out
    assert told.splitlines()[0] == "code.txt: bad_signature"
    assert not [line for line in told.splitlines()[1:] if not line.startswith("  ") or line.startswith("  code.txt")]
    assert all(character.isprintable() for character in told.replace("\n", ""))
    for odd in ([], {"v": {}}, {"nam": []}, "x", None):
        claims = {"hcert": odd, "person": odd, "doses": odd}
        _print(Path("x"), {"verdict": "valid", "detail": "", "detail_vi": "", "claims": claims})
