"""`step(state, event, now) -> (state, actions)`: what the agent decides, with no file, no socket and no clock.

The shell's duty after each call: make every `Record` of the answer durable in one transaction, then do the operations,
and bring each answer back as an event. When the transaction fails the shell keeps the *old* state and sends
`Forgotten`; so nothing is done that the journal does not know of. Each phase can be taken up again by `Tick` alone:
after a restart only the journal's jobs exist, and each is settled by asking CUPS and the printer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from spooler.bagprotocol import is_offline
from spooler.core import messages as m
from spooler.core import routing
from spooler.core.attempt import (
    FINAL,
    TRANSITIONS,
    WATCHED,
    Attempt,
    Choice,
    Job,
    Phase,
    Policy,
    Queue,
    State,
    Watch,
    is_usable,
    open_queues,
    stuck_queues,
    taken_queues,
)
from spooler.core.witness import Answer, CupsWord, Evidence, Verdict, judge, words_of
from spooler.protocol import AttemptId, EventKind, JobId, LeasedJob, attempt_id


def step(state: State, event: m.Event, now: datetime) -> tuple[State, list[m.Action]]:
    """Return the next state and what to do, records first. An event that does not fit changes nothing."""
    desk = _Desk(state, now)
    desk.take(event)
    desk.go_on()
    return replace(desk.state, jobs=desk.jobs, watches=desk.watches, choices=desk.choices), [
        *desk.records,
        *desk.operations,
    ]


def restore(jobs: Iterable[Job], *, next_order: int, next_seq: int, acknowledged: int, policy: Policy) -> State:
    """Return the state after a start: what the journal holds, and nothing that was only in memory."""
    return State(
        jobs={job.job_id: job for job in jobs},
        next_order=next_order,
        next_seq=next_seq,
        acknowledged=acknowledged,
        policy=policy,
    )


class _Desk:
    """One step's working copy."""

    def __init__(self, state: State, now: datetime) -> None:
        self.state = state
        self.policy = state.policy
        self.now = now
        self.jobs = dict(state.jobs)
        self.watches = dict(state.watches)
        self.choices = dict(state.choices)
        self.records: list[m.Record] = []
        self.operations: list[m.Operation] = []

    # -- small verbs

    def watch(self, job_id: JobId) -> Watch:
        return self.watches.get(job_id) or Watch()

    def due(self, at: datetime | None) -> bool:
        return at is None or self.now >= at

    def after(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds)

    def current(self, job_id: JobId, name: AttemptId) -> Job | None:
        """Return the job if that attempt is its present one; answers about older ones say nothing any more."""
        job = self.jobs.get(job_id)
        return job if job and job.attempt and job.attempt.attempt_id == name else None

    def save(self, job: Job) -> Job:
        old = self.jobs.get(job.job_id)
        assert old is None or old.phase is job.phase or job.phase in TRANSITIONS[old.phase], (old, job)
        self.jobs[job.job_id] = job
        self.records.append(m.Save(job))
        return job

    def begin(self, job: Job, busy: str, operation: m.Operation) -> None:
        self.watches[job.job_id] = replace(self.watch(job.job_id), busy=busy, retry_at=None)
        self.operations.append(operation)

    def end(self, job: Job, *, retry: bool = False) -> None:
        at = self.after(self.policy.retry_s) if retry else None
        self.watches[job.job_id] = replace(self.watch(job.job_id), busy="", retry_at=at)

    def report(self, job: Job, kind: EventKind, reason: str = "", verdict: Verdict | None = None) -> int:
        seq = self.state.next_seq
        self.state = replace(self.state, next_seq=seq + 1)
        evidence = self.watch(job.job_id).evidence if verdict else Evidence()
        self.records.append(
            m.Report(
                seq=seq,
                kind=kind,
                job_id=job.job_id,
                fencing_token=job.fencing_token,
                at=self.now,
                attempt_id=job.attempt.attempt_id if job.attempt else AttemptId(""),
                queue=job.attempt.queue if job.attempt else "",
                reason=reason,
                witness=verdict.witness if verdict else "",
                impressions=verdict.impressions if verdict else None,
                printer_said=words_of(evidence.printer),
                printer_said_at=evidence.printer_at,
                route=job.attempt.why if job.attempt and kind is EventKind.SUBMITTED else "",
            )
        )
        return seq

    def settle(self, job: Job, phase: Phase, reason: str, verdict: Verdict | None = None) -> None:
        seq = self.report(job, EventKind(phase.value), reason, verdict)
        self.save(replace(job, phase=phase, reason=reason, final_seq=seq))
        self.end(job)
        self.discard(job)

    def discard(self, job: Job) -> None:
        if not any(other.sha256 == job.sha256 and other.phase not in FINAL for other in self.jobs.values()):
            self.operations.append(m.Discard(job.sha256))

    def try_again(self, job: Job, reason: str) -> None:
        """Certainly no paper came of the attempt: the job may have another one, under another name."""
        if job.dropped:
            self.settle(job, Phase.RETURNED, "dropped")
            return
        self.save(replace(job, phase=Phase.READY, attempt=None, reason=reason))
        self.watches[job.job_id] = Watch(retry_at=self.after(self.policy.retry_s))

    def no_paper(self, job: Job, verdict: Verdict) -> None:
        assert job.attempt is not None
        job = replace(job, failures=job.failures + 1, avoid=(*job.avoid, job.attempt.queue))
        if job.failures >= self.policy.attempts and not job.dropped:
            self.settle(job, Phase.FAILED, verdict.reason, verdict)
        else:
            self.try_again(job, verdict.reason)

    # -- events

    def take(self, event: m.Event) -> None:
        match event:
            case m.Tick():
                pass
            case m.Leased():
                for leased in event.jobs:
                    self.leased(leased)
                for job_id in event.dropped:
                    self.dropped(job_id)
            case m.Authorised():
                self.state = replace(self.state, authorised=event.yes)
            case m.Acknowledged():
                self.acknowledged(event.seq)
            case m.Changed():
                job = self.jobs.get(event.job_id)
                if job and job.phase in (Phase.LEASED, Phase.READY):  # at CUPS it stays where and as it is
                    self.save(replace(job, **event.changes()))
            case m.QueuesSeen():
                seen = {queue.name: replace(queue, seen_at=self.now) for queue in event.queues}
                self.state = replace(self.state, queues=seen, health_asked_at=None)
            case m.Fetched():
                job = self.jobs.get(event.job_id)
                if job and job.phase is Phase.LEASED:
                    self.end(job)
                    self.save(replace(job, phase=Phase.READY))
            case m.FetchFailed():
                self.fetch_failed(event)
            case m.Found():
                self.found(event)
            case m.Created():
                self.created(event)
            case m.Released():
                if job := self.current(event.job_id, event.attempt_id):
                    self.end(job)
            case m.TakenBack():
                self.taken_back(event)
            case m.OperationFailed():
                self.operation_failed(event)
            case m.CupsSaid():
                if job := self.current(event.job_id, event.attempt_id):
                    self.cups_said(job, event.word)
            case m.PrinterSaid():
                if job := self.current(event.job_id, event.attempt_id):
                    self.printer_said(job, event.answer)
            case m.Forgotten():
                for job_id in event.job_ids & self.watches.keys():
                    lost = replace(self.watches[job_id], busy="", asking_cups=False, asking_printer=False)
                    self.watches[job_id] = replace(lost, retry_at=self.after(self.policy.retry_s))
                self.state = replace(self.state, health_asked_at=None)
            case _:
                assert_never(event)

    def leased(self, leased: LeasedJob) -> None:
        known = self.jobs.get(leased.job_id)
        if known and leased.fencing_token <= known.fencing_token:
            return
        if known and known.phase in FINAL and known.final_seq <= self.state.acknowledged:
            # The service had the outcome and wants it printed anew: a person decided so.
            if known.phase is Phase.UNCERTAIN and known.attempt and not self.is_over(known):
                self.operations.append(m.Withdraw(known.job_id, known.attempt))
            self.forget(known)
            known = None
        if known is None:
            order = self.state.next_order
            self.state = replace(self.state, next_order=order + 1)
            self.save(
                Job(
                    job_id=leased.job_id,
                    fencing_token=leased.fencing_token,
                    sha256=leased.document.sha256,
                    size=leased.document.size,
                    order=order,
                    media_type=leased.document.media_type,
                    media=leased.media,
                    priority=leased.priority,
                    copy_number=leased.copy_number,
                    asked=leased.asked,
                    module_um=leased.module_um,
                )
            )
            return
        # The service lost patience, or our report: the same work goes on under the newer token.
        job = replace(known, fencing_token=leased.fencing_token, dropped=False)
        if job.phase in FINAL:
            job = replace(job, final_seq=self.report(job, EventKind(job.phase.value), job.reason))
        self.save(job)

    def dropped(self, job_id: JobId) -> None:
        job = self.jobs.get(job_id)
        if job is None or job.phase in WATCHED or job.phase in FINAL:
            return  # handed to CUPS: reported as usual
        if job.phase in (Phase.LEASED, Phase.READY):
            self.settle(job, Phase.RETURNED, "dropped")
        elif not job.dropped:
            self.save(replace(job, dropped=True))

    def acknowledged(self, seq: int) -> None:
        seq = min(seq, self.state.next_seq - 1)
        if seq > self.state.acknowledged:
            self.state = replace(self.state, acknowledged=seq)
            self.records.append(m.Trim(seq))

    def forget(self, job: Job) -> None:
        del self.jobs[job.job_id]
        self.watches.pop(job.job_id, None)
        self.choices.pop(job.job_id, None)
        self.records.append(m.Erase(job.job_id))

    def fetch_failed(self, event: m.FetchFailed) -> None:
        job = self.jobs.get(event.job_id)
        if job is None or job.phase is not Phase.LEASED:
            return
        watch = self.watch(job.job_id)
        fetches = watch.fetches + event.permanent
        if fetches >= self.policy.attempts:
            self.settle(job, Phase.FAILED, event.reason)
        else:
            retry_at = self.after(self.policy.retry_s)
            self.watches[job.job_id] = replace(watch, busy="", fetches=fetches, retry_at=retry_at)

    def found(self, event: m.Found) -> None:
        job = self.current(event.job_id, event.attempt_id)
        if job is None or job.phase is not Phase.INTENDED or job.attempt is None:
            return
        self.end(job)
        if event.cups_job_id is None:
            if job.dropped or self.is_out_of_service(job.attempt.queue):
                self.try_again(job, "dropped" if job.dropped else "queue-unusable")
            else:
                self.begin(job, "create", m.Create(job, job.attempt))
        elif event.word is CupsWord.HELD:
            self.hold(job, event.cups_job_id, event.cups_uuid)
        else:
            self.released_by_other(job, event.cups_job_id, event.cups_uuid)

    def created(self, event: m.Created) -> None:
        job = self.current(event.job_id, event.attempt_id)
        if job and job.phase is Phase.INTENDED:
            self.end(job)
            self.hold(job, event.cups_job_id, event.cups_uuid)
        elif job and job.attempt and job.attempt.cups_uuid != event.cups_uuid:
            # The answer was given up for lost and the job was made once more: this one must not lie about.
            extra = replace(job.attempt, cups_job_id=event.cups_job_id, cups_uuid=event.cups_uuid)
            self.operations.append(m.TakeBack(job.job_id, extra))

    def hold(self, job: Job, cups_job_id: int, cups_uuid: str) -> None:
        assert job.attempt is not None
        attempt = replace(job.attempt, cups_job_id=cups_job_id, cups_uuid=cups_uuid)
        self.save(replace(job, phase=Phase.HELD, attempt=attempt))
        evidence = Evidence().with_cups(CupsWord.HELD, self.now)
        self.watches[job.job_id] = Watch(evidence=evidence)

    def released_by_other(self, job: Job, cups_job_id: int | None, cups_uuid: str) -> None:
        """We did not release it, yet it is not held: somebody did. It may have printed: it is watched as our own."""
        assert job.attempt is not None
        attempt = replace(job.attempt, cups_job_id=cups_job_id, cups_uuid=cups_uuid, released_at=self.now)
        job = self.save(replace(job, phase=Phase.RELEASED, attempt=attempt))
        self.report(job, EventKind.SUBMITTED, "released-by-other")
        self.watches[job.job_id] = Watch()

    def taken_back(self, event: m.TakenBack) -> None:
        job = self.current(event.job_id, event.attempt_id)
        if job is None or job.phase is not Phase.HELD or job.attempt is None:
            return
        if job.attempt.cups_uuid != event.cups_uuid:
            return
        self.end(job)
        if event.word in (CupsWord.HELD, CupsWord.GONE):
            self.try_again(job, "taken-back")
        elif event.word is not CupsWord.UNKNOWN:
            self.released_by_other(job, job.attempt.cups_job_id, job.attempt.cups_uuid)

    def operation_failed(self, event: m.OperationFailed) -> None:
        job = self.current(event.job_id, event.attempt_id)
        if job is None:
            return
        self.end(job, retry=True)
        if job.phase is not Phase.INTENDED:
            return
        if event.document_missing:
            self.save(replace(job, phase=Phase.LEASED, attempt=None))
        elif event.refused:
            self.no_paper(job, Verdict("failed", event.reason))

    def cups_said(self, job: Job, word: CupsWord) -> None:
        watch = self.watch(job.job_id)
        evidence = watch.evidence.with_cups(word, self.now)
        self.watches[job.job_id] = replace(watch, asking_cups=False, evidence=evidence)
        if job.phase is Phase.HELD and job.attempt is not None:
            self.end(job, retry=word is CupsWord.UNKNOWN)
            if word is CupsWord.GONE:
                self.try_again(job, "held-job-gone")
            elif word not in (CupsWord.HELD, CupsWord.UNKNOWN):
                self.released_by_other(job, job.attempt.cups_job_id, job.attempt.cups_uuid)
        elif job.phase is Phase.RELEASED and word is CupsWord.HELD and not watch.busy and self.due(watch.retry_at):
            # The release did not arrive. CUPS never started the job, so releasing it again prints it once.
            assert job.attempt is not None
            self.begin(job, "release", m.Release(job.job_id, job.attempt))
        else:
            self.weigh(job)

    def printer_said(self, job: Job, answer: Answer) -> None:
        watch = self.watch(job.job_id)
        evidence = watch.evidence.with_printer(answer, self.now, self.policy.patience)
        self.watches[job.job_id] = replace(watch, asking_printer=False, evidence=evidence)
        self.weigh(job)

    def weigh(self, job: Job) -> None:
        if job.phase not in WATCHED or job.attempt is None:
            return
        evidence = self.watch(job.job_id).evidence
        began_at = job.attempt.released_at or job.attempt.intended_at
        verdict = judge(evidence, self.now, began_at, self.policy.patience)
        if verdict is None:
            if job.phase is Phase.RELEASED and evidence.cups_has_ended():
                self.save(replace(job, phase=Phase.ASKING))
        elif verdict.outcome == "printed":
            self.settle(job, Phase.PRINTED, verdict.reason, verdict)
        elif job.phase is Phase.UNCERTAIN:
            pass  # said already; only the word that the page is out changes it
        elif verdict.outcome == "failed":
            self.no_paper(job, verdict)
        else:
            self.settle(job, Phase.UNCERTAIN, verdict.reason, verdict)

    # -- going on, from whatever is known

    def go_on(self) -> None:
        for job in list(self.jobs.values()):
            self.advance(job, self.watch(job.job_id))
        self.choose()
        self.give_back()

    def advance(self, job: Job, watch: Watch) -> None:
        if job.phase in WATCHED and not self.is_over(job):
            if watch.busy != "release":
                self.keep_watch(job, watch)
        elif job.phase in FINAL:
            if job.final_seq <= self.state.acknowledged:
                self.forget(job)
        elif watch.busy or not self.due(watch.retry_at):
            pass
        elif job.phase is Phase.LEASED:
            self.begin(job, "fetch", m.Fetch(job.job_id, job.sha256, job.size))
        elif job.phase is Phase.INTENDED and job.attempt is not None:
            # Only after a restart or a lost answer: what CUPS has of it is not known.
            self.begin(job, "find", m.Find(job, job.attempt))
        elif job.phase is Phase.HELD and job.attempt is not None:
            self.advance_held(job, job.attempt, watch)

    def advance_held(self, job: Job, attempt: Attempt, watch: Watch) -> None:
        queue = self.state.queues.get(attempt.queue)
        if job.dropped or self.is_out_of_service(attempt.queue):
            self.begin(job, "take-back", m.TakeBack(job.job_id, attempt))
        elif watch.evidence.cups is not CupsWord.HELD:
            self.begin(job, "ask", m.AskCups(job.job_id, attempt))
        elif queue is not None and self.state.authorised:
            attempt = replace(attempt, released_at=self.now)
            job = self.save(replace(job, phase=Phase.RELEASED, attempt=attempt))
            self.report(job, EventKind.SUBMITTED)
            # Where the queue was not seen just now, the watch did not begin before the release.
            seen_at = queue.seen_at if self.is_fresh(queue) else None
            evidence = Evidence.begun(seen_at, queue.up_time_s) if seen_at else Evidence()
            self.watches[job.job_id] = Watch(
                busy="release",
                cups_at=self.after(4 * self.policy.poll_s),
                printer_at=self.after(self.policy.poll_s / 2),
                evidence=evidence,
            )
            self.operations.append(m.Release(job.job_id, attempt))

    def is_out_of_service(self, name: str) -> bool:
        """Return whether the queue is known not to print now, or is not ours any more; not where CUPS is silent."""
        queue = self.state.queues.get(name)
        return bool(self.state.queues) and (queue is None or not is_usable(queue))

    def is_over(self, job: Job) -> bool:
        """Return whether an uncertain attempt needs no more watching: no late evidence can come."""
        closed = self.watch(job.job_id).evidence.is_closed(self.now, self.policy.patience)
        return job.phase is Phase.UNCERTAIN and closed

    def keep_watch(self, job: Job, watch: Watch) -> None:
        assert job.attempt is not None
        policy = self.policy
        began_at = job.attempt.released_at or job.attempt.intended_at
        pace = min(policy.poll_slow_s, max(policy.poll_s, (self.now - began_at).total_seconds() / 20))
        if job.phase is Phase.UNCERTAIN:
            pace = 2 * policy.poll_slow_s
        # Where the printer can be asked it is the witness; CUPS is asked only now and then.
        cups_pace = pace if watch.evidence.printer_is_mute() else 4 * pace
        if not watch.asking_cups and self.due(watch.cups_at):
            watch = replace(watch, asking_cups=True, cups_at=self.after(cups_pace))
            self.operations.append(m.AskCups(job.job_id, job.attempt))
        if not watch.asking_printer and self.due(watch.printer_at):
            watch = replace(watch, asking_printer=True, printer_at=self.after(pace))
            self.operations.append(m.AskPrinter(job.job_id, job.attempt))
        self.watches[job.job_id] = watch

    def choose(self) -> None:
        """Give ready jobs to free queues, as `routing` says."""
        ready = [
            job for job in self.jobs.values() if job.phase is Phase.READY and self.due(self.watch(job.job_id).retry_at)
        ]
        if not ready or not self.state.authorised:
            return
        taken = taken_queues(self.jobs, self.watches)
        free = [queue for queue in self.state.queues.values() if queue.name not in taken]
        stuck = stuck_queues(replace(self.state, jobs=self.jobs, watches=self.watches), self.now)
        chosen = routing.plan(
            ready, self.state.queues, taken=taken, stuck=stuck, now=self.now, fresh_s=self.policy.fresh_s
        )
        for job, choice in chosen:
            self.choices[job.job_id] = choice
            if choice.queue:
                self.intend(job, choice)
        stale = any(not self.is_fresh(queue) for queue in free) or not self.state.queues
        asked_at = self.state.health_asked_at
        if stale and (asked_at is None or self.now - asked_at > timedelta(seconds=10)):
            self.state = replace(self.state, health_asked_at=self.now)
            self.operations.append(m.SeeQueues())

    def is_fresh(self, queue: Queue) -> bool:
        return queue.seen_at is not None and self.now - queue.seen_at <= timedelta(seconds=self.policy.fresh_s)

    def intend(self, job: Job, choice: Choice) -> None:
        number = job.number + 1
        name = attempt_id(job.job_id, job.fencing_token, number)
        attempt = Attempt(name, number, choice.queue, self.now, why=choice.en)
        job = self.save(replace(job, phase=Phase.INTENDED, attempt=attempt, number=number))
        # The name is new with this number, so CUPS cannot have it: no need to look before this first create.
        self.watches[job.job_id] = Watch(busy="create")
        self.operations.append(m.Create(job, attempt))

    def give_back(self) -> None:
        """Return unsent jobs when no queue was usable for long: at the service other people and machines see them."""
        now_state = replace(self.state, jobs=self.jobs, watches=self.watches)
        if self.state.authorised and open_queues(now_state, self.now):
            self.state = replace(self.state, unusable_since=None)
            return
        since = self.state.unusable_since or self.now
        self.state = replace(self.state, unusable_since=since)
        if self.now - since < timedelta(seconds=self.policy.return_s):
            return
        for job in list(self.jobs.values()):
            # What the site issued itself, nobody else could print: it waits here.
            if job.phase in (Phase.LEASED, Phase.READY) and not is_offline(job.job_id):
                self.settle(job, Phase.RETURNED, "no-usable-queue" if self.state.authorised else "unauthorised")
