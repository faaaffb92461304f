"""The certificate's content: EU Digital COVID Certificate, written as 1.3.0, read as 1.0.0 to 1.3.x.

Source: ehn-dcc-schema, DCC.combined-schema.json; "Technical Specifications for EU DCC: JSON Schema Specification".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final

from printsvc.credential.dsc import Usage
from printsvc.credential.translit import transliterate
from printsvc.domain.dose import Injection
from printsvc.domain.person import Person
from printsvc.domain.uvci import Uvci
from printsvc.domain.valuesets import COVID_19, PRODUCTS, Product
from printsvc.errors import DoseError, InputError, PersonError, Problem

VERSION: Final = "1.3.0"
MAX_LENGTH: Final = 80
VIETNAM_TIME: Final = timezone(timedelta(hours=7), "ICT")
"""A dose belongs to the day on the site's wall; Vietnam has one time zone and no summer time."""

_VERSION = re.compile(r"1\.\d{1,3}\.\d{1,3}")
_MACHINE_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ<"
_BIRTH = re.compile(r"((19|20)\d\d(-\d\d){0,2})?")
_BIRTH_WITH_TIME = re.compile(r"((19|20)\d\d-\d\d-\d\d)T00:00:00.{0,16}")
# The JSON schema's text names four forms of a test's time: Z, +hh, +hhmm, +hh:mm.
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:T[0-9:.]{5,20}(?:Z|[+-]\d\d(?::?\d\d)?)?)?")
_COUNTRY = re.compile(r"[A-Z]{1,10}")
# ISO 3166-1, 8.1.3: for users, so never a country; XK is what everybody uses for Kosovo.
_NO_COUNTRY = re.compile(r"AA|Q[M-Z]|X[A-JL-Z]|ZZ")
# EMA SPOR: an organisation is ORG- and nine digits (San Marino writes ten). Other registers' codes have no form.
_ORGANISATION = re.compile(r"ORG-\d{9,10}|(?!ORG-).*")
_MAX_DOSES = 99
_MAX_DOSES_EARLY = 9
"""Before schema 1.3.0, which took the limit away; 99 is where a number is no number of doses any more."""
_EARLY = ("1.0.", "1.1.", "1.2.")
"""Before 1.3.0 a group may have two entries and a test names its centre."""

_USAGES: Final = tuple(Usage)


def build_vaccination(
    person: Person,
    injection: Injection,
    *,
    uvci: Uvci,
    issuer: str,
    country: str = "VN",
    local_time: tzinfo = VIETNAM_TIME,
    products: Mapping[str, Product] = PRODUCTS,
) -> dict[str, Any]:
    """Return the DCC payload of one dose, valid against schema 1.3.0.

    `dn` and `sd` are carried as they were recorded: a booster may be 3 of 2 or 3 of 3, as the issuer's rule is.
    Raises PersonError or DoseError, with all that is wrong, for what the schema cannot hold: known
    before signing.
    """
    product = products.get(injection.product)
    problems = [*_person_problems(person)]
    if problems:
        raise PersonError(problems)
    problems = [*_dose_problems(injection, known=product is not None)]
    if problems or product is None:
        raise DoseError(problems)
    if len(uvci) > MAX_LENGTH or len(issuer) > MAX_LENGTH:
        raise InputError(
            en="Issuer and certificate code have at most 80 characters.",
            vi="Tên cơ quan cấp và mã chứng nhận có tối đa 80 ký tự.",
        )
    name = {"fn": person.family_name, "fnt": transliterate(person.family_name)}
    if person.given_name:
        name |= {"gn": person.given_name, "gnt": transliterate(person.given_name)}
    return {
        "ver": VERSION,
        "nam": name,
        "dob": person.date_of_birth.isoformat(),
        "v": [
            {
                "tg": COVID_19,
                "vp": product.prophylaxis,
                "mp": product.code,
                "ma": product.manufacturer_code,
                "dn": injection.number,
                "sd": injection.series,
                "dt": injection.injected_at.astimezone(local_time).date().isoformat(),
                "co": country,
                "is": issuer,
                "ci": uvci,
            }
        ],
    }


