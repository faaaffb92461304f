"""The QR texts in what somebody hands over: a picture, a PDF, or the text itself.

Everything here comes from outside, so each step has a limit that is checked before memory is spent: bytes, pixels,
pages. The call is slow (up to seconds) and holds a thread: call it off the event loop.
"""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, NoReturn

import pypdfium2
import pypdfium2.raw
import zxingcpp
from PIL import Image

from printsvc.errors import ScanError
from printsvc.render.filekind import is_pdf
from printsvc.render.legible import hidden_characters

MAX_BYTES: Final = 20_000_000
MAX_PIXELS: Final = 50_000_000
MAX_PAGES: Final = 20
MAX_LETTERS: Final = 100_000
MAX_RUNS: Final = 5_000
# An HCERT fills at most one QR of version 40 in alphanumeric mode.
_MAX_TEXT: Final = 4_296
_PREFIX: Final = b"HC1:"
_HIDDEN: Final = "\N{REPLACEMENT CHARACTER}"
_POINTS_PER_INCH: Final = 72
_PDF_DPI: Final = (300, 200, 450)
_PICTURE_SCALES: Final = (1.0, 2.0, 0.5)
# PDFium is not safe to call from two threads.
_pdfium_lock = threading.Lock()


def read_codes(data: bytes) -> list[str]:
    """Return the texts of all QR codes in a PNG, JPEG or PDF, or the text itself if it begins with `HC1:`.

    Each text stands once, in the order found; at least one. ScanError says in both languages why there is none: not a
    picture (`not_readable`), too large (`too_large`), or a picture without a code (`no_code`).
    """
    if len(data) <= MAX_BYTES and data.lstrip()[:4].upper() == _PREFIX:
        return [_text_code(data)]
    return [code for code in scan_codes(data) if isinstance(code, str)] or _no_code()


def scan_codes(data: bytes) -> list[str | bytes]:
    """Return the contents of all QR codes in a PNG, JPEG or PDF: text, or bytes where a code holds no text.

    Raises ScanError as `read_codes` does.
    """
    if len(data) > MAX_BYTES:
        raise _too_large()
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        found = _codes_of_picture(data)
    elif is_pdf(data):
        with _pdfium_lock:
            found = _codes_of_pdf(data)
    else:
        raise _not_readable()
    return found or _no_code()


@dataclass(frozen=True, slots=True)
class PrintedWord:
    """A run of text as it stands on a page; edges in points from the page's bottom left corner."""

    text: str
    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True, slots=True)
class PrintedPage:
    """The text that can be read on a page, in the file's order, and where its runs stand.

    U+FFFD stands for each character of the file that nobody can see: covered, too small, without ink.
    """

    text: str
    width_pt: float
    height_pt: float
    words: tuple[PrintedWord, ...] = ()


def read_text(data: bytes) -> list[PrintedPage]:
    """Return the text layer of a PDF, at most MAX_RUNS runs of it. Raises ScanError for what is no PDF, or too long."""
    try:
        with _pdfium_lock, pypdfium2.PdfDocument(data) as document:
            if len(data) > MAX_BYTES or len(document) > MAX_PAGES:
                raise _too_large()
            return [_text_of(document[number]) for number in range(len(document))]
    except pypdfium2.PdfiumError as error:
        raise _unreadable_pdf(error) from error


def _text_of(page: Any) -> PrintedPage:
    width_pt, height_pt = page.get_size()
    layer = page.get_textpage()
    try:
        text = layer.get_text_range() if layer.count_chars() <= MAX_LETTERS else ""
        words = []
        for number in range(min(layer.count_rects(), MAX_RUNS) if text else 0):
            left, bottom, right, top = layer.get_rect(number)
            words.append(
                PrintedWord(layer.get_text_bounded(left, bottom, right, top).strip(), left, bottom, right, top)
            )
        hidden = hidden_characters(page, layer) if text else set()
        if hidden:
            text, words = _legible(layer, hidden, words)
        return PrintedPage(text, width_pt, height_pt, tuple(words))
    finally:
        layer.close()
        page.close()


def _legible(layer: Any, hidden: set[int], words: list[PrintedWord]) -> tuple[str, list[PrintedWord]]:
    """Return the text with what is hidden marked, and the runs that hold nothing of it."""
    codes = [pypdfium2.raw.FPDFText_GetUnicode(layer, number) for number in range(layer.count_chars())]
    marked = [_HIDDEN if number in hidden else chr(code) for number, code in enumerate(codes)]
    if not any(one.isalnum() for one in marked):
        return "", []
    middles = [
        ((left + right) / 2, (bottom + top) / 2) for left, bottom, right, top in map(layer.get_charbox, sorted(hidden))
    ]
    seen = [
        word
        for word in words
        if not any(word.left <= x <= word.right and word.bottom <= y <= word.top for x, y in middles)
    ]
    return "".join(marked), seen


