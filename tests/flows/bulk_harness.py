"""Bulk runs in one process: papers are one line long, and a run is killed where a test says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from benchmarks.people import dose_events

from printsvc.credential.keys import LocalSigner, seal_private_key
from printsvc.domain.form import FormChoice, FormId, PageData
from printsvc.domain.site import Site
from printsvc.flows.bulk import Run
from printsvc.flows.bulkcrew import WorkerSetup, start_issuer
from printsvc.flows.bulkrun import REPORT, Progress, begin, issue_file
from printsvc.render.draw import Drawn, PrintFile, RenderSetup, Way
from printsvc.store.bulkledger import BulkLedger
from printsvc.store.keyfile import SealedSigner

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
A4 = FormId("a4/43-2022")


class TextDrawer:
    """Draws a page as its QR text."""

    timeout_s = 60.0

    def draw_all(self, form_id: FormId, pages: Sequence[PageData]) -> Iterator[Drawn]:
        for page in pages:
            yield Drawn(self._text(form_id, page), Way.STAMP)

    def stamp_print_file(self, form_id: FormId, pages: Sequence[PageData]) -> PrintFile:
        """Papers of two pages, a line each; those of a person whose name has a Q are left out."""
        texts = [self._text(form_id, page) for page in pages if "Q" not in page["full_name"]]
        places = [place for place, page in enumerate(pages) if "Q" not in page["full_name"]]
        return PrintFile(b"\n".join(texts), {place: 1 + 2 * number for number, place in enumerate(places)})

    @staticmethod
    def _text(form_id: FormId, page: PageData) -> bytes:
        return f"%PDF {form_id} {page['uvci']} {page['site_name']} {page['qr']}".encode()


class Here(Executor):
    """Works at once; dies where a line says so. `kill_after` raises in the middle of everything, as SIGKILL would."""

    kill_after = 10**9
    kills = True
    comes_up = True
    most_lines = 10**9

    def __init__(self, setup: WorkerSetup, workers: int) -> None:
        self.setup = setup
        self.broken = False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.broken:
            raise BrokenExecutor
        start_issuer(self.setup, TextDrawer())
        lines = args[0] if args else ()
        does_harm = len(lines) > self.most_lines or (self.kills and any(b"KILLS" in line.text for line in lines))
        if not self.comes_up or does_harm:
            self.broken = True
            future.set_exception(BrokenExecutor())
            return future
        Here.kill_after -= 1
        results = fn(*args)
        if Here.kill_after < 0:
            raise KeyboardInterrupt
        future.set_result(results)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not fail, until the test says so."""
    monkeypatch.setattr(Here, "kill_after", 10**9)
    monkeypatch.setattr(Here, "kills", True)
    monkeypatch.setattr(Here, "comes_up", True)
    monkeypatch.setattr(Here, "most_lines", 10**9)


@pytest.fixture
def run(signer: LocalSigner) -> Run:
    form = FormChoice(A4, "iso_a4_210x297mm", 1000)
    return Run(b"\x17" * 32, NOW, form, signer.kid.hex(), "sources", "Bộ Y tế Việt Nam", "VN")


@pytest.fixture
def issue(signer: LocalSigner, run: Run, tmp_path: Path, alive: None) -> Callable[..., Path]:
    """`issue(lines, folder, run)`: a run over these lines (documents, or bytes as they are); returns the folder."""
    sealed = SealedSigner("dsc", signer.certificate, seal_private_key(signer.private_key, b"open"))

    def begun(
        lines: list[Any], name: str = "out", wanted: Run = run, workers: int = 2, sites: tuple[Site, ...] = ()
    ) -> Path:
        file = tmp_path / f"{name}.ndjson"
        text = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        file.write_bytes(b"\n".join(text) + b"\n")
        folder = tmp_path / name
        ledger = BulkLedger(folder)
        try:
            given: dict[str, Site] = {site.site_id: site for site in sites}
            setup = WorkerSetup(RenderSetup(Path(), Path()), begin(ledger, wanted), sealed, b"open", given, folder)
            told: list[tuple[int, int]] = []

            def tell(progress: Progress) -> None:
                told.append((progress.done, progress.total))

            issue_file(file, ledger, setup, workers=workers, tell=tell, make_executor=Here)
            assert told == [] or told[-1][0] == told[-1][1]
        finally:
            ledger.close()
        return folder

    return begun


def events(count: int) -> list[dict[str, Any]]:
    source = dose_events(7, now=NOW)
    return [next(source) for _ in range(count)]


def told(folder: Path, name: str = REPORT) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def papers(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*.pdf")}
