"""Dose events to files, many at once and without a service: what one line becomes, and how a block of lines is made.

A run is a function of its file and of what its ledger was begun with (`Run`): the time, and a secret from which every
dose's UVCI follows. So a run that was killed goes on with the same bytes, and no dose gets a second UVCI, though
nothing is written down before a file is. (With an ES256 key; a PS256 signature has randomness of its own, and then a
file that was written and not yet entered in the ledger is written again, under the same UVCI.)
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from printsvc.credential.keys import Signer
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent
from printsvc.domain.form import FormChoice, FormId, PageData
from printsvc.domain.site import Site, SiteId
from printsvc.domain.valuesets import PRODUCTS
from printsvc.errors import InputError, PrintsvcError, Problem
from printsvc.flows.intake import VALUE_SETS, parse_event
from printsvc.identity.gate import Hold, decide
from printsvc.issuing.certificate import CertificateOrder, make_certificates
from printsvc.issuing.intake import unknown_site
from printsvc.issuing.page import page_of
from printsvc.render.draw import Drawn, PrintFile, Way

DEFAULT_AUTHORITY = "SỞ Y TẾ"
MERGED: Final = "merged"
MAX_LINE: Final = 1 << 20  # bytes
ALONE: Final = re.compile(r"[^/]*-[0-9A-F]{32}\.pdf")
"""Names in MERGED of papers that have a file alone."""
NOT_AGAIN: Final = {
    "pointer": "",
    "code": "not_made_again",
    "vi": "Giấy này đã cấp nhưng tệp của nó đã mất và không tạo lại được lần này.",
    "en": "This paper was issued, its file is gone or cut short, and it could not be made again this time.",
}


class Papers(StrEnum):
    """How papers lie in files: each in one of its own, or those of a site together, to be printed."""

    SINGLE = "single"
    BY_SITE = "by_site"


class LineStatus(StrEnum):
    ISSUED = "issued"
    HELD = "held"
    INVALID = "invalid"
    REPLAYED = "replayed"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Run:
    """What is fixed when a run begins; `secret` is 32 random bytes, `kid` (hex) the signer's, `sources` the forms'.

    `sites` is a digest of the sites that were given, "" for none. `papers` says how they lie in files.
    """

    secret: bytes
    started_at: datetime
    form: FormChoice
    kid: str
    sources: str
    issuer: str
    country: str
    sites: str = ""
    papers: Papers = Papers.SINGLE


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the input that is to become a certificate, by its number from 1."""

    number: int
    text: bytes


class _LoneDose(NamedTuple):
    """A dose of which no others are known: what a page is made of."""

    dose_pk: int
    event: DoseEvent
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class LineResult:
    """What became of a line. `reasons` are problems as documents; `way` and `way_out` say how the page was drawn.

    `file` is relative to the run's folder, of `size` bytes; "" where none was written. The paper begins on its page
    `page`, the first being 1.
    """

    number: int
    status: LineStatus
    dose_id: str = ""
    site_id: str = ""
    uvci: str = ""
    file: str = ""
    size: int = 0
    page: int = 1
    way: str = ""
    way_out: str = ""
    reasons: tuple[Mapping[str, str], ...] = ()


class Draws(Protocol):
    """Draws pages; see render/draw. A line that takes longer than `timeout_s` hangs."""

    timeout_s: float

    def draw_all(self, form_id: FormId, pages: Sequence[PageData]) -> Iterator[Drawn | PrintsvcError]: ...

    def stamp_print_file(self, form_id: FormId, pages: Sequence[PageData]) -> PrintFile: ...


