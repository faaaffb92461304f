"""revocation: the snapshot for offline verifiers: how large, how quick to make, to load and to ask, in what memory."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Plan, percentile, rss_mb
from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.credential.revocation import RevocationSubject
from printsvc.credential.revocation_snapshot import (
    Change,
    SnapshotRevocations,
    apply_delta,
    choose_bucket_bits,
    difference,
    encode_delta,
    encode_snapshot,
    fingerprints_of,
    open_snapshot,
    sign_snapshot,
)
from printsvc.credential.trust import make_trust_list

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
REVOCATIONS = 10_000_000
CHANGES = 10_000
SECONDS = 5.0
ASKED_AT_ONCE = 20_000


def run(plan: Plan) -> dict[str, Any]:
    """Return the figures; docs/bench.md says what each means. `--count` is the number of revocations."""
    count = plan.count or REVOCATIONS
    csca_key, key = make_private_key(), make_private_key()
    csca = make_csca(csca_key, country="VN", organisation="BENCH", common_name="BENCH CSCA", serial=1, now=NOW)
    dsc = make_dsc(
        key.public_key(), csca=csca, csca_key=csca_key, organisation="BENCH", common_name="BENCH", serial=2, now=NOW
    )
    signer = LocalSigner(dsc, key)
    believe: dict[str, Any] = {"trust": make_trust_list([dsc], version=1, made_at=NOW), "now": NOW}
    generator = np.random.default_rng(plan.seed)
    prefixes = generator.bytes(8 * count)
    times: dict[str, Any] = {"made_at": NOW, "expires_at": NOW + timedelta(days=7), "signer": signer}

    begun = time.perf_counter()
    bits = choose_bucket_bits(count)
    revoked = fingerprints_of(prefixes, bits)
    manifest, signed, body = sign_snapshot(revoked, bucket_bits=bits, version=1, **times)
    whole = encode_snapshot(signed, body)
    build_s = time.perf_counter() - begun

    # As many go as come: the number stays, and with it the layout.
    changes = min(CHANGES, count)
    going = np.sort(revoked[generator.choice(len(revoked), changes, replace=False)])
    coming = np.setdiff1d(fingerprints_of(generator.bytes(8 * changes), bits), revoked)
    following = Change(going, coming).apply(revoked)
    begun = time.perf_counter()
    change = difference(revoked, following)
    delta_s = time.perf_counter() - begun
    _, next_signed, next_body = sign_snapshot(following, bucket_bits=bits, version=2, **times)
    delta = encode_delta(next_signed, 1, [change])
    additions = encode_delta(next_signed, 1, [Change(change.removed[:0], change.added)])
    begun = time.perf_counter()
    if apply_delta(open_snapshot(whole, **believe), delta, **believe) != encode_snapshot(next_signed, next_body):
        raise AssertionError("a delta must make the next version byte for byte")
    apply_s = time.perf_counter() - begun
    held = [bytes(prefixes[start : start + 8]) * 2 for start in range(0, 8 * min(count, 1000), 8)]
    del revoked, following, body, next_body, prefixes

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot"
        path.write_bytes(whole)
        del whole
        rss_before = rss_mb()
        begun = time.perf_counter()
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            snapshot = open_snapshot(memoryview(mapped), **believe)
            load_s = time.perf_counter() - begun
            if not all(snapshot.possibly_revoked(one) for one in held):
                raise AssertionError("what is revoked must be found")
            asked, found, spent, spans = _ask(snapshot.possibly_revoked, plan.seconds or SECONDS)
            book = SnapshotRevocations(snapshot)
            subjects = [
                RevocationSubject("VN", (f"URN:UVCI:01:VN:{number:032X}#A",)) for number in range(ASKED_AT_ONCE)
            ]
            begun = time.perf_counter()
            for subject in subjects:
                book.find(subject)
            find_s = time.perf_counter() - begun
            rss_after = rss_mb()
            size = len(mapped)
            del snapshot, book
    return {
        "revocations": manifest.count,
        "snapshot_bytes": size,
        "bits_each": round(8 * size / max(1, manifest.count), 2),
        "false_positive_rate": manifest.false_positive_rate,
        "false_positives": found,
        "asked": asked,
        "build_s": round(build_s, 2),
        "load_ms": round(1000 * load_s, 1),
        "lookups_per_s": round(asked / spent),
        "lookup_us_p99": round(percentile(spans, 99), 2),
        "finds_per_s": round(len(subjects) / find_s),
        "rss_mb_load": round(rss_after - rss_before, 1),
        "delta_changes": [len(change.removed), len(change.added)],
        "delta_bytes": len(delta),
        "delta_bytes_additions": len(additions),
        "delta_make_s": round(delta_s, 2),
        "delta_apply_s": round(apply_s, 2),
    }


def _ask(possibly_revoked: Any, seconds: float) -> tuple[int, int, float, list[float]]:
    """Ask about hashes that nobody revoked; return (asked, found, seconds spent, µs of each of the last)."""
    asked, found, spent, number = 0, 0, 0.0, 0
    spans: list[float] = []
    while spent < seconds:
        digests = [
            hashlib.sha256(n.to_bytes(8, "big")).digest()[:16] for n in range(number, number + ASKED_AT_ONCE)
        ]  # fmt: skip
        number += ASKED_AT_ONCE
        begun = time.perf_counter()
        found += sum(map(possibly_revoked, digests))
        spent += time.perf_counter() - begun
        asked += len(digests)
    for digest in digests:
        begun = time.perf_counter()
        possibly_revoked(digest)
        spans.append(1e6 * (time.perf_counter() - begun))
    return asked, found, spent, spans
