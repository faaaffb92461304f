"""A site with a day bag and a desk, for the tests of what is done without a line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from printsvc.credential.keys import seal_private_key
from printsvc.domain.form import PageData
from printsvc.issuing.bag import make_request
from printsvc.render.stamp import NeedsWeasyPrint
from proofs.daybag import BagAgent, Country, dose_document
from spooler.journal import Identity
from spooler.offline.book import Book
from spooler.offline.desk import Desk
from spooler.offline.taking import open_held

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
COUNTRY = Country(NOW)
AGENT = BagAgent(COUNTRY)
ARCHIVE = AGENT.archive()
PASSPHRASE = b"a long passphrase"
IDENTITY = Identity("journal-1", "http://127.0.0.1:1", "agent-1", "HN-1", "token")


class TextStamp:
    """Draws a line of text; a name with a star needs the centre; `fails` makes it break in the middle."""

    def __init__(self) -> None:
        self.fails = False

    def stamp(self, page: PageData) -> bytes:
        if self.fails:
            raise KeyboardInterrupt
        if page["full_name"].startswith("XA"):
            raise NeedsWeasyPrint("glyph", "full_name")
        return f"%PDF {page['uvci']} {page['qr']}".encode()


class Site:
    def __init__(self, state_dir: Path, agent: BagAgent = AGENT, archive: bytes = ARCHIVE) -> None:
        self.agent, self.state_dir, self.stamp = agent, state_dir, TextStamp()
        self.book = Book.open(state_dir)
        if not self.book.bags():
            self.book.add_key(b"request", seal_private_key(agent.key, PASSPHRASE), NOW)
            manifest = agent.manifest
            self.book.pin(COUNTRY.csca)
            self.book.add_bag("bag-1", 1, archive, request=b"request", expires_at=manifest.expires_at, now=NOW)
        held = self.book.bags()[0]
        bag = open_held(self.book, held, IDENTITY, PASSPHRASE)
        self.desk = Desk(self.book, bag, held.sealed, PASSPHRASE, stamper=self.stamp)

    def enter(self, dose_id: str = "D-1", *, now: datetime = NOW, **changes: Any) -> Any:
        return self.desk.enter(dose_document(dose_id, **changes), now=now)


def hand_over(site: Site) -> None:
    """As the agent does."""
    for paper in site.book.unhanded():
        site.book.mark_handed(paper)


def add_second_bag(site: Site, passphrase: bytes = PASSPHRASE, *, hours: int = 23) -> None:
    """Take another bag, an hour later."""
    agent = BagAgent(COUNTRY)
    request = make_request(agent.key, "agent-1")
    site.book.add_key(request, seal_private_key(agent.key, passphrase), NOW)
    until = NOW + timedelta(hours=hours)
    archive = agent.archive(bag_id="bag-2", expires_at=until)
    later = NOW + timedelta(hours=1)
    site.book.add_bag("bag-2", 1, archive, request=request, expires_at=until, now=later)
