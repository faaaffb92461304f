"""Variants of one tree laid over one another: what is always there, and what is there with which value of which axis.

Content streams (q ... Q, BDC ... EMC) and structure trees are both such trees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple

from printsvc.render.stamp.compiled import Condition


class Node(NamedTuple):
    """`label` tells nodes apart; a leaf has no kids."""

    label: bytes
    kids: tuple[Node, ...] = ()


class Flag(NamedTuple):
    """One value, not the first, of one axis; `values` is how many the axis has.

    What several flags put in one place comes in the order of their `rank`.
    """

    axis: int
    value: int
    values: int
    rank: int


FlagOf = Callable[[Node], Flag | None]
"""Which flag a node, there or not there in a variant, goes with; None where another variant shows that difference."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A node, and under which condition it is there where its parent is."""

    label: bytes
    condition: Condition
    kids: tuple[Merged, ...]


def merge(base: Node, variants: Sequence[tuple[FlagOf, Node]]) -> Merged:
    """Return a tree that is `base` with no flag set, and each variant with its flag.

    Several flags at once are the sum of their differences; insertions in one place come by rank. Whether
    that is what the form then draws is for the caller to see.
    """
    return _merge(base, variants, ())


def _merge(base: Node, variants: Sequence[tuple[FlagOf, Node]], condition: Condition) -> Merged:
    kids = base.kids
    before: list[list[tuple[Flag, Node]]] = [[] for _ in range(len(kids) + 1)]
    absent: list[list[Flag]] = [[] for _ in kids]
    deeper: list[list[tuple[FlagOf, Node]]] = [[] for _ in kids]
    for flag_of, variant in variants:
        if variant == base:
            continue

        def insert(at: int, nodes: Sequence[Node], flag_of: FlagOf = flag_of) -> None:
            before[at] += [(flag, node) for node in nodes if (flag := flag_of(node)) is not None]

        for tag, i1, i2, j1, j2 in SequenceMatcher(None, kids, variant.kids, autojunk=False).get_opcodes():
            if tag == "equal":
                continue
            at = j1
            for index in range(i1, i2):
                pair = next((j for j in range(at, j2) if _alike(kids[index], variant.kids[j])), None)
                if pair is None:
                    absent[index] += [flag] if (flag := flag_of(kids[index])) is not None else []
                    continue
                insert(index, variant.kids[at:pair])
                deeper[index].append((flag_of, variant.kids[pair]))
                at = pair + 1
            insert(i2, variant.kids[at:j2])
    merged: list[Merged] = []
    for index in range(len(kids) + 1):
        for flag, node in sorted(before[index], key=lambda added: added[0].rank):
            merged.append(_plain(node, ((flag.axis, (flag.value,)),)))
        if index < len(kids):
            merged.append(_merge(kids[index], deeper[index], _without(absent[index])))
    return Merged(base.label, condition, tuple(merged))


def _alike(one: Node, other: Node) -> bool:
    """Whether they are one group with something else in it: half of the leaves of the smaller are in the other."""
    if one.label != other.label or not one.kids or not other.kids:
        return False
    ours, theirs = leaves(one), leaves(other)
    shared = len(ours & theirs)
    return 2 * shared >= min(len(ours), len(theirs)) and shared > 0


def leaves(node: Node) -> frozenset[bytes]:
    """Return the labels of the tree's leaves."""
    return frozenset([node.label]) if not node.kids else frozenset().union(*map(leaves, node.kids))


def _plain(node: Node, condition: Condition) -> Merged:
    return Merged(node.label, condition, tuple(_plain(kid, ()) for kid in node.kids))


def _without(flags: Sequence[Flag]) -> Condition:
    counts = {flag.axis: flag.values for flag in flags}
    gone = {axis: {flag.value for flag in flags if flag.axis == axis} for axis in counts}
    return tuple(
        (axis, tuple(value for value in range(count) if value not in gone[axis]))
        for axis, count in sorted(counts.items())
    )


def both(one: Condition, other: Condition) -> Condition:
    """Return the condition under which both hold."""
    allowed: dict[int, tuple[int, ...]] = dict(one)
    for axis, values in other:
        allowed[axis] = tuple(value for value in allowed.get(axis, values) if value in values)
    return tuple(sorted(allowed.items()))
