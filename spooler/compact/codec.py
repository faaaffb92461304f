"""The wire's messages in few bytes: CBOR with short keys, deflated with words that both sides know beforehand.

`POST /agent/v1/line` carries what `lease` and `report` carry, so packed, in both directions. An agent uses it once a
service has said, in an answer to a plain call, that it understands it (`LeaseAnswer.line`).

What makes the difference, beside the known words: identifiers and digests travel as bytes and not as hexadecimal
letters, which deflate cannot shrink to half in so short a text; and a certificate's code travels as the signed bytes
that it is made of, whose names and numbers deflate then finds again on the page.

A packed message is one byte, the number of the words, then raw deflate (RFC 1951). A request has the agent's token
before it, 32 bytes. Keys are never changed or moved, only more are added.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import cbor2
from pydantic import BaseModel

from printsvc.credential.base45 import encode_base45, parse_base45
from printsvc.credential.cbor import Tagged, parse_cbor
from printsvc.errors import InputError, NotHcertError
from spooler.compact.page import lengthen, shorten
from spooler.compact.words import NEWEST, known_words
from spooler.protocol import LeaseAnswer


class ProtocolError(InputError):
    """What came is no packed message."""

    code = "message_unreadable"


MAX_BYTES: Final = 4_000_000
"""Of a message, unpacked."""
_MAX_ITEMS: Final = 200_000
_WITH_SITE_WORDS: Final = 0x80
_TOKEN_BEGINS: Final = "ps_"  # noqa: S105 - what every token begins with
_SECRET_BYTES: Final = 32
_HEX_FROM: Final = 16  # letters; a shorter text is not worth a byte string
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")
_ATTEMPT: Final = re.compile(r"ps-((?:[0-9a-f]{2}){8,20})-(\d{1,9})-(\d{1,9})")
_UVCI: Final = re.compile(r"URN:UVCI:01:VN:([0-9A-F]{32})#(.)")
_CODE: Final = "HC1:"

_TIME, _ATTEMPT_TAG, _SIGNED, _ZIPPED, _UVCI_TAG, _PAGE = 1, 40, 41, 42, 43, 44
_TAGS: Final = (_TIME, _ATTEMPT_TAG, _SIGNED, _ZIPPED, _UVCI_TAG, _PAGE)

KEYS: Final = (
    # One byte each, the first 24.
    "lease", "report", "journal_id", "capacity", "wait_s", "agent_time", "holding", "job_id", "fencing_token",
    "events", "seq", "kind", "attempt_id", "at", "queue", "reason", "witness", "impressions", "acknowledged",
    "results", "outcome", "state", "server_time", "jobs",
    # Two bytes.
    "deadline", "document", "sha256", "size", "media_type", "media", "form", "copy_number", "priority", "data",
    "form_digest", "forms", "renewed", "dropped", "line", "printers", "printers_same", "agent_version", "protocol",
    "uri", "make_and_model", "state_reasons", "accepting", "formats", "marker_levels", "problems",
    "qr", "full_name", "name_line", "date_of_birth", "sex", "nationality", "id_label", "id_masked", "disease",
    "doses_received", "injected_on", "dose_number", "vaccine", "product", "manufacturer", "uvci", "uvci_groups",
    "authority", "site_name", "issued_on", "expires_on", "rows", "more_rows", "phone_masked", "address", "label",
    "date", "lot", "site", "attested", "bytes_up", "bytes_down", "certificates", "stamped", "fetched", "mismatched",
    "counts", "stamps", "site_words",
)  # fmt: skip
_NUMBER_OF: Final = {name: number for number, name in enumerate(KEYS)}


def pack(message: BaseModel, words: int = NEWEST, *, site_words: bytes = b"") -> bytes:
    """Return the message packed; a field that has its default is left out.

    With `site_words` it can only be unpacked by one who has the same.
    """
    fields = message.model_dump(exclude_defaults=True)
    known = known_words(words) + site_words
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, known)
    mark = words | (_WITH_SITE_WORDS if site_words else 0)
    return bytes([mark]) + squeezer.compress(cbor2.dumps(_narrow(fields))) + squeezer.flush()


def unpack(data: bytes, *, site_words: bytes = b"") -> dict[str, Any]:
    """Return the fields of a packed message, to be validated. Raises ProtocolError."""
    words = data[0] & ~_WITH_SITE_WORDS if data else 0
    if not 1 <= words <= NEWEST:
        raise ProtocolError(en="the message was packed with words that are not known here")
    inflater = zlib.decompressobj(-15, known_words(words) + (site_words if data[0] & _WITH_SITE_WORDS else b""))
    try:
        plain = inflater.decompress(data[1:], MAX_BYTES)
        if not inflater.eof or inflater.unused_data:
            raise ProtocolError(en="the packed message is cut, too long, or followed by something")
        fields = _widen(parse_cbor(plain, step="cbor", tags=_TAGS, max_items=_MAX_ITEMS))
    except (zlib.error, NotHcertError, ValueError, TypeError, LookupError, OverflowError, OSError) as error:
        raise ProtocolError(en=f"the packed message cannot be read: {type(error).__name__}") from error
    if not isinstance(fields, dict):
        raise ProtocolError(en="the packed message is no map")
    return fields


def join_request(token: str, packed: bytes) -> bytes:
    """Return the body of a request. Raises ValueError where the token is none of the service's."""
    secret = bytes.fromhex(token.removeprefix(_TOKEN_BEGINS))
    if len(secret) != _SECRET_BYTES or token != _TOKEN_BEGINS + secret.hex():
        raise ValueError("this token does not travel packed")
    return secret + packed


