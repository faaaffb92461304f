"""Single papers put together by site: each in one file, once, whatever is added, mended, lost or cut short."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from printsvc_bulk_harness import TextDrawer, events, told

from printsvc.domain.form import FormId, PageData
from printsvc.flows import bulkrun
from printsvc.flows.bulkrun import ISSUED, Progress, merge_by_site
from printsvc.render.draw import Drawn, Way
from printsvc.store.bulkledger import BulkLedger


def small_pdf(text: str) -> bytes:
    """Two pages that say so."""
    target = io.BytesIO()
    with pikepdf.new() as document:
        for _ in range(2):
            page = document.add_blank_page()
            page.obj.Contents = document.make_stream(text.encode())
            page.obj.Resources = pikepdf.Dictionary()
        document.save(target, deterministic_id=True)
    return target.getvalue()


@pytest.fixture
def merge(issue: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`merge(lines, lost)`: a run over these lines, and what it wrote put together, eight papers in a file."""

    def draw_all(drawer: TextDrawer, form_id: FormId, pages: Sequence[PageData]) -> Iterator[Drawn]:
        for page in pages:
            yield Drawn(small_pdf(page["uvci"]), Way.STAMP)

    monkeypatch.setattr(TextDrawer, "draw_all", draw_all)
    monkeypatch.setattr(bulkrun, "PRINT_FILE_PAPERS", 8)

    def done(lines: list[Any], lost: Set[int] = frozenset()) -> Path:
        folder = issue(lines)
        said: list[Progress] = []
        with contextlib.closing(BulkLedger(folder)) as ledger:
            before = Counter({file: path.stat().st_mtime_ns for file, path in merged_in(folder).items()})
            not_again = merge_by_site(ledger, folder, workers=1, tell=said.append, lost=lost).not_again
        assert not_again == 0 or lost
        # Whoever waits is told at once how many papers there are, and of each file that is written.
        written = [file for file, path in merged_in(folder).items() if path.stat().st_mtime_ns != before[file]]
        assert len(said) == len(written) + bool(written)
        assert [one.done for one in said] == sorted({one.done for one in said})
        papers = sum(one["print_file"] in written for one in told(folder, ISSUED))
        assert not said or said[-1].done == said[-1].total == papers
        return folder

    return done


def merged_in(folder: Path) -> dict[str, Path]:
    return {f"merged/{path.name}": path for path in sorted((folder / "merged").glob("*.pdf"))}


def pages_of(folder: Path) -> dict[str, list[str]]:
    """What each page says, by file."""
    found = {}
    for file, path in merged_in(folder).items():
        with pikepdf.open(path) as document:
            found[file] = [page.obj.Contents.read_bytes().decode() for page in document.pages]
    return found


def check(folder: Path, count: int) -> None:
    """Every paper is on the page that is told, and on no other."""
    pages = pages_of(folder)
    issued = told(folder, ISSUED)
    assert len(issued) == count
    assert Counter(text for texts in pages.values() for text in texts) == Counter([one["uvci"] for one in issued] * 2)
    for one in issued:
        assert one["print_file"].startswith(f"merged/{one['site_id']}-0")
        assert pages[one["print_file"]][one["print_page"] - 1] == one["uvci"]
        assert one["print_page"] % 2 == 1


def test_papers_stay_in_the_file_they_are_in(merge: Callable[..., Path]) -> None:
    lines = events(50)
    wrong = dict(lines[4], lot=7)
    folder = merge([*lines[:4], wrong, *lines[5:40]])
    check(folder, 39)
    before = {path: path.read_bytes() for path in (folder / "merged").iterdir()}
    merge(lines)  # one is mended, ten are added
    check(folder, 50)
    assert all(path.read_bytes() == body for path, body in before.items())


def test_files_that_are_lost_or_cut_short_are_made_again(merge: Callable[..., Path]) -> None:
    lines = events(60)
    folder = merge(lines[:50])
    before = {path: path.read_bytes() for path in sorted((folder / "merged").iterdir())}
    (gone, empty, short), rest = list(before)[:3], list(before)[3:]
    assert rest
    gone.unlink()
    empty.write_bytes(b"")
    short.write_bytes(before[short][:-1])
    (folder / "merged" / "HN-HBT-01-0001.pdf.printed").write_bytes(b"theirs")
    merge(lines)
    assert all(path.read_bytes() == body for path, body in before.items())
    check(folder, 60)
    assert (folder / "merged" / "HN-HBT-01-0001.pdf.printed").exists()


def test_what_a_killed_merge_left_is_made_again(merge: Callable[..., Path]) -> None:
    lines = events(30)
    folder = merge(lines[:20])
    with contextlib.closing(BulkLedger(folder)) as ledger:
        ledger.begin_files(["merged/HN-HBT-01-0009.pdf"])
    (folder / "merged" / "HN-HBT-01-0009.pdf").write_bytes(b"of a kill")
    known = folder / told(folder, ISSUED)[0]["print_file"]
    half = known.with_name(known.name + ".new")
    half.write_bytes(b"half")
    theirs = folder / "merged" / f"HN-HBT-01-{'0A' * 16}.pdf"
    theirs.write_bytes(b"a copy of a single paper")
    merge(lines)
    assert not half.exists()
    assert theirs.read_bytes() == b"a copy of a single paper"
    theirs.unlink()
    check(folder, 30)


def test_a_paper_that_is_gone_keeps_no_others_from_the_printer(merge: Callable[..., Path]) -> None:
    lines = events(40)
    folder = merge(lines[:20])
    before = {path: path.read_bytes() for path in (folder / "merged").iterdir()}
    in_a_file = told(folder, ISSUED)[3]
    (folder / in_a_file["print_file"]).unlink()
    (folder / in_a_file["file"]).unlink()
    merge([b"" if number == 3 else line for number, line in enumerate(lines)], {4})
    there = pages_of(folder)
    assert in_a_file["print_file"] not in there
    issued = [one for one in told(folder, ISSUED) if one["print_file"] != in_a_file["print_file"]]
    assert all(there[one["print_file"]][one["print_page"] - 1] == one["uvci"] for one in issued)
    assert {one["line"] for one in told(folder, ISSUED)} == set(range(1, 41))
    assert [(one["line"], one["outcome"]) for one in told(folder)] == [(4, "lost")]
    merge(lines)
    check(folder, 40)
    assert all(path.read_bytes() == body for path, body in before.items())
