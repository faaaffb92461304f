"""A bulk run: lines of a file through processes into a folder, and on from where it was killed."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from printsvc.domain.form import FormId
from printsvc.errors import RenderError, StateError
from printsvc.flows.bulk import (
    MAX_LINE,
    MERGED,
    Line,
    LineResult,
    LineStatus,
    Papers,
    Run,
    body_digest,
    print_file_name,
    write_whole,
)
from printsvc.flows.bulkcrew import CRASHED, Crew, MakeExecutor, WorkerSetup, spawn_workers
from printsvc.flows.bulkqueue import PRINT_FILE_PAPERS, FreshLine, LineQueue
from printsvc.flows.services import FormChoice
from printsvc.render.merge import merge_papers
from printsvc.store.bulkledger import BulkLedger

REPORT: Final = "report.ndjson"
ISSUED: Final = "issued.ndjson"
_CALLED: Final = {
    "kid": ("signing key", "khóa ký"),
    "sources": ("state of the forms and fonts", "mẫu giấy hoặc phông chữ"),
    "sites": ("list of sites (--sites)", "danh sách điểm tiêm (--sites)"),
    "form": ("form", "mẫu giấy"),
    "papers": ("way to put papers into files (--merge)", "cách gộp giấy vào tệp (--merge)"),
}


@dataclass(slots=True)
class Progress:
    """How far a run is: lines that are done, of them in this process (`now`), of `total`."""

    total: int
    done: int = 0
    now: int = 0


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
    ours = {CRASHED["code"], RenderError.code}
    failed = [
        row for row in ledger.rows(LineStatus.INVALID) if ours & {one["code"] for one in json.loads(row["reasons"])}
    ]
    ledger.forget(row["line"] for row in failed)  # it may have been the machine
    if setup.run.papers is Papers.BY_SITE:
        _remove_unknown_print_files(ledger, setup.folder)

    def enter(results: Sequence[LineResult], bodies: Mapping[int, bytes], doses: Mapping[int, str]) -> None:
        # Of a line that is wrong the sender wants to know the dose all the same.
        named = [replace(one, dose_id=one.dose_id or doses.get(one.number, "")) for one in results]
        ledger.enter([_row(result, bodies[result.number]) for result in named])
        progress.done += len(results)
        progress.now += len(results)
        tell(progress)

    queue = LineQueue(
        _fresh_lines(file, ledger, progress),
        setup.run.papers,
        find_dose=ledger.find_dose,
        enter=enter,
        files=ledger.files(),
    )
    with Crew(setup, workers, make_executor or spawn_workers) as crew:
        while True:
            while crew.has_place and (work := queue.next_work()) is not None:
                crew.submit(work)
            if not crew.busy:
                break
            for work, results in crew.finished():
                enter(results, work.bodies, work.doses)
                queue.done(work)
    write_reports(ledger, setup.folder)
    return progress


def write_reports(ledger: BulkLedger, folder: Path) -> None:
    """Write what was issued, and what was not and why; whole or not at all."""
    names = ("line", "dose_id", "site_id", "uvci", "file", "page")
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

    Return the files' names, relative to the folder. A file that is full and there is left as it is. Raises RenderError
    where a paper cannot be merged.
    """
    of_site: dict[str, list[Path]] = {}
    for row in ledger.rows(LineStatus.ISSUED):
        of_site.setdefault(row["site_id"], []).append(folder / row["file"])
    wanted = {
        print_file_name(site_id, start // PRINT_FILE_PAPERS + 1): papers[start : start + PRINT_FILE_PAPERS]
        for site_id, papers in sorted(of_site.items())
        for start in range(0, len(papers), PRINT_FILE_PAPERS)
    }
    due = {
        name: papers
        for name, papers in wanted.items()
        if len(papers) < PRINT_FILE_PAPERS or not (folder / name).exists()
    }
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        done = [executor.submit(_merge, folder / name, papers) for name, papers in due.items()]
        for future in done:
            future.result()
    return list(wanted)


def _merge(target: Path, papers: Sequence[Path]) -> None:
    write_whole(target, merge_papers(paper.read_bytes() for paper in papers))


def _fresh_lines(file: Path, ledger: BulkLedger, progress: Progress) -> Iterator[FreshLine]:
    """Give the lines that are not done."""
    with file.open("rb") as stream:
        number = 0
        known: dict[int, tuple[bytes, str]] = {}
        for text in _lines(stream):
            number += 1
            if number % 1000 == 1:
                known = ledger.bodies(number, number + 999)
            if not text.strip():
                continue
            body, dose_id, site_id = _read_key(text)
            if number not in known:
                yield FreshLine(Line(number, text), body, dose_id, site_id)
            elif known[number][0] == body:
                progress.done += 1
            elif known[number][1] not in (LineStatus.ISSUED, LineStatus.HELD):
                ledger.forget([number])  # it was mended; nothing had come of it
                yield FreshLine(Line(number, text), body, dose_id, site_id)
            else:
                raise StateError(
                    f"Line {number} is not what it was when this run began, and it is {known[number][1]}: put it back, "
                    "and add what is new at the end of the file.",
                    vi=f"Dòng {number} đã khác so với lúc bắt đầu và đã được xử lý ({known[number][1]}): "
                    "hãy trả lại như cũ, và thêm phần mới vào cuối tệp.",
                    code="other_input",
                )


def _read_key(text: bytes) -> tuple[bytes, str, str]:
    """A line's digest, its dose and its site; "" where there is none."""
    try:
        document = json.loads(text)
        return body_digest(document), _id_in(document, "dose_id"), _id_in(document, "site_id")
    except (ValueError, TypeError, AttributeError, RecursionError):
        return body_digest(text.decode("latin-1")), "", ""


def _id_in(document: Any, name: str) -> str:
    found = document.get(name)
    if not isinstance(found, str):
        return ""
    found.encode()  # half of a surrogate pair can be written in JSON, and nowhere else
    return found


def _remove_unknown_print_files(ledger: BulkLedger, folder: Path) -> None:
    """What was written and not entered before a kill is written again, perhaps with other papers under other names."""
    known = ledger.files()
    for file in (folder / MERGED).glob("*.pdf*"):  # those among them that were being written over an older one
        if f"{MERGED}/{file.name}" not in known:
            file.unlink()


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
    known = [
        result.dose_id,
        result.site_id,
        result.uvci,
        result.file,
        result.size,
        result.page,
        result.way,
        result.way_out,
    ]
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
        papers=Papers(stored.get("papers", Papers.SINGLE)),
    )
