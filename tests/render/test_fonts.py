"""The fonts: only the files that the manifest means, and no other font of the machine on any paper."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pikepdf
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given
from hypothesis import strategies as st

from printsvc.errors import RenderError
from printsvc.render.fonts import font_bytes, font_face_css, isolate_fontconfig, load_fonts, read_manifest

ROOT = Path(__file__).resolve().parents[2]
FONTS = ROOT / "fonts"

TONES = ("", "\u0300", "\u0301", "\u0303", "\u0309", "\u0323")
VIETNAMESE = {unicodedata.normalize("NFC", v + tone) for v in "AĂÂEÊIOÔƠUƯYaăâeêioôơuưy" for tone in TONES} | {"Đ", "đ"}
ASCII = {chr(code) for code in range(0x20, 0x7F)}

ENTRY = """
[[font]]
family = "Some Face"
weight = 400
style = "normal"
package = "@somebody/some-face"
version = "1.2.3"
path = "400Regular/Some.ttf"
sha256 = "{sha256}"
licence = "OFL-1.1"
"""


def make_fonts(folder: Path, data: bytes) -> Path:
    """A fonts folder whose only file should be `data`, and is."""
    folder.mkdir()
    (folder / "manifest.toml").write_text(ENTRY.format(sha256=hashlib.sha256(data).hexdigest()))
    (folder / "Some.ttf").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def fresh_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Path]]:
    """Paths never used before: what was verified is remembered by path for the life of the process."""
    base = tmp_path_factory.mktemp("fonts")
    return (base / str(number) for number in itertools.count())


# --- the manifest and the files


def test_the_manifest_names_whole_faces_of_three_families_under_a_free_licence() -> None:
    sources = read_manifest(FONTS)

    assert {(s.family, s.weight, s.style) for s in sources} == {
        ("Be Vietnam Pro", 400, "normal"),
        ("Be Vietnam Pro", 400, "italic"),
        ("Be Vietnam Pro", 500, "normal"),
        ("Be Vietnam Pro", 600, "normal"),
        ("Be Vietnam Pro", 700, "normal"),
        ("Tinos", 400, "normal"),
        ("Tinos", 400, "italic"),
        ("Tinos", 700, "normal"),
        ("Tinos", 700, "italic"),
        ("Roboto Mono", 400, "normal"),
        ("Roboto Mono", 500, "normal"),
    }
    assert len({s.filename for s in sources}) == len(sources)
    assert {s.licence for s in sources} == {"OFL-1.1"}
    assert all(s.version.replace(".", "").isdigit() for s in sources), "an exact version, not a range"


def test_every_face_is_what_the_manifest_says_of_it() -> None:
    faces = load_fonts(FONTS)

    assert [f.filename for f in faces] == [s.filename for s in read_manifest(FONTS)]
    for face in faces:
        font = TTFont(BytesIO(font_bytes(faces, face.filename)))
        assert font["name"].getBestFamilyName() == face.family
        assert font["OS/2"].usWeightClass == face.weight
        assert bool(font["OS/2"].fsSelection & 1) == (face.style == "italic")
        assert font["OS/2"].fsType == 0, "embedding is not restricted"


def test_every_face_has_all_of_vietnamese_and_ascii() -> None:
    faces = load_fonts(FONTS)

    for face in faces:
        letters = TTFont(BytesIO(font_bytes(faces, face.filename))).getBestCmap()
        lacking = {c for c in VIETNAMESE | ASCII if ord(c) not in letters}
        assert not lacking, face.filename


def test_the_mono_face_draws_one_glyph_of_one_width_for_each_character() -> None:
    faces = load_fonts(FONTS)

    for face in [f for f in faces if f.family == "Roboto Mono"]:
        font = TTFont(BytesIO(font_bytes(faces, face.filename)))
        letters = font.getBestCmap()
        assert len({font["hmtx"][letters[ord(c)]][0] for c in ASCII}) == 1
        features = {record.FeatureTag for record in font["GSUB"].table.FeatureList.FeatureRecord}
        assert not features & {"liga", "calt", "clig", "rlig"}


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    folder = make_fonts(tmp_path / "fonts", b"a face")
    (folder / "Some.ttf").unlink()

    with pytest.raises(RenderError, match=r"Some\.ttf is missing .* script/setup") as caught:
        load_fonts(folder)
    assert "Thiếu" in caught.value.vi

    (folder / "Some.ttf").write_bytes(b"a face")
    assert [f.filename for f in load_fonts(folder)] == ["Some.ttf"], "an error is not remembered"


@given(meant=st.binary(min_size=1, max_size=200), found=st.binary(max_size=200))
def test_any_other_bytes_are_refused(fresh_folder: Iterator[Path], meant: bytes, found: bytes) -> None:
    folder = make_fonts(next(fresh_folder), meant)
    (folder / "Some.ttf").write_bytes(found)

    if found == meant:
        assert font_bytes(load_fonts(folder), "Some.ttf") == meant
    else:
        with pytest.raises(RenderError, match=r"SHA-256.*script/setup"):
            load_fonts(folder)


def test_what_was_checked_is_what_is_drawn_with(tmp_path: Path) -> None:
    folder = make_fonts(tmp_path / "fonts", b"a face")
    faces = load_fonts(folder)
    (folder / "Some.ttf").write_bytes(b"another")

    assert font_bytes(faces, "Some.ttf") == b"a face"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="no file"),
        pytest.param("", id="empty"),
        pytest.param("font = []", id="no entries"),
        pytest.param("[[font]\n", id="not TOML"),
        pytest.param('[[font]]\nfamily = "Some Face"\n', id="entry without a digest"),
        pytest.param(ENTRY + 'colour = "red"\n', id="an unknown key"),
    ],
)
def test_a_manifest_that_is_none_is_an_error_of_ours(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "manifest.toml").write_text(text)

    with pytest.raises(RenderError, match="manifest"):
        load_fonts(tmp_path)


# --- the style sheet


def test_the_style_sheet_names_each_face_by_a_font_url_that_resolves() -> None:
    faces = load_fonts(FONTS)
    rules = font_face_css(faces).splitlines()

    assert len(rules) == len(faces)
    for face, rule in zip(faces, rules, strict=True):
        assert f'font-family: "{face.family}"; font-weight: {face.weight}; font-style: {face.style};' in rule
        (url,) = [part.split('"')[0] for part in rule.split('url("')[1:]]
        assert font_bytes(faces, url.removeprefix("font:")) == face.path.read_bytes()


@pytest.mark.parametrize("filename", ["", "manifest.toml", "../fonts/Tinos_400Regular.ttf", "DejaVuSans.ttf"])
def test_no_other_file_is_to_be_had_by_a_font_url(filename: str) -> None:
    with pytest.raises(RenderError, match="does not name"):
        font_bytes(load_fonts(FONTS), filename)


# --- fontconfig; in processes of their own, for it is the process that is isolated

DRAW = """
import sys
from pathlib import Path
from printsvc.render.fonts import isolate_fontconfig, load_fonts, font_bytes, font_face_css