class Issuer:
    """Makes the certificates of a run: the same line, the same bytes. For one thread at a time."""

    def __init__(self, run: Run, *, signer: Signer, drawer: Draws, sites: Mapping[str, Site], folder: Path) -> None:
        self._run = run
        self._signer = signer
        self._drawer = drawer
        self._sites = dict(sites)
        self._given = frozenset(sites)
        self._folder = folder
        self.timeout_s = drawer.timeout_s

    def issue_all(self, lines: Sequence[Line]) -> Iterator[LineResult]:
        """Write each line's PDF, or say why there is none; give the results in the lines' order.

        Every step is done for all lines before the next (see `Stamper.stamp_all`), but what WeasyPrint has to draw is
        drawn when its turn comes. Raises OSError, and RenderError where the form is wrong.
        """
        results, certified = self._certify(lines)
        pages = [self.page(event, certificate) for _, event, certificate in certified]
        drawn = self._drawer.draw_all(self._run.form.form_id, pages)
        issued = (self._write(*known, one) for known, one in zip(certified, drawn, strict=True))
        for line in lines:
            yield results[line.number] if line.number in results else next(issued)

    def issue_together(self, lines: Sequence[Line], number: int, *, exactly: bool = False) -> Iterator[LineResult]:
        """Like `issue_all`, for lines of one site: its papers become the site's print file of that number.

        What WeasyPrint has to draw gets a file of its own. `exactly`: the file has all the papers, or is not written.
        """
        results, certified = self._certify(lines)
        form_id = self._run.form.form_id
        pages = [self.page(event, certificate) for _, event, certificate in certified]
        made = self._drawer.stamp_print_file(form_id, pages)
        if exactly and len(made.first_page) != len(lines):
            yield from (LineResult(line.number, LineStatus.INVALID, reasons=(NOT_AGAIN,)) for line in lines)
            return
        if made.pdf:
            file = print_file_name(certified[0][1].site_id, number)
            write_whole(f"{self._folder}/{file}", made.pdf)
            for place, first_page in made.first_page.items():
                known = certified[place]
                one = _issued(*known, Drawn(made.pdf, Way.STAMP), file)
                results[known[0].number] = replace(one, page=first_page)
        rest = [place for place in range(len(pages)) if place not in made.first_page]
        drawn = self._drawer.draw_all(form_id, [pages[place] for place in rest])
        issued = (self._write(*certified[place], one) for place, one in zip(rest, drawn, strict=True))
        for line in lines:
            yield results[line.number] if line.number in results else next(issued)

    def _certify(
        self, lines: Sequence[Line]
    ) -> tuple[dict[int, LineResult], list[tuple[Line, DoseEvent, Certificate]]]:
        """What comes of the lines without a paper, by number, and the certificates of the others."""
        results: dict[int, LineResult] = {}
        sound: list[tuple[Line, DoseEvent]] = []
        for line in lines:
            try:
                event = read_event(line.text, now=self._run.started_at)
                if self._given and event.site_id not in self._given:  # a paper with an id in place of the name
                    raise InputError([unknown_site()])
            except InputError as error:
                results[line.number] = _invalid(line, None, error)
                continue
            decision = decide(event.person, event.identity)
            if isinstance(decision, Hold):
                held = tuple({"code": one.code, "vi": one.vi, "en": one.en} for one in decision.reasons)
                known = (event.dose_id, event.site_id)
                results[line.number] = LineResult(line.number, LineStatus.HELD, *known, reasons=held)
            else:
                sound.append((line, event))
        certified: list[tuple[Line, DoseEvent, Certificate]] = []
        for (line, event), made in zip(sound, self.certify_all([event for _, event in sound]), strict=True):
            if isinstance(made, InputError):
                results[line.number] = _invalid(line, event, made)
            else:
                certified.append((line, event, made))
        return results, certified

    def _write(
        self, line: Line, event: DoseEvent, certificate: Certificate, drawn: Drawn | PrintsvcError
    ) -> LineResult:
        if isinstance(drawn, PrintsvcError):
            return _invalid(line, event, drawn)
        file = file_name(certificate.uvci)
        if self._run.papers is Papers.BY_SITE:  # beside its site's print files, so that it is sent with them
            file = f"{MERGED}/{event.site_id}-{_opaque_in(certificate.uvci)}.pdf"  # see ALONE
        write_whole(f"{self._folder}/{file}", drawn.pdf)
        return _issued(line, event, certificate, drawn, file)

    def certify_all(self, events: Sequence[DoseEvent]) -> list[Certificate | InputError]:
        """Return each dose's certificate in this run, always the same, or the error that lies in the dose."""
        run = self._run
        return make_certificates(
            [CertificateOrder(event, opaque_of(run.secret, event.dose_id)) for event in events],
            signer=self._signer,
            qr_capacity=run.form.qr_capacity,
            issuer=run.issuer,
            country=run.country,
            now=run.started_at,
            products=PRODUCTS,
        )

    def page(self, event: DoseEvent, certificate: Certificate) -> PageData:
        """Return what stands on the first paper. Only this dose is known here: the person's others are not shown."""
        site = self._sites.get(event.site_id)
        if site is None:
            site = self._sites[event.site_id] = Site(SiteId(event.site_id), event.site_id, DEFAULT_AUTHORITY)
        dose = _LoneDose(0, event, certificate)
        names: dict[str, str] = {site.site_id: site.name}
        return page_of(dose, copy_number=1, site=site, others=(), site_names=names, values=VALUE_SETS)


