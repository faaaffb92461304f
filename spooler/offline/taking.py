"""Taking a day bag in the morning: make a key, ask for its signer, check what comes, keep it."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from printsvc.credential.keys import make_private_key, open_private_key, seal_private_key
from printsvc.credential.trust import TrustList
from printsvc.domain.print_job import CopyReason
from printsvc.errors import CredentialError, InputError, PrintsvcError, SigningError, StateError
from printsvc.issuing.bag import NOT_A_BAG, TRUST, DayBag, check_time, make_request, open_bag, read_request
from spooler.journal import Identity
from spooler.offline.bags import HeldBag
from spooler.offline.book import Book
from spooler.offline.desk import Answer, Desk, Stamps
from spooler.offline.line import BagLine, NoBagError

MIN_PASSPHRASE = 8
_TAKE_THE_NEXT = frozenset({"bag_empty", "bag_expired", "bag_not_yet"})
_KEY_IS_OF_NO_USE = frozenset({"request_of_another", "bag_over", "request_unreadable"})


def check_passphrase(given: str) -> str:
    """Return it; raises InputError where it is too short to keep anything."""
    if len(given) < MIN_PASSPHRASE:
        raise InputError(
            en=f"The passphrase must have at least {MIN_PASSPHRASE} characters.",
            vi=f"Mật khẩu phải có ít nhất {MIN_PASSPHRASE} ký tự.",
            code="passphrase_short",
        )
    return given


async def take_bag(
    book: Book,
    line: BagLine,
    identity: Identity,
    passphrase: bytes,
    *,
    csca_file: Path | None,
    clock: Callable[[], datetime],
) -> DayBag:
    """Take a day bag and keep it; after a cut line or a kill the same key is asked for again.

    Where no new one was granted, the one that is here comes again, with lists of now: who was killed before the answer
    was shown, or asks twice, is not told that there is none.

    The private key is sealed on this disk before anybody hears of it, and never leaves. The CSCA is that of
    `csca_file`; without, the first one that comes over this agent's own line is pinned. A key of before that this
    passphrase does not open stays in the book and is passed over: another team's. Raises NoBagError, AccessError,
    LinkDownError, InputError for a bag that is not to be used.
    """
    pending = next((one for one in book.pending_requests() if _opens(one[1], passphrase)), None)
    made = pending is None
    if pending is None:
        key = make_private_key()
        pending = make_request(key, identity.agent_id), seal_private_key(key, passphrase)
        book.add_key(*pending, clock())
    fetch = functools.partial(_fetch, book, line, identity, passphrase, csca_file=csca_file, clock=clock)
    try:
        return await fetch(*pending)
    except NoBagError as error:
        if error.code in _KEY_IS_OF_NO_USE:  # enrolled anew, or the bag was ended before it came
            book.drop_request(pending[0])
        if error.code != NoBagError.code:
            raise
        in_time = [one for one in book.bags() if one.expires_at > clock()]
        held = next((one for one in in_time if _opens(one.sealed, passphrase)), None)
        if held is None:
            if in_time or len(book.pending_requests()) > 1:  # what is here is another passphrase's
                raise _other_passphrase(error) from None
            raise
        if made:  # the next leave may be taken with another passphrase
            book.drop_request(pending[0])
        try:
            return await fetch(held.request, held.sealed)
        except NoBagError as of_held:
            raise of_held if of_held.code == "bag_over" else error from None


def _opens(sealed: bytes, passphrase: bytes) -> bool:
    try:
        open_private_key(sealed, passphrase)
    except SigningError:
        return False
    return True


def _other_passphrase(error: NoBagError) -> NoBagError:
    return NoBagError(
        f"{error.en} What was asked for before was sealed with another passphrase: use that one to take it.",
        vi=f"{error.vi} Lần lấy trước dùng mật khẩu khác: hãy dùng mật khẩu đó để lấy lại.",
        code=error.code,
    )


async def _fetch(
    book: Book,
    line: BagLine,
    identity: Identity,
    passphrase: bytes,
    request: bytes,
    sealed: bytes,
    *,
    csca_file: Path | None,
    clock: Callable[[], datetime],
) -> DayBag:
    key = open_private_key(sealed, passphrase)
    archive = await line.take_bag(request, identity.journal_id)
    pins = _pins(book, archive, csca_file)
    public = key.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    bag = open_bag(archive, pins=pins, key=public, agent_id=identity.agent_id)
    check_time(bag.manifest, clock())
    for one in pins:
        book.pin(one)
    manifest = bag.manifest
    book.add_bag(
        manifest.bag_id,
        manifest.version,
        archive,
        request=request,
        expires_at=manifest.expires_at,
        now=clock(),
        size=manifest.range.size,
    )
    return bag


def open_held(book: Book, held: HeldBag, identity: Identity, passphrase: bytes, *, to_sign: bool = True) -> DayBag:
    """Return a bag of the book, checked anew: a file on a disk may have been changed.

    Raises InputError for one that was, SigningError for another passphrase; without `to_sign` the public key of the
    request is enough.
    """
    if to_sign or _opens(held.sealed, passphrase):
        key = open_private_key(held.sealed, passphrase).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
    else:
        key = read_request(held.request, identity.agent_id)
    try:
        archive = held.file.read_bytes()
    except OSError:
        archive = b""
    return open_bag(archive, pins=book.pins(), key=key, agent_id=identity.agent_id)


class Desks:
    """The desks of all bags that are here. A dose is entered at the oldest one that is in time and has numbers left."""

    def __init__(self, book: Book, identity: Identity, passphrase: bytes, *, stamper: Stamps | None = None) -> None:
        """Raises StateError (no_bag) where there is none, SigningError where this passphrase opens none."""
        self._book, self._identity, self._passphrase, self._stamper = book, identity, passphrase, stamper
        bags = book.bags()
        if not bags:
            raise StateError(
                "There is no day bag here: take one where there is a line (printsvc-spooler offline take).",
                vi="Chưa có gói ngày: hãy lấy khi có mạng (printsvc-spooler offline take).",
                code="no_bag",
            )
        if not any(_opens(held.sealed, passphrase) for held in bags):
            open_private_key(bags[0].sealed, passphrase)
        self._desk: Desk | None = None

    def enter(self, document: Any, *, now: datetime) -> Answer:
        """Enter a dose as `Desk.enter`; where its bag ends or is used up meanwhile, in the next one."""
        if self._desk is None:
            self._desk = self._choose(now)
        try:
            return self._desk.enter(document, now=now)
        except (StateError, InputError) as error:
            if error.code not in _TAKE_THE_NEXT:
                raise
            before, self._desk = self._desk, self._choose(now)
            if self._desk.bag_id == before.bag_id:
                raise
            return self._desk.enter(document, now=now)

    def again(
        self, dose_id: str, reason: CopyReason, *, now: datetime, under_way: Callable[[], Collection[str]] = frozenset
    ) -> Answer:
        """Make a further paper as `Desk.again`, of a dose of any bag that is here: nothing is signed for it."""
        bags = self._book.bags()
        bag_id = next((line.bag_id for line in self._book.entries_of(dose_id)), bags[0].bag_id)
        held = next(one for one in bags if one.bag_id == bag_id)
        bag = open_held(self._book, held, self._identity, self._passphrase, to_sign=False)
        desk = Desk(self._book, bag, None, self._passphrase, stamper=self._stamper)
        return desk.again(dose_id, reason, now=now, under_way=under_way)

    def _choose(self, now: datetime) -> Desk:
        """Return the oldest desk with numbers left; else one that says in a sentence why nothing can be issued."""
        empty: Desk | None = None
        wrong: PrintsvcError | None = None
        for held in reversed(self._book.bags()):
            try:
                bag = open_held(self._book, held, self._identity, self._passphrase)
                check_time(bag.manifest, now)
                desk = Desk(self._book, bag, held.sealed, self._passphrase, stamper=self._stamper)
            except (InputError, SigningError) as error:
                # Of several, the reason why the newest of our own cannot be used says most.
                wrong = error if wrong is None or isinstance(error, InputError) else wrong
                continue
            if desk.left():
                return desk
            empty = desk
        if empty is None:
            assert wrong is not None, "there is a bag"
            raise wrong
        return empty


def _pins(book: Book, archive: bytes, csca_file: Path | None) -> list[bytes]:
    if csca_file is not None:
        try:
            found = x509.load_pem_x509_certificates(csca_file.read_bytes())
        except ValueError:
            raise InputError(
                en=f"{csca_file} holds no PEM certificates.",
                vi=f"{csca_file} không chứa chứng thư PEM.",
                code="settings_invalid",
            ) from None
        return [one.public_bytes(Encoding.DER) for one in found]
    return book.pins() or _first_pins(archive)


def _first_pins(archive: bytes) -> list[bytes]:
    """The CSCAs that stand in the first bag: it came over this agent's own line, and is held to them from now on."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return list(TrustList.from_json(json.loads(opened.read(TRUST))).authorities)
    except (CredentialError, *NOT_A_BAG):
        return []
