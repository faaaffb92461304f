from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from printsvc.credential.base45 import ALPHABET, encode_base45, parse_base45
from printsvc.credential.batch import parse_instant, verify_line
from printsvc.credential.cbor import encode_cbor
from printsvc.credential.cose import Algorithm, encode_to_be_signed
from printsvc.credential.dsc import Dsc, Kid, Usage, read_dsc
from printsvc.credential.hcert import decode_hcert
from printsvc.credential.keys import LocalSigner, make_dsc, make_private_key
from printsvc.credential.revocation import RevocationSubject, Revoked
from printsvc.credential.trust import TrustList, make_trust_list
from printsvc.credential.verify import CLOCK_SKEW, Outcome, Verdict, verify
from printsvc.domain.revocation import RevocationReason
from printsvc.errors import StoreError

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
LATER = timedelta(days=30)


def parts(code: str) -> list[Any]:
    return list(cbor2.loads(zlib.decompress(parse_base45(code[4:]))).value)


def join(values: list[Any]) -> str:
    return "HC1:" + encode_base45(zlib.compress(cbor2.dumps(cbor2.CBORTag(18, values))))


def outcome(country: Any, code: Any, **changes: Any) -> Outcome:
    return verdict_on(country, code, **changes).verdict


def verdict_on(country: Any, code: Any, **changes: Any) -> Verdict:
    return verify(code, **({"trust": country.trust, "at": country.now + LATER} | changes))


def new_dsc(country: Any, **changes: Any) -> LocalSigner:
    key = make_private_key()
    der = make_dsc(
        key.public_key(),
        **(
            {
                "csca": country.csca,
                "csca_key": country.csca_key,
                "organisation": "MOH",
                "common_name": "DSC",
                "serial": 77,
                "now": country.now,
            }
            | changes
        ),
    )
    return LocalSigner(der, key)


def test_valid(country: Any) -> None:
    for signer in (country.signer, country.rsa_signer):
        verdict = verdict_on(country, country.issue(signer=signer))
        assert verdict.is_valid
        assert verdict.signer is not None
        assert verdict.signer.kid == signer.kid
        assert verdict.claims == {
            "issuer": "VN",
            "issued_at": "2021-10-30T02:12:00Z",
            "expires_at": "2022-10-30T02:12:00Z",
            "kid": base64.b64encode(signer.kid).decode(),
            "person": {"name": "NGUYỄN THỊ MINH KHAI", "date_of_birth": "1985-04-12"},
            "doses": [
                {
                    "product": "EU/1/20/1528",
                    "date": "2021-10-30",
                    "number": 2,
                    "series": 2,
                    "country": "VN",
                    "issuer": "Bộ Y tế",
                }
            ],
            "hcert": country.payload,
        }
        assert (verdict.step, verdict.format) == (None, "hcert")
        assert json.loads(json.dumps(verdict.to_json()))["verdict"] == "valid"


def test_every_outcome_is_worded_in_both_languages(country: Any) -> None:
    assert {verdict.value for verdict in Outcome} == {
        "valid", "expired", "not_yet_valid", "bad_signature", "unknown_signer", "signer_expired", "wrong_key_usage",
        "revoked", "schema_invalid", "malformed", "not_a_certificate",
    }  # fmt: skip
    for code in (country.issue(), country.issue({}), "HC1:", "x"):
        verdict = verdict_on(country, code)
        assert verdict.detail
        assert verdict.detail_vi
        assert verdict.detail != verdict.detail_vi


def test_times(country: Any) -> None:
    code = country.issue()
    end = country.now + timedelta(days=365)
    second = timedelta(seconds=1)
    for at, expected in (
        (country.now - CLOCK_SKEW - second, Outcome.NOT_YET_VALID),
        (country.now - CLOCK_SKEW, Outcome.VALID),
        (country.now, Outcome.VALID),
        (end, Outcome.VALID),
        (end + second, Outcome.EXPIRED),
        (datetime.max.replace(tzinfo=UTC), Outcome.EXPIRED),
        (datetime.min.replace(tzinfo=UTC), Outcome.NOT_YET_VALID),
    ):
        assert outcome(country, code, at=at) is expected, at


