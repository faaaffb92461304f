"""Which queue takes which job, and why: each choice and each refusal is a line that a person can read. Pure.

The rules, in their order. A queue is *fit* for a job when the job may go there (its operator's choice, the queue's
pool), the queue takes its media, nothing is wrong with queue or printer, and it has no other job. Among fit queues: the
one that was asked for; where the job failed least; supplies that are not low; media that is loaded; the shortest queue;
the youngest oldest job there; the name. Where the job failed it does not go again while a queue where it failed less is
only busy (and not stuck), unless it was asked for. Jobs come urgent first (priority), as they came, and reprints last,
unless they have climbed to the priority of a first paper.

*Operator's choice.* `asked` is empty, a queue's name, or `pool:NAME`. A pool is a bound: a job that asked for one goes
nowhere else. A queue is a wish: where it cannot print, the others of its pool are taken, and the line says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from spooler.core.attempt import Choice, Job, Queue, stops_paper

POOL = "pool:"
AS_NEW = 50
"""The priority of a first paper. A reprint that has climbed so far (it is owed to somebody who waits), or was put there
by an operator, does not wait for the others."""
LOW_PERCENT = 10

_LOW = ("marker-supply-low", "toner-low", "media-low")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a queue does not take a job. `passes`: it is only busy, or not seen just now, and may take it soon."""

    en: str
    vi: str
    passes: bool = False


