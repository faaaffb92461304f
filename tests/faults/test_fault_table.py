"""Each fault that CUPS and printers were seen to have, struck on a whole site; then the books against the printers.

Real service, agent, cupsd and ippeveprinter. docs/faults.md says which row is which test. After each: every dose has
its certificate, each certificate a paper or a place on a list with a reason, and the books say what the printers' logs
say: no paper believed that is not there, none denied that is, no second one that nobody asked for, each one read back.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cups
import pytest
from benchmarks.chaos_books import BookedJob, PostedDose, hold_against
from benchmarks.people import dose_events
from lab import LabError, Page
from lab.poorline import PoorLine
from lab.processes import wait_until
from lab.queues import once_uri
from stack import SitePlan, Stack
from stack.papers import read_paper, says

from printsvc.domain.print_job import UNDER_WAY, JobState

pytestmark = [
    pytest.mark.faults,
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="a cupsd of one's own needs root"),
    pytest.mark.skipif(shutil.which("ippeveprinter") is None, reason="needs cups-ipp-utils"),
]

SITE = "HN-HBT-01"
PDF_QUEUE, RASTER_QUEUE = "site1-pdf", "site1-raster"
PATIENCE_S = 180.0
PROCESSING = 5

# A job whose filter waits at the gate is active at CUPS, and no byte of it has gone to the printer.
GATE = """\
while [ -e "$PRINTSVC_ONCE_DIR/gate" ]; do sleep 0.05; done
exec "$REAL" "$@\""""
# A day's patience in seconds.
SCALED = {
    "PRINTSVC_SPOOLER_SILENCE_S": "6",
    "PRINTSVC_SPOOLER_STALL_S": "30",
    "PRINTSVC_SPOOLER_RETURN_S": "4",
    "PRINTSVC_SPOOLER_BACKOFF_MAX_S": "1",
    "PRINTSVC_SPOOLER_POLL_WAIT_S": "3",
    "PRINTSVC_SPOOLER_HEALTH_S": "1",
    "PRINTSVC_SPOOLER_HEARTBEAT_S": "1",
}


