"""What stands under claim -260 besides the EU's certificate, and the rules of HCERT, with codes made by other code."""

from __future__ import annotations

import base64
import bz2
import copy
import gzip
import hashlib
import zlib
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from vectors import hcert
from vectors.signing import NOW, Holder, make_holder

from printsvc.credential.dsc import Kid, read_dsc
from printsvc.credential.outcome import Outcome, Step, Verdict
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat, KeyRing, TrustedKey
from printsvc.credential.verify import verify

TEST, VACCINATION, RECOVERY = (f"1.3.6.1.4.1.1847.2021.1.{number}" for number in (1, 2, 3))
SIGNER = make_holder("DSC")
RSA_SIGNER = make_holder("DSC RSA", rsa.generate_private_key(65537, 2048))


def listed(*holders: Holder, kid: bytes | None = None) -> TrustList:
    named = Kid(kid) if kid is not None else None
    return TrustList(1, NOW, tuple(read_dsc(holder.der, named) for holder in holders))


def judge(code: Any, trust: TrustList | None = None) -> Verdict:
    return verify(code, trust=listed(SIGNER, RSA_SIGNER) if trust is None else trust, at=NOW)


KINDS = {"v": hcert.vaccination, "t": hcert.test_result, "r": hcert.recovery}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("signer", "algorithm"), [(SIGNER, -7), (RSA_SIGNER, -37)])
def test_each_kind_with_each_algorithm(kind: str, signer: Holder, algorithm: int) -> None:
    verdict = judge(hcert.make_hcert(signer, KINDS[kind](), algorithm=algorithm))
    assert verdict.is_valid
    assert verdict.claims is not None
    assert verdict.claims["person"] == {"name": "Đặng Thị Ánh", "date_of_birth": "1990-02-28"}
    assert len(verdict.claims["doses"]) == (kind == "v")
    assert "sub_claim" not in verdict.claims


@pytest.mark.parametrize(
    ("usages", "allowed"),
    [
        ((), "vtr"),
        ((TEST,), "t"),
        ((VACCINATION,), "v"),
        ((RECOVERY,), "r"),
        ((TEST, RECOVERY), "tr"),
        (("1.3.6.1.4.1.0.1847.2021.1.2",), "v"),
        (("1.3.6.1.5.5.7.3.4",), "vtr"),
        (("1.3.6.1.5.5.7.3.4", VACCINATION), "v"),
    ],
)
def test_key_usage(usages: tuple[str, ...], allowed: str) -> None:
    signer = make_holder("DSC", usages=usages)
    for kind, make in KINDS.items():
        verdict = judge(hcert.make_hcert(signer, make()), listed(signer))
        assert verdict.verdict is (Outcome.VALID if kind in allowed else Outcome.WRONG_KEY_USAGE)
        assert verdict.step is (None if kind in allowed else Step.SIGNER)


def test_several_signers_of_one_kid() -> None:
    kid = hcert.kid_of(SIGNER.der)
    narrow = make_holder("Narrow", SIGNER.key, usages=(TEST,))
    wide = make_holder("Wide", SIGNER.key, usages=(TEST, VACCINATION))
    stranger = make_holder("Stranger")
    code = hcert.make_hcert(SIGNER, hcert.vaccination())
    assert judge(code, listed(stranger, narrow, wide, RSA_SIGNER, kid=kid)).is_valid
    assert judge(code, listed(stranger, narrow, kid=kid)).verdict is Outcome.WRONG_KEY_USAGE
    assert judge(code, listed(stranger, RSA_SIGNER, kid=kid)).verdict is Outcome.BAD_SIGNATURE


