"""The stamp against WeasyPrint: the same content byte by byte, the same pictures, a sound and tagged file."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pikepdf
import pypdfium2
import pytest
import zxingcpp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops
from proofs import persons
from pyhanko.pdf_utils.reader import PdfFileReader

from printsvc.domain.form import FormId, PageData
from printsvc.errors import InputError, QrCapacityError
from printsvc.render.compiler.store import load_compiled
from printsvc.render.formfile import read_form
from printsvc.render.stamp import CompiledForm, NeedsWeasyPrint, Stamper, parse_compiled
from printsvc.render.stamp.layout import break_points
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
A4 = FormId("a4/43-2022")
Raster = Callable[..., Image.Image]


def person(dice: random.Random, sample: PageData) -> PageData:
    """A page as the service makes it for somebody who does not exist."""
    return persons.person(dice, sample, read_form(ROOT / "templates" / A4, A4))


@pytest.fixture(scope="module")
def compiled(library: FormLibrary, forms_cache: Path) -> CompiledForm:
    return load_compiled(library, A4, forms_cache / "forms")


@pytest.fixture(scope="module")
def stamper(compiled: CompiledForm) -> Stamper:
    return Stamper(compiled)


def streams(pdf: bytes) -> list[bytes]:
    with pikepdf.open(io.BytesIO(pdf)) as document:
        return [page.Contents.read_bytes().rstrip() for page in document.pages]


def assert_same_content(library: FormLibrary, stamper: Stamper, page: PageData) -> None:
    ours = [stream.rstrip() for stream in stamper.content(page)]
    for one, other in zip(ours, streams(library.render_pdf(A4, page)), strict=True):
        differing = [pair for pair in zip(one.split(b"\n"), other.split(b"\n"), strict=False) if pair[0] != pair[1]]
        assert one == other, differing[:3]


def assert_same_picture(
    raster: Raster, folder: Path, stamped: bytes, drawn: bytes, dpis: tuple[int, ...] = (96, 150, 200, 300)
) -> None:
    """A failure leaves both files, both pictures and their difference in `folder`."""
    for dpi in dpis:
        for mode in ("gray", "mono"):
            one, other = raster(stamped, dpi, mode), raster(drawn, dpi, mode)
            if one.size == other.size and one.tobytes() == other.tobytes():
                continue
            (folder / "stamped.pdf").write_bytes(stamped)
            (folder / "weasyprint.pdf").write_bytes(drawn)
            one.save(folder / "stamped.png")
            other.save(folder / "weasyprint.png")
            difference = ImageChops.difference(one, other)
            difference.point(lambda value: 255 * (value > 0)).save(folder / "difference.png")
            pytest.fail(f"{difference.getbbox()} differs at {dpi} dpi, {mode}: see {folder}")


# --- the same paper


def test_the_content_is_weasyprints_byte_by_byte(library: FormLibrary, stamper: Stamper, sample: PageData) -> None:
    dice = random.Random(11)
    assert_same_content(library, stamper, sample)
    for _ in range(12):
        assert_same_content(library, stamper, person(dice, sample))


TEXTS = (
    "AĂÂBCDĐEÊGHIKLMNOÔƠPQRSTUƯVXYÁẠẢÃẤẬẨẪẮẶẲẴÉẸẺẼẾỆỂỄÍỊỈĨÓỌỎÕỐỘỔỖỚỢỞỠÚỤỦŨỨỰỬỮÝỴỶỸÄÖÜßÑÇŁŻŠabcđêịơụừyfWTVjJ1908.,'-/()"
)
words = st.text(TEXTS, min_size=1, max_size=14)
lines = st.lists(words, min_size=1, max_size=14).map(" ".join)


@given(name=lines, site=lines, authority=lines, lot=st.text("ABCW1890/- .", min_size=1, max_size=20).map(str.strip))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_stamped_as_weasyprint_draws_it_or_left_to_it(
    library: FormLibrary, stamper: Stamper, sample: PageData, name: str, site: str, authority: str, lot: str
) -> None:
    page = copy.deepcopy(sample)
    page["full_name"], page["site_name"], page["authority"] = name, site, authority
    assert page["rows"][0] is not None
    page["rows"][0]["site"], page["rows"][0]["lot"] = site, lot
    try:
        stamper.content(page)
    except NeedsWeasyPrint:
        return
    assert_same_content(library, stamper, page)


@given(text=st.text("AĐễz19 -/.,:;'()&+<#•@=*_", min_size=1, max_size=16))
@example("URN:UVCI:01:VN: F5D2 6096 #/")  # as every nineteenth UVCI ends, with the next line
@example("URN:UVCI:01:VN: F5D2 6096 #:")
@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_break_where_pango_breaks_them(library: FormLibrary, text: str) -> None:
    from weasyprint.text.line_break import get_log_attrs

    library.form(A4)
    text = " ".join(text.split())
    points = break_points(text)
    if text and points is not None:
        attributes = get_log_attrs(text, "vi")
        assert points == [at for at in range(len(text)) if not at or attributes[at].is_line_break], text


@pytest.mark.parametrize("seed", range(2))
def test_the_picture_is_the_same_to_the_pixel(
    library: FormLibrary, stamper: Stamper, sample: PageData, raster: Raster, tmp_path: Path, seed: int
) -> None:
    page = person(random.Random(seed), sample)
    assert_same_picture(raster, tmp_path, stamper.stamp(page), library.render_pdf(A4, page))


def test_every_row_fill_has_the_same_picture(
    library: FormLibrary, stamper: Stamper, sample: PageData, raster: Raster, tmp_path: Path
) -> None:
    full = person(random.Random(3), sample)
    row = next(row for row in full["rows"] if row is not None)
    for used in (0b0000001, 0b1010101, 0b1111111):
        rows = [cast(Any, {**row, "attested": n == 6}) if used >> n & 1 else None for n in range(7)]
        page = cast(PageData, full | {"rows": rows})
        assert_same_picture(raster, tmp_path, stamper.stamp(page), library.render_pdf(A4, page), (150,))


# --- the way out


def test_few_persons_need_the_way_out(stamper: Stamper, sample: PageData) -> None:
    dice = random.Random(5)
    reasons: Counter[str] = Counter()
    for _ in range(1000):
        try:
            stamper.stamp(person(dice, sample))
        except NeedsWeasyPrint as why:
            reasons[why.reason] += 1
    assert reasons.total() <= 10, reasons


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"full_name": "W" * 400}, "too_long"),
        ({"full_name": "ЖУКОВ"}, "glyph"),
        ({"full_name": "NGUYÊ\u0303N"}, "glyph"),
        ({"full_name": "NGUYỄN  KHAI"}, "spaces"),
        ({"sex": ""}, "missing"),
        ({"date_of_birth": "1985"}, None),
        ({"name_line": "nguyen"}, "glyph"),
        ({"rows": [None] * 3}, "rows"),
    ],
)
def test_what_it_cannot_tell_it_does_not_draw(
    stamper: Stamper, sample: PageData, changes: dict[str, Any], reason: str | None
) -> None:
    page = cast(PageData, sample | changes)
    if reason is None:
        assert stamper.stamp(page)
        return
    with pytest.raises(NeedsWeasyPrint) as caught:
        stamper.stamp(page)
    assert caught.value.reason == reason
    assert "NGUY" not in str(caught.value)


@pytest.mark.parametrize("check", ["/", ":", "0", "Z"])
def test_no_uvci_needs_the_way_out_wherever_it_wraps(
    stamper_of: Callable[[FormId], Stamper], library: FormLibrary, check: str
) -> None:
    """Its check character may be a stroke or a colon: on the receipt the UVCI takes two lines."""
    form_id = FormId("receipt80/43-2022")
    page = copy.deepcopy(library.sample(form_id))
    page["uvci_groups"][-1] = f"#{check}"
    assert page["uvci_groups"][0].startswith("URN:UVCI")
    (ours,) = stamper_of(form_id).content(page)
    assert [ours.rstrip()] == streams(library.render_pdf(form_id, page))


def test_a_qr_text_that_is_too_long_is_an_error(stamper: Stamper, sample: PageData) -> None:
    for text, code in (("A" * 964, "qr_capacity"), ("hc1", "qr_alphabet"), ("", "qr_alphabet")):
        with pytest.raises(QrCapacityError) as caught:
            stamper.stamp(cast(PageData, sample | {"qr": text}))
        assert caught.value.code == code
        assert isinstance(caught.value, InputError)


def test_many_at_once_are_the_same_as_one_by_one(stamper: Stamper, sample: PageData) -> None:
    dice = random.Random(11)
    pages = [person(dice, sample) for _ in range(40)]
    codes = [10, 300, 574, 600, 700]
    pages = [cast(PageData, page | {"qr": page["qr"][: dice.choice(codes)]}) for page in pages]
    pages[7] = cast(PageData, sample | {"full_name": "ЖУКОВ"})
    pages[23] = cast(PageData, sample | {"qr": "A" * 964})
    pages.append(pages[0])
    alone = Stamper(stamper.form)
    for page, stamped in zip(pages, stamper.stamp_all(pages), strict=True):
        try:
            expected: bytes | Exception = alone.stamp(page)
        except (NeedsWeasyPrint, QrCapacityError) as why:
            expected = why
        if isinstance(expected, bytes):
            assert stamped == expected
        else:
            assert type(stamped) is type(expected)
            assert str(stamped) == str(expected)
    assert stamper.stamp_all([]) == []


# --- the file


def test_what_readers_get_from_it(stamper: Stamper, sample: PageData, raster: Raster) -> None:
    page = cast(PageData, sample | {"full_name": "ĐỖ THỊ QUỲNH ƯƠNG", "site_name": "Trạm Y tế xã Ễ, Pfizer"})
    pdf = stamper.stamp(page)
    with pypdfium2.PdfDocument(pdf) as document:
        text = document[0].get_textpage().get_text_range()
    assert unicodedata.is_normalized("NFC", text)
    assert text.count("ĐỖ THỊ QUỲNH ƯƠNG") >= 1
    assert "Trạm Y tế xã Ễ, Pfizer" in text
    assert [code.text for code in zxingcpp.read_barcodes(raster(pdf, 300, "mono"))] == [page["qr"]] * 2


def test_no_reader_complains(stamper: Stamper, sample: PageData, tmp_path: Path) -> None:
    path = tmp_path / "page.pdf"
    dice = random.Random(8)
    for page in (sample, person(dice, sample), person(dice, sample)):
        path.write_bytes(stamper.stamp(page))
        reader = PdfFileReader(io.BytesIO(path.read_bytes()), strict=True)  # that of the seal
        assert reader.root["/Type"] == "/Catalog"
        assert reader.root["/Pages"]["/Count"] == 1
        for command in (
            ["qpdf", "--check", path],
            ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-dPDFSTOPONWARNING", "-sDEVICE=nullpage", path],
            ["pdftotext", path, "-"],
            ["pdfinfo", "-struct-text", path],
        ):
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), command
        with pikepdf.open(path) as document:
            assert document.check_pdf_syntax() == []


def elements(node: pikepdf.Object) -> list[tuple[str, str, tuple[Any, ...]]]:
    """Every structure element in order: its kind, alternative text, and how many marked contents it has.

    A group with nothing in it is none: the box of a line that was drawn says nothing to a reader.
    """
    found: list[tuple[str, str, tuple[Any, ...]]] = []
    own = 0
    kids = node.get("/K", [])
    for kid in kids if isinstance(kids, pikepdf.Array) else [kids]:
        if isinstance(kid, pikepdf.Dictionary):
            found += elements(kid)
        else:
            own += 1
    attributes = tuple(sorted((key, str(value)) for key, value in node.get("/A", {}).items() if key == "/O"))
    if node.get("/S") in ("/Div", "/NonStruct") and not own and not found:
        return []
    return [(str(node.get("/S", "")), str(node.get("/Alt", "")), (own, attributes)), *found]


def test_the_tags_are_weasyprints(library: FormLibrary, stamper: Stamper, sample: PageData) -> None:
    dice = random.Random(21)
    for whoever in (sample, person(dice, sample)):
        short = {"full_name": "AN", "site_name": "Hà Nội", "authority": "Hà Nội"}
        page = copy.deepcopy(cast(PageData, whoever | short))
        for row in page["rows"]:
            if row is not None:
                row["site"] = row["lot"] = "A1"  # one line each: two are one element here, two there
        with (
            pikepdf.open(io.BytesIO(stamper.stamp(page))) as ours,
            pikepdf.open(io.BytesIO(library.render_pdf(A4, page))) as theirs,
        ):
            assert elements(ours.Root.StructTreeRoot.K[0]) == elements(theirs.Root.StructTreeRoot.K[0])
            for document in (ours, theirs):
                assert bool(document.Root.MarkInfo.Marked)
                assert str(document.Root.Lang) == "vi"
                assert "pdfuaid" in str(document.open_metadata())
            kinds = Counter(kind for kind, _, _ in elements(ours.Root.StructTreeRoot.K[0]))
            assert kinds["/H1"] == 1
            assert kinds["/TH"] == 13
            assert kinds["/Figure"] == 2


def marked(pdf: bytes) -> tuple[list[int], dict[int, int]]:
    """The MCIDs of the content in their order, and of the structure tree with the parent tree's word for each."""
    with pikepdf.open(io.BytesIO(pdf)) as document:
        page = document.pages[0]
        content = [
            int(operands[1]["/MCID"])
            for operands, operator in pikepdf.parse_content_stream(page)
            if str(operator) == "BDC" and isinstance(operands[1], pikepdf.Dictionary)
        ]
        parents = document.Root.StructTreeRoot.ParentTree.Nums[1]
        held: dict[int, int] = {}

        def walk(node: pikepdf.Object) -> None:
            for kid in node.K:
                if isinstance(kid, pikepdf.Dictionary):
                    assert kid.P.objgen == node.objgen
                    walk(kid)
                else:
                    assert parents[int(kid)].objgen == node.objgen
                    held[int(kid)] = node.objgen[0]

        walk(document.Root.StructTreeRoot.K[0])
        return content, held


