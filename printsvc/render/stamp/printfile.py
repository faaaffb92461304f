"""Many papers of one form as one PDF to be printed, stamped right into it: what they have in common is in it once.

Fonts have the glyphs that any of the papers shows, the form's own drawing is there once for each variant; a paper adds
its texts, its QR, and a page that names them. The tags are left out: they describe a document to a reader, and this
one is for a printer. Source of the format: ISO 32000-1, 7.5.7 (object streams), 7.5.8 (cross-reference streams).
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import deflate

from printsvc.errors import RenderError
from printsvc.render.stamp.compiled import CompiledForm
from printsvc.render.stamp.fontfile import FAST, stream_object
from printsvc.render.stamp.writer import HEADER, FileWriter, object_stream, qr_image

_REFERENCE: Final = re.compile(rb"(\d+) 0 R")
_FOR_READERS: Final = re.compile(rb"/StructParents \d+|/Tabs */\w+|/Annots *(\[[^]]*\]|\d+ 0 R)|/Metadata \d+ 0 R")
_PARENT: Final = re.compile(rb"/Parent (\d+) 0 R")
_RESOURCES: Final = re.compile(rb"/Resources (\d+) 0 R")
_PACKED: Final = b"/Filter/FlateDecode"
_OWN_STREAM: Final = 1
_IN_STREAM: Final = 2
_ROW: Final = struct.Struct(">BIH")
GOOD: Final = 6  # libdeflate's level for what all papers of a file have: the best one takes 35 times its time
_MEMBERS: Final = 128  # of an object stream: a viewer reads the whole of one to find one object


class Paper(NamedTuple):
    """A certificate that is laid out: the texts of its pages, its glyphs by font program, its QR's rows."""

    values: Sequence[int]
    contents: Sequence[bytes]
    glyphs: Sequence[int]
    modules: bytes
    side: int


class _PageFrame(NamedTuple):
    """A page without its contents: `head` ends before them. Its resources, None where they are all papers' own."""

    head: bytes
    resources: bytes | None
    place: tuple[bytes, bytes] = (b"", b"")


class PrintFileWriter:
    """Writes print files of one form. Equal papers give equal bytes."""

    def __init__(self, form: CompiledForm, writer: FileWriter) -> None:
        self._form = form
        self._writer = writer
        loose = {one.number: one.data for one in form.loose}
        self._frames = [self._frame(loose, page.text_number) for page in form.pages]
        self._pages_number = self._parent()
        wanted = [form.info, *(number for frame in self._frames for number in _named(frame.head, *frame.place))]
        shared, streams = _closure(loose, dict(form.streams), wanted, without={self._pages_number})
        self._shared, self._streams = shared, streams
        self._first_free = form.size

    def _frame(self, loose: dict[int, bytes], text_number: int) -> _PageFrame:
        mark = b" %d 0 R]>>" % text_number
        whole = next((data for data in loose.values() if data.endswith(mark)), None)
        if whole is None:
            raise RenderError("A page of the compiled form has no contents.", vi="Biểu mẫu có trang không có nội dung.")
        head = _FOR_READERS.sub(b"", whole[: whole.rindex(b"/Contents[")])
        found = _RESOURCES.search(head)
        assert found is not None, "the compiler writes resources as an object"
        number = int(found[1])
        before, image, after = loose[number].partition(b" %d 0 R" % self._form.qr.image_number)
        if not image:
            return _PageFrame(head, None)
        return _PageFrame(head[: found.start()] + head[found.end() :], loose[number], (before, after))

    def _parent(self) -> int:
        found = _PARENT.search(self._frames[0].head)
        assert found is not None, "a page has a parent"
        return int(found[1])

    def write(self, papers: Sequence[Paper]) -> bytes:
        """Return the file with the pages of all papers, in their order."""
        form = self._form
        numbers = iter(range(self._first_free, 1 << 31))
        streams = dict(self._streams)
        members = dict(self._shared)
        for index, font in enumerate(self._writer.fonts):
            glyphs = 0
            for paper in papers:
                glyphs |= paper.glyphs[index]
            streams[font.number] = font.streams([glyphs])[glyphs]
        statics: dict[tuple[bytes, int], int] = {}
        kids = []
        identity = hashlib.sha256(bytes.fromhex(form.digest))
        for paper in papers:
            identity.update(paper.modules)
            image = next(numbers)
            streams[image] = stream_object(image, qr_image(paper.side), paper.modules)
            drawings = self._writer.statics(paper.values)
            for page, (frame, content) in enumerate(zip(self._frames, paper.contents, strict=True)):
                identity.update(content)
                static = statics.get((drawings[page], page))
                if static is None:
                    static = statics[drawings[page], page] = next(numbers)
                    streams[static] = stream_object(static, _PACKED, drawings[page])
                text = next(numbers)
                streams[text] = stream_object(text, _PACKED, deflate.zlib_compress(content, FAST))
                about = frame.head
                if frame.resources is not None:
                    resources = next(numbers)
                    before, after = frame.place
                    members[resources] = b"%s %d 0 R%s" % (before, image, after)
                    about = b"%s/Resources %d 0 R" % (about, resources)
                kid = next(numbers)
                members[kid] = b"%s/Contents[%d 0 R %d 0 R]>>" % (about, static, text)
                kids.append(kid)
        members[self._pages_number] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (
            len(kids), b" ".join([b"%d 0 R" % kid for kid in kids]),
        )  # fmt: skip
        root = next(numbers)
        members[root] = b"<</Type/Catalog/Pages %d 0 R>>" % self._pages_number
        return _join(members, streams, numbers, root, form.info, identity.hexdigest()[:32].encode())


