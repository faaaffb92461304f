"""Processes replaced while pages come, pages that are refused because they killed, and what is counted."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Any, cast

import pytest

from printsvc.domain.form import FormId, PageData
from printsvc.errors import InputError, RenderBusyError, RenderError
from printsvc.render.draw import Drawn, PageCounts, Way
from printsvc.render.pool import PageCrashedError, RenderPool, RenderSetup

A4 = FormId("a4/43-2022")
NOWHERE = RenderSetup(Path("templates"), Path("fonts"))


class Scripted(Executor):
    """An executor whose workers do what the page's name says; it draws nothing."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.pages: list[PageData] = []
        self.closed = False
        self.broken = False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self.broken:
            raise BrokenExecutor
        page = args[2]
        future: Future[Any] = Future()
        match page and page["full_name"]:
            case None:
                future.set_result(None)
            case "KILLS":
                self.broken = True
                future.set_exception(BrokenExecutor())
            case "KILLS ONE":
                future.set_exception(PageCrashedError())
            case "SLOW":
                future.set_result(Drawn(b"slow", Way.WEASYPRINT, "too_long"))
            case name:
                future.set_result(Drawn(name.encode(), Way.STAMP))
        if page:
            self.pages.append(page)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed = True


def page(name: str) -> PageData:
    return cast(PageData, {"full_name": name})


def scripted(made: list[Scripted]) -> Any:
    def make(setup: RenderSetup, workers: int) -> Executor:
        made.append(Scripted())
        return made[-1]

    return make


async def test_each_way_is_counted_with_its_reason() -> None:
    counts = PageCounts()
    async with RenderPool(NOWHERE, workers=1, make_executor=scripted([]), counts=counts) as pool:
        for name in ("AN", "BÌNH", "SLOW"):
            await pool.render(A4, page(name))
        with pytest.raises(RenderError):
            await pool.render(A4, page("KILLS"))
    assert counts.document() == {"stamped": 2, "way_out": {"too_long": 1}}


@pytest.mark.parametrize("killer", ["KILLS", "KILLS ONE"])
async def test_a_page_that_killed_two_workers_is_listed_and_kills_no_third(killer: str) -> None:
    made: list[Scripted] = []
    async with RenderPool(NOWHERE, workers=1, make_executor=scripted(made)) as pool:
        for _ in range(2):
            with pytest.raises(RenderError) as caught:
                await pool.render(A4, page(killer))
            assert caught.value.code == "render_crashed"
        assert len(pool.poisoned) == 1
        assert killer not in pool.poisoned[0]
        assert sum(one["full_name"] == killer for executor in made for one in executor.pages) == 2
        assert await pool.render(A4, page("AN")) == b"AN"
        assert await pool.render(FormId("a5/43-2022"), page("AN")) == b"AN"
        assert pool.rebuilt == (1 if killer == "KILLS" else 0)