def usage_of(payload: dict[str, Any]) -> Usage | None:
    """Return the kind of certificate, or None where there is no group or more than one."""
    groups = [usage for usage in _USAGES if payload.get(usage) is not None]
    return groups[0] if len(groups) == 1 else None


def check_dcc(payload: dict[str, Any], *, issued_on: date | None = None) -> list[str]:
    """Return what is wrong with a payload that was read, each as `where: what`; empty where it is as it should be.

    Schema 1.0.0 to 1.3.x with the tolerances that `cose.TOLERANCES` lists. Codes are not looked up in value sets: those
    grow while verifiers are offline. With `issued_on`, a birth after the issue is wrong too (one day of time zones).
    """
    return [*_envelope_problems(payload, issued_on), *_group_problems(payload)]


def _envelope_problems(payload: dict[str, Any], issued_on: date | None) -> Iterator[str]:
    version = payload.get("ver")
    if not (isinstance(version, str) and (version == VERSION or _VERSION.fullmatch(version))):
        yield "ver: not a version 1.x.y"
    name = payload.get("nam")
    if isinstance(name, dict):
        yield from _name_problems(name)
    else:
        yield "nam: missing"
    born = payload.get("dob")
    if not isinstance(born, str) or not (_BIRTH.fullmatch(born) or _BIRTH_WITH_TIME.fullmatch(born)):
        yield "dob: not a date between 1900 and 2099"
    elif issued_on is not None and born > issued_on.isoformat() and born[:10] > _day_after(issued_on).isoformat():
        yield "dob: after the day of issue"


def _name_problems(name: dict[str, Any]) -> Iterator[str]:
    if "fnt" not in name and "gnt" not in name:
        yield "nam: neither fnt nor gnt"
    for key in ("fnt", "gnt"):
        if key in name and not (isinstance(name[key], str) and not name[key].strip(_MACHINE_LETTERS)):
            yield f"nam/{key}: only A-Z and < are allowed"
    for key in ("fn", "gn"):
        value = name.get(key)
        if key in name and not isinstance(value, str):
            yield f"nam/{key}: not a text"
        elif value and not any(map(str.isalpha, value)):
            yield f"nam/{key}: holds no letter"
    for key in ("fn", "gn", "fnt", "gnt"):
        if isinstance(name.get(key), str) and len(name[key]) > MAX_LENGTH:
            yield f"nam/{key}: longer than {MAX_LENGTH} characters"


def _group_problems(payload: dict[str, Any]) -> Iterator[str]:
    usage = usage_of(payload)
    if usage is None:
        yield "v, t, r: exactly one of them must stand"
        return
    entries = payload[usage]
    if not isinstance(entries, list) or not entries:
        yield f"{usage}: no entry"
        return
    early = str(payload.get("ver")).startswith(_EARLY)
    if len(entries) > 1 and not early:
        yield f"{usage}: more than one entry"
    for index, entry in enumerate(entries):
        if isinstance(entry, dict):
            yield from (f"{usage}/{index}/{problem}" for problem in _entry_problems(usage, entry, early=early))
        else:
            yield f"{usage}/{index}: not an object"


def _entry_problems(usage: Usage, entry: dict[str, Any], *, early: bool) -> Iterator[str]:
    for key, is_right, what in _TEXTS[usage]:
        value = entry.get(key)
        if not isinstance(value, str):
            yield f"{key}: missing or not a text"
        elif len(value) > MAX_LENGTH:
            yield f"{key}: longer than {MAX_LENGTH} characters"
        elif is_right is not None and not is_right(value):
            yield f"{key}: {what}"
    for key in _OPTIONAL_TEXTS[usage]:
        value = entry.get(key)
        if value is not None and not isinstance(value, str):
            yield f"{key}: not a text"
        elif value is not None and len(value) > MAX_LENGTH:
            yield f"{key}: longer than {MAX_LENGTH} characters"
    if early and usage == "t" and entry.get("tc") is None:
        yield "tc: missing or not a text"
    if usage == "v":
        highest = _MAX_DOSES_EARLY if early else _MAX_DOSES
        for key in ("dn", "sd"):
            number: Any = entry.get(key)
            whole = type(number) is int or (type(number) is float and number.is_integer())
            if not whole or not 1 <= number <= highest:
                yield f"{key}: not a number from 1 to {highest}"


