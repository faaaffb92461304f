"""DIVOC: a ZIP with one `certificate.json`, a verifiable credential signed as linked data.

The vocabulary gives several names one meaning: batch, vaccine and manufacturer are all "id", dose and totalDoses both
"doseValue", date and the two bounds all "date". The signature holds the values, not which name had which; a forger can
swap them. So nothing is read from the JSON: claims are read from what was signed, by rules that names have no part in
(`_dose`).
Source: DIVOC, `certificate_signer` and `vaccination-context`; Linked Data Signatures (RsaSignature2018,
Ed25519Signature2018); RFC 7797.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from printsvc.credential.cose import Algorithm
from printsvc.credential.dsc import Usage
from printsvc.credential.limits import MAX_BYTES, MAX_DECOMPRESSED
from printsvc.credential.linkeddata import (
    CRED,
    RDF_TYPE,
    SCHEMA,
    VAC,
    Graph,
    canonical_credential,
    canonical_proof,
    check_context,
    check_tree,
    is_absolute_name,
    read_graph,
)
from printsvc.credential.reading import Reading, Signer, make_claims, make_dose, number_or_none
from printsvc.credential.revocation import RevocationSubject
from printsvc.credential.strictjson import parse_base64url, parse_json
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import ANY_KID, CredentialFormat, TrustedKey
from printsvc.errors import CodeError

ZIP_BEGINS: Final = b"PK\x03\x04"
BASE64_BEGINS: Final = "UEsDB"
MEMBER: Final = "certificate.json"
_END_BYTES: Final = 22
"""Bytes of the end record of an archive without a comment."""
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SUITES: Final[dict[str, tuple[str, ...]]] = {
    "RsaSignature2018": ("PS256", "RS256"),
    "Ed25519Signature2018": ("EdDSA",),
}
_PROOF_KEYS: Final = frozenset({"type", "created", "verificationMethod", "proofPurpose", "jws", "domain", "nonce"})
_DAY = re.compile(r"\d{4}-?\d\d-?\d\d(T.{1,24})?")
_PRODUCTS: Final = frozenset(
    {
        "comirnaty", "corbevax", "covaxin", "covishield", "covovax", "gemcovac-19", "incovacc", "nuvaxovid",
        "spikevax", "sputnik", "sputnik light", "sputnik v", "vaxzevria", "zycov", "zycov d", "zycov-d",
    }
)  # fmt: skip
"""Names of products by which the vaccine is told from its maker and its batch, in small letters."""


def read_divoc(code: str | bytes) -> Reading:
    """Return what a credential says: a ZIP as bytes, as text of those bytes, or in base64; or the bare JSON.

    Raises CodeError with the step that failed.
    """
    raw = _zip_bytes(code)
    document = parse_json(unzip(raw) if raw.startswith(ZIP_BEGINS) else raw)
    if not isinstance(document, dict):
        raise _broken("The credential is not a JSON object.")
    proof = document.pop("proof", None)
    check_context(document.get("@context"))
    check_tree(document)
    if not isinstance(proof, dict) or not all(isinstance(value, str) for value in proof.values()):
        raise _broken("The credential has no proof.")
    if not proof.keys() <= _PROOF_KEYS | {"@context"} or proof.get("proofPurpose") != "assertionMethod":
        raise _broken("The proof of the credential is not one of an issuer.")
    options = {name: value for name, value in proof.items() if name in _PROOF_KEYS and name != "jws"}
    kid = options.get("verificationMethod", "")
    if not is_absolute_name(kid):
        raise _broken("The proof of the credential does not name its key.")
    head, _, tail = proof.get("jws", "").partition("..")
    signature = parse_base64url(tail)
    quads = canonical_credential(document)
    signed = _digest(canonical_proof(options)) + _digest(quads)
    suite, algorithm = options.get("type", ""), _algorithm(head)
    graph = read_graph(quads)
    credential = _only(graph.of_type(CRED + "VerifiableCredential"))
    person = _only(graph.of_type(SCHEMA + "Person"))
    issuer = graph.one(credential, CRED + "issuer")
    issued_at = _instant(graph.one(credential, CRED + "issuanceDate"))
    expires_at = _instant(graph.one(credential, CRED + "expirationDate"))
    shots = graph.of_type(VAC + "Vaccination")

    def signers(trust: TrustList) -> Sequence[TrustedKey]:
        named = trust.keys.candidates(CredentialFormat.DIVOC, kid)
        return (*named, *trust.keys.candidates(CredentialFormat.DIVOC, ANY_KID))

    def agrees(signer: Signer) -> bool:
        return _agrees(signer.public_key, algorithm, signature, head.encode("ascii") + b"." + signed)

    return Reading(
        format=CredentialFormat.DIVOC,
        claims=make_claims(
            issuer=issuer,
            issued_at=issued_at,
            expires_at=expires_at,
            kid=kid,
            name=graph.one(person, SCHEMA + "name"),
            date_of_birth=graph.one(person, SCHEMA + "date"),
            doses=sorted((_dose(graph, shot, issuer) for shot in shots), key=lambda dose: str(sorted(dose.items()))),
        ),
        problems=lambda: list(_problems(graph, credential, person, shots)),
        usage=Usage.VACCINATION,
        starts_at=issued_at,
        ends_at=expires_at,
        must_end=False,
        algorithm_allowed=algorithm in _SUITES.get(suite, ()),
        subject=RevocationSubject(
            country=issuer or "",
            uvcis=tuple(shots),
            kid=kid.encode(),
            signature=signature,
            algorithm=Algorithm.PS256 if algorithm == "PS256" else None,
        ),
        signers=signers,
        agrees=agrees,
    )


def unzip(data: bytes) -> bytes:
    """Return the one member of a ZIP, no more than `MAX_DECOMPRESSED`. Raises CodeError.

    Source: APPNOTE.TXT, 4.3; nothing may stand before or after the archive, no path, no second member.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) != 1 or infos[0].filename != MEMBER or infos[0].header_offset or archive.comment:
                raise CodeError(
                    "container", "The ZIP does not hold certificate.json alone.", vi="Tệp nén không đúng chuẩn."
                )
            if data[-_END_BYTES:-18] != b"PK\x05\x06" or infos[0].compress_type not in _METHODS:
                raise zipfile.BadZipFile
            if infos[0].file_size > MAX_DECOMPRESSED:
                raise _too_large()
            with archive.open(infos[0]) as stream:
                content = stream.read(MAX_DECOMPRESSED + 1)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError):
        raise CodeError("decompression", "The ZIP in the code is damaged.", vi="Tệp nén trong mã bị hỏng.") from None
    if len(content) > MAX_DECOMPRESSED:
        raise _too_large()
    return content