def signed(country: Any, claims: dict[int, Any], header: dict[int, Any] | None = None) -> str:
    """Sign claims that the service itself would not."""
    protected = encode_cbor({1: -7, 4: country.signer.kid} if header is None else header)
    payload = encode_cbor(claims)
    return join([protected, {}, payload, country.signer.sign(encode_to_be_signed(protected, payload))])


def test_signer_expired(country: Any) -> None:
    after = country.signer.not_after + timedelta(days=1)
    claims = {1: "VN", 6: int(country.now.timestamp()), 4: int((after + LATER).timestamp()), -260: {1: country.payload}}
    assert outcome(country, signed(country, claims), at=after) is Outcome.SIGNER_EXPIRED
    assert outcome(country, signed(country, claims), at=after - timedelta(days=2)) is Outcome.VALID


def test_a_certificate_without_an_end_has_ended(country: Any) -> None:
    claims = {1: "VN", 6: int(country.now.timestamp()), -260: {1: country.payload}}
    assert outcome(country, signed(country, claims)) is Outcome.EXPIRED


def test_key_usage(country: Any) -> None:
    signer = new_dsc(country, usages=[Usage.TEST, Usage.RECOVERY])
    trust = make_trust_list([signer.certificate], version=1, made_at=country.now)
    assert outcome(country, country.issue(signer=signer), trust=trust) is Outcome.WRONG_KEY_USAGE


class Book:
    """Revocations of these UVCIs; `asked` are the subjects that came."""

    def __init__(self, *uvcis: str, answer: Revoked | None = None) -> None:
        self.uvcis, self.answer = uvcis, answer or Revoked()
        self.asked: list[RevocationSubject] = []

    def find(self, subject: RevocationSubject) -> Revoked | None:
        self.asked.append(subject)
        return self.answer if set(subject.uvcis) & set(self.uvcis) else None


def test_revocation_is_asked_only_for_genuine_certificates(country: Any) -> None:
    uvci = country.payload["v"][0]["ci"]
    book = Book(uvci)
    code = country.issue()
    assert outcome(country, code, revocations=book) is Outcome.REVOKED
    (subject,) = book.asked
    assert (subject.country, subject.uvcis, subject.kid) == ("VN", (uvci,), country.signer.kid)
    assert subject.algorithm is Algorithm.ES256
    assert outcome(country, code, revocations=Book("URN:UVCI:01:VN:OTHER")) is Outcome.VALID
    values = parts(code)
    values[3] = bytes(64)
    assert outcome(country, join(values), revocations=book) is Outcome.BAD_SIGNATURE
    assert len(book.asked) == 1


def test_a_revoked_certificate_says_since_when_and_why(country: Any) -> None:
    answer = Revoked(country.now, RevocationReason.FRAUD)
    verdict = verdict_on(country, country.issue(), revocations=Book(country.payload["v"][0]["ci"], answer=answer))
    assert verdict.detail.endswith("Since 2021-10-30 (UTC). Fraud.")
    assert verdict.detail_vi.endswith("Từ ngày 30/10/2021 (UTC). Gian lận.")
    told = verdict.to_json()["revocation"]
    assert (told["revoked_at"], told["reason"], told["certain"]) == ("2021-10-30T02:12:00Z", "fraud", True)
    assert "revocation" not in verdict_on(country, country.issue()).to_json()


def test_could_not_ask_is_not_not_revoked(country: Any) -> None:
    class Broken:
        def find(self, subject: RevocationSubject) -> Revoked | None:
            raise StoreError("away")

    with pytest.raises(StoreError):
        verdict_on(country, country.issue(), revocations=Broken())


def test_schema(country: Any) -> None:
    verdict = verdict_on(country, country.issue(country.payload | {"dob": "1815-08-24", "ver": 5}))
    assert (verdict.verdict, verdict.step) == (Outcome.SCHEMA_INVALID, "schema")
    assert "dob" in verdict.detail
    assert "dob" in verdict.detail_vi


# Who signed: the pinned list decides.


