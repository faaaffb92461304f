"""Keys for development: made where there are none, and made again before they end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from printsvc.credential.keys import KeyStore
from printsvc.credential.life import SIGNING_PERIOD, find_signing
from printsvc.flows.keymaking import Wanted, make_authority, make_signer
from printsvc.flows.keys import compromised_certificates, register, start
from printsvc.store import signers as signer_store
from printsvc.store.engine import Store
from printsvc.store.keyfile import KeyFolder

ACTOR = "development"
SHORT = SIGNING_PERIOD / 6
"""A signer with less of its period left is replaced."""


def make_development_signer(
    store: Store,
    folder: KeyFolder,
    passphrase: bytes,
    keys: KeyStore,
    *,
    country: str,
    organisation: str,
    now: datetime,
    random_bytes: Callable[[int], bytes],
) -> None:
    """Let a new signer sign from now on, under a CSCA of this folder; whatever is missing is made.

    Two processes make one signer: the second finds it. Raises SigningError for a wrong passphrase.
    """
    with folder.locked():
        known = store.read_now(signer_store.list_records)
        signing = find_signing(known)
        if signing is not None and signing.signing_until > now + SHORT and signing.certificate in keys.kept():
            keys.open(signing.certificate)  # or the passphrase is wrong, and a new signer would not help
            return
        folder.clear_half_written(known={f"dsc-{record.kid}" for record in known})
        authority, _ = make_authority(
            folder,
            passphrase,
            country=country,
            organisation=organisation,
            common_name=f"{country} DEVELOPMENT CSCA",
            now=now,
            random_bytes=random_bytes,
            without=compromised_certificates(known),
        )
        store.submit(lambda c: register(c, authority.certificate, key_store=keys.name, now=now, actor=ACTOR)).result()
        certificate = make_signer(
            keys,
            lambda: authority,
            Wanted(now, now + SIGNING_PERIOD, organisation=organisation, common_name=f"{country} DEVELOPMENT DSC"),
            known=store.read_now(signer_store.list_records),
            now=now,
            random_bytes=random_bytes,
        )

        def publish_and_start(connection: Connection) -> None:
            record, _ = register(
                connection,
                certificate,
                key_store=keys.name,
                signing_from=now,
                signing_until=now + SIGNING_PERIOD,
                now=now,
                actor=ACTOR,
            )
            start(connection, record.thumbprint, now=now, actor=ACTOR)

        store.submit(publish_and_start).result()
