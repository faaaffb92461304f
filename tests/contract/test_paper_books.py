"""The books of papers on both databases: climbing once, scans and reports at once, copies asked for twice, limits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from printsvc.domain.print_job import CopyReason, Happening, JobEvent, JobState, PrintJob
from printsvc.domain.site import Site, SiteId
from printsvc.errors import InputError, NotFoundError, StateError
from printsvc.flows import dispatch
from printsvc.flows.climbing import climb_all
from printsvc.flows.papers import Seen, print_copy, settle_job, why_no_copy
from printsvc.flows.scanback import Expected, papers_of, scan_back
from printsvc.flows.seen_in_app import mark_seen_in_app
from printsvc.printing.copies import CopyLimits
from printsvc.printing.paper import PaperState, ScanVerdict
from printsvc.store import jobs as job_store
from printsvc.store import papers as paper_store
from printsvc.store import signers as signer_store
from printsvc.store import sites as site_store

OPERATOR = CopyLimits(2, 3)


class SiteOfTests:
    """A site with one agent that tells what a test says."""

    def __init__(self, world: Any) -> None:
        self.world, self.services = world, world.services
        self.agent = world.add_agent()
        self.seq = 0

    async def issue(self, dose_id: str, **changes: Any) -> Any:
        (recorded,) = await self.world.record(self.world.event(dose_id, **changes))
        return recorded

    async def lease(self) -> dict[str, int]:
        result = await dispatch.lease(
            self.services, self.agent, journal_id=self.agent.journal_id, capacity=100, wait_s=0
        )
        return {ready.job.job_id: ready.job.fencing_token for ready in result.ready}

    async def tell(self, job_id: str, *events: JobEvent, token: int = 1) -> None:
        happenings = []
        for event in events:
            self.seq += 1
            told = Happening(event, self.world.clock.now, self.agent.agent_id, seq=self.seq, fencing_token=token)
            happenings.append((job_id, told))
        await dispatch.report(self.services, self.agent, self.agent.journal_id, happenings)

    async def paper(self, dose_id: str = "A", *events: JobEvent, **changes: Any) -> Any:
        """Issue a dose, lease its job, and report these events of it."""
        recorded = await self.issue(dose_id, **changes)
        await self.lease()
        await self.tell(recorded.job_id, *events)
        return recorded

    def job(self, job_id: str) -> PrintJob:
        return self.world.store.read_now(lambda c: job_store.get_job(c, job_id))

    def climbs(self, job_id: str) -> list[tuple[int, int]]:
        rows = self.world.store.read_now(lambda c: paper_store.climbs_of(c, job_id))
        return [(row.step, row.priority) for row in rows]


@pytest.fixture
def site(world: Any) -> SiteOfTests:
    return SiteOfTests(world)


# --- the clock


async def test_a_job_climbs_at_10_20_and_30_minutes_once_each(site: SiteOfTests) -> None:
    now = site.world.clock.now
    recorded = await site.issue("A", injected_at=now)
    seen = {}
    for minute in range(45):
        await climb_all(site.services)
        seen[minute] = site.job(recorded.job_id).priority
        site.world.clock.advance(60)
    assert [seen[minute] for minute in (0, 9, 10, 19, 20, 29, 30, 44)] == [50, 50, 60, 60, 70, 70, 80, 80]
    assert site.climbs(recorded.job_id) == [(1, 60), (2, 70), (3, 80)]
    assert site.job(recorded.job_id).state is JobState.WAITING
    assert site.job(recorded.job_id).changed_at == now, "climbing is no change of its state"


async def test_many_who_look_at_once_let_a_job_climb_once(site: SiteOfTests) -> None:
    doses = [await site.issue(f"D-{n}", injected_at=site.world.clock.now) for n in range(5)]
    site.world.clock.advance(20 * 60)
    await asyncio.gather(*(climb_all(site.services) for _ in range(6)), site.lease(), site.lease())
    for recorded in doses:
        assert site.climbs(recorded.job_id) == [(1, 60), (2, 70)]
        assert site.job(recorded.job_id).priority == 70


async def test_the_one_who_waits_longest_is_claimed_first_without_any_tick(site: SiteOfTests) -> None:
    """The older event comes later: the line of the Platform was cut."""
    fresh = [await site.issue(f"F-{n}", injected_at=site.world.clock.now) for n in range(2)]
    site.world.clock.advance(60)
    waited = await site.issue("W", injected_at=site.world.clock.now - timedelta(minutes=15))
    result = await dispatch.lease(site.services, site.agent, journal_id=site.agent.journal_id, capacity=1, wait_s=0)
    assert [ready.job.job_id for ready in result.ready] == [waited.job_id]
    assert site.climbs(fresh[0].job_id) == []


async def test_what_is_out_or_was_told_long_after_the_injection_does_not_climb(site: SiteOfTests) -> None:
    now = site.world.clock.now
    out = await site.paper("A", JobEvent.SUBMIT, JobEvent.PRINT, injected_at=now)
    history = await site.issue("B", injected_at=now - timedelta(days=90))
    site.world.clock.advance(9 * 60)
    await climb_all(site.services)
    assert site.climbs(history.job_id) == []
    site.world.clock.advance(60 * 60)
    assert await climb_all(site.services) == 2
    assert await climb_all(site.services) == 0, "they are looked at no more"
    assert site.climbs(out.job_id) == []
    assert [step for step, _ in site.climbs(history.job_id)] == [1, 2, 3], "from when it was told"


# --- scan-back


async def scan(site: SiteOfTests, recorded: Any, **more: Any) -> Any:
    return await scan_back(site.services, recorded.dose.certificate.hcert, actor="nurse", **more)


@pytest.mark.parametrize(
    "events",
    [[JobEvent.SUBMIT], [JobEvent.SUBMIT, JobEvent.PRINT], [JobEvent.DOUBT], [JobEvent.FAIL]],
    ids=["sent", "printed", "uncertain", "failed"],
)
async def test_the_right_paper_is_confirmed_once(site: SiteOfTests, events: list[JobEvent]) -> None:
    recorded = await site.paper("A", *events)
    first = await scan(site, recorded, site_id="HN-1")
    again = await scan(site, recorded, site_id="HN-1")
    assert (first.verdict, first.settled, again.verdict, again.settled) == ("right_paper", True, "right_paper", False)
    assert first.paper.state is again.paper.state is JobState.CONFIRMED
    ledger = site.world.store.read_now(lambda c: job_store.ledger_of(c, recorded.job_id))
    assert [(row.event, row.actor) for row in ledger].count(("scan", "nurse")) == 1
    scans = site.world.store.read_now(lambda c: paper_store.scans_of(c, recorded.job_id))
    assert [(row.verdict, row.settled) for row in scans] == [("right_paper", True), ("right_paper", False)]


async def test_two_scans_at_once_confirm_once(site: SiteOfTests) -> None:
    recorded = await site.paper("A", JobEvent.SUBMIT, JobEvent.PRINT)
    answers = await asyncio.gather(*(scan(site, recorded) for _ in range(8)))
    assert {answer.verdict for answer in answers} == {ScanVerdict.RIGHT_PAPER}
    assert sum(answer.settled for answer in answers) == 1


@pytest.mark.parametrize("event", [JobEvent.PRINT, JobEvent.DOUBT, JobEvent.FAIL])
async def test_a_scan_while_the_agent_reports_leaves_the_paper_confirmed(site: SiteOfTests, event: JobEvent) -> None:
    """Whoever comes first: the paper is in a person's hand, and no later word of the agent takes that back."""
    recorded = await site.paper("A", JobEvent.SUBMIT)
    answer, _ = await asyncio.gather(scan(site, recorded), site.tell(recorded.job_id, event))
    assert answer.verdict is ScanVerdict.RIGHT_PAPER
    assert site.job(recorded.job_id).state is JobState.CONFIRMED


