"""Bulk issue into print files: every paper is in one of its site's, once, whatever is repeated, broken or killed."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from printsvc_bulk_harness import Here, TextDrawer, events, papers, told

from printsvc.domain.form import FormId, PageData
from printsvc.errors import StateError
from printsvc.flows import bulkqueue
from printsvc.flows.bulk import Line, Papers, Run
from printsvc.flows.bulkqueue import FreshLine, LineQueue
from printsvc.flows.bulkrun import ISSUED
from printsvc.render.draw import PrintFile


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
        assert one["file"].startswith(f"merged/{one['site_id']}-"), "it is sent with the others of its site"


def issue_and_lose_one(
    issue: Callable[..., Path], lines: list[dict[str, Any]], by_site: Run
) -> tuple[Path, dict[str, bytes], str]:
    """The folder, what was in it, and the name of the print file that is gone now."""
    folder = issue(lines, wanted=by_site)
    before = papers(folder)
    name = next(one["file"] for one in told(folder, ISSUED) if not has_file_alone(one))
    (folder / name).unlink()
    return folder, before, name


def has_file_alone(one: dict[str, Any]) -> bool:
    return one["uvci"].partition("#")[0].rpartition(":")[2] in one["file"]


def test_papers_of_a_site_are_together_in_the_order_of_the_file(
    issue: Callable[..., Path], by_site: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulkqueue, "PRINT_FILE_PAPERS", 100)
    lines = events(450)
    folder = issue(lines, wanted=by_site)
    check_all_are_there_once(folder, lines)
    alone = [one for one in told(folder, ISSUED) if has_file_alone(one)]
    assert 0 < len(alone) < 300, "those with a Q, whom the stamp of these tests cannot set"
    of_site = defaultdict(list)
    for one in told(folder, ISSUED):
        if one not in alone:
            of_site[one["site_id"]].append(one["uvci"])
    assert len(of_site) > 1
    found = uvcis_of(folder)
    for site_id, uvcis in of_site.items():
        mine = sorted(name for name in found if re.fullmatch(rf"merged/{site_id}-\d{{4}}\.pdf", name))
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
    known = sorted((tmp_path / "out" / "merged").glob("*.pdf"))
    known[0].with_name(known[0].name + ".new").write_bytes(b"%PDF")
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


@pytest.mark.parametrize("together", [True, False])
def test_what_was_issued_is_known_though_its_file_is_gone(
    issue: Callable[..., Path], run: Run, by_site: Run, together: bool
) -> None:
    """A sent file must not make room for another person under the same UVCI."""
    wanted = by_site if together else run
    lines = events(60)
    folder = issue(lines, wanted=wanted)
    before = papers(folder)
    for path in folder.glob("*/*.pdf"):
        path.unlink()
    lines[4]["person"]["full_name"] = "NGUYỄN VĂN KHÁC"
    with pytest.raises(StateError, match="Line 5"):
        issue(lines, wanted=wanted)
    issue(events(60), wanted=wanted)
    assert papers(folder) == before


def test_a_lost_file_is_made_again_with_its_own_papers_and_no_others(
    issue: Callable[..., Path], by_site: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulkqueue, "PRINT_FILE_PAPERS", 40)
    lines = events(240)
    folder = issue(lines[:120], wanted=by_site)
    before = papers(folder)
    lost = [*sorted(before)[::2], *(one["file"] for one in told(folder, ISSUED) if has_file_alone(one))]
    for name in lost:
        (folder / name).unlink(missing_ok=True)
    issue(lines, wanted=by_site)
    assert before.items() < papers(folder).items()
    check_all_are_there_once(folder, lines)


def test_a_lost_file_whose_lines_are_not_all_given_is_not_made(issue: Callable[..., Path], by_site: Run) -> None:
    lines = events(60)
    folder, before, name = issue_and_lose_one(issue, lines, by_site)
    issue(lines[:30], wanted=by_site)
    assert papers(folder) == {file: body for file, body in before.items() if file != name}
    assert len(told(folder, ISSUED)) == 60, "what was issued stays written down"
    issue(lines, wanted=by_site)
    assert papers(folder) == before


def test_what_others_put_beside_print_files_stays(issue: Callable[..., Path], by_site: Run) -> None:
    lines = events(40)
    folder = issue(lines, wanted=by_site)
    theirs = {"HN-HBT-01-0001.pdf.printed", "HN-HBT-01-0001-copy.pdf", "HN-HBT-01-0077.pdf", "list-20211127.pdf"}
    for name in theirs:
        (folder / "merged" / name).write_bytes(b"theirs")
    issue(lines, wanted=by_site)
    assert theirs <= {path.name for path in (folder / "merged").iterdir()}


def test_a_lost_file_is_made_again_with_all_its_papers_or_not_at_all(issue: Callable[..., Path], by_site: Run) -> None:
    """A line that ends its process this time must not leave the others on pages that are not theirs."""
    lines = events(60)
    lines[20]["person"]["address"] = "KILLS"
    Here.kills = False
    folder = issue(lines, wanted=by_site)
    before = papers(folder)
    name = next(one["file"] for one in told(folder, ISSUED) if one["line"] == 21)
    (folder / name).unlink()
    Here.kills = True
    for _ in range(2):
        issue(lines, wanted=by_site)
        assert papers(folder) == {file: body for file, body in before.items() if file != name}
        lost = [one for one in told(folder) if one["outcome"] == "lost"]
        assert [one["line"] for one in lost] == [one["line"] for one in told(folder, ISSUED) if one["file"] == name]
        assert {one["reasons"][0]["code"] for one in lost} == {"not_made_again"}
    Here.kills = False
    issue(lines, wanted=by_site)
    assert papers(folder) == before
    assert told(folder) == []


def test_a_lost_file_of_which_a_paper_cannot_be_stamped_any_more_is_not_made(
    issue: Callable[..., Path], by_site: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = events(60)
    folder, before, name = issue_and_lose_one(issue, lines, by_site)
    stamp = TextDrawer.stamp_print_file

    def without_the_last(drawer: TextDrawer, form_id: FormId, pages: Sequence[PageData]) -> PrintFile:
        return stamp(drawer, form_id, pages[:-1])

    with monkeypatch.context() as patched:
        patched.setattr(TextDrawer, "stamp_print_file", without_the_last)
        issue(lines, wanted=by_site)
    assert papers(folder) == {file: body for file, body in before.items() if file != name}
    issue(lines, wanted=by_site)
    assert papers(folder) == before


def test_a_line_that_kills_when_all_have_files_alone_is_told(issue: Callable[..., Path], by_site: Run) -> None:
    lines = [line | {"site_id": "HN-HBT-01"} for line in events(30)]
    lines[7]["person"]["address"] = "KILLS"
    Here.most_lines = 1
    folder = issue(lines, wanted=by_site)
    assert [(one["line"], one["reasons"][0]["code"]) for one in told(folder)] == [(8, "render_crashed")]
    check_all_are_there_once(folder, [*lines[:7], *lines[8:]])


def test_a_run_that_is_cut_short_among_files_alone_prints_no_paper_twice(
    issue: Callable[..., Path], by_site: Run
) -> None:
    lines = [line | {"site_id": "HN-HBT-01"} for line in events(30)]
    Here.most_lines, Here.kill_after = 1, 60
    with pytest.raises(KeyboardInterrupt):
        issue(lines, wanted=by_site)
    Here.most_lines, Here.kill_after = 10**9, 10**9
    check_all_are_there_once(issue(lines, wanted=by_site), lines)


@pytest.mark.parametrize("second", ["dose_id", "dose\\u005fid"])
def test_of_a_dose_that_comes_again_the_first_sound_line_counts(
    issue: Callable[..., Path], by_site: Run, second: str
) -> None:
    """In the order of the file, not of the sites."""
    first, dose = (line | {"site_id": "S-A"} for line in events(2))
    wrong = dose | {"lot": 7}
    elsewhere = dose | {"site_id": "S-B"}
    at_the_first = json.dumps(dose).replace('"dose_id"', f'"{second}"').encode()
    folder = issue([first, wrong, elsewhere, at_the_first], wanted=by_site)
    assert [one["line"] for one in told(folder, ISSUED)] == [1, 3]
    assert [(one["line"], one["outcome"]) for one in told(folder)] == [(2, "invalid"), (4, "conflict")]
    assert "line 3 " in told(folder)[1]["reasons"][0]["en"]


def test_files_are_full_however_sites_come(
    issue: Callable[..., Path], by_site: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulkqueue, "PRINT_FILE_PAPERS", 5)
    lines = events(300)
    for number, line in enumerate(lines):
        line["site_id"] = f"S-{number % 23:02d}"
    lines[70] = lines[3]
    folder = issue(lines, wanted=by_site)
    files = {one["file"] for one in told(folder, ISSUED) if not has_file_alone(one)}
    of_site = Counter(line["site_id"] for number, line in enumerate(lines) if number != 70)
    assert 23 < len(files) <= sum(-(-count // 5) for count in of_site.values())
    check_all_are_there_once(folder, lines)


def test_lines_that_do_harm_only_together_get_files_alone(issue: Callable[..., Path], by_site: Run) -> None:
    """As where there is not the memory for five hundred papers at once."""
    lines = [line | {"site_id": "HN-HBT-01"} for line in events(30)]
    Here.most_lines = 1
    folder = issue(lines, wanted=by_site)
    assert all(map(has_file_alone, told(folder, ISSUED)))
    check_all_are_there_once(folder, lines)


def test_the_report_says_whose_line_it_is_and_which_came_first(issue: Callable[..., Path], by_site: Run) -> None:
    lines = events(3)
    other = json.loads(json.dumps(lines[1])) | {"lot": "OTHER"}
    wrong = {key: value for key, value in lines[2].items() if key != "person"} | {"dose_id": "W"}
    folder = issue([*lines, lines[0], other, wrong], wanted=by_site)
    found = [(one["line"], one["outcome"], one["site_id"]) for one in told(folder)]
    assert found == [
        (4, "replayed", lines[0]["site_id"]),
        (5, "conflict", lines[1]["site_id"]),
        (6, "invalid", lines[2]["site_id"]),
    ]
    assert "line 1 " in told(folder)[0]["reasons"][0]["en"]
    assert "dòng 2," in told(folder)[1]["reasons"][0]["vi"]


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
    together = [one for one in told(folder, ISSUED) if not has_file_alone(one)]
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
    assert "files, --merge site-only:" in caught.value.en


@given(
    sites=st.lists(st.integers(0, 5), max_size=300),
    full=st.integers(1, 40),
    doses=st.integers(1, 400),
)
def test_the_queue_gives_every_line_once(sites: list[int], full: int, doses: int) -> None:
    """Whatever is repeated and however sites come; a block is of one site."""
    lines = [
        FreshLine(Line(number, b""), b"", f"D{number % doses}", f"S{site}") for number, site in enumerate(sites, 1)
    ]
    site_of = {one.line.number: one.site_id for one in lines}
    known: dict[str, tuple[int, bytes]] = {}
    ended: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bulkqueue, "PRINT_FILE_PAPERS", full)
        patched.setattr(bulkqueue, "BLOCK", 8)
        queue = LineQueue(
            iter(lines),
            Papers.BY_SITE,
            find_doses=lambda ids: {dose_id: known[dose_id] for dose_id in ids if dose_id in known},
            enter=lambda results, _: ended.extend(one.number for one in results),
            files={"merged/S1-0002.pdf", "merged/s2-0001.pdf", "ab/CD.pdf"},
            lost={},
        )
        files = []
        while work := queue.next_work():
            (site,) = {site_of[line.number] for line in work.lines}
            files.append((site, work.number))
            assert len(work.lines) <= full
            ended += [line.number for line in work.lines]
            known |= {one.dose_id: (one.line.number, b"") for one in work.fresh.values()}
            queue.done(work)
    assert sorted(ended) == [one.line.number for one in lines]
    assert len(files) == len(set(files))
    assert not {("S1", 2), ("S2", 1)} & set(files), "taken, on a disk that knows no small letters too"
