"""What a worker does with a page: the stamp draws it, or WeasyPrint does where the stamp cannot, and says why.

The same whatever runs it: a process of the pool, one of a bulk run, a machine of a cluster, a benchmark.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from printsvc.domain.form import FormId, PageData
from printsvc.errors import FormError, InputError, NotFoundError, PrintsvcError, RenderError
from printsvc.render.stamp import CompiledForm, Stamper
from printsvc.render.stamp.printfile import Paper
from printsvc.render.template import FormLibrary, process_cache_dir

NOT_COMPILED = "not_compiled"
"""Reason of a page whose form is not compiled yet, or cannot be: it is drawn all the same, slowly."""

_LOOK_AGAIN_S: Final = 2.0


class Way(StrEnum):
    STAMP = "stamp"
    WEASYPRINT = "weasyprint"


@dataclass(frozen=True, slots=True)
class RenderSetup:
    """What a worker needs to draw; `timeout_s` ends a page that hangs, with its worker.

    `forms` are made ready before the first page; empty means all. With `compiles`, a form that is not in the cache is
    compiled where it is first wanted, which takes some ten seconds; without it, its pages are drawn slowly until
    somebody else has compiled it. `sources`, where not empty, is what `sources_digest` must give in the worker: one on
    another machine, with other templates, would draw another paper. Without `warms_way_out`, WeasyPrint draws nothing
    until a page needs it: the start is a second or two shorter, and that page half a second longer.
    """

    templates_dir: Path
    fonts_dir: Path
    cache_dir: Path | None = None
    timeout_s: float = 60.0
    forms: tuple[FormId, ...] = ()
    compiles: bool = True
    sources: str = ""
    warms_way_out: bool = True


@dataclass(frozen=True, slots=True)
class Drawn:
    """A PDF and how it was drawn; `reason` is why not by the stamp, a word without personal data, "" for the stamp."""

    pdf: bytes
    way: Way
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PrintFile:
    """Papers in one PDF, "" for none; `first_page` is where each begins, from 1, by its place among those asked for."""

    pdf: bytes
    first_page: Mapping[int, int]


@dataclass(slots=True)
class PageCounts:
    """How pages were drawn since this process started: (way, reason) to number. Nothing of it is stored."""

    drawn: Counter[tuple[Way, str]] = field(default_factory=Counter)

    def add(self, drawn: Drawn) -> None:
        self.drawn[drawn.way, drawn.reason] += 1

    def document(self) -> dict[str, Any]:
        """Return {"stamped": number, "way_out": {reason: number}}."""
        way_out = {reason: number for (way, reason), number in self.drawn.items() if way is Way.WEASYPRINT}
        return {"stamped": self.drawn[Way.STAMP, ""], "way_out": way_out}


class Drawer:
    """Draws pages of every form. For one thread at a time; must be made before anything imports WeasyPrint."""

    def __init__(self, setup: RenderSetup) -> None:
        if setup.sources and setup.sources != sources_digest(setup):
            raise RenderError(
                "This worker has other forms or fonts than the service.",
                vi="Tiến trình tạo trang dùng biểu mẫu hoặc phông chữ khác với dịch vụ.",
            )
        self.library = FormLibrary(setup.templates_dir, setup.fonts_dir, cache_dir=setup.cache_dir)
        self._setup = setup
        self.timeout_s = setup.timeout_s
        self._stampers: dict[FormId, Stamper | None] = {}
        self._look_again_at: dict[FormId, float] = {}

    def warm_up(self) -> None:
        """Compile the forms or load them compiled, and draw each sample, both ways where the setup says so.

        A form that cannot be drawn stops no other; its own pages will say what is wrong.
        """
        for form_id in self._wanted():
            with suppress(RenderError, InputError, NotFoundError):
                sample = self.library.sample(form_id)
                self.draw(form_id, sample)
                if self._setup.warms_way_out:
                    self.library.render_pdf(form_id, sample)

    def lacking(self) -> list[FormId]:
        """Return the forms that were to be made ready and are not compiled."""
        return [form_id for form_id in self._wanted() if self._stampers.get(form_id) is None]

    def _wanted(self) -> Sequence[FormId]:
        return self._setup.forms or self.library.form_ids()

    def draw(self, form_id: FormId, page: PageData) -> Drawn:
        """Return the page as PDF; equal data give equal bytes. Errors are those of `FormLibrary.render_pdf`."""
        (drawn,) = self.draw_all(form_id, [page])
        if isinstance(drawn, PrintsvcError):
            raise drawn
        return drawn

    def draw_all(self, form_id: FormId, pages: Sequence[PageData]) -> Iterator[Drawn | PrintsvcError]:
        """Give each page as PDF, or the error that `draw` raises for it: the same bytes, in less time each.

        All stamps are made before the first is given; what WeasyPrint has to draw is drawn when its turn comes. A
        FormError is raised: it is that of all pages.
        """
        stamper = self.stamper(form_id)
        for page, stamped in zip(pages, stamper.stamp_all(pages) if stamper else [None] * len(pages), strict=True):
            if isinstance(stamped, bytes):
                yield Drawn(stamped, Way.STAMP)
            elif isinstance(stamped, PrintsvcError):
                yield stamped
            else:
                reason = stamped.reason if stamped is not None else NOT_COMPILED
                try:
                    yield Drawn(self.library.render_pdf(form_id, page), Way.WEASYPRINT, reason)
                except FormError:
                    raise
                except (InputError, RenderError) as error:
                    yield error

    def stamp_print_file(self, form_id: FormId, pages: Sequence[PageData]) -> PrintFile:
        """Return one PDF to be printed with those that can be stamped; the others are for `draw_all`."""
        stamper = self.stamper(form_id)
        laid_out = stamper.papers(pages) if stamper else []
        papers = {place: paper for place, paper in enumerate(laid_out) if isinstance(paper, Paper)}
        if stamper is None or not papers:
            return PrintFile(b"", {})
        many = len(stamper.form.pages)
        return PrintFile(
            stamper.print_file(list(papers.values())),
            {place: 1 + many * number for number, place in enumerate(papers)},
        )

    def stamper(self, form_id: FormId) -> Stamper | None:
        """Return the form's stamp, None where the form is not compiled. NotFoundError if there is no such form."""
        found = self._stampers.get(form_id)
        if found is not None or time.monotonic() < self._look_again_at.get(form_id, 0):
            return found
        self.library.form(form_id)  # a form that is not there, or broken, is an error and no way out
        folder = (self._setup.cache_dir or process_cache_dir()) / "forms"
        compiled = _compiled(self.library, form_id, folder, compiles=self._setup.compiles)
        self._stampers[form_id] = found = Stamper(compiled) if compiled is not None else None
        # A form that cannot be compiled stays as it is; one that is being compiled will be there soon.
        self._look_again_at[form_id] = math.inf if self._setup.compiles else time.monotonic() + _LOOK_AGAIN_S
        return found


def _compiled(library: FormLibrary, form_id: FormId, folder: Path, *, compiles: bool) -> CompiledForm | None:
    """The compiled form, None where there is none; several processes that want it compile it once."""
    # Only where it is wanted: it imports WeasyPrint's insides, and fonts must be settled before.
    from printsvc.render.compiler.store import find_compiled, load_compiled

    if not compiles:
        return find_compiled(library, form_id, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return load_compiled(library, form_id, folder)
        except RenderError:
            return None


def sources_digest(setup: RenderSetup) -> str:
    """Return the SHA-256 over the templates and the fonts' manifest, names and contents: equal where papers are equal.

    The manifest has each font's own digest, which is checked when fonts are loaded.
    """
    digest = hashlib.sha256()
    files = sorted(path for path in setup.templates_dir.rglob("*") if path.is_file())
    for path in [*files, setup.fonts_dir / "manifest.toml"]:
        name = path.name if path.parent == setup.fonts_dir else path.relative_to(setup.templates_dir).as_posix()
        body = path.read_bytes()
        digest.update(f"{name}\0{len(body)}\0".encode())
        digest.update(body)
    return digest.hexdigest()
