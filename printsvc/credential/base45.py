"""Base45: binary data in the 45 characters of a QR code's alphanumeric mode.

Source: RFC 9285. Two bytes are one 16-bit word and become three characters, least significant first; a last single
byte becomes two.
"""

from __future__ import annotations

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


def _lanes(words: int) -> int:
    """Return the number with the lowest eleven bits set in each of so many words of four bytes."""
    return int.from_bytes(b"\xff\x07\0\0" * words, "little")


_LOWEST = _lowest(_GROUPS)
# n // 45 for every n of 16 bits is n * 46604 // 2^21, and the product stays within 32 bits.
_RECIPROCAL, _SHIFT = 46604, 21
_MOST_LANES = 1024
_LANES = _lanes(_MOST_LANES)
_CHARACTERS = ALPHABET.encode().ljust(256)


def encode_base45(data: bytes) -> str:
    """Return `data` in base45; never fails."""
    count = len(data) // 2
    # All words in one long number, four bytes each, are divided by 45 twice: a multiplication and a shift of all.
    spread = bytearray(4 * count)
    spread[0::4], spread[1::4] = data[1::2], data[: 2 * count : 2]
    words = int.from_bytes(spread, "little")
    lanes = _LANES if count <= _MOST_LANES else _lanes(count)
    above = words * _RECIPROCAL >> _SHIFT & lanes
    highest = above * _RECIPROCAL >> _SHIFT & lanes
    digits = (words - 45 * above) + (above - 45 * highest << 8) + (highest << 16)
    groups = digits.to_bytes(4 * count, "little").translate(_CHARACTERS)
    text = bytearray(3 * count)
    text[0::3], text[1::3], text[2::3] = groups[0::4], groups[1::4], groups[2::4]
    if 2 * count != len(data):
        high, low = divmod(data[-1], 45)
        text += bytes((low, high)).translate(_CHARACTERS)
    return text.decode("ascii")


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