async def test_what_the_printer_says_after_the_scan_is_kept_too(site: SiteOfTests) -> None:
    recorded = await site.paper("A", JobEvent.SUBMIT)
    await scan(site, recorded)
    now = site.world.clock.now
    said = {"witness": "printer", "impressions": 1, "printer_said": "completed", "printer_said_at": now}
    late = Happening(JobEvent.PRINT, now, site.agent.agent_id, seq=site.seq + 1, fencing_token=1, **said)
    await dispatch.report(site.services, site.agent, site.agent.journal_id, [(recorded.job_id, late)])
    job = site.job(recorded.job_id)
    assert job.state is JobState.CONFIRMED
    assert {name: getattr(job, name) for name in said} == said


async def test_a_scan_while_somebody_says_that_it_is_not_here(site: SiteOfTests) -> None:
    """Either the paper counts, or a copy takes its place and the paper is old: never both."""
    recorded = await site.paper("A", JobEvent.DOUBT)
    answer, settled = await asyncio.gather(
        scan(site, recorded),
        settle_job(site.services, recorded.job_id, Seen.NOT_HERE, actor="another"),
        return_exceptions=True,
    )
    papers = await papers_of(site.services, recorded.dose.certificate.uvci)
    current = [job for job, standing in papers if standing.state is PaperState.CURRENT]
    assert len(current) == 1
    if isinstance(settled, StateError):
        assert (answer.verdict, answer.settled, len(papers)) == (ScanVerdict.RIGHT_PAPER, True, 1)
    elif answer.verdict is ScanVerdict.OLD_COPY:
        assert (answer.must_see, answer.settled, current[0].copy_number) == (2, False, 2)
    else:  # confirmed, and then said to be missing: the later word made a copy
        assert (answer.verdict, current[0].copy_number) == (ScanVerdict.RIGHT_PAPER, 2)
    again = await scan(site, recorded, copy_number=1)
    assert again.verdict is (ScanVerdict.RIGHT_PAPER if len(papers) == 1 else ScanVerdict.OLD_COPY)


