"""The `printsvc` command. What a command needs is imported when it runs: `--help` answers at once."""

from __future__ import annotations

import errno
import io
import sys
import warnings
from typing import Final

import click

from printsvc import __version__
from printsvc.cli import (
    admin,
    daybag,
    fleet,
    forms,
    issue,
    keys,
    papers,
    printers,
    reissue,
    revocations,
    run,
    tokens,
    trust,
    verify,
)
from printsvc.errors import InputError, PrintsvcError, Problem

_SYSTEM_ERRORS_VI: Final = {
    errno.ENOSPC: "Đĩa đã đầy",
    errno.EDQUOT: "Đã hết hạn mức đĩa",
    errno.EROFS: "Ổ đĩa chỉ cho đọc",
    errno.EACCES: "Không có quyền truy cập",
    errno.EPERM: "Không được phép",
    errno.ENOENT: "Không có tệp hoặc thư mục này",
    errno.ENOTDIR: "Không phải thư mục",
    errno.EISDIR: "Đây là thư mục, không phải tệp",
    errno.EIO: "Lỗi đọc hoặc ghi đĩa",
}


class _Group(click.Group):
    """Errors of ours, and those of files, become a few lines and exit code 1, not a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal without Vietnamese still gets an answer
        # Certificates come as they are: a country of three letters in one is nothing that the caller can mend.
        warnings.filterwarnings("ignore", "Attribute's length must be", UserWarning)
        try:
            return super().invoke(ctx)
        except PrintsvcError as error:
            _tell(error)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly when nobody reads on
            place = f": {error.filename}" if error.filename else ""
            click.echo(f"printsvc: {error.strerror or type(error).__name__}{place}", err=True)
            if error.errno in _SYSTEM_ERRORS_VI:
                click.echo(f"          {_SYSTEM_ERRORS_VI[error.errno]}{place}", err=True)
        sys.exit(1)


def _tell(error: PrintsvcError) -> None:
    problems = error.problems if isinstance(error, InputError) else []
    if not problems:
        problems = [Problem("", error.code, error.vi, error.en)]
    for number, problem in enumerate(problems):
        where = f"{problem.pointer}: " if problem.pointer else ""
        click.echo(("printsvc: " if number == 0 else " " * 10) + where + problem.en, err=True)
        if problem.vi != problem.en:
            click.echo(" " * 10 + where + problem.vi, err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="printsvc")
def main() -> None:
    """Signed vaccination certificates from Platform data, on paper, with proof of paper."""


for module in (
    run,
    verify,
    admin,
    fleet,
    papers,
    printers,
    keys,
    forms,
    issue,
    reissue,
    trust,
    revocations,
    tokens,
    daybag,
):
    for command in module.COMMANDS:
        main.add_command(command)
