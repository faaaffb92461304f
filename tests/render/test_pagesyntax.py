"""What a template may do with data: show it, and ask what the stamp asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from printsvc.domain.form import FormId
from printsvc.render.formcheck import check_form
from printsvc.render.formfile import Form, find_forms, read_form
from printsvc.render.pagesyntax import check_syntax, line_of_name, line_of_rule, line_of_slot
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"
RECEIPT = FormId("receipt80/43-2022")
HEAD = """{%- macro slot(name, text) -%}<div data-slot="{{ name }}" style="font-size:{{ fit[name] }}pt">{{ text }}</div>
{%- endmacro -%}
"""


@pytest.fixture(scope="module")
def form() -> Form:
    return read_form(TEMPLATES / RECEIPT, RECEIPT)


@pytest.mark.parametrize("form_id", find_forms(TEMPLATES))
def test_the_countrys_forms_ask_nothing_else(form_id: FormId) -> None:
    text = (TEMPLATES / form_id / "page.html").read_text("utf-8")
    assert check_syntax(text, read_form(TEMPLATES / form_id, form_id)) == []


@pytest.mark.parametrize("form_id", find_forms(TEMPLATES))
def test_every_slot_is_found_in_its_template(form_id: FormId) -> None:
    page, rules = ((TEMPLATES / form_id / name).read_text("utf-8") for name in ("page.html", "form.toml"))
    lines, rule_lines = page.splitlines(), rules.splitlines()
    for name in read_form(TEMPLATES / form_id, form_id).slot_names(2):
        assert f'{name.rpartition(".")[2]}"' in lines[line_of_slot(page, name) - 1], name
        assert name.rpartition(".")[2] in rule_lines[line_of_rule(rules, name) - 1]
    assert "qr" in lines[line_of_name(page, "qr") - 1]
    assert line_of_slot(page, "nickname") == line_of_rule(rules, "nickname") == line_of_name(page, "nickname") == 0


@pytest.mark.parametrize(
    "body",
    [
        '{{ slot("full_name", page.full_name) }}',
        '{{ slot("full_name", page["full_name"]) }}',
        '{{ slot("full_name", text=page.full_name | e) }}',
        '{{ slot("uvci", page.uvci_groups | join(" ")) }}',
        '{{ slot("copy_number", page.copy_number) }}',
        "{% if page.copy_number > 1 %}x{% elif not page.id_masked %}y{% else %}z{% endif %}",
        "{% if not page.copy_number >= 2 and page.id_masked %}x{% endif %}",
        "{% for row in page.rows %}{% if row and row.attested %}x{% endif %}{{ loop.index0 * 7 }}{% endfor %}",
        "{% for row in page.rows %}{% if row is none %}x{% else %}{{ row.lot or '—' }}{% endif %}{% endfor %}",
        "{% if page.rows[3] %}x{% endif %}{{ page.rows | length }}",
        "{% for row in page.rows %}{% if loop.previtem %}x{% endif %}{% endfor %}",
        "{% if qr.main and qr.main.side_pt > 60 %}{{ qr.main.url }}{% endif %}",
        "{% if fit['full_name'] | float >= 7 %}x{% endif %}",
        "{% if sheets %}{{ sheets[0].number }}{% endif %}{% for row in page.more_rows %}{{ row.lot }}{% endfor %}",
        "{% set label = page.id_label %}{{ label }}{% with a = form.doses %}{{ a + 1 }}{% endwith %}",
        "{% set words %}{{ page.sex }}{% endset %}{{ words }}",
        "{{ 'x' if page.id_masked else 'y' }}",
    ],
)
def test_what_may_be_done(form: Form, body: str) -> None:
    assert check_syntax(HEAD + body, form) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{% if page.full_name == 'A' %}x{% endif %}", "page.full_name"),
        ("{% if 'Nữ' in page.sex %}x{% endif %}", "page.sex"),
        ("{% if page.full_name | length > 30 %}x{% endif %}", "page.full_name"),
        ("{{ page.full_name | upper }}", "page.full_name"),
        ("{{ page.full_name[:20] }}", "page.full_name"),
        ("{{ page.full_name.upper() }}", "page.full_name"),
        ("{{ 'Ông ' ~ page.full_name }}", "page.full_name"),
        ("{{ 'Ông %s' % page.full_name }}", "page.full_name"),
        ("{{ page.uvci_groups | join('-') }}", "page.uvci_groups"),
        ("{% for group in page.uvci_groups %}{{ group }}{% endfor %}", "page.uvci_groups"),
        ("{{ page.uvci }}", "page.uvci"),
        ("{% if page.qr %}x{% endif %}", "page.qr"),
        ("{{ page.nickname }}", "page.nickname"),
        ("{% if page.copy_number > 2 %}x{% endif %}", "page.copy_number"),
        ("{{ page.copy_number + 1 }}", "page.copy_number"),
        ("{% for row in page.rows %}{% if row.lot == 'A' %}x{% endif %}{% endfor %}", "row.lot"),
        ("{% for row in page.rows %}{{ row.nickname }}{% endfor %}", "row.nickname"),
        ("{% for row in page.rows if row %}x{% endfor %}", ""),
        ("{{ page.rows | selectattr('attested') | list | length }}", "page.rows"),
        ("{{ page }}", ""),
        ("{% for name in page %}{{ name }}{% endfor %}", ""),
        (
            "{% set n = namespace(c=0) %}{% for row in page.rows %}{% if row %}{% set n.c = 1 %}{% endif %}"
            "{% endfor %}",
            "",
        ),
        ("{% filter upper %}{{ page.sex }}{% endfilter %}", ""),
        ("{% include 'other.html' %}", ""),
        ("{% macro shout(text) %}{{ text | upper }}{% endmacro %}\n{{ shout(page.sex) }}", "page.sex"),
        ("{{ slot('sex', page.sex) | upper }}", ""),
        ("{% if slot('sex', page.sex) == 'x' %}x{% endif %}", ""),
        ("{{ (page.sex, page.nationality) | join(' ') }}", "page.nationality"),
        ("{{ loop_label.get(page.sex, 'x') }}", "page.sex"),
    ],
)
def test_what_may_not_be_done(form: Form, body: str, field: str) -> None:
    found = check_syntax(HEAD + body, form)
    assert found, body
    if field:
        assert field in {misuse.field for misuse in found}
    assert {misuse.line for misuse in found} == {HEAD.count("\n") + 1}
    assert all(misuse.vi != misuse.en and misuse.vi and misuse.en for misuse in found)


def test_validation_tells_it_with_its_line(tmp_path: Path, fonts: Path) -> None:
    folder = tmp_path / RECEIPT
    folder.mkdir(parents=True)
    for source in (TEMPLATES / RECEIPT).iterdir():
        folder.joinpath(source.name).write_bytes(source.read_bytes())
    page = folder / "page.html"
    slot = '{{ slot("sex", page.sex,'
    text = page.read_text("utf-8").replace(slot, "{% if page.sex == 'Khác' %}<b>x</b>{% endif %}" + slot)
    page.write_text(text, "utf-8")
    (finding,) = check_form(FormLibrary(tmp_path, fonts), RECEIPT)
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "Khác" in one)
    assert (finding.file, finding.line, finding.code) == ("page.html", line, "condition")
