"""A DIVOC credential, with the statements that it makes written down one by one and put in order by hand.

The order of a graph with unnamed nodes is that of their hashes where all of these differ (RDF Dataset Canonicalization,
4.6); a credential's do.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from vectors.signing import b64url

CONTEXTS = ["https://www.w3.org/2018/credentials/v1", "https://cowin.gov.in/credentials/vaccination/v1"]
METHOD = "did:utopia"
TYPE = "<http://www.w3.org/1999/02/22-rdf-syntax-ns#type>"
XSD = "http://www.w3.org/2001/XMLSchema#"
SCHEMA = {
    "name", "gender", "nationality", "streetAddress", "addressRegion", "postalCode", "addressCountry",
}  # fmt: skip
MEANING = {
    "refId": "id", "certificateId": "id", "batch": "id", "vaccine": "id", "manufacturer": "id", "date": "date",
    "effectiveStart": "date", "effectiveUntil": "date", "dob": "date", "dose": "doseValue", "totalDoses": "doseValue",
    "feedbackUrl": "url", "infoUrl": "url", "age": "Number",
}  # fmt: skip
OWN = {"streetAddress2": "addressLine2", "city": "city", "district": "district", "nonTransferable": "nonTransferable"}
CLASSES = {
    "VerifiableCredential": "https://www.w3.org/2018/credentials#VerifiableCredential",
    "ProofOfVaccinationCredential": "https://schema.org/ProofOfVaccinationCredential",
    "Person": "https://schema.org/Person",
    "Vaccination": "vac:Vaccination",
}

PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def make_credential(**dose: Any) -> dict[str, Any]:
    address = {
        "streetAddress": "1 Hill Road",
        "streetAddress2": "",
        "district": "North",
        "city": "",
        "addressRegion": "Utopia",
        "addressCountry": "UT",
        "postalCode": 123456,
    }
    shot = {
        "id": "https://utopia.example/vaccine/92047670169",
        "feedbackUrl": "https://utopia.example/?92047670169",
        "infoUrl": "https://utopia.example/?92047670169",
        "certificateId": "92047670169",
        "type": ["Vaccination"],
        "batch": "41202025",
        "vaccine": "COVISHIELD",
        "manufacturer": "Serum Institute of India",
        "date": "2021-03-03T04:28:43.134Z",
        "effectiveStart": "2021-03-03",
        "effectiveUntil": "2021-05-03",
        "dose": 1,
        "totalDoses": 2,
        "verifier": {"name": "Dr. Vaccinator"},
        "facility": {"name": "North Clinic", "address": address | {"streetAddress": "2 Hill Road"}},
    }
    subject = {
        "type": "Person",
        "id": "did:Passport:Dummy256",
        "refId": "39791185041847",
        "name": 'Trần Văn "Ba"',
        "gender": "Male",
        "age": "65",
        "nationality": "Utopian",
        "address": address,
    }
    return {
        "@context": list(CONTEXTS),
        "type": ["VerifiableCredential", "ProofOfVaccinationCredential"],
        "credentialSubject": subject,
        "issuer": "https://utopia.example/",
        "issuanceDate": "2021-03-03T04:28:46.012Z",
        "evidence": [shot | dose],
        "nonTransferable": "true",
    }


def sign_credential(credential: dict[str, Any], key: PrivateKey, *, method: str = METHOD) -> dict[str, Any]:
    """Return the credential with its proof."""
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    proof = {
        "type": "RsaSignature2018" if is_rsa else "Ed25519Signature2018",
        "created": "2021-03-03T04:28:46Z",
        "verificationMethod": method,
        "proofPurpose": "assertionMethod",
    }
    header = b64url(json.dumps({"alg": "PS256" if is_rsa else "EdDSA", "b64": False, "crit": ["b64"]}).encode())
    data = hashlib.sha256(proof_quads(proof).encode()).digest() + hashlib.sha256(quads_of(credential).encode()).digest()
    signed = header.encode() + b"." + data
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    else:
        signature = key.sign(signed)
    return credential | {"proof": proof | {"jws": f"{header}..{b64url(signature)}"}}


def pack(document: Any, *, name: str = "certificate.json") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, document if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False))
    return target.getvalue()


def make_divoc(key: PrivateKey, credential: dict[str, Any] | None = None, *, method: str = METHOD) -> bytes:
    return pack(sign_credential(make_credential() if credential is None else credential, key, method=method))


def as_base64(code: bytes) -> str:
    return base64.b64encode(code).decode("ascii")


def proof_quads(proof: dict[str, str]) -> str:
    node = "_:c14n0"
    lines = [
        f'{node} <http://purl.org/dc/terms/created> "{proof["created"]}"^^<{XSD}dateTime> .\n',
        f"{node} {TYPE} <https://w3id.org/security#{proof['type']}> .\n",
        f"{node} <https://w3id.org/security#proofPurpose> <https://w3id.org/security#{proof['proofPurpose']}> .\n",
        f"{node} <https://w3id.org/security#verificationMethod> <{proof['verificationMethod']}> .\n",
    ]
    return "".join(sorted(lines))


def quads_of(credential: dict[str, Any]) -> str:
    lines: set[str] = set()
    _state({name: value for name, value in credential.items() if name != "@context"}, lines, blank_names())
    return order(lines)


def blank_names() -> list[str]:
    return [f"_:b{number}" for number in range(40, 0, -1)]


def _state(one: dict[str, Any], lines: set[str], names: list[str]) -> str:
    node = f"<{one['id']}>" if "id" in one else names.pop()
    for name, value in one.items():
        for item in value if isinstance(value, list) else [value]:
            if name == "type":
                lines.add(f"{node} {TYPE} <{CLASSES[item]}> .\n")
            elif name != "id":
                lines.add(f"{node} <{_property(name)}> {_object(name, item, lines, names)} .\n")
    return node


def _property(name: str) -> str:
    if name in ("credentialSubject", "issuer", "issuanceDate", "expirationDate", "evidence"):
        return "https://www.w3.org/2018/credentials#" + name
    if name in SCHEMA:
        return "https://schema.org/" + name
    if name in MEANING:
        return "https://schema.org/" + MEANING[name]
    return {"address": "https://schema.org/PostalAddress", "facility": "vac:Facility", "verifier": "vac:verifier"}.get(
        name, "vac:" + OWN.get(name, name)
    )


def _object(name: str, value: Any, lines: set[str], names: list[str]) -> str:
    if isinstance(value, dict):
        return _state(value, lines, names)
    if name == "issuer":
        return f"<{value}>"
    if isinstance(value, int):
        return f'"{value}"^^<{XSD}integer>'
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"' + (f"^^<{XSD}dateTime>" if name in ("issuanceDate", "expirationDate") else "")


def order(lines: set[str]) -> str:
    """Name the unnamed nodes by the order of their hashes (which must differ), then sort."""
    names = {name for line in lines for name in re.findall(r"_:b\d+", line)}
    hashed = {}
    for name in names:
        about = [line for line in lines if re.search(rf"{name}\b", line)]
        seen = sorted(re.sub(r"_:b\d+", lambda m: "_:a" if m[0] == name else "_:z", line) for line in about)  # noqa: B023
        hashed[name] = hashlib.sha256("".join(seen).encode()).hexdigest()
    assert len(set(hashed.values())) == len(hashed)
    issued = {name: f"_:c14n{number}" for number, name in enumerate(sorted(names, key=hashed.__getitem__))}
    return "".join(sorted(re.sub(r"_:b\d+", lambda m: issued[m[0]], line) for line in lines))
