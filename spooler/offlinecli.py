"""`printsvc-spooler offline …`: a site that issues without a line. / Điểm tiêm cấp giấy khi không có mạng.

What signs and stamps is imported when it is wanted: the agent, which is the same program, needs neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import click

from printsvc.domain.print_job import CopyReason
from printsvc.errors import DuplicateError, InputError, PrintsvcError
from spooler.agent import _now as clock
from spooler.bagprotocol import SyncRequest
from spooler.core.attempt import Phase
from spooler.journal import Identity
from spooler.offline.book import Book
from spooler.offline.line import BagLine, BagRefusedError
from spooler.peek import peek, peek_identity
from spooler.protocol import JobId
from spooler.settings import Settings, read_settings

_state_dir = click.option("--state-dir", type=click.Path(path_type=Path), help="Journal and book.")
_passphrase = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with what opens the signing key.  [PRINTSVC_SPOOLER_BAG_PASSPHRASE_FILE; asked if none]",
)
_AGAIN = {  # what a person does about a paper
    Phase.FAILED.value: "printsvc-spooler offline again {} --reason missing",
    Phase.UNCERTAIN.value: "look for the paper; if it is not there or spoilt: "
    "printsvc-spooler offline again {} --reason missing",
}


@click.group()
def offline() -> None:
    """Issue and print without a line, from a day bag. / Cấp và in giấy khi không có mạng, từ gói ngày."""


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except PrintsvcError as error:
        _fail(error)


def _fail(error: PrintsvcError) -> NoReturn:
    click.echo(f"{error.vi}\n{error.en}" if error.vi != error.en else error.en, err=True)
    sys.exit(1)


def _settings(state_dir: Path | None) -> Settings:
    try:
        return read_settings(state_dir=state_dir) if state_dir else read_settings()
    except PrintsvcError as error:
        _fail(error)


def _open(settings: Settings, passphrase_file: Path | None, *, new: bool = False) -> tuple[Book, Identity, bytes]:
    from spooler.offline.taking import check_passphrase

    identity = peek_identity(settings.state_dir)
    path = passphrase_file or settings.bag_passphrase_file
    if path is not None:
        given = _read_passphrase(path)
    else:
        given = click.prompt("Mật khẩu / Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    book = Book.open(settings.state_dir)
    return book, identity, book.passphrase(check_passphrase(given), os.urandom)


def _read_passphrase(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        vi, en = f"Tệp mật khẩu {path} không phải văn bản UTF-8.", f"The passphrase file {path} is not text in UTF-8."
    except OSError as error:
        vi, en = (
            f"Không đọc được tệp mật khẩu {path}.",
            f"The passphrase file {path} cannot be read ({error.strerror}).",
        )
    raise InputError(en=en, vi=vi, code="passphrase_unreadable")


@offline.command("take")
@_state_dir
@_passphrase
def take(state_dir: Path | None, passphrase_file: Path | None) -> None:
    """Take the day bag that the centre granted, while there is a line. Run again after a cut line: nothing is lost."""
    from spooler.offline.taking import take_bag

    settings = _settings(state_dir)

    async def taken(book: Book, identity: Identity, passphrase: bytes) -> Any:
        line = BagLine(
            settings.url or identity.url,
            token=identity.token,
            ca_file=settings.ca_file,
            timeout_s=settings.request_timeout_s,
        )
        try:
            return await take_bag(book, line, identity, passphrase, csca_file=settings.csca_file, clock=clock)
        finally:
            await line.close()

    with _told():
        book, identity, passphrase = _open(settings, passphrase_file, new=True)
        with contextlib.closing(book):
            manifest = asyncio.run(taken(book, identity, passphrase)).manifest
    until = f"{manifest.expires_at:%Y-%m-%d %H:%M} UTC"
    click.echo(f"Đã lấy gói ngày {manifest.bag_id}: {manifest.range.size} giấy, đến {until}.")
    click.echo(f"Day bag {manifest.bag_id}: {manifest.range.size} certificates, until {until}.")


@offline.command("enter")
@click.argument("file", type=click.File("rb"), default="-")
@_state_dir
@_passphrase
def enter(file: Any, state_dir: Path | None, passphrase_file: Path | None) -> None:
    """Enter doses from FILE (one JSON, or one a line; - reads the standard input); print an answer a line.

    What is answered as issued is written down durably, and the running agent prints it. Exit code 1 where a line was
    refused.
    """
    from spooler.offline.taking import Desks

    settings = _settings(state_dir)
    refused = False
    with _told():
        book, identity, passphrase = _open(settings, passphrase_file)
        with contextlib.closing(book):
            desks = Desks(book, identity, passphrase)
            for number, document in _documents(file):
                answer: dict[str, Any] = {"line": number}
                try:
                    answer |= asdict(desks.enter(_parsed(document), now=clock()))
                except InputError as error:
                    problems = [asdict(problem) for problem in error.problems]
                    answer |= {"outcome": "refused", "code": error.code, "errors": problems}
                    answer |= {"detail": error.en, "detail_vi": error.vi}
                except DuplicateError as error:
                    answer |= {"outcome": "refused", "code": error.code, "fields": error.fields}
                    answer |= {"detail": error.en, "detail_vi": error.vi}
                except PrintsvcError as error:
                    answer |= {"outcome": "refused", "code": error.code, "detail": error.en, "detail_vi": error.vi}
                refused = refused or answer["outcome"] == "refused"
                click.echo(json.dumps(answer, ensure_ascii=False))
    sys.exit(1 if refused else 0)


def _documents(file: Any) -> Iterator[tuple[int, bytes]]:
    """Yield (number of its line, document): one document, also over many lines, or one a line.

    It is read line by line where the first line is JSON, so that a program gets each answer at once. Else it is one
    document where the whole is JSON, or where no line is: then the answer says so. A line that is none costs only
    itself.
    """
    number, first = 1, file.readline()
    while first and not first.strip():
        number, first = number + 1, file.readline()
    if not _is_json(first):
        rest = file.readlines()
        whole = b"".join((first, *rest))
        if _is_json(whole) or not any(_is_json(line, dict) for line in rest):
            if whole.strip():
                yield number, whole
            return
        lines: Iterator[bytes] = iter((first, *rest))
    else:
        lines = chain((first,), iter(file.readline, b""))
    for at, line in enumerate(lines, number):
        if line.strip():
            yield at, line


def _is_json(raw: bytes, kind: type = object) -> bool:
    try:
        return isinstance(json.loads(raw.decode("utf-8-sig")), kind)
    except (ValueError, RecursionError):
        return False


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise InputError(en="This is not valid JSON.", vi="Không phải JSON hợp lệ.", code="not_json") from None


@offline.command("again")
@click.argument("dose_id")
@click.option("--reason", type=click.Choice(["missing", "spoilt"]), required=True, help="What became of the paper.")
@_state_dir
@_passphrase
def again(dose_id: str, reason: str, state_dir: Path | None, passphrase_file: Path | None) -> None:
    """Print a further copy of DOSE_ID, issued here: the paper is missing or spoilt. / In thêm một bản."""
    from spooler.offline.taking import Desks

    settings = _settings(state_dir)

    def under_way() -> set[str]:
        return {job["job_id"] for job in peek(settings.state_dir)["jobs"] if job["phase"] != Phase.UNCERTAIN.value}

    with _told():
        book, identity, passphrase = _open(settings, passphrase_file)
        with contextlib.closing(book):
            desks = Desks(book, identity, passphrase)
            answer = desks.again(dose_id, CopyReason(reason), now=clock(), under_way=under_way)
    click.echo(json.dumps(asdict(answer), ensure_ascii=False))


@offline.command("status")
@_state_dir
def status(state_dir: Path | None) -> None:
    """Print what is in the bag and the book, and what a person must see to, as JSON."""
    settings = _settings(state_dir)
    with _told():
        journal = peek(settings.state_dir, with_failed=True)
        book = Book.open(settings.state_dir)
        with contextlib.closing(book):
            told = summary_document(book, journal, clock())
    click.echo(json.dumps(told, ensure_ascii=False, indent=2))


def summary_document(book: Book, journal: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the book's summary with the papers that the agent did not print, and what to do about each.

    A paper that another copy took the place of is not among them.
    """
    summary = book.summary()
    papers = {JobId(job_id): paper for job_id, paper in summary.pop("jobs").items()}
    newest: dict[str, int] = {}
    for dose_id, copy_number in papers.values():
        newest[dose_id] = max(newest.get(dose_id, 0), copy_number)
    not_printed = []
    for job in journal["jobs"]:
        dose_id, copy_number = papers.get(job["job_id"], ("", 0))
        command = _AGAIN.get(job["phase"])
        if dose_id and (command is None or copy_number == newest[dose_id]):
            told = {"dose_id": dose_id, "copy_number": copy_number}
            not_printed.append(job | told | ({"command": command.format(shlex.quote(dose_id))} if command else {}))
    refusals = book.refusals()
    bags = []
    for one in book.bags():
        is_over = one.expires_at <= now
        bag: dict[str, Any] = {"bag_id": one.bag_id, "until": one.expires_at.isoformat(), "is_over": is_over}
        if not is_over and one.size is not None:
            bag["left"] = max(0, one.size - book.next_numbers(one.bag_id)[1])
        bags.append(bag | ({"refused": refusals[one.bag_id]} if one.bag_id in refusals else {}))
    return {"bags": bags, **summary, "not_printed": not_printed}


