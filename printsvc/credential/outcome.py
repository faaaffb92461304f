"""The verdict: one word, the step that failed, a sentence in both languages, and what the code says."""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Any, Final, NamedTuple

from printsvc.credential.reading import Signer
from printsvc.credential.revocation import Revoked
from printsvc.credential.trustedkey import CredentialFormat, TrustedKey


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


class Step(StrEnum):
    """What a code goes through, in this order; each is one sentence of `docs/verify.md`."""

    REQUEST = "request"
    CONTAINER = "container"
    ENCODING = "encoding"
    DECOMPRESSION = "decompression"
    STRUCTURE = "structure"
    SIGNER = "signer"
    SIGNATURE = "signature"
    SCHEMA = "schema"
    REVOCATION = "revocation"
    TIME = "time"


class Verdict(NamedTuple):
    """`step` names the check that failed (None for valid). `claims` is None where nothing could be read.

    Claims of a verdict other than valid are what the code *says*; before `schema_invalid` in the order nobody vouches
    for them. `signer` is the one whose signature agreed. `revocation` is there exactly when the verdict is revoked.
    `format` is None where none could be recognised.
    """

    verdict: Outcome
    detail: str
    detail_vi: str
    step: Step | None = None
    format: CredentialFormat | None = None
    claims: dict[str, Any] | None = None
    signer: Signer | None = None
    revocation: Revoked | None = None

    @property
    def is_valid(self) -> bool:
        return self.verdict is Outcome.VALID

    def to_json(self) -> dict[str, Any]:
        """Return the body that `POST /v1/verify` answers."""
        body: dict[str, Any] = {
            "verdict": str(self.verdict),
            "detail": self.detail,
            "detail_vi": self.detail_vi,
            "step": "" if self.step is None else str(self.step),
            "format": None if self.format is None else str(self.format),
        }
        if self.signer is not None:
            body["signer"] = {"kid": _kid_text(self.signer), "country": self.signer.country}
        if self.claims is not None:
            body["claims"] = self.claims
        if self.revocation is not None:
            body["revocation"] = self.revocation.to_json()
        return body


SENTENCES: Final[dict[Outcome, tuple[str, str]]] = {
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


def make_verdict(
    outcome: Outcome,
    step: Step | None,
    format: CredentialFormat | None = None,  # noqa: A002  the field's name
    claims: dict[str, Any] | None = None,
    signer: Signer | None = None,
    reason: str = "",
    reason_vi: str = "",
) -> Verdict:
    """Return the verdict with the outcome's sentence, and the reason after it."""
    en, vi = SENTENCES[outcome]
    return Verdict(
        verdict=outcome,
        detail=f"{en} {reason}" if reason else en,
        detail_vi=f"{vi} {reason_vi}" if reason_vi else vi,
        step=step,
        format=format,
        claims=claims,
        signer=signer,
    )


def _kid_text(signer: Signer) -> str:
    if isinstance(signer, TrustedKey):
        return signer.kid
    return base64.b64encode(getattr(signer, "kid", b"")).decode("ascii")
