"""The signed certificate of a dose that may have one. Pure, but for the signer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from printsvc.credential.dcc import build_vaccination
from printsvc.credential.hcert import encode_hcerts
from printsvc.credential.keys import Signer
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent
from printsvc.domain.uvci import make_uvci
from printsvc.domain.valuesets import Product
from printsvc.errors import InputError, Problem, QrCapacityError


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
    qr_capacity: int,
    issuer: str,
    country: str,
    opaque: bytes,
    now: datetime,
    products: Mapping[str, Product],
    version: int = 1,
) -> Certificate:
    """Return the signed certificate of a dose; `opaque` is 16 random bytes for the UVCI.

    Valid for 12 months from now (Decision 5772), and never longer than its signer. Raises PersonError for a name that
    the DCC cannot hold, QrCapacityError for one that does not fit the form's QR, SigningError.
    """
    (made,) = make_certificates(
        [CertificateOrder(event, opaque, version)],
        signer=signer,
        qr_capacity=qr_capacity,
        issuer=issuer,
        country=country,
        now=now,
        products=products,
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
    orders: Sequence[CertificateOrder],
    *,
    signer: Signer,
    qr_capacity: int,
    issuer: str,
    country: str,
    now: datetime,
    products: Mapping[str, Product],
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
            payloads.append(
                build_vaccination(person, dose, uvci=uvci, issuer=issuer, country=country, products=products)
            )
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
        if len(hcert) > qr_capacity:
            made.append(_too_long(hcert, qr_capacity))
            continue
        made.append(Certificate(uvci, order.event.dose_id, order.version, hcert, kid, issued_at, expires_at))
    return made


def _too_long(hcert: str, qr_capacity: int) -> QrCapacityError:
    return QrCapacityError(
        [
            Problem(
                "/person",
                "qr_capacity",
                "Dữ liệu quá dài, không vừa mã QR của mẫu giấy.",
                f"The signed data has {len(hcert)} characters; the form's QR holds {qr_capacity}.",
            )
        ]
    )
