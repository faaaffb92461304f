"""WeasyPrint's PDF objects taken over into a compiled form: renumbered, the structure tree by its conditions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import deflate
import pydyf

from printsvc.render.compiler.merge import Merged, both
from printsvc.render.stamp.compiled import Branch, Condition, Loose
from printsvc.render.stamp.fontfile import BEST, stream_object

_REFERENCE: Final = re.compile(rb"(\d+) 0 R")


_GROUPS: Final = (b"/S /Div", b"/S /NonStruct")


class ObjectTable:
    """Numbers for the objects of a compiled form, and the objects."""

    def __init__(self, pdf: Any) -> None:
        self._pdf = pdf
        self._numbers: dict[int, int] = {}
        self._next = 1
        self.streams: list[tuple[int, bytes]] = []
        self.loose: list[Loose] = []

    def number(self) -> int:
        """Return a number that no object has."""
        self._next += 1
        return self._next - 1

    @property
    def size(self) -> int:
        """One more than the highest number."""
        return self._next

    def replace(self, reference: bytes, number: int) -> None:
        """Have what refers to WeasyPrint's object refer to ours."""
        self._numbers[_number_in(reference)] = number

    def put(self, number: int, data: bytes, condition: Condition = ()) -> None:
        """Add an object, no stream, to those written in object streams."""
        self.loose.append(Loose(condition, number, data))

    def put_stream(self, number: int, about: bytes, data: bytes) -> None:
        """Add a stream; `about` is its dictionary without /Length and the brackets."""
        self.streams.append((number, stream_object(number, about, data)))

    def value(self, value: Any) -> bytes:
        """Return a value of WeasyPrint's as PDF, taking over what it refers to."""
        if isinstance(value, pydyf.String):
            return bytes(value.data)
        if isinstance(value, pydyf.Stream):
            return b"%d 0 R" % self._take(value.number)
        if isinstance(value, dict):
            return b"<<" + b"".join(b"/%s %s" % (pydyf._to_bytes(k), self.value(v)) for k, v in value.items()) + b">>"
        if isinstance(value, list):
            return b"[" + b" ".join(map(self.value, value)) + b"]"
        if isinstance(value, bytes) and (match := _REFERENCE.fullmatch(value)):
            return b"%d 0 R" % self._take(int(match[1]))
        return bytes(pydyf._to_bytes(value))

    def _take(self, original: int) -> int:
        if original not in self._numbers:
            self._numbers[original] = number = self.number()
            thing = self._pdf.objects[original]
            if isinstance(thing, pydyf.Stream):
                self.put_stream(number, *self._compressed(thing))
            else:
                self.put(number, self.value(thing))
        return self._numbers[original]

    def _compressed(self, stream: Any) -> tuple[bytes, bytes]:
        about = b"".join(
            b"/%s %s" % (pydyf._to_bytes(key), self.value(value))
            for key, value in stream.extra.items()
            if key != "Length"
        )
        data = b"\n".join(pydyf._to_bytes(item) for item in stream.stream)
        if b"/Filter" in about:
            return about, data
        return about + b"/Filter/FlateDecode", bytes(deflate.zlib_compress(data, BEST))


def _is_nothing(node: Merged) -> bool:
    """Whether it says nothing to a reader: a box that was only drawn."""
    role = node.label.partition(b" ")[2].strip()
    return role in _GROUPS and all(map(_is_nothing, node.kids))


def _number_in(reference: bytes) -> int:
    match = _REFERENCE.fullmatch(reference)
    assert match is not None
    return int(match[1])


class StructureWriter:
    """The merged structure tree as objects; an element with kids that come and go is a branch."""

    def __init__(self, table: ObjectTable, pages: Sequence[int], mcids: Mapping[bytes, tuple[int, int]]) -> None:
        self._table = table
        self._pages = pages
        self._mcids = mcids
        self._holders: dict[tuple[int, int], int] = {}
        self.branches: list[Branch] = []

    def write(self, tree: Merged, root: int) -> None:
        """Write the whole tree; its StructTreeRoot gets the number `root`."""
        parents = self._table.number()
        document = self._element(tree, root, ())
        self._table.put(root, b"<</Type/StructTreeRoot/ParentTree %d 0 R/K[%d 0 R]>>" % (parents, document))
        nums = []
        for page in range(len(self._pages)):
            # Of content that is not there the element is not there either: a reference to nothing is null.
            last = max((mcid for at, mcid in self._holders if at == page), default=-1)
            holders = [self._holders.get((page, mcid)) for mcid in range(last + 1)]
            nums.append(b"%d[%s]" % (page, b" ".join(b"null" if h is None else b"%d 0 R" % h for h in holders)))
        self._table.put(parents, b"<</Nums[%s]>>" % b" ".join(nums))

    def _element(self, node: Merged, parent: int, condition: Condition) -> int:
        number = self._table.number()
        condition = both(condition, node.condition)
        page, _, about = node.label.partition(b" ")
        where = b"" if page == b"-1" else b"/Pg %d 0 R" % self._pages[int(page)]
        head = b"<<%s%s/P %d 0 R/K[" % (about, where, parent)
        entries: list[tuple[Condition, bytes]] = []
        for kid in node.kids:
            if _is_nothing(kid):
                continue
            if kid.label.startswith(b"@"):
                at, mcid = self._mcids[kid.label[1:]]
                self._holders[at, mcid] = number
                entries.append((kid.condition, b"%d" % mcid))
            else:
                entries.append((kid.condition, b"%d 0 R" % self._element(kid, number, condition)))
        if any(entry_condition for entry_condition, _ in entries):
            self.branches.append(Branch(condition, number, head, tuple(entries), b"]>>"))
        else:
            self._table.put(number, head + b" ".join(entry for _, entry in entries) + b"]>>", condition)
        return number
