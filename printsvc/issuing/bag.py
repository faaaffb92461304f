"""The day bag: all that a site needs to issue without a line, under one signature.

::

    bag = ZIP archive: manifest.jws  values.json  trust-list.json  revocations.bin  forms/<number>.cbor …

`manifest.jws` names every other part by its SHA-256, the site, the agent, the signer, the range of UVCIs and the end.
Whoever opens a bag checks the signature against a pinned CSCA first, then every digest, then that the bag is theirs.
Source of the signature: RFC 7515, as for trust lists (credential/trustsigned.py).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from printsvc.credential.dsc import Dsc, Usage, read_dsc
from printsvc.credential.keys import PrivateKey, issued_by
from printsvc.credential.trustdoc import encode_time, parse_time
from printsvc.credential.trustsigned import ListSigner, in_force, read_signed_body, sign_body
from printsvc.domain.dose import IdentityStatus
from printsvc.domain.person import IdType
from printsvc.domain.site import Site, SiteId
from printsvc.domain.uvcirange import UvciRange
from printsvc.domain.valuesets import ValueSets
from printsvc.errors import CredentialError, InputError
from printsvc.identity.gate import Rule
from printsvc.identity.numbers import NumberCheck

TYPE: Final = "day-bag+jws"
FORMAT: Final = 1
MEDIA_TYPE: Final = "application/vnd.printsvc.day-bag+zip"
MAX_DAYS: Final = 7
MAX_VALIDITY: Final = timedelta(days=MAX_DAYS)
MAX_PART_BYTES: Final = 128 * 1024 * 1024
CLOCK_SKEW: Final = timedelta(minutes=5)
MANIFEST: Final = "manifest.jws"
VALUES, TRUST, REVOCATIONS = "values.json", "trust-list.json", "revocations.bin"

# All that zipfile and the reading of a manifest raise for bytes that are no bag.
NOT_A_BAG: Final = (
    ValueError, KeyError, TypeError, AttributeError, NotImplementedError, RuntimeError, EOFError, OSError,
    OverflowError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BagForm:
    """A form that the site can stamp; `part` is the archive's name of the compiled form.

    `module_um` is the side of a module of its QR in micrometres, for a queue with pull-back; 0: not known.
    """

    form_id: str
    media: str
    qr_capacity: int
    part: str
    module_um: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is signed. `dsc` is the delegated signer (DER); certificates are made of `form` unless asked otherwise.

    `sources` has the SHA-256 of every part by its name. Times are aware UTC, whole seconds.
    """

    bag_id: str
    version: int
    site: Site
    agent_id: str
    journal_id: str
    source: str
    made_at: datetime
    expires_at: datetime
    dsc: bytes
    range: UvciRange
    issuer: str
    country: str
    forms: tuple[BagForm, ...]
    policy: tuple[Rule, ...]
    parts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DayBag:
    """A bag that was checked; `part` gives what else is in it."""

    manifest: Manifest
    values: ValueSets
    archive: bytes

    def part(self, name: str) -> bytes:
        """Return a part's bytes; their digest was checked when the bag was opened."""
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            return archive.read(name)


