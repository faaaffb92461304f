"""Compiled forms kept in a folder, each under the digest of what it was made from, and made anew when that changes."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Final

from printsvc.domain.form import FormId
from printsvc.errors import RenderError
from printsvc.render import stamp
from printsvc.render.compiler.build import compile_form
from printsvc.render.compiler.places import with_place
from printsvc.render.stamp import CompiledForm, parse_compiled
from printsvc.render.template import FormLibrary

_PACKAGES: Final = ("weasyprint", "pydyf", "uharfbuzz")


def load_compiled(library: FormLibrary, form_id: FormId, cache_dir: Path) -> CompiledForm:
    """Return the compiled form, from `cache_dir` if it is there and sound; else it is compiled and put there.

    Several processes may do so at once: each writes the same bytes. Errors are those of `compile_form`.
    """
    try:
        sources = digest_of_sources(library, form_id)
    except RenderError as error:  # a template that cannot even be loaded
        raise with_place(library, form_id, error) from error
    path = _path(cache_dir, form_id, sources)
    found = _read(path)
    if found is not None:
        return found
    form = compile_form(library, form_id, sources=sources)
    cache_dir.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(form.encode())
    draft.replace(path)
    return form


def find_compiled(library: FormLibrary, form_id: FormId, cache_dir: Path) -> CompiledForm | None:
    """Return the compiled form if it is in `cache_dir` and sound, None where it would have to be compiled."""
    return _read(_path(cache_dir, form_id, digest_of_sources(library, form_id)))


def _path(cache_dir: Path, form_id: FormId, sources: str) -> Path:
    return cache_dir / f"{form_id.replace('/', '-')}-{sources[:32]}.cbor"


def _read(path: Path) -> CompiledForm | None:
    try:
        return parse_compiled(path.read_bytes())
    except (FileNotFoundError, RenderError):
        return None  # not there, half a file, or an older format


def digest_of_sources(library: FormLibrary, form_id: FormId) -> str:
    """Return a SHA-256 over all that a compiled form depends on, in hex: template, fonts, libraries, this program."""
    from weasyprint.text.ffi import ffi, harfbuzz, pango

    found = hashlib.sha256()

    def add(name: str, data: bytes) -> None:
        found.update(f"{name}\0{len(data)}\0".encode() + data)

    library.form(form_id)
    folder = library._templates_dir / form_id
    for path in sorted(folder.iterdir()):
        add(path.name, path.read_bytes())
    for face in library._faces:
        add(face.filename, face.sha256.encode())
    for package in _PACKAGES:
        add(package, version(package).encode())
    add("pango", str(pango.pango_version()).encode())
    add("harfbuzz", bytes(ffi.string(harfbuzz.hb_version_string())) if hasattr(harfbuzz, "hb_version_string") else b"")
    render = Path(stamp.__file__).parents[1]
    for path in sorted((*render.glob("*.py"), *render.glob("stamp/*.py"), *render.glob("compiler/*.py"))):
        add(path.relative_to(render).as_posix(), path.read_bytes())
    return found.hexdigest()
