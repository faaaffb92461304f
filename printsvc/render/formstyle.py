"""What is wrong in a form's style sheet and page that no drawing tells: tints, another font, a brace that stays open.

What the layout engine itself says of a style sheet it only logs, and leaves the rule out: `engine_warnings` keeps it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

_COMMENT: Final = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_STRING: Final = re.compile(r""""[^"\n]*"|'[^'\n]*'""")
_FONT: Final = re.compile(r"(?<![\w-])font(-family)?\s*:\s*((?:\"[^\"\n]*\"|'[^'\n]*'|[^;}\"'])*)", re.IGNORECASE)
_FACE: Final = re.compile(r"@font-face\s*\{([^}]*)\}", re.IGNORECASE)
_ASSET: Final = re.compile(r"""(?<=["'(])form:([^"')\s{]+)""")
_OUTSIDE: Final = re.compile(
    r"""(?:https?|ftp|file|data|blob):|(?:src|href)\s*=\s*["']?\s*//|url\(\s*["']?\s*//|@import""", re.IGNORECASE
)
_NAMESPACE: Final = re.compile(r"""xmlns(:\w+)?\s*=\s*("[^"]*"|'[^']*')""")
_COLOUR: Final = re.compile(r"#(?!(?:0{3,8}|f{3,8})\b)[0-9a-f]{3,8}\b|\b(?:rgba?|hsla?)\(|\bopacity\s*:", re.IGNORECASE)
# What every style sheet may say; the first three are drawn with faces of the manifest (render/fonts.py).
_GENERIC: Final = frozenset(("sans-serif", "serif", "monospace", "inherit", "initial", "unset", "revert"))
_PLACE: Final = re.compile(r" at (\d+):\d+")
_SAID: Final = re.compile(r"`(.+?)`", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StyleFault:
    """One thing wrong in a text with CSS; `line` counts from 1."""

    line: int
    code: str
    vi: str
    en: str


def check_colours(text: str) -> list[StyleFault]:
    """Return the lines with anything but black and white."""
    vi = "Chỉ dùng màu đen và trắng: máy in 1 bit làm vỡ màu xám."
    en = "Only black and white: a 1-bit printer breaks a tint up."
    return [StyleFault(at, "colour", vi, en) for at, line in enumerate(text.splitlines(), 1) if _COLOUR.search(line)]


def check_outside(text: str) -> list[StyleFault]:
    """Return the lines that would load something from outside the form."""
    vi, en = "Biểu mẫu không được tải gì từ bên ngoài.", "A form may load nothing from outside."
    lines = enumerate(text.splitlines(), 1)
    return [StyleFault(at, "outside", vi, en) for at, line in lines if _OUTSIDE.search(_NAMESPACE.sub("", line))]


def check_fonts(text: str, families: Collection[str], *, own: Collection[str] = ()) -> list[StyleFault]:
    """Return what `text`, a style sheet or a page with style attributes, wants to be drawn with and is not there.

    `families` are those of the manifest, `own` those that the form names itself (`own_families`).
    """
    plain = _blanked(_COMMENT, text)
    known = _GENERIC | {family.casefold() for family in (*families, *own)}
    there = ", ".join(sorted(families))
    found = []
    for match in _FONT.finditer(plain):
        family = _first_family(match[2], shorthand=not match[1])
        if not family or "{{" in family or "(" in family or family.casefold() in known:
            continue
        found.append(
            StyleFault(
                plain.count("\n", 0, match.start()) + 1,
                "font",
                f"Không có phông chữ {family}, chữ sẽ được vẽ bằng phông khác. Có: {there}.",
                f"There is no font {family}, and another one would be drawn. There are: {there}.",
            )
        )
    return found


def own_families(style: str) -> set[str]:
    """Return the families that the style sheet's own @font-face rules name."""
    faces = _FACE.findall(_blanked(_COMMENT, style))
    return {_first_family(match[2], shorthand=False) for face in faces for match in _FONT.finditer(face) if match[1]}


def check_loads(text: str, assets: Collection[str]) -> list[StyleFault]:
    """Return where a style sheet or a page asks by `form:FILE` for what is not among the form's assets."""
    plain = _blanked(_COMMENT, text)
    there = ", ".join(assets) or "—"
    found = []
    for match in _ASSET.finditer(plain):
        name = match[1]
        if name in assets:
            continue
        line = plain.count("\n", 0, match.start()) + 1
        if name.casefold().endswith((".ttf", ".otf", ".woff", ".woff2")):
            vi = f"Biểu mẫu không mang phông chữ riêng ({name}): chỉ dùng phông của fonts/manifest.toml."
            en = f"A form brings no font of its own ({name}): it is drawn with those of fonts/manifest.toml."
        else:
            vi = f"{name} không nằm trong assets của form.toml. Có: {there}."
            en = f"{name} is not among the assets of form.toml. There are: {there}."
        found.append(StyleFault(line, "asset", vi, en))
    return found


def check_braces(style: str) -> list[StyleFault]:
    """Return where a brace is never closed, or closes nothing: all after it would be read as something else."""
    plain = _blanked(_STRING, _blanked(_COMMENT, style))
    opened: list[int] = []
    line = 1
    for character in plain:
        if character == "\n":
            line += 1
        elif character == "{":
            opened.append(line)
        elif character == "}":
            if not opened:
                return [StyleFault(line, "brace", "Dấu } này không đóng gì cả.", "This } closes nothing.")]
            opened.pop()
    return [
        StyleFault(at, "brace", "Dấu { này không được đóng lại.", "This { is never closed.")
        for at in opened[-1:]  # the innermost: nearest to the mistake
    ]


@contextmanager
def engine_warnings() -> Iterator[list[str]]:
    """Collect what WeasyPrint warns of, each message once; nothing of it is put out."""
    import weasyprint  # noqa: F401  # sets its logger's level when it is imported first

    logger = logging.getLogger("weasyprint")
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if message not in collected:
                collected.append(message)

    handler, level, propagates = Collector(logging.WARNING), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield collected
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


def split_warning(message: str) -> tuple[int, str, str]:
    """Return the line that a warning names (0 for none), what it quotes ("" for nothing), and the rest of its words."""
    place, quoted = _PLACE.search(message), _SAID.search(message)
    return int(place[1]) if place else 0, quoted[1] if quoted else "", _PLACE.sub("", message, count=1)


def _first_family(value: str, *, shorthand: bool) -> str:
    first = value.split(",")[0].replace("!important", "").strip()
    quoted = _STRING.search(first)
    if quoted:
        return quoted[0][1:-1].strip()
    if shorthand:  # bold 12pt/1.4 Family Name
        sized = re.search(r"\d[\w.%]*(?:\s*/\s*[\w.%]+)?\s+(.+)$", first)
        return sized[1].strip() if sized else ""
    return first


def _blanked(pattern: re.Pattern[str], text: str) -> str:
    """The text without what matches, each character of it a space, so that lines and places stay what they are."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
