"""Foreign trust lists, made by independent code: cryptography's PKCS#7 and the openssl command."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from printsvc.credential.dsc import Usage
from printsvc.credential.trustedkey import CredentialFormat
from printsvc.credential.trustentry import MAX_ENTRIES, MAX_LIST, MAX_PROBLEMS
from printsvc.credential.trustimport import (
    SIGNED,
    ListFile,
    ListFormat,
    Pins,
    compare,
    read_list,
    read_pins,
    read_public_key,
)
from printsvc.errors import InputError

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
DER = serialization.Encoding.DER


@dataclass(frozen=True)
class Party:
    """A key and its certificate, made here and not by the code under test."""

    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(DER)

    def cms(self, content: bytes, *, detached: bool = True, digest: Any = None) -> bytes:
        options = [pkcs7.PKCS7Options.Binary]
        if detached:
            options.append(pkcs7.PKCS7Options.DetachedSignature)
        builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
        return builder.add_signer(self.certificate, self.key, digest or hashes.SHA256()).sign(DER, options)


def party(
    name: str,
    country: str = "DE",
    *,
    issuer: Party | None = None,
    key: Any = None,
    authority: bool = False,
    usages: tuple[str, ...] = (),
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=700),
) -> Party:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, country), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(map(x509.ObjectIdentifier, usages))), critical=False)
    return Party(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def entry(listed: Party, signed_by: Party, *, kind: str = "DSC", country: str = "DE", **changes: Any) -> dict[str, Any]:
    return {
        "kid": b64(hashlib.sha256(listed.der).digest()[:8]),
        "timestamp": "2021-10-30T00:00:00Z",
        "country": country,
        "certificateType": kind,
        "thumbprint": hashlib.sha256(listed.der).hexdigest(),
        "signature": b64(signed_by.cms(listed.der)),
        "rawData": b64(listed.der),
    } | changes


@dataclass(frozen=True)
class World:
    anchor: Party
    upload: Party
    csca: Party
    dsc: Party
    french_upload: Party
    stranger: Party


@pytest.fixture(scope="module")
def world() -> World:
    csca = party("CSCA DE", authority=True)
    return World(
        anchor=party("TRUST ANCHOR", "EU"),
        upload=party("UPLOAD DE"),
        csca=csca,
        dsc=party("DSC DE", issuer=csca, usages=("1.3.6.1.4.1.1847.2021.1.2",)),
        french_upload=party("UPLOAD FR", "FR"),
        stranger=party("STRANGER"),
    )


def eu(entries: Any, **pins: Any) -> ListFile:
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return ListFile(ListFormat.EU, raw, Pins(**pins))


def unsigned(list_format: ListFormat, raw: bytes, **more: Any) -> ListFile:
    return ListFile(list_format, raw, unsigned=True, sha256=hashlib.sha256(raw).hexdigest(), **more)


def refused(file: ListFile, now: datetime = NOW) -> list[tuple[str, str]]:
    """Return (pointer, code) of what is wrong; every problem speaks both languages."""
    with pytest.raises(InputError) as caught:
        read_list(file, now=now)
    assert all(p.vi and p.en and p.vi != p.en for p in caught.value.problems)
    return [(p.pointer, p.code) for p in caught.value.problems]


# --- EU gateway


def test_an_entry_is_believed_that_the_pinned_upload_certificate_signed(world: World) -> None:
    read = read_list(eu([entry(world.dsc, world.upload)], signers=(world.upload.der,)), now=NOW)
    (key,) = read.keys
    assert (key.format, key.country, key.usages) == (CredentialFormat.HCERT, "DE", {Usage.VACCINATION})
    assert key.certificate == world.dsc.der
    assert base64.b64decode(key.kid) == hashlib.sha256(world.dsc.der).digest()[:8]
    assert (key.not_before, key.not_after) == (NOW - timedelta(days=1), NOW + timedelta(days=700))
    assert read.signed_by == f"certificate sha256:{hashlib.sha256(world.upload.der).hexdigest()}"


def test_the_trust_anchor_vouches_for_upload_certificates_and_authorities_of_the_list(world: World) -> None:
    listed = [
        entry(world.dsc, world.upload),
        entry(world.upload, world.anchor, kind="UPLOAD"),
        entry(world.csca, world.anchor, kind="CSCA"),
        entry(world.stranger, world.anchor, kind="AUTHENTICATION"),
    ]
    assert len(read_list(eu(listed, anchors=(world.anchor.der,)), now=NOW).keys) == 1
    orphan = party("DSC DE 2")
    assert refused(eu([*listed, entry(orphan, world.upload)], anchors=(world.anchor.der,))) == [
        ("/4/rawData", "not_issued_by_authority")
    ]


def test_content_inside_the_cms_counts_only_where_it_is_the_certificate(world: World) -> None:
    inside = entry(world.dsc, world.upload, signature=b64(world.upload.cms(world.dsc.der, detached=False)))
    assert len(read_list(eu([inside], signers=(world.upload.der,)), now=NOW).keys) == 1
    other = entry(world.dsc, world.upload, signature=b64(world.upload.cms(world.stranger.der, detached=False)))
    assert refused(eu([other], signers=(world.upload.der,))) == [("/0/signature", "signature_invalid")]


WRONG: dict[str, tuple[Callable[[World], dict[str, Any]], str, str]] = {
    "another signer": (lambda w: entry(w.dsc, w.stranger), "/1/signature", "signature_invalid"),
    "its own certificate in the CMS": (lambda w: entry(w.stranger, w.stranger), "/1/signature", "signature_invalid"),
    "another country's upload": (lambda w: entry(w.dsc, w.french_upload), "/1/signature", "signature_invalid"),
    "no signature": (
        lambda w: {k: v for k, v in entry(w.dsc, w.upload).items() if k != "signature"},
        "/1/signature",
        "signature_missing",
    ),
    "no base64": (lambda w: entry(w.dsc, w.upload, signature="?"), "/1/signature", "not_base64"),
    "a number": (lambda w: entry(w.dsc, w.upload, rawData=5), "/1/rawData", "wrong_type"),
    "no certificate": (lambda w: entry(w.dsc, w.upload, rawData="AAAA"), "/1/rawData", "certificate_unreadable"),
    "thumbprint": (lambda w: entry(w.dsc, w.upload, thumbprint="00"), "/1/thumbprint", "thumbprint_mismatch"),
    "country": (lambda w: entry(w.dsc, w.upload, country="FR"), "/1/country", "country_mismatch"),
    "type": (lambda w: entry(w.dsc, w.upload, kind="ROOT"), "/1/certificateType", "wrong_type"),
    "no kid": (lambda w: entry(w.dsc, w.upload, kid=None), "/1/kid", "wrong_type"),
    "long kid": (lambda w: entry(w.dsc, w.upload, kid=b64(bytes(40))), "/1/kid", "wrong_type"),
    "no object": (lambda w: [], "/1", "wrong_type"),  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_entry_refuses_the_list_and_is_named(world: World, name: str) -> None:
    make, pointer, code = WRONG[name]
    listed = [entry(world.dsc, world.upload), make(world)]
    pins = (world.upload.der, world.french_upload.der)
    assert (pointer, code) in refused(eu(listed, signers=pins))
    if code not in ("certificate_unreadable",):
        lenient = replace(eu(listed, signers=pins), skip_unusable=True)
        assert (pointer, code) in refused(lenient), "only what cannot be used may be left out"


def test_what_nobody_pinned_changes_nothing(world: World) -> None:
    listed = [entry(world.dsc, world.upload), entry(world.upload, world.upload, kind="UPLOAD")]
    assert refused(eu(listed)) == [("", "pin_needed")]
    assert refused(eu(listed, anchors=(world.anchor.der,)))[0] == ("/1/signature", "signature_invalid")
    assert refused(replace(eu(listed, signers=(world.upload.der,)), unsigned=True)) == [("", "signed_format")]


# --- keys that cannot be used


def unusable(world: World, kind: str) -> Party:
    match kind:
        case "key_weak":
            return party("weak", key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
        case "key_unsupported":
            return party("curve", key=ec.generate_private_key(ec.SECP256K1()))
        case _:
            return party("dates")


@pytest.mark.parametrize("kind", ["key_weak", "key_unsupported"])
def test_a_key_that_cannot_be_used_refuses_the_list_or_is_left_out(world: World, kind: str) -> None:
    file = eu([entry(world.dsc, world.upload), entry(unusable(world, kind), world.upload)], signers=(world.upload.der,))
    assert refused(file) == [("/1/rawData", kind)]
    read = read_list(replace(file, skip_unusable=True), now=NOW)
    assert (len(read.keys), [(p.pointer, p.code) for p in read.skipped]) == (1, [("/1/rawData", kind)])


@pytest.mark.parametrize(
    "altered",
    [b"999999999999Z", b"211330000000Z", b"ABCDEFGHIJKLZ", b"200101000000Z"],
    ids=["9s", "month", "text", "end"],
)
def test_dates_that_make_no_sense_are_named(world: World, altered: bytes) -> None:
    der = world.dsc.der
    ends = (NOW + timedelta(days=700)).strftime("%y%m%d%H%M%SZ").encode()
    broken = der.replace(ends, altered)
    assert broken != der
    file = unsigned(ListFormat.CERTIFICATES, _pem(broken))
    ((pointer, code),) = refused(file)
    assert (pointer, code) in [("/0", "certificate_unreadable"), ("/0", "bad_dates")]


def _pem(*ders: bytes) -> bytes:
    lines = []
    for der in ders:
        lines += ["-----BEGIN CERTIFICATE-----", base64.encodebytes(der).decode().strip(), "-----END CERTIFICATE-----"]
    return ("\n".join(lines) + "\n").encode()


# --- the German form


def german(world: World, document: Any, key: Any, *, raw_signature: bool = True) -> bytes:
    body = json.dumps(document, indent=1).encode()
    signature = key.sign(body, ec.ECDSA(hashes.SHA256()))
    if raw_signature:
        r, s = decode_dss_signature(signature)
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return b64(signature).encode() + b"\n" + body


@pytest.mark.parametrize("raw_signature", [True, False])
def test_the_german_list_is_believed_under_the_pinned_key_alone(world: World, raw_signature: bool) -> None:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    raw = german(world, {"certificates": [entry(world.dsc, world.upload)]}, key, raw_signature=raw_signature)
    file = ListFile(ListFormat.GERMAN, raw, Pins(public_key=read_public_key(pem, "/key")))
    (found,) = read_list(file, now=NOW).keys
    assert found.certificate == world.dsc.der
    assert refused(replace(file, pins=Pins(public_key=other.public_key()))) == [("/signature", "signature_invalid")]
    assert refused(replace(file, raw=raw.replace(b'"DE"', b'"FR"'))) == [("/signature", "signature_invalid")]
    assert refused(replace(file, raw=raw.split(b"\n", 1)[1])) == [("/signature", "not_base64")]
    assert refused(replace(file, raw=raw.splitlines()[0])) == [("", "not_a_list")]
    assert refused(replace(file, pins=Pins())) == [("", "pin_needed")]


# --- SMART Health Cards and the VCI directory


def jwk(key: Any = None, **changes: Any) -> dict[str, Any]:
    numbers = (key or ec.generate_private_key(ec.SECP256R1())).public_key().public_numbers()
    x, y = (b64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    kid = b64url(hashlib.sha256(canonical.encode()).digest())
    return {"kty": "EC", "kid": kid, "use": "sig", "alg": "ES256", "crv": "P-256", "x": x, "y": y} | changes


def test_a_key_set_belongs_to_the_issuer_that_is_named() -> None:
    one = jwk()
    raw = json.dumps({"keys": [one, jwk(use="enc"), jwk(alg="ES384")]}).encode()
    (key,) = read_list(unsigned(ListFormat.JWKS, raw, issuer="https://shc.example/issuer/"), now=NOW).keys
    assert (key.format, key.kid, key.issuer) == (CredentialFormat.SHC, one["kid"], "https://shc.example/issuer")
    assert refused(unsigned(ListFormat.JWKS, raw)) == [("/issuer", "issuer_needed")]
    assert refused(unsigned(ListFormat.JWKS, raw, issuer="http://shc.example")) == [("/issuer", "issuer_invalid")]


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"kid": "A" * 43}, "/keys/0/kid", "kid_mismatch"),
        ({"x": "AAAA"}, "/keys/0", "key_unsupported"),
        ({"x": 5}, "/keys/0/x", "wrong_type"),
        ({"x": "é"}, "/keys/0/x", "not_base64"),
        ({"crv": "P-999"}, "/keys/0", "key_unsupported"),
        ({"crv": ["P-256"]}, "/keys/0", "key_unsupported"),
        ({"kty": "oct"}, "/keys/0/n", "missing"),
        ({"d": "AAAA"}, "/keys/0/d", "wrong_type"),
    ],
)
def test_a_wrong_jwk_is_named(changes: dict[str, Any], pointer: str, code: str) -> None:
    raw = json.dumps({"keys": [jwk(**changes)]}).encode()
    assert refused(unsigned(ListFormat.JWKS, raw, issuer="https://a.example")) == [(pointer, code)]


def test_a_vci_snapshot_gives_each_issuer_its_keys() -> None:
    issuers = [
        {"issuer": {"iss": "https://a.example", "name": "A"}, "keys": [jwk(), jwk()]},
        {"issuer": {"iss": "https://b.example", "name": "B"}, "keys": []},
        {"issuer": {"iss": "https://c.example", "name": "C"}, "errors": [{"type": 1}]},
    ]
    document = {"directory": "https://d.example", "time": "2021-10-30T00:00:00Z", "issuerInfo": issuers}
    read = read_list(unsigned(ListFormat.VCI, json.dumps(document).encode()), now=NOW)
    assert [key.issuer for key in read.keys] == ["https://a.example"] * 2
    issuers[1]["keys"] = [jwk(kid="nonsense")]
    assert refused(unsigned(ListFormat.VCI, json.dumps(document).encode())) == [
        ("/issuerInfo/1/keys/0/kid", "kid_mismatch")
    ]


# --- ICAO


def openssl_master_list(folder: Path, signer: Party, ders: list[bytes], content_type: str = "2.23.136.1.1.2") -> bytes:
    """Return a CscaMasterList that the openssl command signed; its DER is put together by hand."""

    def tlv(tag: int, body: bytes) -> bytes:
        length = len(body)
        head = bytes([length]) if length < 128 else bytes([0x82]) + length.to_bytes(2, "big")
        return bytes([tag]) + head + body

    (folder / "list").write_bytes(tlv(0x30, b"\x02\x01\x00" + tlv(0x31, b"".join(sorted(ders)))))
    (folder / "key.pem").write_bytes(
        signer.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / "cert.pem").write_bytes(signer.certificate.public_bytes(serialization.Encoding.PEM))
    command = ["openssl", "cms", "-sign", "-binary", "-nodetach", "-md", "sha256", "-outform", "DER"]
    command += ["-econtent_type", content_type, "-in", "list", "-inkey", "key.pem", "-signer", "cert.pem"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


def test_a_master_list_is_believed_from_a_pinned_signer_or_one_under_a_pinned_authority(tmp_path: Path) -> None:
    # openssl puts its own time of signing in, which is later than any that was read before it ran.
    really = datetime.now(UTC) + timedelta(minutes=5)
    lasting = {"begins": NOW, "ends": really + timedelta(days=365)}
    csca = party("CSCA CH", "CH", authority=True, key=ec.generate_private_key(ec.BrainpoolP256R1()), **lasting)
    signer = party("ML SIGNER", "CH", issuer=csca, usages=("2.23.136.1.1.3",), **lasting)
    plain = party("NO ML SIGNER", "CH", issuer=csca, **lasting)
    others = [party(f"CSCA {n}", "XX", authority=True) for n in range(2)]
    listed = [csca.der, *(one.der for one in others)]
    raw = openssl_master_list(tmp_path, signer, listed)
    file = ListFile(ListFormat.ICAO, raw, Pins(signers=(csca.der,)))
    read = read_list(file, now=really)
    assert {key.certificate for key in read.keys} == set(listed)
    assert all(key.is_anchor and key.format is CredentialFormat.VDS_NC for key in read.keys)
    assert {key.kid for key in read.keys} == {hashlib.sha256(der).hexdigest() for der in listed}
    assert read.made_at is not None
    assert len(read_list(replace(file, pins=Pins(signers=(signer.der,))), now=really).keys) == 3
    wrong = [("", "signature_invalid")]
    assert refused(replace(file, pins=Pins(signers=(others[0].der,))), really) == wrong
    assert refused(replace(file, raw=openssl_master_list(tmp_path, plain, listed)), really) == wrong
    as_data = openssl_master_list(tmp_path, signer, listed, "1.2.840.113549.1.7.1")
    assert refused(replace(file, raw=as_data), really) == wrong
    no_authority = openssl_master_list(tmp_path, signer, [csca.der, plain.der])
    assert [code for _, code in refused(replace(file, raw=no_authority), really)] == ["not_an_authority"]
    assert refused(file, now=NOW) == wrong, "signed in what is then the future"


def test_bare_certificates_need_their_digest_and_say_what_they_are_for(world: World) -> None:
    pem = _pem(world.dsc.der, world.stranger.der)
    assert len(read_list(unsigned(ListFormat.CERTIFICATES, pem), now=NOW).keys) == 2
    bundle = pkcs7.serialize_certificates([world.dsc.certificate, world.stranger.certificate], DER)
    assert len(read_list(unsigned(ListFormat.CERTIFICATES, bundle), now=NOW).keys) == 2
    assert len(read_list(unsigned(ListFormat.CERTIFICATES, world.dsc.der), now=NOW).keys) == 1
    anchors = unsigned(ListFormat.CERTIFICATES, _pem(world.csca.der), key_format=CredentialFormat.VDS_NC)
    assert read_list(anchors, now=NOW).keys[0].is_anchor
    assert refused(replace(anchors, raw=b"nonsense", sha256=hashlib.sha256(b"nonsense").hexdigest())) == [
        ("", "not_a_list")
    ]


@pytest.mark.parametrize("list_format", sorted(set(ListFormat) - SIGNED))
def test_a_list_without_signature_is_read_only_under_its_digest(list_format: ListFormat) -> None:
    raw = b'{"keys": []}'
    digest = hashlib.sha256(raw).hexdigest()
    for given_ in ({}, {"unsigned": True}, {"sha256": digest}):
        assert refused(ListFile(list_format, raw, **given_)) == [("", "unsigned")]
    for wrong in ("0" * 64, "short", "é"):
        assert refused(ListFile(list_format, raw, unsigned=True, sha256=wrong)) == [("", "digest_mismatch")]


# --- WHO


def did(*methods: Any) -> bytes:
    return json.dumps({"id": "did:web:tng-cdn.who.int:v2:trustlist", "verificationMethod": list(methods)}).encode()


def method(listed: Party, address: str, *, with_certificate: bool = True, **changes: Any) -> dict[str, Any]:
    kid = b64(hashlib.sha256(listed.der).digest()[:8])
    controller = f"did:web:tng-cdn.who.int:v2:trustlist:{address}"
    key = jwk(listed.key, kid=kid) | ({"x5c": [b64(listed.der)]} if with_certificate else {}) | changes
    return {"id": f"{controller}#{kid}", "type": "JsonWebKey2020", "controller": controller, "publicKeyJwk": key}


def test_a_did_document_gives_signers_of_what_is_read_here(world: World) -> None:
    raw = did(
        method(world.dsc, "DCC:DEU:DSC"),
        method(world.stranger, "-:DEU:DSC", with_certificate=False),
        method(world.csca, "DCC:DEU:SCA"),
        method(world.csca, "ICAO:DEU:SCA"),
        method(world.upload, "DCC:DEU:UP"),
        method(world.upload, "PH4H:DEU:DSC"),
        "did:web:tng-cdn.who.int:v2:trustlist:DCC:DEU:DSC#x",
    )
    first, second, third = read_list(unsigned(ListFormat.DID, raw), now=NOW).keys
    assert (first.format, first.certificate, first.country) == (CredentialFormat.HCERT, world.dsc.der, "DE")
    assert (second.certificate, second.not_after) == (None, None)
    assert second.kid == b64(hashlib.sha256(world.stranger.der).digest()[:8])
    assert (third.format, third.is_anchor) == (CredentialFormat.VDS_NC, True)


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"x5c": ["AAAA"]}, "/publicKeyJwk/x5c/0", "certificate_unreadable"),
        ({"x5c": [5]}, "/publicKeyJwk/x5c/0", "wrong_type"),
        ({"x5c": {}}, "/publicKeyJwk/x5c", "wrong_type"),
        ({"kid": "?"}, "/publicKeyJwk/kid", "not_base64"),
        (jwk(), "/publicKeyJwk", "key_mismatch"),
    ],
)
def test_a_wrong_verification_method_is_named(world: World, changes: Any, pointer: str, code: str) -> None:
    raw = did(method(world.dsc, "DCC:DEU:DSC", **changes))
    assert refused(unsigned(ListFormat.DID, raw)) == [(f"/verificationMethod/0{pointer}", code)]


def test_an_ed25519_key_is_taken_for_divoc_and_for_nothing_else() -> None:
    point = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    key = {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(point).decode().rstrip("="), "kid": "AAAAAAAA"}

    def listed(domain: str, **changes: Any) -> bytes:
        address = f"did:web:tng-cdn.who.int:v2:trustlist:{domain}:IND:DSC"
        return did(
            {"id": f"{address}#1", "type": "JsonWebKey2020", "controller": address, "publicKeyJwk": key | changes}
        )

    (taken,) = read_list(unsigned(ListFormat.DID, listed("DIVOC")), now=NOW).keys
    assert taken.format is CredentialFormat.DIVOC
    assert isinstance(taken.public_key, Ed25519PublicKey)
    assert taken.public_key.public_bytes_raw() == point
    for refused in (listed("DCC"), listed("DIVOC", crv="X25519"), listed("DIVOC", x="AAAA")):
        with pytest.raises(InputError) as caught:
            read_list(unsigned(ListFormat.DID, refused), now=NOW)
        assert caught.value.problems[0].code == "key_unsupported"


# --- differences, sizes, damage


def test_a_kid_may_stand_for_two_keys_and_the_same_key_stands_once(world: World) -> None:
    same = entry(world.stranger, world.upload, kid=entry(world.dsc, world.upload)["kid"])
    listed = [entry(world.dsc, world.upload), same, entry(world.dsc, world.upload)]
    read = read_list(eu(listed, signers=(world.upload.der,)), now=NOW)
    assert len(read.keys) == 2
    assert len({key.kid for key in read.keys}) == 1


def test_the_difference_is_what_an_import_changes(world: World) -> None:
    def keys(*parties: Party) -> Any:
        return read_list(eu([entry(p, world.upload) for p in parties], signers=(world.upload.der,)), now=NOW).keys

    before, after = keys(world.dsc, world.stranger), keys(world.stranger, world.csca)
    difference = compare(before, after)
    assert [key.certificate for key in difference.added] == [world.csca.der]
    assert [key.certificate for key in difference.removed] == [world.dsc.der]
    assert difference.unchanged == 1
    assert compare(before, before) == compare((), ()).__class__((), (), 2)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b" " * (MAX_LIST + 1), "list_too_large"),
        (b"[" + b"5," * MAX_ENTRIES + b"5]", "too_many_entries"),
        (b"[" * 100_000, "not_json"),
        (b'{"certificates": [], "certificates": []}', "not_json"),
        (b"[NaN]", "not_json"),
        (b"[" + b"9" * 10_000 + b"]", "not_json"),
        (b"\xff", "not_json"),
        (b"[]", "list_empty"),
        (b"{}", "missing"),
        (b'"text"', "not_a_list"),
    ],
)
def test_a_hostile_list_is_refused_with_a_sentence(world: World, raw: bytes, code: str) -> None:
    assert refused(eu(raw, signers=(world.upload.der,)))[0][1] == code


def test_many_mistakes_are_told_up_to_a_limit(world: World) -> None:
    assert len(refused(eu([5] * 1000, signers=(world.upload.der,)))) == MAX_PROBLEMS


def test_pins_are_read_or_refused(world: World) -> None:
    assert read_pins(_pem(world.dsc.der), "/pins") == [world.dsc.der]
    for raw in (b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"):
        with pytest.raises(InputError) as caught:
            read_pins(raw, "/pins")
        assert caught.value.problems[0].pointer == "/pins"
        with pytest.raises(InputError):
            read_public_key(raw, "/key")
    assert read_public_key(world.dsc.der, "/key") == world.dsc.key.public_key()


damage = st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 255)), min_size=1, max_size=3)


@pytest.mark.filterwarnings("ignore:Parsed a serial number", "ignore:Attribute's length must be")
@settings(max_examples=60, deadline=None)
@given(changes=damage)
def test_a_damaged_list_is_refused_or_says_the_same(world: World, changes: list[tuple[int, int]]) -> None:
    pins = Pins(signers=(world.upload.der,))
    raw = json.dumps([entry(world.dsc, world.upload)]).encode()
    good = read_list(ListFile(ListFormat.EU, raw, pins), now=NOW).keys
    damaged = bytearray(raw)
    for place, byte in changes:  # signatures are random, and so is their length: places are told as shares of it
        damaged[place % len(raw)] = byte
    try:
        read = read_list(ListFile(ListFormat.EU, bytes(damaged), pins), now=NOW)
    except InputError:
        return
    assert [key.certificate for key in read.keys] == [key.certificate for key in good]


@settings(max_examples=150, deadline=None)
@given(
    list_format=st.sampled_from(sorted(ListFormat)), raw=st.binary(max_size=200) | st.text(max_size=60).map(str.encode)
)
def test_nonsense_is_refused_in_every_format(world: World, list_format: ListFormat, raw: bytes) -> None:
    pins = Pins(signers=(world.upload.der,), public_key=world.upload.key.public_key())
    file = unsigned(list_format, raw, pins=pins, issuer="https://a.example")
    assert refused(replace(file, unsigned=list_format not in SIGNED))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["keys", "issuerInfo", "issuer", "iss", "kty", "x", "y", "verificationMethod", "id", "rawData"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(list_format=st.sampled_from(["eu", "jwks", "vci", "did"]), value=json_values)
def test_json_of_other_shapes_is_refused(world: World, list_format: str, value: Any) -> None:
    file = unsigned(ListFormat(list_format), json.dumps(value).encode(), issuer="https://a.example")
    pins = Pins(signers=(world.upload.der,))
    assert refused(replace(file, pins=pins, unsigned=list_format != "eu"))
