"""verify: one code after another in one process, ES256, against a trust list and a snapshot of revocations."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.measure import Plan, percentile, rss_mb
from benchmarks.people import dose_events
from printsvc.credential.base45 import parse_base45
from printsvc.credential.batch import verify_request
from printsvc.credential.cbor import parse_cbor
from printsvc.credential.cose import parse_cose_sign1, signature_agrees
from printsvc.credential.formats import read_hcert
from printsvc.credential.hcert import PREFIX, decode_hcert, decompress
from printsvc.credential.hcertcontent import check_content
from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.credential.revocation_snapshot import (
    Snapshot,
    SnapshotRevocations,
    choose_bucket_bits,
    encode_snapshot,
    fingerprints_of,
    open_snapshot,
    sign_snapshot,
)
from printsvc.credential.trust import TrustList, make_trust_list
from printsvc.credential.trustedkey import CredentialFormat, KeyRing, TrustedKey, jwk_thumbprint
from printsvc.domain.form import FormChoice, FormId
from printsvc.flows.bulk import opaque_of
from printsvc.flows.intake import parse_event
from printsvc.flows.issue import make_certificate

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
CODES = 1_000
SIGNERS = 150
"""Those whose codes come by."""
LISTED = 1_000
"""Signers of HCERT in the list; somewhat more than the European gateway had at its best."""
CARD_KEYS = 500
"""Keys of SMART Health Cards; about as many as the VCI directory had."""
REVOCATIONS = 10_000_000
SECONDS = 10.0


def run(plan: Plan) -> dict[str, Any]:
    """Return the figures; docs/bench.md says what each means."""
    csca_key = make_private_key()
    csca = make_csca(csca_key, country="VN", organisation="BENCH", common_name="BENCH CSCA", serial=1, now=NOW)
    signers = []
    for number in range(LISTED):
        key = make_private_key()
        dsc = make_dsc(
            key.public_key(),
            csca=csca,
            csca_key=csca_key,
            organisation="BENCH",
            common_name=f"BENCH {number}",
            serial=number + 2,
            now=NOW,
        )
        signers.append(LocalSigner(dsc, key))
    listed = make_trust_list([signer.certificate for signer in signers], version=1, made_at=NOW)
    trust = replace(listed, keys=KeyRing(tuple(_card_keys())))
    book = SnapshotRevocations(_snapshot(plan.seed, signers[0], trust))
    form = FormChoice(FormId("a4/43-2022"), "", 4296)
    codes = []
    for number, document in enumerate(itertools.islice(dose_events(plan.seed, now=NOW), CODES)):
        event = parse_event(document, now=NOW)
        opaque = opaque_of(bytes(32), event.dose_id)
        signer = signers[number % SIGNERS]
        certificate = make_certificate(
            event, signer=signer, form=form, issuer="Bộ Y tế", country="VN", opaque=opaque, now=NOW
        )
        codes.append(certificate.hcert)
    for code in codes[:SIGNERS]:
        if verify_request({"id": 0, "code": code}, trust=trust, now=NOW, revocations=book)["verdict"] != "valid":
            raise AssertionError("a code that was just signed must be valid")
    times: list[float] = []
    used = time.process_time()
    begun = before = time.perf_counter()
    end = begun + (plan.seconds or SECONDS if plan.count is None else 1e9)
    while before < end and (plan.count is None or len(times) < plan.count):
        verify_request({"id": 0, "code": codes[len(times) % CODES]}, trust=trust, now=NOW, revocations=book)
        now = time.perf_counter()
        times.append(1000 * (now - before))
        before = now
    used = time.process_time() - used
    return {
        "per_s_1": round(len(times) / (before - begun), 1),
        "per_cpu_s": round(len(times) / used, 1),
        "cpu_us": round(1e6 * used / len(times), 1),
        "ms_p50": round(percentile(times, 50), 3),
        "ms_p99": round(percentile(times, 99), 3),
        "split_us": _split(codes, trust, book),
        "codes": len(times),
        "signers": len(trust.certificates),
        "other_keys": len(trust.keys.keys),
        "revocations": book.snapshot.manifest.count,
        "rss_mb": round(rss_mb()),
    }


def _split(codes: Sequence[str], trust: TrustList, book: SnapshotRevocations) -> dict[str, float]:
    """Return the median time of each part in microseconds; `rest` is what the whole takes beyond them.

    The parts are called one by one, as the verifier calls them: it has no clock inside. The whole is timed among them.
    """
    spans: dict[str, list[float]] = {}

    def timed(part: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        answer = call(*args, **kwargs)
        spans.setdefault(part, []).append(1e6 * (time.perf_counter() - begun))
        return answer

    for code in codes:
        packed = timed("base45", parse_base45, code[len(PREFIX) :])
        cose = timed("cose", parse_cose_sign1, timed("zlib", decompress, packed))
        timed("cbor", parse_cbor, cose.payload, step="cbor")
        signer = trust.candidates(cose.kid)[0]
        decoded, reading = decode_hcert(code), read_hcert(code)
        assert cose.algorithm is not None
        assert decoded.issued_at is not None
        timed("signature", signature_agrees, signer.public_key, cose.algorithm, cose.signature, cose.to_be_signed)
        timed("schema", check_content, decoded.sub_claim, decoded.payload, issued_on=decoded.issued_at.date())
        timed("revocation", book.find, reading.subject)
        timed("whole", verify_request, {"id": 0, "code": code}, trust=trust, now=NOW, revocations=book)
    parts = {part: round(statistics.median(took), 1) for part, took in spans.items()}
    whole = parts.pop("whole")
    return parts | {"rest": round(whole - sum(parts.values()), 1)}


def _card_keys() -> Iterator[TrustedKey]:
    for _ in range(CARD_KEYS):
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        yield TrustedKey(jwk_thumbprint(key), CredentialFormat.SHC, key, issuer="https://bench.example")


def _snapshot(seed: int, signer: LocalSigner, trust: TrustList) -> Snapshot:
    prefixes = np.random.default_rng(seed).bytes(8 * REVOCATIONS)
    bits = choose_bucket_bits(REVOCATIONS)
    until = NOW + timedelta(days=7)
    _, signed, body = sign_snapshot(
        fingerprints_of(prefixes, bits), bucket_bits=bits, version=1, made_at=NOW, expires_at=until, signer=signer
    )
    return open_snapshot(encode_snapshot(signed, body), trust=trust, now=NOW)
