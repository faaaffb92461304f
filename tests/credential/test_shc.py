"""SMART Health Cards, made by independent code (script/vectors)."""

from __future__ import annotations

import json
import zlib
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from vectors import shc
from vectors.signing import NOT_AFTER, NOW, b64url, sign_raw

from printsvc.credential.outcome import Outcome, Step, Verdict
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat, KeyRing, TrustedKey
from printsvc.credential.verify import verify

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def pinned(key: ec.EllipticCurvePrivateKey = KEY, **changes: Any) -> TrustList:
    fields = {"kid": shc.thumbprint(key), "issuer": shc.ISSUER, "not_after": NOT_AFTER} | changes
    trusted = TrustedKey(format=CredentialFormat.SHC, public_key=key.public_key(), **fields)
    return TrustList(1, NOW, (), KeyRing((trusted,)))


def judge(code: Any, trust: TrustList | None = None, at: Any = NOW) -> Verdict:
    return verify(code, trust=pinned() if trust is None else trust, at=at)


def payload_with(**vc: Any) -> dict[str, Any]:
    payload = shc.make_payload()
    payload["vc"] |= vc
    return payload


def test_a_card_is_valid_and_says_who_and_what() -> None:
    for code in (shc.make_shc(KEY), shc.make_shc(KEY).replace("shc:/", "SHC:/"), f"\n{shc.make_shc(KEY)}\r\n"):
        verdict = judge(code)
        assert (verdict.verdict, verdict.step, verdict.format) == (Outcome.VALID, None, CredentialFormat.SHC)
        assert verdict.claims is not None
        assert verdict.claims["person"] == {"name": "John B. Anyperson", "date_of_birth": "1951-01-20"}
        assert [(dose["product"], dose["date"], dose["issuer"]) for dose in verdict.claims["doses"]] == [
            ("207", "2021-01-01", "ABC General Hospital"),
            ("207", "2021-01-29", "ABC General Hospital"),
        ]
        assert verdict.claims["issuer"] == shc.ISSUER
        assert verdict.claims["issued_at"] == "2021-12-01T00:00:00Z"
        assert verdict.claims["shc"]["vc"]["credentialSubject"]["fhirVersion"] == "4.0.1"
        answer = json.loads(json.dumps(verdict.to_json()))
        assert (answer["format"], answer["signer"]["kid"]) == ("shc", shc.thumbprint(KEY))


def test_a_card_in_several_codes_is_told_to_be_deprecated() -> None:
    verdict = judge("shc:/1/2/" + shc.make_shc(KEY)[5:205])
    assert (verdict.verdict, verdict.step) == (Outcome.MALFORMED, Step.CONTAINER)
    assert "part 1 of 2" in verdict.detail
    assert "deprecated" in verdict.detail
    assert "1/2" in verdict.detail_vi


def test_only_a_pinned_key_of_that_issuer_counts() -> None:
    code = shc.make_shc(KEY)
    assert judge(code, TrustList(1, NOW, ())).verdict is Outcome.UNKNOWN_SIGNER
    assert judge(code, pinned(issuer="https://other.example")).verdict is Outcome.UNKNOWN_SIGNER
    assert judge(code, pinned(issuer=shc.ISSUER + "/")).is_valid
    assert judge(code, pinned(issuer="")).is_valid
    assert judge(code, pinned(OTHER, kid=shc.thumbprint(KEY))).verdict is Outcome.BAD_SIGNATURE
    assert judge(code, pinned(not_after=NOW - timedelta(days=1))).verdict is Outcome.SIGNER_EXPIRED


def test_a_key_in_the_header_changes_nothing() -> None:
    numbers = OTHER.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": b64url(numbers.x.to_bytes(32, "big"))}
    for more in ({"jwk": jwk}, {"jku": "https://evil.example/jwks.json"}, {"x5c": ["AAAA"]}):
        for kid, expected in ((OTHER, Outcome.UNKNOWN_SIGNER), (KEY, Outcome.BAD_SIGNATURE)):
            header = {"zip": "DEF", "alg": "ES256", "kid": shc.thumbprint(kid)} | more
            assert judge(shc.make_shc(OTHER, header=header)).verdict is expected


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384", "RS256", None, 5])
def test_other_algorithms_are_refused(algorithm: Any) -> None:
    header = {"zip": "DEF", "alg": algorithm, "kid": shc.thumbprint(KEY)}
    verdict = judge(shc.make_shc(KEY, header=header))
    assert (verdict.verdict, verdict.step) == (Outcome.BAD_SIGNATURE, Step.SIGNATURE)


def test_times() -> None:
    later = shc.make_payload(nbf=int(NOW.timestamp()) + 3600)
    ended = shc.make_payload(exp=int(NOW.timestamp()) - 1)
    assert judge(shc.make_shc(KEY, later)).verdict is Outcome.NOT_YET_VALID
    assert judge(shc.make_shc(KEY, ended)).verdict is Outcome.EXPIRED
    assert judge(shc.make_shc(KEY, shc.make_payload(exp=NOW.timestamp() + 0.5))).is_valid


