"""CBOR as a certificate may hold it: a strict reader, so that nothing has to be guarded afterwards.

General decoders accept what no certificate needs and an attacker likes: the same key twice, bytes after the end,
regular expressions and decimals of two thousand million digits behind tags. Here each of these is refused, and so are
depth beyond `MAX_CBOR_DEPTH`, keys that are neither text nor integer, NaN and infinities. Lengths of any width and
indefinite lengths are read: issuers in the field send both.

Writing is cbor2's, in canonical order.
Source: RFC 8949, sections 3 and 5.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import cbor2

from printsvc.credential.limits import MAX_CBOR_DEPTH, MAX_CBOR_ITEMS
from printsvc.errors import NotHcertError

_BREAK = object()
_INDEFINITE = -1
# By initial byte: how many bytes a text shorter than 24 has with this one; 0 for anything else.
_SHORT_TEXT = bytes(1 + (initial & 31) if 0x60 <= initial < 0x78 else 0 for initial in range(256))
_SIMPLE: dict[int, Any] = {20: False, 21: True, 22: None, 23: None}
_KEYS = frozenset({str, int})
_LEAVES = frozenset({str, int, bytes, bool, type(None)})
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tag that the caller allowed, with its content."""

    tag: int
    value: Any


def encode_cbor(value: Any) -> bytes:
    """Return `value` as canonical CBOR: the same value gives the same bytes (RFC 8949, 4.2.3).

    cbor2's canonical writer encodes each key to sort it, every time: what a certificate has is put in order by what was
    learned of the same keys before, in a third of the time. Where more than the order of keys matters (floats, tags),
    it is cbor2's.
    """
    try:
        ordered = _in_order(value)
    except (_MoreThanOrderError, RecursionError):
        return cbor2.dumps(value, canonical=True)
    return cbor2.dumps(ordered)


class _MoreThanOrderError(Exception):
    """Something of which canonical CBOR says more than in which order it stands."""


def _in_order(value: Any) -> Any:
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is dict and _KEYS.issuperset(map(type, value)):
        return {key: _in_order(value[key]) for key in _order_of(tuple(value))}
    if kind is list:
        return list(map(_in_order, value))
    raise _MoreThanOrderError


@lru_cache(maxsize=256)
def _order_of(keys: tuple[str | int, ...]) -> tuple[str | int, ...]:
    encoded = {key: cbor2.dumps(key) for key in keys}
    return tuple(sorted(keys, key=lambda key: (len(encoded[key]), encoded[key])))


def parse_cbor(data: bytes, *, step: str, tags: Container[int] = (), max_items: int = MAX_CBOR_ITEMS) -> Any:
    """Return the one item that `data` holds: dict, list, str, bytes, int, float, bool, None or Tagged.

    Raises NotHcertError with `step` for anything else, also for a tag that is not among `tags`.
    """
    reader = _Reader(data, step, tags, max_items)
    try:
        value = reader.item(0)
    except (IndexError, struct.error):
        reader.refuse("it ends in the middle")
    except UnicodeDecodeError:
        reader.refuse("a text is not UTF-8")
    if value is _BREAK:
        reader.refuse("a break stands outside an indefinite item")
    if reader.position != len(data):
        reader.refuse("bytes follow its end")
    return value


