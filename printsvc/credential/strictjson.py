"""JSON as a signed credential may hold it: what two readers could understand in two ways is refused.

A name that stands twice, NaN and infinities, lone surrogates, depth and size beyond `credential.limits`.
Source: RFC 8259, section 4; RFC 7493 (I-JSON), section 2.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, NoReturn

from printsvc.credential.limits import MAX_JSON_DEPTH, MAX_JSON_ITEMS, MAX_JSON_NUMBER
from printsvc.errors import CodeError


def parse_json(data: bytes | str) -> Any:
    """Return decoded JSON; the caller has checked its length. Raises CodeError(step="structure")."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        text.encode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse, parse_int=_integer, parse_float=_float
        )
    except (ValueError, RecursionError):
        raise CodeError("structure", "The JSON is damaged or ambiguous.", vi="Dữ liệu JSON bị hỏng.") from None
    _check_size(value)
    return value


def parse_base64url(text: str) -> bytes:
    """Return what base64url holds (RFC 4648, 5), padded or not. Raises CodeError(step="encoding").

    One content has one encoding: bits that nobody would read must be zero.
    """
    bare = text.rstrip("=") if len(text) % 4 == 0 else text
    try:
        data = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii") != bare:
        raise CodeError("encoding", "A part of the code is not base64url.", vi="Mã có phần không phải base64url.")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice")
    return made


def _refuse(_: str) -> NoReturn:
    raise ValueError("not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_JSON_NUMBER:
        raise ValueError("too many digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if len(text) > MAX_JSON_NUMBER or value in (float("inf"), float("-inf")):
        raise ValueError("out of range")
    return value


def _check_size(value: Any) -> None:
    """Raise CodeError for depth, number of items, or half a character pair; without recursion."""
    level, items = [value], 0
    for _ in range(MAX_JSON_DEPTH + 1):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
                items += len(one)
                texts = [text for text in (*one, *one.values()) if isinstance(text, str)]
            elif isinstance(one, list):
                below += one
                items += len(one)
                texts = [text for text in one if isinstance(text, str)]
            else:
                texts = [one] if isinstance(one, str) else []
            if any("\ud800" <= character <= "\udfff" for text in texts if not text.isascii() for character in text):
                raise CodeError("structure", "A text in the JSON is not Unicode.", vi="Dữ liệu JSON bị hỏng.")
        if items > MAX_JSON_ITEMS:
            raise CodeError("structure", "The JSON has too many items.", vi="Dữ liệu JSON quá lớn.")
        level = [one for one in below if isinstance(one, dict | list)]
        if not level:
            return
    raise CodeError("structure", "The JSON is nested too deeply.", vi="Dữ liệu JSON lồng quá sâu.")