async def test_an_old_copy_is_told_by_the_number_on_it(site: SiteOfTests) -> None:
    recorded = await site.paper("A", JobEvent.SUBMIT, JobEvent.PRINT)
    uvci = recorded.dose.certificate.uvci
    copy = await print_copy(site.services, uvci, CopyReason.LOST, actor="nurse")
    early = await scan(site, recorded)
    assert (early.verdict, early.must_see) == (ScanVerdict.OLD_COPY, 2), "copy 2 is not out: this must be copy 1"
    await site.lease()
    await site.tell(copy.job_id, JobEvent.SUBMIT, JobEvent.PRINT)
    asked = await scan(site, recorded)
    assert (asked.verdict, asked.must_see, asked.paper) == (ScanVerdict.WHICH_COPY, 2, None)
    assert (await scan(site, recorded, copy_number=1)).verdict is ScanVerdict.OLD_COPY
    right = await scan(site, recorded, copy_number=2)
    assert (right.verdict, right.paper.job_id) == (ScanVerdict.RIGHT_PAPER, copy.job_id)
    assert site.job(recorded.job_id).state is JobState.PRINTED, "the old one is nobody's proof"
    states = {job.copy_number: standing for job, standing in await papers_of(site.services, uvci)}
    assert (states[1].state, states[1].reason, states[2].state) == ("replaced", "lost", "current")


