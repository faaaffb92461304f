"""The file of a bulk run: which of its lines are to be done, and in which order they are taken."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from printsvc.errors import StateError
from printsvc.flows.bulk import MAX_LINE, Line, LineStatus, body_digest
from printsvc.store.bulkledger import BulkLedger

_SITE: Final = re.compile(rb'"site_id"\s*:\s*"([^"]*)"')
_DOSE: Final = re.compile(rb'"dose_id"\s*:\s*"([^"]*)"')

_HIDDEN: Final = re.compile(rb"\\u00[0-7]")  # a letter of a name may be written so


class FreshLine(NamedTuple):
    """A line that is to be done, the digest of its body, its dose and site ("" where there is none).

    `lost` is the file that its paper was in and that is no longer there, "" for a line that was never done.
    """

    line: Line
    body: bytes
    dose_id: str
    site_id: str
    lost: str = ""


class BulkInput:
    """The lines of `file`. `lost` has those whose paper is to be made again, each with the file that it was in."""

    def __init__(self, file: Path, ledger: BulkLedger, lost: Mapping[int, str]) -> None:
        self._file = file
        self._ledger = ledger
        self._lost = lost
        self.total = count_lines(file)
        self.done = 0

    def in_order(self) -> Iterator[FreshLine]:
        """Give the lines that are to be done; `done` grows by the others that are passed.

        Raises StateError where a line of which something came is not what it was.
        """
        with self._file.open("rb") as stream:
            for number, _, text in self._undone(stream):
                yield self._fresh(number, text)

    def by_site(self) -> Iterator[FreshLine]:
        """The same with the lines of a site together, sites in the order of their first lines; lost files by file.

        Lines of doses that were in a line before come last, in the order of the file: of a dose the first line counts.
        The file is read through beforehand; some 100 bytes a line are kept, and no text.
        """
        places, numbers, groups, doses = array("Q"), array("Q"), array("L"), array("q")
        group_of: dict[tuple[str, str], int] = {}
        with self._file.open("rb") as stream:
            for number, place, text in self._undone(stream):
                lost = self._lost.get(number, "")
                dose, site = ("", "") if lost else _glance(text)
                numbers.append(number)
                places.append(place)
                groups.append(group_of.setdefault((lost, site), len(group_of)))
                # What is lost is nobody's repetition, and a line without a dose is none either.
                doses.append(hash(dose or (number,)))
            repeats = np.ones(len(doses), dtype=np.bool_)
            repeats[np.unique(np.frombuffer(doses, dtype=np.int64), return_index=True)[1]] = False
            of_group = np.frombuffer(groups, dtype=np.dtype(f"u{groups.itemsize}"))
            for at in np.lexsort((np.where(repeats, 0, of_group), repeats)):
                stream.seek(places[at])
                yield self._fresh(numbers[at], stream.readline(MAX_LINE))

    def _undone(self, stream: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
        """Give number, place in the file and text of the lines that are to be done."""
        known: dict[int, tuple[bytes, str]] = {}
        for number, (place, text) in enumerate(_lines(stream), 1):
            if number % 1000 == 1:
                known = self._ledger.bodies(number, number + 999)
            if not text.strip():
                continue
            if number in known:
                before, status = known[number]
                if before != _read_key(text)[0]:
                    if status in (LineStatus.ISSUED, LineStatus.HELD):
                        raise _is_another(number, status)
                    self._ledger.forget([number])  # it was mended; nothing had come of it
                elif number not in self._lost:
                    self.done += 1
                    continue
            yield number, place, text

    def _fresh(self, number: int, text: bytes) -> FreshLine:
        return FreshLine(Line(number, text), *_read_key(text), self._lost.get(number, ""))


def count_lines(file: Path) -> int:
    """Return how many lines have something in them."""
    with file.open("rb") as stream:
        return sum(1 for _, line in _lines(stream) if line.strip())


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Give place and text of the lines, of one that is too long only its beginning: a file may be one without end."""
    place = 0
    while text := stream.readline(MAX_LINE):
        length = len(text)
        rest = text
        while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE)
            length += len(rest)
        yield place, text
        place += length


def _glance(text: bytes) -> tuple[str, str]:
    """A line's dose and site, without parsing it where they can be seen: it is parsed when its turn comes."""
    doses, sites = _DOSE.findall(text), _SITE.findall(text)
    if len(doses) == len(sites) == 1 and not _HIDDEN.search(text) and b"\\" not in doses[0] + sites[0]:
        return doses[0].decode("utf-8", "replace"), sites[0].decode("utf-8", "replace")
    _, dose_id, site_id = _read_key(text)
    return dose_id, site_id


def _is_another(number: int, status: str) -> StateError:
    return StateError(
        f"Line {number} is not what it was when this run began, and it is {status}: put it back, and add what is new "
        "at the end of the file.",
        vi=f"Dòng {number} đã khác so với lúc bắt đầu và đã được xử lý ({status}): hãy trả lại như cũ, và thêm phần "
        "mới vào cuối tệp.",
        code="other_input",
    )


def _read_key(text: bytes) -> tuple[bytes, str, str]:
    """A line's digest, its dose and its site; "" where there is none."""
    try:
        document = json.loads(text)
        return body_digest(document), _id_in(document, "dose_id"), _id_in(document, "site_id")
    except (ValueError, TypeError, AttributeError, RecursionError):
        return body_digest(text.decode("latin-1")), "", ""


def _id_in(document: Any, name: str) -> str:
    found = document.get(name)
    if not isinstance(found, str):
        return ""
    found.encode()  # half of a surrogate pair can be written in JSON, and nowhere else
    return found