def _named(*texts: bytes) -> Iterator[int]:
    for text in texts:
        yield from map(int, _REFERENCE.findall(text))


def _closure(
    loose: dict[int, bytes], streams: dict[int, bytes], wanted: Sequence[int], *, without: set[int]
) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """What is reached from the objects `wanted`: those that are no streams, and the streams."""
    due, seen = list(wanted), set(without)
    while due:
        number = due.pop()
        if number not in seen:
            seen.add(number)
            data = loose.get(number) or streams.get(number, b"").partition(b"stream\n")[0].partition(b" obj\n")[2]
            due += _named(data)
    mine = seen - without
    return (
        {number: data for number, data in loose.items() if number in mine},
        {number: data for number, data in streams.items() if number in mine},
    )


def _join(
    members: dict[int, bytes], streams: dict[int, bytes], numbers: Iterator[int], root: int, info: int, identity: bytes
) -> bytes:
    rows: dict[int, bytes] = {}
    order = sorted(members)
    for start in range(0, len(order), _MEMBERS):
        held = {number: members[number] for number in order[start : start + _MEMBERS]}
        holder = next(numbers)
        streams[holder] = object_stream(holder, held, GOOD)
        for index, number in enumerate(held):
            rows[number] = _ROW.pack(_IN_STREAM, holder, index)
    at = len(HEADER)
    for number, data in streams.items():
        rows[number] = _ROW.pack(_OWN_STREAM, at, 0)
        at += len(data)
    table = next(numbers)
    rows[table] = _ROW.pack(_OWN_STREAM, at, 0)
    free = _ROW.pack(0, 0, 0xFFFF)
    about = b"/Type/XRef/Size %d/Root %d 0 R/Info %d 0 R/ID[<%s><%s>]/W[1 4 2]/Filter/FlateDecode" % (
        table + 1, root, info, identity, identity,
    )  # fmt: skip
    packed = deflate.zlib_compress(b"".join([rows.get(number, free) for number in range(table + 1)]), GOOD)
    end = b"startxref\n%d\n%%%%EOF\n" % at
    return b"".join([HEADER, *streams.values(), stream_object(table, about, packed), end])
