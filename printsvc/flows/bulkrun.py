"""A bulk run: lines of a file through processes into a folder, and on from where it was killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from printsvc.credential.keys import LocalSigner, open_private_key
from printsvc.domain.form import FormId
from printsvc.domain.site import Site
from printsvc.errors import RenderError, StateError
from printsvc.flows.bulk import (
    MAX_LINE,
    Draws,
    Issuer,
    Line,
    LineResult,
    LineStatus,
    Run,
    body_digest,
    write_whole,
)
from printsvc.flows.services import FormChoice
from printsvc.render.draw import RenderSetup
from printsvc.render.merge import merge_papers
from printsvc.render.pool import start_worker, worker_drawer
from printsvc.store.bulkledger import BulkLedger
from printsvc.store.keyfile import SealedSigner

REPORT: Final = "report.ndjson"
ISSUED: Final = "issued.ndjson"
MERGED: Final = "merged"
_MERGED_PAPERS: Final = 500
_BLOCK: Final = 256  # a tenth less time each than 64; more is no faster
_BLOCKS_A_WORKER: Final = 3
_CALLED: Final = {
    "kid": ("signing key", "khóa ký"),
    "sources": ("state of the forms and fonts", "mẫu giấy hoặc phông chữ"),
    "sites": ("list of sites (--sites)", "danh sách điểm tiêm (--sites)"),
    "form": ("form", "mẫu giấy"),
}
_CRASHED: Final = {
    "pointer": "",
    "code": "render_crashed",
    "vi": "Dòng này đã làm hỏng hai tiến trình nên không thử lại nữa.",
    "en": "This line ended two processes and is not tried again.",
}


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a process of the run needs; the key comes sealed, with what opens it."""

    render: RenderSetup
    run: Run
    signer: SealedSigner
    passphrase: bytes
    sites: Mapping[str, Site]
    folder: Path


MakeExecutor = Callable[[WorkerSetup, int], Executor]


@dataclass(slots=True)
class Progress:
    """How far a run is: lines that are done, of them in this process (`now`), of `total`."""

    total: int
    done: int = 0
    now: int = 0


@dataclass(slots=True)
class _Work:
    """Lines that are with a process, and the digest of each."""

    lines: list[Line]
    bodies: dict[int, bytes] = field(default_factory=dict)
    doses: dict[int, str] = field(default_factory=dict)


def begin(ledger: BulkLedger, wanted: Run) -> Run:
    """Return the run that the folder was begun with, or begin it with `wanted`.

    Raises StateError where the two differ in anything but the time and the secret: half of a folder would be signed by
    another key, or look different.
    """
    stored = ledger.run()
    if not stored:
        ledger.begin(_document(wanted))
        return wanted
    run = _run_of({"sites": wanted.sites} | dict(stored))  # a folder of before sites were kept takes any
    for one in fields(Run):
        if one.name not in ("secret", "started_at") and getattr(run, one.name) != getattr(wanted, one.name):
            en, vi = _CALLED.get(one.name, (one.name, one.name))
            raise StateError(
                f"This folder was begun with another {en}: finish it with the same, or use another folder.",
                vi=f"Thư mục này đã bắt đầu với {vi} khác: hãy dùng như cũ hoặc chọn thư mục khác.",
                code="other_run",
            )
    return run