def test_where_the_kid_stands() -> None:
    kid, other = hcert.kid_of(SIGNER.der), bytes(8)
    for protected, unprotected, expected in (
        ({1: -7, 4: kid}, {}, Outcome.VALID),
        ({1: -7}, {4: kid}, Outcome.VALID),
        ({1: -7, 4: kid}, {4: other}, Outcome.VALID),
        ({1: -7, 4: other}, {4: kid}, Outcome.UNKNOWN_SIGNER),
        ({1: -7}, {4: other}, Outcome.UNKNOWN_SIGNER),
        ({1: -7}, {}, Outcome.UNKNOWN_SIGNER),
        ({1: -7, 4: kid.hex()}, {}, Outcome.UNKNOWN_SIGNER),
        ({4: kid}, {1: -7}, Outcome.BAD_SIGNATURE),
    ):
        parts = hcert.cose_sign1(SIGNER, hcert.make_claims(hcert.vaccination()), header=protected)
        parts[1] = unprotected
        assert judge(hcert.pack(parts)).verdict is expected, (protected, unprotected)


def test_a_pinned_key_without_a_certificate_verifies_too() -> None:
    """WHO's lists may give keys alone."""
    kid = base64.b64encode(hcert.kid_of(SIGNER.der)).decode()
    key = TrustedKey(kid=kid, format=CredentialFormat.HCERT, public_key=SIGNER.key.public_key(), country="UT")
    ring = TrustList(1, NOW, (), KeyRing((key,)))
    verdict = judge(hcert.make_hcert(SIGNER, hcert.vaccination()), ring)
    assert (verdict.verdict, verdict.to_json()["signer"]) == (Outcome.VALID, {"kid": kid, "country": "UT"})


def with_claims(**changes: Any) -> str:
    claims = hcert.make_claims(hcert.vaccination())
    for name, value in changes.items():
        number = int(name.removeprefix("c"))
        if value is None:
            del claims[number]
        else:
            claims[number] = value
    return hcert.pack(hcert.cose_sign1(SIGNER, claims))


SECONDS = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (with_claims(c1=None), Outcome.VALID),
        (with_claims(c6=None), Outcome.VALID),
        (with_claims(c4=None), Outcome.EXPIRED),
        (with_claims(c4=SECONDS - 1), Outcome.EXPIRED),
        (with_claims(c4=SECONDS), Outcome.VALID),
        (with_claims(c6=SECONDS + 61), Outcome.NOT_YET_VALID),
        (with_claims(c6=SECONDS + 3600, c4=SECONDS - 3600), Outcome.NOT_YET_VALID),
        (with_claims(c4=SECONDS + 0.5, c6=SECONDS - 0.5), Outcome.VALID),
        (with_claims(c4="soon"), Outcome.MALFORMED),
        (with_claims(c4=True), Outcome.MALFORMED),
        (with_claims(c6=-1), Outcome.MALFORMED),
        (with_claims(c4=2**60), Outcome.MALFORMED),
        (with_claims(c1=5), Outcome.MALFORMED),
    ],
)
def test_times_and_issuer(code: str, expected: Outcome) -> None:
    assert judge(code).verdict is expected


def signed(payload: Any, sub_claim: int = 1) -> Verdict:
    return judge(hcert.make_hcert(SIGNER, payload, sub_claim=sub_claim))


