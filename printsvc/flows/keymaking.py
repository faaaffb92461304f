"""Making the CSCA and the signers under it: keys, certificates, and their periods.

A private key is durable before anybody registers its certificate: a kill in between leaves a signer that the next
`make_signer` takes up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from printsvc.credential.dsc import Usage, read_dsc
from printsvc.credential.keys import (
    DSC_VALIDITY,
    Algorithm,
    KeyStore,
    PrivateKey,
    issued_by,
    make_csca,
    make_dsc,
    make_private_key,
    open_private_key,
    seal_private_key,
)
from printsvc.credential.life import SIGNING_PERIOD, check_plan, find_signing
from printsvc.domain.signer import SignerRecord, SignerRole, SignerState
from printsvc.errors import SigningError
from printsvc.store.keyfile import KeyFolder, SealedSigner


@dataclass(frozen=True, slots=True)
class Authority:
    """A CSCA whose key is at hand; `certificate` is DER."""

    certificate: bytes
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class Wanted:
    """A signer that an admin wants: when it signs, what, and what stands in its certificate."""

    signing_from: datetime
    signing_until: datetime
    algorithm: Algorithm = Algorithm.ES256
    usages: tuple[Usage, ...] = (Usage.VACCINATION,)
    organisation: str = "Cục Y tế dự phòng"
    common_name: str = "DSC"
    validity: timedelta = DSC_VALIDITY


def make_authority(
    folder: KeyFolder,
    passphrase: bytes,
    *,
    country: str,
    organisation: str,
    common_name: str,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    without: Collection[bytes] = (),
) -> tuple[Authority, bool]:
    """Return the CSCA of this folder, and whether it was made now. Call it with the folder locked.

    `without` are certificates (DER) that are not to be taken: those that are compromised.
    """
    found = find_authority(folder, passphrase, now, without=without)
    if found is not None:
        return found, False
    key = make_private_key()
    certificate = make_csca(
        key,
        country=country,
        organisation=organisation,
        common_name=common_name,
        serial=_serial(random_bytes),
        now=_backdated(now),
    )
    name = f"csca-{read_dsc(certificate).kid.hex()}"
    folder.write(SealedSigner(name, certificate, seal_private_key(key, passphrase)))
    return Authority(certificate, key), True


def find_authority(
    folder: KeyFolder, passphrase: bytes, now: datetime, *, without: Collection[bytes] = ()
) -> Authority | None:
    """Return the newest CSCA of this folder that is valid and none of `without` (DER).

    Raises SigningError for a wrong passphrase.
    """
    found = [(read_dsc(one.certificate), one) for one in folder.read() if one.name.startswith("csca")]
    valid = [(dsc, one) for dsc, one in found if dsc.not_before <= now < dsc.not_after and dsc.der not in without]
    if not valid:
        return None
    _, newest = max(valid, key=lambda pair: (pair[0].not_before, pair[1].name))
    return Authority(newest.certificate, open_private_key(newest.sealed_key, passphrase))


def authority_at_hand(
    folder: KeyFolder, passphrase: bytes, now: datetime, *, needed: bool, without: Collection[bytes] = ()
) -> Authority | None:
    """Return `find_authority`; None where its passphrase is another one, unless it is `needed` (SigningError)."""
    try:
        return find_authority(folder, passphrase, now, without=without)
    except SigningError:
        if needed:
            raise
        return None  # the CSCA has a passphrase of its own, and the key that is here still does


def make_signer(
    keys: KeyStore,
    authority: Callable[[], Authority],
    wanted: Wanted,
    *,
    known: Sequence[SignerRecord],
    now: datetime,
    random_bytes: Callable[[int], bytes],
) -> bytes:
    """Return the certificate (DER) of a signer whose key is kept; call it with the key folder locked.

    `known` are the registered signers. One that is kept and not among them is taken up where it will do: a kill left
    it. Raises InputError for a signing period that is not allowed, SigningError, SignerError.
    """
    registered = {record.certificate for record in known}
    authorities = [r.certificate for r in known if r.role is SignerRole.CSCA and r.state is SignerState.SIGNING]
    for certificate in keys.kept():
        if certificate not in registered and _will_do(certificate, wanted, authorities, now):
            return certificate
    csca = authority()
    above = read_dsc(csca.certificate)
    begins = max(_backdated(now), above.not_before)
    check_plan(
        not_before=begins,
        not_after=min(begins + wanted.validity, above.not_after),
        signing_from=wanted.signing_from,
        signing_until=wanted.signing_until,
        now=now,
    )
    new = keys.make_key(wanted.algorithm)
    certificate = make_dsc(
        new.public_key,
        csca=csca.certificate,
        csca_key=csca.key,
        organisation=wanted.organisation,
        common_name=wanted.common_name,
        serial=_serial(random_bytes),
        now=begins,
        validity=wanted.validity,
        usages=wanted.usages,
    )
    new.keep(certificate)
    return certificate


def default_period(
    records: Iterable[SignerRecord], now: datetime, days: int | None = None
) -> tuple[datetime, datetime]:
    """Return from when and until when the next signer should sign: it follows on the one that signs now."""
    signing = find_signing(records)
    begins = max(signing.signing_until, now) if signing is not None else now
    begins = begins.replace(microsecond=0)
    return begins, begins + (SIGNING_PERIOD if days is None else timedelta(days=days))


def find_planned(records: Iterable[SignerRecord], moment: datetime) -> SignerRecord | None:
    """Return the DSC that is planned to sign at this moment."""
    return next(
        (
            record
            for record in records
            if record.role is SignerRole.DSC
            and record.state is SignerState.PLANNED
            and record.signing_from <= moment < record.signing_until
        ),
        None,
    )


def no_authority() -> SigningError:
    """Return the error of a plan without a CSCA."""
    return SigningError(
        "There is no CSCA here that is valid: make one with printsvc keys init-csca.",
        vi="Chưa có CSCA còn hạn: hãy chạy printsvc keys init-csca.",
        code="csca_missing",
    )


def _will_do(certificate: bytes, wanted: Wanted, authorities: Sequence[bytes], now: datetime) -> bool:
    dsc = read_dsc(certificate)
    elliptic = isinstance(dsc.public_key, EllipticCurvePublicKey)
    return (
        dsc.not_before <= now
        and dsc.not_before <= wanted.signing_from
        and dsc.not_after >= wanted.signing_until
        and dsc.usages == frozenset(wanted.usages)
        and any(issued_by(certificate, authority) for authority in authorities)
        and elliptic == (wanted.algorithm is Algorithm.ES256)
    )


def _backdated(now: datetime) -> datetime:
    """Return an hour ago, in the whole seconds of X.509: the clocks of those who sign and who verify differ."""
    return now.replace(microsecond=0) - timedelta(hours=1)


def _serial(random_bytes: Callable[[int], bytes]) -> int:
    return int.from_bytes(b"\x01" + random_bytes(15), "big")
