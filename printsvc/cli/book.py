"""Whom `printsvc verify` asks about revocation: a snapshot, the service, or this machine's own store."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from printsvc.cli.remote import DEFAULT_URL, Remote

if TYPE_CHECKING:
    from printsvc.credential.revocation import Revocations, RevocationSubject, Revoked
    from printsvc.credential.trust import TrustList


@dataclass(frozen=True, slots=True)
class ServiceRevocations:
    """Asks a service about each certificate."""

    remote: Remote

    def find(self, subject: RevocationSubject) -> Revoked | None:
        from printsvc.credential.revocation import HashType, revocation_hashes

        # R of the signature too: whoever could alter a UVCI could sign, and needs no copy of this one.
        hashes = revocation_hashes(HashType.UCI, subject) or revocation_hashes(HashType.SIGNATURE, subject)
        for digest in hashes:
            revoked = self.confirm(digest)
            if revoked is not None:
                return revoked
        return None

    def confirm(self, digest: bytes) -> Revoked | None:
        """Return what the service knows for certain of a hash."""
        from printsvc.credential.revocation import Revoked
        from printsvc.domain.revocation import RevocationReason

        answer = self.remote.call("GET", f"/v1/revocations/hashes/{digest.hex()}")
        if not answer["revoked"]:
            return None
        at, reason = answer["revoked_at"], answer["reason"]
        known = reason if reason in set(RevocationReason) else None  # a newer service may have further reasons
        return Revoked(datetime.fromisoformat(at) if at else None, RevocationReason(known) if known else None)

    def confirm_or_doubt(self, digest: bytes) -> Revoked | None:
        """Like `confirm`; where the service cannot be reached, a hit stays what it was: not certain."""
        from printsvc.credential.revocation import Revoked
        from printsvc.errors import UnavailableError

        try:
            return self.confirm(digest)
        except UnavailableError:
            return Revoked(is_certain=False)


def revocation_book(
    file: Path | None, *, url: str | None, trust: TrustList, has_list: bool, many: bool
) -> Revocations | None:
    """Return whom to ask; None where nobody can be asked, which the caller tells.

    A snapshot FILE comes first; a hit in it is asked online where a service is named. Without one, the service is asked
    that the trust list came from, and where none runs, the store on this machine. `has_list` is a verifier with a trust
    list of its own: it may stand where no service can be reached. `many` fetches the whole list once. Raises
    CredentialError for a snapshot that is not to be believed, UnavailableError for a service that must be there.
    """
    from printsvc.errors import PrintsvcError

    named = None if url is None else ServiceRevocations(Remote(url, ""))
    if file is not None:
        return _snapshot(_map(file), trust, named)
    if has_list and named is None:
        return None
    service = named or ServiceRevocations(Remote(DEFAULT_URL, ""))
    try:
        if many:
            return _snapshot(service.remote.fetch("/v1/revocations/snapshot"), trust, service)
        service.remote.call("GET", "/v1/revocations/batches?limit=1")
        return service
    except PrintsvcError:
        if has_list:
            return None
        if named is not None:
            raise
    return _own_store()


def _map(file: Path) -> memoryview:
    import mmap

    with file.open("rb") as opened:
        if not file.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))


def _snapshot(data: bytes | memoryview, trust: TrustList, service: ServiceRevocations | None) -> Revocations:
    from printsvc.clock import clock
    from printsvc.credential.revocation_snapshot import SnapshotRevocations, open_snapshot

    # The clock's time, whatever --at says: an old list does not become a good one by looking into the past.
    snapshot = open_snapshot(data, trust=trust, now=clock())
    return SnapshotRevocations(snapshot, service.confirm_or_doubt if service is not None else None)


def _own_store() -> Revocations | None:
    from printsvc.credential.revocation import HashType, revocation_hashes
    from printsvc.errors import StateError, StoreError
    from printsvc.flows.revocation_lists import StoreRevocations
    from printsvc.settings import read_settings
    from printsvc.store import migrate
    from printsvc.store.engine import Store

    settings = read_settings()
    if not settings.database_url and not (settings.data_dir / "printsvc.db").exists():
        return None

    class Own:
        """Opens the store for each question: a service may want to start meanwhile."""

        def find(self, subject: RevocationSubject) -> Revoked | None:
            if not revocation_hashes(HashType.UCI, subject):
                return None
            with closing(Store(settings.store_url, writers=1, readers=1)) as store:
                migrate.check(store)
                return StoreRevocations(store).find(subject)

    try:
        with closing(Store(settings.store_url, writers=1, readers=1)) as store:
            migrate.check(store)
    except (StoreError, StateError):  # a service has it open, or it is of another version: the verdict says so
        return None
    return Own()


def not_asked(book: Any) -> tuple[str, str] | None:
    """Return the sentence (English, Vietnamese) for a verdict to which nobody was asked about revocation."""
    if book is not None:
        return None
    return (
        "Revocation was not checked: name a list with --revocations, or a service with --url.",
        "Chưa kiểm tra thu hồi: hãy dùng --revocations TỆP hoặc --url.",
    )
