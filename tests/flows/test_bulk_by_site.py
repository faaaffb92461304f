"""Bulk issue into print files: every paper is in one of its site's, once, whatever is repeated, broken or killed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from printsvc_bulk_harness import Here, events, papers, told

from printsvc.errors import StateError
from printsvc.flows import bulkqueue
from printsvc.flows.bulk import Line, Papers, Run
from printsvc.flows.bulkqueue import FreshLine, LineQueue
from printsvc.flows.bulkrun import ISSUED


@pytest.fixture
def by_site(run: Run) -> Run:
    return replace(run, papers=Papers.BY_SITE)


def uvcis_of(folder: Path) -> dict[str, list[str]]:
    """The papers of each file, in their order."""
    return {name: [text.split()[2].decode() for text in body.split(b"\n")] for name, body in papers(folder).items()}


def check_all_are_there_once(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Each dose's paper is where issued.ndjson says, on that page, and nowhere else."""
    issued = told(folder, ISSUED)
    assert [one["dose_id"] for one in issued] == list(dict.fromkeys(line["dose_id"] for line in lines))
    found = uvcis_of(folder)
    assert Counter(uvci for uvcis in found.values() for uvci in uvcis) == Counter(one["uvci"] for one in issued)
    for one in issued:
        assert found[one["file"]][(one["page"] - 1) // 2] == one["uvci"]
        if one["file"].startswith("merged/"):
            assert one["file"].startswith(f"merged/{one['site_id']}-0")


def test_papers_of_a_site_are_together_in_the_order_of_the_file(
    issue: Callable[..., Path], by_site: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulkqueue, "PRINT_FILE_PAPERS", 100)
    lines = events(450)
    folder = issue(lines, wanted=by_site)
    check_all_are_there_once(folder, lines)
    alone = [one for one in told(folder, ISSUED) if not one["file"].startswith("merged/")]
    assert 0 < len(alone) < 300, "those with a Q, whom the stamp of these tests cannot set"
    of_site = defaultdict(list)
    for one in told(folder, ISSUED):
        if one not in alone:
            of_site[one["site_id"]].append(one["uvci"])
    assert len(of_site) > 1
    found = uvcis_of(folder)
    for site_id, uvcis in of_site.items():
        mine = sorted(name for name in found if name.startswith(f"merged/{site_id}-0"))
        assert mine == [f"merged/{site_id}-{number:04d}.pdf" for number in range(1, len(mine) + 1)]
        assert [uvci for name in mine for uvci in found[name]] == uvcis


@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_a_run_that_is_cut_short_prints_no_paper_twice(
    issue: Callable[..., Path], by_site: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: int
) -> None:
    monkeypatch.setattr(bulkqueue, "PRINT_FILE_PAPERS", 40)
    lines = events(400)
    lines[40] = lines[39]
    Here.kill_after = after
    with pytest.raises(KeyboardInterrupt):
        issue(lines, wanted=by_site)
    Here.kill_after = 10**9
    (tmp_path / "out" / "merged" / "HN-HBT-01-0009.pdf.new").write_bytes(b"%PDF")
    monkeypatch.setattr(bulkqueue, "PRINT_FILE_PAPERS", 60)  # so that other papers meet in a file
    folder = issue(lines, wanted=by_site)
    check_all_are_there_once(folder, lines)
    assert {path.suffix for path in (folder / "merged").iterdir()} == {".pdf"}
    assert [one["outcome"] for one in told(folder)] == ["replayed"]


def test_lines_that_are_added_get_files_of_their_own(issue: Callable[..., Path], by_site: Run) -> None:
    lines = events(120)
    before = papers(issue(lines[:80], wanted=by_site))
    folder = issue(lines, wanted=by_site)
    assert before.items() < papers(folder).items()
    check_all_are_there_once(folder, lines)


def test_a_print_file_that_was_lost_is_made_again(issue: Callable[..., Path], by_site: Run) -> None:
    lines = events(120)
    folder = issue(lines, wanted=by_site)
    before = papers(folder)
    lost, cut = sorted(name for name in before if name.startswith("merged/"))[:2]
    (folder / lost).unlink()
    (folder / cut).write_bytes(before[cut][:-1])
    issue(lines, wanted=by_site)
    assert papers(folder) == before


def test_a_dose_that_comes_again_at_another_site_is_printed_at_the_first(
    issue: Callable[..., Path], by_site: Run
) -> None:
    lines = events(60)
    other = next(line for line in lines if line["site_id"] != lines[0]["site_id"])
    again = json.loads(json.dumps(lines[0])) | {"site_id": other["site_id"]}
    folder = issue([lines[0], again, *lines[1:], again, lines[0]], wanted=by_site)
    check_all_are_there_once(folder, lines)
    assert [one["outcome"] for one in told(folder)] == ["conflict", "conflict", "replayed"]


def test_a_line_that_kills_is_left_out_of_its_sites_file(issue: Callable[..., Path], by_site: Run) -> None:
    lines = events(150)
    lines[70]["person"]["address"] = "KILLS"
    folder = issue(lines, wanted=by_site)
    assert [(one["line"], one["reasons"][0]["code"]) for one in told(folder)] == [(71, "render_crashed")]
    check_all_are_there_once(folder, [*lines[:70], *lines[71:]])
    together = [one for one in told(folder, ISSUED) if one["file"].startswith("merged/")]
    assert len({one["file"] for one in together}) == len({one["site_id"] for one in together})


def test_lines_that_are_no_doses_are_told_as_ever(issue: Callable[..., Path], by_site: Run) -> None:
    lines = events(3)
    folder = issue([b"{", *lines, b'{"site_id": "../x"}', b'{"site_id": "\\ud800"}', b"[]"], wanted=by_site)
    assert [(one["line"], one["outcome"]) for one in told(folder)] == [(n, "invalid") for n in (1, 5, 6, 7)]
    check_all_are_there_once(folder, lines)


def test_half_a_folder_is_finished_as_it_was_begun(issue: Callable[..., Path], run: Run, by_site: Run) -> None:
    lines = events(3)
    issue(lines, wanted=by_site)
    with pytest.raises(StateError) as caught:
        issue(lines, wanted=run)
    assert "--merge" in caught.value.en


@given(
    sites=st.lists(st.integers(0, 5), max_size=300),
    full=st.integers(1, 40),
    most=st.integers(1, 100),
    doses=st.integers(1, 400),
)
def test_the_queue_gives_every_line_once(sites: list[int], full: int, most: int, doses: int) -> None:
    """Whatever is repeated and however sites come; few enough lines are held; a block is of one site."""
    lines = [
        FreshLine(Line(number, b""), b"", f"D{number % doses}", f"S{site}") for number, site in enumerate(sites, 1)
    ]
    site_of = {one.line.number: one.site_id for one in lines}
    known: dict[str, bytes] = {}
    ended: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bulkqueue, "PRINT_FILE_PAPERS", full)
        patched.setattr(bulkqueue, "_MOST_HELD", most)
        patched.setattr(bulkqueue, "BLOCK", 8)
        queue = LineQueue(
            iter(lines),
            Papers.BY_SITE,
            find_dose=known.get,
            enter=lambda results, _, __: ended.extend(one.number for one in results),
            files={"merged/S1-0002.pdf", "ab/CD.pdf"},
        )
        files = []
        while work := queue.next_work():
            (site,) = {site_of[line.number] for line in work.lines}
            files.append((site, work.number))
            assert len(work.lines) <= full
            ended += [line.number for line in work.lines]
            known |= dict.fromkeys(work.doses.values(), b"")
            queue.done(work)
    assert sorted(ended) == [one.line.number for one in lines]
    assert len(files) == len(set(files))
    assert ("S1", 2) not in files
