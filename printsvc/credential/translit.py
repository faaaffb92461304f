"""Names as a machine reads them: capital letters A-Z and `<`.

Source: ICAO Doc 9303, part 3: section 4.6 (apostrophes omitted, hyphens and spaces become `<`), section 6, tables A
(Latin) and B (Cyrillic, with the values shared by most languages). A letter that is not in a table gives up its marks
(Ễ → E, Ơ → O); what then is no Latin letter (Chinese, Thai, digits) is left out. So a name may come out **empty**: a
certificate is not issued for it, the Latin spelling of the passport is asked for instead (see `dcc.build_vaccination`).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MAX_LENGTH = 80

_LATIN = {
    "Ä": "AE", "Å": "AA", "Æ": "AE", "Ð": "D", "Ö": "OE", "Ø": "OE", "Ü": "UE", "Þ": "TH", "ẞ": "SS",
    "Đ": "D", "Ħ": "H", "Ĳ": "IJ", "Ŀ": "L", "Ł": "L", "Ŋ": "N", "Œ": "OE", "Ŧ": "T",
    "Ə": "E", "Ɖ": "D", "ĸ": "Q",
}  # fmt: skip
_CYRILLIC = {
    "А": "A", "Б": "B", "В": "V", "Г": "G", "Д": "D", "Е": "E", "Ё": "E", "Ж": "ZH", "З": "Z", "И": "I", "І": "I",
    "Й": "I", "К": "K", "Л": "L", "М": "M", "Н": "N", "О": "O", "П": "P", "Р": "R", "С": "S", "Т": "T", "У": "U",
    "Ф": "F", "Х": "KH", "Ц": "TS", "Ч": "CH", "Ш": "SH", "Щ": "SHCH", "Ъ": "IE", "Ы": "Y", "Ь": "", "Э": "E",
    "Ю": "IU", "Я": "IA", "Є": "IE", "Ї": "I", "Ґ": "G", "Ў": "U", "Ђ": "D", "Ј": "J", "Љ": "LJ", "Њ": "NJ",
    "Ћ": "C", "Џ": "DZ", "Ѓ": "G", "Ќ": "K", "Ѕ": "DZ", "Ѫ": "U",
}  # fmt: skip
_TABLE = str.maketrans(_LATIN | _CYRILLIC)
_SEPARATORS = re.compile(r"[\s<,/\u00ad\u2010-\u2015\u2212_-]+")
_NOT_MACHINE_READABLE = re.compile(r"[^A-Z<]+")
_FILLERS = re.compile(r"<{2,}")


@lru_cache(maxsize=1024)  # a name is written in the code and on the paper
def transliterate(name: str) -> str:
    """Return `name` as `^[A-Z<]*$`, at most 80 characters; empty where nothing of it can be written in A-Z."""
    # Composed first, so that Ä is the letter of the table and not A with a mark.
    words = _SEPARATORS.split(unicodedata.normalize("NFC", name))
    return "<".join(filter(None, map(_transliterate_word, words)))[:MAX_LENGTH].rstrip("<")


@lru_cache(maxsize=16_384)  # Vietnamese names are made of a few thousand syllables
def _transliterate_word(word: str) -> str:
    replaced = word.upper().translate(_TABLE)
    # NFKD: ligatures and full-width letters are Latin letters too, and some letters come apart with a space.
    bare = "".join(c for c in unicodedata.normalize("NFKD", replaced) if not unicodedata.combining(c)).upper()
    fillers = _SEPARATORS.sub("<", bare)
    return _FILLERS.sub("<", _NOT_MACHINE_READABLE.sub("", fillers)).strip("<")


def name_line(family: str, given: str) -> str:
    """Return the name as on a travel document's first line: `NGUYEN<<THI<MINH<KHAI`; no `<<` for a single name."""
    return "<<".join(part for part in (transliterate(family), transliterate(given)) if part)