class Opened:
    """A site and all that was ever posted to it: a paper that comes too late is found by the next test."""

    def __init__(self, stack: Stack, hooks: Path) -> None:
        self.stack = stack
        self.hooks = hooks
        self.posted: list[PostedDose] = []
        self._event_of: dict[str, dict[str, Any]] = {}
        self._read: set[str] = set()
        self._spoilt: set[str] = set()
        self._events = dose_events(20211030, now=datetime.now(UTC))

    def post(self, count: int) -> list[str]:
        """Post doses that are issued at once; return their certificates."""
        events = []
        for event in itertools.islice((one for one in self._events if _is_plain(one)), count):
            event["site_id"] = SITE
            event["dose"]["injected_at"] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
            events.append(event)
        answers = self.stack.post_doses([json.dumps(event).encode() for event in events])
        assert [answer["status"] for answer in answers] == [201] * count
        for event, answer in zip(events, answers, strict=True):
            self.posted.append(PostedDose(event["dose_id"], SITE, answer["uvci"]))
            self._event_of[answer["uvci"]] = event
        return [answer["uvci"] for answer in answers]

    def started(self, queue: str) -> int:
        return sum(event.event == "started" for event in self.stack.printers[queue].truth())

    def jobs(self, uvcis: list[str] | None = None) -> list[BookedJob]:
        """Return the print jobs of these certificates, of all where none are named: a question to the service each."""
        admin, jobs = self.stack.service.api("admin"), []
        for uvci in [dose.uvci for dose in self.posted] if uvcis is None else uvcis:
            papers = admin.get(f"/v1/certificates/{quote(uvci, safe='')}/papers")["papers"]
            papers.sort(key=lambda paper: paper["copy_number"])
            jobs += [
                BookedJob(p["job_id"], p["uvci"], p["site_id"], JobState(p["state"]), p["state_reason"]) for p in papers
            ]
        return jobs

    def states(self, uvcis: list[str]) -> list[str]:
        """Return the state of each certificate's newest print job."""
        of = {job.uvci: job.state.value for job in self.jobs(uvcis)}
        return [of[uvci] for uvci in uvcis]

    def settled(self) -> None:
        """Return when no paper is under way and no printer is in the middle of a page."""

        def quiet() -> bool:
            papers = self.stack.stats()["papers"]
            at_work = any(_at_work(printer.truth()) for printer in self.stack.printers.values())
            return not at_work and not sum(papers.get(state, 0) for state in UNDER_WAY)

        wait_until(quiet, PATIENCE_S, "all papers settled", poll_s=0.2)

    def spoil(self, job_id: str) -> None:
        """Say, as a person who holds it, that a paper is spoilt: a copy is printed for it."""
        answer = self.stack.service.api("admin").call("POST", f"/v1/print-jobs/{job_id}/settle", {"seen": "spoilt"})
        assert answer.status == 200, answer.json()
        self._spoilt.add(job_id)

    def check(self) -> None:
        """The books against the ground truth, over everything that was ever posted; new papers are read back."""
        stats = self.stack.stats()
        assert (stats["doses"], stats["certificates"]) == (len(self.posted), len(self.posted))
        jobs = self.jobs()
        pages = [(name, page) for name, printer in self.stack.printers.items() for page in printer.pages()]
        sheets = Counter(_job_of(page.job_name) for _, page in pages)
        assert all(sheets[job_id] == 1 for job_id in self._spoilt)
        for job_id in self._spoilt:
            del sheets[job_id]
        account = hold_against(self.posted, jobs, sheets)
        assert account.agrees, account.troubles()
        assert all(job.reason for job in jobs if job.state in (JobState.UNCERTAIN, JobState.FAILED))
        uvci_of = {job.job_id: job.uvci for job in jobs}
        trust, now = self.stack.trust_list(), datetime.now(UTC)
        for name, page in pages:
            if page.path.name not in self._read and _job_of(page.job_name) not in self._spoilt:
                paper = read_paper(name, page, trust=trust, now=now)
                assert paper.reads, (page.job_name, paper.verdict)
                assert paper.uvci == uvci_of[_job_of(page.job_name)]
                assert says(paper, self._event_of[paper.uvci])
                self._read.add(page.path.name)

    def on_lists(self) -> set[str]:
        """Return the certificates whose papers stand on the site's worklist."""
        jobs = self.stack.service.api("admin").get(f"/v1/sites/{SITE}/worklist")["print_jobs"]
        return {job["uvci"] for job in jobs}

    def active(self, queue: str) -> int:
        """Return the id of the job that CUPS is printing on that queue."""
        found: list[int] = []

        def there() -> bool:
            jobs = self.stack.lab.connection().getJobs("not-completed", False, -1, -1, _ASKED).items()
            found[:] = [
                number
                for number, job in jobs
                if job["job-state"] == PROCESSING and job["job-printer-uri"].endswith(f"/{queue}")
            ]
            return bool(found)

        wait_until(there, 60, f"a job at {queue}", poll_s=0.05)
        return found[0]

    def printing(self, queue: str, count: int = 3, **behaviour: Any) -> tuple[int, list[str]]:
        """Post doses, and return CUPS's job and all certificates when that printer has one of them whole, unprinted."""
        self.stack.printers[queue].behave(**(behaviour or {"sleep_s": 2.5}))
        before = self.started(queue)
        uvcis = self.post(count)
        self.stack.printers[queue].wait_for("started", before + 1, 90)
        return self.active(queue), uvcis

    def at_cups(self, uvci: str) -> tuple[int, str]:
        """Return CUPS's job of a certificate, and its queue, as soon as CUPS is at it."""
        found: list[tuple[int, str]] = []

        def there() -> bool:
            own = {job.job_id for job in self.jobs([uvci])}
            jobs = self.stack.lab.connection().getJobs("not-completed", False, -1, -1, _ASKED).items()
            found[:] = [
                (number, job["job-printer-uri"].rpartition("/")[2])
                for number, job in jobs
                if job["job-state"] == PROCESSING and _job_of(job["job-name"]) in own
            ]
            return bool(found)

        wait_until(there, 60, "a job at CUPS", poll_s=0.05)
        return found[0]

    @property
    def gate(self) -> Path:
        return self.stack.lab.cupsd.once_dir / "gate"

    def agent_again(self, **told: Any) -> None:
        """Start the agent anew, with other hooks."""
        agent = self.stack.sites[SITE].agent
        agent.kill()
        self.hooks.write_text(json.dumps(told))
        agent.start()