def count_lines(file: Path) -> int:
    """Return how many lines have something in them."""
    with file.open("rb") as stream:
        return sum(1 for line in _lines(stream) if line.strip())


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Give the lines, of one that is too long only its beginning: a file may be one line without end."""
    while text := stream.readline(MAX_LINE):
        rest = text
        while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE)
        yield text


def issue_file(
    file: Path,
    ledger: BulkLedger,
    setup: WorkerSetup,
    *,
    workers: int,
    tell: Callable[[Progress], None],
    make_executor: MakeExecutor | None = None,
) -> Progress:
    """Bring every line of the file to an end and into the ledger, then write `issued.ndjson` and `report.ndjson`.

    Raises StateError where a line is not what it was when the run began, OSError for the file and the folder.
    """
    progress = Progress(count_lines(file))
    _forget_lost_files(ledger, setup.folder)
    crashed = [row["line"] for row in ledger.rows(LineStatus.INVALID) if _CRASHED["code"] in row["reasons"]]
    ledger.forget(crashed)  # it may have been the machine
    with _Workers(setup, workers, make_executor or spawn_workers) as crew:
        under_way: set[str] = set()
        deferred: deque[tuple[Line, bytes, str]] = deque()
        source = _fresh_lines(file, ledger, progress)

        def next_work() -> _Work | None:
            work = _Work([])
            rows: list[LineResult] = []
            bodies: dict[int, bytes] = {}
            doses: dict[int, str] = {}
            waiting = len(deferred)
            while len(work.lines) < _BLOCK and len(rows) < _BLOCK:
                if waiting:
                    waiting -= 1
                    line, body, dose_id = deferred.popleft()
                elif (found := next(source, None)) is not None:
                    line, body, dose_id = found
                else:
                    break
                if dose_id in under_way:  # what becomes of the first one decides what this one is
                    deferred.append((line, body, dose_id))
                elif dose_id and (before := ledger.find_dose(dose_id)) is not None:
                    same = LineStatus.REPLAYED if before == body else LineStatus.CONFLICT
                    rows.append(LineResult(line.number, same, dose_id))
                    bodies[line.number], doses[line.number] = body, dose_id
                else:
                    work.lines.append(line)
                    work.bodies[line.number] = body
                    if dose_id:
                        under_way.add(dose_id)
                        work.doses[line.number] = dose_id
            if rows:
                enter(rows, bodies, doses)
            return work if work.lines else None

        def enter(results: Sequence[LineResult], bodies: Mapping[int, bytes], doses: Mapping[int, str]) -> None:
            # Of a line that is wrong the sender wants to know the dose all the same.
            named = [replace(one, dose_id=one.dose_id or doses.get(one.number, "")) for one in results]
            ledger.enter([_row(result, bodies[result.number]) for result in named])
            progress.done += len(results)
            progress.now += len(results)
            tell(progress)

        while True:
            while crew.has_place and (work := next_work()) is not None:
                crew.submit(work)
            if not crew.busy:
                if deferred:
                    continue
                break
            for work, results in crew.finished():
                enter(results, work.bodies, work.doses)
                under_way.difference_update(work.doses.values())
    write_reports(ledger, setup.folder)
    return progress


def write_reports(ledger: BulkLedger, folder: Path) -> None:
    """Write what was issued, and what was not and why; whole or not at all."""
    names = ("line", "dose_id", "site_id", "uvci", "file")
    _write_lines(folder / ISSUED, ({name: row[name] for name in names} for row in ledger.rows(LineStatus.ISSUED)))
    others = [status for status in LineStatus if status is not LineStatus.ISSUED]
    _write_lines(
        folder / REPORT,
        (
            {"line": row["line"], "dose_id": row["dose_id"] or None, "outcome": row["status"]}
            | {"reasons": json.loads(row["reasons"])}
            for row in ledger.rows(*others)
        ),
    )


def merge_by_site(ledger: BulkLedger, folder: Path, *, workers: int) -> list[str]:
    """Put each site's papers, in the order of the file, into `merged/SITE-0001.pdf` and so on, 500 in each.

    Return the files' names. A file that is full and there is left as it is. Raises RenderError where a paper cannot be
    merged.
    """
    of_site: dict[str, list[Path]] = {}
    for row in ledger.rows(LineStatus.ISSUED):
        of_site.setdefault(row["site_id"], []).append(folder / row["file"])
    wanted = {
        f"{site_id}-{start // _MERGED_PAPERS + 1:04d}.pdf": papers[start : start + _MERGED_PAPERS]
        for site_id, papers in sorted(of_site.items())
        for start in range(0, len(papers), _MERGED_PAPERS)
    }
    merged = folder / MERGED
    due = {
        name: papers for name, papers in wanted.items() if len(papers) < _MERGED_PAPERS or not (merged / name).exists()
    }
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        done = [executor.submit(_merge, merged / name, papers) for name, papers in due.items()]
        for future in done:
            future.result()
    return list(wanted)


def _merge(target: Path, papers: Sequence[Path]) -> None:
    write_whole(target, merge_papers(paper.read_bytes() for paper in papers))


class _Workers:
    """Processes that take blocks of lines. One that dies loses none: its lines are done again one by one, apart."""

    def __init__(self, setup: WorkerSetup, workers: int, make_executor: MakeExecutor) -> None:
        self._setup = setup
        self._make_executor = make_executor
        self._most = workers * _BLOCKS_A_WORKER
        self._workers = workers
        self._executor = self._new(workers)
        self._work: dict[Future[list[LineResult]], _Work] = {}

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    @property
    def busy(self) -> bool:
        return bool(self._work)

    @property
    def has_place(self) -> bool:
        return len(self._work) < self._most

    def submit(self, work: _Work) -> None:
        try:
            self._work[self._executor.submit(_issue, work.lines)] = work
        except BrokenExecutor:  # told by the futures, too: there all that was with it is done again
            failed: Future[list[LineResult]] = Future()
            failed.set_exception(BrokenExecutor())
            self._work[failed] = work

    def finished(self) -> Iterator[tuple[_Work, list[LineResult]]]:
        """Wait for some work and give it with its results."""
        done, _ = wait(self._work, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenExecutor) for future in done):
            wait(self._work)  # a broken pool ends all its futures
            lost = [(future, work) for future, work in self._work.items() if future.exception() is not None]
            whole = [(work, future.result()) for future, work in self._work.items() if future.exception() is None]
            self._work.clear()
            for future, _ in lost:
                if not isinstance(future.exception(), BrokenExecutor):
                    future.result()
            self._executor.shutdown(wait=True)
            self._executor = self._new(self._workers)
            yield from whole
            for _, work in lost:
                yield work, self._apart(work)
            return
        for future in done:
            yield self._work.pop(future), future.result()

    def _apart(self, work: _Work) -> list[LineResult]:
        results: list[LineResult] = []
        executor = self._new_one()
        try:
            for line in work.lines:
                try:
                    results += executor.submit(_issue, [line]).result()
                except BrokenExecutor:
                    results.append(LineResult(line.number, LineStatus.INVALID, reasons=(_CRASHED,)))
                    executor.shutdown(wait=True)
                    executor = self._new_one()
        finally:
            executor.shutdown(wait=True)
        return results

    def _new_one(self) -> Executor:
        """Return one process that is up. Raises RenderError where none comes up: that is no line's fault."""
        executor = self._new(1)
        try:
            executor.submit(_is_up).result()
        except BrokenExecutor:
            executor.shutdown(wait=True)
            raise RenderError(
                "The processes that draw end before they have anything to draw: look at memory and disk, run again.",
                vi="Tiến trình tạo trang dừng ngay khi khởi động: hãy kiểm tra bộ nhớ và đĩa rồi chạy lại.",
            ) from None
        return executor

    def _new(self, workers: int) -> Executor:
        return self._make_executor(self._setup, workers)


