"""The identity gate: whose dose becomes a certificate at once, and whose waits for somebody to look.

The policy is a table of rows, read from the top; the first row that fits decides. Who has no papers is vaccinated all
the same, so what happens to them is a row, not an exception in the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from printsvc.domain.dose import Identity, IdentityStatus
from printsvc.domain.person import IdType, Person
from printsvc.identity.numbers import NumberCheck, check_number


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a dose is held, or a mark on an issued one: a stable code and a sentence in both languages."""

    code: str
    vi: str
    en: str


@dataclass(frozen=True, slots=True)
class Issue:
    """Make the certificate. `mark` is kept on the record where the rule is an exception that is counted."""

    mark: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Put the dose on the site's worklist, with the reasons."""

    reasons: tuple[Reason, ...]


IdentityDecision = Issue | Hold


@dataclass(frozen=True, slots=True)
class Rule:
    """None fits anything. `citizen` is nationality VN."""

    status: IdentityStatus | None
    citizen: bool | None
    id_type: IdType | None
    check: NumberCheck | None
    issue: bool
    mark: str = ""


DEFAULT_POLICY: tuple[Rule, ...] = (
    Rule(IdentityStatus.MATCHED, None, None, NumberCheck.AGREES, issue=True),
    Rule(IdentityStatus.EXEMPT, False, IdType.PASSPORT, NumberCheck.AGREES, issue=True, mark="foreign-passport"),
    Rule(IdentityStatus.EXEMPT, True, IdType.NONE, NumberCheck.ABSENT, issue=True, mark="no-papers"),
    Rule(None, None, None, None, issue=False),
)

IDENTITY_LATER = "identity-later"
"""Mark of a certificate that was issued where nobody could ask the registry: it is asked afterwards."""

OFFLINE_POLICY: tuple[Rule, ...] = (
    *DEFAULT_POLICY[:-1],
    Rule(IdentityStatus.UNCHECKED, None, None, NumberCheck.AGREES, issue=True, mark=IDENTITY_LATER),
    DEFAULT_POLICY[-1],
)
"""At a site without a line: the same, and a number that agrees with itself will do until the registry is asked."""

_STATUS_REASONS = {
    IdentityStatus.MISMATCHED: Reason(
        "identity_mismatched",
        "Thông tin không khớp với Cơ sở dữ liệu quốc gia về dân cư.",
        "The person does not match the national population database.",
    ),
    IdentityStatus.UNCHECKED: Reason(
        "identity_unchecked",
        "Chưa xác thực danh tính với Cơ sở dữ liệu quốc gia về dân cư.",
        "The identity was not checked against the national population database.",
    ),
    IdentityStatus.EXEMPT: Reason(
        "exemption_not_allowed",
        "Trường hợp này không thuộc diện miễn xác thực.",
        "This case is not one of those that are exempt from the check.",
    ),
}

_NUMBER_REASONS = {
    NumberCheck.ABSENT: Reason("number_absent", "Thiếu số giấy tờ tùy thân.", "The identity number is missing."),
    NumberCheck.BAD_FORM: Reason(
        "number_bad_form", "Số giấy tờ không đúng định dạng.", "The identity number does not have the form of its type."
    ),
    NumberCheck.UNKNOWN_PROVINCE: Reason(
        "number_unknown_province",
        "Mã tỉnh trong số giấy tờ không tồn tại.",
        "The identity number names a province that does not exist.",
    ),
    NumberCheck.WRONG_SEX: Reason(
        "number_wrong_sex",
        "Giới tính không khớp với số CCCD.",
        "The sex contradicts the identity number.",
    ),
    NumberCheck.WRONG_CENTURY: Reason(
        "number_wrong_century",
        "Thế kỷ sinh không khớp với số CCCD.",
        "The century of birth contradicts the identity number.",
    ),
    NumberCheck.WRONG_BIRTH_YEAR: Reason(
        "number_wrong_birth_year",
        "Năm sinh không khớp với số CCCD.",
        "The year of birth contradicts the identity number.",
    ),
}


def decide(person: Person, identity: Identity, policy: Sequence[Rule] = DEFAULT_POLICY) -> IdentityDecision:
    """Return what to do with a dose of this person. A hold has at least one reason."""
    check = check_number(person)
    citizen = person.nationality == "VN"
    for rule in policy:
        if (
            rule.status in (None, identity.status)
            and rule.citizen in (None, citizen)
            and rule.id_type in (None, person.id_type)
            and rule.check in (None, check)
        ):
            return Issue(rule.mark) if rule.issue else Hold(_reasons(identity.status, check, person.id_type))
    return Hold(_reasons(identity.status, check, person.id_type))


def _reasons(status: IdentityStatus, check: NumberCheck, id_type: IdType) -> tuple[Reason, ...]:
    found = []
    number_is_wrong = check not in (NumberCheck.AGREES, NumberCheck.ABSENT)
    number_is_missing = check is NumberCheck.ABSENT and (id_type is not IdType.NONE or status is IdentityStatus.MATCHED)
    if status in _STATUS_REASONS and not (status is IdentityStatus.EXEMPT and number_is_wrong):
        found.append(_STATUS_REASONS[status])
    if number_is_wrong or number_is_missing:
        found.append(_NUMBER_REASONS[check])
    return tuple(found) or (
        Reason("policy", "Chính sách hiện hành yêu cầu kiểm tra.", "The policy in force asks for a check."),
    )
