"""Signers over HTTP: states, alarms, compromise; and that nothing signs what a caller sends."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from cbor2 import loads as decode_cbor
from cryptography import x509
from printsvc_api_harness import Api, event

from printsvc.app import assemble
from printsvc.credential.dsc import read_dsc
from printsvc.credential.keys import LocalSigner
from printsvc.flows.keymaking import Wanted, find_authority, make_authority, make_signer
from printsvc.flows.keystores import FileKeys
from printsvc.flows.seal import SealBook, open_seal_key
from printsvc.flows.signers import FollowedSigners
from printsvc.flows.trust import TrustBook, open_list_signer
from printsvc.store import doses as dose_store
from printsvc.store import signers as signer_store
from printsvc.store.keyfile import KeyFolder
from printsvc.web.routes import ROUTES

DAY = timedelta(days=1)


@pytest.fixture
async def keys(tmp_path: Path) -> FileKeys:
    return FileKeys(KeyFolder(tmp_path / "keys"), b"open sesame")


@pytest.fixture
async def followed(api: Api, keys: FileKeys) -> Any:
    """The same world behind another application, whose signers follow the database; a CSCA is registered."""
    services = replace(api.world.services, signers=FollowedSigners(api.world.store, {"file": keys}))
    names = {"country": "VN", "organisation": "MOH", "common_name": "CSCA VN", "random_bytes": os.urandom}
    authority, _ = make_authority(keys.folder, b"open sesame", now=api.world.clock.now, **names)
    async with TestClient(TestServer(assemble(services))) as client:
        other = Api(client, replace(api.world, services=services), api.tokens)
        answer = await publish(other, authority.certificate)
        assert (answer.status, answer.body["role"], answer.body["state"]) == (201, "csca", "signing")
        yield other


def plan(api: Api, keys: FileKeys, **times: Any) -> tuple[bytes, dict[str, str]]:
    """Make a key and its certificate as the command does; return it with the times to be sent."""
    now = api.world.clock.now
    authority = find_authority(keys.folder, b"open sesame", now)
    assert authority is not None
    begins = times.get("begins", now)
    wanted = Wanted(begins, times.get("ends", begins + 180 * DAY))
    known = api.world.store.read_now(signer_store.list_records)
    certificate = make_signer(keys, lambda: authority, wanted, known=known, now=now, random_bytes=os.urandom)
    return certificate, {
        "signing_from": wanted.signing_from.isoformat(),
        "signing_until": wanted.signing_until.isoformat(),
    }


async def publish(api: Api, certificate: bytes, **times: Any) -> Any:
    body = {"certificate": base64.b64encode(certificate).decode()} | times
    return await api.call("POST", "/v1/signers", body, by="admin")


async def states(api: Api) -> dict[str, str]:
    listed = (await api.call("GET", "/v1/signers", by="admin")).body
    return {one["thumbprint"]: one["state"] for one in listed["signers"] if one["role"] == "dsc"}


async def warned(api: Api) -> list[dict[str, str]]:
    answer = await api.call("GET", "/readyz", by=None)
    return list(answer.body["warnings"])


async def gauge(api: Api, line: str) -> float:
    """Return the value of the metric that begins so."""
    text = (await api.call("GET", "/metrics", by=None)).body.decode()
    [found] = [one for one in text.splitlines() if one.startswith(line)]
    return float(found.rsplit(" ", 1)[1])


async def test_a_signer_is_published_started_and_compromised_without_a_restart(followed: Api, keys: FileKeys) -> None:
    certificate, times = plan(followed, keys)
    first = (await publish(followed, certificate, **times)).body["thumbprint"]
    assert (await publish(followed, certificate, **times)).status == 200, "again changes nothing"
    started = await followed.call("POST", f"/v1/signers/{first}/start", by="admin")
    assert (started.status, started.body["state"]) == (200, "signing")
    issued = await followed.issue("D-1")
    at_site = await followed.call("GET", f"/v1/signers/{first}/certificates", by="admin")
    assert (at_site.body["certificates"], at_site.body["sites"]) == (1, [{"site_id": "HN-1", "certificates": 1}])
    stored = followed.world.store.read_now(lambda c: dose_store.get_dose_of(c, issued["uvci"]))
    code = stored.certificate.hcert
    assert (await followed.call("POST", "/v1/verify", {"code": code}, by=None)).body["verdict"] == "valid"

    before = (await followed.call("GET", "/v1/trust-list", by=None)).body
    lost = await followed.call("POST", f"/v1/signers/{first}/compromise", {"reason": "stolen"}, by="admin")
    assert (lost.body["certificates"], lost.body["signing"]) == (1, None)
    assert (await followed.call("POST", "/v1/verify", {"code": code}, by=None)).body["verdict"] == "unknown_signer"
    after = (await followed.call("GET", "/v1/trust-list", by=None)).body
    assert first in {one["thumbprint"] for one in before["certificates"]}
    assert first not in {one["thumbprint"] for one in after["certificates"]}
    assert after["version"] > before["version"]
    refused = await followed.call("POST", "/v1/doses", event("D-2"))
    assert (refused.status, "Retry-After" in refused.headers) == (503, True)
    assert (await followed.call("GET", "/readyz", by=None)).status == 503
    again = await followed.call("POST", f"/v1/signers/{first}/start", by="admin")
    assert again.status == 409

    certificate, times = plan(followed, keys)
    second = (await publish(followed, certificate, **times)).body["thumbprint"]
    await followed.call("POST", f"/v1/signers/{second}/start", by="admin")
    assert (await followed.call("POST", "/v1/doses", event("D-2"))).status == 201
    told = await states(followed)
    assert (told[first], told[second]) == ("compromised", "signing")


async def test_what_ends_soon_is_warned_of_and_a_plan_silences_it(followed: Api, keys: FileKeys) -> None:
    certificate, times = plan(followed, keys)
    first = (await publish(followed, certificate, **times)).body
    kid = first["thumbprint"][:16]
    await followed.call("POST", f"/v1/signers/{first['thumbprint']}/start", by="admin")
    assert await warned(followed) == []
    assert await gauge(followed, f'printsvc_signer_signing_days{{kid="{kid}"}}') == 180
    assert await gauge(followed, f'printsvc_signer_key_open{{kid="{kid}"}}') == 1
    followed.world.clock.now += 151 * DAY
    [warning] = await warned(followed)
    assert warning["code"] == "signing_ends_30"
    assert "29 days" in warning["detail"]
    assert "29 ngày" in warning["detail_vi"]
    assert await gauge(followed, f'printsvc_signer_alarm{{ending="signing",kid="{kid}"}}') == 30
    assert await gauge(followed, "printsvc_signing_covered_days") == 29
    certificate, times = plan(followed, keys, begins=followed.world.clock.now + 29 * DAY)
    second = (await publish(followed, certificate, **times)).body
    assert await warned(followed) == []
    assert await gauge(followed, "printsvc_signing_covered_days") == 209
    # The day comes: the next dose is under the second signer, and nobody was refused.
    followed.world.clock.now += 30 * DAY
    at = followed.world.clock.now - timedelta(minutes=10)
    assert (await followed.call("POST", "/v1/doses", event("D-9", injected_at=at.isoformat()))).status == 201
    assert (await states(followed))[second["thumbprint"]] == "signing"


async def test_who_signs_lists_and_who_seals_are_warned_of_too(api: Api, tmp_path: Path) -> None:
    folder, clock = KeyFolder(tmp_path / "keys"), api.world.clock
    now = clock.now
    trust = TrustBook(lambda at: open_list_signer(folder, b"x", now=at, random_bytes=os.urandom))
    seal = SealBook(lambda at: open_seal_key(folder, b"x", now=at, random_bytes=os.urandom), lambda form: None, b"")
    services = replace(api.world.services, trust=trust, seal=seal)
    async with TestClient(TestServer(assemble(services))) as client:
        other = Api(client, replace(api.world, services=services), api.tokens)
        assert [one["code"] for one in await warned(other)] == ["list_signer_missing", "seal_missing"]
        assert "printsvc keys list-signer" in (await warned(other))[0]["detail_vi"]
        names = {"country": "VN", "organisation": "MOH", "common_name": "CSCA VN", "random_bytes": os.urandom}
        make_authority(folder, b"x", now=now, **names)
        clock.now = now + timedelta(seconds=16)
        assert await warned(other) == []
        for file in folder.folder.glob("csca-*"):
            file.unlink()
        lists = x509.load_der_x509_certificate(trust.list_signer.certificate).not_valid_after_utc
        clock.now = lists - timedelta(days=29)
        assert [one["code"] for one in await warned(other)] == ["list_signer_ends_30"]
        kid = read_dsc(trust.list_signer.certificate).kid.hex()
        assert await gauge(other, f'printsvc_signer_validity_days{{kid="{kid}",role="list"}}') == pytest.approx(29)
        assert await gauge(other, f'printsvc_signer_alarm{{ending="validity",kid="{kid}"}}') == 30
        clock.now = lists + timedelta(days=1)
        assert "list_signer_missing" in [one["code"] for one in await warned(other)]
        listed = await other.call("GET", "/v1/signers", by="admin")
        assert listed.body["list_signer"] is None


async def test_a_token_alone_brings_in_no_authority(followed: Api, keys: FileKeys, tmp_path: Path) -> None:
    """The CSCA's key is locked away so that nobody who has only a token makes signers."""
    folder, now = KeyFolder(tmp_path / "theirs"), followed.world.clock.now
    names: dict[str, Any] = {"country": "VN", "organisation": "MOH", "common_name": "CSCA VN"}
    names["random_bytes"] = os.urandom
    theirs, _ = make_authority(folder, b"open sesame", now=now, **names)
    ours = find_authority(keys.folder, b"open sesame", now)
    assert ours is not None
    thumbprint = hashlib.sha256(ours.certificate).hexdigest()
    for _ in range(2):
        refused = await publish(followed, theirs.certificate)
        assert (refused.status, refused.body["code"]) == (409, "authority_registered")
        await followed.call("POST", f"/v1/signers/{thumbprint}/compromise", {"reason": "no way in"}, by="admin")
    assert (await publish(followed, ours.certificate)).status == 200, "again changes nothing"


