"""Every error of the service, one tree.

::

    PrintsvcError(code)
      InputError                what somebody sent is wrong; `problems` says where and why
        PersonError
        IdNumberError
        DoseError
        QrCapacityError         the payload does not fit the form's QR
        ScanError               no readable picture, PDF or text where a code was expected
      CredentialError
        CodeError(step)         a code that is no certificate, or a broken one; `step` says where it broke
          NotHcertError         of an HCERT
        SigningError            the signer refused, expired or is locked
      StateError
        NotFoundError
        DuplicateError(fields)  the same key with another body
        IllegalTransitionError  an event that the state does not allow
        StoreLockedError        a second process opened the same SQLite file
      AccessError               no or wrong token (401), or a token without that right (403)
      UnavailableError(retry_after_s)
        StoreError              nothing was stored
        SignerError             no signer can sign now
          ClockAheadError       this machine's clock and the database's differ: none is ended by it
        RenderError             no worker could draw the page
          FormError(file, line, slot)  a file of the form itself is wrong
          RenderBusyError       too many pages wait: the only one that the sender's patience settles (429)
          SealTimeError         the time stamping authority did not answer
        SiteError

A forged, expired or revoked code is a *verdict* (a value), never an exception.
Messages never hold a name, an identity number or a phone: they end up in logs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in an input: where (JSON pointer, RFC 6901), a stable code, and a sentence in both languages."""

    pointer: str
    code: str
    vi: str
    en: str


class PrintsvcError(Exception):
    """Base of all; `code` is stable and machine-readable, `vi` and `en` are for people."""

    code = "error"

    def __init__(self, en: str, *, vi: str | None = None, code: str | None = None) -> None:
        super().__init__(en)
        self.en = en
        self.vi = vi if vi is not None else en
        if code is not None:
            self.code = code


class InputError(PrintsvcError):
    """What was sent is wrong; `problems` has one entry for each mistake."""

    code = "invalid"

    def __init__(
        self,
        problems: list[Problem] | None = None,
        *,
        en: str | None = None,
        vi: str | None = None,
        code: str | None = None,
    ) -> None:
        self.problems = problems or []
        first = self.problems[0] if self.problems else None
        super().__init__(
            en or (first.en if first else "The input is not valid."),
            vi=vi or (first.vi if first else "Dữ liệu không hợp lệ."),
            code=code,
        )


class PersonError(InputError):
    code = "person_invalid"


class IdNumberError(InputError):
    code = "id_number_invalid"


class DoseError(InputError):
    code = "dose_invalid"


class QrCapacityError(InputError):
    code = "qr_capacity"


class ScanError(InputError):
    code = "nothing_to_read"


class CredentialError(PrintsvcError):
    code = "credential"


class CodeError(CredentialError):
    """`step` is the step that failed: container, encoding, decompression or structure."""

    code = "not_a_certificate"

    def __init__(self, step: str, en: str, *, vi: str | None = None) -> None:
        super().__init__(en, vi=vi)
        self.step = step


class NotHcertError(CodeError):
    """`step` is the decoding step that failed: prefix, base45, zlib, cose, cbor or claims."""

    code = "not_hcert"

    def __init__(self, step: str, en: str) -> None:
        super().__init__(step, en)


class SigningError(CredentialError):
    code = "signing"


class StateError(PrintsvcError):
    code = "state"


class NotFoundError(StateError):
    code = "not_found"


class DuplicateError(StateError):
    """The same key came with another body; `fields` are JSON pointers of what differs."""

    code = "conflict"

    def __init__(self, fields: list[str], en: str, *, vi: str | None = None) -> None:
        super().__init__(en, vi=vi)
        self.fields = fields


class IllegalTransitionError(StateError):
    code = "illegal_transition"


class StoreLockedError(StateError):
    code = "store_locked"


class AccessError(PrintsvcError):
    """`status` is 401 (who are you) or 403 (not yours)."""

    code = "access"

    def __init__(self, status: int, en: str, *, vi: str | None = None) -> None:
        super().__init__(en, vi=vi)
        self.status = status


class UnavailableError(PrintsvcError):
    code = "unavailable"

    def __init__(self, en: str, *, vi: str | None = None, retry_after_s: int = 5) -> None:
        super().__init__(en, vi=vi)
        self.retry_after_s = retry_after_s


class StoreError(UnavailableError):
    code = "store_unavailable"


class SignerError(UnavailableError):
    code = "signer_unavailable"


class ClockAheadError(SignerError):
    code = "clock_ahead"


class RenderError(UnavailableError):
    code = "render_unavailable"


class FormError(RenderError):
    """`file` is the form's file that is wrong; `line` counts from 1, 0 where it is not known; `slot` is "" for none."""

    code = "form_invalid"

    def __init__(
        self, en: str, *, vi: str | None = None, file: str = "form.toml", line: int = 0, slot: str = ""
    ) -> None:
        super().__init__(en, vi=vi)
        self.file = file
        self.line = line
        self.slot = slot


class RenderBusyError(RenderError):
    code = "render_busy"


class SealTimeError(RenderError):
    code = "seal_time_unavailable"


class SiteError(UnavailableError):
    code = "site_unavailable"
