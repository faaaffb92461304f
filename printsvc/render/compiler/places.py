"""Where in a template its faults are, and those that its syntax tells before anything is drawn."""

from __future__ import annotations

import re
from typing import Final

from printsvc.domain.form import DoseRow, FormId, PageData
from printsvc.errors import FormError, NotFoundError, RenderError
from printsvc.render.compiler.drawing import TemplateFaultError, compile_error
from printsvc.render.formfile import Form
from printsvc.render.pagesyntax import check_syntax, line_of_failure, line_of_name, line_of_rule, line_of_slot
from printsvc.render.template import FormLibrary

_MOST_TOLD: Final = 5
_NO_ATTRIBUTE: Final = re.compile(r"has no attribute '([^']+)'")


def check_template(library: FormLibrary, form: Form) -> None:
    """RenderError, with the first few places, if the page depends on data in a way that no compiled form could hold."""
    found = check_syntax(_read(library, form.form_id, "page.html"), form)
    if found:
        others = "".join(f"; line {misuse.line}: {misuse.en.rstrip('.')}" for misuse in found[1:_MOST_TOLD])
        raise compile_error(form.form_id, found[0].en.rstrip(".") + others, line=found[0].line)


def with_place(library: FormLibrary, form_id: FormId, error: RenderError) -> RenderError:
    """Return the error with its line, where that can be told from the template."""
    if isinstance(error, FormError):  # says its place itself
        return error
    page, rules = _read(library, form_id, "page.html"), _read(library, form_id, "form.toml")
    if isinstance(error, TemplateFaultError):
        line = error.line
        if not line:
            line = line_of_slot(page, error.slot) if error.slot else line_of_name(page, error.about)
        if not line and error.slot:
            return _plain(
                compile_error(form_id, error.what, error.slot, file="form.toml", line=line_of_rule(rules, error.slot))
            )
        return _plain(compile_error(form_id, error.what, error.slot, line=line))
    cause = error.__cause__
    if cause is None:
        return error
    # Jinja2 names fields and never what is in them.
    unknown = _NO_ATTRIBUTE.search(str(cause))
    if unknown and unknown[1] not in PageData.__annotations__.keys() | DoseRow.__annotations__.keys():
        line = line_of_slot(page, unknown[1])
        if line:
            return _plain(compile_error(form_id, "form.toml does not declare it", unknown[1], line=line))
    line = line_of_failure(cause)
    return _plain(compile_error(form_id, f"{type(cause).__name__}: {cause}", line=line)) if line else error


def _plain(fault: TemplateFaultError) -> RenderError:
    """The same as an error that goes from one process to another."""
    return FormError(fault.en, vi=fault.vi, file=fault.file, line=fault.line, slot=fault.slot)


def _read(library: FormLibrary, form_id: FormId, name: str) -> str:
    try:
        return (library.folder(form_id) / name).read_text("utf-8")
    except (OSError, ValueError, NotFoundError):
        return ""