def line_up(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs in the order in which they are served."""
    return sorted(jobs, key=lambda job: (job.copy_number > 1 and job.priority < AS_NEW, -job.priority, job.order))


def plan(
    jobs: Iterable[Job],
    queues: Mapping[str, Queue],
    *,
    taken: Collection[str],
    stuck: Collection[str] = (),
    now: datetime,
    fresh_s: float,
) -> list[tuple[Job, Choice]]:
    """Return what becomes of each job, in the order of service; no queue is given two.

    `taken` are the queues that have a job, `stuck` those that have theirs for so long that nobody waits for them. A job
    that an operator keeps back gets no queue.
    """
    busy = set(taken)
    chosen = []
    for job in line_up(jobs):
        choice = choose_queue(job, queues, taken=busy, stuck=stuck, now=now, fresh_s=fresh_s)
        if choice.queue:
            busy.add(choice.queue)
        chosen.append((job, choice))
    return chosen


def choose_queue(
    job: Job,
    queues: Mapping[str, Queue],
    *,
    taken: Collection[str],
    stuck: Collection[str] = (),
    now: datetime,
    fresh_s: float,
) -> Choice:
    """Return the queue for a job, or none, and the reasons."""
    if job.kept:
        return Choice("", "kept back: an operator holds the job", "đang giữ lại theo yêu cầu", blocked=True)
    if not queues:
        return Choice("", "waits: CUPS shows no queue", "chờ: CUPS không có hàng đợi nào")
    allowed = _allowed(job, queues)
    refusals = {
        name: why
        for name, queue in sorted(queues.items())
        if (why := refuse(job, queue, allowed=name in allowed, busy=name in taken, now=now, fresh_s=fresh_s))
    }
    soon = [name for name, why in refusals.items() if why.passes and name not in stuck]
    refusals = dict(sorted((refusals | _failed_before(job, queues.keys() - refusals.keys(), soon)).items()))
    fit = [queue for name, queue in queues.items() if name not in refusals]
    if not fit:
        return Choice(
            "",
            _clip("waits: " + _told(refusals, "en")),
            _clip("chờ: " + _told(refusals, "vi")),
            blocked=not any(why.passes for why in refusals.values()),
        )
    best = min(fit, key=lambda queue: rank(job, queue))
    en, vi = _praise(job, best, len(fit))
    if refusals:
        en, vi = f"{en}; not {_told(refusals, 'en')}", f"{vi}; không chọn {_told(refusals, 'vi')}"
    return Choice(best.name, _clip(en), _clip(vi))


def _failed_before(job: Job, fit: Collection[str], soon_free: Collection[str]) -> dict[str, Refusal]:
    """The fit queues that are no better than to wait: at a printer that gives up at once all attempts would be used."""
    soon = min((job.avoid.count(name) for name in soon_free), default=len(job.avoid))
    return {
        name: Refusal("failed there, and another one is soon free", "đã lỗi ở đây, máy khác sắp rảnh", passes=True)
        for name in fit
        if job.avoid.count(name) > soon and name != job.asked
    }


def refuse(job: Job, queue: Queue, *, allowed: bool, busy: bool, now: datetime, fresh_s: float) -> Refusal | None:
    """Return why the queue does not take the job now; None where it may."""
    if not allowed:
        return Refusal(f"the job asked for {job.asked}", f"lệnh in yêu cầu {job.asked}")
    if queue.media and job.media not in queue.media:
        return Refusal(f"does not take {job.media}", f"không in được khổ {job.media}")
    if queue.problems:
        code = queue.problems[0].partition(":")[0]
        return Refusal(code, code)
    if not queue.answers:
        return Refusal("the printer does not answer", "máy in không trả lời")
    if not queue.accepting:
        return Refusal("takes no jobs", "không nhận lệnh in")
    stopping = [reason for reason in queue.reasons if stops_paper(reason)]
    if stopping:
        return Refusal(", ".join(stopping), ", ".join(stopping))
    if queue.state == 5:
        return Refusal("stopped", "đã dừng")
    if busy:
        return Refusal("has another job", "đang có lệnh in khác", passes=True)
    if queue.seen_at is None or now - queue.seen_at > timedelta(seconds=fresh_s):
        return Refusal("not seen just now", "chưa kiểm tra lại", passes=True)
    return None


def rank(job: Job, queue: Queue) -> tuple[bool, int, bool, bool, int, int, str]:
    """Return the order among fit queues, the best first."""
    return (
        job.asked != queue.name,
        job.avoid.count(queue.name),
        is_low(queue),
        bool(queue.ready) and job.media not in queue.ready,
        queue.queued,
        queue.oldest_s or 0,
        queue.name,
    )


def is_low(queue: Queue) -> bool:
    """Return whether toner, ink or paper is nearly used up; negative levels say nothing (PWG 5100.9)."""
    low_level = any(0 <= level <= LOW_PERCENT for level in queue.levels)
    return low_level or any(reason.startswith(_LOW) for reason in queue.reasons)


def _allowed(job: Job, queues: Mapping[str, Queue]) -> frozenset[str]:
    if not job.asked:
        return frozenset(queues)
    if job.asked.startswith(POOL):
        pool = job.asked.removeprefix(POOL)
    elif job.asked in queues:
        pool = queues[job.asked].pool
    else:
        return frozenset(queues)  # it is not there any more: a wish, and no reason to print nothing
    return frozenset(name for name, queue in queues.items() if queue.pool == pool)


def _praise(job: Job, queue: Queue, fit: int) -> tuple[str, str]:
    en, vi = [f"{queue.name}: one of {fit} that can"], [f"{queue.name}: một trong {fit} máy in được"]
    if job.asked == queue.name:
        en.append("asked for")
        vi.append("theo yêu cầu")
    elif job.asked and not job.asked.startswith(POOL):
        en.append(f"in place of {job.asked}")
        vi.append(f"thay cho {job.asked}")
    elif queue.pool:
        en.append(f"pool {queue.pool}")
        vi.append(f"nhóm {queue.pool}")
    if failed := job.avoid.count(queue.name):
        en.append(f"failed there {failed} times before")
        vi.append(f"đã lỗi ở đây {failed} lần")
    if queue.queued:
        en.append(f"{queue.queued} wait there")
        vi.append(f"{queue.queued} lệnh đang chờ")
    if is_low(queue):
        en.append("supplies low")
        vi.append("sắp hết mực hoặc giấy")
    return ", ".join(en), ", ".join(vi)


def _told(refusals: Mapping[str, Refusal], language: str) -> str:
    return "; ".join(f"{name}: {getattr(why, language)}" for name, why in refusals.items())


def _clip(line: str) -> str:
    return line if len(line) <= 400 else line[:399] + "…"


__all__: Sequence[str] = ["AS_NEW", "LOW_PERCENT", "POOL", "Refusal", "choose_queue", "is_low", "line_up", "plan"]
