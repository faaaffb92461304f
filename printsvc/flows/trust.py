"""Whom verifiers believe: our own list with its signature, and the lists of others that somebody imported.

Every process holds what it last read and asks the database by two numbers whether that is still all: an import, a new
signer, a compromised one take effect everywhere with the next code, without a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_der_public_key
from sqlalchemy import Connection

from printsvc.credential.dsc import Kid, Usage, read_dsc
from printsvc.credential.keys import LocalSigner, make_private_key, open_private_key, seal_private_key
from printsvc.credential.trust import TrustList, make_trust_list
from printsvc.credential.trustdoc import encode_time
from printsvc.credential.trustedkey import CredentialFormat, KeyRing, TrustedKey
from printsvc.credential.trustentry import encode_kid, encode_public_key, fingerprint, parse_base64, refuse
from printsvc.credential.trustimport import Difference, ListFile, ReadList, compare, read_list
from printsvc.credential.trustsigned import ListSigner, in_force, is_list_signer, make_list_signer, sign_trust_list
from printsvc.errors import InputError, NotFoundError, Problem, SignerError, SigningError, StoreError
from printsvc.flows.keymaking import Authority, authority_at_hand
from printsvc.store import trust as trust_store
from printsvc.store.engine import Store
from printsvc.store.keyfile import KeyFolder, SealedSigner
from printsvc.store.signers import lock_signers, read_authorities, read_compromised, read_trusted
from printsvc.store.trust import StoredKey, TrustSource

SOURCE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_OWN, _IMPORTED = "own", "imported"
_SIGN_AGAIN: Final = timedelta(hours=1)
_RENEW_SIGNER: Final = timedelta(days=60)
_LOOK_AGAIN_IN_VAIN: Final = timedelta(seconds=15)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Loaded:
    """`own` is our list as others get it; `everybody` what codes are verified against: it and all that was imported."""

    own: TrustList
    everybody: TrustList
    own_digest: str
    imported_version: int


class TrustBook:
    """What this process knows of the trust lists, and who signs ours (None: nobody can).

    `open_signer` gives who signs now; it is asked again whenever the list is signed anew, so that a process that runs
    for years outlives its first list signer.
    """

    def __init__(self, open_signer: Callable[[datetime], ListSigner | None] | None = None) -> None:
        self.list_signer: ListSigner | None = None
        self._open_signer = open_signer
        self._opened_at = _LONG_AGO
        self._closed_by: SigningError | StoreError | None = None
        self._opening = asyncio.Lock()
        self._held: Loaded | None = None
        self._signed: tuple[int, datetime, str] | None = None

    @property
    def is_to_sign(self) -> bool:
        """Whether lists are signed here where a key is found."""
        return self._open_signer is not None or self.list_signer is not None

    async def get_list_signer(self, now: datetime) -> ListSigner:
        """Return who signs our list, opened anew where that was an hour ago.

        Raises SignerError where nobody does, SigningError where the key cannot be opened.
        """
        async with self._opening:  # who asks meanwhile waits for the answer
            good_for = _SIGN_AGAIN if self.list_signer is not None else _LOOK_AGAIN_IN_VAIN
            if self._open_signer is not None and not timedelta() <= now - self._opened_at < good_for:
                self._opened_at = now
                try:
                    self.list_signer = await asyncio.to_thread(self._open_signer, now)
                    self._closed_by = None
                except (SigningError, StoreError) as error:
                    # Who signed until now may go on: verifiers need a list that is fresh.
                    if self.list_signer is None or not in_force(self.list_signer.certificate, now):
                        self.list_signer, self._closed_by = None, error
        if self._closed_by is not None:
            raise self._closed_by.with_traceback(None)  # raised again and again, it would grow
        if self.list_signer is None:
            raise SignerError(
                "Nobody signs trust lists here: make a key with printsvc keys list-signer.",
                vi="Chưa có khóa ký danh sách tin cậy: hãy chạy printsvc keys list-signer.",
                retry_after_s=60,
            )
        return self.list_signer

    async def load(self, store: Store, now: datetime) -> Loaded:
        """Return the lists as the database has them now. Raises StoreError."""
        held = self._held

        def look(connection: Connection) -> tuple[str, Mapping[str, tuple[int, str, datetime]]]:
            return _own_digest(connection), trust_store.read_versions(connection)

        digest, versions = await store.read(look)
        imported_version = versions[_IMPORTED][0] if _IMPORTED in versions else 0
        if held is not None and (held.own_digest, held.imported_version) == (digest, imported_version):
            return held
        if _OWN not in versions or versions[_OWN][1] != digest:
            await store.write(lambda c: _bring_up_to_date(c, now))
        self._held = await store.read(_read_all)
        self._opened_at = _LONG_AGO  # a CSCA may have come or gone, and who signs lists with it
        return self._held

    async def signed(self, store: Store, now: datetime) -> str:
        """Return the JWS over our list, at most an hour old. Raises SignerError where nobody signs lists."""
        own = (await self.load(store, now)).own
        signer = await self.get_list_signer(now)
        if self._signed is not None:
            version, signed_at, text = self._signed
            if version == own.version and timedelta() <= now - signed_at < _SIGN_AGAIN:
                return text
        text = await asyncio.to_thread(sign_trust_list, own, signer, now=now)
        self._signed = (own.version, now, text)
        return text


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, or (`dry_run`) would do."""

    read: ReadList
    difference: Difference
    dry_run: bool


