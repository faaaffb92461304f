"""Making a certificate and its first print job from a dose that may have one. Pure, but for the signer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from printsvc.credential.dcc import build_vaccination
from printsvc.credential.hcert import encode_hcerts
from printsvc.credential.keys import Signer
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent
from printsvc.domain.print_job import CopyReason, JobState, PrintJob
from printsvc.domain.site import SiteId
from printsvc.domain.uvci import Uvci, make_uvci
from printsvc.errors import InputError, Problem, QrCapacityError
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
    (made,) = make_certificates(
        [CertificateOrder(event, opaque, version)], signer=signer, form=form, issuer=issuer, country=country, now=now
    )
    if isinstance(made, InputError):
        raise made
    return made


class CertificateOrder(NamedTuple):
    """A dose and the 16 random bytes of the UVCI that its certificate is to have; `version` counts from 1."""

    event: DoseEvent
    opaque: bytes
    version: int = 1


def make_certificates(
    orders: Sequence[CertificateOrder], *, signer: Signer, form: FormChoice, issuer: str, country: str, now: datetime
) -> list[Certificate | InputError]:
    """Return the certificate of each order, or the error of `make_certificate` that lies in its dose.

    Many take less time each (see `hcert.encode_hcerts`). Raises SigningError, and what the signer raises.
    """
    issued_at = now.astimezone(UTC).replace(microsecond=0)
    expires_at = min(a_year_later(issued_at), signer.not_after)
    uvcis = [make_uvci(country, order.opaque) for order in orders]
    payloads: list[dict[str, Any] | InputError] = []
    for order, uvci in zip(orders, uvcis, strict=True):
        person, dose = order.event.person, order.event.dose
        try:
            payloads.append(build_vaccination(person, dose, uvci=uvci, issuer=issuer, country=country))
        except InputError as error:
            payloads.append(error)
    sound = [payload for payload in payloads if not isinstance(payload, InputError)]
    hcerts = iter(
        encode_hcerts(sound, issuer=country, issued_at=issued_at, expires_at=expires_at, signer=signer) if sound else ()
    )
    kid = signer.kid.hex()
    made: list[Certificate | InputError] = []
    for order, uvci, payload in zip(orders, uvcis, payloads, strict=True):
        if isinstance(payload, InputError):
            made.append(payload)
            continue
        hcert = next(hcerts)
        if len(hcert) > form.qr_capacity:
            made.append(_too_long(hcert, form))
            continue
        made.append(Certificate(uvci, order.event.dose_id, order.version, hcert, kid, issued_at, expires_at))
    return made


def _too_long(hcert: str, form: FormChoice) -> QrCapacityError:
    return QrCapacityError(
        [
            Problem(
                "/person",
                "qr_capacity",
                "Dữ liệu quá dài, không vừa mã QR của mẫu giấy.",
                f"The signed data has {len(hcert)} characters; the form's QR holds {form.qr_capacity}.",
            )
        ]
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
