"""What the centre may ask of this site's printers, and how it is done: once, within its time, with an answer.

The verbs and their arguments:

=================== ================================================================================================
discover            hosts (names, addresses or small networks); finds printers that could be added
add                 queue, uri, media; makes a driverless queue
remove              queue; only an empty one
check               queue ("": all), media, dpi; what is wrong, each with the mend
test-page           queue, media, dpi
enable, disable     queue; `drain` for disable
accept, reject      queue
drain               queue; takes no new job, waits for what is there, stops
hold, release       job
cancel              job
priority            job, priority
move                job, to (a queue or pool:NAME)
withdraw            job, an uncertain one; takes what still waits of it at CUPS away
=================== ================================================================================================

`job` is a print job of the service (`ps-…` belongs to one), or `cups-NUMBER` for a job of somebody else in CUPS.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from printsvc.errors import PrintsvcError, RenderError
from spooler.book import Book
from spooler.core import messages as m
from spooler.core.attempt import FINAL, Job, Phase, Queue, State
from spooler.cupsd import admin, check, discover
from spooler.cupsd.admin import Refused
from spooler.cupsd.check import A4
from spooler.cupsd.lane import CupsRefusedError, Lane
from spooler.cupsd.printer import Printers
from spooler.cupsd.queues import withdraw
from spooler.protocol import (
    Command,
    CommandOutcome,
    CommandResult,
    JobId,
    LeaseAnswer,
    LeaseRequest,
    QueueSettings,
    RouteNote,
    SiteSettings,
)
from spooler.settings import Settings

if TYPE_CHECKING:
    from printsvc.render.stamp.pullback import ScalePage

T = TypeVar("T")
_REPEATABLE = frozenset({"discover", "check", "enable", "disable", "accept", "reject", "drain", "withdraw"})
_ADD_WAIT_S = 30.0
_STEP_S = 0.25
_LONG_CALL_S = 30.0
_FORBIDDEN = frozenset({0x0401, 0x0402, 0x0403})  # RFC 8011, appendix B: who are you, and not you

log = structlog.get_logger("spooler")


class Site(Protocol):
    """What the agent lends."""

    state: State

    @property
    def lane(self) -> Lane: ...

    @property
    def printers(self) -> Printers: ...

    async def bring(self, event: m.Event) -> None: ...

    async def see_queues(self) -> None: ...

    async def on_disk(self, function: Callable[..., T], *args: Any) -> T: ...

    def now(self) -> datetime: ...

    def start(self, work: Coroutine[Any, Any, None]) -> None: ...

    def news(self) -> None:
        """Something is to be told to the service soon."""


class Desk:
    """Takes commands from the service's answers, and has the outcomes for the next request."""

    def __init__(self, site: Site, settings: Settings, book: Book) -> None:
        self._site, self._settings, self._book = site, settings, book
        self._one_at_cups = asyncio.Lock()
        self._under_way: set[str] = set()
        self._results: tuple[CommandResult, ...] = ()
        self._routes: dict[JobId, RouteNote] = {}
        self._routes_told: dict[JobId, tuple[str, str]] = {}
        self.site_settings: SiteSettings = book.settings()

    def close(self) -> None:
        self._book.close()

    async def open(self) -> None:
        """Settle what was cut off when the agent last ended."""
        for command in await self._site.on_disk(self._book.cut_off):
            if command.verb in _REPEATABLE:
                self._site.start(self._do(command, begun=True))
            else:
                await self._end(
                    command,
                    CommandOutcome.UNKNOWN,
                    "agent-restarted",
                    "The agent ended while it did this: look at the printer before you ask for it again.",
                    "Tiến trình in dừng khi đang thực hiện: hãy kiểm tra máy in trước khi yêu cầu lại.",
                )
        self._results = await self._site.on_disk(self._book.untold)

    # -- what goes with a request and comes with its answer

    def to_tell(self) -> dict[str, Any]:
        """Return the fields of the next lease request."""
        routes = tuple(self._routes.values())[:200]
        return {"results": self._results, "routes": routes, "settings_version": self.site_settings.version}

    async def take(self, answer: LeaseAnswer, request: LeaseRequest) -> None:
        """Take the answer to a request that was made with `to_tell`."""
        if request.results:
            await self._site.on_disk(self._book.told, [result.command_id for result in request.results])
            self._results = await self._site.on_disk(self._book.untold)
            if self._results:
                self._site.news()
        for note in request.routes:
            if self._routes.get(note.job_id) is note:
                del self._routes[note.job_id]
        if answer.settings is not None and answer.settings != self.site_settings:
            await self._site.on_disk(self._book.keep_settings, answer.settings)
            self.site_settings = answer.settings
            log.info("settings_taken", version=answer.settings.version, queues=len(answer.settings.queues))
        for command in answer.commands:
            if command.command_id not in self._under_way:
                self._under_way.add(command.command_id)
                self._site.start(self._do(command, begun=False))

    def note_routes(self) -> None:
        """See which jobs were given a queue, or refused one, since the last look."""
        state = self._site.state
        for job_id, choice in state.choices.items():
            settled = "not seen just now" in choice.en and not choice.queue
            if settled or self._routes_told.get(job_id) == (choice.queue, choice.en):
                continue
            self._routes_told[job_id] = (choice.queue, choice.en)
            self._routes[job_id] = RouteNote(
                job_id=job_id, at=self._site.now(), queue=choice.queue, en=choice.en, vi=choice.vi
            )
            if not choice.queue:
                self._site.news()
        for job_id in self._routes_told.keys() - state.jobs.keys():
            del self._routes_told[job_id]

    def setting(self, queue: str) -> QueueSettings:
        """Return what the centre has set for a queue."""
        found = (one for one in self.site_settings.queues if one.queue == queue)
        return next(found, QueueSettings(queue=queue))

    async def fit_document(self, job: Job, queue: str, document: bytes) -> bytes:
        """Return the document as the queue needs it: with smaller dark modules where the centre has set so.

        A document that cannot be changed is printed as it is: a paper that reads less well is better than none.
        """
        own = self.setting(queue)
        if not own.pull_back or not own.dpi or not job.module_um:
            return document

        def draw() -> bytes:
            from printsvc.render.stamp.pullback import pull_back_symbol  # numpy: most sites never need it

            return pull_back_symbol(document, module_um=job.module_um, dpi=own.dpi, pull_back=own.pull_back)

        try:
            return await asyncio.to_thread(draw)
        except RenderError as error:
            log.warning("pull_back_failed", job_id=job.job_id, queue=queue, detail=error.en)
            return document

    # -- doing

    async def _do(self, command: Command, *, begun: bool) -> None:
        started = asyncio.get_running_loop().time()
        try:
            if not begun and not await self._site.on_disk(self._book.begin, command, self._site.now()):
                return
            log.info("command", command_id=command.command_id, verb=command.verb, queue=command.queue)
            ended = await self._outcome(command, started)
            if command.verb not in ("check", "discover"):
                await self._site.see_queues()  # the answer goes together with the printers as they are then
            await self._end(command, *ended)
        except PrintsvcError as error:
            log.error("command_not_booked", command_id=command.command_id, detail=error.en)
        except Exception as error:
            log.exception("command_broke", command_id=command.command_id, verb=command.verb)
            await self._end(
                command,
                CommandOutcome.UNKNOWN,
                "agent-error",
                f"The agent met an error of its own ({type(error).__name__}).",
                f"Tiến trình in gặp lỗi ({type(error).__name__}).",
            )
        finally:
            self._under_way.discard(command.command_id)

    async def _outcome(self, command: Command, started: float) -> tuple[CommandOutcome, str, str, str, dict[str, Any]]:
        """Perform the command and return how it ended: outcome, reason, sentences, detail."""
        if asyncio.get_running_loop().time() >= started + command.within_s:
            late = ("Its time is over: nothing was done.", "Đã quá thời hạn: chưa thực hiện gì.")
            return CommandOutcome.REFUSED, "too-late", *late, {}
        try:
            # A drain has a time of its own, and says what is still there.
            async with asyncio.timeout(None if command.verb in ("drain", "disable") else command.within_s):
                detail = await self._perform(command, started + command.within_s)
        except TimeoutError:
            return CommandOutcome.FAILED, "too-late", "It took too long.", "Thực hiện quá lâu.", {}
        except Refused as no:
            return CommandOutcome.REFUSED, no.reason, no.en, no.vi, {}
        except CupsRefusedError as error:
            if error.status not in _FORBIDDEN:
                return CommandOutcome.FAILED, error.code, error.en, error.vi, {}
            return (
                CommandOutcome.FAILED,
                "cups-forbidden",
                "CUPS does not let the agent administer it: put the agent's user into the group lpadmin.",
                "CUPS không cho tiến trình in quản trị: hãy thêm người dùng của nó vào nhóm lpadmin.",
                {},
            )
        except PrintsvcError as error:
            return CommandOutcome.FAILED, error.code, error.en, error.vi, {}
        en, vi = detail.pop("en", "Done."), detail.pop("vi", "Đã thực hiện.")
        return CommandOutcome.DONE, "", en, vi, detail

    async def _end(
        self,
        command: Command,
        outcome: CommandOutcome,
        reason: str,
        en: str,
        vi: str,
        detail: dict[str, Any] | None = None,
    ) -> None:
        log.info("command_ended", command_id=command.command_id, verb=command.verb, outcome=outcome, reason=reason)
        result = CommandResult(
            command_id=command.command_id,
            outcome=outcome,
            reason=reason,
            en=en,
            vi=vi,
            detail=detail or {},
            at=self._site.now(),
        )
        await self._site.on_disk(self._book.end, result)
        self._results = await self._site.on_disk(self._book.untold)
        self._site.news()

    async def _perform(self, command: Command, until: float) -> dict[str, Any]:
        """Return what to tell; `en` and `vi` in it are the sentence. Raises Refused, SiteError."""
        given, queue = command.arguments, command.queue
        if queue and self._settings.queues and queue not in self._settings.queues and command.verb != "add":
            raise Refused(
                "no-such-queue", f"This agent has no queue {queue}.", f"Điểm in này không có hàng đợi {queue}."
            )
        match command.verb:
            case "discover":
                return await discover.discover(self._site.printers, self._site.lane, list(given.get("hosts", ())))
            case "add":
                return await self._add(queue, str(given.get("uri", "")), str(given.get("media") or A4), until)
            case "remove":
                async with self._closed(queue):
                    await self._at_cups(lambda c: admin.remove(c, queue))
            case "check":
                names = [queue] if queue else sorted(self._site.state.queues)
                wanted = str(given.get("media", "")), int(given.get("dpi", 0))
                files = self._settings.cups_files
                return await check.check_all(
                    self._site.lane, self._site.printers, names, self.setting, wanted=wanted, cups_files=files
                )
            case "test-page":
                return await self._test_page(queue, given)
            case "enable":
                await self._at_cups(lambda c: admin.enable(c, queue))
            case "disable":
                if given.get("drain"):
                    return await self._drain(queue, until)
                async with self._closed(queue):
                    await self._at_cups(lambda c: admin.disable(c, queue))
            case "drain":
                return await self._drain(queue, until)
            case "accept" | "reject":
                await self._at_cups(lambda c: admin.accept(c, queue, yes=command.verb == "accept"))
            case "withdraw":
                return await self._withdraw(str(given.get("job", "")))
            case "hold" | "release" | "cancel" | "priority" | "move":
                return await self._change_job(command.verb, str(given.get("job", "")), given)
            case _:
                raise Refused(
                    "unknown-verb",
                    "This agent is older than the centre and does not know that command: update it.",
                    "Tiến trình in là phiên bản cũ, chưa hiểu lệnh này: hãy cập nhật.",
                )
        return {}

    async def _at_cups(self, function: Callable[[Any], T], *, timeout_s: float | None = None) -> T:
        """Do one look-and-act; no other of ours comes between."""
        async with self._one_at_cups:
            return await self._site.lane.run(function, timeout_s=timeout_s)

    @contextlib.asynccontextmanager
    async def _closed(self, queue: str) -> AsyncIterator[None]:
        """Let no job of ours come to the queue while it is stopped: else one could begin between look and act."""
        was_accepting = await self._at_cups(lambda c: admin.accept(c, queue, yes=False))
        try:
            await self._site.see_queues()
            self._refuse_own(queue)
            yield
        finally:
            if was_accepting:
                with contextlib.suppress(Refused):  # it was removed
                    await self._at_cups(lambda c: admin.accept(c, queue, yes=True))

    def _refuse_own(self, queue: str) -> None:
        """Refuse where a certificate of ours is at the queue, also one that CUPS is not yet, or no more, at."""
        for job in self._site.state.jobs.values():
            at_it = job.attempt is not None and job.attempt.queue == queue and job.phase not in FINAL
            if at_it and job.phase is not Phase.READY:
                raise _active(job)

    async def _drain(self, queue: str, until: float) -> dict[str, Any]:
        """No new job goes there (the agent asks CUPS what it accepts); when the last is out, the queue is stopped."""
        loop = asyncio.get_running_loop()
        await self._at_cups(lambda c: admin.accept(c, queue, yes=False))
        await self._site.see_queues()
        while True:
            try:
                self._refuse_own(queue)
                await self._at_cups(lambda c: admin.disable(c, queue))
            except Refused as no:
                if no.reason != "job-active":
                    raise
                if loop.time() >= until:
                    raise Refused(
                        "not-drained",
                        "A job is there still: the queue takes no new ones and goes on with this one. " + no.en,
                        "Vẫn còn lệnh đang in: hàng đợi không nhận lệnh mới và in tiếp lệnh này. " + no.vi,
                    ) from no
                await asyncio.sleep(_STEP_S)
            else:
                return {"en": f"{queue} is empty and stopped.", "vi": f"{queue} đã trống và dừng."}

    async def _add(self, queue: str, uri: str, media: str, until: float) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        if await self._site.printers.traits(uri) is None:
            raise Refused(
                "printer-silent",
                f"No printer answers at {uri}: a queue made now would stay raw. Switch it on and try again.",
                f"Không có máy in trả lời tại {uri}: hãy bật máy in rồi thử lại.",
            )
        if self._settings.queues and queue not in self._settings.queues:
            raise Refused(
                "queue-not-listed",
                f"This agent prints on {', '.join(self._settings.queues)} alone: add {queue} to "
                "PRINTSVC_SPOOLER_QUEUES first.",
                f"Tiến trình này chỉ dùng {', '.join(self._settings.queues)}: hãy thêm {queue} vào "
                "PRINTSVC_SPOOLER_QUEUES trước.",
            )
        once = check.has_once(check.read_file(self._settings.cups_files))
        await self._at_cups(lambda c: admin.begin_queue(c, queue, uri), timeout_s=_LONG_CALL_S)
        until = min(until, loop.time() + _ADD_WAIT_S)
        while not (model := await self._site.lane.run(lambda c: admin.is_driverless(c, queue))):
            if loop.time() >= until:
                await self._at_cups(lambda c: admin.discard_queue(c, queue))
                raise Refused(
                    "stayed-raw",
                    "The queue did not become driverless and was removed: the printer does not speak IPP Everywhere.",
                    "Hàng đợi không thành driverless và đã bị xoá: máy in không hỗ trợ IPP Everywhere.",
                )
            await asyncio.sleep(_STEP_S)
        device = await self._at_cups(
            lambda c: admin.finish_queue(c, queue, uri, media=media, once=once is not False), timeout_s=_LONG_CALL_S
        )
        warning = {} if once is not False else {"warning": "queue-not-once"}
        return {
            "queue": queue,
            "make_and_model": model,
            "device_uri": device,
            "en": f"{queue} is driverless: {model}.",
            "vi": f"{queue} đã sẵn sàng: {model}.",
            **warning,
        }

    async def _test_page(self, queue: str, given: dict[str, Any]) -> dict[str, Any]:
        own = self.setting(queue)
        media = str(given.get("media") or (own.media[0] if own.media else A4))
        dpi = int(given.get("dpi") or own.dpi or 600)

        def draw() -> ScalePage:
            from printsvc.render.stamp.pullback import draw_test_page

            return draw_test_page(media, dpi=dpi)

        page = await asyncio.to_thread(draw)
        cups_job_id = await self._at_cups(lambda c: admin.print_test_page(c, queue, page.pdf, media=media))
        return {
            "job": f"cups-{cups_job_id}",
            "media": media,
            "fields": [field.document() for field in page.fields],
            "en": "The test page is in the queue. Measure the rulers (100 mm); scan each field; take the largest "
            "pull-back and the smallest module that still read at once.",
            "vi": "Trang thử đã vào hàng đợi. Đo thước (100 mm); quét từng ô; chọn độ co lớn nhất và ô vuông nhỏ nhất "
            "mà vẫn đọc được ngay.",
        }

    async def _change_job(self, verb: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if name.startswith("cups-") and name[5:].isdecimal():
            await self._change_foreign(verb, int(name[5:]), given)
            return {}
        job = self._site.state.jobs.get(JobId(name))
        if job is None or job.phase in FINAL:
            raise Refused("no-such-job", f"This site has no job {name} to print.", f"Không có lệnh in {name} ở đây.")
        if job.phase not in (Phase.LEASED, Phase.READY):
            raise _active(job)
        match verb:
            case "hold" | "release":
                await self._site.bring(m.Changed(job.job_id, kept=verb == "hold"))
            case "priority":
                await self._site.bring(m.Changed(job.job_id, priority=int(given["priority"])))
            case "move":
                to = str(given.get("to", ""))
                self._refuse_nowhere(to, self._site.state.queues)
                await self._site.bring(m.Changed(job.job_id, asked=to))
            case "cancel":
                await self._site.bring(m.Leased((), (job.job_id,)))
        after = self._site.state.jobs.get(job.job_id)
        if after is not None and after.phase not in (Phase.LEASED, Phase.READY, *FINAL):
            raise _active(after)  # it began in between
        return {}

    async def _withdraw(self, name: str) -> dict[str, Any]:
        job = self._site.state.jobs.get(JobId(name))
        if job is None or job.attempt is None or job.phase is not Phase.UNCERTAIN:
            return {"en": "Nothing of it is in doubt here.", "vi": "Ở đây không còn gì của lệnh này phải kiểm tra."}
        attempt = job.attempt
        word = await withdraw(self._site.lane, attempt)
        log.info("withdrawn", job_id=job.job_id, attempt_id=attempt.attempt_id, queue=attempt.queue, cups=word.value)
        return {"queue": attempt.queue, "cups": word.value}

    def _refuse_nowhere(self, to: str, queues: Any) -> None:
        pools = {f"pool:{queue.pool}" for queue in queues.values() if queue.pool}
        if to and to not in queues and to not in pools:
            raise Refused(
                "no-such-queue", f"There is no queue or pool {to} here.", f"Không có hàng đợi hay nhóm {to} ở đây."
            )

    async def _change_foreign(self, verb: str, cups_job_id: int, given: dict[str, Any]) -> None:
        match verb:
            case "hold" | "release":
                await self._at_cups(lambda c: admin.hold(c, cups_job_id, yes=verb == "hold"))
            case "cancel":
                await self._at_cups(lambda c: admin.cancel(c, cups_job_id))
            case "move":
                await self._at_cups(lambda c: admin.move(c, cups_job_id, str(given.get("to", ""))))
            case _:
                raise Refused(
                    "not-for-cups-jobs",
                    "The order of other programs' jobs is changed in CUPS itself: lp -i JOB -q PRIORITY.",
                    "Thứ tự lệnh in của chương trình khác: dùng lp -i LỆNH -q ƯU_TIÊN trong CUPS.",
                )


def _active(job: Job) -> Refused:
    assert job.attempt is not None
    queue: str | Queue = job.attempt.queue
    return Refused(
        "job-active",
        f"{job.job_id} is at {queue} ({job.phase.value}): to hold, move, cancel or stop it may give a second paper, "
        "or one nobody waits for. Wait for its end, or drain the queue.",
        f"{job.job_id} đang ở {queue} ({job.phase.value}): giữ, chuyển, huỷ hay dừng lúc này có thể in hai lần. "
        "Hãy chờ in xong hoặc rút cạn hàng đợi.",
    )
