"""Making a certificate and its first print job from a dose that may have one. Pure, but for the signer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from printsvc.credential.keys import Signer
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent
from printsvc.domain.form import FormChoice
from printsvc.domain.print_job import CopyReason, JobState, PrintJob
from printsvc.domain.site import SiteId
from printsvc.domain.uvci import Uvci
from printsvc.domain.valuesets import PRODUCTS
from printsvc.errors import InputError
from printsvc.flows.services import Services
from printsvc.issuing import certificate
from printsvc.issuing.certificate import CertificateOrder, a_year_later
from printsvc.printing.clock import PaperClock, Step

__all__ = [
    "PRIORITY_NEW",
    "PRIORITY_REPRINT",
    "CertificateOrder",
    "a_year_later",
    "make_certificate",
    "make_certificates",
    "make_job",
    "new_job_id",
]

_HALF_AN_HOUR = PaperClock()

PRIORITY_NEW = 50
PRIORITY_REPRINT = 30


def make_certificate(
    event: DoseEvent,
    *,
    signer: Signer,
    form: FormChoice,
    issuer: str,
    country: str,
    opaque: bytes,
    now: datetime,
    version: int = 1,
) -> Certificate:
    """Return the signed certificate of a dose, as `issuing.certificate` makes it; `opaque` is 16 random bytes."""
    return certificate.make_certificate(
        event,
        signer=signer,
        qr_capacity=form.qr_capacity,
        issuer=issuer,
        country=country,
        opaque=opaque,
        now=now,
        products=PRODUCTS,
        version=version,
    )


def make_certificates(
    orders: Sequence[CertificateOrder], *, signer: Signer, form: FormChoice, issuer: str, country: str, now: datetime
) -> list[Certificate | InputError]:
    """Return the certificate of each order, or the error that lies in its dose; see `issuing.certificate`."""
    return certificate.make_certificates(
        orders,
        signer=signer,
        qr_capacity=form.qr_capacity,
        issuer=issuer,
        country=country,
        now=now,
        products=PRODUCTS,
    )


def make_job(
    uvci: Uvci,
    site_id: SiteId,
    *,
    form: FormChoice,
    job_id: str,
    now: datetime,
    copy_number: int = 1,
    reason: CopyReason = CopyReason.ISSUED,
    asked_by: str = "platform",
    injected_at: datetime | None = None,
    clock: PaperClock = _HALF_AN_HOUR,
) -> PrintJob:
    """Return a job that waits for an agent. Its clock runs since `injected_at`, where that was just now."""
    clock_from = clock.starts_at(injected_at, now)
    return PrintJob(
        job_id=job_id,
        uvci=uvci,
        copy_number=copy_number,
        reason=reason,
        asked_by=asked_by,
        site_id=site_id,
        form=form.form_id,
        media=form.media,
        priority=PRIORITY_NEW if reason is CopyReason.ISSUED else PRIORITY_REPRINT,
        state=JobState.WAITING,
        state_reason="",
        created_at=now,
        changed_at=now,
        clock_from=clock_from,
        # Nobody sits and waits for a paper that is made anew for its code alone; there may be a million of them.
        next_climb_at=None if reason is CopyReason.RENEWED else clock.moment_of(Step.URGENT, clock_from),
    )


def new_job_id(services: Services) -> str:
    """Return an unpredictable id of 20 hexadecimal characters."""
    return services.random_bytes(10).hex()
