"""A PDF put together from stretches of bytes that were made once; what is a person's own is joined on.

A file is: header and streams that every certificate has; what goes with the form's variant (the static content, one
object stream with all that is no stream, and the cross-reference stream of all these); the person's own streams; a
short cross-reference stream of those alone, which leads to the other (/Prev; ISO 32000-1, 7.5.8.4). So the table of
half a thousand objects is made and compressed once for all persons.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Final

import deflate
import numpy as np

from printsvc.render.stamp.axes import SIZE, holds
from printsvc.render.stamp.compiled import CompiledForm
from printsvc.render.stamp.fontfile import BEST, FAST, FontFile, stream_object

_PACKED: Final = b"/Filter/FlateDecode"
_IMAGE: Final = b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 1"
HEADER: Final = b"%PDF-1.7\n%\xf0\x9f\x96\xa4\n"
_ENTRY: Final = 6  # bytes of an entry: its kind, 3 of offset or holder, 2 of index in the holder
_PLAIN: Final = 0x01000000  # an entry without its index: the kind of an object that stands by itself, and its offset
# PNG's filter of every row: an entry less the one before, byte by byte, so that a neighbour's in an object stream packs
# to next to nothing. pyHanko 0.38, which seals these files, reads the filters 0 and 1 wrongly.
_UP: Final = 2
KEPT_VARIANTS: Final = 256


@dataclass(frozen=True, slots=True)
class _Variant:
    """All up to the person's own objects, the last of it the cross-reference stream at `table_at`; the glyphs.

    `statics` are the pages' own drawings, compressed.
    """

    data: bytes
    table_at: int
    glyphs: tuple[int, ...]
    statics: tuple[bytes, ...]


class FileWriter:
    """Joins the files of one form. Equal objects and values give equal bytes."""

    def __init__(self, form: CompiledForm) -> None:
        self._form = form
        self.fonts = [FontFile(program) for program in form.programs]
        self._asked = [i for i, axis in enumerate(form.axes) if axis.kind != SIZE]
        own = [*(page.text_number for page in form.pages), form.qr.image_number, *(font.number for font in self.fonts)]
        # They are written by number, as the sections of a table must be (ISO 32000-1, table 17).
        self._order = sorted(range(len(own)), key=own.__getitem__)
        numbers = [*sorted(own), form.size + 1]
        self._numbers = [number for number in range(form.size + 1) if number not in own]
        self._rows = struct.Struct(">" + len(numbers) * "I")
        self._end = (
            b"%d 0 obj\n<</Type/XRef/Size %d/Root %d 0 R/Info %d 0 R/Prev %%d/ID[<%%s><%%s>]/W[1 3 0]/Index[%s]"
            b"/Length %d>>\nstream\n%%s\nendstream\nendobj\nstartxref\n%%d\n%%%%%%%%EOF\n"
            % (
                form.size + 1, form.size + 2, form.root, form.info,
                b" ".join(b"%d 1" % number for number in numbers), self._rows.size,
            )
        )  # fmt: skip
        self._variants: dict[tuple[int, ...], _Variant] = {}

    def glyphs(self, values: Sequence[int]) -> list[int]:
        """Return the glyphs of each font program that the variant shows whatever its texts are."""
        return list(self._variant(values).glyphs)

    def statics(self, values: Sequence[int]) -> Sequence[bytes]:
        """Return what the variant's pages show whatever the texts are, each compressed."""
        return self._variant(values).statics

    def write(
        self,
        values: Sequence[int],
        contents: Sequence[bytes],
        modules: bytes,
        side: int,
        fonts: Sequence[bytes],
        identity: bytes,
    ) -> bytes:
        """Return the file: `contents` are the texts of its pages, `modules` the rows of its QR, `side` modules wide.

        `fonts` are the stream objects of each font program, `identity` is the file's in hex.
        """
        variant = self._variant(values)
        own = [
            stream_object(page.text_number, _PACKED, deflate.zlib_compress(content, FAST))
            for page, content in zip(self._form.pages, contents, strict=True)
        ]
        own.append(stream_object(self._form.qr.image_number, qr_image(side), modules))
        own += fonts
        own = [own[place] for place in self._order]
        places = list(accumulate(map(len, own), initial=_PLAIN + len(variant.data)))
        rows = self._rows.pack(*places)
        end = self._end % (variant.table_at, identity, identity, rows, places[-1] - _PLAIN)
        return b"".join([variant.data, *own, end])

    def _variant(self, values: Sequence[int]) -> _Variant:
        key = tuple([values[axis] for axis in self._asked])
        found = self._variants.get(key)
        if found is None:
            if len(self._variants) >= KEPT_VARIANTS:
                self._variants.clear()
            found = self._variants[key] = self._make_variant(values)
        return found

    def _make_variant(self, values: Sequence[int]) -> _Variant:
        form = self._form
        objects = {one.number: one.data for one in form.loose if holds(one.condition, values)}
        for branch in form.branches:
            if holds(branch.condition, values):
                there = b" ".join(entry for condition, entry in branch.entries if holds(condition, values))
                objects[branch.number] = branch.head + there + branch.tail
        contents = [b"".join(one.plain for one in page.statics if holds(one.condition, values)) for page in form.pages]
        streams = list(form.streams)
        statics = tuple([bytes(deflate.zlib_compress(content, BEST)) for content in contents])
        for page, packed in zip(form.pages, statics, strict=True):
            streams.append((page.static_number, stream_object(page.static_number, _PACKED, packed)))
        streams.append((form.objects_number, object_stream(form.objects_number, objects)))
        entries = np.zeros((form.size + 1, _ENTRY), dtype=np.uint8)
        for index, number in enumerate(sorted(objects)):
            entries[number] = tuple(b"\2" + form.objects_number.to_bytes(3) + index.to_bytes(2))
        places = list(accumulate((len(data) for _, data in streams), initial=len(HEADER)))
        for number, place in zip([*(number for number, _ in streams), form.size], places, strict=True):
            entries[number, :4] = tuple((_PLAIN + place).to_bytes(4))
        # Only its own objects: what a table calls free, a later one cannot use again (ISO 32000-1, 7.5.4).
        entries = entries[self._numbers]
        sections = [f"{run[0]} {len(run)}" for run in _runs(self._numbers)]
        rows = np.full((len(entries), 1 + _ENTRY), _UP, dtype=np.uint8)
        rows[0, 1:] = entries[0]
        np.subtract(entries[1:], entries[:-1], out=rows[1:, 1:])
        about = b"/Type/XRef/Size %d/Root %d 0 R/Info %d 0 R/W[1 3 2]/Index[%s]/Filter/FlateDecode/DecodeParms%s" % (
            form.size + 1, form.root, form.info, " ".join(sections).encode(), b"<</Predictor 12/Columns 6>>",
        )  # fmt: skip
        table = stream_object(form.size, about, deflate.zlib_compress(rows.tobytes(), BEST))
        data = b"".join([HEADER, *(data for _, data in streams), table])
        glyphs = [0] * len(self.fonts)
        for page in form.pages:
            for static in page.statics:
                if holds(static.condition, values):
                    for index, codes in static.glyphs:
                        for code in codes:
                            glyphs[index] |= self.fonts[index].bits(code)
        return _Variant(data, places[-1], tuple(glyphs), statics)


def qr_image(side: int) -> bytes:
    """Return the dictionary of the picture of a QR, `side` modules wide, a bit each."""
    return _IMAGE % (side, side)


def object_stream(number: int, objects: dict[int, bytes], level: int = BEST) -> bytes:
    """Return these objects, by number, as an object stream of that number; they stand in it by number."""
    order = sorted(objects)
    offsets, at = [], 0
    for member in order:
        offsets.append(b"%d %d" % (member, at))
        at += len(objects[member]) + 1
    head = b" ".join(offsets) + b"\n"
    data = deflate.zlib_compress(head + b"\n".join(objects[member] for member in order), level)
    return stream_object(number, b"/Type/ObjStm/N %d/First %d/Filter/FlateDecode" % (len(order), len(head)), data)


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """The ascending numbers in stretches without a gap."""
    return [[number for _, number in run] for _, run in groupby(enumerate(numbers), key=lambda one: one[1] - one[0])]
