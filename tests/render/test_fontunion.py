"""Subsets of a face put together: every glyph as it was, in a file that others read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import uharfbuzz as hb
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from printsvc.render.fontunion import FontUnion, unite

ROOT = Path(__file__).resolve().parents[2]
TINOS = ROOT / "fonts" / "Tinos_400Regular.ttf"
MONO = ROOT / "fonts" / "RobotoMono_400Regular.ttf"
LETTERS = "ABCDEĐÊVWXYZabcđêêệỄ0123456789.,-/ •"


def subset(path: Path, letters: str) -> bytes:
    """A subset with the glyph ids of the whole face."""
    wanted = hb.SubsetInput()
    wanted.flags = hb.SubsetFlags.RETAIN_GIDS | hb.SubsetFlags.NO_HINTING
    wanted.sets(hb.SubsetInputSets.UNICODE).update(map(ord, letters))
    return bytes(hb.subset(hb.Face(hb.Blob.from_file_path(str(path))), wanted).blob.data)


def drawn(data: bytes) -> dict[int, tuple[bytes, int]]:
    """Each glyph that has an outline, as bytes, and its advance; read by another library."""
    with TTFont(io.BytesIO(data), checkChecksums=2) as font:
        outlines, metrics = font["glyf"], font["hmtx"]
        found = {}
        for number, name in enumerate(font.getGlyphOrder()):
            compiled = outlines.glyphs[name].compile(outlines) if outlines[name].numberOfContours else b""
            if compiled:
                found[number] = (compiled, metrics[name][0])
        return found


@given(letters=st.lists(st.text(LETTERS, min_size=1, max_size=8), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_the_union_has_every_glyph_as_its_subset_has_it(letters: list[str]) -> None:
    files = [subset(TINOS, some) for some in letters]
    ((union, places),) = unite(files)
    assert sorted(places) == list(range(len(files)))
    whole = drawn(union.encode())
    parts = [drawn(file) for file in files]
    assert whole.keys() == set().union(*parts)
    for part in parts:
        assert part.items() <= whole.items()
    assert union.encode() == unite(files)[0][0].encode()


def test_faces_are_not_mixed() -> None:
    files = [subset(TINOS, "AB"), subset(MONO, "AB"), subset(TINOS, "BC"), subset(MONO, "C"), subset(TINOS, "AB")]
    assert [places for _, places in unite(files)] == [[0, 2, 4], [1, 3]]


def test_what_is_no_truetype_font_is_refused() -> None:
    whole = subset(TINOS, "A")
    for data in (b"", b"OTTO" + whole[4:], whole[:40], b"%PDF-1.7"):
        with pytest.raises(ValueError, match="TrueType"):
            FontUnion.of(data)
