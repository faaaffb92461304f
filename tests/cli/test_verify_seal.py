"""`printsvc verify FILE.pdf`: the seal, the code and the printed text of a digital copy, told apart."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from printsvc_service_harness import Service, recent, run, run_here


@dataclass(frozen=True)
class Copies:
    folder: Path
    path: str

    def write(self, name: str, pdf: bytes) -> str:
        (self.folder / name).write_bytes(pdf)
        return str(self.folder / name)


def told(service: Service, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    ended = run_here("verify", "--json", "--url", service.url, *arguments)
    assert b"Traceback" not in ended.stderr
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]


def fetch(service: Service, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    headers = {"Authorization": f"Bearer {service.token('platform')}"} | headers
    try:
        with urllib.request.urlopen(urllib.request.Request(service.url + path, headers=headers)) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@pytest.fixture(scope="module")
def copies(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Copies:
    """Two persons' certificates: `sealed.pdf`, `plain.pdf`, `other.pdf` (sealed, of the other person)."""
    made = Copies(tmp_path_factory.mktemp("copies"), "")
    paths = []
    for person in ({}, {"full_name": "Lê Văn Bình", "id_number": "001090004568"}):
        event = recent("S", **person)
        status, body = service.call("POST", "/v1/doses", event, by="platform")
        assert status == 201, body
        paths.append(f"/v1/certificates/{body['uvci'].replace('#', '%23')}.pdf")
    made.write("sealed.pdf", fetch(service, paths[0])[2])
    made.write("plain.pdf", fetch(service, paths[0] + "?seal=no")[2])
    made.write("other.pdf", fetch(service, paths[1])[2])
    return Copies(made.folder, paths[0])


def test_a_copy_is_sealed_and_its_page_is_that_of_the_paper(service: Service, copies: Copies) -> None:
    sealed, plain = (copies.folder / name for name in ("sealed.pdf", "plain.pdf"))
    assert sealed.read_bytes().startswith(plain.read_bytes())
    code, [verdict] = told(service, str(sealed))
    assert (code, verdict["verdict"]) == (0, "valid")
    assert verdict["seal"]["state"] == "intact"
    assert verdict["seal"]["timestamp"] == "none"
    assert verdict["seal"]["signer"].startswith("CERTIFICATE SEAL")
    assert verdict["text"]["state"] == "agrees"
    assert verdict["file_sound"] is True
    code, [verdict] = told(service, str(plain))
    assert (code, verdict["seal"]["state"], verdict["text"]["state"]) == (0, "absent", "agrees")
    shown = run("verify", "--url", service.url, str(sealed)).stdout.decode()
    assert "seal / dấu số: intact" in shown
    assert "text / chữ in: agrees" in shown
    status, answer = service.call("POST", "/v1/verify", sealed.read_bytes(), by=None, media="application/pdf")
    assert (status, answer["seal"]["state"], answer["text"]["state"]) == (200, "intact", "agrees")


def test_a_copy_is_asked_for_again_by_its_tag(service: Service, copies: Copies) -> None:
    status, headers, body = fetch(service, copies.path)
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "application/pdf", "no-store")
    assert headers["ETag"].startswith('W/"')
    assert 'filename="certificate.pdf"' in headers["Content-Disposition"]
    assert body == (copies.folder / "sealed.pdf").read_bytes(), "sealed once"
    again = fetch(service, copies.path, **{"If-None-Match": f'"x", {headers["ETag"]}'})
    assert (again[0], again[2]) == (304, b"")
    status, plain_headers, _ = fetch(service, copies.path + "?seal=no")
    assert not plain_headers["ETag"].startswith("W/")
    assert "unsealed" in plain_headers["Content-Disposition"]
    assert plain_headers["ETag"] != headers["ETag"]
    assert fetch(service, copies.path + "?seal=perhaps")[0] == 422