def _no_code() -> NoReturn:
    raise ScanError(
        en="No QR code was found. Take the picture closer, in good light, with the whole code in it.",
        vi="Không tìm thấy mã QR. Hãy chụp gần hơn, đủ sáng và lấy trọn mã.",
        code="no_code",
    )


def _text_code(data: bytes) -> str:
    text = data.strip()
    if len(text) > _MAX_TEXT:
        raise _too_large()
    try:
        return text.decode("ascii")
    except UnicodeDecodeError as error:
        raise _not_readable() from error


def _codes_of_picture(data: bytes) -> list[str | bytes]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise _too_large()
            greys = _greys(picture)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise _not_readable() from error
    for grey, scale in product(greys, _PICTURE_SCALES):
        width, height = round(grey.width * scale), round(grey.height * scale)
        if min(width, height) < 1 or width * height > MAX_PIXELS:
            continue
        if found := _decode(grey if scale == 1 else grey.resize((width, height), Image.Resampling.BICUBIC)):
            return found
    return []


def _greys(picture: Image.Image) -> list[Image.Image]:
    """Return the picture in grey; what is transparent becomes paper, and for codes in white, black."""
    if picture.mode.startswith("I;16"):  # of 16 bits Pillow would make white of all but the darkest 1/256
        return [picture.point(lambda value: value / 257).convert("L")]
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return [picture.convert("L")]
    rgba = picture.convert("RGBA")
    greys = []
    for colour in ("white", "black"):
        ground = Image.new("RGBA", rgba.size, colour)
        ground.alpha_composite(rgba)
        greys.append(ground.convert("L"))
    return greys


def _codes_of_pdf(data: bytes) -> list[str | bytes]:
    try:
        with pypdfium2.PdfDocument(data) as document:
            if len(document) > MAX_PAGES:
                raise _too_large()
            found: dict[str | bytes, None] = {}
            for number in range(len(document)):
                page = document[number]
                try:
                    found |= dict.fromkeys(_codes_of_page(page))
                finally:
                    page.close()
            return list(found)
    except pypdfium2.PdfiumError as error:
        raise _unreadable_pdf(error) from error


def _codes_of_page(page: Any) -> list[str | bytes]:
    for grey in _rasters(page):
        if found := _decode(grey):
            return found
    return []


def _rasters(page: Any) -> Iterator[Image.Image]:
    """The page at each resolution that stays under the limit; ScanError if not even one does."""
    width_pt, height_pt = page.get_size()
    small_enough = [dpi for dpi in _PDF_DPI if 0 < width_pt * height_pt * (dpi / _POINTS_PER_INCH) ** 2 <= MAX_PIXELS]
    if not small_enough:
        raise _too_large()
    for dpi in small_enough:
        bitmap = page.render(scale=dpi / _POINTS_PER_INCH, grayscale=True, may_draw_forms=False)
        try:
            yield bitmap.to_pil().convert("L")
        finally:
            bitmap.close()


def _decode(grey: Image.Image) -> list[str | bytes]:
    results = zxingcpp.read_barcodes(grey, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode))
    return list(dict.fromkeys(_content(result) for result in results if result.valid and result.bytes))


def _content(result: Any) -> str | bytes:
    raw: bytes = result.bytes
    try:
        # A ZIP may happen to be UTF-8; its readers take bytes all the same.
        return raw if raw.startswith(b"PK\x03\x04") else raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _not_readable() -> ScanError:
    return ScanError(
        en="This is neither a picture (PNG, JPEG), nor a PDF, nor the text of a certificate's code.",
        vi="Đây không phải ảnh (PNG, JPEG), tệp PDF hay nội dung mã chứng nhận.",
        code="not_readable",
    )


def _unreadable_pdf(error: pypdfium2.PdfiumError) -> ScanError:
    if getattr(error, "err_code", None) != pypdfium2.raw.FPDF_ERR_PASSWORD:
        return ScanError(
            en="The PDF cannot be opened: it is damaged or cut short. Fetch the file again, or photograph its code.",
            vi="Không mở được tệp PDF: tệp bị hỏng hoặc bị cắt cụt. Hãy tải lại tệp, hoặc chụp ảnh mã.",
            code="not_readable",
        )
    return ScanError(
        en="The PDF is locked with a password: save it without one.",
        vi="Tệp PDF có mật khẩu: hãy lưu lại không có mật khẩu.",
        code="locked",
    )


def _too_large() -> ScanError:
    return ScanError(
        en="The file is too large to be read: at most 20 MB, 50 megapixels, 20 pages.",
        vi="Tệp quá lớn để đọc: tối đa 20 MB, 50 triệu điểm ảnh, 20 trang.",
        code="too_large",
    )