_ASKED = ["job-id", "job-name", "job-state", "job-printer-uri"]


def _is_plain(event: dict[str, Any]) -> bool:
    return event["identity"]["status"] == "matched"


def _job_of(attempt: str) -> str:
    return attempt.removeprefix("ps-").rsplit("-", 2)[0]


def _reads(page: Page) -> bool:
    """Return whether the sheet is there to its end."""
    try:
        return bool(page.images(72))
    except LabError:
        return False


def _at_work(truth: list[Any]) -> bool:
    """Return whether a page has begun and not ended; one whose printer was killed is known by its next start."""
    return bool(truth) and truth[-1].event in ("started", "media-empty") and not _is_old(truth[-1].at)


def _is_old(at: str) -> bool:
    return datetime.now(UTC) - datetime.fromisoformat(at) > timedelta(seconds=30)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, seed_forms: Callable[[Path], None]) -> Iterator[Opened]:
    root = tmp_path_factory.mktemp("table")
    seed_forms(root / "stack" / "service" / "cache")
    hooks = root / "hooks.json"
    hooks.write_text("{}")
    here = Path(__file__).parent
    environment = {
        **SCALED,
        "FAULTS_HOOKS": str(hooks),
        "PYTHONPATH": f"{here / 'agent_hooks'}:{here.parents[1]}",
    }
    with Stack(
        root / "stack",
        [SitePlan(SITE)],
        agent_environment=environment,
        service_environment={"PRINTSVC_OVERDUE_S": "15"},
        patience_s=PATIENCE_S,
    ) as stack:
        stack.lab.cupsd.stand_in("pdftopdf", GATE)
        yield Opened(stack, hooks)


@pytest.fixture(autouse=True)
def whole(site: Opened) -> Iterator[None]:
    """Each test begins with a site in good order, and its printers known to the agent."""
    for printer in site.stack.printers.values():
        printer.start()
        printer.behave()
    admin = site.stack.service.api("admin")

    def known() -> bool:
        return {printer["queue"] for printer in admin.get("/v1/printers")["printers"]} >= set(site.stack.printers)

    wait_until(known, PATIENCE_S, "the agent's word of its printers", poll_s=0.2)
    yield
    site.gate.unlink(missing_ok=True)
    for printer in site.stack.printers.values():
        printer.start()
        printer.wake()
        printer.behave()


# --- CUPS and printers


def test_a_printer_that_is_killed_with_the_data_and_no_page(site: Opened) -> None:
    """CUPS: completed, one impression. Truth: none."""
    printer = site.stack.printers[PDF_QUEUE]
    cups_job, uvcis = site.printing(PDF_QUEUE, sleep_s=5)
    printer.kill()
    printer.behave()
    printer.start()
    site.stack.lab.wait_for_job(cups_job, 9, timeout_s=60)
    site.settled()
    assert Counter(site.states(uvcis)) == {"printed": 2, "uncertain": 1}
    site.check()


