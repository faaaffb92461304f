"""A form and its data drawn as a PDF: Jinja2 and WeasyPrint, with nothing fetched from anywhere.

What a page may load is its fonts (`font:FILE`), the files that its form.toml lists (`form:FILE`) and the QR drawn from
its own data (`qr:PLACE`). Any other URL, `http:` and `file:` among them, is refused before it is opened and stops the
page. The same data give the same bytes.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypedDict, cast

from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from printsvc.domain.form import DoseRow, FormId, PageData, fit_rows
from printsvc.errors import InputError, NotFoundError, Problem, RenderError
from printsvc.render.fit import find_tight
from printsvc.render.fonts import FontFace, font_bytes, font_face_css, isolate_fontconfig, load_fonts
from printsvc.render.formfile import (
    Form,
    Slot,
    broken_form,
    find_forms,
    find_unfinished,
    missing_file,
    read_form,
    read_form_text,
)
from printsvc.render.qr import QrMatrix, encode_qr

_MEDIA_TYPES: Final = {".svg": "image/svg+xml", ".png": "image/png"}
_KNOWN_FITS: Final = 2_000
# An edge that lies on a dot's edge but for the last bit of a float makes rasterisers draw one dot more: the symbol
# keeps that far away from it on each side, 1/250 of a dot at 300 dpi.
_HAIR_PT: Final = 0.001


@dataclass(frozen=True, slots=True)
class QrImage:
    """Where a template puts the symbol, without its quiet zone; all whole dots of the form's `dpi` but for a hair."""

    url: str
    left_pt: float
    top_pt: float
    side_pt: float


class Sheet(TypedDict):
    """One of several papers for a person with more doses than the table holds; the first has no rows here.

    `first` is the index of its first row among PageData's `more_rows`.
    """

    number: str  # "2/3"
    first: int
    rows: list[DoseRow]


class _Loaded:
    """A form with all that is prepared once: the template and the parsed style sheet with its fonts."""

    def __init__(self, form: Form, template: Template, assets: Mapping[str, bytes]) -> None:
        self.form = form
        self.template = template
        self.assets = assets
        self.styles: Any = None
        self.font_config: Any = None
        # (rule, text) -> size that fits, where it is not the first: the boxes do not depend on one another, so a site's
        # long name has to be fitted only once. It changes no page, only how soon it is done.
        self.known_fits: dict[tuple[str, str], int] = {}


class _Fetcher:
    """WeasyPrint's door to the world, shut: it serves what is in memory, by exact URL, and remembers a refusal."""

    # WeasyPrint asks for this after an exception: then it stops instead of leaving a hole in the page.
    _fail_on_errors = True

    def __init__(self, faces: Sequence[FontFace], resources: Mapping[str, bytes]) -> None:
        self._faces = faces
        self._resources = resources
        self.refused = False

    def __call__(self, url: str) -> Any:
        from weasyprint.urls import URLFetcherResponse

        if url.startswith("font:"):
            return URLFetcherResponse(url, font_bytes(self._faces, url.removeprefix("font:")))
        if url not in self._resources:
            self.refused = True
            # The URL is not repeated: it may hold what somebody typed.
            raise PermissionError("this page may not load that")
        headers = {"Content-Type": _MEDIA_TYPES.get(Path(url).suffix, "image/png")}
        return URLFetcherResponse(url, self._resources[url], headers)


