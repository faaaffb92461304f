"""The certificate of the seal: under the CSCA, for documents and nothing else, so that no verifier takes it for a DSC.

Source: RFC 5280, 4.2.1.3; RFC 9336 (document signing); ETSI EN 319 412-2, 4.3.2 (content commitment alone).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from printsvc.credential.keys import PrivateKey, PublicKey
from printsvc.domain.seal import DOCUMENT_SIGNING
from printsvc.errors import SigningError

SEAL_VALIDITY: Final = timedelta(days=3 * 365)
SEAL_ENDS_BEFORE: Final = timedelta(days=400)
"""A key with less time left is replaced: what it seals today can be verified as long as the certificate in it."""

_COMMITS: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=True,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def make_seal_certificate(
    public_key: PublicKey, *, csca: bytes, csca_key: PrivateKey, serial: int, now: datetime
) -> bytes:
    """Return the DER of a sealing certificate under `csca`, in its country and organisation.

    Raises SigningError where the key is not the CSCA's, or `now` is outside its validity.
    """
    authority = x509.load_der_x509_certificate(csca)
    if authority.public_key() != csca_key.public_key():
        raise SigningError("The private key is not that of the CSCA.", code="key_mismatch")
    if not authority.not_valid_before_utc <= now < authority.not_valid_after_utc:
        raise SigningError("The CSCA is not valid now.", code="csca_expired")
    kept = [name for name in authority.subject if name.oid != x509.NameOID.COMMON_NAME]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*kept, x509.NameAttribute(x509.NameOID.COMMON_NAME, "CERTIFICATE SEAL")]))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(serial)
        # A reader's clock may be behind ours.
        .not_valid_before(max(now - timedelta(days=1), authority.not_valid_before_utc))
        .not_valid_after(min(now + SEAL_VALIDITY, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_COMMITS, critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(DOCUMENT_SIGNING)]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(csca_key.public_key()), critical=False)
    )
    return builder.sign(csca_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def is_authority(certificate: bytes) -> bool:
    """Return whether a certificate (DER) may sign others: a CSCA, where a DSC may not."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        return found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError, x509.ExtensionNotFound):
        return False