@pytest.mark.parametrize("kind", KINDS)
def test_every_required_field_is_required(kind: str) -> None:
    required = {"v": "tg vp mp ma dn sd dt co is ci", "t": "tg tt sc tr co is ci", "r": "tg fr df du co is ci"}
    payload = KINDS[kind]()
    for name in required[kind].split():
        for value in (None, 5.5, [], {}):
            changed = copy.deepcopy(payload)
            if value is None:
                del changed[kind][0][name]
            else:
                changed[kind][0][name] = value
            verdict = signed(changed)
            assert (verdict.verdict, verdict.step) == (Outcome.SCHEMA_INVALID, Step.SCHEMA), (name, value)
            assert f"{kind}/0/{name}" in verdict.detail
    for name in ("ver", "nam", "dob", kind):
        verdict = signed({key: value for key, value in payload.items() if key != name})
        assert verdict.verdict is Outcome.SCHEMA_INVALID, name


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (hcert.vaccination(dn=0), Outcome.SCHEMA_INVALID),
        (hcert.vaccination(dn=-1), Outcome.SCHEMA_INVALID),
        (hcert.vaccination(dn=2.0), Outcome.VALID),
        (hcert.vaccination(dn=10), Outcome.VALID),
        (hcert.vaccination(dn=10) | {"ver": "1.2.1"}, Outcome.SCHEMA_INVALID),
        (hcert.vaccination(dn=3, sd=2), Outcome.VALID),
        (hcert.vaccination(dn=True), Outcome.SCHEMA_INVALID),
        (hcert.vaccination(dt="2021-02-30"), Outcome.SCHEMA_INVALID),
        (hcert.vaccination(dt="2021-2-3"), Outcome.SCHEMA_INVALID),
        (hcert.vaccination(dt="2021-02"), Outcome.SCHEMA_INVALID),
        (hcert.vaccination(dt="2021-02-03T10:00:00+01:00"), Outcome.VALID),
        (hcert.vaccination(co="ut"), Outcome.SCHEMA_INVALID),
        (hcert.vaccination(co=""), Outcome.VALID),
        (hcert.vaccination(ma="ORG-1"), Outcome.SCHEMA_INVALID),
        (hcert.vaccination(ma="Bharat-Biotech"), Outcome.VALID),
        (hcert.vaccination(ci="A" * 81), Outcome.SCHEMA_INVALID),
        (hcert.person() | {"v": [], "t": []}, Outcome.SCHEMA_INVALID),
        (hcert.person() | {"v": []}, Outcome.SCHEMA_INVALID),
        (hcert.person() | {"v": {}}, Outcome.SCHEMA_INVALID),
        (hcert.person(), Outcome.SCHEMA_INVALID),
        (hcert.vaccination() | hcert.recovery(), Outcome.SCHEMA_INVALID),
        (hcert.vaccination() | {"r": None, "t": None}, Outcome.VALID),
        (hcert.vaccination() | {"ver": "2.0.0"}, Outcome.SCHEMA_INVALID),
        (hcert.vaccination() | {"v": 2 * hcert.vaccination()["v"]}, Outcome.SCHEMA_INVALID),
        (hcert.vaccination() | {"v": 2 * hcert.vaccination()["v"], "ver": "1.2.1"}, Outcome.VALID),
        (hcert.vaccination() | {"dob": ""}, Outcome.VALID),
        (hcert.vaccination() | {"dob": "1990"}, Outcome.VALID),
        (hcert.vaccination() | {"dob": "1990-02"}, Outcome.VALID),
        (hcert.vaccination() | {"dob": "1899-12-31"}, Outcome.SCHEMA_INVALID),
        (hcert.vaccination() | {"dob": "2022-12-31"}, Outcome.SCHEMA_INVALID),
        (hcert.vaccination() | {"nam": {"fnt": "A1"}}, Outcome.SCHEMA_INVALID),
        (hcert.vaccination() | {"nam": {"fn": "Á"}}, Outcome.SCHEMA_INVALID),
        (hcert.vaccination() | {"nam": {"gnt": "A<B"}}, Outcome.VALID),
        (hcert.vaccination() | {"nam": {"fnt": "A", "fn": "😀"}}, Outcome.SCHEMA_INVALID),
    ],
)
def test_the_schema_by_its_versions(payload: dict[str, Any], expected: Outcome) -> None:
    assert signed(payload).verdict is expected


def test_a_test_before_1_3_names_its_centre() -> None:
    for version, expected in (("1.0.0", Outcome.SCHEMA_INVALID), ("1.3.0", Outcome.VALID)):
        payload = hcert.test_result() | {"ver": version}
        del payload["t"][0]["tc"]
        assert signed(payload).verdict is expected


# Other contents.

DOMESTIC = hcert.person() | {
    "ver": "1.0.0",
    "d": [
        {
            "ci": "URN:UVCI:01:GB:1",
            "co": "GB-ENG",
            "is": "NHS Digital",
            "df": "2021-11-30T10:00:00+00:00",
            "du": "2021-12-30T10:00:00+00:00",
            "pm": 120,
            "po": ["GB-ENG:1"],
        }
    ],
}


