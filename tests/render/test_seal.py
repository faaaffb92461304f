"""A PDF is sealed, and every way of changing it afterwards is seen."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2
import pytest
from asn1crypto import keys as asn1_keys
from asn1crypto import tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import pdf_name
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.timestamps import DummyTimeStamper

from printsvc.credential.keys import Algorithm, LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.credential.sealing import make_seal_certificate
from printsvc.domain.form import FormId
from printsvc.domain.seal import SealPlace, SealState, TimeStamping
from printsvc.errors import RenderError, SealTimeError
from printsvc.render.formfile import find_forms, read_form
from printsvc.render.seal import seal_lines, seal_pdf
from printsvc.render.sealcheck import check_seal
from printsvc.render.sealface import make_face

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
FORMS = ("a4/43-2022", "a5/43-2022", "cr80/43-2022")


@dataclass(frozen=True)
class Authority:
    """A CSCA and who seals under it."""

    csca: bytes
    signer: LocalSigner
    dsc: LocalSigner


def make_authority(algorithm: Algorithm = Algorithm.ES256) -> Authority:
    csca_key, key = make_private_key(), make_private_key(algorithm)
    csca = make_csca(
        csca_key,
        country="VN",
        organisation="Cục Y tế dự phòng",
        common_name="CSCA VN",
        serial=1,
        now=NOW - timedelta(days=9),
    )
    sealing = make_seal_certificate(key.public_key(), csca=csca, csca_key=csca_key, serial=2, now=NOW)
    signing = make_dsc(
        key.public_key(), csca=csca, csca_key=csca_key, organisation="MOH", common_name="DSC", serial=3, now=NOW
    )
    return Authority(csca, LocalSigner(sealing, key), LocalSigner(signing, key))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def font(fonts: Path) -> bytes:
    return (fonts / "BeVietnamPro_400Regular.ttf").read_bytes()


@pytest.fixture(scope="module")
def page_of(library: Any) -> Callable[[str], bytes]:
    drawn: dict[str, bytes] = {}

    def page(form: str) -> bytes:
        if form not in drawn:
            drawn[form] = library.render_pdf(FormId(form), library.sample(FormId(form)))
        return drawn[form]

    return page


@pytest.fixture(scope="module")
def place_of(templates: Path) -> Callable[[str], SealPlace | None]:
    return lambda form: read_form(templates / form, FormId(form)).seal


@pytest.fixture(scope="module")
def sealed(page_of: Any, place_of: Any, authority: Authority, font: bytes) -> bytes:
    return seal_pdf(page_of(FORMS[0]), authority.signer, now=NOW, font=font, place=place_of(FORMS[0]))


def state(pdf: bytes, authority: Authority, now: datetime = NOW) -> SealState:
    return check_seal(pdf, authorities=[authority.csca], now=now).state


def updated(pdf: bytes, change: Callable[[IncrementalPdfFileWriter], None]) -> bytes:
    """Return the PDF with a revision after the sealed one."""
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    change(writer)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("form", "algorithm"), [*((form, Algorithm.ES256) for form in FORMS), (FORMS[2], Algorithm.PS256)]
)
def test_a_sealed_form_is_whole(
    form: str, algorithm: Algorithm, page_of: Any, place_of: Any, font: bytes, tmp_path: Path
) -> None:
    authority = make_authority(algorithm)
    page = page_of(form)
    sealed = seal_pdf(page, authority.signer, now=NOW, font=font, place=place_of(form))
    assert sealed.startswith(page), "what was printed is still there, byte for byte"
    report = check_seal(sealed, authorities=[authority.csca], now=NOW)
    assert report.state is SealState.INTACT
    assert (report.signer, report.issuer) == (
        "CERTIFICATE SEAL, Cục Y tế dự phòng, VN",
        "CSCA VN, Cục Y tế dự phòng, VN",
    )
    assert (report.sealed_at, report.has_timestamp) == (NOW, False)
    path = tmp_path / "sealed.pdf"
    path.write_bytes(sealed)
    checked = subprocess.run(["qpdf", "--check", path], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    with pikepdf.open(path) as opened:
        assert opened.check_pdf_syntax() == []
        field = opened.Root.AcroForm.Fields[0]
        signature = field.V
        assert signature.SubFilter == "/ETSI.CAdES.detached"
        assert opened.Root.Perms.DocMDP.objgen == signature.objgen
        assert signature.Reference[0].TransformParams.P == 1
        assert str(field.TU).startswith("Dấu số")
        visible = place_of(form) is not None
        assert ("/AP" in field) == visible
        with pikepdf.open(io.BytesIO(page)) as before:
            assert opened.Root.Metadata.read_bytes() == before.Root.Metadata.read_bytes(), "still called PDF/UA"
            assert opened.docinfo.Title == before.docinfo.Title


def test_the_seal_is_part_of_the_structure(sealed: bytes) -> None:
    with pikepdf.open(io.BytesIO(sealed)) as opened:
        widget = opened.Root.AcroForm.Fields[0]
        numbers = list(opened.Root.StructTreeRoot.ParentTree.Nums)
        keys = [int(key) for key in numbers[::2]]
        assert keys == sorted(set(keys))
        element = dict(zip(keys, numbers[1::2], strict=True))[int(widget.StructParent)]
        assert element.S == "/Form"
        assert element.K.Obj.objgen == widget.objgen
        document = opened.Root.StructTreeRoot.K[0]
        assert element.P.objgen == document.objgen
        assert document.K[-1].objgen == element.objgen


def test_poppler_believes_it_too(sealed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sealed.pdf"
    path.write_bytes(sealed)
    told = subprocess.run(["pdfsig", "-nocert", path], capture_output=True, text=True).stdout
    assert "Signature is Valid" in told
    assert "Total document signed" in told


def test_the_appearance_is_the_same_bytes_for_the_same_words(
    page_of: Any, place_of: Any, authority: Authority, font: bytes, sealed: bytes
) -> None:
    again = seal_pdf(page_of(FORMS[0]), authority.signer, now=NOW, font=font, place=place_of(FORMS[0]))
    drawn = []
    for pdf in (sealed, again):
        with pikepdf.open(io.BytesIO(pdf)) as opened:
            form = opened.Root.AcroForm.Fields[0].AP.N
            face = form.Resources.Font.F.DescendantFonts[0]
            drawn.append((form.read_bytes(), face.FontDescriptor.FontFile2.read_bytes(), str(face.BaseFont)))
    assert drawn[0] == drawn[1]


def test_the_seal_shows_its_words_and_covers_nothing(
    templates: Path, page_of: Any, place_of: Any, authority: Authority, font: bytes
) -> None:
    lines = seal_lines(authority.signer.certificate, NOW)
    assert lines == [
        "Bản điện tử đã ký số / Digitally sealed copy",
        "Cục Y tế dự phòng, VN",
        "Lúc / At 30/10/2021 09:12:00 (UTC+7)",
    ]
    face = make_face(font, lines)
    assert set("".join(lines)) <= face.glyphs.keys(), "no letter is left out"
    for form in map(str, find_forms(templates)):
        place = place_of(form)
        if place is None:
            continue
        scale = 2.0
        edges = (place.left_pt, place.top_pt, place.left_pt + place.width_pt, place.top_pt + place.height_pt)
        box = [round(edge * scale) for edge in edges]
        pictures = []
        for pdf in (
            page_of(form),
            seal_pdf(page_of(form), authority.signer, now=NOW, font=font, place=place),
        ):
            with pypdfium2.PdfDocument(pdf) as document:
                document.init_forms()
                pictures.append(document[place.page - 1].render(scale=scale, grayscale=True).to_pil().convert("L"))
        plain, shown = pictures
        assert plain.crop(box).getextrema() == (255, 255), f"{form}: something is printed where the seal stands"
        assert shown.crop(box).getextrema()[0] < 100
        shown.paste(255, (box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1))
        assert shown.tobytes() == plain.tobytes(), f"{form}: the seal reaches beyond its place"


def test_a_changed_byte_is_seen_wherever_it_is(sealed: bytes, authority: Authority) -> None:
    match = re.search(rb"/ByteRange \[(\d+) (\d+) (\d+) (\d+)", sealed)
    assert match is not None
    start, end = int(match[2]), int(match[3])
    chance = random.Random(20211030)
    places = [chance.randrange(len(sealed)) for _ in range(40)]
    places += [chance.randrange(start, end) for _ in range(40)]  # the signature itself, its zeros at the end too
    for place in places:
        changed = bytearray(sealed)
        changed[place] ^= 1 << chance.randrange(7)
        assert state(bytes(changed), authority) in (SealState.BROKEN, SealState.UNKNOWN_SIGNER), place
    for cut in (10, 700):
        assert state(sealed[:-cut], authority) is SealState.BROKEN
    assert state(sealed + b"\n%", authority) is not SealState.INTACT


def test_a_page_replaced_in_a_later_revision_is_seen(sealed: bytes, authority: Authority) -> None:
    """The shadow attack: nothing of the signed bytes is touched, and the reader shows another page."""

    def replace(writer: IncrementalPdfFileWriter) -> None:
        page = writer.root["/Pages"]["/Kids"][0]
        shown = generic.StreamObject(stream_data=b"BT /F1 30 Tf 50 400 Td (Another name) Tj ET")
        page["/Contents"] = writer.add_object(shown)
        writer.update_container(page)

    def cover(writer: IncrementalPdfFileWriter) -> None:
        page = writer.root["/Pages"]["/Kids"][0]
        note = generic.DictionaryObject(
            {
                pdf_name("/Type"): pdf_name("/Annot"),
                pdf_name("/Subtype"): pdf_name("/FreeText"),
                pdf_name("/Rect"): generic.ArrayObject([generic.NumberObject(edge) for edge in (100, 600, 400, 640)]),
                pdf_name("/Contents"): generic.TextStringObject("Another name"),
            }
        )
        page["/Annots"].append(writer.add_object(note))
        writer.update_container(page["/Annots"])

    def look(writer: IncrementalPdfFileWriter) -> None:
        field = writer.root["/AcroForm"]["/Fields"][0]
        field["/AP"] = generic.DictionaryObject(
            {pdf_name("/N"): writer.add_object(generic.StreamObject(stream_data=b"0 g 0 0 200 200 re f"))}
        )
        writer.update_container(field)

    for change in (replace, cover, look):
        report = check_seal(updated(sealed, change), authorities=[authority.csca], now=NOW)
        assert report.state is SealState.CHANGED, change.__name__
        assert report.signer, "who sealed it is told all the same"

    def take_out(writer: IncrementalPdfFileWriter) -> None:
        del writer.root["/AcroForm"]
        writer.update_root()

    assert state(updated(sealed, take_out), authority) is SealState.BROKEN


def test_a_file_written_anew_has_lost_its_seal(sealed: bytes, authority: Authority) -> None:
    written = io.BytesIO()
    with pikepdf.open(io.BytesIO(sealed)) as opened:
        opened.save(written)
    assert state(written.getvalue(), authority) is SealState.BROKEN
    with pikepdf.open(io.BytesIO(sealed)) as opened:
        del opened.Root.AcroForm, opened.Root.Perms, opened.Root.StructTreeRoot, opened.pages[0].Annots
        written = io.BytesIO()
        opened.save(written)
    assert state(written.getvalue(), authority) is SealState.ABSENT


def test_who_is_believed_is_decided_outside_the_file(
    page_of: Any, authority: Authority, font: bytes, sealed: bytes
) -> None:
    stranger = make_authority()
    assert state(sealed, stranger) is SealState.UNKNOWN_SIGNER
    assert check_seal(sealed, authorities=[stranger.csca], now=NOW).is_bad
    nobody = check_seal(sealed, authorities=[], now=NOW)
    assert (nobody.state, nobody.is_bad) == (SealState.UNKNOWN_SIGNER, False)
    dsc = check_seal(
        seal_pdf(page_of(FORMS[0]), authority.dsc, now=NOW, font=font), authorities=[authority.csca], now=NOW
    )
    assert dsc.state is SealState.UNKNOWN_SIGNER
    assert "not one for sealing" in dsc.to_json()["detail"]
    assert state(page_of(FORMS[0]), authority) is SealState.ABSENT


def test_a_seal_ends_with_its_certificate(sealed: bytes, authority: Authority) -> None:
    assert state(sealed, authority, authority.signer.not_after) is SealState.INTACT
    assert state(sealed, authority, authority.signer.not_after + timedelta(seconds=1)) is SealState.SIGNER_EXPIRED
    assert state(sealed, authority, NOW - timedelta(days=2)) is SealState.SIGNER_EXPIRED


@pytest.mark.parametrize(
    "hostile",
    [b"/ByteRange", b"%PDF-1.7\n/ByteRange [0 1 2 3]", b"%PDF-1.7\n" + b"/ByteRange<<" * 5_000 + b"%%EOF"],
)
def test_nonsense_is_a_broken_seal_and_no_error(hostile: bytes, authority: Authority) -> None:
    assert state(hostile, authority) is SealState.BROKEN


def test_what_is_no_pdf_is_not_sealed(authority: Authority, font: bytes) -> None:
    with pytest.raises(RenderError, match="cannot be sealed"):
        seal_pdf(b"%PDF 1.7 one line of text", authority.signer, now=NOW, font=font)


# --- time stamps


@dataclass(frozen=True)
class Stamps:
    """A time stamping authority on this machine, whose certificate is valid for the NOW of these tests."""

    url: str
    certificate: bytes


class _Handler(BaseHTTPRequestHandler):
    stamper: DummyTimeStamper

    def do_POST(self) -> None:
        request = tsp.TimeStampReq.load(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.stamper.request_tsa_response(request).dump()
        self.send_response(200)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  the base's name
        """Say nothing."""


@pytest.fixture(scope="module")
def stamps() -> Iterator[Stamps]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TSA")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=9_000))
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _Handler.stamper = DummyTimeStamper(
        asn1_x509.Certificate.load(certificate),
        asn1_keys.PrivateKeyInfo.load(plain),
        fixed_dt=NOW + timedelta(seconds=2),
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Stamps(f"http://127.0.0.1:{server.server_port}/", certificate)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_time_stamp_says_when_and_outlasts_the_signer(
    page_of: Any, place_of: Any, authority: Authority, font: bytes, stamps: Stamps
) -> None:
    page, place = page_of(FORMS[0]), place_of(FORMS[0])
    sealed = seal_pdf(page, authority.signer, now=NOW, font=font, place=place, stamping=TimeStamping(stamps.url))
    long_after = authority.signer.not_after + timedelta(days=900)
    believed = check_seal(sealed, authorities=[authority.csca], now=long_after, stamp_authorities=[stamps.certificate])
    assert (believed.state, believed.sealed_at) == (SealState.INTACT, NOW + timedelta(seconds=2))
    assert believed.to_json()["timestamp"] == "trusted"
    stranger = check_seal(sealed, authorities=[authority.csca], now=NOW)
    assert (stranger.state, stranger.to_json()["timestamp"]) == (SealState.INTACT, "untrusted")
    assert state(sealed, authority, long_after) is SealState.SIGNER_EXPIRED


def test_long_term_data_are_no_change(
    page_of: Any, place_of: Any, authority: Authority, font: bytes, stamps: Stamps, tmp_path: Path
) -> None:
    sealed = seal_pdf(
        page_of(FORMS[0]),
        authority.signer,
        now=NOW,
        font=font,
        place=place_of(FORMS[0]),
        issuers=[authority.csca],
        stamping=TimeStamping(stamps.url, (stamps.certificate,)),
    )
    trusted = {"authorities": [authority.csca], "stamp_authorities": [stamps.certificate]}
    report = check_seal(sealed, now=NOW, **trusted)
    assert (report.state, report.to_json()["timestamp"]) == (SealState.INTACT, "archival")
    assert b"/DSS" in sealed
    (tmp_path / "lta.pdf").write_bytes(sealed)
    assert subprocess.run(["qpdf", "--check", tmp_path / "lta.pdf"], capture_output=True).returncode == 0

    chance = random.Random(7)
    for _ in range(5):
        changed = bytearray(sealed)
        changed[chance.randrange(len(changed))] ^= 1
        after = check_seal(bytes(changed), now=NOW, **trusted)
        assert (after.state, after.is_archival) != (SealState.INTACT, True)

    def replace(writer: IncrementalPdfFileWriter) -> None:
        page = writer.root["/Pages"]["/Kids"][0]
        page["/Contents"] = writer.add_object(generic.StreamObject(stream_data=b"0 g 0 0 99 99 re f"))
        writer.update_container(page)

    assert check_seal(updated(sealed, replace), now=NOW, **trusted).state is SealState.CHANGED


def test_an_authority_that_does_not_answer_is_told(page_of: Any, authority: Authority, font: bytes) -> None:
    with pytest.raises(SealTimeError):
        seal_pdf(
            page_of(FORMS[2]),
            authority.signer,
            now=NOW,
            font=font,
            stamping=TimeStamping("http://127.0.0.1:9/", timeout_s=0.5),
        )


def test_the_report_is_json(sealed: bytes, authority: Authority) -> None:
    told = check_seal(sealed, authorities=[authority.csca], now=NOW).to_json()
    assert told["state"] == "intact"
    assert told["sealed_at"] == "2021-10-30T02:12:00Z"
    assert told["timestamp"] == "none"
    assert told["detail"]
    assert told["detail_vi"] != told["detail"]


def test_copies_are_sealed_after_a_signed_list_was_read() -> None:
    """asn1crypto's tables of names are fixed when they are first used, and pyHanko wants more names than it has."""
    script = (
        "import printsvc.credential.trustcms\n"
        "from asn1crypto import cms\n"
        "cms.CMSAttributeType('content_type')\n"
        "import pyhanko.sign.signers\n"
        "cms.CMSAttributeType('signing_certificate_v2')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
