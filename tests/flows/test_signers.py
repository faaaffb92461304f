"""Who signs: opening keys, making the first ones, publishing them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from printsvc.credential.dsc import read_dsc
from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.errors import SignerError, SigningError
from printsvc.flows.signers import LocalSigners, load_trust_list, open_signers, publish_signers
from printsvc.store.engine import Store
from printsvc.store.keyfile import KeyFolder

NOW = datetime.fromisoformat("2021-10-30T02:12:00+00:00")
serials = itertools.count(100)


def make_signer(now: datetime) -> LocalSigner:
    csca_key, key = make_private_key(), make_private_key()
    csca = make_csca(csca_key, country="VN", organisation="MOH", common_name="CSCA", serial=next(serials), now=now)
    dsc = make_dsc(
        key.public_key(),
        csca=csca,
        csca_key=csca_key,
        organisation="MOH",
        common_name="DSC",
        serial=next(serials),
        now=now,
    )
    return LocalSigner(dsc, key)


def open_in(folder: Path, passphrase: bytes = b"open sesame", *, make_first: bool = True) -> LocalSigners:
    return open_signers(
        KeyFolder(folder), passphrase, country="VN", now=NOW, random_bytes=os.urandom, make_first=make_first
    )


def test_the_first_start_makes_keys_and_the_next_opens_them(tmp_path: Path) -> None:
    first = open_in(tmp_path).current(NOW)
    again = open_in(tmp_path).current(NOW + timedelta(days=30))
    assert again.kid == first.kid
    assert again.certificate == first.certificate
    assert sorted(path.suffix for path in tmp_path.glob("dsc-*")) == [".der", ".pem"]
    assert b"ENCRYPTED" in next(tmp_path.glob("dsc-*.pem")).read_bytes()
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("*.pem"))


def test_without_leave_to_make_keys_an_empty_folder_is_an_error_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(SignerError) as caught:
        open_in(tmp_path, make_first=False)
    assert caught.value.vi != caught.value.en
    assert not list(tmp_path.glob("*.pem"))


def test_a_wrong_passphrase_opens_nothing_and_makes_no_second_signer(tmp_path: Path) -> None:
    open_in(tmp_path)
    with pytest.raises(SigningError) as caught:
        open_in(tmp_path, b"wrong")
    assert caught.value.code == "signer_locked"
    assert len(list(tmp_path.glob("dsc-*.der"))) == 1


def test_the_signer_that_is_valid_longest_signs_and_an_expired_one_never() -> None:
    old, new = make_signer(NOW - timedelta(days=365)), make_signer(NOW)
    book = LocalSigners([old, new])
    assert book.current(NOW).kid == new.kid
    assert LocalSigners([old]).current(NOW).kid == old.kid
    with pytest.raises(SignerError) as caught:
        book.current(new.not_after)
    assert caught.value.retry_after_s == 60


async def test_published_signers_stay_on_the_trust_list(store: Store, make_world: Callable[[Store], Any]) -> None:
    assert (await load_trust_list(store)).certificates == ()
    first, second = make_signer(NOW), make_signer(NOW)
    await publish_signers(store, LocalSigners([first]), now=NOW)
    await publish_signers(store, LocalSigners([first]), now=NOW + timedelta(days=1))
    trust = await load_trust_list(store)
    assert [dsc.der for dsc in trust.certificates] == [first.certificate]
    assert (trust.version, trust.made_at) == (1, NOW)
    await publish_signers(store, LocalSigners([second]), now=NOW + timedelta(days=2))
    trust = await load_trust_list(store)
    assert {dsc.der for dsc in trust.certificates} == {first.certificate, second.certificate}
    assert (trust.version, trust.made_at) == (2, NOW + timedelta(days=2))
    assert read_dsc(first.certificate).kid == first.kid
