"""Asking a site's printers for something, from the centre; who asked, and what came of it, stays in a ledger.

What a command needs of CUPS is the agent's to do: the command waits for the agent's next call. What concerns a job that
no agent has yet is done here at once. A job that is at a printer is left alone: moved, held or cancelled now it could
print twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from printsvc.domain.print_job import Happening, JobEvent, JobState, PrintJob
from printsvc.domain.printer_command import (
    OF_A_JOB,
    OF_A_QUEUE,
    OPEN,
    CommandState,
    JobRoute,
    JobWish,
    PrinterCommand,
    QueueSetting,
    Verb,
)
from printsvc.errors import DuplicateError, NotFoundError, StateError
from printsvc.flows import leases
from printsvc.flows.services import Services
from printsvc.store import jobs as job_store
from printsvc.store import printers as book
from printsvc.store import sites as site_store
from printsvc.store.sites import Agent

CUPS_JOB = "cups-"
_WITHDRAW_WITHIN = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Wanted:
    """`job` is a print job's id, or `cups-NUMBER` of somebody else's job in the site's CUPS."""

    verb: Verb
    queue: str = ""
    job: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    command_id: str = ""
    within_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """What an agent says came of a command."""

    command_id: str
    state: CommandState
    reason: str
    en: str
    vi: str
    detail: dict[str, Any]


async def ask(services: Services, site_id: str, wanted: Wanted, *, actor: str) -> PrinterCommand:
    """Put a command into the ledger and return it; one that the centre does itself has its outcome already.

    The same `command_id` with the same content again gives the stored one. Raises NotFoundError, DuplicateError,
    StateError (no_agent).
    """
    now = services.clock()
    command = PrinterCommand(
        command_id=wanted.command_id or services.random_bytes(12).hex(),
        site_id=site_id,
        verb=wanted.verb,
        asked_by=actor[:64],
        asked_at=now,
        expires_at=now + timedelta(seconds=wanted.within_s),
        queue=wanted.queue,
        job_id=wanted.job,
        arguments=wanted.arguments,
    )

    def store(connection: Connection) -> PrinterCommand:
        site_store.get_site(connection, site_id)
        known = book.find_command(connection, command.command_id)
        if known is not None:
            _refuse_other(known, command)
            return known
        decided = _decide(connection, command, now)
        book.insert_command(connection, decided)
        return decided

    decided = await services.store.write(store)
    services.wakeups.notify(site_id)
    return decided


def _refuse_other(known: PrinterCommand, command: PrinterCommand) -> None:
    names = ("site_id", "verb", "queue", "job_id", "arguments")
    differing = [f"/{name}" for name in names if getattr(known, name) != getattr(command, name)]
    if differing:
        raise DuplicateError(
            differing,
            "There is a command with this id and another content; nothing was done.",
            vi="Đã có lệnh khác với mã này; chưa thực hiện gì.",
        )


def _decide(connection: Connection, command: PrinterCommand, now: datetime) -> PrinterCommand:
    """Return the command with the agent it is for, or with its outcome."""
    if command.verb in OF_A_JOB and not command.job_id.startswith(CUPS_JOB):
        job = job_store.get_job(connection, command.job_id, lock=True)
        if job.site_id != command.site_id:
            raise NotFoundError("There is no such print job.", vi="Không có lệnh in này.")
        return _decide_job(connection, command, job, now)
    agents = site_store.list_agents(connection, command.site_id)
    if command.verb in OF_A_QUEUE or (command.queue and command.verb is not Verb.ADD):
        return replace(command, agent_id=book.agent_of_queue(connection, command.site_id, command.queue))
    if not agents:
        raise StateError(
            "The site has no agent: enrol one first.",
            vi="Điểm tiêm chưa có tiến trình in: hãy đăng ký trước.",
            code="no_agent",
        )
    return command


def _decide_job(connection: Connection, command: PrinterCommand, job: PrintJob, now: datetime) -> PrinterCommand:
    if command.verb is Verb.MOVE and (refused := _refuse_nowhere(connection, command, now)):
        return refused
    if job.state is JobState.WAITING and job.holder_agent is None:
        if command.verb is Verb.CANCEL:
            happening = Happening(JobEvent.CANCEL, now, command.asked_by, reason="asked")
            leases.apply_event(connection, job, happening, now=now)
        else:
            _mirror(connection, command, now)
        return _ended(
            command,
            CommandState.DONE,
            "at-centre",
            "Done: no agent has the job.",
            "Đã thực hiện tại trung tâm.",
            now,
        )
    if job.state in (JobState.LEASED, JobState.WAITING):
        return replace(command, agent_id=job.holder_agent)
    if job.state is JobState.SENT:
        return _ended(
            command,
            CommandState.REFUSED,
            "job-active",
            f"The job is at {job.queue or 'a printer'}: held, moved or cancelled now it may print twice, or come out "
            "all the same. Wait for its end; then say what became of the paper.",
            f"Lệnh đang ở {job.queue or 'máy in'}: giữ, chuyển hay huỷ lúc này có thể in hai lần hoặc giấy vẫn ra. "
            "Hãy chờ in xong rồi xác nhận giấy.",
            now,
        )
    if command.verb is Verb.WITHDRAW and job.state is JobState.UNCERTAIN and job.holder_agent is not None:
        return replace(command, agent_id=job.holder_agent)
    return _ended(
        command,
        CommandState.REFUSED,
        "job-ended",
        f"The job is {job.state.value}: there is nothing to wait for any more.",
        f"Lệnh in đã ở trạng thái “{job.state.value}”: không còn gì để đổi.",
        now,
    )


