"""A merged content tree as stretches of bytes: slots and static stretches in their order, and the static ones alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from printsvc.render.compiler.drawing import SLOT
from printsvc.render.compiler.merge import Merged, both
from printsvc.render.compiler.survey import slot_name
from printsvc.render.stamp.compiled import Condition

MARK: Final = re.compile(rb"<</MCID @(\S+)>>")


@dataclass(frozen=True, slots=True)
class RawPiece:
    """A stretch of content; of marked content `mark`, of a slot `slot` too, and then `static` is its colour."""

    condition: Condition
    static: bytes
    slot: str = ""
    marks: tuple[bytes, ...] = ()
    depth: int = 0


def list_pieces(tree: Merged) -> list[RawPiece]:
    out: list[RawPiece] = []

    def add(piece: RawPiece) -> None:
        if out and not out[-1].slot and not piece.slot and out[-1].condition == piece.condition:
            out[-1] = replace(out[-1], static=out[-1].static + piece.static, marks=out[-1].marks + piece.marks)
        else:
            out.append(piece)

    def walk(node: Merged, condition: Condition) -> None:
        condition = both(condition, node.condition)
        name = slot_name(node.label)
        if name is not None:
            add(RawPiece(condition, node.label.partition(b"\n")[2], name))
            return
        group = node.label == b"q" or node.label.endswith((b"BDC", b"BMC"))
        marks = tuple(MARK.findall(node.label))
        if node.label:
            add(RawPiece(condition, node.label + b"\n", marks=marks))
        for kid in node.kids:
            walk(kid, condition)
        if group:
            add(RawPiece(condition, b"Q\n" if node.label == b"q" else b"EMC\n"))

    walk(tree, ())
    return out


def list_statics(tree: Merged) -> list[tuple[Condition, bytes]]:
    """The content without the slots, and without the groups that are then empty."""
    out: list[tuple[Condition, bytes]] = []

    def walk(node: Merged, condition: Condition) -> list[tuple[Condition, bytes]]:
        condition = both(condition, node.condition)
        if slot_name(node.label) is not None:
            return []
        if not node.kids and node.label != b"q":
            return [(condition, node.label + b"\n")]
        inner = [piece for kid in node.kids for piece in walk(kid, condition)]
        # A state that is kept by one pair of brackets need not be kept by two.
        only = node.kids[0] if len(node.kids) == 1 else None
        doubled = node.label == b"q" and only is not None and only.label == b"q" and not only.condition
        if not inner or not node.label or doubled:
            return inner
        return [(condition, node.label + b"\n"), *inner, (condition, b"Q\n" if node.label == b"q" else b"EMC\n")]

    for condition, static in walk(tree, ()):
        if out and out[-1][0] == condition:
            out[-1] = (condition, out[-1][1] + static)
        else:
            out.append((condition, static))
    return out


def number_marks(
    pages: Sequence[Sequence[RawPiece]],
) -> tuple[dict[bytes, tuple[int, int]], dict[str, set[Condition]]]:
    """Each mark's and slot's page and MCID, and the conditions with one of which each slot is there."""
    numbers: dict[bytes, tuple[int, int]] = {}
    conditions: dict[str, set[Condition]] = {}
    for page, pieces in enumerate(pages):
        count = 0
        for piece in pieces:
            names = [SLOT + piece.slot.encode()] if piece.slot else piece.marks
            for name in names:
                if name not in numbers:
                    numbers[name] = (page, count)
                    count += 1
            if piece.slot:
                conditions.setdefault(piece.slot, set()).add(piece.condition)
    return numbers, conditions