async def import_list(
    store: Store, source: str, file: ListFile, *, now: datetime, actor: str, dry_run: bool = False
) -> Imported:
    """Put a list's keys in place of what its source had before: all of them, or none.

    Raises InputError for a list that is refused, StoreError where nothing was stored.
    """
    if not SOURCE_NAME.fullmatch(source):
        raise InputError(
            [
                Problem(
                    "/source",
                    "invalid",
                    "Tên nguồn chỉ gồm chữ thường, số, dấu chấm, gạch nối và gạch dưới (tối đa 64 ký tự).",
                    "A source's name is up to 64 small letters, digits, dots, hyphens and underscores.",
                )
            ]
        )
    read = await asyncio.to_thread(read_list, file, now=now)

    def compared(connection: Connection) -> Difference:
        before = trust_store.find_source(connection, source)
        keys = [_read_stored(key) for _, key in trust_store.list_keys(connection, source)]
        difference = compare(keys, read.keys)
        if before is not None:
            _refuse_older(before, file, read, difference)
        return difference

    def put(connection: Connection) -> Difference:
        trust_store.lock_trust(connection)
        difference = compared(connection)
        entry = TrustSource(
            source=source,
            list_format=file.list_format.value,
            sha256=read.sha256,
            signed_by=read.signed_by,
            version=read.version,
            made_at=read.made_at,
            imported_at=now,
            imported_by=actor,
            skipped=[{"pointer": p.pointer, "code": p.code, "en": p.en, "vi": p.vi} for p in read.skipped],
        )
        trust_store.replace_source(connection, entry, [_stored(key) for key in read.keys])
        _note(connection, "import", entry, difference, now=now, actor=actor)
        return difference

    return Imported(read, await (store.read(compared) if dry_run else store.write(put)), dry_run)


async def remove_source(store: Store, source: str, *, now: datetime, actor: str) -> int:
    """Take a source away and return how many keys it had. Raises NotFoundError."""

    def take(connection: Connection) -> int:
        trust_store.lock_trust(connection)
        entry = trust_store.find_source(connection, source)
        if entry is None:
            raise _no_source()
        gone = tuple(_read_stored(key) for _, key in trust_store.list_keys(connection, source))
        trust_store.delete_source(connection, source)
        _note(connection, "remove", entry, Difference((), gone, 0), now=now, actor=actor)
        return len(gone)

    return await store.write(take)


async def get_source(store: Store, source: str) -> tuple[TrustSource, list[TrustedKey], list[Mapping[str, object]]]:
    """Return (source, its keys, what was done to it). Raises NotFoundError."""

    def look(connection: Connection) -> tuple[TrustSource, list[TrustedKey], list[Mapping[str, object]]]:
        entry = trust_store.find_source(connection, source)
        if entry is None:
            raise _no_source()
        keys = [_read_stored(key) for _, key in trust_store.list_keys(connection, source)]
        return entry, keys, trust_store.list_events(connection, source)

    return await store.read(look)


