"""TrueType files with the glyphs that a certificate shows, put together from parts that the compiler made.

A file is: the table directory and `head`; what never changes, with the outlines that every certificate has, compressed
by the compiler; then the certificate's own outlines, `loca`, `hmtx` and `cmap`. Glyphs that are not shown are empty.
Sources: OpenType 1.9, "Organization of an OpenType Font", loca, hmtx, cmap; ISO 32000-1, 9.9.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from typing import Final, cast

import deflate
import numpy as np
from numpy.typing import NDArray

from printsvc.render.stamp.compiled import FontProgram

FAST: Final = 1  # libdeflate's level for what is one person's: 8 takes twice the time, and spares 250 bytes of each
BEST: Final = 12  # the level for what is kept
_WORD: Final = (1 << 32) - 1
_ADLER: Final = 65521
_MAGIC: Final = 0xB1B0AFBA  # what the words of a whole font add up to (OpenType, `head`)
_HEADER: Final = (0x00010000, 7, 64, 2, 48)  # TrueType outlines in seven tables
_DIRECTORY: Final = struct.Struct(">IHHHH" + "4sIII" * 7)
_STORED: Final = struct.Struct("<BHH")
_CMAP: Final = struct.Struct(">HHHHIHHHHHHH")
_TAGS: Final = (b"cmap", b"glyf", b"head", b"hhea", b"hmtx", b"loca", b"maxp")
_SUM_AT, _PLACE_AT, _LENGTH_AT = ({tag: 3 + 4 * i + part for i, tag in enumerate(_TAGS)} for part in (1, 2, 3))
_ADJUSTMENT_AT: Final = _DIRECTORY.size // 4 + 2  # `head` comes right after; in words, as the three above
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
        entries = dict.fromkeys(_TAGS, (0, 0, 0))
        head = program.head + bytes(-len(program.head) % 4)
        at = _DIRECTORY.size
        for tag, data, length in (
            ("head", head, len(program.head)),
            *((tag, data, len(data)) for tag, data in program.tables),
        ):
            entries[tag.encode()] = (_sum(data) & _WORD, at, length)
            at += len(data)
        self._glyf = at
        # The directory and `head`, in words; nothing yet where a font's own tables are named.
        first = _DIRECTORY.pack(*_HEADER, *(one for tag in _TAGS for one in (tag, *entries[tag]))) + head
        self._first = np.frombuffer(first, dtype=">u4").astype(np.int64)
        # What these add up to, with the tables that never change and `head` once more: it is a table too.
        self._first_sum = int(self._first.sum()) + sum(_sum(data) for _, data in program.tables)
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
        places = np.nonzero(own_there)[1].tolist()
        ends = own_there.sum(axis=1, dtype=np.intp).cumsum().tolist()
        outlines = [b"".join([self._outlines[at] for at in places[a:b]]) for a, b in pairwise([0, *ends])]
        cmaps = self._cmaps(shown)
        cmap_lengths = np.array([len(table) for table in cmaps])
        cmap_words = np.frombuffer(b"".join(cmaps), dtype=">u4")
        glyf_length = self._fixed_size + 2 * halves.sum(axis=1)
        loca_at = self._glyf + glyf_length
        cmap_at = loca_at + 4 * (loca_words + count)
        own = (
            (b"glyf", self._fixed_sum + own_there @ self._outline_sums, self._glyf, glyf_length),
            (b"loca", middle[:, :loca_words].sum(axis=1, dtype=np.int64), loca_at, 2 * count + 2),
            (b"hmtx", middle[:, loca_words:].sum(axis=1, dtype=np.int64), loca_at + 4 * loca_words, 4 * count),
            (b"cmap", _sums(cmap_words, cmap_lengths // 4), cmap_at, cmap_lengths),
        )
        firsts = np.tile(self._first, (len(sets), 1))
        total: NDArray[np.int64] = np.full(len(sets), self._first_sum)
        for tag, checksum, place, length in own:
            firsts[:, _SUM_AT[tag]] = checksum & _WORD
            firsts[:, _PLACE_AT[tag]] = place
            firsts[:, _LENGTH_AT[tag]] = length
            total = total + 2 * checksum + place + length  # as a table, and what its entry says
        firsts[:, _ADJUSTMENT_AT] = (_MAGIC - total) & _WORD
        return [
            self._join(first.tobytes(), b"".join(tail))
            for first, *tail in zip(firsts.astype(">u4"), outlines, map(_bytes, middle), cmaps, strict=True)
        ]

    def _join(self, first: bytes, tail: bytes) -> bytes:
        """The stream object of a font: `first`, what never changes, and `tail`."""
        check = zlib.adler32(tail, joined_check(zlib.adler32(first), self._lead_check, self._lead_size))
        data = b"".join(
            [
                b"\x78\x01", _STORED.pack(0, len(first), len(first) ^ 0xFFFF), first,
                self._program.lead, deflate.deflate_compress(tail, FAST), check.to_bytes(4),
            ]
        )  # fmt: skip
        size = len(first) + self._lead_size + len(tail)
        return stream_object(self.number, b"/Length1 %d/Filter/FlateDecode" % size, data)

    def _cmaps(self, shown: NDArray[np.bool_]) -> list[bytes]:
        """The tables of the glyphs that are shown, a segment of format 4 each, filled up.

        They have no others: hinters measure a font by the letters they find in it, as if an empty one were drawn so.
        """
        chosen = shown[:, self._coded]
        places = np.nonzero(chosen)[1]
        points, deltas = self._code_points[places].tobytes(), self._deltas[places].tobytes()
        ends = (2 * chosen.sum(axis=1).cumsum()).tolist()
        return [_cmap(points[start:end], deltas[start:end]) for start, end in pairwise([0, *ends])]


def _cmap(points: bytes, deltas: bytes) -> bytes:
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


def _bytes(row: NDArray[np.uint32]) -> bytes:
    return row.tobytes()


def _sums(words: NDArray[np.uint32], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """What each of the stretches adds up to; none is empty."""
    return np.add.reduceat(words, lengths.cumsum() - lengths, dtype=np.int64)


def _sum(data: bytes) -> int:
    return int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))


def stream_object(number: int, about: bytes, data: bytes | bytearray) -> bytes:
    """Return a stream as it stands in the file; `about` is its dictionary without /Length and the brackets."""
    return b"%d 0 obj\n<<%s/Length %d>>\nstream\n%s\nendstream\nendobj\n" % (number, about, len(data), data)