def test_a_printer_that_is_off_and_switched_on_after_its_paper_was_replaced(site: Opened) -> None:
    """CUPS: it waits, and prints as soon as the printer is there: a second paper."""
    site.gate.touch()
    [uvci] = site.post(1)
    cups_job, queue = site.at_cups(uvci)
    printer = site.stack.printers[queue]
    printer.kill()
    site.gate.unlink()
    wait_until(lambda: site.states([uvci]) == ["uncertain"], PATIENCE_S, "nobody knows", poll_s=0.2)
    [job] = site.jobs([uvci])
    admin = site.stack.service.api("admin")
    answer = admin.call("POST", f"/v1/print-jobs/{job.job_id}/settle", {"seen": "not_here"})
    assert answer.json()["replacement"]["copy_number"] == 2
    site.stack.lab.wait_for_job(cups_job, 7, timeout_s=60)
    site.settled()
    printer.start()
    [later] = site.post(1)  # it goes to the printer that has nothing to do
    site.settled()
    assert site.states([uvci, later]) == ["printed", "printed"]
    sheets = Counter(_job_of(page.job_name) for one in site.stack.printers.values() for page in one.pages())
    assert sheets[job.job_id] == 0, "the old paper did not come"
    site.check()


@pytest.mark.parametrize("dirty_clean_s", [30, 0], ids=["as CUPS is", "as it should be"])
def test_cupsd_is_killed(site: Opened, dirty_clean_s: int) -> None:
    """As CUPS is by itself it loses every job and uses their ids again; with DirtyCleanInterval 0 it prints twice."""
    cupsd = site.stack.lab.cupsd
    cupsd.dirty_clean_s = dirty_clean_s
    cupsd.restart()
    try:
        cups_job, uvcis = site.printing(RASTER_QUEUE, count=6)
        cupsd.kill()
        cupsd.start()
        if dirty_clean_s:
            with pytest.raises(cups.IPPError):
                site.stack.lab.job(cups_job)
        site.settled()
    finally:
        cupsd.dirty_clean_s = 0
        cupsd.restart()
    # One at each printer may need a person.
    assert site.states(uvcis).count("printed") >= len(uvcis) - 2
    site.check()


@pytest.mark.parametrize("touched", [False, True], ids=["left alone", "held and released"])
def test_cupsd_is_restarted_while_it_prints(site: Opened, touched: bool) -> None:
    """CUPS: pending, in neither list, and later jobs overtake it; hold and release prints it again."""
    cups_job, uvcis = site.printing(PDF_QUEUE, count=4)
    site.stack.lab.cupsd.restart()
    if touched:
        connection = site.stack.lab.connection()
        connection.setJobHoldUntil(cups_job, "indefinite")
        connection.setJobHoldUntil(cups_job, "no-hold")
    site.settled()
    assert site.states(uvcis).count("printed") >= len(uvcis) - 2
    site.check()


def disable_and_enable(site: Opened, cups_job: int, queue: str) -> None:
    connection = site.stack.lab.connection()
    connection.disablePrinter(queue)
    site.stack.lab.wait_for_job(cups_job, 3, 7, 9)
    connection.enablePrinter(queue)


def move(site: Opened, cups_job: int, queue: str) -> None:
    other = RASTER_QUEUE if queue == PDF_QUEUE else PDF_QUEUE
    site.stack.lab.connection().moveJob(job_id=cups_job, job_printer_uri=f"ipp://localhost/printers/{other}")


def hold_and_release(site: Opened, cups_job: int, queue: str) -> None:
    connection = site.stack.lab.connection()
    connection.setJobHoldUntil(cups_job, "indefinite")
    connection.setJobHoldUntil(cups_job, "no-hold")


def cancel(site: Opened, cups_job: int, queue: str) -> None:
    site.stack.lab.connection().cancelJob(cups_job)


ACTIONS = [disable_and_enable, move, hold_and_release, cancel]
Action = Callable[[Opened, int, str], None]


