"""TrueType files with the glyphs that a certificate shows, put together from parts that the compiler made.

A file is: the table directory and `head`; what never changes, with the outlines that every certificate has, compressed
by the compiler; then the certificate's own outlines, `loca`, `hmtx` and `cmap`. Glyphs that are not shown are empty.
Sources: OpenType 1.9, "Organization of an OpenType Font", loca, hmtx, cmap; ISO 32000-1, 9.9.
"""

from __future__ import annotations

import struct
import zlib
from itertools import compress
from typing import Final

import deflate
import numpy as np
from numpy.typing import NDArray

from printsvc.render.stamp.compiled import FontProgram

FAST: Final = 6  # libdeflate's level for what is one person's: hardly slower than 1, and 200 bytes less
_WORD: Final = 1 << 32
_MAGIC: Final = 0xB1B0AFBA  # what the words of a whole font add up to (OpenType, `head`)
_HEADER: Final = (0x00010000, 7, 64, 2, 48)  # TrueType outlines in seven tables
_DIRECTORY: Final = struct.Struct(">IHHHH" + "4sIII" * 7)
_HEADER_SUM: Final = 0x00010000 + (7 << 16 | 64) + (2 << 16 | 48)
_STORED: Final = struct.Struct("<BHH")


_TAGS: Final = (b"cmap", b"glyf", b"head", b"hhea", b"hmtx", b"loca", b"maxp")
_TAG_VALUES: Final = {tag: int.from_bytes(tag) for tag in _TAGS}
_CMAP: Final = struct.Struct(">HHHHIHHHHHHH")
_ESCAPED: Final = {ord("("): "\\(", ord(")"): "\\)", ord("\\"): "\\\\", 13: "\\r", 10: "\\n"}
_KEPT: Final = 256  # files of a program