@offline.command("sync")
@_state_dir
def sync(state_dir: Path | None) -> None:
    """Bring home what was entered, now; the running agent does it by itself when the line is back."""
    settings = _settings(state_dir)

    async def brought(book: Book, identity: Identity) -> int:
        line = BagLine(
            settings.url or identity.url,
            token=identity.token,
            ca_file=settings.ca_file,
            timeout_s=settings.request_timeout_s,
        )
        number = 0
        try:
            refused: set[str] = set()
            while (batch := book.next_to_bring(without=refused)) is not None:
                bag_id, entries = batch
                request = SyncRequest(journal_id=identity.journal_id, bag_id=bag_id, entries=entries)
                try:
                    answer = await line.bring(request)
                except BagRefusedError as error:
                    book.refuse_bag(bag_id, error.code, error.en, error.vi)
                    refused.add(bag_id)
                    click.echo(f"{bag_id}: {error.vi} / {error.en}", err=True)
                    continue
                book.mark_brought(bag_id, answer.acknowledged, answer.results)
                number += len(answer.results)
                if answer.acknowledged < entries[0].seq:
                    break
        finally:
            await line.close()
        return number

    with _told():
        identity = peek_identity(settings.state_dir)
        book = Book.open(settings.state_dir)
        with contextlib.closing(book):
            number = asyncio.run(brought(book, identity))
            left = book.summary()["not_brought"]
    click.echo(f"Đã gửi {number}, còn {left} chờ in. / {number} brought home, {left} wait for the agent to print.")


COMMANDS = (offline,)
