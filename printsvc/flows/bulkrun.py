"""A bulk run: lines of a file through processes into a folder, and on from where it was killed."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from printsvc.domain.form import FormChoice, FormId
from printsvc.errors import RenderError, StateError
from printsvc.flows.bulk import (
    ALONE,
    MERGED,
    NOT_AGAIN,
    LineResult,
    LineStatus,
    Papers,
    Run,
    print_file_name,
    write_whole,
)
from printsvc.flows.bulkcrew import CRASHED, Crew, MakeExecutor, WorkerSetup, spawn_workers
from printsvc.flows.bulkinput import BulkInput, FreshLine
from printsvc.flows.bulkqueue import PRINT_FILE_PAPERS, LineQueue, print_file_place
from printsvc.render.merge import merge_papers
from printsvc.store.bulkledger import BulkLedger

REPORT: Final = "report.ndjson"
LOST: Final = "lost"  # an outcome of a report that no ledger has
ISSUED: Final = "issued.ndjson"
_CALLED: Final = {
    "kid": ("signing key", "khóa ký"),
    "sources": ("state of the forms and fonts", "mẫu giấy hoặc phông chữ"),
    "sites": ("list of sites (--sites)", "danh sách điểm tiêm (--sites)"),
    "form": ("form", "mẫu giấy"),
    "papers": ("way to put papers into files", "cách gộp giấy vào tệp"),
    "issuer": ("issuer", "cơ quan cấp"),
    "country": ("country", "quốc gia"),
}
_SHOWN: Final[Mapping[str, Callable[[Any], str]]] = {  # a digest of files would tell nobody anything
    "kid": str,
    "form": lambda form: str(form.form_id),
    "papers": lambda papers: "--merge site-only" if papers is Papers.BY_SITE else "without --merge site-only",
    "issuer": str,
    "country": str,
}


@dataclass(slots=True)
class Progress:
    """How far a run is: lines that are done, of them in this process (`now`), of `total`; of a merge, papers.

    `lost` is how many papers had been issued whose file is gone, or cut short; `not_again` are the lines of those that
    could not be made again.
    """

    total: int
    done: int = 0
    now: int = 0
    lost: int = 0
    not_again: Set[int] = frozenset()


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
            it_was = _SHOWN[one.name](getattr(run, one.name)) if one.name in _SHOWN else ""
            raise StateError(
                f"This folder was begun with another {en}{it_was and f', {it_was}'}: finish it with the same, or use "
                "another folder.",
                vi=f"Thư mục này đã bắt đầu với {vi} khác{it_was and f', {it_was}'}: hãy dùng như cũ hoặc chọn thư "
                "mục khác.",
                code="other_run",
            )
    return run


def issue_file(
    file: Path,
    ledger: BulkLedger,
    setup: WorkerSetup,
    *,
    workers: int,
    tell: Callable[[Progress], None],
    make_executor: MakeExecutor | None = None,
    lists: bool = True,
) -> Progress:
    """Bring every line of the file to an end and into the ledger, then write `issued.ndjson` and `report.ndjson`.

    Without `lists` these are left to `merge_by_site`.

    Raises StateError where a line is not what it was when the run began, OSError for the file and the folder.
    """
    lost = _lost_papers(ledger, setup.folder)
    source = BulkInput(file, ledger, lost)
    progress = Progress(source.total, lost=len(lost))
    ours = {CRASHED["code"], RenderError.code}
    failed = [
        row for row in ledger.rows(LineStatus.INVALID) if ours & {one["code"] for one in json.loads(row["reasons"])}
    ]
    ledger.forget(row["line"] for row in failed)  # it may have been the machine
    by_site = setup.run.papers is Papers.BY_SITE
    if by_site:
        _remove_unfinished(ledger, setup.folder)
        _remove_unknown_alone(ledger, setup.folder)
    still_lost = set(lost)

    def enter(results: Sequence[LineResult], fresh: Mapping[int, FreshLine]) -> None:
        if not progress.now:
            _take_lists_away(setup.folder)
        # Of a line that is wrong the sender wants to know the dose and the site all the same.
        named = [
            one
            if one.dose_id and one.site_id
            else replace(one, dose_id=one.dose_id or line.dose_id, site_id=one.site_id or line.site_id)
            for one in results
            for line in [fresh[one.number]]
        ]
        ledger.enter([_row(one, fresh[one.number].body) for one in named if not fresh[one.number].lost])
        # That something was issued stays written down, whatever becomes of it now.
        again = [one for one in named if fresh[one.number].lost and one.status is LineStatus.ISSUED]
        if again:
            ledger.replace([_row(one, fresh[one.number].body) for one in again])
        still_lost.difference_update(one.number for one in again)
        progress.done += len(results)
        progress.now += len(results)
        tell(replace(progress, done=progress.done + source.done))

    queue = LineQueue(
        source.by_site() if by_site else source.in_order(),
        setup.run.papers,
        find_doses=ledger.find_doses,
        enter=enter,
        files=ledger.files(),
        lost=Counter(lost.values()),
    )
    with Crew(setup, workers, make_executor or spawn_workers) as crew:
        while True:
            while crew.has_place and (work := queue.next_work()) is not None:
                if work.number:
                    ledger.begin_files([print_file_name(work.site, work.number)])
                crew.submit(work)
            if not crew.busy:
                break
            for work, results in crew.finished():
                enter(results, work.fresh)
                queue.done(work)
    if by_site:
        _remove_unfinished(ledger, setup.folder)
    progress.done += source.done + queue.given_up
    progress.not_again = frozenset(still_lost)
    if lists:
        write_reports(ledger, setup.folder, progress.not_again)
    if queue.given_up:
        tell(progress)
    return progress


def write_reports(ledger: BulkLedger, folder: Path, lost: Set[int] = frozenset()) -> None:
    """Write what was issued, and what was not and why; whole or not at all. `lost` are issued and not there."""
    names = ("line", "dose_id", "site_id", "uvci", "file", "page")
    _write_lines(
        folder / ISSUED,
        (
            {name: row[name] for name in (*names, *(("print_file", "print_page") if row["print_file"] else ()))}
            for row in ledger.rows(LineStatus.ISSUED)
        ),
    )
    told = [status for status in LineStatus if status is not LineStatus.ISSUED or lost]
    _write_lines(
        folder / REPORT,
        (
            {"line": row["line"], "dose_id": row["dose_id"] or None, "site_id": row["site_id"] or None}
            | (
                {"outcome": row["status"], "reasons": json.loads(row["reasons"])}
                if row["status"] != LineStatus.ISSUED
                else {"outcome": LOST, "reasons": [NOT_AGAIN]}
            )
            for row in ledger.rows(*told)
            if row["status"] != LineStatus.ISSUED or row["line"] in lost
        ),
    )


class Merging(NamedTuple):
    """Of print files that were gone or cut short: papers that were put together again, and those that were not."""

    again: int
    not_again: int


def merge_by_site(
    ledger: BulkLedger,
    folder: Path,
    *,
    workers: int,
    tell: Callable[[Progress], None],
    lost: Set[int] = frozenset(),
) -> Merging:
    """Put each site's papers, in the order of the file, into `merged/SITE-0001.pdf` and so on, 500 in each.

    A paper that is in such a file stays in it, so that none is ever in two: what came later gets further files. One
    that is gone, or not whole, is made again with the papers it had, if none of these is `lost`. Then write the lists.
    Raises RenderError where a paper cannot be merged.
    """
    gone: dict[str, dict[int, Path]] = {}
    later: dict[str, dict[int, Path]] = {}
    for row in sorted(ledger.rows(LineStatus.ISSUED), key=lambda row: (row["print_page"] or 0, row["line"])):
        paper = folder / row["file"]
        if row["print_file"] is not None:
            if not _is_whole(folder / row["print_file"], row["print_size"]):
                gone.setdefault(row["print_file"], {})[row["line"]] = paper
        elif row["line"] not in lost:
            later.setdefault(row["site_id"], {})[row["line"]] = paper
    _remove_unfinished(ledger, folder)
    due = {file: papers for file, papers in gone.items() if lost.isdisjoint(papers)}
    again = sum(map(len, due.values()))
    taken = {print_file_place(file) for file in ledger.print_files()}
    for site_id, mine in sorted(later.items()):
        lines = list(mine)
        number = 1
        for start in range(0, len(lines), PRINT_FILE_PAPERS):
            while (site_id.casefold(), number) in taken:
                number += 1
            taken.add((site_id.casefold(), number))
            chosen = lines[start : start + PRINT_FILE_PAPERS]
            due[print_file_name(site_id, number)] = {line: mine[line] for line in chosen}
    if due:
        _take_lists_away(folder)
        ledger.begin_files(due)
        progress = Progress(sum(map(len, due.values())))
        tell(replace(progress))  # the first file may take long
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
            done = {
                executor.submit(_merge, folder / file, list(papers.values())): (file, papers)
                for file, papers in due.items()
            }
            for future in as_completed(done):
                file, papers = done[future]
                size, first_pages = future.result()
                ledger.enter_print_file(file, size, dict(zip(papers, first_pages, strict=True)))
                progress.done += len(papers)
                progress.now += len(papers)
                tell(replace(progress))
        ledger.end_files()
    write_reports(ledger, folder, lost)
    return Merging(again, sum(map(len, gone.values())) - again)


def _merge(target: Path, papers: Sequence[Path]) -> tuple[int, Sequence[int]]:
    merged = merge_papers(paper.read_bytes() for paper in papers)
    write_whole(target, merged.pdf)
    return len(merged.pdf), merged.first_pages


def _remove_unfinished(ledger: BulkLedger, folder: Path) -> None:
    """What was written and not entered before a kill is written again, perhaps with other papers under other names.

    Nothing else: others may have put something beside it.
    """
    for name in ledger.end_files():
        (folder / name).unlink(missing_ok=True)
        (folder / f"{name}.new").unlink(missing_ok=True)
    known = ledger.files() | ledger.print_files()
    for file in (folder / MERGED).glob("*.pdf.new"):  # it was to replace a file that is known
        if f"{MERGED}/{file.name.removesuffix('.new')}" in known:
            file.unlink()


def _remove_unknown_alone(ledger: BulkLedger, folder: Path) -> None:
    """The same for papers that have a file alone beside print files: the dose may be issued at another site now."""
    known = ledger.files()
    for file in (folder / MERGED).glob("*.pdf*"):
        if ALONE.fullmatch(file.name.removesuffix(".new")) and f"{MERGED}/{file.name}" not in known:
            file.unlink()


def _take_lists_away(folder: Path) -> None:
    """What they say is over."""
    for name in (ISSUED, REPORT):
        (folder / name).unlink(missing_ok=True)


def _lost_papers(ledger: BulkLedger, folder: Path) -> dict[int, str]:
    """The lines whose paper the ledger has and the disk has not, or not whole (power was cut), and its file."""
    lost = ledger.lost_files(lambda file, size: _is_whole(folder / file, size))
    return {row["line"]: row["file"] for row in ledger.rows(LineStatus.ISSUED) if row["file"] in lost} if lost else {}


def _is_whole(file: Path, size: int) -> bool:
    try:
        return os.stat(file).st_size == size
    except FileNotFoundError:
        return False


def _row(result: LineResult, body: bytes) -> list[Any]:
    reasons = json.dumps([dict(reason) for reason in result.reasons], ensure_ascii=False) if result.reasons else "[]"
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
