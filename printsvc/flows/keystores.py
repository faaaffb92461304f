"""The key stores that there are, behind `KeyStore`: encrypted files, and a PKCS#11 token."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from printsvc.credential.dsc import Kid, read_dsc
from printsvc.credential.keys import (
    Algorithm,
    LocalSigner,
    PrivateKey,
    PublicKey,
    kid_of,
    make_private_key,
    open_private_key,
    seal_private_key,
)
from printsvc.errors import SigningError
from printsvc.store.keyfile import KeyFolder, SealedSigner
from printsvc.store.token import LABEL, Token, TokenKey

_CHECK = b"printsvc: does this key belong to this certificate?"


class FileKeys:
    """The key store `file`: encrypted files in a folder, opened with one passphrase."""

    name = "file"

    def __init__(self, folder: KeyFolder, passphrase: bytes) -> None:
        self.folder = folder
        self._passphrase = passphrase

    def make_key(self, algorithm: Algorithm) -> FileKey:
        return FileKey(self.folder, make_private_key(algorithm), self._passphrase)

    def open(self, certificate: bytes) -> LocalSigner:
        """Return the signer of this certificate. Raises SigningError (`key_missing`, `signer_locked`)."""
        name = f"dsc-{kid_of(certificate).hex()}"
        sealed = self.folder.find_key(name)
        if sealed is None:
            raise SigningError(
                f"The key file {name}.key.pem is not here, or cannot be read.",
                vi=f"Không có hoặc không đọc được tệp khóa {name}.key.pem.",
                code="key_missing",
            )
        return LocalSigner(certificate, open_private_key(sealed, self._passphrase))

    def kept(self) -> list[bytes]:
        return [one.certificate for one in self.folder.read() if one.name.startswith("dsc-")]


@dataclass(frozen=True, slots=True)
class FileKey:
    """A key that is in memory alone until `keep`."""

    folder: KeyFolder
    key: PrivateKey
    passphrase: bytes

    @property
    def public_key(self) -> PublicKey:
        return self.key.public_key()

    def keep(self, certificate: bytes) -> None:
        name = f"dsc-{kid_of(certificate).hex()}"
        self.folder.write(SealedSigner(name, certificate, seal_private_key(self.key, self.passphrase)))


class TokenKeys:
    """The key store `pkcs11`: a key stays in its token, and its certificate lies beside it."""

    name = "pkcs11"

    def __init__(self, token: Token, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._token = token
        self._random_bytes = random_bytes

    def make_key(self, algorithm: Algorithm) -> NewTokenKey:
        """Return a new key, or one of this kind that was made and never got its certificate: a kill leaves such."""
        elliptic = algorithm is Algorithm.ES256
        with_certificate = self._token.certificates().keys()
        for key in self._token.list_keys():
            if key.label == LABEL and key.key_id not in with_certificate and _is_elliptic(_public(key)) == elliptic:
                return NewTokenKey(self._token, key)
        return NewTokenKey(self._token, self._token.make_key(self._random_bytes(16), elliptic=elliptic))

    def open(self, certificate: bytes) -> TokenSigner:
        """Return the signer of this certificate. Raises SigningError (`key_missing`), SignerError."""
        dsc = read_dsc(certificate)
        wanted = dsc.public_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key = next((key for key in self._token.list_keys() if key.public == wanted), None)
        if key is None:
            raise SigningError(
                f"The token has no key for the signer {dsc.kid.hex()}.",
                vi=f"Thiết bị khóa không có khóa của chứng thư {dsc.kid.hex()}.",
                code="key_missing",
            )
        public = _public(key)
        algorithm = Algorithm.ES256 if _is_elliptic(public) else Algorithm.PS256
        signer = TokenSigner(self._token, key.key_id, dsc.kid, algorithm, certificate, dsc.not_after)
        # The halves of a key are found by what the token says of them; that they are of one key is only seen so.
        if not _signed_by(public, signer.sign(_CHECK), _CHECK):
            raise SigningError(
                "The token's private key is not that of the signer's certificate.",
                vi="Khóa trong thiết bị không khớp với chứng thư.",
                code="key_mismatch",
            )
        return signer

    def kept(self) -> list[bytes]:
        return list(self._token.certificates().values())


@dataclass(frozen=True, slots=True)
class NewTokenKey:
    """A key in the token; its certificate is what makes it ours."""

    token: Token
    key: TokenKey

    @property
    def public_key(self) -> PublicKey:
        return _public(self.key)

    def keep(self, certificate: bytes) -> None:
        subject = x509.load_der_x509_certificate(certificate).subject.public_bytes()
        self.token.put_certificate(self.key.key_id, certificate, subject=subject)


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """A signer whose key is in a token. Its ES256 signatures are as random as the token makes them."""

    token: Token
    key_id: bytes
    kid: Kid
    algorithm: Algorithm
    certificate: bytes
    not_after: datetime

    def sign(self, data: bytes) -> bytes:
        """Return r || s of 64 bytes, or PSS. Raises SignerError."""
        return self.token.sign(self.key_id, data, elliptic=self.algorithm is Algorithm.ES256)

    def check(self) -> None:
        """Ask the token for the key. Raises SignerError."""
        self.token.check(self.key_id)


def _public(key: TokenKey) -> PublicKey:
    public = serialization.load_der_public_key(key.public)
    assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return public


def _is_elliptic(public: PublicKey) -> bool:
    return isinstance(public, ec.EllipticCurvePublicKey)


def _signed_by(public: PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
        else:
            public.verify(signature, data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
