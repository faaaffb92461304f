"""render: the stamp against WeasyPrint on the same form, with the same persons, in the same run.

Each process takes turns: some stamps, some pages of WeasyPrint, and again. So whatever else the machine does meanwhile
slows both. Signed means all that lies between an event and its file: claims, signature, page, QR, stamp, write.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.measure import LoopClock, Plan, keep_apart, percentile, rss_mb
from benchmarks.people import SITES, dose_events
from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent, DoseId
from printsvc.domain.form import FormChoice, FormId, PageData
from printsvc.domain.site import Site, SiteId
from printsvc.errors import PrintsvcError
from printsvc.flows.bulk import Issuer, Run, write_whole
from printsvc.flows.bulkqueue import PRINT_FILE_PAPERS
from printsvc.flows.intake import parse_event
from printsvc.render import qr, template
from printsvc.render.draw import Drawer, RenderSetup, Way
from printsvc.render.formfile import read_form
from printsvc.render.pool import RenderPool

FORM = FormId("a4/43-2022")
NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
PERSONS = 4_000  # of a process, in memory; then the first one comes again, with another UVCI
PRINT_FILES = 100  # of a process, at most
FILES = 40_000  # of a process, at most: then the first one is overwritten
WARM = 1_000
SLOW_PERSONS = 16
ROUNDS = 6
BLOCK = 256  # certificates made at once, as in a bulk run
MEMORY_COUNT = 200_000
SECONDS = 60.0
OUT_OF_TIME = 1e9
# Of the time: signed stamps, one by one, stamps alone, WeasyPrint, both in one process alone, the loop, other programs,
# and new processes that only sign and stamp.
SHARES = {
    "signed": 0.16,
    "together": 0.08,
    "singly": 0.04,
    "unsigned": 0.08,
    "slow": 0.18,
    "alone": 0.14,
    "alone_slow": 0.14,
    "loop": 0.06,
    "peers": 0.06,
    "memory": 0.06,
}


@dataclass(slots=True)
class Turn:
    """What a process did in its turn: how many, in how long; the single times in ms where they were taken."""

    count: int = 0
    seconds: float = 0.0
    ms: list[float] = field(default_factory=list)
    bytes: int = 0
    ways: Counter[str] = field(default_factory=Counter)

    def add(self, other: Turn) -> None:
        self.count += other.count
        self.seconds += other.seconds
        self.ms += other.ms
        self.bytes += other.bytes
        self.ways += other.ways

    @property
    def per_s(self) -> float:
        return self.count / self.seconds if self.seconds else 0.0


class Bench:
    """One process's part: a key, persons, a drawer, a folder."""

    def __init__(self, plan: Plan, number: int, folder: Path, cache_dir: Path) -> None:
        templates, fonts = plan.root / "templates", plan.root / "fonts"
        self.folder = folder / str(number)
        self.drawer = Drawer(RenderSetup(templates, fonts, cache_dir, forms=(FORM,)))
        self.drawer.warm_up()
        form = read_form(templates / FORM, FORM)
        capacity = qr.alphanumeric_capacity(form.qr.level, form.qr.max_version)
        key, csca_key = make_private_key(), make_private_key()
        names = {"country": "VN", "organisation": "BENCH", "now": NOW}
        csca = make_csca(csca_key, common_name="BENCH CSCA", serial=1, **names)  # type: ignore[arg-type]
        dsc = make_dsc(
            key.public_key(), csca=csca, csca_key=csca_key, organisation="BENCH", common_name="BENCH", serial=2, now=NOW
        )
        self.signer = LocalSigner(dsc, key)
        run = Run(bytes(32), NOW, FormChoice(FORM, form.media, capacity), self.signer.kid.hex(), "", "Bộ Y tế", "VN")
        sites = {site_id: Site(SiteId(site_id), name, authority) for site_id, name, authority in SITES}
        self.issuer = Issuer(run, signer=self.signer, drawer=self.drawer, sites=sites, folder=self.folder)
        source = dose_events(plan.seed, now=NOW, first=number * PERSONS)
        self.events = [parse_event(document, now=NOW) for document in itertools.islice(source, PERSONS)]
        self.pages = self._pages(self.events[:SLOW_PERSONS])
        self.made = self.others = 0
        # WeasyPrint gets its QR ready, and each page once before it counts: then it knows which sizes fit.
        setattr(template, "encode_qr", cache(qr.encode_qr))  # noqa: B010 - no part of the module's interface
        for page in self.pages:
            self.drawer.library.render_pdf(FORM, page)
        codes = [qr.encode_qr(page["qr"], level=form.qr.level, min_version=form.qr.min_version) for page in self.pages]
        self.codes = [code.png() for code in codes]
        self._peers: dict[str, peers.Peer] = {}
        gc.collect()
        gc.freeze()  # as a worker of the pool does

    def peer(self, name: str, seconds: float) -> Turn:
        """Sign, draw with one of the others, write; the first page, in which it opens its fonts, is not counted."""
        if name not in self._peers:
            library = self.drawer.library
            found = self._peers[name] = peers.open_peer(name, library, FORM, library.sample(FORM), self.folder)
            found.draw(self.pages[0], self.codes[0])
        turn = Turn()
        begun = now = time.perf_counter()
        while now < begun + seconds:
            number = turn.count % SLOW_PERSONS
            (page,) = self._pages(self.events[number : number + 1])  # signed anew, as each of ours is
            pdf = self._peers[name].draw(page, self.codes[number])
            self.others += 1
            write_whole(self.folder / name / f"{self.others}.pdf", pdf)
            turn.bytes += len(pdf)
            turn.count += 1
            now = time.perf_counter()
        turn.seconds = now - begun
        return turn

    def signed(self, count: int, seconds: float) -> Turn:
        """Sign, stamp and write, as many at once as a bulk run does, until `count` are made or the time is over."""
        turn = Turn()
        begun = now = time.perf_counter()
        end = begun + seconds
        while turn.count < count and now < end:
            self._issue(min(BLOCK, count - turn.count), turn)
            now = time.perf_counter()
        turn.seconds = now - begun
        return turn

    def singly(self, seconds: float) -> Turn:
        """The same one by one, each timed: what somebody waits who wants one certificate."""
        turn = Turn()
        begun = before = time.perf_counter()
        while before < begun + seconds:
            self._issue(1, turn)
            now = time.perf_counter()
            turn.ms.append(1000 * (now - before))
            before = now
        turn.seconds = before - begun
        return turn

    def _issue(self, count: int, turn: Turn) -> None:
        numbers = range(self.made, self.made + count)
        pages = self._pages(self._next_events(count))
        for number, drawn in zip(numbers, self.drawer.draw_all(FORM, pages), strict=True):
            if isinstance(drawn, PrintsvcError):
                raise drawn
            place = number % FILES
            write_whole(f"{self.folder}/{place // 250:03d}/{place}.pdf", drawn.pdf)
            turn.bytes += len(drawn.pdf)
            turn.ways[drawn.reason if drawn.way is Way.WEASYPRINT else "stamp"] += 1
        self.made += count
        turn.count += count

    def together(self, seconds: float) -> Turn:
        """Sign, stamp and write print files, until the time is over."""
        turn = Turn()
        begun = now = time.perf_counter()
        while now < begun + seconds:
            pages = self._pages(self._next_events(PRINT_FILE_PAPERS))
            made = self.drawer.stamp_print_file(FORM, pages)
            write_whole(f"{self.folder}/together/{self.made // PRINT_FILE_PAPERS % PRINT_FILES}.pdf", made.pdf)
            turn.bytes += len(made.pdf)
            turn.count += len(made.first_page)  # what only WeasyPrint can draw gets no part of it
            turn.ways["stamp"] += len(made.first_page)
            turn.ways["other"] += len(pages) - len(made.first_page)
            self.made += len(pages)
            now = time.perf_counter()
        turn.seconds = now - begun
        return turn

    def unsigned(self, seconds: float) -> Turn:
        """Stamp pages whose codes are signed already; nothing is written."""
        pages = self._pages(self.events[:PERSONS:8])
        stamper = self.drawer.stamper(FORM)
        assert stamper is not None, "the form compiles"
        pages = [page for page in pages if self.drawer.draw(FORM, page).way is Way.STAMP]
        turn = Turn()
        begun = time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            at = turn.count % len(pages)
            stamped = [one for one in stamper.stamp_all(pages[at : at + BLOCK]) if isinstance(one, bytes)]
            turn.bytes += sum(map(len, stamped))
            turn.count += len(stamped)
        turn.seconds = now - begun
        return turn

    def slow(self, seconds: float) -> Turn:
        """Draw with WeasyPrint."""
        turn = Turn()
        begun = now = time.perf_counter()
        while now < begun + seconds:
            turn.bytes += len(self.drawer.library.render_pdf(FORM, self.pages[turn.count % SLOW_PERSONS]))
            turn.count += 1
            now = time.perf_counter()
        turn.seconds = now - begun
        return turn

    def split(self, count: int) -> dict[str, float]:
        """Return the parts of one certificate in ms, each timed by itself; their sum is nearly the whole."""
        stamper = self.drawer.stamper(FORM)
        assert stamper is not None, "the form compiles"
        spent = dict.fromkeys(("sign", "page", "qr", "shape", "write"), 0.0)
        tick = time.perf_counter
        every = zip(self.events, stamper.stamp_all(self._pages(self.events)), strict=True)
        events = [event for event, stamped in every if isinstance(stamped, bytes)][:count]
        for start in range(0, len(events), BLOCK):
            block = events[start : start + BLOCK]
            times = [tick()]
            certificates = self._certify(block)
            times.append(tick())
            pages = [self.issuer.page(*both) for both in zip(block, certificates, strict=True)]
            times.append(tick())
            stamped = stamper.stamp_all(pages)
            times.append(tick())
            symbols = [(page["qr"], qr.encode_qr(page["qr"], level="Q").version) for page in pages]  # untimed
            times.append(tick())
            stamper.draw_qrs(symbols)
            times.append(tick())
            for number, pdf in enumerate(stamped):
                assert isinstance(pdf, bytes), "the others were left out"
                write_whole(f"{self.folder}/split/{start + number}.pdf", pdf)
            times.append(tick())
            sign, words, stamp, _, drawn, write = (after - before for before, after in itertools.pairwise(times))
            parts = {"sign": sign, "page": words, "qr": drawn, "shape": stamp - drawn, "write": write}
            spent = {part: spent[part] + seconds for part, seconds in parts.items()}
        return {part: round(1000 * seconds / len(events), 4) for part, seconds in spent.items()}

    def _next_events(self, count: int) -> list[DoseEvent]:
        numbers = range(self.made, self.made + count)
        events = [self.events[number % PERSONS] for number in numbers]
        return [replace(one, dose_id=DoseId(f"{one.dose_id}/{n}")) for one, n in zip(events, numbers, strict=True)]

    def rss(self) -> float:
        return rss_mb()

    def _certify(self, events: Sequence[DoseEvent]) -> list[Certificate]:
        certificates = [one for one in self.issuer.certify_all(events) if isinstance(one, Certificate)]
        assert len(certificates) == len(events), "the made-up persons are all sound"
        return certificates

    def _pages(self, events: Sequence[DoseEvent]) -> list[PageData]:
        return [self.issuer.page(*both) for both in zip(events, self._certify(events), strict=True)]


