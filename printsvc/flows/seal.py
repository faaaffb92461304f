"""The digital copy: the page that the renderer drew, sealed. The paper's page is never touched.

What is sealed comes from the renderer and from nowhere else: no caller's bytes get here. A copy is sealed once and kept
for as long as others do not push it out; those who ask for the same one meanwhile wait for it.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from cryptography import x509

from printsvc.credential.keys import LocalSigner, issued_by, make_private_key, open_private_key, seal_private_key
from printsvc.credential.sealing import SEAL_ENDS_BEFORE, make_seal_certificate
from printsvc.domain.form import FormId
from printsvc.domain.seal import SealPlace, SealSigner, TimeStamping
from printsvc.errors import SealTimeError, SignerError, SigningError
from printsvc.flows.keymaking import Authority, authority_at_hand
from printsvc.store.keyfile import KeyFolder, SealedSigner

PREFIX: Final = "seal-"
KEPT_COPIES: Final = 64
_LOOK_AGAIN: Final = timedelta(hours=1)
_LOOK_AGAIN_IN_VAIN: Final = timedelta(seconds=15)
_STAMP_PAUSE: Final = timedelta(seconds=60)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_LOG = structlog.get_logger("printsvc.seal")


@dataclass(frozen=True, slots=True)
class SealKey:
    """Who seals, and the certificate above it (DER; empty where it is not here)."""

    signer: SealSigner
    issuers: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """A digital copy. `tag` names its content: that of the page, and of who sealed it."""

    pdf: bytes
    tag: str
    is_sealed: bool


@dataclass(slots=True)
class SealBook:
    """Who seals in this process, and what it sealed last.

    `open_key` gives the key and is asked again every hour, so that a process that runs for years outlives its first
    one. `place_of` says where a form shows its seal; `documents` tells of the keys that there are.
    """

    open_key: Callable[[datetime], SealKey | None]
    place_of: Callable[[FormId], SealPlace | None]
    font: bytes
    stamping: TimeStamping | None = None
    documents: Callable[[datetime], list[dict[str, Any]]] = lambda now: []
    _key: SealKey | None = None
    _look_at: datetime = _LONG_AGO
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _made: OrderedDict[str, asyncio.Future[bytes]] = field(default_factory=OrderedDict)
    _no_stamps_until: datetime = _LONG_AGO

    @property
    def key(self) -> SealKey | None:
        """Who sealed last in this process, or was found to."""
        return self._key

    async def get_key(self, now: datetime) -> SealKey:
        """Return who seals. Raises SignerError where nobody does, SigningError where the key cannot be opened."""
        async with self._looking:
            if now >= self._look_at or (self._key is not None and now >= self._key.signer.not_after):
                self._key = await asyncio.to_thread(self.open_key, now)
                self._look_at = now + (_LOOK_AGAIN_IN_VAIN if self._key is None else _LOOK_AGAIN)
        if self._key is None:
            raise SignerError(
                "Nobody seals digital copies here: make a key with printsvc keys seal, or ask for ?seal=no.",
                vi="Chưa có khóa đóng dấu số: hãy chạy printsvc keys seal, hoặc yêu cầu ?seal=no.",
                retry_after_s=60,
            )
        return self._key

    async def seal(self, pdf: bytes, form_id: FormId, now: datetime) -> Copy:
        """Return a page of ours, sealed. Raises SignerError, SigningError, RenderError."""
        key = await self.get_key(now)
        tag = copy_tag(pdf, key.signer)
        made = self._made.get(tag)
        if made is None:
            made = self._made[tag] = asyncio.ensure_future(self._seal(pdf, form_id, key, tag, now))
            made.add_done_callback(functools.partial(self._forget_failed, tag))
            while len(self._made) > KEPT_COPIES:
                self._made.popitem(last=False)
        self._made.move_to_end(tag)
        # One caller who hangs up must not take it from the others.
        return Copy(await asyncio.shield(made), tag, is_sealed=True)

    def _forget_failed(self, tag: str, made: asyncio.Future[bytes]) -> None:
        if (made.cancelled() or made.exception() is not None) and self._made.get(tag) is made:
            del self._made[tag]

    async def _seal(self, pdf: bytes, form_id: FormId, key: SealKey, tag: str, now: datetime) -> bytes:
        stamping = self.stamping if now >= self._no_stamps_until else None
        place = self.place_of(form_id)

        def make(stamping: TimeStamping | None) -> bytes:
            from printsvc.render.seal import seal_pdf  # loads for a second: only who seals waits for it

            return seal_pdf(
                pdf, key.signer, now=now, font=self.font, place=place, issuers=key.issuers, stamping=stamping
            )

        try:
            sealed = await asyncio.to_thread(make, stamping)
        except SealTimeError as error:
            # A person waits for the certificate; it verifies without the stamp, and says that it has none.
            _LOG.warning("copies are sealed without time stamps", code=error.code, detail=error.en)
            self._no_stamps_until = now + _STAMP_PAUSE
            sealed = await asyncio.to_thread(make, None)
        if self.stamping is not None and now < self._no_stamps_until:
            self._made.pop(tag, None)  # not kept: the next one may get its stamp
        return sealed


def open_seal_key(
    folder: KeyFolder,
    passphrase: bytes,
    *,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    authority: Authority | None = None,
    compromised: Collection[bytes] = (),
) -> SealKey | None:
    """Return who seals: the key `seal-…` of the folder; where the CSCA's key is at hand, one is made in time.

    `compromised` are certificates (DER) of CSCAs: what is under one of them seals only as long as there is nothing
    else. None where there is neither. Raises SigningError for a wrong passphrase.
    """
    best = _kept_seal(folder, passphrase, now, compromised)
    csca = authority or authority_at_hand(folder, passphrase, now, needed=best is None, without=compromised)
    if best is not None and (csca is None or _lasts(best, now, compromised)):
        return SealKey(best, _issuers(folder, best.certificate))
    if csca is None:
        return None
    try:
        with folder.locked():
            best = _kept_seal(folder, passphrase, now, compromised)  # another process may have been here
            if best is not None and _lasts(best, now, compromised):
                return SealKey(best, _issuers(folder, best.certificate))
            return SealKey(_make_seal(folder, passphrase, csca, best, now, random_bytes), (csca.certificate,))
    except SigningError:
        if best is None or authority is not None:
            raise
        return SealKey(best, _issuers(folder, best.certificate))  # no new key can be stored; the one that is here seals


def _kept_seal(
    folder: KeyFolder, passphrase: bytes, now: datetime, compromised: Collection[bytes]
) -> LocalSigner | None:
    found = [one for one in folder.read() if one.name.startswith(PREFIX)]
    signers = [LocalSigner(one.certificate, open_private_key(one.sealed_key, passphrase)) for one in found]
    usable = [signer for signer in signers if _in_force(signer.certificate, now)]
    return max(usable, key=lambda one: (not _is_lost(one, compromised), one.not_after), default=None)


def _lasts(kept: LocalSigner, now: datetime, compromised: Collection[bytes]) -> bool:
    return not _is_lost(kept, compromised) and kept.not_after - now > SEAL_ENDS_BEFORE


def _is_lost(signer: LocalSigner, compromised: Collection[bytes]) -> bool:
    return any(issued_by(signer.certificate, one) for one in compromised)


def _make_seal(
    folder: KeyFolder,
    passphrase: bytes,
    csca: Authority,
    best: LocalSigner | None,
    now: datetime,
    random_bytes: Callable[[int], bytes],
) -> LocalSigner:
    key = make_private_key()
    certificate = make_seal_certificate(
        key.public_key(),
        csca=csca.certificate,
        csca_key=csca.key,
        serial=int.from_bytes(b"\x01" + random_bytes(15), "big"),
        now=now.replace(microsecond=0),
    )
    made = LocalSigner(certificate, key)
    of_this_csca = best is not None and issued_by(best.certificate, csca.certificate)
    if best is not None and of_this_csca and best.not_after >= made.not_after:
        return best  # the CSCA itself ends: a new one is no longer
    folder.write(SealedSigner(PREFIX + made.kid.hex(), certificate, seal_private_key(key, passphrase)))
    return made


def seal_documents(folder: KeyFolder, now: datetime) -> list[dict[str, Any]]:
    """Return what is told of the sealing keys of a folder; the certificates alone are read."""
    told = []
    for one in folder.read():
        if one.name.startswith(PREFIX):
            certificate = x509.load_der_x509_certificate(one.certificate)
            told.append(
                {
                    "thumbprint": hashlib.sha256(one.certificate).hexdigest(),
                    "role": "seal",
                    "state": "sealing" if _in_force(one.certificate, now) else "expired",
                    "not_before": _text(certificate.not_valid_before_utc),
                    "not_after": _text(certificate.not_valid_after_utc),
                    "key_store": "file",
                }
            )
    newest = max((one["not_after"] for one in told if one["state"] == "sealing"), default=None)
    return [
        one | {"state": "replaced"} if one["state"] == "sealing" and one["not_after"] != newest else one for one in told
    ]


def _issuers(folder: KeyFolder, certificate: bytes) -> tuple[bytes, ...]:
    child = x509.load_der_x509_certificate(certificate)
    return tuple(
        one.certificate
        for one in folder.read()
        if one.name.startswith("csca") and x509.load_der_x509_certificate(one.certificate).subject == child.issuer
    )


def _in_force(certificate: bytes, now: datetime) -> bool:
    found = x509.load_der_x509_certificate(certificate)
    return found.not_valid_before_utc <= now < found.not_valid_after_utc


def copy_tag(pdf: bytes, signer: SealSigner | None) -> str:
    """Return what names a copy's content: that of the page, and who sealed it (None: nobody)."""
    page = hashlib.sha256(pdf).hexdigest()
    return page if signer is None else f"{page}-{hashlib.sha256(signer.certificate).hexdigest()[:16]}"


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
