"""What a site without a line may issue, and what the centre says to it afterwards. Pure: one rule for both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from printsvc.credential.cose import signature_agrees
from printsvc.credential.dcc import build_vaccination
from printsvc.credential.dsc import read_dsc
from printsvc.credential.hcert import DecodedHcert, decode_hcert
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import DoseEvent
from printsvc.domain.site import SiteId
from printsvc.domain.uvci import Uvci
from printsvc.domain.uvcirange import UvciRange
from printsvc.domain.valuesets import ValueSets
from printsvc.errors import InputError, NotHcertError, Problem
from printsvc.identity.gate import Hold, IdentityDecision, Issue, Rule, decide
from printsvc.issuing.bag import CLOCK_SKEW
from printsvc.issuing.certificate import a_year_later
from printsvc.issuing.intake import parse_event, problem


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one bag; `dsc` is DER. `until` is when its leave ends, `policy` the identity gate's table."""

    site_id: SiteId
    dsc: bytes
    range: UvciRange
    issuer: str
    country: str
    until: datetime
    policy: tuple[Rule, ...]
    values: ValueSets


@dataclass(frozen=True, slots=True)
class Entered:
    """A dose that may be written down, and what the identity gate says of it."""

    event: DoseEvent
    decision: IdentityDecision


@dataclass(frozen=True, slots=True)
class Brought:
    """What a site brought, found right: the certificate is None for a dose that is held."""

    event: DoseEvent
    certificate: Certificate | None
    mark: str
    reasons: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class Doubtful:
    """What is wrong with what a site brought: a stable code, and a sentence that names no person."""

    code: str
    vi: str
    en: str


def enter(document: Any, rules: Rules, *, now: datetime) -> Entered:
    """Return a dose that somebody types in at the site. Raises DoseError with a problem for each mistake."""
    event = parse_event(document, now=now, values=rules.values)
    if event.site_id != rules.site_id:
        raise InputError([_other_site()])
    return Entered(event, decide(event.person, event.identity, rules.policy))


def reasons_of(hold: Hold) -> tuple[dict[str, str], ...]:
    """Return the reasons as they are stored and shown."""
    return tuple({"code": reason.code, "vi": reason.vi, "en": reason.en} for reason in hold.reasons)


def check_brought(
    document: Any, hcert: str, entered_at: datetime, rules: Rules, *, now: datetime
) -> Brought | Doubtful:
    """Return what is to be stored of a dose that a site entered without a line; `hcert` is empty for a held one.

    The certificate must be what these rules would have made of the event, under this signer, inside its range and time.
    """
    if entered_at > now + CLOCK_SKEW:
        return _CLOCK
    decoded: DecodedHcert | None = None
    if hcert:
        try:
            decoded = decode_hcert(hcert)
        except NotHcertError:
            return _UNREADABLE
        dsc = read_dsc(rules.dsc)
        if decoded.kid != dsc.kid or decoded.algorithm is None:
            return _SIGNATURE
        if not signature_agrees(dsc.public_key, decoded.algorithm, decoded.cose.signature, decoded.cose.to_be_signed):
            return _SIGNATURE
    try:
        entered = enter(document, rules, now=entered_at)
    except InputError as error:
        return replace(_RULES, en=f"{_RULES.en} ({error.problems[0].code} {error.problems[0].pointer})")
    match entered.decision:
        case Hold() as hold if decoded is None:
            return Brought(entered.event, None, "", reasons_of(hold))
        case Issue(mark) if decoded is not None:
            return _check_certificate(entered.event, hcert, decoded, mark, rules)
        case _:
            return _GATE


def _check_certificate(
    event: DoseEvent, hcert: str, decoded: DecodedHcert, mark: str, rules: Rules
) -> Brought | Doubtful:
    dsc = read_dsc(rules.dsc)
    uvci = _uvci_of(decoded)
    if rules.range.find(uvci) is None:
        return _RANGE
    issued_at, expires_at = decoded.issued_at, decoded.expires_at
    if issued_at is None or expires_at is None or not dsc.not_before <= issued_at < rules.until:
        return _TIME
    if expires_at != min(a_year_later(issued_at), dsc.not_after):
        return _TIME
    try:
        payload = build_vaccination(
            event.person,
            event.dose,
            uvci=Uvci(uvci),
            issuer=rules.issuer,
            country=rules.country,
            products=rules.values.products,
        )
    except InputError:
        return _CLAIMS
    if decoded.payload != payload or decoded.issuer != rules.country:
        return _CLAIMS
    certificate = Certificate(Uvci(uvci), event.dose_id, 1, hcert, dsc.kid.hex(), issued_at, expires_at)
    return Brought(event, certificate, mark, ())


def uvci_of(hcert: str) -> str:
    """Return the UVCI of a code, empty where it cannot be read."""
    try:
        return _uvci_of(decode_hcert(hcert))
    except NotHcertError:
        return ""


def _uvci_of(decoded: DecodedHcert) -> str:
    try:
        found = decoded.payload["v"][0]["ci"]
    except (KeyError, IndexError, TypeError):
        return ""
    return found if isinstance(found, str) and len(found) <= 80 else ""


def _other_site() -> Problem:
    return problem("/site_id", "unknown_site")


_CLOCK = Doubtful(
    "clock", "Thời điểm nhập ở tương lai: đồng hồ của điểm tiêm sai.", "It was entered in the future: a wrong clock."
)
_UNREADABLE = Doubtful("unreadable", "Mã chứng nhận không đọc được.", "The code of the certificate cannot be read.")
_SIGNATURE = Doubtful(
    "bad_signature",
    "Chữ ký không phải của khóa được ủy quyền cho gói ngày này.",
    "It is not signed by the delegated signer of this bag.",
)
_RULES = Doubtful(
    "rules", "Dữ liệu mũi tiêm không theo quy tắc của trung tâm.", "The dose does not follow the centre's rules"
)
_GATE = Doubtful(
    "identity_rules",
    "Quy tắc xác thực danh tính cho kết quả khác với điểm tiêm.",
    "The identity rules say otherwise than the site did.",
)
_RANGE = Doubtful(
    "outside_range",
    "Mã UVCI nằm ngoài dải đã cấp cho gói ngày: khóa có thể bị lạm dụng.",
    "The UVCI is outside the range of the bag: the key may be misused.",
)
_TIME = Doubtful(
    "outside_time",
    "Chứng nhận được ký ngoài thời gian cho phép của khóa ủy quyền.",
    "It was signed outside the time of the delegated signer, or says another end.",
)
_CLAIMS = Doubtful(
    "claims_differ",
    "Nội dung đã ký khác với dữ liệu mũi tiêm.",
    "What was signed is not what these rules make of the dose.",
)
