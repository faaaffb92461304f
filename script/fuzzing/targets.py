"""One function for each decoder that meets a stranger's bytes: it may raise the errors named here and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

from mutating.world import make_world
from vectors.signing import NOW

from printsvc.credential.base45 import encode_base45, parse_base45
from printsvc.credential.batch import ring_of, verify_line
from printsvc.credential.cbor import parse_cbor
from printsvc.credential.cose import parse_cose_sign1
from printsvc.credential.divoc import read_divoc, unzip
from printsvc.credential.dsc import read_dsc
from printsvc.credential.hcert import decode_hcert, decompress
from printsvc.credential.limits import MAX_DECOMPRESSED
from printsvc.credential.linkeddata import read_graph
from printsvc.credential.shc import inflate_raw, read_shc
from printsvc.credential.strictjson import parse_base64url, parse_json
from printsvc.credential.trust import TrustList
from printsvc.credential.vdsnc import read_vdsnc
from printsvc.credential.verify import verify
from printsvc.errors import CodeError, CredentialError


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def base45(data: bytes) -> None:
    with suppress(CodeError):
        text = _text(data)
        assert encode_base45(parse_base45(text)) == text


def cbor(data: bytes) -> None:
    with suppress(CodeError):
        parse_cbor(data, step="cbor", tags=(0, 18, 61))


def cose(data: bytes) -> None:
    with suppress(CodeError):
        parse_cose_sign1(data)


def zlib(data: bytes) -> None:
    for inflate in (decompress, inflate_raw, unzip):
        with suppress(CodeError):
            assert len(inflate(data)) <= MAX_DECOMPRESSED


def strict_json(data: bytes) -> None:
    with suppress(CodeError):
        json.dumps(parse_json(data), allow_nan=False)


def base64url(data: bytes) -> None:
    with suppress(CodeError):
        parse_base64url(_text(data))


def quads(data: bytes) -> None:
    with suppress(CodeError):
        read_graph(_text(data))


def certificate(data: bytes) -> None:
    with suppress(CredentialError):
        ring_of([read_dsc(data)])


def hcert(data: bytes) -> None:
    with suppress(CodeError):
        decode_hcert(_text(data))


def hcert_inside(data: bytes) -> None:
    """As if the envelope had passed base45 and zlib, where a fuzzer gets stuck."""
    import zlib as deflate

    with suppress(CodeError):
        decode_hcert("HC1:" + encode_base45(deflate.compress(data)))


def shc(data: bytes) -> None:
    with suppress(CodeError):
        read_shc(_text(data))


def vdsnc(data: bytes) -> None:
    with suppress(CodeError):
        read_vdsnc(_text(data))


def divoc(data: bytes) -> None:
    with suppress(CodeError):
        read_divoc(data)


def whole(data: bytes) -> None:
    """Any bytes and any text are a verdict, and not a good one unless the code is one of the genuine."""
    world = make_world()
    for code in (data, _text(data)):
        verdict = verify(code, trust=world.trust, at=NOW)
        json.dumps(verdict.to_json(), allow_nan=False)
        assert not verdict.is_valid or any(verdict.claims in genuine for genuine in world.claims.values())


def line(data: bytes) -> None:
    answer = verify_line(_text(data), trust=TrustList(0, NOW, ()), now=NOW)
    assert json.loads(json.dumps(answer, allow_nan=False))["verdict"] != "valid"


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        base45,
        cbor,
        cose,
        zlib,
        strict_json,
        base64url,
        quads,
        certificate,
        hcert,
        hcert_inside,
        shc,
        vdsnc,
        divoc,
        whole,
        line,
    )
}
