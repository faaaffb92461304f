"""Sealing a digital copy: a PAdES signature over a PDF of ours, with a field that shows it where the form has room.

The paper is never sealed: its agent knows the page by the digest that the stamp gives. The signature certifies the
document and allows no changes; what a time stamp adds later is not one. Slow (tens of milliseconds, and the answer of
the time stamping authority): call it on a thread of its own.
Source: ETSI EN 319 142-1 (B-B, B-T, B-LTA); ISO 32000-2, 12.8.
"""

# pyHanko has types, but for the constructors of its PDF objects.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from asn1crypto import x509 as asn1_x509
from asn1crypto.algos import SignedDigestAlgorithm
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import pdf_name
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.sign import fields
from pyhanko.sign.general import SigningError as PyhankoSigningError
from pyhanko.sign.signers.pdf_cms import Signer as CmsSigner
from pyhanko.sign.signers.pdf_signer import PdfSignatureMetadata, PdfSigner, PdfSigningSession
from pyhanko.sign.timestamps import HTTPTimeStamper, TimestampRequestError
from pyhanko.stamp.noop import NoOpStampStyle
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.registry import SimpleCertificateStore

from printsvc.domain.seal import SealPlace, SealSigner, TimeStamping
from printsvc.errors import RenderError, SealTimeError
from printsvc.render.sealface import draw_seal, make_face

FIELD: Final = "Seal"
_LABEL: Final = "Dấu số của cơ quan cấp / Digital seal of the issuer"
_HEADING: Final = "Bản điện tử đã ký số / Digitally sealed copy"
_TIME: Final = "Lúc / At {:%d/%m/%Y %H:%M:%S} (UTC+7)"
_VIETNAM: Final = timezone(timedelta(hours=7))
# The salt is as long as the digest, as `SealSigner` has it; pyHanko's own choice is the longest that fits.
_PSS: Final = {
    "algorithm": "rsassa_pss",
    "parameters": {
        "hash_algorithm": {"algorithm": "sha256"},
        "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": {"algorithm": "sha256"}},
        "salt_length": 32,
    },
}
_PROBLEMS: Final = (PdfError, PyhankoSigningError, ValueError, KeyError, TypeError)


def seal_pdf(
    pdf: bytes,
    signer: SealSigner,
    *,
    now: datetime,
    font: bytes,
    place: SealPlace | None = None,
    issuers: Sequence[bytes] = (),
    stamping: TimeStamping | None = None,
) -> bytes:
    """Return the PDF with a seal on it; what was there before stays as it was, byte for byte.

    Without a `place` the seal is not seen on the page. `issuers` (DER) are the signer's CSCA, needed for B-LTA alone.
    Raises RenderError for a PDF that cannot be sealed, SealTimeError where the authority does not answer.
    """
    try:
        writer = _Writer(io.BytesIO(pdf))
        _add_field(writer, place, seal_lines(signer.certificate, now), font)
        sealed = io.BytesIO()
        pdf_signer = _Signer(
            _metadata(issuers, stamping, now),
            _Cms(signer),
            now,
            timestamper=HTTPTimeStamper(stamping.url, timeout=stamping.timeout_s) if stamping else None,
        )
        pdf_signer.sign_pdf(writer, existing_fields_only=True, output=sealed)
        return sealed.getvalue()
    except TimestampRequestError as error:
        raise SealTimeError(
            "The time stamping authority does not answer as it should.",
            vi="Dịch vụ cấp dấu thời gian không trả lời đúng.",
        ) from error
    except _PROBLEMS as error:
        raise RenderError(
            f"The digital copy cannot be sealed: {type(error).__name__}.",
            vi="Không đóng được dấu số lên bản điện tử.",
        ) from error


def seal_lines(certificate: bytes, now: datetime) -> list[str]:
    """Return what stands in the seal: what it is, who sealed, when (Vietnamese time)."""
    subject = x509.load_der_x509_certificate(certificate).subject
    names = [
        str(name.value)
        for oid in (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COUNTRY_NAME)
        for name in subject.get_attributes_for_oid(oid)
    ]
    return [_HEADING, ", ".join(names), _TIME.format(now.astimezone(_VIETNAM))]


class _Writer(IncrementalPdfFileWriter):
    def _update_meta(self) -> None:
        """Leave the metadata alone: they say what the document is (PDF/UA), and a seal changes nothing of that."""


class _Signer(PdfSigner):
    """pyHanko's, at the time that it is given."""

    def __init__(self, metadata: PdfSignatureMetadata, signer: CmsSigner, now: datetime, **more: Any) -> None:
        super().__init__(metadata, signer, stamp_style=NoOpStampStyle(), **more)
        self._now = now

    def init_signing_session(self, *arguments: Any, **more: Any) -> PdfSigningSession:
        session = super().init_signing_session(*arguments, **more)
        session.system_time = self._now
        return session


