"""chaos: three sites, six printers, doses, and faults at random but by a seed; then the books against the ground truth.

All is real: the service, the agents, cupsd, ippeveprinter, kill -9, signals, and a line between each agent and the
service that is cut. What comes out is what the printers' own logs say. In the middle of it somebody has no patience,
and says of every second uncertain paper that it is not there, which is true until its printer is switched on. When the
last fault is over and nothing moves any more a person looks at each paper that is uncertain or failed, and says what
is true.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from lab import LabError, VirtualPrinter
from lab.poorline import PoorLine
from lab.processes import wait_until
from stack.api import ApiError
from stack.papers import read_paper, says
from stack.stack import SitePlan, Stack

from benchmarks.chaos_books import Account, BookedJob, PostedDose, hold_against
from benchmarks.chaos_plan import ChaosPlan, DosePlan, Fault, Kind, make_plan
from benchmarks.measure import Plan, share_cache
from benchmarks.people import SITES, dose_events
from printsvc.domain.print_job import UNDER_WAY, JobState

DOSES = 600
LENGTH_S = 600.0
FORM = "a4/43-2022"
PAGE_S = 0.8  # a page's time in the printer
LATEST_S = 300.0  # for a dose to be taken, or the service to be up again
STALL_S = 240.0  # nothing moved for so long: what is under way then is unaccounted for
QUIET_S = 10.0  # no printer wrote anything for so long: a person may look
LOOK_S = 3.0  # how often the one without patience looks
ROUNDS = 5  # a copy that a person asked for may need a person again
# A day's patience in a run of minutes.
_AGENTS = {
    "PRINTSVC_SPOOLER_SILENCE_S": "15",
    "PRINTSVC_SPOOLER_STALL_S": "60",
    "PRINTSVC_SPOOLER_BACKOFF_MAX_S": "2",
    "PRINTSVC_SPOOLER_POLL_WAIT_S": "5",
}


def run(plan: Plan) -> dict[str, Any]:
    """Return the figures; docs/bench.md says what each means. `--doses` or `--count`, `--minutes` or `--seconds`."""
    root = plan.root / "var" / "bench" / "chaos"
    shutil.rmtree(root, ignore_errors=True)
    share_cache(plan, root / "service")
    sites = [SitePlan(*site) for site in SITES[:3]]
    names = {
        site.site_id: [f"site{number}-{kind}" for kind, _ in site.printers]
        for number, site in enumerate(sites, start=1)
    }
    chaos = make_plan(plan.seed, doses=plan.count or DOSES, length_s=plan.seconds or LENGTH_S, printers=names)
    lines: list[PoorLine] = []

    def between(url: str) -> str:
        lines.append(PoorLine(int(url.rpartition(":")[2])))
        return lines[-1].url

    with ExitStack() as ending:
        ending.callback(lambda: _close(lines))
        stack = ending.enter_context(
            Stack(
                root,
                sites,
                told=told,
                forms=[FORM],
                agent_environment=_AGENTS,
                agent_url=between,
                patience_s=LATEST_S,
            )
        )
        of_site = dict(zip(stack.sites, lines, strict=True))
        return Chaos(stack, of_site, chaos).run()


def well(figures: dict[str, Any]) -> bool:
    """Return whether the run found nothing wrong."""
    return not figures["troubles"]


class Chaos:
    """One run on an open stack. `lines` are those between each site's agent and the service."""

    def __init__(self, stack: Stack, lines: dict[str, PoorLine], plan: ChaosPlan) -> None:
        self._stack = stack
        self._lines = lines
        self._plan = plan
        self._began = 0.0
        self._events: dict[str, dict[str, Any]] = {}  # by the certificate that came of it
        self._late_s: list[float] = []
        self._replaced = 0  # papers that were said not to be there, in the middle of it
        # A part that is put right late, on a slow machine, is hit late the next time, never while it is put right.
        self._locks = {part: threading.Lock() for fault in plan.faults for part in fault.parts}

    def run(self) -> dict[str, Any]:
        plan, stack = self._plan, self._stack
        for printer in stack.printers.values():
            printer.behave(sleep_s=PAGE_S)
        wait_until(self._all_there, LATEST_S, "the printers of every site", poll_s=0.5)
        told(f"seed {plan.seed}: {len(plan.doses)} doses, {len(plan.faults)} faults in {plan.length_s:.0f} s")
        self._began = time.monotonic()
        with ThreadPoolExecutor(len(plan.faults)) as breaking, ThreadPoolExecutor(64) as posting:
            over = threading.Event()
            impatient = posting.submit(self._lose_patience, over)
            try:
                faults = [breaking.submit(self._play, fault) for fault in plan.faults]
                doses = self._post_all(posting)
                posted = [future.result() for future in doses]
                for fault in faults:
                    fault.result()
            finally:
                over.set()
            impatient.result()
        told("the last fault is over; what remains drains")
        self._drain()
        left = self._account(posted)
        told(f"{left.uncertain} papers are uncertain; a person looks")
        by_person = self._settle()
        account = self._account(posted)
        told("reading the papers back")
        right, wrong = self._read_papers(posted)
        return self._figures(posted, left, account, by_person, right, wrong)

    def _all_there(self) -> bool:
        """Return whether every site's agent has told of its printers: before that a fault meets nothing."""
        told_of = self._stack.service.api("admin").get("/v1/printers")["printers"]
        return {printer["queue"] for printer in told_of} >= set(self._stack.printers)

    # --- doses

    def _post_all(self, pool: ThreadPoolExecutor) -> list[Future[PostedDose]]:
        events = dose_events(self._plan.seed, now=datetime.now(UTC))
        futures = []
        for dose in self._plan.doses:
            self._sleep_until(dose.at_s)
            futures.append(pool.submit(self._post, dose, next(events)))
        return futures

    def _post(self, dose: DosePlan, event: dict[str, Any]) -> PostedDose:
        event["site_id"] = dose.site_id
        event["dose"]["injected_at"] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        try:
            (answer,) = self._stack.post_doses([json.dumps(event).encode()], patience_s=LATEST_S)
        except ApiError as error:
            told(f"dose {event['dose_id']}: {error}")
            return PostedDose(event["dose_id"], dose.site_id)
        uvci = answer.get("uvci") or ""
        self._events[uvci] = event
        return PostedDose(event["dose_id"], dose.site_id, uvci, answer["status"] == 202)

    # --- faults

    def _play(self, fault: Fault) -> None:
        self._sleep_until(fault.at_s)
        with ExitStack() as held:
            for part in sorted(fault.parts):
                held.enter_context(self._locks[part])
            self._late_s.append(time.monotonic() - self._began - fault.at_s)
            told(f"{time.monotonic() - self._began:6.1f} s  {fault.kind} {fault.target} for {fault.lasts_s:.1f} s")
            mend = self._break(fault)
            time.sleep(fault.lasts_s)
            mend()

    def _break(self, fault: Fault) -> Callable[[], None]:
        """Break something; return what puts it right."""
        service, cupsd = self._stack.service, self._stack.lab.cupsd
        match fault.kind:
            case Kind.KILL_SERVICE:
                service.kill()
                return self._start_service
            case Kind.RESTART_SERVICE:
                service.stop(LATEST_S)
                return self._start_service
            case Kind.KILL_CUPSD:
                cupsd.kill()
                return lambda: patiently(cupsd.start)
            case Kind.RESTART_CUPSD:
                cupsd.stop(LATEST_S)
                return lambda: patiently(cupsd.start)
            case Kind.KILL_ALL:
                return self._kill_all(fault.target)
            case Kind.KILL_AGENT | Kind.RESTART_AGENT | Kind.STOP_AGENT:
                return self._break_agent(fault)
            case Kind.LINE_CUT:
                line = self._lines[fault.target]
                line.down()
                return lambda: line.down(False)
            case _:
                return _break_printer(self._stack.printers[fault.target], fault.kind)

    def _kill_all(self, site_id: str) -> Callable[[], None]:
        agent, cupsd = self._stack.sites[site_id].agent, self._stack.lab.cupsd
        self._stack.service.kill()
        agent.kill()
        cupsd.kill()

        def mend() -> None:
            patiently(cupsd.start)
            agent.start()
            self._start_service()

        return mend

    def _break_agent(self, fault: Fault) -> Callable[[], None]:
        agent = self._stack.sites[fault.target].agent
        match fault.kind:
            case Kind.STOP_AGENT:
                agent.pause()
                return agent.resume
            case Kind.RESTART_AGENT:
                agent.stop(LATEST_S)
            case _:
                agent.kill()
        return agent.start

    def _start_service(self) -> None:
        self._stack.service.start(LATEST_S)

    # --- the end

    def _drain(self) -> None:
        """Return when no paper is under way and the printers are quiet, or when nothing moves any more."""
        quiet_for, moved_at, before = 0.0, time.monotonic(), (-1, -1)
        while time.monotonic() - moved_at < STALL_S:
            try:
                papers = self._stack.stats()["papers"]
                under_way = sum(papers.get(state, 0) for state in UNDER_WAY)
            except ApiError:
                under_way = -1
            now = (under_way, sum(len(printer.truth()) for printer in self._stack.printers.values()))
            if now != before:
                moved_at, before = time.monotonic(), now
            quiet_for = time.monotonic() - moved_at
            if under_way == 0 and quiet_for >= QUIET_S:
                return
            time.sleep(0.5)
        told(f"nothing moves any more, and {before[0]} papers are under way")

    def _sheets(self) -> Counter[str]:
        """Return the sheets of each print job, by the printers' own logs."""
        return Counter(job_of(page.job_name) for printer in self._stack.printers.values() for page in printer.pages())

    def _jobs(self, posted: list[PostedDose]) -> list[BookedJob]:
        admin, jobs = self._stack.service.api("admin"), []
        for dose in posted:
            if dose.uvci:
                papers = admin.get(f"/v1/certificates/{quote(dose.uvci, safe='')}/papers")["papers"]
                papers.sort(key=lambda paper: paper["copy_number"])
                jobs += [
                    BookedJob(p["job_id"], p["uvci"], p["site_id"], JobState(p["state"]), p["state_reason"])
                    for p in papers
                ]
        return jobs

    def _account(self, posted: list[PostedDose]) -> Account:
        return hold_against(posted, self._jobs(posted), self._sheets())

    def _settle(self) -> Counter[str]:
        """Say what is true of every paper on the sites' lists, until there is none; return what was said how often."""
        said: Counter[str] = Counter()
        admin = self._stack.service.api("admin")
        for _ in range(ROUNDS):
            sheets, asked = self._sheets(), 0
            for site_id in self._stack.sites:
                for job in admin.get(f"/v1/sites/{site_id}/worklist")["print_jobs"]:
                    path = f"/v1/print-jobs/{job['job_id']}"
                    if job["state"] == JobState.UNCERTAIN:
                        word = "here" if sheets[job["job_id"]] else "not_here"
                        answer = admin.call("POST", f"{path}/settle", {"seen": word})
                    elif job["state"] == JobState.FAILED and not sheets[job["job_id"]]:
                        word = "retry"
                        answer = admin.call("POST", f"{path}/retry")
                    else:
                        continue
                    asked += 1
                    said[word if answer.status == 200 else f"{word} refused: {answer.json().get('code')}"] += 1
            if not asked:
                break
            self._drain()
        return said

    def _lose_patience(self, over: threading.Event) -> None:
        """Say that uncertain papers are not there, where that is so, of the doses that the seed chooses; until then."""
        admin = self._stack.service.api("admin")
        seen: set[str] = set()
        while not over.wait(LOOK_S):
            try:
                for site_id in self._stack.sites:
                    for job in admin.get(f"/v1/sites/{site_id}/worklist")["print_jobs"]:
                        chosen = zlib.crc32(f"{self._plan.seed} {job['dose_id']}".encode()) & 1
                        if job["state"] != JobState.UNCERTAIN or not chosen or job["job_id"] in seen:
                            continue
                        seen.add(job["job_id"])
                        if not self._sheets()[job["job_id"]]:
                            path = f"/v1/print-jobs/{job['job_id']}/settle"
                            self._replaced += admin.call("POST", path, {"seen": "not_here"}).status == 200
            except (ApiError, LabError, OSError):
                continue  # the service is down, or a printer writes its log

    def _read_papers(self, posted: list[PostedDose]) -> tuple[int, list[str]]:
        """Read every sheet; return how many are right, and the attempts whose paper is cut, not valid or another's."""
        uvci_of = {job.job_id: job.uvci for job in self._jobs(posted)}
        trust, now = self._stack.trust_list(), datetime.now(UTC)
        right, wrong = 0, []
        for name, printer in self._stack.printers.items():
            for page in printer.pages():
                try:
                    paper = read_paper(name, page, trust=trust, now=now)
                except LabError:  # half a document came out
                    wrong.append(page.job_name)
                    continue
                uvci = uvci_of.get(job_of(page.job_name), "")
                if paper.reads and paper.uvci == uvci and says(paper, self._events[uvci]):
                    right += 1
                else:
                    wrong.append(page.job_name)
        return right, wrong

    def _figures(
        self,
        posted: list[PostedDose],
        left: Account,
        account: Account,
        by_person: Counter[str],
        right: int,
        wrong: list[str],
    ) -> dict[str, Any]:
        stats, plan = self._stack.stats(), self._plan
        issued = {dose.uvci for dose in posted if dose.uvci}
        held = sum(dose.held for dose in posted)
        troubles = [f"before a person looked: {one}" for one in left.troubles()] + account.troubles()
        troubles += [f"wrong paper: attempt {attempt}" for attempt in wrong]
        counted = (stats["doses"], stats["certificates"], stats["held"])
        if counted != (len(posted), len(issued), held):
            troubles.append(f"the books count {counted} doses, certificates and held; {len(posted)} doses were posted")
        if right + len(wrong) != account.papers_true:
            troubles.append(f"{right + len(wrong)} papers were read of {account.papers_true}")
        for trouble in troubles:
            told(trouble)
        return {
            "seed": plan.seed,
            "minutes": round(plan.length_s / 60, 2),
            "plan": plan.digest(),
            "doses": stats["doses"],
            "certificates": stats["certificates"],
            "held": stats["held"],
            "papers_true": account.papers_true,
            "papers_booked": account.papers_booked,
            "booked_but_absent": len(account.booked_but_absent),
            "second_unasked": len(account.second_unasked),
            "denied_but_present": len(account.denied_but_present),
            "unaccounted": len(account.unaccounted),
            "wrong_papers": len(wrong),
            "papers_read": right,
            "before_a_person": {
                "papers_true": left.papers_true,
                "papers_booked": left.papers_booked,
                "booked_but_absent": len(left.booked_but_absent),
                "second_unasked": len(left.second_unasked),
                "denied_but_present": len(left.denied_but_present),
                "unaccounted": len(left.unaccounted),
                "uncertain": left.uncertain,
                "on_lists": dict(left.on_lists),
            },
            "replaced_in_between": self._replaced,
            "by_person": dict(by_person),
            "on_lists": dict(account.on_lists),
            "faults": dict(Counter(fault.kind.value for fault in plan.faults)),
            "fault_latest_s": round(max(self._late_s), 1),
            "sites": {
                site_id: {
                    "doses": sum(dose.site_id == site_id for dose in posted),
                    "papers_true": {name: len(printer.pages()) for name, printer in parts.printers.items()},
                    "line_cuts": self._lines[site_id].cuts,
                }
                for site_id, parts in self._stack.sites.items()
            },
            "took_s": round(time.monotonic() - self._began),
            "troubles": troubles,
        }

    def _sleep_until(self, at_s: float) -> None:
        time.sleep(max(0.0, self._began + at_s - time.monotonic()))


def _break_printer(printer: VirtualPrinter, kind: Kind) -> Callable[[], None]:
    match kind:
        case Kind.PRINTER_KILLED:
            printer.kill()
            return lambda: patiently(printer.start)
        case Kind.PRINTER_SILENT:
            printer.silence()
            return printer.wake
        case Kind.PAPER_OUT:
            printer.behave(sleep_s=PAGE_S, media_empty=True)
        case _:
            printer.behave(sleep_s=PAGE_S, exit_code=1)
    return lambda: printer.behave(sleep_s=PAGE_S)


def _close(lines: list[PoorLine]) -> None:
    for line in lines:
        line.close()


def job_of(attempt: str) -> str:
    """Return the print job of an attempt: `ps-<job>-<fencing token>-<number>`."""
    return attempt.removeprefix("ps-").rsplit("-", 2)[0]


def patiently(start: Callable[[], None]) -> None:
    """Start something that may be slow; a second call waits for what the first one started."""
    deadline = time.monotonic() + LATEST_S
    while True:
        try:
            return start()
        except LabError:
            if time.monotonic() > deadline:
                raise


def told(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
