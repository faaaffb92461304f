"""printsvc printers: the sites' printers, from the centre. The site's agent does what is asked, and answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click

from printsvc.cli.remote import Remote, with_remote
from printsvc.cli.tables import query, show_table

_POLL_S = 0.3
_OPEN = ("waiting", "given")


@click.group()
def printers() -> None:
    """Printers of the sites: look, add, check, stop, drain. The site's agent does it, and says what came of it."""


@printers.command("list")
@click.option("--site", "site_id", help="One site only.")
@with_remote
def list_printers(remote: Remote, site_id: str | None) -> None:
    """List the printers as their agents last told."""
    found = remote.call("GET", "/v1/printers" + query(site_id=site_id))["printers"]
    rows = [
        [
            p["site_id"],
            p["queue"],
            p["state"] if p["accepting"] else f"{p['state']}, takes no jobs",
            ", ".join(p["state_reasons"]),
            p["queued"],
            ", ".join(f"{level} %" for level in p["marker_levels"]),
            p["settings"]["pool"],
            p["make_and_model"],
            "; ".join(p["problems"]),
        ]
        for p in found
    ]
    columns = ["site", "queue", "state", "reasons", "others' jobs", "supplies", "pool", "model", "problems"]
    show_table("Printers", columns, rows, "No agent told of a printer yet.")


@printers.command("show")
@click.argument("site_id")
@click.argument("queue")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_remote
def show_printer(remote: Remote, site_id: str, queue: str, as_json: bool) -> None:
    """Show a printer, what is set for it, and what was asked of it lately."""
    printer = remote.call("GET", f"{_site(site_id)}/queues/{quote(queue, safe='')}")
    if as_json:
        click.echo(json.dumps(printer, ensure_ascii=False))
        return
    setting = printer["settings"]
    oldest = f", the oldest {printer['oldest_s']} s" if printer["oldest_s"] is not None else ""
    rows = [
        ["state", printer["state"] + ("" if printer["accepting"] else ", takes no jobs")],
        ["reasons", ", ".join(printer["state_reasons"]) or "none"],
        ["model", printer["make_and_model"]],
        ["address", printer["uri"]],
        ["supplies", ", ".join(f"{level} %" for level in printer["marker_levels"]) or "not told"],
        ["others' jobs", f"{printer['queued']}{oldest}"],
        ["loaded", ", ".join(printer["media_ready"]) or "not told"],
        ["pool", setting["pool"] or "–"],
        ["media", ", ".join(setting["media"]) or "whatever it says"],
        ["QR", f"{setting['dpi'] or '–'} dpi, pull-back {setting['pull_back']} dots"],
        *(["problem", problem] for problem in printer["problems"]),
        ["as of", printer["reported_at"]],
    ]
    show_table(f"{queue} at {site_id}", ["what", ""], rows, "")
    _show_ledger(printer["commands"])


