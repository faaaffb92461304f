"""The run: `script/mutations` says how it is used."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from vectors.signing import NOW

from mutating.world import Code, World, alter, make_world
from printsvc.credential.trustedkey import CredentialFormat
from printsvc.credential.verify import verify

SHARES = {
    CredentialFormat.HCERT: 60,
    CredentialFormat.SHC: 15,
    CredentialFormat.VDS_NC: 15,
    CredentialFormat.DIVOC: 10,
}
LIMIT_MS = 50.0
LIMIT_MB = 50.0
SUSPECT_MS = 30.0
"""Of the wall's clock, which is quick to read: beyond it a code is timed again by the processor's."""
TOGETHER = 50
"""Codes whose memory is looked at together: a peak that none of them raised was raised by none."""
CHUNK = 5_000
KEPT = 20


@dataclass
class Found:
    """What a part of the run found; `bad` says of each breach which code it was and what it did."""

    tried: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    valid_same: int = 0
    differing: int = 0
    raised: int = 0
    slow: int = 0
    large: int = 0
    slowest_ms: float = 0.0
    slowest_wall_ms: float = 0.0
    largest_mb: float = 0.0
    bad: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        self.tried += other.tried
        self.verdicts += other.verdicts
        for name in ("valid_same", "differing", "raised", "slow", "large"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.slowest_wall_ms = max(self.slowest_wall_ms, other.slowest_wall_ms)
        self.largest_mb = max(self.largest_mb, other.largest_mb)
        self.bad = [*self.bad, *other.bad][:KEPT]


def make_code(world: World, seed: int, index: int) -> tuple[CredentialFormat, Code]:
    rng = random.Random(f"{seed}/{index}")
    (name,) = rng.choices(list(SHARES), list(SHARES.values()))
    return name, alter(world, name, rng)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def try_one(world: World, found: Found, seed: int, index: int) -> None:
    name, code = make_code(world, seed, index)
    found.tried[name.value] += 1
    begun = time.perf_counter()
    try:
        verdict = verify(code, trust=world.trust, at=NOW)
    except Exception:
        found.raised += 1
        found.bad.append(f"{index} {name} raised: {traceback.format_exc(limit=-3)} {code!r}")
        return
    took = 1000 * (time.perf_counter() - begun)
    found.slowest_wall_ms = max(found.slowest_wall_ms, took)
    found.verdicts[verdict.verdict.value] += 1
    if verdict.is_valid:
        if any(verdict.claims == claims for genuine in world.claims.values() for claims in genuine):
            found.valid_same += 1
        else:
            found.differing += 1
            found.bad.append(f"{index} {name} is valid and says something else: {code!r}")
    if took > SUSPECT_MS:
        took = processor_ms(world, code)
        if took > LIMIT_MS:
            found.slow += 1
            found.bad.append(f"{index} {name} took {took:.0f} ms: {code!r}")
    found.slowest_ms = max(found.slowest_ms, took)


def processor_ms(world: World, code: Code) -> float:
    """Return the processor's time for one code, the least of three: others use the processor meanwhile."""
    spans = []
    for _ in range(3):
        begun = time.thread_time()
        verify(code, trust=world.trust, at=NOW)
        spans.append(1000 * (time.thread_time() - begun))
    return min(spans)


def try_part(seed: int, first: int, last: int) -> Found:
    world, found = make_world(), Found()
    for begin in range(first, last, TOGETHER):
        before = peak_mb()
        for index in range(begin, min(begin + TOGETHER, last)):
            try_one(world, found, seed, index)
        grew = peak_mb() - before
        found.largest_mb = max(found.largest_mb, grew)
        if grew > LIMIT_MB:
            found.large += 1
            found.bad.append(f"{begin} to {begin + TOGETHER} took {grew:.0f} MB")
    return found


def parts(seed: int, count: int) -> Iterator[tuple[int, int, int]]:
    for first in range(0, count, CHUNK):
        yield seed, first, min(count, first + CHUNK)


def warm() -> None:
    """Load what is loaded at first use, so that no code is charged for it."""
    world = make_world()
    rng = random.Random(0)
    for name in SHARES:
        for _ in range(20):
            verify(alter(world, name, rng), trust=world.trust, at=NOW)


def run(count: int, seed: int, processes: int) -> dict[str, Any]:
    total, begun = Found(), time.perf_counter()
    with ProcessPoolExecutor(processes, initializer=warm) as pool:
        waiting = [pool.submit(try_part, *part) for part in parts(seed, count)]
        for done, future in enumerate(as_completed(waiting), 1):
            if future.exception() is not None:
                pool.shutdown(cancel_futures=True)
            total.add(future.result())
            if done % 10 == 0 or total.bad:
                print(f"{sum(total.tried.values())} of {count}, {len(total.bad)} breaches", file=sys.stderr, flush=True)
    for line in total.bad:
        print(line, file=sys.stderr)
    return {
        "count": sum(total.tried.values()),
        "seed": seed,
        "processes": processes,
        "seconds": round(time.perf_counter() - begun, 1),
        "tried": dict(sorted(total.tried.items())),
        "verdicts": dict(sorted(total.verdicts.items())),
        "valid_same_claims": total.valid_same,
        "valid_other_claims": total.differing,
        "raised": total.raised,
        "over_50_ms": total.slow,
        "over_50_mb": total.large,
        "slowest_ms": round(total.slowest_ms, 1),
        "slowest_wall_ms": round(total.slowest_wall_ms, 1),
        "largest_mb": round(total.largest_mb, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/mutations")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    result = run(chosen.count, chosen.seed, chosen.processes)
    print(json.dumps(result))
    breaches = ("valid_other_claims", "raised", "over_50_ms", "over_50_mb")
    return int(any(result[name] for name in breaches) or result["count"] != chosen.count)


if __name__ == "__main__":
    sys.exit(main())
