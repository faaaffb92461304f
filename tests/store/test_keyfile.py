"""Keys on disk: whole or not there, for nobody else's eyes, and one secret for all who start at once."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from printsvc.store.keyfile import KeyFolder, SealedSigner


def test_signers_come_back_by_name(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    assert folder.read() == []
    signers = [SealedSigner("dsc-02", b"two", b"key two"), SealedSigner("csca", b"root", b"key of root")]
    for signer in signers:
        folder.write(signer)
    assert folder.read() == signers[::-1]


def test_a_signer_that_was_half_written_is_not_there(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    folder.write(SealedSigner("dsc-01", b"one", b"key"))
    (tmp_path / "keys/dsc-02.key.pem").write_bytes(b"a key whose certificate never came")
    (tmp_path / "keys/dsc-03.der").write_bytes(b"a certificate without a key")
    (tmp_path / "keys/dsc-04.der.new").write_bytes(b"cut in the middle")
    assert [signer.name for signer in folder.read()] == ["dsc-01"]


def test_nobody_else_may_read_keys(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    folder.write(SealedSigner("dsc-01", b"one", b"key"))
    folder.secret("passphrase", b"secret")
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    for name in ("dsc-01.key.pem", "dsc-01.der", "passphrase"):
        assert stat.S_IMODE((tmp_path / "keys" / name).stat().st_mode) == 0o600


def test_a_secret_is_made_once_however_many_ask(tmp_path: Path) -> None:
    start = threading.Barrier(16)

    def ask(n: int) -> bytes:
        start.wait()
        return KeyFolder(tmp_path / "keys").secret("passphrase", f"secret {n}\n".encode())

    with ThreadPoolExecutor(16) as pool:
        told = set(pool.map(ask, range(16)))
    assert len(told) == 1
    [secret] = told
    assert KeyFolder(tmp_path / "keys").secret("passphrase", b"another") == secret
    assert not secret.endswith(b"\n")


def test_one_at_a_time_makes_keys(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    inside: list[int] = []
    most: list[int] = []

    def make(n: int) -> None:
        with KeyFolder(tmp_path / "keys").locked():
            inside.append(n)
            most.append(len(inside))
            folder.write(SealedSigner(f"dsc-{n}", b"x", b"y"))
            inside.remove(n)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    assert max(most) == 1
    assert len(folder.read()) == 8
