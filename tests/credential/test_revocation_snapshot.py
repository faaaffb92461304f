"""The snapshot: what is revoked is always found, others hardly ever; damage never passes; deltas make the same file."""

from __future__ import annotations

import hashlib
import random
import zlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from printsvc.credential.base45 import encode_base45, parse_base45
from printsvc.credential.hcert import decode_hcert
from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.credential.revocation import HashType, Revoked, revocation_hashes
from printsvc.credential.revocation_snapshot import (
    Change,
    Snapshot,
    SnapshotRevocations,
    apply_delta,
    choose_bucket_bits,
    difference,
    encode_change,
    encode_delta,
    encode_snapshot,
    fingerprints_of,
    open_snapshot,
    parse_change,
    prefixes_of,
    sign_snapshot,
)
from printsvc.credential.trust import make_trust_list
from printsvc.credential.verify import Outcome, subject_of, verify
from printsvc.errors import CredentialError, SigningError

WEEK = timedelta(days=7)
HASHES = st.sets(st.binary(min_size=16, max_size=16), max_size=60)


def digest(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()[:16]


def make(country: Any, hashes: Any, *, version: int = 1, bits: int = 8, **changes: Any) -> tuple[bytes, Any, bytes]:
    """Return (file, fingerprints, signed manifest)."""
    fingerprints = fingerprints_of(prefixes_of(hashes), bits)
    times = {"made_at": country.now, "expires_at": country.now + WEEK, "signer": country.signer}
    _, signed, body = sign_snapshot(fingerprints, bucket_bits=bits, version=version, **(times | changes))
    return encode_snapshot(signed, body), fingerprints, signed


def opened(country: Any, data: bytes) -> Snapshot:
    return open_snapshot(data, trust=country.trust, now=country.now)


@given(hashes=HASHES, bits=st.integers(8, 12))
def test_what_is_revoked_is_always_found(country: Any, hashes: set[bytes], bits: int) -> None:
    snapshot = opened(country, make(country, hashes, bits=bits)[0])
    assert all(snapshot.possibly_revoked(one) for one in hashes)
    assert np.array_equal(snapshot.fingerprints(), fingerprints_of(prefixes_of(hashes), bits))


def test_the_false_positive_rate_is_the_stated_one(country: Any) -> None:
    numbers = np.random.default_rng(7).integers(0, 2**63, 4_000, dtype=np.uint64)
    revoked = [int(number).to_bytes(8, "big") * 2 for number in numbers]
    # Few bits, so that there is something to count: 24 bits after the bucket are the format's own.
    snapshot = opened(country, make(country, revoked, bits=8)[0])
    rate = snapshot.manifest.false_positive_rate
    assert rate == len(snapshot.fingerprints()) / 2**32 < 1e-6
    asked = 400_000
    found = sum(snapshot.possibly_revoked(digest(number)) for number in range(asked))
    assert found <= 4, "0.4 are expected: five or more would come up less than once in 10,000 runs of other numbers"
    assert all(snapshot.possibly_revoked(one) for one in revoked)


def test_a_rate_that_can_be_counted_agrees_with_theory() -> None:
    """The same question over the bare sets, as many times as it takes to see accidents."""
    generator = np.random.default_rng(11)
    held = fingerprints_of(generator.bytes(8 * 4096), 8)
    asked = generator.integers(0, 2**32, 20_000_000, dtype=np.uint64)
    places = np.minimum(np.searchsorted(held, asked), len(held) - 1)
    found = int(np.count_nonzero(held[places] == asked))
    expected = len(asked) * len(held) / 2**32
    assert expected / 2.5 < found < 2.5 * expected


@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 10_000, 1_000_000, 10_000_000, 100_000_000])
def test_the_rate_is_below_one_in_a_million_for_any_number(count: int) -> None:
    bits = choose_bucket_bits(count)
    assert count / 2 ** (bits + 24) < 1e-6
    assert choose_bucket_bits(count, bits) == bits
    size = 4 * 2**bits + 3 * count
    assert size < 50_000_000 * max(1, count / 10_000_000)


