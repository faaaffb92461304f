"""Saying which secrets on disk anybody on this machine may read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from printsvc.settings import Settings


def exposed_secrets(settings: Settings, *more: Path | None) -> list[Path]:
    """Return the files with keys, passphrases and PINs that users other than their owner and group may read."""
    folders = [settings.data_dir / "keys", settings.data_dir / "dev"]
    files = [settings.key_passphrase_file, settings.pkcs11_pin_file, *more]
    for folder in folders:
        files += [*folder.glob("*.key.pem"), *folder.glob("*.passphrase"), *folder.glob("*.token")]
    return [file for file in files if file is not None and _is_open_to_all(file)]


def warn_of_exposed(settings: Settings, *more: Path | None) -> None:
    """Name them on standard error; nothing is refused, as a container may have its secrets so."""
    for file in exposed_secrets(settings, *more):
        click.echo(f"printsvc: Every user of this machine may read {file}: chmod 600 {file}", err=True)
        click.echo(f"          Mọi người dùng trên máy này đọc được {file}.", err=True)


def _is_open_to_all(file: Path) -> bool:
    try:
        whole = file.resolve()
        return bool(whole.stat().st_mode & 0o004) and all(above.stat().st_mode & 0o001 for above in whole.parents)
    except OSError:
        return False
