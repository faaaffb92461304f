"""sites, stats, jobs: looking at a running service, and changing it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import click

from printsvc.cli.remote import Remote, with_remote
from printsvc.cli.tables import query as _query
from printsvc.cli.tables import show_table as _table
from printsvc.errors import NotFoundError

NO_SITES = "There are no sites yet; make one: printsvc sites add SITE_ID --name NAME"


@click.group()
def sites() -> None:
    """Injection sites."""


@sites.command("list")
@with_remote
def list_sites(remote: Remote) -> None:
    """List the sites."""
    found = remote.call("GET", "/v1/sites")["sites"]
    rows = [[site["site_id"], site["name"], site["authority"], site["province"]] for site in found]
    _table(
        "Sites",
        ["site", "name", "authority", "province"],
        rows,
        "There are no sites yet; make one: printsvc sites add SITE_ID --name NAME",
    )


@sites.command("add")
@click.argument("site_id")
@click.option("--name", required=True, help="Name that stands on the paper.")
@click.option("--authority", default="SỞ Y TẾ", show_default=True, help="Issuing unit on the paper.")
@click.option("--province", default="", help="Province code.")
@with_remote
def add_site(remote: Remote, site_id: str, name: str, authority: str, province: str) -> None:
    """Make a site."""
    body = {"site_id": site_id, "name": name, "authority": authority, "province": province}
    site = remote.call("POST", "/v1/sites", body)
    click.echo(f"Site {site['site_id']}: {site['name']}")


@sites.command("change")
@click.argument("site_id")
@click.option("--name", help="Name that stands on the paper.")
@click.option("--authority", help="Issuing unit on the paper.")
@click.option("--province", help="Province code.")
@with_remote
def change_site(remote: Remote, site_id: str, **given: str | None) -> None:
    """Change what is given of a site; papers drawn from now on have it."""
    known = next((site for site in remote.call("GET", "/v1/sites")["sites"] if site["site_id"] == site_id), None)
    if known is None:
        raise NotFoundError("There is no such site.", vi="Không có điểm tiêm này.")
    chosen = {name: value for name, value in given.items() if value is not None}
    body = {name: known[name] for name in given} | chosen
    site = remote.call("PUT", f"/v1/sites/{quote(site_id, safe='')}", body)
    click.echo(f"Site {site['site_id']}: {site['name']}, {site['authority']} {site['province']}".rstrip())


@sites.command("enrol")
@click.argument("site_id")
@with_remote
def enrol(remote: Remote, site_id: str) -> None:
    """Make a one-time code with which an agent joins the site."""
    answer = remote.call("POST", f"/v1/sites/{quote(site_id, safe='')}/enrolment-codes")
    click.echo(answer["code"])
    click.echo(f"Works once, until {answer['expires_at']}: give it to the site's printsvc-spooler.", err=True)


@sites.command("worklist")
@click.argument("site_id")
@with_remote
def worklist(remote: Remote, site_id: str) -> None:
    """List what at a site needs a person."""
    answer = remote.call("GET", f"/v1/sites/{quote(site_id, safe='')}/worklist")
    rows = [
        ["held", dose["dose_id"], "; ".join(f"{r['vi']} / {r['en']}" for r in dose["reasons"])]
        for dose in answer["held"]
    ]
    rows += [[job["state"], job["job_id"], _why(job)] for job in answer["print_jobs"]]
    _table(f"Worklist of {site_id}", ["what", "id", "why"], rows, "Nothing waits for a person.")


def _why(job: Any) -> str:
    told = f"{job['queue']} {job['state_reason']}".strip()
    if job["why"] == job["state"]:
        return told
    since = f" since {job['agent_seen_at']}" if job["agent_seen_at"] else ""
    return f"{job['why']}{since}, wanted since {job['created_at']} {told}".strip()


def _reasons(dose: Any) -> str:
    return "; ".join(f"{reason['vi']} / {reason['en']}" for reason in dose["reasons"])


@sites.command("lines")
@click.option("--site", "site_id", help="One site only.")
@with_remote
def list_lines(remote: Remote, site_id: str | None) -> None:
    """List what went over the sites' lines, and the bytes that a certificate took."""
    found = remote.call("GET", "/v1/lines" + _query(site_id=site_id))["lines"]
    names = ["certificates", "stamped", "fetched", "mismatched", "bytes_up", "bytes_down", "bytes_a_certificate"]
    rows = [[line["site_id"], *("–" if line[name] is None else line[name] for name in names)] for line in found]
    titles = ["site", "certificates", "stamped", "fetched", "mismatched", "bytes up", "bytes down", "a certificate"]
    _table("Lines", titles, rows, "No agent told of its line yet.")


