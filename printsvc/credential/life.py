"""The life of a signer: planned, signing, verifying only, expired or compromised.

`TRANSITIONS` is the whole truth; the diagram in docs/keys.md is generated from it. An event that a state does not allow
changes nothing and raises IllegalTransitionError. What the clock brings about is in `due_events`, what an admin should
see coming in `alarms`.

Source of the periods: hcert_spec.md, A.5.2 (a DSC signs for a part of its validity, so that what it signs outlives
neither).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from printsvc.domain.signer import SignerEvent, SignerRecord, SignerRole, SignerState
from printsvc.errors import IllegalTransitionError, InputError, Problem

_S, _E = SignerState, SignerEvent

TRANSITIONS: dict[tuple[SignerState, SignerEvent], SignerState] = {
    (_S.PLANNED, _E.START): _S.SIGNING,
    (_S.PLANNED, _E.END): _S.VERIFYING,  # its period passed, or a later one began, before its turn came
    (_S.PLANNED, _E.EXPIRE): _S.EXPIRED,
    (_S.PLANNED, _E.COMPROMISE): _S.COMPROMISED,
    (_S.SIGNING, _E.END): _S.VERIFYING,
    (_S.SIGNING, _E.EXPIRE): _S.EXPIRED,
    (_S.SIGNING, _E.COMPROMISE): _S.COMPROMISED,
    (_S.VERIFYING, _E.EXPIRE): _S.EXPIRED,
    (_S.VERIFYING, _E.COMPROMISE): _S.COMPROMISED,
    (_S.EXPIRED, _E.COMPROMISE): _S.COMPROMISED,
}

ALIVE = frozenset({_S.PLANNED, _S.SIGNING, _S.VERIFYING})
"""States that the clock can still end."""

SIGNING_PERIOD = timedelta(days=180)
MAX_SIGNING_PERIOD = timedelta(days=181)
"""Six months, whichever they are."""
CERTIFICATE_VALIDITY = timedelta(days=366)
"""What a signer's validity should leave after its signing period: 12 months of the last certificate."""
ALARM_DAYS = (60, 30, 7)
_DAY = timedelta(days=1)


class Ending(StrEnum):
    """What ends: a signing period that has no successor, or a validity."""

    SIGNING = "signing"
    VALIDITY = "validity"


@dataclass(frozen=True, slots=True)
class Alarm:
    """`days` are whole days that are left, `level` the smallest of 60, 30 and 7 that is reached."""

    record: SignerRecord
    ending: Ending
    at: datetime
    days: int
    level: int


def next_state(state: SignerState, event: SignerEvent) -> SignerState:
    """Return the state after `event`. Raises IllegalTransitionError where the table has no such row."""
    after = TRANSITIONS.get((state, event))
    if after is None:
        raise IllegalTransitionError(
            f"A signer that is {state} cannot take the event {event}.",
            vi=f"Khóa ký đang ở trạng thái “{state}” không nhận được sự kiện “{event}”.",
        )
    return after


def due_events(
    records: Iterable[SignerRecord], now: datetime, *, held: Collection[str]
) -> list[tuple[SignerRecord, SignerEvent]]:
    """Return what the clock brings about now, in the order in which it is to be applied.

    `held` are the thumbprints of the signers whose keys this process can use: it starts none that it cannot use itself,
    so that a key that is missing everywhere never takes over. Where several are due the one planned last takes over.
    """
    events: list[tuple[SignerRecord, SignerEvent]] = []
    living = [record for record in records if record.state in ALIVE]
    events += [(record, _E.EXPIRE) for record in living if record.not_after <= now]
    dscs = [record for record in living if record.role is SignerRole.DSC and record.not_after > now]
    ready = [
        record
        for record in dscs
        if record.state is _S.PLANNED
        and record.signing_from <= now < record.signing_until
        and record.thumbprint in held
    ]
    starting = max(ready, key=_turn, default=None)
    events += [
        (record, _E.END)
        for record in living
        if record.role is SignerRole.DELEGATE
        and record.state is _S.SIGNING
        and record.signing_until <= now < record.not_after
    ]
    for record in dscs:
        if record is starting:
            continue
        over = record.signing_until <= now
        match record.state:
            case _S.SIGNING if over or starting is not None:
                events.append((record, _E.END))
            case _S.PLANNED if over or (starting is not None and _turn(record) < _turn(starting)):
                events.append((record, _E.END))
    if starting is not None:
        events.append((starting, _E.START))
    return events


