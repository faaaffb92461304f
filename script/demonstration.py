"""The demonstration behind script/demo: post dose events, wait for paper, read every paper back, account for all.

Exit code 0 only when every dose that was recorded is held with a reason, or has a certificate whose one paper came out,
reads, and says what the event said.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from lab import LabError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from stack import ApiError, Paper, SitePlan, Stack
from stack.papers import says

from printsvc.domain.print_job import UNDER_WAY
from printsvc.flows.intake import SITE_ID

PROJECT = Path(__file__).parents[1]
ROOT = PROJECT / "var" / "demo"
FORM = "a4/43-2022"
STALL_S = 180.0
OUT_OF_PAPER_S = 8.0
_OUTCOME = {201: "issued", 202: "held", 200: "replayed", 409: "conflict"}
_NAMES = [
    ("Trạm Y tế phường Lê Đại Hành", "TRUNG TÂM Y TẾ QUẬN HAI BÀ TRƯNG"),
    ("Điểm tiêm lưu động Nhà thi đấu Phú Thọ", "TRUNG TÂM Y TẾ QUẬN 11"),
    ("Trạm Y tế xã Ẳng Tở", "TRUNG TÂM Y TẾ HUYỆN MƯỜNG ẢNG"),
    ("Trạm Y tế phường Mỹ An", "TRUNG TÂM Y TẾ QUẬN NGŨ HÀNH SƠN"),
]


@dataclass
class Row:
    """What became of one line of the file."""

    dose_id: str | None
    outcome: str
    uvci: str = ""
    papers: int = 0
    read_back: bool = False
    claims: dict[str, Any] | None = None
    trouble: str = ""

    def document(self) -> dict[str, Any]:
        return {
            "dose_id": self.dose_id,
            "outcome": self.outcome,
            "uvci": self.uvci or None,
            "papers": self.papers,
            "read_back": self.read_back,
            "claims": self.claims,
        }


@click.command()
@click.option(
    "--doses",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=PROJECT / "docs" / "examples" / "doses.ndjson",
    help="Dose events, a JSON object a line.",
)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the account here.")
def main(doses: Path, out: Path | None) -> None:
    """Turn dose events into papers on real parts, and prove it."""
    console = Console()
    lines = [line for line in doses.read_bytes().splitlines() if line.strip()]
    shutil.rmtree(ROOT, ignore_errors=True)
    started = time.monotonic()
    try:
        account = run(lines, console)
    except (ApiError, LabError, RuntimeError) as error:
        console.print(f"[bold red]The demonstration stopped:[/] {error}", highlight=False)
        console.print(f"Logs: {ROOT / 'logs'} and {ROOT / 'lab' / 'log'}", highlight=False)
        sys.exit(2)
    if out is not None:
        out.write_text(json.dumps(account, ensure_ascii=False, indent=1) + "\n", "utf-8", errors="backslashreplace")
    show(account, console, time.monotonic() - started)
    sys.exit(0 if account["unaccounted"] == 0 else 1)


def run(lines: list[bytes], console: Console) -> dict[str, Any]:
    """Return the account of these lines, its keys as `--json` writes them."""
    plans = plan_sites(lines)
    with (
        Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        ) as progress,
    ):
        setting_up = progress.add_task("set up", total=len(plans) + 2)

        def told(what: str) -> None:
            progress.update(setting_up, advance=1, description=what)

        with Stack(ROOT, plans, told=told, forms=[FORM]) as stack:
            progress.update(setting_up, completed=len(plans) + 2, description="sites ready")
            rows = post(stack, lines, progress)
            wait_for_paper(stack, {row.uvci for row in rows if row.outcome == "issued"}, progress)
            reading = progress.add_task("reading the papers back", total=stack.sheets())
            papers = stack.read_back(ROOT / "papers", lambda number: progress.update(reading, completed=number))
            books = stack.stats()
            stuck = {job["uvci"]: job for site in plans for job in worklist(stack, site.site_id)}
    return account_for(rows, papers, lines, books, stuck)


def worklist(stack: Stack, site_id: str) -> list[dict[str, Any]]:
    """Return the print jobs of a site that wait for a person."""
    jobs: list[dict[str, Any]] = stack.service.api("admin").get(f"/v1/sites/{site_id}/worklist")["print_jobs"]
    return jobs


def plan_sites(lines: list[bytes]) -> list[SitePlan]:
    """Return a plan for every site that the file names."""
    named: list[str] = []
    for line in lines:
        site_id = _field(line, "site_id")
        if isinstance(site_id, str) and SITE_ID.fullmatch(site_id) and site_id not in named:
            named.append(site_id)
    return [SitePlan(site_id, *_NAMES[number % len(_NAMES)]) for number, site_id in enumerate(named)]


def post(stack: Stack, lines: list[bytes], progress: Progress) -> list[Row]:
    """Post the events, and meanwhile let one printer run out of paper."""
    task = progress.add_task("posting the doses", total=len(lines))
    raster = [printer for name, printer in stack.printers.items() if name.endswith("raster")]
    if raster:
        # This one has no paper from the start; somebody brings some after a while.
        raster[0].behave(media_empty=True)
        threading.Timer(OUT_OF_PAPER_S, raster[0].refill).start()
    rows = []
    for line, answer in zip(lines, stack.post_doses(lines), strict=True):
        outcome = _OUTCOME.get(answer["status"], "invalid" if answer["status"] == 422 else "error")
        dose_id = answer.get("dose_id") or _field(line, "dose_id")
        rows.append(Row(dose_id if isinstance(dose_id, str) else None, outcome, answer.get("uvci") or ""))
        progress.advance(task)
    return rows


def wait_for_paper(stack: Stack, uvcis: set[str], progress: Progress) -> None:
    """Return when every certificate has a paper, when only a person could go on, or when nothing moves any more."""
    task = progress.add_task("printing", total=len(uvcis))
    moved_at, before = time.monotonic(), -1
    while True:
        try:
            numbers = stack.stats()
            printed = numbers["with_paper"]
            under_way = sum(numbers["papers"].get(state, 0) for state in UNDER_WAY)
        except ApiError:
            printed, under_way = before, 1
        progress.update(task, completed=max(printed, 0))
        if printed >= len(uvcis) or not under_way:
            return
        if printed != before:
            moved_at, before = time.monotonic(), printed
        if time.monotonic() - moved_at > STALL_S:
            return  # what is missing will be unaccounted for, by name
        time.sleep(0.25)


def account_for(
    rows: list[Row], papers: list[Paper], lines: list[bytes], books: dict[str, Any], stuck: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Hold the papers against the rows. A dose that is neither held nor on exactly one right paper is unaccounted."""
    by_uvci: defaultdict[str, list[Paper]] = defaultdict(list)
    for paper in papers:
        by_uvci[paper.uvci].append(paper)
    troubles: list[str] = []
    for row, line in zip(rows, lines, strict=True):
        if row.outcome == "error":
            row.trouble = "the service gave no answer that counts"
        if row.outcome == "issued":
            mine = by_uvci.pop(row.uvci, [])
            row.papers = len(mine)
            right = [paper for paper in mine if paper.reads and says(paper, json.loads(line))]
            row.read_back = bool(right)
            row.claims = mine[0].claims if mine else None
            if len(mine) != 1:
                row.trouble = f"{len(mine)} papers"
                if row.uvci in stuck:
                    job = stuck[row.uvci]
                    row.trouble += f"; its print job is {job['state']}: {job['state_reason'] or 'no reason given'}"
            elif not right:
                row.trouble = f"its paper is wrong: {mine[0].verdict}"
        if row.trouble:
            troubles.append(f"{row.dose_id}: {row.trouble}")
    for strays in by_uvci.values():
        troubles += [f"{stray.printer}: a paper of no dose in the file ({stray.verdict})" for stray in strays]
    outcomes = Counter(row.outcome for row in rows)
    recorded = outcomes["issued"] + outcomes["held"]
    if (books["doses"], books["certificates"], books["held"]) != (recorded, outcomes["issued"], outcomes["held"]):
        troubles.append(f"the books say {books['doses']} doses, {books['certificates']} certificates")
    if books["with_paper"] != outcomes["issued"]:
        troubles.append(f"the books say {books['with_paper']} certificates on paper of {outcomes['issued']}")
    return {
        "events": len(rows),
        "doses": recorded,
        "issued": outcomes["issued"],
        "held": outcomes["held"],
        "invalid": outcomes["invalid"],
        "replayed": outcomes["replayed"],
        "conflicts": outcomes["conflict"],
        "papers_printed": len(papers),
        "papers_read_back": sum(paper.reads for paper in papers),
        "unaccounted": len(troubles),
        "troubles": troubles,
        "pages": books.get("pages", {}),
        "rows": [row.document() for row in rows],
    }


