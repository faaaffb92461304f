"""The paper as its users meet it: what it says, and what a reader reads off it."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pikepdf
import pytest
import zxingcpp
from PIL import Image
from proofs.words import solid, text_of

from printsvc.domain.form import DoseRow, FormId, PageData
from printsvc.domain.valuesets import PRODUCTS, PROPHYLAXES
from printsvc.errors import InputError, NotFoundError, QrCapacityError, RenderError
from printsvc.render.qr import encode_qr
from printsvc.render.scan import read_codes
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
A4 = FormId("a4/43-2022")
DPI = 300
MM = DPI / 25.4
LABELS = (
    "Mũi 1 / Dose 1",
    "Mũi 2 / Dose 2",
    "Mũi 3 / Dose 3",
    "Bổ sung / Additional",
    "Nhắc lại 1 / Booster 1",
    "Nhắc lại 2 / Booster 2",
    "Nhắc lại 3 / Booster 3",
)
# Of the drawn table: where its first row begins, how high a row is, and a stretch of the site column without text.
TABLE_TOP_MM, ROW_MM = 160.6, 7.0

Raster = Callable[..., Image.Image]


def row(number: int, **changes: Any) -> DoseRow:
    values = {
        "label": LABELS[number],
        "date": f"0{number + 1}/09/2021",
        "product": "Vaxzevria",
        "manufacturer": "AstraZeneca",
        "lot": f"LOT-{number}",
        "site": f"Trạm Y tế số {number}",
        "attested": False,
    }
    return cast(DoseRow, values | changes)


# --- what it says


def test_all_fields_of_decision_5772_are_on_the_paper(sample: PageData, sample_pdf: bytes) -> None:
    text = text_of(sample_pdf)
    for label in (
        "(1) Họ và tên / Full name",
        "(2) Ngày sinh / Date of birth",
        "(3) Quốc tịch / Nationality",
        "(4) Bệnh được phòng / Disease targeted",
        "(5) Số mũi đã tiêm / Doses received",
        "(6) Ngày tiêm / Date of injection",
        "(7) Mũi số / Dose number",
        "(8) Vắc xin / Vaccine",
        "(9) Sản phẩm / Product",
        "(10) Nhà sản xuất / Manufacturer",
        "(11) Mã chứng nhận / Certificate code",
    ):
        assert label in text
    for field in (
        "full_name",
        "date_of_birth",
        "nationality",
        "disease",
        "doses_received",
        "injected_on",
        "dose_number",
        "vaccine",
        "product",
        "manufacturer",
    ):
        assert sample[field] in text, field  # type: ignore[literal-required]
    assert solid(sample["uvci"]) in solid(text)


def test_the_rest_of_the_paper(sample: PageData, sample_pdf: bytes) -> None:
    text = text_of(sample_pdf)
    for words in (
        "BỘ Y TẾ",
        "CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM",
        "Độc lập – Tự do – Hạnh phúc",
        "GIẤY XÁC NHẬN TIÊM CHỦNG VẮC XIN PHÒNG COVID-19",
        "Certificate of COVID-19 vaccination",
        "Valid only together with an identity document.",
        "TRƯỚC KHI RA VỀ / Before you leave",
        "Electronic Health Book",
        *LABELS,
    ):
        assert words in text
    for field in ("authority", "site_name", "name_line", "sex", "id_label", "id_masked", "issued_on", "expires_on"):
        assert sample[field] in text, field  # type: ignore[literal-required]
    for dose in filter(None, sample["rows"]):
        assert dose["lot"] in text
        assert solid(dose["site"]) in solid(text)


def test_the_name_stands_on_the_certificate_and_on_the_card(sample: PageData, sample_pdf: bytes) -> None:
    assert solid(text_of(sample_pdf)).count(solid(sample["full_name"])) == 2


def test_a_first_copy_and_a_replacement(library: FormLibrary, sample: PageData, sample_pdf: bytes) -> None:
    assert "Bản in số / Copy No. 1" in text_of(sample_pdf)
    assert "BẢN IN LẠI" not in text_of(sample_pdf)
    second = text_of(library.render_pdf(A4, cast(PageData, sample | {"copy_number": 2})))
    assert "Bản in số / Copy No. 2" in second
    assert "BẢN IN LẠI, THAY CHO MỌI BẢN IN TRƯỚC" in second


# --- what is drawn


def ink(page: Image.Image, left_mm: float, top_mm: float, width_mm: float, height_mm: float) -> float:
    """The share of black in a rectangle of a 300 dpi raster."""
    box = page.crop(tuple(round(v * MM) for v in (left_mm, top_mm, left_mm + width_mm, top_mm + height_mm)))  # type: ignore[arg-type]
    return 1 - sum(box.tobytes()) / (255 * box.width * box.height)


def struck(page: Image.Image, number: int) -> bool:
    """Whether one line runs through the middle of the row, through the columns date, vaccine, lot and site."""
    y = round((TABLE_TOP_MM + ROW_MM * number + ROW_MM / 2) * MM)
    band = page.crop((round(63 * MM), y - 4, round(191 * MM), y + 5))
    return any(not any(band.crop((0, line, band.width, line + 1)).tobytes()) for line in range(band.height))


def marked(page: Image.Image, number: int) -> bool:
    return ink(page, 17.5, TABLE_TOP_MM + ROW_MM * number + 1, 5, ROW_MM - 2) > 0.02


@pytest.mark.parametrize(("used", "attested"), [(1, 0), (3, 1), (7, 6)])
def test_unused_rows_are_struck_and_the_attested_one_is_marked(
    library: FormLibrary, sample: PageData, raster: Raster, used: int, attested: int
) -> None:
    sample["rows"] = [row(n, attested=n == attested) if n < used else None for n in range(7)]
    page = raster(library.render_pdf(A4, sample), DPI, "mono")
    assert [struck(page, n) for n in range(7)] == [n >= used for n in range(7)]
    assert [marked(page, n) for n in range(7)] == [n == attested for n in range(7)]


def test_nobody_can_write_an_identity_number_where_none_is(
    library: FormLibrary, sample: PageData, raster: Raster
) -> None:
    page = raster(library.render_pdf(A4, cast(PageData, sample | {"id_label": "", "id_masked": ""})), DPI, "mono")
    line = page.crop((round(84 * MM), round(90.4 * MM), round(136 * MM), round(91.2 * MM)))
    assert any(not any(line.crop((0, y, line.width, y + 1)).tobytes()) for y in range(line.height))


def test_what_is_not_known_of_a_dose_is_a_dash(library: FormLibrary, sample: PageData) -> None:
    sample["rows"] = [row(0, lot="", site="", manufacturer=""), *[None] * 6]
    text = text_of(library.render_pdf(A4, sample))
    assert text.count("—") == 3


def payload_of(length: int) -> str:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
    noise = hashlib.shake_256(b"payload").digest(length)
    return ("HC1:" + "".join(alphabet[byte % 45] for byte in noise))[:length]


@pytest.mark.parametrize("length", [300, 601, 906])
def test_every_module_stands_on_the_printers_dots(
    library: FormLibrary, sample: PageData, raster: Raster, length: int
) -> None:
    sample["qr"] = payload_of(length)
    settings = library.form(A4).qr
    matrix = encode_qr(sample["qr"], min_version=settings.min_version)
    page = raster(library.render_pdf(A4, sample), DPI, "mono")
    assert page.size == (2480, 3508)
    modules = Image.frombytes("L", (matrix.size, matrix.size), b"".join(matrix.rows)).point(lambda v: 255 * (1 - v))
    drawn = modules.resize((matrix.size * 5, matrix.size * 5), Image.Resampling.NEAREST)
    quiet = settings.quiet_modules * settings.module_dots
    expected = Image.new("L", (drawn.width + 2 * quiet, drawn.height + 2 * quiet), 255)
    expected.paste(drawn, (quiet, quiet))
    places = [place for place in settings.places if matrix.version <= place.max_version]
    assert [place.name for place in places] == (["main"] if length == 906 else ["main", "card"])
    for place in places:
        left = place.left_dots + (place.side_dots - expected.width) // 2
        top = place.top_dots + (place.side_dots - expected.height) // 2
        found = page.crop((left, top, left + expected.width, top + expected.height))
        assert found.tobytes() == expected.tobytes(), place.name


@pytest.mark.parametrize(("dpi", "mode"), [(300, "mono"), (200, "gray"), (150, "gray")])
def test_both_codes_read_back_from_the_raster(
    sample: PageData, sample_pdf: bytes, raster: Raster, dpi: int, mode: str
) -> None:
    found = zxingcpp.read_barcodes(raster(sample_pdf, dpi, mode))
    assert [code.text for code in found] == [sample["qr"]] * 2


def test_the_certificates_code_reads_where_the_card_has_none(library: FormLibrary, sample: PageData) -> None:
    sample["qr"] = payload_of(906)
    pdf = library.render_pdf(A4, sample)
    assert read_codes(pdf) == [sample["qr"]]
    assert "QR code: see the certificate" in text_of(pdf)


def test_a_code_that_does_not_fit_is_refused(library: FormLibrary, sample: PageData) -> None:
    with pytest.raises(QrCapacityError):
        library.render_pdf(A4, cast(PageData, sample | {"qr": payload_of(964)}))


def test_all_is_black_or_white(sample_pdf: bytes) -> None:
    with pikepdf.open(io.BytesIO(sample_pdf)) as pdf:
        for operands, operator in pikepdf.parse_content_stream(pdf.pages[0]):
            if str(operator) in {"rg", "RG", "g", "G", "k", "K", "sc", "scn"}:
                assert {float(value) for value in operands} in ({0.0}, {1.0}), operator


# --- texts that hardly fit, or do not


LONG_NAMES = {
    "words": "NGUYỄN ỄỆ ĐỖ THỊ QUỲNH TRƯỜNG KHƯƠNG NGUYỄN ỄỆ ĐỖ THỊ QUỲNH TRƯỜNG KHƯƠNG NGUYỄ",
    "one word": "Ễ" * 80,
    "wide": "ƯƠNG" * 20,
    "hyphens": "-".join(["SCHMIDT-ŁÓDŹ"] * 6),
}


@pytest.mark.parametrize("name", LONG_NAMES.values(), ids=LONG_NAMES.keys())
def test_a_long_name_is_whole_and_inside_its_box(
    library: FormLibrary, sample: PageData, raster: Raster, name: str
) -> None:
    assert len(name) >= 77
    page = cast(PageData, sample | {"full_name": name, "name_line": ("A" * 39 + "<") * 2})
    pdf = library.render_pdf(A4, page)
    assert solid(text_of(pdf)).count(solid(name)) == 2
    drawn = raster(pdf, DPI, "mono")
    assert ink(drawn, 194.2, 64, 15, 18) == 0  # right of the name
    assert ink(drawn, 16, 63.6, 178, 1.4) == 0  # between guilloche and name
    assert ink(drawn, 58.7, 254, 1.2, 30) == 0  # between the card's text and its QR


def test_one_word_and_short_names(library: FormLibrary, sample: PageData) -> None:
    for name in ("SUHARTO", "Ỷ"):
        text = text_of(library.render_pdf(A4, cast(PageData, sample | {"full_name": name, "name_line": name})))
        assert name in text


def test_long_sites_and_authorities(library: FormLibrary, sample: PageData) -> None:
    site = "Trung tâm Kiểm soát bệnh tật TP. Hồ Chí Minh, điểm tiêm lưu động Nhà thi đấu Phú Thọ"
    authority = "Trung tâm Kiểm soát bệnh tật thành phố Hồ Chí Minh, Sở Y tế thành phố Hồ Chí Minh"
    sample["rows"] = [row(number, site=site) for number in range(7)]
    text = solid(text_of(library.render_pdf(A4, cast(PageData, sample | {"site_name": site, "authority": authority}))))
    assert text.count(solid(site)) == 8
    assert solid(authority) in text


def test_every_vaccine_of_the_value_sets_fits(library: FormLibrary, sample: PageData) -> None:
    for product in PRODUCTS.values():
        prophylaxis = PROPHYLAXES[product.prophylaxis]
        changes = {
            "product": product.name,
            "manufacturer": product.manufacturer,
            "vaccine": f"{prophylaxis.vi} / {prophylaxis.en}",
            "rows": [row(0, product=product.name, manufacturer=product.manufacturer), *[None] * 6],
        }
        text = text_of(library.render_pdf(A4, cast(PageData, sample | changes)))
        assert changes["vaccine"] in text
        assert text.count(product.manufacturer) >= 2


@pytest.mark.parametrize("digit", "0123456789")
def test_no_date_and_no_number_is_too_wide(library: FormLibrary, sample: PageData, digit: str) -> None:
    """The digits are not all of one width."""
    date = re.sub("0", digit, "00/00/0000")
    changes = {
        **dict.fromkeys(("date_of_birth", "injected_on", "issued_on", "expires_on"), date),
        "doses_received": f"1{digit}/1{digit}",
        "dose_number": f"1{digit}",
        "copy_number": int(f"1{digit}{digit}"),
        "id_label": "Hộ chiếu / Passport",
        "id_masked": "•" * 16 + digit * 4,
        "rows": [row(n, date=date, lot=digit * 20, manufacturer="Serum Institute of India") for n in range(7)],
    }
    text = text_of(library.render_pdf(A4, cast(PageData, sample | changes)))
    assert text.count(date) >= 4 + 7
    assert solid(text).count(digit * 20) == 7


def test_the_widest_lot_is_whole(library: FormLibrary, sample: PageData) -> None:
    sample["rows"] = [row(0, lot="W" * 20), row(1, lot="AB/1234-5678 90-X/12"), *[None] * 5]
    text = solid(text_of(library.render_pdf(A4, sample)))
    assert "W" * 20 in text
    assert "AB/1234-567890-X/12" in text


def problems(library: FormLibrary, page: PageData) -> list[tuple[str, str]]:
    with pytest.raises(InputError) as caught:
        library.render_pdf(A4, page)
    for problem in caught.value.problems:
        assert problem.vi != problem.en
        assert page["full_name"] not in problem.en + problem.vi
    return [(problem.pointer, problem.code) for problem in caught.value.problems]


def test_what_cannot_fit_is_refused_with_its_place(library: FormLibrary, sample: PageData) -> None:
    assert problems(library, cast(PageData, sample | {"full_name": "W" * 400})) == [("/full_name", "does_not_fit")]
    sample["rows"] = [row(0), row(1, site="Trạm Y tế " * 40), *[None] * 5]
    assert problems(library, sample) == [("/rows/1/site", "does_not_fit")]


@pytest.mark.parametrize("stranger", ["漢", "😀", "\u202e", "\u200b", "\u00ad", "\x07", "\n", "ع"])
def test_a_character_that_no_font_draws_is_refused(library: FormLibrary, sample: PageData, stranger: str) -> None:
    page = cast(PageData, sample | {"full_name": f"NGUYỄN {stranger} KHAI"})
    assert problems(library, page) == [("/full_name", "glyph")]


def test_a_letter_that_only_another_of_our_fonts_has_is_drawn_with_it(library: FormLibrary, sample: PageData) -> None:
    pdf = library.render_pdf(A4, cast(PageData, sample | {"full_name": "ЖУКОВ ΩΜΕΓΑ"}))
    assert text_of(pdf).count("ЖУКОВ ΩΜΕΓΑ") == 2
    assert all("Tinos" in name or "Vietnam" in name or "Roboto" in name for name in fonts_of(pdf))


def test_missing_texts_and_rows_are_named_all_at_once(library: FormLibrary, sample: PageData) -> None:
    assert problems(library, cast(PageData, sample | {"uvci_groups": [], "sex": " "})) == [
        ("/sex", "missing"),
        ("/uvci_groups", "missing"),
    ]
    assert problems(library, cast(PageData, sample | {"rows": [None] * 6})) == [("/rows", "rows")]


# --- the file


def fonts_of(pdf: bytes) -> list[str]:
    """Names of all fonts; each must be embedded."""
    names = []
    with pikepdf.open(io.BytesIO(pdf)) as document:
        for thing in document.objects:
            if isinstance(thing, pikepdf.Dictionary) and thing.get("/Type") == "/FontDescriptor":
                assert "/FontFile2" in thing or "/FontFile3" in thing
                names.append(str(thing.FontName))
    return names


def test_the_file_is_sound_tagged_and_says_nothing_of_the_person(sample: PageData, sample_pdf: bytes) -> None:
    assert len(fonts_of(sample_pdf)) == 5
    with pikepdf.open(io.BytesIO(sample_pdf)) as pdf:
        assert pdf.check_pdf_syntax() == []
        assert [float(v) for v in pdf.pages[0].mediabox] == pytest.approx([0, 0, 595.2, 841.92])
        assert str(pdf.Root.Lang) == "vi"
        assert "/StructTreeRoot" in pdf.Root
        assert bool(pdf.Root.MarkInfo.Marked)
        about = str(pdf.open_metadata()) + str({key: str(value) for key, value in pdf.docinfo.items()})
        assert "Giấy xác nhận tiêm chủng" in about
        assert "pdfuaid" in about
        for private in ("KHAI", "1985", "2345", sample["uvci"][15:25], "/CreationDate", "/ModDate"):
            assert private not in about


def test_the_same_data_give_the_same_bytes_in_another_process(library: FormLibrary, sample_pdf: bytes) -> None:
    program = (
        "import hashlib, pathlib, sys\n"
        "from printsvc.render.template import FormLibrary\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "library = FormLibrary(root / 'templates', root / 'fonts')\n"
        "pdf = library.render_pdf('a4/43-2022', library.sample('a4/43-2022'))\n"
        "print(hashlib.sha256(pdf).hexdigest())\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)],
        env=os.environ | {"PYTHONHASHSEED": "77", "TZ": "Asia/Ho_Chi_Minh", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == hashlib.sha256(sample_pdf).hexdigest()
    assert library.render_pdf(A4, library.sample(A4)) == sample_pdf


def test_another_name_gives_another_file_id(library: FormLibrary, sample: PageData, sample_pdf: bytes) -> None:
    def file_id(data: bytes) -> bytes:
        with pikepdf.open(io.BytesIO(data)) as pdf:
            return bytes(pdf.trailer.ID[0])

    other = library.render_pdf(A4, cast(PageData, sample | {"full_name": "TRẦN VĂN AN"}))
    assert file_id(other) != file_id(sample_pdf)


def test_drawing_makes_no_complaint(library: FormLibrary, sample: PageData, caplog: pytest.LogCaptureFixture) -> None:
    """A complaint of the layout engine is a defect of the form, and may hold a person's text."""
    with caplog.at_level(logging.WARNING):
        library.render_pdf(A4, cast(PageData, sample | {"copy_number": 3}))
    assert caplog.records == []