def test_unknown_signer(country: Any) -> None:
    attacker = new_dsc(country)
    verdict = verdict_on(country, country.issue(signer=attacker))
    assert verdict.verdict is Outcome.UNKNOWN_SIGNER
    assert verdict.claims is not None
    assert outcome(country, country.issue(), trust=TrustList(0, country.now, ())) is Outcome.UNKNOWN_SIGNER


def test_an_attacker_s_key_under_a_trusted_kid(country: Any) -> None:
    key = make_private_key()

    class Attacker:
        kid = country.signer.kid
        algorithm = Algorithm.ES256
        certificate = b""
        not_after = country.signer.not_after

        def sign(self, data: bytes) -> bytes:
            return LocalSigner(new_dsc_for(country, key), key).sign(data)

    assert outcome(country, country.issue(signer=Attacker())) is Outcome.BAD_SIGNATURE


def new_dsc_for(country: Any, key: Any) -> bytes:
    return make_dsc(
        key.public_key(), csca=country.csca, csca_key=country.csca_key, organisation="A", common_name="A", serial=5,
        now=country.now,
    )  # fmt: skip


def test_a_certificate_carried_in_the_header_is_not_looked_at(country: Any) -> None:
    attacker = new_dsc(country)
    values = parts(country.issue(signer=attacker))
    values[1] = {33: attacker.certificate}  # x5chain, RFC 9360
    assert outcome(country, join(values)) is Outcome.UNKNOWN_SIGNER


def test_every_signer_of_a_kid_is_tried(country: Any) -> None:
    def named(der: bytes) -> Dsc:
        return read_dsc(der, Kid(country.signer.kid))

    stranger = new_dsc(country)
    narrow = make_dsc(
        country.signer.private_key.public_key(),
        csca=country.csca,
        csca_key=country.csca_key,
        organisation="MOH",
        common_name="DSC",
        serial=78,
        now=country.now,
        usages=[Usage.TEST],
    )
    ders = [stranger.certificate, country.rsa_signer.certificate, narrow, country.signer.certificate]
    trust = TrustList(1, country.now, tuple(map(named, ders)))
    verdict = verdict_on(country, country.issue(), trust=trust)
    assert verdict.is_valid
    assert verdict.signer is not None
    assert verdict.signer.der == country.signer.certificate


@pytest.mark.parametrize("algorithm", [0, "none", None, 5, 4, -35, -36, -8, -65535])
def test_algorithms_that_are_refused(country: Any, algorithm: Any) -> None:
    """None, HMAC with the public key as its secret, and the other curves: the header does not choose."""
    claims = {1: "VN", 6: 1, 4: 2**32, -260: {1: country.payload}}
    header = {1: algorithm, 4: country.signer.kid}
    protected, payload = encode_cbor(header), encode_cbor(claims)
    mac = hmac.HMAC(country.signer.certificate, hashes.SHA256())
    mac.update(encode_to_be_signed(protected, payload))
    for signature in (b"", mac.finalize(), country.signer.sign(encode_to_be_signed(protected, payload))):
        assert outcome(country, join([protected, {}, payload, signature])) is Outcome.BAD_SIGNATURE


def test_an_algorithm_in_the_unprotected_header_alone_is_refused(country: Any) -> None:
    protected = encode_cbor({4: country.signer.kid})
    payload = encode_cbor({1: "VN", 6: 1, 4: 2**32, -260: {1: country.payload}})
    signature = country.signer.sign(encode_to_be_signed(protected, payload))
    assert outcome(country, join([protected, {1: -7}, payload, signature])) is Outcome.BAD_SIGNATURE


def test_an_algorithm_of_another_key_kind_is_refused(country: Any) -> None:
    protected = encode_cbor({1: int(Algorithm.PS256), 4: country.signer.kid})
    payload = encode_cbor({1: "VN", 6: 1, 4: 2**32, -260: {1: country.payload}})
    signature = country.signer.sign(encode_to_be_signed(protected, payload))
    assert outcome(country, join([protected, {}, payload, signature])) is Outcome.BAD_SIGNATURE