def next_due(records: Iterable[SignerRecord], now: datetime) -> datetime | None:
    """Return the next moment after `now` at which the clock may bring something about."""
    moments = [
        moment
        for record in records
        if record.state in ALIVE
        for moment in (record.signing_from, record.signing_until, record.not_after)
        if moment > now
    ]
    return min(moments, default=None)


def find_signing(records: Iterable[SignerRecord], role: SignerRole = SignerRole.DSC) -> SignerRecord | None:
    """Return the signer of this role that signs."""
    return next((record for record in records if record.role is role and record.state is _S.SIGNING), None)


def next_planned(records: Iterable[SignerRecord], now: datetime) -> SignerRecord | None:
    """Return the planned DSC whose turn is next."""
    planned = [
        record
        for record in records
        if record.role is SignerRole.DSC
        and record.state is _S.PLANNED
        and record.signing_until > now < record.not_after
    ]
    return min(planned, key=_turn, default=None)


def signing_covered_until(records: Sequence[SignerRecord], now: datetime) -> datetime | None:
    """Return until when certificates can be signed without a gap, by what is planned; None where nothing signs now."""
    signing = find_signing(records)
    if signing is None or signing.signing_until <= now:
        return None
    covered = signing.signing_until
    planned = [r for r in records if r.role is SignerRole.DSC and r.state is _S.PLANNED]
    for record in sorted(planned, key=_turn):
        if record.signing_from <= covered < record.signing_until:
            covered = record.signing_until
    return covered


def alarms(records: Sequence[SignerRecord], now: datetime) -> list[Alarm]:
    """Return what ends within 60 days, the nearest first. A signing period whose successor is planned does not."""
    found: list[Alarm | None] = []
    signing = find_signing(records)
    covered = signing_covered_until(records, now)
    if signing is not None and covered is not None:
        found.append(_alarm(signing, Ending.SIGNING, covered, now))
    # A delegate lives for a week: that it ends is no news.
    lasting = [r for r in records if r.state in ALIVE and r.role is not SignerRole.DELEGATE]
    found += [_alarm(r, Ending.VALIDITY, r.not_after, now) for r in lasting]
    return sorted((alarm for alarm in found if alarm is not None), key=lambda alarm: alarm.at)


def alarm_level(at: datetime, now: datetime) -> int | None:
    """Return the smallest of 60, 30 and 7 days that is reached before `at`; None where it is further off."""
    return min((level for level in ALARM_DAYS if (at - now) // _DAY <= level), default=None)


def check_plan(
    *, not_before: datetime, not_after: datetime, signing_from: datetime, signing_until: datetime, now: datetime
) -> None:
    """Raise InputError where a new signer may not sign from and until these moments."""
    wrong: list[tuple[str, str, str]] = []
    if signing_until <= signing_from:
        wrong.append(("/signing_until", "Thời gian ký kết thúc trước khi bắt đầu.", "Signing ends before it begins."))
    if signing_until - signing_from > MAX_SIGNING_PERIOD:
        wrong.append(("/signing_until", "Một khóa ký không quá 6 tháng.", "A signer signs for six months at most."))
    if signing_until <= now:
        wrong.append(("/signing_until", "Thời gian ký đã qua.", "The signing period is over already."))
    if not (not_before <= signing_from and signing_until <= not_after):
        wrong.append(
            (
                "/signing_from",
                "Thời gian ký nằm ngoài hiệu lực của chứng thư.",
                "The signing period is outside the certificate's validity.",
            )
        )
    if wrong:
        raise InputError([Problem(pointer, "signing_period", vi, en) for pointer, vi, en in wrong])


def diagram() -> str:
    """Return the table as a Mermaid state diagram; docs/keys.md holds it and a test compares."""
    lines = ["stateDiagram-v2", f"    [*] --> {SignerState.PLANNED}"]
    arrows: dict[tuple[SignerState, SignerState], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        arrows.setdefault((before, after), []).append(event)
    lines += [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in arrows.items()]
    leaving = {before for before, _ in TRANSITIONS}
    lines += [f"    {state} --> [*]" for state in SignerState if state not in leaving]
    return "\n".join(lines) + "\n"


def _turn(record: SignerRecord) -> tuple[datetime, datetime, str]:
    return record.signing_from, record.created_at, record.thumbprint


def _alarm(record: SignerRecord, ending: Ending, at: datetime, now: datetime) -> Alarm | None:
    level = alarm_level(at, now)
    return None if level is None else Alarm(record, ending, at, (at - now) // _DAY, level)
