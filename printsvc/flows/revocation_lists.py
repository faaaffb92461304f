"""What verifiers get: the store's own answer, the published snapshot and its deltas, the batches of the EU."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from printsvc.credential.cose import parse_cose_sign1
from printsvc.credential.keys import Signer
from printsvc.credential.revocation import MAX_ENTRIES, Batch, HashType, RevocationSubject, Revoked, revocation_hashes
from printsvc.credential.revocation_snapshot import (
    Change,
    Fingerprints,
    Manifest,
    Snapshot,
    choose_bucket_bits,
    difference,
    encode_change,
    encode_delta,
    encode_snapshot,
    fingerprints_of,
    parse_change,
    prefixes_of,
    sign_snapshot,
)
from printsvc.domain.revocation import Revocation
from printsvc.errors import NotFoundError
from printsvc.flows.services import Services
from printsvc.store import revocation_runs as run_store
from printsvc.store import revocations as revocation_store
from printsvc.store.engine import Store
from printsvc.store.revocation_runs import StoredSnapshot

SNAPSHOT_VALIDITY: Final = timedelta(days=7)
"""A verifier that hears nothing for so long must not call certificates valid on an old list."""

MAX_DELTA_STEPS: Final = 1000


@dataclass(frozen=True, slots=True)
class StoreRevocations:
    """Answers a verifier from the store, exactly and as of now. Blocks: not for the event loop."""

    store: Store

    def find(self, subject: RevocationSubject) -> Revoked | None:
        hashes = revocation_hashes(HashType.UCI, subject) + revocation_hashes(HashType.SIGNATURE, subject)

        def read(connection: Connection) -> Revocation | None:
            found = (revocation_store.find_by_hash(connection, digest) for digest in hashes)
            return next((one for one in found if one is not None), None)

        return revoked_of(self.store.read_now(read))


def revoked_of(revocation: Revocation | None) -> Revoked | None:
    """Return what verifiers are told of a revocation."""
    return None if revocation is None else Revoked(revocation.revoked_at, revocation.reason)


# --- the snapshot


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The state of the store at one moment; `before` is the newest version's set where the layout is the same."""

    newest: StoredSnapshot | None
    change: int
    bucket_bits: int
    fingerprints: Fingerprints
    before: Fingerprints | None


async def publish_snapshot(services: Services) -> StoredSnapshot:
    """Make and sign the next version where something changed, or the newest is half over; return the newest.

    The signer is part of what may change: a list that a compromised key signed is believed by nobody.
    Several processes may try at once: one version comes of it. Raises StoreError, SignerError.
    """
    now = services.clock()
    signer = services.signers.current(now)
    newest, change = await services.store.read(_newest)
    if newest is not None and not _is_due(newest, change, signer, now):
        return newest
    drawn = await services.store.read(lambda c: _draw(c, now))
    if drawn.newest is not None and not _is_due(drawn.newest, drawn.change, signer, now):
        return drawn.newest
    return await _publish(services, drawn, signer, now)


async def is_signed_by_another(services: Services) -> bool:
    """Return whether the newest snapshot is under a signer that no longer signs: it does not wait for its time.

    Where that signer was compromised nobody believes the snapshot. Raises StoreError, SignerError.
    """
    signer = services.signers.current(services.clock())
    newest, _ = await services.store.read(_newest)
    return newest is not None and parse_cose_sign1(newest.manifest).kid != signer.kid


def _is_due(newest: StoredSnapshot, change: int, signer: Signer, now: datetime) -> bool:
    half_over = now - newest.made_at >= (newest.expires_at - newest.made_at) / 2
    return newest.change != change or half_over or parse_cose_sign1(newest.manifest).kid != signer.kid


async def _publish(services: Services, drawn: _Drawn, signer: Signer, now: datetime) -> StoredSnapshot:
    manifest, signed, body = sign_snapshot(
        drawn.fingerprints,
        bucket_bits=drawn.bucket_bits,
        version=drawn.newest.version + 1 if drawn.newest else 1,
        made_at=now,
        expires_at=now + SNAPSHOT_VALIDITY,
        signer=signer,
    )
    delta = None if drawn.before is None else encode_change(difference(drawn.before, drawn.fingerprints))
    made = StoredSnapshot(
        manifest.version,
        manifest.made_at,
        manifest.expires_at,
        manifest.bucket_bits,
        manifest.count,
        drawn.change,
        signed,
    )
    if await services.store.write(lambda c: run_store.insert_snapshot(c, made, delta=delta, body=body)):
        return made
    there, _ = await services.store.read(_newest)
    return there or made


def _newest(connection: Connection) -> tuple[StoredSnapshot | None, int]:
    return run_store.newest_snapshot(connection), revocation_store.last_change(connection)