async def test_a_key_that_this_process_lacks_is_a_warning_and_does_not_take_over(followed: Api, keys: FileKeys) -> None:
    certificate, times = plan(followed, keys)
    first = (await publish(followed, certificate, **times)).body
    await followed.call("POST", f"/v1/signers/{first['thumbprint']}/start", by="admin")
    certificate, times = plan(followed, keys, begins=followed.world.clock.now + DAY)
    next(keys.folder.folder.glob(f"dsc-{hashlib.sha256(certificate).hexdigest()[:16]}.key.pem")).unlink()
    second = (await publish(followed, certificate, **times)).body
    [warning] = await warned(followed)
    assert (warning["code"], second["thumbprint"][:16] in warning["detail"]) == ("key_closed", True)
    assert (await followed.call("GET", "/readyz", by=None)).status == 200
    refused = await followed.call("POST", f"/v1/signers/{second['thumbprint']}/start", by="admin")
    assert (refused.status, refused.body["code"]) == (503, "signer_unavailable")
    assert (await states(followed))[first["thumbprint"]] == "signing"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"certificate": "no base64!"}, "/certificate"),
        ({"certificate": base64.b64encode(b"no certificate").decode()}, "/certificate"),
        ({"certificate": "AAAA", "signing_from": "yesterday"}, "/signing_from"),
        ({"certificate": "AAAA", "key_store": "paper"}, "/key_store"),
        ({"certificate": "AAAA", "private_key": "x"}, "/private_key"),
    ],
)
async def test_a_bad_certificate_is_refused_with_the_place(api: Api, body: dict[str, str], pointer: str) -> None:
    answer = await api.call("POST", "/v1/signers", body, by="admin")
    assert answer.status == 422
    assert [error["pointer"] for error in answer.body["errors"]] == [pointer]
    assert all(error["vi"] != error["en"] for error in answer.body["errors"])


