"""Every form that is there, held to the same rules; and a form of one's own, made without a line of code."""

from __future__ import annotations

import copy
import hashlib
import io
import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pikepdf
import pytest
import zxingcpp
from PIL import Image
from proofs.words import solid, texts_of

from printsvc.domain.form import DoseRow, FormId, PageData
from printsvc.domain.valuesets import PRODUCTS, PROPHYLAXES
from printsvc.errors import FormError, InputError, NotFoundError, QrCapacityError
from printsvc.render.fastqr import alphanumeric_capacity
from printsvc.render.formcheck import check_form
from printsvc.render.formfile import find_forms
from printsvc.render.pagedoc import draw_pages, draw_png, is_tagged
from printsvc.render.qr import encode_qr
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
FORMS = find_forms(ROOT / "templates")
A4, OLD, TRAVEL, A5, CARD, RECEIPT = (
    FormId(name)
    for name in ("a4/43-2022", "a4/3588-2021", "a4/5772-2021", "a5/43-2022", "cr80/43-2022", "receipt80/43-2022")
)
WITH_TABLE = [form_id for form_id in FORMS if form_id != TRAVEL]
LABELS = (
    "Mũi 1 / Dose 1",
    "Mũi 2 / Dose 2",
    "Mũi 3 / Dose 3",
    "Bổ sung 1 / Additional 1",
    "Nhắc lại 1 / Booster 1",
    "Nhắc lại 2 / Booster 2",
    "Nhắc lại 3 / Booster 3",
)
LONG_NAME = "NGUYỄN ỄỆ ĐỖ THỊ QUỲNH TRƯỜNG KHƯƠNG NGUYỄN ỄỆ ĐỖ THỊ QUỲNH TRƯỜNG KHƯƠNG NGUYỄ"
LONG_SITE = "Trung tâm Kiểm soát bệnh tật TP. Hồ Chí Minh, điểm tiêm lưu động Nhà thi đấu Phú Thọ"
LONG_AUTHORITY = "Trung tâm Kiểm soát bệnh tật thành phố Hồ Chí Minh, Sở Y tế thành phố Hồ Chí Minh"
LONG_ADDRESS = ("Số 1234/56/78 đường Nguyễn Thị Minh Khai, tổ dân phố 17, khu phố Ễ, phường Nguyễn Cư Trinh, " * 4)[
    :300
]

Raster = Callable[..., Image.Image]


def row(number: int, **changes: Any) -> DoseRow:
    values = {
        "label": LABELS[number] if number < len(LABELS) else f"Mũi {number} / Dose {number}",
        "date": f"{number % 28 + 1:02d}/09/2021",
        "product": "Vaxzevria",
        "manufacturer": "AstraZeneca",
        "lot": f"LOT{number:02d}Q",
        "site": f"Trạm Y tế số {number}",
        "attested": False,
    }
    return cast(DoseRow, values | changes)


def rows_of(doses: int = 7, **changes: Any) -> list[DoseRow]:
    """As many rows as the table has, all used, the last one attested."""
    return [row(number, attested=number == doses - 1, **changes) for number in range(doses)]


def changed(library: FormLibrary, form_id: FormId, **changes: Any) -> PageData:
    return cast(PageData, copy.deepcopy(library.sample(form_id)) | changes)


def solid_texts(pdf: bytes) -> list[str]:
    return [solid(text) for text in texts_of(pdf)]


def payload_of(length: int, seed: bytes = b"") -> str:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
    noise = hashlib.shake_256(b"payload" + seed).digest(length)
    return ("HC1:" + "".join(alphabet[byte % 45] for byte in noise))[:length]


def test_the_forms_of_the_country() -> None:
    assert FORMS == [OLD, A4, TRAVEL, A5, CARD, RECEIPT]


@pytest.mark.parametrize("form_id", FORMS)
def test_nothing_is_found_wrong(library: FormLibrary, form_id: FormId) -> None:
    assert check_form(library, form_id) == []


# --- what they say


