"""Linked-data credentials: what exactly their signature covers, as canonical N-Quads.

No context is ever fetched: the terms that DIVOC credentials use are defined here, by the vocabularies that name them.
The canonical form is the library's (pyld: JSON-LD 1.1 and URDNA2015).
Source: JSON-LD 1.1; RDF Dataset Canonicalization; Verifiable Credentials Data Model 1.1, B.1; Security Vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from printsvc.credential.limits import MAX_LINKED_NODES, MAX_LINKED_SIBLINGS
from printsvc.errors import CodeError

CREDENTIALS_V1: Final = "https://www.w3.org/2018/credentials/v1"
CRED: Final = "https://www.w3.org/2018/credentials#"
SEC: Final = "https://w3id.org/security#"
SCHEMA: Final = "https://schema.org/"
VAC: Final = "vac:"
"""The published vocabulary means this as a prefix of its own address, which has no delimiter at its end: by JSON-LD 1.1
(4.1.6) it is none, and the names were signed as they stand."""
RDF_TYPE: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
_XSD: Final = "http://www.w3.org/2001/XMLSchema#"
# Every deployment has the one vocabulary under an address of its own.
_VACCINATION = re.compile(r"https://[a-z0-9.-]{1,80}/(?:[a-z]{1,20}/)?credentials/vaccination/v[12]")
_ABSOLUTE = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:[^\s<>"{}|\\^`]{0,400}')
_QUAD = re.compile(r'(\S+) <([^>]*)> (?:<([^>]*)>|(_:\S+)|"((?:[^"\\]|\\.)*)"\S*) (?:\S+ )?\.')
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([tbnrf"\'\\]))')
_SHORT: Final = MappingProxyType({"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f"})


@dataclass(frozen=True, slots=True)
class Graph:
    """What was signed: for each node, each property's values, in the order of the canonical form."""

    nodes: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def of_type(self, name: str) -> list[str]:
        """Return the nodes of a type, in the order of the canonical form."""
        return [node for node, properties in self.nodes.items() if name in properties.get(RDF_TYPE, ())]

    def values(self, node: str | None, name: str) -> tuple[str, ...]:
        return () if node is None else self.nodes.get(node, {}).get(name, ())

    def one(self, node: str | None, name: str) -> str | None:
        """Return the value of a property that has exactly one; None else."""
        values = self.values(node, name)
        return values[0] if len(values) == 1 else None


def check_context(context: Any) -> None:
    """Raise CodeError for an `@context` that is not known here, or is written into the code."""
    if not (
        isinstance(context, list)
        and len(context) == 2
        and context[0] == CREDENTIALS_V1
        and isinstance(context[1], str)
        and _VACCINATION.fullmatch(context[1])
    ):
        raise CodeError(
            "structure", "The credential uses a vocabulary that is not known here.", vi="Từ vựng của mã không rõ."
        )


def is_absolute_name(text: str) -> bool:
    """Return whether this is an IRI with a scheme, and cannot be mistaken for more than one (RFC 3987, 2.2)."""
    return _ABSOLUTE.fullmatch(text) is not None


