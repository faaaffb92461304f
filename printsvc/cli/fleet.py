"""sites health, alerts: how the sites fare, and what is wrong somewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from printsvc.cli.admin import sites
from printsvc.cli.remote import Remote, with_remote
from printsvc.cli.tables import query as _query
from printsvc.cli.tables import show_table as _table


def _age(seconds: float | None) -> str:
    from printsvc.stats.alerts import readable

    return "–" if seconds is None else readable(str(seconds), "s")


@sites.command("health")
@click.argument("site_id", required=False)
@click.option(
    "--only",
    type=click.Choice(["trouble", "silent", "waiting", "uncertain", "failed", "printer", "skewed"]),
    help="Only sites where this is so.",
)
@click.option("--province", default="", help="Province code.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Sites to show.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_remote
def health(remote: Remote, site_id: str | None, only: str | None, province: str, limit: int, as_json: bool) -> None:
    """How the sites fare, the worst first; or one site, with its agents and printers."""
    if site_id is not None:
        site = remote.call("GET", f"/v1/sites/{quote(site_id, safe='')}/health")
        click.echo(json.dumps(site)) if as_json else _show_site(site)
        return
    answer = remote.call("GET", "/v1/fleet" + _query(only=only, province=province, limit=str(limit)))
    if as_json:
        click.echo(json.dumps(answer))
        return
    summary = answer["summary"]
    click.echo(
        f"{summary['sites']} sites, {summary['sites_silent']} silent ({summary['sites_silent_with_papers']} of them"
        f" with papers waiting), {summary['sites_without_agent']} without an agent,"
        f" {summary['sites_without_printer']} without a printer that works"
    )
    click.echo(
        f"{summary['papers_waiting']} papers wait, the oldest for {_age(summary['oldest_unprinted_s'])};"
        f" {summary['papers_uncertain']} uncertain, {summary['papers_failed']} failed"
    )
    columns = ["site", "heard", "waiting", "oldest", "uncertain", "failed", "printers", "ink", "clock", "version"]
    rows = [_row(site) for site in answer["sites"]]
    _table(f"{len(rows)} of {answer['chosen']}, the worst first", columns, rows, "No site is so.")


def _row(site: Any) -> list[Any]:
    usable = sum(printer["usable"] for printer in site["printers"])
    levels = [level for printer in site["printers"] for level in printer["marker_levels"] if level >= 0]
    reasons = sorted({reason for printer in site["printers"] for reason in printer["state_reasons"]})
    skew = site["clock_skew_s"]
    return [
        site["site_id"],
        f"{_age(site['silent_s'])} ago" if site["heard_at"] else "never",
        site["waiting"],
        _age(site["oldest_unprinted_s"]),
        f"{site['uncertain']} ({_age(site['oldest_uncertain_s'])})" if site["uncertain"] else 0,
        site["failed"],
        f"{usable}/{len(site['printers'])} {' '.join(reasons)}".strip(),
        f"{min(levels)} %" if levels else "–",
        "–" if skew is None else f"{skew:.1f} s",
        ", ".join(sorted({agent["version"] or "?" for agent in site["agents"]})),
    ]


def _show_site(site: Any) -> None:
    papers = (
        f"{site['waiting']} waiting (oldest {_age(site['oldest_unprinted_s'])}), {site['uncertain']} uncertain "
        f"(oldest {_age(site['oldest_uncertain_s'])}), {site['failed']} failed"
    )
    click.echo(f"Site {site['site_id']}: papers: {papers}")
    agents = [
        [a["agent_id"], a["seen_at"] or "never", a["version"], a["protocol"], a["clock_skew_ms"]]
        for a in site["agents"]
    ]
    _table("Agents", ["agent", "last heard", "version", "protocol", "clock (ms off)"], agents, "It has no agent.")
    printers = [
        [
            p["queue"],
            p["state"],
            "yes" if p["usable"] else "no",
            ", ".join(p["state_reasons"]),
            ", ".join(f"{level} %" for level in p["marker_levels"]),
            p["reported_at"],
        ]
        for p in site["printers"]
    ]
    columns = ["queue", "state", "can print", "reasons", "ink", "told at"]
    _table("Printers", columns, printers, "Its agent told of no printer.")


@click.group(invoke_without_command=True)
@click.pass_context
def alerts(context: click.Context) -> None:
    """What is wrong somewhere, and the rules that decide."""
    if context.invoked_subcommand is None:
        context.invoke(list_alerts)


@alerts.command("list")
@click.option("--site", "site_id", help="One site only.")
@click.option("--state", default="firing", show_default=True, help="States, with commas: pending,firing,resolved")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_remote
def list_alerts(
    remote: Remote, site_id: str | None, state: str = "firing", limit: int = 200, as_json: bool = False
) -> None:
    """List alerts, the gravest first; exit code 0 whatever there is."""
    answer = remote.call("GET", "/v1/alerts" + _query(site_id=site_id, state=state, limit=str(limit)))
    if as_json:
        click.echo(json.dumps(answer))
        return
    if not answer["rules_valid"]:
        click.echo("The file of alert rules is wrong; the rules before it stand (see the service's log).", err=True)
    if answer["looked_at"] is None:
        click.echo("Nobody has looked yet: the service looks about twice a minute.", err=True)
    rows = [
        [a["severity"], a["state"], a["rule"], a["since_at"][:19] + "Z", f"{a['en']}\n{a['vi']}"]
        for a in answer["alerts"]
    ]
    _table("Alerts", ["severity", "state", "rule", "since", "what"], rows, "There are none.")


@alerts.command("rules")
@click.option("--default", "show_default", is_flag=True, help="The text of the rules that come with the service.")
@with_remote
def rules(remote: Remote, show_default: bool) -> None:
    """List the rules in force."""
    if show_default:
        from printsvc.flows.alertbook import default_rules

        click.echo(default_rules(), nl=False)
        return
    from printsvc.stats.alerts import readable

    rows = []
    for rule in remote.call("GET", "/v1/alert-rules")["rules"]:
        side = "above" if "above" in rule else "below"
        limit = rule[side] if isinstance(rule[side], str) else f"{rule[side]:g}"
        more = " while papers wait" if rule["while_waiting"] else ""
        condition = f"{rule['measure']} {side} {limit}{more}"
        rows.append([rule["name"], rule["severity"], condition, readable(str(rule["for_s"]), "s"), rule["en"]])
    _table("Alert rules", ["rule", "severity", "condition", "for", "sentence"], rows, "There are none.")


@alerts.command("check")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def check(file: Path) -> None:
    """Check a file of alert rules (PRINTSVC_ALERT_RULES) before a service reads it."""
    from printsvc.flows.alertbook import read_rules

    click.echo(f"{len(read_rules(file))} rules, all well.")


COMMANDS = (alerts,)
