"""One code, one verdict; and many codes, a line each.

The order is the order of trust: what cannot be read has no signer; what nobody vouches for is not looked into; only
then does the content speak.

    not_a_certificate > malformed > bad_signature (algorithm) > unknown_signer > bad_signature > schema_invalid
    > wrong_key_usage > revoked > not_yet_valid > expired > signer_expired > valid
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NoReturn

from printsvc.credential.cose import signature_agrees
from printsvc.credential.dcc import check_dcc, usage_of
from printsvc.credential.dsc import Dsc, parse_der_base64, read_dsc
from printsvc.credential.hcert import DecodedHcert, decode_hcert
from printsvc.credential.revocation import Revocations, RevocationSubject, Revoked
from printsvc.credential.trust import TrustList
from printsvc.errors import CredentialError, NotHcertError

CLOCK_SKEW: Final = timedelta(seconds=60)
"""A verifier's clock may be this far behind the issuer's: a paper is scanned within seconds of its signing."""

MAX_REASONS: Final = 5
MAX_CERTIFICATES: Final = 1000
_FRACTION = re.compile(r"(\.\d{6})\d+")


class Outcome(StrEnum):
    VALID = "valid"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_SIGNER = "unknown_signer"
    SIGNER_EXPIRED = "signer_expired"
    WRONG_KEY_USAGE = "wrong_key_usage"
    REVOKED = "revoked"
    SCHEMA_INVALID = "schema_invalid"
    MALFORMED = "malformed"
    NOT_A_CERTIFICATE = "not_a_certificate"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`step` names the check that failed (empty for valid). `claims` is None where nothing could be read.

    Claims of a verdict other than valid are what the code *says*; before `schema_invalid` in the order nobody vouches
    for them. `signer` is the DSC whose signature agreed. `revocation` is there exactly when the verdict is revoked.
    """

    verdict: Outcome
    detail: str
    detail_vi: str
    step: str = ""
    claims: dict[str, Any] | None = None
    signer: Dsc | None = None
    revocation: Revoked | None = None

    @property
    def is_valid(self) -> bool:
        return self.verdict is Outcome.VALID

    def to_json(self) -> dict[str, Any]:
        """Return the body that `POST /v1/verify` answers."""
        body: dict[str, Any] = {
            "verdict": self.verdict.value,
            "detail": self.detail,
            "detail_vi": self.detail_vi,
            "step": self.step,
        }
        if self.revocation is not None:
            body["revocation"] = self.revocation.to_json()
        if self.claims is not None:
            body["claims"] = self.claims
        return body


_SENTENCES: dict[Outcome, tuple[str, str]] = {
    Outcome.VALID: ("The certificate is genuine and valid.", "Chứng nhận là thật và còn hiệu lực."),
    Outcome.EXPIRED: ("The certificate has expired.", "Chứng nhận đã hết hạn."),
    Outcome.NOT_YET_VALID: ("The certificate is not valid yet.", "Chứng nhận chưa có hiệu lực."),
    Outcome.BAD_SIGNATURE: (
        "The signature is wrong: the code was altered or forged.",
        "Chữ ký sai: mã đã bị sửa hoặc giả mạo.",
    ),
    Outcome.UNKNOWN_SIGNER: (
        "The signer is not on the trust list.",
        "Bên ký không có trong danh sách tin cậy.",
    ),
    Outcome.SIGNER_EXPIRED: (
        "The certificate of the signer has expired or is not valid yet.",
        "Chứng thư của bên ký đã hết hạn hoặc chưa có hiệu lực.",
    ),
    Outcome.WRONG_KEY_USAGE: (
        "The signer may not sign this kind of certificate.",
        "Bên ký không được phép ký loại chứng nhận này.",
    ),
    Outcome.REVOKED: ("The certificate was revoked.", "Chứng nhận đã bị thu hồi."),
    Outcome.SCHEMA_INVALID: (
        "The signature is right, but the content is not a health certificate as the standard has it.",
        "Chữ ký đúng nhưng nội dung không theo chuẩn chứng nhận sức khỏe.",
    ),
    Outcome.MALFORMED: (
        "The code is damaged or incomplete; scan it again.",
        "Mã bị hỏng hoặc thiếu; hãy quét lại.",
    ),
    Outcome.NOT_A_CERTIFICATE: (
        "This is not the code of a health certificate.",
        "Đây không phải là mã chứng nhận sức khỏe.",
    ),
}


