"""Revoking and undoing: one certificate, all that a query means, all that a file names.

What belongs together is one transaction: the revocation, the certificate's own mark, the print jobs that are no longer
wanted, and (in a run) the mark that the item is done. A run is stored whole before its first certificate is revoked, so
one that was killed goes on where it stopped, and what it has done it does not do again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection

from printsvc.credential.hcert import decode_hcert
from printsvc.credential.revocation import HashType, revocation_hashes
from printsvc.credential.verify import subject_of
from printsvc.domain.print_job import Happening, JobEvent, JobState
from printsvc.domain.revocation import OF_ONE_CERTIFICATE, REASONS, Revocation, RevocationReason, undo_until
from printsvc.errors import DuplicateError, InputError, NotFoundError, Problem, StateError
from printsvc.flows import leases
from printsvc.flows.revocation_csv import CsvProblem, parse_csv
from printsvc.flows.services import Services
from printsvc.store import jobs as job_store
from printsvc.store import revocation_runs as run_store
from printsvc.store import revocations as revocation_store
from printsvc.store.revocation_runs import ALREADY, REVOKED, Item, Run
from printsvc.store.revocations import DoseQuery, NewRevocation, Revocable

CHUNK: Final = 200
"""Certificates a transaction: small, because doses wait behind it on SQLite."""

SAMPLE: Final = 10
_REPLACED: Final = "replaced"  # by a revocation that ends more, and for good


class UndoReason(StrEnum):
    MISTAKE = "mistake"
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Preview:
    """What a query would revoke: how many, of which sites, and some UVCIs. `run_id` is what to begin the run with."""

    run_id: str
    count: int
    by_site: dict[str, int]
    sample: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CsvReport:
    """What a file would revoke. `already` of the good lines are revoked now."""

    items: tuple[Item, ...]
    problems: tuple[CsvProblem, ...]
    already: int


async def revoke(
    services: Services, uvci: str, reason: RevocationReason, *, actor: str, request_id: str | None = None
) -> tuple[Revocation, bool]:
    """Revoke a certificate; return the revocation, and whether it was there already.

    Where it is revoked already because it was issued again or corrected, and the reason now lies in the dose or the
    person, what came after it is revoked: that revocation is returned, of the other UVCI. Where nothing came after it,
    a reason that is for good takes the place of the one that is there, so that nobody issues the dose again.

    `request_id` is the caller's: a retry gets what the first call did, even where that was undone since. Raises
    NotFoundError, and DuplicateError where it is revoked for another reason.
    """
    now = services.clock()
    found = (await services.store.read(lambda c: revocation_store.find_revocable(c, [uvci]))).get(uvci)
    if found is None:
        raise NotFoundError("There is no such certificate.", vi="Không có giấy chứng nhận này.")
    own = f"one:{request_id or services.random_bytes(12).hex()}"
    new = new_revocation(found, reason, own)

    def store(connection: Connection) -> tuple[Revocation, bool]:
        revocation_store.lock_revocations(connection)
        asked = revocation_store.find_requests(connection, [own, f"{own}/1"])
        there = asked.get(own) or revocation_store.find_current(connection, uvci)
        if there is not None and not _goes_further(new, there):
            return _as_asked(there, new), True
        wanted = _other_versions(connection, [new])
        if there is None:
            wanted.insert(0, new)
        elif not wanted or f"{own}/1" in asked:
            others = revocation_store.current_of_others(connection, uvci)
            if asked.get(f"{own}/1") or others or REASONS[reason].undo_within is not None:
                later = asked.get(f"{own}/1") or next(iter(others), there)
                return _as_asked(later, replace(new, uvci=later.uvci)), True
            # Nothing came after it yet. The code is ended already; told why, nobody issues the dose again.
            revocation_store.undo_revocation(connection, there, undone_by=actor, undo_reason=_REPLACED, now=now)
            wanted = [new]
        made = revocation_store.insert_revocations(connection, wanted, revoked_by=actor, now=now)
        _cancel_jobs(connection, [one.uvci for one in made], actor=actor, now=now)
        return next(one for one in made if one.uvci == wanted[0].uvci), False

    return await services.store.write(store)


def _goes_further(new: NewRevocation, there: Revocation) -> bool:
    """Return whether `there` ended this certificate alone, and `new` ends the others of its dose too."""
    alone = there.reason in OF_ONE_CERTIFICATE and new.reason not in OF_ONE_CERTIFICATE
    return alone and there.uvci == new.uvci and there.request_id != new.request_id


def _as_asked(there: Revocation, new: NewRevocation) -> Revocation:
    """Return what is there, where it is what is wanted. Raises DuplicateError."""
    fields = [f"/{name}" for name in ("uvci", "reason") if getattr(there, name) != getattr(new, name)]
    if not fields:
        return there
    if undo_until(there) is None:
        en, vi = "that cannot be undone", "không thể hủy thu hồi này"
    else:
        en, vi = "undo that first", "hãy hủy thu hồi trước"
    raise DuplicateError(
        fields,
        f"This is revoked already, for the reason {there.reason.value}: {en}.",
        vi=f"Chứng nhận đã bị thu hồi với lý do {there.reason.value}: {vi}.",
    )


async def undo(services: Services, uvci: str, reason: UndoReason, *, actor: str) -> tuple[Revocation, bool]:
    """Let a revoked certificate count again; return the revocation as it is now, and whether it was undone before.

    The rules are those of domain/revocation. Canceled papers stay canceled: a person asks for a new copy. Raises
    NotFoundError where it was never revoked, StateError (undo_not_allowed) where the rules forbid it.
    """
    now = services.clock()

    def store(connection: Connection) -> tuple[Revocation, bool]:
        revocation_store.lock_revocations(connection)
        history = revocation_store.history_of(connection, uvci)
        if not history:
            raise NotFoundError("This certificate is not revoked.", vi="Chứng nhận này không bị thu hồi.")
        newest = next((one for one in history if one.is_current), history[-1])
        if not newest.is_current:
            return newest, True
        _check_undo(newest, now)
        for one in revocation_store.current_of_family(connection, newest.request_id.partition("/")[0]):
            revocation_store.undo_revocation(connection, one, undone_by=actor, undo_reason=reason.value, now=now)
        return revocation_store.history_of(connection, uvci)[-1], False

    return await services.store.write(store)


def _check_undo(revocation: Revocation, now: datetime) -> None:
    until = undo_until(revocation)
    if until is None:
        raise StateError(
            f"A revocation for the reason {revocation.reason.value} cannot be undone.",
            vi=f"Không thể hủy thu hồi có lý do {revocation.reason.value}.",
            code="undo_not_allowed",
        )
    if now > until:
        raise StateError(
            f"This revocation could be undone until {until:%Y-%m-%d %H:%M} UTC.",
            vi=f"Chỉ có thể hủy thu hồi này trước {until:%H:%M %d/%m/%Y} UTC.",
            code="undo_not_allowed",
        )


# --- runs


async def preview(services: Services, query: DoseQuery) -> Preview:
    """Return what a query would revoke; stores nothing. Raises InputError for a query that means everything."""
    _check_query(query)

    def read(connection: Connection) -> tuple[dict[str, int], list[str]]:
        return (
            revocation_store.count_by_site(connection, query),
            revocation_store.sample_of(connection, query, limit=SAMPLE),
        )

    by_site, sample = await services.store.read(read)
    return Preview(services.random_bytes(12).hex(), sum(by_site.values()), by_site, tuple(sample))


async def begin_query(
    services: Services, run_id: str, query: DoseQuery, reason: RevocationReason, *, expected: int, actor: str
) -> Run:
    """Store a run over what a query means, and return it; the one that is there already where it was begun before.

    `expected` is how many the preview found: where it is another number now, nothing is begun (StateError). Raises
    DuplicateError where the run was begun with another query.
    """
    _check_query(query)
    asked = _document(query) | {"reason": reason.value}
    run = Run(run_id, "query", asked, actor[:64], services.clock(), expected, None)

    def store(connection: Connection) -> Run:
        if not run_store.insert_run(connection, run):
            return _same_run(connection, run)
        found = run_store.insert_items_of_query(connection, run_id, query, reason)
        if found != expected:
            raise StateError(
                f"The query means {found} certificates now, not {expected}: look at it again.",
                vi=f"Truy vấn hiện có {found} chứng nhận, không phải {expected}: hãy xem lại.",
                code="count_changed",
            )
        return run

    return await services.store.write(store)


async def check_csv(services: Services, body: bytes, reason: RevocationReason | None) -> CsvReport:
    """Return what a file would revoke, and what is wrong with its lines. Raises InputError for what is no CSV."""
    rows, problems = await asyncio.to_thread(parse_csv, body, reason)
    known = await services.store.read(lambda c: revocation_store.known_certificates(c, [row.uvci for row in rows]))
    good: list[Item] = []
    for row in rows:
        if row.uvci in known:
            good.append(row)
        else:
            problems.append(CsvProblem.of(row.line, "uvci", "unknown_certificate"))
    problems.sort(key=lambda problem: problem.line)
    return CsvReport(tuple(good), tuple(problems), sum(known[uvci] for uvci in {row.uvci for row in good}))


async def begin_csv(
    services: Services,
    body: bytes,
    reason: RevocationReason | None,
    *,
    skip_bad: bool,
    actor: str,
    run_id: str | None = None,
) -> tuple[Run, tuple[CsvProblem, ...]]:
    """Store a run over a file's lines, and return it with what is wrong with the others.

    The same file is the same run, unless `run_id` says otherwise: sent twice, it is done once. Raises InputError for a
    bad line (with all of them) unless `skip_bad`.
    """
    digest = hashlib.sha256(b"|".join((str(reason).encode(), str(skip_bad).encode(), body))).hexdigest()
    run_id = run_id or digest[:32]
    if (there := await find_run(services, run_id)) is not None:
        if there.asked.get("sha256") != digest:
            raise _another_run()
        return there, ()
    report = await check_csv(services, body, reason)
    if report.problems and not skip_bad:
        raise InputError([problem.to_problem() for problem in report.problems], code="csv_invalid")
    asked = {"sha256": digest, "good": len(report.items), "bad": len(report.problems)}
    run = Run(run_id, "csv", asked, actor[:64], services.clock(), len(report.items), None)

    def store(connection: Connection) -> Run:
        if not run_store.insert_run(connection, run):
            return _same_run(connection, run)
        run_store.insert_items(connection, run_id, report.items)
        return run

    return await services.store.write(store), report.problems


def _same_run(connection: Connection, wanted: Run) -> Run:
    there = run_store.find_run(connection, wanted.run_id)
    if there is None or there.asked != wanted.asked:
        raise _another_run()
    return there


def _another_run() -> DuplicateError:
    return DuplicateError(
        ["/run_id"],
        "A run with this id was begun with something else.",
        vi="Mã đợt thu hồi này đã dùng cho nội dung khác.",
    )


async def work(services: Services, run_id: str, *, for_s: float | None = None) -> Run:
    """Go on with a run for so many seconds (None: to its end), and return what came of it.

    May be called by several at once, and after any kill. Raises NotFoundError.
    """
    loop = asyncio.get_running_loop()
    end = None if for_s is None else loop.time() + for_s
    while True:
        items = await services.store.read(lambda c: run_store.open_items(c, run_id, limit=CHUNK))
        if not items:
            await services.store.write(lambda c: run_store.end_run(c, run_id, now=services.clock()))
            break
        await _work_on(services, run_id, items)
        if end is not None and loop.time() >= end:
            break
    run = await find_run(services, run_id)
    if run is None:
        raise NotFoundError("There is no such run.", vi="Không có đợt thu hồi này.")
    return run


async def _work_on(services: Services, run_id: str, items: Sequence[Item]) -> None:
    found = await services.store.read(lambda c: revocation_store.find_revocable(c, [item.uvci for item in items]))
    new = await asyncio.to_thread(_new_of_items, run_id, items, found)  # decoding 200 codes would hold up the loop
    now = services.clock()

    def store(connection: Connection) -> None:
        revocation_store.lock_revocations(connection)
        actor = run_store.asked_by(connection, run_id)
        left = {item.line for item in run_store.open_items(connection, run_id, limit=CHUNK)}
        todo = {one.request_id: line for line, one in new.items() if line in left}  # another may have been here
        wanted = [new[line] for line in todo.values()]
        wanted += _other_versions(connection, wanted)
        made = revocation_store.insert_revocations(connection, wanted, revoked_by=actor, now=now)
        _cancel_jobs(connection, [one.uvci for one in made], actor=actor, now=now)
        done = {todo.pop(one.request_id) for one in made if one.request_id in todo}
        run_store.end_items(connection, run_id, sorted(done), REVOKED)
        run_store.end_items(connection, run_id, sorted(todo.values()), ALREADY)

    await services.store.write(store)


async def resume_runs(services: Services) -> int:
    """Bring every run that was begun to its end; return how many there were."""
    open_runs = await services.store.read(run_store.open_runs)
    for run_id in open_runs:
        await work(services, run_id)
    return len(open_runs)


async def find_run(services: Services, run_id: str) -> Run | None:
    """Return a run with what came of it so far."""
    return await services.store.read(lambda c: run_store.find_run(c, run_id))


def _other_versions(connection: Connection, new: Sequence[NewRevocation]) -> list[NewRevocation]:
    """Return what goes with these: the other certificates of the doses, where the reason lies in the dose.

    A certificate that was issued again may still count until its own end. Theirs are `<request_id>/<number>`: undone
    together.
    """
    spreading: dict[str, NewRevocation] = {one.uvci: one for one in new if one.reason not in OF_ONE_CERTIFICATE}
    found = revocation_store.find_versions(connection, spreading)
    return [
        new_revocation(other, spreading[uvci].reason, f"{spreading[uvci].request_id}/{number}")
        for uvci, others in found.items()
        for number, other in enumerate(others, start=1)
        if other.uvci not in spreading
    ]


def new_revocation(found: Revocable, reason: RevocationReason, request_id: str) -> NewRevocation:
    """Return what is stored to revoke a certificate, with the hashes of its code."""
    subject = subject_of(decode_hcert(found.hcert))
    first = {kind: revocation_hashes(kind, subject)[0] for kind in HashType}
    return NewRevocation(
        uvci=found.uvci,
        kid=found.kid,
        uci_hash=first[HashType.UCI],
        country_uci_hash=first[HashType.COUNTRYCODEUCI],
        signature_hash=first[HashType.SIGNATURE],
        expires_at=found.expires_at,
        reason=reason,
        request_id=request_id,
    )


def _new_of_items(run_id: str, items: Sequence[Item], found: Mapping[str, Revocable]) -> dict[int, NewRevocation]:
    return {
        item.line: new_revocation(found[item.uvci], item.reason, run_store.request_id_of(run_id, item.line))
        for item in items
    }


def _cancel_jobs(connection: Connection, uvcis: Iterable[str], *, actor: str, now: datetime) -> None:
    unwanted = revocation_store.unwanted_jobs(connection, uvcis)
    for job in job_store.lock_jobs(connection, unwanted).values():
        if job.state is JobState.FAILED or (job.state is JobState.WAITING and job.holder_agent is None):
            happening = Happening(JobEvent.CANCEL, now, actor[:64], reason="certificate-revoked")
            leases.apply_event(connection, job, happening, now=now)


def _check_query(query: DoseQuery) -> None:
    if all(value is None for value in asdict(query).values()):
        vi = "Truy vấn trống sẽ thu hồi mọi chứng nhận: hãy nêu ít nhất một điều kiện."
        raise InputError([Problem("/query", "empty_query", vi, "An empty query means every certificate: say which.")])


def _document(query: DoseQuery) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(query).items()
        if value is not None
    }
