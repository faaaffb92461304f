"""printsvc issue --merge site: every paper of a site in one file to be printed, in order, whatever was killed."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2
import pytest
import zxingcpp
from benchmarks.people import dose_events
from printsvc_service_harness import COMMAND, ROOT, environment, run

from printsvc.app import open_signer
from printsvc.credential.hcert import decode_hcert
from printsvc.render.merge import merge_papers
from printsvc.settings import read_settings

PAPERS = {"HN-HBT-01": 200, "DB-MA-02": 40}
MOST_BYTES = 4096  # of a paper, in a file of two hundred

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with development keys; the form is compiled in its cache already."""
    folder = tmp_path_factory.mktemp("data")
    open_signer(read_settings(data_dir=folder, development=True))
    compiled = run("forms", "compile", "a4/43-2022", PRINTSVC_DATA_DIR=str(folder))
    assert compiled.returncode == 0, compiled.stderr.decode()
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Doses of two sites, one among the other."""
    source = dose_events(29, now=datetime.now(UTC).replace(microsecond=0))
    events = list(itertools.islice(source, sum(PAPERS.values())))
    for number, event in enumerate(events):
        event["site_id"] = "DB-MA-02" if number % 6 == 3 else "HN-HBT-01"
    path = tmp_path / "doses.ndjson"
    path.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events), "utf-8")
    return path


def papers_of_sites(out: Path) -> dict[str, list[dict[str, Any]]]:
    """What issued.ndjson has of each site, in the order of the file."""
    found = defaultdict(list)
    for line in (out / "issued.ndjson").read_text("utf-8").splitlines():
        paper = json.loads(line)
        found[paper["site_id"]].append(paper)
    return found


def uvcis_of(merged: bytes) -> list[str]:
    """The UVCI in the code of each page, read from its picture."""
    found = []
    with pypdfium2.PdfDocument(merged) as document:
        for page in document:
            picture = page.render(scale=200 / 72, grayscale=True).to_pil()
            # Asked for every kind of code, it sees a Codabar of a few bars in the modules of one QR in thousands.
            texts = {code.text for code in zxingcpp.read_barcodes(picture, formats=zxingcpp.BarcodeFormat.QRCode)}
            assert len(texts) == 1, "the codes of a page are one"
            found.append(decode_hcert(texts.pop()).payload["v"][0]["ci"])
    return found


def fonts_of(merged: bytes) -> list[str]:
    """The name of every font file in it."""
    with pikepdf.open(io.BytesIO(merged)) as document:
        return [
            str(thing.FontName)
            for thing in document.objects
            if isinstance(thing, pikepdf.Dictionary) and thing.get("/Type") == "/FontDescriptor"
        ]


@pytest.mark.parametrize("merge", ["site", "site-only"])
def test_a_sites_papers_are_in_one_file_in_order_and_small(
    data_dir: Path, file: Path, tmp_path: Path, merge: str
) -> None:
    out = tmp_path / "out"
    ended = run("issue", "--in", str(file), "--out", str(out), "--merge", merge, PRINTSVC_DATA_DIR=str(data_dir))
    assert ended.returncode == 0, ended.stderr.decode()
    assert f"to be printed by site: 2 files in {out / 'merged'}" in ended.stdout.decode()
    issued = papers_of_sites(out)
    if merge == "site-only":
        assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["merged"]
        for site, papers in issued.items():
            assert {paper["file"] for paper in papers} == {f"merged/{site}-0001.pdf"}
            assert [paper["page"] for paper in papers] == list(range(1, len(papers) + 1))
    assert {site: len(papers) for site, papers in issued.items()} == PAPERS
    assert sorted(path.name for path in (out / "merged").iterdir()) == ["DB-MA-02-0001.pdf", "HN-HBT-01-0001.pdf"]
    for site, papers in issued.items():
        merged = (out / "merged" / f"{site}-0001.pdf").read_bytes()
        assert uvcis_of(merged) == [paper["uvci"] for paper in papers]
        fonts = fonts_of(merged)
        assert len(fonts) == len(set(fonts)), "each font is in it once"
        checked = subprocess.run(
            ["qpdf", "--check", out / "merged" / f"{site}-0001.pdf"], capture_output=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, b"")
    size = (out / "merged" / "HN-HBT-01-0001.pdf").stat().st_size
    assert size <= MOST_BYTES * PAPERS["HN-HBT-01"], size / PAPERS["HN-HBT-01"]


@pytest.mark.faults
def test_a_run_killed_while_it_merges_goes_on_with_the_same_bytes(data_dir: Path, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["issue", "--in", str(file), "--out", str(out), "--merge", "site", "--jobs", "1"]
    env = environment(PYTHONPATH=str(ROOT), PRINTSVC_DATA_DIR=str(data_dir))
    with subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 100
        # The smaller site's file comes first; the larger one is under way then.
        while not (out / "merged" / "DB-MA-02-0001.pdf").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (out / "merged" / "HN-HBT-01-0001.pdf").exists()
    before = {path: path.read_bytes() for path in out.glob("*/*.pdf")}
    (out / "merged" / "DB-MA-02-0001.pdf").write_bytes(b"half of it")
    ended = run(*arguments, PRINTSVC_DATA_DIR=str(data_dir))
    assert ended.returncode == 0, ended.stderr.decode()
    for site, papers in papers_of_sites(out).items():
        merged = (out / "merged" / f"{site}-0001.pdf").read_bytes()
        assert merged == merge_papers((out / paper["file"]).read_bytes() for paper in papers).pdf
    assert all(path.read_bytes() == body for path, body in before.items()), "what was there stayed as it was"


@pytest.mark.faults
def test_a_run_killed_between_its_print_files_prints_no_paper_twice(data_dir: Path, tmp_path: Path) -> None:
    source = dose_events(31, now=datetime.now(UTC).replace(microsecond=0))
    events = [{**event, "site_id": "HN-HBT-01"} for event in itertools.islice(source, 1700)]
    file, out = tmp_path / "doses.ndjson", tmp_path / "out"
    file.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events), "utf-8")
    arguments = ["issue", "--in", str(file), "--out", str(out), "--merge", "site-only", "--jobs", "2"]
    env = environment(PYTHONPATH=str(ROOT), PRINTSVC_DATA_DIR=str(data_dir))
    with subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 100
        while not list(out.glob("merged/*.pdf")) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (out / "issued.ndjson").exists(), "it was not over"
    ended = run(*arguments, PRINTSVC_DATA_DIR=str(data_dir))
    assert ended.returncode == 0, ended.stderr.decode()
    issued = [json.loads(line) for line in (out / "issued.ndjson").read_text("utf-8").splitlines()]
    assert [one["dose_id"] for one in issued] == [event["dose_id"] for event in events]
    named = sorted((one["file"], one["page"]) for one in issued if one["file"].startswith("merged/"))
    there = []
    for path in sorted(out.glob("merged/*.pdf")):
        with pikepdf.open(path) as document:
            there += [(f"merged/{path.name}", number) for number in range(1, len(document.pages) + 1)]
    assert named == there, "every page of every print file is somebody's, and one body's"
    last = max(there)[0]
    on_it = [one["uvci"] for one in sorted(issued, key=lambda one: one["page"]) if one["file"] == last]
    assert uvcis_of((out / last).read_bytes()) == on_it
