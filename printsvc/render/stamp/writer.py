"""A PDF put together from stretches of bytes that were made once; what is a person's own is joined on.

A file is: header and what is always there; what goes with the form's variant; a stretch for each face; the person's own
objects; one cross-reference stream. Objects in object streams keep their place in it, only the others get an offset.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from printsvc.render.stamp.axes import FACE, SIZE, holds
from printsvc.render.stamp.compiled import CompiledForm, Page, Part

_HEADER: Final = b"%PDF-1.7\n%\xf0\x9f\x96\xa4\n"
_ROW: Final = 5  # bytes of an entry: its kind, 3 of offset or holder, index in the holder
_KEPT_VARIANTS: Final = 256


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Objects one after the other: their bytes, where each begins, and the entries of those inside others."""

    data: bytes
    offsets: tuple[tuple[int, int], ...]
    inside: tuple[tuple[int, bytes], ...]


def _stretch(parts: Iterable[Part], data: bytes = b"") -> _Stretch:
    pieces, offsets, inside = [data], [], []
    at = len(data)
    for part in parts:
        offsets.append((part.number, at))
        pieces.append(part.data)
        at += len(part.data)
        inside += [
            (member, b"\2" + part.number.to_bytes(3) + index.to_bytes(1)) for index, member in enumerate(part.members)
        ]
    return _Stretch(b"".join(pieces), tuple(offsets), tuple(inside))


@dataclass(frozen=True, slots=True)
class _Variant:
    """The stretch of a variant, and the whole table of entries with those filled in that have no offset."""

    stretch: _Stretch
    entries: bytes


class FileWriter:
    """Joins the files of one form. Equal objects and values give equal bytes."""

    def __init__(self, form: CompiledForm) -> None:
        self._form = form
        self._face_axes = [face.axis for face in form.faces]
        self._asked = [i for i, axis in enumerate(form.axes) if axis.kind not in (FACE, SIZE)]
        faces = set(self._face_axes)
        self._always = _stretch((part for part in form.parts if not part.condition), _HEADER)
        self._faces = [
            [
                _stretch(part for part in form.parts if part.condition == ((axis, (tier,)),))
                for tier in range(len(form.axes[axis].values))
            ]
            for axis in self._face_axes
        ]
        self._varying = [
            part for part in form.parts if part.condition and not faces & {axis for axis, _ in part.condition}
        ]
        self._variants: dict[tuple[int, ...], _Variant] = {}

    def write(self, values: Sequence[int], own: Sequence[tuple[int, bytes]], identity: bytes) -> bytes:
        """Return the file; `own` are the person's objects with their numbers, `identity` the file's in hex."""
        form = self._form
        variant = self._variant(values)
        stretches = [variant.stretch]
        stretches += [tiers[values[axis]] for tiers, axis in zip(self._faces, self._face_axes, strict=True)]
        entries = bytearray(variant.entries)
        pieces = [self._always.data]
        at = len(self._always.data)
        for stretch in stretches:
            for number, offset in stretch.offsets:
                entries[_ROW * number : _ROW * number + 4] = (0x01000000 + at + offset).to_bytes(4)
            if stretch is not variant.stretch:
                for number, entry in stretch.inside:
                    entries[_ROW * number : _ROW * number + _ROW] = entry
            pieces.append(stretch.data)
            at += len(stretch.data)
        for number, data in own:
            entries[_ROW * number : _ROW * number + 4] = (0x01000000 + at).to_bytes(4)
            pieces.append(data)
            at += len(data)
        entries[-_ROW:-1] = (0x01000000 + at).to_bytes(4)
        pieces.append(
            b"%d 0 obj\n<</Type/XRef/Size %d/Root %d 0 R/Info %d 0 R/ID[<%s><%s>]/W[1 3 1]/Length %d>>\nstream\n%s\n"
            b"endstream\nendobj\nstartxref\n%d\n%%%%EOF\n"
            % (form.size, form.size + 1, form.root, form.info, identity, identity, len(entries), entries, at)
        )
        return b"".join(pieces)

    def _variant(self, values: Sequence[int]) -> _Variant:
        key = tuple([values[axis] for axis in self._asked])
        found = self._variants.get(key)
        if found is None:
            if len(self._variants) >= _KEPT_VARIANTS:
                self._variants.clear()
            found = self._variants[key] = self._make_variant(values)
        return found

    def _make_variant(self, values: Sequence[int]) -> _Variant:
        form = self._form
        parts = [part for part in self._varying if holds(part.condition, values)]
        for branch in form.branches:
            if holds(branch.condition, values):
                there = b" ".join(entry for condition, entry in branch.entries if holds(condition, values))
                data = b"%d 0 obj\n%s%s%s\nendobj\n" % (branch.number, branch.head, there, branch.tail)
                parts.append(Part((), branch.number, data, ()))
        parts += [_static_stream(page, values) for page in form.pages]
        stretch = _stretch(parts)
        entries = bytearray(_ROW * (form.size + 1))
        for number, entry in (*self._always.inside, *stretch.inside):
            entries[_ROW * number : _ROW * number + _ROW] = entry
        for number, offset in self._always.offsets:
            entries[_ROW * number : _ROW * number + 4] = (0x01000000 + offset).to_bytes(4)
        return _Variant(stretch, bytes(entries))


def stream_object(number: int, about: bytes, data: bytes) -> bytes:
    """Return a stream as it stands in the file; `about` is its dictionary without /Length and the brackets."""
    return b"%d 0 obj\n<<%s/Length %d>>\nstream\n%s\nendstream\nendobj\n" % (number, about, len(data), data)


def _static_stream(page: Page, values: Sequence[int]) -> Part:
    there = [static for static in page.statics if holds(static.condition, values)]
    check = zlib.adler32(b"".join(static.plain for static in there))
    data = b"".join([b"\x78\xda", *(static.deflated for static in there), b"\x03\x00", check.to_bytes(4)])
    return Part((), page.static_number, stream_object(page.static_number, b"/Filter/FlateDecode", data), ())