def test_every_marked_content_has_its_element_and_the_other_way_round(stamper: Stamper, sample: PageData) -> None:
    dice = random.Random(4)
    for page in (sample, *(person(dice, sample) for _ in range(5))):
        content, held = marked(stamper.stamp(page))
        assert len(content) == len(set(content))
        assert set(content) == set(held)


def test_the_same_bytes_without_weasyprint_in_another_process(
    stamper: Stamper, compiled: CompiledForm, sample: PageData, tmp_path: Path
) -> None:
    page = person(random.Random(77), sample)
    (tmp_path / "form.cbor").write_bytes(compiled.encode())
    (tmp_path / "page.json").write_text(json.dumps(page), "utf-8")
    program = (
        "import json, pathlib, sys\n"
        "from printsvc.render.stamp import Stamper, parse_compiled\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "stamper = Stamper(parse_compiled((folder / 'form.cbor').read_bytes()))\n"
        "page = json.loads((folder / 'page.json').read_text('utf-8'))\n"
        "stamper.stamp(page | {'full_name': 'AN'})\n"
        "(folder / 'other.pdf').write_bytes(stamper.stamp(page))\n"
        "assert not {'weasyprint', 'jinja2', 'fontTools', 'PIL', 'qrcode'} & set(sys.modules)\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "LC_ALL": "C", "TZ": "Asia/Ho_Chi_Minh"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=True, cwd=ROOT)
    assert (tmp_path / "other.pdf").read_bytes() == stamper.stamp(page)


def test_another_name_gives_another_file_id(stamper: Stamper, sample: PageData) -> None:
    def file_id(page: PageData) -> bytes:
        with pikepdf.open(io.BytesIO(stamper.stamp(page))) as document:
            return bytes(document.trailer.ID[0])

    assert file_id(sample) == file_id(copy.deepcopy(sample))
    assert file_id(sample) != file_id(cast(PageData, sample | {"full_name": "TRẦN VĂN AN"}))


def test_the_file_is_small(stamper: Stamper, sample: PageData) -> None:
    dice = random.Random(6)
    sizes = []
    for _ in range(200):
        with contextlib.suppress(NeedsWeasyPrint):
            sizes.append(len(stamper.stamp(person(dice, sample))))
    assert len(sizes) >= 195
    assert sorted(sizes)[len(sizes) // 2] <= 40_000


# --- shaping


@given(text=lines)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pairs_add_up_to_what_harfbuzz_makes_of_the_whole(stamper: Stamper, text: str) -> None:
    for setter in stamper.slots[0].setters[0], stamper.slots[2].setters[1]:
        try:
            whole, width = setter.set_exactly(text)
            ours, our_width, glyphs = setter.set_line(text)
        except NeedsWeasyPrint:
            continue
        assert our_width == width
        shown = re.sub(r">0<|>0$", lambda zero: "" if zero[0] == ">0<" else ">", whole)
        runs = [
            [setter._codes[int(glyph, 16)] for glyph in re.findall("....", run)] for run in re.findall("<(.*?)>", shown)
        ]
        strings = iter("(" + "".join(string for string, _ in run) + ")" for run in runs)
        assert ours == re.sub("<.*?>", lambda _, strings=strings: next(strings), shown)  # type: ignore[misc]
        assert all(glyphs & bits == bits for run in runs for _, bits in run)


def test_a_damaged_form_is_refused(compiled: CompiledForm) -> None:
    from printsvc.errors import RenderError

    data = compiled.encode()
    assert parse_compiled(data) == compiled
    for broken in (data[:-10], data.replace(b"Comirnaty", b"Comirnatx"), b"", b"\xa0", data.replace(b"vi", b"en", 1)):
        if broken != data:
            with pytest.raises(RenderError):
                parse_compiled(broken)


@pytest.mark.parametrize("broken", [b"\x01", b"\xf6", b"\x80", b"\x81" * 100_000, bytes(100), b"\xd8\x1e\x82\x01\x00"])
def test_a_form_that_is_something_else_is_refused(broken: bytes) -> None:
    from printsvc.errors import RenderError

    with pytest.raises(RenderError):
        parse_compiled(broken)


def test_a_form_whose_parts_are_of_another_kind_is_refused(compiled: CompiledForm) -> None:
    import cbor2

    from printsvc.errors import RenderError

    table = cbor2.loads(compiled.encode())
    for key in table:
        for value in (1, None, "x", [1], {"x": 1}):
            if value != table[key]:
                with pytest.raises(RenderError):
                    parse_compiled(cbor2.dumps({**table, key: value}))
