"""Signers' keys on disk: one folder, one encrypted PKCS#8 key and one certificate a signer, mode 0600.

A name is `csca` or `dsc-<kid>`. Files are written whole or not at all (a temporary name, fsync, rename).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from printsvc.errors import SigningError


@dataclass(frozen=True, slots=True)
class SealedSigner:
    """`certificate` is DER, `sealed_key` encrypted PKCS#8 PEM."""

    name: str
    certificate: bytes
    sealed_key: bytes


class KeyFolder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out while a key is made: two that start at once must not make two signers.

        Raises SigningError (`key_folder_closed`) where this user may not write here.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.folder / "lock").open("a+")
        except OSError as error:
            raise _closed(self.folder, error) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> list[SealedSigner]:
        """Return every signer that is complete and that this user may read, by name."""
        found = []
        with contextlib.suppress(OSError):  # the folder itself may be another user's
            for certificate in sorted(self.folder.glob("*.der")):
                with contextlib.suppress(OSError):
                    key = certificate.with_suffix(".key.pem").read_bytes()
                    found.append(SealedSigner(certificate.stem, certificate.read_bytes(), key))
        return found

    def write(self, signer: SealedSigner) -> None:
        """Store a signer; the certificate comes last, so that a half-written one is not there."""
        _write(self.folder / f"{signer.name}.key.pem", signer.sealed_key)
        _write(self.folder / f"{signer.name}.der", signer.certificate)

    def secret(self, name: str, make: bytes) -> bytes:
        """Return the content of a secret file; where there is none, `make` is stored and returned."""
        path = self.folder / name
        if not path.exists():
            with self.locked():  # two that start at once must read the same one
                if not path.exists():
                    _write(path, make)
        return path.read_bytes().strip()

    def find_key(self, name: str) -> bytes | None:
        """Return a signer's sealed key; None where it is not there or cannot be read."""
        try:
            return (self.folder / f"{name}.key.pem").read_bytes()
        except OSError:
            return None

    def clear_half_written(self, *, known: Collection[str]) -> None:
        """Take away what a kill left: temporary files, and keys that never got a certificate. Call it locked.

        `known` are names whose keys stay in any case: their certificates are elsewhere too.
        """
        for path in self.folder.glob("*.new"):
            path.unlink()
        for path in self.folder.glob("*.key.pem"):
            name = path.name.removesuffix(".key.pem")
            if name not in known and not (self.folder / f"{name}.der").exists():
                path.unlink()


def _closed(folder: Path, error: OSError) -> SigningError:
    why = os.strerror(error.errno or 0)
    return SigningError(
        f"No key can be stored in {folder}: {why}.",
        vi=f"Không lưu được khóa vào {folder}: {why}.",
        code="key_folder_closed",
    )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(path.name + ".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
