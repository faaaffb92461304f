"""What a paper says to those who search it, copy from it or have it read to them."""

from __future__ import annotations

import re
import unicodedata

import pypdfium2


def texts_of(pdf: bytes) -> list[str]:
    """Return the text of each page, NFC, any white space as one space."""
    with pypdfium2.PdfDocument(pdf) as document:
        found = [page.get_textpage().get_text_range() for page in document]
    # PDFium takes a hyphen at the end of a line for one of hyphenation, and says so by U+FFFE.
    return [unicodedata.normalize("NFC", re.sub(r"\s+", " ", text.replace("\ufffe", "-"))) for text in found]


def text_of(pdf: bytes) -> str:
    """Return the text of the only page. Raises ValueError where there are more."""
    (text,) = texts_of(pdf)
    return text


def solid(text: str) -> str:
    """Return the text without white space: whatever breaks its lines, it is the same."""
    return re.sub(r"\s", "", text)