def split_request(body: bytes) -> tuple[str, bytes]:
    """Return the token and the packed message. Raises ProtocolError."""
    if len(body) <= _SECRET_BYTES:
        raise ProtocolError(en="the packed message is too short")
    return _TOKEN_BEGINS + body[:_SECRET_BYTES].hex(), body[_SECRET_BYTES:]


def site_words(lease: LeaseAnswer) -> bytes:
    """Return what the first page of the answer has of its site: the next one most likely says it again."""
    for job in lease.jobs:
        if job.data is not None:
            said = (job.data.get("authority"), job.data.get("site_name"), job.form)
            words = "\0".join(str(part) for part in said).encode("utf-8", "replace")
            return words + cbor2.dumps(_narrow({"form_digest": job.form_digest}))
    return b""


def crc_of(words: bytes) -> int:
    return zlib.crc32(words) if words else 0


def _narrow(value: Any) -> Any:
    match value:
        case str():
            return _narrow_text(str(value))
        case datetime():
            seconds = value.astimezone(UTC).timestamp()
            return cbor2.CBORTag(_TIME, int(seconds) if seconds.is_integer() else seconds)
        case Mapping():
            if "qr" in value and (short := shorten(value)) is not None:
                return cbor2.CBORTag(_PAGE, _narrow_fields(short))
            return _narrow_fields(value)
        case list() | tuple():
            return [_narrow(part) for part in value]
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case _:
            return value


def _narrow_fields(fields: Mapping[str, Any]) -> dict[str | int, Any]:
    return {_NUMBER_OF.get(key, key): _narrow(part) for key, part in fields.items()}


def _narrow_text(text: str) -> Any:
    if len(text) >= _HEX_FROM and _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if found := _ATTEMPT.fullmatch(text):
        numbers = [int(found[2]), int(found[3])]
        if text == f"ps-{found[1]}-{numbers[0]}-{numbers[1]}":
            return cbor2.CBORTag(_ATTEMPT_TAG, [bytes.fromhex(found[1]), *numbers])
    if found := _UVCI.fullmatch(text):
        return cbor2.CBORTag(_UVCI_TAG, [bytes.fromhex(found[1]), found[2]])
    if text.startswith(_CODE):
        return _narrow_code(text)
    return text


def _narrow_code(text: str) -> Any:
    """The signed bytes where the code comes out of them again, letter by letter; else the zipped ones; else the text.

    Another zlib may zip otherwise: then the page's digest at the site is another too, and the page is fetched.
    """
    try:
        zipped = parse_base45(text[len(_CODE) :])
        if _CODE + encode_base45(zipped) != text:
            return text
        inflater = zlib.decompressobj()
        signed = inflater.decompress(zipped, MAX_BYTES)
    except (NotHcertError, zlib.error):
        return text
    if zlib.compress(signed, 9) == zipped:
        return cbor2.CBORTag(_SIGNED, signed)
    return cbor2.CBORTag(_ZIPPED, zipped)


def _widen(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case Tagged():
            return _widen_tagged(value.tag, value.value)
        case dict():
            return {_key(key): _widen(part) for key, part in value.items()}
        case list():
            return [_widen(part) for part in value]
        case _:
            return value


def _key(key: int | str) -> str:
    if isinstance(key, str):
        return key
    if key < 0:
        raise ValueError("no such key")
    return KEYS[key]


def _widen_tagged(tag: int, value: Any) -> Any:
    if tag == _TIME:
        return datetime.fromtimestamp(value, UTC)
    if tag == _ATTEMPT_TAG:
        job, token, number = value
        return f"ps-{job.hex()}-{token:d}-{number:d}"
    if tag == _UVCI_TAG:
        opaque, check = value
        return f"URN:UVCI:01:VN:{opaque.hex().upper()}#{check}"
    if tag == _PAGE:
        return lengthen(_widen(value))
    if not isinstance(value, bytes):
        raise ValueError("a code is a byte string")
    return _CODE + encode_base45(zlib.compress(value, 9) if tag == _SIGNED else value)
