"""revocations: what no longer counts, and the lists of it for verifiers."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from printsvc.cli.remote import Body, Remote, with_remote

_REASONS = (
    "identity_mismatch", "data_error", "fraud", "corrected", "signer_compromised", "holder_request", "dose_withdrawn",
    "renewed",
)  # fmt: skip
_UNDO_REASONS = ("mistake", "confirmed", "withdrawn")
_CSV_TIMEOUT_S = 300.0
_MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"])


@click.group()
def revocations() -> None:
    """Certificates that no longer count."""


@revocations.command("revoke")
@click.argument("uvci")
@click.option("--reason", type=click.Choice(_REASONS), required=True, help="Why.")
@click.option("--request-id", help="The same for a retry: then it is done once, even if it was undone since.")
@click.option("--dry-run", is_flag=True, help="Only say whether it would be revoked.")
@with_remote
def revoke(remote: Remote, uvci: str, reason: str, request_id: str | None, dry_run: bool) -> None:
    """Revoke one certificate; its waiting print jobs are canceled."""
    body = {"uvci": uvci, "reason": reason, "dry_run": dry_run} | ({"request_id": request_id} if request_id else {})
    answer = remote.call("POST", "/v1/revocations", body)
    if dry_run:
        click.echo("It would be revoked." if answer["count"] else "It is revoked already.")
        return
    click.echo(_line(answer) + ("  (it was before)" if answer["replayed"] else ""))


@revocations.command("undo")
@click.argument("uvci")
@click.option("--reason", type=click.Choice(_UNDO_REASONS), required=True, help="Why it counts again.")
@with_remote
def undo(remote: Remote, uvci: str, reason: str) -> None:
    """Let a revoked certificate count again, within 30 days; never after fraud, a compromised key or a correction."""
    click.echo(_line(remote.call("POST", "/v1/revocations/undo", {"uvci": uvci, "reason": reason})))


@revocations.command("list")
@click.option("--uvci", help="One certificate, with all that happened to it.")
@click.option("--reason", type=click.Choice(_REASONS))
@click.option("--kid", help="One signer, hexadecimal or base64.")
@click.option("--state", type=click.Choice(["current", "undone"]))
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON line each.")
@with_remote
def list_revocations(remote: Remote, limit: int, as_json: bool, **chosen: str | None) -> None:
    """List revocations, in the order in which they were made."""
    after, left, told = 0, limit, 0
    while left > 0:
        query = {name: value for name, value in chosen.items() if value} | {"after": after, "limit": min(left, 1000)}
        answer = remote.call("GET", "/v1/revocations?" + urlencode(query))
        for one in answer["revocations"]:
            click.echo(json.dumps(one, ensure_ascii=False) if as_json else _line(one))
        told += len(answer["revocations"])
        left -= len(answer["revocations"])
        after = answer["next"]
        if after is None:
            break
    if not told and not as_json:
        click.echo("There are none.")


def _line(one: dict[str, Any]) -> str:
    undone = f"  undone {one['undone_at']} by {one['undone_by']} ({one['undo_reason']})" if one["undone_at"] else ""
    return f"{one['uvci']}  {one['state']}  {one['reason']}  {one['revoked_at']} by {one['revoked_by']}{undone}"


@revocations.command("query")
@click.option("--site", "site_id", help="Site of the dose.")
@click.option("--lot", help="Lot of the vaccine.")
@click.option("--product", help="Vaccine, such as EU/1/20/1528.")
@click.option("--kid", help="Signer, hexadecimal or base64.")
@click.option("--injected-from", type=_MOMENT, help="Injected from this time (UTC where none is named).")
@click.option("--injected-before", type=_MOMENT, help="Injected before this time.")
@click.option("--issued-from", type=_MOMENT, help="Issued from this time.")
@click.option("--issued-before", type=_MOMENT, help="Issued before this time.")
@click.option("--reason", type=click.Choice(_REASONS), required=True, help="Why.")
@click.option("--dry-run", is_flag=True, help="Only count, and show some.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_remote
def query(remote: Remote, reason: str, dry_run: bool, yes: bool, **conditions: Any) -> None:
    """Revoke all certificates of a site, a lot, a signer, a time: first they are counted, then it asks."""
    chosen = {name: _text(value) for name, value in conditions.items() if value is not None}
    body = {"query": chosen, "reason": reason}
    shown = remote.call("POST", "/v1/revocations/query", body | {"dry_run": True})
    click.echo(f"{shown['count']} certificates")
    for site_id, count in shown["by_site"].items():
        click.echo(f"  {site_id}  {count}")
    for uvci in shown["sample"]:
        click.echo(f"  {uvci}")
    if dry_run or not shown["count"]:
        return
    if not yes:
        click.confirm(f"Revoke {shown['count']} certificates ({reason})?", abort=True)
    begin = body | {"run_id": shown["run_id"], "expected": shown["count"]}
    _to_its_end(remote, remote.call("POST", "/v1/revocations/query", begin))


@revocations.command("csv")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--reason", type=click.Choice(_REASONS), help="Why, where a line has no reason of its own.")
@click.option("--dry-run", is_flag=True, help="Only say what is wrong, and how many would be revoked.")
@click.option("--skip-bad", is_flag=True, help="Revoke the good lines although others are bad.")
@click.option("--again", is_flag=True, help="Do the file once more, although it was done: what was undone is revoked.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_remote
def csv(remote: Remote, file: Path, reason: str | None, dry_run: bool, skip_bad: bool, again: bool, yes: bool) -> None:
    """Revoke the certificates of a CSV with a column uvci, and reason where lines have their own.

    A bad line stops all, before anything is revoked. Killed in the middle, the same command goes on where it stopped;
    a file that was done is not done again.
    """
    body = file.read_bytes()
    chosen = {"reason": reason} if reason else {}

    def send(**more: str) -> Any:
        path = "/v1/revocations/csv?" + urlencode(chosen | more)
        return remote.call("POST", path, data=Body(body, "text/csv"), timeout_s=_CSV_TIMEOUT_S)

    report = send(dry_run="1")
    for error in report["errors"]:
        click.echo(f"{error['en']} / {error['vi']}", err=True)
    if report["bad"] > len(report["errors"]):
        click.echo(f"… and {report['bad'] - len(report['errors'])} more", err=True)
    click.echo(
        f"{report['good']} good lines ({report['already']} certificates are revoked already), {report['bad']} bad"
    )
    if dry_run:
        raise SystemExit(1 if report["bad"] else 0)
    if report["bad"] and not skip_bad:
        click.echo("Nothing was revoked. Mend the lines, or use --skip-bad.", err=True)
        raise SystemExit(1)
    if not yes:
        click.confirm(f"Revoke {report['good'] - report['already']} certificates?", abort=True)
    more = {"run_id": os.urandom(12).hex()} if again else {}
    run = send(skip_bad=str(int(skip_bad)), **more)
    _to_its_end(remote, run)
    if run["undone"]:
        click.echo(f"{run['undone']} of them were undone since; --again revokes them anew.")


def _to_its_end(remote: Remote, run: dict[str, Any]) -> None:
    while run["ended_at"] is None:
        click.echo(f"{run['total'] - run['left']} of {run['total']}", err=True)
        run = remote.call("POST", f"/v1/revocations/runs/{quote(run['run_id'], safe='')}", timeout_s=60.0)
    click.echo(f"run {run['run_id']}: {run['revoked']} revoked, {run['already']} were revoked before")


@revocations.command("runs")
@with_remote
def list_runs(remote: Remote) -> None:
    """List the runs that revoked many, newest first; one that stopped is gone on with by the service."""
    for run in remote.call("GET", "/v1/revocations/runs")["runs"]:
        state = f"ended {run['ended_at']}" if run["ended_at"] else "under way"
        click.echo(f"{run['run_id']}  {run['kind']}  {run['total']}  {run['begun_at']} by {run['asked_by']}  {state}")


@revocations.command("stale")
@click.option("--site", "site_id", help="List the papers of this site.")
@with_remote
def stale(remote: Remote, site_id: str | None) -> None:
    """Count the papers of revoked certificates by site; they are out there, and nobody can recall them by wire."""
    if site_id is None:
        counts = remote.call("GET", "/v1/revocations/stale-papers")["sites"]
        click.echo("\n".join(f"{site}  {count}" for site, count in counts.items()) or "There are none.")
        return
    after = ""
    while True:
        path = "/v1/revocations/stale-papers?" + urlencode({"site_id": site_id, "after": after})
        answer = remote.call("GET", path)
        for paper in answer["papers"]:
            click.echo(f"{paper['uvci']}  copy {paper['copy_number']}  {paper['state']}  {paper['reason']}")
        after = answer["next"]
        if after is None:
            return


@revocations.command("snapshot")
@click.option(
    "--out", "path", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to bring up to date."
)
@with_remote
def snapshot(remote: Remote, path: Path) -> None:
    """Fetch the signed list of revocations for offline verifiers; where FILE has an older one, only the difference."""
    from printsvc.clock import clock
    from printsvc.credential.revocation_snapshot import apply_delta, open_snapshot
    from printsvc.credential.trust import TrustList
    from printsvc.errors import CredentialError, InputError

    trust = TrustList.from_json(remote.call("GET", "/v1/trust-list"))
    now = clock()
    body, how = b"", "whole"
    if path.exists():
        try:
            there = open_snapshot(path.read_bytes(), trust=trust, now=now)
            delta = remote.fetch(f"/v1/revocations/delta?from={there.manifest.version}")
            if not delta:
                _tell_snapshot(path, there.manifest, "as it was")
                return
            body, how = apply_delta(there, delta, trust=trust, now=now), f"delta of {len(delta)} bytes"
        except CredentialError as error:
            click.echo(f"{path}: {error.en} The whole list is fetched.", err=True)
        except InputError as error:
            if error.code != "no_delta":
                raise
    if not body:
        body = remote.fetch("/v1/revocations/snapshot")
    manifest = open_snapshot(body, trust=trust, now=now).manifest
    new = path.with_name(path.name + ".new")
    new.write_bytes(body)
    new.replace(path)
    _tell_snapshot(path, manifest, how)


def _tell_snapshot(path: Path, manifest: Any, how: str) -> None:
    click.echo(
        f"{path}: version {manifest.version} ({how}), {manifest.count} revocations, "
        f"until {manifest.expires_at:%Y-%m-%dT%H:%MZ}, false positives {manifest.false_positive_rate:.1e}"
    )


@revocations.command("batches")
@click.option(
    "--out", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write each batch as JSON here."
)
@click.option(
    "--hash-type", type=click.Choice(["UCI", "COUNTRYCODEUCI", "SIGNATURE"]), default="UCI", show_default=True
)
@with_remote
def batches(remote: Remote, folder: Path | None, hash_type: str) -> None:
    """List the batches of the EU, or write them; one of which nothing is left is deleted in the folder too."""
    after = ""
    while True:
        answer = remote.call("GET", "/v1/revocations/batches?" + urlencode({"after": after} if after else {}))
        for one in answer["batches"]:
            click.echo(f"{one['batchId']}  {one['date']}" + ("  deleted" if one["deleted"] else ""))
            if folder is not None:
                _write_batch(remote, folder, one, hash_type)
        if not answer["more"]:
            return
        after = answer["batches"][-1]["batchId"]


def _write_batch(remote: Remote, folder: Path, one: dict[str, Any], hash_type: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{one['batchId']}.json"
    if one["deleted"]:
        path.unlink(missing_ok=True)
        return
    found = remote.call("GET", f"/v1/revocations/batches/{quote(one['batchId'], safe='')}?hash_type={hash_type}")
    path.write_text(json.dumps(found))


def _text(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    return value.isoformat() + ("" if value.tzinfo else "Z")


COMMANDS = (revocations,)