def test_the_mirrored_signature_says_the_same() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    head, body, _ = shc.make_jws(KEY, shc.make_payload()).split(".")
    signature = sign_raw(KEY, f"{head}.{body}".encode())
    turned = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    one, two = (judge(shc.numeric(f"{head}.{body}.{b64url(each)}")) for each in (signature, turned))
    assert one.is_valid
    assert (one.verdict, one.claims) == (two.verdict, two.claims)


def bundle_without(kind: str) -> dict[str, Any]:
    bundle = shc.make_bundle()
    bundle["entry"] = [entry for entry in bundle["entry"] if entry["resource"]["resourceType"] != kind]
    return bundle


@pytest.mark.parametrize(
    ("payload", "where"),
    [
        (shc.make_payload(vc={}), "vc/type"),
        (payload_with(type=["VerifiableCredential"]), "vc/type"),
        (payload_with(credentialSubject={"fhirVersion": "4.0.1", "fhirBundle": bundle_without("Patient")}), "Patient"),
        (payload_with(credentialSubject={"fhirVersion": "3", "fhirBundle": shc.make_bundle()}), "fhirVersion"),
        (payload_with(credentialSubject={"fhirBundle": bundle_without("Immunization")}), "Immunization"),
        ({key: value for key, value in shc.make_payload().items() if key != "nbf"}, "nbf"),
        (shc.make_payload(vc=5), "vc"),
    ],
)
def test_content_that_is_no_health_card(payload: dict[str, Any], where: str) -> None:
    verdict = judge(shc.make_shc(KEY, payload))
    assert (verdict.verdict, verdict.step) == (Outcome.SCHEMA_INVALID, Step.SCHEMA)
    assert where in verdict.detail


GOOD = shc.make_jws(KEY, shc.make_payload())
ZLIB = zlib.compress(json.dumps(shc.make_payload()).encode())


@pytest.mark.parametrize(
    ("code", "step"),
    [
        ("shc:/", Step.ENCODING),
        ("shc:/123", Step.ENCODING),
        ("shc:/99", Step.ENCODING),
        ("shc:/5६", Step.ENCODING),
        ("shc:/" + "5" * 8_000, Step.CONTAINER),
        (shc.numeric("A.B"), Step.STRUCTURE),
        (shc.numeric("*.A.B"), Step.ENCODING),
        (shc.numeric(GOOD + "."), Step.STRUCTURE),
        (shc.numeric("e30." + GOOD.split(".", 1)[1]), Step.STRUCTURE),
        (shc.numeric(GOOD[:-1]), Step.ENCODING),
        (shc.make_shc(KEY, header={"alg": "ES256", "kid": "A"}), Step.DECOMPRESSION),
        (shc.make_shc(KEY, header={"alg": "ES256", "kid": 5, "zip": "DEF"}), Step.STRUCTURE),
        (shc.make_shc(KEY, header={"alg": "ES256", "kid": "A", "zip": "DEF", "crit": ["x"]}), Step.STRUCTURE),
        (shc.make_shc(KEY, ZLIB), Step.DECOMPRESSION),
        (shc.make_shc(KEY, shc.deflate(b"{}") + b"x"), Step.DECOMPRESSION),
        (shc.make_shc(KEY, shc.deflate(b"{}")[:-1]), Step.DECOMPRESSION),
        (shc.make_shc(KEY, shc.deflate(bytes(1_000_000))), Step.DECOMPRESSION),
        (shc.make_shc(KEY, shc.deflate(b"[]")), Step.STRUCTURE),
        (shc.make_shc(KEY, shc.deflate(b'{"iss":"a","iss":"b"}')), Step.STRUCTURE),
        (shc.make_shc(KEY, shc.deflate(b'{"iss":"a","nbf":"soon"}')), Step.STRUCTURE),
        (shc.make_shc(KEY, shc.deflate(b'{"iss":"a","nbf":1e300}')), Step.STRUCTURE),
        (shc.make_shc(KEY, shc.deflate(b'{"iss":"a","nbf":true}')), Step.STRUCTURE),
        (shc.make_shc(KEY, shc.deflate(b'{"iss":"\\ud800"}')), Step.STRUCTURE),
        (shc.make_shc(KEY, shc.deflate(b"[" * 9_000)), Step.STRUCTURE),
    ],
)
def test_damaged_cards(code: str, step: Step) -> None:
    verdict = judge(code)
    assert (verdict.verdict, verdict.step, verdict.format) == (Outcome.MALFORMED, step, CredentialFormat.SHC)
    assert verdict.detail != verdict.detail_vi
    assert verdict.claims is None
