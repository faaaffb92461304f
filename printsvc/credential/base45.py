"""Base45: binary data in the 45 characters of a QR code's alphanumeric mode.

Source: RFC 9285. Two bytes are one 16-bit word and become three characters, least significant first; a last single
byte becomes two.
"""

from __future__ import annotations

from array import array
from sys import byteorder

from printsvc.errors import NotHcertError

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"

_NO_DIGIT = 0xFF
# bytes.translate turns characters into digits in one pass of C.
_DIGITS = bytes(ALPHABET.find(chr(code)) if chr(code) in ALPHABET else _NO_DIGIT for code in range(256))


_PAIRS = [low + high for high in ALPHABET for low in ALPHABET]


def encode_base45(data: bytes) -> str:
    """Return `data` in base45; never fails."""
    even = len(data) & ~1
    words = array("H", data[:even])
    if byteorder == "little":
        words.byteswap()
    # Two tables that stay at hand: one of all words has 4 MB, and is waited for at every step.
    text = "".join([_PAIRS[word % 2025] + ALPHABET[word // 2025] for word in words])
    if even != len(data):
        high, low = divmod(data[-1], 45)
        text += ALPHABET[low] + ALPHABET[high]
    return text


def parse_base45(text: str) -> bytes:
    """Return the bytes that `text` stands for.

    Raises NotHcertError(step="base45") for a foreign character, a length of 3n + 1, or a group above what its bytes can
    hold (`GGW` = 65536).
    """
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        raise NotHcertError("base45", "The code holds a character outside base45.") from None
    digits = raw.translate(_DIGITS)
    if _NO_DIGIT in digits:
        raise NotHcertError("base45", "The code holds a character outside base45.")
    rest = len(digits) % 3
    if rest == 1:
        raise NotHcertError("base45", "The code is cut: a base45 text never has 3n + 1 characters.")
    whole = len(digits) - rest
    # One sum for all groups: each has four bytes of one long number, so that no group reaches into the next.
    low, middle, high = (_lanes(digits[place:whole:3]) for place in range(3))
    groups = (low + 45 * middle + 2025 * high).to_bytes(4 * (whole // 3), "big")
    if any(groups[1::4]):
        raise NotHcertError("base45", "Three base45 characters stand for more than 65535.")
    words = bytearray(2 * (whole // 3))
    words[0::2], words[1::2] = groups[2::4], groups[3::4]
    data = bytes(words)
    if rest:
        last = digits[-2] + 45 * digits[-1]
        if last > 0xFF:
            raise NotHcertError("base45", "Two base45 characters stand for more than 255.")
        data += bytes((last,))
    return data


def _lanes(digits: bytes) -> int:
    """Return a number whose 32-bit words, from the highest on, are these digits."""
    lanes = bytearray(4 * len(digits))
    lanes[3::4] = digits
    return int.from_bytes(lanes, "big")
