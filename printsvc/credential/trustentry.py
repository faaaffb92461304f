"""Entries of foreign trust lists: strict JSON, certificates and JWK, each mistake with its place.

A list is somebody else's file, and an attacker's first idea. What is read here is bounded in size, and whatever is
wrong becomes a `Problem` whose pointer says where in the list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from printsvc.credential.dsc import MAX_DER, Dsc, Kid, kid_of, read_dsc
from printsvc.credential.trustedkey import CredentialFormat, TrustedKey, jwk_thumbprint
from printsvc.errors import CredentialError, InputError, Problem

MAX_LIST: Final = 8 * 1024 * 1024
"""Bytes of a list. The EU's had some 700 kB, an ICAO master list has 1 to 2 MB."""
MAX_ENTRIES: Final = 20_000
MAX_PROBLEMS: Final = 20
MAX_TEXT: Final = 512
MAX_KID: Final = 32

_CURVES: Final[dict[CredentialFormat, frozenset[str]]] = {
    # A verifier of HCERT reads ES256 with P-384 too (credential.cose.TOLERANCES).
    CredentialFormat.HCERT: frozenset({"secp256r1", "secp384r1", "secp521r1"}),
    CredentialFormat.SHC: frozenset({"secp256r1"}),
    CredentialFormat.DIVOC: frozenset({"secp256r1", "secp384r1", "secp521r1"}),
    # Authorities of travel documents also stand on Brainpool curves (ICAO Doc 9303, part 12).
    CredentialFormat.VDS_NC: frozenset(
        {"secp256r1", "secp384r1", "secp521r1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"}
    ),
}
_MIN_RSA: Final = 2048
_ED25519_SIZE: Final = 32

_SENTENCES: Final[dict[str, tuple[str, str]]] = {
    "list_too_large": ("The list is larger than is read.", "Danh sách quá lớn."),
    "too_many_entries": ("The list has more entries than are read.", "Danh sách có quá nhiều mục."),
    "list_empty": ("The list has no key: nothing was changed.", "Danh sách không có khóa nào: không thay đổi gì."),
    "not_json": ("This is not JSON in UTF-8.", "Đây không phải JSON (UTF-8)."),
    "not_a_list": ("This is not a list of this kind.", "Đây không phải danh sách thuộc loại này."),
    "missing": ("This is missing.", "Thiếu mục này."),
    "wrong_type": ("The value has another type.", "Giá trị sai kiểu."),
    "not_base64": ("This is not base64.", "Đây không phải base64."),
    "certificate_unreadable": ("The certificate cannot be read.", "Không đọc được chứng thư."),
    "bad_dates": ("The certificate ends before it begins.", "Chứng thư kết thúc trước khi bắt đầu."),
    "key_weak": ("The RSA key has fewer than 2048 bits.", "Khóa RSA ngắn hơn 2048 bit."),
    "key_unsupported": ("This kind of key or curve is not supported.", "Loại khóa hoặc đường cong không được hỗ trợ."),
    "key_mismatch": ("The key is not that of the certificate.", "Khóa không khớp với chứng thư."),
    "kid_mismatch": ("The kid is not that of the key.", "Kid không khớp với khóa."),
    "thumbprint_mismatch": ("The thumbprint is not that of rawData.", "Dấu vân tay không khớp với rawData."),
    "country_mismatch": ("The country is not the one of the certificate.", "Quốc gia không khớp với chứng thư."),
    "issuer_needed": (
        "A key set does not say whose it is: name the issuer's https address.",
        "Bộ khóa không nói của ai: hãy nêu địa chỉ https của bên phát hành.",
    ),
    "issuer_invalid": ("The issuer is not an https address.", "Bên phát hành không phải địa chỉ https."),
    "not_an_authority": ("This is not the certificate of an authority.", "Đây không phải chứng thư của cơ quan gốc."),
    "signature_missing": ("The entry has no signature.", "Mục này không có chữ ký."),
    "signature_invalid": (
        "The signature does not verify under a pinned key.",
        "Chữ ký không xác minh được bằng khóa đã ghim.",
    ),
    "not_issued_by_authority": (
        "No authority (CSCA) of this country in the list issued the certificate.",
        "Không có CSCA nào của quốc gia này trong danh sách đã cấp chứng thư.",
    ),
    "pin_needed": (
        "This list is signed: pin the key or certificate that its signature is checked against.",
        "Danh sách này có chữ ký: hãy ghim khóa hoặc chứng thư để kiểm tra.",
    ),
    "pin_unreadable": ("A pinned certificate or key cannot be read.", "Không đọc được chứng thư hoặc khóa đã ghim."),
    "unsigned": (
        "This list carries no signature that is checked: say that it is unsigned, and pin its SHA-256.",
        "Danh sách không có chữ ký kiểm tra được: hãy xác nhận là không ký và ghim SHA-256 của tệp.",
    ),
    "signed_format": (
        "Lists of this kind are signed: they are never read unsigned.",
        "Loại danh sách này phải có chữ ký.",
    ),
    "digest_mismatch": ("The SHA-256 of the list is not the one that was pinned.", "SHA-256 của danh sách không khớp."),
    "rollback": (
        "The list is older than the one that is here: nothing was changed.",
        "Danh sách cũ hơn danh sách đang có: không thay đổi gì.",
    ),
    "stale": ("The list is out of date: fetch a fresh one.", "Danh sách đã quá hạn: hãy tải bản mới."),
    "not_yet_valid": ("The list is from the future: is the clock right?", "Danh sách có thời gian ở tương lai."),
}