class _Reader:
    __slots__ = ("data", "is_small", "items", "max_items", "position", "step", "tags")

    def __init__(self, data: bytes, step: str, tags: Container[int], max_items: int) -> None:
        self.data = data
        self.step = step
        self.tags = tags
        self.max_items = max_items
        # An item has a byte at least: so few bytes cannot be too many items.
        self.is_small = len(data) <= max_items
        self.position = 0
        self.items = 0

    def refuse(self, why: str) -> NoReturn:
        raise NotHcertError(self.step, f"The CBOR is not acceptable: {why}.")

    def argument(self, info: int) -> int:
        """Return the number after an initial byte (RFC 8949, 3)."""
        if info < 24:
            return info
        if info == 31:
            return _INDEFINITE
        if info > 27:
            self.refuse("a reserved length is used")
        begin = self.position
        self.position = end = begin + (1 << (info - 24))
        if end > len(self.data):
            raise IndexError
        return self.data[begin] if info == 24 else int.from_bytes(self.data[begin:end], "big")

    def item(self, depth: int) -> Any:
        if depth > MAX_CBOR_DEPTH:
            self.refuse("it is nested too deeply")
        self.items += 1
        if self.items > self.max_items:
            self.refuse("it has too many items")
        initial = self.data[self.position]
        self.position += 1
        if initial < 24:
            return initial
        major, info = initial >> 5, initial & 31
        if major == 7:
            return self.simple(info)
        number = info if info < 24 else self.argument(info)
        if major == 3:
            return self.string(number, major).decode()
        if major == 5:
            return self.mapping(number, depth)
        if number == _INDEFINITE and major not in (2, 4):
            self.refuse("a reserved length is used")
        if major == 0:
            return number
        if major == 1:
            return -1 - number
        if major == 2:
            return self.string(number, major)
        if major == 4:
            return self.array(number, depth)
        if number not in self.tags:
            self.refuse(f"tag {number} has no place here")
        return Tagged(number, self.content(depth))

    def content(self, depth: int) -> Any:
        value = self.item(depth + 1)
        if value is _BREAK:
            self.refuse("a break stands where a value is due")
        return value

    def string(self, length: int, major: int) -> bytes:
        if length != _INDEFINITE:
            end = self.position + length
            if end > len(self.data):
                raise IndexError
            value = self.data[self.position : end]
            self.position = end
            return value
        parts = []
        while (initial := self.data[self.position]) != 0xFF:
            self.position += 1
            if initial >> 5 != major or initial & 31 == 31:
                self.refuse("a chunk of a string has another type")
            parts.append(self.string(self.argument(initial & 31), major))
        self.position += 1
        return b"".join(parts)

    def array(self, length: int, depth: int) -> list[Any]:
        values: list[Any] = []
        while length == _INDEFINITE or len(values) < length:
            value = self.item(depth + 1)
            if value is _BREAK:
                if length != _INDEFINITE:
                    self.refuse("a break stands where a value is due")
                break
            values.append(value)
        return values

    def mapping(self, length: int, depth: int) -> dict[Any, Any]:
        values: dict[Any, Any] = {}
        data, size, position = self.data, len(self.data), self.position
        # Nearly all of a certificate is short texts in maps: read on the spot where no limit can be near.
        is_quick = self.is_small and depth < MAX_CBOR_DEPTH
        while length == _INDEFINITE or len(values) < length:
            if is_quick and (width := _SHORT_TEXT[data[position]]) and (end := position + width) <= size:
                key = data[position + 1 : end].decode()
                position = end
            else:
                self.position = position
                key = self.item(depth + 1)
                position = self.position
                if key is _BREAK:
                    if length != _INDEFINITE:
                        self.refuse("a break stands where a key is due")
                    break
                kind = type(key)
                if kind is not str and kind is not int:
                    self.refuse("a key is neither text nor an integer")
            if key in values:
                self.refuse("a key stands twice in a map")
            if is_quick and (width := _SHORT_TEXT[data[position]]) and (end := position + width) <= size:
                values[key] = data[position + 1 : end].decode()
                position = end
            else:
                self.position = position
                value = self.item(depth + 1)
                position = self.position
                if value is _BREAK:
                    self.refuse("a break stands where a value is due")
                values[key] = value
        self.position = position
        return values

    def simple(self, info: int) -> Any:
        if info == 31:
            return _BREAK
        if info in _SIMPLE:
            return _SIMPLE[info]
        form = _FLOATS.get(info)
        if form is None:
            self.refuse("a simple value is not known")
        value = struct.unpack_from(form, self.data, self.position)[0]
        self.position += struct.calcsize(form)
        if not math.isfinite(value):
            self.refuse("a number is not finite")
        return value
