"""The faces that a paper may be drawn with: files named, with their digests, in `fonts/manifest.toml`.

The renderer uses these files and no font of the machine: a paper must look the same wherever it is drawn, and a
compiled form holds only for the glyph widths that it was compiled with. Two things see to that, and both are needed:
the style sheet names the faces by `font:` URLs, which only the renderer's own fetcher resolves (`font_bytes`), and
fontconfig, which is asked whenever a family or a glyph is not there, knows of nothing else (`isolate_fontconfig`).
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final
from xml.sax.saxutils import escape

from printsvc.errors import RenderError

MANIFEST_NAME: Final = "manifest.toml"
URL_SCHEME: Final = "font"

# What CSS's generic families, and any family that is not ours, are drawn with.
_GENERIC_FAMILIES: Final = {"sans-serif": "Be Vietnam Pro", "serif": "Tinos", "monospace": "Roboto Mono"}
_FALLBACK_FAMILY: Final = "Be Vietnam Pro"


@dataclass(frozen=True, slots=True)
class FontSource:
    """One entry of the manifest: a face, and the file of an npm package that it comes from.

    `weight` is CSS's, 100 to 900; `style` is "normal" or "italic"; `path` is inside the package; `sha256` is in hex.
    """

    family: str
    weight: int
    style: str
    package: str
    version: str
    path: str
    sha256: str
    licence: str

    @property
    def filename(self) -> str:
        return PurePosixPath(self.path).name


@dataclass(frozen=True, slots=True)
class FontFace:
    """A face whose file is there and is the one that the manifest means."""

    path: Path
    family: str
    weight: int
    style: str
    sha256: str

    @property
    def filename(self) -> str:
        return self.path.name


def read_manifest(fonts_dir: Path) -> tuple[FontSource, ...]:
    """Return the entries of `fonts_dir/manifest.toml` in their order; RenderError if it is not a manifest."""
    try:
        entries = tomllib.loads((fonts_dir / MANIFEST_NAME).read_text(encoding="utf-8"))["font"]
        sources = tuple(FontSource(**entry) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RenderError(
            f"The font manifest {MANIFEST_NAME} cannot be read: {type(error).__name__}.",
            vi=f"Không đọc được danh mục phông chữ {MANIFEST_NAME}: {type(error).__name__}.",
        ) from error
    if not sources:
        raise RenderError(
            "The font manifest is empty.",
            vi="Danh mục phông chữ rỗng.",
        )
    return sources


def load_fonts(fonts_dir: Path) -> list[FontFace]:
    """Return the faces of the manifest in its order, each file checked against its digest once per process.

    RenderError says which file is missing or wrong, and what to run.
    """
    faces = []
    for source in read_manifest(fonts_dir):
        path = fonts_dir.absolute() / source.filename
        _verified_bytes(path, source.sha256)
        faces.append(FontFace(path, source.family, source.weight, source.style, source.sha256))
    return faces


def find_face(faces: Sequence[FontFace]) -> FontFace:
    """Return the face of plain text that stands in no style sheet: the first upright one of the fallback family."""
    return next(
        (face for face in faces if (face.family, face.weight, face.style) == (_FALLBACK_FAMILY, 400, "normal")),
        faces[0],
    )


def font_face_css(faces: Sequence[FontFace]) -> str:
    """Return one @font-face rule for each face; its only source is `font:FILENAME`, see `font_bytes`."""
    return "".join(
        f'@font-face {{ font-family: "{face.family}"; font-weight: {face.weight}; font-style: {face.style};'
        f' src: url("{URL_SCHEME}:{face.filename}"); }}\n'
        for face in faces
    )


def font_bytes(faces: Sequence[FontFace], filename: str) -> bytes:
    """Return the file that the URL `font:FILENAME` means; RenderError if no face has that name."""
    for face in faces:
        if face.filename == filename:
            return _verified_bytes(face.path, face.sha256)
    raise RenderError(
        "The page asks for a font that the manifest does not name.",
        vi="Trang yêu cầu một phông chữ không có trong danh mục.",
    )


def isolate_fontconfig(cache_dir: Path, faces: Sequence[FontFace]) -> None:
    """Make fontconfig know `faces` and nothing else, in this process and in those that it starts from then on.

    To be called before WeasyPrint makes its first document: each document asks fontconfig anew, but one already made
    keeps its fonts. Best before WeasyPrint is imported, which warns on a machine that has no fonts. `cache_dir` is
    made; it gets `fonts.conf` and fontconfig's own cache.
    Source: fonts-conf(5): FONTCONFIG_FILE replaces the machine's configuration as a whole, and a file that matches
    both an acceptfont and a rejectfont is accepted.
    """
    config_path = cache_dir.absolute() / "fonts.conf"
    config_path.parent.mkdir(parents=True, exist_ok=True)
    config = _fontconfig_xml(faces, config_path.parent / "fontconfig")
    if not config_path.exists() or config_path.read_text(encoding="utf-8") != config:
        # Other workers may be reading it: they see the old file or the new one, never half of it.
        draft = config_path.with_name(f"fonts.conf.{os.getpid()}")
        draft.write_text(config, encoding="utf-8")
        draft.replace(config_path)
    # fontconfig has no other door: WeasyPrint lets it find its configuration by itself.
    os.environ["FONTCONFIG_FILE"] = str(config_path)  # noqa: TID251


@cache
def _verified_bytes(path: Path, sha256: str) -> bytes:
    """The file's bytes, kept, so that what was checked is what is drawn with."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RenderError(
            f"The font {path.name} is missing from {path.parent.name}/. Run script/setup.",
            vi=f"Thiếu phông chữ {path.name} trong {path.parent.name}/. Hãy chạy script/setup.",
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RenderError(
            f"The font {path.name} is not the file that the manifest means (SHA-256). Delete it and run script/setup.",
            vi=f"Phông chữ {path.name} không đúng với danh mục (SHA-256). Hãy xoá tệp rồi chạy script/setup.",
        )
    return data


def _fontconfig_xml(faces: Sequence[FontFace], fontconfig_cache: Path) -> str:
    folders = sorted({str(face.path.parent) for face in faces})
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">', "<fontconfig>"]
    lines += [f"  <dir>{escape(folder)}</dir>" for folder in folders]
    lines += [f"  <cachedir>{escape(str(fontconfig_cache))}</cachedir>", "  <selectfont>"]
    lines += [f"    <acceptfont><glob>{escape(str(face.path))}</glob></acceptfont>" for face in faces]
    lines += [f"    <rejectfont><glob>{escape(folder)}/*</glob></rejectfont>" for folder in folders]
    lines += ["  </selectfont>"]
    lines += [
        f'  <alias binding="same"><family>{generic}</family><prefer><family>{family}</family></prefer></alias>'
        for generic, family in _GENERIC_FAMILIES.items()
    ]
    lines += [
        '  <match target="pattern"><edit name="family" mode="append_last">'
        f"<string>{_FALLBACK_FAMILY}</string></edit></match>",
        "</fontconfig>",
    ]
    return "\n".join(lines) + "\n"