@pytest.mark.parametrize("queue", [PDF_QUEUE, RASTER_QUEUE])
@pytest.mark.parametrize("action", ACTIONS)
def test_somebody_tidies_up_while_it_prints(site: Opened, action: Action, queue: str) -> None:
    """CUPS by itself: two pages after disable and enable, one on each printer after a move; cancelled ones come out."""
    cups_job, uvcis = site.printing(queue)
    action(site, cups_job, queue)
    site.settled()
    assert site.states(uvcis).count("printed") >= len(uvcis) - 1
    site.check()


def test_cancelled_while_it_waits_for_paper(site: Opened) -> None:
    printer = site.stack.printers[PDF_QUEUE]
    cups_job, uvcis = site.printing(PDF_QUEUE, media_empty=True)
    cancel(site, cups_job, PDF_QUEUE)
    site.stack.lab.wait_for_job(cups_job, 7, timeout_s=60)
    printer.refill()
    site.settled()
    assert site.states(uvcis).count("printed") >= len(uvcis) - 1
    site.check()


def test_out_of_paper_until_somebody_loads_it(site: Opened) -> None:
    _, uvcis = site.printing(PDF_QUEUE, media_empty=True)
    wait_until(lambda: bool(set(uvcis) & site.on_lists()), PATIENCE_S, "a late paper on the list", poll_s=0.2)
    assert "printed" not in {site.states([uvci])[0] for uvci in set(uvcis) & site.on_lists()}
    site.stack.printers[PDF_QUEUE].refill()
    site.settled()
    assert site.states(uvcis) == ["printed"] * len(uvcis)
    site.check()


def test_a_printer_that_gives_its_jobs_up(site: Opened) -> None:
    """CUPS: cancelled, whatever its policy. The papers come from the other printer, or wait for it while it is busy."""
    _, uvcis = site.printing(PDF_QUEUE, exit_code=1, sleep_s=0.5)
    site.settled()
    assert site.states(uvcis) == ["printed"] * len(uvcis)
    site.check()


def test_a_filter_that_never_gives_a_whole_page(site: Opened) -> None:
    """Nothing is sent, the backend says so, and the papers come from the other printer."""
    cupsd = site.stack.lab.cupsd
    cupsd.stand_in("gstoraster", '"$REAL" "$@" | head -c 3000')
    try:
        before = site.started(RASTER_QUEUE)
        uvcis = site.post(3)
        site.settled()
    finally:
        cupsd.stand_in("gstoraster", 'exec "$REAL" "$@"')
    assert site.states(uvcis) == ["printed"] * len(uvcis)
    assert site.started(RASTER_QUEUE) == before
    site.check()


def test_the_link_to_the_printer_is_cut_in_the_middle_of_a_document(site: Opened) -> None:
    """CUPS and the printer both say completed, of half a sheet: only who holds it can know, and says so.

    Nothing is printed again by itself; "spoilt" makes a numbered copy, which is whole.
    """
    printer, connection = site.stack.printers[RASTER_QUEUE], site.stack.lab.connection()
    plain = site.stack.lab.queues[RASTER_QUEUE].device_uri
    with PoorLine(printer.port, bits_per_s=500_000) as line:
        connection.setPrinterDevice(RASTER_QUEUE, once_uri(f"ipp://localhost:{line.port}/ipp/print"))
        wait_until(lambda: line.connections > 0, 60, "the agent asks the printer over the line")
        before = line.bytes_up
        uvcis = site.post(2)
        wait_until(lambda: line.bytes_up - before > 50_000, 60, "the middle of a document")
        line.down()
        time.sleep(1)
        line.down(False)
        site.settled()
        connection.setPrinterDevice(RASTER_QUEUE, plain)
    half = [page for page in printer.pages() if not _reads(page)]
    assert len(half) == 1
    site.spoil(_job_of(half[0].job_name))
    site.settled()
    assert site.states(uvcis) == ["printed"] * len(uvcis)
    site.check()


