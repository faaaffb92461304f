"""A page's data without what its code says already: the signed claims give most of it again.

`shorten` leaves out every field that `_told_by` makes of the claims, `lengthen` puts them back. So nothing depends on
how a page is worded: a field that is worded otherwise than here, or newer than this, simply travels. Where two
releases word the same claims differently, the page at the site has another digest than the document and is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final

from printsvc.credential.hcert import decode_hcert
from printsvc.credential.translit import name_line
from printsvc.domain.uvci import group_uvci
from printsvc.domain.valuesets import PRODUCTS, PROPHYLAXES
from printsvc.errors import NotHcertError

_VIETNAM: Final = timezone(timedelta(hours=7))
_ROWS: Final = 7
_BASIC: Final = 3
_LOT: Final = "lot"  # of the attested dose, where `rows` are left out


def shorten(page: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the page without the fields that its code tells; None where it must travel whole."""
    try:
        lot = next((row["lot"] for row in page["rows"] if row and row["attested"]), "")
        told = _told_by(page["qr"], page["site_name"], lot)
    except (KeyError, TypeError):
        return None
    if told is None or _LOT in page or not told.keys() <= page.keys():
        return None
    short = {name: value for name, value in page.items() if name not in told or not _same(told[name], value)}
    return short if "rows" in short else short | {_LOT: lot}


def lengthen(short: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole page of what `shorten` returned. Raises ValueError where the code tells nothing."""
    told = _told_by(short["qr"], short["site_name"], short.get(_LOT, ""))
    if told is None:
        raise ValueError("the code tells nothing")
    return told | {name: value for name, value in short.items() if name != _LOT}


def _same(told: Any, value: Any) -> bool:
    return type(told) is type(value) and bool(told == value)


def _told_by(code: Any, site_name: Any, lot: Any) -> dict[str, Any] | None:
    """What stands on a page because of its claims, and what is most common; None for another kind of code."""
    try:
        decoded = decode_hcert(code)
        dose, name = decoded.payload["v"][0], decoded.payload["nam"]
        product = PRODUCTS[dose["mp"]]
        prophylaxis = PROPHYLAXES[dose["vp"]]
        number = int(dose["dn"])
        family, given = name.get("fn", ""), name.get("gn", "")
        injected_on = _day(date.fromisoformat(dose["dt"]))
        assert decoded.issued_at is not None
        assert decoded.expires_at is not None
        rows: list[dict[str, Any] | None] = [None] * _ROWS
        if 1 <= number <= _BASIC:
            rows[number - 1] = {
                "label": f"Mũi {number} / Dose {number}",
                "date": injected_on,
                "product": product.name,
                "manufacturer": product.manufacturer,
                "lot": lot,
                "site": site_name,
                "attested": True,
            }
        return {
            "full_name": f"{family} {given}".strip(),
            "name_line": name_line(family, given),
            "date_of_birth": _day(date.fromisoformat(decoded.payload["dob"])),
            "nationality": "Việt Nam / Vietnam",
            "id_label": "CCCD / ID card",
            "disease": "COVID-19",
            "doses_received": f"{number}/{int(dose['sd'])}",
            "injected_on": injected_on,
            "dose_number": str(number),
            "vaccine": f"{prophylaxis.vi} / {prophylaxis.en}",
            "product": product.name,
            "manufacturer": product.manufacturer,
            "uvci": dose["ci"],
            "uvci_groups": group_uvci(dose["ci"]),
            "issued_on": _local_day(decoded.issued_at),
            "expires_on": _local_day(decoded.expires_at),
            "copy_number": 1,
            "rows": rows,
            "more_rows": [],
        }
    except (NotHcertError, AssertionError, KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


def _day(day: date) -> str:
    return f"{day.day:02d}/{day.month:02d}/{day.year}"


def _local_day(moment: datetime) -> str:
    return _day(moment.astimezone(_VIETNAM).date())