async def test_anothers_paper_settles_nothing(site: SiteOfTests) -> None:
    mine = await site.paper("A", JobEvent.SUBMIT, JobEvent.PRINT)
    other = await site.paper("B", JobEvent.SUBMIT, JobEvent.PRINT, full_name="TRẦN VĂN BÌNH", id_number="001185012346")
    second_dose = await site.paper("C", JobEvent.SUBMIT, JobEvent.PRINT, number=1)
    expected = Expected(job_id=mine.job_id)
    assert (await scan(site, other, expected=expected)).verdict is ScanVerdict.WRONG_PERSON
    assert (await scan(site, second_dose, expected=expected)).verdict is ScanVerdict.WRONG_PAPER
    assert {site.job(one.job_id).state for one in (mine, other, second_dose)} == {JobState.PRINTED}
    by_uvci = Expected(uvci=mine.dose.certificate.uvci)
    assert (await scan(site, mine, expected=by_uvci)).verdict is ScanVerdict.RIGHT_PAPER


async def test_another_sites_paper_is_as_if_it_were_not_there(site: SiteOfTests) -> None:
    recorded = await site.paper("A", JobEvent.SUBMIT, JobEvent.PRINT)
    hcert = recorded.dose.certificate.hcert
    theirs = await scan(site, recorded, site_id="HN-2")
    forged = await scan_back(site.services, hcert[:-4] + "0000", actor="nurse", site_id="HN-1")
    assert theirs.verdict is ScanVerdict.NOT_OURS
    assert (theirs.paper, theirs.must_see) == (None, None)
    assert forged.verdict in (ScanVerdict.NOT_OURS, ScanVerdict.UNREADABLE)
    for expected in (Expected(job_id=recorded.job_id), Expected(uvci=recorded.dose.certificate.uvci)):
        with pytest.raises(NotFoundError):
            await scan(site, recorded, site_id="HN-2", expected=expected)
    with pytest.raises(NotFoundError):
        await scan(site, recorded, expected=Expected(job_id="none"))
    assert site.job(recorded.job_id).state is JobState.PRINTED


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("", "unreadable"),
        ("HC1:", "unreadable"),
        ("HC1:6BF+70790T9WJWG", "unreadable"),
        ("https://example.vn/x", "not_ours"),
        ("shc:/5676290952432060346029243740446031222959532654603460", "not_ours"),
        (b"nonsense", "unreadable"),
        (b"\x89PNG\r\n\x1a\nnonsense", "unreadable"),
    ],
)
async def test_what_cannot_be_read_or_is_not_ours(site: SiteOfTests, code: str | bytes, verdict: str) -> None:
    answer = await scan_back(site.services, code, actor="nurse", site_id="HN-1")
    assert (answer.verdict, answer.settled) == (verdict, False)


# --- copies


async def test_a_request_that_is_sent_again_makes_no_second_paper(site: SiteOfTests) -> None:
    """The copy may be out before the retry comes: then nothing else would stop a third paper."""
    recorded = await site.paper("A", JobEvent.SUBMIT, JobEvent.PRINT)
    uvci = recorded.dose.certificate.uvci

    async def ask(request_id: str | None = "r-1", reason: CopyReason = CopyReason.LOST) -> PrintJob:
        return await print_copy(site.services, uvci, reason, actor="nurse", request_id=request_id)

    first = await asyncio.gather(*(ask() for _ in range(4)))
    assert len({job.job_id for job in first}) == 1
    await site.lease()
    await site.tell(first[0].job_id, JobEvent.SUBMIT, JobEvent.PRINT)
    again = await ask()
    assert (again.job_id, again.state) == (first[0].job_id, JobState.PRINTED)
    with pytest.raises(StateError) as other:
        await ask(reason=CopyReason.SPOILT)
    assert other.value.code == "conflict"
    assert (await ask("r-2")).copy_number == 3


