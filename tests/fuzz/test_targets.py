"""Every decoder, with the kept seeds and with what hypothesis makes of them: only the errors that a target names."""

from __future__ import annotations

import random

import pytest
from fuzzing.seeds import ROOT, make_seeds
from fuzzing.targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st
from mutating.__main__ import SHARES, Found, try_one
from mutating.trees import alter_bytes
from mutating.world import alter, make_world

SEEDS = {name: [path.read_bytes() for path in sorted((ROOT / name).iterdir())] for name in TARGETS}


def test_every_target_has_the_seeds_that_are_made_for_it() -> None:
    made = make_seeds()
    assert made.keys() == TARGETS.keys() == {path.name for path in ROOT.iterdir()}
    assert all(len(SEEDS[name]) >= len(made[name]) for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_altered_seeds_and_anything_else(name: str, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        seed = data.draw(st.sampled_from(SEEDS[name]))
        content = alter_bytes(seed, random.Random(data.draw(st.integers(0, 2**32))))
    else:
        content = data.draw(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
    TARGETS[name](content)


def test_altered_codes_of_every_format_are_never_believed() -> None:
    """A short `script/mutations`, without the clock: limits of time and memory are for the long one."""
    world, found = make_world(), Found()
    for index in range(1_500):
        try_one(world, found, 20211030, index)
    assert (found.differing, found.raised) == (0, 0), found.bad
    assert set(found.tried) == {name.value for name in SHARES}
    assert found.valid_same > 20, "some alterations change nothing that counts"
    assert found.verdicts["bad_signature"] > 100


def test_the_world_alters_codes() -> None:
    world = make_world()
    for name in SHARES:
        made = {alter(world, name, random.Random(number)) for number in range(40)}
        assert len(made) > 30
