"""Dark modules a little smaller, for a queue whose toner spreads; and the page by which an admin finds out how much.

A document is the same for every printer of a site: it has one digest, and any printer may take it. What a queue needs
is put behind it, at the last moment: the document stays as it is, and an incremental update (ISO 32000-2, 7.5.6) puts
the symbol in finer dots in the place of the one with a dot a module. Positions, texts and the quiet zone do not change.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from printsvc.errors import RenderError
from printsvc.render import fastqr

_Bits = NDArray[np.uint8]

_IMAGE: Final = re.compile(rb"(\d+) 0 obj\s*<<([^>]*(?:>(?!>)[^>]*|<<[^>]*>>[^>]*)*)>>\s*stream\r?\n")
_SIDES: Final = frozenset(17 + 4 * version for version in range(1, 41))
_SIZE_MM: Final = re.compile(r"_(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)(mm|in)$")
_MODULES_MM: Final = (0.25, 0.34, 0.42, 0.5)
_PULL_BACKS: Final = (0, 1, 2)
_TEST_VERSION: Final = 18
_POINTS_PER_MM: Final = 72 / 25.4


def module_dots(module_um: int, dpi: int) -> int | None:
    """Return how many dots a module has on a printer; None where its edges would fall between two dots."""
    dots = module_um * dpi / 25_400
    return round(dots) if dots >= 1 and abs(dots - round(dots)) <= 0.02 * dots else None


def widest_pull_back(dots: int) -> int:
    """Return the most dots that a module of `dots` dots can lose and still read."""
    return dots // 3


def shrink(modules: _Bits, dots: int, pull_back: int) -> _Bits:
    """Return the symbol with `dots` dots a module, 1 for dark; each dark area is `pull_back` dots smaller each way."""
    fine = np.kron(modules, np.ones((dots, dots), np.uint8))
    before = pull_back // 2
    padded = np.pad(fine, ((before, pull_back - before), (before, pull_back - before)))
    height, width = fine.shape
    kept = fine.copy()
    for down in range(pull_back + 1):
        for right in range(pull_back + 1):
            kept &= padded[down : down + height, right : right + width]
    return kept


def pull_back_symbol(pdf: bytes, *, module_um: int, dpi: int, pull_back: int) -> bytes:
    """Return a certificate's PDF whose symbol is `pull_back` dots of `dpi` smaller in each dark area.

    Equal arguments give equal bytes. Raises RenderError where the symbol is not found, or a module is not whole dots.
    """
    if pull_back == 0:
        return pdf
    dots = module_dots(module_um, dpi)
    if dots is None or pull_back > widest_pull_back(dots):
        raise _cannot(f"{pull_back} dots of {dpi} dpi do not fit a module of {module_um} micrometres")
    number, modules = _find_symbol(pdf)
    start, trailer = _trailer(pdf)
    image = _image(shrink(modules, dots, pull_back))
    pieces = [pdf if pdf.endswith(b"\n") else pdf + b"\n"]
    at = len(pieces[0])
    replaced = b"%d 0 obj\n<<%s>>\nstream\n%s\nendstream\nendobj\n" % (number, *image)
    table_at = at + len(replaced)
    size = int(trailer[b"Size"])
    rows = b"".join(b"\1" + place.to_bytes(4) + b"\0\0" for place in (at, table_at))
    info = b"/Info %s" % trailer[b"Info"] if b"Info" in trailer else b""
    table = b"%d 0 obj\n<</Type/XRef/Size %d/Root %s%s/Prev %d/W[1 4 2]/Index[%d 1 %d 1]/Length %d>>\nstream\n%s" % (
        size,
        size + 1,
        trailer[b"Root"],
        info,
        start,
        number,
        size,
        len(rows),
        rows,
    )
    return b"".join([*pieces, replaced, table, b"\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % table_at])


def _find_symbol(pdf: bytes) -> tuple[int, _Bits]:
    """Return the number of the symbol's object, and its modules, 1 for dark."""
    for match in _IMAGE.finditer(pdf):
        entries = match[2]
        width, height = _number(entries, b"Width"), _number(entries, b"Height")
        if b"/Image" not in entries or width != height or width not in _SIDES:
            continue
        data = pdf[match.end() : match.end() + _number(entries, b"Length")]
        try:
            if b"/FlateDecode" in entries:
                data = zlib.decompress(data)
            bits = _number(entries, b"BitsPerComponent")
            row_bytes = (width * bits + 7) // 8
            if b"/Predictor" in entries:
                data = _unfilter(data, row_bytes)
            rows = np.frombuffer(data, np.uint8)[: row_bytes * width].reshape(width, row_bytes)
        except (zlib.error, ValueError) as error:
            raise _cannot("its symbol cannot be read") from error
        light = np.unpackbits(rows, axis=1)[:, :width] if bits == 1 else (rows > 127).astype(np.uint8)
        return int(match[1]), 1 - light
    raise _cannot("it has no symbol")


