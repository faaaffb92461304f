"""A SMART Health Card by the framework's text."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from vectors.signing import NOW, PrivateKey, b64url, sign_raw

ISSUER = "https://health.example/issuer"


def thumbprint(key: PrivateKey) -> str:
    """RFC 7638, 3.2, for a P-256 key."""
    public = key.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    numbers = public.public_numbers()
    x, y = (b64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return b64url(hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest())


def make_bundle() -> dict[str, Any]:
    patient = {
        "resourceType": "Patient",
        "name": [{"family": "Anyperson", "given": ["John", "B."]}],
        "birthDate": "1951-01-20",
    }
    shots = [
        {
            "resourceType": "Immunization",
            "status": "completed",
            "vaccineCode": {"coding": [{"system": "http://hl7.org/fhir/sid/cvx", "code": "207"}]},
            "patient": {"reference": "resource:0"},
            "occurrenceDateTime": day,
            "performer": [{"actor": {"display": "ABC General Hospital"}}],
            "lotNumber": lot,
        }
        for day, lot in (("2021-01-01", "0000001"), ("2021-01-29", "0000007"))
    ]
    entries = [{"fullUrl": f"resource:{index}", "resource": one} for index, one in enumerate((patient, *shots))]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def make_payload(**changes: Any) -> dict[str, Any]:
    subject = {"fhirVersion": "4.0.1", "fhirBundle": make_bundle()}
    types = ["https://smarthealth.cards#health-card", "https://smarthealth.cards#immunization"]
    body = {"iss": ISSUER, "nbf": int(NOW.timestamp()), "vc": {"type": types, "credentialSubject": subject}}
    return body | changes


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def make_jws(key: PrivateKey, payload: Any, *, header: dict[str, Any] | None = None) -> str:
    head = {"zip": "DEF", "alg": "ES256", "kid": thumbprint(key)} if header is None else header
    body = payload if isinstance(payload, bytes) else deflate(json.dumps(payload, separators=(",", ":")).encode())
    signed = b64url(json.dumps(head, separators=(",", ":")).encode()) + "." + b64url(body)
    return signed + "." + b64url(sign_raw(key, signed.encode("ascii")))


def numeric(jws: str) -> str:
    return "shc:/" + "".join(f"{ord(character) - 45:02d}" for character in jws)


def make_shc(key: PrivateKey, payload: Any = None, *, header: dict[str, Any] | None = None) -> str:
    return numeric(make_jws(key, make_payload() if payload is None else payload, header=header))
