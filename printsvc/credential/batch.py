"""Many codes, a line each: JSON in, JSON out, and a line of nonsense is a verdict too."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from printsvc.credential.dsc import Dsc, parse_der_base64, read_dsc
from printsvc.credential.outcome import Outcome, Step
from printsvc.credential.revocation import Revocations
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import ANY_KID, CredentialFormat, KeyRing, TrustedKey, jwk_thumbprint
from printsvc.credential.verify import verify
from printsvc.errors import CredentialError

MAX_CERTIFICATES: Final = 1000
MAX_PLACES: Final = 5
MAX_LINE: Final = 24 * 1024 * 1024
"""Bytes of a line: a thousand certificates in base64 and a code are far below."""
_FRACTION = re.compile(r"(\.\d{6})\d+")
_PEM = re.compile(r"-----(BEGIN|END) CERTIFICATE-----")


def verify_line(
    line: str, *, trust: TrustList, now: datetime, revocations: Revocations | None = None
) -> dict[str, Any]:
    """Return the answer to `{"id", "code", "at"?, "certificates"?}`: `{"id", "verdict", "detail", "claims"?, …}`.

    `certificates` (base64 DER, or PEM) are then the whole trust list for that line, of every format; one of them that
    cannot be read is trusted by nobody, and an answer of `unknown_signer` says which. `at` is ISO 8601 (UTC where it
    names no zone) or seconds since 1970; `now` without it.
    """
    try:
        request = json.loads(line.lstrip("\ufeff"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return _malformed(None, "The line is not JSON.")
    return verify_request(request, trust=trust, now=now, revocations=revocations)


def verify_request(
    request: Any, *, trust: TrustList, now: datetime, revocations: Revocations | None = None
) -> dict[str, Any]:
    """Like `verify_line`, for a line that is decoded."""
    if not isinstance(request, dict):
        return _malformed(None, "The line is not a JSON object.")
    identifier = request.get("id")
    if isinstance(identifier, dict | list) or identifier in (math.inf, -math.inf):
        identifier = None
    if "code" not in request:
        return _malformed(identifier, "The line has no code.")
    given = request.get("certificates")
    unread: list[int] = []
    if given is not None:
        if not isinstance(given, list) or len(given) > MAX_CERTIFICATES:
            return _malformed(identifier, "`certificates` is not a list of base64 texts.")
        read = [_read_certificate(text) for text in given]
        certificates = [dsc for dsc in read if dsc is not None]
        unread = [place for place, dsc in enumerate(read) if dsc is None]
        trust = TrustList(0, now, tuple(certificates), ring_of(certificates))
    at = now
    if request.get("at") is not None:
        try:
            at = parse_instant(request["at"])
        except ValueError:
            return _malformed(identifier, "`at` is not a point in time.")
    verdict = verify(request["code"], trust=trust, at=at, revocations=revocations)
    if unread and verdict.verdict is Outcome.UNKNOWN_SIGNER:
        places = ", ".join(f"certificates/{place}" for place in unread[:MAX_PLACES])
        verdict = verdict._replace(
            detail=f"{verdict.detail} Not read, because they are no X.509 certificates: {places}.",
            detail_vi=f"{verdict.detail_vi} Không đọc được chứng thư: {places}.",
        )
    return {"id": identifier} | verdict.to_json()


def ring_of(certificates: Sequence[Dsc]) -> KeyRing:
    """Return the keys of these certificates for the formats that name keys in other ways than HCERT.

    Whoever names certificates for one verification pins them for whatever the code calls its signer.
    """
    return KeyRing(tuple(key for dsc in certificates for key in _keys_of(dsc)))


def _keys_of(dsc: Dsc) -> Iterator[TrustedKey]:
    def key(format: CredentialFormat, kid: str, *, is_anchor: bool = False) -> TrustedKey:  # noqa: A002
        return TrustedKey(
            kid=kid,
            format=format,
            public_key=dsc.public_key,
            not_before=dsc.not_before,
            not_after=dsc.not_after,
            country=dsc.country,
            usages=dsc.usages,
            certificate=dsc.der,
            is_anchor=is_anchor,
        )

    if isinstance(dsc.public_key, ec.EllipticCurvePublicKey):
        yield key(CredentialFormat.VDS_NC, dsc.thumbprint, is_anchor=_is_authority(dsc.der))
        if isinstance(dsc.public_key.curve, ec.SECP256R1):
            yield key(CredentialFormat.SHC, jwk_thumbprint(dsc.public_key))
    else:
        yield key(CredentialFormat.DIVOC, ANY_KID)


def _is_authority(der: bytes) -> bool:
    try:
        limits = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.BasicConstraints)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False
    return limits.value.ca


def parse_instant(value: Any) -> datetime:
    """Return an aware UTC time from ISO 8601 or seconds since 1970. Raises ValueError."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if not isinstance(value, str):
            raise ValueError("not a time")
        # RFC 3339, 5.6: T and Z may be small.
        moment = datetime.fromisoformat(_FRACTION.sub(r"\1", value.strip().upper()))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("out of range") from error


def _read_certificate(text: Any) -> Dsc | None:
    try:
        # As PEM, and as base64 with line ends, other programs write them.
        return read_dsc(parse_der_base64("".join(_PEM.sub("", text).split()))) if isinstance(text, str) else None
    except CredentialError:
        return None


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and infinities are no JSON")


def _malformed(identifier: Any, why: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "verdict": Outcome.MALFORMED.value,
        "detail": why,
        "detail_vi": "Yêu cầu kiểm tra không đúng định dạng.",
        "step": Step.REQUEST.value,
        "format": None,
    }
