"""How many sheets a PDF has, by its own words: enough to notice where one is missing, without a PDF library at a site.

Source: ISO 32000-1, 7.5.7 (object streams) and 7.7.3.2 (page tree).
"""

from __future__ import annotations

import re
import zlib

_OBJECT_STREAM = re.compile(rb"<<(?:[^<>]|<<[^<>]*>>)*/Type\s*/ObjStm\b(?:[^<>]|<<[^<>]*>>)*>>\s*stream\r?\n")
_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_COUNT = re.compile(rb"/Count\s+(\d{1,6})\b")
_LARGEST = 1 << 22  # of an object stream, decompressed


def count_sheets(document: bytes) -> int:
    """Return how many pages the PDF has; 0 where that cannot be told for certain."""
    if not document.startswith(b"%PDF-"):
        return 0
    objects = [document]
    for stream in _OBJECT_STREAM.finditer(document):
        try:
            objects.append(zlib.decompressobj().decompress(document[stream.end() :], _LARGEST))
        except zlib.error:
            return 0
    pages = sum(len(_PAGE.findall(part)) for part in objects)
    counts = [int(count[1]) for part in objects for count in _COUNT.finditer(part)]
    # The root of the page tree counts them all; outlines have counts too, and an update may hold a page twice.
    return pages if pages in counts else 0
