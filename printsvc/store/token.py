"""Keys in a PKCS#11 token: made there, used there, never outside it.

A key is found by its public half, so that a token which another tool filled serves as well. The library initialises a
module without locking (`C_Initialize(NULL)`), so that a process makes one call at a time; where a token must sign more
than that, more processes serve.

Source: PKCS #11 version 2.40; RFC 8230, 2 (RSASSA-PSS with SHA-256 and a salt of 32 bytes).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from printsvc.errors import SignerError

if TYPE_CHECKING:
    from pkcs11 import Session

T = TypeVar("T")

LABEL = "printsvc dsc"
_RSA_BITS = 3072
# A module is the process's, whoever loads it: two threads in it at once bring the process down.
_ONE_AT_A_TIME = threading.Lock()
_PUBLIC_KEY_INFO = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class TokenKey:
    """`key_id` is CKA_ID, which a key's halves and its certificate share; `public` a SubjectPublicKeyInfo (DER)."""

    key_id: bytes
    label: str
    public: bytes


class Token:
    """The token that has this label, behind a PKCS#11 module. Everything raises SignerError where it does not answer.

    Nothing is opened before it is needed.
    """

    def __init__(self, module: Path, label: str, pin: Callable[[], str]) -> None:
        self._module, self._label, self._pin = module, label, pin
        self._session: Session | None = None
        self._private: dict[bytes, Any] = {}
        self._refused_pin: str | None = None

    def make_key(self, key_id: bytes, *, elliptic: bool) -> TokenKey:
        """Make a key that signs and never leaves the token: P-256, or RSA of 3072 bits."""
        from pkcs11 import Attribute, KeyType, Mechanism
        from pkcs11.util.ec import encode_named_curve_parameters

        template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.SIGN: True}

        def make(session: Session) -> TokenKey:
            options: dict[str, Any] = {"store": True, "id": key_id, "label": LABEL, "private_template": template}
            if elliptic:
                curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
                parameters = session.create_domain_parameters(KeyType.EC, curve, local=True)
                public, _ = parameters.generate_keypair(mechanism=Mechanism.EC_KEY_PAIR_GEN, **options)
            else:
                public, _ = session.generate_keypair(KeyType.RSA, _RSA_BITS, **options)
            made = _read_key(public)
            assert made is not None
            return made

        return self._use(make)

    def list_keys(self) -> list[TokenKey]:
        """Return the keys of kinds that we sign with."""
        from pkcs11 import Attribute, ObjectClass

        def read(session: Session) -> list[TokenKey]:
            found = [_read_key(one) for one in session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})]
            return [key for key in found if key is not None]

        return self._use(read)

    def certificates(self) -> dict[bytes, bytes]:
        """Return key_id → certificate (DER) of those that `put_certificate` stored."""
        from pkcs11 import Attribute, ObjectClass

        wanted = {Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.LABEL: LABEL}
        return self._use(
            lambda session: {
                bytes(one[Attribute.ID]): bytes(one[Attribute.VALUE]) for one in session.get_objects(wanted)
            }
        )

    def put_certificate(self, key_id: bytes, certificate: bytes, *, subject: bytes) -> None:
        """Store a certificate beside its key; `subject` is its name, in DER."""
        from pkcs11 import Attribute, CertificateType, ObjectClass

        template = {
            Attribute.CLASS: ObjectClass.CERTIFICATE,
            Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
            Attribute.TOKEN: True,
            Attribute.ID: key_id,
            Attribute.LABEL: LABEL,
            Attribute.SUBJECT: subject,
            Attribute.VALUE: certificate,
        }
        self._use(lambda session: session.create_object(template))

    def sign(self, key_id: bytes, data: bytes, *, elliptic: bool) -> bytes:
        """Return r || s (64 bytes) over SHA-256 of `data`, or its PSS signature with a salt of 32 bytes."""
        from pkcs11 import MGF, Mechanism

        def sign(session: Session) -> bytes:
            key = self._private_key(session, key_id)
            if elliptic:
                # Hashed here: not every token hashes, all of them sign a digest.
                return bytes(key.sign(hashlib.sha256(data).digest(), mechanism=Mechanism.ECDSA))
            salt = (Mechanism.SHA256, MGF.SHA256, 32)
            return bytes(key.sign(data, mechanism=Mechanism.SHA256_RSA_PKCS_PSS, mechanism_param=salt))

        return self._use(sign)

    def check(self, key_id: bytes) -> None:
        """Do nothing where the token answers and has this private key; it is asked, whatever was opened before."""
        from pkcs11 import Attribute

        self._use(lambda session: self._private_key(session, key_id)[Attribute.ID])

    def _private_key(self, session: Session, key_id: bytes) -> Any:
        from pkcs11 import Attribute, ObjectClass

        key = self._private.get(key_id)
        if key is None:
            wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key_id}
            key = self._private[key_id] = list(session.get_objects(wanted))[0]  # noqa: RUF015 (ends the search)
        return key

    def _use(self, work: Callable[[Session], T]) -> T:
        """Run `work` in the session; where the token has forgotten that, once more in another."""
        from pkcs11.exceptions import PKCS11Error

        with _ONE_AT_A_TIME:
            try:
                if self._session is not None:
                    try:
                        return work(self._session)
                    except (PKCS11Error, IndexError):
                        self._forget()
                return work(self._open())
            except IndexError:
                self._forget()
                raise self._unavailable("the key is gone") from None
            except (PKCS11Error, RuntimeError, OSError) as error:
                self._forget()
                # A module's own text may hold what was typed: the class says enough.
                raise self._unavailable(type(error).__name__) from None

    def _open(self) -> Session:
        import pkcs11
        from pkcs11.exceptions import PinIncorrect, PinInvalid, PinLenRange, UserAlreadyLoggedIn

        token = pkcs11.lib(str(self._module)).get_token(token_label=self._label)
        pin = self._pin()
        if pin == self._refused_pin:
            # Whoever asks again and again with a wrong PIN locks the token, and every other process out of it.
            raise self._unavailable("PinIncorrect; the same PIN is not tried again before a restart")
        try:
            self._session = token.open(rw=True, user_pin=pin)
        except (PinIncorrect, PinInvalid, PinLenRange):
            self._refused_pin = pin
            raise
        except UserAlreadyLoggedIn:  # the login is the process's: another Token has it
            self._session = token.open(rw=True)
        return self._session

    def _forget(self) -> None:
        self._session = None
        self._private.clear()

    def _unavailable(self, why: str) -> SignerError:
        return SignerError(
            f"The token {self._label} does not answer: {why}.",
            vi=f"Thiết bị khóa {self._label} không trả lời: {why}.",
            retry_after_s=30,
        )


def _read_key(public: Any) -> TokenKey | None:
    from pkcs11 import Attribute, KeyType

    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    if public.key_type is KeyType.RSA:
        modulus, exponent = public[Attribute.MODULUS], public[Attribute.PUBLIC_EXPONENT]
        key = rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()
    elif public.key_type is KeyType.EC:
        point = bytes(public[Attribute.EC_POINT])
        try:  # an OCTET STRING around the point (PKCS #11, 2.3.3); some tokens leave it out
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point[2:] if len(point) == 67 else point)
        except ValueError:
            return None  # another curve
    else:
        return None
    return TokenKey(bytes(public.id), public.label or "", key.public_bytes(*_PUBLIC_KEY_INFO))
