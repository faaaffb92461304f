"""Trust lists over HTTP: for verifiers open, for importing an admin's."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from printsvc_api_harness import Api

from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat
from printsvc.credential.trustimport import MAX_LIST
from printsvc.credential.trustsigned import make_list_signer, read_signed_list


@pytest.fixture(scope="module")
def authority() -> Any:
    from datetime import datetime

    now = datetime.fromisoformat("2021-10-30T02:12:00+00:00")
    key = make_private_key()
    return key, make_csca(key, country="DE", organisation="RKI", common_name="CSCA DE", serial=1, now=now), now


@pytest.fixture
def list_signer(api: Api, authority: Any) -> LocalSigner:
    key, csca, now = authority
    own = make_private_key()
    signer = LocalSigner(make_list_signer(own.public_key(), csca=csca, csca_key=key, serial=7, now=now), own)
    api.world.services.trust.list_signer = signer
    return signer


def new_dsc(authority: Any, serial: int = 5) -> tuple[bytes, Any]:
    key, csca, now = authority
    own = make_private_key()
    made = make_dsc(
        own.public_key(), csca=csca, csca_key=key, organisation="RKI", common_name="DSC", serial=serial, now=now
    )
    return made, own


def pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def body(raw: bytes, **more: Any) -> dict[str, Any]:
    return {"content": base64.b64encode(raw).decode()} | more


def unsigned(raw: bytes, **more: Any) -> dict[str, Any]:
    return body(raw, unsigned=True, sha256=hashlib.sha256(raw).hexdigest(), **more)


async def get(api: Api, path: str, **more: Any) -> Any:
    return await api.call("GET", path, by=None, **more)


def openssl_verifies(tmp_path: Path, entry: dict[str, str], list_signer: LocalSigner) -> None:
    (tmp_path / "cms").write_bytes(base64.b64decode(entry["signature"]))
    (tmp_path / "content").write_bytes(base64.b64decode(entry["rawData"]))
    (tmp_path / "signer.pem").write_text(pem(list_signer.certificate))
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "cms", "-content", "content"]
    command += ["-certfile", "signer.pem", "-noverify", "-out", "out"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


async def test_our_list_in_every_form(api: Api, authority: Any, list_signer: LocalSigner, tmp_path: Path) -> None:
    now = api.world.clock.now
    plain = await get(api, "/v1/trust-list")
    own = TrustList.from_json(plain.body)
    assert len(own.certificates) == 1
    jws = await get(api, "/v1/trust-list.jws")
    assert jws.headers["Content-Type"] == "application/jose"
    assert plain.body["jws"].encode() == jws.body
    assert read_signed_list(jws.body, pins=[authority[1]], now=now, known_version=own.version).trust == own
    bundle = await get(api, "/v1/trust-list.p7b")
    assert [c.public_bytes(Encoding.DER) for c in pkcs7.load_der_pkcs7_certificates(bundle.body)] == [
        dsc.der for dsc in own.certificates
    ]
    (entry,) = (await get(api, "/v1/trust-list.eu.json")).body
    assert set(entry) == {"kid", "timestamp", "country", "certificateType", "thumbprint", "signature", "rawData"}
    openssl_verifies(tmp_path, entry, list_signer)
    assert (tmp_path / "out").read_bytes() == own.certificates[0].der


async def test_without_a_list_signer_the_list_goes_out_unsigned_and_says_so(api: Api) -> None:
    assert "jws" not in (await get(api, "/v1/trust-list")).body
    for path in ("/v1/trust-list.jws", "/v1/trust-list.eu.json"):
        answer = await get(api, path)
        assert (answer.status, answer.body["code"]) == (503, "signer_unavailable")
        assert answer.body["detail"] != answer.body["detail_vi"]


async def test_what_we_export_for_the_gateway_is_imported_again(api: Api, list_signer: LocalSigner) -> None:
    exported = (await get(api, "/v1/trust-list.eu.json")).body
    given = body(json.dumps(exported).encode(), format="eu", anchors=[pem(list_signer.certificate)])
    answer = await api.call("POST", "/v1/trust-sources/mirror", given, by="admin")
    assert (answer.status, len(answer.body["added"])) == (200, 1)
    signed = (await get(api, "/v1/trust-list.jws")).body
    given = body(signed, format="printsvc", pins=[pem(list_signer.certificate)])
    assert (await api.call("POST", "/v1/trust-sources/self", given, by="admin")).status == 200
    assert len((await get(api, "/v1/trusted-keys")).body["certificates"]) == 1, "one certificate is one signer"


async def test_an_imported_signer_is_believed_until_its_list_goes(api: Api, authority: Any) -> None:
    from printsvc.credential.hcert import encode_hcert

    issued = await api.issue()
    payload = (await api.call("POST", "/v1/verify", {"code": issued["certificate"]["hcert"]}, by=None)).body
    der, key = new_dsc(authority)
    now = api.world.clock.now
    code = encode_hcert(
        payload["claims"]["hcert"],
        issuer="DE",
        issued_at=now,
        expires_at=now + timedelta(days=30),
        signer=LocalSigner(der, key),
    )

    async def verdict() -> str:
        return str((await api.call("POST", "/v1/verify", {"code": code}, by=None)).body["verdict"])

    assert await verdict() == "unknown_signer"
    given = unsigned(pem(der).encode(), format="certificates")
    dry = await api.call("POST", "/v1/trust-sources/de", given | {"dry_run": True}, by="admin")
    assert (dry.status, len(dry.body["added"]), dry.body["dry_run"]) == (200, 1, True)
    assert await verdict() == "unknown_signer"
    assert (await api.call("POST", "/v1/trust-sources/de", given, by="admin")).body["keys"] == 1
    assert await verdict() == "valid"
    trusted = TrustList.from_json((await get(api, "/v1/trusted-keys")).body)
    assert der in {dsc.der for dsc in trusted.certificates}
    assert der not in {dsc.der for dsc in TrustList.from_json((await get(api, "/v1/trust-list")).body).certificates}
    (source,) = (await api.call("GET", "/v1/trust-sources", by="admin")).body["sources"]
    assert (source["source"], source["keys"], source["imported_by"]) == ("de", 1, "admin")
    told = (await api.call("GET", "/v1/trust-sources/de", by="admin")).body
    assert [event["event"] for event in told["events"]] == ["import"]
    gone = await api.call("DELETE", "/v1/trust-sources/de", by="admin")
    assert (gone.status, gone.body["removed"]) == (200, 1)
    assert await verdict() == "unknown_signer"
    assert (await api.call("GET", "/v1/trust-sources/de", by="admin")).status == 404
    assert (await api.call("DELETE", "/v1/trust-sources/de", by="admin")).status == 404


async def test_verifiers_fetch_signers_one_by_one(api: Api, authority: Any) -> None:
    ders = [new_dsc(authority, serial)[0] for serial in (5, 6)]
    given = unsigned("".join(map(pem, ders)).encode(), format="certificates")
    await api.call("POST", "/v1/trust-sources/de", given, by="admin")
    found, headers = {}, {}
    while True:
        answer = await get(api, "/signercertificateUpdate", headers=headers)
        if answer.status == 204:
            break
        assert answer.headers["Content-Type"].startswith("text/plain")
        der = base64.b64decode(answer.body, validate=True)
        assert base64.b64decode(answer.headers["X-KID"]) == hashlib.sha256(der).digest()[:8]
        found[answer.headers["X-KID"]] = der
        headers = {"X-RESUME-TOKEN": answer.headers["X-RESUME-TOKEN"]}
    assert set(ders) < set(found.values())
    assert answer.headers["X-RESUME-TOKEN"] == headers["X-RESUME-TOKEN"]
    assert (await get(api, "/signercertificateStatus")).body == list(found)
    await api.call("DELETE", "/v1/trust-sources/de", by="admin")
    assert len((await get(api, "/signercertificateStatus")).body) == 1
    assert (await get(api, "/signercertificateUpdate", headers=headers)).status == 204
    for token in ("x", "-1", "1e3", "9" * 30, "１"):
        wrong = await get(api, "/signercertificateUpdate", headers={"X-RESUME-TOKEN": token})
        assert wrong.status == 422


async def test_keys_of_other_formats_go_over_the_wire(api: Api, authority: Any) -> None:
    given = unsigned(pem(authority[1]).encode(), format="certificates", key_format="vds-nc")
    assert (await api.call("POST", "/v1/trust-sources/icao", given, by="admin")).status == 200
    trusted = TrustList.from_json((await get(api, "/v1/trusted-keys")).body)
    (anchor,) = trusted.keys.anchors(CredentialFormat.VDS_NC)
    assert (anchor.certificate, anchor.country) == (authority[1], "DE")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "format": (unsigned(b"x", format="other"), "/format"),
    "content": ({"format": "eu", "content": "?"}, "/content"),
    "pin": (body(b"[]", format="eu", pins=["nonsense"]), "/pins/0"),
    "key": (body(b"", format="de", public_key="nonsense"), "/public_key"),
    "digest": (body(b"", format="vci", sha256="abc"), "/sha256"),
    "member": (body(b"", format="vci", sha265="abc"), "/sha265"),
    "unsigned": (body(b"{}", format="vci"), ""),
    "size": (unsigned(b" " * (MAX_LIST + 1), format="vci"), ""),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_named_in_both_languages(api: Api, name: str) -> None:
    given, pointer = WRONG[name]
    raw = json.dumps(given).encode()
    headers = {"Content-Type": "application/json"}
    answer = await api.call("POST", "/v1/trust-sources/x", data=raw, headers=headers, by="admin")
    assert answer.status == 422
    (problem,) = answer.body["errors"]
    assert problem["pointer"] == pointer
    assert problem["vi"] != problem["en"]


async def test_importing_is_an_admins(api: Api) -> None:
    for by, status in ((None, 401), ("platform", 403), ("site", 403)):
        for method, path in (("GET", ""), ("GET", "/x"), ("POST", "/x"), ("DELETE", "/x")):
            given = {} if method == "POST" else None
            assert (await api.call(method, f"/v1/trust-sources{path}", given, by=by)).status == status


async def test_a_weak_digest_under_an_entry_is_no_signature(api: Api, authority: Any) -> None:
    key, csca, _ = authority
    der, _ = new_dsc(authority)
    certificate = x509.load_der_x509_certificate(csca)
    options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.DetachedSignature]
    builder = pkcs7.PKCS7SignatureBuilder().set_data(der)
    entry = {
        "kid": base64.b64encode(hashlib.sha256(der).digest()[:8]).decode(),
        "country": "DE",
        "certificateType": "DSC",
        "rawData": base64.b64encode(der).decode(),
    }
    for digest, status in ((hashes.SHA224(), 422), (hashes.SHA256(), 200), (hashes.SHA512(), 200)):
        signature = builder.add_signer(certificate, key, digest).sign(Encoding.DER, options)
        listed = [entry | {"signature": base64.b64encode(signature).decode()}]
        given = body(json.dumps(listed).encode(), format="eu", pins=[pem(csca)], dry_run=True)
        assert (await api.call("POST", "/v1/trust-sources/x", given, by="admin")).status == status
