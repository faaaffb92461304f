"""Making a certificate and its first print job from a dose that may have one. Pure, but for the signer."""

from __future__ import annotations

from datetime import UTC, datetime

from printsvc.credential.dcc import build_vaccination
from printsvc.credential.hcert import encode_hcert
from printsvc.credential.keys import Signer
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent
from printsvc.domain.print_job import CopyReason, JobState, PrintJob
from printsvc.domain.site import SiteId
from printsvc.domain.uvci import Uvci, make_uvci
from printsvc.errors import Problem, QrCapacityError
from printsvc.flows.services import FormChoice, Services
from printsvc.printing.clock import PaperClock, Step

_HALF_AN_HOUR = PaperClock()

PRIORITY_NEW = 50
PRIORITY_REPRINT = 30


def a_year_later(moment: datetime) -> datetime:
    """Return the same moment 12 months on; 29 February becomes 28 February."""
    try:
        return moment.replace(year=moment.year + 1)
    except ValueError:
        return moment.replace(year=moment.year + 1, day=28)


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
    """Return the signed certificate of a dose; `opaque` is 16 random bytes for the UVCI.

    Valid for 12 months from now (Decision 5772), and never longer than its signer. Raises PersonError for a name that
    the DCC cannot hold, QrCapacityError for one that does not fit the form's QR, SigningError.
    """
    uvci = make_uvci(country, opaque)
    issued_at = now.astimezone(UTC).replace(microsecond=0)
    expires_at = min(a_year_later(issued_at), signer.not_after)
    payload = build_vaccination(event.person, event.dose, uvci=uvci, issuer=issuer, country=country)
    hcert = encode_hcert(payload, issuer=country, issued_at=issued_at, expires_at=expires_at, signer=signer)
    if len(hcert) > form.qr_capacity:
        raise QrCapacityError(
            [
                Problem(
                    "/person",
                    "qr_capacity",
                    "Dữ liệu quá dài, không vừa mã QR của mẫu giấy.",
                    f"The signed data has {len(hcert)} characters; the form's QR holds {form.qr_capacity}.",
                )
            ]
        )
    return Certificate(uvci, event.dose_id, version, hcert, signer.kid.hex(), issued_at, expires_at)


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
