"""ICAO VDS-NC: JSON with data, signature and the signer's certificate in the code itself.

The certificate that a code brings is believed only where it is pinned itself, or was issued by a pinned CSCA for this
use; it is never what decides. Signed is the canonical JSON of `data` (RFC 8785).
Source: ICAO Doc 9303, part 13; "Guidelines: VDS for Travel-Related Public Health Proofs", 3; part 12 (key usage).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, TypeVar

import rfc8785
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from printsvc.credential.cose import Algorithm
from printsvc.credential.dsc import Dsc, Usage, read_dsc
from printsvc.credential.limits import MAX_CHAIN_DER, MAX_DECOMPRESSED
from printsvc.credential.reading import Reading, Signer, make_claims, make_dose, member, objects, text_or_none
from printsvc.credential.revocation import RevocationSubject
from printsvc.credential.strictjson import parse_base64url, parse_json
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat, TrustedKey
from printsvc.errors import CodeError, CredentialError

OID_VDS_NC_SIGNER: Final = "2.23.136.1.1.14.2"
VACCINATION, TEST = "icao.vacc", "icao.test"
_DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    "ES256": hashes.SHA256(),
    "ES384": hashes.SHA384(),
    "ES512": hashes.SHA512(),
}
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_UNREADABLE: Final = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_STATE = re.compile(r"[A-Z<]{1,3}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T.{5,20})?")


def read_vdsnc(text: str) -> Reading:
    """Return what a seal says; a list of one is read as that one. Raises CodeError with the step that failed."""
    if len(text) > MAX_DECOMPRESSED:
        raise CodeError("container", "The code is longer than any QR code.", vi="Mã dài hơn mọi mã QR.")
    document = parse_json(text)
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    data, seal = member(document, "data"), member(document, "sig")
    if not isinstance(member(data, "hdr"), dict) or not isinstance(member(data, "msg"), dict):
        raise _broken("The seal has no header or no message.")
    parts = [member(seal, name) for name in ("alg", "cer", "sigvl")]
    if not all(isinstance(part, str) for part in parts):
        raise _broken("The seal has no signature, or no certificate of its signer.")
    algorithm, certificate, signature = parts[0], parse_base64url(parts[1]), parse_base64url(parts[2])
    if len(certificate) > MAX_CHAIN_DER:
        raise _broken("The certificate in the seal is too long.")
    try:
        signed = rfc8785.dumps(data)
    except (rfc8785.CanonicalizationError, ValueError, RecursionError):
        raise _broken("The message has no canonical form.") from None
    # What is shown is what was signed: 1.0 and 1 are one number in the canonical form.
    data = parse_json(signed)
    header, message = data["hdr"], data["msg"]
    thumbprint = hashlib.sha256(certificate).hexdigest()
    digest = _DIGESTS.get(algorithm)

    def signers(trust: TrustList) -> Sequence[TrustedKey]:
        pinned = [key for key in trust.keys.candidates(CredentialFormat.VDS_NC, thumbprint) if not key.is_anchor]
        if pinned:
            return pinned
        anchors = trust.keys.anchors(CredentialFormat.VDS_NC)
        issued = _issued(certificate, tuple(one.certificate for one in anchors if one.certificate is not None))
        return [] if issued is None else [issued]

    def agrees(signer: Signer) -> bool:
        return digest is not None and _agrees(signer.public_key, digest, signature, signed)

    kind = header.get("t")
    identifier = message.get("uvci") if kind == VACCINATION else message.get("utci")
    return Reading(
        format=CredentialFormat.VDS_NC,
        claims=make_claims(
            issuer=text_or_none(header.get("is")),
            issued_at=None,
            expires_at=None,
            kid=thumbprint,
            name=text_or_none(member(message, "pid", "n")),
            date_of_birth=text_or_none(member(message, "pid", "dob")),
            doses=list(_doses(message)),
            payload=("vds-nc", data),
        ),
        problems=lambda: list(_problems(header, message)),
        usage=Usage.VACCINATION if kind == VACCINATION else Usage.TEST if kind == TEST else None,
        starts_at=None,
        ends_at=None,
        must_end=False,
        algorithm_allowed=digest is not None,
        subject=RevocationSubject(
            country=str(header.get("is", "")),
            uvcis=(identifier,) if isinstance(identifier, str) else (),
            kid=bytes.fromhex(thumbprint)[:8],
            signature=signature,
            # Whatever the curve, (r, n - s) agrees too: only R identifies.
            algorithm=Algorithm.ES256,
        ),
        signers=signers,
        agrees=agrees,
    )


@lru_cache(maxsize=256)
def _issued(der: bytes, anchors: tuple[bytes, ...]) -> TrustedKey | None:
    """Return the signer of `der` where one of these CSCAs issued it for VDS-NC, within the time of both; else None."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        issuer = certificate.issuer.public_bytes()
        limits = _extension(certificate, x509.BasicConstraints)
        usages = _extension(certificate, x509.ExtendedKeyUsage)
        dsc = read_dsc(der)
    except (ValueError, TypeError, UnsupportedAlgorithm, CredentialError, *_UNREADABLE):
        return None
    if limits is not None and limits.ca:
        return None
    above = next((one for one in map(_authority, anchors) if one is not None and one.issued(certificate, issuer)), None)
    if above is None:
        return None
    key = TrustedKey(
        kid=dsc.thumbprint,
        format=CredentialFormat.VDS_NC,
        public_key=dsc.public_key,
        not_before=max(dsc.not_before, above.dsc.not_before),
        not_after=min(dsc.not_after, above.dsc.not_after),
        country=dsc.country,
        certificate=der,
    )
    allowed = usages is None or any(one.dotted_string == OID_VDS_NC_SIGNER for one in usages)
    # A signer of passports may not sign proofs of health: known, and allowed nothing that a proof can be.
    return key if allowed else replace(key, usages=frozenset({Usage.RECOVERY}))