def test_the_pass_of_the_united_kingdom() -> None:
    claims = hcert.make_claims(DOMESTIC)
    claims[4], claims[6] = claims[6], claims[4]  # as its issuer wrote them: the entry's own times hold
    code = hcert.pack(hcert.cose_sign1(SIGNER, claims))
    verdict = judge(code)
    assert verdict.is_valid
    assert verdict.claims is not None
    assert (verdict.claims["person"]["name"], verdict.claims["doses"]) == ("Đặng Thị Ánh", [])
    late = verify(code, trust=listed(SIGNER), at=NOW.replace(year=2022))
    assert (late.verdict, late.step) == (Outcome.EXPIRED, Step.TIME)
    for entry in ({"ci": 5}, {"df": "then"}, {"is": None}):
        wrong = DOMESTIC | {"d": [DOMESTIC["d"][0] | entry]}
        assert signed(wrong).verdict is Outcome.SCHEMA_INVALID
    assert signed(DOMESTIC | {"d": []}).verdict is Outcome.SCHEMA_INVALID
    assert signed(DOMESTIC | hcert.vaccination()).is_valid, "a certificate of the EU is read as one"


DVC = {
    "n": "Test Patient",
    "dob": "2003-02-04",
    "s": "female",
    "v": {"dn": "1", "tg": "1F03", "vp": "XM28X5", "dt": "2021-01-23", "cn": "Dr. A", "is": "Ministry", "bo": "12345"},
}
DDCC = {
    "name": "Test Patient",
    "birthDate": "2003-02-04",
    "vaccination": {
        "vaccine": {"code": "XM68M6", "system": "http://id.who.int/icd11/mms"},
        "brand": {"code": "XM8NQ0"},
        "dose": 2,
        "totalDoses": 3,
        "date": "2021-05-05",
        "country": {"code": "UTO"},
    },
    "certificate": {"hcid": {"value": "111000111"}, "issuer": {"identifier": {"value": "urn:EHMoH"}}},
}
RESULT = {"name": "Test Patient", "test": {"result": "negative"}}


@pytest.mark.parametrize(
    ("sub_claim", "payload", "dose"),
    [
        (-6, DVC, ("XM28X5", "2021-01-23", 1, None, None, "Ministry")),
        (-6, [DVC], ("XM28X5", "2021-01-23", 1, None, None, "Ministry")),
        (3, DDCC, ("XM8NQ0", "2021-05-05", 2, 3, "UTO", "urn:EHMoH")),
        (4, RESULT, None),
    ],
)
def test_contents_of_the_who(sub_claim: int, payload: Any, dose: tuple[Any, ...] | None) -> None:
    verdict = signed(payload, sub_claim)
    assert verdict.is_valid
    claims = verdict.claims
    assert claims is not None
    assert (claims["sub_claim"], claims["person"]["name"]) == (sub_claim, "Test Patient")
    names = ("product", "date", "number", "series", "country", "issuer")
    expected = [] if dose is None else [dict(zip(names, dose, strict=True))]
    assert claims["doses"] == expected


@pytest.mark.parametrize(
    ("sub_claim", "payload", "where"),
    [
        (-6, DVC | {"n": ""}, "n:"),
        (-6, DVC | {"dob": "soon"}, "dob:"),
        (-6, DVC | {"v": []}, "v:"),
        (-6, DVC | {"v": {"vp": "A", "dt": "2021-13-01", "is": "B"}}, "v/0/dt"),
        (-6, DVC | {"v": {"vp": "A", "dt": "2021-12-01"}}, "v/0/is"),
        (3, DDCC | {"vaccination": {}}, "vaccination/0/vaccine"),
        (3, {"name": "A"}, "vaccination"),
        (4, {"name": "A"}, "test"),
        (5, ["shlink:/abc"], "link"),
        (5, {"u": "shlink:/abc"}, "link"),
    ],
)
def test_contents_that_are_not_whole(sub_claim: int, payload: Any, where: str) -> None:
    verdict = signed(payload, sub_claim)
    assert (verdict.verdict, verdict.step) == (Outcome.SCHEMA_INVALID, Step.SCHEMA)
    assert where in verdict.detail


@pytest.mark.parametrize("sub_claim", [0, 2, -1, 260])
def test_a_content_that_is_not_known(sub_claim: int) -> None:
    verdict = signed(hcert.vaccination(), sub_claim)
    assert (verdict.verdict, verdict.step) == (Outcome.MALFORMED, Step.STRUCTURE)