def test_a_mirrored_signature_is_the_same_certificate(country: Any) -> None:
    """(r, n - s) agrees as well: so nothing may tell certificates apart by their signature."""
    code = country.issue()
    values = parts(code)
    r, s = values[3][:32], int.from_bytes(values[3][32:], "big")
    values[3] = r + (P256_ORDER - s).to_bytes(32, "big")
    mirrored = join(values)
    assert mirrored != code
    one, two = verdict_on(country, code), verdict_on(country, mirrored)
    assert one.is_valid
    assert (one.verdict, one.claims) == (two.verdict, two.claims)
    assert decode_hcert(code).cose.signature[:32] == decode_hcert(mirrored).cose.signature[:32]


def test_swapped_parts(country: Any) -> None:
    one = parts(country.issue())
    two = parts(country.issue(country.payload | {"dob": "1990-01-01"}))
    assert outcome(country, join([one[0], {}, two[2], one[3]])) is Outcome.BAD_SIGNATURE
    assert outcome(country, join([one[0], {}, one[2], two[3]])) is Outcome.BAD_SIGNATURE
    other = parts(country.issue(signer=country.rsa_signer))
    assert outcome(country, join([other[0], {}, one[2], one[3]])) is Outcome.BAD_SIGNATURE


# Anything is a verdict.


@pytest.mark.parametrize("code", [None, 5, b"HC1", [], {}, "", "\x00", "\ud800", "HC1", "https://example.org/HC1:"])
def test_what_is_no_certificate(country: Any, code: Any) -> None:
    assert outcome(country, code) is Outcome.NOT_A_CERTIFICATE


@pytest.mark.parametrize(
    "code", ["HC1:", b"HC1:\xff", "HC1:\ud800", "HC1:" + "A" * 5_000_000, "HC1:NCF", "HC1:GGW", "HC1:é"]
)
def test_what_is_a_broken_certificate(country: Any, code: str) -> None:
    assert outcome(country, code) is Outcome.MALFORMED


@given(st.text() | st.text(ALPHABET).map("HC1:".__add__) | st.binary(max_size=300).map(lambda b: join([b, {}, b, b])))
def test_any_text_is_a_verdict(country: Any, code: str) -> None:
    assert outcome(country, code) is not Outcome.VALID


@settings(max_examples=400)
@given(st.data())
def test_an_altered_code_never_says_something_else(country: Any, data: st.DataObject) -> None:
    """Bytes changed anywhere between the text and the claims: refused, or the same claims."""
    code = country.issue()
    layer = data.draw(st.sampled_from(["text", "compressed", "envelope"]))
    if layer == "text":
        altered = bytearray(code, "ascii")
        altered[data.draw(st.integers(4, len(altered) - 1))] = ord(data.draw(st.sampled_from(ALPHABET)))
        changed = altered.decode("ascii")
    else:
        raw = parse_base45(code[4:])
        altered = bytearray(raw if layer == "compressed" else zlib.decompress(raw))
        for _ in range(data.draw(st.integers(1, 3))):
            altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
        changed = "HC1:" + encode_base45(bytes(altered) if layer == "compressed" else zlib.compress(bytes(altered)))
    verdict = verdict_on(country, changed)
    if verdict.is_valid:
        assert verdict.claims == verdict_on(country, code).claims
    json.dumps(verdict.to_json())


# Batches.


def line(country: Any, **fields: Any) -> dict[str, Any]:
    return verify_line(json.dumps(fields), trust=country.trust, now=country.now + LATER)


def test_lines(country: Any) -> None:
    code = country.issue()
    answer = line(country, id="a", code=code)
    assert answer.keys() >= {"id", "verdict", "detail", "claims"}
    assert (answer["id"], answer["verdict"], answer["claims"]["hcert"]) == ("a", "valid", country.payload)
    assert line(country, id=7, code=code, at="2023-01-01T00:00:00+07:00")["verdict"] == "expired"
    assert line(country, id=None, code=code, at=0)["verdict"] == "not_yet_valid"
    nothing = line(country, code="hello")
    found = (nothing["id"], nothing["verdict"], nothing["step"], nothing["format"])
    assert found == (None, "not_a_certificate", "container", None)
    assert "claims" not in nothing