class FormLibrary:
    """The forms under `templates_dir`, drawn with the fonts of `fonts_dir` alone.

    Must be made before anything imports WeasyPrint in this process. `cache_dir` keeps fontconfig's cache and may be
    shared by processes; without it the process makes a temporary one. For one thread at a time.
    """

    def __init__(self, templates_dir: Path, fonts_dir: Path, *, cache_dir: Path | None = None) -> None:
        self._templates_dir = templates_dir
        self._faces = load_fonts(fonts_dir)
        isolate_fontconfig(cache_dir or process_cache_dir(), self._faces)
        self._glyphs = _glyphs_of(tuple(face.path for face in self._faces))
        self._loaded: dict[str, _Loaded] = {}
        atexit.register(self._loaded.clear)  # WeasyPrint's font configurations need their libraries to close
        self._environment = SandboxedEnvironment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
        )

    def form_ids(self) -> list[FormId]:
        """Return the ids of all forms, sorted."""
        return find_forms(self._templates_dir)

    def unfinished_ids(self) -> list[FormId]:
        """Return the ids, sorted, of the folders that would be forms but have no form.toml."""
        return find_unfinished(self._templates_dir)

    @property
    def families(self) -> list[str]:
        """The font families that a page may be drawn with, sorted."""
        return sorted({face.family for face in self._faces})

    @property
    def face_count(self) -> int:
        """How many lines stand before a form's own style sheet, one for each face."""
        return len(self._faces)

    def forget(self, form_id: FormId) -> None:
        """Load the form anew when it is asked for next."""
        self._loaded.pop(form_id, None)

    def form(self, form_id: FormId) -> Form:
        """Return the form; NotFoundError if there is none of that id, RenderError if it is broken."""
        return self._get(form_id).form

    def folder(self, form_id: FormId) -> Path:
        """Return the folder of the form's files; NotFoundError if there is no such form."""
        if form_id not in self.form_ids():  # also keeps `..` out
            raise NotFoundError("There is no such form.", vi="Không có biểu mẫu này.")
        return self._templates_dir / form_id

    def sample(self, form_id: FormId) -> PageData:
        """Return the form's own example, `sample.json`: nobody's data."""
        self._get(form_id)
        name = "sample.json"
        try:
            return cast(PageData, json.loads(read_form_text(self._templates_dir / form_id, form_id, name)))
        except ValueError as error:
            line = error.lineno if isinstance(error, json.JSONDecodeError) else 0
            why, vi = f"{name} is not JSON: {error}", f"{name} không phải JSON: {error}"
            raise broken_form(form_id, why, vi=vi, file=name, line=line) from error

    def render_pdf(self, form_id: FormId, page: PageData) -> bytes:
        """Return the page as a tagged PDF (PDF/UA-1); equal data give equal bytes.

        InputError, with a pointer to the text, if a text is missing, cannot be fitted in its box, or has a character
        that no font has; QrCapacityError if the QR text is too long; RenderError if the form itself is wrong.
        """
        loaded = self._get(form_id)
        page = fit_rows(page, loaded.form.doses)
        shown = self._check(loaded.form, page)
        matrix = _matrix(loaded.form, page)
        images = _place_qr(loaded.form, matrix)
        png = matrix.png()
        sheets = _sheets(loaded.form, page)
        resources = _resources(loaded, images, png)
        fit = dict.fromkeys(loaded.form.slot_names(len(page["more_rows"])), 0)
        texts = {name: (loaded.form.rule(name).name, text) for name, text in shown.items()}
        fit |= {name: loaded.known_fits[key] for name, key in texts.items() if key in loaded.known_fits}
        while True:
            html = self._html(loaded, page, sheets, fit, images)
            document = self._lay_out(loaded, html, resources, papers=max(1, len(sheets)))
            with _errors_of(form_id):
                tight = find_tight(loaded.form, document, shown.keys(), fit)
            if not tight:
                break
            refused = [_too_long(name, loaded.form.rule(name)) for name, next_fit in tight.items() if next_fit is None]
            if refused:
                raise _invalid(refused)
            fit |= {name: next_fit for name, next_fit in tight.items() if next_fit is not None}
        if len(loaded.known_fits) > _KNOWN_FITS:
            loaded.known_fits.clear()
        loaded.known_fits |= {texts[name]: index for name, index in fit.items() if index}
        identifier = hashlib.sha256(html.encode() + png).digest()[:16]
        with _errors_of(form_id):
            pdf = cast(bytes, document.write_pdf(pdf_variant="pdf/ua-1", pdf_identifier=identifier))
        if document.url_fetcher.refused:  # inside an SVG even a fatal error is only logged
            raise _form_error(form_id, PermissionError())
        return pdf

    def html(self, form_id: FormId, page: PageData, fit: Mapping[str, int]) -> str:
        """Return the page's HTML with each slot at the size of that index, for a page that the form lays out."""
        loaded = self._get(form_id)
        images = _place_qr(loaded.form, _matrix(loaded.form, page))
        return self._html(loaded, page, _sheets(loaded.form, page), fit, images)

    def lay_out(self, form_id: FormId, page: PageData) -> Any:
        """Return WeasyPrint's document of such a page, with each slot at its first size."""
        loaded = self._get(form_id)
        sheets, matrix = _sheets(loaded.form, page), _matrix(loaded.form, page)
        images = _place_qr(loaded.form, matrix)
        html = self._html(
            loaded, page, sheets, dict.fromkeys(loaded.form.slot_names(len(page["more_rows"])), 0), images
        )
        return self._lay_out(loaded, html, _resources(loaded, images, matrix.png()), papers=max(1, len(sheets)))

    def _get(self, form_id: FormId) -> _Loaded:
        if form_id not in self._loaded:
            self._loaded[form_id] = self._load(form_id, self.folder(form_id))
        return self._loaded[form_id]

    def _load(self, form_id: FormId, folder: Path) -> _Loaded:
        import weasyprint  # after isolate_fontconfig
        from weasyprint.text.fonts import FontConfiguration
        from weasyprint.urls import FatalURLFetchingError

        form = read_form(folder, form_id)
        try:
            template = self._environment.from_string(read_form_text(folder, form_id, "page.html"))
        except TemplateError as error:
            raise _form_error(form_id, error) from error
        style = read_form_text(folder, form_id, "style.css")
        assets = {name: _read_asset(folder, form_id, name) for name in form.assets}
        loaded = _Loaded(form, template, assets)
        loaded.font_config = FontConfiguration()
        fetcher = _Fetcher(self._faces, {f"form:{name}": data for name, data in assets.items()})
        try:
            loaded.styles = weasyprint.CSS(
                string=font_face_css(self._faces) + style, font_config=loaded.font_config, url_fetcher=fetcher
            )
        except (Exception, FatalURLFetchingError) as error:  # nobody's data are in it: all may be told
            why = f"style.css cannot be used: {error or type(error).__name__}"
            vi = f"không dùng được style.css: {error or type(error).__name__}"
            raise broken_form(form_id, why, vi=vi, file="style.css") from error
        return loaded

    def _html(
        self,
        loaded: _Loaded,
        page: PageData,
        sheets: Sequence[Sheet],
        fit: Mapping[str, int],
        images: Mapping[str, QrImage | None],
    ) -> str:
        sizes = {name: f"{loaded.form.rule(name).sizes_pt[index]:g}" for name, index in fit.items()}
        try:
            return loaded.template.render(form=loaded.form, page=page, sheets=sheets, fit=sizes, qr=images)
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            raise _form_error(loaded.form.form_id, error) from error

    def _lay_out(self, loaded: _Loaded, html: str, resources: Mapping[str, bytes], *, papers: int) -> Any:
        import weasyprint

        fetcher = _Fetcher(self._faces, resources)
        with _errors_of(loaded.form.form_id):
            document = weasyprint.HTML(string=html, url_fetcher=fetcher).render(
                font_config=loaded.font_config, stylesheets=[loaded.styles]
            )
        # A further paper is one page, whatever sides the first one has.
        if len(document.pages) != loaded.form.pages + papers - 1 or document.metadata.attachments:
            raise _form_error(loaded.form.form_id, ValueError("it has other pages than it says, or attachments"))
        return document

    def _check(self, form: Form, page: PageData) -> dict[str, str]:
        """Return the slots that the page shows, all but those of unused rows, each with its text.

        InputError has every text that cannot be drawn: missing, or with a character that no font has.
        """
        if len(page["rows"]) != form.doses:
            raise InputError(
                [
                    Problem(
                        "/rows",
                        "rows",
                        f"Biểu mẫu có {form.doses} dòng mũi tiêm.",
                        f"The form has {form.doses} dose rows.",
                    )
                ]
            )
        more = len(page["more_rows"])
        if more and not form.more_doses:
            raise _invalid([_no_more_rows(form)])
        problems = []
        shown = {}
        whole = {**page, "sheets": _sheets(form, page)}
        for name in form.slot_names(more):
            slot = form.rule(name)
            text = _text_at(whole, _source(name, slot))
            if text is None:
                continue
            shown[name] = text
            pointer = _pointer(name, slot)
            if slot.required and not text.strip():
                problems.append(Problem(pointer, "missing", "Thiếu nội dung bắt buộc.", "A required text is missing."))
            strange = sorted({ord(character) for character in text if not self._can_draw(character)})
            if strange:
                codes = ", ".join(f"U+{code:04X}" for code in strange)
                problems.append(
                    Problem(
                        pointer, "glyph", f"Phông chữ không có ký tự {codes}.", f"The fonts have no character {codes}."
                    )
                )
        if problems:
            raise _invalid(problems)
        return shown

    def _can_draw(self, character: str) -> bool:
        # Format characters (bidi, zero width, soft hyphen) are drawn as nothing, or turn the line round: no paper.
        return ord(character) in self._glyphs and unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp")


