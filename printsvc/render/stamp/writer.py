"""The variants of a form as file beginnings, each made once: all that comes before a person's own objects."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from printsvc.render.stamp.axes import holds
from printsvc.render.stamp.compiled import CompiledForm, Page

_HEADER = b"%PDF-1.7\n%\xf0\x9f\x96\xa4\n"


@dataclass(frozen=True, slots=True)
class Beginning:
    """The bytes up to the first object of the person, and where their cross-reference stream begins."""

    data: bytes
    xref_at: int


def begin_file(form: CompiledForm, values: Sequence[int]) -> Beginning:
    """Return the beginning of every file of that variant; `values` has the index of each axis's value."""
    pieces = [_HEADER]
    at = len(_HEADER)
    offsets: dict[int, int] = {}
    inside: dict[int, tuple[int, int]] = {}

    def put(number: int, data: bytes) -> None:
        nonlocal at
        offsets[number] = at
        pieces.append(data)
        at += len(data)

    for part in form.parts:
        if holds(part.condition, values):
            inside |= {member: (part.number, index) for index, member in enumerate(part.members)}
            put(part.number, part.data)
    for branch in form.branches:
        if holds(branch.condition, values):
            entries = b" ".join(entry for condition, entry in branch.entries if holds(condition, values))
            put(branch.number, b"%d 0 obj\n%s%s%s\nendobj\n" % (branch.number, branch.head, entries, branch.tail))
    for page in form.pages:
        put(page.static_number, _static_stream(page, values))

    rows = bytearray()
    for number in range(form.size):
        if number in offsets:
            rows += b"\1" + offsets[number].to_bytes(3) + b"\0"
        elif number in inside:
            holder, index = inside[number]
            rows += b"\2" + holder.to_bytes(3) + index.to_bytes(1)
        else:
            rows += b"\0\0\0\0\0"
    # The person's objects, and the stream after this one, are described by the last stream, which points to this one.
    entry = b"%d 0 obj\n<</Type/XRef/Size %d/Root %d 0 R/Info %d 0 R/W[1 3 1]/Length %d>>\nstream\n%s\nendstream\nendobj\n"
    number = form.size
    rows += b"\1" + at.to_bytes(3) + b"\0"
    pieces.append(entry % (number, form.size + 1, form.root, form.info, len(rows), bytes(rows)))
    return Beginning(b"".join(pieces), at)


def _static_stream(page: Page, values: Sequence[int]) -> bytes:
    there = [static for static in page.statics if holds(static.condition, values)]
    check = zlib.adler32(b"".join(static.plain for static in there))
    data = b"".join([b"\x78\xda", *(static.deflated for static in there), b"\x03\x00", check.to_bytes(4)])
    number = page.static_number
    return b"%d 0 obj\n<</Filter/FlateDecode/Length %d>>\nstream\n%s\nendstream\nendobj\n" % (number, len(data), data)
