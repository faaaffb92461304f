"""A pinned public key of any format, and the ring that a verifier looks keys up in.

Signers of HCERT stand in a trust list as certificates (`credential.trust`). The other formats name their keys in other
ways; here each is one frozen value, whatever list it was read from. A ring is pinned: no code can add to it.

How `kid` is written, by format:

=========  ==========================================================================================================
hcert      the 8 bytes in base64, as EU and WHO lists write them
shc        base64url of the JWK thumbprint, without padding (SMART Health Cards Framework; RFC 7638)
vds-nc     SHA-256 of the certificate's DER in hexadecimal, of a signer or of a CSCA (`is_anchor`)
divoc      the `verificationMethod` of the proof, an URI such as `did:india`
=========  ==========================================================================================================
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from printsvc.credential.dsc import Usage
from printsvc.errors import CredentialError


class CredentialFormat(StrEnum):
    """What a code is, by its content."""

    HCERT = "hcert"
    SHC = "shc"
    VDS_NC = "vds-nc"
    DIVOC = "divoc"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that somebody pinned; times are aware UTC, None where there is no limit.

    `issuer` is the one whom the key speaks for: the `iss` URL of a SMART Health Card (then no other issuer's card
    verifies under it), elsewhere a name for people. `country` is ISO 3166-1 alpha-2 or empty. `usages` is empty where
    the list names none: every kind. `certificate` is DER where the list holds one. `is_anchor` marks a CSCA: signers
    that chain to it are believed too.
    """

    kid: str
    format: CredentialFormat
    public_key: PublicKeyTypes
    not_before: datetime | None = None
    not_after: datetime | None = None
    country: str = ""
    issuer: str = ""
    usages: frozenset[Usage] = frozenset()
    certificate: bytes | None = None
    is_anchor: bool = False

    def may_sign(self, usage: Usage) -> bool:
        return not self.usages or usage in self.usages


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys in the order of the list; several may have one kid."""

    keys: tuple[TrustedKey, ...] = ()
    _by_kid: Mapping[tuple[CredentialFormat, str], tuple[TrustedKey, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        by_kid: dict[tuple[CredentialFormat, str], tuple[TrustedKey, ...]] = {}
        for key in self.keys:
            by_kid[key.format, key.kid] = (*by_kid.get((key.format, key.kid), ()), key)
        object.__setattr__(self, "_by_kid", by_kid)

    def candidates(self, format: CredentialFormat, kid: str) -> tuple[TrustedKey, ...]:  # noqa: A002  the field's name
        """Return every key of this name."""
        return self._by_kid.get((format, kid), ())

    def anchors(self, format: CredentialFormat) -> tuple[TrustedKey, ...]:  # noqa: A002
        """Return the CSCAs of a format."""
        return tuple(key for key in self.keys if key.format is format and key.is_anchor)

    def with_keys(self, more: Iterable[TrustedKey]) -> KeyRing:
        return KeyRing((*self.keys, *more))


NO_KEYS = KeyRing()
ANY_KID: Final = ""
"""A DIVOC key that its list gives no name: pinned for whatever the code calls its signer."""


def jwk_thumbprint(key: PublicKeyTypes) -> str:
    """Return the kid of a SMART Health Card's key: base64url of SHA-256 over its required JWK members.

    Raises CredentialError (code `key_unsupported`) for a key that is neither EC on a NIST curve, nor RSA, nor Ed25519.
    Source: RFC 7638, section 3; RFC 8037, section 2.
    """
    members: dict[str, str]
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        numbers, width = key.public_numbers(), (key.key_size + 7) // 8
        x, y = (encode_base64url(number.to_bytes(width, "big")) for number in (numbers.x, numbers.y))
        members = {"crv": _CURVES[key.curve.name], "kty": "EC", "x": x, "y": y}
    elif isinstance(key, rsa.RSAPublicKey):
        numbers_rsa = key.public_numbers()
        members = {"e": _minimal(numbers_rsa.e), "kty": "RSA", "n": _minimal(numbers_rsa.n)}
    elif isinstance(key, ed25519.Ed25519PublicKey):
        members = {"crv": "Ed25519", "kty": "OKP", "x": encode_base64url(key.public_bytes_raw())}
    else:
        raise CredentialError(
            "This kind of key has no JWK form here.", vi="Loại khóa này không được hỗ trợ.", code="key_unsupported"
        )
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return encode_base64url(hashlib.sha256(canonical.encode("ascii")).digest())


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def _minimal(number: int) -> str:
    return encode_base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))
