"""The stamp: a person's data and a compiled form to the bytes of a PDF."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import or_
from typing import Any, Final, NamedTuple, cast

from printsvc.domain.form import PageData, fit_rows
from printsvc.errors import QrCapacityError
from printsvc.render import fastqr
from printsvc.render.stamp.axes import SIZE, holds, read_axes
from printsvc.render.stamp.compiled import CompiledForm, Size, Slot
from printsvc.render.stamp.layout import CLOSE, Line, lay_out, place_line, widest
from printsvc.render.stamp.printfile import Paper, PrintFileWriter
from printsvc.render.stamp.shape import Typesetter, typesetters
from printsvc.render.stamp.wayout import NeedsWeasyPrint
from printsvc.render.stamp.writer import KEPT_VARIANTS, FileWriter

_ALPHANUMERIC: Final = fastqr.ALPHABET.encode()
_KEPT_TEXTS: Final = 256  # of each slot
_TEXTS: Final = {str, type(None)}
_MCID: Final = re.compile(rb"<</MCID \d+>>")


class _Text(NamedTuple):
    """What a slot's text comes to: operators for the content, and the glyphs that it shows of a font program."""

    operators: bytes
    program: int
    glyphs: int


_NOTHING: Final = _Text(b"", 0, 0)


class _Sheet(NamedTuple):
    """A page that was read: its data, its variant, its QR."""

    whole: Mapping[str, Any]
    values: Sequence[int]
    payload: str
    version: int


class _Filled(NamedTuple):
    """A page whose texts are laid out: the contents of its pages, and the glyphs shown of each font program."""

    values: Sequence[int]
    contents: Sequence[bytes]
    glyphs: Sequence[int]
    payload: str
    version: int


class _Quick(NamedTuple):
    """How a text is set in one line at one size: `head` up to the place, or with it where that is always the same.

    `widest` is how wide it may be, in 1/1024 px, that surely fits.
    """

    size: Size
    head: str
    set_line: Callable[[str], tuple[str, int, int]]
    widest: int
    program: int


class _SlotSetter:
    """A slot with its fonts opened, and the texts it was asked for lately; with the tags of a reader or without."""

    def __init__(
        self,
        form: CompiledForm,
        slot: Slot,
        setters: Mapping[tuple[int, int, str, object], Typesetter],
        *,
        tagged: bool,
    ) -> None:
        self.slot = slot
        self.page = slot.page
        self.setters = [setters[size.face, size.units, slot.language, slot.features] for size in slot.sizes]
        self.programs = {form.faces[size.face].program for size in slot.sizes}
        self.texts: dict[str, _Text] = {}
        self._alphabet = frozenset(slot.alphabet)
        self._faces = form.faces
        self._numbers = {length: number_text(length) for size in slot.sizes for length in (size.left, size.baseline)}
        self._opening, self._closing = (f"/Span<</MCID {slot.mcid}>>BDC\n", "EMC\n") if tagged else ("", "")
        self._quick: list[_Quick] | None = None

    def is_there(self, values: Sequence[int]) -> bool:
        """Return whether the variant has the slot."""
        return any(holds(condition, values) for condition in self.slot.conditions)

    def lines(self, text: str) -> tuple[Size, list[Line]]:
        """Return how the text stands in the slot; NeedsWeasyPrint if it cannot be told."""
        slot = self.slot
        text = self._checked(text)
        if not text:
            return slot.sizes[0], []
        try:
            return lay_out(slot, text, self.setters)
        except NeedsWeasyPrint as why:
            raise why if why.slot else NeedsWeasyPrint(why.reason, slot.name) from why

    def _checked(self, text: str) -> str:
        """What is to be set for the text."""
        slot = self.slot
        if not text:
            if slot.required:
                raise NeedsWeasyPrint("missing", slot.name)
            text = slot.blank
        elif not self._alphabet.issuperset(text):
            raise NeedsWeasyPrint("glyph", slot.name)
        if text[:1] == " " or text[-1:] == " " or "  " in text:
            raise NeedsWeasyPrint("spaces", slot.name)
        return text

    def set_all(self, texts: Sequence[str | None], failed: dict[int, NeedsWeasyPrint]) -> list[_Text]:
        """Return what to write for each text, nothing for None; `failed` learns, by its place, which could not be set.

        Of one page the first reason counts.
        """
        kept = self.texts
        drawn: list[_Text | None] = [kept.get(text) for text in texts]  # type: ignore[arg-type]
        for place, found in enumerate(drawn):
            if found is None:
                drawn[place] = _NOTHING
                text = texts[place]
                if text is not None:
                    try:
                        drawn[place] = kept.get(text) or self._set(text)
                    except NeedsWeasyPrint as why:
                        failed.setdefault(place, why)
        return cast(list[_Text], drawn)

    def _prepare(self) -> list[_Quick]:
        """What does not depend on the text, for each size that is tried, up to the first of several lines."""
        quick = []
        for size, setter in zip(self.slot.sizes, self.setters, strict=True):
            if not size.lines:
                break
            face = self._faces[size.face]
            plain = setter.plain("".join(sorted({*self.slot.alphabet, *self.slot.blank})))
            head = f"{self._opening}/{face.name} {size.size} Tf 1 0 0 -1 "
            if not self.slot.align:
                head += f"{number_text(size.left)} {number_text(size.baseline)} Tm["
            quick.append(_Quick(size, head, (plain or setter).set_line, widest(size), face.program))
            if size.lines > 1:
                break
        return quick

    def _set(self, text: str) -> _Text:
        if checked := self._checked(text):
            if self._quick is None:
                self._quick = self._prepare()
            for size, head, set_line, most, program in self._quick:
                try:
                    body, width, glyphs = set_line(checked)
                except NeedsWeasyPrint as why:
                    raise NeedsWeasyPrint(why.reason, self.slot.name) from why
                if width <= most:
                    if self.slot.align:
                        line = place_line(self.slot, size, 0, checked, body, width)
                        head += f"{number_text(line.x)} {self._numbers[line.y]} Tm["
                    return self._keep(text, f"{head}{body}]TJ\n{self._closing}", program, glyphs)
                if width < most + CLOSE:  # perhaps it fits, perhaps not
                    break
        size, lines = self.lines(text)
        face = self._faces[size.face]
        glyphs = 0
        operators = self._opening
        for line in lines:
            glyphs |= line.glyphs
            x, y = self._numbers.get(line.x) or number_text(line.x), self._numbers.get(line.y) or number_text(line.y)
            operators += f"/{face.name} {size.size} Tf 1 0 0 -1 {x} {y} Tm[{line.body}]TJ\n"
        return self._keep(text, operators + self._closing, face.program, glyphs)

    def _keep(self, text: str, operators: str, program: int, glyphs: int) -> _Text:
        if len(self.texts) >= _KEPT_TEXTS:
            self.texts.clear()
        found = self.texts[text] = _Text(operators.encode("latin-1"), program, glyphs)
        return found


