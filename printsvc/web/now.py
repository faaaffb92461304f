"""What is the matter now: a site's worklist, all that its screen needs in one answer, a province's list."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from sqlalchemy import Connection

from printsvc.domain.eventdocument import identity_to_document
from printsvc.domain.print_job import NEEDS_A_PERSON, UNDER_WAY, JobState
from printsvc.errors import NotFoundError
from printsvc.flows.daybags import entry_document
from printsvc.flows.papers import day_of
from printsvc.flows.services import Services
from printsvc.flows.witness import witness_document
from printsvc.printing.clock import Step
from printsvc.printing.overdue import SILENT_AFTER, why_overdue
from printsvc.store import counts
from printsvc.store import daybags as bag_store
from printsvc.store import doses as dose_store
from printsvc.store import papers as paper_store
from printsvc.store import sites as site_store
from printsvc.store.papers import SitePaper
from printsvc.store.sites import Agent, Caller
from printsvc.web.access import ADMIN, PLATFORM, PROVINCE, require, require_site
from printsvc.web.bodies import dump_json
from printsvc.web.certificates import job_document
from printsvc.web.doses import dose_document
from printsvc.web.keys import SERVICES

SHOWN_FOR = timedelta(hours=1)
"""A paper that is out stays on the site's screen for so long after it was wanted."""
VOLATILE = frozenset({"now", "minutes_left", "age_s", "oldest_s", "seen_at", "agent_seen_at", "reported_at", "skew_ms"})
"""What grows by itself: a screen counts on from the moments that stand beside it, and needs no new answer for it."""

_SCREEN = {
    JobState.WAITING: "waiting",
    JobState.LEASED: "waiting",
    JobState.SENT: "printing",
    JobState.PRINTED: "printed",
    JobState.CONFIRMED: "confirmed",
    JobState.UNCERTAIN: "uncertain",
    JobState.FAILED: "failed",
}
_SETTLE = (
    ("here", "It is here", "Có giấy ở đây"),
    ("not_here", "It is not here: print another", "Không có giấy: in bản khác"),
    ("spoilt", "It is spoilt: print another", "Giấy hỏng: in bản khác"),
)
_RETRY = ("retry", "Print again", "In lại")


async def get_worklist(request: web.Request) -> web.Response:
    """List what at a site needs a person: doses that are held, papers that are uncertain, failed or overdue."""
    site_id = request.match_info["site_id"]
    await require_site(request, site_id, ADMIN, PLATFORM)
    services = request.app[SERVICES]
    now = services.clock()

    def read(connection: Connection) -> dict[str, Any]:
        site_store.get_site(connection, site_id)
        agents = site_store.list_agents(connection, site_id)
        papers = paper_store.open_papers(connection, site_id=site_id)
        return {"site_id": site_id} | _worklist(connection, services, site_id, papers, agents, now)

    return web.json_response(await services.store.read(read))


async def get_site_now(request: web.Request) -> web.Response:
    """Give all that a site's screen needs in one answer; with its ETag in If-None-Match 304 where nothing happened."""
    site_id = request.match_info["site_id"]
    await require_site(request, site_id, ADMIN, PLATFORM)
    services = request.app[SERVICES]
    now = services.clock()

    def read(connection: Connection) -> dict[str, Any]:
        site = site_store.get_site(connection, site_id)
        agents = site_store.list_agents(connection, site_id)
        papers = paper_store.open_papers(connection, site_id=site_id)
        shown = papers + paper_store.papers_out_since(connection, site_id, now - SHOWN_FOR)
        doses = [_dose(services, paper, now) for paper in shown]
        worklist = _worklist(connection, services, site_id, papers, agents, now)
        return {
            "site_id": site_id,
            "name": site.name,
            "province": site.province,
            "now": now.isoformat(),
            "clock_s": services.overdue_s,
            "doses": doses,
            "counts": dict(Counter(dose["state"] for dose in doses))
            | {"overdue": sum(dose["overdue"] for dose in doses), "held": len(worklist["held"])},
            "worklist": worklist,
            "printers": [_printer(one) for one in site_store.list_printers(connection, site_id)],
            "agents": [_agent(agent, now) for agent in agents],
            "today": _today(connection, site_id, now),
        }

    return _answer(request, await services.store.read(read))