def read_event(text: bytes, *, now: datetime) -> DoseEvent:
    """Return the event of one line. Raises InputError with a problem for each mistake."""
    if len(text) >= MAX_LINE:
        vi, en = "Dòng này quá dài: mỗi dòng là một JSON.", "The line is too long: one JSON object a line."
        raise InputError([Problem("", "line_too_long", vi, en)], code="line_too_long")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(
            [Problem("", "not_json", "Dòng này không phải JSON.", "The line is not JSON.")], code="not_json"
        ) from None
    return parse_event(document, now=now)


def opaque_of(secret: bytes, dose_id: str) -> bytes:
    """Return the 16 bytes of a dose's UVCI: without the secret nobody can tell which dose it is of."""
    return hmac.digest(secret, dose_id.encode(), "sha256")[:16]


def body_digest(document: Any) -> bytes:
    """Return a digest of an event by which a repeated line is told from another under the same dose_id."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=True).encode()).digest()[:16]


def file_name(uvci: str) -> str:
    """Return a name that says nothing of the person, in one of 256 folders: `3f/3F0A….pdf`, the UVCI's opaque part."""
    opaque = _opaque_in(uvci)
    return f"{opaque[:2].lower()}/{opaque}.pdf"


def _opaque_in(uvci: str) -> str:
    return uvci.partition("#")[0].rpartition(":")[2]


def print_file_name(site_id: str, number: int) -> str:
    """Return the name of a site's print file: `merged/HN-HBT-01-0001.pdf`."""
    return f"{MERGED}/{site_id}-{number:04d}.pdf"


def write_whole(path: str | Path, body: bytes) -> None:
    """Write a file that is either not there or whole, whenever this process is killed."""
    # Texts: to make a Path and ask for its parent takes a fifth of what the file itself takes.
    place = os.fspath(path)
    folder = os.path.dirname(place) or os.curdir
    try:
        file = _open_nameless(folder)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        file = _open_nameless(folder)
    if file is not None:
        try:
            _write(file, body)
            # A name at the end: one change of the folder, where a name and another one are three. Any descriptor makes
            # it a linkat, which follows the link.
            os.link(f"/proc/self/fd/{file}", place, src_dir_fd=file)
            return
        except (FileExistsError, FileNotFoundError):  # it is to be replaced; there is no /proc
            pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, folder) from error  # a full disk: which one?
        finally:
            os.close(file)
    new = f"{place}.new"
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _write(file, body)
    except OSError as error:
        raise OSError(error.errno, error.strerror, folder) from error
    finally:
        os.close(file)
    os.rename(new, place)


def _open_nameless(folder: str) -> int | None:
    """A file without a name, None where the file system has none such."""
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return None
        raise


def _write(file: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(file, view) :]


def _issued(line: Line, event: DoseEvent, certificate: Certificate, drawn: Drawn, file: str) -> LineResult:
    return LineResult(
        line.number,
        LineStatus.ISSUED,
        event.dose_id,
        event.site_id,
        uvci=certificate.uvci,
        file=file,
        size=len(drawn.pdf),
        way=drawn.way,
        way_out=drawn.reason,
    )


def _invalid(line: Line, event: DoseEvent | None, error: PrintsvcError) -> LineResult:
    problems = error.problems if isinstance(error, InputError) else ()
    if not problems and event is not None:
        problems = [Problem("", error.code, error.vi, error.en)]
    reasons = tuple({"pointer": one.pointer, "code": one.code, "vi": one.vi, "en": one.en} for one in problems)
    if event is None:
        return LineResult(line.number, LineStatus.INVALID, reasons=reasons)
    return LineResult(line.number, LineStatus.INVALID, event.dose_id, event.site_id, reasons=reasons)