class _Cms(CmsSigner):
    """A signer whose key is wherever `SealSigner` has it."""

    def __init__(self, signer: SealSigner) -> None:
        public = x509.load_der_x509_certificate(signer.certificate).public_key()
        self._elliptic = isinstance(public, EllipticCurvePublicKey)
        # DER of r and s of 32 bytes each takes 72 bytes at most; an RSA signature is as long as its modulus.
        self._size = 72 if self._elliptic else public.key_size // 8  # type: ignore[union-attr]
        super().__init__(
            signing_cert=asn1_x509.Certificate.load(signer.certificate),
            cert_registry=SimpleCertificateStore(),
            signature_mechanism=SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"} if self._elliptic else _PSS),
            embed_roots=False,
        )
        self._signer = signer

    async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:
        if dry_run:
            return bytes(self._size)
        signature = self._signer.sign(data)
        if not self._elliptic:
            return signature
        half = len(signature) // 2
        return encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))


def _metadata(issuers: Sequence[bytes], stamping: TimeStamping | None, now: datetime) -> PdfSignatureMetadata:
    archival: dict[str, Any] = {}
    if stamping is not None and stamping.authorities:
        roots = [asn1_x509.Certificate.load(der) for der in (*issuers, *stamping.authorities)]
        context = ValidationContext(trust_roots=roots, moment=now, allow_fetching=False, revocation_mode="soft-fail")
        archival = {"embed_validation_info": True, "use_pades_lta": True, "validation_context": context}
    return PdfSignatureMetadata(
        field_name=FIELD,
        md_algorithm="sha256",
        subfilter=fields.SigSeedSubFilter.PADES,
        certify=True,
        docmdp_permissions=fields.MDPPerm.NO_CHANGES,
        signer_key_usage={"non_repudiation"},
        **archival,
    )


def _add_field(writer: IncrementalPdfFileWriter, place: SealPlace | None, lines: Sequence[str], font: bytes) -> None:
    page_index = 0 if place is None else place.page - 1
    page = writer.find_page_for_modification(page_index)[0]
    box = None
    if place is not None:
        _, bottom, _, top = (float(edge) for edge in page.get_object()["/MediaBox"])
        box = (
            place.left_pt,
            bottom + top - place.top_pt - place.height_pt,
            place.left_pt + place.width_pt,
            bottom + top - place.top_pt,
        )
    fields.append_signature_field(
        writer,
        fields.SigFieldSpec(FIELD, on_page=page_index, box=box, readable_field_name=_LABEL),  # type: ignore[arg-type]
    )
    widget = writer.root["/AcroForm"]["/Fields"].raw_get(-1)
    field = widget.get_object()
    if place is not None:
        drawn = draw_seal(writer, make_face(font, lines), lines, place.width_pt, place.height_pt)
        field["/AP"] = generic.DictionaryObject({pdf_name("/N"): drawn})
        _tag(writer, widget, page)
    writer.update_container(field)


def _tag(writer: IncrementalPdfFileWriter, widget: generic.IndirectObject, page: Any) -> None:
    """Put the field into the structure of a tagged PDF, last in the document (ISO 14289-1, 7.18.4)."""
    if "/StructTreeRoot" not in writer.root:
        return
    root = writer.root["/StructTreeRoot"]
    if "/ParentTree" not in root or "/Nums" not in root["/ParentTree"] or "/K" not in root:
        return
    kids = root["/K"]
    document_ref = kids.raw_get(0) if isinstance(kids, generic.ArrayObject) else root.raw_get("/K")
    document = document_ref.get_object()
    numbers = root["/ParentTree"]["/Nums"]
    key = max((int(number) for number in list(numbers)[::2]), default=-1) + 1
    reference = generic.DictionaryObject(
        {pdf_name("/Type"): pdf_name("/OBJR"), pdf_name("/Obj"): widget, pdf_name("/Pg"): page}
    )
    element = writer.add_object(
        generic.DictionaryObject(
            {
                pdf_name("/Type"): pdf_name("/StructElem"),
                pdf_name("/S"): pdf_name("/Form"),
                pdf_name("/P"): document_ref,
                pdf_name("/Pg"): page,
                pdf_name("/Alt"): generic.TextStringObject(_LABEL),
                pdf_name("/K"): reference,
            }
        )
    )
    inside = document["/K"]
    if isinstance(inside, generic.ArrayObject):
        inside.append(element)
        writer.update_container(inside)
    else:
        document["/K"] = generic.ArrayObject([document.raw_get("/K"), element])
        writer.update_container(document)
    numbers.extend([generic.NumberObject(key), element])
    writer.update_container(numbers)
    if "/ParentTreeNextKey" in root:
        root["/ParentTreeNextKey"] = generic.NumberObject(key + 1)
        writer.update_container(root)
    widget.get_object()["/StructParent"] = generic.NumberObject(key)
