from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from printsvc.credential.cose import Algorithm, signature_agrees
from printsvc.credential.dsc import Usage, read_dsc
from printsvc.credential.keys import (
    CSCA_VALIDITY,
    DSC_VALIDITY,
    LocalSigner,
    issued_by,
    kid_of,
    make_csca,
    make_dsc,
    make_private_key,
    open_private_key,
    seal_private_key,
)
from printsvc.errors import SigningError


def dsc(country: Any, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "csca": country.csca,
        "csca_key": country.csca_key,
        "organisation": "MOH",
        "common_name": "DSC",
        "serial": 9,
        "now": country.now,
    }
    return make_dsc(make_private_key().public_key(), **(arguments | changes))


def test_csca_signs_certificates_and_nothing_else(country: Any) -> None:
    authority = x509.load_der_x509_certificate(country.csca)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.not_valid_after_utc - authority.not_valid_before_utc == CSCA_VALIDITY
    assert issued_by(country.csca, country.csca)


def test_dsc(country: Any) -> None:
    der = dsc(country)
    certificate = x509.load_der_x509_certificate(der)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (False, True)
    extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in extended] == ["1.3.6.1.4.1.1847.2021.1.2"]
    assert certificate.subject.get_attributes_for_oid(NameOID.COUNTRY_NAME)[0].value == "VN"
    assert issued_by(der, country.csca)
    read = read_dsc(der)
    assert (read.country, read.usages, read.kid) == ("VN", {Usage.VACCINATION}, kid_of(der))
    assert read.not_after == country.now + DSC_VALIDITY


def test_another_authority_did_not_issue_it(country: Any) -> None:
    key = make_private_key()
    other = make_csca(key, country="VN", organisation="MOH", common_name="CSCA VN", serial=1, now=country.now)
    assert not issued_by(dsc(country), other)
    with pytest.raises(SigningError):
        dsc(country, csca_key=key)


def test_a_dsc_stays_inside_its_csca(country: Any) -> None:
    authority_end = country.now + CSCA_VALIDITY
    late = read_dsc(dsc(country, now=authority_end - timedelta(days=100)))
    assert late.not_after == authority_end
    for now in (authority_end, country.now - timedelta(seconds=1)):
        with pytest.raises(SigningError):
            dsc(country, now=now)
    with pytest.raises(SigningError):
        dsc(country, validity=DSC_VALIDITY + timedelta(days=1))


def test_kid_is_the_head_of_the_digest(country: Any) -> None:
    assert country.signer.kid == kid_of(country.signer.certificate)
    assert len(country.signer.kid) == 8
    assert kid_of(b"") == bytes.fromhex("e3b0c44298fc1c14")


def test_signatures(country: Any) -> None:
    for signer, length in ((country.signer, 64), (country.rsa_signer, 384)):
        key = read_dsc(signer.certificate).public_key
        signature = signer.sign(b"data")
        assert len(signature) == length
        assert signature_agrees(key, signer.algorithm, signature, b"data")
        assert not signature_agrees(key, signer.algorithm, signature, b"Data")
    assert country.signer.sign(b"data") == country.signer.sign(b"data")


def test_a_signer_needs_its_own_key(country: Any) -> None:
    with pytest.raises(SigningError):
        LocalSigner(country.signer.certificate, make_private_key())


def test_a_key_does_not_show_itself(country: Any) -> None:
    assert "private_key" not in repr(country.signer)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_sealed_keys(algorithm: Algorithm) -> None:
    key = make_private_key(algorithm)
    sealed = seal_private_key(key, b"correct horse")
    assert b"ENCRYPTED" in sealed
    assert open_private_key(sealed, b"correct horse").private_numbers() == key.private_numbers()
    for passphrase in (b"wrong", b""):
        with pytest.raises(SigningError) as caught:
            open_private_key(sealed, passphrase)
        assert caught.value.code == "signer_locked"


def test_keys_that_are_refused() -> None:
    plain = make_private_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    other_curve = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"p")
    )
    for sealed in (plain, other_curve, b"", b"nonsense"):
        with pytest.raises(SigningError):
            open_private_key(sealed, b"p")
    with pytest.raises(SigningError):
        seal_private_key(make_private_key(), b"")
