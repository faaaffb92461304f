"""CMS signatures over trust lists and their entries, checked against pinned certificates only.

Certificates inside the CMS are never believed for being there. The mathematics and the signed attributes are pyHanko's,
the ASN.1 is asn1crypto's; both see hostile bytes here, so whatever they raise means "does not verify".
Source: RFC 5652, section 5; ICAO Doc 9303, part 12, section 9 (master lists).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

# The last two add names to asn1crypto's tables, which are fixed when they are first used: without them a service that
# had read a signed list could seal no copy any more.
from asn1crypto import cms, core, pdf, tsp  # noqa: F401
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from printsvc.credential.cose import Algorithm
from printsvc.credential.trustsigned import CLOCK_SKEW, ListSigner, in_force, is_list_signer

MASTER_LIST: Final = "2.23.136.1.1.2"
"""Content type of a CSCA master list (ICAO Doc 9303, part 12)."""

_DIGESTS: Final = frozenset({"sha256", "sha384", "sha512"})
_SIGNATURES: Final = frozenset({"rsassa_pkcs1v15", "rsassa_pss", "ecdsa"})


class _MasterListCertificates(core.SetOf):  # type: ignore[misc]
    _child_spec = core.Any


class _MasterList(core.Sequence):  # type: ignore[misc]
    _fields = [("version", core.Integer), ("cert_list", _MasterListCertificates)]  # noqa: RUF012  asn1crypto's way


@dataclass(frozen=True, slots=True)
class SignedContent:
    """`signer` is the DER of the certificate that signed; `signed_at` what the signer says, None where it is silent."""

    content: bytes
    signer: bytes
    signed_at: datetime | None


def verify_cms(cms_der: bytes, signers: Iterable[bytes], *, content: bytes | None) -> SignedContent | None:
    """Return what one of `signers` (DER) signed; None where none of them did.

    `content` is what the signature is over; content inside the CMS must then be the same bytes. None: take what is
    inside. Never raises.
    """
    try:
        return _verify(cms_der, list(signers), content=content, content_type="data")
    except Exception:  # what a parser makes of hostile bytes: see the module's docstring
        return None


def verify_master_list(cms_der: bytes, pins: Sequence[bytes], *, now: datetime) -> SignedContent | None:
    """Return the CscaMasterList that a pinned certificate signed, or a list signer that a pinned CSCA issued.

    A list signer has the usage for it, and was valid when it signed. Never raises.
    """
    try:
        signers = [*pins, *_issued_list_signers(_embedded(cms_der), pins)]
        signed = _verify(cms_der, signers, content=None, content_type=MASTER_LIST)
        if signed is None or signed.signer in pins:
            return signed
        at = signed.signed_at or now
        return signed if at <= now + CLOCK_SKEW and in_force(signed.signer, at) else None
    except Exception:  # as above
        return None


def read_master_list(content: bytes) -> list[bytes] | None:
    """Return the certificates (DER, unread) of a CscaMasterList; None for what is none."""
    try:
        listed = _MasterList.load(content, strict=True)
        if listed["version"].native != 0:
            return None
        return [item.dump() for item in listed["cert_list"]]
    except Exception:  # as above
        return None


def _signed_data(cms_der: bytes) -> cms.SignedData:
    info = cms.ContentInfo.load(cms_der, strict=True)
    if info["content_type"].native != "signed_data":
        raise ValueError("not SignedData")
    return info["content"]


def _embedded(cms_der: bytes) -> list[bytes]:
    certificates = _signed_data(cms_der)["certificates"]
    if certificates is core.VOID or isinstance(certificates, core.Void):
        return []
    return [choice.chosen.dump() for choice in certificates if choice.name == "certificate"]


def _issued_list_signers(found: Sequence[bytes], pins: Sequence[bytes]) -> list[bytes]:
    return [one for one in found if any(is_list_signer(one, pin) for pin in pins)]


def _verify(
    cms_der: bytes, signers: Sequence[bytes], *, content: bytes | None, content_type: str
) -> SignedContent | None:
    signed = _signed_data(cms_der)
    inside = signed["encap_content_info"]
    if inside["content_type"].dotted != cms.ContentType(content_type).dotted:
        return None
    enclosed = None if isinstance(inside["content"], core.Void) else bytes(inside["content"])
    if content is None:
        content = enclosed
    elif enclosed is not None and enclosed != content:
        return None
    if content is None:
        return None
    for info in signed["signer_infos"]:
        if info["digest_algorithm"]["algorithm"].native not in _DIGESTS:
            continue
        if info["signature_algorithm"].signature_algo not in _SIGNATURES:
            continue
        bare = isinstance(info["signed_attrs"], core.Void)
        if bare and content_type != "data":
            continue  # RFC 5652, 5.3: attributes must be there where the content is not plain data
        digest = hashlib.new(info["digest_algorithm"]["algorithm"].native, content).digest()
        for signer in signers:
            certificate = asn1_x509.Certificate.load(signer)
            if _names(info["sid"], certificate) and _agrees(info, certificate, content_type, digest):
                return SignedContent(content, signer, None if bare else _signing_time(info))
    return None


def _agrees(info: cms.SignerInfo, certificate: asn1_x509.Certificate, content_type: str, digest: bytes) -> bool:
    expected = cms.ContentType(content_type).native
    from pyhanko.sign.validation.generic_cms import validate_sig_integrity  # loads for a second

    try:
        intact, valid = validate_sig_integrity(info, certificate, expected, digest)
    except Exception:  # one broken signer info beside a good one; see the module's docstring
        return False
    return intact and valid


def _names(sid: cms.SignerIdentifier, certificate: asn1_x509.Certificate) -> bool:
    if sid.name == "issuer_and_serial_number":
        chosen = sid.chosen
        same_issuer = chosen["issuer"] == certificate.issuer
        return bool(same_issuer and chosen["serial_number"].native == certificate.serial_number)
    return bool(sid.chosen.native == certificate.key_identifier)


def _signing_time(info: cms.SignerInfo) -> datetime | None:
    for attribute in info["signed_attrs"]:
        if attribute["type"].native == "signing_time":
            found = attribute["values"][0].native
            return found.astimezone(UTC) if isinstance(found, datetime) else None
    return None


def sign_cms(content: bytes, signer: ListSigner, *, now: datetime) -> bytes:
    """Return a detached CMS over `content`, DER, as upload certificates sign entries of the EU gateway's list.

    The key may be in a token: it is asked for one signature over the signed attributes, with SHA-256.
    """
    certificate = asn1_x509.Certificate.load(signer.certificate)
    digest = {"algorithm": "sha256"}
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": ["data"]},
            {"type": "signing_time", "values": [cms.Time({"utc_time": now.astimezone(UTC).replace(microsecond=0)})]},
            {"type": "message_digest", "values": [hashlib.sha256(content).digest()]},
        ]
    )
    signature = signer.sign(attributes.dump())
    if signer.algorithm is Algorithm.ES256:
        half = len(signature) // 2
        r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        algorithm, signature = {"algorithm": "sha256_ecdsa"}, encode_dss_signature(r, s)
    else:
        mask = {"algorithm": "mgf1", "parameters": digest}
        parameters = {"hash_algorithm": digest, "mask_gen_algorithm": mask, "salt_length": 32}
        algorithm = {"algorithm": "rsassa_pss", "parameters": parameters}  # type: ignore[dict-item]
    name = {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
    info = {
        "version": "v1",
        "sid": cms.SignerIdentifier(name="issuer_and_serial_number", value=cms.IssuerAndSerialNumber(name)),
        "digest_algorithm": digest,
        "signed_attrs": attributes,
        "signature_algorithm": algorithm,
        "signature": signature,
    }
    signed = {
        "version": "v1",
        "digest_algorithms": [digest],
        "encap_content_info": {"content_type": "data"},
        "certificates": [certificate],
        "signer_infos": [info],
    }
    made: bytes = cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)}).dump()
    return made
