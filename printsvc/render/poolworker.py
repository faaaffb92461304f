"""What runs in a process of the render pool: one page at a time, and nothing comes back that does not pickle."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path

from printsvc.domain.form import FormId, PageData
from printsvc.errors import InputError, NotFoundError, PrintsvcError, Problem, RenderError
from printsvc.render.draw import Drawer, Drawn, RenderSetup


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of ours on its way back: the exceptions have keyword arguments, which pickle does not keep."""

    kind: type[PrintsvcError]
    code: str
    en: str
    vi: str
    problems: tuple[Problem, ...]

    def error(self) -> PrintsvcError:
        if issubclass(self.kind, InputError):
            return self.kind(list(self.problems), en=self.en, vi=self.vi, code=self.code)
        error = self.kind(self.en, vi=self.vi)
        error.code = self.code
        return error


@dataclass(frozen=True, slots=True)
class Lacking:
    """A worker is ready, but for these forms, which it can only draw slowly."""

    forms: tuple[FormId, ...]


Outcome = Drawn | Refusal | Lacking | None


def start_worker(setup: RenderSetup) -> None:
    """Make this process a worker of its parent: deaf to Ctrl-C, gone when the parent is, fonts and forms loaded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if setup.cache_dir is not None:
        _use_own_temp_folder(setup.cache_dir / "workers")
    draw_page(setup, None, None)
    # What is loaded stays: the collector need not walk it for every page (a tenth of a page's time).
    gc.collect()
    gc.freeze()


def _end_with_parent() -> None:
    """A worker waits on a pipe of which it holds both ends: it would outlive a killed parent for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _use_own_temp_folder(below: Path) -> None:
    """Put this process's temporary files (WeasyPrint's fonts) below `below`, and clear what killed workers left there.

    The lock that a worker keeps on its folder says that it lives; it goes with the process, however that ends.
    """
    below.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(below / "lock", "w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        for folder in below.glob("worker-*"):
            left = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            os.close(left)
        tempfile.tempdir = tempfile.mkdtemp(prefix="worker-", dir=below.absolute())
        fcntl.flock(os.open(tempfile.tempdir, os.O_RDONLY), fcntl.LOCK_EX)
    atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)


@cache
def worker_drawer(setup: RenderSetup) -> Drawer:
    """Return this process's drawer, warm."""
    drawer = Drawer(setup)
    drawer.warm_up()
    return drawer


_ONE_AT_A_TIME = threading.Lock()


def encode_form(setup: RenderSetup, form_id: FormId | None, _: None) -> bytes | None:
    """In the worker: return the compiled form of its stamp, encoded; None where there is none."""
    with _ONE_AT_A_TIME:
        try:
            stamper = worker_drawer(setup).stamper(form_id) if form_id is not None else None
        except (NotFoundError, RenderError):
            return None
        return stamper.form.encode() if stamper is not None else None


def draw_page(setup: RenderSetup, form_id: FormId | None, page: PageData | None) -> Outcome:
    """In the worker: draw the page, or only get ready where there is none.

    A page that takes longer than the setup allows kills the worker: SIGALRM, unhandled, also ends a loop in C. (Not
    where this runs in a thread, which sets no alarm: see `cluster.py`.) One page at a time, whatever threads come.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    with _ONE_AT_A_TIME:
        try:
            drawer = worker_drawer(setup)
            if form_id is None or page is None:
                return Lacking(lacking) if (lacking := tuple(drawer.lacking())) else None
            if in_main_thread:
                signal.setitimer(signal.ITIMER_REAL, setup.timeout_s)
            try:
                return drawer.draw(form_id, page)
            finally:
                if in_main_thread:
                    signal.setitimer(signal.ITIMER_REAL, 0)
        except (InputError, NotFoundError, RenderError) as error:
            problems = tuple(error.problems) if isinstance(error, InputError) else ()
            return Refusal(type(error), error.code, error.en, error.vi, problems)
        except Exception as error:
            # Only its class: the text may hold a person's data, and the exception itself may not pickle.
            name = type(error).__name__
            return Refusal(
                RenderError, RenderError.code, f"Drawing failed: {name}.", f"Tạo trang in bị lỗi: {name}.", ()
            )
