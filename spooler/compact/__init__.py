"""The wire's messages in few bytes, for poor lines: `codec` packs, `page` shortens a page's data, `words` are known.

Pure, as the protocol itself.
"""

from spooler.compact.codec import ProtocolError, crc_of, join_request, pack, site_words, split_request, unpack
from spooler.compact.words import NEWEST

__all__ = ["NEWEST", "ProtocolError", "crc_of", "join_request", "pack", "site_words", "split_request", "unpack"]
