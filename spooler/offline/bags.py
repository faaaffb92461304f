"""The bags in a site's book: the keys that they are asked for with, whom they are believed from, and their files."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from spooler.offline.bookfile import BookFile, full


@dataclass(frozen=True, slots=True)
class HeldBag:
    """A bag in the book: its file, and the sealed key (PEM) that its signer is over."""

    bag_id: str
    file: Path
    sealed: bytes
    request: bytes
    taken_at: datetime
    expires_at: datetime
    size: int | None = None  # certificates; None: not known, an older agent took it


class BagBook(BookFile):
    """An open book with what is in it of bags."""

    # -- the key

    def passphrase(self, given: str, random_bytes: Callable[[int], bytes]) -> bytes:
        """Return what seals the signing key: the given passphrase and this machine's own secret, which is made once.

        Raises BookUnwritableError.
        """
        path = self._directory / "agent.secret"
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}")
            try:
                _write(part, random_bytes(32))
                with contextlib.suppress(FileExistsError):
                    os.link(part, path)  # whole or not at all, and only once
                _sync(self._directory)
            except OSError as error:
                raise full(error) from error
            finally:
                part.unlink(missing_ok=True)
        return hmac.digest(path.read_bytes(), given.encode(), hashlib.sha256).hex().encode()

    def pending_requests(self) -> list[tuple[bytes, bytes]]:
        """Return (request, sealed key) that no bag was taken for yet, oldest first."""
        rows = self._read("SELECT request, sealed FROM keys WHERE bag_id IS NULL ORDER BY rowid")
        return [(bytes(request), bytes(sealed)) for request, sealed in rows]

    def add_key(self, request: bytes, sealed: bytes, now: datetime) -> None:
        with self.writing():
            self._connection.execute(
                "INSERT INTO keys (request, sealed, made_at) VALUES (?, ?, ?)", (request, sealed, now.isoformat())
            )

    def drop_request(self, request: bytes) -> None:
        """Forget a key that never got a bag."""
        with self.writing():
            self._connection.execute("DELETE FROM keys WHERE request = ? AND bag_id IS NULL", (request,))

    def pins(self) -> list[bytes]:
        """Return the CSCAs (DER) that bags are believed from."""
        return [bytes(row[0]) for row in self._read("SELECT csca FROM pins")]

    def pin(self, csca: bytes) -> None:
        with self.writing():
            self._connection.execute("INSERT OR IGNORE INTO pins (csca) VALUES (?)", (csca,))

    # -- bags

    def add_bag(
        self,
        bag_id: str,
        version: int,
        archive: bytes,
        request: bytes,
        expires_at: datetime,
        now: datetime,
        *,
        size: int | None = None,
    ) -> None:
        """Keep a bag that was checked; one that is here already is replaced by its newer version."""
        name = f"{bag_id}-{version}.zip"
        part = self._directory / f"{name}.part"
        try:
            _write(part, archive)
            part.rename(self._directory / name)
            _sync(self._directory)
        except OSError as error:
            raise full(error) from error
        row = (bag_id, request, name, now.isoformat(), expires_at.isoformat(), size)
        with self.writing():
            self._connection.execute("UPDATE keys SET bag_id = ? WHERE request = ?", (bag_id, request))
            self._connection.execute(
                "INSERT INTO bags (bag_id, request, file, taken_at, expires_at, size) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (bag_id) DO UPDATE SET file = excluded.file, taken_at = excluded.taken_at, "
                "size = excluded.size",
                row,
            )

    def bags(self) -> list[HeldBag]:
        """Return the bags, newest first."""
        rows = self._read(
            "SELECT b.bag_id, b.file, k.sealed, b.request, b.taken_at, b.expires_at, b.size FROM bags b "
            "JOIN keys k ON k.request = b.request ORDER BY b.taken_at DESC, b.rowid DESC"
        )
        return [
            HeldBag(
                row[0],
                self._directory / row[1],
                bytes(row[2]),
                bytes(row[3]),
                datetime.fromisoformat(row[4]),
                datetime.fromisoformat(row[5]),
                row[6],
            )
            for row in rows
        ]

    def refuse_bag(self, bag_id: str, code: str, en: str, vi: str) -> None:
        """Note that the centre does not take what this bag brings, and its sentence."""
        with self.writing():
            self._connection.execute(
                "UPDATE bags SET refused = ?, refused_en = ?, refused_vi = ? WHERE bag_id = ?", (code, en, vi, bag_id)
            )

    def refusals(self) -> dict[str, dict[str, str]]:
        """Return the bags that the centre does not take, with code and sentence."""
        rows = self._read("SELECT bag_id, refused, refused_en, refused_vi FROM bags WHERE refused <> ''")
        return {row[0]: dict(zip(("code", "detail", "detail_vi"), row[1:], strict=True)) for row in rows}


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
