"""Issuing certificates again: under a new signer, with a later end. Counted first, then in chunks, each exactly once.

A run is stored whole before its first certificate. What belongs together is one transaction: the new certificates, the
marks of the old ones, revocations, print jobs, the marks of the run's items and a row of its ledger. So a run that was
killed goes on where it stopped, however many work on it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from printsvc.credential.keys import Signer
from printsvc.domain.certificate import Certificate
from printsvc.domain.form import FormChoice, FormId
from printsvc.domain.print_job import Happening, JobEvent, PrintJob
from printsvc.domain.signer import SignerRole, SignerState
from printsvc.errors import DuplicateError, InputError, NotFoundError, Problem, StateError
from printsvc.flows import leases
from printsvc.flows.issue import a_year_later, make_job
from printsvc.flows.keys import get_record
from printsvc.flows.minting import HereMinter
from printsvc.flows.reissue_plan import Fate, decide, plan_paper
from printsvc.flows.revoke import new_revocation
from printsvc.flows.services import Minted, Minter, Order, Refused, Services, Terms
from printsvc.flows.signers import store_signed
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store import reissues as reissue_store
from printsvc.store import revocations as revocation_store
from printsvc.store.reissues import (
    Candidate,
    Chunk,
    Item,
    ItemOutcome,
    Run,
    Selection,
    SignerShare,
    SiteShare,
    Standing,
)
from printsvc.store.signers import list_records

CHUNK: Final = 200
"""Certificates a transaction: small, because doses wait behind it on SQLite."""

LANES: Final = 3
"""Chunks under way at once: while one is stored the next ones are signed."""

SMALL: Final = 1000
"""A run of fewer certificates is signed in this process: workers would take longer to start."""

ASSUMED_RATE: Final = 500.0
IDLE: Final = timedelta(seconds=60)
"""After which the service goes on with a run that nobody has worked on."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do; `states` are those of the signers, by kid, `signer` is the kid of the one that signs now."""

    run_id: str
    count: int
    by_site: tuple[SiteShare, ...]
    by_signer: tuple[SignerShare, ...]
    states: Mapping[str, str]
    signer: str
    rate_per_s: float
    is_measured: bool

    @property
    def papers(self) -> int:
        return sum(site.papers for site in self.by_site)

    @property
    def seconds(self) -> float:
        return self.count / self.rate_per_s


@dataclass(frozen=True, slots=True)
class _Old:
    """A certificate that a transaction issues again: how it stands, what becomes of it, and the new one."""

    line: int
    candidate: Candidate
    standing: Standing
    fate: Fate
    new: Certificate


async def choose(services: Services, selection: Selection, signer: str | None) -> Selection:
    """Return the selection with the kid of the signer that is named (kid, thumbprint or beginning of one).

    Raises NotFoundError; StateError for the signer that signs now; InputError where everything is meant, and for a time
    beyond the end of what is issued now: such a run would never be done.
    """
    now = services.clock()
    await services.signers.follow(now)
    current = services.signers.current(now)
    if signer is not None:
        record = await services.store.read(lambda c: get_record(list_records(c), signer))
        if record.role is SignerRole.CSCA:
            raise NotFoundError("This is no document signer.", vi="Đây không phải khóa ký chứng nhận (DSC).")
        if record.kid == current.kid.hex():
            raise StateError(
                "This signer still signs: change to another first (printsvc keys rotate).",
                vi="Khóa này vẫn đang ký: hãy chuyển sang khóa khác trước (printsvc keys rotate).",
                code="signer_still_signs",
            )
        if selection.query.kid not in (None, record.kid):
            raise InputError([Problem("/query/kid", "two_signers", "Hai khóa ký khác nhau.", "Two different signers.")])
        selection = replace(selection, query=replace(selection.query, kid=record.kid))
    if selection.expiring_before is None and all(value is None for value in asdict(selection.query).values()):
        vi = "Chưa nêu điều kiện nên sẽ cấp lại mọi chứng nhận: hãy nêu ít nhất một điều kiện."
        raise InputError([Problem("/query", "empty_query", vi, "An empty query means every certificate: say which.")])
    latest = min(a_year_later(now), current.not_after)
    if selection.expiring_before is not None and selection.expiring_before > latest:
        raise InputError(
            [
                Problem(
                    "/expiring_before",
                    "beyond_new_ones",
                    f"Chứng nhận cấp hôm nay hết hạn {latest:%d/%m/%Y}: hãy nêu ngày sớm hơn.",
                    f"What is issued today ends on {latest:%Y-%m-%d}: name an earlier time.",
                )
            ]
        )
    return selection


