"""Font files put together for one certificate: sound for every set of glyphs, and with nothing that is not shown."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from printsvc.domain.form import FormId
from printsvc.render.compiler.store import load_compiled
from printsvc.render.stamp.compiled import CompiledForm
from printsvc.render.stamp.fontfile import FontFile, glyph_string, joined_check
from printsvc.render.template import FormLibrary

A4 = FormId("a4/43-2022")


@pytest.fixture(scope="module")
def form(library: FormLibrary, forms_cache: Path) -> CompiledForm:
    return load_compiled(library, A4, forms_cache / "forms")


def unpack(stream: bytes) -> bytes:
    return zlib.decompress(stream.partition(b"stream\n")[2].rpartition(b"\nendstream")[0])


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_has_the_glyphs_that_are_shown_and_adds_up(form: CompiledForm, data: st.DataObject) -> None:
    for program in form.programs:
        file = FontFile(program)
        every = dict(program.characters)
        chosen = data.draw(st.sets(st.sampled_from(sorted(every)), max_size=40))
        glyphs = 0
        for code in chosen:
            glyphs |= file.bits(code)
        # Among others it is the same file as alone.
        others = [file.bits(code) for code in data.draw(st.lists(st.sampled_from(sorted(every)), max_size=3))]
        stream = file.streams([*others, glyphs])[glyphs]
        assert stream == FontFile(program).streams([glyphs])[glyphs]
        plain = unpack(stream)
        assert sum(int.from_bytes(plain[at : at + 4]) for at in range(0, len(plain), 4)) % 2**32 == 0xB1B0AFBA
        with TTFont(io.BytesIO(plain), checkChecksums=2) as font:  # raises for a table whose sum is wrong
            names = font.getGlyphOrder()
            shown = {every[code] for code in chosen} | {every[code] for code in program.always if code in every}
            assert {point for table in font["cmap"].tables for point in table.cmap} == shown
            parts = dict(program.parts)
            there = set(range(program.fixed)) | chosen | {part for code in chosen for part in parts.get(code, ())}
            for code, name in enumerate(names):
                advance, bearing = font["hmtx"][name]
                expected = program.metrics[4 * code : 4 * code + 4] if code in there else bytes(4)
                assert advance.to_bytes(2) + bearing.to_bytes(2, signed=True) == expected
                outline = font["glyf"][name]
                assert (outline.numberOfContours != 0) == (code in there and bool(program.outlines[code].strip(b"\0")))


def test_the_same_glyphs_give_the_same_bytes(form: CompiledForm) -> None:
    for program in form.programs:
        one, other = FontFile(program), FontFile(program)
        codes = [code for code, _ in program.characters][:20]
        glyphs = sum({one.bits(code) for code in codes[:1]})
        assert one.streams([glyphs]) == other.streams([glyphs])
        assert one.streams([glyphs])[glyphs] is one.streams([glyphs])[glyphs], "the last ones are kept"


@given(first=st.binary(max_size=3000), second=st.binary(max_size=200_000))
@settings(max_examples=50, deadline=None)
def test_the_check_of_two_stretches_is_that_of_both(first: bytes, second: bytes) -> None:
    check = joined_check(zlib.adler32(first), zlib.adler32(second), len(second))
    assert check == zlib.adler32(first + second)


@given(code=st.integers(0, 65535))
def test_a_glyph_string_reads_back(code: int) -> None:
    import pikepdf

    written = b"(" + glyph_string(code).encode("latin-1") + b")"
    assert bytes(pikepdf.Object.parse(written)) == code.to_bytes(2)
