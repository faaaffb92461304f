"""Bulk issue: every line comes to one end, whatever is repeated, broken or killed; papers here are one line long."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from benchmarks.people import dose_events
from hypothesis import given
from hypothesis import strategies as st
from printsvc_bulk_harness import NOW, Here, TextDrawer, events, papers, told

from printsvc.credential.batch import verify_request
from printsvc.credential.keys import LocalSigner
from printsvc.credential.trust import make_trust_list
from printsvc.domain.form import FormId, PageData
from printsvc.domain.site import Site, SiteId
from printsvc.errors import RenderError, StateError, StoreError
from printsvc.flows import bulkinput, bulkqueue
from printsvc.flows.bulk import MAX_LINE, LineStatus, Run, file_name, opaque_of, write_whole
from printsvc.flows.bulkrun import ISSUED, REPORT
from printsvc.render.draw import Drawn, Way
from printsvc.store.bulkledger import BulkLedger


def test_every_line_becomes_a_signed_paper_with_a_name_that_tells_nothing(
    issue: Callable[..., Path], signer: LocalSigner
) -> None:
    lines = events(200)
    folder = issue(lines)
    issued = told(folder, ISSUED)
    assert [one["dose_id"] for one in issued] == [line["dose_id"] for line in lines]
    assert [one["line"] for one in issued] == list(range(1, 201))
    assert told(folder) == []
    found = papers(folder)
    assert sorted(found) == sorted(one["file"] for one in issued)
    trust = make_trust_list([signer.certificate], version=1, made_at=NOW)
    for one in issued[:20]:
        code = found[one["file"]].decode().partition(" HC1:")[2]
        assert verify_request({"id": 1, "code": "HC1:" + code}, trust=trust, now=NOW)["verdict"] == "valid"
    everything = "".join(found) + "".join(map(str, folder.rglob("*")))
    for line in lines:
        assert line["person"]["id_number"] not in everything
        assert line["dose_id"] not in everything


def test_what_is_not_issued_is_told_with_its_reason(issue: Callable[..., Path]) -> None:
    good, held, wrong, too_long = events(4)
    held["identity"] = {"status": "unchecked"}
    wrong["dose"]["lot"] = "?"
    too_long["dose_id"] = ""
    folder = issue([good, held, wrong, b"{", b"[1]", b"\xff", b"   ", too_long])
    assert len(told(folder, ISSUED)) == 1
    report = told(folder)
    assert [(one["line"], one["outcome"]) for one in report] == [
        (2, "held"),
        (3, "invalid"),
        (4, "invalid"),
        (5, "invalid"),
        (6, "invalid"),
        (8, "invalid"),
    ]
    assert report[0]["reasons"][0]["code"] == "identity_unchecked"
    assert report[1]["reasons"][0]["pointer"] == "/dose/lot"
    assert report[2]["reasons"][0]["code"] == "not_json"
    assert all(reason["vi"] != reason["en"] for one in report for reason in one["reasons"])


def test_a_dose_that_comes_again_gets_no_second_certificate(issue: Callable[..., Path]) -> None:
    """Beside the first one, in the same block; far behind it; after a held one; after one that was wrong."""
    lines = events(300)
    other = json.loads(json.dumps(lines[0])) | {
        "site_id": "DN-NHS-01" if lines[0]["site_id"] == "HN-HBT-01" else "HN-HBT-01"
    }
    held = lines[5] | {"identity": {"status": "unchecked"}}
    wrong = lines[6] | {"site_id": ""}
    shuffled = dict(reversed(lines[0].items()))
    everything = [lines[0], lines[0], other, held, wrong, *lines[1:5], lines[5], *lines[6:], shuffled, other, lines[0]]
    folder = issue(everything)
    report = {one["line"]: one["outcome"] for one in told(folder)}
    last = len(everything)
    assert report == {
        2: "replayed",
        3: "conflict",
        4: "held",
        5: "invalid",
        10: "conflict",  # the dose is held already, with another body
        last - 2: "replayed",
        last - 1: "conflict",
        last: "replayed",
    }
    doses = [one["dose_id"] for one in told(folder, ISSUED)]
    assert len(doses) == len(set(doses)) == 299
    assert len(papers(folder)) == 299


@pytest.mark.parametrize("after", [0, 1, 3, 7])
def test_a_run_that_is_cut_short_goes_on_with_the_same_bytes(
    issue: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(bulkqueue, "BLOCK", 64)
    lines = events(600)
    lines[40] = lines[39]
    whole = issue(lines, "whole")
    Here.kill_after = after
    with pytest.raises(KeyboardInterrupt):
        issue(lines, "cut")
    Here.kill_after = 10**9
    before = papers(whole.with_name("cut"))
    cut = issue(lines, "cut")
    assert papers(cut) == papers(whole)
    assert before.items() <= papers(cut).items()
    for name in (ISSUED, REPORT):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_that_is_over_does_nothing_again(issue: Callable[..., Path]) -> None:
    lines = events(100)
    folder = issue(lines)
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.pdf")}
    Here.kill_after = 0
    assert issue(lines) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*.pdf")} == stamps


def test_a_paper_that_was_lost_is_made_again_and_is_the_same(issue: Callable[..., Path]) -> None:
    lines = events(50)
    folder = issue(lines)
    before = papers(folder)
    lost, cut = list(before)[:2]
    (folder / lost).unlink()
    (folder / cut).write_bytes(b"%P")
    issue(lines)
    assert papers(folder) == before


def test_lines_may_be_added_but_not_changed(issue: Callable[..., Path]) -> None:
    lines = events(30)
    issue(lines[:20])
    folder = issue(lines)
    assert len(papers(folder)) == 30
    with pytest.raises(StateError) as caught:
        issue([lines[1], lines[0], *lines[2:]])
    assert caught.value.code == "other_input"


def test_a_line_of_which_nothing_came_may_be_mended_in_place(issue: Callable[..., Path]) -> None:
    lines = events(4)
    wrong = json.loads(json.dumps(lines[1]))
    wrong["dose"]["lot"] = ""
    folder = issue([lines[0], wrong, b"no JSON", lines[3]])
    assert [(one["line"], one["dose_id"]) for one in told(folder)] == [(2, lines[1]["dose_id"]), (3, None)]
    issue(lines)
    assert told(folder) == []
    assert len(papers(folder)) == 4


def test_a_dose_id_that_no_text_can_hold_stops_no_other_line(issue: Callable[..., Path]) -> None:
    lines = events(2)
    folder = issue([lines[0], b'{"dose_id": "\\ud800"}', lines[1]])
    assert [(one["line"], one["dose_id"], one["outcome"]) for one in told(folder)] == [(2, None, "invalid")]
    assert len(papers(folder)) == 2


@pytest.mark.parametrize("longer", [0, 1, 1 << 20, 3 << 20])
def test_a_line_without_end_is_one_line_that_is_too_long(issue: Callable[..., Path], longer: int) -> None:
    lines = events(2)
    folder = issue([lines[0], b"[" + b" " * (MAX_LINE - 1 + longer), lines[1]])
    assert [(one["line"], one["reasons"][0]["code"]) for one in told(folder)] == [(2, "line_too_long")]
    assert len(papers(folder)) == 2


def test_with_a_list_of_sites_no_paper_has_an_id_for_a_name(issue: Callable[..., Path], run: Run) -> None:
    lines = events(12)
    here = lines[0]["site_id"]
    site = Site(SiteId(here), "Trạm Y tế", "SỞ Y TẾ")
    folder = issue(lines, sites=(site,), wanted=replace(run, sites="one"))
    others = [number for number, line in enumerate(lines, 1) if line["site_id"] != here]
    assert others
    assert [(one["line"], one["reasons"][0]["code"]) for one in told(folder)] == [(n, "unknown_site") for n in others]
    assert all("Trạm Y tế".encode() in paper for paper in papers(folder).values())


@pytest.mark.parametrize(
    ("name", "said"),
    [("kid", "signing key"), ("sources", "forms"), ("issuer", "issuer"), ("country", "country"), ("sites", "--sites")],
)
def test_another_key_or_form_is_refused_for_half_a_folder(
    issue: Callable[..., Path], run: Run, name: str, said: str
) -> None:
    lines = events(3)
    issue(lines)
    with pytest.raises(StateError) as caught:
        issue(lines, wanted=replace(run, **{name: "XX"}))
    assert caught.value.code == "other_run"
    assert said in caught.value.en
    issue(lines, wanted=replace(run, secret=b"\0" * 32, started_at=datetime(2022, 1, 1, tzinfo=UTC)))


def test_two_runs_in_one_folder_do_not_meet(issue: Callable[..., Path], tmp_path: Path) -> None:
    ledger = BulkLedger(tmp_path / "out")
    try:
        with pytest.raises(StateError):
            issue(events(1))
    finally:
        ledger.close()


def test_a_line_that_kills_two_processes_stands_alone(issue: Callable[..., Path]) -> None:
    lines = events(150)
    lines[70]["person"]["address"] = "KILLS"
    lines[71]["person"]["address"] = "KILLS TOO"
    folder = issue(lines)
    assert [(one["line"], one["reasons"][0]["code"]) for one in told(folder)] == [
        (71, "render_crashed"),
        (72, "render_crashed"),
    ]
    assert len(papers(folder)) == 148
    issue(lines)
    assert len(told(folder)) == 2
    Here.kills = False  # it was the machine
    issue(lines)
    assert told(folder) == []
    assert len(papers(folder)) == 150


def test_a_process_of_a_run_loads_neither_the_service_nor_the_store() -> None:
    """Each would take a second of every start, and memory in every process."""
    code = "import printsvc.flows.bulkcrew, sys; print(*(name.partition('.')[0] for name in sys.modules))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "pydantic" in loaded
    assert not loaded & {"aiohttp", "sqlalchemy", "weasyprint"}


def test_where_no_process_comes_up_no_line_is_blamed(issue: Callable[..., Path]) -> None:
    lines = events(3)
    Here.comes_up = False
    with pytest.raises(RenderError):
        issue(lines)
    Here.comes_up = True
    folder = issue(lines)
    assert told(folder) == []
    assert len(papers(folder)) == 3


@given(st.binary(min_size=32, max_size=32), st.lists(st.text(max_size=20), unique=True, max_size=20))
def test_every_dose_has_its_own_number_which_depends_on_the_secret(secret: bytes, dose_ids: list[str]) -> None:
    opaque = [opaque_of(secret, dose_id) for dose_id in dose_ids]
    assert len(set(opaque)) == len(dose_ids)
    assert all(len(one) == 16 for one in opaque)
    other = bytes(reversed(secret)) if secret != secret[::-1] else b"\1" * 32
    assert not set(opaque) & {opaque_of(other, dose_id) for dose_id in dose_ids}


def test_a_files_name_is_the_uvcis_opaque_part() -> None:
    assert file_name("URN:UVCI:01:VN:3F0A77#:") == "3f/3F0A77.pdf"


@pytest.mark.parametrize("nameless", [True, False])
def test_a_file_is_written_whole_under_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    if not nameless:
        monkeypatch.setattr("printsvc.flows.bulk._open_nameless", lambda folder: None)
        (tmp_path / "3f").mkdir()
    path = tmp_path / "3f" / "3F0A.pdf"
    for body in (b"first", b"a second one that is longer", b""):
        write_whole(path, body)
        assert path.read_bytes() == body
        assert path.stat().st_mode & 0o777 == 0o600
        assert [one.name for one in path.parent.iterdir()] == ["3F0A.pdf"]


def test_the_ledger_never_enters_a_dose_twice(tmp_path: Path) -> None:
    ledger = BulkLedger(tmp_path)
    row = [1, b"", LineStatus.ISSUED, "D-1", "HN-1", "URN:1", "f", 1, 1, "stamp", "", "[]"]
    try:
        ledger.enter([row])
        with pytest.raises(StoreError, match="IntegrityError"):
            ledger.enter([[2, *row[1:5], "URN:2", *row[6:]]])
        with pytest.raises(StoreError, match="IntegrityError"):
            ledger.enter([[3, b"", LineStatus.ISSUED, "D-3", *row[4:]]])
        assert ledger.counts() == {"issued": 1}
    finally:
        ledger.close()


def test_a_page_that_cannot_be_drawn_ends_no_run_and_is_tried_again(
    issue: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = events(20)

    def draw_all(drawer: TextDrawer, form_id: FormId, pages: Sequence[PageData]) -> Iterator[Drawn | RenderError]:
        for number, page in enumerate(pages):
            yield RenderError("No.", vi="Không.") if number == 7 else Drawn(page["uvci"].encode(), Way.STAMP)

    with monkeypatch.context() as patched:
        patched.setattr(TextDrawer, "draw_all", draw_all)
        folder = issue(lines)
    assert [(one["line"], one["reasons"][0]["code"]) for one in told(folder)] == [(8, "render_unavailable")]
    assert len(papers(folder)) == 19
    issue(lines)
    assert told(folder) == []
    assert len(papers(folder)) == 20


@pytest.mark.parametrize("version", [1, 2])
def test_a_folder_of_an_earlier_version_is_gone_on_with(issue: Callable[..., Path], version: int) -> None:
    """The first ledger knew no pages, the second not what merged files hold; each paper had a file of its own."""
    lines = events(30)
    folder = issue(lines[:20])
    before = papers(folder)
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        ledger.executescript(f"DROP TABLE merged; DROP TABLE begun; PRAGMA user_version = {version}")
        if version == 1:
            ledger.executescript("ALTER TABLE lines DROP COLUMN page; DELETE FROM run WHERE name = 'papers'")
    issue(lines)
    assert before.items() < papers(folder).items()
    assert [one["page"] for one in told(folder, ISSUED)] == [1] * 30


def test_made_up_people_are_the_same_for_the_same_seed() -> None:
    first = dose_events(3, now=NOW)
    again = dose_events(3, now=NOW, first=5)
    skipped = [next(first) for _ in range(8)][5:]
    assert skipped == [next(again) for _ in range(3)]
    assert skipped != events(8)[5:]


def test_the_loop_ends_when_there_is_nothing_to_do(issue: Callable[..., Path]) -> None:
    folder = issue([b"   "])
    assert told(folder) == told(folder, ISSUED) == []
    assert bulkinput.count_lines(folder.with_name("out.ndjson")) == 0


def test_repeated_lines_at_the_end_are_all_read(issue: Callable[..., Path]) -> None:
    """More of them at a time than a block has lines, and nothing else to do."""
    lines = events(40)
    issue(lines)
    folder = issue([*lines, *lines * 20])
    assert [one["outcome"] for one in told(folder)] == ["replayed"] * 800