# --- forms


def test_the_forms_that_are_there(library: FormLibrary) -> None:
    assert A4 in library.form_ids()
    assert library.form_ids() == sorted(library.form_ids())


@pytest.mark.parametrize("form_id", ["a4/none", "..", "a4/../a4/43-2022", "/etc", ""])
def test_an_unknown_form(library: FormLibrary, form_id: str) -> None:
    with pytest.raises(NotFoundError):
        library.form(FormId(form_id))


def test_every_slot_of_the_page_has_its_rule_and_the_other_way_round(
    tmp_path: Path, library_with: Callable[[Path, str], FormLibrary], sample: PageData
) -> None:
    drawn_but_unknown = '<div data-slot="nickname">x</div>'
    with pytest.raises(RenderError):
        library_with(tmp_path / "one", drawn_but_unknown).render_pdf(A4, sample)
    library = library_with(tmp_path / "two", "")
    page = tmp_path / "two" / A4 / "page.html"
    page.write_text(re.sub(r"\{\{ slot\(\"sex\".*\n", "", page.read_text("utf-8")), "utf-8")
    with pytest.raises(RenderError):
        library.render_pdf(A4, sample)


def test_a_text_missing_in_the_data_is_an_error_of_the_form_and_not_a_hole(
    tmp_path: Path, library_with: Callable[[Path, str], FormLibrary], sample: PageData
) -> None:
    with pytest.raises(RenderError):
        library_with(tmp_path, "{{ page.nickname }}").render_pdf(A4, sample)


def test_the_sample_is_whole_and_its_code_is_no_certificate(templates: Path) -> None:
    """Every field of PageData, so that a new form has something to start from."""
    page = json.loads((templates / A4 / "sample.json").read_text("utf-8"))
    assert set(page) == set(PageData.__annotations__)
    assert "".join(page["uvci_groups"]) == page["uvci"]
    assert tomllib.loads((templates / A4 / "form.toml").read_text("utf-8"))["doses"] == len(page["rows"])