def check_tree(value: Any) -> None:
    """Raise CodeError for JSON that would cost too much to bring into canonical form, or redefine its terms."""
    nodes, rest = 0, [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            nodes += 1
            if any(key.startswith("@") and not (key == "@context" and one is value) for key in one):
                raise CodeError("structure", "The credential holds keywords of linked data.", vi="Nội dung mã bị hỏng.")
            # Statements about what has no absolute name fall out of the canonical form, or are about something else.
            if not all(is_absolute_name(one[key]) for key in ("id", "issuer") if isinstance(one.get(key), str)):
                raise CodeError("structure", "A name in the credential is not absolute.", vi="Nội dung mã bị hỏng.")
            rest += one.values()
        elif isinstance(one, list):
            if sum(isinstance(below, dict | list) for below in one) > MAX_LINKED_SIBLINGS:
                raise CodeError("structure", "A list of the credential is too long.", vi="Danh sách trong mã quá dài.")
            rest += one
    if nodes > MAX_LINKED_NODES:
        raise CodeError("structure", "The credential has too many parts.", vi="Mã có quá nhiều phần.")


def canonical_credential(document: Mapping[str, Any]) -> str:
    """Return a credential (without its proof) as canonical N-Quads. Raises CodeError."""
    return _normalize({**document, "@context": [_credentials(), _vaccination()]})


def canonical_proof(proof: Mapping[str, Any]) -> str:
    """Return a proof (without its signature) as canonical N-Quads. Raises CodeError."""
    return _normalize({**proof, "@context": _security()})


def read_graph(quads: str) -> Graph:
    """Return what canonical N-Quads say. Raises CodeError."""
    nodes: dict[str, dict[str, tuple[str, ...]]] = {}
    # Not splitlines: it also splits at characters that a literal holds as they are.
    for line in filter(None, quads.split("\n")):
        match = _QUAD.fullmatch(line)
        if match is None:
            raise CodeError("structure", "The credential's canonical form cannot be read.", vi="Nội dung mã bị hỏng.")
        subject, name, iri, blank, literal = match.groups()
        value = iri if iri is not None else blank if blank is not None else _ESCAPE.sub(_unescape, literal)
        properties = nodes.setdefault(subject.strip("<>"), {})
        properties[name] = (*properties.get(name, ()), value)
    return Graph(nodes)


def _unescape(match: re.Match[str]) -> str:
    number = match[1] or match[2]
    return chr(int(number, 16)) if number else _SHORT.get(match[3], match[3])


def _normalize(document: dict[str, Any]) -> str:
    # Only a service reads linked data: a site has no such library, and never loads this.
    from pyld import jsonld

    options = {
        "algorithm": "URDNA2015",
        "format": "application/n-quads",
        "documentLoader": _load_nothing,
        "processingMode": "json-ld-1.1",
    }
    try:
        return str(jsonld.normalize(document, options))
    except (jsonld.JsonLdError, ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError):
        raise CodeError(
            "structure", "The credential is no linked data that can be read.", vi="Nội dung mã bị hỏng."
        ) from None


def _load_nothing(url: str, options: Any) -> Any:
    raise ValueError("contexts are never fetched")


@cache
def _credentials() -> dict[str, Any]:
    """The part of the credentials vocabulary that a vaccination credential uses."""
    links = ("issuer", "evidence", "credentialSubject", "credentialSchema", "credentialStatus", "termsOfUse", "holder")
    times = ("issuanceDate", "expirationDate", "validFrom", "validUntil")
    scoped: dict[str, Any] = {"@version": 1.1, "id": "@id", "type": "@type"}
    scoped |= {name: {"@id": CRED + name, "@type": "@id"} for name in links}
    scoped |= {name: {"@id": CRED + name, "@type": _XSD + "dateTime"} for name in times}
    return {
        "@version": 1.1,
        "id": "@id",
        "type": "@type",
        "VerifiableCredential": {"@id": CRED + "VerifiableCredential", "@context": scoped},
    }


@cache
def _vaccination() -> dict[str, Any]:
    """The second version, which has the first within it: signers refused whatever the first had no name for."""
    address = _scope(
        {name: SCHEMA + name for name in ("streetAddress", "addressRegion", "postalCode", "addressCountry")}
        | {"streetAddress2": VAC + "addressLine2", "city": VAC + "city", "district": VAC + "district"}
    )
    postal = {"@id": SCHEMA + "PostalAddress", "@context": address}
    # Several names have one meaning in this vocabulary, so the signature does not tell them apart: `divoc.py`.
    person = {name: SCHEMA + name for name in ("name", "gender", "nationality")}
    person |= {"refId": SCHEMA + "id", "uhid": SCHEMA + "id", "age": SCHEMA + "Number"}
    person |= {"dob": SCHEMA + "date"}
    shot: dict[str, Any] = dict.fromkeys(("certificateId", "batch", "vaccine", "manufacturer"), SCHEMA + "id")
    shot |= dict.fromkeys(("date", "effectiveStart", "effectiveUntil"), SCHEMA + "date")
    shot |= dict.fromkeys(("feedbackUrl", "infoUrl"), SCHEMA + "url")
    shot |= dict.fromkeys(("dose", "totalDoses"), SCHEMA + "doseValue")
    shot |= {"icd11Code": SCHEMA + "id", "prophylaxis": SCHEMA + "name"}
    shot["verifier"] = {
        "@id": VAC + "verifier",
        "@context": _scope({"id": SCHEMA + "id", "name": SCHEMA + "name", "sign-image": SCHEMA + "image"}),
    }
    shot["facility"] = {
        "@id": VAC + "Facility",
        "@context": _scope({"name": SCHEMA + "name", "address": postal, "seal-image": SCHEMA + "image"}),
    }
    return {
        "@version": 1.1,
        "ProofOfVaccinationCredential": {
            "@id": SCHEMA + "ProofOfVaccinationCredential",
            "@context": _scope({"nonTransferable": VAC + "nonTransferable"}),
        },
        "Person": {"@id": SCHEMA + "Person", "@context": _scope(person | {"address": postal})},
        "Vaccination": {"@id": VAC + "Vaccination", "@context": _scope(shot)},
    }


@cache
def _security() -> dict[str, Any]:
    """The part of the security vocabulary that a proof uses."""
    terms: dict[str, Any] = {name: SEC + name for name in ("RsaSignature2018", "Ed25519Signature2018", "domain")}
    terms |= {"nonce": SEC + "nonce", "challenge": SEC + "challenge"}
    terms["created"] = {"@id": "http://purl.org/dc/terms/created", "@type": _XSD + "dateTime"}
    terms["verificationMethod"] = {"@id": SEC + "verificationMethod", "@type": "@id"}
    terms["proofPurpose"] = {"@id": SEC + "proofPurpose", "@type": "@vocab"}
    terms["assertionMethod"] = {"@id": SEC + "assertionMethod", "@type": "@id", "@container": "@set"}
    return {"@version": 1.1, "id": "@id", "type": "@type", **terms}


def _scope(terms: dict[str, Any]) -> dict[str, Any]:
    return {"@version": 1.1, **terms}
