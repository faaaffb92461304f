"""The tree of errors: drawn as it is, and each class useful on its own."""

from __future__ import annotations

import inspect
import re

from printsvc import errors
from printsvc.errors import InputError, PrintsvcError, Problem


def classes() -> dict[str, type[PrintsvcError]]:
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: kind for name, kind in members if issubclass(kind, PrintsvcError)}


def test_the_drawing_is_the_tree() -> None:
    drawing = (errors.__doc__ or "").partition("::\n")[2].partition("A forged")[0]
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for indent, name in re.findall(r"^( +)(\w+Error)", drawing, re.MULTILINE):
        while path and path[-1][0] >= len(indent):
            path.pop()
        drawn[name] = path[-1][1] if path else "Exception"
        path.append((len(indent), name))
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in classes().items()}


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in classes().values()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


def test_an_input_error_speaks_by_its_first_problem() -> None:
    error = InputError([Problem("/a", "missing", "Thiếu.", "Missing."), Problem("/b", "x", "B.", "B.")])
    assert (error.en, error.vi, str(error), len(error.problems)) == ("Missing.", "Thiếu.", "Missing.", 2)
    bare = InputError()
    assert bare.en != bare.vi
    assert InputError(en="No.", code="other").code == "other"
    assert InputError().code == "invalid", "a code given to one error is not the class's"
