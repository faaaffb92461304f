"""The stamp: a person's data and a compiled form to the bytes of a PDF."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from printsvc.domain.form import PageData, fit_rows
from printsvc.errors import QrCapacityError
from printsvc.render import fastqr
from printsvc.render.stamp.axes import SIZE, holds, read_axes
from printsvc.render.stamp.compiled import CompiledForm, Size, Slot
from printsvc.render.stamp.layout import Line, lay_out
from printsvc.render.stamp.shape import Typesetter, typesetters
from printsvc.render.stamp.wayout import NeedsWeasyPrint
from printsvc.render.stamp.writer import KEPT_VARIANTS, FileWriter

_ALPHANUMERIC: Final = fastqr.ALPHABET.encode()
_KEPT_TEXTS: Final = 256  # of each slot
_MCID: Final = re.compile(rb"<</MCID \d+>>")


class _Text(NamedTuple):
    """What a slot's text comes to: operators for the content, and the glyphs that it shows of a font program."""

    operators: bytes
    program: int
    glyphs: int


class _SlotSetter:
    """A slot with its fonts opened, and the texts that it was asked for lately."""

    def __init__(
        self, form: CompiledForm, slot: Slot, setters: Mapping[tuple[int, int, str, object], Typesetter]
    ) -> None:
        self.slot = slot
        self.page = slot.page
        self.setters = [setters[size.face, size.units, slot.language, slot.features] for size in slot.sizes]
        self.texts: dict[str, _Text] = {}
        self._alphabet = frozenset(slot.alphabet)
        self._faces = form.faces
        self._heights: dict[float, str] = {}
        self._opening = f"/Span<</MCID {slot.mcid}>>BDC\n"

    def is_there(self, values: Sequence[int]) -> bool:
        """Return whether the variant has the slot."""
        return any(holds(condition, values) for condition in self.slot.conditions)

    def lines(self, text: str) -> tuple[Size, list[Line]]:
        """Return how the text stands in the slot; NeedsWeasyPrint if it cannot be told."""
        slot = self.slot
        if not text:
            if slot.required:
                raise NeedsWeasyPrint("missing", slot.name)
            text = slot.blank
            if not text:
                return slot.sizes[0], []
        elif not self._alphabet.issuperset(text):
            raise NeedsWeasyPrint("glyph", slot.name)
        if text[0] == " " or text[-1] == " " or "  " in text:
            raise NeedsWeasyPrint("spaces", slot.name)
        try:
            return lay_out(slot, text, self.setters)
        except NeedsWeasyPrint as why:
            raise why if why.slot else NeedsWeasyPrint(why.reason, slot.name) from why

    def set(self, text: str) -> _Text:
        """Return what to write; kept for the next one with the same text."""
        size, lines = self.lines(text)
        face = self._faces[size.face]
        glyphs = 0
        operators = self._opening
        for line in lines:
            glyphs |= line.glyphs
            y = self._heights.get(line.y)
            if y is None:
                y = self._heights[line.y] = number_text(line.y)
            operators += f"/{face.name} {size.size} Tf 1 0 0 -1 {number_text(line.x)} {y} Tm[{line.body}]TJ\n"
        if len(self.texts) >= _KEPT_TEXTS:
            self.texts.clear()
        found = self.texts[text] = _Text((operators + "EMC\n").encode("latin-1"), face.program, glyphs)
        return found


