"""SMART Health Cards: `shc:/` and digits → JWS → raw DEFLATE → a FHIR bundle in a W3C credential.

Source: SMART Health Cards Framework 1.4, "Health Cards are encoded as Compact Serialization JSON Web Signatures" and
"Encoding Chunks as QR Codes"; RFC 7515, 7.1; RFC 1951.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from printsvc.credential.cose import Algorithm, signature_agrees
from printsvc.credential.dsc import Usage
from printsvc.credential.limits import MAX_DECOMPRESSED, MAX_SHC_TEXT
from printsvc.credential.reading import Reading, Signer, make_claims, make_dose, member, objects, text_or_none
from printsvc.credential.revocation import RevocationSubject
from printsvc.credential.strictjson import parse_base64url, parse_json
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat, TrustedKey
from printsvc.errors import CodeError

PREFIX: Final = "shc:/"
_CHUNK = re.compile(r"([0-9]{1,4})/([0-9]{1,4})/")
_DIGITS = re.compile(r"[0-9]+")
_OFFSET: Final = 45
_HIGHEST: Final = ord("z") - _OFFSET
_CARD_TYPE: Final = "https://smarthealth.cards#health-card"
_LAST_INSTANT: Final = 253_402_214_400  # 9999-12-31T00:00:00Z
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?(T.{5,30})?")


def read_shc(text: str) -> Reading:
    """Return what a card says. Raises CodeError with the step that failed."""
    parts = decode_numeric(text).split(".")
    if len(parts) != 3:
        raise _broken("A JWS in compact form has three parts.")
    header = parse_json(_sized(parse_base64url(parts[0])))
    signature = parse_base64url(parts[2])
    if not isinstance(header, dict) or not isinstance(header.get("kid"), str) or "crit" in header:
        raise _broken("The header of the JWS is not that of a health card.")
    if header.get("zip") != "DEF":
        raise CodeError("decompression", "The card does not say that it is compressed.", vi="Thẻ không được nén.")
    payload = parse_json(inflate_raw(parse_base64url(parts[1])))
    if not isinstance(payload, dict) or not isinstance(payload.get("iss"), str):
        raise _broken("The card names no issuer.")
    kid: str = header["kid"]
    issuer: str = payload["iss"]
    starts_at, ends_at = _instant(payload.get("nbf")), _instant(payload.get("exp"))
    bundle = member(payload, "vc", "credentialSubject", "fhirBundle")
    resources = [one["resource"] for one in objects(member(bundle, "entry")) if isinstance(one.get("resource"), dict)]
    patients = [one for one in resources if one.get("resourceType") == "Patient"]
    shots = [one for one in resources if one.get("resourceType") == "Immunization"]
    tests = [one for one in resources if one.get("resourceType") == "Observation"]
    algorithm = Algorithm.ES256 if header.get("alg") == "ES256" else None
    signed = f"{parts[0]}.{parts[1]}".encode("ascii")

    def signers(trust: TrustList) -> Sequence[TrustedKey]:
        # A key speaks for its issuer alone: else any listed issuer could sign as any other.
        return [key for key in trust.keys.candidates(CredentialFormat.SHC, kid) if _same_issuer(key.issuer, issuer)]

    def agrees(signer: Signer) -> bool:
        return signature_agrees(signer.public_key, Algorithm.ES256, signature, signed)

    rid = member(payload, "vc", "rid")
    return Reading(
        format=CredentialFormat.SHC,
        claims=make_claims(
            issuer=issuer,
            issued_at=starts_at,
            expires_at=ends_at,
            kid=kid,
            name=_name(patients[0]) if patients else None,
            date_of_birth=text_or_none(patients[0].get("birthDate")) if patients else None,
            doses=[_dose(shot) for shot in shots],
            payload=("shc", payload),
        ),
        problems=lambda: list(_problems(payload, patients, shots, tests)),
        usage=Usage.VACCINATION if shots else Usage.TEST if tests else None,
        starts_at=starts_at,
        ends_at=ends_at,
        must_end=False,
        algorithm_allowed=algorithm is not None,
        subject=RevocationSubject(
            country=issuer,
            uvcis=(rid,) if isinstance(rid, str) else (),
            kid=kid.encode(),
            signature=signature,
            algorithm=algorithm,
        ),
        signers=signers,
        agrees=agrees,
    )


def decode_numeric(text: str) -> str:
    """Return the JWS in a card's text. Raises CodeError for a chunk, an odd digit, a pair beyond `z`."""
    if len(text) > MAX_SHC_TEXT + 8:
        raise CodeError("container", "The code is longer than any QR code.", vi="Mã dài hơn mọi mã QR.")
    body = text.strip()[len(PREFIX) :]
    chunk = _CHUNK.match(body)
    if chunk is not None:
        raise CodeError(
            "container",
            f"This is part {int(chunk[1])} of {int(chunk[2])} of a SMART Health Card in several codes. That form is "
            "deprecated and is not read: ask for the card as a single code.",
            vi=f"Đây là phần {int(chunk[1])}/{int(chunk[2])} của thẻ SMART Health Card chia thành nhiều mã. "
            "Dạng này đã bị bãi bỏ và không được đọc: hãy yêu cầu thẻ một mã.",
        )
    if len(body) % 2 or not _DIGITS.fullmatch(body):
        raise CodeError("encoding", "After shc:/ stand pairs of digits only.", vi="Sau shc:/ chỉ có các cặp chữ số.")
    numbers = [int(body[index : index + 2]) for index in range(0, len(body), 2)]
    if max(numbers) > _HIGHEST:
        raise CodeError("encoding", "A pair of digits stands for no character.", vi="Có cặp chữ số không hợp lệ.")
    return "".join(chr(number + _OFFSET) for number in numbers)


