"""TrueType files with the glyphs that a certificate shows, put together from parts that the compiler made.

A file is: the table directory and `head`; what never changes, with the outlines that every certificate has, compressed
by the compiler; then the certificate's own outlines, `loca`, `hmtx` and `cmap`. Glyphs that are not shown are empty.
Sources: OpenType 1.9, "Organization of an OpenType Font", loca, hmtx, cmap; ISO 32000-1, 9.9.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import compress, islice
from typing import Final, cast

import deflate
import numpy as np
from numpy.typing import NDArray

from printsvc.render.stamp.compiled import FontProgram

FAST: Final = 8  # libdeflate's level for what is one person's: 1 takes a third of the time, and 300 bytes more of each
_WORD: Final = 1 << 32
_ADLER: Final = 65521
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
        lead = b"".join([*(data for _, data in program.tables), *fixed])
        self._lead_size, self._lead_check = len(lead), zlib.adler32(lead)
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
        self._outline_sums = np.array([_sum(one) for one in self._outlines], dtype=np.int64)
        self._metrics = np.frombuffer(program.metrics, dtype=">u4").astype(np.int64)
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

    def streams(self, wanted: Iterable[int]) -> dict[int, bytes]:
        """Return, by set of glyphs, the file with these as a stream object; kept for those who show the same.

        To make many at once takes less time than to make one after the other.
        """
        found = {glyphs: self._made.get(glyphs) for glyphs in wanted}
        lacking = [glyphs for glyphs, stream in found.items() if stream is None]
        if lacking:
            made = dict(zip(lacking, self._make(lacking), strict=True))
            if len(self._made) + len(made) > _KEPT:
                self._made.clear()
            self._made |= dict(islice(made.items(), _KEPT))
            found |= made
        return cast(dict[int, bytes], found)

    def _make(self, sets: Sequence[int]) -> list[bytes]:
        count = self._count
        width = -(-count // 4)
        raw = np.frombuffer(b"".join([(glyphs | self._always).to_bytes(width, "little") for glyphs in sets]), np.uint8)
        both = np.unpackbits(raw.reshape(-1, width), axis=1, count=2 * count, bitorder="little")
        shown, there = both[:, :count].view(np.bool_), both[:, count:]
        own_there = there[:, self._program.fixed :]
        halves = there * self._lengths
        # `loca`, its first entry 0 and an even number of them, then `hmtx`: in words, as they are summed up.
        loca_words = (count + 2) // 2
        middle = np.zeros((len(sets), loca_words + count), dtype=">u4")
        middle.view(">u2")[:, 1 : count + 1] = self._loca + np.cumsum(halves, axis=1)
        middle[:, loca_words:] = there * self._metrics
        loca_sums = middle[:, :loca_words].sum(axis=1, dtype=np.int64).tolist()
        metrics_sums = middle[:, loca_words:].sum(axis=1, dtype=np.int64).tolist()
        own_sums = (own_there @ self._outline_sums).tolist()
        return [
            self._join(compress(self._outlines, mine), own_sum, row.tobytes(), loca_sum, metrics_sum, self._cmap(shows))
            for mine, own_sum, row, loca_sum, metrics_sum, shows in zip(
                own_there.tolist(), own_sums, middle, loca_sums, metrics_sums, shown, strict=True
            )
        ]

    def _join(
        self, outlines: Iterable[bytes], own_sum: int, middle: bytes, loca_sum: int, metrics_sum: int, cmap: bytes
    ) -> bytes:
        """The stream object: `middle` is `loca`, filled up, and `hmtx`; sums are those of the words of a table."""
        count, program = self._count, self._program
        own = b"".join(outlines)
        tail = b"".join([own, middle, cmap])
        tail_at = self._glyf + self._fixed_size
        metrics_at = tail_at + len(own) + len(middle) - 4 * count
        entries = self._entries | {
            b"glyf": (self._fixed_sum + own_sum, self._glyf, self._fixed_size + len(own)),
            b"loca": (loca_sum, tail_at + len(own), 2 * count + 2),
            b"hmtx": (metrics_sum, metrics_at, 4 * count),
            b"cmap": (sum(struct.unpack(f">{len(cmap) // 4}I", cmap)), metrics_at + 4 * count, len(cmap)),
        }
        words: list[bytes | int] = []
        total = _HEADER_SUM
        for tag in _TAGS:
            checksum, offset, length = entries[tag]
            words += (tag, checksum % _WORD, offset, length)
            total += _TAG_VALUES[tag] + 2 * (checksum % _WORD) + offset + length  # as an entry, and as a table
        head = self._head[:8] + ((_MAGIC - total) % _WORD).to_bytes(4) + self._head[12:]
        first = _DIRECTORY.pack(*_HEADER, *words) + head
        check = zlib.adler32(tail, joined_check(zlib.adler32(first), self._lead_check, self._lead_size))
        data = b"".join(
            [
                b"\x78\x01", _STORED.pack(0, len(first), len(first) ^ 0xFFFF), first,
                program.lead, deflate.deflate_compress(tail, FAST), check.to_bytes(4),
            ]
        )  # fmt: skip
        size = len(first) + self._lead_size + len(tail)
        return stream_object(self.number, b"/Length1 %d/Filter/FlateDecode" % size, data)

    def _cmap(self, shown: NDArray[np.bool_]) -> bytes:
        """The table of the glyphs that are shown, a segment of format 4 each.

        It has no others: hinters measure a font by the letters they find in it, as if an empty one were drawn so.
        """
        chosen = shown[self._coded]
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


def joined_check(first: int, second: int, length: int) -> int:
    """Return the Adler-32 of two stretches, the second `length` bytes long, from those of each (RFC 1950, 8.2)."""
    low = (first & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + length * low
    return high % _ADLER << 16 | (low + (second & 0xFFFF)) % _ADLER


def _sum(data: bytes) -> int:
    return int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))


def stream_object(number: int, about: bytes, data: bytes | bytearray) -> bytes:
    """Return a stream as it stands in the file; `about` is its dictionary without /Length and the brackets."""
    return b"%d 0 obj\n<<%s/Length %d>>\nstream\n%s\nendstream\nendobj\n" % (number, about, len(data), data)
