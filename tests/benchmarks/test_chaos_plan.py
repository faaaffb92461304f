"""The schedule of a chaos run: drawn from the seed alone, with every kind of fault, and over in time."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.chaos_plan import DOSES_END, FAULTS_END, ChaosPlan, Kind, make_plan
from hypothesis import given
from hypothesis import strategies as st

PRINTERS = {site: (f"{site}-pdf", f"{site}-raster") for site in ("A", "B", "C")}
ALMOST_S = 0.002  # seconds are rounded to the millisecond

seeds = st.integers(0, 2**64)
lengths = st.floats(20, 900)


def plan_of(seed: int, doses: int = 60, length_s: float = 600.0) -> ChaosPlan:
    return make_plan(seed, doses=doses, length_s=length_s, printers=PRINTERS)


@given(seeds, st.integers(1, 200), lengths)
def test_the_same_seed_gives_the_same_plan_and_another_seed_another(seed: int, doses: int, length_s: float) -> None:
    plan = plan_of(seed, doses, length_s)
    assert plan == plan_of(seed, doses, length_s)
    assert plan.digest() == plan_of(seed, doses, length_s).digest()
    assert plan.digest() != plan_of(seed + 1, doses, length_s).digest()


def test_another_process_draws_the_same_plan() -> None:
    program = (
        "from benchmarks.chaos_plan import make_plan\n"
        f"print(make_plan(7, doses=60, length_s=600.0, printers={PRINTERS!r}).digest())"
    )
    script = Path(__file__).parents[2] / "script"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(script), "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == plan_of(7).digest()


@given(seeds, lengths)
def test_every_kind_of_fault_occurs_and_ends_before_the_end(seed: int, length_s: float) -> None:
    faults = plan_of(seed, 1, length_s).faults
    assert {fault.kind for fault in faults} == set(Kind)
    assert all(fault.lasts_s >= 0 and fault.at_s > 0 for fault in faults)
    assert max(fault.end_s for fault in faults) <= FAULTS_END * length_s + ALMOST_S
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)


@given(seeds, lengths)
def test_no_part_is_hit_again_before_it_is_whole(seed: int, length_s: float) -> None:
    for one, other in itertools.combinations(plan_of(seed, 1, length_s).faults, 2):
        if one.parts & other.parts:
            assert one.end_s <= other.at_s + ALMOST_S


@given(seeds, st.integers(1, 200), lengths)
def test_doses_come_in_order_while_faults_last(seed: int, doses: int, length_s: float) -> None:
    plan = plan_of(seed, doses, length_s)
    assert [dose.number for dose in plan.doses] == list(range(doses))
    assert {dose.site_id for dose in plan.doses} <= set(PRINTERS)
    moments = [dose.at_s for dose in plan.doses]
    assert moments == sorted(moments)
    assert moments[0] >= 0
    assert moments[-1] <= DOSES_END * length_s + ALMOST_S


@pytest.mark.parametrize("seed", range(100))  # one seed in some 8,000 leaves a site out
def test_a_long_run_reaches_every_site_and_printer(seed: int) -> None:
    plan = plan_of(seed, 600)
    assert {dose.site_id for dose in plan.doses} == set(PRINTERS)
    assert len(plan.faults) > 60
    hit = {fault.target for fault in plan.faults}
    assert hit >= set(PRINTERS)
    assert len(hit & {name for names in PRINTERS.values() for name in names}) >= 2