def inflate_raw(data: bytes) -> bytes:
    """Return raw DEFLATE inflated, no more than `MAX_DECOMPRESSED`. Raises CodeError(step="decompression")."""
    inflater = zlib.decompressobj(wbits=-15)
    try:
        inflated = inflater.decompress(data, MAX_DECOMPRESSED)
    except zlib.error:
        raise CodeError("decompression", "The compressed data is damaged.", vi="Dữ liệu nén bị hỏng.") from None
    if not inflater.eof or inflater.unused_data:
        raise CodeError(
            "decompression",
            "The compressed data ends in the middle, has something after its end, or grows beyond 10 kB.",
            vi="Dữ liệu nén bị cắt, thừa hoặc quá lớn.",
        )
    return inflated


def _sized(data: bytes) -> bytes:
    if len(data) > 1024:
        raise _broken("The header of the JWS is too long.")
    return data


def _same_issuer(pinned: str, named: str) -> bool:
    return not pinned or pinned.rstrip("/") == named.rstrip("/")


def _instant(value: Any) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LAST_INSTANT:
        raise _broken("A time in the card is not a time.")
    return datetime.fromtimestamp(int(value), UTC)


def _name(patient: dict[str, Any]) -> str | None:
    names = objects(patient.get("name"))
    if not names:
        return None
    given = names[0].get("given")
    words = [*(given if isinstance(given, list) else []), names[0].get("family")]
    joined = " ".join(word for word in words if isinstance(word, str))
    return joined or text_or_none(names[0].get("text"))


def _dose(shot: dict[str, Any]) -> dict[str, Any]:
    codings = objects(member(shot, "vaccineCode", "coding"))
    protocols = objects(shot.get("protocolApplied"))
    performers = objects(shot.get("performer"))
    return make_dose(
        product=codings[0].get("code") if codings else None,
        date=shot.get("occurrenceDateTime"),
        number=protocols[0].get("doseNumberPositiveInt") if protocols else None,
        series=protocols[0].get("seriesDosesPositiveInt") if protocols else None,
        issuer=member(performers[0], "actor", "display") if performers else None,
    )


def _problems(
    payload: dict[str, Any], patients: list[dict[str, Any]], shots: list[dict[str, Any]], tests: list[dict[str, Any]]
) -> Iterator[str]:
    kinds = member(payload, "vc", "type")
    if not isinstance(kinds, list) or _CARD_TYPE not in kinds:
        yield "vc/type: not a health card"
    version = member(payload, "vc", "credentialSubject", "fhirVersion")
    if not isinstance(version, str) or not version.startswith("4."):
        yield "vc/credentialSubject/fhirVersion: not FHIR R4"
    if member(payload, "vc", "credentialSubject", "fhirBundle", "resourceType") != "Bundle":
        yield "vc/credentialSubject/fhirBundle: not a bundle"
    if payload.get("nbf") is None:
        yield "nbf: missing"
    if len(patients) != 1:
        yield "Patient: exactly one must stand"
    elif _name(patients[0]) is None:
        yield "Patient/name: missing"
    if not shots and not tests:
        yield "Immunization, Observation: none stands"
    for index, shot in enumerate(shots):
        if shot.get("status") != "completed":
            yield f"Immunization/{index}/status: not completed"
        if not objects(member(shot, "vaccineCode", "coding")):
            yield f"Immunization/{index}/vaccineCode: missing"
        date = shot.get("occurrenceDateTime")
        if not isinstance(date, str) or not _DATE.fullmatch(date):
            yield f"Immunization/{index}/occurrenceDateTime: not a date"
    for index, test in enumerate(tests):
        if test.get("status") not in ("final", "amended", "corrected"):
            yield f"Observation/{index}/status: not final"


def _broken(en: str) -> CodeError:
    return CodeError("structure", en, vi="Nội dung thẻ bị hỏng.")
