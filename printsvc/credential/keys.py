"""Signers: the interface that every key store answers to, keys in this process, and the certificates above them.

A key that lives in a token answers to the same `Signer`. Nothing here reads a file: shells pass bytes in and out.
Source: hcert_spec.md, A.1 and A.5; RFC 5280, 4.2.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from printsvc.credential.cose import Algorithm
from printsvc.credential.dsc import USAGE_OIDS, Kid, Usage, kid_of, read_dsc
from printsvc.errors import SigningError

__all__ = [
    "CSCA_VALIDITY",
    "DSC_VALIDITY",
    "Algorithm",
    "KeyStore",
    "Kid",
    "LocalSigner",
    "NewKey",
    "PrivateKey",
    "PublicKey",
    "Signer",
    "Usage",
    "issued_by",
    "kid_of",
    "make_csca",
    "make_dsc",
    "make_private_key",
    "open_private_key",
    "seal_private_key",
]

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

CSCA_VALIDITY = timedelta(days=10 * 365)
DSC_VALIDITY = timedelta(days=2 * 365)
"""Signing period of 6 months, certificates of 12 months after it, and room to spare: hcert_spec.md, A.5.2."""

_EC_WIDTH = 32
_ES256 = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_PS256 = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)


class Signer(Protocol):
    """`certificate` is the DSC's DER; nothing signed may outlive `not_after`."""

    @property
    def kid(self) -> Kid: ...

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def certificate(self) -> bytes: ...

    @property
    def not_after(self) -> datetime: ...

    def sign(self, data: bytes) -> bytes:
        """Return the COSE signature over `data`: r || s of 64 bytes (ES256) or PSS (PS256).

        Raises SignerError where the key cannot be reached now.
        """
        ...

    def check(self) -> None:
        """Do nothing where the key can be reached. Raises SignerError."""
        ...


class NewKey(Protocol):
    """A key that was just made. Until `keep` returns it belongs to nobody, and a later `make_key` may clear it away."""

    @property
    def public_key(self) -> PublicKey: ...

    def keep(self, certificate: bytes) -> None:
        """Store key and certificate (DER) so that they outlast this process."""
        ...


class KeyStore(Protocol):
    """Where private keys are. All that a store must do; `name` is what the database calls it."""

    @property
    def name(self) -> str: ...

    def make_key(self, algorithm: Algorithm) -> NewKey:
        """Return a new key. Raises SignerError where the store cannot be reached."""
        ...

    def open(self, certificate: bytes) -> Signer:
        """Return what signs with the key of this certificate (DER).

        Raises SigningError where the key is not here or does not open, SignerError where the store cannot be reached.
        """
        ...

    def kept(self) -> list[bytes]:
        """Return the DSCs (DER) whose keys this store has kept. Raises SignerError."""
        ...


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """A signer whose key is in this process. ES256 is deterministic (RFC 6979): the same input, the same signature."""

    certificate: bytes
    private_key: PrivateKey = field(repr=False)
    kid: Kid = field(init=False)
    algorithm: Algorithm = field(init=False)
    not_after: datetime = field(init=False)

    def __post_init__(self) -> None:
        dsc = read_dsc(self.certificate)
        if dsc.public_key != self.private_key.public_key():
            raise SigningError("The private key is not that of the signer's certificate.", code="key_mismatch")
        object.__setattr__(self, "kid", dsc.kid)
        object.__setattr__(self, "algorithm", _algorithm(self.private_key))
        object.__setattr__(self, "not_after", dsc.not_after)

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.private_key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.private_key.sign(data, _ES256))
            return r.to_bytes(_EC_WIDTH, "big") + s.to_bytes(_EC_WIDTH, "big")
        return self.private_key.sign(data, _PS256, hashes.SHA256())

    def check(self) -> None:
        """Do nothing: the key is here."""


