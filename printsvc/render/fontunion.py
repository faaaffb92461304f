"""TrueType subsets of one face put together again, so that papers of one file can share them.

Subsets here keep the glyph ids of the whole face: text that was set with one of them can be set with their union.
Source: ISO/IEC 14496-22 (OpenType), tables glyf, loca, hmtx, maxp, head.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_LONG_LOCA_AT: Final = 50  # indexToLocFormat in head
_CHECKSUM_AT: Final = 8  # checkSumAdjustment in head
_CHECKSUM: Final = 0xB1B0AFBA
_HINTS: Final = (b"cvt ", b"fpgm", b"prep")


@dataclass(slots=True)
class FontUnion:
    """The glyphs of the subsets added so far, by id, each with its advance and left bearing."""

    tables: dict[bytes, bytes]
    glyphs: dict[int, bytes]
    metrics: dict[int, bytes]
    count: int
    _maxima: bytes = field(default=b"")

    @classmethod
    def of(cls, data: bytes) -> FontUnion:
        """Return the union of one subset. ValueError if it is no TrueType font with outlines of its own."""
        try:
            tables = _tables(data)
            count = struct.unpack_from(">H", tables[b"maxp"], 4)[0]
            glyphs, metrics = _glyphs(tables, count), _metrics(tables, count)
        except (KeyError, struct.error, IndexError) as error:
            raise ValueError("it is no TrueType font") from error
        # A glyph without an outline is a space, or was left out: only its metrics can tell.
        return cls(tables, glyphs, metrics, count, tables[b"maxp"])

    def add(self, other: FontUnion) -> bool:
        """Take what the other has besides; False, and nothing taken, if the two are not of one face."""
        same = all(self.tables.get(tag) == other.tables.get(tag) for tag in _HINTS)
        same = same and _face_of(self.tables) == _face_of(other.tables)
        if not same or any(self.glyphs.get(number, glyph) != glyph for number, glyph in other.glyphs.items()):
            return False
        self.glyphs |= other.glyphs
        for number, metric in other.metrics.items():
            if number in other.glyphs or any(metric[:2]) or number not in self.metrics:
                self.metrics[number] = metric
        self._maxima = _larger(self._maxima, other._maxima)
        self.count = max(self.count, other.count)
        return True

    def encode(self) -> bytes:
        """Return the font file; equal unions give equal bytes."""
        offsets, body = [0], bytearray()
        for number in range(self.count):
            body += self.glyphs.get(number, b"")
            body += bytes(-len(body) % 4)
            offsets.append(len(body))
        head = bytearray(self.tables[b"head"])
        struct.pack_into(">I", head, _CHECKSUM_AT, 0)
        struct.pack_into(">h", head, _LONG_LOCA_AT, 1)
        empty = bytes(4)
        tables = {tag: self.tables[tag] for tag in _HINTS if tag in self.tables} | {
            b"head": bytes(head),
            b"hhea": self.tables[b"hhea"][:34] + struct.pack(">H", self.count),
            b"maxp": self._maxima[:4] + struct.pack(">H", self.count) + self._maxima[6:],
            b"hmtx": b"".join(self.metrics.get(number, empty) for number in range(self.count)),
            b"loca": struct.pack(f">{len(offsets)}I", *offsets),
            b"glyf": bytes(body),
        }
        return _font_file(tables)


def unite(files: Iterable[bytes]) -> list[tuple[FontUnion, list[int]]]:
    """Return as few unions as will do, each with the places of its files. ValueError if one is no TrueType font."""
    unions: list[tuple[FontUnion, list[int]]] = []
    known: dict[bytes, list[int]] = {}
    for place, data in enumerate(files):
        if data in known:
            known[data].append(place)
            continue
        font = FontUnion.of(data)
        mine = next((places for union, places in unions if union.add(font)), None)
        if mine is None:
            mine = []
            unions.append((font, mine))
        mine.append(place)
        known[data] = mine
    return unions


def _tables(data: bytes) -> dict[bytes, bytes]:
    if data[:4] != b"\0\1\0\0":
        raise ValueError("it is no TrueType font")
    found = {}
    for index in range(struct.unpack_from(">H", data, 4)[0]):
        tag, _, offset, length = struct.unpack_from(">4sIII", data, 12 + 16 * index)
        found[tag] = data[offset : offset + length]
    return found


def _glyphs(tables: Mapping[bytes, bytes], count: int) -> dict[int, bytes]:
    long = struct.unpack_from(">h", tables[b"head"], _LONG_LOCA_AT)[0]
    loca = struct.unpack_from(f">{count + 1}{'I' if long else 'H'}", tables[b"loca"])
    outlines, scale = tables[b"glyf"], 1 if long else 2
    return {
        number: outlines[loca[number] * scale : loca[number + 1] * scale]
        for number in range(count)
        if loca[number] < loca[number + 1]
    }


def _metrics(tables: Mapping[bytes, bytes], count: int) -> dict[int, bytes]:
    """Each glyph's advance and left bearing; after the last full pair only bearings follow."""
    pairs = struct.unpack_from(">H", tables[b"hhea"], 34)[0]
    data = tables[b"hmtx"]
    found = {number: data[4 * number : 4 * number + 4] for number in range(min(pairs, count))}
    for number in range(pairs, count):
        at = 4 * pairs + 2 * (number - pairs)
        found[number] = data[4 * pairs - 4 : 4 * pairs - 2] + data[at : at + 2]
    return found


def _face_of(tables: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    """What subsets of one face have in common: units of the em and flags, and the line's metrics."""
    return tables[b"head"][16:20], tables[b"hhea"][4:10]


def _larger(one: bytes, other: bytes) -> bytes:
    """The larger of each figure of two maxp tables; which version they are stands in the first four bytes."""
    size = min(len(one), len(other)) // 2 * 2
    figures = zip(
        struct.unpack(f">{size // 2}H", one[:size]), struct.unpack(f">{size // 2}H", other[:size]), strict=True
    )
    return struct.pack(f">{size // 2}H", *(max(pair) for pair in figures))


def _font_file(tables: Mapping[bytes, bytes]) -> bytes:
    count = len(tables)
    power = 1 << (count.bit_length() - 1)
    header = struct.pack(">IHHHH", 0x00010000, count, 16 * power, power.bit_length() - 1, 16 * (count - power))
    offset = 12 + 16 * count
    directory, body = b"", b""
    places = {}
    for tag in sorted(tables):
        data = tables[tag]
        places[tag] = offset + len(body)
        directory += struct.pack(">4sIII", tag, _sum(data), offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    whole = bytearray(header + directory + body)
    struct.pack_into(">I", whole, places[b"head"] + _CHECKSUM_AT, (_CHECKSUM - _sum(whole)) & 0xFFFFFFFF)
    return bytes(whole)


def _sum(data: bytes | bytearray) -> int:
    padded = bytes(data) + bytes(-len(data) % 4)
    figures: tuple[int, ...] = struct.unpack(f">{len(padded) // 4}I", padded)
    return sum(figures) & 0xFFFFFFFF
