"""Reading a file of certificates to revoke. Pure.

The first line names the columns: `uvci`, and `reason` unless one holds for all. Other columns are passed over and never
kept: lists that people make have names in them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from printsvc.domain.revocation import RevocationReason
from printsvc.domain.uvci import full_uvci
from printsvc.errors import InputError, Problem
from printsvc.store.revocation_runs import Item

MAX_ROWS: Final = 500_000
_UVCI = re.compile(r"[A-Z0-9/:]{1,78}#[A-Z0-9/:]")

_SENTENCES: dict[str, tuple[str, str]] = {
    "missing": ("thiếu giá trị", "there is no value"),
    "uvci_form": ("không phải mã UVCI", "this is not a UVCI"),
    "unknown_certificate": ("không có giấy chứng nhận này", "there is no such certificate"),
    "unknown_reason": ("lý do không có trong danh mục", "this is not one of the reasons"),
    "another_reason": ("mã này đã có ở dòng trên với lý do khác", "a line above names it with another reason"),
    "broken_line": ("dòng không đúng định dạng CSV", "this is not a line of a CSV"),
}


@dataclass(frozen=True, slots=True)
class CsvProblem:
    """What is wrong with a line, by its number in the file from 1. It does not repeat what stands there."""

    line: int
    column: str
    code: str
    vi: str
    en: str

    @classmethod
    def of(cls, line: int, column: str, code: str) -> CsvProblem:
        vi, en = _SENTENCES[code]
        where = f", {column}" if column else ""
        return cls(line, column, code, f"Dòng {line}{where}: {vi}.", f"Line {line}{where}: {en}.")

    def to_problem(self) -> Problem:
        return Problem(f"/{self.line}/{self.column}".rstrip("/"), self.code, self.vi, self.en)


def parse_csv(body: bytes, reason: RevocationReason | None) -> tuple[list[Item], list[CsvProblem]]:
    """Return the good lines and what is wrong with the others. Raises InputError for what has no such columns.

    UTF-8 with or without a mark; commas, semicolons or tabs, as the first line has them. `reason` holds where a line
    has none of its own.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refused("not_text", "Tệp phải là văn bản UTF-8.", "The file must be text in UTF-8.") from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        names = [name.strip().casefold() for name in next(reader, [])]
    except csv.Error:
        names = []
    if names.count("uvci") != 1 or names.count("reason") > 1:
        raise _refused(
            "no_columns",
            "Dòng đầu phải có cột uvci (và cột reason nếu cần).",
            "The first line must name a column uvci (and reason, where lines have their own).",
        )
    if reason is None and "reason" not in names:
        raise _refused("no_reason", "Thiếu lý do thu hồi.", "There is neither a column reason nor one for all lines.")
    items: list[Item] = []
    problems: list[CsvProblem] = []
    seen: dict[str, RevocationReason] = {}
    for line, row in _rows(reader):
        if len(items) + len(problems) >= MAX_ROWS:
            raise _refused("too_long", f"Tệp có hơn {MAX_ROWS} dòng.", f"The file has more than {MAX_ROWS} lines.")
        read = CsvProblem.of(line, "", "broken_line") if row is None else _read(line, dict(zip(names, row)), reason)  # noqa: B905 - a short line is a problem of its own
        if isinstance(read, Item) and seen.setdefault(read.uvci, read.reason) is not read.reason:
            read = CsvProblem.of(line, "reason", "another_reason")
        if isinstance(read, Item):
            items.append(read)
        else:
            problems.append(read)
    return items, problems


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str] | None]]:
    """Give (line number, cells) of every line that is not empty; None for one that cannot be read."""
    while True:
        line = getattr(reader, "line_num", 0) + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield line, None
            continue
        if any(cell.strip() for cell in row):
            yield line, row


def _read(line: int, cells: dict[str, str], reason: RevocationReason | None) -> Item | CsvProblem:
    written = cells.get("uvci", "").strip()
    if not written:
        return CsvProblem.of(line, "uvci", "missing")
    uvci = full_uvci(written)
    if not _UVCI.fullmatch(uvci):
        return CsvProblem.of(line, "uvci", "uvci_form")
    chosen = cells.get("reason", "").strip().casefold() or reason
    if chosen is None:
        return CsvProblem.of(line, "reason", "missing")
    try:
        return Item(line, uvci, RevocationReason(chosen))
    except ValueError:
        return CsvProblem.of(line, "reason", "unknown_reason")


def _refused(code: str, vi: str, en: str) -> InputError:
    return InputError([Problem("", code, vi, en)], code="csv_invalid")
