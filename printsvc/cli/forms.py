"""forms: the papers' layouts, for those who make them and those who choose one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


def _folders() -> tuple[Path, Path]:
    from printsvc.settings import read_settings

    settings = read_settings()
    return settings.templates_dir, settings.fonts_dir


def _library() -> Any:
    """Return the forms with their fonts. Warnings of the layout engine are findings of `validate`, not output."""
    import logging

    from printsvc.render.template import FormLibrary

    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    templates_dir, fonts_dir = _folders()
    return FormLibrary(templates_dir, fonts_dir)


@click.group()
def forms() -> None:
    """Layouts of the papers: look at them, check them."""


@forms.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a form.")
def list_forms(as_json: bool) -> None:
    """List the forms, the one of new certificates marked with *."""
    from printsvc.domain.form import FormId
    from printsvc.errors import RenderError
    from printsvc.render.formfile import find_forms, find_unfinished, read_form
    from printsvc.settings import read_settings

    templates_dir, _ = _folders()
    chosen = read_settings().form
    broken = False
    for form_id in sorted([*find_forms(templates_dir), *find_unfinished(templates_dir)]):
        try:
            form = read_form(templates_dir / form_id, FormId(form_id))
        except RenderError as error:
            broken = True
            click.echo(f"{form_id}: {error.en}\n{' ' * len(form_id)}  {error.vi}", err=True)
            continue
        millimetres = [round(side * 25.4 / 72, 1) for side in (form.width_pt, form.height_pt)]
        about = {
            "form": form_id,
            "default": form_id == chosen,
            "title_vi": form.title_vi,
            "title_en": form.title_en,
            "media": form.media,
            "width_mm": millimetres[0],
            "height_mm": millimetres[1],
            "pages": form.pages,
            "languages": list(form.languages),
            "rows": form.doses,
            "more_rows": form.more_doses,
            "dpi": form.qr.dpi,
        }
        if as_json:
            click.echo(json.dumps(about, ensure_ascii=False))
            continue
        click.echo(f"{'*' if about['default'] else ' '} {form_id}  {form.title_vi} / {form.title_en}")
        size = f"{millimetres[0]:g} x {millimetres[1]:g} mm"
        rows = f"{form.doses} rows" + (f" + {form.more_doses} on a further sheet" if form.more_doses else "")
        sides = f", {form.pages} sides" if form.pages > 1 else ""
        click.echo(f"    {size}{sides} ({form.media}), {form.qr.dpi} dpi, {' '.join(form.languages)}, {rows}")
    if broken:
        sys.exit(1)


@forms.command()
@click.argument("form")
@click.option("--data", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Data of the page, as JSON.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="FILE.pdf or FILE.png.  [the form's name, .pdf]"
)
@click.option("--dpi", type=click.IntRange(36, 1200), default=150, show_default=True, help="Dots an inch of a PNG.")
def preview(form: str, data: Path | None, out: Path | None, dpi: int) -> None:
    """Draw FORM with its own sample, or with the data of a file.

    sample.json of the form shows which fields the data have. A PNG has all pages, one under the other.
    """
    from printsvc.domain.form import FormId
    from printsvc.render.pagedoc import draw_png

    out = out or Path(form.replace("/", "-") + ".pdf")
    if out.suffix.lower() not in (".pdf", ".png"):
        raise click.BadParameter("must end in .pdf or .png", param_hint="--out")
    library = _library()
    form_id = FormId(form)
    page = library.sample(form_id) if data is None else _page_data(data)
    pdf = library.render_pdf(form_id, page)
    out.write_bytes(pdf if out.suffix.lower() == ".pdf" else draw_png(pdf, dpi=dpi))
    click.echo(str(out))


def _page_data(path: Path) -> Any:
    """Return the data of a file; InputError names what is not JSON, or missing."""
    from printsvc.domain.form import PageData
    from printsvc.errors import InputError, Problem

    try:
        page = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        page = None
    if not isinstance(page, dict):
        raise InputError(
            en=f"{path} is not a JSON object.", vi=f"{path} không phải là một đối tượng JSON.", code="json"
        ) from None
    missing = sorted(PageData.__required_keys__ - page.keys())
    if missing:
        raise InputError(
            [Problem(f"/{name}", "missing", "Thiếu mục này.", "This field is missing.") for name in missing]
        )
    return page


@forms.command()
@click.argument("names", metavar="[FORM]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON line a finding.")
@click.option("--compile", "compiles", is_flag=True, help="Compile it too, as `forms compile` does, and keep nothing.")
def validate(names: tuple[str, ...], as_json: bool, compiles: bool) -> None:
    """Check FORM, or all forms: every finding with its file, line and slot. What is wrong with one stops no other.

    A form that is ok can be drawn; whether the stamp can draw it, and fast, only --compile tells.

    Exit code 0 when nothing is wrong, else 1.
    """
    from dataclasses import asdict

    from printsvc.domain.form import FormId
    from printsvc.errors import NotFoundError
    from printsvc.render.formcheck import Finding, check_compiling, check_form

    library = _library()
    wrong = False
    for form_id in names or sorted([*library.form_ids(), *library.unfinished_ids()]):
        try:
            findings = check_form(library, FormId(form_id))
        except NotFoundError as error:
            there = ", ".join(library.form_ids())
            findings = [Finding("", 0, "", "not_found", f"{error.vi} Có: {there}.", f"{error.en} There are: {there}.")]
        if compiles and not findings:
            findings = check_compiling(library, FormId(form_id))
        wrong = wrong or bool(findings)
        for one in findings:
            if as_json:
                click.echo(json.dumps({"form": form_id} | asdict(one), ensure_ascii=False))
                continue
            where = (f"{form_id}/{one.file}" if one.file else form_id) + (f":{one.line}" if one.line else "")
            slot = f" [{one.slot}]" if one.slot else ""
            click.echo(f"{where}{slot}: {one.en}\n{' ' * len(where)}{slot}  {one.vi}")
        if not findings and not as_json:
            click.echo(f"{form_id}: ok")
    if wrong:
        sys.exit(1)


@forms.command("compile")
@click.argument("names", metavar="[FORM]...", nargs=-1)
def compile_forms(names: tuple[str, ...]) -> None:
    """Compile FORM, or all forms, for the stamp, keep it where the service finds it, and say what came of it.

    Exit code 1 when one cannot be compiled: its papers are drawn all the same, but slowly.
    """
    from printsvc.domain.form import FormId
    from printsvc.errors import RenderError
    from printsvc.render.compiler import load_compiled
    from printsvc.settings import read_settings

    library = _library()
    folder = read_settings().data_dir / "cache" / "forms"
    wrong = False
    for form_id in names or library.form_ids():
        try:
            compiled = load_compiled(library, FormId(form_id), folder)
        except RenderError as error:
            wrong = True
            click.echo(f"{form_id}: {error.en}\n{' ' * len(form_id)}  {error.vi}")
            continue
        click.echo(
            f"{form_id}: {len(compiled.slots)} slots, {len(compiled.pages)} pages, "
            f"{len(compiled.encode()):,} bytes, sha256:{compiled.digest[:16]}"
        )
    if wrong:
        sys.exit(1)


COMMANDS = (forms,)