def spawn_workers(setup: WorkerSetup, workers: int) -> Executor:
    """Return fresh processes that are ready to issue."""
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(setup,)
    )


_issuer: Issuer | None = None
_not_started: Exception | None = None


def _start(setup: WorkerSetup) -> None:
    global _not_started
    try:
        start_worker(setup.render)
        start_issuer(setup, worker_drawer(setup.render))
    except Exception as error:  # else the pool calls itself broken, as if a line had ended the process
        _not_started = error


def _is_up() -> None:
    """In a process: nothing; that it answers is what one wants to know."""


def start_issuer(setup: WorkerSetup, drawer: Draws) -> None:
    """Make this process issue for a run."""
    global _issuer
    key = open_private_key(setup.signer.sealed_key, setup.passphrase)
    signer = LocalSigner(setup.signer.certificate, key)
    _issuer = Issuer(setup.run, signer=signer, drawer=drawer, sites=setup.sites, folder=setup.folder)


def _issue(lines: Sequence[Line]) -> list[LineResult]:
    """In a process: the results of some lines. A line that takes too long ends the process."""
    if _not_started is not None:
        raise _not_started
    assert _issuer is not None, "the process was started by start_issuer"
    in_main_thread = threading.current_thread() is threading.main_thread()
    results: list[LineResult] = []
    coming = _issuer.issue_all(lines)
    while len(results) < len(lines):
        if in_main_thread:
            signal.setitimer(signal.ITIMER_REAL, _issuer.timeout_s)
        results.append(next(coming))
    if in_main_thread:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return results


