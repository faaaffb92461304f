"""DIVOC credentials, made by independent code (script/vectors): there the statements are put in order by hand."""

from __future__ import annotations

import io
import json
import zipfile
from copy import deepcopy
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from vectors import divoc
from vectors.signing import NOT_AFTER, NOT_BEFORE, NOW

from printsvc.credential.linkeddata import canonical_credential, canonical_proof
from printsvc.credential.outcome import Outcome, Step, Verdict
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import ANY_KID, CredentialFormat, KeyRing, TrustedKey
from printsvc.credential.verify import verify

RSA = rsa.generate_private_key(65537, 2048)
EDWARDS = ed25519.Ed25519PrivateKey.generate()
SIGNED = divoc.sign_credential(divoc.make_credential(), RSA)


def pinned(key: Any = RSA, kid: str = divoc.METHOD) -> TrustList:
    trusted = TrustedKey(
        kid=kid,
        format=CredentialFormat.DIVOC,
        public_key=key.public_key(),
        not_before=NOT_BEFORE,
        not_after=NOT_AFTER,
        country="UT",
    )
    return TrustList(1, NOW, (), KeyRing((trusted,)))


TRUST = pinned()


def judge(code: Any, trust: TrustList = TRUST) -> Verdict:
    return verify(code, trust=trust, at=NOW)


def altered(change: Any) -> bytes:
    document = deepcopy(SIGNED)
    change(document)
    return divoc.pack(document)


def test_the_statements_are_those_written_by_hand() -> None:
    credential = divoc.make_credential()
    assert canonical_credential(credential) == divoc.quads_of(credential)
    proof = {name: value for name, value in SIGNED["proof"].items() if name != "jws"}
    assert canonical_proof(proof) == divoc.proof_quads(proof)


@pytest.mark.parametrize("key", [RSA, EDWARDS], ids=["RsaSignature2018", "Ed25519Signature2018"])
def test_a_credential_is_valid_and_says_who_and_what(key: Any) -> None:
    code = divoc.make_divoc(key)
    for spelling in (code, divoc.as_base64(code), code.decode("latin-1"), json.dumps(json.loads(unpacked(code)))):
        verdict = judge(spelling, pinned(key))
        assert (verdict.verdict, verdict.step, verdict.format) == (Outcome.VALID, None, CredentialFormat.DIVOC)
        assert verdict.claims == {
            "issuer": "https://utopia.example/",
            "issued_at": "2021-03-03T04:28:46Z",
            "expires_at": None,
            "kid": divoc.METHOD,
            "person": {"name": 'Trần Văn "Ba"', "date_of_birth": None},
            "doses": [
                {
                    "product": "COVISHIELD",
                    "date": "2021-03-03T04:28:43.134Z",
                    "number": 1,
                    "series": 2,
                    "country": "UT",
                    "issuer": "https://utopia.example/",
                }
            ],
        }