ELEVEN = (
    "full_name", "date_of_birth", "nationality", "disease", "doses_received", "injected_on", "dose_number", "vaccine",
    "product", "manufacturer", "uvci",
)  # fmt: skip
SAID = {
    A4: (*ELEVEN, "name_line", "sex", "id_masked", "issued_on", "expires_on", "authority", "site_name"),
    A5: (*ELEVEN, "name_line", "sex", "id_masked", "issued_on", "expires_on", "authority", "site_name"),
    RECEIPT: (*ELEVEN, "name_line", "sex", "id_masked", "issued_on", "expires_on", "authority", "site_name"),
    TRAVEL: (*ELEVEN, "name_line", "sex", "id_masked", "issued_on", "expires_on", "authority", "site_name"),
    OLD: ("full_name", "date_of_birth", "id_masked", "phone_masked", "address", "authority", "site_name", "uvci"),
    CARD: ("full_name", "date_of_birth", "doses_received", "injected_on", "expires_on", "product", "uvci"),
}


@pytest.mark.parametrize("form_id", FORMS)
def test_each_form_says_what_its_decision_wants(library: FormLibrary, form_id: FormId) -> None:
    page = library.sample(form_id)
    text = "".join(solid_texts(library.render_pdf(form_id, page)))
    for field in SAID[form_id]:
        assert solid(page[field]) in text, field  # type: ignore[literal-required]
    form = library.form(form_id)
    assert form.languages == ("vi", "en")
    assert solid(form.title_en).casefold() in text.casefold()
    for dose in filter(None, page["rows"] if form.doses else []):
        assert dose["date"] in text
        assert dose["lot"] in text


def test_the_travel_certificate_numbers_the_eleven_fields(library: FormLibrary) -> None:
    text = solid_texts(library.render_pdf(TRAVEL, library.sample(TRAVEL)))[0]
    labels = (
        "Họ và tên", "Ngày sinh", "Quốc tịch", "Bệnh được phòng", "Số mũi đã tiêm", "Ngày tiêm", "Mũi số", "Vắc xin",
        "Sản phẩm", "Nhà sản xuất", "Mã chứng nhận",
    )  # fmt: skip
    for number, label in enumerate(labels, 1):
        assert f"{number}{solid(label)}" in text


@pytest.mark.parametrize("form_id", FORMS)
def test_a_reprint_says_that_it_is_one(library: FormLibrary, form_id: FormId) -> None:
    words = solid("IN LẠI")
    assert words not in "".join(solid_texts(library.render_pdf(form_id, library.sample(form_id))))
    again = "".join(solid_texts(library.render_pdf(form_id, changed(library, form_id, copy_number=12))))
    assert words in again
    assert "12" in again


@pytest.mark.parametrize("form_id", FORMS)
def test_the_longest_texts_are_whole(library: FormLibrary, form_id: FormId) -> None:
    country = "Saint Vincent và Grenadines / Saint Vincent and the Grenadines"
    page = changed(
        library,
        form_id,
        full_name=LONG_NAME,
        name_line=("A" * 39 + "<") * 2,
        site_name=LONG_SITE,
        authority=LONG_AUTHORITY,
        address=LONG_ADDRESS,
        nationality=country,
        id_label="Hộ chiếu / Passport",
        id_masked="•" * 16 + "8888",
        phone_masked="•" * 28 + "8888",
        doses_received="10/10",
        dose_number="10",
        copy_number=188,
        rows=rows_of(
            library.form(form_id).doses,
            site=LONG_SITE,
            lot="AB/1234-5678 90-X/12",
            manufacturer="Serum Institute of India",
        ),
    )
    form = library.form(form_id)
    text = "".join(solid_texts(library.render_pdf(form_id, page)))
    names = [slot for slot in form.slots.values() if slot.of == "full_name" and "*" not in slot.name]
    assert text.count(solid(LONG_NAME)) == len(names)
    long = {"site_name": LONG_SITE, "authority": LONG_AUTHORITY, "address": LONG_ADDRESS, "nationality": country}
    for field, whole in long.items():
        assert solid(whole) in text or field not in form.slots, field
    if form.doses:
        assert text.count(solid("AB/1234-5678 90-X/12")) == form.doses