def make_private_key(algorithm: Algorithm = Algorithm.ES256) -> PrivateKey:
    """Return a new key from the operating system's randomness: P-256 for ES256, RSA-3072 for PS256."""
    if algorithm is Algorithm.ES256:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


def make_csca(
    key: PrivateKey,
    *,
    country: str,
    organisation: str,
    common_name: str,
    serial: int,
    now: datetime,
    validity: timedelta = CSCA_VALIDITY,
) -> bytes:
    """Return the DER of a self-signed country signing authority: it signs certificates, nothing else.

    `serial` is 1 to 20 bytes of randomness, positive (RFC 5280, 4.1.2.2).
    """
    name = _name(country, organisation, common_name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now)
        .not_valid_after(now + validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _signed(builder, key)


def make_dsc(
    public_key: PublicKey,
    *,
    csca: bytes,
    csca_key: PrivateKey,
    organisation: str,
    common_name: str,
    serial: int,
    now: datetime,
    validity: timedelta = DSC_VALIDITY,
    usages: Iterable[Usage] = (Usage.VACCINATION,),
    uvci_beginning: str = "",
) -> bytes:
    """Return the DER of a document signer under `csca`, in the same country.

    `uvci_beginning` makes a delegated signer: it may sign UVCIs that begin so, and no others. The end is cut to the
    CSCA's. Raises SigningError where `now` is outside the CSCA's validity, where `validity` is over two years, or where
    the key is not the CSCA's.
    """
    authority = x509.load_der_x509_certificate(csca)
    if authority.public_key() != csca_key.public_key():
        raise SigningError("The private key is not that of the CSCA.", code="key_mismatch")
    if validity > DSC_VALIDITY:
        raise SigningError("A DSC is valid for two years at most.", code="dsc_validity")
    if not authority.not_valid_before_utc <= now < authority.not_valid_after_utc:
        raise SigningError("The CSCA is not valid now.", code="csca_expired")
    country = str(authority.subject.get_attributes_for_oid(NameOID.COUNTRY_NAME)[0].value)
    authority_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(csca_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(country, organisation, common_name, uvci_beginning))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now)
        .not_valid_after(min(now + validity, authority.not_valid_after_utc))
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([x509.ObjectIdentifier(USAGE_OIDS[usage]) for usage in usages]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_key_id, critical=False)
    )
    return _signed(builder, csca_key)


def issued_by(dsc: bytes, csca: bytes) -> bool:
    """Return whether `csca` signed `dsc` (name and signature; not the dates)."""
    try:
        x509.load_der_x509_certificate(dsc).verify_directly_issued_by(x509.load_der_x509_certificate(csca))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def seal_private_key(key: PrivateKey, passphrase: bytes) -> bytes:
    """Return the key as encrypted PKCS#8 PEM. Raises SigningError for an empty passphrase."""
    if not passphrase:
        raise SigningError("A private key is never stored without a passphrase.", code="passphrase_missing")
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )


def open_private_key(sealed: bytes, passphrase: bytes) -> PrivateKey:
    """Return the key of an encrypted PKCS#8 PEM.

    Raises SigningError for a wrong passphrase, a broken file, a key without encryption or of another kind.
    """
    try:
        key = serialization.load_pem_private_key(sealed, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningError("The signer's key cannot be opened with this passphrase.", code="signer_locked") from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return key
    raise SigningError("A signer's key is P-256 or RSA of at least 2048 bits.", code="key_kind")


def _algorithm(key: PrivateKey) -> Algorithm:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if not isinstance(key.curve, ec.SECP256R1):
            raise SigningError("ES256 is signed with P-256.", code="key_kind")
        return Algorithm.ES256
    return Algorithm.PS256


def _name(country: str, organisation: str, common_name: str, serial_number: str = "") -> x509.Name:
    parts = [
        x509.NameAttribute(NameOID.COUNTRY_NAME, country),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ]
    if serial_number:
        parts.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, serial_number))
    return x509.Name(parts)


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: PrivateKey) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
