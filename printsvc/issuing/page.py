"""From records to what stands on the page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Protocol

from printsvc.credential.translit import name_line
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent, DoseKind
from printsvc.domain.form import DoseRow, PageData
from printsvc.domain.person import IdType, Sex, mask_number
from printsvc.domain.site import Site
from printsvc.domain.valuesets import Product, ValueSets
from printsvc.errors import NotFoundError

VIETNAM_TIME = timezone(timedelta(hours=7))
"""Vietnam has had one offset and no summer time since 1975."""

ROWS: tuple[tuple[DoseKind, int], ...] = (
    (DoseKind.BASIC, 1),
    (DoseKind.BASIC, 2),
    (DoseKind.BASIC, 3),
    (DoseKind.ADDITIONAL, 1),
    (DoseKind.BOOSTER, 1),
    (DoseKind.BOOSTER, 2),
    (DoseKind.BOOSTER, 3),
)
"""The rows of the table in Decision 43/2022: 3 basic, 1 additional, 3 boosters."""

_SEX = {Sex.MALE: "Nam / Male", Sex.FEMALE: "Nữ / Female", Sex.OTHER: "Khác / Other"}
_ID_LABEL = {
    IdType.CCCD: "CCCD / ID card",
    IdType.CMND: "CMND / ID card",
    IdType.PASSPORT: "Hộ chiếu / Passport",
    IdType.NONE: "",
}
_KIND = {
    DoseKind.BASIC: ("Mũi", "Dose"),
    DoseKind.ADDITIONAL: ("Bổ sung", "Additional"),
    DoseKind.BOOSTER: ("Nhắc lại", "Booster"),
}


class KnownDose(Protocol):
    """A dose as it is kept, wherever that is; `dose_pk` tells it from the others."""

    @property
    def dose_pk(self) -> int: ...

    @property
    def event(self) -> DoseEvent: ...

    @property
    def certificate(self) -> Certificate | None: ...


def page_of(
    dose: KnownDose,
    *,
    copy_number: int,
    site: Site,
    others: Iterable[KnownDose],
    site_names: Mapping[str, str],
    values: ValueSets,
) -> PageData:
    """Return the page of a dose's certificate for one paper.

    `others` are the person's doses that are known here, this one among them or not; `site_names` names their sites.
    Raises NotFoundError for a dose without a certificate.
    """
    others = tuple(others)
    certificate, person, injection = dose.certificate, dose.event.person, dose.event.dose
    if certificate is None:
        raise NotFoundError("This dose has no certificate.", vi="Mũi tiêm này chưa có giấy chứng nhận.")
    product = values.products[injection.product]
    prophylaxis = values.prophylaxes[product.prophylaxis]
    country_vi, country_en = values.countries[person.nationality]
    places, more = _placed(dose, others)
    return PageData(
        qr=certificate.hcert,
        full_name=person.full_name,
        name_line=name_line(person.family_name, person.given_name),
        date_of_birth=_day(person.date_of_birth),
        sex=_SEX[person.sex],
        nationality=country_vi if country_vi == country_en else f"{country_vi} / {country_en}",
        id_label=_ID_LABEL[person.id_type] if person.id_number else "",
        id_masked=mask_number(person.id_number),
        disease="COVID-19",
        doses_received=f"{injection.number}/{injection.series}",
        injected_on=_local_day(injection.injected_at),
        dose_number=str(injection.number),
        vaccine=f"{prophylaxis.vi} / {prophylaxis.en}",
        product=product.name,
        manufacturer=product.manufacturer,
        uvci=certificate.uvci,
        uvci_groups=group_uvci(certificate.uvci),
        authority=site.authority,
        site_name=site.name,
        issued_on=_local_day(certificate.issued_at),
        expires_on=_local_day(certificate.expires_at),
        copy_number=copy_number,
        rows=[
            place and _row(*place, attested=place[0] is dose, site_names=site_names, products=values.products)
            for place in places
        ],
        more_rows=[
            _row(one, number, attested=False, site_names=site_names, products=values.products) for one, number in more
        ],
        phone_masked=mask_number(person.phone),
        address=person.address or "",
    )


def group_uvci(uvci: str) -> list[str]:
    """Return the UVCI in pieces that an eye can follow: the prefix, then groups of four, the check character last."""
    payload, mark, check = uvci.partition("#")  # the check character itself may be a colon
    head, colon, code = payload.rpartition(":")
    groups = [head + colon, *(code[start : start + 4] for start in range(0, len(code), 4))]
    if mark:
        groups[-1] += mark + check
    return groups


def dose_rows(
    attested: KnownDose, others: Iterable[KnownDose], site_names: Mapping[str, str], products: Mapping[str, Product]
) -> list[DoseRow | None]:
    """Return the seven rows of the table.

    A dose goes to the row of its kind: basic doses by their number, additional and booster doses in the order of time.
    What finds its row taken, or has none, takes the next free row after it; the attested dose always has one.
    """
    places, _ = _placed(attested, others)
    return [
        place and _row(*place, attested=place[0] is attested, site_names=site_names, products=products)
        for place in places
    ]


def more_dose_rows(
    attested: KnownDose, others: Iterable[KnownDose], site_names: Mapping[str, str], products: Mapping[str, Product]
) -> list[DoseRow]:
    """Return the doses for which the table has no row, in the order of time; the attested one is never among them."""
    _, more = _placed(attested, others)
    return [_row(dose, number, attested=False, site_names=site_names, products=products) for dose, number in more]


_Numbered = tuple[KnownDose, int]


def _placed(attested: KnownDose, others: Iterable[KnownDose]) -> tuple[list[_Numbered | None], list[_Numbered]]:
    """The doses of the seven rows, and those left over; each with its number among its kind."""
    # Nobody gets the same dose twice in a day: two records of it are one row, the attested one or the later.
    by_time = sorted(others, key=lambda dose: (dose.event.dose.injected_at, dose.event.dose_id))
    known = {same_dose(dose): dose for dose in by_time} | {same_dose(attested): attested}
    in_time = sorted(known.values(), key=lambda dose: (dose.event.dose.injected_at, dose.event.dose_id))
    rows: list[_Numbered | None] = [None] * len(ROWS)
    more: list[_Numbered] = []
    for dose in sorted(in_time, key=lambda dose: dose is not attested):
        kind, number = dose.event.dose.kind, dose.event.dose.number
        if kind is not DoseKind.BASIC:
            number = 1 + [one.dose_pk for one in in_time if one.event.dose.kind is kind].index(dose.dose_pk)
        wanted = ROWS.index((kind, number)) if (kind, number) in ROWS else len(ROWS) - 1
        free = [place for place in (*range(wanted, len(ROWS)), *range(wanted)) if rows[place] is None]
        if free:
            rows[free[0]] = dose, number
        else:
            more.append((dose, number))
    return rows, more


def same_dose(dose: KnownDose) -> tuple[DoseKind, int, date]:
    """Return what two records of one dose have in common: kind, number, and the day in Vietnam."""
    injection = dose.event.dose
    return injection.kind, injection.number, injection.injected_at.astimezone(VIETNAM_TIME).date()


def _row(
    dose: KnownDose, number: int, *, attested: bool, site_names: Mapping[str, str], products: Mapping[str, Product]
) -> DoseRow:
    injection = dose.event.dose
    vi, en = _KIND[injection.kind]
    product = products[injection.product]
    return DoseRow(
        label=f"{vi} {number} / {en} {number}",
        date=_local_day(injection.injected_at),
        product=product.name,
        manufacturer=product.manufacturer,
        lot=injection.lot,
        site=site_names.get(dose.event.site_id, dose.event.site_id),
        attested=attested,
    )


def _day(day: date) -> str:
    return f"{day.day:02d}/{day.month:02d}/{day.year}"


@lru_cache(maxsize=1024)  # of doses given and certificates made one after the other there are few
def _local_day(moment: datetime) -> str:
    return _day(moment.astimezone(VIETNAM_TIME).date())
