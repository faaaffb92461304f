"""What may stand under claim -260 of an HCERT besides the EU's certificate, and what all of it says in one form.

===== ======================================================================================
1     EU DCC; the United Kingdom's domestic pass has a group `d` in it instead of v, t or r
3, 4  WHO DDCC core data sets: vaccination status, test result
5     WHO: a link to content elsewhere (Verifiable Health Link); never followed here
-6    WHO: digital vaccination certificate (the International Certificate of Vaccination)
===== ======================================================================================

Source: WHO SMART Trust 1.1, logical models HCert and DDCCCoreDataSet; WHO SMART ICVP, logical model DVCPayload.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple

from printsvc.credential.dcc import check_dcc, usage_of
from printsvc.credential.dsc import Usage
from printsvc.credential.reading import make_dose, member, objects, text_or_none

DCC: Final = 1
DDCC_VACCINATION, DDCC_TEST, LINK, DVC = 3, 4, 5, -6
SUB_CLAIMS: Final = (DCC, DVC, DDCC_VACCINATION, DDCC_TEST, LINK)
DOMESTIC: Final = "d"
_MAX_TEXT: Final = 200
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T.{5,30})?")


class Spoken(NamedTuple):
    """The content in one form. `starts_at` and `ends_at` are the content's own, where it has such."""

    usage: Usage | None
    name: str | None
    date_of_birth: str | None
    doses: list[dict[str, Any]]
    identifiers: tuple[str, ...]
    starts_at: datetime | None = None
    ends_at: datetime | None = None


def find_content(container: Any) -> tuple[int, dict[str, Any]] | None:
    """Return (sub-claim, payload) of the first that is known; None where there is none.

    WHO lets a sub-claim be a list: one entry is read as that entry.
    """
    if not isinstance(container, dict):
        return None
    for number in SUB_CLAIMS:
        value = container.get(number)
        if number != DCC and isinstance(value, list) and len(value) == 1:
            value = {"u": value[0]} if number == LINK and isinstance(value[0], str) else value[0]
        if isinstance(value, dict):
            return number, value
    return None


def read_content(sub_claim: int, payload: dict[str, Any]) -> Spoken:
    """Return what a payload says; never fails, whatever the payload is."""
    match sub_claim:
        case 1:
            return _read_dcc(payload)
        case -6:
            return _read_dvc(payload)
        case 3 | 4:
            return _read_ddcc(payload, Usage.VACCINATION if sub_claim == DDCC_VACCINATION else Usage.TEST)
        case _:
            return Spoken(None, None, None, [], ())


def check_content(sub_claim: int, payload: dict[str, Any], *, issued_on: date | None) -> Sequence[str]:
    """Return what is wrong with a payload, each as `where: what`."""
    match sub_claim:
        case 1 if is_domestic(payload):
            return list(_domestic_problems(payload))
        case 1:
            return check_dcc(payload, issued_on=issued_on)
        case -6:
            return list(_dvc_problems(payload))
        case 3 | 4:
            return list(_ddcc_problems(sub_claim, payload))
        case _:
            return ["link: the content stands elsewhere and is not fetched"]


def is_domestic(payload: dict[str, Any]) -> bool:
    """Return whether this is the pass that the United Kingdom gave out for use at home."""
    return payload.get(DOMESTIC) is not None and all(payload.get(usage) is None for usage in Usage)


def _read_dcc(payload: dict[str, Any]) -> Spoken:
    usage = usage_of(payload)
    name = payload.get("nam")
    words = [name.get("fn") or name.get("fnt"), name.get("gn") or name.get("gnt")] if isinstance(name, dict) else []
    entries: list[dict[str, Any]] = []
    for group in ("v", "t", "r", DOMESTIC):
        if group in payload:
            entries += objects(payload[group])
    domestic = objects(payload.get(DOMESTIC)) if is_domestic(payload) else []
    return Spoken(
        usage=usage,
        name=" ".join(word for word in words if isinstance(word, str) and word) or None,
        date_of_birth=text_or_none(payload.get("dob")),
        doses=[
            make_dose(
                product=shot.get("mp"),
                date=shot.get("dt"),
                number=shot.get("dn"),
                series=shot.get("sd"),
                country=shot.get("co"),
                issuer=shot.get("is"),
            )
            for shot in objects(payload.get("v"))
        ],
        identifiers=tuple(entry["ci"] for entry in entries if isinstance(entry.get("ci"), str)),
        starts_at=_moment(domestic[0].get("df")) if domestic else None,
        ends_at=_moment(domestic[0].get("du")) if domestic else None,
    )


