"""The lines of a bulk run that are not done yet, put together into work for a process, and each dose only once."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from printsvc.flows.bulk import Line, LineResult, LineStatus, Papers
from printsvc.flows.bulkcrew import Work

BLOCK: Final = 256  # lines; a tenth less time each than 64, and more is no faster
PRINT_FILE_PAPERS: Final = 500
_MOST_HELD: Final = 50_000  # lines that wait for more of their site: some 30 MB
_PRINT_FILE: Final = re.compile(r"[^/]*/(.+)-(\d{4,})\.pdf")


class FreshLine(NamedTuple):
    """A line that is not done, the digest of its body, its dose and site ("" where there is none)."""

    line: Line
    body: bytes
    dose_id: str
    site_id: str


Enter = Callable[[Sequence[LineResult], Mapping[int, bytes], Mapping[int, str]], None]
"""Enters results, with the digests and doses of their lines by number."""


class LineQueue:
    """Takes lines from `source`; `find_dose` gives the digest of the body that a dose's answer comes from.

    What only repeats a dose that is done is entered at once. `files` are the names of those that papers are in.
    """

    def __init__(
        self,
        source: Iterator[FreshLine],
        papers: Papers,
        *,
        find_dose: Callable[[str], bytes | None],
        enter: Enter,
        files: set[str],
    ) -> None:
        self._source = source
        self._by_site = papers is Papers.BY_SITE
        self._full = PRINT_FILE_PAPERS if self._by_site else BLOCK
        self._find_dose = find_dose
        self._enter = enter
        self._files = {(match[1], int(match[2])) for match in map(_PRINT_FILE.fullmatch, files) if match}
        self._under_way: set[str] = set()
        self._deferred: deque[FreshLine] = deque()
        self._held: dict[str, Work] = {}
        self._count = 0

    def next_work(self) -> Work | None:
        """Return lines for a process; None if there are none, or only such as wait for what is with one."""
        while (site := self._ready()) is None:
            if not self._read():  # there are no more, or all that are wait
                site = self._longest()
                break
        return self._give(site) if site is not None else None

    def done(self, work: Work) -> None:
        """Learn that the results of that work are entered."""
        self._under_way.difference_update(work.doses.values())

    def _ready(self) -> str | None:
        if self._count > _MOST_HELD:
            return self._longest()
        return next((site for site, work in self._held.items() if len(work.lines) >= self._full), None)

    def _longest(self) -> str | None:
        return max(self._held, key=lambda site: len(self._held[site].lines), default=None)

    def _give(self, site: str) -> Work:
        work = self._held.pop(site)
        self._count -= len(work.lines)
        if self._by_site:
            work.number = 1
            while (site, work.number) in self._files:
                work.number += 1
            self._files.add((site, work.number))
        return work

    def _read(self) -> bool:
        """Put some lines in their places; return whether any came to one."""
        rows: list[LineResult] = []
        bodies: dict[int, bytes] = {}
        doses: dict[int, str] = {}
        moved = False
        waiting = len(self._deferred)
        for _ in range(waiting + BLOCK):
            if waiting:
                waiting -= 1
                one: FreshLine | None = self._deferred.popleft()
            else:
                one = next(self._source, None)
            if one is None:
                break
            if one.dose_id in self._under_way:  # what becomes of the first one decides what this one is
                self._deferred.append(one)
                continue
            moved = True
            number = one.line.number
            if one.dose_id and (before := self._find_dose(one.dose_id)) is not None:
                same = LineStatus.REPLAYED if before == one.body else LineStatus.CONFLICT
                rows.append(LineResult(number, same, one.dose_id))
                bodies[number], doses[number] = one.body, one.dose_id
            elif self._hold(one) >= self._full:
                break
        if rows:
            self._enter(rows, bodies, doses)
        return moved

    def _hold(self, one: FreshLine) -> int:
        """Put it with the others of its site; return how many they are."""
        work = self._held.setdefault(one.site_id if self._by_site else "", Work([]))
        work.lines.append(one.line)
        work.bodies[one.line.number] = one.body
        if one.dose_id:
            self._under_way.add(one.dose_id)
            work.doses[one.line.number] = one.dose_id
        self._count += 1
        return len(work.lines)