def open_list_signer(
    folder: KeyFolder,
    passphrase: bytes,
    *,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    authority: Authority | None = None,
    compromised: Collection[bytes] = (),
) -> LocalSigner | None:
    """Return who signs our trust list: the key `list-…` of the folder; where the CSCA's key is at hand, one is made.

    A new one is made 60 days before the last ends, and where `authority` is another than its CSCA. `compromised` are
    certificates (DER) of CSCAs: what is under one of them signs only as long as there is nothing else. None where there
    is neither. Raises SigningError for a wrong passphrase, and where a key cannot be stored.
    """
    kept = _kept_list_signer(folder, passphrase, now, compromised)
    csca = authority or authority_at_hand(folder, passphrase, now, needed=kept is None, without=compromised)
    if csca is None or _still_good(kept, csca, now):
        return kept
    try:
        with folder.locked():
            kept = _kept_list_signer(folder, passphrase, now, compromised)  # another process may have been here
            if _still_good(kept, csca, now):
                return kept
            key = make_private_key()
            certificate = make_list_signer(
                key.public_key(),
                csca=csca.certificate,
                csca_key=csca.key,
                serial=int.from_bytes(b"\x01" + random_bytes(15), "big"),
                now=now.replace(microsecond=0),
            )
            made = LocalSigner(certificate, key)
            folder.write(SealedSigner(f"list-{made.kid.hex()}", certificate, seal_private_key(key, passphrase)))
            return made
    except SigningError:
        if kept is None or authority is not None:
            raise
        return kept  # the folder takes no new key, and the one that is here still signs


def list_signer_document(certificate: bytes) -> dict[str, Any]:
    """Return what is told of who signs our trust list, as JSON."""
    dsc = read_dsc(certificate)
    return {
        "thumbprint": dsc.thumbprint,
        "role": "list",
        "not_before": encode_time(dsc.not_before),
        "not_after": encode_time(dsc.not_after),
        "key_store": "file",
    }


def find_list_signer_document(folder: KeyFolder, now: datetime) -> dict[str, Any] | None:
    """Return what is told of the newest list signer of a folder that is in force; no key is opened."""
    there = [one.certificate for one in folder.read() if one.name.startswith("list-")]
    newest = max((one for one in there if in_force(one, now)), key=lambda one: read_dsc(one).not_after, default=None)
    return None if newest is None else list_signer_document(newest)


def _kept_list_signer(
    folder: KeyFolder, passphrase: bytes, now: datetime, compromised: Collection[bytes]
) -> LocalSigner | None:
    signers = [
        LocalSigner(one.certificate, open_private_key(one.sealed_key, passphrase))
        for one in folder.read()
        if one.name.startswith("list-") and in_force(one.certificate, now)
    ]

    def rank(signer: LocalSigner) -> tuple[bool, datetime]:
        return not any(is_list_signer(signer.certificate, one) for one in compromised), signer.not_after

    return max(signers, key=rank, default=None)


def _still_good(kept: LocalSigner | None, csca: Authority, now: datetime) -> bool:
    if kept is None or not is_list_signer(kept.certificate, csca.certificate):
        return False
    ends = min(now + _RENEW_SIGNER, read_dsc(csca.certificate).not_after)  # none is longer than its CSCA
    return kept.not_after >= ends


def _refuse_older(before: TrustSource, file: ListFile, read: ReadList, difference: Difference) -> None:
    """Raise InputError where what is here is newer, or is another kind of list."""
    if before.list_format != file.list_format.value:
        raise InputError(
            [
                Problem(
                    "/format",
                    "source_taken",
                    "Nguồn này đã có danh sách loại khác: hãy xóa nó trước.",
                    "This source has a list of another kind: remove it first.",
                )
            ]
        )
    older = read.version is not None and before.version is not None and read.version < before.version
    earlier = read.made_at is not None and before.made_at is not None and read.made_at < before.made_at
    # One version with two contents: one of them is not the list's owner's.
    other = read.version is not None and read.version == before.version and bool(difference.added or difference.removed)
    if older or earlier or other:
        raise refuse("/version", "rollback")


def _note(
    connection: Connection, event: str, entry: TrustSource, difference: Difference, *, now: datetime, actor: str
) -> None:
    numbers = {
        "added": len(difference.added),
        "removed": len(difference.removed),
        "unchanged": difference.unchanged,
    }
    trust_store.insert_event(connection, event, entry, at=now, actor=actor, numbers=numbers)
    _bring_up_to_date(connection, now)


