"""ICAO VDS-NC, made by independent code (script/vectors)."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from vectors import vdsnc
from vectors.signing import NOT_AFTER, NOT_BEFORE, NOW, Holder, b64url, make_holder

from printsvc.credential.outcome import Outcome, Step, Verdict
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat, KeyRing, TrustedKey
from printsvc.credential.verify import verify

CSCA = make_holder("CSCA Utopia", is_ca=True)
SIGNER = make_holder("Health signer", issuer=CSCA, usages=(vdsnc.SIGNER_USAGE,))
STRANGER = make_holder("CSCA Utopia", is_ca=True)
"""The same name with another key."""
FORGED = make_holder("Health signer", issuer=STRANGER, usages=(vdsnc.SIGNER_USAGE,))


def pin(*holders: Holder, is_anchor: bool = False) -> TrustList:
    keys = [
        TrustedKey(
            kid=hashlib.sha256(holder.der).hexdigest(),
            format=CredentialFormat.VDS_NC,
            public_key=holder.key.public_key(),
            not_before=NOT_BEFORE,
            not_after=NOT_AFTER,
            country="UT",
            certificate=holder.der,
            is_anchor=is_anchor,
        )
        for holder in holders
    ]
    return TrustList(1, NOW, (), KeyRing(tuple(keys)))


ANCHORED = pin(CSCA, is_anchor=True)


def judge(code: Any, trust: TrustList = ANCHORED, at: datetime = NOW) -> Verdict:
    return verify(code, trust=trust, at=at)


@pytest.mark.parametrize("trust", [ANCHORED, pin(SIGNER)], ids=["by its CSCA", "itself"])
def test_a_seal_under_a_pinned_key_is_valid(trust: TrustList) -> None:
    verdict = judge(vdsnc.make_vdsnc(SIGNER), trust)
    assert (verdict.verdict, verdict.format) == (Outcome.VALID, CredentialFormat.VDS_NC)
    assert verdict.claims is not None
    assert verdict.claims["person"] == {"name": "Smith Bill", "date_of_birth": "1990-01-02"}
    assert [(dose["product"], dose["number"], dose["date"], dose["country"]) for dose in verdict.claims["doses"]] == [
        ("Comirnaty", 1, "2021-03-03", "UTO"),
        ("Comirnaty", 2, "2021-03-24", "UTO"),
    ]
    assert verdict.claims["issuer"] == "UTO"
    assert verdict.claims["vds-nc"] == vdsnc.make_data()
    assert verdict.to_json()["signer"]["country"] == "UT"


def test_a_test_result_and_a_list_of_one_are_read() -> None:
    code = vdsnc.make_vdsnc(SIGNER, vdsnc.make_test_data())
    assert judge(code).is_valid
    assert judge(f"[{code}]").claims == judge(code).claims
    assert judge(code.encode()).is_valid


@pytest.mark.parametrize(("algorithm", "curve"), [("ES384", ec.SECP384R1()), ("ES512", ec.SECP521R1())])
def test_other_curves(algorithm: str, curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    signer = make_holder("Health signer", key, issuer=CSCA, usages=(vdsnc.SIGNER_USAGE,))
    assert judge(vdsnc.make_vdsnc(signer, algorithm=algorithm)).is_valid


def test_the_canonical_form_is_what_was_signed() -> None:
    """White space, order, escapes and the spelling of numbers do not matter; what they mean does."""
    data = vdsnc.make_data(opt="ré\u20ac\U0001f600")
    seal = vdsnc.make_seal(SIGNER, data)
    turned = {name: data[name] for name in reversed(data)}
    spellings = [
        json.dumps({"sig": seal, "data": turned}, indent=2),
        json.dumps({"data": data, "sig": seal}, ensure_ascii=False),
        json.dumps({"data": data, "sig": seal}).replace('"v": 1', '"v": 1.0'),
    ]
    claims = [judge(spelling).claims for spelling in spellings]
    assert all(judge(spelling).is_valid for spelling in spellings)
    assert claims[0] == claims[1] == claims[2]
    assert judge(json.dumps({"data": data, "sig": seal}).replace("1990", "1991")).verdict is Outcome.BAD_SIGNATURE


def test_the_certificate_in_the_code_decides_nothing() -> None:
    for code in (vdsnc.make_vdsnc(FORGED), vdsnc.make_vdsnc(STRANGER), vdsnc.make_vdsnc(make_holder("Self"))):
        assert judge(code).verdict is Outcome.UNKNOWN_SIGNER
        assert judge(code, TrustList(1, NOW, ())).verdict is Outcome.UNKNOWN_SIGNER
    document = json.loads(vdsnc.make_vdsnc(FORGED))
    document["sig"]["cer"] = b64url(SIGNER.der)
    verdict = judge(json.dumps(document))
    assert (verdict.verdict, verdict.step) == (Outcome.BAD_SIGNATURE, Step.SIGNATURE)


def test_who_a_csca_vouches_for() -> None:
    below = make_holder("Sub", issuer=SIGNER)
    authority = make_holder("Sub CA", issuer=CSCA, is_ca=True)
    passports = make_holder("Passports", issuer=CSCA, usages=("2.23.136.1.1.14.1",))
    unmarked = make_holder("Unmarked", issuer=CSCA)
    rsa_key = make_holder("RSA", rsa.generate_private_key(65537, 2048), issuer=CSCA)
    assert judge(vdsnc.make_vdsnc(below)).verdict is Outcome.UNKNOWN_SIGNER
    assert judge(vdsnc.make_vdsnc(authority)).verdict is Outcome.UNKNOWN_SIGNER
    assert judge(vdsnc.make_vdsnc(CSCA)).verdict is Outcome.UNKNOWN_SIGNER
    assert judge(vdsnc.make_vdsnc(passports)).verdict is Outcome.WRONG_KEY_USAGE
    assert judge(vdsnc.make_vdsnc(unmarked)).is_valid
    assert judge(vdsnc.make_vdsnc(rsa_key)).verdict is Outcome.BAD_SIGNATURE


def test_a_csca_with_an_rsa_key_among_many() -> None:
    authority = make_holder("RSA CSCA", rsa.generate_private_key(65537, 2048), is_ca=True)
    signer = make_holder("Signer", issuer=authority)
    namesake = make_holder("RSA CSCA", is_ca=True)
    assert judge(vdsnc.make_vdsnc(signer), pin(CSCA, STRANGER, namesake, authority, is_anchor=True)).is_valid
    assert judge(vdsnc.make_vdsnc(signer), pin(CSCA, namesake, is_anchor=True)).verdict is Outcome.UNKNOWN_SIGNER


def test_times_are_the_signers() -> None:
    short = make_holder("Short", issuer=CSCA, not_after=NOW + timedelta(days=1))
    code = vdsnc.make_vdsnc(short)
    assert judge(code).is_valid
    assert judge(code, at=NOW + timedelta(days=2)).verdict is Outcome.SIGNER_EXPIRED
    long = make_holder("Long", issuer=CSCA, not_after=datetime(2041, 1, 1, tzinfo=UTC))
    assert judge(vdsnc.make_vdsnc(long), at=datetime(2035, 1, 1, tzinfo=UTC)).verdict is Outcome.SIGNER_EXPIRED


@pytest.mark.parametrize("algorithm", ["none", "HS256", "PS256", "ES256 "])
def test_other_algorithms_are_refused(algorithm: str) -> None:
    document = json.loads(vdsnc.make_vdsnc(SIGNER))
    document["sig"]["alg"] = algorithm
    assert judge(json.dumps(document)).verdict is Outcome.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (vdsnc.make_data() | {"hdr": {"t": "icao.other", "v": 1, "is": "UTO"}}, "hdr/t"),
        (vdsnc.make_data() | {"hdr": {"t": "icao.vacc", "v": 2, "is": "UTO"}}, "hdr/v"),
        (vdsnc.make_data() | {"hdr": {"t": "icao.vacc", "v": 1}}, "hdr/is"),
        (vdsnc.make_data(pid={}), "msg/pid/n"),
        (vdsnc.make_data(pid={"n": "A", "dob": "then"}), "msg/pid/dob"),
        (vdsnc.make_data(uvci=""), "msg/uvci"),
        (vdsnc.make_data(ve=[]), "msg/ve"),
        (vdsnc.make_data(ve=[{"vd": []}]), "msg/ve/0"),
        (vdsnc.make_data(ve=[{"des": "A", "vd": [{"dvc": 5}]}]), "msg/ve/0/vd/0/dvc"),
        ({"hdr": {"t": "icao.test", "v": 1, "is": "UTO"}, "msg": {"pid": {"n": "A"}}}, "msg/utci"),
    ],
)
def test_content_that_is_no_proof(data: dict[str, Any], where: str) -> None:
    verdict = judge(vdsnc.make_vdsnc(SIGNER, data))
    assert (verdict.verdict, verdict.step) == (Outcome.SCHEMA_INVALID, Step.SCHEMA)
    assert where in verdict.detail


GOOD = json.loads(vdsnc.make_vdsnc(SIGNER))


def changed(**seal: Any) -> str:
    return json.dumps(GOOD | {"sig": GOOD["sig"] | seal})


@pytest.mark.parametrize(
    ("code", "step"),
    [
        ('{"sigvl"', Step.STRUCTURE),
        ('{"sigvl":1}', Step.STRUCTURE),
        ("[" * 4_000 + '"icao.vacc"', Step.STRUCTURE),
        (json.dumps(GOOD)[:-1], Step.STRUCTURE),
        (json.dumps(GOOD) + "}", Step.STRUCTURE),
        (json.dumps(GOOD).replace('"v": 1', '"v": 1, "v": 1'), Step.STRUCTURE),
        (json.dumps(GOOD).replace('"v": 1', '"v": 1e999'), Step.STRUCTURE),
        (json.dumps(GOOD).replace('"v": 1', '"v": NaN'), Step.STRUCTURE),
        (json.dumps(GOOD).replace('"v": 1', '"v": 9007199254740993'), Step.STRUCTURE),
        (json.dumps(GOOD).replace('"v": 1', '"v": "\\ud800"'), Step.STRUCTURE),
        (json.dumps(GOOD | {"data": {"hdr": [], "msg": {}}}), Step.STRUCTURE),
        (json.dumps([GOOD, GOOD]), Step.STRUCTURE),
        (json.dumps(GOOD) + " " * 10_000 + "1", Step.CONTAINER),
        (changed(sigvl=5), Step.STRUCTURE),
        (changed(sigvl="*"), Step.ENCODING),
        (changed(cer="A"), Step.ENCODING),
        (changed(cer=b64url(bytes(5_000))), Step.STRUCTURE),
        (changed(cer=None), Step.STRUCTURE),
    ],
)
def test_damaged_seals(code: str, step: Step) -> None:
    verdict = judge(code)
    assert (verdict.verdict, verdict.step, verdict.format) == (Outcome.MALFORMED, step, CredentialFormat.VDS_NC)
    assert verdict.detail != verdict.detail_vi


def test_signatures_and_certificates_of_nonsense() -> None:
    for seal in ({"sigvl": ""}, {"sigvl": b64url(bytes(64))}, {"sigvl": b64url(b"\xff" * 64)}, {"sigvl": b64url(b"A")}):
        assert judge(changed(**seal)).verdict is Outcome.BAD_SIGNATURE
    for certificate in (b"", b"A", SIGNER.der[:-1], SIGNER.der + b"\0", CSCA.der):
        assert judge(changed(cer=b64url(certificate))).verdict is Outcome.UNKNOWN_SIGNER
