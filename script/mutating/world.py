"""A world of signers, the genuine codes under them, and how a code of each format is altered at each of its layers."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from vectors import divoc, hcert, shc, vdsnc
from vectors.signing import NOT_AFTER, NOT_BEFORE, NOW, Holder, b64url, make_holder

from mutating.trees import alter_bytes, alter_text, alter_tree
from printsvc.credential.base45 import encode_base45, parse_base45
from printsvc.credential.dsc import read_dsc
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat, KeyRing, TrustedKey
from printsvc.credential.verify import verify

Code = str | bytes
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class World:
    """`codes` are the genuine ones by format; `claims` what any of them says."""

    trust: TrustList
    codes: dict[CredentialFormat, list[Code]]
    claims: dict[CredentialFormat, list[Any]]
    stranger: Holder


def derived(scalar: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(scalar, ec.SECP256R1())


@cache
def make_world() -> World:
    """Return the world; signatures and RSA keys differ from process to process, what codes say does not."""
    signers = [make_holder("DSC 1", derived(11)), make_holder("DSC 2", derived(12))]
    rsa_signer = make_holder("DSC 3", rsa.generate_private_key(65537, 2048))
    csca = make_holder("CSCA", derived(13), is_ca=True)
    seals = [
        make_holder("Seal 1", derived(14), issuer=csca, usages=(vdsnc.SIGNER_USAGE,)),
        make_holder("Seal 2", derived(15), issuer=csca),
    ]
    cards = [derived(16), derived(17)]
    divoc_rsa, edwards = rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()
    keys = [
        TrustedKey(
            kid=hashlib.sha256(csca.der).hexdigest(),
            format=CredentialFormat.VDS_NC,
            public_key=csca.key.public_key(),
            not_before=NOT_BEFORE,
            not_after=NOT_AFTER,
            certificate=csca.der,
            is_anchor=True,
        ),
        *(TrustedKey(shc.thumbprint(key), CredentialFormat.SHC, key.public_key()) for key in cards),
        TrustedKey(divoc.METHOD, CredentialFormat.DIVOC, divoc_rsa.public_key()),
        TrustedKey("did:other", CredentialFormat.DIVOC, edwards.public_key()),
    ]
    trust = TrustList(1, NOW, tuple(read_dsc(holder.der) for holder in (*signers, rsa_signer)), KeyRing(tuple(keys)))
    other_person = hcert.vaccination(dn=1, dt="2021-10-01", ci="URN:UVCI:01:UT:OTHER") | {"dob": "1971-05-06"}
    who = {"n": "A", "dob": "2003-02-04", "v": {"vp": "XM28X5", "dt": "2021-01-23", "is": "Ministry", "dn": "1"}}
    other_card = shc.make_payload()
    other_card["vc"]["credentialSubject"]["fhirBundle"]["entry"][0]["resource"]["birthDate"] = "1980-01-01"
    other_seal = vdsnc.make_data(pid={"n": "Other Person", "dob": "1970-12-31"}, uvci="U9")
    other_dose = divoc.make_credential(dose=2, date="2021-06-03T04:28:43.134Z")
    other_dose["credentialSubject"]["name"] = "Other Person"
    codes: dict[CredentialFormat, list[Code]] = {
        CredentialFormat.HCERT: [
            hcert.make_hcert(signers[0], hcert.vaccination()),
            hcert.make_hcert(signers[1], other_person),
            hcert.make_hcert(signers[0], hcert.test_result()),
            hcert.make_hcert(signers[1], hcert.recovery()),
            hcert.make_hcert(rsa_signer, hcert.vaccination(dn=3), algorithm=-37),
            hcert.make_hcert(signers[0], who, sub_claim=-6),
        ],
        CredentialFormat.SHC: [shc.make_shc(cards[0]), shc.make_shc(cards[1], other_card)],
        CredentialFormat.VDS_NC: [vdsnc.make_vdsnc(seals[0]), vdsnc.make_vdsnc(seals[1], other_seal)],
        CredentialFormat.DIVOC: [
            divoc.make_divoc(divoc_rsa),
            divoc.make_divoc(divoc_rsa, other_dose),
            divoc.make_divoc(edwards, other_dose, method="did:other"),
        ],
    }
    claims = {}
    for name, genuine in codes.items():
        verdicts = [verify(code, trust=trust, at=NOW) for code in genuine]
        if not all(verdict.is_valid for verdict in verdicts):
            raise AssertionError(f"the genuine codes of {name} must be valid: {[v.detail for v in verdicts]}")
        claims[name] = [verdict.claims for verdict in verdicts]
    return World(trust, codes, claims, make_holder("Stranger", derived(18)))


def alter(world: World, name: CredentialFormat, rng: random.Random) -> Code:
    """Return an altered code of a format."""
    one, two = rng.choice(world.codes[name]), rng.choice(world.codes[name])
    if rng.random() < 0.01:
        return _grown(one, rng)
    return _ALTER[name](one, two, world, rng)


def _grown(code: Code, rng: random.Random) -> Code:
    """Return a code that is too much: itself again and again, or filled with one character."""
    cut = rng.randrange(len(code))
    times = rng.choice((10, 1_000, 100_000))
    if isinstance(code, bytes):
        return code[:cut] + rng.choice((code[:20], b"\0", b"P")) * times + code[cut:]
    return code[:cut] + rng.choice((code[:20], "0", "[", "{", '{"a":', " ", ":")) * times + code[cut:]


def _alter_hcert(one: Any, two: Any, world: World, rng: random.Random) -> Code:
    match rng.randrange(6):
        case 0:
            altered = alter_text(one[4:], hcert.ALPHABET, rng)
            return alter_text(one, "HC1: ", rng) if rng.random() < 0.05 else "HC1:" + altered
        case 1:
            return "HC1:" + encode_base45(alter_bytes(parse_base45(one[4:]), rng))
        case 2:
            return _pack(alter_bytes(_cose(one), rng))
    parts, theirs = _parts(one), _parts(two)
    match rng.randrange(8):
        case 0:
            position = rng.randrange(4)
            parts[position] = theirs[position]
        case 1:
            parts[2] = cbor2.dumps(alter_tree(cbor2.loads(parts[2]), rng, cbor2.loads(theirs[2])))
        case 2:
            parts[0] = cbor2.dumps(alter_tree(cbor2.loads(parts[0]), rng, cbor2.loads(theirs[0])))
        case 3:
            name = rng.choice((1, 2, 4, 33, "kid"))
            parts[1] = {name: rng.choice((-7, -37, [], world.stranger.der, hcert.kid_of(world.stranger.der)))}
        case 4:
            claims = alter_tree(cbor2.loads(parts[2]), rng, cbor2.loads(theirs[2]))
            header = cbor2.loads(parts[0]) if rng.random() < 0.5 else None
            parts = hcert.cose_sign1(world.stranger, claims, header=header)
        case 5:
            parts[3] = _mirrored(parts[3]) if rng.random() < 0.5 else alter_bytes(parts[3], rng)
        case 6:
            parts[2] = cbor2.dumps(cbor2.loads(parts[2]), canonical=True)
        case _:
            parts = alter_tree(parts, rng, theirs)
    value = cbor2.CBORTag(rng.choice((18, 18, 18, 17, 61, 98)), parts)
    return _pack(cbor2.dumps(value if rng.random() < 0.9 else parts))


def _parts(code: str) -> list[Any]:
    protected, unprotected, payload, signature = cbor2.loads(_cose(code)).value
    return [protected, dict(unprotected), payload, signature]


def _pack(cose: bytes) -> str:
    return "HC1:" + encode_base45(zlib.compress(cose))


@cache
def _cose(code: str) -> bytes:
    return zlib.decompress(parse_base45(code[4:]))


def _mirrored(signature: bytes) -> bytes:
    if len(signature) != 64:
        return signature[::-1]
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    return signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


def _alter_shc(one: Any, two: Any, world: World, rng: random.Random) -> Code:
    if rng.random() < 0.2:
        return "shc:/" + alter_text(one[5:], "0123456789", rng)
    jws, theirs = _jws(one), _jws(two)
    parts, others = jws.split("."), theirs.split(".")
    match rng.randrange(7):
        case 0:
            return shc.numeric(_ascii(alter_text(jws, BASE64URL, rng)))
        case 1:
            position = rng.randrange(3)
            parts[position] = others[position]
        case 2:
            header = alter_tree(json.loads(_unb64(parts[0])), rng, json.loads(_unb64(others[0])))
            parts[0] = b64url(_json(header))
        case 3:
            payload = alter_tree(json.loads(zlib.decompress(_unb64(parts[1]), -15)), rng)
            parts[1] = b64url(shc.deflate(_json(payload)))
        case 4:
            payload = json.loads(zlib.decompress(_unb64(parts[1]), -15))
            header = json.loads(_unb64(parts[0]))
            return shc.make_shc(derived(18), alter_tree(payload, rng), header=header)
        case 5:
            parts[2] = b64url(_mirrored(_unb64(parts[2])) if rng.random() < 0.5 else alter_bytes(_unb64(parts[2]), rng))
        case _:
            parts[1] = b64url(alter_bytes(_unb64(parts[1]), rng))
    return shc.numeric(".".join(parts))


@cache
def _jws(code: str) -> str:
    return "".join(chr(int(code[index : index + 2]) + 45) for index in range(5, len(code), 2))


def _ascii(text: str) -> str:
    return "".join(character if "-" <= character <= "z" else "-" for character in text)


def _alter_vdsnc(one: Any, two: Any, world: World, rng: random.Random) -> Code:
    document, theirs = json.loads(one), json.loads(two)
    match rng.randrange(7):
        case 0:
            return alter_text(one, '{}[]",:0123456789aA\\', rng)
        case 1:
            return alter_bytes(one.encode(), rng)
        case 2:
            document["data"] = alter_tree(document["data"], rng, theirs["data"])
        case 3:
            name = rng.choice(("alg", "cer", "sigvl"))
            document["sig"][name] = theirs["sig"][name]
        case 4:
            document["sig"] = alter_tree(document["sig"], rng, theirs["sig"])
        case 5:
            data = alter_tree(document["data"], rng, theirs["data"])
            try:
                document = json.loads(vdsnc.make_vdsnc(world.stranger, data))
            except (AssertionError, TypeError, AttributeError, ValueError):
                document["data"] = data
            if rng.random() < 0.5:
                document["sig"]["cer"] = theirs["sig"]["cer"]
        case _:
            document = alter_tree(document, rng, theirs)
    return _json(document, rng.choice((None, 1))).decode()


def _alter_divoc(one: Any, two: Any, world: World, rng: random.Random) -> Code:
    if rng.random() < 0.5:
        packed = alter_bytes(one, rng)
        return packed if rng.random() < 0.7 else base64.b64encode(packed).decode()
    document, theirs = (json.loads(_unzip(code)) for code in (one, two))
    match rng.randrange(6):
        case 0:
            document["proof"] = alter_tree(document["proof"], rng, theirs["proof"])
        case 1:
            document["proof"] = theirs["proof"]
        case 2:
            shot = document["evidence"][0]
            first, second = rng.sample(sorted(shot), 2)
            shot[first], shot[second] = shot[second], shot[first]
        case 3:
            document["evidence"].append(alter_tree(rng.choice((document, theirs))["evidence"][0], rng))
        case 4:
            return divoc.pack(alter_bytes(_json(document), rng))
        case _:
            document = alter_tree(document, rng, theirs)
    return divoc.pack(_json(document))


@cache
def _unzip(code: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        return archive.read("certificate.json")


def _json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "surrogatepass")


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_ALTER: dict[CredentialFormat, Callable[[Any, Any, World, random.Random], Code]] = {
    CredentialFormat.HCERT: _alter_hcert,
    CredentialFormat.SHC: _alter_shc,
    CredentialFormat.VDS_NC: _alter_vdsnc,
    CredentialFormat.DIVOC: _alter_divoc,
}
