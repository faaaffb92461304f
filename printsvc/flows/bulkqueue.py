"""The lines of a bulk run that are not done yet, put together into work for a process, and each dose only once."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from printsvc.flows.bulk import LineResult, LineStatus, Papers
from printsvc.flows.bulkcrew import Work
from printsvc.flows.bulkinput import FreshLine

BLOCK: Final = 256  # lines; a tenth less time each than 64, and more is no faster
PRINT_FILE_PAPERS: Final = 500
_MOST_BYTES: Final = 8 << 20  # of the lines of one piece of work; a line has 600 mostly, and may have a million
_PRINT_FILE: Final = re.compile(r"[^/]*/(.+)-(\d{4,9})\.pdf")

Enter = Callable[[Sequence[LineResult], Mapping[int, FreshLine]], None]
"""Enters results, with their lines by number."""


class _Group(NamedTuple):
    """What lines must have in common to be work together: their site, and the lost file. `numbered` is a print file."""

    site: str = ""
    file: str = ""
    numbered: bool = False


class LineQueue:
    """Takes lines from `source`; `find_doses` gives the line that a dose's answer comes from, and its body's digest.

    What only repeats a dose that is done is entered at once. For print files the lines of a site are to follow one
    another, as do those of a lost file; `files` are the names of all that papers are in, `lost` how many papers were in
    each that is no longer there. A lost file is made again with just these or not at all, `given_up` papers.
    """

    def __init__(
        self,
        source: Iterator[FreshLine],
        papers: Papers,
        *,
        find_doses: Callable[[Collection[str]], Mapping[str, tuple[int, bytes]]],
        enter: Enter,
        files: set[str],
        lost: Mapping[str, int],
    ) -> None:
        self._source = source
        self._by_site = papers is Papers.BY_SITE
        self._find_doses = find_doses
        self._enter = enter
        # Sites that differ in capitals alone share their numbers: on many a disk their files would have one name.
        self._taken = {print_file_place(file) for file in files}
        self._lost = lost
        self._under_way: set[str] = set()
        self._deferred: deque[FreshLine] = deque()
        self._open: Work | None = None
        self._open_is_of = _Group()
        self._ready: deque[Work] = deque()
        self.given_up = 0

    def next_work(self) -> Work | None:
        """Return lines for a process; None if there are none, or only such as wait for what is with one."""
        while not self._ready:
            if not self._read():  # there are no more, or all that are wait
                self._close()
                break
        return self._ready.popleft() if self._ready else None

    def done(self, work: Work) -> None:
        """Learn that the results of that work are entered."""
        self._under_way.difference_update(one.dose_id for one in work.fresh.values())

    def _read(self) -> bool:
        """Put some lines in their places; return whether any came to one."""
        rows: list[LineResult] = []
        repeated: dict[int, FreshLine] = {}
        moved = False
        lines = [*self._deferred, *self._take()]
        self._deferred.clear()
        known = self._find_doses({one.dose_id for one in lines if one.dose_id and not one.lost})
        for one in lines:
            if one.dose_id in self._under_way:  # what becomes of the first one decides what this one is
                self._deferred.append(one)
                continue
            moved = True
            if one.dose_id in known and not one.lost:
                rows.append(_repetition(one, *known[one.dose_id]))
                repeated[one.line.number] = one
            else:
                self._put(one)
        if rows:
            self._enter(rows, repeated)
        return moved

    def _take(self) -> Iterator[FreshLine]:
        """Take some lines from the source: a block, if they are not too long."""
        size = 0
        for one in islice(self._source, BLOCK):
            yield one
            size += len(one.line.text)
            if size > _MOST_BYTES:
                return

    def _put(self, one: FreshLine) -> None:
        """Put it with the others of its site."""
        is_of = self._group_of(one)
        if self._open is not None and is_of != self._open_is_of:
            self._close()
        if self._open is None:
            self._open, self._open_is_of = Work(), is_of
        work = self._open
        work.fresh[one.line.number] = one
        work.bytes += len(one.line.text)
        if one.dose_id:
            self._under_way.add(one.dose_id)
        most = PRINT_FILE_PAPERS if self._by_site else BLOCK
        if not is_of.file and (len(work.fresh) >= most or work.bytes > _MOST_BYTES):
            self._close()

    def _group_of(self, one: FreshLine) -> _Group:
        if not self._by_site:
            return _Group()
        if not one.lost:
            return _Group(one.site_id, numbered=True)
        # What had a file of its own gets one again.
        return _Group(one.site_id, one.lost, numbered=True) if _PRINT_FILE.fullmatch(one.lost) else _Group()

    def _close(self) -> None:
        """The lines that were put together are work."""
        work, self._open = self._open, None
        if work is None:
            return
        group = self._open_is_of
        if group.file and len(work.fresh) != self._lost[group.file]:
            self.given_up += len(work.fresh)
            self.done(work)
            return
        work.site = group.site
        if group.file:
            work.number, work.exactly = print_file_place(group.file)[1], True
        elif group.numbered:
            work.number = self._free_number(group.site)
        self._ready.append(work)

    def _free_number(self, site: str) -> int:
        number = 1
        while (site.casefold(), number) in self._taken:
            number += 1
        self._taken.add((site.casefold(), number))
        return number


def print_file_place(file: str) -> tuple[str, int]:
    """Return the site of a print file, in small letters, and its number; ("", 0) for any other file."""
    found = _PRINT_FILE.fullmatch(file)
    return (found[1].casefold(), int(found[2])) if found else ("", 0)


def _repetition(one: FreshLine, first: int, body: bytes) -> LineResult:
    same = body == one.body
    reason = {
        "pointer": "/dose_id",
        "code": "same_dose" if same else "other_data",
        "vi": f"Mũi tiêm này đã có ở dòng {first}" + (", giống hệt." if same else ", với nội dung khác."),
        "en": f"The dose is in line {first} already, " + ("just the same." if same else "with other data."),
    }
    status = LineStatus.REPLAYED if same else LineStatus.CONFLICT
    return LineResult(one.line.number, status, one.dose_id, one.site_id, reasons=(reason,))
