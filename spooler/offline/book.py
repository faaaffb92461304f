"""The book of a site without a line: its bags, and the entries that are made over them.

The desk (a command) writes entries, the agent hands their papers to its own journal and brings them home: two
processes, so every step is one transaction of the file. Order, which makes each of them happen once:

    entered → handed to the journal → brought home → reported
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spooler.bagprotocol import BagEntry, EntryResult
from spooler.offline.bags import BagBook
from spooler.protocol import JobId


@dataclass(frozen=True, slots=True)
class Line:
    """One entry. `paper` is "site", "centre" (its page needs the centre to be drawn) or "" (held: no paper)."""

    bag_id: str
    seq: int
    dose_id: str
    event: dict[str, Any]
    outcome: str
    reasons: tuple[dict[str, str], ...]
    number: int | None
    uvci: str
    hcert: str
    job_id: str
    form: str
    media: str
    paper: str
    paper_reason: str
    document: bytes | None
    sha256: str
    size: int
    entered_at: datetime
    copy_number: int = 1
    copy_reason: str = ""
    module_um: int = 0  # side of a module of the QR; 0: not known


@dataclass(frozen=True, slots=True)
class Paper:
    """A document that the agent is to print."""

    bag_id: str
    seq: int
    job_id: JobId
    document: bytes
    sha256: str
    media: str
    form: str
    copy_number: int = 1
    module_um: int = 0


class Book(BagBook):
    """One open book. All calls block (fsync); several processes may have it open."""

    # -- entries: inside `writing`

    def entries_of(self, dose_id: str) -> list[Line]:
        """Return what was written down of a dose: as it was entered, then its copies."""
        query = f"SELECT {_COLUMNS} FROM entries WHERE dose_id = ? ORDER BY copy_number"  # noqa: S608
        return [_line(row) for row in self._read(query, (dose_id,))]

    def is_handed(self, line: Line) -> bool:
        """Return whether the agent's journal has the paper."""
        rows = self._read("SELECT handed FROM entries WHERE bag_id = ? AND seq = ?", (line.bag_id, line.seq))
        return bool(rows and rows[0][0])

    def count_copies(self, since: datetime) -> int:
        """Return how many further papers were asked for here since that moment (UTC)."""
        query = "SELECT count(*) FROM entries WHERE outcome = 'copy' AND entered_at >= ?"
        return int(self._read(query, (since.isoformat(),))[0][0])

    def next_numbers(self, bag_id: str) -> tuple[int, int]:
        """Return the next seq of a bag, from 1, and the number of its next free UVCI, from 0."""
        query = "SELECT coalesce(max(seq), 0) + 1, coalesce(max(number), -1) + 1 FROM entries WHERE bag_id = ?"
        ((seq, number),) = self._read(query, (bag_id,))
        return int(seq), int(number)

    def last_entered_at(self) -> datetime | None:
        ((text,),) = self._read("SELECT max(entered_at) FROM entries")
        return datetime.fromisoformat(text) if text else None

    def insert(self, line: Line) -> None:
        values = {name: getattr(line, name) for name in _NAMES} | {
            "event": json.dumps(line.event, ensure_ascii=False),
            "reasons": json.dumps(line.reasons, ensure_ascii=False),
            "entered_at": line.entered_at.isoformat(),
        }
        self._connection.execute(
            f"INSERT INTO entries ({_COLUMNS}) VALUES ({', '.join(':' + name for name in _NAMES)})",  # noqa: S608
            values,
        )

    # -- what the agent does

    def unhanded(self, limit: int = 20) -> list[Paper]:
        """Return papers that the agent's journal does not have yet, oldest first."""
        rows = self._read(
            "SELECT bag_id, seq, job_id, document, sha256, media, form, copy_number, module_um FROM entries "
            "WHERE paper = 'site' AND handed = 0 ORDER BY entered_at, bag_id, seq LIMIT ?",
            (limit,),
        )
        return [Paper(row[0], row[1], JobId(row[2]), bytes(row[3]), *row[4:]) for row in rows]

    def mark_handed(self, paper: Paper) -> None:
        """The journal has the job and its document: the book needs it no more."""
        with self.writing():
            self._connection.execute(
                "UPDATE entries SET handed = 1, document = NULL WHERE bag_id = ? AND seq = ?", (paper.bag_id, paper.seq)
            )

    def jobs_not_brought(self) -> dict[JobId, str]:
        """Return the jobs of which the service does not know, with their bags."""
        rows = self._read("SELECT job_id, bag_id FROM entries WHERE brought = 0 AND job_id <> ''")
        return {JobId(row[0]): row[1] for row in rows}

    def next_to_bring(
        self, limit: int = 50, *, without: Collection[str] = ()
    ) -> tuple[str, tuple[BagEntry, ...]] | None:
        """Return (bag, its oldest entries that the service has not acknowledged); None where all is home.

        A paper that the journal does not have yet stops its bag there: once it is home, its reports may go. Bags
        `without` are passed over.
        """
        bags = self._read(
            "SELECT DISTINCT bag_id FROM entries e JOIN bags b USING (bag_id) WHERE brought = 0 "
            "ORDER BY b.taken_at, b.rowid"
        )
        for (bag_id,) in bags:
            if bag_id not in without and (entries := self._to_bring(bag_id, limit)):
                return bag_id, entries
        return None

    def _to_bring(self, bag_id: str, limit: int) -> tuple[BagEntry, ...]:
        rows = self._read(
            "SELECT seq, event, hcert, entered_at, paper, form, media, uvci, copy_number, copy_reason, handed, "
            "told_before FROM entries WHERE bag_id = ? AND brought = 0 ORDER BY seq LIMIT ?",
            (bag_id, limit),
        )
        entries = []
        for seq, event, hcert, entered_at, paper, form, media, uvci, copy_number, copy_reason, handed, told in rows:
            if paper == "site" and not handed:
                break
            entries.append(
                BagEntry(
                    seq=seq,
                    event=json.loads(event),
                    hcert=hcert,
                    entered_at=datetime.fromisoformat(entered_at),
                    paper=paper or "centre",
                    form=form,
                    media=media,
                    uvci=uvci if copy_number > 1 else "",
                    copy_number=copy_number,
                    copy_reason=copy_reason,
                    told_before=bool(told),
                )
            )
        return tuple(entries)

    def mark_told(self, job_ids: Iterable[JobId]) -> None:
        """Note jobs that are reported on although the service does not know them."""
        with self.writing():
            self._connection.executemany(
                "UPDATE entries SET told_before = 1 WHERE job_id = ? AND brought = 0", [(one,) for one in job_ids]
            )

    def mark_brought(self, bag_id: str, acknowledged: int, results: tuple[EntryResult, ...]) -> None:
        """Note what the service said of entries, and that it has them."""
        with self.writing():
            for one in results:
                self._connection.execute(
                    "UPDATE entries SET said = ?, said_reason = ?, said_detail = ? WHERE bag_id = ? AND seq = ?",
                    (one.outcome, one.reason, one.detail, bag_id, one.seq),
                )
            self._connection.execute(
                "UPDATE entries SET brought = 1 WHERE bag_id = ? AND seq <= ?", (bag_id, acknowledged)
            )
            self._connection.execute("UPDATE bags SET refused = '' WHERE bag_id = ?", (bag_id,))

    def summary(self, bag_id: str | None = None) -> dict[str, Any]:
        """Return counts, and the entries that somebody should look at; nothing of a person but the dose id."""
        where, arguments = ("WHERE bag_id = ?", (bag_id,)) if bag_id else ("", ())
        rows = self._read(
            "SELECT dose_id, outcome, uvci, job_id, paper, paper_reason, handed, brought, said, said_reason, reasons, "  # noqa: S608
            "copy_number "
            f"FROM entries {where} ORDER BY entered_at, seq",
            arguments,
        )
        names = ("dose_id", "outcome", "uvci", "job_id", "paper", "paper_reason", "handed", "brought", "said", "why")
        lines = [
            dict(zip(names, row[:10], strict=True)) | {"reasons": json.loads(row[10]), "copy_number": row[11]}
            for row in rows
        ]
        return {
            "entered": sum(line["outcome"] != "copy" for line in lines),
            "issued": sum(line["outcome"] == "issued" for line in lines),
            "held": [line["dose_id"] for line in lines if line["outcome"] == "held"],
            "needs_the_centre": [
                line["dose_id"] for line in lines if line["paper"] == "centre" and not line["brought"]
            ],
            "not_brought": sum(not line["brought"] for line in lines),
            "conflicts": [
                {"dose_id": line["dose_id"], "uvci": line["uvci"], "reason": line["why"]}
                for line in lines
                if line["said"] == "conflict"
            ],
            "jobs": {line["job_id"]: (line["dose_id"], line["copy_number"]) for line in lines if line["job_id"]},
        }


_NAMES = (
    "bag_id", "seq", "dose_id", "event", "outcome", "reasons", "number", "uvci", "hcert", "job_id", "form", "media",
    "paper", "paper_reason", "document", "sha256", "size", "entered_at", "copy_number", "copy_reason",
    "module_um",
)  # fmt: skip
_COLUMNS = ", ".join(_NAMES)


def _line(row: tuple[Any, ...]) -> Line:
    values = dict(zip(_NAMES, row, strict=True))
    return Line(
        **values
        | {
            "event": json.loads(values["event"]),
            "reasons": tuple(json.loads(values["reasons"])),
            "entered_at": datetime.fromisoformat(values["entered_at"]),
        }
    )
