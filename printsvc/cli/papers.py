"""papers, sites now: scanning a paper back, further copies, and what is the matter at a site or in a province."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from printsvc.cli.admin import sites
from printsvc.cli.remote import Body, Remote, with_remote
from printsvc.cli.tables import show_table as _table

_MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".pdf": "application/pdf"}


@click.group()
def papers() -> None:
    """Papers: scanned back, listed, printed again."""


@papers.command("scan")
@click.argument("scanned")
@click.option("--job", "job_id", help="The print job that was expected.")
@click.option("--uvci", help="Or the certificate that was expected.")
@click.option("--copy", "copy_number", type=click.IntRange(1), help="The number after “Bản in số / Copy No.”.")
@click.option("--site", "site_id", help="The site that scans; of other sites' papers nothing is told.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_remote
def scan(remote: Remote, scanned: str, as_json: bool, **known: Any) -> None:
    """Say what a paper is: SCANNED is the text of its code, or a picture (PNG, JPEG) or PDF of it.

    Exits with 0 for the right paper, with 2 for any other.
    """
    given = {name: value for name, value in known.items() if value is not None}
    media = _MEDIA.get(Path(scanned[-255:]).suffix.lower())
    if media is not None and not scanned.upper().startswith("HC1:"):
        data = Body(Path(scanned).read_bytes(), media)
        answer = remote.call("POST", f"/v1/papers/scan?{urlencode(given)}", data=data)
    else:
        answer = remote.call("POST", "/v1/papers/scan", {"code": scanned} | given)
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
    else:
        click.echo(f"{answer['verdict']}: {answer['detail']}")
        click.echo(answer["detail_vi"])
        if answer["paper"]:
            paper = answer["paper"]
            click.echo(f"{paper['job_id']}  copy {paper['copy_number']}  {paper['state']}  {paper['paper']['state']}")
    if not answer["hand_over"]:
        click.get_current_context().exit(2)


@papers.command("list")
@click.argument("uvci")
@with_remote
def list_papers(remote: Remote, uvci: str) -> None:
    """List the papers of a certificate: which counts, which are replaced or void."""
    found = remote.call("GET", _papers_of(uvci))["papers"]
    rows = [
        [
            one["copy_number"],
            one["paper"]["state"],
            one["paper"]["reason"],
            one["state"],
            _witness(one["witnessed"]),
            one["asked_by"],
            one["job_id"],
        ]
        for one in found
    ]
    columns = ["copy", "paper", "because", "job", "printer said", "asked by", "id"]
    _table("Papers", columns, rows, "This certificate has no paper.")


@papers.command("copy")
@click.argument("uvci")
@click.argument("reason", type=click.Choice(["spoilt", "lost", "corrected", "renewed"]))
@click.option("--request-id", help="The same one again finds the paper that it made, and makes no other.")
@with_remote
def copy(remote: Remote, uvci: str, reason: str, request_id: str | None) -> None:
    """Print a further copy; it replaces every earlier paper."""
    body = {"reason": reason} | ({"request_id": request_id} if request_id else {})
    job = remote.call("POST", _papers_of(uvci), body)
    click.echo(f"copy {job['copy_number']}: {job['job_id']}")


@papers.command("in-app")
@click.argument("dose_id")
@with_remote
def in_app(remote: Remote, dose_id: str) -> None:
    """Say that a dose was seen in the person's app."""
    answer = remote.call("POST", f"/v1/doses/{quote(dose_id, safe='')}/seen-in-app", {})
    click.echo(f"{answer['dose_id']}: seen in the app since {answer['seen_in_app_at']}")


@sites.command("now")
@click.argument("name")
@click.option("--province", is_flag=True, help="NAME is a province's code: the papers that are late, and its sites.")
@click.option("--json", "as_json", is_flag=True, help="As JSON: the whole answer.")
@with_remote
def now(remote: Remote, name: str, province: bool, as_json: bool) -> None:
    """Show what is the matter at a site now: its papers with the minutes left, its worklist, its printers."""
    kind = "provinces" if province else "sites"
    answer = remote.call("GET", f"/v1/{kind}/{quote(name, safe='')}/now")
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
    elif province:
        _show_province(answer)
    else:
        _show_site(answer)


def _show_site(answer: Any) -> None:
    counts = ", ".join(f"{name} {number}" for name, number in sorted(answer["counts"].items()) if number)
    click.echo(f"{answer['site_id']} {answer['name']}: {counts or 'nothing waits'}")
    rows = [
        [
            dose["dose_id"],
            dose["state"],
            dose["copy_number"],
            _left(dose),
            dose["queue"],
            _witness(dose["witnessed"]),
            dose["app"],
        ]
        for dose in answer["doses"]
    ]
    _table("Papers", ["dose", "state", "copy", "minutes left", "queue", "printer said", "app"], rows, "No papers.")
    jobs = answer["worklist"]["print_jobs"]
    rows = [[job["why"], job["job_id"], job["age_s"] // 60, job["state_reason"]] for job in jobs]
    rows += [["held", dose["dose_id"], "", ""] for dose in answer["worklist"]["held"]]
    _table("Worklist", ["why", "id", "minutes", "reason"], rows, "Nothing waits for a person.")
    rows = [[one["queue"], one["state"], ", ".join(one["state_reasons"])] for one in answer["printers"]]
    _table("Printers", ["queue", "state", "reasons"], rows, "No agent told of a printer yet.")
    click.echo("Agents: " + (", ".join(f"{one['agent_id']} {one['state']}" for one in answer["agents"]) or "none"))


def _show_province(answer: Any) -> None:
    rows = [
        [one["site_id"], one["dose_id"], one["why"], -one["minutes_left"], one["job_id"]] for one in answer["overdue"]
    ]
    _table("Late papers", ["site", "dose", "why", "minutes late", "job"], rows, "No paper is late.")
    rows = [[one["site_id"], one["open"], one["uncertain"], one["overdue"], one["agent"]] for one in answer["sites"]]
    _table("Sites", ["site", "open", "uncertain", "late", "agent"], rows, "")


def _left(dose: Any) -> str:
    return "" if dose["minutes_left"] is None else str(dose["minutes_left"])


def _witness(witnessed: Any) -> str:
    """What the printer said, or that only CUPS did."""
    pages = "" if witnessed["impressions"] is None else f" {witnessed['impressions']}"
    by = " (CUPS alone)" if witnessed["by"] == "cups" else ""
    return f"{witnessed['said']}{pages}{by}"


def _papers_of(uvci: str) -> str:
    return f"/v1/certificates/{quote(uvci, safe='')}/papers"


COMMANDS = (papers,)