def test_another_page_or_another_code_is_seen(service: Service, copies: Copies) -> None:
    sealed = (copies.folder / "sealed.pdf").read_bytes()
    flipped = bytearray(sealed)
    # The year of the signing time: under the seal, and nothing by which a reader finds its way through the file.
    flipped[sealed.rindex(b"/M (D") + len(b"/M (D\\0722026") - 1] ^= 1
    code, [verdict] = told(service, copies.write("flipped.pdf", bytes(flipped)))
    assert (code, verdict["verdict"], verdict["seal"]["state"]) == (1, "valid", "broken")

    with pikepdf.open(io.BytesIO(sealed)) as mine, pikepdf.open(copies.folder / "other.pdf") as other:
        # The other person's code, genuine and valid, under this person's words.
        swap_codes(mine, other)
        written = io.BytesIO()
        mine.save(written)
    code, [verdict] = told(service, copies.write("swapped.pdf", written.getvalue()))
    assert (code, verdict["verdict"]) == (1, "valid")
    assert verdict["seal"]["state"] == "broken"
    assert verdict["text"]["state"] == "differs"
    wrong = {one["field"] for one in verdict["text"]["fields"] if not one["agrees"]}
    assert wrong >= {"full_name", "name_line", "uvci"}


def test_a_damaged_copy_is_told_from_a_forged_one(service: Service, copies: Copies) -> None:
    """Nothing is said of its seal: what a reader cannot open accuses nobody, and the answer says what to do."""
    torn = bytearray((copies.folder / "sealed.pdf").read_bytes())
    for mark in (b"startxref", b"/XRef", b" obj"):
        torn = torn.replace(mark, b"#" * len(mark))
    ended = run_here("verify", "--url", service.url, copies.write("torn.pdf", bytes(torn)))
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert "torn.pdf: The PDF cannot be opened" in ended.stderr.decode()
    assert "Hãy tải lại tệp" in ended.stderr.decode()


def test_a_name_changed_on_a_plain_copy_is_seen(service: Service, copies: Copies) -> None:
    """Where no seal tells, the words and the code still do not go together."""
    with pikepdf.open(copies.folder / "plain.pdf") as mine, pikepdf.open(copies.folder / "other.pdf") as other:
        del other.Root.AcroForm, other.Root.Perms, other.Root.StructTreeRoot, other.pages[0].Annots
        swap_codes(other, mine)
        written = io.BytesIO()
        other.save(written)
    code, [verdict] = told(service, copies.write("renamed.pdf", written.getvalue()))
    assert (code, verdict["verdict"], verdict["seal"]["state"]) == (1, "valid", "absent")
    assert verdict["text"]["state"] == "differs"
    assert "Sai khác: họ và tên" in verdict["text"]["detail_vi"]
    shown = run_here("verify", "--url", service.url, str(copies.folder / "renamed.pdf"))
    assert shown.returncode == 1
    assert "text / chữ in: differs" in shown.stdout.decode()


def test_the_seal_is_judged_by_the_cscas_that_are_at_hand(service: Service, copies: Copies) -> None:
    sealed = str(copies.folder / "sealed.pdf")
    _, listed = service.call("GET", "/v1/trust-list", by=None)
    assert listed["authorities"]
    list_file = copies.write("list.json", json.dumps(listed).encode())
    nobody = copies.write("nobody.json", json.dumps(listed | {"authorities": []}).encode())
    quiet = {"PRINTSVC_URL": "http://127.0.0.1:9"}
    for file, state in ((list_file, "intact"), (nobody, "unknown_signer")):
        ended = run_here("verify", "--json", "--trust", file, sealed, **quiet)
        assert ended.returncode == 0, "a seal that nobody could judge accuses nobody"
        assert json.loads(ended.stdout)["seal"]["state"] == state
    told_keys = service.call("GET", "/v1/signers")[1]
    assert [one["state"] for one in told_keys["seals"]] == ["sealing"]


def swap_codes(into: pikepdf.Pdf, source: pikepdf.Pdf) -> None:
    """Put the codes of one certificate onto the page of another: they are its pictures."""
    pictures = into.pages[0].Resources.XObject
    [drawn] = [one for one in source.pages[0].Resources.XObject.values() if one.Subtype == "/Image"]
    for name in [name for name, one in pictures.items() if one.Subtype == "/Image"]:
        pictures[name] = into.copy_foreign(drawn)