def problem(pointer: str, code: str) -> Problem:
    """Return the problem of a code of this module, at a place in the list (JSON pointer)."""
    en, vi = _SENTENCES[code]
    return Problem(pointer, code, vi, en)


def refuse(pointer: str, code: str) -> InputError:
    """Return the error of one problem that makes the whole list unreadable."""
    return InputError([problem(pointer, code)], code="trust_list_refused")


UNUSABLE: Final = frozenset({"certificate_unreadable", "bad_dates", "key_weak", "key_unsupported"})
"""Problems of one entry that a person may leave out; a wrong signature or a wrong type is none of them."""


@dataclass(slots=True)
class Findings:
    """What a reader found: keys, and what is wrong where. `finish` gives the keys or raises."""

    keys: list[TrustedKey] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def take(self, pointer: str, read: Callable[[], TrustedKey | Iterable[TrustedKey]]) -> None:
        """Add what `read` gives; its error is noted with `pointer` before its own place."""
        try:
            got = read()
        except InputError as error:
            self.problems += [Problem(pointer + p.pointer, p.code, p.vi, p.en) for p in error.problems]
            return
        self.keys.extend((got,) if isinstance(got, TrustedKey) else got)

    def finish(self, *, skip_unusable: bool) -> tuple[tuple[TrustedKey, ...], tuple[Problem, ...]]:
        """Return (keys, entries left out). Raises InputError: all or nothing."""
        fatal = [p for p in self.problems if not (skip_unusable and p.code in UNUSABLE)]
        if fatal:
            raise InputError(fatal[:MAX_PROBLEMS], code="trust_list_refused")
        if not self.keys:
            raise refuse("", "list_empty")
        return tuple({fingerprint(key): key for key in self.keys}.values()), tuple(self.problems)


def parse_list_json(raw: bytes) -> Any:
    """Return decoded JSON: strictly UTF-8, no key twice, no NaN. Raises InputError."""
    if len(raw) > MAX_LIST:
        raise refuse("", "list_too_large")
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise refuse("", "not_json") from None


def member(value: Any, name: str, kind: type, *, pointer: str = "") -> Any:
    """Return a member of a JSON object that has this type. Raises InputError with its place."""
    if not isinstance(value, dict):
        raise refuse(pointer, "wrong_type")
    if name not in value:
        raise refuse(f"{pointer}/{name}", "missing")
    found = value[name]
    if not isinstance(found, kind) or (isinstance(found, str) and len(found) > MAX_TEXT and name not in _LONG):
        raise refuse(f"{pointer}/{name}", "wrong_type")
    return found


_LONG: Final = frozenset({"rawData", "signature"})


def entries_of(value: Any, pointer: str = "") -> list[Any]:
    """Return a JSON array of no more entries than are read. Raises InputError."""
    if not isinstance(value, list):
        raise refuse(pointer, "not_a_list")
    if len(value) > MAX_ENTRIES:
        raise refuse(pointer, "too_many_entries")
    return value


def parse_base64(text: str, pointer: str) -> bytes:
    """Return what base64 holds; line breaks are passed over, as some gateways send them. Raises InputError."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise refuse(pointer, "not_base64") from None


def parse_base64url(text: Any, pointer: str) -> bytes:
    """Return what unpadded base64url holds. Raises InputError."""
    if not isinstance(text, str) or len(text) > MAX_DER:
        raise refuse(pointer, "wrong_type")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refuse(pointer, "not_base64") from None


def certificate_key(
    der: bytes, key_format: CredentialFormat, pointer: str, *, kid: str | None = None, is_anchor: bool = False
) -> TrustedKey:
    """Return the key of a certificate; without `kid`, its usual one. Raises InputError with its place."""
    dsc = read_certificate(der, pointer)
    check_key(dsc.public_key, key_format, pointer)
    if kid is None:
        kid = dsc.thumbprint if key_format is CredentialFormat.VDS_NC else encode_kid(kid_of(der))
    return TrustedKey(
        kid=kid,
        format=key_format,
        public_key=dsc.public_key,
        not_before=dsc.not_before,
        not_after=dsc.not_after,
        country=dsc.country if len(dsc.country) == 2 else "",
        issuer=issuer_name(der),
        usages=dsc.usages,
        certificate=der,
        is_anchor=is_anchor,
    )


def read_certificate(der: bytes, pointer: str) -> Dsc:
    """Return a certificate whose dates make sense. Raises InputError with its place."""
    try:
        dsc = read_dsc(der)
    except CredentialError:
        raise refuse(pointer, "certificate_unreadable") from None
    if dsc.not_after <= dsc.not_before:
        raise refuse(pointer, "bad_dates")
    return dsc


def check_key(key: PublicKeyTypes, key_format: CredentialFormat, pointer: str) -> None:
    """Raise InputError for a key that the format's verifier cannot use, or that is too weak."""
    if isinstance(key, ed25519.Ed25519PublicKey) and key_format is CredentialFormat.DIVOC:
        return
    if isinstance(key, rsa.RSAPublicKey) and key_format is not CredentialFormat.SHC:
        if key.key_size < _MIN_RSA:
            raise refuse(pointer, "key_weak")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES[key_format]:
        raise refuse(pointer, "key_unsupported")


