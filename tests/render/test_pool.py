"""The pool: pages come out though workers die, and a page that kills them stands alone."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from printsvc.domain.form import FormId, PageData
from printsvc.errors import InputError, NotFoundError, QrCapacityError, RenderError
from printsvc.render.draw import Drawer, Way
from printsvc.render.pool import RenderPool, RenderSetup
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
A4 = FormId("a4/43-2022")
# A page that never ends, in a sandbox that allows no endless loop: 10^10 rounds.
TRAP = (
    '{% if page.full_name == "HANG" %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}'
    "{% endif %}"
)


def named(sample: PageData, name: str) -> PageData:
    return cast(PageData, sample | {"full_name": name})


def slow(sample: PageData) -> PageData:
    """A page with more doses than the table holds: no stamp draws that, WeasyPrint takes its time."""
    row = next(row for row in sample["rows"] if row is not None)
    return cast(PageData, sample | {"more_rows": [row | {"attested": False}]})


def worker_pids() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


@pytest.fixture(scope="module")
def setup(templates: Path, fonts: Path, forms_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RenderSetup:
    """Templates that nobody changes meanwhile; compiled they are what they were where they came from."""
    copied = tmp_path_factory.mktemp("templates")
    shutil.copytree(templates / A4, copied / A4)
    return RenderSetup(copied, fonts, forms_cache, forms=(A4,))


@pytest.fixture(scope="module")
def sample_pdf(setup: RenderSetup, library: FormLibrary) -> bytes:
    """What a worker makes of the sample."""
    drawn = Drawer(setup).draw(A4, library.sample(A4))
    assert (drawn.way, drawn.reason) == (Way.STAMP, "")
    return drawn.pdf


@pytest_asyncio.fixture
async def pool(setup: RenderSetup) -> AsyncIterator[RenderPool]:
    async with RenderPool(setup, workers=1) as running:
        await running.warm_up()
        yield running


async def test_the_page_is_that_of_this_process(pool: RenderPool, sample: PageData, sample_pdf: bytes) -> None:
    assert await pool.render(A4, sample) == sample_pdf


async def test_errors_keep_their_kind_and_where_they_are(pool: RenderPool, sample: PageData) -> None:
    with pytest.raises(InputError) as wrong:
        await pool.render(A4, named(sample, "漢"))
    assert [(problem.pointer, problem.code) for problem in wrong.value.problems] == [("/full_name", "glyph")]
    with pytest.raises(QrCapacityError):
        await pool.render(A4, cast(PageData, sample | {"qr": "A" * 2000}))
    with pytest.raises(NotFoundError):
        await pool.render(FormId("a4/none"), sample)
    with pytest.raises(RenderError):
        await pool.render(A4, cast(PageData, {}))
    assert await pool.render(A4, sample)


@pytest.mark.faults
async def test_a_killed_worker_loses_no_page(pool: RenderPool, sample: PageData, sample_pdf: bytes) -> None:
    (worker,) = worker_pids()
    first = asyncio.create_task(pool.render(A4, slow(sample)))
    pages = [asyncio.create_task(pool.render(A4, sample)) for _ in range(100)]
    await asyncio.sleep(0.02)
    os.kill(worker, signal.SIGKILL)
    assert await asyncio.gather(*pages) == [sample_pdf] * 100
    assert (await first).startswith(b"%PDF")
    assert pool.rebuilt == 1
    assert worker not in worker_pids()


@pytest.mark.faults
async def test_a_worker_killed_between_pages_is_not_noticed(
    pool: RenderPool, sample: PageData, sample_pdf: bytes
) -> None:
    (worker,) = worker_pids()
    os.kill(worker, signal.SIGKILL)
    assert await pool.render(A4, sample) == sample_pdf


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """The real form, which hangs for one name."""
    form = tmp_path / A4
    form.mkdir(parents=True)
    for source in (ROOT / "templates" / A4).iterdir():
        form.joinpath(source.name).write_bytes(source.read_bytes())
    page = form / "page.html"
    page.write_text(page.read_text("utf-8") + TRAP, "utf-8")
    return tmp_path


@pytest.mark.faults
async def test_a_page_that_hangs_is_refused_and_the_others_come_out(
    trapped: Path, fonts: Path, sample: PageData
) -> None:
    # A good page must come out in this time on a busy machine too; the trap would take minutes.
    setup = RenderSetup(trapped, fonts, timeout_s=5, compiles=False)
    async with RenderPool(setup, workers=2) as pool:
        await pool.warm_up()
        good = [asyncio.create_task(pool.render(A4, named(sample, f"AN {letter}"))) for letter in "ABC"]
        bad = asyncio.create_task(pool.render(A4, slow(named(sample, "HANG"))))
        late = asyncio.create_task(pool.render(A4, named(sample, "AN D")))
        assert all(pdf.startswith(b"%PDF") for pdf in await asyncio.gather(*good, late))
        with pytest.raises(RenderError) as caught:
            await bad
        assert caught.value.code == "render_crashed"
        assert "HANG" not in caught.value.en
        assert (await pool.render(A4, sample)).startswith(b"%PDF")


async def test_too_many_waiting_pages_are_refused_at_once(
    setup: RenderSetup, sample: PageData, sample_pdf: bytes
) -> None:
    async with RenderPool(setup, workers=1, max_waiting=1) as pool:
        first, second = (asyncio.create_task(pool.render(A4, page)) for page in (slow(sample), sample))
        await asyncio.sleep(0.01)
        assert pool.waiting == 1
        with pytest.raises(RenderError) as caught:
            await pool.render(A4, sample)
        assert caught.value.code == "render_busy"
        assert caught.value.retry_after_s >= 1
        assert (await asyncio.gather(first, second))[1] == sample_pdf
        assert pool.waiting == 0


async def test_a_page_given_up_while_it_waits_leaves_its_place(
    pool: RenderPool, sample: PageData, sample_pdf: bytes
) -> None:
    first, second, third = (asyncio.create_task(pool.render(A4, page)) for page in (slow(sample), sample, sample))
    await asyncio.sleep(0.01)
    second.cancel()
    assert (await asyncio.gather(first, third))[1] == sample_pdf
    assert second.cancelled()
    assert pool.waiting == 0


async def test_the_loop_hardly_waits(pool: RenderPool, sample: PageData) -> None:
    loop = asyncio.get_running_loop()
    lags = []

    async def tick() -> None:
        while True:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            lags.append(loop.time() - due)

    clock = asyncio.create_task(tick())
    started, worked = loop.time(), time.thread_time()
    await asyncio.gather(*(pool.render(A4, slow(sample)) for _ in range(5)))
    drawing_s, working_s = loop.time() - started, time.thread_time() - worked
    clock.cancel()
    assert len(lags) > 20
    # Were pages drawn in the loop, its thread would work all the time. (How late it is says more of the machine.)
    assert working_s < drawing_s / 4


async def test_after_close_there_are_no_pages_and_no_processes(
    setup: RenderSetup, sample: PageData, sample_pdf: bytes
) -> None:
    pool = RenderPool(setup, workers=1)
    assert await pool.render(A4, sample) == sample_pdf
    workers = worker_pids()
    assert workers
    await pool.close()
    await pool.close()
    assert not set(workers) & set(worker_pids())
    with pytest.raises(RenderError):
        await pool.render(A4, sample)


async def test_missing_fonts_are_said_and_not_taken_for_a_crash(
    templates: Path, tmp_path: Path, sample: PageData
) -> None:
    async with RenderPool(RenderSetup(templates, tmp_path), workers=1) as pool:
        with pytest.raises(RenderError) as caught:
            await pool.render(A4, sample)
        assert "font" in caught.value.en
        assert pool.rebuilt == 0


async def test_another_executor_will_do(
    setup: RenderSetup, sample: PageData, sample_pdf: bytes, library: object
) -> None:
    """Such as a cluster's; here threads, where no alarm can be set."""

    def threads(_: RenderSetup, workers: int) -> Executor:
        return ThreadPoolExecutor(workers)

    async with RenderPool(setup, workers=1, make_executor=threads) as pool:
        assert await pool.render(A4, sample) == sample_pdf


PARENT = """
import asyncio, multiprocessing, pathlib, sys
from printsvc.render.pool import RenderPool, RenderSetup

async def main():
    root = pathlib.Path(sys.argv[1])
    setup = RenderSetup(root / "templates", root / "fonts", pathlib.Path(sys.argv[2]), compiles=False)
    pool = RenderPool(setup, workers=1)
    await pool.warm_up()
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    await asyncio.sleep(60)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.faults
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(program), str(ROOT), str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        parent.kill()
    deadline = time.monotonic() + 10
    while (alive := [pid for pid in pids if running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive == []


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