def _fresh_lines(file: Path, ledger: BulkLedger, progress: Progress) -> Iterator[tuple[Line, bytes, str]]:
    """Give the lines that are not done, with their digests and dose ids ("" where there is none)."""
    with file.open("rb") as stream:
        number = 0
        known: dict[int, tuple[bytes, str]] = {}
        for text in _lines(stream):
            number += 1
            if number % 1000 == 1:
                known = ledger.bodies(number, number + 999)
            if not text.strip():
                continue
            body, dose_id = _read_key(text)
            if number not in known:
                yield Line(number, text), body, dose_id
            elif known[number][0] == body:
                progress.done += 1
            elif known[number][1] not in (LineStatus.ISSUED, LineStatus.HELD):
                ledger.forget([number])  # it was mended; nothing had come of it
                yield Line(number, text), body, dose_id
            else:
                raise StateError(
                    f"Line {number} is not what it was when this run began, and it is {known[number][1]}: put it back, "
                    "and add what is new at the end of the file.",
                    vi=f"Dòng {number} đã khác so với lúc bắt đầu và đã được xử lý ({known[number][1]}): "
                    "hãy trả lại như cũ, và thêm phần mới vào cuối tệp.",
                    code="other_input",
                )


def _read_key(text: bytes) -> tuple[bytes, str]:
    try:
        document = json.loads(text)
        dose_id = document["dose_id"]
        if not isinstance(dose_id, str):
            dose_id = ""
        dose_id.encode()  # half of a surrogate pair can be written in JSON, and nowhere else
        return body_digest(document), dose_id
    except (ValueError, KeyError, TypeError, RecursionError):
        return body_digest(text.decode("latin-1")), ""


def _forget_lost_files(ledger: BulkLedger, folder: Path) -> None:
    """Files that the ledger has and the disk has not, or not whole (power was cut), are made again."""
    lost = []
    for row in ledger.rows(LineStatus.ISSUED):
        try:
            whole = os.stat(folder / row["file"]).st_size == row["size"]
        except FileNotFoundError:
            whole = False
        if not whole:
            lost.append(row["line"])
    ledger.forget(lost)


def _row(result: LineResult, body: bytes) -> list[Any]:
    reasons = json.dumps([dict(reason) for reason in result.reasons], ensure_ascii=False)
    known = [result.dose_id, result.site_id, result.uvci, result.file, result.size, result.way, result.way_out]
    return [result.number, body, result.status, *known, reasons]


def _write_lines(path: Path, documents: Iterator[dict[str, Any]]) -> None:
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def _document(run: Run) -> dict[str, str]:
    table = {one.name: str(getattr(run, one.name)) for one in fields(Run)}
    form = [run.form.form_id, run.form.media, run.form.qr_capacity]
    return table | {
        "secret": run.secret.hex(),
        "started_at": run.started_at.isoformat(),
        "form": json.dumps(form),
    }


def _run_of(stored: Mapping[str, str]) -> Run:
    form_id, media, capacity = json.loads(stored["form"])
    return Run(
        secret=bytes.fromhex(stored["secret"]),
        started_at=datetime.fromisoformat(stored["started_at"]),
        form=FormChoice(FormId(form_id), media, capacity),
        kid=stored["kid"],
        sources=stored["sources"],
        issuer=stored["issuer"],
        country=stored["country"],
        sites=stored["sites"],
    )
