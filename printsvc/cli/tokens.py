"""tokens: who may call the service. On the database itself, as the first admin has no token to ask with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


@click.group()
def tokens() -> None:
    """Tokens of the Platform and of admins; sites get theirs from an admin over HTTP."""


@tokens.command("make")
@click.argument("role", type=click.Choice(["platform", "admin"]))
@click.option("--name", required=True, help="Who holds it; the Platform's name is the source of its doses.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="New file for it.  [standard output]")
def make(role: str, name: str, out: Path | None) -> None:
    """Make a token and tell it this once; its digest alone is stored. Several may have one name."""
    from printsvc.clock import clock
    from printsvc.errors import InputError, Problem
    from printsvc.store.sites import Caller, insert_token
    from printsvc.web.sites import new_token

    if not 1 <= len(name) <= 64 or not name.isprintable():
        vi, en = "Tên dài 1 đến 64 ký tự, in được.", "A name has 1 to 64 printable characters."
        raise InputError([Problem("/name", "invalid", vi, en)])
    token = new_token(os.urandom(32))
    # Before it works: a token that nobody could write down must not be in the books.
    file = None if out is None else os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    if file is not None:
        with open(file, "w") as opened:
            opened.write(token + "\n")
            opened.flush()
            os.fsync(opened.fileno())
    try:
        _on_database(lambda c: insert_token(c, token, Caller(name, role), now=clock()))
    except BaseException:
        if out is not None:
            out.unlink()
        raise
    click.echo(token if out is None else f"{out}: a token of {name} ({role}) / mã truy cập của {name}")


@tokens.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_all(as_json: bool) -> None:
    """List the tokens by the beginning of their digests."""
    from printsvc.cli.tables import show_table as _table
    from printsvc.store.sites import list_tokens

    found = _on_database(list_tokens)
    if as_json:
        told = [
            one | {name: one[name].isoformat() if one[name] else None for name in ("created_at", "revoked_at")}
            for one in found
        ]
        click.echo(json.dumps({"tokens": told}, ensure_ascii=False))
        return
    rows = [
        [one["id"], one["role"], one["name"], one["site_id"] or "", one["created_at"], one["revoked_at"] or ""]
        for one in found
    ]
    _table("Tokens", ["id", "role", "name", "site", "made", "revoked"], rows, "There is no token. / Chưa có mã nào.")


@tokens.command("revoke")
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """End the token ID (as `tokens list` has it): the next call with it is refused. Run again, it changes nothing."""
    from printsvc.clock import clock
    from printsvc.store.sites import revoke_token

    caller = _on_database(lambda c: revoke_token(c, token_id, now=clock()))
    click.echo(f"{token_id}: the token of {caller.name} ({caller.role}) is revoked. / Đã thu hồi mã truy cập.")


def _on_database(unit: Callable[[Connection], T]) -> T:
    from printsvc.app import open_store
    from printsvc.cli.desk import read_admin_settings

    os.umask(0o077)
    store = open_store(read_admin_settings())
    try:
        return store.submit(unit).result()
    finally:
        store.close()


COMMANDS: tuple[Any, ...] = (tokens,)