@pytest.mark.parametrize("form_id", FORMS)
def test_the_widest_digits_letters_and_lots_fit(library: FormLibrary, form_id: FormId) -> None:
    for letter in "08W":
        date = "0888-88-88" if letter == "W" else f"{letter}8/{letter}8/888{letter}"
        dates = dict.fromkeys(("date_of_birth", "injected_on", "issued_on", "expires_on"), date)
        rows = rows_of(library.form(form_id).doses, date=date, lot=letter * 20)
        page = changed(
            library, form_id, **dates, full_name="Ễ" * 80 if letter == "W" else "Ỷ", name_line="Y", rows=rows
        )
        assert "".join(solid_texts(library.render_pdf(form_id, page))).count(letter * 20) == library.form(form_id).doses


@pytest.mark.parametrize("form_id", FORMS)
def test_every_vaccine_fits(library: FormLibrary, form_id: FormId) -> None:
    """Each product stands in a row, and each kind of vaccine, with its longest names, in the fields."""
    products = list(PRODUCTS.values())
    for prophylaxis in PROPHYLAXES.values():
        of_kind = [one for one in products if one.prophylaxis == prophylaxis.code]
        longest = max(of_kind, key=lambda one: len(one.name))
        rows = rows_of(library.form(form_id).doses)
        for place, one in zip(rows, of_kind, strict=False):
            place["product"], place["manufacturer"] = one.name, one.manufacturer
        page = changed(
            library,
            form_id,
            product=longest.name,
            manufacturer=max((one.manufacturer for one in of_kind), key=len),
            vaccine=f"{prophylaxis.vi} / {prophylaxis.en}",
            rows=rows,
        )
        text = "".join(solid_texts(library.render_pdf(form_id, page)))
        shown = {one["product"] for one in rows} | (
            {longest.name} if "product" in library.form(form_id).slots else set()
        )
        assert shown
        assert all(solid(name) in text for name in shown)


# --- more doses than the table holds