def _unfilter(data: bytes, row_bytes: int) -> bytes:
    """Undo PNG's row filters (ISO/IEC 15948, 9.2) for one byte a pixel."""
    before = bytearray(row_bytes)
    out = bytearray()
    for start in range(0, len(data) - row_bytes, row_bytes + 1):
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + row_bytes])
        for i in range(row_bytes):
            left = row[i - 1] if i else 0
            up, corner = before[i], before[i - 1] if i else 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            elif kind == 4:
                estimate = left + up - corner
                guess = min((left, up, corner), key=lambda value: abs(estimate - value))
            else:
                guess = 0
            row[i] = (row[i] + guess) & 255
        out += row
        before = row
    return bytes(out)


def _trailer(pdf: bytes) -> tuple[int, dict[bytes, bytes]]:
    tail = re.search(rb"startxref\s+(\d+)\s+%%EOF\s*$", pdf[-64:])
    if tail is None:
        raise _cannot("its end cannot be read")
    start = int(tail[1])
    head = pdf[start : start + 600].partition(b"stream")[0]
    found = {
        name: match[1]
        for name in (b"Size", b"Root", b"Info")
        if (match := re.search(rb"/" + name + rb"\s+(\d+ \d+ R|\d+)", head))
    }
    if b"/XRef" not in head or not {b"Size", b"Root"} <= found.keys():
        raise _cannot("its table cannot be read")
    return start, found


def _number(entries: bytes, name: bytes) -> int:
    match = re.search(rb"/" + name + rb"\s+(\d+)", entries)
    return int(match[1]) if match else -1


def _image(dark: _Bits) -> tuple[bytes, bytes]:
    height, width = dark.shape
    data = zlib.compress(np.packbits(1 - dark, axis=1).tobytes(), 9)
    entries = (
        b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 1/Interpolate false"
        b"/Filter/FlateDecode/Length %d" % (width, height, len(data))
    )
    return entries, data


def _cannot(why: str) -> RenderError:
    return RenderError(
        f"The symbol of this document cannot be drawn smaller: {why}.",
        vi="Không co được mã QR của tài liệu này.",
        retry_after_s=0,
    )


# --- the test page


@dataclass(frozen=True, slots=True)
class ScaleField:
    """One symbol of the test page; `payload` is what a scanner must read."""

    field: str
    module_mm: float
    module_dots: int
    pull_back: int
    payload: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ScalePage:
    pdf: bytes
    fields: tuple[ScaleField, ...]


def media_size_mm(media: str) -> tuple[float, float]:
    """Return width and height of a PWG 5101.1 name. Raises RenderError for what names no size."""
    match = _SIZE_MM.search(media)
    if match is None:
        raise RenderError(f"{media[:64]} is no media size.", vi=f"{media[:64]} không phải khổ giấy.", retry_after_s=0)
    factor = 25.4 if match[3] == "in" else 1.0
    return float(match[1]) * factor, float(match[2]) * factor


def draw_test_page(media: str, *, dpi: int) -> ScalePage:
    """Return a page with rulers and symbols: rows of module sizes, columns of pull-backs 0, 1 and 2 dots of `dpi`.

    Each symbol is as dense as a certificate's. Its labels are numbers and units; nothing on it is anybody's data.
    """
    width_mm, height_mm = media_size_mm(media)
    page = _Page(width_mm, height_mm, dpi)
    margin_mm = min(10.0, width_mm / 12)
    page.text(margin_mm, margin_mm + 3, 9, f"printsvc test page   {dpi} dpi   {media}")
    long_mm = 100 if width_mm - 2 * margin_mm >= 105 else 50
    page.ruler(margin_mm, margin_mm + 8, long_mm, across=True)
    top_mm = margin_mm + 16
    tall_mm = 100 if height_mm - top_mm - margin_mm >= 105 else 20
    page.ruler(width_mm - margin_mm, top_mm, tall_mm, across=False)
    fields = []
    right_mm = width_mm - margin_mm - 8
    all_dots = list(dict.fromkeys(max(2, round(mm * dpi / 25.4)) for mm in _MODULES_MM))
    for letter, dots in zip("ABCDEFGH", reversed(all_dots), strict=False):
        side_mm = (17 + 4 * _TEST_VERSION) * dots * 25.4 / dpi
        quiet_mm = 4 * dots * 25.4 / dpi
        left_mm, row_mm = margin_mm + quiet_mm, 0.0
        for pull_back in (one for one in _PULL_BACKS if one <= widest_pull_back(dots)):
            if left_mm + side_mm > right_mm and row_mm:
                top_mm, left_mm = top_mm + row_mm, margin_mm + quiet_mm
            if left_mm + side_mm > right_mm or top_mm + side_mm + 2 * quiet_mm + 4 > height_mm - margin_mm:
                continue
            name = f"{letter}{pull_back}"
            field = ScaleField(
                name,
                round(dots * 25.4 / dpi, 3),
                dots,
                pull_back,
                _payload(f"TEST {name} {dots}-{pull_back} {dpi}DPI "),
            )
            page.symbol(left_mm, top_mm + quiet_mm + 3, field)
            page.text(left_mm, top_mm + 3, 5.5, f"{name}   {field.module_mm:.3f} mm = {dots}   -{pull_back}")
            fields.append(field)
            row_mm = side_mm + 2 * quiet_mm + 4
            left_mm += side_mm + 2 * quiet_mm
        top_mm += row_mm
    return ScalePage(page.pdf(), tuple(fields))


