"""reissue: certificates issued again, under the signer that signs now."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

import click

from printsvc.cli.desk import read_admin_settings
from printsvc.cli.remote import DEFAULT_URL, Remote

if TYPE_CHECKING:
    from printsvc.flows.services import Services
    from printsvc.settings import Settings
    from printsvc.store.engine import Store

ACTOR = "command"
STEP_S = 0.5
PLAIN_EVERY_S = 5.0
_MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"])
_CONDITIONS = {
    "site": "site_id",
    "lot": "lot",
    "product": "product",
    "kid": "kid",
    "injected-from": "injected_from",
    "injected-before": "injected_before",
    "issued-from": "issued_from",
    "issued-before": "issued_before",
}


class Desk(Protocol):
    """Documents are those of the routes under /v1/reissues."""

    def post(self, body: dict[str, Any]) -> dict[str, Any]: ...

    def go_on(self, run_id: str) -> dict[str, Any]: ...

    def report(self, run_id: str) -> dict[str, Any]: ...

    def runs(self) -> list[dict[str, Any]]: ...

    def items(self, run_id: str, outcome: str | None, after: int) -> dict[str, Any]: ...

    def stale(self, site_id: str | None, after: str) -> dict[str, Any]: ...


class RemoteDesk:
    """A running service."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", "", body)

    def go_on(self, run_id: str) -> dict[str, Any]:
        return self._call("POST", f"/{quote(run_id, safe='')}")

    def report(self, run_id: str) -> dict[str, Any]:
        return self._call("GET", f"/{quote(run_id, safe='')}")

    def runs(self) -> list[dict[str, Any]]:
        return list(self._call("GET", "")["runs"])

    def items(self, run_id: str, outcome: str | None, after: int) -> dict[str, Any]:
        query = {"after": after} | ({"outcome": outcome} if outcome else {})
        return self._call("GET", f"/{quote(run_id, safe='')}/items?{urlencode(query)}")

    def stale(self, site_id: str | None, after: str) -> dict[str, Any]:
        query = {"site_id": site_id, "after": after} if site_id else {}
        return self._call("GET", f"/stale-papers?{urlencode(query)}")

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = self._remote.call(method, f"/v1/reissues{path}", body, timeout_s=120.0)
        return answer


class StoreDesk:
    """The database itself, with the keys that are here."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._opened: Services | None = None
        self._runner = asyncio.Runner()  # one loop for all calls: what signs is bound to it

    def close(self) -> None:
        if self._opened is not None and self._opened.minter is not None:
            self._runner.run(self._opened.minter.close())
        self._runner.close()

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        from pydantic import ValidationError

        from printsvc.errors import InputError
        from printsvc.flows import reissue
        from printsvc.web.bodies import problem_of
        from printsvc.web.reissues import ReissueIn, counted, selection_of

        try:
            wanted = ReissueIn.model_validate_json(json.dumps(body))
        except ValidationError as error:
            raise InputError([problem_of(detail) for detail in error.errors(include_url=False)]) from None
        services = self._services()

        async def act() -> dict[str, Any]:
            selection = await reissue.choose(services, selection_of(wanted), wanted.signer)
            if wanted.dry_run:
                return reissue.preview_document(await reissue.preview(services, selection))
            run_id, expected = counted(wanted)
            run = await reissue.begin(
                services,
                run_id,
                selection,
                expected=expected,
                is_printed=wanted.print,
                revokes_old=wanted.revoke_old,
                actor=ACTOR,
            )
            return reissue.run_document(run)

        return self._runner.run(act())

    def go_on(self, run_id: str) -> dict[str, Any]:
        from printsvc.flows import reissue

        return reissue.run_document(self._runner.run(reissue.work(self._services(), run_id, for_s=STEP_S)))

    def report(self, run_id: str) -> dict[str, Any]:
        from printsvc.flows import reissue

        return self._runner.run(reissue.run_report(self._services(), run_id))

    def runs(self) -> list[dict[str, Any]]:
        from printsvc.flows.reissue import run_document
        from printsvc.store.reissues import list_runs

        return [run_document(run) for run in self._store.read_now(lambda c: list_runs(c, limit=100))]

    def items(self, run_id: str, outcome: str | None, after: int) -> dict[str, Any]:
        from printsvc.flows.reissue import item_document
        from printsvc.store.reissues import list_items

        wanted = "" if outcome == "open" else outcome
        found = self._store.read_now(lambda c: list_items(c, run_id, outcome=wanted, after=after, limit=1000))
        following = found[-1].line if len(found) == 1000 else None
        return {"items": [item_document(one) for one in found], "next": following}

    def stale(self, site_id: str | None, after: str) -> dict[str, Any]:
        from printsvc.flows import reissue

        if site_id is None:
            return self._runner.run(reissue.stale_document(self._services()))
        return self._runner.run(reissue.stale_papers_document(self._services(), site_id, after=after, limit=1000))

    def _services(self) -> Services:
        from printsvc.app import command_services

        if self._opened is None:
            self._opened = command_services(self._settings, self._store)
        return self._opened


@contextmanager
def open_desk(url: str | None, token_file: Path | None) -> Iterator[Desk]:
    """Give a desk on the database; where that is another process's, or a URL is given, on the service."""
    from printsvc.app import open_store
    from printsvc.errors import StoreLockedError

    settings = read_admin_settings()
    if url is None:
        try:
            store = open_store(settings)
        except StoreLockedError:
            pass
        else:
            desk = StoreDesk(store, settings)
            try:
                yield desk
            finally:
                desk.close()
                store.close()
            return
    path = token_file or settings.data_dir / "dev" / "admin.token"
    token = path.read_text().strip() if path.exists() else ""
    yield RemoteDesk(Remote(url or DEFAULT_URL, token, path))