@pytest.mark.parametrize("form_id", WITH_TABLE)
def test_further_doses_stand_on_further_sheets_with_the_same_head(library: FormLibrary, form_id: FormId) -> None:
    form = library.form(form_id)
    more = [row(number) for number in range(7, 7 + form.more_doses + 1)]
    page = changed(library, form_id, rows=rows_of(), more_rows=more, copy_number=3)
    pages = solid_texts(library.render_pdf(form_id, page))
    first, *further = pages[: form.pages], *pages[form.pages :]
    beyond = 7 - form.doses  # what a shorter table sends on
    sheets = 1 + -(-(len(more) + beyond) // form.more_doses)
    assert 1 + len(further) == sheets >= 3
    assert f"1/{sheets}" in "".join(first)
    for number, text in enumerate(further, 2):
        assert f"{number}/{sheets}" in text
        for field in ("full_name", "date_of_birth", "uvci"):
            assert solid(page[field]) in text  # type: ignore[literal-required]
        assert ("Hết/End" in text) is (number == sheets)
    lots = [re.findall(r"LOT\d\dQ", text) for text in ("".join(first), *further)]
    assert len(lots[0]) == form.doses
    assert sorted(itertools.chain.from_iterable(lots)) == sorted(dose["lot"] for dose in [*rows_of(), *more])
    assert "LOT06Q" in lots[0], "the attested dose stands with the QR"
    assert [len(some) for some in lots[1:-1]] == [form.more_doses] * (sheets - 2)


@pytest.mark.parametrize("form_id", WITH_TABLE)
def test_one_sheet_is_not_numbered(library: FormLibrary, form_id: FormId) -> None:
    pages = solid_texts(library.render_pdf(form_id, library.sample(form_id)))
    assert len(pages) == library.form(form_id).pages
    assert "Tờ/Sheet" not in "".join(pages)


def test_the_code_stands_on_the_first_sheet_alone(library: FormLibrary) -> None:
    page = changed(library, A5, rows=rows_of(), more_rows=[row(8)])
    first, second = draw_pages(library.render_pdf(A5, page), dpi=200)
    assert [code.text for code in zxingcpp.read_barcodes(first)] == [page["qr"]]
    assert zxingcpp.read_barcodes(second) == []


def test_more_than_one_dose_needs_a_table_and_a_page_for_the_rest(
    tmp_path: Path, fonts: Path, library: FormLibrary
) -> None:
    text = solid_texts(library.render_pdf(TRAVEL, changed(library, TRAVEL, rows=rows_of(), more_rows=[row(8)])))
    assert len(text) == 1
    assert "LOT" not in text[0]
    own = copy_form(tmp_path, A5, {"form.toml": [("more_doses = 16", "more_doses = 0")]})
    with pytest.raises(InputError) as caught:
        FormLibrary(own, fonts).render_pdf(A5, changed(library, A5, rows=rows_of(), more_rows=[row(8)]))
    assert caught.value.problems[0].pointer == "/more_rows"


# --- the code


@pytest.mark.parametrize("form_id", FORMS)
@pytest.mark.parametrize("largest", [False, True])
def test_every_module_stands_on_the_printers_dots(
    library: FormLibrary, raster: Raster, form_id: FormId, largest: bool
) -> None:
    form = library.form(form_id)
    qr = form.qr
    version = qr.max_version if largest else qr.min_version
    page = changed(library, form_id, qr=payload_of(alphanumeric_capacity(qr.level, version)))
    drawn = raster(library.render_pdf(form_id, page), qr.dpi, "mono")
    assert drawn.size == (round(form.width_pt * qr.dpi / 72), round(form.height_pt * qr.dpi / 72))
    matrix = encode_qr(page["qr"], level=qr.level, min_version=qr.min_version)
    assert matrix.version == version
    side, quiet = matrix.size * qr.module_dots, qr.quiet_modules * qr.module_dots
    modules = Image.frombytes("L", (matrix.size, matrix.size), b"".join(matrix.rows)).point(lambda v: 255 * (1 - v))
    expected = Image.new("L", (side + 2 * quiet, side + 2 * quiet), 255)
    expected.paste(modules.resize((side, side), Image.Resampling.NEAREST), (quiet, quiet))
    place = qr.places[0]
    left, top = (start + (place.side_dots - expected.width) // 2 for start in (place.left_dots, place.top_dots))
    assert drawn.crop((left, top, left + expected.width, top + expected.height)).tobytes() == expected.tobytes()


def test_modules_of_the_receipt_are_exactly_four_dots_of_the_head(library: FormLibrary) -> None:
    form = library.form(RECEIPT)
    assert (form.qr.level, form.qr.module_dots, form.qr.dpi, form.qr.quiet_modules) == ("M", 4, 203, 4)
    assert round(form.width_pt * form.qr.dpi / 72) == 576


@pytest.mark.parametrize("form_id", FORMS)
@pytest.mark.parametrize("name", ["Ỷ", LONG_NAME], ids=["shortest", "longest"])
def test_the_code_reads_back_from_every_picture(
    library: FormLibrary, raster: Raster, form_id: FormId, name: str
) -> None:
    qr = library.form(form_id).qr
    length = 300 if len(name) == 1 else alphanumeric_capacity(qr.level, qr.max_version) - 1
    page = changed(library, form_id, qr=payload_of(length, name.encode()), full_name=name)
    pdf = library.render_pdf(form_id, page)
    for dpi, mode in ((qr.dpi, "mono"), (200, "gray")):
        found = {code.text for code in zxingcpp.read_barcodes(raster(pdf, dpi, mode))}
        assert found == {page["qr"]}, (dpi, mode)


@pytest.mark.parametrize("form_id", FORMS)
def test_a_code_that_is_too_long_is_refused(library: FormLibrary, form_id: FormId) -> None:
    qr = library.form(form_id).qr
    with pytest.raises(QrCapacityError):
        library.render_pdf(
            form_id, changed(library, form_id, qr=payload_of(alphanumeric_capacity(qr.level, qr.max_version) + 1))
        )


# --- the file


@pytest.mark.parametrize("form_id", FORMS)
def test_the_file_is_sound_tagged_and_black(library: FormLibrary, form_id: FormId, tmp_path: Path) -> None:
    data = library.render_pdf(form_id, changed(library, form_id, rows=rows_of(), more_rows=[row(8)]))
    form = library.form(form_id)
    (tmp_path / "page.pdf").write_bytes(data)
    checked = subprocess.run(["qpdf", "--check", tmp_path / "page.pdf"], capture_output=True, text=True)
    assert (checked.returncode, "WARNING" in checked.stderr) == (0, False)
    assert is_tagged(data)
    with pikepdf.open(io.BytesIO(data)) as pdf:
        assert [float(value) for value in pdf.pages[0].mediabox] == pytest.approx([0, 0, form.width_pt, form.height_pt])
        assert str(pdf.Root.Lang) == "vi"
        descriptors = [
            thing
            for thing in pdf.objects
            if isinstance(thing, pikepdf.Dictionary) and thing.get("/Type") == "/FontDescriptor"
        ]
        assert descriptors
        assert all("/FontFile2" in one or "/FontFile3" in one for one in descriptors)
        kinds = [str(thing.S) for thing in pdf.objects if isinstance(thing, pikepdf.Dictionary) and "/S" in thing]
        for kind in ("/H1", "/Figure", *(("/Table", "/TH", "/TD") if form.doses else ())):
            assert kind in kinds
        for page in pdf.pages:
            for operands, operator in pikepdf.parse_content_stream(page):
                if str(operator) in {"rg", "RG", "g", "G", "k", "K", "sc", "scn"}:
                    assert {float(value) for value in operands} in ({0.0}, {1.0}), operator


# --- a form of one's own


def copy_form(templates: Path, form_id: FormId, changes: dict[str, list[tuple[str, str]]], *, to: str = "") -> Path:
    """A folder of forms with one in it: a copy of ours, changed."""
    folder = templates / (to or form_id)
    shutil.copytree(ROOT / "templates" / form_id, folder)
    for name, edits in changes.items():
        text = (folder / name).read_text("utf-8")
        for old, new in edits:
            assert old in text, old
            text = text.replace(old, new, 1)
        (folder / name).write_text(text, "utf-8")
    return templates


def test_a_new_version_of_a_form_needs_no_code(tmp_path: Path, fonts: Path, library: FormLibrary) -> None:
    changes = {
        "form.toml": [
            ('id = "a5/43-2022"', 'id = "a5/1-2030"'),
            ('version = "43-2022.1"', 'version = "1-2030.1"'),
            ("[slots.sex]", '[slots."note"]\nof = "phone_masked"\nsizes_pt = [8, 7]\n\n[slots.sex]'),
        ],
        "page.html": [
            ("GIẤY XÁC NHẬN TIÊM CHỦNG VẮC XIN PHÒNG COVID-19", "MẪU MỚI CỦA NĂM 2030"),
            (
                "{{ rule(10, 70.8, 74) }}",
                '{{ rule(10, 70.8, 74) }}{{ slot("note", page.phone_masked, 60, 71.2, 24, 4) }}',
            ),
        ],
    }
    own = FormLibrary(copy_form(tmp_path, A5, changes, to="a5/1-2030"), fonts)
    new = FormId("a5/1-2030")
    assert own.form_ids() == [new]
    assert own.form(new).version == "1-2030.1"
    assert check_form(own, new) == []
    text = solid_texts(own.render_pdf(new, changed(library, A5, phone_masked="•••4321")))[0]
    assert solid("MẪU MỚI CỦA NĂM 2030") in text
    assert "•••4321" in text


SEX = "[slots.sex]\nsizes_pt = ["
BROKEN: list[tuple[str, str, str, str, str, str]] = [
    # file, old, new; then what is found: file, code, slot
    ("form.toml", "[slots.sex]", "[slots.sex", "form.toml", "form", ""),
    ("form.toml", SEX, SEX + "1, ", "form.toml", "form", "sex"),
    ("form.toml", "[slots.sex]", "[slots.gender]\nof = 'sex'", "page.html", "slot_unknown", "sex"),
    ("form.toml", SEX, "[slots.gender]\nsizes_pt = [7]\n" + SEX, "form.toml", "slot_source", "gender"),
    ("form.toml", SEX, "[slots.address]\nsizes_pt = [7]\n" + SEX, "form.toml", "slot_missing", "address"),
    ("form.toml", "width_pt = 595.2", "width_pt = 595.3", "form.toml", "dots", ""),
    ("form.toml", "left_dots = 317", "left_dots = 1900", "form.toml", "qr_place", ""),
    ("form.toml", "left_dots = 317", "left_dots = 1600", "page.html", "qr_covered", "vaccine"),
    ("form.toml", "left_dots = 317", "left_dots = 12", "", "", ""),
    ("form.toml", "top_dots = 732", "top_dots = 640", "form.toml", "qr_covered", ""),
    ("form.toml", "quiet_modules = 4", "quiet_modules = 3", "form.toml", "qr_quiet", ""),
    ("form.toml", "module_dots = 5", "module_dots = 4", "form.toml", "qr_module", ""),
    ("form.toml", 'level = "Q"', 'level = "X"', "form.toml", "qr", ""),
    ("form.toml", "max_version = 24\nmodule", "max_version = 25\nmodule", "form.toml", "qr_place", ""),
    ("form.toml", "[15, 13, 11.5, 10, 9, 8]", "[90]", "sample.json", "does_not_fit", "full_name"),
    ("page.html", "</header>", '<div data-slot="nickname">x</div></header>', "page.html", "slot_unknown", "nickname"),
    ("page.html", '{{ slot("sex", page.sex', '{{ slot("gender", page.sex', "page.html", "slot_unknown", "gender"),
    ("page.html", "page.expires_on,", "page.nickname,", "page.html", "template", ""),
    ("page.html", "</header>", '{{ slot("sex", page.sex, 47, 71, 3, 3) }}</header>', "page.html", "slot_twice", "sex"),
    ("page.html", "{%- if page.copy_number > 1 %}", "{%- iff %}", "page.html", "template", ""),
    ("page.html", "</header>", '<img src="https://example.org/x.png" alt="x"></header>', "page.html", "outside", ""),
    ("page.html", "</header>", '<img src="form:x.png"></header>', "page.html", "tags", ""),
    ("page.html", "</header>", "<table><tr><th>QR</th></tr></table></header>", "page.html", "tags", ""),
    ("page.html", '<html lang="vi">', "<html>", "page.html", "tags", ""),
    ("page.html", "Ministry of Health", "Ministry of Health ☂", "page.html", "glyph", ""),
    ("page.html", "left:{{ at.left_pt }}pt", "left:{{ at.left_pt + 1 }}pt", "page.html", "qr_place", ""),
    ("style.css", ".mono {", ".x { background: url(//example.org/x) } .mono {", "style.css", "outside", ""),
    (
        "style.css",
        ".rule { height: 0.5pt !important; background: #000",
        ".rule { height: 0.5pt !important; background: #888",
        "style.css",
        "colour",
        "",
    ),
    ("form.toml", "max_lines = 3\nrequired", "max_line = 3\nrequired", "form.toml", "form", "full_name"),
    ("form.toml", "quiet_modules = 4", "quiet_modules = 4\nquite_modules = 4", "form.toml", "form", ""),
    ("form.toml", "media =", "color = 'black'\nmedia =", "form.toml", "form", ""),
    ("style.css", "{ font-family: 'Tinos' }", "{ font-family: Arial, 'Tinos' }", "style.css", "font", ""),
    ("style.css", ".en { font-size: 6.5pt;", ".en { font: bold 6.5pt/1.4 Noto Sans, Tinos;", "style.css", "font", ""),
    ("style.css", "line-height: 1.44", "line-height: 1,44", "style.css", "engine", ""),
    ("style.css", ".mono {", ".x { widht: 3mm } .mono {", "style.css", "engine", ""),
    ("style.css", ".mono {", ".x { color: #000\n.mono {", "style.css", "brace", ""),
    ("page.html", "<body", '<body style="line-height: 1,44"', "page.html", "engine", ""),
    ("page.html", "<body", "<body style=\"font-family: 'Arial'\"", "page.html", "font", ""),
    ("page.html", "id_masked, 152, 211.2,", "id_masked, 130, 211.2,", "page.html", "overlap", "id_masked"),
    ("page.html", "id_masked, 152, 211.2,", "id_masked, 151.8, 211.2,", "", "", ""),
    ("style.css", ".mono {", ".x { background: url('form:no.svg') } .mono {", "style.css", "asset", ""),
    ("style.css", ".mono {", "@font-face { font-family: 'X'; src: url(form:x.ttf) } .mono {", "style.css", "asset", ""),
    ("page.html", "</header>", '<img src="form:x.png" alt="x"></header>', "page.html", "asset", ""),
    ("form.toml", SEX + "10.5", SEX + '"a"', "form.toml", "form", "sex"),
    ("form.toml", SEX + "10.5, 9.5, 8.5, 7.5]", "[slots.sex]", "form.toml", "form", "sex"),
    ("page.html", "page.sex,", "page.gender,", "page.html", "template", ""),
    ("sample.json", '"sex"', '"sox"', "sample.json", "missing", "sex"),
    ("sample.json", '"copy_number": 1,', '"copy_number": 1', "sample.json", "json", ""),
    ("sample.json", "Nữ / Female", "Nữ / ☂", "sample.json", "glyph", "sex"),
]


@pytest.mark.parametrize(("file", "old", "new", "where", "code", "slot"), BROKEN, ids=range(len(BROKEN)))
def test_what_is_wrong_with_a_form_is_said_with_its_place(
    tmp_path: Path, fonts: Path, file: str, old: str, new: str, where: str, code: str, slot: str
) -> None:
    library = FormLibrary(copy_form(tmp_path, TRAVEL, {file: [(old, new)]}), fonts)
    findings = check_form(library, TRAVEL)
    found = [one for one in findings if (one.file, one.code, one.slot) == (where, code, slot)]
    if not code:  # moved, and still good
        assert findings == []
        return
    assert found, findings
    assert all(one.vi != one.en and one.vi and one.en for one in findings)
    written = (tmp_path / TRAVEL / where).read_text("utf-8").splitlines()
    lines = [written[one.line - 1] for one in found if one.line]
    if code != "missing":  # what is not there has no line
        assert lines
    if file == "form.toml" and code == "form" and "max_line =" in new:
        assert lines == ["max_line = 3"]
        assert "there is no key max_line in [slots.full_name], but there is max_lines" in found[0].en
    elif slot:
        assert all(slot in line for line in lines)
    elif where == file and code in (
        "outside",
        "colour",
        "glyph",
        "tags",
        "dots",
        "qr_quiet",
        "qr_module",
        "font",
        "engine",
    ):
        assert any(new in line for line in lines)


def test_slots_that_overlap_in_every_row_are_told_once(tmp_path: Path, fonts: Path) -> None:
    closer = {"style.css": [("margin-top: -0.35mm", "margin-top: -2.5mm")]}
    findings = check_form(FormLibrary(copy_form(tmp_path, A5, closer), fonts), A5)
    assert [(one.code, one.slot) for one in findings if one.slot.startswith("rows.")] == [
        ("overlap", "rows.*.manufacturer")
    ]
    assert "the slot rows.*.product: 23.0 x 2.5 mm" in findings[-1].en


@pytest.mark.parametrize("name", ["style.css", "guilloche.svg", "sample.json", "page.html"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, fonts: Path, name: str) -> None:
    library = FormLibrary(copy_form(tmp_path, TRAVEL, {}), fonts)
    (tmp_path / TRAVEL / name).unlink()
    [finding] = check_form(library, TRAVEL)
    assert (finding.file, finding.code) == (name, "form")
    assert f"{name} is not there" in finding.en
    assert f"không có tệp {name}" in finding.vi
    with pytest.raises(FormError, match=f"{name} is not there"):
        library.sample(TRAVEL)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"rows": [', '"rows": 5, "x": [', "rows"),
        ('"lot"', '"lut"', "rows"),
        ('"copy_number": 1', '"copy_number": "1"', "copy_number"),
        ('"full_name": ', '"full_name": 7, "x": ', "full_name"),
    ],
)
def test_a_sample_of_another_shape_is_a_finding(tmp_path: Path, fonts: Path, old: str, new: str, field: str) -> None:
    library = FormLibrary(copy_form(tmp_path, A5, {"sample.json": [(old, new)]}), fonts)
    [finding] = check_form(library, A5)
    assert (finding.file, finding.code, finding.slot) == ("sample.json", "shape", field)
    assert f'"{field}"' in (tmp_path / A5 / "sample.json").read_text("utf-8").splitlines()[finding.line - 1]


def test_a_form_that_is_not_there_cannot_be_checked(library: FormLibrary) -> None:
    with pytest.raises(NotFoundError):
        check_form(library, FormId("a4/none"))


def test_a_picture_of_all_pages(library: FormLibrary) -> None:
    picture = Image.open(io.BytesIO(draw_png(library.render_pdf(CARD, library.sample(CARD)), dpi=100)))
    assert picture.mode == "L"
    assert picture.size == (337, 2 * 213 + 12)