class _SlotTable:
    """The slots of a form, and which of them each variant has."""

    def __init__(self, slots: Sequence[_SlotSetter]) -> None:
        self.slots = slots
        self._there: dict[tuple[int, ...], list[tuple[_SlotSetter, int, str]]] = {}

    def of(self, values: Sequence[int]) -> list[tuple[_SlotSetter, int, str]]:
        """The slots that the variant has; for each, where its text is: the row, -1 for none, and the field."""
        key = tuple(values)
        there = self._there.get(key)
        if there is None:
            if len(self._there) >= KEPT_VARIANTS:
                self._there.clear()
            there = self._there[key] = [
                (setter, int(path[1]) if len(path) == 3 else -1, str(path[-1] if len(path) == 3 else path[0]))
                for setter in self.slots
                for path in [setter.slot.path]
                if setter.is_there(values)
            ]
        return there


class Stamper:
    """Stamps certificates of one form. Not for several threads at once: it keeps what it shaped."""

    def __init__(self, form: CompiledForm) -> None:
        self.form = form
        self._writer = FileWriter(form)
        self._print_files: PrintFileWriter | None = None
        setters = typesetters(form.faces, form.slots, self._writer.fonts)
        self._slots = _SlotTable([_SlotSetter(form, slot, setters, tagged=True) for slot in form.slots])
        self._untagged = _SlotTable([_SlotSetter(form, slot, setters, tagged=False) for slot in form.slots])
        self._digest = bytes.fromhex(form.digest)

    @property
    def slots(self) -> Sequence[_SlotSetter]:
        return self._slots.slots

    def stamp(self, page: PageData) -> bytes:
        """Return the PDF; equal data give equal bytes.

        NeedsWeasyPrint if only WeasyPrint can tell how it looks, or whether it may be drawn at all; QrCapacityError if
        the QR text is too long for the form.
        """
        (stamped,) = self.stamp_all([page])
        if isinstance(stamped, Exception):
            raise stamped
        return stamped

    def stamp_all(self, pages: Sequence[PageData]) -> list[bytes | NeedsWeasyPrint | QrCapacityError]:
        """Return the PDF of each page, or the error that `stamp` raises for it.

        The bytes are the same as one by one. Many take less time each: every step is done for all before the next, so
        that its code and tables are at hand, and codes and fonts are made many at once.
        """
        filled = self._fill_pages(pages, self._slots)
        sheets = [sheet for sheet in filled if isinstance(sheet, _Filled)]
        symbols = iter(self.draw_qrs([(sheet.payload, sheet.version) for sheet in sheets]))
        fonts = [font.streams(sheet.glyphs[index] for sheet in sheets) for index, font in enumerate(self._writer.fonts)]
        return [
            self._write(sheet, next(symbols), [made[shown] for made, shown in zip(fonts, sheet.glyphs, strict=True)])
            if isinstance(sheet, _Filled)
            else sheet
            for sheet in filled
        ]

    def papers(self, pages: Sequence[PageData]) -> list[Paper | NeedsWeasyPrint | QrCapacityError]:
        """Return each page laid out for `print_file`, or the error that `stamp` raises for it."""
        filled = self._fill_pages(pages, self._untagged)
        sheets = [sheet for sheet in filled if isinstance(sheet, _Filled)]
        symbols = iter(self.draw_qrs([(sheet.payload, sheet.version) for sheet in sheets]))
        return [
            Paper(sheet.values, sheet.contents, sheet.glyphs, next(symbols), 17 + 4 * sheet.version)
            if isinstance(sheet, _Filled)
            else sheet
            for sheet in filled
        ]

    def print_file(self, papers: Sequence[Paper]) -> bytes:
        """Return one PDF with the pages of all papers, to be printed: see printfile.py."""
        if self._print_files is None:
            self._print_files = PrintFileWriter(self.form, self._writer)
        return self._print_files.write(papers)

    def _fill_pages(
        self, pages: Sequence[PageData], slots: _SlotTable
    ) -> list[_Filled | NeedsWeasyPrint | QrCapacityError]:
        of_place: dict[int, _Filled | NeedsWeasyPrint | QrCapacityError] = {}
        of_variant: dict[tuple[int, ...], list[tuple[int, _Sheet]]] = {}
        for place, page in enumerate(pages):
            try:
                sheet = self._open(page)
            except (NeedsWeasyPrint, QrCapacityError) as why:
                of_place[place] = why
            else:
                of_variant.setdefault(tuple(sheet.values), []).append((place, sheet))
        for members in of_variant.values():
            for (place, _), one in zip(members, self._fill_all([sheet for _, sheet in members], slots), strict=True):
                of_place[place] = one
        return [of_place[place] for place in range(len(pages))]

    def _open(self, page: PageData) -> _Sheet:
        whole, version, values = self._read(page)
        return _Sheet(whole, values, page["qr"], version)

    def _fill_all(self, sheets: Sequence[_Sheet], slots: _SlotTable) -> Iterator[_Filled | NeedsWeasyPrint]:
        """Lay out pages of one variant, slot by slot: columns, which the interpreter's own loops go through."""
        values = sheets[0].values
        wholes = [sheet.whole for sheet in sheets]
        failed: dict[int, NeedsWeasyPrint] = {}
        of_page: list[list[list[bytes]]] = [[] for _ in self.form.pages]
        glyphs = [[shown] * len(sheets) for shown in self._writer.glyphs(values)]
        for setter, row, field in slots.of(values):
            texts = _texts_of(wholes, row, field)
            if texts.count(None) == len(texts):
                continue
            drawn = setter.set_all(texts, failed)
            of_page[setter.page].append([one.operators for one in drawn])
            for program in setter.programs:
                shown = [one.glyphs if one.program == program else 0 for one in drawn]
                glyphs[program] = [*map(or_, glyphs[program], shown)]
        contents = [
            [page.before + b"".join(texts) + page.after for texts in zip(*columns, strict=True)]
            if columns
            else [page.before + page.after] * len(sheets)
            for page, columns in zip(self.form.pages, of_page, strict=True)
        ]
        filled = zip(sheets, zip(*contents, strict=True), zip(*glyphs, strict=True), strict=True)
        for place, (sheet, texts_of_pages, shown_of_programs) in enumerate(filled):
            yield failed.get(place) or _Filled(values, texts_of_pages, shown_of_programs, sheet.payload, sheet.version)

    def _write(self, sheet: _Filled, modules: bytes, fonts: Sequence[bytes]) -> bytes:
        identity = hashlib.sha256(b"".join([self._digest, modules, *sheet.contents])).hexdigest()[:32]
        side = 17 + 4 * sheet.version
        return self._writer.write(sheet.values, sheet.contents, modules, side, fonts, identity.encode())

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

    def draw_qrs(self, symbols: Sequence[tuple[str, int]]) -> list[bytes]:
        """Return the rows of each symbol, a payload and a version, as bits, 1 for light."""
        of_version: dict[int, list[int]] = {}
        for place, (_, version) in enumerate(symbols):
            of_version.setdefault(version, []).append(place)
        drawn = [b""] * len(symbols)
        for version, places in of_version.items():
            payloads = [symbols[place][0] for place in places]
            rows = fastqr.draw_rows(payloads, version, self.form.qr.level, fastqr.FIXED_MASK)
            for place, packed in zip(places, rows, strict=True):
                drawn[place] = packed
        return drawn

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
        for setter, row, field in self._slots.of(values):
            (text,) = _texts_of([page], row, field)
            if text is not None:
                yield setter, text

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


def _texts_of(pages: Sequence[Mapping[str, Any]], row: int, field: str) -> list[str | None]:
    """The texts of a field, None where the row is not used."""
    if row < 0:
        found = [page[field] for page in pages]
    else:
        found = [None if (cells := page["rows"][row]) is None else cells[field] for page in pages]
    return found if {*map(type, found)} <= _TEXTS else [*map(_as_text, found)]


def _as_text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    return " ".join(value) if isinstance(value, list) else str(value)


def number_text(value: float) -> str:
    """A length as pydyf writes it."""
    return str(int(value)) if value.is_integer() else f"{value:f}".rstrip("0")
