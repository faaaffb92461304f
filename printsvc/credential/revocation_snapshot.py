"""All current revocations in one small signed file, for verifiers without a line; and what changes it to the next one.

The file is a filter: of every hash it keeps the first `bucket_bits` + 24 bits, sorted. A revoked certificate is always
found. One that nobody revoked is found by accident with the probability `Manifest.false_positive_rate`, which is below
one in a million, so a hit means "possibly revoked: ask online". Kept xor and fuse filters are a third smaller, but
every change makes another file of them: nothing that a delta could bridge. Here a delta is the difference of two sorted
sets, and what it makes is the next version byte for byte.

::

    snapshot  "PSVCRVK1"  u32 length of the manifest  manifest (COSE_Sign1)  body
    body      u32 × (2^bucket_bits + 1) where each bucket begins    3 bytes × count, ascending within their bucket
    delta     "PSVCRVD1"  u32 length of the manifest  manifest of the version it leads to
              u32 version it starts from   u32 how many go   u32 how many come   those that go   those that come
    a set     for each fingerprint in order: distance of its bucket from the one before (LEB128), then its 3 bytes

u32 is little-endian, the 3 bytes are big-endian. The manifest is signed and names the SHA-256 of the body; a delta
needs no signature of its own, because what it makes must have the digest that the new manifest names.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from printsvc.credential.cbor import encode_cbor, parse_cbor
from printsvc.credential.cose import (
    ALG,
    KID,
    encode_cose_sign1,
    encode_to_be_signed,
    parse_cose_sign1,
    signature_agrees,
)
from printsvc.credential.keys import Signer, issued_by
from printsvc.credential.revocation import HashType, RevocationSubject, Revoked, revocation_hashes
from printsvc.credential.trust import TrustList
from printsvc.errors import CredentialError, NotHcertError, SigningError

MEDIA_TYPE: Final = "application/vnd.printsvc.revocations"
SNAPSHOT_MAGIC: Final = b"PSVCRVK1"
DELTA_MAGIC: Final = b"PSVCRVD1"
SUFFIX_BITS: Final = 24
FULL_BUCKET: Final = 16
"""Fingerprints in a bucket, on average, at which the buckets double: 16 / 2^24 is 0.95 in a million."""
MIN_BUCKET_BITS, MAX_BUCKET_BITS = 8, 28
_CONTENT_TYPE = 3  # COSE header, RFC 9052, 3.1
_TYPE = "printsvc-revocation-snapshot"
_MAX_MANIFEST = 4096
_U32 = np.dtype("<u4")
_TWO_PLACES = struct.Struct("<II")
_SUFFIX_MASK = (1 << SUFFIX_BITS) - 1

Fingerprints = npt.NDArray[np.uint64]
"""Ascending, each once; `bucket_bits` + 24 bits of a hash."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is signed. Times are aware UTC, whole seconds; after `expires_at` the snapshot says nothing any more."""

    version: int
    made_at: datetime
    expires_at: datetime
    hash_type: HashType
    bucket_bits: int
    count: int
    body_sha256: bytes

    @property
    def false_positive_rate(self) -> float:
        """The probability that a certificate which nobody revoked is found."""
        return float(self.count / 2 ** (self.bucket_bits + SUFFIX_BITS))

    def to_json(self) -> dict[str, Any]:
        """Return what people and programs are told of a snapshot."""
        return {
            "version": self.version,
            "made_at": self.made_at.isoformat().replace("+00:00", "Z"),
            "expires_at": self.expires_at.isoformat().replace("+00:00", "Z"),
            "hash_type": self.hash_type.value,
            "count": self.count,
            "false_positive_rate": self.false_positive_rate,
            "body_sha256": self.body_sha256.hex(),
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that was checked. `body` may be a file that is mapped into memory: only what is asked for is read."""

    manifest: Manifest
    signed_manifest: bytes
    body: memoryview

    def possibly_revoked(self, digest: bytes) -> bool:
        """Return whether a hash of `manifest.hash_type` is found: always True for a revoked one."""
        bits = self.manifest.bucket_bits
        fingerprint = int.from_bytes(digest[:8], "big") >> (64 - bits - SUFFIX_BITS)
        begin, end = _TWO_PLACES.unpack_from(self.body, 4 * (fingerprint >> SUFFIX_BITS))
        suffixes = 4 * ((1 << bits) + 1)
        bucket = bytes(self.body[suffixes + 3 * begin : suffixes + 3 * end])
        suffix = (fingerprint & _SUFFIX_MASK).to_bytes(3, "big")
        at = bucket.find(suffix)
        while at > 0 and at % 3:
            at = bucket.find(suffix, at + 1)
        return at >= 0

    def fingerprints(self) -> Fingerprints:
        """Return all that it holds."""
        bits = self.manifest.bucket_bits
        starts = np.frombuffer(self.body, _U32, (1 << bits) + 1)
        raw = np.frombuffer(self.body, np.uint8, offset=starts.nbytes).reshape(-1, 3).astype(np.uint64)
        suffixes = raw[:, 0] << np.uint64(16) | raw[:, 1] << np.uint64(8) | raw[:, 2]
        buckets = np.repeat(np.arange(1 << bits, dtype=np.uint64), starts[1:] - starts[:-1])
        return buckets << np.uint64(SUFFIX_BITS) | suffixes


@dataclass(frozen=True, slots=True)
class SnapshotRevocations:
    """Answers a verifier from a snapshot. `confirm` asks online about one hash; without it a hit stays uncertain."""

    snapshot: Snapshot
    confirm: Callable[[bytes], Revoked | None] | None = None

    def find(self, subject: RevocationSubject) -> Revoked | None:
        for digest in revocation_hashes(self.snapshot.manifest.hash_type, subject):
            if self.snapshot.possibly_revoked(digest):
                revoked = Revoked(is_certain=False) if self.confirm is None else self.confirm(digest)
                if revoked is not None:
                    return revoked
        return None


def choose_bucket_bits(count: int, before: int | None = None) -> int:
    """Return the bits that name a bucket, for `count` fingerprints; `before` is kept as long as it serves.

    A delta joins only versions with the same number.
    """
    bits = MIN_BUCKET_BITS
    while count > FULL_BUCKET << bits:
        bits += 1
    if bits > MAX_BUCKET_BITS:
        raise _invalid("More revocations than a snapshot can hold.")
    # Fewer to a bucket is never wrong, only larger: a few revocations more or less must not change the layout.
    return before if before is not None and bits <= before <= bits + 3 else bits


def fingerprints_of(prefixes: bytes | bytearray, bucket_bits: int) -> Fingerprints:
    """Return the fingerprints of hashes; `prefixes` are the first 8 bytes of each, one after the other."""
    values = np.frombuffer(prefixes, ">u8").astype(np.uint64) >> np.uint64(64 - bucket_bits - SUFFIX_BITS)
    values.sort()
    return values[np.concatenate(([True], values[1:] != values[:-1]))] if len(values) else values


def encode_body(fingerprints: Fingerprints, bucket_bits: int) -> bytes:
    """Return the body: the same set gives the same bytes."""
    edges = np.arange((1 << bucket_bits) + 1, dtype=np.uint64) << np.uint64(SUFFIX_BITS)
    starts = np.searchsorted(fingerprints, edges).astype(_U32)
    suffixes = (fingerprints & np.uint64(_SUFFIX_MASK)).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    return starts.tobytes() + suffixes.tobytes()


def sign_snapshot(
    fingerprints: Fingerprints,
    *,
    bucket_bits: int,
    version: int,
    made_at: datetime,
    expires_at: datetime,
    signer: Signer,
    hash_type: HashType = HashType.UCI,
) -> tuple[Manifest, bytes, bytes]:
    """Return (manifest, signed manifest, body); `encode_snapshot` puts them into a file.

    It never outlives its signer. Raises SigningError, and whatever the signer raises.
    """
    made_at, expires_at = made_at.astimezone(UTC).replace(microsecond=0), expires_at.astimezone(UTC)
    expires_at = min(expires_at, signer.not_after).replace(microsecond=0)
    if expires_at <= made_at:
        raise SigningError("The signer has expired: it signs no snapshot of revocations.")
    body = encode_body(fingerprints, bucket_bits)
    digest = hashlib.sha256(body).digest()
    manifest = Manifest(version, made_at, expires_at, hash_type, bucket_bits, len(fingerprints), digest)
    payload = encode_cbor(
        {
            "type": _TYPE,
            "format": 1,
            "version": version,
            "made_at": int(made_at.timestamp()),
            "expires_at": int(expires_at.timestamp()),
            "hash_type": hash_type.value,
            "bucket_bits": bucket_bits,
            "count": manifest.count,
            "body_sha256": digest,
        }
    )
    protected = encode_cbor({ALG: int(signer.algorithm), KID: signer.kid, _CONTENT_TYPE: MEDIA_TYPE})
    signature = signer.sign(encode_to_be_signed(protected, payload))
    return manifest, encode_cose_sign1(protected, payload, signature), body


def encode_snapshot(signed_manifest: bytes, body: bytes | memoryview) -> bytes:
    """Return the file."""
    return b"".join((SNAPSHOT_MAGIC, struct.pack("<I", len(signed_manifest)), signed_manifest, body))


def open_snapshot(data: bytes | memoryview, *, trust: TrustList, now: datetime) -> Snapshot:
    """Return a snapshot that is whole, in force and signed by a signer of `trust`.

    Raises CredentialError: revocation_snapshot_invalid (damaged, cut, or not signed by anybody who is trusted) or
    revocation_snapshot_expired.
    """
    signed, body = _split(memoryview(data), SNAPSHOT_MAGIC)
    manifest = read_manifest(signed, trust=trust, now=now)
    if len(body) != 4 * ((1 << manifest.bucket_bits) + 1) + 3 * manifest.count:
        raise _invalid("The snapshot of revocations is cut, or something follows it.")
    if hashlib.sha256(body).digest() != manifest.body_sha256:
        raise _invalid("The snapshot of revocations is damaged.")
    return Snapshot(manifest, signed, body)


def read_manifest(signed: bytes, *, trust: TrustList, now: datetime) -> Manifest:
    """Return a manifest whose signature agrees and whose time is not over. Raises CredentialError.

    Where the list names its own authorities, only a signer under one of them is believed: a list also has the signers
    of other countries, and none of these says what counts here.
    """
    try:
        cose = parse_cose_sign1(signed)
        payload = parse_cbor(cose.payload, step="cbor")
    except NotHcertError:
        raise _invalid("The manifest of the revocations cannot be read.") from None
    manifest = _manifest(payload)
    algorithm = cose.algorithm
    signers = [] if algorithm is None else [
        dsc
        for dsc in trust.candidates(cose.kid)
        if dsc.not_before <= manifest.expires_at <= dsc.not_after
        and signature_agrees(dsc.public_key, algorithm, cose.signature, cose.to_be_signed)
        and (not trust.authorities or any(issued_by(dsc.der, authority) for authority in trust.authorities))
    ]  # fmt: skip
    if not signers:
        raise _invalid("Nobody on the trust list signed this snapshot of revocations.")
    if now >= manifest.expires_at:
        raise CredentialError(
            f"The snapshot of revocations expired at {manifest.expires_at:%Y-%m-%dT%H:%M:%SZ}: fetch a new one.",
            vi=f"Danh sách thu hồi đã hết hạn lúc {manifest.expires_at:%H:%M %d/%m/%Y} UTC: hãy tải bản mới.",
            code="revocation_snapshot_expired",
        )
    return manifest


@dataclass(frozen=True, slots=True)
class Change:
    """What leads from one set to another: what goes is in the first, what comes is not."""

    removed: Fingerprints
    added: Fingerprints

    def then(self, following: Change) -> Change:
        """Return the one change that does the same as both."""
        return Change(
            np.union1d(np.setdiff1d(self.removed, following.added), np.setdiff1d(following.removed, self.added)),
            np.union1d(np.setdiff1d(self.added, following.removed), np.setdiff1d(following.added, self.removed)),
        )

    def apply(self, fingerprints: Fingerprints) -> Fingerprints:
        """Return the other set. Raises CredentialError where this is not the set that the change starts from."""
        places = np.searchsorted(fingerprints, self.removed)
        if len(places) and (places[-1] >= len(fingerprints) or not np.array_equal(fingerprints[places], self.removed)):
            raise _invalid("The delta does not start from this snapshot.")
        kept = np.delete(fingerprints, places)
        places = np.searchsorted(kept, self.added)
        inside = places < len(kept)
        if np.any(kept[places[inside]] == self.added[inside]):
            raise _invalid("The delta does not start from this snapshot.")
        return np.insert(kept, places, self.added)


def difference(before: Fingerprints, after: Fingerprints) -> Change:
    """Return the change from one set to another."""
    return Change(
        np.setdiff1d(before, after, assume_unique=True), np.setdiff1d(after, before, assume_unique=True)
    )  # fmt: skip


def encode_change(change: Change) -> bytes:
    """Return the part of a delta that says what goes and what comes."""
    counts = struct.pack("<II", len(change.removed), len(change.added))
    return counts + _encode_set(change.removed) + _encode_set(change.added)


def parse_change(data: bytes | memoryview, bucket_bits: int) -> Change:
    """Return the change of `encode_change`. Raises CredentialError."""
    if len(data) < 8:
        raise _invalid("The delta of revocations is cut.")
    removed, added = struct.unpack_from("<II", data)
    first, position = _parse_set(data, 8, removed, bucket_bits)
    second, position = _parse_set(data, position, added, bucket_bits)
    if position != len(data):
        raise _invalid("Something follows the delta of revocations.")
    return Change(first, second)


def encode_delta(signed_manifest: bytes, from_version: int, changes: Sequence[Change]) -> bytes:
    """Return the file that leads from one version to that of the manifest, through all the changes between them."""
    none = np.zeros(0, np.uint64)
    whole = Change(none, none)
    for change in changes:
        whole = whole.then(change)
    head = (DELTA_MAGIC, struct.pack("<I", len(signed_manifest)), signed_manifest, struct.pack("<I", from_version))
    return b"".join((*head, encode_change(whole)))


def apply_delta(snapshot: Snapshot, delta: bytes, *, trust: TrustList, now: datetime) -> bytes:
    """Return the file of the version that the delta leads to. Raises CredentialError, as `open_snapshot` does."""
    signed, rest = _split(memoryview(delta), DELTA_MAGIC)
    manifest = read_manifest(signed, trust=trust, now=now)
    if len(rest) < 4 or struct.unpack_from("<I", rest)[0] != snapshot.manifest.version:
        raise _invalid(f"The delta does not start from version {snapshot.manifest.version}.")
    same = (manifest.bucket_bits, manifest.hash_type) == (snapshot.manifest.bucket_bits, snapshot.manifest.hash_type)
    if not same or manifest.version <= snapshot.manifest.version:
        raise _invalid("The delta does not fit this snapshot.")
    change = parse_change(rest[4:], manifest.bucket_bits)
    body = encode_body(change.apply(snapshot.fingerprints()), manifest.bucket_bits)
    if hashlib.sha256(body).digest() != manifest.body_sha256:
        raise _invalid("The delta is damaged, or does not start from this snapshot.")
    return encode_snapshot(signed, body)


def _encode_set(fingerprints: Fingerprints) -> bytes:
    out = bytearray()
    before = 0
    for value in fingerprints.tolist():
        bucket = value >> SUFFIX_BITS
        gap, before = bucket - before, bucket
        while gap > 0x7F:
            out.append(0x80 | gap & 0x7F)
            gap >>= 7
        out.append(gap)
        out += (value & _SUFFIX_MASK).to_bytes(3, "big")
    return bytes(out)


def _parse_set(data: bytes | memoryview, position: int, count: int, bucket_bits: int) -> tuple[Fingerprints, int]:
    if 4 * count > len(data) - position:
        raise _invalid("The delta of revocations is cut.")
    values = np.zeros(count, np.uint64)
    bucket, last = 0, -1
    try:
        for index in range(count):
            shift = 0
            while (byte := data[position]) & 0x80:
                bucket += (byte & 0x7F) << shift
                shift += 7
                position += 1
                if shift > MAX_BUCKET_BITS:
                    raise _invalid("The delta of revocations is damaged.")
            bucket += byte << shift
            value = bucket << SUFFIX_BITS | int.from_bytes(data[position + 1 : position + 4], "big")
            position += 4
            if bucket >> bucket_bits or value <= last or position > len(data):
                raise _invalid("The delta of revocations is damaged.")
            values[index] = last = value
    except IndexError:
        raise _invalid("The delta of revocations is cut.") from None
    return values, position


def _split(data: memoryview, magic: bytes) -> tuple[bytes, memoryview]:
    if bytes(data[:8]) != magic:
        raise _invalid("This is not a file of revocations.")
    if len(data) < 12:
        raise _invalid("The file of revocations is cut.")
    (length,) = struct.unpack_from("<I", data, 8)
    if not 0 < length <= _MAX_MANIFEST or len(data) < 12 + length:
        raise _invalid("The file of revocations is cut or damaged.")
    return bytes(data[12 : 12 + length]), data[12 + length :]


def _manifest(payload: Any) -> Manifest:
    try:
        if payload["type"] != _TYPE or payload["format"] != 1:
            raise _invalid("This format of revocations is not known here.")
        numbers = [payload[name] for name in ("version", "made_at", "expires_at", "bucket_bits", "count")]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError
        version, made_at, expires_at, bucket_bits, count = numbers
        digest = payload["body_sha256"]
        if not (version > 0 and bucket_bits <= MAX_BUCKET_BITS and count < 2**32):
            raise ValueError
        if not (isinstance(digest, bytes) and len(digest) == 32):
            raise ValueError
        times = datetime.fromtimestamp(made_at, UTC), datetime.fromtimestamp(expires_at, UTC)
        return Manifest(version, *times, HashType(payload["hash_type"]), bucket_bits, count, digest)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise _invalid("The manifest of the revocations cannot be read.") from None


def _invalid(en: str) -> CredentialError:
    return CredentialError(
        en, vi="Tệp danh sách thu hồi bị hỏng, bị cắt hoặc không đáng tin cậy.", code="revocation_snapshot_invalid"
    )


def prefixes_of(hashes: Iterable[bytes]) -> bytearray:
    """Return what `fingerprints_of` takes."""
    out = bytearray()
    for digest in hashes:
        out += digest[:8]
    return out