async def test_an_unknown_signer_is_not_found(api: Api) -> None:
    for method, action in (("GET", "certificates"), ("POST", "start"), ("POST", "compromise")):
        body = {"reason": "x"} if action == "compromise" else None
        answer = await api.call(method, f"/v1/signers/{'0' * 64}/{action}", body, by="admin")
        assert answer.status == 404, action


# --- what is signed


async def test_no_route_signs_bytes_of_a_caller(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest, a payload and a to-be-signed structure go to every route, in every form: none comes near the key."""
    signed: list[bytes] = []
    plain = LocalSigner.sign

    def watched(self: LocalSigner, data: bytes) -> bytes:
        signed.append(data)
        return plain(self, data)

    monkeypatch.setattr(LocalSigner, "sign", watched)
    mark = hashlib.sha256(b"sign this").digest()
    structure = b"\x84\x6aSignature1\x43\xa1\x01\x26\x40\x58\x20" + mark
    texts = [mark.hex(), base64.b64encode(mark).decode(), base64.b64encode(structure).decode()]
    places = {"hash": 0, "digest": 1, "data": 2, "payload": 2, "certificate": 1, "code": 2, "reason": 0, "dose_id": 1}
    documents: list[Any] = [{name: texts[number] for name, number in places.items()}, texts, texts[0]]
    for route in ROUTES:
        path = route.path
        for name in ("{dose_id}", "{uvci}", "{job_id}", "{site_id}", "{agent_id}", "{thumbprint}"):
            path = path.replace(name, texts[0])
        for by in (*route.roles, None):
            for body in documents:
                await api.call(route.method, path, body, by=by)
            for media in ("application/octet-stream", "text/plain", "application/cose", "application/x-ndjson"):
                await api.call(route.method, path, data=structure, headers={"Content-Type": media}, by=by)
    for data in signed:
        assert mark not in data
        assert not any(text.encode() in data for text in texts)


async def test_what_is_signed_of_a_dose_is_built_here(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a dose in which a caller sets all that it can: algorithm, key, issuer, UVCI and times are the service's."""
    signed: list[bytes] = []
    plain = LocalSigner.sign
    monkeypatch.setattr(LocalSigner, "sign", lambda self, data: (signed.append(data), plain(self, data))[1])
    forged = event("D-1") | {"uvci": "URN:UVCI:01:VN:MINE#X", "iss": "XX", "exp": 4_000_000_000, "hcert": "HC1:MINE"}
    answer = await api.call("POST", "/v1/doses", forged)
    assert answer.status in (201, 422)
    issued = answer.body if answer.status == 201 else await api.issue("D-2")
    [data] = signed
    context, protected, external, payload = decode_cbor(data)
    claims = decode_cbor(payload)
    assert (context, external) == ("Signature1", b"")
    assert decode_cbor(protected)[1] == -7
    assert (claims[1], claims[4] < 4_000_000_000) == ("VN", True)
    assert claims[-260][1]["v"][0]["ci"] == issued["uvci"] != "URN:UVCI:01:VN:MINE#X"


def test_certificates_made_here_read_as_others_read_them(tmp_path: Path) -> None:
    """The extensions as the standard has them, seen by the library's own eyes."""
    folder = KeyFolder(tmp_path / "keys")
    keys = FileKeys(folder, b"x")
    now = datetime(2026, 3, 1, tzinfo=UTC)
    names = {"country": "VN", "organisation": "MOH", "common_name": "CSCA VN", "random_bytes": os.urandom}
    authority, _ = make_authority(folder, b"x", now=now, **names)
    wanted = Wanted(now, now + 180 * DAY)
    der = make_signer(keys, lambda: authority, wanted, known=(), now=now, random_bytes=os.urandom)
    dsc, csca = x509.load_der_x509_certificate(der), x509.load_der_x509_certificate(authority.certificate)
    dsc.verify_directly_issued_by(csca)
    usage = dsc.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in usage] == ["1.3.6.1.4.1.1847.2021.1.2"]
    assert csca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert dsc.not_valid_after_utc <= csca.not_valid_after_utc
    assert dsc.not_valid_after_utc - dsc.not_valid_before_utc <= timedelta(days=730)
