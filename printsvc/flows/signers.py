"""Who signs: the signers of this process, and how it follows what the database says of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from printsvc.credential.keys import KeyStore, LocalSigner, Signer
from printsvc.credential.life import due_events, find_signing, next_due
from printsvc.credential.trust import TrustList, make_trust_list
from printsvc.domain.signer import SignerRecord, SignerRole, SignerState
from printsvc.errors import ClockAheadError, PrintsvcError, SignerError, SigningError
from printsvc.flows.keys import apply_due
from printsvc.flows.services import Services
from printsvc.store import signers as signer_store
from printsvc.store.engine import Store

_LOG = structlog.get_logger("printsvc.signers")
P = TypeVar("P")
R = TypeVar("R")

TRY_AGAIN = timedelta(seconds=15)
"""After which a key that could not be opened is tried again, and one that is open is asked whether it still is."""
TRY_TOKEN_AGAIN = timedelta(seconds=3)
"""The same of a key that is there and cannot be reached: doses wait for it."""
RENEW_BEFORE = timedelta(days=7)
_TRIES = 5
_USABLE = (SignerState.PLANNED, SignerState.SIGNING)


class LocalSigners:
    """Signers whose keys are in this process, whatever a database says; the one that is valid longest signs."""

    def __init__(self, signers: Sequence[LocalSigner]) -> None:
        self.signers = tuple(signers)

    def current(self, now: datetime) -> Signer:
        usable = [signer for signer in self.signers if signer.not_after > now]
        if not usable:
            raise _nobody()
        return max(usable, key=lambda signer: signer.not_after)

    async def follow(self, now: datetime) -> None:
        """Do nothing: these never change."""

    async def look(self, now: datetime) -> None:
        """Do nothing: these never change."""

    def still_signs(self, connection: Connection, signer: Signer) -> bool:
        return True

    def records(self) -> tuple[SignerRecord, ...]:
        return ()

    def closed(self) -> Mapping[str, PrintsvcError]:
        return {}

    def held(self) -> frozenset[str]:
        return frozenset()


@dataclass(frozen=True, slots=True)
class _View:
    """What was found at one look. `opened` and `closed` are by thumbprint, of the signers that sign or will."""

    version: int | None = None
    records: tuple[SignerRecord, ...] = ()
    opened: Mapping[str, Signer] = field(default_factory=dict)
    closed: Mapping[str, PrintsvcError] = field(default_factory=dict)
    due: datetime | None = None


class FollowedSigners:
    """The signers of the database, as far as this process can open their keys.

    `look` asks whether anything is new, opens the keys of what signs or will, and does what the clock brings about;
    call it every second. A key that does not open is in `closed` and stops nobody else.
    """

    def __init__(
        self, store: Store, key_stores: Mapping[str, KeyStore], *, renew: Callable[[datetime], None] | None = None
    ) -> None:
        """`renew` is called where nothing is going to sign in a week; it makes a signer (development)."""
        self._store = store
        self._key_stores = dict(key_stores)
        self._renew = renew
        self._looking = threading.Lock()
        self._tried_at: dict[str, datetime] = {}
        self._view = _View()
        self._wrong_clock: ClockAheadError | None = None

    def current(self, now: datetime) -> Signer:
        """Return who signs. Raises SignerError where nobody does, or where this process cannot open the key."""
        view = self._view
        record = find_signing(view.records)
        if record is None or now >= min(record.signing_until, record.not_after):
            raise self._wrong_clock or _nobody()
        signer = view.opened.get(record.thumbprint)
        if signer is None:
            why = view.closed.get(record.thumbprint)
            raise SignerError(
                f"The key of the signer {record.kid} cannot be opened here" + (f": {why.en}" if why else "."),
                vi=f"Không mở được khóa ký {record.kid}" + (f": {why.vi}" if why else "."),
                retry_after_s=15,
            )
        return signer

    async def follow(self, now: datetime) -> None:
        """Bring about what is due now; costs nothing where nothing is. Raises StoreError."""
        due = self._view.due
        if due is None or now >= due:
            await self.look(now)

    async def look(self, now: datetime) -> None:
        """See what is new. Raises StoreError."""
        await asyncio.to_thread(self.look_now, now)

    def look_now(self, now: datetime) -> None:
        """Like `look`, on the caller's thread."""
        with self._looking:
            self._read(now)
            if self._renew is not None and self._ends_within(now, RENEW_BEFORE):
                self._renew(now)
                self._read(now)

    def still_signs(self, connection: Connection, signer: Signer) -> bool:
        """Return whether it is `signer` that signs, in this transaction and until its end."""
        signer_store.lock_signers(connection, to_change=False)
        return signer_store.signing_kid(connection) == signer.kid.hex()

    def records(self) -> tuple[SignerRecord, ...]:
        """Return every signer as it was at the last look."""
        return self._view.records

    def closed(self) -> Mapping[str, PrintsvcError]:
        """Return thumbprint → why, of the signers that sign or will and whose key this process cannot open."""
        return self._view.closed

    def held(self) -> frozenset[str]:
        """Return the thumbprints of the signers that sign or will and whose keys are open."""
        return frozenset(self._view.opened)

    def _read(self, now: datetime) -> None:
        found = self._store.read_now(self._what_is_new)
        version, records = found if found is not None else (self._view.version, self._view.records)
        view = self._opened(self._view, version, records, now)
        wrong: ClockAheadError | None = None
        if due_events(records, now, held=view.opened):
            try:
                moved = self._store.submit(lambda c: apply_due(c, now=now, held=frozenset(view.opened))).result()
                view = self._opened(view, None, tuple(moved), now)  # no version: others may have written meanwhile
            except ClockAheadError as error:
                # What others do with the signers is seen all the same: one that is compromised must not sign here.
                wrong = error
        if wrong is not None and self._wrong_clock is None:
            _LOG.error("clock_ahead", why=wrong.en)
        self._wrong_clock = wrong
        self._view = view  # at once: `current` reads it on another thread

    def _what_is_new(self, connection: Connection) -> tuple[int, tuple[SignerRecord, ...]] | None:
        version = signer_store.read_version(connection)
        return None if version == self._view.version else (version, tuple(signer_store.list_records(connection)))

    def _opened(self, before: _View, version: int | None, records: tuple[SignerRecord, ...], now: datetime) -> _View:
        """Return the view of these records, with the keys open that can be; `before` has those that are."""
        opened: dict[str, Signer] = {}
        closed: dict[str, PrintsvcError] = {}
        for record in records:
            name = record.thumbprint
            if record.role is not SignerRole.DSC or record.state not in _USABLE:
                continue
            tried = name in self._tried_at and now < self._tried_at[name] + _pause(before.closed.get(name))
            if name in before.opened and tried:
                opened[name] = before.opened[name]
            elif name in before.closed and tried:
                closed[name] = before.closed[name]
            else:
                self._tried_at[name] = now
                try:
                    opened[name] = self._opened_or_asked(before.opened.get(name), record)
                except PrintsvcError as error:
                    closed[name] = error
        return _View(version, records, opened, closed, next_due(records, now))

    def _opened_or_asked(self, signer: Signer | None, record: SignerRecord) -> Signer:
        """Return who signs with the key of this record. Raises SigningError, SignerError."""
        if signer is None:
            return self._key_store(record.key_store).open(record.certificate)
        signer.check()  # a token may be gone by now: that is said before the next dose is refused
        return signer

    def _key_store(self, name: str) -> KeyStore:
        if name not in self._key_stores:
            raise SigningError(
                f"The key store {name} is not set up here.",
                vi=f"Chưa thiết lập nơi giữ khóa {name}.",
                code="key_store_missing",
            )
        return self._key_stores[name]

    def _ends_within(self, now: datetime, time: timedelta) -> bool:
        ends = [record.signing_until for record in self._view.records if record.thumbprint in self._view.opened]
        return max(ends, default=now) <= now + time