def _payload(head: str) -> str:
    """Return a text that fills the symbol; what follows the head is as good as random, as a certificate is."""
    wanted = fastqr.alphanumeric_capacity("Q", _TEST_VERSION) - 2
    letters = fastqr.ALPHABET[:36]
    stream = hashlib.shake_256(head.encode()).digest(wanted)
    return (head + "".join(letters[byte % 36] for byte in stream))[:wanted]


class _Page:
    """A page of one font, filled boxes and images; lengths are millimetres from the top left corner."""

    def __init__(self, width_mm: float, height_mm: float, dpi: int) -> None:
        self._size = (width_mm * _POINTS_PER_MM, height_mm * _POINTS_PER_MM)
        self._dpi = dpi
        self._content: list[str] = []
        self._images: list[tuple[bytes, bytes]] = []

    def _snap(self, mm: float) -> float:
        """Return points; whole dots of the printer, so that each edge falls between two."""
        return round(mm * self._dpi / 25.4) * 72 / self._dpi

    def text(self, left_mm: float, base_mm: float, size_pt: float, text: str) -> None:
        x, y = left_mm * _POINTS_PER_MM, self._size[1] - base_mm * _POINTS_PER_MM
        self._content.append(f"BT /F {size_pt} Tf {x:.3f} {y:.3f} Td ({text}) Tj ET")

    def box(self, left_mm: float, top_mm: float, width_mm: float, height_mm: float) -> None:
        x, y, width, height = map(self._snap, (left_mm, top_mm, width_mm, height_mm))
        self._content.append(f"{x:.4f} {self._size[1] - y - height:.4f} {width:.4f} {height:.4f} re f")

    def ruler(self, left_mm: float, top_mm: float, length_mm: int, *, across: bool) -> None:
        """A line with a tick at each 5 and a number at each 10 mm; the ticks' left (upper) edges are the measure."""
        thin = 0.15
        self.box(left_mm, top_mm, length_mm if across else thin, thin if across else length_mm)
        for mm in range(0, length_mm + 1, 5):
            tick = 3.0 if mm % 10 == 0 else 1.8
            if across:
                self.box(left_mm + mm, top_mm, thin, tick)
                if mm % 10 == 0:
                    self.text(left_mm + mm + 0.4, top_mm + 5.2, 6, str(mm))
            else:
                self.box(left_mm - tick, top_mm + mm, tick, thin)
                if mm % 10 == 0:
                    self.text(left_mm - tick - 4.5, top_mm + mm + 0.8, 6, str(mm))

    def symbol(self, left_mm: float, top_mm: float, field: ScaleField) -> None:
        modules = fastqr.draw_modules(field.payload, _TEST_VERSION, "Q", fastqr.FIXED_MASK)
        self._images.append(_image(shrink(modules, field.module_dots, field.pull_back)))
        side = len(modules) * field.module_dots * 72 / self._dpi
        x, y = self._snap(left_mm), self._snap(top_mm)
        self._content.append(
            f"q {side:.4f} 0 0 {side:.4f} {x:.4f} {self._size[1] - y - side:.4f} cm /I{len(self._images)} Do Q"
        )

    def pdf(self) -> bytes:
        content = zlib.compress("\n".join(self._content).encode("latin-1"), 9)
        names = b"".join(b"/I%d %d 0 R" % (n, n + 5) for n in range(1, len(self._images) + 1))
        width, height = self._size
        objects = [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %.3f %.3f]/Contents 4 0 R"
            b"/Resources<</Font<</F 5 0 R>>/XObject<<%s>>>>>>" % (width, height, names),
            b"<</Filter/FlateDecode/Length %d>>\nstream\n%s\nendstream" % (len(content), content),
            b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
            *(b"<<%s>>\nstream\n%s\nendstream" % image for image in self._images),
        ]
        out, places = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
        for number, body in enumerate(objects, 1):
            places.append(len(out))
            out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
        start = len(out)
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
        out += b"".join(b"%010d 00000 n \n" % place for place in places)
        return bytes(out) + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
