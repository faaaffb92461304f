"""The digital copy: sealed once, however many ask; its key renewed without a restart; stamped or not."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from printsvc.credential.keys import LocalSigner
from printsvc.credential.sealing import SEAL_ENDS_BEFORE
from printsvc.domain.form import FormId
from printsvc.domain.seal import TimeStamping
from printsvc.errors import SealTimeError, SignerError, SigningError
from printsvc.flows.copies import digital_copy
from printsvc.flows.keymaking import make_authority
from printsvc.flows.seal import KEPT_COPIES, SealBook, SealKey, copy_tag, open_seal_key, seal_documents
from printsvc.store import jobs as job_store
from printsvc.store.keyfile import KeyFolder

FORM = FormId("a4/43-2022")
PASSPHRASE = b"opens"


class Sealer:
    """Stands in for the slow part: counts, and fails where a test says so."""

    def __init__(self) -> None:
        self.made: list[tuple[bytes, Any]] = []
        self.fails_with: list[Exception] = []
        self.threads: set[str] = set()

    def __call__(self, pdf: bytes, signer: Any, *, stamping: Any, **more: Any) -> bytes:
        self.threads.add(threading.current_thread().name)
        self.made.append((pdf, stamping))
        if self.fails_with:
            raise self.fails_with.pop(0)
        return pdf + b" sealed"


@pytest.fixture
def sealer(monkeypatch: pytest.MonkeyPatch) -> Sealer:
    made = Sealer()
    monkeypatch.setattr("printsvc.render.seal.seal_pdf", made)
    return made


def book_of(signer: LocalSigner, **more: Any) -> SealBook:
    return SealBook(lambda now: SealKey(signer), lambda form: None, b"", **more)


async def test_a_copy_is_made_once_and_off_the_loop(world: Any, signer: LocalSigner, sealer: Sealer) -> None:
    services = replace(world.services, seal=book_of(signer))
    [recorded] = await world.record(world.event("D-1"))
    [job] = await services.store.read(lambda c: job_store.jobs_of(c, [recorded.dose.certificate.uvci]))
    copies = await asyncio.gather(*(digital_copy(services, job) for _ in range(5)))
    assert len(sealer.made) == 1
    assert {copy.pdf for copy in copies} == {b"%PDF a4/43-2022 " + str(job.uvci).encode() + b" 1 sealed"}
    assert threading.main_thread().name not in sealer.threads
    [tag] = {copy.tag for copy in copies}
    known = await digital_copy(services, job, known_tags=["other", tag])
    assert (known.pdf, known.tag, len(sealer.made)) == (b"", tag, 1)
    plain = await digital_copy(services, job, sealed=False)
    assert (plain.is_sealed, plain.pdf.endswith(b" 1")) == (False, True)
    assert plain.tag == copy_tag(plain.pdf, None)
    unset = await digital_copy(replace(services, seal=None), job)
    assert (unset.pdf, unset.is_sealed) == (plain.pdf, False)


async def test_old_copies_make_room_and_failures_are_not_kept(world: Any, signer: LocalSigner, sealer: Sealer) -> None:
    book, now = book_of(signer), world.clock.now
    sealer.fails_with = [SigningError("locked")]
    with pytest.raises(SigningError):
        await book.seal(b"page", FORM, now)
    assert (await book.seal(b"page", FORM, now)).pdf == b"page sealed"
    for number in range(KEPT_COPIES):
        await book.seal(b"%d" % number, FORM, now)
    made = len(sealer.made)
    await book.seal(b"%d" % (KEPT_COPIES - 1), FORM, now)
    assert len(sealer.made) == made
    await book.seal(b"page", FORM, now)
    assert len(sealer.made) == made + 1


async def test_who_hangs_up_takes_nothing_from_the_others(world: Any, signer: LocalSigner, sealer: Sealer) -> None:
    book, now = book_of(signer), world.clock.now
    first = asyncio.ensure_future(book.seal(b"page", FORM, now))
    second = asyncio.ensure_future(book.seal(b"page", FORM, now))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).pdf == b"page sealed"
    assert len(sealer.made) == 1


async def test_without_a_time_stamp_a_copy_goes_out_and_the_authority_is_left_alone(
    world: Any, signer: LocalSigner, sealer: Sealer
) -> None:
    stamping = TimeStamping("http://127.0.0.1:9/")
    book, now = book_of(signer, stamping=stamping), world.clock.now
    sealer.fails_with = [SealTimeError("silent")]
    assert (await book.seal(b"a", FORM, now)).pdf == b"a sealed"
    assert [asked for _, asked in sealer.made] == [stamping, None]
    await book.seal(b"b", FORM, now + timedelta(seconds=30))
    assert sealer.made[-1] == (b"b", None)
    await book.seal(b"a", FORM, now + timedelta(seconds=61))
    assert sealer.made[-1] == (b"a", stamping), "what went out without a stamp is not kept"


async def test_a_key_is_looked_for_again(world: Any, signer: LocalSigner, sealer: Sealer) -> None:
    keys: list[SealKey | None] = [None, SealKey(signer)]
    book, now = SealBook(lambda _: keys.pop(0), lambda form: None, b""), world.clock.now
    with pytest.raises(SignerError, match="keys seal"):
        await book.seal(b"page", FORM, now)
    with pytest.raises(SignerError):
        await book.seal(b"page", FORM, now + timedelta(seconds=5))
    assert (await book.seal(b"page", FORM, now + timedelta(seconds=16))).is_sealed
    assert keys == []
    keys.append(SealKey(signer))
    await book.seal(b"page", FORM, now + timedelta(hours=2))
    assert keys == [], "asked every hour: a process that runs for years outlives its first key"


def test_a_seal_of_a_compromised_csca_gives_way_and_a_closed_folder_still_seals(world: Any, tmp_path: Path) -> None:
    folder, now = KeyFolder(tmp_path / "keys"), world.clock.now

    def opened(*compromised: bytes) -> SealKey:
        key = open_seal_key(folder, PASSPHRASE, now=now, random_bytes=os.urandom, compromised=compromised)
        assert key is not None
        return key

    def authority(*without: bytes) -> bytes:
        names = {"country": "VN", "organisation": "MOH", "common_name": "CSCA", "random_bytes": os.urandom}
        return make_authority(folder, PASSPHRASE, now=now, without=without, **names)[0].certificate

    lost = authority()
    first = opened()
    assert opened(lost).signer.certificate == first.signer.certificate, "there is nothing else"
    second = authority(lost)
    assert second != lost
    sealing = opened(lost)
    assert sealing.issuers == (second,)
    (folder.folder / "lock").unlink()
    (folder.folder / "lock").mkdir()  # nobody can open it, whoever runs the tests
    assert opened(lost).signer.certificate == sealing.signer.certificate


def test_a_key_is_made_under_the_csca_and_renewed_in_time(world: Any, tmp_path: Path) -> None:
    folder, now = KeyFolder(tmp_path / "keys"), world.clock.now

    def opened(at: Any, passphrase: bytes = PASSPHRASE) -> SealKey | None:
        return open_seal_key(folder, passphrase, now=at, random_bytes=os.urandom)

    assert opened(now) is None
    with folder.locked():
        authority, _ = make_authority(
            folder, PASSPHRASE, country="VN", organisation="MOH", common_name="CSCA", now=now, random_bytes=os.urandom
        )
    first = opened(now)
    assert first is not None
    assert first.issuers == (authority.certificate,)
    again = opened(now + timedelta(days=1))
    assert again is not None
    assert again.signer.certificate == first.signer.certificate
    with pytest.raises(SigningError):
        opened(now, b"wrong")
    late = first.signer.not_after - SEAL_ENDS_BEFORE + timedelta(days=1)
    second = opened(late)
    assert second is not None
    assert second.signer.not_after > first.signer.not_after
    told = {one["thumbprint"]: one["state"] for one in seal_documents(folder, late)}
    assert sorted(told.values()) == ["replaced", "sealing"]
    for name in (tmp_path / "keys").glob("csca*"):
        name.unlink()
    alone = opened(second.signer.not_after - timedelta(days=1))
    assert alone is not None
    assert (alone.signer.certificate, alone.issuers) == (second.signer.certificate, ())
    assert opened(second.signer.not_after) is None
    elsewhere = open_seal_key(
        folder, PASSPHRASE, now=second.signer.not_after, random_bytes=os.urandom, authority=authority
    )
    assert elsewhere is not None, "the CSCA's key may come from another place"
