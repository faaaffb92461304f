"""The one door for codes: which format it is, told from its content, and its reading."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from printsvc.credential.cose import signature_agrees
from printsvc.credential.divoc import BASE64_BEGINS, ZIP_BEGINS, read_divoc
from printsvc.credential.hcert import PREFIX, DecodedHcert, decode_hcert
from printsvc.credential.hcertcontent import DCC, check_content, read_content
from printsvc.credential.reading import Reading, Signer, make_claims
from printsvc.credential.revocation import RevocationSubject
from printsvc.credential.shc import PREFIX as SHC_PREFIX
from printsvc.credential.shc import read_shc
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat
from printsvc.credential.vdsnc import read_vdsnc
from printsvc.errors import NotHcertError

_AROUND: Final = "\ufeff\r\n\t "
"""What scanners and editors put before a code; none of it begins one."""
_MARK: Final = "\ufeff".encode()


def recognise(code: str | bytes) -> CredentialFormat | None:
    """Return the format of a code by how it begins; None for what is no code."""
    if isinstance(code, bytes):
        if code.startswith(ZIP_BEGINS):
            return CredentialFormat.DIVOC
        bare = code.removeprefix(_MARK).lstrip()
        # Of JSON all is looked at; of anything else how it begins.
        code = (bare if bare[:1] in (b"{", b"[") else bare[:64]).decode("latin-1")
    text = code.lstrip(_AROUND) if code[:1] in _AROUND else code
    if text.startswith(PREFIX):
        return CredentialFormat.HCERT
    if text[: len(SHC_PREFIX)].lower() == SHC_PREFIX:
        return CredentialFormat.SHC
    if text.startswith(("PK\x03\x04", BASE64_BEGINS)):
        return CredentialFormat.DIVOC
    if text[:1] in ("{", "["):
        if '"sigvl"' in text or '"icao.' in text:
            return CredentialFormat.VDS_NC
        if '"@context"' in text:
            return CredentialFormat.DIVOC
    return None


def read_code(code: str | bytes, format: CredentialFormat) -> Reading:  # noqa: A002  the field's name
    """Return what a code of this format says. Raises CodeError with the step that failed."""
    match format:
        case CredentialFormat.HCERT:
            return read_hcert(_as_text(code))
        case CredentialFormat.SHC:
            return read_shc(_as_text(code).strip(_AROUND))
        case CredentialFormat.VDS_NC:
            return read_vdsnc(_as_text(code).strip(_AROUND))
        case CredentialFormat.DIVOC:
            return read_divoc(code.strip(_AROUND) if isinstance(code, str) and code[:2] != "PK" else code)


def read_hcert(text: str) -> Reading:
    """Return what an HCERT says. Raises NotHcertError."""
    decoded = decode_hcert(text)
    spoken = read_content(decoded.sub_claim, decoded.payload)
    kid = None if decoded.kid is None else base64.b64encode(decoded.kid).decode("ascii")
    algorithm = decoded.algorithm
    claims = make_claims(
        issuer=decoded.issuer,
        issued_at=decoded.issued_at,
        expires_at=decoded.expires_at,
        kid=kid,
        name=spoken.name,
        date_of_birth=spoken.date_of_birth,
        doses=spoken.doses,
        payload=("hcert", decoded.payload),
    )
    if decoded.sub_claim != DCC:
        claims["sub_claim"] = decoded.sub_claim

    def signers(trust: TrustList) -> Sequence[Signer]:
        if kid is None:
            return ()
        return (*trust.candidates(decoded.kid), *trust.keys.candidates(CredentialFormat.HCERT, kid))

    def agrees(signer: Signer) -> bool:
        cose = decoded.cose
        return algorithm is not None and signature_agrees(
            signer.public_key, algorithm, cose.signature, cose.to_be_signed
        )

    return Reading(
        format=CredentialFormat.HCERT,
        claims=claims,
        problems=lambda: check_content(
            decoded.sub_claim, decoded.payload, issued_on=decoded.issued_at.date() if decoded.issued_at else None
        ),
        usage=spoken.usage,
        starts_at=spoken.starts_at or decoded.issued_at,
        ends_at=spoken.ends_at or decoded.expires_at,
        must_end=True,
        algorithm_allowed=algorithm is not None,
        subject=subject_of(decoded, spoken.identifiers),
        signers=signers,
        agrees=agrees,
    )


def subject_of(decoded: DecodedHcert, identifiers: tuple[str, ...] | None = None) -> RevocationSubject:
    """Return what of an HCERT can be revoked."""
    if identifiers is None:
        identifiers = read_content(decoded.sub_claim, decoded.payload).identifiers
    return RevocationSubject(
        country=decoded.issuer or "",
        uvcis=identifiers,
        kid=decoded.kid,
        signature=decoded.cose.signature,
        algorithm=decoded.algorithm,
    )


def _as_text(code: str | bytes) -> str:
    if isinstance(code, str):
        return code
    try:
        return code.decode("utf-8")
    except UnicodeDecodeError:
        raise NotHcertError("base45", "The code holds a character outside its alphabet.") from None