def _draw(connection: Connection, now: datetime) -> _Drawn:
    newest, change = _newest(connection)
    prefixes = prefixes_of(revocation_store.iterate_hashes(connection, now=now))
    bits = choose_bucket_bits(len(prefixes) // 8, newest.bucket_bits if newest else None)
    before = None
    if newest is not None and newest.bucket_bits == bits:
        body = run_store.snapshot_body(connection, newest.version)
        if body is not None:
            before = Snapshot(_unsigned(newest), newest.manifest, memoryview(body)).fingerprints()
    return _Drawn(newest, change, bits, fingerprints_of(prefixes, bits), before)


def _unsigned(stored: StoredSnapshot) -> Manifest:
    return Manifest(
        stored.version, stored.made_at, stored.expires_at, HashType.UCI, stored.bucket_bits, stored.count, b""
    )


async def load_snapshot(services: Services) -> tuple[StoredSnapshot, bytes]:
    """Return the newest version that is in force, with its file; one is made where there is none."""
    now = services.clock()

    def read(connection: Connection) -> tuple[StoredSnapshot, bytes] | None:
        newest = run_store.newest_snapshot(connection)
        if newest is None or now >= newest.expires_at:
            return None
        body = run_store.snapshot_body(connection, newest.version)
        return None if body is None else (newest, encode_snapshot(newest.manifest, body))

    found = await services.store.read(read)
    if found is None:
        await publish_snapshot(services)
        found = await services.store.read(read)
    if found is None:
        raise NotFoundError("There is no snapshot.", vi="Chưa có danh sách thu hồi.")
    return found


async def load_delta(services: Services, from_version: int) -> tuple[StoredSnapshot, bytes | None]:
    """Return the newest version and the file that leads to it; None for who has it already.

    Raises NotFoundError (no_delta) where the whole snapshot must be fetched: the version is not known, too old, or its
    layout was another.
    """

    def read(connection: Connection) -> tuple[StoredSnapshot | None, list[bytes | None]]:
        newest = run_store.newest_snapshot(connection)
        if newest is None or not 0 < newest.version - from_version <= MAX_DELTA_STEPS or from_version < 1:
            return newest, []
        return newest, run_store.deltas_between(connection, from_version, newest.version)

    newest, deltas = await services.store.read(read)
    if newest is not None and from_version == newest.version:
        return newest, None
    changes: list[Change] = []
    for delta in deltas:
        if delta is None or newest is None:
            changes = []
            break
        changes.append(parse_change(delta, newest.bucket_bits))
    if newest is None or not changes:
        raise NotFoundError(
            "No delta leads from this version to the newest: fetch the whole snapshot.",
            vi="Không có bản cập nhật từ phiên bản này: hãy tải toàn bộ danh sách.",
            code="no_delta",
        )
    return newest, encode_delta(newest.manifest, from_version, changes)


# --- the batches of the EU


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """A batch in the list. `count` 0 is one that was withdrawn: all in it was undone, or has expired."""

    batch_id: str
    count: int
    changed_at: datetime


async def list_batches(services: Services, *, after: str = "", limit: int = 1000) -> list[BatchInfo]:
    """Return batches in the order of their ids, those after the batch `after`. Raises NotFoundError for no id."""
    now = services.clock()
    start = _parse_batch_id(after) if after else ("", 0)
    rows = await services.store.read(
        lambda c: revocation_store.list_batches(c, now=now, width=MAX_ENTRIES, after=start, limit=limit)
    )
    return [BatchInfo(f"{row.kid}-{row.number}", row.alive, _moment(row.changed_at)) for row in rows]


async def load_batch(services: Services, batch_id: str, hash_type: HashType) -> Batch:
    """Return a batch as it is now. Raises NotFoundError where nothing is left in it, or it never was."""
    now = services.clock()
    kid, number = _parse_batch_id(batch_id)
    found = await services.store.read(
        lambda c: revocation_store.batch_entries(c, kid, number, now=now, width=MAX_ENTRIES)
    )
    if not found:
        raise _no_batch()
    entries = {
        HashType.UCI: [one.uci_hash for one in found],
        HashType.COUNTRYCODEUCI: [one.country_uci_hash for one in found],
        HashType.SIGNATURE: [one.signature_hash for one in found],
    }[hash_type]
    expires = max(one.expires_at for one in found)
    return Batch(services.country, expires, bytes.fromhex(kid), hash_type, tuple(entries))


def _parse_batch_id(batch_id: str) -> tuple[str, int]:
    kid, _, number = batch_id.rpartition("-")
    try:
        bytes.fromhex(kid)
        value = int(number) if number.isascii() and number.isdigit() and len(number) < 18 else -1
    except ValueError:
        raise _no_batch() from None
    if not kid or value < 0 or value % MAX_ENTRIES:
        raise _no_batch()
    return kid, value


def _no_batch() -> NotFoundError:
    return NotFoundError("There is no such batch.", vi="Không có danh sách này.")


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromtimestamp(int(value) / 1_000_000, UTC)
