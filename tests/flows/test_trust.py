"""Imported lists and our own: all or nothing, versions that change with content, processes that see it at once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from printsvc.credential.dsc import read_dsc
from printsvc.credential.keys import make_csca, make_dsc, make_private_key, seal_private_key
from printsvc.credential.trustedkey import CredentialFormat
from printsvc.credential.trustimport import ListFile, ListFormat, Pins
from printsvc.credential.trustsigned import is_list_signer, read_signed_list, sign_trust_list
from printsvc.errors import InputError, NotFoundError, SignerError, SigningError, StoreError
from printsvc.flows import trust as flow
from printsvc.flows.keymaking import Authority
from printsvc.flows.keys import compromise
from printsvc.flows.trust import TrustBook, get_source, import_list, open_list_signer, remove_source
from printsvc.store import trust as trust_store
from printsvc.store.engine import Store
from printsvc.store.keyfile import KeyFolder, SealedSigner

NOW = datetime.fromisoformat("2021-10-30T02:12:00+00:00")
AUTHORITY_KEY = make_private_key()
AUTHORITY = make_csca(AUTHORITY_KEY, country="DE", organisation="RKI", common_name="CSCA DE", serial=1, now=NOW)


def dsc(serial: int) -> bytes:
    return make_dsc(
        make_private_key().public_key(),
        csca=AUTHORITY,
        csca_key=AUTHORITY_KEY,
        organisation="RKI",
        common_name=f"DSC {serial}",
        serial=serial,
        now=NOW,
    )


DSCS = [dsc(serial) for serial in range(2, 6)]


def pem(*ders: bytes) -> bytes:
    encoding = serialization.Encoding.PEM
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(encoding) for der in ders)


def bare(*ders: bytes, **more: Any) -> ListFile:
    raw = pem(*ders)
    return ListFile(ListFormat.CERTIFICATES, raw, unsigned=True, sha256=hashlib.sha256(raw).hexdigest(), **more)


@pytest.fixture(autouse=True)
def own(store: Store, signer: Any, publish: Callable[..., Any]) -> bytes:
    """Our own list has one signer."""
    publish(store, signer, now=NOW)
    return bytes(signer.certificate)


def published(store: Store) -> list[tuple[int, bytes]]:
    found, after = [], 0
    while (one := store.read_now(lambda c, after=after: trust_store.next_published(c, after))) is not None:
        found.append((one.position, one.certificate))
        after = one.position
    return found


async def test_an_import_replaces_its_source_and_every_process_sees_it(store: Store) -> None:
    here, there = TrustBook(), TrustBook()
    before = await here.load(store, NOW)
    assert (await there.load(store, NOW)).everybody == before.everybody
    done = await import_list(store, "de", bare(*DSCS[:2]), now=NOW, actor="an")
    assert (len(done.difference.added), done.difference.unchanged) == (2, 0)
    for book in (here, there):
        loaded = await book.load(store, NOW)
        assert {d.der for d in loaded.everybody.certificates} >= set(DSCS[:2])
        assert (loaded.own.version, loaded.everybody.version) == (before.own.version, before.everybody.version + 1)
        assert await book.load(store, NOW) is loaded, "read again only when something changed"
    done = await import_list(store, "de", bare(*DSCS[1:3]), now=NOW + timedelta(days=1), actor="binh")
    assert [len(done.difference.added), len(done.difference.removed), done.difference.unchanged] == [1, 1, 1]
    source, keys, events = await get_source(store, "de")
    assert (source.imported_by, source.imported_at) == ("binh", NOW + timedelta(days=1))
    assert [key.certificate for key in keys] == DSCS[1:3]
    assert [(e["event"], e["actor"], e["added"], e["removed"]) for e in events] == [
        ("import", "an", 2, 0),
        ("import", "binh", 1, 1),
    ]


async def test_the_version_changes_exactly_when_the_content_does(store: Store) -> None:
    book = TrustBook()

    async def version() -> int:
        return (await book.load(store, NOW)).everybody.version

    start = await version()
    await import_list(store, "de", bare(*DSCS[:2]), now=NOW, actor="an")
    assert await version() == start + 1
    await import_list(store, "de", bare(*DSCS[:2]), now=NOW + timedelta(days=1), actor="an")
    await import_list(store, "de", bare(*reversed(DSCS[:2])), now=NOW + timedelta(days=1), actor="an")
    await import_list(store, "de", bare(*DSCS), now=NOW, actor="an", dry_run=True)
    assert await version() == start + 1
    assert await remove_source(store, "de", now=NOW, actor="an") == 2
    assert await version() == start + 2
    with pytest.raises(NotFoundError):
        await remove_source(store, "de", now=NOW, actor="an")
    with pytest.raises(NotFoundError):
        await get_source(store, "de")


async def test_a_list_that_is_refused_changes_nothing(store: Store) -> None:
    await import_list(store, "de", bare(DSCS[0]), now=NOW, actor="an")
    before = await TrustBook().load(store, NOW)
    broken = pem(DSCS[1]) + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    file = replace(bare(), raw=broken, sha256=hashlib.sha256(broken).hexdigest())
    with pytest.raises(InputError) as caught:
        await import_list(store, "de", file, now=NOW, actor="an")
    assert [(p.pointer, p.code) for p in caught.value.problems] == [("/1", "certificate_unreadable")]
    for source in ("", "DE", "a b", "../x", "é", "x" * 65):
        with pytest.raises(InputError):
            await import_list(store, source, bare(DSCS[1]), now=NOW, actor="an")
    key_set = replace(bare(), list_format=ListFormat.DID)
    with pytest.raises(InputError):
        await import_list(store, "de", key_set, now=NOW, actor="an")
    assert (await TrustBook().load(store, NOW)).everybody == before.everybody
    skipping = replace(file, skip_unusable=True)
    await import_list(store, "de", skipping, now=NOW, actor="an")
    source, keys, _ = await get_source(store, "de")
    assert ([key.certificate for key in keys], [s["pointer"] for s in source.skipped]) == ([DSCS[1]], ["/1"])


async def test_what_was_compromised_here_is_believed_through_no_list(store: Store, own: bytes) -> None:
    """A gateway lists our signers too, and still does days after their key was stolen."""
    await import_list(store, "eu", bare(own, DSCS[0]), now=NOW, actor="an")
    before = await TrustBook().load(store, NOW)
    assert {one.der for one in before.everybody.certificates} == {own, DSCS[0]}
    thumbprint, held = read_dsc(own).thumbprint, TrustBook()
    await held.load(store, NOW)
    store.submit(lambda c: compromise(c, thumbprint, reason="stolen", now=NOW, actor="an", held=set())).result()
    await import_list(store, "other", bare(own), now=NOW, actor="an")
    for book in (held, TrustBook()):
        everybody = (await book.load(store, NOW)).everybody
        assert [one.der for one in everybody.certificates] == [DSCS[0]]
        assert everybody.keys.keys == ()
    assert [der for _, der in published(store)] == [DSCS[0]]


async def test_a_signed_list_never_goes_back(store: Store, tmp_path: Path) -> None:
    folder = key_folder(tmp_path)
    signer = open_list_signer(folder, b"secret", now=NOW, random_bytes=os.urandom)
    assert signer is not None
    trust = (await TrustBook().load(store, NOW)).own

    def file(version: int, *, at: datetime = NOW, other: bool = False) -> ListFile:
        changed = replace(trust, version=version)
        if other:
            changed = replace(changed, certificates=(read_dsc(DSCS[0]),))
        return ListFile(ListFormat.PRINTSVC, sign_trust_list(changed, signer, now=at).encode(), Pins((AUTHORITY,)))

    async def take(one: ListFile) -> str:
        try:
            await import_list(store, "vn", one, now=NOW, actor="an")
        except InputError as error:
            return error.problems[0].code
        return "taken"

    assert await take(file(7)) == "taken"
    assert await take(file(6)) == "rollback"
    assert await take(file(7, at=NOW - timedelta(hours=1))) == "rollback"
    assert await take(file(7, other=True)) == "rollback", "one version has one content"
    assert await take(file(7)) == "taken"
    assert await take(file(8, other=True)) == "taken"
    assert await take(bare(DSCS[0])) == "source_taken"


async def test_positions_of_what_verifiers_fetch_are_never_used_again(store: Store) -> None:
    await TrustBook().load(store, NOW)
    (first_of_all,) = published(store)
    await import_list(store, "de", bare(*DSCS[:2]), now=NOW, actor="an")
    first = published(store)
    assert first[0] == first_of_all
    assert {der for _, der in first[1:]} == set(DSCS[:2])
    await import_list(store, "fr", bare(DSCS[0], DSCS[2]), now=NOW, actor="an")
    assert [der for _, der in published(store)[3:]] == [DSCS[2]], "what two lists have is there once"
    await remove_source(store, "de", now=NOW, actor="an")
    assert {der for _, der in published(store)[1:]} == {DSCS[0], DSCS[2]}
    last = published(store)[-1][0]
    await remove_source(store, "fr", now=NOW, actor="an")
    await import_list(store, "de", bare(DSCS[2]), now=NOW, actor="an")
    assert published(store)[-1] == (last + 1, DSCS[2])


async def test_other_formats_are_found_by_format_and_name(store: Store) -> None:
    await import_list(store, "icao", bare(AUTHORITY, key_format=CredentialFormat.VDS_NC), now=NOW, actor="an")
    everybody = (await TrustBook().load(store, NOW)).everybody
    name = hashlib.sha256(AUTHORITY).hexdigest()
    (found,) = everybody.keys.candidates(CredentialFormat.VDS_NC, name)
    assert (found.certificate, found.is_anchor) == (AUTHORITY, True)
    assert everybody.keys.anchors(CredentialFormat.VDS_NC) == (found,)
    assert AUTHORITY not in {dsc.der for dsc in everybody.certificates}
    assert len(published(store)) == 1


def key_folder(folder: Path) -> KeyFolder:
    made = KeyFolder(folder / "keys")
    made.write(SealedSigner("csca-0000000000000000", AUTHORITY, seal_private_key(AUTHORITY_KEY, b"secret")))
    return made


def test_the_list_signer_is_made_once_and_renewed_in_time(tmp_path: Path) -> None:
    folder = key_folder(tmp_path)

    def opened(now: datetime) -> bytes:
        signer = open_list_signer(folder, b"secret", now=now, random_bytes=os.urandom)
        assert signer is not None
        return signer.certificate

    first = opened(NOW)
    assert opened(NOW + timedelta(days=669)) == first
    assert opened(NOW + timedelta(days=671)) != first
    assert open_list_signer(KeyFolder(tmp_path / "none"), b"secret", now=NOW, random_bytes=os.urandom) is None


async def test_our_list_is_signed_and_signed_again_when_it_changes(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SignerError):
        await TrustBook().signed(store, NOW)
    folder = key_folder(tmp_path)
    book = TrustBook(lambda now: open_list_signer(folder, b"secret", now=now, random_bytes=os.urandom))
    first = await book.signed(store, NOW)
    assert await book.signed(store, NOW + timedelta(minutes=59)) == first
    again = await book.signed(store, NOW + timedelta(minutes=61))
    assert again != first
    read = read_signed_list(again.encode(), pins=[AUTHORITY], now=NOW + timedelta(hours=2), known_version=1)
    assert read.trust == (await book.load(store, NOW)).own
    later = NOW + timedelta(days=3000)
    text = await book.signed(store, later)
    assert read_signed_list(text.encode(), pins=[AUTHORITY], now=later).trust == read.trust, "years without a restart"


def test_a_csca_with_a_passphrase_of_its_own_stops_no_list_signer(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    folder.write(SealedSigner("csca-0000000000000000", AUTHORITY, seal_private_key(AUTHORITY_KEY, b"of the CSCA")))
    with pytest.raises(SigningError):
        open_list_signer(folder, b"secret", now=NOW, random_bytes=os.urandom)
    made = open_list_signer(
        folder, b"secret", now=NOW, random_bytes=os.urandom, authority=Authority(AUTHORITY, AUTHORITY_KEY)
    )
    assert made is not None
    kept = open_list_signer(folder, b"secret", now=NOW, random_bytes=os.urandom)
    assert kept is not None
    assert kept.certificate == made.certificate


async def test_a_folder_that_may_not_be_written_still_signs(store: Store, tmp_path: Path) -> None:
    folder = key_folder(tmp_path)
    first = open_list_signer(folder, b"secret", now=NOW, random_bytes=os.urandom)
    assert first is not None
    (folder.folder / "lock").unlink()
    (folder.folder / "lock").mkdir()  # nobody can open it, whoever runs the tests
    later = NOW + timedelta(days=700)
    book = TrustBook(lambda now: open_list_signer(folder, b"secret", now=now, random_bytes=os.urandom))
    for now in (NOW, later):
        text = await book.signed(store, now)
        assert read_signed_list(text.encode(), pins=[AUTHORITY], now=now).signer == first.certificate
    for file in folder.folder.glob("list-*"):
        file.unlink()
    with pytest.raises(SigningError, match="can be stored"):
        open_list_signer(folder, b"secret", now=NOW, random_bytes=os.urandom)


async def test_who_signed_lists_goes_on_while_its_key_cannot_be_read(store: Store, tmp_path: Path) -> None:
    folder, passphrases = key_folder(tmp_path), [b"secret", b"wrong", b"wrong"]
    book = TrustBook(lambda now: open_list_signer(folder, passphrases.pop(0), now=now, random_bytes=os.urandom))
    await book.signed(store, NOW)
    assert await book.signed(store, NOW + timedelta(hours=2))
    assert passphrases == [b"wrong"], "it was tried"
    new = TrustBook(lambda now: open_list_signer(folder, b"wrong", now=now, random_bytes=os.urandom))
    for _ in range(2):
        with pytest.raises(SigningError, match="passphrase"):
            await new.signed(store, NOW)


async def test_who_signed_lists_goes_on_while_the_database_is_silent(store: Store, tmp_path: Path) -> None:
    folder, answers = key_folder(tmp_path), [True, False]

    def opened(now: datetime) -> Any:
        if not answers.pop(0):
            raise StoreError("The database failed: nothing was stored.")
        return open_list_signer(folder, b"secret", now=now, random_bytes=os.urandom)

    book = TrustBook(opened)
    first = await book.get_list_signer(NOW)
    assert await book.get_list_signer(NOW + timedelta(hours=2)) is first
    assert answers == []


async def test_those_who_ask_at_once_open_one_key(tmp_path: Path) -> None:
    folder, opened = key_folder(tmp_path), []

    def open_it(now: datetime) -> Any:
        opened.append(now)
        return open_list_signer(folder, b"secret", now=now, random_bytes=os.urandom)

    book = TrustBook(open_it)
    found = await asyncio.gather(*(book.get_list_signer(NOW) for _ in range(5)))
    assert (len(opened), len({id(one) for one in found})) == (1, 1)


async def test_a_list_signer_that_comes_is_found_within_a_minute(store: Store, tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    book = TrustBook(lambda now: open_list_signer(folder, b"secret", now=now, random_bytes=os.urandom))
    with pytest.raises(SignerError, match="keys list-signer"):
        await book.signed(store, NOW)
    key_folder(tmp_path)
    text = await book.signed(store, NOW + timedelta(seconds=16))
    assert read_signed_list(text.encode(), pins=[AUTHORITY], now=NOW).trust.version == 1


def test_a_list_signer_of_a_compromised_csca_gives_way(tmp_path: Path) -> None:
    folder = key_folder(tmp_path)

    def opened(*compromised: bytes) -> Any:
        return open_list_signer(folder, b"secret", now=NOW, random_bytes=os.urandom, compromised=compromised)

    first = opened()
    assert opened(AUTHORITY).certificate == first.certificate, "there is nothing else: verifiers learn that all is over"
    key = make_private_key()
    # It ends before the compromised one does, and is taken all the same.
    other = make_csca(
        key, country="DE", organisation="RKI", common_name="CSCA DE", serial=2, now=NOW, validity=timedelta(days=90)
    )
    folder.write(SealedSigner("csca-0000000000000001", other, seal_private_key(key, b"secret")))
    second = opened(AUTHORITY)
    assert is_list_signer(second.certificate, other)
    assert opened(AUTHORITY).certificate == second.certificate


async def test_what_is_published_and_what_is_noted_are_of_one_moment(
    store: Store, own: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signer that ends while another process brings the list up to date must not stay published for ever."""
    thumbprint, ended, going = read_dsc(own).thumbprint, threading.Event(), []
    read = flow._own_ders

    def end_it() -> None:
        store.submit(lambda c: compromise(c, thumbprint, reason="stolen", now=NOW, actor="an", held=set())).result()
        ended.set()

    def slow(connection: Any) -> list[bytes]:
        found = read(connection)
        if not going:
            going.append(threading.Thread(target=end_it))
            going[0].start()
            ended.wait(1.0)  # whoever holds the lock is waited for; without one it ends right here
        return found

    monkeypatch.setattr(flow, "_own_ders", slow)
    await store.write(lambda c: flow._bring_up_to_date(c, NOW))
    going[0].join(30)
    assert ended.is_set()
    monkeypatch.setattr(flow, "_own_ders", read)
    await TrustBook().load(store, NOW)
    assert published(store) == []