def _read_asset(folder: Path, form_id: str, name: str) -> bytes:
    try:
        return (folder / Path(name).name).read_bytes()
    except OSError as error:
        raise missing_file(form_id, Path(name).name, error) from error


@cache
def process_cache_dir() -> Path:
    """Return this process's own folder for fontconfig's cache; it goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="printsvc-fonts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _glyphs_of(paths: tuple[Path, ...]) -> frozenset[int]:
    """The code points that at least one face draws."""
    points: set[int] = set()
    for path in paths:
        with TTFont(path, lazy=True) as font:
            points.update(font.getBestCmap())
    return frozenset(points)


def _source(name: str, slot: Slot) -> str:
    return name if "*" in slot.of else slot.of


def _pointer(name: str, slot: Slot) -> str:
    return "/" + _source(name, slot).replace(".", "/")


def _text_at(page: Mapping[str, Any], source: str) -> str | None:
    """The text that the slot shows; None in a row that is not used."""
    value: Any = page
    for part in source.split("."):
        if value is None:
            return None
        value = value[int(part)] if isinstance(value, list) else value[part]
    if isinstance(value, list):
        return " ".join(value)
    return None if value is None else str(value)


def _sheets(form: Form, page: PageData) -> list[Sheet]:
    """The papers, where there are more than one."""
    more = page["more_rows"]
    count = form.sheets(len(more))
    starts = [0, *(number * form.more_doses for number in range(count - 1))]
    return [
        Sheet(
            number=f"{number + 1}/{count}",
            first=starts[number],
            rows=more[starts[number] : starts[number] + form.more_doses] if number else [],
        )
        for number in range(count)
    ]


def _matrix(form: Form, page: PageData) -> QrMatrix:
    qr = form.qr
    return encode_qr(page["qr"], level=qr.level, min_version=qr.min_version, max_version=qr.max_version)


def _resources(loaded: _Loaded, images: Mapping[str, QrImage | None], png: bytes) -> dict[str, bytes]:
    """All that the page may load but for its fonts, by URL."""
    own = {f"form:{name}": data for name, data in loaded.assets.items()}
    return own | {image.url: png for image in images.values() if image is not None}


def _place_qr(form: Form, matrix: QrMatrix) -> dict[str, QrImage | None]:
    """Where the symbol stands in each place of the form: in its middle, on whole dots; None where it is too large."""
    settings = form.qr
    side = settings.side_dots(matrix.version)
    images: dict[str, QrImage | None] = {}
    for place in settings.places:
        if matrix.version > place.max_version:
            images[place.name] = None
            continue
        inset = (place.side_dots - side) // 2
        images[place.name] = QrImage(
            # One URL for all places: the PDF holds the picture once.
            url="qr:symbol",
            left_pt=round(settings.points(place.left_dots + inset) + _HAIR_PT, 3),
            top_pt=round(settings.points(place.top_dots + inset) + _HAIR_PT, 3),
            side_pt=round(settings.points(side) - 2 * _HAIR_PT, 3),
        )
    return images


def _invalid(problems: list[Problem]) -> InputError:
    """A text that stands in two places is reported once."""
    return InputError(list({(problem.pointer, problem.code): problem for problem in problems}.values()))


def _no_more_rows(form: Form) -> Problem:
    return Problem(
        "/more_rows",
        "rows",
        f"Biểu mẫu chỉ có {form.doses} dòng mũi tiêm và không có trang tiếp theo.",
        f"The form has {form.doses} dose rows and no continuation page.",
    )


def _too_long(name: str, slot: Slot) -> Problem:
    return Problem(
        _pointer(name, slot),
        "does_not_fit",
        "Nội dung quá dài so với ô của biểu mẫu, dù ở cỡ chữ nhỏ nhất.",
        "The text is too long for its place on the form, even at the smallest size.",
    )


@contextmanager
def _errors_of(form_id: str) -> Iterator[None]:
    """Whatever goes wrong in WeasyPrint, as an error of the form; what it may not load among it."""
    from weasyprint.urls import FatalURLFetchingError

    try:
        yield
    # Fatal in WeasyPrint's sense: no Exception, so that nothing in between takes it for a missing picture.
    except (Exception, FatalURLFetchingError) as error:
        raise _form_error(form_id, error) from error


def _form_error(form_id: str, error: BaseException) -> RenderError:
    # Only the class of the cause: its text may hold a person's data.
    return RenderError(
        f"The form {form_id} could not be drawn: {type(error).__name__}.",
        vi=f"Không vẽ được biểu mẫu {form_id}: {type(error).__name__}.",
    )