def _day_after(day: date) -> date:
    return date.fromordinal(min(day.toordinal() + 1, date.max.toordinal()))


# Few values stand in many certificates: what was judged lately is not judged again.
@lru_cache(maxsize=2048)
def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    try:
        date.fromisoformat(match[1])
        if len(text) > len(match[1]):
            datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=512)
def _is_country(text: str) -> bool:
    return not text or (_COUNTRY.match(text) is not None and _NO_COUNTRY.fullmatch(text) is None)


@lru_cache(maxsize=512)
def _is_organisation(text: str) -> bool:
    return _ORGANISATION.fullmatch(text) is not None


_Rule = tuple[str, Callable[[str], bool] | None, str]


def _texts(*keys: str) -> tuple[_Rule, ...]:
    date_rule, none = (_is_date, "not a date"), (None, "")
    rules: dict[str, tuple[Callable[[str], bool], str]] = dict.fromkeys(("dt", "sc", "fr", "df", "du"), date_rule)
    rules |= {"co": (_is_country, "not a country"), "ma": (_is_organisation, "not an organisation's identifier")}
    return tuple((key, *rules.get(key, none)) for key in keys)


_TEXTS: Final[dict[Usage, tuple[_Rule, ...]]] = {
    Usage.VACCINATION: _texts("tg", "vp", "mp", "ma", "co", "is", "ci", "dt"),
    Usage.TEST: _texts("tg", "tt", "tr", "co", "is", "ci", "sc"),
    Usage.RECOVERY: _texts("tg", "co", "is", "ci", "fr", "df", "du"),
}
"""What must be there, in this order, with the rule for its text."""
_OPTIONAL_TEXTS: Final[dict[Usage, tuple[str, ...]]] = {
    Usage.VACCINATION: (),
    Usage.TEST: ("nm", "ma", "tc", "dr"),
    Usage.RECOVERY: (),
}


def _person_problems(person: Person) -> Iterator[Problem]:
    # Who sent the name in one piece is told of that piece.
    in_one = person.full_name == f"{person.family_name} {person.given_name}".strip()
    for field, value in (("family_name", person.family_name), ("given_name", person.given_name)):
        pointer = "/person/full_name" if in_one else f"/person/{field}"
        if len(value) > MAX_LENGTH:
            yield Problem(
                pointer,
                "name_too_long",
                "Tên dài quá 80 ký tự, chứng nhận điện tử không chứa được.",
                "The name has more than 80 characters and does not fit the certificate.",
            )
        elif value and not transliterate(value):
            yield Problem(
                pointer,
                "name_not_latin",
                "Hãy ghi tên bằng chữ Latinh như trên hộ chiếu.",
                "Give the name in Latin letters, as on the passport.",
            )
    if not person.family_name:
        yield Problem("/person/family_name", "name_missing", "Thiếu họ.", "The family name is missing.")
    if not 1900 <= person.date_of_birth.year <= 2099:
        yield Problem(
            "/person/date_of_birth",
            "birth_out_of_range",
            "Ngày sinh phải từ năm 1900.",
            "The date of birth must be in 1900 or later.",
        )


def _dose_problems(injection: Injection, *, known: bool) -> Iterator[Problem]:
    if not known:
        yield Problem(
            "/dose/product",
            "product_unknown",
            "Không có vắc xin này trong danh mục.",
            "This vaccine is not in the list.",
        )
    for field, value in (("number", injection.number), ("series", injection.series)):
        if not 1 <= value <= _MAX_DOSES:
            yield Problem(
                f"/dose/{field}", "number_out_of_range", "Số mũi phải từ 1 đến 99.", "A dose number is from 1 to 99."
            )
