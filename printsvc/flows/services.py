"""What a flow may use. app.py makes it once; tests make their own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection

from printsvc.credential.keys import Signer
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent
from printsvc.domain.form import FormChoice, FormId, PageData
from printsvc.domain.signer import SignerRecord
from printsvc.errors import PrintsvcError
from printsvc.flows.alertbook import AlertBook
from printsvc.flows.formshelf import FormShelf
from printsvc.flows.keymaking import Authority
from printsvc.flows.seal import SealBook
from printsvc.flows.trust import TrustBook
from printsvc.printing.clock import PaperClock
from printsvc.printing.copies import CopyRules
from printsvc.render.draw import PageCounts
from printsvc.render.formfile import Form
from printsvc.store.engine import Store


class Renderer(Protocol):
    """Draws pages; see render/pool."""

    async def render(self, form_id: FormId, page: PageData) -> bytes: ...


class SignerBook(Protocol):
    """Knows who signs now. To store what was signed, see store_signed in flows/signers."""

    def current(self, now: datetime) -> Signer:
        """Return who signs. Raises SignerError where nobody can."""
        ...

    async def follow(self, now: datetime) -> None:
        """Let a signer whose time has come sign."""
        ...

    async def look(self, now: datetime) -> None:
        """See what other processes have changed."""
        ...

    def still_signs(self, connection: Connection, signer: Signer) -> bool:
        """Return whether `signer` signs, in this transaction and until its end."""
        ...

    def records(self) -> tuple[SignerRecord, ...]: ...

    def closed(self) -> Mapping[str, PrintsvcError]:
        """Return thumbprint → why, of the signers whose key this process needs and cannot open."""
        ...

    def held(self) -> frozenset[str]:
        """Return the thumbprints of the signers whose key this process has open."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """One certificate wanted; `opaque` is 16 random bytes for its UVCI."""

    event: DoseEvent
    opaque: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all certificates of a call."""

    form: FormChoice
    issuer: str
    country: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """No certificate can be made of this dose: the code of the problem and its place, never a value."""

    problem: str


Minted = Certificate | Refused


class Minter(Protocol):
    """Signs many certificates; see minting."""

    async def mint(self, signer: Signer, terms: Terms, orders: Sequence[Order]) -> list[Minted]:
        """Return a certificate for each order, in their order. Raises SignerError, SigningError."""
        ...

    async def close(self) -> None:
        """End what was started; another `mint` starts it again."""
        ...


class Wakeups:
    """Wakes the long-polls of a site when there is something to lease. One process only; others poll the store."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def notify(self, site_id: str) -> None:
        for event in self._waiting.get(site_id, ()):
            event.set()

    def waiting_sites(self) -> list[str]:
        return list(self._waiting)

    @contextmanager
    def listening(self, site_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when the site is notified: clear it before you look, and no call is missed."""
        event = asyncio.Event()
        self._waiting[site_id].add(event)
        try:
            yield event
        finally:
            self._waiting[site_id].discard(event)
            if not self._waiting[site_id]:
                del self._waiting[site_id]


@dataclass(frozen=True, slots=True)
class DayBagKit:
    """What day bags are made with: the CSCA where its key is here (None: not here), and a form compiled, as CBOR."""

    authority: Callable[[datetime], Authority | None]
    compiled_form: Callable[[FormId], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Services:
    """`clock` gives aware UTC; `random_bytes` gives that many unpredictable bytes.

    `pages` counts what the renderer drew, in this process and since it started; `trust` is what it knows of the lists
    of signers; `seal` is who seals digital copies (None: they go out plain), `stamp_authorities` (DER) are whose time
    stamps on seals are believed; printed text is compared by `known_forms`. `minter` signs
    many certificates at once (None: this process does). `copies` is how many further papers each role may ask for.
    `alerts` has the rules of the alerts about sites.
    `shelf` has the compiled forms that sites stamp with (None: sites fetch every page).
    """

    store: Store
    signers: SignerBook
    renderer: Renderer
    form: FormChoice
    clock: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    issuer: str = "Bộ Y tế Việt Nam"
    country: str = "VN"
    lease_s: float = 120.0
    overdue_s: float = 1800.0
    minter: Minter | None = None
    wakeups: Wakeups = field(default_factory=Wakeups)
    pages: PageCounts = field(default_factory=PageCounts)
    trust: TrustBook = field(default_factory=TrustBook)
    seal: SealBook | None = None
    stamp_authorities: tuple[bytes, ...] = ()
    known_forms: tuple[Form, ...] = ()
    alerts: AlertBook = field(default_factory=AlertBook)
    day_bags: DayBagKit | None = None
    copies: CopyRules = field(default_factory=CopyRules)
    shelf: FormShelf | None = None

    @property
    def paper_clock(self) -> PaperClock:
        """The clock of papers: `overdue_s` from the injection."""
        return PaperClock(timedelta(seconds=self.overdue_s))