async def get_province_now(request: web.Request) -> web.Response:
    """List the papers of a province that are late, and how its sites are; with an ETag, as the site's."""
    caller = await require(request, ADMIN, PLATFORM, PROVINCE)
    province = request.match_info["code"]
    services = request.app[SERVICES]
    now = services.clock()

    def read(connection: Connection) -> dict[str, Any]:
        sites = paper_store.sites_of_province(connection, province)
        if not sites or (caller.role == PROVINCE and caller.province != province):
            raise _no_such_province()
        heard: dict[str, dict[str, datetime | None]] = {site.site_id: {} for site in sites}
        for agent in site_store.list_agents(connection):
            if agent.site_id in heard:
                heard[agent.site_id][agent.agent_id] = agent.seen_at
        papers = paper_store.open_papers(connection, province=province, limit=1000)
        late = [paper for paper in papers if _step(services, paper, now) >= Step.PROVINCE]
        by_site = Counter(paper.job.site_id for paper in late)
        states = paper_store.open_by_site(connection, province)
        return {
            "province": province,
            "now": now.isoformat(),
            "overdue": [
                _dose(services, paper, now, named=False)
                | _why(paper, heard[paper.job.site_id], now)
                | {"site_id": paper.job.site_id}
                for paper in late
            ],
            "sites": [
                {
                    "site_id": site.site_id,
                    "name": site.name,
                    "open": sum(states.get(site.site_id, {}).values()),
                    "uncertain": states.get(site.site_id, {}).get(JobState.UNCERTAIN, 0),
                    "failed": states.get(site.site_id, {}).get(JobState.FAILED, 0),
                    "overdue": by_site[site.site_id],
                    "agent": _best(heard[site.site_id], now),
                }
                for site in sites
            ],
        }

    return _answer(request, await services.store.read(read))


def _no_such_province() -> NotFoundError:
    return NotFoundError("There is no site in this province.", vi="Không có điểm tiêm nào ở tỉnh này.")


async def post_province_token(request: web.Request) -> web.Response:
    """Make a token for those who look after a province's sites; it is told this once. It reads the province's list."""
    await require(request, ADMIN)
    services = request.app[SERVICES]
    province = request.match_info["code"]
    token = f"ps_{services.random_bytes(32).hex()}"

    def write(connection: Connection) -> None:
        if not paper_store.sites_of_province(connection, province):
            raise _no_such_province()
        caller = Caller(f"province:{province}", PROVINCE, province=province)
        site_store.insert_token(connection, token, caller, now=services.clock())

    await services.store.write(write)
    return web.json_response({"token": token}, status=201)


# --- parts of the answers


def _started_at(paper: SitePaper) -> datetime:
    return paper.job.clock_from or paper.job.created_at


def _step(services: Services, paper: SitePaper, now: datetime) -> Step:
    return services.paper_clock.step_at(_started_at(paper), now)


def _clock(services: Services, paper: SitePaper, now: datetime) -> dict[str, Any]:
    """What is told of a paper's clock; once the paper is out it stands still."""
    clock, started_at = services.paper_clock, _started_at(paper)
    is_open = paper.job.state in UNDER_WAY | NEEDS_A_PERSON
    step = clock.step_at(started_at, now)
    return {
        "due_at": clock.due_at(started_at).isoformat(),
        "minutes_left": clock.minutes_left(started_at, now) if is_open else None,
        "step": step.name.lower() if is_open else None,
        "overdue": is_open and step >= Step.PROVINCE,
    }


def _dose(services: Services, paper: SitePaper, now: datetime, *, named: bool = True) -> dict[str, Any]:
    job = paper.job
    seen = paper.seen_in_app_at
    late = services.paper_clock.due_at(_started_at(paper)) <= now
    told: dict[str, Any] = {"full_name": paper.full_name} if named else {}
    return (
        {
            "dose_id": paper.dose_id,
            "uvci": job.uvci,
            "job_id": job.job_id,
            "copy_number": job.copy_number,
            "reason": job.reason,
            "state": _SCREEN[job.state],
            "queue": job.queue,
            "injected_at": paper.injected_at.isoformat(),
            "witnessed": witness_document(job),
            "app": "seen" if seen is not None else "late" if late else "waiting",
            "seen_in_app_at": seen.isoformat() if seen is not None else None,
        }
        | told
        | _clock(services, paper, now)
    )


