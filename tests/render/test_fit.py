"""The next size to try: no size that could hold the text is passed over."""

from __future__ import annotations

import math
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from printsvc.render.fit import _next_fit
from printsvc.render.formfile import Slot

sizes = st.lists(st.sampled_from([5, 5.5, 6, 7, 8, 9, 10, 11.5, 13, 15]), min_size=1, unique=True).map(
    lambda chosen: tuple(sorted(chosen, reverse=True))
)


@given(
    sizes_pt=sizes,
    index=st.integers(0, 9),
    max_lines=st.integers(1, 4),
    width=st.floats(20, 800),
    height=st.floats(5, 80),
    ems=st.floats(0.5, 200),
)
def test_only_sizes_that_cannot_hold_the_text_are_passed_over(
    sizes_pt: tuple[float, ...], index: int, max_lines: int, width: float, height: float, ems: float
) -> None:
    index = min(index, len(sizes_pt) - 1)
    slot = Slot("text", "text", sizes_pt, max_lines, required=False)
    box = SimpleNamespace(width=width, height=height)
    size = sizes_pt[index]
    chosen = _next_fit(slot, index, box, ems * size, 1.35 * size)
    if index == len(sizes_pt) - 1:
        assert chosen is None
        return
    assert chosen is not None
    assert index < chosen < len(sizes_pt)
    for passed in sizes_pt[index + 1 : chosen]:
        # At least so many lines, even if words broke without loss.
        lines = math.ceil(ems * passed / width - 1e-3)
        assert lines > max_lines or lines * 1.35 * passed > height - 1e-3