@pytest.mark.parametrize("action", ACTIONS)
def test_somebody_tidies_up_before_a_byte_is_sent(site: Opened, action: Action) -> None:
    """The filter is at work: whatever is done then, the next start is a first one."""
    site.gate.touch()
    uvcis = site.post(1)
    action(site, *site.at_cups(uvcis[0]))
    site.gate.unlink()
    site.settled()
    # A moved job prints on a printer that the agent did not choose and does not ask: a person looks. One that was
    # cancelled unsent is tried again.
    assert site.states(uvcis) == ["uncertain" if action is move else "printed"]
    site.check()


@pytest.mark.parametrize("action", ACTIONS)
def test_somebody_tidies_up_while_the_printer_is_off(site: Opened, action: Action) -> None:
    """CUPS counts impressions with the printer off: they are its filter's, and nobody's paper."""
    site.gate.touch()
    uvcis = site.post(1)
    cups_job, queue = site.at_cups(uvcis[0])
    site.stack.printers[queue].kill()
    site.gate.unlink()
    own = {job.job_id for job in site.jobs(uvcis)}
    markers = site.stack.lab.cupsd.once_dir
    wait_until(lambda: any(_job_of(marker.name) in own for marker in markers.iterdir()), 60, "the backend's start")
    assert site.states(uvcis) != ["printed"]
    action(site, cups_job, queue)
    site.stack.printers[queue].start()
    site.settled()
    site.check()


# --- the rest of a site's day


def test_both_printers_are_out_for_a_day(site: Opened) -> None:
    """Time scaled: what is late stands on the list; when the printers are back each paper comes once."""
    for printer in site.stack.printers.values():
        printer.kill()
    uvcis = site.post(4)
    wait_until(lambda: set(uvcis) <= site.on_lists(), PATIENCE_S, "the late papers on the list", poll_s=0.2)
    assert set(site.states(uvcis)) <= {"waiting", "leased"}
    for printer in site.stack.printers.values():
        printer.start()
    site.settled()
    assert site.states(uvcis) == ["printed"] * len(uvcis)
    site.check()


@pytest.mark.parametrize("shift_s", [86_400, -86_400], ids=["a day ahead", "a day behind"])
def test_the_clock_of_the_site_is_off_by_a_day(site: Opened, shift_s: int) -> None:
    site.agent_again(shift_s=shift_s)
    try:
        uvcis = site.post(4)
        site.settled()
        assert site.states(uvcis) == ["printed"] * len(uvcis)
        (agent,) = site.stack.service.api("admin").get(f"/v1/sites/{SITE}/now")["agents"]
        assert abs(agent["skew_ms"] / 1000 - shift_s) < 60
        site.check()
    finally:
        site.agent_again()


STEPS = [
    "commit-leased:after",
    "commit-ready:before",
    "commit-intended:before",
    "commit-intended:after",
    "createJob:before",
    "createJob:after",
    "startDocument:after",
    "writeRequestData:after",
    "finishDocument:after",
    "getJobAttributes:after",
    "commit-held:before",
    "commit-held:after",
    "commit-released:before",
    "commit-released:after",
    "setJobHoldUntil:before",
    "setJobHoldUntil:after",
    "commit-printed:before",
    "commit-printed:after",
]


@pytest.mark.parametrize("step", STEPS)
def test_the_agent_is_killed_at_every_step_of_a_submit(site: Opened, step: str) -> None:
    site.hooks.write_text(json.dumps({"dies_at": step}))
    agent = site.stack.sites[SITE].agent
    uvcis = site.post(2)
    wait_until(lambda: not agent.running, 60, f"the agent's death at {step}")
    assert json.loads(site.hooks.read_text())["died_at"] == step
    agent.start()
    site.settled()
    assert site.states(uvcis) == ["printed"] * len(uvcis)
    site.check()