@printers.command("commands")
@click.argument("site_id")
@click.option("--queue", help="Of one queue.")
@click.option("--job", "job_id", help="Of one job.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_remote
def list_commands(remote: Remote, site_id: str, queue: str | None, job_id: str | None, as_json: bool) -> None:
    """List what was asked of a site's printers, by whom, and what came of it."""
    found = remote.call("GET", f"{_site(site_id)}/commands" + query(queue=queue, job_id=job_id))["commands"]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    _show_ledger(found)


@printers.command("set")
@click.argument("site_id")
@click.argument("queue")
@click.option("--pool", help="Printers of one pool stand in for each other; empty: none.")
@click.option("--media", help="Sizes that it takes (PWG 5101.1), with commas, the default first; empty: what it says.")
@click.option("--dpi", type=click.IntRange(0, 4800), help="Dots an inch; 0: not set.")
@click.option("--pull-back", type=click.IntRange(0, 8), help="Dots by which a QR's dark modules are drawn smaller.")
@with_remote
def set_printer(
    remote: Remote,
    site_id: str,
    queue: str,
    pool: str | None,
    media: str | None,
    dpi: int | None,
    pull_back: int | None,
) -> None:
    """Set what is given for a queue; the rest stays."""
    found = remote.call("GET", "/v1/printers" + query(site_id=site_id))["printers"]
    known: dict[str, Any] = next((p["settings"] for p in found if (p["site_id"], p["queue"]) == (site_id, queue)), {})
    given = {
        "pool": pool,
        "media": None if media is None else [one.strip() for one in media.split(",") if one.strip()],
        "dpi": dpi,
        "pull_back": pull_back,
    }
    body = known | {name: value for name, value in given.items() if value is not None}
    setting = remote.call("PUT", f"{_site(site_id)}/queues/{quote(queue, safe='')}/settings", body)
    sizes = ", ".join(setting["media"]) or "any"
    click.echo(
        f"{queue}: pool {setting['pool'] or '–'}, media {sizes}, {setting['dpi']} dpi, pull-back {setting['pull_back']}"
    )


def _asking(function: Any) -> Any:
    """Add what every asking command has; the function returns the body."""

    @click.option("--within", "within_s", type=click.FloatRange(1, 86_400), default=60.0, show_default=True,
                  help="Seconds in which it must be begun (a drain: ended).")  # fmt: skip
    @click.option("--no-wait", is_flag=True, help="Do not wait for the outcome.")
    @click.option("--json", "as_json", is_flag=True, help="The command and its outcome as JSON.")
    @with_remote
    def wrapped(
        remote: Remote, site_id: str, within_s: float, no_wait: bool, as_json: bool, **rest: Any
    ) -> None:  # fmt: skip
        body = function(**rest) | {"within_s": within_s}
        command = ask(remote, site_id, body, wait=not no_wait)
        if as_json:
            click.echo(json.dumps(command, ensure_ascii=False))
        else:
            tell(command)
        if command["state"] not in ("done", *_OPEN):
            sys.exit(1)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    wrapped.__click_params__ += getattr(function, "__click_params__", [])
    return wrapped


def ask(remote: Remote, site_id: str, body: dict[str, Any], *, wait: bool = True) -> dict[str, Any]:
    """Ask, and return the command; with `wait` as soon as its outcome is known, or nobody will tell it any more."""
    command: dict[str, Any] = remote.call("POST", f"{_site(site_id)}/commands", body)
    path = f"{_site(site_id)}/commands/{quote(command['command_id'], safe='')}"
    while wait and command["state"] in _OPEN:
        time.sleep(_POLL_S)
        command = remote.call("GET", path)
    return command


def tell(command: dict[str, Any]) -> None:
    """Print what came of a command."""
    reason = f" ({command['reason']})" if command["reason"] else ""
    click.echo(f"{command['verb']} {command['queue'] or command['job']}: {command['state']}{reason}".replace("  ", " "))
    for line in dict.fromkeys((command["detail"], command["detail_vi"])):
        if line:
            click.echo(f"  {line}")
    show = _SHOW.get(command["verb"])
    if show and command["state"] == "done":
        show(command["result"])


@printers.command("discover")
@click.argument("site_id")
@click.option("--host", "hosts", multiple=True, help="Host, HOST:PORT or a small network (192.0.2.0/24); repeat it.")
@_asking
def discover(hosts: tuple[str, ...]) -> dict[str, Any]:
    """Look for printers that could be added, and say what could not be looked for."""
    return {"verb": "discover", "hosts": list(hosts)}


@printers.command("add")
@click.argument("site_id")
@click.argument("queue")
@click.argument("uri")
@click.option("--media", default="", help="Default size (PWG 5101.1).  [iso_a4_210x297mm]")
@_asking
def add(queue: str, uri: str, media: str) -> dict[str, Any]:
    """Add a printer by its own address (ipp://HOST/ipp/print) as a driverless queue."""
    return {"verb": "add", "queue": queue, "uri": uri, "media": media}


@printers.command("check")
@click.argument("site_id")
@click.argument("queue", default="")
@click.option("--media", default="", help="The size that is wanted.  [the queue's setting, or A4]")
@_asking
def check(queue: str, media: str) -> dict[str, Any]:
    """Check queues, printers and cupsd's configuration: what is wrong, and how to mend it."""
    return {"verb": "check", "queue": queue, "media": media}


@printers.command("test-page")
@click.argument("site_id")
@click.argument("queue")
@click.option("--media", default="", help="Its size.  [the queue's setting, or A4]")
@click.option("--dpi", type=click.IntRange(0, 4800), default=0, help="Dots an inch.  [the queue's setting, or 600]")
@_asking
def test_page(queue: str, media: str, dpi: int) -> dict[str, Any]:
    """Print rulers and QR codes of several module sizes and pull-backs, to choose by."""
    return {"verb": "test-page", "queue": queue, "media": media, "dpi": dpi}


@printers.command("disable")
@click.argument("site_id")
@click.argument("queue")
@click.option("--drain", is_flag=True, help="Let what is there come out first.")
@_asking
def disable(queue: str, drain: bool) -> dict[str, Any]:
    """Stop a queue; refused while a job is at it, which would print twice."""
    return {"verb": "disable", "queue": queue, "drain": drain}


def _of_queue(name: str, said: str) -> None:
    def function(queue: str) -> dict[str, Any]:
        return {"verb": name, "queue": queue}

    function.__name__, function.__doc__ = name, said
    command = click.argument("site_id")(click.argument("queue")(_asking(function)))
    printers.command(name)(command)


for _name, _said in (
    ("remove", "Remove an empty queue."),
    ("enable", "Start a queue."),
    ("accept", "Let a queue take jobs."),
    ("reject", "Let a queue take no jobs; what is there goes on."),
    ("drain", "Take no new jobs, wait until what is there is out, then stop the queue."),
):
    _of_queue(_name, _said)


def _of_job(name: str, said: str) -> None:
    def function(job: str, queue: str) -> dict[str, Any]:
        return {"verb": name, "job": job, "queue": queue}

    function.__name__, function.__doc__ = name, said
    option = click.option("--queue", default="", help="Where a job of another program (cups-NUMBER) is.")
    command = click.argument("site_id")(click.argument("job")(option(_asking(function))))
    printers.command(name)(command)


for _name, _said in (
    ("hold", "Keep a job back that is not at a printer yet."),
    ("release", "Let a job go that is kept back."),
    ("cancel", "Cancel a job that is not at a printer yet."),
    ("withdraw", "Take from CUPS what still waits there of an uncertain job."),
):
    _of_job(_name, _said)


@printers.command("priority")
@click.argument("site_id")
@click.argument("job")
@click.argument("priority", type=click.IntRange(1, 100))
@_asking
def priority(job: str, priority: int) -> dict[str, Any]:
    """Move a job up (100) or down (1) the line; at 50 a reprint is as a first paper."""
    return {"verb": "priority", "job": job, "priority": priority}


@printers.command("move")
@click.argument("site_id")
@click.argument("job")
@click.argument("to")
@click.option("--queue", default="", help="Where a job of another program (cups-NUMBER) is.")
@_asking
def move(job: str, to: str, queue: str) -> dict[str, Any]:
    """Ask for another queue, or pool:NAME, for a job that is not at a printer yet; any: no wish."""
    return {"verb": "move", "job": job, "to": "" if to == "any" else to, "queue": queue}


def _site(site_id: str) -> str:
    return f"/v1/printers/{quote(site_id, safe='')}"


def _show_ledger(commands: list[Any]) -> None:
    rows = [
        [c["asked_at"], c["verb"], c["queue"] or c["job"], c["asked_by"], c["state"], f"{c['reason']} {c['detail']}"]
        for c in commands
    ]
    show_table("What was asked", ["at", "what", "of", "by", "state", "why"], rows, "Nothing was asked yet.")


def _show_discovery(result: dict[str, Any]) -> None:
    rows = [
        [
            p["uri"],
            p["make_and_model"],
            ", ".join(map(str, p["resolutions_dpi"])),
            "yes" if p["duplex"] else "no",
            ", ".join(p["media_ready"]),
        ]
        for p in result["printers"]
    ]
    show_table("Printers that answered", ["address", "model", "dpi", "duplex", "loaded"], rows, "No printer answered.")
    if result["devices"]:
        rows = [[d["uri"], d["make_and_model"], d["info"]] for d in result["devices"]]
        show_table("What CUPS found", ["address", "model", "what"], rows, "")
    for line in result["looked"]:
        click.echo(f"looked: {line}")
    for line in result["not_looked"]:
        click.echo(f"NOT looked ({line['what']}): {line['en']} {line['mend_en']}\n  {line['vi']} {line['mend_vi']}")


def _show_check(result: dict[str, Any]) -> None:
    rows = [[name, f["make_and_model"], f["media_default"], "yes" if f["duplex"] else "no",
             ", ".join(map(str, f["resolutions_dpi"])), f["error_policy"]]
            for name, f in result["queues"].items() if "make_and_model" in f]  # fmt: skip
    show_table("Queues", ["queue", "model", "media", "duplex", "dpi", "error policy"], rows, "There are no queues.")
    findings = [("cupsd", one) for one in result["cupsd"]]
    findings += [(name, one) for name, facts in result["queues"].items() for one in facts["findings"]]
    for where, one in findings:
        stops = ", nothing is printed there" if one["stops"] else ""
        click.echo(f"{where}: {one['code']}{stops}\n  {one['en']} {one['mend_en']}\n  {one['vi']} {one['mend_vi']}")


def _show_test_page(result: dict[str, Any]) -> None:
    rows = [[f["field"], f["module_mm"], f["module_dots"], f["pull_back"]] for f in result["fields"]]
    show_table(f"On the page ({result['job']})", ["field", "module mm", "dots", "pull-back dots"], rows, "")


_SHOW: dict[str, Callable[[dict[str, Any]], None]] = {
    "discover": _show_discovery,
    "check": _show_check,
    "test-page": _show_test_page,
}

COMMANDS = (printers,)
