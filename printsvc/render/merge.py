"""Many papers in one PDF to be printed: what pages have in common (fonts, the form's own drawing) is in it once.

The tags are left out: they describe a document to a reader, and this one is for a printer. The papers themselves stay
as they are, and their pages look the same here.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from typing import Any

from printsvc.errors import RenderError


def merge_papers(papers: Iterable[bytes]) -> bytes:
    """Return one PDF with the pages of all, in their order; equal papers give equal bytes.

    RenderError where the library for it is not installed or a paper is no PDF.
    """
    try:
        import pikepdf
    except ImportError as error:
        raise RenderError("Merging needs the extra `merge`.", vi="Cần cài thêm gói `merge` để gộp tệp.") from error
    known: dict[bytes, Any] = {}

    def shared(thing: Any) -> Any:
        """The same thing as before, where there was one; its parts are shared first."""
        if isinstance(thing, (pikepdf.Dictionary, pikepdf.Stream)):
            for key in list(thing.keys()):
                if key not in ("/Parent", "/Length"):
                    part = thing[key]
                    better = shared(part)
                    if better is not part:
                        thing[key] = better
        elif isinstance(thing, pikepdf.Array):
            for index, part in enumerate(list(thing)):
                better = shared(part)
                if better is not part:
                    thing[index] = better
        else:
            return thing
        if not thing.is_indirect:
            return thing
        body = thing.unparse(resolved=True) if not isinstance(thing, pikepdf.Stream) else _stream_text(thing)
        return known.setdefault(hashlib.sha256(body).digest(), thing)

    merged = pikepdf.new()
    try:
        for paper in papers:
            with pikepdf.open(io.BytesIO(paper)) as source:
                for page in source.pages:
                    for key in ("/StructParents", "/Tabs", "/Annots", "/Metadata"):
                        if key in page.obj:
                            del page.obj[key]
                    merged.pages.append(page)
                    placed = merged.pages[-1].obj
                    for key in ("/Resources", "/Contents"):
                        placed[key] = shared(placed[key])
    except pikepdf.PdfError as error:
        raise RenderError("A paper to be merged is no PDF.", vi="Một tệp cần gộp không phải PDF.") from error
    target = io.BytesIO()
    merged.save(
        target,
        deterministic_id=True,
        object_stream_mode=pikepdf.ObjectStreamMode.generate,
        compress_streams=True,
    )
    return target.getvalue()


def _stream_text(stream: Any) -> bytes:
    keys = sorted(key for key in stream.keys() if key != "/Length")  # noqa: SIM118 - no mapping
    parts = [f"{key} ".encode() + _text(stream[key]) for key in keys]
    return b"stream" + b"\n".join(parts) + b"\n" + bytes(stream.read_raw_bytes())


def _text(value: Any) -> bytes:
    unparse = getattr(value, "unparse", None)
    return bytes(unparse(resolved=False)) if unparse is not None else repr(value).encode()
