"""Every limit that a decoder keeps, in one place: what a code may cost before anybody has vouched for it.

Real codes stay far below: an HCERT has 350 to 900 bytes, a SMART Health Card 1 to 3 kB, a DIVOC credential 2 to 3 kB.
What is read although a specification would have it otherwise is the other list: `credential.cose.TOLERANCES`.
"""

from __future__ import annotations

from typing import Final

MAX_HCERT_TEXT: Final = 4_296
"""Characters in the largest alphanumeric QR (version 40, level L): no HCERT is longer."""
MAX_SHC_TEXT: Final = 7_101
"""`shc:/` and the digits of the largest numeric QR (version 40, level L)."""
MAX_BYTES: Final = 4_296
"""Bytes of a code in JSON or ZIP: a QR in byte mode holds 2,953; base64 of as many, 3,940."""
MAX_DECOMPRESSED: Final = 10_240
"""Bytes after any decompression, and characters of bare JSON: a bomb ends here."""

MAX_CBOR_DEPTH: Final = 16
MAX_CBOR_ITEMS: Final = 4_096
MAX_JSON_DEPTH: Final = 16
MAX_JSON_ITEMS: Final = 2_048
MAX_JSON_NUMBER: Final = 24
"""Characters of one number."""

MAX_LINKED_NODES: Final = 24
"""Objects in a linked-data credential: naming the unnamed ones costs more than linear time."""
MAX_LINKED_SIBLINGS: Final = 4
"""Objects in one list of it; a credential holds one vaccination, or a few."""

MAX_CHAIN_DER: Final = 4_096
"""Bytes of a certificate that a code brings along."""
