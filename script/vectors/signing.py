"""Keys, certificates and signatures for made-up countries."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

NOT_BEFORE = datetime(2021, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2031, 1, 1, tzinfo=UTC)
NOW = datetime(2021, 12, 1, tzinfo=UTC)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Holder:
    """A key with its certificate."""

    key: PrivateKey
    der: bytes
    name: x509.Name


def make_holder(
    common_name: str,
    key: PrivateKey | None = None,
    *,
    country: str = "UT",
    issuer: Holder | None = None,
    is_ca: bool = False,
    usages: tuple[str, ...] = (),
    not_before: datetime = NOT_BEFORE,
    not_after: datetime = NOT_AFTER,
) -> Holder:
    """Return a certificate that `issuer` signed, or a self-signed one."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, country),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.name if issuer else name)
        .public_key(key.public_key())
        .serial_number(1 + int.from_bytes(hashlib.sha256(common_name.encode()).digest()[:8], "big"))
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if usages:
        oids = [x509.ObjectIdentifier(usage) for usage in usages]
        builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
    signing_key = issuer.key if issuer else key
    # The same key and name give the same certificate, so that seeds stay good.
    deterministic = True if isinstance(signing_key, ec.EllipticCurvePrivateKey) else None
    certificate = builder.sign(signing_key, hashes.SHA256(), ecdsa_deterministic=deterministic)
    return Holder(key, certificate.public_bytes(Encoding.DER), name)


def sign_raw(key: PrivateKey, data: bytes, digest: hashes.HashAlgorithm | None = None) -> bytes:
    """Return r and s side by side for a curve, PSS for RSA."""
    digest = digest or hashes.SHA256()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest, deterministic_signing=True)))
    width = (key.key_size + 7) // 8
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").replace("=", "")
