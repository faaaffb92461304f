"""The published Vietnamese sample and national signer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from printsvc.credential.cose import Algorithm
from printsvc.credential.dcc import check_dcc
from printsvc.credential.hcert import decode_hcert
from printsvc.credential.translit import transliterate
from printsvc.credential.trust import make_trust_list
from printsvc.credential.verify import Outcome, verify

AT = datetime(2022, 6, 1, tzinfo=UTC)


def test_the_sample_is_read(conformance: Path) -> None:
    decoded = decode_hcert((conformance / "vn" / "VN_sample_HC1.txt").read_text("ascii"))
    assert (decoded.algorithm, decoded.issuer) == (Algorithm.PS256, "VN")
    assert check_dcc(decoded.payload) == []
    name = decoded.payload["nam"]
    assert (transliterate(name["fn"]), transliterate(name["gn"])) == (name["fnt"], name["gnt"])


def test_the_sample_is_not_the_production_signer_s(conformance: Path) -> None:
    """It names another kid, of the acceptance environment, whose certificate was not published."""
    pem = (conformance / "vn" / "VN_DSC_production.pem").read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    trust = make_trust_list([der], version=1, made_at=AT)
    signer = trust.certificates[0]
    assert trust.to_json()["certificates"][0]["kid"] == "ZtJVElOdWm0="
    assert (signer.country, signer.usages, signer.not_after.date().isoformat()) == ("VN", frozenset(), "2026-07-14")
    code = (conformance / "vn" / "VN_sample_HC1.txt").read_text("ascii")
    assert verify(code, trust=trust, at=AT).verdict is Outcome.UNKNOWN_SIGNER
