"""Pinned keys of a loaded trust list as JSON: what `GET /v1/trusted-keys` answers and `printsvc verify` reads."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from printsvc.credential.dsc import Usage
from printsvc.credential.trustedkey import CredentialFormat, TrustedKey


def encode_time(moment: datetime) -> str:
    """Return a time of a list: ISO 8601 in UTC, whole seconds, with Z."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Return the aware UTC time of ISO 8601. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def encode_key(key: TrustedKey) -> dict[str, Any]:
    """Return a key for JSON; `public_key` is SubjectPublicKeyInfo in DER and base64, as is `certificate`."""
    public = key.public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "format": key.format.value,
        "kid": key.kid,
        "country": key.country,
        "issuer": key.issuer,
        "usages": sorted(key.usages),
        "is_anchor": key.is_anchor,
        "not_before": encode_time(key.not_before) if key.not_before else None,
        "not_after": encode_time(key.not_after) if key.not_after else None,
        "public_key": base64.b64encode(public).decode("ascii"),
        "certificate": base64.b64encode(key.certificate).decode("ascii") if key.certificate else None,
    }


def parse_key(body: Mapping[str, Any]) -> TrustedKey:
    """Return the key of `encode_key`. Raises ValueError, KeyError or TypeError."""
    try:
        public = serialization.load_der_public_key(base64.b64decode(body["public_key"], validate=True))
    except UnsupportedAlgorithm:
        raise ValueError("the key is not supported") from None
    certificate = body["certificate"]
    return TrustedKey(
        kid=_text(body["kid"]),
        format=CredentialFormat(body["format"]),
        public_key=public,
        not_before=parse_time(body["not_before"]) if body["not_before"] is not None else None,
        not_after=parse_time(body["not_after"]) if body["not_after"] is not None else None,
        country=_text(body["country"]),
        issuer=_text(body["issuer"]),
        usages=frozenset(Usage(usage) for usage in body["usages"]),
        certificate=None if certificate is None else base64.b64decode(certificate, validate=True),
        is_anchor=body["is_anchor"] is True,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
