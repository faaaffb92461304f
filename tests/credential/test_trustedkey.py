from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from printsvc.credential.dsc import Usage
from printsvc.credential.trustedkey import CredentialFormat, KeyRing, TrustedKey, jwk_thumbprint
from printsvc.errors import CredentialError


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().replace("=", "")


def test_thumbprint_of_the_rfc() -> None:
    """RFC 7638, 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3o"
        "knjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZH"
        "zu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEg"
        "U8awapJzKnqDKgw"
    )
    n = int.from_bytes(base64.urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4)), "big")
    assert jwk_thumbprint(rsa.RSAPublicNumbers(65537, n).public_key()) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_thumbprint_of_an_edwards_key() -> None:
    """RFC 8037, A.3."""
    x = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    key = ed25519.Ed25519PublicKey.from_public_bytes(x)
    assert jwk_thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_thumbprint_of_a_curve_key_keeps_leading_zeros() -> None:
    for scalar in range(1, 600):
        key = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()
        raw = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        if 0 in (raw[1], raw[33]):
            break
    else:
        raise AssertionError("no coordinate with a leading zero byte")
    text = f'{{"crv":"P-256","kty":"EC","x":"{b64(raw[1:33])}","y":"{b64(raw[33:])}"}}'
    assert jwk_thumbprint(key) == b64(hashlib.sha256(text.encode()).digest())


def test_other_keys_have_none() -> None:
    with pytest.raises(CredentialError):
        jwk_thumbprint(dsa.generate_private_key(1024).public_key())
    with pytest.raises(CredentialError):
        jwk_thumbprint(ec.generate_private_key(ec.SECP256K1()).public_key())


def test_a_ring_finds_all_of_a_name_in_its_order() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    one = TrustedKey("k", CredentialFormat.SHC, key, issuer="one")
    two = TrustedKey("k", CredentialFormat.SHC, key, issuer="two", usages=frozenset([Usage.TEST]))
    anchor = TrustedKey("k", CredentialFormat.VDS_NC, key, not_after=datetime(2030, 1, 1, tzinfo=UTC), is_anchor=True)
    ring = KeyRing((one,)).with_keys([two, anchor])
    assert ring.candidates(CredentialFormat.SHC, "k") == (one, two)
    assert ring.candidates(CredentialFormat.DIVOC, "k") == ()
    assert ring.anchors(CredentialFormat.VDS_NC) == (anchor,)
    assert ring.anchors(CredentialFormat.SHC) == ()
    assert one.may_sign(Usage.VACCINATION)
    assert not two.may_sign(Usage.VACCINATION)