@click.group()
def jobs() -> None:
    """Print jobs: one for each paper wanted."""


@jobs.command("list")
@click.option("--site", "site_id", help="One site only.")
@click.option("--state", default="", help="States, with commas: uncertain,failed")
@with_remote
def list_jobs(remote: Remote, site_id: str | None, state: str) -> None:
    """List print jobs, oldest change first."""
    found = remote.call("GET", "/v1/print-jobs" + _query(site_id=site_id, state=state))["print_jobs"]
    rows = [[j["job_id"], j["site_id"], j["copy_number"], j["state"], j["queue"], j["state_reason"]] for j in found]
    _table("Print jobs", ["job", "site", "copy", "state", "queue", "reason"], rows, "There are none.")


@jobs.command("show")
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_remote
def show_job(remote: Remote, job_id: str, as_json: bool) -> None:
    """Show a print job, what happened to it, and why it went to its queues or waits."""
    job = remote.call("GET", f"/v1/print-jobs/{quote(job_id, safe='')}")
    if as_json:
        click.echo(json.dumps(job, ensure_ascii=False))
        return
    kept = ", kept back" if job["kept"] else ""
    asked = f", asked for {job['asked']}" if job["asked"] else ""
    click.echo(f"{job['job_id']}: {job['state']} {job['state_reason']}".rstrip())
    click.echo(
        f"copy {job['copy_number']} ({job['reason']}), site {job['site_id']}, priority {job['priority']}", nl=False
    )
    click.echo(asked + kept)
    rows = [[e["at"], e["event"], e["after"], e["queue"], e["actor"], e["reason"]] for e in job["events"]]
    _table("What happened", ["at", "event", "then", "queue", "by", "reason"], rows, "Nothing happened to it yet.")
    rows = [[r["at"], r["queue"] or "–", r["why"]] for r in job["routes"]]
    _table("Why it went where it went", ["at", "queue", "why"], rows, "No agent has chosen a queue for it yet.")
    if job["routes"]:
        click.echo(job["routes"][-1]["why_vi"])


@jobs.command("settle")
@click.argument("job_id")
@click.argument("seen", type=click.Choice(["here", "not_here", "spoilt"]))
@with_remote
def settle(remote: Remote, job_id: str, seen: str) -> None:
    """Say what became of a paper; not_here and spoilt print the next copy."""
    answer = remote.call("POST", f"/v1/print-jobs/{quote(job_id, safe='')}/settle", {"seen": seen})
    click.echo(f"{answer['print_job']['job_id']}: {answer['print_job']['state']}")
    if answer["replacement"]:
        click.echo(f"copy {answer['replacement']['copy_number']}: {answer['replacement']['job_id']}")


@jobs.command("retry")
@click.argument("job_id")
@with_remote
def retry(remote: Remote, job_id: str) -> None:
    """Print again what certainly made no paper."""
    click.echo(remote.call("POST", f"/v1/print-jobs/{quote(job_id, safe='')}/retry")["state"])


@jobs.command("lost")
@click.argument("job_id")
@with_remote
def lost(remote: Remote, job_id: str) -> None:
    """Say that the agent which held a job is gone for good: its paper is then uncertain, and settled as such."""
    click.echo(remote.call("POST", f"/v1/print-jobs/{quote(job_id, safe='')}/holder-lost")["state"])


@click.command()
@click.option("--site", "site_id", help="One site only.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_remote
def stats(remote: Remote, site_id: str | None, as_json: bool) -> None:
    """Count doses, certificates and papers."""
    answer = remote.call("GET", "/v1/stats" + _query(site_id=site_id))
    if as_json:
        click.echo(json.dumps(answer))
        return
    rows = [[name, answer[name]] for name in ("doses", "held", "certificates", "with_paper", "printed", "confirmed")]
    percent = answer["paper_percent"]
    rows += [["unaccounted", answer["unaccounted"]], ["coverage", "–" if percent is None else f"{percent} %"]]
    _table("Coverage", ["what", "number"], rows, "")


COMMANDS = (sites, jobs, stats)