async def test_operators_reach_their_limit_and_an_admin_goes_on(site: SiteOfTests) -> None:
    recorded = await site.paper("A", JobEvent.SUBMIT, JobEvent.PRINT)
    uvci = recorded.dose.certificate.uvci

    async def ask(limits: CopyLimits, actor: str = "site:HN-1") -> PrintJob:
        job = await print_copy(site.services, uvci, CopyReason.LOST, actor=actor, limits=limits)
        await site.lease()
        await site.tell(job.job_id, JobEvent.SUBMIT, JobEvent.PRINT)
        return job

    assert [(await ask(OPERATOR)).copy_number for _ in range(2)] == [2, 3]
    with pytest.raises(StateError) as caught:
        await ask(OPERATOR)
    assert caught.value.code == "copy_limit"
    assert (await ask(CopyLimits(10), "admin")).copy_number == 4
    for dose_id, code in (("B", None), ("C", "copy_limit_day")):
        other = await site.paper(dose_id, JobEvent.SUBMIT, JobEvent.PRINT)
        asked = print_copy(
            site.services, other.dose.certificate.uvci, CopyReason.LOST, actor="site:HN-1", limits=OPERATOR
        )
        if code is None:
            await asked
        else:
            with pytest.raises(StateError) as caught:
                await asked
            assert caught.value.code == code
    site.world.clock.advance(24 * 3600)
    assert await print_copy(
        site.services, other.dose.certificate.uvci, CopyReason.LOST, actor="site:HN-1", limits=OPERATOR
    ), "another day"


async def test_a_persons_word_counts_where_no_copy_may_be_made_and_an_admin_is_needed(site: SiteOfTests) -> None:
    recorded = await site.paper("A", JobEvent.DOUBT)
    none_left = CopyLimits(0)
    settled, copy = await settle_job(site.services, recorded.job_id, Seen.NOT_HERE, actor="site:HN-1", limits=none_left)
    assert (settled.state, copy) == (JobState.FAILED, None)
    why = await why_no_copy(site.services, settled, actor="site:HN-1", limits=none_left)
    assert why is not None
    assert why.code == "copy_limit"
    [open_paper] = site.world.store.read_now(lambda c: paper_store.open_papers(c, site_id="HN-1"))
    assert open_paper.job.job_id == recorded.job_id, "it stands on the worklist"
    copy = await print_copy(site.services, settled.uvci, CopyReason.SPOILT, actor="admin", limits=CopyLimits(10))
    [open_paper] = site.world.store.read_now(lambda c: paper_store.open_papers(c, site_id="HN-1"))
    assert open_paper.job.job_id == copy.job_id, "nobody waits for the old one any more"


# --- the app


async def test_the_first_sighting_in_the_app_counts(site: SiteOfTests) -> None:
    await site.issue("A")
    await site.world.record(site.world.held_event("H"))
    now = site.world.clock.now

    async def see(dose_id: str = "A", **more: Any) -> Any:
        return await mark_seen_in_app(site.services, dose_id, **({"seen_at": None, "actor": "app"} | more))

    answers = await asyncio.gather(*(see() for _ in range(4)))
    assert {at for at, _ in answers} == {now}
    assert [news for _, news in answers].count(True) == 1
    site.world.clock.advance(60)
    assert await see() == (now, False)
    for more in ({"source": "another"}, {"site_id": "HN-2"}):
        with pytest.raises(NotFoundError):
            await see(**more)
    with pytest.raises(StateError):
        await see("H")
    for seen_at in (now - timedelta(days=1), now + timedelta(hours=1)):
        with pytest.raises(InputError):
            await see(seen_at=seen_at)


# --- what is there already


async def test_what_is_there_is_not_made_again_and_says_so(world: Any, publish: Any) -> None:
    """PostgreSQL's row count of an insert is -1 whether it inserted or not."""
    site = Site(SiteId("HN-9"), "Điểm tiêm 9", "SỞ Y TẾ")
    now = world.clock.now
    made = [world.store.submit(lambda c: site_store.insert_site(c, site, now=now)).result() for _ in range(2)]
    assert made == [True, False]
    record = publish(world.store, world.services.signers.signers[0], now=now)
    assert world.store.submit(lambda c: signer_store.insert_record(c, record, actor="again")).result() is False
