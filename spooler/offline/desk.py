"""Where doses are entered at a site without a line: checked by the centre's rules, signed, stamped, written down."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from printsvc.credential.hcert import decode_hcert
from printsvc.credential.keys import LocalSigner, open_private_key
from printsvc.domain.certificate import Certificate
from printsvc.domain.copies import SITE_COPIES, CopyLimits, refuse_copy
from printsvc.domain.dose import DoseEvent
from printsvc.domain.eventdocument import differing_fields
from printsvc.domain.form import PageData
from printsvc.domain.print_job import CopyReason
from printsvc.domain.uvci import Uvci
from printsvc.errors import DuplicateError, InputError, NotFoundError, StateError
from printsvc.identity.gate import Hold
from printsvc.issuing.bag import BagForm, DayBag, check_time
from printsvc.issuing.certificate import make_certificate
from printsvc.issuing.offline import Entered, Rules, enter, reasons_of
from printsvc.issuing.page import VIETNAM_TIME, page_of
from printsvc.render.stamp import NeedsWeasyPrint, Stamper, parse_compiled
from spooler.bagprotocol import OFFLINE
from spooler.offline.book import Book, Line

BACKWARDS = timedelta(minutes=5)
COPY_REASONS = frozenset({CopyReason.MISSING, CopyReason.SPOILT})


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one document: issued, held or replayed. `paper` is as in the book."""

    outcome: str
    dose_id: str
    uvci: str = ""
    job_id: str = ""
    paper: str = ""
    paper_reason: str = ""
    reasons: tuple[dict[str, str], ...] = ()
    left: int | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    dose_pk: int
    event: DoseEvent
    certificate: Certificate | None


class Stamps(Protocol):
    """What draws a page; see render/stamp."""

    def stamp(self, page: PageData) -> bytes: ...


