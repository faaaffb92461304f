"""Base45: binary data in the 45 characters of a QR code's alphanumeric mode.

Source: RFC 9285. Two bytes are one 16-bit word and become three characters, least significant first; a last single
byte becomes two.
"""

from __future__ import annotations

from array import array
from sys import byteorder

from printsvc.credential.limits import MAX_HCERT_TEXT
from printsvc.errors import NotHcertError

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"

_NO_DIGIT = 0xFF
# bytes.translate turns characters into digits in one pass of C.
_DIGITS = bytes(ALPHABET.find(chr(code)) if chr(code) in ALPHABET else _NO_DIGIT for code in range(256))

_GROUPS = 1 + MAX_HCERT_TEXT // 3


def _lowest(groups: int) -> int:
    """Return the number whose first byte of three is set, in each of so many groups."""
    return int.from_bytes(b"\xff\0\0" * groups, "little")


_LOWEST = _lowest(_GROUPS)
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
    # One sum for all groups: three bytes of one long number each, which 44 + 45 * 44 + 2025 * 44 does not overflow.
    number = int.from_bytes(digits[:whole], "little")
    lowest = _LOWEST if whole <= 3 * _GROUPS else _lowest(whole // 3)
    number = (number & lowest) + 45 * (number >> 8 & lowest) + 2025 * (number >> 16 & lowest)
    groups = number.to_bytes(whole, "little")
    if groups[2::3].strip(b"\0"):
        raise NotHcertError("base45", "Three base45 characters stand for more than 65535.")
    words = bytearray(2 * (whole // 3))
    words[0::2], words[1::2] = groups[1::3], groups[0::3]
    data = bytes(words)
    if rest:
        last = digits[-2] + 45 * digits[-1]
        if last > 0xFF:
            raise NotHcertError("base45", "Two base45 characters stand for more than 255.")
        data += bytes((last,))
    return data
