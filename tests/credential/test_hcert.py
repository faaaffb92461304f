from __future__ import annotations

import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.base45 import encode_base45, parse_base45
from printsvc.credential.cbor import encode_cbor
from printsvc.credential.cose import Algorithm, encode_cose_sign1, encode_protected
from printsvc.credential.hcert import compress, decode_hcert, encode_hcert
from printsvc.credential.limits import MAX_HCERT_TEXT
from printsvc.errors import NotHcertError, SigningError


def wrap(claims: Any, *, compress: Any = zlib.compress) -> str:
    cose = encode_cose_sign1(encode_protected(Algorithm.ES256, b"k" * 8), cbor2.dumps(claims), b"s" * 64)
    return "HC1:" + encode_base45(compress(cose))


def refused(text: str) -> str:
    with pytest.raises(NotHcertError) as caught:
        decode_hcert(text)
    return caught.value.step


def test_round_trip(country: Any) -> None:
    for signer in (country.signer, country.rsa_signer):
        decoded = decode_hcert(country.issue(signer=signer))
        assert decoded.payload == country.payload
        assert (decoded.issuer, decoded.issued_at) == ("VN", country.now)
        assert decoded.expires_at == country.now + timedelta(days=365)
        assert (decoded.algorithm, decoded.kid) == (signer.algorithm, signer.kid)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


SMALL = st.dictionaries(TEXTS, TEXTS, max_size=4)  # all in all below the 10 kB at which reading stops


@given(st.dictionaries(TEXTS, TEXTS | st.integers(-(2**63), 2**63) | st.lists(SMALL, max_size=2), max_size=4))
def test_any_payload_comes_back(country: Any, payload: dict[str, Any]) -> None:
    assert decode_hcert(country.issue(payload)).payload == payload


def test_the_same_input_gives_the_same_code(country: Any) -> None:
    """ES256 is deterministic, the CBOR canonical: also when the payload was put together in another order."""
    other = dict(reversed(country.payload.items()))
    assert list(other) != list(country.payload)
    assert country.issue(other) == country.issue()


def test_it_is_what_the_specification_says(country: Any) -> None:
    code = country.issue()
    compressed = parse_base45(code.removeprefix("HC1:"))
    assert compressed[:1] == b"\x78"
    envelope = cbor2.loads(zlib.decompress(compressed))
    protected, unprotected, payload, signature = envelope.value
    assert envelope.tag == 18
    assert cbor2.loads(protected) == {1: -7, 4: country.signer.kid}
    assert (unprotected, len(signature)) == ({}, 64)
    claims = cbor2.loads(payload)
    assert {key: claims[key] for key in (1, 4, 6)} == {
        1: "VN",
        4: int((country.now + timedelta(days=365)).timestamp()),
        6: int(country.now.timestamp()),
    }
    assert encode_cbor(claims) == payload


def test_a_certificate_never_outlives_its_signer(country: Any) -> None:
    end = country.signer.not_after
    assert decode_hcert(country.issue(expires_at=end)).expires_at == end
    with pytest.raises(SigningError):
        country.issue(expires_at=end + timedelta(seconds=1))
    with pytest.raises(SigningError):
        encode_hcert({}, issuer="VN", issued_at=end, expires_at=end, signer=country.signer)


@pytest.mark.parametrize(
    "text",
    ["", "hello", "hc1:6BF", "HC2:6BF", "HL0:6BF", "https://example.org/?HC1:6BF", "shc:/5676", "\ud800", " HC1"],
)
def test_what_has_no_prefix(text: str) -> None:
    assert refused(text) == "prefix"


def test_line_ends_of_a_scanner_are_not_the_code_s(country: Any) -> None:
    code = country.issue()
    assert decode_hcert(f"\ufeff{code}\r\n") == decode_hcert(code)


def test_steps() -> None:
    assert refused("HC1:") == "zlib"
    assert refused("HC1:GGW") == "base45"
    assert refused("HC1:" + "0" * (MAX_HCERT_TEXT + 9)) == "base45"
    assert refused("HC1:" + encode_base45(b"\xd2\x84")) == "zlib"
    assert refused("HC1:" + encode_base45(zlib.compress(b"\xd2\x84"))) == "cose"
    assert refused(wrap([1, 2])) == "claims"
    assert refused(wrap({1: "VN"})) == "claims"
    assert refused(wrap({1: "VN", -260: {1: {}}, 4: cbor2.undefined, 6: "today"})) == "claims"
    assert refused(wrap(cbor2.CBORTag(35, "(a+)+"))) == "cbor"


@pytest.mark.parametrize(
    "changes",
    [
        {1: 5},
        {4: -1},
        {4: 2**63},
        {4: 1e308},
        {6: True},
        {6: "2021"},
        {-260: []},
        {-260: {1: []}},
        {-260: {2: {}}},
        {-260: {1: {5: "a"}}},
        {-260: {1: {"a": b"bytes"}}},
        {-260: {1: {"a": cbor2.CBORTag(0, "2021" * 20)}}},
    ],
)
def test_wrong_claims(changes: dict[int, Any]) -> None:
    assert decode_hcert(wrap({1: "VN", 4: 2, 6: 1, -260: {1: {}}})).payload == {}
    with pytest.raises(NotHcertError):
        decode_hcert(wrap({1: "VN", 4: 2, 6: 1, -260: {1: {}}} | changes))


def test_times_as_floats_and_dates_as_tags() -> None:
    tagged = {"sc": cbor2.CBORTag(0, "2021-06-15T07:53:03Z")}
    decoded = decode_hcert(wrap({4: 1634824800.75, 6: 1634824800.25, -260: {1: tagged}}))
    assert decoded.issued_at == decoded.expires_at == datetime(2021, 10, 21, 14, 0, tzinfo=UTC)
    assert decoded.payload == {"sc": "2021-06-15T07:53:03Z"}


@given(
    st.lists(st.sampled_from([b"urn:uvci:01:VN:", b"2021-10-30", b"\xa4\x01bVN", *map(bytes, range(4))]) | st.binary())
)
def test_compressed_as_zlib_does(pieces: list[bytes]) -> None:
    for data in (b"".join(pieces), b"".join(pieces) * 9):
        assert compress(data) == zlib.compress(data, 9)


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 1024, 5000])
def test_compressed_as_zlib_does_at_every_size(size: int) -> None:
    for data in (
        bytes(size),
        bytes(n * n % 251 for n in range(size)),
        b"".join(n.to_bytes(2) for n in range(size))[:size],
    ):
        assert compress(data) == zlib.compress(data, 9)


def test_a_zip_bomb_stops_at_ten_kilobytes() -> None:
    bomb = zlib.compress(b"\x00" * 2_500_000, 9)
    text = "HC1:" + encode_base45(bomb)
    assert len(text) < MAX_HCERT_TEXT
    tracemalloc.start()
    assert refused(text) == "zlib"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:20]])
def test_cut_or_longer_compressed_data(damage: Any) -> None:
    assert refused(wrap({-260: {1: {}}}, compress=lambda data: damage(zlib.compress(data)))) == "zlib"
