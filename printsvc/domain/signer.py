"""A signer as the service keeps it: a certificate with a life. DSCs sign certificates, the CSCA signs DSCs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class SignerRole(StrEnum):
    """What a signer signs: `csca` other signers, `dsc` certificates of people.

    A `delegate` is a DSC whose key a site made: it signs there, for a week at most and in its range of UVCIs alone.
    """

    CSCA = "csca"
    DSC = "dsc"
    DELEGATE = "delegate"


class SignerState(StrEnum):
    """Where a signer stands in its life; credential/life.py has the transitions."""

    PLANNED = "planned"
    """Published, so that verifiers know it in time; signs nothing yet."""
    SIGNING = "signing"
    """The one of its role that signs; of delegates there are many."""
    VERIFYING = "verifying"
    """Signs nothing any more; what it signed is good."""
    EXPIRED = "expired"
    COMPROMISED = "compromised"
    """Somebody else may have the key: nothing that it signed is believed."""


class SignerEvent(StrEnum):
    START = "start"
    END = "end"
    EXPIRE = "expire"
    COMPROMISE = "compromise"


@dataclass(frozen=True, slots=True)
class SignerRecord:
    """`thumbprint` is SHA-256 over the DER and `kid` its first 8 bytes, both hexadecimal; times are aware UTC.

    `key_store` names where the private key is (`file`, `pkcs11`). It signs from `signing_from`, and no longer at
    `signing_until`.
    """

    thumbprint: str
    kid: str
    role: SignerRole
    state: SignerState
    certificate: bytes
    not_before: datetime
    not_after: datetime
    signing_from: datetime
    signing_until: datetime
    key_store: str
    created_at: datetime
    changed_at: datetime
    reason: str = ""