def make_request(key: PrivateKey, agent_id: str) -> bytes:
    """Return the request (PKCS#10, DER) for a certificate over a key that the agent made: it proves that it has it."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, agent_id)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def read_request(request: bytes, agent_id: str) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key of an agent's request. Raises InputError for any other, or another agent's."""
    try:
        found = x509.load_der_x509_csr(request)
        key = found.public_key()
        signed = found.is_signature_valid
        names = [str(one.value) for one in found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    except (ValueError, TypeError):
        raise _refused("request_unreadable", "Yêu cầu chứng thư không đọc được.", "The request cannot be read.") from (
            None
        )
    if not signed or names != [agent_id]:
        raise _refused(
            "request_of_another",
            "Yêu cầu chứng thư không phải của điểm in này.",
            "The request is not this agent's, or does not prove that it has the key.",
        )
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _refused("key_kind", "Khóa phải là P-256.", "The key must be P-256.")
    return key


def pack(manifest: Manifest, parts: Mapping[str, bytes], signer: ListSigner) -> bytes:
    """Return the archive of these parts, whose digests are put into the manifest; equal input, equal bytes."""
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in sorted(parts.items())}
    signed = sign_body(_encode(manifest) | {"parts": digests}, signer, typ=TYPE)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in ((MANIFEST, signed.encode("ascii")), *sorted(parts.items())):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), body, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def open_bag(archive: bytes, *, pins: Sequence[bytes], key: ec.EllipticCurvePublicKey, agent_id: str) -> DayBag:
    """Return the bag of an archive: signed under a pin (CSCA, DER), whole, and this agent's.

    Whether its time has come or is over is for `check_time`. Raises InputError for everything else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            infos = {info.filename: info for info in opened.infolist()}
            if any(info.file_size > MAX_PART_BYTES for info in infos.values()) or MANIFEST not in infos:
                raise ValueError("not a bag")
            _, body = read_signed_body(opened.read(MANIFEST), pins, typ=TYPE)
            manifest = _decode(body)
            for name, digest in manifest.parts.items():
                if hashlib.sha256(opened.read(name)).hexdigest() != digest:
                    raise ValueError(name)
            values = ValueSets.from_json(json.loads(opened.read(VALUES)))
    except InputError as error:
        raise _refused(
            "bag_not_trusted",
            "Chữ ký của gói ngày không đúng hoặc không do trung tâm cấp: không dùng gói này.",
            f"The bag's signature is not the centre's: it is not used ({error.code}).",
        ) from error
    except NOT_A_BAG:
        raise _refused(
            "bag_damaged",
            "Gói ngày bị hỏng hoặc đã bị sửa: không dùng gói này.",
            "The bag is damaged, or was changed: it is not used.",
        ) from None
    dsc = check_delegate(manifest, pins)
    if manifest.agent_id != agent_id or dsc.public_key != key:
        raise _refused(
            "bag_of_another",
            "Gói ngày này của điểm in khác.",
            "This bag is another agent's: its signer is not over the key that was made here.",
        )
    return DayBag(manifest, values, archive)


def check_delegate(manifest: Manifest, pins: Sequence[bytes]) -> Dsc:
    """Return the delegated signer of a bag. Raises InputError where it is none, or may do more than it should."""
    try:
        dsc = read_dsc(manifest.dsc)
    except CredentialError as error:
        raise _refused(error.code, error.vi, error.en) from None
    fits = (
        any(issued_by(manifest.dsc, pin) for pin in pins)
        and dsc.usages == frozenset([Usage.VACCINATION])
        and dsc.not_after - dsc.not_before <= MAX_VALIDITY
        and dsc.uvci_beginning == manifest.range.beginning
        and manifest.expires_at <= dsc.not_after
    )
    if not fits:
        raise _refused(
            "signer_not_delegated",
            "Khóa ký trong gói ngày không hợp lệ.",
            "The signer in the bag is not one for this range, or is valid for more than a week.",
        )
    return dsc


def check_time(manifest: Manifest, now: datetime) -> None:
    """Raise InputError where a bag may not be used now."""
    if now >= manifest.expires_at:
        raise _refused(
            "bag_expired",
            f"Gói ngày đã hết hạn lúc {manifest.expires_at:%H:%M %d/%m/%Y} UTC: hãy kết nối và lấy gói mới. "
            "Kiểm tra đồng hồ của máy.",
            f"The day bag ended at {manifest.expires_at:%Y-%m-%d %H:%M} UTC: take a new one where there is a line. "
            "Look at this machine's clock, too.",
        )
    if now < manifest.made_at - CLOCK_SKEW or not in_force(manifest.dsc, now):
        raise _refused(
            "bag_not_yet",
            f"Đồng hồ của máy ({now:%H:%M %d/%m/%Y} UTC) sớm hơn gói ngày: hãy chỉnh lại đồng hồ.",
            f"This machine's clock ({now:%Y-%m-%d %H:%M} UTC) is earlier than the day bag: set it.",
        )


_FORM_FIELDS = ("form_id", "media", "qr_capacity", "part")


def _encode(manifest: Manifest) -> dict[str, Any]:
    given = manifest.range
    return {
        "format": FORMAT,
        "bag_id": manifest.bag_id,
        "version": manifest.version,
        "site": asdict(manifest.site),
        "agent_id": manifest.agent_id,
        "journal_id": manifest.journal_id,
        "source": manifest.source,
        "made_at": encode_time(manifest.made_at),
        "expires_at": encode_time(manifest.expires_at),
        "signer": base64.b64encode(manifest.dsc).decode("ascii"),
        "range": {
            "country": given.country,
            "prefix": given.prefix.hex(),
            "secret": given.secret.hex(),
            "size": given.size,
        },
        "issuer": manifest.issuer,
        "country": manifest.country,
        "forms": [{name: getattr(form, name) for name in _FORM_FIELDS} for form in manifest.forms],
        "modules_um": {form.form_id: form.module_um for form in manifest.forms},
        "policy": [asdict(rule) for rule in manifest.policy],
    }


def _decode(body: Any) -> Manifest:
    if body["format"] != FORMAT:
        raise ValueError("another format")
    given, parts = body["range"], {str(name): str(digest) for name, digest in body["parts"].items()}
    # Beside the forms: an older agent takes no field of a form that it does not know.
    modules = body.get("modules_um", {})
    forms = tuple(BagForm(**form, module_um=int(modules.get(form["form_id"], 0))) for form in body["forms"])
    if not forms or not {VALUES, TRUST, REVOCATIONS, *(form.part for form in forms)} <= parts.keys():
        raise ValueError("a part is missing")
    site = body["site"]
    return Manifest(
        bag_id=str(body["bag_id"]),
        version=int(body["version"]),
        site=Site(SiteId(site["site_id"]), site["name"], site["authority"], site["province"]),
        agent_id=str(body["agent_id"]),
        journal_id=str(body["journal_id"]),
        source=str(body["source"]),
        made_at=parse_time(body["made_at"]),
        expires_at=parse_time(body["expires_at"]),
        dsc=base64.b64decode(body["signer"], validate=True),
        range=UvciRange(
            str(given["country"]), bytes.fromhex(given["prefix"]), bytes.fromhex(given["secret"]), given["size"]
        ),
        issuer=str(body["issuer"]),
        country=str(body["country"]),
        forms=forms,
        policy=tuple(_rule(rule) for rule in body["policy"]),
        parts=parts,
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    return Rule(
        status=None if rule["status"] is None else IdentityStatus(rule["status"]),
        citizen=rule["citizen"],
        id_type=None if rule["id_type"] is None else IdType(rule["id_type"]),
        check=None if rule["check"] is None else NumberCheck(rule["check"]),
        issue=rule["issue"] is True,
        mark=str(rule["mark"]),
    )


def _refused(code: str, vi: str, en: str) -> InputError:
    return InputError(en=en, vi=vi, code=code)