_STEPS_VI = {
    "prefix": "Mã không bắt đầu bằng HC1:.",
    "base45": "Mã có ký tự lạ, bị cắt hoặc quá dài.",
    "zlib": "Dữ liệu nén bị hỏng.",
    "cose": "Phong bì chữ ký bị hỏng.",
    "cbor": "Nội dung bị hỏng.",
    "claims": "Thiếu hoặc sai thông tin bắt buộc trong mã.",
}


def verify(code: Any, *, trust: TrustList, at: datetime, revocations: Revocations | None = None) -> Verdict:
    """Return the verdict on a code at the moment `at` (aware).

    Never raises for any `code`; what `revocations` raises goes through, because "could not ask" is not "not revoked".
    """
    if not isinstance(code, str):
        return _verdict(Outcome.NOT_A_CERTIFICATE, "prefix")
    try:
        decoded = decode_hcert(code)
    except NotHcertError as error:
        outcome = Outcome.NOT_A_CERTIFICATE if error.step == "prefix" else Outcome.MALFORMED
        return _verdict(outcome, error.step, reason=error.en, reason_vi=_STEPS_VI[error.step])
    claims = claims_of(decoded)
    if decoded.algorithm is None:
        return _verdict(
            Outcome.BAD_SIGNATURE,
            "algorithm",
            claims,
            reason="No algorithm that is allowed stands in the protected header.",
            reason_vi="Thuật toán ký không được chấp nhận.",
        )
    candidates = trust.candidates(decoded.kid)
    if not candidates:
        return _verdict(Outcome.UNKNOWN_SIGNER, "kid", claims)
    signers = [
        dsc
        for dsc in candidates
        if signature_agrees(dsc.public_key, decoded.algorithm, decoded.cose.signature, decoded.cose.to_be_signed)
    ]
    if not signers:
        return _verdict(Outcome.BAD_SIGNATURE, "signature", claims)
    return _verdict_on_content(decoded, claims, signers, at, revocations)


def _verdict_on_content(
    decoded: DecodedHcert, claims: dict[str, Any], signers: Sequence[Dsc], at: datetime, revocations: Revocations | None
) -> Verdict:
    first = signers[0]
    issued_on = decoded.issued_at.date() if decoded.issued_at else None
    problems = check_dcc(decoded.payload, issued_on=issued_on)
    usage = usage_of(decoded.payload)
    if problems or usage is None:
        fields = ", ".join(problem.partition(":")[0] for problem in problems[:MAX_REASONS])
        reason = "; ".join(problems[:MAX_REASONS])
        return _verdict(Outcome.SCHEMA_INVALID, "schema", claims, first, reason, f"Sai ở: {fields}.")
    # One key may stand in several DSCs: the one that allows most speaks.
    allowed = [dsc for dsc in signers if dsc.may_sign(usage)]
    if not allowed:
        return _verdict(Outcome.WRONG_KEY_USAGE, "key_usage", claims, first)
    in_force = [dsc for dsc in allowed if dsc.not_before - at <= CLOCK_SKEW and at <= dsc.not_after]
    signer = (in_force or allowed)[0]
    revoked = revocations.find(subject_of(decoded)) if revocations is not None else None
    if revoked is not None:
        reason, reason_vi = revoked.sentences()
        return replace(_verdict(Outcome.REVOKED, "revocation", claims, signer, reason, reason_vi), revocation=revoked)
    if decoded.issued_at is not None and decoded.issued_at - at > CLOCK_SKEW:
        return _verdict(Outcome.NOT_YET_VALID, "issued_at", claims, signer)
    # The second of exp itself still counts: so the EU's verifiers and test data have it, RFC 8392 would not. A
    # certificate without an end would outlive every signer: it has ended.
    if decoded.expires_at is None or decoded.expires_at < at:
        return _verdict(Outcome.EXPIRED, "expires_at", claims, signer)
    if not in_force:
        return _verdict(Outcome.SIGNER_EXPIRED, "signer", claims, signer)
    return _verdict(Outcome.VALID, "", claims, signer)


