"""Trust lists: the signers that a verifier believes, and nobody else.

A list is pinned: no code can add to it. Source: EU gateway, `TrustListItem`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from printsvc.credential.dsc import Dsc, Kid, parse_der_base64, read_dsc
from printsvc.credential.trustdoc import encode_key, encode_time, parse_key, parse_time
from printsvc.credential.trustedkey import NO_KEYS, KeyRing
from printsvc.errors import CredentialError


@dataclass(frozen=True, slots=True)
class TrustList:
    """`version` grows with every change; `made_at` is aware UTC. Several DSCs may have one kid.

    `keys` are pinned keys beside the DSCs: those of other formats, and signers of HCERT that have no certificate.
    `authorities` are CSCAs (DER): seals on PDFs are judged by them, codes are not.
    """

    version: int
    made_at: datetime
    certificates: tuple[Dsc, ...]
    keys: KeyRing = NO_KEYS
    authorities: tuple[bytes, ...] = ()
    _by_kid: Mapping[bytes, tuple[Dsc, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_kid: dict[bytes, tuple[Dsc, ...]] = {}
        for dsc in self.certificates:
            by_kid[dsc.kid] = (*by_kid.get(dsc.kid, ()), dsc)
        object.__setattr__(self, "_by_kid", by_kid)

    def candidates(self, kid: bytes | None) -> tuple[Dsc, ...]:
        """Return every DSC with this kid, in the list's order; none for None."""
        return () if kid is None else self._by_kid.get(kid, ())

    def to_json(self) -> dict[str, Any]:
        """Return the body of `GET /v1/trust-list`; `credential.trustsigned` puts a signature around it.

        With pinned keys of other formats it also has `keys`: the body of `GET /v1/trusted-keys`. `authorities` are the
        CSCAs in base64, in a list of their own: no verifier takes one for a signer of codes.
        """
        body: dict[str, Any] = {
            "version": self.version,
            "generated_at": encode_time(self.made_at),
            "certificates": [
                {
                    "kid": base64.b64encode(dsc.kid).decode("ascii"),
                    "country": dsc.country,
                    "certificateType": "DSC",
                    "thumbprint": dsc.thumbprint,
                    "rawData": base64.b64encode(dsc.der).decode("ascii"),
                    "not_before": encode_time(dsc.not_before),
                    "not_after": encode_time(dsc.not_after),
                }
                for dsc in self.certificates
            ],
        }
        if self.keys.keys:
            body["keys"] = [encode_key(key) for key in self.keys.keys]
        if self.authorities:
            body["authorities"] = [base64.b64encode(der).decode("ascii") for der in self.authorities]
        return body

    @classmethod
    def from_json(cls, body: Any) -> TrustList:
        """Return the list of `to_json`. Entries of another `certificateType` (CSCA, upload) are left out.

        Raises CredentialError (code `trust_list_invalid`): a list with one bad entry is no list.
        """
        try:
            entries = [entry for entry in body["certificates"] if entry.get("certificateType", "DSC") == "DSC"]
            return cls(
                version=int(body["version"]),
                made_at=parse_time(body["generated_at"]),
                certificates=tuple(_read_entry(entry) for entry in entries),
                keys=KeyRing(tuple(parse_key(key) for key in body.get("keys", ()))),
                authorities=tuple(read_dsc(parse_der_base64(text)).der for text in body.get("authorities", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError, CredentialError):
            raise CredentialError(
                "The trust list cannot be read.", vi="Không đọc được danh sách tin cậy.", code="trust_list_invalid"
            ) from None


def make_trust_list(ders: Iterable[bytes], *, version: int, made_at: datetime) -> TrustList:
    """Return the list of these DSCs. Raises CredentialError for one that cannot be read."""
    return TrustList(version=version, made_at=made_at, certificates=tuple(read_dsc(der) for der in ders))


def _read_entry(entry: Mapping[str, Any]) -> Dsc:
    dsc = read_dsc(parse_der_base64(entry["rawData"]), _parse_kid(entry.get("kid")))
    if entry.get("thumbprint", dsc.thumbprint).lower() != dsc.thumbprint:
        raise ValueError("the thumbprint is not that of rawData")
    return dsc


def _parse_kid(text: str | None) -> Kid | None:
    if text is None:
        return None
    try:
        return Kid(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise ValueError("the kid is not base64") from None