async def preview(services: Services, selection: Selection) -> Preview:
    """Return what a run over the selection would do; stores nothing. Raises SignerError where nobody signs."""
    now = services.clock()

    def read(connection: Connection) -> tuple[list[SiteShare], list[SignerShare], dict[str, str], float | None]:
        states = {record.kid: record.state.value for record in list_records(connection)}
        return (
            reissue_store.count_by_site(connection, selection),
            reissue_store.count_by_signer(connection, selection),
            states,
            reissue_store.last_rate(connection),
        )

    by_site, by_signer, states, rate = await services.store.read(read)
    return Preview(
        run_id=services.random_bytes(12).hex(),
        count=sum(site.certificates for site in by_site),
        by_site=tuple(by_site),
        by_signer=tuple(by_signer),
        states=states,
        signer=services.signers.current(now).kid.hex(),
        rate_per_s=rate or ASSUMED_RATE,
        is_measured=rate is not None,
    )


async def begin(
    services: Services,
    run_id: str,
    selection: Selection,
    *,
    expected: int,
    is_printed: bool,
    revokes_old: bool,
    actor: str,
) -> Run:
    """Store a run over a selection and return it; the one that is there already where it was begun before.

    `expected` is how many the preview found: where it is another number now, nothing is begun (StateError). Raises
    DuplicateError where the run was begun with something else.
    """
    asked = selection_document(selection)
    run = Run(run_id, asked, is_printed, revokes_old, actor[:64], services.clock(), expected, None)

    def store(connection: Connection) -> Run:
        if not reissue_store.insert_run(connection, run):
            there = reissue_store.find_run(connection, run_id)
            if there is None or (there.asked, there.is_printed, there.revokes_old) != (asked, is_printed, revokes_old):
                raise DuplicateError(
                    ["/run_id"],
                    "A run with this id was begun with something else.",
                    vi="Mã đợt cấp lại này đã dùng cho nội dung khác.",
                )
            return there
        found = reissue_store.insert_items(connection, run_id, selection)
        if found != expected:
            raise StateError(
                f"{found} certificates are meant now, not {expected}: look at it again.",
                vi=f"Hiện có {found} chứng nhận, không phải {expected}: hãy xem lại.",
                code="count_changed",
            )
        return run

    return await services.store.write(store)


async def work(services: Services, run_id: str, *, for_s: float | None = None) -> Run:
    """Go on with a run for so many seconds (None: to its end), and return what came of it.

    May be called by several at once, and after any kill. Raises NotFoundError, SignerError where nobody signs.
    """
    run = await get_run(services, run_id)
    minter = HereMinter() if run.total < SMALL or services.minter is None else services.minter
    loop = asyncio.get_running_loop()
    end = None if for_s is None else loop.time() + for_s
    is_over, left = False, [Item(0, "")]
    try:
        while not is_over:
            await _work_lanes(services, run, minter, lambda: end is not None and loop.time() >= end)
            left = await services.store.read(lambda c: reissue_store.open_items(c, run_id, limit=1))
            if not left:
                await services.store.write(lambda c: reissue_store.end_run(c, run_id, now=services.clock()))
            is_over = not left or (end is not None and loop.time() >= end)
    finally:
        if for_s is None or not left:
            await minter.close()
    return await get_run(services, run_id)


async def _work_lanes(services: Services, run: Run, minter: Minter, is_time: Callable[[], bool]) -> None:
    """Work on chunks side by side until nothing is left after the last line, or time is up; one chunk at least."""
    last_line = 0
    reading = asyncio.Lock()

    async def next_items() -> list[Item]:
        nonlocal last_line
        async with reading:
            items = await services.store.read(
                lambda c: reissue_store.open_items(c, run.run_id, after=last_line, limit=CHUNK)
            )
            last_line = items[-1].line if items else last_line
            return items

    async def lane() -> None:
        while items := await next_items():
            await _work_on(services, run, minter, items)
            if is_time():
                return

    for outcome in await asyncio.gather(*(lane() for _ in range(LANES)), return_exceptions=True):
        if outcome is not None:  # all lanes have stopped: nothing goes on behind the caller's back
            raise outcome