def _worklist(
    connection: Connection,
    services: Services,
    site_id: str,
    papers: list[SitePaper],
    agents: list[Agent],
    now: datetime,
) -> dict[str, Any]:
    seen_at = {agent.agent_id: agent.seen_at for agent in agents}
    count, oldest = paper_store.uncertain_since(connection, site_id)
    wanted = [
        paper
        for paper in papers
        if paper.job.state in NEEDS_A_PERSON or _step(services, paper, now) >= Step.SITE
    ]  # fmt: skip
    return {
        "held": [
            dose_document(dose)
            | {
                "identity": identity_to_document(dose.identity),
                "full_name": dose.event.person.full_name,
                "received_at": dose.received_at.isoformat(),
            }
            for dose in dose_store.held_doses(connection, site_id)
        ],
        "print_jobs": [
            job_document(paper.job)
            | {"dose_id": paper.dose_id}
            | _why(paper, seen_at, now)
            | _clock(services, paper, now)
            | {"actions": _actions(paper)}
            for paper in wanted
        ],
        "uncertain": uncertain_document(count, oldest, now),
        "day_bags": [entry_document(entry) for entry in bag_store.open_conflicts(connection, site_id)],
    }


def uncertain_document(count: int, oldest: datetime | None, now: datetime) -> dict[str, Any]:
    """Return how many papers are uncertain, and how long the oldest of them is."""
    return {
        "count": count,
        "oldest_since": oldest.isoformat() if oldest is not None else None,
        "oldest_s": round((now - oldest).total_seconds()) if oldest is not None else None,
    }


def _why(paper: SitePaper, seen_at: Mapping[str, datetime | None], now: datetime) -> dict[str, Any]:
    """Why a paper stands on a list, since when, and whose turn it is."""
    job = paper.job
    if job.state in NEEDS_A_PERSON:
        why, last, since = str(job.state), None, job.changed_at
    else:
        why, last = why_overdue(job.holder_agent, seen_at, now=now)
        since = _started_at(paper)
    return {
        "why": why,
        "agent_seen_at": last.isoformat() if last else None,
        "since": since.isoformat(),
        "age_s": round((now - since).total_seconds()),
    }


def _actions(paper: SitePaper) -> list[dict[str, Any]]:
    """The buttons of a screen: each is a POST to the job's path with this body."""
    job = f"/v1/print-jobs/{paper.job.job_id}"
    if paper.job.state is JobState.UNCERTAIN:
        return [{"post": f"{job}/settle", "body": {"seen": seen}, "en": en, "vi": vi} for seen, en, vi in _SETTLE]
    if paper.job.state is JobState.FAILED:
        path, en, vi = _RETRY
        return [{"post": f"{job}/{path}", "body": None, "en": en, "vi": vi}]
    return []


def _printer(one: site_store.SitePrinter) -> dict[str, Any]:
    return {
        "queue": one.printer.queue,
        "make_and_model": one.printer.make_and_model,
        "state": one.printer.state.name.lower(),
        "state_reasons": one.printer.state_reasons,
        "accepting": one.printer.accepting,
        "marker_levels": one.marker_levels,
        "problems": one.problems,
        "reported_at": one.reported_at.isoformat(),
    }


def _heard(seen_at: datetime | None, now: datetime) -> str:
    if seen_at is None:
        return "never"
    return "silent" if now - seen_at > SILENT_AFTER else "alive"


def _best(seen_at: Mapping[str, datetime | None], now: datetime) -> str:
    states = {_heard(at, now) for at in seen_at.values()}
    return next((state for state in ("alive", "silent", "never") if state in states), "none")


def _agent(agent: Agent, now: datetime) -> dict[str, Any]:
    return {
        "agent_id": agent.agent_id,
        "state": _heard(agent.seen_at, now),
        "seen_at": agent.seen_at.isoformat() if agent.seen_at else None,
        "version": agent.version,
        "skew_ms": agent.clock_skew_ms,
    }


def _today(connection: Connection, site_id: str, now: datetime) -> dict[str, Any]:
    since = day_of(now)
    scans = paper_store.count_scans(connection, site_id, since=since)
    return (
        {"since": since.isoformat()}
        | paper_store.count_day(connection, site_id, since=since)
        | {"held": counts.count_held(connection, site_id), "scans": scans}
    )


# --- ETag


def etag_of(document: dict[str, Any]) -> str:
    """Return a tag that stays the same while nothing happens but that time goes by."""
    kept = json.dumps(_kept(document), ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(kept.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _kept(inner) for name, inner in value.items() if name not in VOLATILE}
    if isinstance(value, list | tuple):
        return [_kept(inner) for inner in value]
    return value


def _answer(request: web.Request, document: dict[str, Any]) -> web.Response:
    tag = etag_of(document)
    headers = {"ETag": f'W/"{tag}"', "Cache-Control": "private, no-cache"}
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    answer = web.Response(body=dump_json(document), content_type="application/json", headers=headers)
    answer.enable_compression()
    return answer
