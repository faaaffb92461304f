"""Keys that come as JWK: SMART Health Cards' key sets, the VCI directory's snapshots, WHO's DID documents.

Source: SMART Health Cards Framework, "Determining keys associated with an issuer"; VCI directory, daily snapshot; WHO
GDHCN, "DID Trustlist v2"; W3C DID Core, 5.2.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

from printsvc.credential.dsc import Kid, kid_of
from printsvc.credential.trustedkey import CredentialFormat, TrustedKey
from printsvc.credential.trustentry import (
    Findings,
    certificate_key,
    check_issuer,
    check_key,
    encode_kid,
    entries_of,
    member,
    parse_base64,
    parse_kid,
    parse_list_json,
    read_certificate,
    read_jwk,
    refuse,
    shc_key,
)

_DOMAINS: Final = {
    "DCC": CredentialFormat.HCERT,
    "DDCC": CredentialFormat.HCERT,
    "DIVOC": CredentialFormat.DIVOC,
    "ICAO": CredentialFormat.VDS_NC,
}
"""WHO's trust domains whose codes are read. `-` (all of a participant's) and none at all are read as HCERT; keys of any
other domain sign other things, and are passed over."""
_SIGNS_CODES: Final = frozenset({"DSC"})
_AUTHORITIES: Final = frozenset({"SCA", "CSCA"})


def read_jwks(raw: bytes, *, issuer: str) -> Findings:
    """Return the keys of an issuer's `/.well-known/jwks.json`; the set itself does not say whose it is.

    Raises InputError.
    """
    if not issuer:
        raise refuse("/issuer", "issuer_needed")
    issuer = check_issuer(issuer, "/issuer")
    found = Findings()
    _take_keys(found, member(parse_list_json(raw), "keys", list), issuer, "/keys")
    return found


def read_vci_snapshot(raw: bytes) -> Findings:
    """Return the keys of every issuer in a snapshot of the VCI directory; an issuer without keys gives none.

    Raises InputError.
    """
    issuers = entries_of(member(parse_list_json(raw), "issuerInfo", list), "/issuerInfo")
    found = Findings()
    for number, info in enumerate(issuers):
        pointer = f"/issuerInfo/{number}"

        def read_one(info: Any = info, pointer: str = pointer) -> list[TrustedKey]:
            about = member(info, "issuer", dict)
            issuer = check_issuer(member(about, "iss", str, pointer="/issuer"), "/issuer/iss")
            _take_keys(found, member(info, "keys", list) if "keys" in info else [], issuer, f"{pointer}/keys")
            return []

        found.take(pointer, read_one)
    return found


def read_did_document(raw: bytes) -> Findings:
    """Return the keys of a WHO trust list: signers of every domain that is read here, authorities of ICAO's alone.

    The document's own `proof` is not checked: pin the file's digest. Raises InputError.
    """
    methods = entries_of(member(parse_list_json(raw), "verificationMethod", list), "/verificationMethod")
    found = Findings()
    for number, method in enumerate(methods):
        found.take(f"/verificationMethod/{number}", lambda method=method: _did_keys(method))  # type: ignore[misc]
    return found


def _take_keys(found: Findings, jwks: list[Any], issuer: str, pointer: str) -> None:
    for number, jwk in enumerate(entries_of(jwks, pointer)):
        # Issuers keep keys for other things in the same set: those that are no ES256 signing keys are passed over.
        if isinstance(jwk, dict) and (jwk.get("use", "sig") != "sig" or jwk.get("alg", "ES256") != "ES256"):
            continue
        found.take(f"{pointer}/{number}", lambda jwk=jwk: shc_key(jwk, issuer, ""))  # type: ignore[misc]


def _did_keys(method: Any) -> list[TrustedKey]:
    if isinstance(method, str):
        return []  # a reference to another document, as in the variant without embedded keys
    name = member(method, "id", str)
    parts = _address(method.get("controller")) or _address(name)
    usage = next((part.upper() for part in reversed(parts) if part.upper() in _SIGNS_CODES | _AUTHORITIES), "")
    domain = _DOMAINS.get(parts[0].upper()) if parts else None
    if domain is None and (parts[:1] == ["-"] or len(parts) == 2):
        domain = CredentialFormat.HCERT
    is_anchor = usage in _AUTHORITIES
    if not usage or domain is None or (is_anchor and domain is not CredentialFormat.VDS_NC):
        return []
    jwk = member(method, "publicKeyJwk", dict)
    key = read_jwk(jwk, "/publicKeyJwk")
    check_key(key, domain, "/publicKeyJwk")
    chain = member(jwk, "x5c", list, pointer="/publicKeyJwk") if "x5c" in jwk else []
    if not chain:
        if domain is CredentialFormat.VDS_NC:
            raise refuse("/publicKeyJwk/x5c", "missing")
        return [TrustedKey(_did_kid(jwk, name, None, domain), domain, key, issuer=":".join(parts)[:512])]
    if not isinstance(chain[0], str):
        raise refuse("/publicKeyJwk/x5c/0", "wrong_type")
    der = parse_base64(chain[0], "/publicKeyJwk/x5c/0")
    if read_certificate(der, "/publicKeyJwk/x5c/0").public_key != key:
        raise refuse("/publicKeyJwk", "key_mismatch")
    kid = None if domain is CredentialFormat.VDS_NC else _did_kid(jwk, name, der, domain)
    return [certificate_key(der, domain, "/publicKeyJwk/x5c/0", kid=kid, is_anchor=is_anchor)]


def _address(did: Any) -> list[str]:
    """Return the parts of a DID after `trustlist`: domain, participant, usage."""
    if not isinstance(did, str):
        return []
    parts = did.partition("#")[0].split(":")
    return parts[parts.index("trustlist") + 1 :] if "trustlist" in parts else []


def _did_kid(jwk: dict[str, Any], name: str, der: bytes | None, domain: CredentialFormat) -> str:
    if domain is CredentialFormat.DIVOC:
        return name
    if "kid" in jwk:
        text = member(jwk, "kid", str, pointer="/publicKeyJwk")
    elif "#" in name:
        text = unquote(name.rpartition("#")[2])
    elif der is not None:
        return encode_kid(kid_of(der))
    else:
        raise refuse("/publicKeyJwk/kid", "missing")
    return encode_kid(Kid(parse_kid(text, "/publicKeyJwk/kid")))