async def _work_on(services: Services, run: Run, minter: Minter, items: Sequence[Item]) -> None:
    loop = asyncio.get_running_loop()
    began, now = loop.time(), services.clock()
    uvcis = [item.uvci for item in items]
    found = await services.store.read(lambda c: reissue_store.load_candidates(c, uvcis))
    terms = Terms(services.form, services.issuer, services.country, now)
    job_ids = {item.line: services.random_bytes(10).hex() for item in items}

    async def prepare(signer: Signer) -> tuple[str, dict[int, Minted]]:
        orders = [
            Order(found[item.uvci].event, services.random_bytes(16), found[item.uvci].version + 1) for item in items
        ]
        minted = await minter.mint(signer, terms, orders)
        return signer.kid.hex(), dict(zip((item.line for item in items), minted, strict=True))

    def store(connection: Connection, prepared: tuple[str, dict[int, Minted]]) -> set[str]:
        kid, minted = prepared
        revocation_store.lock_revocations(connection)
        left = reissue_store.lines_left(connection, run.run_id, items[0].line, items[-1].line)
        mine = [item for item in items if item.line in left]  # another may have been here
        if not mine:
            return set()
        done, jobs = _store_chunk(connection, services, run, mine, found, minted, job_ids, now)
        reissue_store.end_items(connection, run.run_id, done)
        counts = {outcome.value: sum(one.outcome == outcome for one in done) for outcome in ItemOutcome}
        chunk = Chunk(
            run.run_id,
            mine[0].line,
            mine[-1].line,
            kid,
            papers=len(jobs),
            seconds=round(loop.time() - began, 3),
            stored_at=services.clock(),
            **counts,
        )
        reissue_store.insert_chunk(connection, chunk)
        return {job.site_id for job in jobs}

    for site_id in await store_signed(services, now, prepare, store):
        services.wakeups.notify(site_id)


def _store_chunk(
    connection: Connection,
    services: Services,
    run: Run,
    items: Sequence[Item],
    found: Mapping[str, Candidate],
    minted: Mapping[int, Minted],
    job_ids: Mapping[int, str],
    now: datetime,
) -> tuple[list[Item], list[PrintJob]]:
    """Store what was signed for these items, as far as they may have it; return what came of each, and new jobs."""
    stands = reissue_store.standings(connection, [item.uvci for item in items])
    compromised = {r.kid for r in list_records(connection) if r.state is SignerState.COMPROMISED}
    done: list[Item] = []
    chosen: list[_Old] = []
    for item in items:
        standing, new = stands[item.uvci], minted[item.line]
        fate = decide(standing, compromised=compromised, revokes_old=run.revokes_old)
        if fate.outcome is not ItemOutcome.ISSUED:
            done.append(Item(item.line, item.uvci, fate.outcome))
        elif isinstance(new, Refused):
            done.append(Item(item.line, item.uvci, ItemOutcome.FAILED, problem=new.problem))
        else:
            done.append(Item(item.line, item.uvci, ItemOutcome.ISSUED, new.uvci))
            chosen.append(_Old(item.line, found[item.uvci], standing, fate, new))
    dose_store.insert_certificates(connection, [(one.standing.dose_pk, one.new) for one in chosen])
    reissue_store.supersede(connection, {one.candidate.old.uvci: one.new.uvci for one in chosen}, now=now)
    revocation_store.insert_revocations(
        connection,
        [
            new_revocation(one.candidate.old, one.fate.revoke_for, f"reissue:{run.run_id}:{one.line}")
            for one in chosen
            if one.fate.revoke_for is not None
        ],
        revoked_by=run.asked_by,
        now=now,
    )
    return done, _store_papers(connection, services, run, chosen, job_ids, now)


def _store_papers(
    connection: Connection,
    services: Services,
    run: Run,
    chosen: Sequence[_Old],
    job_ids: Mapping[int, str],
    now: datetime,
) -> list[PrintJob]:
    ever = job_store.jobs_of_doses(connection, [one.standing.dose_pk for one in chosen])
    locked = job_store.lock_jobs(connection, [job.job_id for jobs in ever.values() for job in jobs])
    jobs: list[PrintJob] = []
    for one in chosen:
        of_dose = [locked[job.job_id] for job in ever.get(one.standing.dose_pk, ())]
        of_old = [job for job in of_dose if job.uvci == one.candidate.old.uvci]
        is_dead = one.fate.revoke_for is not None or one.standing.revoked_for is not None
        plan = plan_paper(of_old, of_dose, is_dead=is_dead, is_printed=run.is_printed)
        for job in plan.cancel:
            happening = Happening(JobEvent.CANCEL, now, run.asked_by, reason="certificate-reissued")
            leases.apply_event(connection, job, happening, now=now)
        if plan.copy is not None and plan.template is not None:
            number, reason = plan.copy
            form = FormChoice(FormId(plan.template.form), plan.template.media, services.form.qr_capacity)
            jobs.append(
                make_job(
                    one.new.uvci,
                    plan.template.site_id,
                    form=form,
                    job_id=job_ids[one.line],
                    now=now,
                    copy_number=number,
                    reason=reason,
                    asked_by=run.asked_by,
                    clock=services.paper_clock,
                )
            )
    job_store.insert_jobs(connection, jobs)
    return jobs


