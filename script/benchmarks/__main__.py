"""script/bench NAME [--seconds S | --minutes M] [--count N | --doses N]."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import click

from benchmarks.measure import Plan

PARTS = {"chaos_books", "chaos_plan", "measure", "peers", "people"}
NAMES = sorted({path.stem for path in Path(__file__).parent.glob("*.py") if path.stem[0] != "_"} - PARTS)


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option("--seconds", type=click.FloatRange(min=1), help="Spend about that long.")
@click.option("--minutes", type=click.FloatRange(min=0.3), help="The same in minutes.")
@click.option(
    "--count", "--doses", "count", type=click.IntRange(min=1), envvar="PEERS_N", help="Make or check that many."
)
@click.option("--processes", type=click.IntRange(min=1), envvar="PEERS_PROCESSES", help="[as many as processors]")
@click.option("--seed", type=int, default=20211030, envvar="PEERS_SEED", show_default=True)
def main(
    name: str, seconds: float | None, minutes: float | None, count: int | None, processes: int | None, seed: int
) -> None:
    """Run one benchmark and print its figures as JSON. Exit code 1 where it proves something and found it untrue."""
    if seconds is None and minutes is not None:
        seconds = 60 * minutes
    plan = Plan(seconds, count, processes or len(os.sched_getaffinity(0)), seed)
    benchmark = importlib.import_module(f"benchmarks.{name}")
    figures = benchmark.run(plan)
    click.echo(json.dumps(figures))
    if hasattr(benchmark, "well") and not benchmark.well(figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