class FontFile:
    """The files of one program.

    A set of its glyphs is a number with two bits for each: whether a text shows it, and, higher up, whether it is in
    the file, as it is too where a composite one consists of it.
    """

    def __init__(self, program: FontProgram) -> None:
        self.number = program.number
        self._program = program
        self._count = len(program.outlines)
        self._parts = dict(program.parts)
        self._always = (1 << program.fixed) - 1 << self._count
        for code in program.always:
            self._always |= self.bits(code)
        fixed, self._outlines = program.outlines[: program.fixed], program.outlines[program.fixed :]
        self._lead = b"".join([*(data for _, data in program.tables), *fixed])
        self._head = program.head + bytes(-len(program.head) % 4)
        self._entries: dict[bytes, tuple[int, int, int]] = {}
        at = _DIRECTORY.size
        for tag, data, length in (
            ("head", self._head, len(program.head)),
            *((tag, data, len(data)) for tag, data in program.tables),
        ):
            self._entries[tag.encode()] = (_sum(data), at, length)
            at += len(data)
        self._glyf = at
        self._fixed_size = sum(map(len, fixed))
        self._fixed_sum = sum(map(_sum, fixed))
        # Half lengths, as `loca` has them.
        self._lengths = np.array([0] * len(fixed) + [len(one) // 2 for one in self._outlines], dtype=np.int64)
        self._metrics = np.frombuffer(program.metrics, dtype=">u4").astype(np.int64)
        # An odd number of entries of two bytes is filled up: tables begin on multiples of four.
        self._filling = bytes(2 * ((self._count + 1) % 2))
        self._loca = np.cumsum([len(outline) // 2 for outline in program.outlines[: program.fixed]], dtype=np.int64)
        self._loca.resize(self._count)
        self._loca[program.fixed :] = self._fixed_size // 2
        characters = sorted((character, code) for code, character in program.characters)
        self._coded = np.array([code for _, code in characters], dtype=np.intp)
        self._code_points = np.array([character for character, _ in characters], dtype=">u2")
        self._deltas = np.array([(code - character) % 65536 for character, code in characters], dtype=">u2")
        self._made: dict[int, bytes] = {}

    def bits(self, code: int) -> int:
        """Return the set with what it takes to show that glyph."""
        return 1 << code | sum({1 << (self._count + glyph) for glyph in (code, *self._parts.get(code, ()))})

    def stream(self, glyphs: int) -> bytes:
        """Return the file with these glyphs as a stream object; kept for the next one who shows the same."""
        found = self._made.get(glyphs)
        if found is None:
            if len(self._made) >= _KEPT:
                self._made.clear()
            found = self._made[glyphs] = self._make(glyphs | self._always)
        return found

    def _make(self, glyphs: int) -> bytes:
        program = self._program
        raw = np.frombuffer(glyphs.to_bytes(-(-self._count // 4), "little"), dtype=np.uint8)
        both = np.unpackbits(raw, count=2 * self._count, bitorder="little")
        shown, there = both[: self._count], both[self._count :]
        own = b"".join(compress(self._outlines, there[program.fixed :].tobytes()))
        loca = (self._loca + np.cumsum(self._lengths * there)).astype(">u2").tobytes()
        tail = b"".join(
            [
                own, b"\0\0", loca, self._filling,
                (self._metrics * there).astype(">u4").tobytes(), self._cmap(shown),
            ]
        )  # fmt: skip
        loca_at = len(own)
        metrics_at = loca_at + 2 + len(loca) + len(self._filling)
        cmap_at = metrics_at + 4 * self._count
        sums = np.add.reduceat(
            np.frombuffer(tail, dtype=">u4"), [0, loca_at // 4, metrics_at // 4, cmap_at // 4], dtype=np.uint64
        ).tolist()
        tail_at = self._glyf + self._fixed_size
        own_sum = sums[0] if own else 0  # numpy gives an empty stretch the next number
        entries = self._entries | {
            b"glyf": (self._fixed_sum + own_sum, self._glyf, self._fixed_size + len(own)),
            b"loca": (sums[1], tail_at + loca_at, 2 * self._count + 2),
            b"hmtx": (sums[2], tail_at + metrics_at, 4 * self._count),
            b"cmap": (sums[3], tail_at + cmap_at, len(tail) - cmap_at),
        }
        words: list[bytes | int] = []
        total = _HEADER_SUM
        for tag in _TAGS:
            checksum, offset, length = entries[tag]
            words += (tag, checksum % _WORD, offset, length)
            total += _TAG_VALUES[tag] + 2 * (checksum % _WORD) + offset + length  # as an entry, and as a table
        head = self._head[:8] + ((_MAGIC - total) % _WORD).to_bytes(4) + self._head[12:]
        first = _DIRECTORY.pack(*_HEADER, *words) + head
        check = zlib.adler32(tail, zlib.adler32(self._lead, zlib.adler32(first)))
        data = b"".join(
            [
                b"\x78\x01", _STORED.pack(0, len(first), len(first) ^ 0xFFFF), first,
                program.lead, deflate.deflate_compress(tail, FAST), check.to_bytes(4),
            ]
        )  # fmt: skip
        size = len(first) + len(self._lead) + len(tail)
        return stream_object(self.number, b"/Length1 %d/Filter/FlateDecode" % size, data)

    def _cmap(self, shown: NDArray[np.uint8]) -> bytes:
        """The table of the glyphs that are shown, a segment of format 4 each.

        It has no others: hinters measure a font by the letters they find in it, as if an empty one were drawn so.
        """
        chosen = shown[self._coded].view(np.bool_)
        points, deltas = self._code_points[chosen].tobytes(), self._deltas[chosen].tobytes()
        count = len(points) // 2 + 1
        power = 1 << (count.bit_length() - 1)
        length = 16 + 8 * count
        table = _CMAP.pack(
            0, 1, 3, 1, 12, 4, length, 0, 2 * count, 2 * power, power.bit_length() - 1, 2 * (count - power)
        ) + b"".join([points, b"\xff\xff\0\0", points, b"\xff\xff", deltas, b"\0\1", bytes(2 * count)])
        return table + bytes(-len(table) % 4)


def glyph_string(code: int) -> str:
    """Return a glyph's number as it stands in a literal string, as Latin-1 (ISO 32000-1, 7.3.4.2)."""
    return "".join(_ESCAPED.get(byte, chr(byte)) for byte in code.to_bytes(2))


def _sum(data: bytes) -> int:
    return int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))


def stream_object(number: int, about: bytes, data: bytes | bytearray) -> bytes:
    """Return a stream as it stands in the file; `about` is its dictionary without /Length and the brackets."""
    return b"%d 0 obj\n<<%s/Length %d>>\nstream\n%s\nendstream\nendobj\n" % (number, about, len(data), data)