class Stamper:
    """Stamps certificates of one form. Not for several threads at once: it keeps what it shaped."""

    def __init__(self, form: CompiledForm) -> None:
        self.form = form
        self._writer = FileWriter(form)
        setters = typesetters(form.faces, form.slots, self._writer.fonts)
        self._slots = [_SlotSetter(form, slot, setters) for slot in form.slots]
        self._there: dict[tuple[int, ...], list[tuple[_SlotSetter, int, str]]] = {}
        self._digest = bytes.fromhex(form.digest)

    def stamp(self, page: PageData) -> bytes:
        """Return the PDF; equal data give equal bytes.

        NeedsWeasyPrint if only WeasyPrint can tell how it looks, or whether it may be drawn at all; QrCapacityError if
        the QR text is too long for the form.
        """
        whole, version, values = self._read(page)
        contents = [[compiled.before] for compiled in self.form.pages]
        glyphs = self._writer.glyphs(values)
        for setter, text in self._texts_of(whole, values):
            drawn, program, shown = setter.texts.get(text) or setter.set(text)
            contents[setter.page].append(drawn)
            glyphs[program] |= shown
        for compiled, operators in zip(self.form.pages, contents, strict=True):
            operators.append(compiled.after)
        streams = [b"".join(operators) for operators in contents]
        modules = self.draw_qr(page["qr"], version)
        identity = hashlib.sha256(b"".join([self._digest, modules, *streams])).hexdigest()[:32]
        return self._writer.write(values, streams, modules, 17 + 4 * version, glyphs, identity.encode())

    def content(self, page: PageData) -> list[bytes]:
        """Return each page's content stream as WeasyPrint writes it, byte by byte: what tests compare.

        The drawing is that of `stamp`, in WeasyPrint's order and with its wordiness.
        """
        whole, _, values = self._read(page)
        texts = {setter.slot.name: (setter, setter.lines(text)) for setter, text in self._texts_of(whole, values)}
        for index, axis in enumerate(self.form.axes):
            if axis.kind == SIZE and axis.subject in texts:
                setter, (size, _) = texts[axis.subject]
                values[index] = setter.slot.sizes.index(size)
        streams = []
        for compiled_page in self.form.pages:
            out = []
            for piece in compiled_page.pieces:
                if not holds(piece.condition, values):
                    continue
                if piece.slot < 0:
                    out.append(piece.static)
                else:
                    setter, (size, lines) = texts[self.form.slots[piece.slot].name]
                    out.append(self._as_weasyprint(setter, size, lines, piece.static))
            numbers = iter(range(1_000_000))
            streams.append(_MCID.sub(lambda _, n=numbers: b"<</MCID %d>>" % next(n), b"".join(out)))  # type: ignore[misc]
        return streams

    def fit(self, page: PageData) -> dict[str, int]:
        """Return the index of the size that each slot gets."""
        whole, _, values = self._read(page)
        return {
            setter.slot.name.partition("~")[0]: setter.slot.sizes.index(setter.lines(text)[0])
            for setter, text in self._texts_of(whole, values)
        }

    def draw_qr(self, payload: str, version: int) -> bytes:
        """Return the symbol's rows as bits, 1 for light."""
        mask = fastqr.FIXED_MASK
        return fastqr.pack_rows(fastqr.draw_modules(payload, version, self.form.qr.level, mask))

    def _read(self, page: PageData) -> tuple[Mapping[str, Any], int, list[int]]:
        form = self.form
        whole = cast(Mapping[str, Any], fit_rows(page, form.doses))
        if len(whole["rows"]) != form.doses:
            raise NeedsWeasyPrint("rows")
        if whole["more_rows"]:
            raise NeedsWeasyPrint("continuation")
        version = self._version(whole["qr"])
        try:
            return whole, version, read_axes(form.axes, whole, version)
        except ValueError as error:
            raise NeedsWeasyPrint("variant") from error

    def _version(self, payload: str) -> int:
        rules = self.form.qr
        if not payload or not payload.isascii() or payload.encode().translate(None, _ALPHANUMERIC):
            raise QrCapacityError(
                en="The QR text must be of characters of the alphanumeric mode.",
                vi="Nội dung mã QR chỉ được gồm các ký tự của chế độ chữ và số.",
                code="qr_alphabet",
            )
        version = fastqr.find_version(len(payload), rules.level, rules.min_version, rules.max_version)
        if version is None:
            raise QrCapacityError(
                en=f"The QR text of {len(payload)} characters does not fit the form's largest symbol.",
                vi=f"Nội dung mã QR dài {len(payload)} ký tự, vượt quá mã lớn nhất của biểu mẫu.",
            )
        if version < fastqr.FIXED_MASK_FROM:
            raise NeedsWeasyPrint("small_qr")
        return version

    def _texts_of(self, page: Mapping[str, Any], values: Sequence[int]) -> Iterator[tuple[_SlotSetter, str]]:
        key = tuple(values)
        there = self._there.get(key)
        if there is None:
            if len(self._there) >= KEPT_VARIANTS:
                self._there.clear()
            there = self._there[key] = [
                (setter, int(path[1]) if len(path) == 3 else -1, str(path[-1] if len(path) == 3 else path[0]))
                for setter in self._slots
                for path in [setter.slot.path]
                if setter.is_there(values)
            ]
        rows = page["rows"]
        for setter, row, field in there:
            if row >= 0 and rows[row] is None:
                continue
            value = page[field] if row < 0 else rows[row][field]
            if type(value) is not str:
                value = " ".join(value) if isinstance(value, list) else str(value)
            yield setter, value

    def _as_weasyprint(self, setter: _SlotSetter, size: Size, lines: list[Line], head: bytes) -> bytes:
        typesetter = setter.setters[setter.slot.sizes.index(size)]
        out = []
        for number, line in enumerate(lines):
            body, _ = typesetter.set_exactly(line.text)
            out.append(
                b"/Span\n<</MCID 0>>\nBDC\n%sBT\n1 0 0 -1 %s %s Tm\n/%s %s Tf\n[%s] TJ\nET\nEMC\n"
                % (b"" if number else head, number_text(line.x).encode(), number_text(line.y).encode(),
                   self.form.faces[size.face].name.encode(), size.size.encode(), body.encode())
            )  # fmt: skip
        return b"".join(out)


def number_text(value: float) -> str:
    """A length as pydyf writes it."""
    return str(int(value)) if value.is_integer() else f"{value:f}".rstrip("0")
