"""daybag: leave for sites to issue without a line, and what they bring home."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import click

from printsvc.cli.keys import _csca_place, _csca_place_options, _random_bytes
from printsvc.cli.remote import Remote, with_remote
from printsvc.cli.tables import query as _query
from printsvc.cli.tables import show_table as _table

_BAGS = "/v1/day-bags"
_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def daybag() -> None:
    """Day bags: a mobile site issues and prints for up to 7 days without a line. / Gói ngày cho điểm tiêm lưu động."""


def _path(bag: str, *more: str) -> str:
    return "/".join((_BAGS, quote(bag, safe=""), *more))


@daybag.command("make")
@click.argument("site_id")
@click.option("--doses", type=int, required=True, help="How many certificates the site may issue.")
@click.option("--days", type=click.IntRange(1, 7), default=1, show_default=True, help="For how many days.")
@click.option("--source", default="platform", show_default=True, help="Whose dose ids the site writes down.")
@_json
@with_remote
def make(remote: Remote, site_id: str, doses: int, days: int, source: str, as_json: bool) -> None:
    """Give SITE_ID leave to take a day bag within 48 hours; at the site: printsvc-spooler offline take."""
    bag = remote.call("POST", _BAGS, {"site_id": site_id, "doses": doses, "days": days, "source": source})
    if as_json:
        click.echo(json.dumps(bag, ensure_ascii=False))
        return
    click.echo(f"Day bag {bag['bag_id']}: {site_id} may issue {doses} certificates in {days} days.")
    click.echo(f"  Gói ngày {bag['bag_id']}: {site_id} được cấp {doses} giấy trong {days} ngày.")
    click.echo("At the site, while there is a line / Tại điểm tiêm, khi còn mạng: printsvc-spooler offline take")


@daybag.command("list")
@click.option("--site", "site_id", help="Of this site only.")
@_json
@with_remote
def list_bags(remote: Remote, site_id: str | None, as_json: bool) -> None:
    """List day bags, newest first."""
    found = remote.call("GET", _BAGS + _query(site_id=site_id))["day_bags"]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    columns = ["bag", "site", "state", "doses", "brought", "signer", "until"]
    rows = [
        [bag["bag_id"], bag["site_id"], bag["state"], bag["doses"], bag["brought"], bag["kid"] or "",
         bag["expires_at"] or bag["grant_expires_at"]]
        for bag in found
    ]  # fmt: skip
    _table("Day bags", columns, rows, "There are no day bags. / Chưa có gói ngày nào.")


@daybag.command("certificates")
@click.argument("bag")
@_json
@with_remote
def certificates(remote: Remote, bag: str, as_json: bool) -> None:
    """List every UVCI of BAG (its id, or its signer's kid) one by one, and what became of each."""
    found = remote.call("GET", _path(bag))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    rows = [[one["number"], one["uvci"], one["state"], one["dose_id"] or "", one["reason"]]
            for one in found["certificates"]]  # fmt: skip
    rows += [["outside", one["uvci"], "conflict", one["dose_id"], one["reason"]] for one in found["outside_range"]]
    _table(f"Day bag {found['bag']['bag_id']}", ["number", "UVCI", "state", "dose", "why"], rows, "")


@daybag.command("certify")
@click.argument("bag")
@_csca_place_options
@with_remote
def certify(remote: Remote, bag: str, **csca: Any) -> None:
    """Certify the signer of BAG, where the CSCA's key is and the service has none: then the site may take it."""
    from printsvc.cli.desk import read_admin_settings
    from printsvc.clock import clock
    from printsvc.flows.daybags import bag_of_document, make_delegate
    from printsvc.flows.keymaking import find_authority, no_authority

    folder, passphrase = _csca_place(read_admin_settings(), csca)
    authority = find_authority(folder, passphrase, clock())
    if authority is None:
        raise no_authority()
    wanted = bag_of_document(remote.call("GET", _path(bag))["bag"])
    certificate = make_delegate(wanted, authority, now=clock(), serial=_random_bytes()(15))
    body = {"certificate": base64.b64encode(certificate).decode("ascii")}
    done = remote.call("POST", _path(wanted.bag_id, "certify"), body)
    click.echo(f"Signer {done['kid']} is certified until {done['expires_at']}; the site may take the bag.")
    click.echo(f"  Khóa ký {done['kid']} được chứng nhận đến {done['expires_at']}; điểm tiêm có thể lấy gói.")


@daybag.command("end")
@click.argument("bag")
@click.option("--reason", default="", help="It stays in the ledger. No names of persons.")
@with_remote
def end(remote: Remote, bag: str, reason: str) -> None:
    """End BAG: its signer signs no more, what it signed is good. A stolen key: printsvc keys compromise KID."""
    done = remote.call("POST", _path(bag, "end"), {"reason": reason})
    click.echo(f"Day bag {done['bag_id']} is ended. Its certificates: printsvc daybag certificates {done['bag_id']}")
    click.echo(f"  Đã kết thúc gói ngày {done['bag_id']}.")


@daybag.command("conflicts")
@click.option("--site", "site_id", help="Of this site only.")
@_json
@with_remote
def conflicts(remote: Remote, site_id: str | None, as_json: bool) -> None:
    """List what sites brought and what could not be stored: somebody has to decide."""
    found = remote.call("GET", f"{_BAGS}/conflicts" + _query(site_id=site_id))["conflicts"]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    rows = [[one["bag_id"], one["seq"], one["site_id"], one["dose_id"], one["reason"], one["detail"]] for one in found]
    _table("Conflicts", ["bag", "seq", "site", "dose", "why", "detail"], rows, "No conflicts. / Không có xung đột.")


@daybag.command("settle")
@click.argument("bag")
@click.argument("seq", type=int)
@click.argument("decision", type=click.Choice(["accept", "revoke", "dismiss"]))
@with_remote
def settle(remote: Remote, bag: str, seq: int, decision: str) -> None:
    """Decide conflict SEQ of BAG: accept the dose after all, revoke its code, or dismiss it."""
    done = remote.call("POST", _path(bag, "conflicts", str(seq)), {"decision": decision})
    click.echo(f"{done['dose_id'] or done['seq']}: {done['settlement']}")


@daybag.command("identities")
@_json
@with_remote
def identities(remote: Remote, as_json: bool) -> None:
    """List the doses that were issued without the registry, and wait for its word."""
    found = remote.call("GET", f"{_BAGS}/identities")["identities"]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    rows = [[one["dose_id"], one["site_id"], one["uvci"], one["brought_at"]] for one in found]
    _table("Identities to check", ["dose", "site", "UVCI", "brought"], rows, "None waits. / Không còn ai chờ xác thực.")


COMMANDS = (daybag,)
