"""A QR symbol in some 30 microseconds: alphanumeric mode, one version and level, one mask, all tables made once.

The symbol is a linear function of the text's bits, so that what `qrcode` does module by module is here a dozen array
operations. `qr.encode_qr` and the stamp both draw with this, and so draw the same symbol.
Source: ISO/IEC 18004:2015, 7.4.4 (alphanumeric mode), 7.5 (Reed-Solomon), 7.6 (interleaving), 7.7 (placement).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
# From this version on the mask is fixed. What an HCERT fills a symbol with is compressed and signed, as good as random,
# and under any mask stays so; to score eight masks would cost more than to lay out the page.
FIXED_MASK_FROM: Final = 10
FIXED_MASK: Final = 2
_TOGETHER: Final = 32  # symbols drawn at once: what they take stays in a processor's own cache

_Bytes = NDArray[np.uint8]

# Table 9, one line a level: error correction codewords of a block, and number of blocks, for versions 1 to 40.
_LEVEL_BITS: Final = {"L": 1, "M": 0, "Q": 3, "H": 2}
_EC_PER_BLOCK: Final = {
    "L": (7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28,
          28, 28, 30, 30, 26, 28, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30),
    "M": (10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26,
          26, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28),
    "Q": (13, 22, 18, 26, 18, 24, 18, 22, 20, 24, 28, 26, 24, 20, 30, 24, 28, 28, 26, 30,
          28, 30, 30, 30, 30, 28, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30),
    "H": (17, 28, 22, 16, 22, 28, 26, 26, 24, 28, 24, 28, 22, 24, 24, 30, 28, 28, 26, 28,
          30, 24, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30),
}  # fmt: skip
_BLOCKS: Final = {
    "L": (1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8,
          8, 9, 9, 10, 12, 12, 12, 13, 14, 15, 16, 17, 18, 19, 19, 20, 21, 22, 24, 25),
    "M": (1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16,
          17, 17, 18, 20, 21, 23, 25, 26, 28, 29, 31, 33, 35, 37, 38, 40, 43, 45, 47, 49),
    "Q": (1, 1, 2, 2, 4, 4, 6, 6, 8, 8, 8, 10, 12, 16, 12, 17, 16, 18, 21, 20,
          23, 23, 25, 27, 29, 34, 34, 35, 38, 40, 43, 45, 48, 51, 53, 56, 59, 62, 65, 68),
    "H": (1, 1, 2, 4, 4, 4, 5, 6, 8, 8, 11, 11, 16, 16, 18, 16, 19, 21, 25, 25,
          25, 34, 30, 32, 35, 37, 40, 42, 45, 48, 51, 54, 57, 60, 63, 66, 70, 74, 77, 81),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Tables:
    """All that does not depend on the text; `modules` is the symbol without data, `places` where its bits go.

    `rows` are the packed rows of such a symbol, 1 for light. `row_places`, 8 x bytes, is where the first bit of every
    byte stands among the bits of all codewords (all first bits, then all second bits), where the second bit does, and
    so on: those that stand nowhere, the bits that fill up a row among them, are of the codeword of nothing.
    """

    data_codewords: int
    count_bits: int
    block_of: NDArray[np.intp]
    remainders: NDArray[np.uint64]
    interleave: NDArray[np.intp]
    places: NDArray[np.intp]
    modules: _Bytes
    rows: _Bytes
    row_places: NDArray[np.intp]
    ec: int


def alphanumeric_capacity(level: str, version: int) -> int:
    """Return how many characters a symbol holds (table 7)."""
    bits = 8 * _data_codewords(level, version) - 4 - _count_bits(version)
    pairs, rest = divmod(bits, 11)
    return 2 * pairs + (1 if rest >= 6 else 0)


@lru_cache(maxsize=4096)
def find_version(length: int, level: str, min_version: int, max_version: int) -> int | None:
    """Return the smallest version that holds `length` characters, None if none of them does."""
    return next((v for v in range(min_version, max_version + 1) if length <= alphanumeric_capacity(level, v)), None)


def draw_modules(payload: str, version: int, level: str, mask: int) -> _Bytes:
    """Return the symbol without quiet zone, side x side, 1 for dark.

    `payload` is of the alphanumeric mode's characters and fits the version: the caller has seen to that.
    """
    tables = _tables(version, level, mask)
    side = 17 + 4 * version
    modules = tables.modules.copy()
    modules[tables.places] ^= np.unpackbits(_streams([payload], tables)[:-1, 0])
    return modules.reshape(side, side)


def draw_rows(payloads: Sequence[str], version: int, level: str, mask: int) -> list[bytes]:
    """Return each symbol's rows as bits, each padded to whole bytes, 1 for light: a PDF image of one bit a component.

    The payloads are as `draw_modules` wants them. Many at once cost a fraction of as many calls.
    """
    tables = _tables(version, level, mask)
    drawn: list[bytes] = []
    for start in range(0, len(payloads), _TOGETHER):
        streams = _streams(payloads[start : start + _TOGETHER], tables)
        bits = (streams >> _PLANES) & 1
        # The symbols are side by side: what is done for one module is done for all of them in one go.
        first, *others = bits.reshape(-1, streams.shape[1]).take(tables.row_places, axis=0)
        for plane in others:
            first <<= 1
            first |= plane
        first ^= tables.rows
        drawn += [row.tobytes() for row in first.T]
    return drawn


def mask_plane(version: int, mask: int) -> _Bytes:
    """Return one mask pattern over the whole symbol (table 10)."""
    side = 17 + 4 * version
    i, j = np.indices((side, side))
    conditions = (
        lambda: (i + j) % 2,
        lambda: i % 2,
        lambda: j % 3,
        lambda: (i + j) % 3,
        lambda: (i // 2 + j // 3) % 2,
        lambda: (i * j) % 2 + (i * j) % 3,
        lambda: ((i * j) % 2 + (i * j) % 3) % 2,
        lambda: ((i * j) % 3 + (i + j) % 2) % 2,
    )
    return np.asarray(conditions[mask]() == 0, dtype=np.uint8)


_PLANES: Final = np.arange(8, dtype=np.uint8)[::-1, np.newaxis, np.newaxis]  # how far down each bit of a byte is
_PADDING: Final = np.array([0xEC, 0x11], dtype=np.uint8)
_VALUES: Final = np.zeros(256, dtype=np.uint16)
_VALUES[np.frombuffer(ALPHABET.encode(), dtype=np.uint8)] = np.arange(len(ALPHABET))


def _streams(payloads: Sequence[str], tables: _Tables) -> _Bytes:
    """The codewords in the order in which they are placed, and one of nothing after them; a column each symbol."""
    codewords = _data_codewords_of(payloads, tables).T
    blocks = np.ascontiguousarray(codewords[tables.block_of])
    checks = np.zeros((*blocks.shape[1:], tables.remainders.shape[-1]), dtype=np.uint64)
    for remainders, step in zip(tables.remainders, blocks, strict=True):
        checks ^= remainders.take(step, axis=0)
    check_bytes = checks.view(np.uint8)[:, :, : tables.ec].transpose(0, 2, 1).reshape(-1, len(payloads))
    return np.concatenate((codewords, check_bytes))[tables.interleave]


def _data_codewords_of(payloads: Sequence[str], tables: _Tables) -> _Bytes:
    """The data codewords of each payload, and one of nothing after them."""
    count = len(payloads)
    lengths = np.array([len(payload) for payload in payloads])
    width = int(lengths.max() + 1) & ~1
    text = "".join([payload.ljust(width, "0") for payload in payloads])  # a 0 adds nothing
    values = _VALUES[np.frombuffer(text.encode("ascii"), dtype=np.uint8)].reshape(count, -1, 2)
    pairs = values[:, :, 0] * np.uint16(45) + values[:, :, 1]
    # A last character without another is 6 bits: the first of the 11 that a pair would have.
    odd = np.flatnonzero(lengths & 1)
    pairs[odd, lengths[odd] >> 1] = values[odd, lengths[odd] >> 1, 0] << 5
    # A pair is 11 bits: the last 11 of the 16 that it has here.
    pair_bits = np.unpackbits(pairs.astype(">u2").view(np.uint8), axis=1).reshape(count, -1, 16)[:, :, 5:]
    head = 4 + tables.count_bits
    bits = np.zeros((count, 8 * tables.data_codewords + 8), dtype=np.uint8)
    header = ((0b0010 << tables.count_bits) | lengths) << (32 - head)
    bits[:, :32] = np.unpackbits(header.astype(">u4").view(np.uint8).reshape(count, 4), axis=1)
    bits[:, head : head + 11 * (width >> 1)] = pair_bits.reshape(count, -1)
    codewords = np.packbits(bits, axis=1)
    total = head + 11 * (lengths >> 1) + 6 * (lengths & 1)
    used = -(-np.minimum(total + 4, 8 * tables.data_codewords) // 8)
    behind = np.arange(tables.data_codewords) - used[:, np.newaxis]
    np.copyto(codewords[:, :-1], _PADDING[behind & 1], where=behind >= 0)
    return codewords


def _count_bits(version: int) -> int:
    return 9 if version < 10 else 11 if version < 27 else 13


def _raw_modules(version: int) -> int:
    """How many modules carry data and error correction, remainder bits among them."""
    return int(np.count_nonzero(_free(version)))


def _data_codewords(level: str, version: int) -> int:
    return _raw_modules(version) // 8 - _EC_PER_BLOCK[level][version - 1] * _BLOCKS[level][version - 1]


@cache
def _centres(version: int) -> tuple[int, ...]:
    """Rows and columns of the alignment patterns (annex E)."""
    if version == 1:
        return ()
    count = version // 7 + 2
    step = 26 if version == 32 else -(-(version * 4 + 4) // (count * 2 - 2)) * 2
    last = 10 + 4 * version
    return (6, *(last - step * back for back in reversed(range(count - 1))))


@cache
def _free(version: int) -> _Bytes:
    """1 where a module carries data: all but the function patterns, the format and the version information."""
    side = 17 + 4 * version
    free = np.ones((side, side), dtype=np.uint8)
    free[6, :] = free[:, 6] = 0
    free[:9, :9] = free[:9, -8:] = free[-8:, :9] = 0
    if version >= 7:
        free[:6, -11:-8] = free[-11:-8, :6] = 0
    for row, column in _alignments(version):
        free[row - 2 : row + 3, column - 2 : column + 3] = 0
    return free


def _alignments(version: int) -> list[tuple[int, int]]:
    corners = {(6, 6), (6, 10 + 4 * version), (10 + 4 * version, 6)}
    return [(r, c) for r in _centres(version) for c in _centres(version) if (r, c) not in corners]


@cache
def _tables(version: int, level: str, mask: int) -> _Tables:
    ec, count = _EC_PER_BLOCK[level][version - 1], _BLOCKS[level][version - 1]
    total = _data_codewords(level, version)
    short = total // count
    long_blocks = total % count
    sizes = [short] * (count - long_blocks) + [short + 1] * long_blocks
    starts = np.concatenate(([0], np.cumsum(sizes)))
    width = max(sizes)
    # A shorter block is read with a byte of nothing before it, which adds nothing to its remainder.
    lookup = np.empty((count, width), dtype=np.intp)
    for block, size in enumerate(sizes):
        lookup[block] = total  # the byte of nothing, after the last
        lookup[block, width - size :] = np.arange(size) + starts[block]
    remainders = _remainders(ec, width)
    order = [starts[b] + step for step in range(width) for b in range(count) if step < sizes[b]]
    order += [total + 1 + b * ec + step for step in range(ec) for b in range(count)]
    places = _placement(version)[: 8 * len(order)]
    modules = _blank(version, level, mask)
    side = len(modules)
    rows = np.zeros((side, -(-side // 8) * 8), dtype=np.uint8)
    rows[:, :side] = modules ^ 1
    taken = np.full(side * side, 8 * len(order), dtype=np.intp)
    taken[places] = np.arange(len(places))
    row_places = np.full(rows.shape, 8 * len(order), dtype=np.intp)
    row_places[:, :side] = taken.reshape(side, side)
    order.append(total)
    codeword, plane = np.divmod(row_places.reshape(-1, 8).T, 8)
    return _Tables(
        data_codewords=total,
        count_bits=_count_bits(version),
        block_of=lookup.T,
        remainders=remainders,
        interleave=np.array(order, dtype=np.intp),
        places=places,
        modules=modules.ravel(),
        rows=np.packbits(rows)[:, np.newaxis],
        row_places=plane * len(order) + codeword,
        ec=ec,
    )


@cache
def _remainders(ec: int, width: int) -> NDArray[np.uint64]:
    """`[step, byte]`: what that byte, `step`-th of `width`, adds to the check bytes; 32 bytes as 4 words."""
    exponents, logarithms = _field()
    generator = [1]
    for power in range(ec):
        root = int(exponents[power])
        extended = [*generator, 0]
        for index, factor in enumerate(generator):
            extended[index + 1] ^= _times(factor, root, exponents, logarithms)
        generator = extended
    table = np.zeros((width, 256, 32), dtype=np.uint8)
    row = np.zeros(ec, dtype=np.uint8)
    row[:] = generator[1:]
    products = np.array([[_times(a, b, exponents, logarithms) for b in range(256)] for a in range(256)], dtype=np.uint8)
    for step in reversed(range(width)):
        table[step, :, :ec] = products[:, row]
        lead = int(row[0])
        row = np.append(row[1:], np.uint8(0)) ^ products[lead, np.array(generator[1:], dtype=np.uint8)]
    return table.view(np.uint64).reshape(width, 256, 4)


@cache
def _field() -> tuple[list[int], list[int]]:
    """GF(256) with 1 + x^2 + x^3 + x^4 + x^8: powers of two, and their logarithms."""
    exponents, logarithms, value = [0] * 510, [0] * 256, 1
    for power in range(255):
        exponents[power] = exponents[power + 255] = value
        logarithms[value] = power
        value = value << 1 ^ (0x11D if value & 0x80 else 0)
    return exponents, logarithms


def _times(a: int, b: int, exponents: list[int], logarithms: list[int]) -> int:
    return exponents[logarithms[a] + logarithms[b]] if a and b else 0


@cache
def _placement(version: int) -> NDArray[np.intp]:
    """Where the bits go, in their order: columns in pairs from the right, up and down by turns."""
    side = 17 + 4 * version
    free = _free(version)
    places = []
    right = side - 1
    upward = True
    while right > 0:
        if right == 6:
            right -= 1
        rows = range(side - 1, -1, -1) if upward else range(side)
        places += [row * side + column for row in rows for column in (right, right - 1) if free[row, column]]
        right -= 2
        upward = not upward
    return np.array(places, dtype=np.intp)


def _blank(version: int, level: str, mask: int) -> _Bytes:
    """The symbol of no data: function patterns, format and version, and the mask where data will come."""
    side = 17 + 4 * version
    modules = mask_plane(version, mask) & _free(version)
    finder = np.zeros((8, 8), dtype=np.uint8)
    finder[:7, :7] = 1
    finder[1:6, 1:6] = 0
    finder[2:5, 2:5] = 1
    modules[:8, :8] = finder
    modules[:8, -8:] = finder[:, ::-1]
    modules[-8:, :8] = finder[::-1]
    modules[6, 8:-8] = modules[8:-8, 6] = np.arange(8, side - 8) % 2 == 0
    for row, column in _alignments(version):
        modules[row - 2 : row + 3, column - 2 : column + 3] = 1
        modules[row - 1 : row + 2, column - 1 : column + 2] = 0
        modules[row, column] = 1
    _put_format(modules, _LEVEL_BITS[level] << 3 | mask)
    if version >= 7:
        bits = version << 12 | _bch(version, 12, 0x1F25)
        for index in range(18):
            row, column = index // 3, side - 11 + index % 3
            modules[row, column] = modules[column, row] = bits >> index & 1
    return modules


def _put_format(modules: _Bytes, data: int) -> None:
    side = len(modules)
    bits = (data << 10 | _bch(data, 10, 0x537)) ^ 0x5412
    for index in range(15):
        bit = bits >> index & 1
        row = index if index < 6 else index + 1 if index < 8 else side - 15 + index
        modules[row, 8] = bit
        column = side - 1 - index if index < 8 else 7 if index == 8 else 14 - index
        modules[8, column] = bit
    modules[side - 8, 8] = 1


def _bch(data: int, degree: int, generator: int) -> int:
    remainder = data << degree
    while remainder.bit_length() > degree:
        remainder ^= generator << (remainder.bit_length() - degree - 1)
    return remainder