def show(account: dict[str, Any], console: Console, seconds: float) -> None:
    """Print the table, and every trouble by name."""
    table = Table(title="From dose to paper", title_justify="left")
    for column in ("doses", "held", "certificates", "papers printed", "papers read back"):
        table.add_column(column, justify="right")
    keys = ("doses", "held", "issued", "papers_printed", "papers_read_back")
    table.add_row(*(str(account[key]) for key in keys))
    console.print(table)
    console.print(
        f"{account['events']} events: {account['replayed']} replayed, {account['conflicts']} in conflict, "
        f"{account['invalid']} invalid. {seconds:.0f} s. Papers: {ROOT / 'papers'}",
        highlight=False,
        soft_wrap=True,
    )
    pages = account["pages"]
    if pages:
        ways = ", ".join(f"{number} {reason}" for reason, number in pages.get("way_out", {}).items()) or "none"
        console.print(f"Pages stamped: {pages.get('stamped', 0)}; by WeasyPrint: {ways}.", highlight=False)
    for trouble in account["troubles"]:
        console.print(f"[bold red]unaccounted:[/] {trouble}", highlight=False, soft_wrap=True)
    if account["unaccounted"] == 0:
        console.print("[bold green]Every dose is accounted for.[/]")


def _field(line: bytes, name: str) -> Any:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return document.get(name) if isinstance(document, dict) else None


if __name__ == "__main__":
    main()