def test_the_certificates_of_a_line_are_its_whole_trust_list(country: Any) -> None:
    other = new_dsc(country)
    code, theirs = country.issue(), country.issue(signer=other)
    given_list = [base64.b64encode(other.certificate).decode()]
    assert line(country, code=theirs)["verdict"] == "unknown_signer"
    assert line(country, code=theirs, certificates=given_list)["verdict"] == "valid"
    assert line(country, code=code, certificates=given_list)["verdict"] == "unknown_signer"
    assert line(country, code=code, certificates=[])["verdict"] == "unknown_signer"
    assert line(country, code=theirs, certificates=["?", 5, "AAAA", *given_list])["verdict"] == "valid"


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "[]", "5", "null", "{}", '{"id": 1', '{"id": NaN, "code": ""}', "[" * 100_000, "\ud800",
        '{"code": "HC1:", "certificates": 5}', '{"id": 1e999}',
        '{"code": "HC1:", "at": "soon"}', '{"code": "HC1:", "at": [1]}',
        '{"code": "HC1:", "at": 1e300}', '{"code": "HC1:", "at": true}', '{"id": [[]], "at": 1}',
        '{"id": ' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_a_line_of_nonsense_is_malformed(country: Any, text: str) -> None:
    answer = verify_line(text, trust=country.trust, now=country.now)
    assert (answer["id"], answer["verdict"]) == (None, "malformed")
    assert answer["detail"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(["id", "code", "at", "certificates"]), JSON) | st.text())
def test_any_line_is_a_verdict(country: Any, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    answer = verify_line(text, trust=country.trust, now=country.now)
    assert json.loads(json.dumps(answer, allow_nan=False))["verdict"] in {outcome.value for outcome in Outcome}


def test_certificates_as_other_programs_write_them(country: Any) -> None:
    other = new_dsc(country)
    code, der = country.issue(signer=other), other.certificate
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()
    plain, broken = base64.b64encode(der).decode(), base64.encodebytes(der).decode()
    for text in (pem, pem.replace("\n", "\r\n"), broken, f" {plain} "):
        assert line(country, code=code, certificates=[text])["verdict"] == "valid"


def test_a_certificate_that_cannot_be_read_is_named(country: Any) -> None:
    answer = line(
        country,
        code=country.issue(),
        certificates=["AAAA", base64.b64encode(country.signer.certificate).decode(), None],
    )
    assert answer["verdict"] == "valid"
    other = base64.b64encode(new_dsc(country).certificate).decode()
    answer = line(country, code=country.issue(), certificates=[other, "AAAA", None])
    assert answer["verdict"] == "unknown_signer"
    for detail in (answer["detail"], answer["detail_vi"]):
        assert "certificates/1, certificates/2" in detail
        assert "certificates/0" not in detail
    many = line(country, code=country.issue(), certificates=["AAAA"] * 900)
    assert len(many["detail"]) < 300


def test_a_byte_order_mark_before_a_line(country: Any) -> None:
    text = "\ufeff" + json.dumps({"id": "first", "code": country.issue()})
    answer = verify_line(text, trust=country.trust, now=country.now + LATER)
    assert (answer["id"], answer["verdict"]) == ("first", "valid")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2021-06-09T18:33:10.0361019+03", datetime(2021, 6, 9, 15, 33, 10, 36101, UTC)),
        ("2021-05-30T13:38:49", datetime(2021, 5, 30, 13, 38, 49, tzinfo=UTC)),
        ("2021-06-09T15:15:36+0200", datetime(2021, 6, 9, 13, 15, 36, tzinfo=UTC)),
        ("2021-05-30t13:38:49z", datetime(2021, 5, 30, 13, 38, 49, tzinfo=UTC)),
        (1622382000, datetime(2021, 5, 30, 13, 40, tzinfo=UTC)),
    ],
)
def test_points_in_time(value: Any, expected: datetime) -> None:
    assert parse_instant(value) == expected