@dataclass(frozen=True, slots=True)
class _Authority:
    subject: bytes
    certificate: x509.Certificate
    dsc: Dsc

    def issued(self, certificate: x509.Certificate, issuer: bytes) -> bool:
        if issuer != self.subject:
            return False
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True


@lru_cache(maxsize=2048)
def _authority(der: bytes) -> _Authority | None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        return _Authority(certificate.subject.public_bytes(), certificate, read_dsc(der))
    except (ValueError, TypeError, UnsupportedAlgorithm, CredentialError, *_UNREADABLE):
        return None


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _agrees(key: Any, digest: hashes.HashAlgorithm, signature: bytes, signed: bytes) -> bool:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    width = (key.key_size + 7) // 8
    if len(signature) != 2 * width:
        return False
    r, s = int.from_bytes(signature[:width], "big"), int.from_bytes(signature[width:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _doses(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for event in objects(message.get("ve")):
        for dose in objects(event.get("vd")):
            yield make_dose(
                product=text_or_none(event.get("nam")) or event.get("des"),
                date=dose.get("dvc"),
                number=dose.get("seq"),
                country=dose.get("ctr"),
                issuer=dose.get("adm"),
            )


def _problems(header: dict[str, Any], message: dict[str, Any]) -> Iterator[str]:
    kind = header.get("t")
    if kind not in (VACCINATION, TEST):
        yield "hdr/t: neither a vaccination nor a test"
    if header.get("v") != 1 or isinstance(header.get("v"), bool):
        yield "hdr/v: not version 1"
    if not isinstance(header.get("is"), str) or not _STATE.fullmatch(header["is"]):
        yield "hdr/is: not a state's code"
    if text_or_none(member(message, "pid", "n")) is None:
        yield "msg/pid/n: missing"
    born = member(message, "pid", "dob")
    if born is not None and not (isinstance(born, str) and _DATE.fullmatch(born)):
        yield "msg/pid/dob: not a date"
    if kind == VACCINATION:
        yield from _vaccination_problems(message)
    elif kind == TEST:
        if text_or_none(message.get("utci")) is None:
            yield "msg/utci: missing"
        for name in ("sp", "dat", "tr"):
            if not isinstance(message.get(name), dict):
                yield f"msg/{name}: missing"


def _vaccination_problems(message: dict[str, Any]) -> Iterator[str]:
    if text_or_none(message.get("uvci")) is None:
        yield "msg/uvci: missing"
    events = objects(message.get("ve"))
    if not events:
        yield "msg/ve: no vaccination"
    for index, event in enumerate(events):
        if text_or_none(event.get("des")) is None and text_or_none(event.get("nam")) is None:
            yield f"msg/ve/{index}/des: missing"
        doses = objects(event.get("vd"))
        if not doses:
            yield f"msg/ve/{index}/vd: no dose"
        for number, dose in enumerate(doses):
            date = dose.get("dvc")
            if not (isinstance(date, str) and _DATE.fullmatch(date)):
                yield f"msg/ve/{index}/vd/{number}/dvc: not a date"
            if text_or_none(dose.get("ctr")) is None:
                yield f"msg/ve/{index}/vd/{number}/ctr: missing"


def _broken(en: str) -> CodeError:
    return CodeError("structure", en, vi="Nội dung mã bị hỏng.")
