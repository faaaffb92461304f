"""`printsvc forms` as somebody who makes a form meets it."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from printsvc_service_harness import run

from printsvc.app import choose_form
from printsvc.errors import RenderError
from printsvc.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
TRAVEL = "a4/5772-2021"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with one form, to be spoilt."""
    shutil.copytree(ROOT / "templates" / TRAVEL, tmp_path / "forms" / TRAVEL)
    return tmp_path / "forms"


def forms(*arguments: str, cwd: Path = ROOT, templates: Path | None = None) -> tuple[int, str, str]:
    settings = {"PRINTSVC_TEMPLATES_DIR": str(templates)} if templates else {}
    ended = run("forms", *arguments, cwd=cwd, **settings)
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


def test_the_list_says_what_each_form_is() -> None:
    code, out, err = forms("list")
    assert (code, err) == (0, "")
    assert "* a4/43-2022  Giấy xác nhận tiêm chủng vắc xin phòng COVID-19 / Certificate of COVID-19 vaccination" in out
    assert "85.6 x 53.9 mm, 2 sides (om_card_54x86mm), 300 dpi, vi en, 7 rows + 7 on a further sheet" in out
    lines = [json.loads(line) for line in forms("list", "--json")[1].splitlines()]
    assert [line["form"] for line in lines if line["default"]] == ["a4/43-2022"]
    receipt = next(line for line in lines if line["form"] == "receipt80/43-2022")
    assert (receipt["dpi"], receipt["rows"], receipt["languages"]) == (203, 7, ["vi", "en"])


def test_a_broken_form_stops_no_other_in_the_list(own: Path) -> None:
    shutil.copytree(own / TRAVEL, own / "a4" / "other")
    code, out, err = forms("list", templates=own)
    assert code == 1
    assert TRAVEL in out
    assert "it calls itself a4/5772-2021" in err


def test_a_preview_of_the_sample_and_of_ones_own_data(tmp_path: Path) -> None:
    assert forms("preview", TRAVEL, cwd=tmp_path)[:2] == (0, "a4-5772-2021.pdf\n")
    assert (tmp_path / "a4-5772-2021.pdf").read_bytes().startswith(b"%PDF-")
    page = json.loads((ROOT / "templates" / TRAVEL / "sample.json").read_text("utf-8"))
    (tmp_path / "page.json").write_text(json.dumps(page | {"full_name": "Ỷ"}), "utf-8")
    code, out, _ = forms("preview", TRAVEL, "--data", "page.json", "--out", "x.png", "--dpi", "100", cwd=tmp_path)
    assert (code, out) == (0, "x.png\n")
    assert Image.open(io.BytesIO((tmp_path / "x.png").read_bytes())).size == (827, 1170)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("[]", "not a JSON object"),
        ("{", "not a JSON object"),
        ('{"qr": "HC1:X"}', "/full_name: This field is missing."),
    ],
)
def test_data_that_are_no_page_are_refused(tmp_path: Path, data: str, said: str) -> None:
    (tmp_path / "page.json").write_text(data, "utf-8")
    code, _, err = forms("preview", TRAVEL, "--data", "page.json", cwd=tmp_path)
    assert code == 1
    assert said in err
    assert "Traceback" not in err


def test_what_cannot_be_previewed_is_said() -> None:
    code, _, err = forms("preview", "a4/none", "--out", "x.pdf")
    assert (code, err.splitlines()[0]) == (1, "printsvc: There is no such form.")
    assert forms("preview", TRAVEL, "--out", "x.docx")[0] == 2


def test_a_sound_form_is_ok_and_a_spoilt_one_is_not(own: Path) -> None:
    assert forms("validate", TRAVEL, templates=own) == (0, f"{TRAVEL}: ok\n", "")
    page = own / TRAVEL / "page.html"
    lines = page.read_text("utf-8").splitlines()
    at = next(number for number, line in enumerate(lines, 1) if '{{ slot("sex"' in line)
    page.write_text("\n".join(lines).replace('slot("sex"', 'slot("gender"'), "utf-8")
    code, out, err = forms("validate", templates=own)
    assert (code, err) == (1, "")
    assert f"{TRAVEL}/page.html:{at} [gender]: form.toml does not declare it." in out
    assert "Ô này không có trong form.toml." in out
    found = [json.loads(line) for line in forms("validate", "--json", templates=own)[1].splitlines()]
    assert {(one["file"], one["line"], one["slot"], one["code"]) for one in found} == {
        ("page.html", at, "gender", "slot_unknown")
    }


def test_one_bad_form_leaves_no_other_unchecked(own: Path) -> None:
    shutil.copytree(own / TRAVEL, own / "a4" / "0-bytes")
    toml = own / "a4" / "0-bytes" / "form.toml"
    toml.write_text(toml.read_text("utf-8").replace(TRAVEL, "a4/0-bytes", 1), "utf-8")
    page = own / "a4" / "0-bytes" / "page.html"
    page.write_bytes(b"<!-- \n\xff -->" + page.read_bytes())
    shutil.copytree(own / TRAVEL, own / "a4" / "1-bare")
    (own / "a4" / "1-bare" / "form.toml").unlink()
    (own / "README").mkdir()
    code, out, err = forms("validate", templates=own)
    assert (code, err) == (1, "")
    assert "a4/0-bytes/page.html:2: The form a4/0-bytes is broken: page.html is not UTF-8 from line 2 on" in out
    assert "page.html không phải UTF-8 từ dòng 2" in out
    assert "a4/1-bare/form.toml: This folder has no form.toml" in out
    assert out.endswith(f"{TRAVEL}: ok\n")
    code, out, err = forms("list", templates=own)
    assert code == 1
    assert TRAVEL in out
    assert "a4/1-bare: The form a4/1-bare is broken: form.toml is not there." in err
    code, out, err = forms("validate", "a9/1", TRAVEL, templates=own)
    assert (code, err) == (1, "")
    assert f"a9/1: There is no such form. There are: a4/0-bytes, {TRAVEL}." in out
    assert out.endswith(f"{TRAVEL}: ok\n")


@pytest.mark.slow
def test_what_only_the_stamp_refuses_is_said_where_it_is_asked(tmp_path: Path) -> None:
    form = "a5/43-2022"
    folder = tmp_path / "forms" / form
    shutil.copytree(ROOT / "templates" / form, folder)
    style = folder / "style.css"
    style.write_text(style.read_text("utf-8") + ".slot { overflow: hidden }\n", "utf-8")
    code, out, err = forms("validate", form, "--compile", templates=tmp_path / "forms")
    assert (code, err) == (1, "")
    assert re.match(r"a5/43-2022/page\.html:\d+ \[rows\.0\.lot\]: .*a slot's size changes what is not its own\.\n", out)


def test_certificates_of_a_form_that_is_not_there_are_refused_with_those_that_are(own: Path) -> None:
    settings = read_settings(form="a9/1", templates_dir=own)
    with pytest.raises(RenderError) as caught:
        choose_form(settings)
    assert caught.value.en == f"There is no form a9/1. There are: {TRAVEL}."


def test_a_form_is_compiled(own: Path) -> None:
    code, out, err = forms("compile", templates=own)
    assert (code, err) == (0, "")
    assert out.startswith(f"{TRAVEL}: ")
    assert "sha256:" in out
