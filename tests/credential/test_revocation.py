"""The hash forms, against hashes made by hand; the batch; what a verdict says of a revocation."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.cose import Algorithm
from printsvc.credential.hcert import decode_hcert
from printsvc.credential.revocation import Batch, HashType, RevocationSubject, Revoked, revocation_hashes
from printsvc.credential.verify import subject_of
from printsvc.domain.revocation import REASONS, Revocation, RevocationReason, undo_until
from printsvc.domain.uvci import Uvci
from printsvc.errors import CredentialError

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)


def first_16(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def test_the_three_forms(country: Any) -> None:
    subject = subject_of(decode_hcert(country.issue()))
    uvci = country.payload["v"][0]["ci"]
    assert revocation_hashes(HashType.UCI, subject) == (first_16(uvci.encode()),)
    assert revocation_hashes(HashType.COUNTRYCODEUCI, subject) == (first_16(b"VN" + uvci.encode()),)
    assert revocation_hashes(HashType.SIGNATURE, subject) == (first_16(subject.signature[:32]),)
    whole = subject_of(decode_hcert(country.issue(signer=country.rsa_signer)))
    assert whole.algorithm is Algorithm.PS256
    assert revocation_hashes(HashType.SIGNATURE, whole) == (first_16(whole.signature),)


def test_the_twin_of_an_es256_signature_is_revoked_too(country: Any) -> None:
    decoded = decode_hcert(country.issue())
    signature = decoded.cose.signature
    r, s = signature[:32], int.from_bytes(signature[32:], "big")
    twin = r + (P256_ORDER - s).to_bytes(32, "big")
    key = country.signer.private_key.public_key()
    encoded = encode_dss_signature(int.from_bytes(r, "big"), P256_ORDER - s)
    key.verify(encoded, decoded.cose.to_be_signed, ec.ECDSA(hashes.SHA256()))  # or the test says nothing
    one, other = (
        revocation_hashes(HashType.SIGNATURE, RevocationSubject("VN", (), None, each, Algorithm.ES256))
        for each in (signature, twin)
    )
    assert one == other


def test_nothing_to_hash() -> None:
    subject = RevocationSubject("VN", ())
    assert [revocation_hashes(kind, subject) for kind in HashType] == [(), (), ()]


@given(
    entries=st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=20),
    kid=st.binary(min_size=8, max_size=8),
    kind=st.sampled_from(HashType),
)
def test_a_batch_is_read_as_it_was_written(entries: list[bytes], kid: bytes, kind: HashType) -> None:
    batch = Batch("VN", NOW, kid, kind, tuple(entries))
    body = batch.to_json()
    assert Batch.from_json(body) == batch
    assert set(body) == {"country", "expires", "kid", "hashType", "entries"}


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_has_a_limit(count: int) -> None:
    with pytest.raises(CredentialError, match="1 to 1000"):
        Batch("VN", NOW, bytes(8), HashType.UCI, (bytes(16),) * count)
    assert len(Batch("VN", NOW, bytes(8), HashType.UCI, (bytes(16),) * 1000).entries) == 1000


@pytest.mark.parametrize(
    "change",
    [
        {"expires": "soon"}, {"expires": 5}, {"kid": "?"}, {"hashType": "MD5"}, {"entries": None}, {"entries": [{}]},
        {"entries": [{"hash": "AAAA"}]}, {"entries": []},
    ],
)  # fmt: skip
def test_a_broken_batch_is_refused(change: dict[str, Any]) -> None:
    body = Batch("VN", NOW, bytes(8), HashType.UCI, (bytes(16),)).to_json()
    with pytest.raises(CredentialError) as caught:
        Batch.from_json(body | change)
    assert caught.value.code == "revocation_batch_invalid"


@pytest.mark.parametrize("body", [None, [], "x", {}])
def test_what_is_no_batch_is_refused(body: Any) -> None:
    with pytest.raises(CredentialError):
        Batch.from_json(body)


def test_every_reason_has_its_words_and_its_rule() -> None:
    assert set(REASONS) == set(RevocationReason)
    for reason, rule in REASONS.items():
        assert rule.vi != rule.en
        assert len(reason) <= 24
    never = {reason for reason, rule in REASONS.items() if rule.undo_within is None}
    replaced = {RevocationReason.CORRECTED, RevocationReason.RENEWED}
    assert never == {RevocationReason.FRAUD, RevocationReason.SIGNER_COMPROMISED} | replaced


def test_undo_has_its_last_moment() -> None:
    def made(reason: RevocationReason) -> Revocation:
        return Revocation(1, Uvci("U"), "", b"", b"", b"", reason, NOW, "a", NOW, "", 1)

    assert undo_until(made(RevocationReason.DATA_ERROR)) == NOW + timedelta(days=30)
    assert undo_until(made(RevocationReason.FRAUD)) is None


def test_a_filters_word_is_told_as_such() -> None:
    en, vi = Revoked(is_certain=False).sentences()
    assert "online" in en
    assert "trực tuyến" in vi
    assert Revoked().sentences() == ("", "")
    assert Revoked(is_certain=False).to_json()["certain"] is False


def test_the_documented_reasons_are_those_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "revocation.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", text, re.MULTILINE))
    assert rows.keys() == {reason.value for reason in RevocationReason}
    for reason, rule in REASONS.items():
        assert rows[reason].startswith("never" if rule.undo_within is None else "within 30 days")
