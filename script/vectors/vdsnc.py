"""An ICAO VDS-NC by the guidelines' text."""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives import hashes

from vectors.signing import Holder, b64url, sign_raw

SIGNER_USAGE = "2.23.136.1.1.14.2"
DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "ES256": hashes.SHA256(),
    "ES384": hashes.SHA384(),
    "ES512": hashes.SHA512(),
}


def make_data(**changes: Any) -> dict[str, Any]:
    dose = {"dvc": "2021-03-03", "seq": 1, "ctr": "UTO", "adm": "RIVM", "lot": "VC35679"}
    event = {
        "des": "XM68M6",
        "nam": "Comirnaty",
        "dis": "RA01.0",
        "vd": [dose, dose | {"dvc": "2021-03-24", "seq": 2}],
    }
    holder = {"n": "Smith Bill", "dob": "1990-01-02", "sex": "M", "i": "A1234567Z"}
    message = {"uvci": "U32870", "pid": holder, "ve": [event]}
    return {"hdr": {"t": "icao.vacc", "v": 1, "is": "UTO"}, "msg": message | changes}


def make_test_data() -> dict[str, Any]:
    message = {
        "utci": "T32870",
        "pid": {"n": "Smith Bill", "dob": "1990-01-02", "dt": "P", "dn": "A1234567Z"},
        "sp": {"spn": "General", "ctr": "UTO", "cd": {"p": "+1", "e": "a@b.example", "a": "1 Road"}},
        "dat": {"sc": "2021-03-03T10:00:00Z", "ri": "2021-03-03T12:00:00Z"},
        "tr": {"tc": "molecular(PCR)", "r": "negative"},
    }
    return {"hdr": {"t": "icao.test", "v": 1, "is": "UTO"}, "msg": message}


def canonical(value: Any) -> bytes:
    """RFC 8785 for what is used here: texts, whole numbers, lists, objects; names in the order of UTF-16."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return b"{" + b",".join(canonical(name) + b":" + canonical(value[name]) for name in names) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    assert not isinstance(value, float)
    return json.dumps(value, ensure_ascii=False).encode()


def make_seal(holder: Holder, data: Any, *, algorithm: str = "ES256") -> dict[str, Any]:
    signature = sign_raw(holder.key, canonical(data), DIGESTS[algorithm])
    return {"alg": algorithm, "cer": b64url(holder.der), "sigvl": b64url(signature)}


def make_vdsnc(holder: Holder, data: Any = None, *, algorithm: str = "ES256") -> str:
    data = make_data() if data is None else data
    return json.dumps({"data": data, "sig": make_seal(holder, data, algorithm=algorithm)}, ensure_ascii=False)