def _bring_up_to_date(connection: Connection, now: datetime) -> None:
    """Bring versions and published certificates to what signers and imported keys are now."""
    trust_store.lock_trust(connection)
    # What is published and what is noted must be of one moment: a signer that ends in between would stay published.
    lock_signers(connection, to_change=False)
    own = _own_ders(connection)
    imported = trust_store.list_keys(connection)
    trust_store.note_content(connection, _OWN, _own_digest(connection), now=now)
    content = (f"{source} {key.fingerprint}".encode() for source, key in imported)
    trust_store.note_content(connection, _IMPORTED, _digest(content), now=now)
    wanted = [_published(encode_kid(read_dsc(der).kid), der) for der in own]
    wanted += [
        _published(key.kid, key.certificate)
        for key in _without_compromised(connection, (key for _, key in imported))
        if key.format == CredentialFormat.HCERT and key.certificate is not None
    ]
    trust_store.publish(connection, wanted)


def _published(kid: str, der: bytes) -> tuple[str, str, bytes]:
    return kid, hashlib.sha256(der).hexdigest(), der


def _own_ders(connection: Connection) -> list[bytes]:
    return list(read_trusted(connection).certificates)


def _own_digest(connection: Connection) -> str:
    return _digest([*_own_ders(connection), *read_authorities(connection)])


def _without_compromised(connection: Connection, keys: Iterable[StoredKey]) -> list[StoredKey]:
    """Return the keys but for ours that are compromised: a list of others may name them for days to come."""
    lost = {encode_public_key(read_dsc(der).public_key) for der in read_compromised(connection)}
    return [key for key in keys if key.public_key not in lost]


def _read_all(connection: Connection) -> Loaded:
    ders, versions = _own_ders(connection), trust_store.read_versions(connection)
    own_version, digest, own_at = versions[_OWN]
    imported_version, _, imported_at = versions[_IMPORTED]
    authorities = tuple(read_authorities(connection))
    own = replace(make_trust_list(ders, version=own_version, made_at=own_at), authorities=authorities)
    certificates = {(dsc.kid, dsc.der): dsc for dsc in own.certificates}
    others = []
    for row in _without_compromised(connection, (row for _, row in trust_store.list_keys(connection))):
        key = _read_stored(row)
        if key.format is CredentialFormat.HCERT and key.certificate is not None:
            dsc = read_dsc(key.certificate, kid=_kid_bytes(key.kid))
            certificates.setdefault((dsc.kid, dsc.der), dsc)
        else:
            others.append(key)
    everybody = TrustList(
        # Both grow and neither shrinks: the sum changes exactly when one of them does.
        version=own_version + imported_version,
        made_at=max(own_at, imported_at),
        certificates=tuple(certificates.values()),
        keys=KeyRing(tuple(others)),
        authorities=authorities,
    )
    return Loaded(own, everybody, digest, imported_version)


def _kid_bytes(text: str) -> Kid:
    return Kid(parse_base64(text, "/kid"))


def _digest(parts: Iterable[bytes]) -> str:
    """Return a digest of a set: the order in which it is read does not count."""
    return hashlib.sha256(b"".join(sorted(hashlib.sha256(part).digest() for part in parts))).hexdigest()


def _stored(key: TrustedKey) -> StoredKey:
    return StoredKey(
        fingerprint=fingerprint(key),
        format=key.format.value,
        kid=key.kid,
        public_key=encode_public_key(key.public_key),
        certificate=key.certificate,
        not_before=key.not_before,
        not_after=key.not_after,
        country=key.country,
        issuer=key.issuer,
        usages=sorted(key.usages),
        is_anchor=key.is_anchor,
    )


def _read_stored(row: StoredKey) -> TrustedKey:
    return TrustedKey(
        kid=row.kid,
        format=CredentialFormat(row.format),
        public_key=load_der_public_key(row.public_key),
        not_before=row.not_before,
        not_after=row.not_after,
        country=row.country,
        issuer=row.issuer,
        usages=frozenset(Usage(usage) for usage in row.usages),
        certificate=row.certificate,
        is_anchor=row.is_anchor,
    )


def _no_source() -> NotFoundError:
    return NotFoundError("There is no trust list of this name.", vi="Không có danh sách tin cậy tên này.")
