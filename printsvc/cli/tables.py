"""What admins' commands show: tables on a terminal."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlencode

import click


def show_table(title: str, columns: list[str], rows: list[list[Any]], empty: str) -> None:
    """Print rows under a title; `empty` where there are none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        click.echo(empty)
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[Text(str(cell)) for cell in row])  # Text: no markup in what others typed
    # Piped into a file or another program, no line is cut to a terminal's width.
    Console(width=None if sys.stdout.isatty() else 240).print(table)


def query(**given: str | None) -> str:
    """Return what stands after the path of a URL, from what is given."""
    chosen = {name: value for name, value in given.items() if value}
    return f"?{urlencode(chosen)}" if chosen else ""