def _domestic_problems(payload: dict[str, Any]) -> Iterator[str]:
    if not any(isinstance(member(payload, "nam", key), str) for key in ("fn", "gn", "fnt", "gnt")):
        yield "nam: missing"
    if not isinstance(payload.get("dob"), str):
        yield "dob: missing"
    entries = objects(payload[DOMESTIC])
    if len(entries) != 1:
        yield "d: not one entry"
    for entry in entries[:1]:
        for key in ("ci", "co", "is"):
            if not isinstance(entry.get(key), str):
                yield f"d/0/{key}: missing"
        for key in ("df", "du"):
            if _moment(entry.get(key)) is None:
                yield f"d/0/{key}: not a point in time"


def _read_dvc(payload: dict[str, Any]) -> Spoken:
    return Spoken(
        usage=Usage.VACCINATION,
        name=text_or_none(payload.get("n")),
        date_of_birth=text_or_none(payload.get("dob")),
        doses=[
            make_dose(
                product=shot.get("vp"),
                date=shot.get("dt"),
                number=shot.get("dn"),
                issuer=shot.get("is") or shot.get("cn"),
            )
            for shot in objects(payload.get("v"))
        ],
        identifiers=(),
    )


def _dvc_problems(payload: dict[str, Any]) -> Iterator[str]:
    yield from _person_problems(payload, "n", "dob")
    shots = objects(payload.get("v"))
    if not shots:
        yield "v: no vaccination"
    for index, shot in enumerate(shots):
        if not _is_text(shot.get("vp")):
            yield f"v/{index}/vp: missing"
        if not _is_date(shot.get("dt")):
            yield f"v/{index}/dt: not a date"
        if not _is_text(shot.get("is")) and not _is_text(shot.get("cn")):
            yield f"v/{index}/is: neither issuer nor clinician"


def _read_ddcc(payload: dict[str, Any], usage: Usage) -> Spoken:
    certificate = payload.get("certificate")
    identifier = member(certificate, "hcid", "value") or member(certificate, "hcid")
    return Spoken(
        usage=usage,
        name=text_or_none(payload.get("name")),
        date_of_birth=text_or_none(payload.get("birthDate")),
        doses=[
            make_dose(
                product=_code(shot.get("brand")) or _code(shot.get("vaccine")),
                date=shot.get("date"),
                number=shot.get("dose"),
                series=shot.get("totalDoses"),
                country=_code(shot.get("country")),
                issuer=_code(member(certificate, "issuer", "identifier")) or _code(member(certificate, "issuer")),
            )
            for shot in objects(payload.get("vaccination"))
        ],
        identifiers=(identifier,) if isinstance(identifier, str) else (),
    )


def _ddcc_problems(sub_claim: int, payload: dict[str, Any]) -> Iterator[str]:
    yield from _person_problems(payload, "name", "birthDate" if payload.get("birthDate") is not None else None)
    if sub_claim == DDCC_TEST:
        if len(objects(payload.get("test"))) != 1:
            yield "test: not one test"
        return
    shots = objects(payload.get("vaccination"))
    if not shots:
        yield "vaccination: missing"
    for index, shot in enumerate(shots):
        if _code(shot.get("vaccine")) is None:
            yield f"vaccination/{index}/vaccine: missing"
        if not _is_date(shot.get("date")):
            yield f"vaccination/{index}/date: not a date"


def _person_problems(payload: dict[str, Any], name: str, born: str | None) -> Iterator[str]:
    if not _is_text(payload.get(name)):
        yield f"{name}: missing"
    if born is not None and not _is_date(payload.get(born)):
        yield f"{born}: not a date"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return False
    try:
        date.fromisoformat(value[:10])
    except ValueError:
        return False
    return True


def _code(value: Any) -> str | None:
    """Return the code of a coding, of the first coding of a concept, of an identifier, or the text itself."""
    for names in (("code",), ("value",), ("reference",)):
        found = text_or_none(member(value, *names))
        if found is not None:
            return found
    codings = objects(member(value, "coding"))
    return text_or_none(codings[0].get("code")) if codings else text_or_none(value)


def _moment(value: Any) -> datetime | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
