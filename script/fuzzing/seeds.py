"""Seeds: a genuine input for each target, and the odd ones that decoders fell over before."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import cbor2
from mutating.world import derived, make_world
from vectors import divoc, hcert, shc, vdsnc
from vectors.signing import make_holder

from printsvc.credential.trustedkey import CredentialFormat

ROOT = Path(__file__).parents[2] / "tests" / "fuzz" / "seeds"


def make_seeds() -> dict[str, list[bytes]]:
    codes = make_world().codes
    signer = make_holder("DSC", derived(11))
    parts = hcert.cose_sign1(signer, hcert.make_claims(hcert.vaccination()))
    envelope = cbor2.dumps(cbor2.CBORTag(18, parts))
    packed = divoc.pack(divoc.make_credential())
    hcerts = [str(code).encode() for code in codes[CredentialFormat.HCERT][:3]]
    cards = [str(code).encode() for code in codes[CredentialFormat.SHC][:1]]
    seals = [str(code).encode() for code in codes[CredentialFormat.VDS_NC][:1]]
    zips = [code for code in codes[CredentialFormat.DIVOC][:1] if isinstance(code, bytes)]
    return {
        "base45": [b"QED8WEX0", b"GGW", b"%69 VD92EX0", b":::"],
        "cbor": [parts[2], b"\xbf\x61a\x01\xff", b"\x9f" * 20, b"\xa2\x01\x01\x01\x02", b"\xc4\x82\x1b" + b"\xff" * 9],
        "cose": [envelope, b"\xd2\x84\x40\xf6\x40\x40", b"\xd8\x3d\xd2\x84\x40\xa0\x40\x40"],
        "zlib": [zlib.compress(envelope), shc.deflate(b"{}"), packed, zlib.compress(bytes(100_000))],
        "strict_json": [b'{"a":[1,2.5,null,"\\u00e9"]}', b'{"a":1,"a":2}', b"[" * 40, b'"\\ud800"', b"1e999"],
        "base64url": [b"AQID", b"AQIDBA", b"AQIDBB", b"AQ=="],
        "quads": [divoc.quads_of(divoc.make_credential()).encode(), b'_:a <b> "\\uD800\\n" .\n'],
        "certificate": [signer.der, signer.der[:-1]],
        "hcert": hcerts,
        "hcert_inside": [envelope, cbor2.dumps(parts)],
        "shc": [*cards, b"shc:/1/2/5676", b"shc:/"],
        "vdsnc": [*seals, json.dumps({"data": vdsnc.make_data(), "sig": {}}).encode()],
        "divoc": [*zips, json.dumps(divoc.make_credential()).encode(), divoc.as_base64(packed).encode()],
        "whole": [*hcerts[:1], *cards, *seals, *zips],
        "line": [
            json.dumps({"id": 1, "code": hcerts[0].decode(), "at": "2021-12-01"}).encode(),
            b'{"id": 1e999, "code": "\\ud800", "certificates": ["AAAA", 5], "at": -1e300}',
        ],
    }


def write_seeds() -> int:
    """Write the seeds that are not there yet; return how many."""
    written = 0
    for target, contents in make_seeds().items():
        folder = ROOT / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            path = folder / f"{number:02d}"
            if not path.exists():
                path.write_bytes(content)
                written += 1
    return written
