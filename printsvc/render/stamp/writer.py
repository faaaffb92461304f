"""A PDF put together from stretches of bytes that were made once; what is a person's own is joined on.

A file is: header and streams that every certificate has; what goes with the form's variant (the static content, and one
object stream with all that is no stream); the person's own streams; one cross-reference stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import deflate
import numpy as np
from numpy.typing import NDArray

from printsvc.render.stamp.axes import SIZE, holds
from printsvc.render.stamp.compiled import CompiledForm
from printsvc.render.stamp.fontfile import FAST, FontFile, stream_object

_PACKED: Final = b"/Filter/FlateDecode"
_IMAGE: Final = b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 1"
_HEADER: Final = b"%PDF-1.7\n%\xf0\x9f\x96\xa4\n"
_ENTRY: Final = 6  # bytes of an entry: its kind, 3 of offset or holder, 2 of index in the holder
# PNG's filter of every row: an entry less the one before, byte by byte, so that a neighbour's in an object stream packs
# to next to nothing. pyHanko 0.38, which seals these files, reads the filters 0 and 1 wrongly.
_UP: Final = 2
KEPT_VARIANTS: Final = 256
_BEST: Final = 12  # libdeflate's level for what is kept


@dataclass(frozen=True, slots=True)
class _Variant:
    """All up to the person's own objects, the entries with those filled in that lie before them, and the glyphs."""

    data: bytes
    entries: NDArray[np.uint8]
    glyphs: tuple[int, ...]


class FileWriter:
    """Joins the files of one form. Equal objects and values give equal bytes."""

    def __init__(self, form: CompiledForm) -> None:
        self._form = form
        self.fonts = [FontFile(program) for program in form.programs]
        self._asked = [i for i, axis in enumerate(form.axes) if axis.kind != SIZE]
        self._variants: dict[tuple[int, ...], _Variant] = {}

    def glyphs(self, values: Sequence[int]) -> list[int]:
        """Return the glyphs of each font program that the variant shows whatever its texts are."""
        return list(self._variant(values).glyphs)

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
        form = self._form
        variant = self._variant(values)
        entries = variant.entries.copy()
        pieces = [variant.data]
        at = len(variant.data)
        own = [
            (page.text_number, stream_object(page.text_number, _PACKED, deflate.zlib_compress(content, FAST)))
            for page, content in zip(form.pages, contents, strict=True)
        ]
        number = form.qr.image_number
        own.append((number, stream_object(number, _IMAGE % (side, side), modules)))
        own += [(font.number, stream) for font, stream in zip(self.fonts, fonts, strict=True)]
        for number, data in own:
            entries[number, :4] = tuple((0x01000000 + at).to_bytes(4))
            pieces.append(data)
            at += len(data)
        entries[-1, :4] = tuple((0x01000000 + at).to_bytes(4))
        filtered = np.full((len(entries), 1 + _ENTRY), _UP, dtype=np.uint8)
        filtered[0, 1:] = entries[0]
        np.subtract(entries[1:], entries[:-1], out=filtered[1:, 1:])
        rows = deflate.zlib_compress(filtered.tobytes(), FAST)
        pieces.append(
            b"%d 0 obj\n<</Type/XRef/Size %d/Root %d 0 R/Info %d 0 R/ID[<%s><%s>]/W[1 3 2]/Filter/FlateDecode"
            b"/DecodeParms<</Predictor 12/Columns 6>>/Length %d>>\nstream\n%s\nendstream\nendobj\n"
            b"startxref\n%d\n%%%%EOF\n"
            % (form.size, form.size + 1, form.root, form.info, identity, identity, len(rows), rows, at)
        )
        return b"".join(pieces)

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
        for page, content in zip(form.pages, contents, strict=True):
            packed = deflate.zlib_compress(content, _BEST)
            streams.append((page.static_number, stream_object(page.static_number, _PACKED, packed)))
        streams.append((form.objects_number, _object_stream(form.objects_number, objects)))
        entries = np.zeros((form.size + 1, _ENTRY), dtype=np.uint8)
        for index, number in enumerate(sorted(objects)):
            entries[number] = tuple(b"\2" + form.objects_number.to_bytes(3) + index.to_bytes(2))
        at = len(_HEADER)
        for number, data in streams:
            entries[number, :4] = tuple((0x01000000 + at).to_bytes(4))
            at += len(data)
        data = _HEADER + b"".join(data for _, data in streams)
        glyphs = [0] * len(self.fonts)
        for page in form.pages:
            for static in page.statics:
                if holds(static.condition, values):
                    for index, codes in static.glyphs:
                        for code in codes:
                            glyphs[index] |= self.fonts[index].bits(code)
        return _Variant(data, entries, tuple(glyphs))


def _object_stream(number: int, objects: dict[int, bytes]) -> bytes:
    order = sorted(objects)
    offsets, at = [], 0
    for member in order:
        offsets.append(b"%d %d" % (member, at))
        at += len(objects[member]) + 1
    head = b" ".join(offsets) + b"\n"
    data = deflate.zlib_compress(head + b"\n".join(objects[member] for member in order), _BEST)
    return stream_object(number, b"/Type/ObjStm/N %d/First %d/Filter/FlateDecode" % (len(order), len(head)), data)
