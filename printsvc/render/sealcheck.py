"""Is the seal on a PDF whole, who made it, and was anything changed after it?

The file is hostile. Integrity and what later revisions changed are pyHanko's to judge; whose certificate is believed is
decided here, by the certificates that the caller pins: nothing inside the file adds to them. Whatever a parser raises
over such a file means that its seal is broken.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.diff_analysis import ModificationLevel
from pyhanko.sign.validation import async_validate_pdf_signature, async_validate_pdf_timestamp
from pyhanko.sign.validation.generic_cms import extract_tst_data_iter
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.status import SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from printsvc.domain.seal import DOCUMENT_SIGNING, SealReport, SealState

MAX_SIGNATURES: Final = 8
_MARKS: Final = (b"/ByteRange", b"/FT /Sig")
"""What stands in plain bytes wherever a signature is, or was before the file was cut."""
_END: Final = re.compile(rb"startxref\s+\d+\s+%%EOF\s*\Z")
_WORST_LAST: Final = (
    SealState.INTACT,
    SealState.SIGNER_EXPIRED,
    SealState.CHANGED,
    SealState.BROKEN,
    SealState.UNKNOWN_SIGNER,
)
# It tells of every odd file; what becomes of one is in the report.
logging.getLogger("pyhanko").setLevel(logging.CRITICAL)
logging.getLogger("pyhanko_certvalidator").setLevel(logging.CRITICAL)


def check_seal(
    pdf: bytes, *, authorities: Sequence[bytes], now: datetime, stamp_authorities: Sequence[bytes] = ()
) -> SealReport:
    """Return what the seal of a PDF is worth. Never raises; takes a thread for up to seconds.

    `authorities` (DER) are the CSCAs that are believed, `stamp_authorities` those of time stamps. Of several signatures
    the one of a believed signer counts. Call it off the event loop.
    """
    if not any(mark in pdf for mark in _MARKS):
        return SealReport(SealState.ABSENT)
    try:
        reports = asyncio.run(_check_all(pdf, authorities, stamp_authorities, now))
    except Exception:  # what a parser makes of hostile bytes: see the module's docstring
        return _broken("The file cannot be read as it was sealed.", "Không đọc được tệp như khi đóng dấu.")
    if not reports:
        # The bytes of a signature are there and the document no longer knows it: a later revision took it out.
        return _broken("The seal was taken out of the document.", "Dấu số đã bị gỡ khỏi tài liệu.")
    return min(reports, key=lambda report: _WORST_LAST.index(report.state))


async def _check_all(
    pdf: bytes, authorities: Sequence[bytes], stamp_authorities: Sequence[bytes], now: datetime
) -> list[SealReport]:
    reader = PdfFileReader(io.BytesIO(pdf), strict=True)
    found = reader.embedded_regular_signatures[:MAX_SIGNATURES]
    stamps = reader.embedded_timestamp_signatures[:MAX_SIGNATURES]
    reports = []
    for signature in found:
        try:
            reports.append(await _check(pdf, signature, stamps, authorities, stamp_authorities, now))
        except Exception:  # one broken signature beside a good one; as above
            reports.append(_broken("The signature cannot be read.", "Không đọc được chữ ký."))
    return reports


async def _check(
    pdf: bytes,
    signature: EmbeddedPdfSignature,
    stamps: Sequence[EmbeddedPdfSignature],
    authorities: Sequence[bytes],
    stamp_authorities: Sequence[bytes],
    now: datetime,
) -> SealReport:
    certificate = x509.load_der_x509_certificate(signature.signer_cert.dump())
    stamped_at = _stamped_at(signature.signer_info)
    stamp_roots = [asn1_x509.Certificate.load(der) for der in stamp_authorities]
    status = await async_validate_pdf_signature(
        signature,
        # Who is believed is decided below: the reason counts, and pyHanko would give one for all.
        signer_validation_context=_context([signature.signer_cert], now),
        ts_validation_context=_context(stamp_roots, stamped_at or now),
    )
    stamp = status.timestamp_validity
    trusted = bool(stamp is not None and stamp.intact and stamp.valid and stamp.trusted)
    trusted_at = stamp.timestamp if stamp is not None and trusted else None
    own_word = status.signer_reported_dt
    archival = trusted and await _is_archival(pdf, stamps, stamp_roots)
    told: dict[str, Any] = {
        "signer": _name(certificate.subject),
        "issuer": _name(certificate.issuer),
        "sealed_at": trusted_at or (None if own_word is None else own_word.astimezone(UTC)),
        "has_timestamp": stamp is not None,
        "timestamp_trusted": trusted,
        "is_archival": archival,
        "has_authorities": bool(authorities),
    }
    if not (status.intact and status.valid) or not _is_plain(pdf, signature):
        return SealReport(SealState.BROKEN, **told)
    if stamp is not None and not (stamp.intact and stamp.valid):
        reason = ("The time stamp in it is wrong.", "Dấu thời gian trong đó không đúng.")
        return SealReport(SealState.BROKEN, **told, reason=reason[0], reason_vi=reason[1])
    issuers = [authority for authority in authorities if _issued(certificate, authority)]
    if not issuers or not _may_seal(certificate):
        en, vi = _why_unknown(authorities, issuers)
        return SealReport(SealState.UNKNOWN_SIGNER, **told, reason=en, reason_vi=vi)
    if _is_changed(pdf, status):
        return SealReport(SealState.CHANGED, **told)
    at = trusted_at or now
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        return SealReport(SealState.SIGNER_EXPIRED, **told)
    return SealReport(SealState.INTACT, **told)


def _is_changed(pdf: bytes, status: Any) -> bool:
    """Return whether a later revision holds anything but what keeps the seal verifiable: certificates, time stamps.

    Bytes behind the last revision change nothing that a reader shows, but nobody sealed them.
    """
    if status.coverage == SignatureCoverageLevel.ENTIRE_FILE:
        return False
    kept = status.modification_level == ModificationLevel.LTA_UPDATES and _END.search(pdf[-1024:]) is not None
    return status.coverage != SignatureCoverageLevel.ENTIRE_REVISION or not kept


async def _is_archival(
    pdf: bytes, stamps: Sequence[EmbeddedPdfSignature], stamp_roots: Sequence[asn1_x509.Certificate]
) -> bool:
    """Return whether a trusted time stamp stands over the file and all that keeps it verifiable."""
    for stamp in stamps:
        at = stamp.signed_data["encap_content_info"]["content"].parsed["gen_time"].native
        status = await async_validate_pdf_timestamp(stamp, _context(stamp_roots, at))
        sound = status.intact and status.valid and status.trusted
        if sound and not _is_changed(pdf, status) and _is_plain(pdf, stamp):
            return True
    return False


def _is_plain(pdf: bytes, signature: EmbeddedPdfSignature) -> bool:
    """Return whether the hole that the signature leaves in the file holds its DER, zeros, and nothing else.

    What is in that hole is signed by nobody: without this a changed byte there would go unseen.
    """
    start, length, after, _ = (int(number) for number in signature.byte_range)
    hole = pdf[start + length : after]
    content = bytes(signature.pkcs7_content)
    if hole not in (b"<" + content.hex().encode() + b">", b"<" + content.hex().upper().encode() + b">"):
        return False
    info = cms.ContentInfo.load(content)
    der = info.dump()
    if content[len(der) :].strip(b"\0"):
        return False
    signed = info["content"]
    algorithm = signed["signer_infos"][0]["digest_algorithm"].dump()
    certificates = {choice.chosen.dump() for choice in signed["certificates"] if choice.name == "certificate"}
    return (
        info.dump(force=True) == der
        and len(signed["signer_infos"]) == 1
        and [one.dump() for one in signed["digest_algorithms"]] == [algorithm]
        and (signature.sig_object_type != "/Sig" or certificates == {signature.signer_cert.dump()})
    )


def _stamped_at(signer_info: cms.SignerInfo) -> datetime | None:
    for token in extract_tst_data_iter(signer_info, signed=False):
        found = token["encap_content_info"]["content"].parsed["gen_time"].native
        return found if isinstance(found, datetime) else None
    return None


def _context(roots: Sequence[asn1_x509.Certificate], at: datetime) -> ValidationContext:
    return ValidationContext(trust_roots=list(roots), moment=at, allow_fetching=False, revocation_mode="soft-fail")


def _issued(certificate: x509.Certificate, authority: bytes) -> bool:
    try:
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(authority))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _may_seal(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        key = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return key.content_commitment and any(usage.dotted_string == DOCUMENT_SIGNING for usage in usages)


def _why_unknown(authorities: Sequence[bytes], issuers: Sequence[bytes]) -> tuple[str, str]:
    if not authorities:
        return "No CSCA certificate is at hand to judge it by.", "Không có chứng thư CSCA để đối chiếu."
    if issuers:
        return "Its certificate is not one for sealing documents.", "Chứng thư này không dùng để ký tài liệu."
    return "", ""


def _name(name: x509.Name) -> str:
    wanted = (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COUNTRY_NAME)
    return ", ".join(str(part.value) for oid in wanted for part in name.get_attributes_for_oid(oid))


def _broken(reason: str, reason_vi: str) -> SealReport:
    return SealReport(SealState.BROKEN, reason=reason, reason_vi=reason_vi)