def read_jwk(jwk: Any, pointer: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    """Return the public key of a JWK: EC on a NIST curve, RSA, or Ed25519. Raises InputError with its place.

    Source: RFC 7518, sections 6.2 and 6.3; RFC 8037, section 2.
    """
    kind = member(jwk, "kty", str, pointer=pointer)
    if "d" in jwk:
        raise refuse(f"{pointer}/d", "wrong_type")  # whoever publishes a private key has none any more
    if kind == "OKP":
        point = parse_base64url(member(jwk, "x", object, pointer=pointer), f"{pointer}/x")
        if jwk.get("crv") == "Ed25519" and len(point) == _ED25519_SIZE:
            return ed25519.Ed25519PublicKey.from_public_bytes(point)
        raise refuse(pointer, "key_unsupported")
    numbers = ("x", "y") if kind == "EC" else ("n", "e")
    first, second = (
        int.from_bytes(parse_base64url(member(jwk, name, object, pointer=pointer), f"{pointer}/{name}"), "big")
        for name in numbers
    )
    try:
        if kind == "EC" and jwk.get("crv") in _JWK_CURVES:
            return ec.EllipticCurvePublicNumbers(first, second, _JWK_CURVES[jwk["crv"]]()).public_key()
        if kind == "RSA":
            return rsa.RSAPublicNumbers(second, first).public_key()
    except (ValueError, UnsupportedAlgorithm, TypeError, OverflowError):
        pass
    raise refuse(pointer, "key_unsupported")


_JWK_CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}


def shc_key(jwk: Any, issuer: str, pointer: str) -> TrustedKey:
    """Return a key of SMART Health Cards; its kid must be its thumbprint. Raises InputError with its place."""
    key = read_jwk(jwk, pointer)
    check_key(key, CredentialFormat.SHC, pointer)
    if member(jwk, "kid", str, pointer=pointer) != jwk_thumbprint(key):
        raise refuse(f"{pointer}/kid", "kid_mismatch")
    return TrustedKey(kid=jwk["kid"], format=CredentialFormat.SHC, public_key=key, issuer=issuer)


def check_issuer(url: str, pointer: str) -> str:
    """Return an issuer's address without a slash at its end. Raises InputError.

    Source: SMART Health Cards Framework: `iss` is https and has no trailing slash.
    """
    if not url.startswith("https://") or len(url) > MAX_TEXT or not url.isascii() or any(c.isspace() for c in url):
        raise refuse(pointer, "issuer_invalid")
    return url.rstrip("/")


def encode_kid(kid: bytes) -> str:
    return base64.b64encode(kid).decode("ascii")


def parse_kid(text: str, pointer: str) -> Kid:
    """Return a kid of an HCERT list: base64 of 1 to 32 bytes. Raises InputError."""
    kid = parse_base64(text, pointer)
    if not 1 <= len(kid) <= MAX_KID:
        raise refuse(pointer, "wrong_type")
    return Kid(kid)


def issuer_name(der: bytes) -> str:
    """Return the issuer of a certificate that was read before, as RFC 4514 has it, cut where it is long."""
    try:
        return x509.load_der_x509_certificate(der).issuer.rfc4514_string()[:MAX_TEXT]
    except (ValueError, TypeError):
        return ""


def digest_of(raw: bytes) -> str:
    """Return SHA-256, hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


def encode_public_key(key: PublicKeyTypes) -> bytes:
    """Return a key's SubjectPublicKeyInfo in DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: TrustedKey) -> str:
    """Return what tells a key of a list from every other: SHA-256 over all that a verifier goes by."""
    parts = (
        key.format.value,
        key.kid,
        encode_public_key(key.public_key).hex(),
        key.issuer,
        key.country,
        "anchor" if key.is_anchor else "signer",
        (key.certificate or b"").hex(),
        *sorted(key.usages),
        *(moment.isoformat() if moment else "" for moment in (key.not_before, key.not_after)),
    )
    return digest_of(json.dumps(parts).encode("ascii", "backslashreplace"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _refuse_constant(_: str) -> Any:
    raise ValueError("not JSON")
