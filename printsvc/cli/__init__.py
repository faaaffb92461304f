"""The `printsvc` command. What a command needs is imported when it runs: `--help` answers at once."""

from __future__ import annotations

import sys

import click

from printsvc import __version__
from printsvc.cli import admin, run, verify
from printsvc.errors import InputError, PrintsvcError


class _Group(click.Group):
    """Errors of ours become two lines and exit code 1, not a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PrintsvcError as error:
            click.echo(f"printsvc: {error.en}", err=True)
            if error.vi != error.en:
                click.echo(f"          {error.vi}", err=True)
            if isinstance(error, InputError):
                for problem in error.problems[1:]:
                    click.echo(f"          {problem.pointer}: {problem.en} / {problem.vi}", err=True)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="printsvc")
def main() -> None:
    """Signed vaccination certificates from Platform data, on paper, with proof of paper."""


for command in (*run.COMMANDS, *verify.COMMANDS, *admin.COMMANDS):
    main.add_command(command)
