"""up, serve, migrate, openapi: running the service."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import click


def _settings(development: bool, data_dir: Path | None, host: str | None, port: int | None) -> Any:
    from printsvc.settings import read_settings

    given: dict[str, Any] = {"data_dir": data_dir, "host": host, "port": port}
    chosen = {name: value for name, value in given.items() if value is not None}
    if development:
        chosen["development"] = True
    return read_settings(**chosen)


def _run(settings: Any) -> None:
    from printsvc import log
    from printsvc.app import serve
    from printsvc.cli.exposed import warn_of_exposed

    warn_of_exposed(settings)
    os.umask(0o077)  # names and numbers are in the database, keys and tokens beside it
    log.configure(settings.log_level)

    def started(address: str) -> None:
        click.echo(f"printsvc listens on {address}")
        if settings.development:
            click.echo(f"tokens for development: {settings.data_dir / 'dev'}")

    asyncio.run(serve(settings, started))


_OPTIONS = [
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of database, keys and caches.  [PRINTSVC_DATA_DIR, or var]",
    ),
    click.option("--host", help="Address to listen on.  [PRINTSVC_HOST, or 127.0.0.1]"),
    click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [PRINTSVC_PORT, or 8080]"),
]


def _with_options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@_with_options
def up(data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Serve on this machine with SQLite; makes keys, tokens and tables at the first start."""
    _run(_settings(True, data_dir, host, port))


@click.command()
@_with_options
def serve(data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Serve with the settings of the environment (PRINTSVC_…); makes no keys and no tokens."""
    _run(_settings(False, data_dir, host, port))


@click.command()
def migrate() -> None:
    """Bring the database to this version's tables."""
    from printsvc.settings import read_settings
    from printsvc.store import migrate as migration
    from printsvc.store.engine import Store

    os.umask(0o077)
    store = Store(read_settings().store_url)
    try:
        click.echo(f"The database is at revision {migration.upgrade(store)}.")
    finally:
        store.close()


@click.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from printsvc.web.openapi import openapi_document
    from printsvc.web.routes import ROUTES

    click.echo(json.dumps(openapi_document(ROUTES), ensure_ascii=False, indent=2))


COMMANDS = (up, serve, migrate, openapi)
