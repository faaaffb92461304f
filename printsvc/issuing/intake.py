"""Reading a dose event: strict shape, then what cannot be. Pure; `now` and the value sets are passed in.

Every mistake is one Problem with a JSON pointer, a stable code and a sentence in Vietnamese and English; all mistakes
of an event are told at once.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from printsvc.domain.dose import DoseEvent, DoseId, DoseKind, Identity, IdentityStatus, Injection
from printsvc.domain.person import IdType, Person, Sex, split_full_name
from printsvc.domain.site import SiteId
from printsvc.domain.valuesets import ValueSets
from printsvc.errors import DoseError, Problem

FIRST_INJECTION = date(2020, 12, 1)
OLDEST_YEARS = 130
CLOCK_SKEW = timedelta(minutes=5)
MAX_DOSES = 9

_DOSE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
SITE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOT = re.compile(r"[A-Za-z0-9/ -]{1,20}")
_PHONE = re.compile(r"\+?[0-9 ().-]{3,24}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(_DATE.pattern + r"[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})")
# Categories that no name or address holds: controls, formats (bidi overrides, zero width), surrogates, private use,
# unassigned, line and paragraph separators.
_NOT_TEXT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _iso_text(value: Any) -> Any:
    # pydantic also takes numbers as times, and numbers in quotes; an event has ISO 8601 text, or it is wrong.
    if not isinstance(value, str):
        raise ValueError("not_text")
    if not _TIME.fullmatch(value):
        raise ValueError("not_a_time")
    return value


def _composed(value: Any) -> Any:
    # Before the length is taken: decomposed Vietnamese has up to three characters a letter.
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _iso_date(value: Any) -> Any:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise ValueError("not_a_date")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError("not_a_date") from error


Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_iso_text)]
Day = Annotated[date, BeforeValidator(_iso_date)]
Words = Annotated[str | None, BeforeValidator(_composed)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PersonIn(_Shape):
    full_name: Words = Field(default=None, max_length=160)
    family_name: Words = Field(default=None, max_length=80)
    given_name: Words = Field(default=None, max_length=80)
    date_of_birth: Day
    sex: Annotated[Sex, Field(strict=False)]
    nationality: str
    id_type: Annotated[IdType, Field(strict=False)]
    id_number: str | None = Field(default=None, max_length=32)
    phone: str | None = Field(default=None, max_length=32)
    address: Words = Field(default=None, max_length=300)


class IdentityIn(_Shape):
    status: Annotated[IdentityStatus, Field(strict=False)]
    checked_at: Time | None = None
    reference: str | None = Field(default=None, max_length=128)


class InjectionIn(_Shape):
    product: str = Field(max_length=80)
    lot: str
    number: int
    series: int
    kind: Annotated[DoseKind, Field(strict=False)]
    injected_at: Time


class DoseEventIn(_Shape):
    """The body of `POST /v1/doses`, as in the OpenAPI document."""

    dose_id: str
    site_id: str = Field(max_length=64)
    person: PersonIn
    identity: IdentityIn | None = None
    dose: InjectionIn


def parse_event(document: Any, *, now: datetime, values: ValueSets) -> DoseEvent:
    """Return the event of a decoded JSON document. Raises DoseError with a Problem for each mistake."""
    try:
        shape = DoseEventIn.model_validate(document)
    except ValidationError as error:
        raise DoseError([_from_pydantic(detail) for detail in error.errors(include_url=False)]) from None
    problems: list[Problem] = []
    person = _person(shape.person, shape.dose, now, values, problems)
    injection = _injection(shape.dose, now, values, problems)
    identity = to_identity(shape.identity, now=now, at="/identity", problems=problems)
    if not _DOSE_ID.fullmatch(shape.dose_id):
        problems.append(problem("/dose_id", "dose_id_form"))
    if not SITE_ID.fullmatch(shape.site_id):
        problems.append(problem("/site_id", "unknown_site"))
    if problems:
        raise DoseError(problems)
    return DoseEvent(DoseId(shape.dose_id), SiteId(shape.site_id), person, identity, injection)


def to_identity(shape: IdentityIn | None, *, now: datetime, at: str, problems: list[Problem]) -> Identity:
    """Return the identity block; an absent one is unchecked. Appends to `problems`."""
    if shape is None:
        return Identity()
    if shape.checked_at is not None and shape.checked_at > now + CLOCK_SKEW:
        problems.append(problem(f"{at}/checked_at", "in_future"))
    reference = _text(shape.reference, f"{at}/reference", problems)
    try:
        checked_at = shape.checked_at.astimezone(UTC) if shape.checked_at is not None else None
    except OverflowError:  # the first or last hours of the calendar
        problems.append(problem(f"{at}/checked_at", "not_a_time"))
        checked_at = None
    return Identity(shape.status, checked_at, reference)


def parse_identity(document: Any, *, now: datetime) -> Identity:
    """Return the identity result of a decoded JSON document. Raises DoseError."""
    try:
        shape = IdentityIn.model_validate(document)
    except ValidationError as error:
        raise DoseError([_from_pydantic(detail) for detail in error.errors(include_url=False)]) from None
    problems: list[Problem] = []
    identity = to_identity(shape, now=now, at="", problems=problems)
    if problems:
        raise DoseError(problems)
    return identity


def unknown_site() -> Problem:
    """Return the problem of an event that names a site nobody made."""
    return problem("/site_id", "unknown_site")


def _person(shape: PersonIn, dose: InjectionIn, now: datetime, values: ValueSets, problems: list[Problem]) -> Person:
    family = _text(shape.family_name, "/person/family_name", problems)
    given = _text(shape.given_name, "/person/given_name", problems)
    full = _text(shape.full_name, "/person/full_name", problems)
    if full is None:
        full = " ".join(part for part in (family, given) if part) or None
    if full is None:
        if not any(one.code == "control_character" for one in problems):
            problems.append(problem("/person/full_name", "missing"))
        full = ""
    elif not any(character.isalpha() for character in full):
        problems.append(problem("/person/full_name", "name_without_letters"))
    elif set(full) & _NOT_IN_NAMES:
        problems.append(problem("/person/full_name", "name_character"))
    if family is not None and given is not None:
        if shape.full_name is not None and _words(full) != _words(f"{family} {given}"):
            problems.append(problem("/person/full_name", "name_parts_differ"))
    elif shape.full_name is not None or given is None:
        # One part alone does not say where the other ends: the rule decides, as if neither had come.
        family, given = split_full_name(full)
        if max(len(family), len(given)) > 80:
            problems.append(problem("/person/full_name", "name_too_long"))
    else:
        family, given = given, None  # the only name there is
    born = shape.date_of_birth
    today = (now + timedelta(hours=14)).date()  # the earliest time zone: nobody is refused for living in the east
    if born > today:
        problems.append(problem("/person/date_of_birth", "in_future"))
    elif (born.year + OLDEST_YEARS, born.month, born.day) < (today.year, today.month, today.day):
        problems.append(problem("/person/date_of_birth", "too_old"))
    elif born > dose.injected_at.date():
        problems.append(problem("/person/date_of_birth", "born_after_injection"))
    if shape.nationality not in values.countries:
        problems.append(problem("/person/nationality", "unknown_country"))
    phone = _text(shape.phone, "/person/phone", problems)
    if phone is not None and not _PHONE.fullmatch(phone):
        problems.append(problem("/person/phone", "phone_form"))
    number = _text(shape.id_number, "/person/id_number", problems)
    return Person(
        full_name=full,
        family_name=family or "",
        given_name=given or "",
        date_of_birth=born,
        sex=shape.sex,
        nationality=shape.nationality,
        id_type=shape.id_type,
        # Eight Greek letters are no longer composed once they are capitals; what is stored is read again as it is.
        id_number=unicodedata.normalize("NFC", re.sub(r"\s", "", number).upper()) if number else None,
        phone=phone,
        address=_text(shape.address, "/person/address", problems),
    )


def _injection(shape: InjectionIn, now: datetime, values: ValueSets, problems: list[Problem]) -> Injection:
    if shape.product not in values.products:
        problems.append(problem("/dose/product", "unknown_product"))
    if not _LOT.fullmatch(shape.lot) or not shape.lot.strip():
        problems.append(problem("/dose/lot", "lot_form"))
    for name in ("number", "series"):
        if not 1 <= getattr(shape, name) <= MAX_DOSES:
            problems.append(problem(f"/dose/{name}", "dose_number_range"))
    if shape.number > shape.series:
        problems.append(problem("/dose/number", "beyond_series"))
    if shape.injected_at > now + CLOCK_SKEW:
        problems.append(problem("/dose/injected_at", "in_future"))
    elif shape.injected_at.date() < FIRST_INJECTION:
        problems.append(problem("/dose/injected_at", "before_first_vaccine"))
    return Injection(
        product=shape.product,
        lot=shape.lot.strip(),
        number=shape.number,
        series=shape.series,
        kind=shape.kind,
        # The site's own offset is kept: the date on the paper is the date there.
        injected_at=shape.injected_at.replace(tzinfo=timezone(shape.injected_at.utcoffset() or timedelta(0))),
    )


def _text(value: str | None, at: str, problems: list[Problem]) -> str | None:
    """Return the text NFC-normalised, spaces folded, None where nothing is left; refuse what is no text."""
    if value is None:
        return None
    # Printable is what has none of these and no space but the common one: most texts need no look at each character.
    if not value.isprintable() and any(unicodedata.category(character) in _NOT_TEXT for character in value):
        problems.append(problem(at, "control_character"))
        return None
    return " ".join(unicodedata.normalize("NFC", value).split()) or None


_NOT_IN_NAMES = frozenset('<>{}[]|\\"&=@#%^*$~_')


def _words(name: str) -> list[str]:
    return sorted(name.casefold().split())


_SENTENCES: dict[str, tuple[str, str]] = {
    "missing": ("Thiếu trường này.", "This field is missing."),
    "unknown_field": ("Trường này không có trong quy định.", "There is no such field."),
    "not_json": ("Không phải JSON hợp lệ.", "This is not valid JSON."),
    "not_text": ("Phải là chuỗi ký tự.", "This must be text."),
    "not_integer": ("Phải là số nguyên.", "This must be a whole number."),
    "not_object": ("Phải là một đối tượng JSON.", "This must be a JSON object."),
    "not_a_date": ("Phải là ngày có thật, dạng NĂM-THÁNG-NGÀY.", "This must be a real date, as YYYY-MM-DD."),
    "not_a_time": (
        "Phải là thời điểm ISO 8601 có múi giờ.",
        "This must be an ISO 8601 time with its offset from UTC.",
    ),
    "not_a_choice": ("Giá trị không nằm trong danh sách cho phép.", "This is not one of the values that are allowed."),
    "too_long": ("Quá dài.", "This is too long."),
    "invalid": ("Giá trị không hợp lệ.", "This value is not valid."),
    "control_character": (
        "Có ký tự điều khiển hoặc ký tự đảo chiều chữ.",
        "This holds control or text-direction characters.",
    ),
    "name_without_letters": ("Họ tên phải có chữ cái.", "A name must have a letter."),
    "name_character": (
        "Họ tên có ký tự không dùng trong tên người.",
        "The name holds a character that no name has.",
    ),
    "name_parts_differ": (
        "full_name không gồm đúng các từ của family_name và given_name.",
        "full_name is not made of the words of family_name and given_name.",
    ),
    "name_too_long": (
        "Họ hoặc tên dài quá 80 ký tự: hãy gửi riêng family_name và given_name.",
        "The family or given name is longer than 80 characters: send family_name and given_name.",
    ),
    "in_future": ("Thời điểm ở tương lai.", "This lies in the future."),
    "too_old": ("Tuổi lớn hơn 130.", "The person would be older than 130 years."),
    "born_after_injection": ("Ngày sinh sau ngày tiêm.", "The person was born after the injection."),
    "before_first_vaccine": (
        "Ngày tiêm trước tháng 12 năm 2020, khi chưa có vắc xin.",
        "The injection lies before December 2020, when there was no vaccine.",
    ),
    "unknown_country": ("Mã quốc gia không tồn tại (ISO 3166-1, hai chữ).", "No such country (ISO 3166-1 alpha-2)."),
    "phone_form": ("Số điện thoại không đúng định dạng.", "This is not a phone number."),
    "unknown_product": ("Mã vắc xin không có trong danh mục.", "This product is not in the value set."),
    "unknown_site": ("Điểm tiêm chưa được đăng ký.", "This site is not registered."),
    "dose_id_form": (
        "Mã mũi tiêm phải gồm 1–128 chữ cái không dấu, chữ số và . _ : / -",
        "A dose_id is 1 to 128 letters, digits and . _ : / -",
    ),
    "lot_form": (
        "Số lô phải gồm 1–20 chữ cái không dấu, chữ số, dấu - hoặc / và khoảng trắng.",
        "A lot is 1 to 20 letters, digits, - or / and spaces.",
    ),
    "dose_number_range": ("Số mũi phải từ 1 đến 9.", "A dose number is 1 to 9."),
    "beyond_series": ("Mũi tiêm vượt quá số mũi của liệu trình.", "The dose number lies beyond the series."),
}

_PYDANTIC_CODES = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "string_type": "not_text",
    "int_type": "not_integer",
    "model_type": "not_object",
    "model_attributes_type": "not_object",
    "dict_type": "not_object",
    "enum": "not_a_choice",
    "string_too_long": "too_long",
    "timezone_aware": "not_a_time",
    "datetime_parsing": "not_a_time",
    "datetime_from_date_parsing": "not_a_time",
    "datetime_type": "not_a_time",
    "datetime_object_invalid": "not_a_time",
}


def problem(pointer: str, code: str) -> Problem:
    """Return the problem with this code's sentences. Raises KeyError for a code without them."""
    vi, en = _SENTENCES[code]
    return Problem(pointer, code, vi, en)


def _from_pydantic(detail: Any) -> Problem:
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in detail["loc"])
    code = _PYDANTIC_CODES.get(detail["type"], "invalid")
    if detail["type"] == "value_error":
        message = str(detail.get("ctx", {}).get("error", ""))
        code = message if message in _SENTENCES else "invalid"
    return problem(pointer, code)