fonts_dir, cache_dir, pdf, html, isolate = sys.argv[1:]
faces = load_fonts(Path(fonts_dir))
if isolate == "late":
    import weasyprint
if isolate != "no":
    isolate_fontconfig(Path(cache_dir), faces)
import weasyprint
from weasyprint.urls import URLFetcher, URLFetcherResponse

class Fetcher(URLFetcher):
    def fetch(self, url, headers=None):
        return URLFetcherResponse(url, font_bytes(faces, url.removeprefix("font:")))

page = f"<style>{font_face_css(faces)}</style>{html}"
weasyprint.HTML(string=page, url_fetcher=Fetcher()).write_pdf(pdf)
"""

TEXT = "Giấy xác nhận tiêm chủng ĐỄ → № ✓ 漢"


def embedded_fonts(
    tmp_path: Path, html: str, *, fonts_dir: Path = FONTS, isolate: str = "yes", machine: Path | None = None
) -> set[str]:
    """Draw `html` in a new process; return the names of the fonts in the PDF, with "-" for their blanks.

    `machine` is the fontconfig file of a pretended machine; without it the process sees this machine's own.
    """
    pdf = tmp_path / "page.pdf"
    environment = {key: value for key, value in os.environ.items() if key != "FONTCONFIG_FILE"}
    if machine is not None:
        environment["FONTCONFIG_FILE"] = str(machine)
    command = [sys.executable, "-W", "error", "-c", DRAW, str(fonts_dir), str(tmp_path / "cache"), str(pdf), html]
    done = subprocess.run([*command, isolate], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pikepdf.open(pdf) as document:
        fonts = [font for page in document.pages for font in page.resources.Font.values()]
        return {str(font.BaseFont).split("+")[1] for font in fonts}


@pytest.mark.parametrize("isolate", ["yes", "late"])
def test_a_family_of_the_machine_is_drawn_with_ours(tmp_path: Path, isolate: str) -> None:
    families = ("DejaVu Sans", "DejaVu Serif", "Arial", "Times New Roman", "Nimbus Sans", "No Such Family")
    html = "".join(f'<p style="font-family: {family}">{TEXT}</p>' for family in families) + f"<p>{TEXT}</p>"

    # Another of our families may lend the arrow and the numero sign; none has the tick and the ideogram.
    drawn_with = embedded_fonts(tmp_path, html, isolate=isolate)
    assert "Be-Vietnam-Pro" in drawn_with
    assert drawn_with <= {"Be-Vietnam-Pro", "Tinos", "Roboto-Mono"}


def test_each_face_and_each_generic_family_is_found(tmp_path: Path) -> None:
    styles = [f"font: {face.style} {face.weight} 12pt '{face.family}'" for face in load_fonts(FONTS)]
    styles += [f"font: 12pt {generic}" for generic in ("sans-serif", "serif", "monospace")]
    html = "".join(f'<p style="{style}">Nguyễn</p>' for style in styles)

    assert embedded_fonts(tmp_path, html) == {
        "Be-Vietnam-Pro",
        "Be-Vietnam-Pro-Italic",
        "Be-Vietnam-Pro-Medium",
        "Be-Vietnam-Pro-Semi-Bold",
        "Be-Vietnam-Pro-Bold",
        "Tinos",
        "Tinos-Italic",
        "Tinos-Bold",
        "Tinos-Bold-Italic",
        "Roboto-Mono",
        "Roboto-Mono-Medium",
    }


def test_neither_the_machine_nor_a_stray_file_in_the_folder_gives_a_font(tmp_path: Path) -> None:
    folder = tmp_path / "fonts"
    folder.mkdir()
    for face in load_fonts(FONTS):
        shutil.copy(face.path, folder)
    head, *entries = (FONTS / "manifest.toml").read_text().split("[[font]]")
    kept = [entry for entry in entries if "Tinos" in entry]
    (folder / "manifest.toml").write_text("[[font]]".join([head, *kept]))
    machine = tmp_path / "machine.conf"
    machine.write_text(f"<fontconfig><dir>{FONTS}</dir><cachedir>{tmp_path}/machine</cachedir></fontconfig>")
    html = '<p style="font-family: Roboto Mono">URN:UVCI:01:VN</p>'

    drawn_by_the_machine = embedded_fonts(tmp_path, html, fonts_dir=folder, isolate="no", machine=machine)
    drawn_by_us = embedded_fonts(tmp_path, html, fonts_dir=folder, machine=machine)

    assert drawn_by_the_machine == {"Roboto-Mono"}
    assert drawn_by_us == {"Tinos"}


def test_isolation_can_be_asked_for_again_and_follows_the_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FONTCONFIG_FILE", "before")
    faces = load_fonts(FONTS)
    config = tmp_path / "cache" / "fonts.conf"

    isolate_fontconfig(tmp_path / "cache", faces)
    written = config.stat()
    isolate_fontconfig(tmp_path / "cache", faces)

    assert os.environ["FONTCONFIG_FILE"] == str(config)
    assert (config.stat().st_ino, config.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)

    isolate_fontconfig(tmp_path / "cache", faces[:1])
    assert config.read_text().count("<acceptfont>") == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fonts.conf"]
