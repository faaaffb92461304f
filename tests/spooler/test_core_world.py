"""The core against a simulated site: any order of lost answers, crashes, power cuts and cancellations.

The world holds the truth: which pages came out. What is checked: no job has two pages, whatever the agent was told;
`printed` and `failed` are true; no job is lost. cupsd has the backend that refuses to send an attempt twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spooler.core import messages as m
from spooler.core import restore, step
from spooler.core.attempt import FINAL, TRANSITIONS, Job, Phase, Policy, Queue
from spooler.core.witness import Answer, CupsWord, Heard, PrinterJob, Unreachable
from spooler.protocol import Document, JobId, LeasedJob

_QUEUES = st.sampled_from(["a", "b"])
ANSWER_S = 2.0  # no answer is older than this when it arrives: the shell's timeouts


@dataclass
class CupsJob:
    number: int
    uuid: str
    name: str
    queue: str
    word: CupsWord = CupsWord.HELD
    sent: bool = False


@dataclass
class SimPrinter:
    on: bool = True
    answers: bool = True
    up_since: datetime = datetime(2021, 10, 30, 7, tzinfo=UTC)
    off_since: datetime | None = None
    jobs: list[dict[str, object]] = field(default_factory=list)


class Site(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2021, 10, 30, 8, tzinfo=UTC)
        self.policy = Policy()
        self.durable: dict[JobId, Job] = {}
        self.outbox: list[m.Report] = []
        self.reported: list[m.Report] = []
        self.sequence = (1, 1, 0)
        self.disk_full = False
        self.cups_up = True
        self.cups: list[CupsJob] = []
        self.printers = {name: SimPrinter() for name in ("a", "b")}
        self.pages: Counter[str] = Counter()
        self.tokens: Counter[JobId] = Counter()
        self.pending: list[m.Operation] = []
        self.inbox: list[tuple[datetime, m.Event]] = []
        self.serial = 0
        self.state = restore([], next_order=1, next_seq=1, acknowledged=0, policy=self.policy)

    # -- the shell

    def bring(self, event: m.Event) -> None:
        state, actions = step(self.state, event, self.now)
        records = [a for a in actions if isinstance(a, m.Save | m.Report | m.Erase | m.Trim)]
        kinds = [isinstance(a, m.Save | m.Report | m.Erase | m.Trim) for a in actions]
        assert kinds == sorted(kinds, reverse=True), "records come before operations"
        if records and self.disk_full:
            job_ids = {event.job_id} if hasattr(event, "job_id") else set()
            if not isinstance(event, m.Forgotten | m.Tick):
                self.inbox.append((self.now, m.Forgotten(frozenset(job_ids))))
            return
        for record in records:
            self.keep(record)
        self.state = state
        self.sequence = (state.next_order, state.next_seq, state.acknowledged)
        self.pending += [a for a in actions if not isinstance(a, m.Save | m.Report | m.Erase | m.Trim)]

    def keep(self, record: m.Record) -> None:
        match record:
            case m.Save(job=job):
                old = self.durable.get(job.job_id)
                assert old is None or old.phase is job.phase or job.phase in TRANSITIONS[old.phase]
                self.durable[job.job_id] = job
            case m.Report():
                last = self.reported[-1].seq if self.reported else 0
                assert record.seq == last + 1
                self.reported.append(record)
                self.outbox.append(record)
            case m.Erase(job_id=job_id):
                assert self.durable[job_id].phase in FINAL
                del self.durable[job_id]
            case m.Trim(seq=seq):
                self.outbox = [report for report in self.outbox if report.seq > seq]

    def perform(self, operation: m.Operation) -> m.Event | None:
        match operation:
            case m.Fetch():
                return m.Fetched(operation.job_id)
            case m.Discard():
                return None
            case m.SeeQueues():
                return self.look()
            case m.AskPrinter(job_id=job_id, attempt=attempt):
                return m.PrinterSaid(job_id, attempt.attempt_id, self.ask_printer(attempt.queue, attempt.attempt_id))
            case m.AskCups(job_id=job_id, attempt=attempt):
                return m.CupsSaid(job_id, attempt.attempt_id, self.ask_cups(attempt.cups_uuid))
            case _:
                return self.at_cups(operation)

    def look(self) -> m.QueuesSeen:
        if not self.cups_up:
            return m.QueuesSeen(())
        return m.QueuesSeen(
            tuple(
                Queue(name, answers=p.on and p.answers, up_time_s=int((self.now - p.up_since).total_seconds()))
                for name, p in self.printers.items()
            )
        )

    def ask_printer(self, queue: str, name: str) -> Answer:
        printer = self.printers[queue]
        if not printer.on or not printer.answers:
            return Unreachable()
        jobs = tuple(PrinterJob(int(str(j["state"])), int(str(j["n"]))) for j in printer.jobs if j["name"] == name)
        return Heard(jobs, int((self.now - printer.up_since).total_seconds()))

    def ask_cups(self, uuid: str) -> CupsWord:
        if not self.cups_up:
            return CupsWord.UNKNOWN
        return next((job.word for job in self.cups if job.uuid == uuid), CupsWord.GONE)

    def at_cups(self, operation: m.Operation) -> m.Event:
        assert isinstance(operation, m.Find | m.Create | m.Release | m.TakeBack)
        attempt = operation.attempt
        job_id = operation.job.job_id if isinstance(operation, m.Find | m.Create) else operation.job_id
        name = attempt.attempt_id
        if not self.cups_up:
            return m.OperationFailed(job_id, name, "cups-silent")
        match operation:
            case m.Find():
                found = [j for j in self.cups if j.name == name and j.word is not CupsWord.CANCELED]
                one = min(found, key=lambda j: j.word is CupsWord.HELD, default=None)
                return m.Found(job_id, name, one.number, one.uuid, one.word) if one else m.Found(job_id, name)
            case m.Create():
                assert self.durable[job_id].attempt == attempt, "the intent is durable before CUPS hears of it"
                self.serial += 1
                made = CupsJob(len(self.cups) % 3, f"uuid{self.serial}", name, attempt.queue)
                self.cups.append(made)
                return m.Created(job_id, name, made.number, made.uuid)
            case m.Release():
                for job in self.cups:
                    if job.uuid == attempt.cups_uuid and job.word is CupsWord.HELD:
                        job.word = CupsWord.ACTIVE
                return m.Released(job_id, name)
            case m.TakeBack():
                word = self.ask_cups(attempt.cups_uuid)
                for job in self.cups:
                    if job.uuid == attempt.cups_uuid and job.word is CupsWord.HELD:
                        job.word = CupsWord.CANCELED
                return m.TakenBack(job_id, name, attempt.cups_uuid, word)

    def lost(self, operation: m.Operation) -> m.Event | None:
        """Return the event of an operation whose answer did not arrive."""
        match operation:
            case m.Fetch():
                return m.FetchFailed(operation.job_id, "line", permanent=False)
            case m.AskPrinter():
                return m.PrinterSaid(operation.job_id, operation.attempt.attempt_id, Unreachable())
            case m.AskCups():
                return m.CupsSaid(operation.job_id, operation.attempt.attempt_id, CupsWord.UNKNOWN)
            case m.Find() | m.Create():
                return m.OperationFailed(operation.job.job_id, operation.attempt.attempt_id, "cups-silent")
            case m.Release() | m.TakeBack():
                return m.OperationFailed(operation.job_id, operation.attempt.attempt_id, "cups-silent")
            case m.SeeQueues():
                return m.QueuesSeen(())
            case m.Discard():
                return None

    def run_pending(self, index: int, *, done: bool = True, answered: bool = True) -> None:
        operation = self.pending.pop(index % len(self.pending))
        event = self.perform(operation) if done else None
        event = event if done and answered else self.lost(operation)
        if event is not None:
            self.inbox.append((self.now, event))

    # -- what happens

    @initialize()
    def site_opens(self) -> None:
        for number in range(3):
            self.lease(JobId(f"j{number}"))
        self.works(10)

    def lease(self, job_id: JobId, priority: int = 50) -> None:
        self.tokens[job_id] += 1
        document = Document(sha256="0" * 64, size=1)
        leased = LeasedJob(
            job_id=job_id, fencing_token=self.tokens[job_id], deadline=self.now, document=document, priority=priority
        )
        self.bring(m.Leased((leased,)))

    @rule(what=st.sampled_from(["new", "again", "drop", "acknowledge", "acknowledge"]), index=st.integers(0, 5))
    def service_says(self, what: str, index: int) -> None:
        jobs = list(self.tokens)
        if what == "new" and len(jobs) < 6:
            self.lease(JobId(f"j{len(jobs)}"), priority=50 + 10 * index)
        elif what == "again":
            unsettled = [j for j in jobs if (last := self.outcome(j)) is None or last == "returned"]
            if unsettled:
                self.lease(unsettled[index % len(unsettled)])
        elif what == "drop":
            self.bring(m.Leased((), (jobs[index % len(jobs)],)))
        elif what == "acknowledge" and self.outbox:
            self.bring(m.Acknowledged(self.outbox[-1].seq))

    @precondition(lambda self: self.pending)
    @rule(index=st.integers(0, 20), how=st.sampled_from(["done", "done", "done", "done", "lost", "not done"]))
    def operation(self, index: int, how: str) -> None:
        self.run_pending(index, done=how != "not done", answered=how == "done")

    @precondition(lambda self: self.inbox)
    @rule(index=st.integers(0, 20))
    def answer_arrives(self, index: int) -> None:
        _, event = self.inbox.pop(index % len(self.inbox))
        self.bring(event)

    @rule(rounds=st.integers(1, 8))
    def works(self, rounds: int) -> None:
        """The agent is left to itself: every operation is done and answered."""
        for _ in range(rounds):
            while self.pending:
                self.run_pending(0)
            while self.inbox:
                self.bring(self.inbox.pop(0)[1])
            self.pass_time(0.3)
            self.bring(m.Tick())

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 1.0, 3.0, 3.0, 3.0, 20.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        if seconds > 1:
            while self.pending:
                self.run_pending(0)
            self.inbox.append((self.now, self.look()))
        self.pass_time(seconds)
        self.bring(m.Tick())

    def pass_time(self, seconds: float) -> None:
        late = [event for at, event in self.inbox if (self.now - at).total_seconds() + seconds > ANSWER_S]
        self.inbox = [(at, e) for at, e in self.inbox if (self.now - at).total_seconds() + seconds <= ANSWER_S]
        for event in late:
            self.bring(event)
        self.now += timedelta(seconds=seconds)
        for printer in self.printers.values():
            printer.jobs = [
                j
                for j in printer.jobs
                if "end" not in j or self.now - j["end"] < timedelta(seconds=60)  # type: ignore[operator]
            ]

    @rule(what=st.sampled_from(["dies", "dies", "disk full", "room", "room"]))
    def agent_fault(self, what: str) -> None:
        if what != "dies":
            self.disk_full = what == "disk full"
            return
        order, seq, acknowledged = self.sequence
        self.pending, self.inbox = [], []
        self.state = restore(
            self.durable.values(), next_order=order, next_seq=seq, acknowledged=acknowledged, policy=self.policy
        )

    @rule(queue=_QUEUES, how=st.sampled_from(["prints", "prints", "prints", "aborts", "cancels", "not yet"]))
    def device_works(self, queue: str, how: str) -> None:
        self.cups_sends(queue)
        if how != "not yet":
            self.printer_ends_a_job(queue, how)

    def cups_sends(self, queue: str) -> None:
        active = [j for j in self.cups if j.queue == queue and j.word is CupsWord.ACTIVE]
        printer = self.printers[queue]
        if self.cups_up and active and not active[0].sent and printer.on and printer.answers:
            active[0].sent = True
            printer.jobs.append({"name": active[0].name, "state": 5, "n": 0, "cups": active[0]})

    def printer_ends_a_job(self, queue: str, how: str) -> None:
        printer = self.printers[queue]
        for job in printer.jobs:
            if job["state"] == 5 and printer.on and printer.answers:
                job["end"] = self.now
                job["state"], job["n"] = {"prints": (9, 1), "aborts": (8, 0), "cancels": (7, 0)}[how]
                if how != "aborts":  # a cancelled page comes out all the same
                    self.pages[str(job["name"])] += 1
                cups = job["cups"]
                assert isinstance(cups, CupsJob)
                if cups.word is CupsWord.ACTIVE:
                    cups.word = CupsWord.COMPLETED if how == "prints" else CupsWord.CANCELED
                return

    @rule(queue=_QUEUES, what=st.sampled_from(["power cut", "power cut", "on", "silent", "answers", "answers"]))
    def printer_fault(self, queue: str, what: str) -> None:
        printer = self.printers[queue]
        if what == "power cut" and printer.on:
            for job in printer.jobs:
                cups = job["cups"]
                if isinstance(cups, CupsJob) and cups.word is CupsWord.ACTIVE:
                    cups.word = CupsWord.COMPLETED  # as was seen: with no page
            printer.on, printer.jobs, printer.off_since = False, [], self.now
        elif what == "on" and printer.off_since and not printer.on:
            if self.now - printer.off_since < timedelta(seconds=5):
                self.pass_time(5)
            printer.on, printer.up_since = True, self.now
        elif what in ("silent", "answers"):
            printer.answers = what == "answers"

    @rule(
        what=st.sampled_from(["cancel", "cancel", "cancel", "cut", "dies", "dies and loses", "up", "up"]),
        index=st.integers(0, 9),
    )
    def cups_fault(self, what: str, index: int) -> None:
        live = [j for j in self.cups if j.word in (CupsWord.ACTIVE, CupsWord.HELD)]
        if what == "cancel" and live and self.cups_up:
            live[index % len(live)].word = CupsWord.CANCELED  # by an administrator
        elif what == "cut" and self.cups_up:
            for job in live:
                if job.word is CupsWord.ACTIVE and not job.sent:
                    job.word = CupsWord.NEVER_SENT  # its filter never gave the backend a whole document
        elif what.startswith("dies"):
            self.cups_up = False
            if what.endswith("loses"):
                self.cups = []
            for job in self.cups:
                if job.word is CupsWord.ACTIVE and job.sent:
                    job.word = CupsWord.REFUSED  # at the next start the backend will not send it again
        elif what == "up":
            self.cups_up = True

    # -- what must hold

    def outcome(self, job_id: JobId) -> str | None:
        kinds = [r.kind.value for r in self.reported if r.job_id == job_id and r.kind.value != "submitted"]
        return kinds[-1] if kinds else None

    def pages_of(self, job_id: JobId) -> int:
        return sum(n for name, n in self.pages.items() if name.startswith(f"ps-{job_id}-"))

    @invariant()
    def no_job_has_two_pages(self) -> None:
        assert all(self.pages_of(job_id) <= 1 for job_id in self.tokens)

    @invariant()
    def what_is_reported_is_true(self) -> None:
        # Of each lease: a job that was returned may come again, and then its page is the later lease's.
        last = {(r.job_id, r.fencing_token): r.kind.value for r in self.reported if r.kind.value != "submitted"}
        for (job_id, token), outcome in last.items():
            if outcome == "printed":
                assert self.pages_of(job_id) == 1
            elif outcome in ("failed", "returned"):
                assert not [name for name, n in self.pages.items() if n and name.startswith(f"ps-{job_id}-{token}-")]

    @invariant()
    def one_job_a_queue_is_undecided(self) -> None:
        at_work = [j.attempt.queue for j in self.state.jobs.values() if j.attempt and j.phase not in FINAL]
        assert len(at_work) == len(set(at_work))

    def teardown(self) -> None:
        """The site is repaired: then every job must come to an end."""
        self.disk_full, self.cups_up = False, True
        for printer in self.printers.values():
            if not printer.on:
                printer.up_since = self.now
            printer.on = printer.answers = True
        self.bring(m.Forgotten(frozenset(self.state.jobs)))
        for _ in range(900):
            self.inbox.append((self.now, self.look()))
            while self.pending:
                self.run_pending(0)
            while self.inbox:
                self.bring(self.inbox.pop(0)[1])
            for queue in self.printers:
                self.cups_sends(queue)
                self.printer_ends_a_job(queue, "prints")
            self.pass_time(1.0)
            self.bring(m.Tick())
            if all(job.phase in FINAL for job in self.state.jobs.values()):
                break
        self.no_job_has_two_pages()
        self.what_is_reported_is_true()
        known = {job_id for job_id in self.tokens if self.outcome(job_id)}
        never_stored = {job_id for job_id in self.tokens if job_id not in self.durable and job_id not in known}
        assert all(job.phase in FINAL for job in self.state.jobs.values()), "a job was forgotten on the way"
        assert known | never_stored == set(self.tokens)


Site.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSite = Site.TestCase


def test_every_phase_that_is_not_final_leads_on() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert all(TRANSITIONS[phase] for phase in Phase if phase not in FINAL)
    assert all(TRANSITIONS[phase] <= {Phase.PRINTED} for phase in FINAL)
