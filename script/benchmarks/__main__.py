"""script/bench NAME [--seconds S | --count N]."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import click

from benchmarks.measure import Plan

NAMES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem[0] != "_"))


@click.command()
@click.argument("name", type=click.Choice([name for name in NAMES if name not in ("people", "measure", "peers")]))
@click.option("--seconds", type=click.FloatRange(min=1), help="Spend about that long.")
@click.option("--count", type=click.IntRange(min=1), envvar="PEERS_N", help="Make or check that many.")
@click.option("--processes", type=click.IntRange(min=1), envvar="PEERS_PROCESSES", help="[as many as processors]")
@click.option("--seed", type=int, default=20211030, envvar="PEERS_SEED", show_default=True)
def main(name: str, seconds: float | None, count: int | None, processes: int | None, seed: int) -> None:
    """Run one benchmark and print its figures as JSON."""
    plan = Plan(seconds, count, processes or len(os.sched_getaffinity(0)), seed)
    click.echo(json.dumps(importlib.import_module(f"benchmarks.{name}").run(plan)))


if __name__ == "__main__":
    main()