def _with_place(function: Any) -> Any:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="As JSON."),
        click.option(
            "--token-file",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar="PRINTSVC_TOKEN_FILE",
            help="File with an admin's token, for a service.  [dev/admin.token in the data folder]",
        ),
        click.option("--url", envvar="PRINTSVC_URL", help="Through this service, not on the database (PRINTSVC_URL)."),
    ):
        function = option(function)
    return function


@click.group(invoke_without_command=True)
@click.option("--signer", metavar="KID", help="What this signer signed; where it is compromised, the old is revoked.")
@click.option("--expiring-before", type=_MOMENT, help="What ends before this time, or has ended (UTC).")
@click.option("--query", "conditions", multiple=True, metavar="NAME=VALUE",
              help=f"Repeatable; all must hold: {', '.join(_CONDITIONS)}.")  # fmt: skip
@click.option("--print/--digital-only", "prints", default=False,
              help="Also print each at its site.  [--digital-only: papers that are still owed alone]")  # fmt: skip
@click.option("--revoke-old", is_flag=True, help="Old certificates stop counting now, though their signer is good.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_with_place
@click.pass_context
def reissue(
    context: click.Context,
    signer: str | None,
    expiring_before: datetime | None,
    conditions: tuple[str, ...],
    prints: bool,
    revoke_old: bool,
    dry_run: bool,
    yes: bool,
    url: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Issue certificates again, with new UVCIs, under the signer that signs now: first they are counted, then it asks.

    Killed in the middle, `printsvc reissue resume` goes on; so does a running service by itself. No certificate is
    issued twice.
    """
    if context.invoked_subcommand is not None:
        return
    body = {"query": _query(conditions), "print": prints, "revoke_old": revoke_old}
    body |= {"signer": signer} if signer else {}
    body |= {"expiring_before": _text(expiring_before)} if expiring_before else {}
    with open_desk(url, token_file) as desk:
        shown = desk.post(body | {"dry_run": True})
        if as_json and (dry_run or not yes or not shown["count"]):
            click.echo(json.dumps(shown, ensure_ascii=False))
            return
        if not as_json:
            _tell_preview(shown, prints, revoke_old)
        if dry_run or not shown["count"]:
            return
        if not yes:
            click.confirm(f"Issue {shown['count']} certificates again? / Cấp lại?", abort=True)
        run = desk.post(body | {"run_id": shown["run_id"], "expected": shown["count"]})
        _to_its_end(desk, run, as_json)


@reissue.command("resume")
@click.argument("run_id", required=False)
@_with_place
def resume(run_id: str | None, url: str | None, token_file: Path | None, as_json: bool) -> None:
    """Go on with a run that stopped; without RUN_ID, with all of them."""
    with open_desk(url, token_file) as desk:
        runs = [desk.report(run_id)] if run_id else [run for run in desk.runs() if run["ended_at"] is None]
        if not runs and not as_json:
            click.echo("There are none. / Không có đợt nào dang dở.")
        for run in runs[::-1]:
            _to_its_end(desk, run, as_json)


@reissue.command("runs")
@_with_place
def list_runs(url: str | None, token_file: Path | None, as_json: bool) -> None:
    """List the runs, newest first."""
    with open_desk(url, token_file) as desk:
        for run in desk.runs():
            state = f"ended {run['ended_at']}" if run["ended_at"] else f"{run['left']} left"
            line = f"{run['run_id']}  {run['total']}  {run['begun_at']} by {run['asked_by']}  {state}"
            click.echo(json.dumps(run, ensure_ascii=False) if as_json else line)


@reissue.command("items")
@click.argument("run_id")
@click.option("--outcome", type=click.Choice(["open", "issued", "already", "revoked", "failed"]))
@_with_place
def list_items(run_id: str, outcome: str | None, url: str | None, token_file: Path | None, as_json: bool) -> None:
    """List what came of each certificate of a run, and the new one."""
    after: int | None = 0
    with open_desk(url, token_file) as desk:
        while after is not None:
            answer = desk.items(run_id, outcome, after)
            for one in answer["items"]:
                line = f"{one['uvci']}  {one['outcome']}  {one['new_uvci'] or one['problem']}"
                click.echo(json.dumps(one, ensure_ascii=False) if as_json else line.rstrip())
            after = answer["next"]


@reissue.command("stale")
@click.option("--site", "site_id", help="List the papers of this site.")
@_with_place
def stale(site_id: str | None, url: str | None, token_file: Path | None, as_json: bool) -> None:
    """Count, by site, the papers with the code of a certificate that was issued again."""
    with open_desk(url, token_file) as desk:
        if site_id is None:
            sites = desk.stale(None, "")["sites"]
            if as_json:
                click.echo(json.dumps({"sites": sites}, ensure_ascii=False))
                return
            for one in sites:
                click.echo(
                    f"{one['site_id']}  {one['papers']} papers, {one['invalid']} no longer valid, "
                    f"{one['replaced']} with a newer paper"
                )
            if not sites:
                click.echo("There are none. / Không có.")
            return
        after: str | None = ""
        while after is not None:
            answer = desk.stale(site_id, after)
            for paper in answer["papers"]:
                why = paper["revocation_reason"] or f"until {paper['expires_at']}"
                line = f"{paper['uvci']}  copy {paper['copy_number']}  {paper['state']}  {why}"
                line += f"  now {paper['superseded_by']}" + ("  (printed)" if paper["replaced"] else "")
                click.echo(json.dumps(paper, ensure_ascii=False) if as_json else line)
            after = answer["next"]


def _query(conditions: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for condition in conditions:
        name, mark, value = condition.partition("=")
        field = _CONDITIONS.get(name.strip().replace("_", "-").removesuffix("-id"))
        if not mark or field is None or not value:
            raise click.UsageError(f"--query takes NAME=VALUE with one of the names {', '.join(_CONDITIONS)}.")
        if field.endswith(("_from", "_before")):
            value = _text(_MOMENT.convert(value, None, None))
        found[field] = value
    return found


def _text(moment: datetime) -> str:
    return moment.isoformat() + ("" if moment.tzinfo else "Z")


def _tell_preview(shown: dict[str, Any], prints: bool, revoke_old: bool) -> None:
    click.echo(f"{shown['count']} certificates, signed again by {shown['signer']}; {shown['papers']} papers go stale")
    for one in shown["by_signer"]:
        gone = one["state"] == "compromised" or revoke_old
        fate = "the old ones are revoked" if gone else "the old ones count until their own end"
        click.echo(f"  signer {one['kid']} ({one['state']})  {one['certificates']}: {fate}")
    for one in shown["by_site"]:
        click.echo(f"  site {one['site_id']}  {one['certificates']} certificates  {one['papers']} papers")
    measured = "as in the last run" if shown["rate_from"] == "last run" else "assumed"
    click.echo(f"about {shown['seconds']:.0f} s ({shown['rate_per_s']:.0f}/s, {measured})")
    click.echo("a new paper for each, at its site" if prints else "no papers, but for those that are still owed")


def _to_its_end(desk: Desk, run: dict[str, Any], as_json: bool) -> None:
    with _progress(run) as tell:
        while run["ended_at"] is None:
            run = desk.go_on(run["run_id"])
            tell(run)
    run = desk.report(run["run_id"])
    if as_json:
        click.echo(json.dumps(run, ensure_ascii=False))
    else:
        click.echo(
            f"run {run['run_id']}: {run['issued']} issued again, {run['already']} were already, "
            f"{run['revoked']} are revoked, {run['failed']} failed, {run['print_jobs']} print jobs"
        )
        for problem, number in run["problems"].items():
            click.echo(f"  {number} failed: {problem}")
    if run["failed"]:
        raise SystemExit(1)


@contextmanager
def _progress(run: dict[str, Any]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give what shows progress on standard error: a bar on a terminal, else a line every few seconds."""
    before, started = run["total"] - run["left"], time.monotonic()

    def rate_of(now: dict[str, Any]) -> float:
        return float(now["total"] - now["left"] - before) / max(time.monotonic() - started, 1e-3)

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}/s"), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("reissue", rate="–", total=run["total"], completed=before)
            yield lambda now: bar.update(task, completed=now["total"] - now["left"], rate=f"{rate_of(now):.0f}")
        return
    told_at = started

    def say(now: dict[str, Any]) -> None:
        nonlocal told_at
        if time.monotonic() - told_at < PLAIN_EVERY_S and now["left"]:
            return
        told_at = time.monotonic()
        rate = rate_of(now)
        left_s = now["left"] / rate if rate else 0
        click.echo(f"{now['total'] - now['left']} of {now['total']}, {rate:.0f}/s, {left_s:.0f} s left", err=True)

    yield say


COMMANDS = (reissue,)