async def store_signed(
    services: Services,
    now: datetime,
    prepare: Callable[[Signer], Awaitable[P]],
    store: Callable[[Connection, P], R],
) -> R:
    """Prepare with who signs now, and store in one transaction; where somebody else signs by then, prepare again.

    So nothing is ever stored under a signer that has ended, however many processes there are. Raises SignerError where
    nobody signs.
    """

    def unit(connection: Connection, signer: Signer, prepared: P) -> tuple[R] | None:
        return (store(connection, prepared),) if services.signers.still_signs(connection, signer) else None

    for _ in range(_TRIES):
        await services.signers.follow(now)
        signer = services.signers.current(now)
        prepared = await prepare(signer)
        stored = await services.store.write(lambda c, s=signer, p=prepared: unit(c, s, p))  # type: ignore[misc]
        if stored is not None:
            return stored[0]
        await services.signers.look(now)
    raise SignerError("The signer changes again and again.", vi="Khóa ký đang thay đổi liên tục.", retry_after_s=2)


async def load_trust_list(store: Store) -> TrustList:
    """Return the trust list: every DSC that was ever published, but for the compromised."""
    trusted = await store.read(signer_store.read_trusted)
    return make_trust_list(trusted.certificates, version=trusted.version, made_at=trusted.changed_at)


def _pause(error: PrintsvcError | None) -> timedelta:
    return TRY_TOKEN_AGAIN if isinstance(error, SignerError) else TRY_AGAIN


def _nobody() -> SignerError:
    return SignerError("No signer signs now.", vi="Không có khóa ký nào còn hiệu lực.", retry_after_s=60)
