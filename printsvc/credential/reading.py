"""What a reader of any format hands to the verifier: one shape, so that there is one order of checks.

A reading says what a code says; nothing of it is verified. `credential.verify` asks it for the signers to try, for the
signature, and only then for the content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from printsvc.credential.dsc import Usage
from printsvc.credential.revocation import RevocationSubject
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat


class Signer(Protocol):
    """A pinned signer: a DSC of the trust list, or a key of the ring."""

    @property
    def public_key(self) -> PublicKeyTypes: ...
    @property
    def country(self) -> str: ...
    @property
    def not_before(self) -> datetime | None: ...
    @property
    def not_after(self) -> datetime | None: ...
    def may_sign(self, usage: Usage) -> bool: ...


class Reading(NamedTuple):
    """A code that could be read.

    `claims` is ready for JSON: issuer, issued_at, expires_at, kid, person, doses, and the payload under the format's
    name. `problems` gives what is wrong with the content. `usage` None: no key usage speaks of this kind. With
    `must_end`, a code without an end has ended. `signers` gives who may have signed, by the name in the code; `agrees`
    tries one of them.
    """

    format: CredentialFormat
    claims: dict[str, Any]
    problems: Callable[[], Sequence[str]]
    usage: Usage | None
    starts_at: datetime | None
    ends_at: datetime | None
    must_end: bool
    algorithm_allowed: bool
    subject: RevocationSubject
    signers: Callable[[TrustList], Sequence[Signer]]
    agrees: Callable[[Signer], bool]


def make_claims(
    *,
    issuer: str | None,
    issued_at: datetime | None,
    expires_at: datetime | None,
    kid: str | None,
    name: str | None,
    date_of_birth: str | None,
    doses: list[dict[str, Any]],
    payload: tuple[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the claims of a reading; `payload` is (format's name, what was signed)."""
    claims: dict[str, Any] = {
        "issuer": issuer,
        "issued_at": encode_time(issued_at),
        "expires_at": encode_time(expires_at),
        "kid": kid,
        "person": {"name": name, "date_of_birth": date_of_birth},
        "doses": doses,
    }
    if payload is not None:
        claims[payload[0]] = payload[1]
    return claims


def make_dose(
    *,
    product: Any = None,
    date: Any = None,
    number: Any = None,
    series: Any = None,
    country: Any = None,
    issuer: Any = None,
) -> dict[str, Any]:
    """Return one dose as every format has it; what is neither a text nor a number of sensible kind is None."""
    return {
        "product": text_or_none(product),
        "date": text_or_none(date),
        "number": number_or_none(number),
        "series": number_or_none(series),
        "country": text_or_none(country),
        "issuer": text_or_none(issuer),
    }


def text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def number_or_none(value: Any) -> int | None:
    """Return a whole number; also of `2.0` and `"2"`, which issuers write."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 2:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list (or the one object that stands instead of a list of one)."""
    if isinstance(value, dict):
        return [value]
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def member(value: Any, *names: str) -> Any:
    """Return what stands under these names, one within the other; None where there is nothing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def encode_time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    day = f"{moment.year:04}-{_TWO[moment.month]}-{_TWO[moment.day]}"
    return f"{day}T{_TWO[moment.hour]}:{_TWO[moment.minute]}:{_TWO[moment.second]}Z"


# isoformat() takes three times as long, and every code has two times in it.
_TWO = tuple(f"{number:02}" for number in range(60))
