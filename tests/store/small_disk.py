"""A process that fills a small disk with doses, makes room, and goes on; it prints what happened as one JSON object.

Use: small_disk.py FOLDER LIMIT. The limit is `mount` (the folder gets a file system with 4 MB of room: run me in a
mount namespace of my own) or `rlimit` (no file may grow beyond 2 MB).
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import conftest
from sqlalchemy import text

from printsvc.errors import StoreError
from printsvc.store import doses as dose_store
from printsvc.store import migrate
from printsvc.store.counts import count
from printsvc.store.engine import Store

BATCH = 50


def shrink(folder: Path, limit: str) -> None:
    if limit == "mount":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", folder], check=True)
        (folder / "ballast").write_bytes(bytes(4 << 20))
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))


def make_room(folder: Path, limit: str) -> None:
    if limit == "mount":
        (folder / "ballast").unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


async def run(folder: Path, limit: str) -> dict[str, Any]:
    shrink(folder, limit)
    store = Store(f"sqlite:///{folder}/printsvc.db")
    migrate.upgrade(store)
    world = conftest.new_world(store, conftest.make_signer(), seed=1)
    acknowledged: list[str] = []
    told: dict[str, Any] = {}
    for start in range(0, 100_000, BATCH):
        ids = [f"D-{n}" for n in range(start, start + BATCH)]
        try:
            await world.record(*(world.event(dose_id) for dose_id in ids))
        except StoreError as error:
            told |= {"retry_after_s": error.retry_after_s, "en": error.en}
            break
        acknowledged += ids
    # Readers go on, and each further event is refused in the same way.
    told["integrity"] = store.read_now(lambda c: c.execute(text("PRAGMA integrity_check")).scalar())
    told["counts"] = store.read_now(count)
    told["refused_again"] = 0
    for _ in range(3):
        try:
            await world.record(*(world.event(dose_id) for dose_id in ids))
        except StoreError:
            told["refused_again"] += 1
    make_room(folder, limit)
    answers = await world.record(*(world.event(dose_id) for dose_id in ids))
    told["after"] = sorted({str(answer.outcome) for answer in answers})
    stored = store.read_now(lambda c: dose_store.find_doses(c, world.source, acknowledged))
    told |= {"acknowledged": len(acknowledged), "kept": len(stored)}
    told["integrity_after"] = store.read_now(lambda c: c.execute(text("PRAGMA integrity_check")).scalar())
    store.close()
    return told


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))))
