"""Our own list with its signature: who believes it, and who does not any more."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from printsvc.credential.dsc import read_dsc
from printsvc.credential.keys import Algorithm, LocalSigner, make_csca, make_private_key
from printsvc.credential.trust import make_trust_list
from printsvc.credential.trustimport import ListFile, ListFormat, Pins, read_list
from printsvc.credential.trustsigned import CLOCK_SKEW, FRESH_FOR, make_list_signer, read_signed_list, sign_trust_list
from printsvc.errors import InputError, SigningError


@pytest.fixture(scope="module")
def signer(country: Any) -> LocalSigner:
    key = make_private_key()
    certificate = make_list_signer(
        key.public_key(), csca=country.csca, csca_key=country.csca_key, serial=9, now=country.now
    )
    return LocalSigner(certificate, key)


@pytest.fixture(scope="module")
def signed(country: Any, signer: LocalSigner) -> bytes:
    return sign_trust_list(country.trust, signer, now=country.now).encode()


def refused(*arguments: Any, **named: Any) -> list[tuple[str, str]]:
    with pytest.raises(InputError) as caught:
        read_signed_list(*arguments, **named)
    assert all(p.vi != p.en for p in caught.value.problems)
    return [(p.pointer, p.code) for p in caught.value.problems]


def parts(jws: bytes) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)) for part in jws.split(b".")]


def test_it_is_a_jws_that_other_code_verifies(country: Any, signer: LocalSigner, signed: bytes) -> None:
    header, payload, signature = parts(signed)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    key = signer.private_key.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(encode_dss_signature(r, s), signed.rpartition(b".")[0], ec.ECDSA(hashes.SHA256()))
    assert json.loads(header)["alg"] == "ES256"
    body = json.loads(payload)
    assert {name: body[name] for name in country.trust.to_json()} == country.trust.to_json()
    assert (body["issued_at"], body["expires_at"]) == ("2021-10-30T02:12:00Z", "2021-11-01T02:12:00Z")


def test_who_pinned_the_authority_or_the_signer_believes_it(country: Any, signer: LocalSigner, signed: bytes) -> None:
    for pin in (country.csca, signer.certificate):
        read = read_signed_list(signed, pins=[pin], now=country.now)
        assert read.trust == country.trust
        assert read.signer == signer.certificate
    other = make_csca(
        make_private_key(), country="VN", organisation="MOH", common_name="CSCA VN", serial=1, now=country.now
    )
    assert refused(signed, pins=[other], now=country.now) == [("/x5c/0", "signature_invalid")]
    assert refused(signed, pins=[], now=country.now) == [("", "pin_needed")]


def test_a_signer_of_certificates_signs_no_list(country: Any) -> None:
    jws = sign_trust_list(country.trust, country.signer, now=country.now).encode()
    assert refused(jws, pins=[country.csca], now=country.now) == [("/x5c/0", "signature_invalid")]
    usages = read_dsc(country.signer.certificate).usages
    assert usages, "and a list signer is no DSC: its usage is its own"


def test_a_list_by_rsa(country: Any) -> None:
    key = make_private_key(Algorithm.PS256)
    certificate = make_list_signer(
        key.public_key(), csca=country.csca, csca_key=country.csca_key, serial=9, now=country.now
    )
    jws = sign_trust_list(country.trust, LocalSigner(certificate, key), now=country.now).encode()
    assert read_signed_list(jws, pins=[country.csca], now=country.now).trust == country.trust


def test_an_older_version_a_stale_list_and_one_from_the_future_are_refused(country: Any, signed: bytes) -> None:
    pins, now = [country.csca], country.now
    assert read_signed_list(signed, pins=pins, now=now, known_version=1).trust.version == 1
    assert refused(signed, pins=pins, now=now, known_version=2) == [("/version", "rollback")]
    assert read_signed_list(signed, pins=pins, now=now + FRESH_FOR).trust.version == 1
    assert refused(signed, pins=pins, now=now + FRESH_FOR + timedelta(seconds=1)) == [("/expires_at", "stale")]


def test_a_clock_that_is_a_little_slow_is_forgiven(country: Any, signer: LocalSigner) -> None:
    jws = sign_trust_list(country.trust, signer, now=country.now + timedelta(hours=1)).encode()
    early = country.now + timedelta(hours=1) - CLOCK_SKEW
    assert read_signed_list(jws, pins=[country.csca], now=early).trust == country.trust
    late = early - timedelta(seconds=1)
    assert refused(jws, pins=[country.csca], now=late) == [("/issued_at", "not_yet_valid")]


def test_an_expired_signer_signs_nothing_more(country: Any, signer: LocalSigner) -> None:
    later = signer.not_after + timedelta(seconds=1)
    jws = sign_trust_list(country.trust, signer, now=later).encode()
    assert refused(jws, pins=[country.csca], now=later) == [("/x5c/0", "stale")]


@pytest.mark.parametrize("raw", [b"", b"a.b", b"a.b.c.d", b"\xff.a.b", b"e30.e30.AAAA", b"W10.e30.AAAA", b"{}.{}.{}"])
def test_what_is_no_list(country: Any, raw: bytes) -> None:
    assert refused(raw, pins=[country.csca], now=country.now)


def test_algorithm_none_is_no_signature(country: Any, signed: bytes) -> None:
    payload = signed.split(b".")[1]
    changed = json.loads(parts(signed)[0]) | {"alg": "none"}
    head = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=")
    assert refused(head + b"." + payload + b".", pins=[country.csca], now=country.now) == [("/alg", "not_a_list")]


@pytest.mark.filterwarnings("ignore:Parsed a serial number", "ignore:Attribute's length must be")
@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 2**32), difference=st.integers(1, 255))
def test_a_damaged_list_is_refused(country: Any, signed: bytes, place: int, difference: int) -> None:
    damaged = bytearray(signed)
    damaged[place % len(signed)] ^= difference
    try:
        read = read_signed_list(bytes(damaged), pins=[country.csca], now=country.now)
    except InputError:
        return
    assert read.trust == country.trust, "only bits of base64 that nobody reads may differ"


def test_another_service_imports_it(country: Any, signed: bytes) -> None:
    file = ListFile(ListFormat.PRINTSVC, signed, Pins(signers=(country.csca,)))
    read = read_list(file, now=country.now)
    assert [key.certificate for key in read.keys] == [dsc.der for dsc in country.trust.certificates]
    assert (read.version, read.made_at) == (1, country.now)


def test_a_list_signer_needs_its_authority(country: Any) -> None:
    key = make_private_key()
    named: dict[str, Any] = {"csca": country.csca, "csca_key": country.csca_key, "serial": 9, "now": country.now}
    with pytest.raises(SigningError):
        make_list_signer(key.public_key(), **(named | {"csca_key": key}))
    with pytest.raises(SigningError):
        make_list_signer(key.public_key(), **(named | {"now": country.now - timedelta(days=1)}))
    made = x509.load_der_x509_certificate(make_list_signer(key.public_key(), **named))
    assert not made.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert make_trust_list([country.signer.certificate], version=1, made_at=country.now).certificates