def unpacked(code: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        return archive.read("certificate.json")


def test_only_a_pinned_key_of_that_name_counts() -> None:
    code = divoc.make_divoc(RSA)
    assert judge(code, TrustList(1, NOW, ())).verdict is Outcome.UNKNOWN_SIGNER
    assert judge(code, pinned(kid="did:other")).verdict is Outcome.UNKNOWN_SIGNER
    assert judge(code, pinned(kid=ANY_KID)).is_valid
    for other in (rsa.generate_private_key(65537, 2048), EDWARDS, ec.generate_private_key(ec.SECP256R1())):
        assert judge(code, pinned(other)).verdict is Outcome.BAD_SIGNATURE


CHANGES: dict[str, Any] = {
    "name": lambda d: d["credentialSubject"].update(name="Another"),
    "subject": lambda d: d["credentialSubject"].update(id="did:Passport:Other"),
    "issuer": lambda d: d.update(issuer="https://other.example/"),
    "dose": lambda d: d["evidence"][0].update(dose=2),
    "a third dose": lambda d: d["evidence"].append(d["evidence"][0] | {"id": "https://utopia.example/vaccine/2"}),
    "expiry": lambda d: d.update(expirationDate="2031-01-01T00:00:00Z"),
    "country": lambda d: d["evidence"][0]["facility"]["address"].update(addressCountry="IN"),
    "created": lambda d: d["proof"].update(created="2021-03-03T04:28:47Z"),
    "nonce": lambda d: d["proof"].update(nonce="1"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_was_altered_is_refused(change: Any) -> None:
    verdict = judge(altered(change))
    assert (verdict.verdict, verdict.step) == (Outcome.BAD_SIGNATURE, Step.SIGNATURE)


def swap(one: str, two: str) -> Any:
    def change(document: dict[str, Any]) -> None:
        shot = document["evidence"][0]
        shot[one], shot[two] = shot[two], shot[one]

    return change


def repeat(document: dict[str, Any]) -> None:
    shot = document["evidence"][0]
    document["evidence"] = [shot, {"id": shot["id"], "type": ["Vaccination"], "dose": 1}]


HARMLESS: dict[str, Any] = {
    "dose and total": swap("dose", "totalDoses"),
    "vaccine and maker": swap("vaccine", "manufacturer"),
    "vaccine and batch": swap("vaccine", "batch"),
    "vaccine and number": swap("vaccine", "certificateId"),
    "date and its end": swap("date", "effectiveUntil"),
    "one shot in two pieces": repeat,
    "a name that means nothing": lambda d: d["credentialSubject"].update(vaccinated="thrice"),
    "nothing": lambda d: d["evidence"][0].update(verified=None),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_the_signature_does_not_hold_is_not_said(change: Any) -> None:
    """The signature agrees with all of these; so the claims must be the same."""
    verdict = judge(altered(change))
    assert verdict.is_valid
    assert verdict.claims == judge(divoc.pack(SIGNED)).claims


def test_content_that_is_no_proof_of_vaccination() -> None:
    for change, where in (
        (lambda c: (c.update(type=["VerifiableCredential"]), c.pop("nonTransferable")), "type"),
        (lambda c: c["credentialSubject"].pop("name"), "credentialSubject/name"),
        (lambda c: c.update(evidence=[]), "evidence"),
        (lambda c: c["evidence"][0].update(date="soon"), "evidence/date"),
        (lambda c: c.pop("issuer"), "issuer"),
        (lambda c: c.pop("issuanceDate"), "issuanceDate"),
    ):
        credential = divoc.make_credential()
        change(credential)
        verdict = judge(divoc.pack(divoc.sign_credential(credential, RSA)))
        assert (verdict.verdict, verdict.step) == (Outcome.SCHEMA_INVALID, Step.SCHEMA), where
        assert where in verdict.detail


def test_times() -> None:
    for change, expected in (
        ({"expirationDate": "2021-06-01T00:00:00Z"}, Outcome.EXPIRED),
        ({"issuanceDate": "2029-06-01T00:00:00Z"}, Outcome.NOT_YET_VALID),
    ):
        code = divoc.make_divoc(RSA, divoc.make_credential() | change)
        assert judge(code).verdict is expected


def zipped(*members: tuple[str, bytes], comment: bytes = b"", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.comment = comment
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


CONTENT = json.dumps(SIGNED).encode()
PACKED = divoc.pack(SIGNED)


@pytest.mark.parametrize(
    ("code", "step"),
    [
        (b"PK\x03\x04", Step.DECOMPRESSION),
        (PACKED[:-1], Step.DECOMPRESSION),
        (PACKED[:40] + bytes([PACKED[40] ^ 1]) + PACKED[41:], Step.DECOMPRESSION),
        (zipped(("certificate.json", bytes(1_000_000))), Step.DECOMPRESSION),
        (zipped(("certificate.json", bytes(10_241))), Step.DECOMPRESSION),
        (zipped(("../certificate.json", CONTENT)), Step.CONTAINER),
        (zipped(("certificate.json", CONTENT), ("b", b"")), Step.CONTAINER),
        (zipped(("certificate.json", CONTENT), comment=b"x"), Step.CONTAINER),
        (zipped(("a/", b"")), Step.CONTAINER),
        (zipped(), None),
        (zipped(("certificate.json", CONTENT), method=zipfile.ZIP_LZMA), Step.DECOMPRESSION),
        (PACKED + b"x", Step.DECOMPRESSION),
        (PACKED + PACKED, Step.CONTAINER),
        ("UEsDB*", Step.ENCODING),
        ("PK\x03\x04€", Step.ENCODING),
        (b"PK\x03\x04" + bytes(5_000), Step.CONTAINER),
        (CONTENT.decode() + " " * 10_000 + "1", Step.CONTAINER),
        (divoc.pack(b"[]"), Step.STRUCTURE),
        (divoc.pack(b"{}"), Step.STRUCTURE),
        (divoc.pack(CONTENT[:-1] + b',"issuer":""}'), Step.STRUCTURE),
        (divoc.pack(b"[" * 10_000), Step.STRUCTURE),
    ],
)
def test_damaged_archives(code: Any, step: Step | None) -> None:
    verdict = judge(code)
    if verdict.format is None:
        assert code == zipped(), "an archive of nothing begins in another way"
        return
    assert verdict.verdict is Outcome.MALFORMED
    assert step is None or verdict.step is step
    assert verdict.detail != verdict.detail_vi


def with_context(context: Any) -> Any:
    return lambda document: document.update({"@context": context})


REFUSED: dict[str, Any] = {
    "another vocabulary": with_context([divoc.CONTEXTS[0], "https://evil.example/v1"]),
    "a vocabulary in the code": with_context([*divoc.CONTEXTS, {"name": "https://schema.org/gender"}]),
    "none": with_context(None),
    "one": with_context(divoc.CONTEXTS[0]),
    "a context within": lambda d: d["credentialSubject"].update({"@context": {"name": "https://evil.example/"}}),
    "keywords": lambda d: d["credentialSubject"].update({"@id": "did:other:1"}),
    "a graph": lambda d: d.update({"@graph": []}),
    "many doses": lambda d: d.update(evidence=[{"type": "Vaccination"}] * 5),
    "many parts": lambda d: d["evidence"][0].update({f"x{n}": {"a": {"b": {}}} for n in range(9)}),
    "no proof": lambda d: d.pop("proof"),
    "two proofs": lambda d: d.update(proof=[d["proof"], d["proof"]]),
    "another purpose": lambda d: d["proof"].update(proofPurpose="authentication"),
    "more in the proof": lambda d: d["proof"].update(capability="x"),
    # Statements about these fall out of the canonical form: whoever is named there was not signed.
    "no absolute name": lambda d: d["credentialSubject"].update(id="19882120590"),
    "a name with a space": lambda d: d["credentialSubject"].update(id="custom:aadhar card:123"),
    "a blank name": lambda d: d["credentialSubject"].update(id="_:b0"),
    "a name that ends early": lambda d: d["credentialSubject"].update(id="did:x><did:y"),
    "no absolute issuer": lambda d: d.update(issuer="utopia"),
    "no absolute key": lambda d: d["proof"].update(verificationMethod="key"),
    "no key": lambda d: d["proof"].pop("verificationMethod"),
    "no time": lambda d: d.update(issuanceDate="yesterday"),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_read(change: Any) -> None:
    verdict = judge(altered(change))
    assert (verdict.verdict, verdict.step) == (Outcome.MALFORMED, Step.STRUCTURE)


def test_other_headers_of_the_signature_are_refused() -> None:
    tail = SIGNED["proof"]["jws"].partition("..")[2]
    for header in (
        {"alg": "none", "b64": False, "crit": ["b64"]},
        {"alg": "PS256", "b64": True, "crit": ["b64"]},
        {"alg": "PS256"},
        {"alg": "EdDSA", "b64": False, "crit": ["b64"]},
        {"alg": "PS256", "b64": False, "crit": ["b64"], "jwk": {}},
    ):
        jws = divoc.b64url(json.dumps(header).encode()) + ".." + tail
        assert judge(altered(lambda d, jws=jws: d["proof"].update(jws=jws))).verdict is Outcome.BAD_SIGNATURE
