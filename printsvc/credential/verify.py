"""One code, one verdict, whatever its format.

The order is the order of trust: what cannot be read has no signer; what nobody vouches for is not looked into; only
then does the content speak.

    not_a_certificate > malformed > bad_signature (algorithm) > unknown_signer > bad_signature > schema_invalid
    > wrong_key_usage > revoked > not_yet_valid > expired > signer_expired > valid
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from printsvc.credential.dsc import Dsc
from printsvc.credential.formats import read_code, recognise, subject_of
from printsvc.credential.outcome import Outcome, Step, Verdict, make_verdict
from printsvc.credential.reading import Reading, Signer
from printsvc.credential.revocation import Revocations
from printsvc.credential.trust import TrustList
from printsvc.errors import CodeError, NotHcertError

__all__ = ["CLOCK_SKEW", "Outcome", "Step", "Verdict", "subject_of", "verify"]

CLOCK_SKEW: Final = timedelta(seconds=60)
"""A verifier's clock may be this far behind the issuer's: a paper is scanned within seconds of its signing."""

MAX_REASONS: Final = 5

_HCERT_STEPS: Final[dict[str, tuple[Step, str]]] = {
    "prefix": (Step.CONTAINER, "Mã không bắt đầu bằng HC1:."),
    "base45": (Step.ENCODING, "Mã có ký tự lạ, bị cắt hoặc quá dài."),
    "zlib": (Step.DECOMPRESSION, "Dữ liệu nén bị hỏng."),
    "cose": (Step.STRUCTURE, "Phong bì chữ ký bị hỏng."),
    "cbor": (Step.STRUCTURE, "Nội dung bị hỏng."),
    "claims": (Step.STRUCTURE, "Thiếu hoặc sai thông tin bắt buộc trong mã."),
}


def verify(code: Any, *, trust: TrustList, at: datetime, revocations: Revocations | None = None) -> Verdict:
    """Return the verdict on a code (text, or the bytes of a QR) at the moment `at` (aware).

    Never raises for any `code`; what `revocations` raises goes through, because "could not ask" is not "not revoked".
    """
    found = recognise(code) if isinstance(code, str | bytes) else None
    if found is None:
        return make_verdict(Outcome.NOT_A_CERTIFICATE, Step.CONTAINER)
    try:
        reading = read_code(code, found)
    except NotHcertError as error:
        step, reason_vi = _HCERT_STEPS[error.step]
        return make_verdict(Outcome.MALFORMED, step, found, reason=error.en, reason_vi=reason_vi)
    except CodeError as error:
        return make_verdict(Outcome.MALFORMED, Step(error.step), found, reason=error.en, reason_vi=error.vi)
    if not reading.algorithm_allowed:
        return _refuse(
            reading,
            Outcome.BAD_SIGNATURE,
            Step.SIGNATURE,
            reason="No algorithm that is allowed stands in the protected header.",
            reason_vi="Thuật toán ký không được chấp nhận.",
        )
    candidates = reading.signers(trust)
    if not candidates:
        return _refuse(reading, Outcome.UNKNOWN_SIGNER, Step.SIGNER)
    signers = [signer for signer in candidates if reading.agrees(signer)]
    if not signers:
        return _refuse(reading, Outcome.BAD_SIGNATURE, Step.SIGNATURE)
    return _judge_content(reading, signers, at, revocations)


def _judge_content(
    reading: Reading, signers: Sequence[Signer], at: datetime, revocations: Revocations | None
) -> Verdict:
    problems = reading.problems()
    if problems:
        fields = ", ".join(problem.partition(":")[0] for problem in problems[:MAX_REASONS])
        reason = "; ".join(problems[:MAX_REASONS])
        return _refuse(reading, Outcome.SCHEMA_INVALID, Step.SCHEMA, signers[0], reason, f"Sai ở: {fields}.")
    # One key may stand in several certificates: the one that allows most speaks.
    allowed = [signer for signer in signers if _may_sign(signer, reading)]
    if not allowed:
        return _refuse(reading, Outcome.WRONG_KEY_USAGE, Step.SIGNER, signers[0])
    in_force = [signer for signer in allowed if _in_force(signer, at)]
    signer = (in_force or allowed)[0]
    revoked = revocations.find(reading.subject) if revocations is not None else None
    if revoked is not None:
        refused = _refuse(reading, Outcome.REVOKED, Step.REVOCATION, signer, *revoked.sentences())
        return refused._replace(revocation=revoked)
    if reading.starts_at is not None and reading.starts_at - at > CLOCK_SKEW:
        return _refuse(reading, Outcome.NOT_YET_VALID, Step.TIME, signer)
    # The second of exp itself still counts: so the EU's verifiers and test data have it, RFC 8392 would not. An HCERT
    # without an end would outlive every signer: it has ended.
    if reading.ends_at is None and reading.must_end:
        return _refuse(
            reading,
            Outcome.EXPIRED,
            Step.TIME,
            signer,
            "It states no end, which every certificate must have.",
            "Chứng nhận không ghi thời hạn.",
        )
    if reading.ends_at is not None and reading.ends_at < at:
        return _refuse(reading, Outcome.EXPIRED, Step.TIME, signer)
    if not in_force:
        return _refuse(reading, Outcome.SIGNER_EXPIRED, Step.SIGNER, signer)
    return make_verdict(Outcome.VALID, None, reading.format, reading.claims, signer)


def _may_sign(signer: Signer, reading: Reading) -> bool:
    """Return whether the signer may sign this kind, and this UVCI: a delegated one has a range, and that alone."""
    if reading.usage is not None and not signer.may_sign(reading.usage):
        return False
    beginning = signer.uvci_beginning if isinstance(signer, Dsc) else ""
    return not beginning or all(uci.startswith(beginning) for uci in reading.subject.uvcis)


def _in_force(signer: Signer, at: datetime) -> bool:
    begun = signer.not_before is None or signer.not_before - at <= CLOCK_SKEW
    return begun and (signer.not_after is None or at <= signer.not_after)


def _refuse(
    reading: Reading,
    outcome: Outcome,
    step: Step,
    signer: Signer | None = None,
    reason: str = "",
    reason_vi: str = "",
) -> Verdict:
    return make_verdict(outcome, step, reading.format, reading.claims, signer, reason, reason_vi)