class Desk:
    """A desk with an open bag. Raises SigningError where the passphrase or the machine is another.

    One without `sealed_key` makes further papers and enters nothing.
    """

    def __init__(
        self, book: Book, bag: DayBag, sealed_key: bytes | None, passphrase: bytes, *, stamper: Stamps | None = None
    ) -> None:
        manifest = bag.manifest
        self._book = book
        self._bag = bag
        self.bag_id = manifest.bag_id
        self._signer = LocalSigner(manifest.dsc, open_private_key(sealed_key, passphrase)) if sealed_key else None
        self._form: BagForm = manifest.forms[0]
        self._stamper: Stamps = stamper or Stamper(parse_compiled(bag.part(self._form.part)))
        self._rules = Rules(
            site_id=manifest.site.site_id,
            dsc=manifest.dsc,
            range=manifest.range,
            issuer=manifest.issuer,
            country=manifest.country,
            until=manifest.expires_at,
            policy=manifest.policy,
            values=bag.values,
        )

    def left(self) -> int:
        """Return how many certificates the bag still has."""
        return max(0, self._rules.range.size - self._book.next_numbers(self.bag_id)[1])

    def enter(self, document: Any, *, now: datetime) -> Answer:
        """Write down one dose; it is durable when this returns, and its paper is printed by the agent, once.

        The same again is answered from the book. Raises InputError with a problem for each mistake (also where the bag
        is over), DuplicateError for another dose under the same id, StateError (bag_empty, clock_backwards),
        BookUnwritableError: then nothing was written.
        """
        check_time(self._bag.manifest, now)
        entered = enter(document, self._rules, now=now)
        with self._book.writing():
            there = self._book.entries_of(entered.event.dose_id)
            if there:
                return self._replay(there[0], entered.event)
            last = self._book.last_entered_at()
            if last is not None and now < last - BACKWARDS:
                raise StateError(
                    f"This machine's clock ({now:%Y-%m-%d %H:%M} UTC) is earlier than the last entry: set it.",
                    vi=f"Đồng hồ của máy ({now:%H:%M %d/%m/%Y} UTC) sớm hơn mục nhập trước: hãy chỉnh lại.",
                    code="clock_backwards",
                )
            seq, number = self._book.next_numbers(self._bag.manifest.bag_id)
            line = self._line(document, entered, seq, number, now)
            self._book.insert(line)
        left = self._rules.range.size - number - (line.number is not None)
        return Answer(
            line.outcome, line.dose_id, line.uvci, line.job_id, line.paper, line.paper_reason, line.reasons, left
        )

    def again(
        self,
        dose_id: str,
        reason: CopyReason,
        *,
        now: datetime,
        under_way: Callable[[], Collection[str]] = frozenset,
        limits: CopyLimits = SITE_COPIES,
    ) -> Answer:
        """Write down a further paper of a dose that was issued here; the agent prints it, once.

        The centre learns of the copy, its number and its reason. `under_way` says which jobs the agent's journal still
        prints. Raises NotFoundError, StateError (no_paper) for a dose that has no paper of this site, (copy_under_way)
        while the paper before is on its way, (copy_limit, copy_limit_day) where it would be too many; InputError for a
        reason that is not the operator's.
        """
        if reason not in COPY_REASONS:
            raise InputError(en="The reason is missing or spoilt.", vi="Lý do là missing hoặc spoilt.", code="reason")
        with self._book.writing():
            family = self._book.entries_of(dose_id)
            if not family:
                raise NotFoundError("This dose was not entered here.", vi="Mũi tiêm này chưa được nhập tại đây.")
            first, there = family[0], family[-1]
            if there.paper != "site" or there.bag_id != self._bag.manifest.bag_id:
                raise StateError(
                    "This dose has no paper of this bag.",
                    vi="Mũi tiêm này không có giấy từ gói ngày này.",
                    code="no_paper",
                )
            if not self._book.is_handed(there) or there.job_id in under_way():
                raise StateError(
                    f"Copy {there.copy_number} of this certificate is still being printed: wait for it, and look at "
                    "printsvc-spooler offline status.",
                    vi=f"Bản in số {there.copy_number} chưa in xong: hãy chờ, và xem printsvc-spooler offline status.",
                    code="copy_under_way",
                )
            midnight = now.astimezone(VIETNAM_TIME).replace(hour=0, minute=0, second=0, microsecond=0)
            today = self._book.count_copies(midnight.astimezone(UTC))
            refuse_copy(limits, made=len(family) - 1, asked_today=today)
            event = enter(first.event, self._rules, now=first.entered_at).event
            number = there.copy_number + 1
            pdf, _ = self._stamp(self._page(event, _certificate(event, there), number))
            assert pdf is not None, "its first paper was stamped"
            seq, _ = self._book.next_numbers(there.bag_id)
            line = replace(
                there,
                seq=seq,
                outcome="copy",
                number=None,
                job_id=offline_job_id(there.uvci, number),
                document=pdf,
                sha256=hashlib.sha256(pdf).hexdigest(),
                size=len(pdf),
                entered_at=now,
                copy_number=number,
                copy_reason=reason.value,
            )
            self._book.insert(line)
        return Answer("copy", dose_id, line.uvci, line.job_id, line.paper)

    def _line(self, document: Any, entered: Entered, seq: int, number: int, now: datetime) -> Line:
        event = entered.event
        certificate: Certificate | None = None
        pdf: bytes | None = None
        paper, why = "", ""
        reasons: tuple[dict[str, str], ...] = ()
        if isinstance(entered.decision, Hold):
            reasons = reasons_of(entered.decision)
        else:
            if number >= self._rules.range.size:
                raise StateError(
                    f"All {self._rules.range.size} certificates of this day bag are used: take another where there is "
                    "a line.",
                    vi=f"Đã dùng hết {self._rules.range.size} giấy của gói ngày: hãy lấy gói mới khi có mạng.",
                    code="bag_empty",
                )
            assert self._signer is not None, "a desk for papers alone"
            certificate = make_certificate(
                event,
                signer=self._signer,
                qr_capacity=self._form.qr_capacity,
                issuer=self._rules.issuer,
                country=self._rules.country,
                opaque=self._rules.range.opaque(number),
                now=now,
                products=self._rules.values.products,
            )
            pdf, why = self._stamp(self._page(event, certificate))
            paper = "site" if pdf is not None else "centre"
        return Line(
            bag_id=self._bag.manifest.bag_id,
            seq=seq,
            dose_id=event.dose_id,
            event=document,
            outcome="issued" if certificate else "held",
            reasons=reasons,
            number=number if certificate else None,
            uvci=certificate.uvci if certificate else "",
            hcert=certificate.hcert if certificate else "",
            job_id=offline_job_id(certificate.uvci) if certificate else "",
            form=self._form.form_id,
            media=self._form.media,
            module_um=self._form.module_um,
            paper=paper,
            paper_reason=why,
            document=pdf,
            sha256=hashlib.sha256(pdf).hexdigest() if pdf else "",
            size=len(pdf) if pdf else 0,
            entered_at=now,
        )

    def _replay(self, there: Line, event: DoseEvent) -> Answer:
        before = enter(there.event, self._rules, now=there.entered_at).event
        fields = differing_fields(before, event)
        if fields:
            told = ", ".join(fields)
            raise DuplicateError(
                fields,
                f"This dose_id was entered with other values of: {told}.",
                vi=f"Mã mũi tiêm này đã được nhập với giá trị khác ở: {told}.",
            )
        uvci, job_id = there.uvci, there.job_id
        return Answer("replayed", there.dose_id, uvci, job_id, there.paper, there.paper_reason, there.reasons)

    def _page(self, event: DoseEvent, certificate: Certificate, copy_number: int = 1) -> PageData:
        site = self._bag.manifest.site
        return page_of(
            _Known(1, event, certificate),
            copy_number=copy_number,
            site=site,
            others=(),
            site_names={site.site_id: site.name},
            values=self._rules.values,
        )

    def _stamp(self, page: PageData) -> tuple[bytes | None, str]:
        """The page, or why the stamp cannot draw it: then it waits for the centre, which can. Never a wrong paper."""
        try:
            return self._stamper.stamp(page), ""
        except NeedsWeasyPrint as error:
            return None, error.reason


def offline_job_id(uvci: str, copy_number: int = 1) -> str:
    """Return the id of the print job of one paper; the service makes the same of it."""
    name = uvci if copy_number == 1 else f"{uvci} {copy_number}"
    return OFFLINE + hashlib.sha256(name.encode()).hexdigest()[:19]


def _certificate(event: DoseEvent, line: Line) -> Certificate:
    decoded = decode_hcert(line.hcert)
    assert decoded.issued_at is not None
    assert decoded.expires_at is not None
    kid = (decoded.kid or b"").hex()
    return Certificate(Uvci(line.uvci), event.dose_id, 1, line.hcert, kid, decoded.issued_at, decoded.expires_at)
