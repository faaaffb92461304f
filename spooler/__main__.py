"""`printsvc-spooler enroll | run | status | doctor`: the site agent's commands."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import click
import structlog
from pydantic import ValidationError

from printsvc.errors import PrintsvcError
from spooler import offlinecli
from spooler.agent import Agent, clock
from spooler.doctor import Check, Status, as_document, as_text, is_well, visit
from spooler.journal import Journal
from spooler.link import Link
from spooler.peek import peek
from spooler.protocol import EnrollRequest
from spooler.settings import Settings, read_settings, systemd_watch
from spooler.systemd import keep_alive, notify


def _version() -> str:
    try:
        return metadata.version("printsvc")
    except metadata.PackageNotFoundError:
        return ""


def _log_json() -> None:
    """Send one JSON object a line to stderr. Job ids and queues are logged, never documents, names or tokens."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _settings(**given: Any) -> Settings:
    try:
        return read_settings(**given)
    except PrintsvcError as error:
        _fail(error)


def _open(settings: Settings) -> Journal:
    return Journal.open(settings.state_dir, make_journal_id=lambda: secrets.token_hex(16))


def _fail(error: PrintsvcError) -> NoReturn:
    click.echo(f"{error.en}\n{error.vi}" if error.vi != error.en else error.en, err=True)
    sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="printsvc-spooler")
def main() -> None:
    """Prints the certificates of a site. Settings: environment variables PRINTSVC_SPOOLER_…"""
    os.umask(0o077)  # the journal holds the token, the documents hold names
    _log_json()


@main.command("enroll")
@click.option("--code", required=True, help="One-time code, made for the site by an admin.")
@click.option("--url", required=True, help="Base URL of the service.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Journal and documents.")
def enroll_command(code: str, url: str, state_dir: Path | None) -> None:
    """Enrol this agent with the service and keep its token."""
    given = {"url": url} | ({"state_dir": state_dir} if state_dir else {})
    settings = _settings(**given)

    async def _enroll(journal: Journal) -> str:
        link = Link(settings.url, ca_file=settings.ca_file, timeout_s=settings.request_timeout_s)
        try:
            request = EnrollRequest(code=code, journal_id=journal.identity().journal_id, agent_version=_version())
            answer = await link.enroll(request)
            journal.enroll(settings.url, answer)
            return answer.site_id
        finally:
            await link.close()

    try:
        journal = _open(settings)
        try:
            click.echo(f"enrolled for site {asyncio.run(_enroll(journal))}")
        finally:
            journal.close()
    except PrintsvcError as error:
        _fail(error)


def _settings_epilog() -> str:
    """Return every setting with its default, for `run --help`."""
    lines = ["\b", "Settings, from the environment:"]
    for name, field in Settings.model_fields.items():
        told = field.default if field.default not in ("", (), None) else "none"
        lines.append(f"  PRINTSVC_SPOOLER_{name.upper()}  [{told}]")
        lines.append(f"      {field.description}")
    return "\n".join(lines)


@main.command(epilog=_settings_epilog())
def run() -> None:
    """Run the agent until it is told to stop."""
    settings = _settings()
    try:
        journal = _open(settings)
    except PrintsvcError as error:
        _fail(error)
    try:
        if not (settings.url or journal.identity().url):
            raise click.UsageError("set PRINTSVC_SPOOLER_URL or enrol first: printsvc-spooler enroll --code … --url …")
        asyncio.run(_run(settings, journal))
    finally:
        journal.close()


async def _run(settings: Settings, journal: Journal) -> None:
    task = asyncio.ensure_future(Agent(settings, journal, version=_version()).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    socket, every_s = systemd_watch()
    life = None
    if socket:
        notify(socket, "READY=1")
        life = asyncio.ensure_future(keep_alive(socket, every_s)) if every_s else None
    try:
        await task
    except asyncio.CancelledError:
        # Nothing needs to be finished: what is in CUPS stands in the journal, and is settled at the next start.
        structlog.get_logger("spooler").info("agent_stopped")
    finally:
        if life is not None:
            life.cancel()


@main.command()
@click.option("--state-dir", type=click.Path(path_type=Path), help="Journal and documents.")
def status(state_dir: Path | None) -> None:
    """Print the journal's counts, and every job that is not settled or is uncertain, as JSON."""
    settings = _settings(state_dir=state_dir) if state_dir else _settings()
    try:
        click.echo(json.dumps(peek(settings.state_dir), indent=2))
    except PrintsvcError as error:
        _fail(error)


@main.command()
@click.option("--state-dir", type=click.Path(path_type=Path), help="Journal and documents.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(state_dir: Path | None, as_json: bool) -> None:
    """Look at everything that this site needs, and say what to do. Exit code 1: there is a problem."""
    try:
        settings = Settings(state_dir=state_dir) if state_dir else Settings()
    except ValidationError as error:
        checks = [_wrong_setting(detail) for detail in error.errors(include_url=False, include_input=False)]
    else:
        checks = asyncio.run(visit(settings, version=_version(), clock=clock))
    click.echo(json.dumps(as_document(checks), ensure_ascii=False, indent=2) if as_json else as_text(checks))
    sys.exit(0 if is_well(checks) else 1)


def _wrong_setting(detail: Any) -> Check:
    name = f"PRINTSVC_SPOOLER_{str(detail['loc'][0]).upper()}" if detail["loc"] else "PRINTSVC_SPOOLER_…"
    return Check(
        "computer",
        "setting-invalid",
        Status.PROBLEM,
        f"the setting {name} is wrong: {detail['msg']}",
        f"thiết lập {name} không hợp lệ",
        "printsvc-spooler run --help names every setting; with the package they are in /etc/default/printsvc-spooler",
        "xem printsvc-spooler run --help; với gói Debian, thiết lập nằm trong /etc/default/printsvc-spooler",
    )


for command in offlinecli.COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
