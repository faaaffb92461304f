"""Who signs: opening the keys, making the first ones, publishing their certificates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from printsvc.credential.dsc import read_dsc
from printsvc.credential.keys import (
    LocalSigner,
    Signer,
    make_csca,
    make_dsc,
    make_private_key,
    open_private_key,
    seal_private_key,
)
from printsvc.credential.trust import TrustList, make_trust_list
from printsvc.errors import SignerError
from printsvc.store.engine import Store
from printsvc.store.keyfile import KeyFolder, SealedSigner
from printsvc.store.sites import insert_signer, list_signers

ORGANISATION = "Cục Y tế dự phòng"


class LocalSigners:
    """Signers whose keys are in this process; the one that is valid longest signs."""

    def __init__(self, signers: Sequence[LocalSigner]) -> None:
        self.signers = tuple(signers)

    def current(self, now: datetime) -> Signer:
        usable = [signer for signer in self.signers if signer.not_after > now]
        if not usable:
            raise SignerError("No signer is valid now.", vi="Không có khóa ký nào còn hiệu lực.", retry_after_s=60)
        return max(usable, key=lambda signer: signer.not_after)


def open_signers(
    folder: KeyFolder,
    passphrase: bytes,
    *,
    country: str,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    make_first: bool,
) -> LocalSigners:
    """Open every document signer in the folder; with `make_first`, an empty folder gets a CSCA and a DSC.

    Raises SigningError for a wrong passphrase, SignerError where there is no signer.
    """
    with folder.locked():
        sealed = folder.read()
        if not any(one.name.startswith("dsc-") for one in sealed) and make_first:
            _make_first(folder, passphrase, country=country, now=now, random_bytes=random_bytes)
            sealed = folder.read()
    signers = [
        LocalSigner(one.certificate, open_private_key(one.sealed_key, passphrase))
        for one in sealed
        if one.name.startswith("dsc-")
    ]
    if not signers:
        raise SignerError("There is no signer yet: make one first.", vi="Chưa có khóa ký nào.")
    return LocalSigners(signers)


def _make_first(
    folder: KeyFolder, passphrase: bytes, *, country: str, now: datetime, random_bytes: Callable[[int], bytes]
) -> None:
    now = now.replace(microsecond=0)  # X.509 has whole seconds
    csca_key = make_private_key()
    csca = make_csca(
        csca_key,
        country=country,
        organisation=ORGANISATION,
        common_name=f"{country} DEVELOPMENT CSCA",
        serial=_serial(random_bytes),
        now=now,
    )
    key = make_private_key()
    dsc = make_dsc(
        key.public_key(),
        csca=csca,
        csca_key=csca_key,
        organisation=ORGANISATION,
        common_name=f"{country} DEVELOPMENT DSC",
        serial=_serial(random_bytes),
        now=now,
    )
    folder.write(SealedSigner("csca", csca, seal_private_key(csca_key, passphrase)))
    folder.write(SealedSigner(f"dsc-{read_dsc(dsc).kid.hex()}", dsc, seal_private_key(key, passphrase)))


def _serial(random_bytes: Callable[[int], bytes]) -> int:
    return int.from_bytes(b"\x01" + random_bytes(15), "big")


async def publish_signers(store: Store, signers: LocalSigners, *, now: datetime) -> None:
    """Put the signers' certificates where every verifier finds them."""

    def write(connection: Connection) -> None:
        for signer in signers.signers:
            dsc = read_dsc(signer.certificate)
            insert_signer(
                connection,
                thumbprint=dsc.thumbprint,
                kid=dsc.kid.hex(),
                role="dsc",
                certificate=dsc.der,
                not_before=dsc.not_before,
                not_after=dsc.not_after,
                now=now,
            )

    await store.write(write)


async def load_trust_list(store: Store) -> TrustList:
    """Return the trust list: every signer that was ever published. Its version is how many there are."""
    signers = await store.read(list_signers)
    made_at = max((published for _, published in signers), default=datetime.fromisoformat("2021-01-01T00:00:00+00:00"))
    return make_trust_list([der for der, _ in signers], version=len(signers), made_at=made_at)