def _zip_bytes(code: str | bytes) -> bytes:
    is_json = code[:1] in ("{", b"{")
    if len(code) > (MAX_DECOMPRESSED if is_json else MAX_BYTES):
        raise CodeError("container", "The code is longer than any QR code.", vi="Mã dài hơn mọi mã QR.")
    if isinstance(code, bytes):
        return code
    if code.startswith(BASE64_BEGINS):
        try:
            return base64.b64decode(code.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise CodeError("encoding", "The code is not base64.", vi="Mã không phải base64.") from None
    try:
        # Scanners give the bytes of a code as characters of ISO 8859-1.
        return code.encode("latin-1" if code.startswith("PK") else "utf-8")
    except UnicodeEncodeError:
        raise CodeError(
            "encoding", "The bytes of the code were lost on the way: scan it as bytes.", vi="Mã bị hỏng khi quét."
        ) from None


def _algorithm(head: str) -> str | None:
    """Return the algorithm of a detached, unencoded JWS (RFC 7797, 6); None for any other header."""
    header = parse_json(parse_base64url(head))
    if not isinstance(header, dict) or header.keys() != {"alg", "b64", "crit"}:
        return None
    plain = header["b64"] is False and header["crit"] == ["b64"]
    return header["alg"] if plain and isinstance(header["alg"], str) else None


def _agrees(key: Any, algorithm: str | None, signature: bytes, signed: bytes) -> bool:
    try:
        if algorithm == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
            return True
        if isinstance(key, rsa.RSAPublicKey) and algorithm == "PS256":
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.AUTO)
            key.verify(signature, signed, pss, hashes.SHA256())
            return True
        if isinstance(key, rsa.RSAPublicKey) and algorithm == "RS256":
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            return True
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return False


def _dose(graph: Graph, shot: str, issuer: str | None) -> dict[str, Any]:
    """Return a dose from signed values alone.

    Number and series: the lower and the higher of the two. Date: the one with a time of day, which is that of the
    injection; else the earliest. Product: the value that is a product's name; else all of them.
    """
    numbers = sorted(
        number for value in graph.values(shot, SCHEMA + "doseValue") if (number := number_or_none(value)) is not None
    )
    days = sorted(value for value in graph.values(shot, SCHEMA + "date") if value)
    timed = [value for value in days if "T" in value]
    names = sorted(value for value in graph.values(shot, SCHEMA + "id") if value and not shot.endswith("/" + value))
    known = [name for name in names if name.casefold().replace("_", " ") in _PRODUCTS]
    facility = graph.one(shot, VAC + "Facility")
    return make_dose(
        product=known[0] if len(known) == 1 else " / ".join(names),
        date=timed[0] if len(timed) == 1 else days[0] if days else None,
        number=numbers[0] if numbers else None,
        series=numbers[-1] if numbers else None,
        country=graph.one(graph.one(facility, SCHEMA + "PostalAddress"), SCHEMA + "addressCountry"),
        issuer=issuer,
    )


def _problems(graph: Graph, credential: str | None, person: str | None, shots: list[str]) -> Iterator[str]:
    if credential is None or SCHEMA + "ProofOfVaccinationCredential" not in graph.values(credential, RDF_TYPE):
        yield "type: not a proof of vaccination"
    if graph.one(credential, CRED + "issuer") is None:
        yield "issuer: missing"
    if _instant(graph.one(credential, CRED + "issuanceDate")) is None:
        yield "issuanceDate: missing"
    if person is None or graph.values(credential, CRED + "credentialSubject") != (person,):
        yield "credentialSubject: not one person"
    elif not graph.one(person, SCHEMA + "name"):
        yield "credentialSubject/name: missing"
    if not shots or sorted(graph.values(credential, CRED + "evidence")) != sorted(shots):
        yield "evidence: no vaccination"
    for shot in shots:
        days = [value for value in graph.values(shot, SCHEMA + "date") if value]
        if not days or not all(_DAY.fullmatch(day) for day in days):
            yield "evidence/date: not a date"
        if not any(graph.values(shot, SCHEMA + "id")):
            yield "evidence/vaccine: missing"


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _broken("A time in the credential is not a time.") from None


def _only(nodes: list[str]) -> str | None:
    return nodes[0] if len(nodes) == 1 else None


def _digest(quads: str) -> bytes:
    return hashlib.sha256(quads.encode("utf-8")).digest()


def _too_large() -> CodeError:
    return CodeError("decompression", "The code grows beyond 10 kB when it is unpacked.", vi="Dữ liệu nén quá lớn.")


def _broken(en: str) -> CodeError:
    return CodeError("structure", en, vi="Nội dung mã bị hỏng.")