def _refuse_nowhere(connection: Connection, command: PrinterCommand, now: datetime) -> PrinterCommand | None:
    to = str(command.arguments.get("to", ""))
    queues = {one.printer.queue for one in site_store.list_printers(connection, command.site_id)}
    pools = {f"pool:{one.pool}" for one in book.list_settings(connection, command.site_id) if one.pool}
    if not to or to in queues or to in pools:
        return None
    return _ended(
        command,
        CommandState.REFUSED,
        "no-such-queue",
        f"The site has no queue or pool {to}.",
        f"Điểm tiêm không có hàng đợi hay nhóm {to}.",
        now,
    )


def _ended(
    command: PrinterCommand, state: CommandState, reason: str, en: str, vi: str, now: datetime
) -> PrinterCommand:
    return replace(command, state=state, reason=reason, en=en, vi=vi, ended_at=now)


def _mirror(connection: Connection, command: PrinterCommand, now: datetime) -> None:
    """Keep at the centre what a job was changed to, for whoever takes it next."""
    if command.verb is Verb.PRIORITY:
        job_store.set_priority(connection, command.job_id, int(command.arguments["priority"]))
        return
    wish = book.wishes_of(connection, [command.job_id]).get(command.job_id, JobWish())
    if command.verb is Verb.MOVE:
        wish = replace(wish, asked=str(command.arguments.get("to", "")))
    elif command.verb in (Verb.HOLD, Verb.RELEASE):
        wish = replace(wish, kept=command.verb is Verb.HOLD)
    else:
        return
    book.put_wish(connection, command.job_id, wish, actor=command.asked_by, now=now)


def take_results(connection: Connection, agent: Agent, results: Sequence[Result], *, now: datetime) -> None:
    """Write down what an agent says came of its commands; others' and ended ones are passed over."""
    book.end_overdue(connection, agent.site_id, now=now)
    late = {CommandState.EXPIRED, CommandState.NO_ANSWER}
    for result in results:
        command = book.find_command(connection, result.command_id)
        if command is None or command.site_id != agent.site_id or command.agent_id != agent.agent_id:
            continue
        if command.state not in OPEN | late:
            continue
        book.end_command(
            connection,
            command.command_id,
            result.state,
            reason=result.reason,
            en=result.en,
            vi=result.vi,
            detail=result.detail,
            now=now,
        )
        if result.state is CommandState.DONE and command.verb in OF_A_JOB and not command.job_id.startswith(CUPS_JOB):
            _mirror(connection, command, now)


def take_routes(connection: Connection, agent: Agent, routes: Sequence[JobRoute], *, now: datetime) -> None:
    """Keep why jobs of the agent's site went where they went, or waited."""
    own = job_store.jobs_of_site(connection, agent.site_id, [route.job_id for route in routes])
    book.insert_routes(connection, [route for route in routes if route.job_id in own], agent_id=agent.agent_id, now=now)


def withdraw(connection: Connection, services: Services, job: PrintJob, *, actor: str) -> None:
    """Have the agent take from CUPS what waits there of an uncertain paper; in the transaction that settled it."""
    now = services.clock()
    if job.holder_agent is not None:
        command = PrinterCommand(
            command_id=services.random_bytes(12).hex(),
            site_id=job.site_id,
            verb=Verb.WITHDRAW,
            asked_by=actor[:64],
            asked_at=now,
            expires_at=now + _WITHDRAW_WITHIN,
            agent_id=job.holder_agent,
            job_id=job.job_id,
        )
        book.insert_command(connection, command)


def cancel_if_asked(connection: Connection, job: PrintJob, *, now: datetime) -> PrintJob:
    """Cancel a job that came back unprinted because somebody asked for that; in the transaction that took it back."""
    command = book.find_cancel(connection, job.job_id)
    if command is None or job.state is not JobState.WAITING:
        return job
    happening = Happening(JobEvent.CANCEL, now, command.asked_by, fencing_token=job.fencing_token, reason="asked")
    return leases.apply_event(connection, job, happening, now=now)


async def put_setting(services: Services, setting: QueueSetting, *, actor: str) -> QueueSetting:
    """Store what is set for a queue; the agent is told with its next call. Raises NotFoundError."""

    def store(connection: Connection) -> None:
        site_store.get_site(connection, setting.site_id)
        book.put_setting(connection, setting, actor=actor, now=services.clock())

    await services.store.write(store)
    services.wakeups.notify(setting.site_id)
    return setting


def sites_with_work(connection: Connection) -> set[str]:
    """Return the sites whose agents have something to fetch: a job, or a command."""
    return {
        *job_store.sites_with_waiting_jobs(connection),
        *book.sites_with_waiting_commands(connection),
    }
