"""A process that records doses until it is killed: a line on standard output for each dose that was acknowledged.

Use: recorder.py STORE_URL FIRST_NUMBER
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import conftest

from printsvc.errors import StoreLockedError
from printsvc.store.engine import Store

AT_ONCE = 16


async def record_for_ever(world: conftest.World, numbers: itertools.count[int]) -> None:
    while True:
        dose_id = f"D-{next(numbers)}"
        [recorded] = await world.record(world.event(dose_id))
        assert recorded.dose is not None
        os.write(1, f"{dose_id} {recorded.outcome}\n".encode())


async def main(url: str, first: int) -> None:
    world = conftest.new_world(Store(url), conftest.make_signer(), seed=first)
    numbers = itertools.count(first)
    await asyncio.gather(*(record_for_ever(world, numbers) for _ in range(AT_ONCE)))


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))
    except StoreLockedError as error:
        sys.exit(f"StoreLockedError: {error.en}")