def test_the_eu_s_certificate_comes_first() -> None:
    claims = hcert.make_claims(hcert.vaccination())
    claims[-260][-6] = DVC
    verdict = judge(hcert.pack(hcert.cose_sign1(SIGNER, claims)))
    assert verdict.is_valid
    assert verdict.claims is not None
    assert verdict.claims["hcert"]["ver"] == "1.3.0"


def test_containers() -> None:
    """Prefixes, compressions and envelopes around one good certificate."""
    parts = hcert.cose_sign1(SIGNER, hcert.make_claims(hcert.vaccination()))
    good = hcert.pack(parts)
    cose = cbor2.dumps(cbor2.CBORTag(18, parts))

    def body(data: bytes) -> str:
        return "HC1:" + hcert.base45(data)

    for code, expected, step in (
        (good, Outcome.VALID, None),
        ("\ufeff" + good + "\r\n", Outcome.VALID, None),
        (good[4:], Outcome.NOT_A_CERTIFICATE, Step.CONTAINER),
        ("HC0:" + good[4:], Outcome.NOT_A_CERTIFICATE, Step.CONTAINER),
        ("hc1:" + good[4:].lower(), Outcome.NOT_A_CERTIFICATE, Step.CONTAINER),
        ("HC1" + good[4:], Outcome.NOT_A_CERTIFICATE, Step.CONTAINER),
        ("HC1:" + good, Outcome.MALFORMED, Step.ENCODING),
        ("HC1:" + good[4:].lower(), Outcome.MALFORMED, Step.ENCODING),
        (good[:-1], Outcome.MALFORMED, None),
        (body(cose), Outcome.MALFORMED, Step.DECOMPRESSION),
        (body(gzip.compress(cose)), Outcome.MALFORMED, Step.DECOMPRESSION),
        (body(bz2.compress(cose)), Outcome.MALFORMED, Step.DECOMPRESSION),
        (body(zlib.compress(cose)[2:-4]), Outcome.MALFORMED, Step.DECOMPRESSION),
        (body(zlib.compress(cose) + b"\0"), Outcome.MALFORMED, Step.DECOMPRESSION),
        (body(zlib.compress(cose)[:-1]), Outcome.MALFORMED, Step.DECOMPRESSION),
        (body(zlib.compress(bytes(2_000_000))), Outcome.MALFORMED, Step.DECOMPRESSION),
        (body(zlib.compress(zlib.compress(cose))), Outcome.MALFORMED, Step.STRUCTURE),
        (body(zlib.compress(cose + b"\0")), Outcome.MALFORMED, Step.STRUCTURE),
        (body(zlib.compress(cbor2.dumps(parts))), Outcome.VALID, None),
        (body(zlib.compress(cbor2.dumps(cbor2.CBORTag(61, cbor2.CBORTag(18, parts))))), Outcome.VALID, None),
        (body(zlib.compress(cbor2.dumps(cbor2.CBORTag(98, parts)))), Outcome.MALFORMED, Step.STRUCTURE),
        (body(zlib.compress(cbor2.dumps(parts[:3]))), Outcome.MALFORMED, Step.STRUCTURE),
    ):
        verdict = judge(code)
        assert verdict.verdict is expected, (code[:20], verdict.detail)
        if expected is Outcome.MALFORMED and step is not None:
            assert verdict.step is step, (code[:20], verdict.detail)


def test_a_p_384_signer_and_a_weak_signature() -> None:
    signer = make_holder("P-384", ec.generate_private_key(ec.SECP384R1()))
    assert judge(hcert.make_hcert(signer, hcert.vaccination()), listed(signer)).is_valid
    parts = hcert.cose_sign1(SIGNER, hcert.make_claims(hcert.vaccination()))
    for signature in (b"", bytes(64), b"\xff" * 64, parts[3][:-1], parts[3] + b"\0", hashlib.sha512(b"").digest()):
        verdict = judge(hcert.pack([*parts[:3], signature]))
        assert (verdict.verdict, verdict.step) == (Outcome.BAD_SIGNATURE, Step.SIGNATURE)
