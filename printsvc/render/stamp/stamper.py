"""The stamp: a person's data and a compiled form to the bytes of a PDF."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from printsvc.domain.form import PageData, fit_rows
from printsvc.errors import QrCapacityError
from printsvc.render import fastqr
from printsvc.render.stamp.axes import ROW, SIZE, holds, read_axes
from printsvc.render.stamp.compiled import CompiledForm, Size, Slot
from printsvc.render.stamp.layout import Line, lay_out
from printsvc.render.stamp.shape import Typesetter, typesetters
from printsvc.render.stamp.wayout import NeedsWeasyPrint
from printsvc.render.stamp.writer import FileWriter, stream_object

_ALPHANUMERIC: Final = frozenset(fastqr.ALPHABET)
_KEPT_TEXTS: Final = 256  # of each slot
_MCID: Final = re.compile(rb"<</MCID \d+>>")


@dataclass(frozen=True, slots=True)
class _Text:
    """What a slot's text comes to: operators for the content, and the tiers of its face that have it, as bits."""

    operators: bytes
    face: int
    tiers: int


class _SlotSetter:
    """A slot with its fonts opened, and the texts that it was asked for lately."""

    def __init__(
        self, form: CompiledForm, slot: Slot, setters: Mapping[tuple[int, int, str, object], Typesetter]
    ) -> None:
        self.slot = slot
        self.setters = [setters[size.face, size.units, slot.language, slot.features] for size in slot.sizes]
        self._alphabet = frozenset(slot.alphabet)
        self._tiers = [[frozenset(tier) for tier in form.faces[size.face].tiers] for size in slot.sizes]
        self._faces = [size.face for size in slot.sizes]
        self._texts: dict[str, _Text] = {}
        # Whether a row is used is seen at once, and of what is always there nobody has to ask.
        rows = {
            index for index, axis in enumerate(form.axes) if axis.kind == ROW and axis.subject == str(slot.path[-2:][0])
        }
        asks = {
            tuple(part for part in c if len(slot.path) != 3 or part[0] not in rows or part[1] != (0, 2))
            for c in slot.conditions
        }
        self._asks = () if () in asks else tuple(sorted(asks))
        self._opening = b"/Span<</MCID %d>>BDC\n" % slot.mcid

    def is_there(self, values: Sequence[int]) -> bool:
        """Return whether the variant has the slot, if its row is used."""
        return not self._asks or any(holds(condition, values) for condition in self._asks)

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

    def text(self, text: str) -> _Text:
        """Return what to write; kept for the next one with the same text."""
        found = self._texts.get(text)
        if found is None:
            size, lines = self.lines(text)
            operators = [self._opening]
            operators += [
                f"/{size_name} Tf 1 0 0 -1 {number_text(line.x)} {number_text(line.y)} Tm[{line.body}]TJ\n".encode()
                for size_name in [f"{self._name(size)} {size.size}"]
                for line in lines
            ]
            operators.append(b"EMC\n")
            shown = text or self.slot.blank
            tiers = self._tiers[self.slot.sizes.index(size)]
            mask = sum(1 << index for index, tier in enumerate(tiers) if tier.issuperset(shown))
            found = _Text(b"".join(operators), size.face, mask)
            if len(self._texts) >= _KEPT_TEXTS:
                self._texts.clear()
            self._texts[text] = found
        return found

    def _name(self, size: Size) -> str:
        return self._names[size.face]

    _names: Sequence[str] = ()


class Stamper:
    """Stamps certificates of one form. Not for several threads at once: it keeps what it shaped."""

    def __init__(self, form: CompiledForm) -> None:
        self.form = form
        setters = typesetters(form.faces, form.slots)
        self._slots = [_SlotSetter(form, slot, setters) for slot in form.slots]
        for slot_setter in self._slots:
            slot_setter._names = [face.name for face in form.faces]
        self._writer = FileWriter(form)
        self._digest = bytes.fromhex(form.digest)

    def stamp(self, page: PageData) -> bytes:
        """Return the PDF; equal data give equal bytes.

        NeedsWeasyPrint if only WeasyPrint can tell how it looks, or whether it may be drawn at all; QrCapacityError if
        the QR text is too long for the form.
        """
        whole, version, values = self._read(page)
        texts: list[list[bytes]] = [[] for _ in self.form.pages]
        tiers = [-1] * len(self.form.faces)
        for setter, text in self._texts_of(whole, values):
            found = setter.text(text)
            texts[setter.slot.page].append(found.operators)
            tiers[found.face] &= found.tiers
        for face, mask in zip(self.form.faces, tiers, strict=True):
            values[face.axis] = (mask & -mask).bit_length() - 1
        return self._write(values, texts, self.draw_qr(page["qr"], version), version)

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
        if not payload or not _ALPHANUMERIC.issuperset(payload):
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

    def _texts_of(self, page: Mapping[str, Any], values: Sequence[int]) -> list[tuple[_SlotSetter, str]]:
        rows = page["rows"]
        found = []
        for setter in self._slots:
            path = setter.slot.path
            if len(path) == 3:
                row = rows[int(path[1])]
                if row is not None and setter.is_there(values):
                    found.append((setter, row[str(path[2])]))
            else:
                value = page[str(path[0])]
                if type(value) is not str:
                    value = " ".join(value) if isinstance(value, list) else str(value)
                if setter.is_there(values):
                    found.append((setter, value))
        return found

    def _write(self, values: Sequence[int], texts: list[list[bytes]], modules: bytes, version: int) -> bytes:
        form = self.form
        side = 17 + 4 * version
        own = [
            (page.text_number, stream_object(page.text_number, b"", b"".join([page.before, *operators, page.after])))
            for page, operators in zip(form.pages, texts, strict=True)
        ]
        about = (
            b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 1/Interpolate false"
            % (side, side)
        )
        own.append((form.qr.image_number, stream_object(form.qr.image_number, about, modules)))
        identity = hashlib.sha256(b"".join([self._digest, *(data for _, data in own)])).hexdigest()[:32]
        return self._writer.write(values, own, identity.encode())

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
