"""Revocation as verifiers know it: the three hash forms, the batch of the EU, and what a verifier asks.

Source: Commission Implementing Decision (EU) 2021/1073, annex on the exchange of revocation lists: the first 128 bits
of SHA-256 over the UCI, over country and UCI, or over the signature; at most 1,000 entries in a batch.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from printsvc.credential.cose import Algorithm
from printsvc.domain.revocation import REASONS, RevocationReason
from printsvc.errors import CredentialError

HASH_BYTES: Final = 16
MAX_ENTRIES: Final = 1000


class HashType(StrEnum):
    SIGNATURE = "SIGNATURE"
    UCI = "UCI"
    COUNTRYCODEUCI = "COUNTRYCODEUCI"


class RevocationSubject(NamedTuple):
    """What of a certificate can be revoked: `country` as its issuer claims it, `uvcis` as they stand in it.

    `kid` and `signature` are those of the envelope; `algorithm` None is one that was not allowed.
    """

    country: str
    uvcis: tuple[str, ...]
    kid: bytes | None = None
    signature: bytes = b""
    algorithm: Algorithm | None = None


@dataclass(frozen=True, slots=True)
class Revoked:
    """The answer for a certificate that is revoked; `at` and `reason` are None where the one asked does not know them.

    Not `is_certain`: a filter said it, which errs about certificates that nobody revoked once in a million times.
    """

    at: datetime | None = None
    reason: RevocationReason | None = None
    is_certain: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return what a verdict says of it."""
        rule = REASONS[self.reason] if self.reason is not None else None
        return {
            "revoked_at": None if self.at is None else _encode_time(self.at),
            "reason": None if self.reason is None else self.reason.value,
            "reason_en": rule.en if rule else None,
            "reason_vi": rule.vi if rule else None,
            "certain": self.is_certain,
        }

    def sentences(self) -> tuple[str, str]:
        """Return (English, Vietnamese) with the date and the reason, as far as they are known; maybe empty."""
        if not self.is_certain:
            return (
                "An offline list says so, which errs once in a million times: ask online to be certain.",
                "Theo danh sách ngoại tuyến (sai khoảng một phần triệu): hãy tra cứu trực tuyến để chắc chắn.",
            )
        en, vi = [], []
        if self.at is not None:
            day = self.at.astimezone(UTC).date()
            en.append(f"Since {day} (UTC).")
            vi.append(f"Từ ngày {day:%d/%m/%Y} (UTC).")
        if self.reason is not None:
            en.append(REASONS[self.reason].en)
            vi.append(REASONS[self.reason].vi)
        return " ".join(en), " ".join(vi)


class Revocations(Protocol):
    """Whom a verifier asks. What `find` raises is "could not ask", which is never taken for "not revoked"."""

    def find(self, subject: RevocationSubject) -> Revoked | None:
        """Return what is known of a revocation; None where the certificate is not revoked."""
        ...


def revocation_hashes(hash_type: HashType, subject: RevocationSubject) -> tuple[bytes, ...]:
    """Return the hashes of a certificate, one for each UVCI, or one of its signature; empty without these."""
    if hash_type is HashType.SIGNATURE:
        return (_hash(signature_part(subject.signature, subject.algorithm)),) if subject.signature else ()
    country = subject.country if hash_type is HashType.COUNTRYCODEUCI else ""
    return tuple([_hash((country + uvci).encode()) for uvci in subject.uvcis])


def signature_part(signature: bytes, algorithm: Algorithm | None) -> bytes:
    """Return what of a signature is hashed: R of an ES256 signature, because (r, n - s) agrees too; all of a PS256."""
    return signature[: len(signature) // 2] if algorithm is Algorithm.ES256 else signature


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:HASH_BYTES]


@dataclass(frozen=True, slots=True)
class Batch:
    """Hashes of one signer, of one type; `expires` is aware UTC: from then on none of them needs to be known."""

    country: str
    expires: datetime
    kid: bytes
    hash_type: HashType
    entries: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.entries) <= MAX_ENTRIES:
            raise _batch_error(f"A batch has 1 to {MAX_ENTRIES} entries.")
        if any(len(entry) != HASH_BYTES for entry in self.entries):
            raise _batch_error(f"An entry of a batch has {HASH_BYTES} bytes.")

    def to_json(self) -> dict[str, Any]:
        """Return the batch as the EU gateway has it."""
        return {
            "country": self.country,
            "expires": _encode_time(self.expires),
            "kid": base64.b64encode(self.kid).decode("ascii"),
            "hashType": self.hash_type.value,
            "entries": [{"hash": base64.b64encode(entry).decode("ascii")} for entry in self.entries],
        }

    @classmethod
    def from_json(cls, body: Any) -> Batch:
        """Return the batch of `to_json`. Raises CredentialError (code `revocation_batch_invalid`)."""
        try:
            expires = datetime.fromisoformat(body["expires"])
            return cls(
                country=str(body["country"]),
                expires=(expires if expires.tzinfo else expires.replace(tzinfo=UTC)).astimezone(UTC),
                kid=base64.b64decode(body["kid"], validate=True),
                hash_type=HashType(body["hashType"]),
                entries=tuple(base64.b64decode(entry["hash"], validate=True) for entry in body["entries"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, binascii.Error):
            raise _batch_error("The batch of revocations cannot be read.") from None


def _batch_error(en: str) -> CredentialError:
    return CredentialError(en, vi="Danh sách thu hồi không đúng định dạng.", code="revocation_batch_invalid")


def _encode_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
