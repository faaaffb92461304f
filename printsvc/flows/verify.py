"""Verifying what somebody holds up: the text of a code, a picture or a PDF of it, a line of a batch."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from printsvc.credential.batch import verify_line, verify_request
from printsvc.credential.formats import recognise
from printsvc.credential.revocation import Revocations
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat
from printsvc.credential.verify import verify
from printsvc.render.filekind import is_pdf

if TYPE_CHECKING:
    from printsvc.domain.seal import SealReport
    from printsvc.render.agreement import TextReport
    from printsvc.render.formfile import Form

MAX_TEXT: Final = 1_000_000
"""Bytes of a file that may be a text."""


def verify_file(
    body: bytes,
    *,
    trust: TrustList,
    now: datetime,
    revocations: Revocations | None = None,
    pins: Sequence[bytes] = (),
    stamp_authorities: Sequence[bytes] = (),
    forms: Iterable[Form] = (),
) -> list[dict[str, Any]]:
    """Return a verdict for each code in a text, ZIP, PNG, JPEG or PDF; at least one. What it is, its content says.

    Of a PDF each also has `seal` (the file's seal, judged by the trust list's CSCAs and `pins`, DER), `text` (whether
    the printed text is what the code says, by `forms`) and `file_sound` (neither speaks against it). None of them
    changes the verdict on the code. Words that are no code are `not_a_certificate`. Raises ScanError where there is
    nothing to read. `forms` are asked for where there is a PDF, and not before.
    """
    body = _as_utf8(body)
    if recognise(body) is not None or _is_text(body):
        return [verify(body, trust=trust, at=now, revocations=revocations).to_json()]
    # What opens pictures and PDFs loads for a second: who shows a text does not wait for it.
    from printsvc.render.scan import read_text, scan_codes

    verdicts = [verify(code, trust=trust, at=now, revocations=revocations).to_json() for code in scan_codes(body)]
    if not is_pdf(body):
        return verdicts
    from printsvc.render.agreement import compare_text
    from printsvc.render.sealcheck import check_seal

    authorities = (*trust.authorities, *_anchors(trust), *pins)
    seal = check_seal(body, authorities=authorities, now=now, stamp_authorities=stamp_authorities)
    pages, known = read_text(body), tuple(forms)
    return [_with_file(verdict, seal, compare_text(pages, verdict.get("claims"), known)) for verdict in verdicts]


def _as_utf8(body: bytes) -> bytes:
    """Return a text in UTF-16, as editors of Windows may save one, in UTF-8; anything else as it is."""
    if not body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or len(body) > MAX_TEXT:
        return body
    try:
        return body.decode("utf-16").encode()
    except UnicodeError:
        return body


def _is_text(body: bytes) -> bool:
    """Return whether these are words, and neither a file of another kind nor nothing."""
    if len(body) > MAX_TEXT or is_pdf(body):
        return False
    try:
        words = body.decode("utf-8").lstrip("\ufeff").split()
    except UnicodeDecodeError:
        return False
    return bool(words) and all(word.isprintable() for word in words)


def is_sound(verdict: dict[str, Any]) -> bool:
    """Return whether nothing speaks against what `verify_file` told of: the code, the seal, the printed text."""
    return verdict["verdict"] == "valid" and verdict.get("file_sound", True) is True


def _anchors(trust: TrustList) -> tuple[bytes, ...]:
    return tuple(key.certificate for key in trust.keys.anchors(CredentialFormat.VDS_NC) if key.certificate is not None)


def _with_file(verdict: dict[str, Any], seal: SealReport, text: TextReport) -> dict[str, Any]:
    return verdict | {
        "seal": seal.to_json(),
        "text": text.to_json(),
        "file_sound": not (seal.is_bad or text.is_bad),
    }


__all__ = ["is_sound", "verify_file", "verify_line", "verify_request"]
