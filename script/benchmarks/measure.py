"""What benchmarks share: percentiles, resident memory, how late an event loop is."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK_S = 0.005


@dataclass(frozen=True, slots=True)
class Plan:
    """How long: `seconds` in all or `count` things; None is the benchmark's own choice."""

    seconds: float | None
    count: int | None
    processes: int
    seed: int
    root: Path = Path(__file__).parents[2]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of them lie; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def rss_mb() -> float:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def keep_apart(folder: Path) -> None:
    """Have folders that are made in `folder` lie far from what else the disk has, where its file system does that.

    ext4 gives no inode again for some minutes, and looks at all that were given back before it takes another one
    (fs/ext4/ialloc.c, recently_deleted): a new file near to where tests have just deleted thousands takes a
    millisecond, where it takes 0.02 elsewhere.
    """
    with suppress(OSError):  # no such program
        subprocess.run(["chattr", "+T", folder], stderr=subprocess.DEVNULL, check=False)


class LoopClock:
    """Counts by how much the event loop is late, every 5 ms, while the block runs."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LoopClock:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self.late_ms.append(1000 * (loop.time() - due))


def share_cache(plan: Plan, data_dir: Path) -> None:
    """Let a service with that data folder use the forms that earlier runs compiled."""
    kept = plan.root / "var" / "bench" / "cache"
    kept.mkdir(parents=True, exist_ok=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "cache").symlink_to(kept)