async def test_the_list_forgets_after_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What killed the workers may have been the machine."""
    made: list[Scripted] = []
    async with RenderPool(NOWHERE, workers=1, make_executor=scripted(made)) as pool:
        with pytest.raises(RenderError):
            await pool.render(A4, page("KILLS"))
        loop = asyncio.get_running_loop()
        later = loop.time() + 301
        monkeypatch.setattr(loop, "time", lambda: later)
        with pytest.raises(RenderError):
            await pool.render(A4, page("KILLS"))
        assert len(pool.poisoned) == 1
        assert sum(one["full_name"] == "KILLS" for executor in made for one in executor.pages) == 4


async def renewal_over(pool: RenderPool) -> None:
    """Wait for a renewal under way, however many turns of the loop and of its threads it takes."""
    if pool._renewal is not None:
        await asyncio.wait({pool._renewal})


async def test_processes_are_replaced_after_so_many_pages_and_no_page_is_lost() -> None:
    made: list[Scripted] = []
    async with RenderPool(NOWHERE, workers=2, pages_per_worker=3, make_executor=scripted(made)) as pool:
        drawn = []
        for number in range(20):
            drawn.append(await pool.render(A4, page(f"AN {number}")))
            await renewal_over(pool)
        assert drawn == [f"AN {number}".encode() for number in range(20)]
        assert pool.renewed == 3
        assert [executor.closed for executor in made] == [True] * 3 + [False]


async def test_a_renewal_that_fails_leaves_the_old_ones() -> None:
    made: list[Scripted] = []

    def make(setup: RenderSetup, workers: int) -> Executor:
        made.append(Scripted())
        made[-1].broken = len(made) > 1
        return made[-1]

    async with RenderPool(NOWHERE, workers=1, pages_per_worker=1, make_executor=make) as pool:
        for number in range(5):
            assert await pool.render(A4, page(f"{number}")) == f"{number}".encode()
            await renewal_over(pool)
        assert pool.renewed == 0
        assert not made[0].closed
        assert all(executor.closed for executor in made[1:])


async def test_who_finds_the_processes_replaced_is_drawn_by_the_new_ones() -> None:
    made: list[Scripted] = []
    async with RenderPool(NOWHERE, workers=1, make_executor=scripted(made)) as pool:
        assert await pool.render(A4, page("AN")) == b"AN"
        made[0].closed = True
        assert await pool.render(A4, page("BÌNH")) == "BÌNH".encode()
        assert len(made) == 2, "no process apart: the page harmed nobody"


async def test_where_nobody_answers_it_says_so() -> None:
    def nobody(setup: RenderSetup, workers: int) -> Executor:
        raise TimeoutError

    async with RenderPool(NOWHERE, workers=1, make_executor=nobody) as pool:
        with pytest.raises(RenderError) as caught:
            await pool.render(A4, page("AN"))
        assert caught.value.code == "render_unavailable"


async def test_busy_is_an_error_of_its_own() -> None:
    future: Future[Any] = Future()

    class Waits(Scripted):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            return future

    async with RenderPool(NOWHERE, workers=1, max_waiting=0, make_executor=lambda *_: Waits()) as pool:
        first = asyncio.create_task(pool.render(A4, page("AN")))
        await asyncio.sleep(0.05)
        with pytest.raises(RenderBusyError) as caught:
            await pool.render(A4, page("BÌNH"))
        assert 1 <= caught.value.retry_after_s <= 60
        future.set_result(Drawn(b"AN", Way.STAMP))
        assert await first == b"AN"


@pytest.mark.faults
async def test_real_processes_are_replaced_under_load(
    templates: Path, fonts: Path, forms_cache: Path, sample: PageData
) -> None:
    setup = RenderSetup(templates, fonts, forms_cache, forms=(A4,))
    async with RenderPool(setup, workers=1, pages_per_worker=5) as pool:
        await pool.warm_up()
        (before,) = pids()
        expected = await pool.render(A4, sample)
        slowest = 0.0
        loop = asyncio.get_running_loop()
        while not pool.renewed:
            started = loop.time()
            assert await pool.render(A4, sample) == expected
            slowest = max(slowest, loop.time() - started)
        os.kill(pids()[-1], signal.SIGKILL)
        assert await pool.render(A4, sample) == expected
        await asyncio.sleep(0.5)
        assert before not in pids()
        # A process that starts takes over a second; no page waited for that (the machine may be busy with it).
        assert slowest < 1.0


def pids() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


async def test_a_refusal_does_not_count_as_drawn(
    templates: Path, fonts: Path, forms_cache: Path, sample: PageData
) -> None:
    counts = PageCounts()
    async with RenderPool(RenderSetup(templates, fonts, forms_cache, forms=(A4,)), workers=1, counts=counts) as pool:
        await pool.render(A4, sample)
        with pytest.raises(InputError):
            await pool.render(A4, cast(PageData, sample | {"full_name": "漢"}))
    assert sum(counts.drawn.values()) == 1


async def test_a_form_is_compiled_apart_while_pages_come_and_then_stamped(
    templates: Path, fonts: Path, tmp_path: Path, sample: PageData
) -> None:
    setup = RenderSetup(templates, fonts, tmp_path, forms=(A4,), compiles=False)
    async with RenderPool(setup, workers=1) as pool:
        await pool.warm_up()
        assert (await pool.render(A4, sample)).startswith(b"%PDF")
        assert pool.counts.document() == {"stamped": 0, "way_out": {"not_compiled": 1}}
        async with asyncio.timeout(1200):
            while not pool.counts.document()["stamped"]:
                await asyncio.sleep(0.5)
                await pool.render(A4, sample)


async def test_the_service_stops_at_once_while_a_form_is_compiled(templates: Path, fonts: Path, tmp_path: Path) -> None:
    pool = RenderPool(RenderSetup(templates, fonts, tmp_path, forms=(A4,), compiles=False), workers=1)
    await pool.warm_up()
    await asyncio.sleep(1)
    started = asyncio.get_running_loop().time()
    await pool.close()
    assert asyncio.get_running_loop().time() - started < 5
    assert pids() == []


async def test_a_machine_that_starts_no_more_processes_blames_no_page() -> None:
    """Neither for a page apart nor for a renewal, nor where a process is to be started with the page."""
    made: list[Scripted] = []
    full = False

    class NoProcess(Scripted):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if full and args[2]["full_name"] == "NEW":
                raise BlockingIOError
            return super().submit(fn, *args, **kwargs)

    def make(setup: RenderSetup, workers: int) -> Executor:
        if full:
            raise BlockingIOError
        made.append(NoProcess())
        return made[-1]

    async with RenderPool(NOWHERE, workers=1, pages_per_worker=1, make_executor=make) as pool:
        assert await pool.render(A4, page("AN")) == b"AN"
        await renewal_over(pool)
        full = True
        for name in ("KILLS ONE", "NEW"):
            with pytest.raises(RenderError) as caught:
                await pool.render(A4, page(name))
            assert caught.value.code == "render_unavailable"
        assert pool.poisoned == []
        assert await pool.render(A4, page("BÌNH")) == "BÌNH".encode()
        await renewal_over(pool)  # a renewal is due, and there is nobody
        renewed = pool.renewed
        full = False
        assert await pool.render(A4, page("CHI")) == b"CHI"
        await renewal_over(pool)
        assert pool.renewed == renewed + 1