async def resume_runs(services: Services) -> int:
    """Go on with the runs that nobody has worked on for a minute; return how many there were."""
    now = services.clock()
    runs = await services.store.read(lambda c: reissue_store.list_runs(c, limit=100, is_open=True))
    left = [run for run in runs if max(run.begun_at, run.stored_at or run.begun_at) <= now - IDLE]
    for run in left:
        await work(services, run.run_id)
    return len(left)


async def get_run(services: Services, run_id: str) -> Run:
    """Return a run with what came of it so far. Raises NotFoundError."""
    run = await services.store.read(lambda c: reissue_store.find_run(c, run_id))
    if run is None:
        raise NotFoundError("There is no such run.", vi="Không có đợt cấp lại này.")
    return run


def selection_document(selection: Selection) -> dict[str, Any]:
    """Return a selection as JSON."""
    asked: dict[str, Any] = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(selection.query).items()
        if value is not None
    }
    if selection.expiring_before is not None:
        asked["expiring_before"] = selection.expiring_before.isoformat()
    return asked


# --- documents: what routes answer and commands print


def preview_document(shown: Preview) -> dict[str, Any]:
    """Return what a run would do as JSON."""
    return {
        "dry_run": True,
        "run_id": shown.run_id,
        "count": shown.count,
        "papers": shown.papers,
        "by_site": [asdict(site) for site in shown.by_site],
        "by_signer": [asdict(one) | {"state": shown.states.get(one.kid, "unknown")} for one in shown.by_signer],
        "signer": shown.signer,
        "seconds": round(shown.seconds, 1),
        "rate_per_s": round(shown.rate_per_s, 1),
        "rate_from": "last run" if shown.is_measured else "assumed",
    }


def run_document(run: Run) -> dict[str, Any]:
    """Return a run as JSON."""
    return {
        "run_id": run.run_id,
        "asked": run.asked,
        "print": run.is_printed,
        "revoke_old": run.revokes_old,
        "asked_by": run.asked_by,
        "begun_at": run.begun_at.isoformat(),
        "ended_at": run.ended_at.isoformat() if run.ended_at else None,
        "total": run.total,
        "left": run.left,
        "issued": run.issued,
        "already": run.already,
        "revoked": run.revoked,
        "failed": run.failed,
        "print_jobs": run.papers,
        "chunks": run.chunks,
    }


async def run_report(services: Services, run_id: str) -> dict[str, Any]:
    """Return a run as JSON, with the reasons why certificates could not be made. Raises NotFoundError."""
    run = await get_run(services, run_id)
    problems = await services.store.read(lambda c: reissue_store.problems_of(c, run_id))
    return run_document(run) | {"problems": problems}


def item_document(item: Item) -> dict[str, Any]:
    """Return what came of one certificate as JSON."""
    return asdict(item) | {"outcome": item.outcome or "open"}


async def stale_document(services: Services) -> dict[str, Any]:
    """Return, by site, how many papers have an old code."""
    now = services.clock()
    return {"sites": await services.store.read(lambda c: reissue_store.count_stale_papers(c, now=now))}


async def stale_papers_document(services: Services, site_id: str, *, after: str, limit: int) -> dict[str, Any]:
    """Return a site's papers with an old code; `next` is the `after` of the next page."""
    papers = await services.store.read(
        lambda c: reissue_store.stale_papers(c, site_id, after=after, limit=limit)
    )  # fmt: skip
    told = [
        paper
        | {
            "expires_at": paper["expires_at"].isoformat(),
            "revoked_at": paper["revoked_at"].isoformat() if paper["revoked_at"] else None,
        }
        for paper in papers
    ]
    return {"site_id": site_id, "papers": told, "next": papers[-1]["job_id"] if len(papers) == limit else None}