def subject_of(decoded: DecodedHcert) -> RevocationSubject:
    """Return what of a code can be revoked."""
    entries = [entry for group in ("v", "t", "r") for entry in decoded.payload.get(group) or ()]
    return RevocationSubject(
        country=decoded.issuer or "",
        uvcis=tuple(entry["ci"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("ci"), str)),
        kid=decoded.kid,
        signature=decoded.cose.signature,
        algorithm=decoded.algorithm,
    )


def claims_of(decoded: DecodedHcert) -> dict[str, Any]:
    """Return what a code says, ready for JSON: issuer, issued_at, expires_at, kid (base64) and hcert (the payload)."""
    return {
        "issuer": decoded.issuer,
        "issued_at": _encode_time(decoded.issued_at),
        "expires_at": _encode_time(decoded.expires_at),
        "kid": None if decoded.kid is None else base64.b64encode(decoded.kid).decode("ascii"),
        "hcert": decoded.payload,
    }


def verify_line(
    line: str, *, trust: TrustList, now: datetime, revocations: Revocations | None = None
) -> dict[str, Any]:
    """Return `{"id", "verdict", "detail", "claims"?}` for `{"id", "code", "at"?, "certificates"?}`.

    `certificates` (base64 DER) are then the whole trust list for that line; one of them that cannot be read is trusted
    by nobody and is passed over. `at` is ISO 8601 (UTC where it names no zone) or seconds since 1970; `now` without it.
    """
    try:
        request = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return _malformed(None, "The line is not JSON.")
    answer = verify_request(request, trust=trust, now=now, revocations=revocations)
    return {name: answer[name] for name in ("id", "verdict", "detail", "claims") if name in answer}


def verify_request(
    request: Any, *, trust: TrustList, now: datetime, revocations: Revocations | None = None
) -> dict[str, Any]:
    """Like `verify_line`, for a line that is decoded; the answer also has `detail_vi` and `step`."""
    if not isinstance(request, dict):
        return _malformed(None, "The line is not a JSON object.")
    identifier = request.get("id")
    if isinstance(identifier, dict | list) or identifier in (math.inf, -math.inf):
        identifier = None
    if "code" not in request:
        return _malformed(identifier, "The line has no code.")
    given = request.get("certificates")
    if given is not None:
        if not isinstance(given, list) or len(given) > MAX_CERTIFICATES:
            return _malformed(identifier, "`certificates` is not a list of base64 texts.")
        trust = TrustList(version=0, made_at=now, certificates=tuple(filter(None, map(_read_certificate, given))))
    at = now
    if request.get("at") is not None:
        try:
            at = parse_instant(request["at"])
        except ValueError:
            return _malformed(identifier, "`at` is not a point in time.")
    verdict = verify(request["code"], trust=trust, at=at, revocations=revocations)
    return {"id": identifier} | verdict.to_json()


def parse_instant(value: Any) -> datetime:
    """Return an aware UTC time from ISO 8601 or seconds since 1970. Raises ValueError."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if not isinstance(value, str):
            raise ValueError("not a time")
        moment = datetime.fromisoformat(_FRACTION.sub(r"\1", value.strip()))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("out of range") from error


def _read_certificate(text: Any) -> Dsc | None:
    try:
        return read_dsc(parse_der_base64(text)) if isinstance(text, str) else None
    except CredentialError:
        return None


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and infinities are no JSON")


def _malformed(identifier: Any, why: str) -> dict[str, Any]:
    detail_vi = "Yêu cầu kiểm tra không đúng định dạng."
    return {
        "id": identifier,
        "verdict": Outcome.MALFORMED.value,
        "detail": why,
        "detail_vi": detail_vi,
        "step": "request",
    }


def _verdict(
    outcome: Outcome,
    step: str,
    claims: dict[str, Any] | None = None,
    signer: Dsc | None = None,
    reason: str = "",
    reason_vi: str = "",
) -> Verdict:
    en, vi = _SENTENCES[outcome]
    return Verdict(
        verdict=outcome,
        detail=f"{en} {reason}" if reason else en,
        detail_vi=f"{vi} {reason_vi}" if reason_vi else vi,
        step=step,
        claims=claims,
        signer=signer,
    )


def _encode_time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
