"""What an admin changes of signers: register, start, compromise; and what hangs on each.

Every change is a unit of the database, so that the service does it for a command that cannot open the store. No private
key is touched here: see keymaking.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from sqlalchemy import Connection

from printsvc.credential.dsc import Dsc, Usage, read_dsc
from printsvc.credential.keys import DSC_VALIDITY, issued_by
from printsvc.credential.life import (
    SIGNING_PERIOD,
    alarms,
    check_plan,
    due_events,
    find_signing,
    next_planned,
    next_state,
    signing_covered_until,
)
from printsvc.domain.signer import SignerEvent, SignerRecord, SignerRole, SignerState
from printsvc.errors import ClockAheadError, CredentialError, InputError, NotFoundError, Problem, StateError
from printsvc.store import signers as signer_store

CLOCK = "clock"
"""The actor of what nobody asked for but the calendar."""
MAX_CLOCK_LEAD: Final = timedelta(minutes=10)
"""By which a machine's clock may be ahead of the database's: more is no drift, but a clock that is set wrong."""


def register(
    connection: Connection,
    certificate: bytes,
    *,
    key_store: str,
    signing_from: datetime | None = None,
    signing_until: datetime | None = None,
    now: datetime,
    actor: str,
    may_replace_authority: bool = True,
) -> tuple[SignerRecord, bool]:
    """Publish a signer and return it, and whether it is new: a CSCA signs from now on, a DSC when its time comes.

    A DSC must be of the registered CSCA, valid two years at most, and may not sign for longer than six months. Raises
    InputError, and StateError (authority_registered) for a second CSCA unless `may_replace_authority`.
    """
    signer_store.lock_signers(connection, to_change=True)
    records = signer_store.list_records(connection)
    try:
        dsc = read_dsc(certificate)
    except CredentialError as error:
        raise InputError([Problem("/certificate", error.code, error.vi, error.en)]) from None
    there = next((record for record in records if record.thumbprint == dsc.thumbprint), None)
    if there is not None:
        return there, False
    role = SignerRole.CSCA if _is_authority(certificate) else SignerRole.DSC
    begins = max(signing_from or dsc.not_before, dsc.not_before)
    ends = signing_until or (dsc.not_after if role is SignerRole.CSCA else min(begins + SIGNING_PERIOD, dsc.not_after))
    if role is SignerRole.CSCA and not may_replace_authority and any(one.role is role for one in records):
        raise StateError(
            "Another CSCA is registered. Stop this service and replace it on the database: printsvc keys init-csca.",
            vi="Đã đăng ký một CSCA khác. Hãy dừng dịch vụ rồi thay trên cơ sở dữ liệu: printsvc keys init-csca.",
            code="authority_registered",
        )
    if role is SignerRole.DSC:
        _check_dsc(dsc, records)
        check_plan(not_before=dsc.not_before, not_after=dsc.not_after, signing_from=begins, signing_until=ends, now=now)
    elif not (issued_by(certificate, certificate) and dsc.not_before <= now < dsc.not_after):
        raise _wrong_certificate("Chứng thư CSCA không tự ký hoặc không còn hạn.", "The CSCA is not valid now.")
    record = SignerRecord(
        thumbprint=dsc.thumbprint,
        kid=dsc.thumbprint[:16],
        role=role,
        state=SignerState.PLANNED,
        certificate=certificate,
        not_before=dsc.not_before,
        not_after=dsc.not_after,
        signing_from=begins,
        signing_until=ends,
        key_store=key_store,
        created_at=now,
        changed_at=now,
    )
    signer_store.insert_record(connection, record, actor=actor)
    return (_take_over(connection, records, record, now=now, actor=actor) if role is SignerRole.CSCA else record), True


def start(connection: Connection, thumbprint: str, *, now: datetime, actor: str) -> SignerRecord:
    """Let a planned DSC sign from now on, in place of the one that does; one that signs already is left alone.

    Its signing period begins now and is no longer than it was planned. Raises NotFoundError, IllegalTransitionError,
    InputError where its time is over.
    """
    signer_store.lock_signers(connection, to_change=True)
    records = signer_store.list_records(connection)
    record = get_record(records, thumbprint)
    if record.state is SignerState.SIGNING:
        return record
    next_state(record.state, SignerEvent.START)
    if record.not_after <= now or record.signing_until <= now:
        raise StateError("Its signing period is over.", vi="Thời gian ký của khóa này đã qua.", code="signing_over")
    if record.signing_from > now:
        ends = min(now + (record.signing_until - record.signing_from), record.not_after)
        record = signer_store.set_period(connection, record, signing_from=now, signing_until=ends)
    return _take_over(connection, records, record, now=now, actor=actor)


def compromise(
    connection: Connection, thumbprint: str, *, reason: str, now: datetime, actor: str, held: Collection[str]
) -> tuple[SignerRecord, SignerRecord | None]:
    """End the trust in a signer, with a CSCA in all under it, and return it with the DSC that signs after that.

    Where it was the one that signs, the next planned one whose key is `held` takes over at once. Raises NotFoundError,
    IllegalTransitionError for one that is compromised already.
    """
    signer_store.lock_signers(connection, to_change=True)
    records = signer_store.list_records(connection)
    record = get_record(records, thumbprint)
    lost = _apply(connection, record, SignerEvent.COMPROMISE, now=now, actor=actor, reason=reason)
    for one in _under(record, records):
        # Whoever has the CSCA's key can make signers like these: none of them tells a good one from a bad.
        if one.state is not SignerState.COMPROMISED:
            _apply(connection, one, SignerEvent.COMPROMISE, now=now, actor=actor, reason=reason)
    records = signer_store.list_records(connection)
    signing = find_signing(records)
    if signing is None:
        heir = next_planned([one for one in records if one.thumbprint in held], now)
        signing = start(connection, heir.thumbprint, now=now, actor=actor) if heir is not None else None
    return lost, signing


def apply_due(connection: Connection, *, now: datetime, held: Collection[str]) -> list[SignerRecord]:
    """Do what the clock brings about, and return every signer as it then is.

    Nothing brings an ended signer back, and all machines share it: raises ClockAheadError, and ends
    none, where this machine's clock is ahead of the database's.
    """
    _check_clock(now, signer_store.read_clock(connection))  # before anybody has to wait for this machine
    signer_store.lock_signers(connection, to_change=True)
    for record, event in due_events(signer_store.list_records(connection), now, held=held):
        _apply(connection, record, event, now=now, actor=CLOCK)
    return signer_store.list_records(connection)


def _check_clock(now: datetime, by_database: datetime | None) -> None:
    if by_database is not None and now - by_database > MAX_CLOCK_LEAD:
        lead = str(now - by_database).partition(".")[0]
        raise ClockAheadError(
            f"The clock of this machine is {lead} ahead of the database's: one of the two is wrong. "
            "Until it is set right, this machine ends no signer.",
            vi=f"Đồng hồ của máy này nhanh hơn cơ sở dữ liệu {lead}: một trong hai bị sai. "
            "Khi chưa chỉnh lại, máy này không kết thúc khóa ký nào.",
            retry_after_s=60,
        )


def get_record(records: Iterable[SignerRecord], name: str) -> SignerRecord:
    """Return the signer with this thumbprint, kid (hexadecimal) or beginning of it, 8 characters at least.

    Raises NotFoundError, also where several begin so.
    """
    wanted = name.lower()
    found = [record for record in records if record.thumbprint.startswith(wanted)] if len(wanted) >= 8 else []
    if len(found) != 1:
        raise NotFoundError(
            "There is no such signer, or more than one.", vi="Không có khóa ký này, hoặc có nhiều hơn một."
        )
    return found[0]


def compromised_certificates(records: Iterable[SignerRecord]) -> list[bytes]:
    """Return the certificates (DER) of those in which the trust was ended."""
    return [record.certificate for record in records if record.state is SignerState.COMPROMISED]


# --- documents: what routes answer and commands print


def signer_document(record: SignerRecord) -> dict[str, Any]:
    """Return a signer as JSON."""
    return {
        "thumbprint": record.thumbprint,
        "kid": base64.b64encode(bytes.fromhex(record.kid)).decode("ascii"),
        "role": record.role.value,
        "state": record.state.value,
        "country": read_dsc(record.certificate).country,
        "not_before": _text(record.not_before),
        "not_after": _text(record.not_after),
        "signing_from": _text(record.signing_from),
        "signing_until": _text(record.signing_until),
        "key_store": record.key_store,
        "changed_at": _text(record.changed_at),
        "reason": record.reason,
        "created_at": _text(record.created_at),
        "certificate": base64.b64encode(record.certificate).decode("ascii"),
    }


def record_of_document(document: Mapping[str, Any]) -> SignerRecord:
    """Return the signer of `signer_document`."""
    times = ("not_before", "not_after", "signing_from", "signing_until", "created_at", "changed_at")
    return SignerRecord(
        thumbprint=document["thumbprint"],
        kid=document["thumbprint"][:16],
        role=SignerRole(document["role"]),
        state=SignerState(document["state"]),
        certificate=base64.b64decode(document["certificate"]),
        key_store=document["key_store"],
        reason=document["reason"],
        **{name: datetime.fromisoformat(document[name]) for name in times},
    )


def overview(connection: Connection, *, now: datetime) -> dict[str, Any]:
    """Return every signer and how many living certificates are under it, what ends soon, until when all is well."""
    records = signer_store.list_records(connection)
    living = signer_store.living_certificates(connection, now)
    covered = signing_covered_until(records, now)
    return {
        "version": signer_store.read_version(connection),
        "signers": [signer_document(record) | {"certificates": living.get(record.kid, 0)} for record in records],
        "signing_covered_until": _text(covered) if covered else None,
        "alarms": [
            {
                "thumbprint": alarm.record.thumbprint,
                "ending": alarm.ending.value,
                "at": _text(alarm.at),
                "days": alarm.days,
                "level": alarm.level,
            }
            for alarm in alarms(records, now)
        ],
    }


def stale_document(connection: Connection, name: str, *, now: datetime) -> dict[str, Any]:
    """Return how many certificates go with a signer, by site. Raises NotFoundError."""
    records = signer_store.list_records(connection)
    record = get_record(records, name)
    by_site: Counter[str] = Counter()
    for one in (record, *_under(record, records)):
        by_site.update(signer_store.living_by_site(connection, one.kid, now))
    return {
        "signer": signer_document(record),
        "certificates": sum(by_site.values()),
        "sites": [{"site_id": site_id, "certificates": number} for site_id, number in by_site.items()],
    }


def _under(record: SignerRecord, records: Iterable[SignerRecord]) -> list[SignerRecord]:
    """The document signers that a CSCA certified; nothing is under a DSC."""
    if record.role is not SignerRole.CSCA:
        return []
    return [
        one for one in records if one.role is not SignerRole.CSCA and issued_by(one.certificate, record.certificate)
    ]


def _take_over(
    connection: Connection, records: Iterable[SignerRecord], record: SignerRecord, *, now: datetime, actor: str
) -> SignerRecord:
    signing = find_signing(records, record.role)
    if signing is not None:
        _apply(connection, signing, SignerEvent.END, now=now, actor=actor)
    return _apply(connection, record, SignerEvent.START, now=now, actor=actor)


def _apply(
    connection: Connection, record: SignerRecord, event: SignerEvent, *, now: datetime, actor: str, reason: str = ""
) -> SignerRecord:
    after = next_state(record.state, event)
    return signer_store.move(connection, record, event, after, now=now, actor=actor, reason=reason)


def _check_dsc(dsc: Dsc, records: Iterable[SignerRecord]) -> None:
    authorities = [r for r in records if r.role is SignerRole.CSCA and r.state is SignerState.SIGNING]
    if not any(issued_by(dsc.der, one.certificate) and dsc.not_after <= one.not_after for one in authorities):
        raise _wrong_certificate(
            "Chứng thư không do CSCA đã đăng ký cấp, hoặc hết hạn sau CSCA.",
            "The certificate is not of the registered CSCA, or outlives it.",
        )
    if dsc.not_after - dsc.not_before > DSC_VALIDITY:
        raise _wrong_certificate("Chứng thư DSC có hạn quá hai năm.", "A DSC is valid for two years at most.")
    lost = [read_dsc(r.certificate).public_key for r in records if r.state is SignerState.COMPROMISED]
    if dsc.public_key in lost:
        raise _wrong_certificate(
            "Khóa của chứng thư này đã bị lộ.", "The key of the certificate is that of a compromised signer."
        )
    if not dsc.may_sign(Usage.VACCINATION):
        raise _wrong_certificate(
            "Chứng thư không cho phép ký chứng nhận tiêm chủng.", "The certificate may not sign vaccinations."
        )


def _is_authority(certificate: bytes) -> bool:
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _wrong_certificate(vi: str, en: str) -> InputError:
    return InputError([Problem("/certificate", "certificate_refused", vi, en)])


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
