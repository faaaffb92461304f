from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.dsc import Kid, Usage, parse_der_base64, read_dsc
from printsvc.credential.trust import TrustList
from printsvc.errors import CredentialError


def test_json_round_trip(country: Any) -> None:
    body = json.loads(json.dumps(country.trust.to_json()))
    assert TrustList.from_json(body).to_json() == body
    assert TrustList.from_json(body).certificates[0].der == country.signer.certificate
    first = body["certificates"][0]
    assert base64.b64decode(first["kid"]) == country.signer.kid
    assert (first["country"], first["certificateType"], len(first["thumbprint"])) == ("VN", "DSC", 64)
    assert (first["not_before"], body["generated_at"]) == ("2021-10-30T02:12:00Z", "2021-10-30T02:12:00Z")


def test_a_kid_may_have_several_signers(country: Any) -> None:
    shared = Kid(b"sharedid")
    twins = tuple(read_dsc(dsc.der, shared) for dsc in country.trust.certificates)
    trust = TrustList(1, country.now, twins)
    assert trust.candidates(shared) == twins
    assert trust.candidates(country.signer.kid) == ()
    assert trust.candidates(None) == ()


def test_what_is_no_signer_is_left_out(country: Any) -> None:
    body = country.trust.to_json()
    body["certificates"][0]["certificateType"] = "CSCA"
    assert len(TrustList.from_json(body).certificates) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body.pop("version"),
        lambda body: body.update(generated_at="today"),
        lambda body: body.update(certificates={"a": 1}),
        lambda body: body["certificates"][0].pop("rawData"),
        lambda body: body["certificates"][0].update(rawData="AAAA"),
        lambda body: body["certificates"][0].update(rawData="é"),
        lambda body: body["certificates"][0].update(kid="?"),
        lambda body: body["certificates"][0].update(thumbprint="00" * 32),
    ],
)
def test_a_list_with_a_bad_entry_is_no_list(country: Any, damage: Any) -> None:
    body = country.trust.to_json()
    damage(body)
    with pytest.raises(CredentialError) as caught:
        TrustList.from_json(body)
    assert caught.value.code == "trust_list_invalid"


@pytest.mark.parametrize("body", [None, [], "", {"version": 1}])
def test_what_is_no_list(body: object) -> None:
    with pytest.raises(CredentialError):
        TrustList.from_json(body)


@given(st.binary(max_size=100))
def test_no_certificate(der: bytes) -> None:
    with pytest.raises(CredentialError):
        read_dsc(der)
    assert parse_der_base64(base64.b64encode(der).decode()) == der


@pytest.mark.filterwarnings("ignore:Parsed a serial number", "ignore:Attribute's length must be")
@given(st.data())
def test_an_altered_certificate_is_read_or_refused(country: Any, data: st.DataObject) -> None:
    der = bytearray(country.signer.certificate)
    position = data.draw(st.integers(0, len(der) - 1))
    der[position] = data.draw(st.integers(0, 255))
    try:
        dsc = read_dsc(bytes(der))
    except CredentialError:
        return
    assert dsc.usages <= set(Usage)