def serve(pipe: Connection, plan: Plan, number: int, folder: Path, cache_dir: Path) -> None:
    """In a process: do what comes through the pipe, until nothing more does."""
    bench = Bench(plan, number, folder, cache_dir)
    pipe.send(None)
    while (order := pipe.recv()) is not None:
        name, *arguments = order
        pipe.send(getattr(bench, name)(*arguments))


class Crew:
    """The processes, each at the end of a pipe."""

    def __init__(self, plan: Plan, folder: Path, cache_dir: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for number in range(plan.processes):
            here, there = context.Pipe()
            process = context.Process(target=serve, args=(there, plan, number, folder, cache_dir), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def ask(self, *order: Any, alone: bool = False) -> list[Any]:
        """Return each process's answer; with `alone`, that of the first one, while the others rest."""
        pipes = self._pipes[:1] if alone else self._pipes
        for pipe in pipes:
            pipe.send(order)
        return [pipe.recv() for pipe in pipes]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()


def run(plan: Plan) -> dict[str, Any]:
    """Return the figures; docs/bench.md says what each means."""
    work = plan.root / "var" / "bench"
    work.mkdir(parents=True, exist_ok=True)
    keep_apart(work)
    folder = Path(tempfile.mkdtemp(prefix="render-", dir=work))
    try:
        crew = Crew(plan, folder, work / "cache")
        try:
            figures = _measure(plan, crew)
        finally:
            crew.close()
        crew = Crew(plan, folder, work / "cache")
        try:
            figures |= _memory(plan, crew)
        finally:
            crew.close()
        return figures | asyncio.run(_loop_lag(plan, work / "cache", _share(plan, "loop") / 2))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _share(plan: Plan, part: str) -> float:
    return SHARES[part] * (plan.seconds or SECONDS)


def _measure(plan: Plan, crew: Crew) -> dict[str, Any]:
    say("warming up")
    crew.ask("signed", min(WARM, plan.count or WARM), OUT_OF_TIME)
    signed, together, singly, unsigned, slow, alone, alone_slow = (
        [Turn() for _ in range(plan.processes)] for _ in range(7)
    )
    others = {name: [Turn() for _ in range(plan.processes)] for name in peers.NAMES if not peers.missing(name)}
    rates = []
    rounds = ROUNDS if plan.count is None else max(1, min(ROUNDS, plan.count // plan.processes // 200))
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        if plan.count is None:
            turns = crew.ask("signed", 10**9, _share(plan, "signed") / rounds)
        else:
            share = plan.count // plan.processes
            turns = crew.ask("signed", share * (number + 1) // rounds - share * number // rounds, OUT_OF_TIME)
        rates.append(sum(turn.per_s for turn in turns))
        _add(signed, turns)
        _add(together, crew.ask("together", _share(plan, "together") / rounds))
        _add(singly, crew.ask("singly", _share(plan, "singly") / rounds))
        _add(slow, crew.ask("slow", _share(plan, "slow") / rounds))
        _add(unsigned, crew.ask("unsigned", _share(plan, "unsigned") / rounds))
        for name, turns_of in others.items():
            _add(turns_of, crew.ask("peer", name, _share(plan, "peers") / rounds / len(others)))
        _add(alone, crew.ask("signed", 10**9, _share(plan, "alone") / rounds, alone=True))
        _add(alone_slow, crew.ask("slow", _share(plan, "alone_slow") / rounds, alone=True))
    split = crew.ask("split", 500, alone=True)[0]
    every, slow_every, one_by_one = _sum(signed), _sum(slow), _sum(singly)
    ways = dict(every.ways)
    per_s = {name: round(sum(turn.per_s for turn in turns), 1) for name, turns in others.items()}
    whole = sum(turn.per_s for turn in signed)
    return {
        "certificates_per_s": round(whole, 1),
        "stamp": {
            "per_s_1": round(alone[0].per_s, 1),
            "per_s_all": round(sum(turn.per_s for turn in unsigned), 1),
            "ms_p50": round(percentile(one_by_one.ms, 50), 3),
            "ms_p99": round(percentile(one_by_one.ms, 99), 3),
            "bytes": every.bytes // every.count,
        },
        "print_files": {
            "per_s_all": round(sum(turn.per_s for turn in together), 1),
            "bytes": _sum(together).bytes // _sum(together).count,
            "papers": PRINT_FILE_PAPERS,
        },
        "weasyprint": {
            "per_s_1": round(alone_slow[0].per_s, 2),
            "per_s_all": round(sum(turn.per_s for turn in slow), 2),
            "bytes": slow_every.bytes // slow_every.count,
        },
        "ratio_per_core": round(every.per_s / slow_every.per_s, 1),
        "ratio_unsigned": round(_sum(unsigned).per_s / slow_every.per_s, 1),
        "peers": {name: per_s.get(name) or peers.missing(name) for name in peers.NAMES},
        "ratio_fastest_peer": round(whole / max(per_s.values()), 1) if per_s else None,
        "certificates_per_s_of_rounds": [round(rate, 1) for rate in rates],
        "split": split,
        "way_out": {
            "share": round(1 - ways.pop("stamp", 0) / every.count, 5),
            "reasons": ways,
        },
        "processes": plan.processes,
        "certificates": every.count,
        "seed": plan.seed,
    }


def _memory(plan: Plan, crew: Crew) -> dict[str, Any]:
    """The process that grows most, of some that have seen no other program."""
    say("memory")
    crew.ask("signed", min(WARM, plan.count or WARM), OUT_OF_TIME)
    before = crew.ask("rss")
    if plan.seconds is not None:
        turns = crew.ask("signed", 10**9, _share(plan, "memory"))
    else:
        turns = crew.ask("signed", (plan.count or MEMORY_COUNT) // plan.processes, OUT_OF_TIME)
    after = crew.ask("rss")
    worst = max(range(plan.processes), key=lambda number: after[number] - before[number])
    return {
        "rss_mb_start": round(before[worst], 1),
        "rss_mb_end": round(after[worst], 1),
        "rss_certificates": sum(turn.count for turn in turns),
    }


def _add(sums: Sequence[Turn], turns: Sequence[Turn]) -> None:
    for one, turn in zip(sums, turns, strict=False):
        one.add(turn)


def _sum(turns: Sequence[Turn]) -> Turn:
    whole = Turn()
    for turn in turns:
        whole.add(turn)
    return whole


async def _draw_until(stop: float, pool: RenderPool, page: PageData) -> int:
    count = 0
    while asyncio.get_running_loop().time() < stop:
        await pool.render(FORM, page)
        count += 1
    return count


async def _loop_lag(plan: Plan, cache_dir: Path, seconds: float) -> dict[str, Any]:
    """How late the loop is while a pool is saturated: with processes, and, to compare, with the stamp in threads."""
    setup = RenderSetup(plan.root / "templates", plan.root / "fonts", cache_dir, forms=(FORM,))
    found: dict[str, Any] = {}
    sample = Drawer(setup).library.sample(FORM)
    pages: list[PageData] = [{**sample, "full_name": f"NGUYỄN VĂN {letter}"} for letter in "ABCDEFGHIJKLMNOP"]
    makers: dict[str, Callable[[RenderSetup, int], Executor] | None] = {"": None, "_threads": _threads}
    for kind, make_executor in makers.items():
        say(f"event loop{kind.replace('_', ', ')}")
        async with RenderPool(setup, workers=plan.processes, max_waiting=10_000, make_executor=make_executor) as pool:
            await pool.warm_up()
            stop = asyncio.get_running_loop().time() + seconds

            async with LoopClock() as clock:
                drawn = sum(await asyncio.gather(*(_draw_until(stop, pool, page) for page in pages * plan.processes)))
        found[f"loop_lag{kind}_p99_ms"] = round(percentile(clock.late_ms, 99), 2)
        found[f"loop_lag{kind}_max_ms"] = round(max(clock.late_ms, default=0.0), 2)
        found[f"pool{kind}_per_s"] = round(drawn / seconds, 1)
    return found


def _threads(setup: RenderSetup, workers: int) -> Executor:
    return ThreadPoolExecutor(workers)


def say(words: str) -> None:
    print(f"bench: {words}", file=sys.stderr, flush=True)
