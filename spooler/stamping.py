"""Pages stamped at the site: compiled forms by digest in a folder, and the stamp over them.

What is stamped is printed only where its SHA-256 is the service's. Everything that goes wrong here ends in the page
being fetched: a form that is not here yet, text that only WeasyPrint can set, a library that draws otherwise.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, cast

import structlog

from printsvc.domain.form import PageData
from printsvc.errors import PrintsvcError
from spooler.protocol import FormName, LeasedJob

if TYPE_CHECKING:  # numpy and HarfBuzz are loaded with the first form
    from printsvc.render.stamp import Stamper

_KEPT_FORMS = 8
log = structlog.get_logger("spooler")


class Stamped(StrEnum):
    """What became of a page's data."""

    SAME = "same"  # the document is here
    DIFFERS = "differs"  # another digest than the service's
    NOT_HERE = "not-here"  # no such form, or one that cannot stamp this page


class SiteForms:
    """The compiled forms of one state directory. All calls block, and come from one thread at a time.

    A page that ends the process is not stamped again: its digest stands in a file while it is stamped.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stampers: dict[str, Stamper] = {}
        self._bad: set[str] = set()
        self._marker = folder / "stamping"
        self._deadly = ""
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._deadly = self._marker.read_text().strip()

    def digests(self) -> tuple[str, ...]:
        """Return the digests of the forms that can be stamped with, the newest last."""
        return tuple(path.stem for path in self._files() if path.stem not in self._bad)

    def lacks(self, names: Iterable[FormName]) -> list[FormName]:
        """Return those of the forms that are not here and were not found bad."""
        here = {path.stem for path in self._files()} | self._bad
        return [name for name in names if name.digest not in here]

    def keep(self, digest: str, encoded: bytes) -> bool:
        """Store a form; False where it is not what its digest says, or there is no room."""
        from printsvc.render.stamp import parse_compiled

        try:
            if parse_compiled(encoded).digest != digest:
                raise ValueError
        except (PrintsvcError, ValueError):
            log.error("form_wrong", digest=digest[:16])
            self._bad.add(digest)
            return False
        path = self._folder / f"{digest}.cbor"
        part = path.with_suffix(".part")
        try:
            with open(part, "wb") as file:
                file.write(encoded)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
        except OSError as error:
            log.warning("form_not_kept", error=type(error).__name__)
            return False
        for old in self._files()[:-_KEPT_FORMS]:
            self._stampers.pop(old.stem, None)
            old.unlink(missing_ok=True)
        return True

    def stamp(self, job: LeasedJob) -> tuple[Stamped, bytes]:
        """Return the document of a job that brought its page's data; empty where it is not the service's."""
        wanted = job.document.sha256
        if job.data is None or wanted == self._deadly:
            return Stamped.NOT_HERE, b""
        try:
            stamper = self._stamper(job.form_digest)
            if stamper is None:
                return Stamped.NOT_HERE, b""
            self._marker.write_text(wanted)
            pdf = stamper.stamp(cast(PageData, job.data))
            self._marker.unlink()
        except Exception as error:
            # Its text may hold what stands on the page: the class alone.
            log.info("page_not_stamped", job_id=job.job_id, why=type(error).__name__)
            with contextlib.suppress(OSError):
                self._marker.unlink(missing_ok=True)
            return Stamped.NOT_HERE, b""
        if hashlib.sha256(pdf).hexdigest() == wanted:
            return Stamped.SAME, pdf
        # Whatever the cause, the next page would differ too: until the next start this form's pages are fetched.
        log.error("stamp_differs", job_id=job.job_id, form=job.form, form_digest=job.form_digest[:16])
        self._bad.add(job.form_digest)
        return Stamped.DIFFERS, b""

    def _stamper(self, digest: str) -> Stamper | None:
        found = self._stampers.get(digest)
        path = self._folder / f"{digest}.cbor"
        if found is None and digest not in self._bad and digest.isalnum() and path.exists():
            from printsvc.render.stamp import Stamper, parse_compiled

            try:
                form = parse_compiled(path.read_bytes())
                if form.digest != digest:
                    raise ValueError
            except (PrintsvcError, ValueError):
                path.unlink(missing_ok=True)  # it is fetched again
                return None
            found = self._stampers[digest] = Stamper(form)
        return found

    def _files(self) -> list[Path]:
        try:
            return sorted(self._folder.glob("*.cbor"), key=lambda path: path.stat().st_mtime)
        except OSError:
            return []


def can_stamp() -> bool:
    """Return whether what the stamp needs is installed here."""
    try:
        import printsvc.render.stamp  # noqa: F401
    except ImportError:
        return False
    return True


__all__ = ["SiteForms", "Stamped", "can_stamp"]