def test_the_layout_stays_while_it_serves() -> None:
    bits = choose_bucket_bits(5000)
    assert choose_bucket_bits(4000, bits) == bits
    assert choose_bucket_bits(100, bits) == bits
    assert choose_bucket_bits(100_000, bits) > bits
    assert choose_bucket_bits(10, 20) < 20
    with pytest.raises(CredentialError):
        choose_bucket_bits(2**33)


def test_nothing_revoked(country: Any) -> None:
    snapshot = opened(country, make(country, [])[0])
    assert (snapshot.manifest.count, snapshot.manifest.false_positive_rate) == (0, 0)
    assert not any(snapshot.possibly_revoked(digest(number)) for number in range(1000))


@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_refused(country: Any, data: st.DataObject) -> None:
    whole, _, _ = make(country, [digest(number) for number in range(30)])
    how = data.draw(st.sampled_from(["cut", "flip", "longer", "other"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    if how == "cut":
        del damaged[at:]
    elif how == "flip":
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "longer":
        damaged += b"\0"
    else:
        damaged = bytearray(data.draw(st.binary(max_size=100)))
    with pytest.raises(CredentialError) as caught:
        opened(country, bytes(damaged))
    assert caught.value.code == "revocation_snapshot_invalid"


def test_only_a_signer_of_the_trust_list_is_believed(country: Any) -> None:
    whole, _, _ = make(country, [digest(1)])
    nobody = make_trust_list([], version=0, made_at=country.now)
    with pytest.raises(CredentialError, match="Nobody on the trust list"):
        open_snapshot(whole, trust=nobody, now=country.now)
    assert opened(country, make(country, [digest(1)], signer=country.rsa_signer)[0]).manifest.count == 1


def test_a_signer_of_another_country_does_not_say_what_counts_here(country: Any) -> None:
    key, csca_key = make_private_key(), make_private_key()
    csca = make_csca(csca_key, country="DE", organisation="RKI", common_name="CSCA DE", serial=1, now=country.now)
    names = {"organisation": "RKI", "common_name": "DSC", "serial": 2, "now": country.now}
    stranger = LocalSigner(make_dsc(key.public_key(), csca=csca, csca_key=csca_key, **names), key)
    theirs, _, _ = make(country, [], signer=stranger)
    ders = (country.signer.certificate, stranger.certificate)
    listed = make_trust_list(ders, version=1, made_at=country.now)
    ours = replace(listed, authorities=(country.csca,))
    with pytest.raises(CredentialError, match="Nobody on the trust list"):
        open_snapshot(theirs, trust=ours, now=country.now)
    assert open_snapshot(make(country, [])[0], trust=ours, now=country.now).manifest.count == 0
    assert open_snapshot(theirs, trust=listed, now=country.now).manifest.count == 0, "a list without authorities"


def test_a_certificate_is_no_snapshot(country: Any) -> None:
    """The same key signs both: neither passes for the other."""
    code = country.issue()
    with pytest.raises(CredentialError, match="manifest"):
        opened(country, encode_snapshot(zlib.decompress(parse_base45(code[4:])), b""))
    _, _, signed = make(country, [])
    dressed_up = "HC1:" + encode_base45(zlib.compress(signed))
    assert verify(dressed_up, trust=country.trust, at=country.now).verdict is Outcome.MALFORMED


def test_an_expired_snapshot_says_nothing(country: Any) -> None:
    whole, _, _ = make(country, [digest(1)])
    with pytest.raises(CredentialError, match="expired at 2021-11-06") as caught:
        open_snapshot(whole, trust=country.trust, now=country.now + WEEK)
    assert caught.value.code == "revocation_snapshot_expired"
    assert "06/11/2021" in caught.value.vi


def test_a_snapshot_does_not_outlive_its_signer(country: Any) -> None:
    late = country.signer.not_after - timedelta(hours=1)
    whole, _, _ = make(country, [], made_at=late, expires_at=late + WEEK)
    assert open_snapshot(whole, trust=country.trust, now=late).manifest.expires_at == country.signer.not_after
    with pytest.raises(SigningError):
        make(country, [], made_at=country.signer.not_after, expires_at=late + WEEK)


# --- deltas


@given(first=HASHES, second=HASHES, third=HASHES)
def test_deltas_compose(country: Any, first: set[bytes], second: set[bytes], third: set[bytes]) -> None:
    one, one_set, _ = make(country, first, version=1)
    two, two_set, signed_two = make(country, first - third | second, version=2)
    three, three_set, signed_three = make(country, third | second, version=3)
    steps = difference(one_set, two_set), difference(two_set, three_set)
    believe = {"trust": country.trust, "now": country.now}
    assert apply_delta(opened(country, one), encode_delta(signed_two, 1, steps[:1]), **believe) == two
    assert apply_delta(opened(country, two), encode_delta(signed_three, 2, steps[1:]), **believe) == three
    at_once = encode_delta(signed_three, 1, steps)
    assert at_once == encode_delta(signed_three, 1, [difference(one_set, three_set)])
    assert apply_delta(opened(country, one), at_once, **believe) == three


@given(first=HASHES, second=HASHES)
def test_a_change_is_read_as_it_was_written(first: set[bytes], second: set[bytes]) -> None:
    change = difference(*(fingerprints_of(prefixes_of(one), 20) for one in (first, second)))
    read = parse_change(encode_change(change), 20)
    assert np.array_equal(read.removed, change.removed)
    assert np.array_equal(read.added, change.added)


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_delta_is_refused(country: Any, data: st.DataObject) -> None:
    one, one_set, _ = make(country, [digest(number) for number in range(20)], version=1)
    _, two_set, signed = make(country, [digest(number) for number in range(10, 40)], version=2)
    delta = bytearray(encode_delta(signed, 1, [difference(one_set, two_set)]))
    at = data.draw(st.integers(0, len(delta) - 1))
    if data.draw(st.booleans()):
        del delta[at:]
    else:
        delta[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CredentialError):
        apply_delta(opened(country, one), bytes(delta), trust=country.trust, now=country.now)


def test_a_delta_of_another_version_or_layout_is_refused(country: Any) -> None:
    one, one_set, signed_one = make(country, [digest(1)], version=1)
    _, _, signed_wide = make(country, [digest(1)], version=2, bits=9)
    nothing = difference(one_set, one_set)
    for delta in (
        encode_delta(signed_one, 1, [nothing]),
        encode_delta(signed_wide, 1, [nothing]),
        encode_delta(signed_wide, 7, [nothing]),
        b"",
        one,
    ):
        with pytest.raises(CredentialError):
            apply_delta(opened(country, one), delta, trust=country.trust, now=country.now)


def test_a_change_that_starts_elsewhere_is_refused() -> None:
    def of(*values: int) -> Any:
        return np.array(values, np.uint64)

    with pytest.raises(CredentialError):
        Change(of(5), of()).apply(of(1, 2))
    with pytest.raises(CredentialError):
        Change(of(), of(2)).apply(of(1, 2))
    assert Change(of(1), of(3)).apply(of(1, 2)).tolist() == [2, 3]


def test_ten_thousand_come_and_ten_thousand_go_in_100_kb() -> None:
    generator = random.Random(3)
    old = fingerprints_of(generator.randbytes(8 * 10_000), 20)
    new = fingerprints_of(generator.randbytes(8 * 10_000), 20)  # as if each were part of ten million
    assert len(encode_change(Change(old, new))) < 100_000


# --- the verifier


def test_a_verifier_with_a_snapshot(country: Any) -> None:
    code = country.issue()
    hashes = revocation_hashes(HashType.UCI, subject_of(decode_hcert(code)))
    snapshot = opened(country, make(country, hashes)[0])

    def verdict(revocations: Any) -> Any:
        return verify(code, trust=country.trust, at=country.now, revocations=revocations)

    offline = verdict(SnapshotRevocations(snapshot))
    assert offline.verdict is Outcome.REVOKED
    assert offline.revocation is not None
    assert not offline.revocation.is_certain
    assert verdict(SnapshotRevocations(snapshot, lambda _: Revoked(country.now))).revocation.is_certain
    assert verdict(SnapshotRevocations(snapshot, lambda _: None)).is_valid, "asked online, it was an accident"
    empty = opened(country, make(country, [])[0])
    assert verdict(SnapshotRevocations(empty, lambda _: pytest.fail("nothing to ask"))).is_valid
