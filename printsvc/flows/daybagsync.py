"""What a site brings home: each dose is stored once, in order; what does not fit goes to a list for a person."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import Connection

from printsvc.credential.hcert import decode_hcert
from printsvc.domain.certificate import Certificate
from printsvc.domain.eventdocument import differing_fields
from printsvc.domain.form import FormChoice, FormId
from printsvc.domain.print_job import CopyReason, Happening, JobEvent, PrintJob
from printsvc.domain.revocation import RevocationReason
from printsvc.domain.signer import SignerState
from printsvc.domain.site import SiteId
from printsvc.domain.uvci import Uvci
from printsvc.errors import AccessError, DoseError, NotHcertError, StateError
from printsvc.flows import leases
from printsvc.flows.intake import VALUE_SETS, parse_event
from printsvc.flows.issue import make_job
from printsvc.flows.keys import get_record
from printsvc.flows.revoke import new_revocation
from printsvc.flows.services import Services
from printsvc.identity.gate import IDENTITY_LATER, OFFLINE_POLICY
from printsvc.issuing.offline import Brought, Doubtful, Rules, check_brought, uvci_of
from printsvc.issuing.page import same_dose
from printsvc.store import daybags as bag_store
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store import revocations as revocation_store
from printsvc.store import signers as signer_store
from printsvc.store.daybags import Bag, Entry, EntryOutcome, LaterIdentity
from printsvc.store.doses import HELD, ISSUED, REFUSED, NewDose
from printsvc.store.sites import Agent

_LOG = structlog.get_logger("printsvc.daybags")
_MISUSE = frozenset({"outside_range", "bad_signature", "outside_time", "claims_differ"})
"""What an honest site cannot bring: somebody should look at the key."""


class Settlement(StrEnum):
    """What a person decides about a conflict."""

    ACCEPT = "accept"  # it counts after all: stored as if nothing had been wrong
    REVOKE = "revoke"  # the code on the paper is revoked
    DISMISS = "dismiss"  # nothing to do: the code was never good, or was settled elsewhere


MAY_ACCEPT = frozenset({"person_has_dose", "signer_ended"})
_CANNOT_REVOKE = frozenset({"unreadable", "bad_signature"})


@dataclass(frozen=True, slots=True)
class BroughtEntry:
    """One line of a site's book. `hcert` is empty for a held dose; `paper` is "site" where the site prints it.

    With `copy_number` above 1 it is a further paper of the certificate `uvci`.
    """

    seq: int
    event: Any
    hcert: str
    entered_at: datetime
    paper: str = "site"
    form: str = ""
    media: str = ""
    uvci: str = ""
    copy_number: int = 1
    copy_reason: CopyReason = CopyReason.ISSUED
    told_before: bool = False  # its paper was reported on before we knew the job: that word is lost


@dataclass(frozen=True, slots=True)
class Told:
    """What became of an entry: stored, held or conflict (then why)."""

    seq: int
    outcome: str
    reason: str = ""
    detail: str = ""


def offline_job_id(uvci: str, copy_number: int = 1) -> str:
    """Return the id of the print job that a site made for a paper; both sides make the same."""
    name = uvci if copy_number == 1 else f"{uvci} {copy_number}"
    return "o" + hashlib.sha256(name.encode()).hexdigest()[:19]


async def bring(
    services: Services, agent: Agent, *, journal_id: str, bag_id: str, entries: Sequence[BroughtEntry]
) -> tuple[int, list[Told]]:
    """Store entries of a bag in order, each once; return (acknowledged, what became of each).

    All of one call is one transaction: when this returns, it is on disk. A gap stops the work there. Raises
    NotFoundError, AccessError for a bag of another journal: that of this machine stays when it is enrolled anew.
    """
    now = services.clock()
    bag, certificate = await services.store.read(lambda c: _own_bag(c, agent, journal_id, bag_id))
    rules = _rules(services, bag, certificate)
    checked = await asyncio.to_thread(_check_all, entries, rules, now)
    wake = False

    def store(connection: Connection) -> tuple[int, list[Told]]:
        nonlocal wake
        signer_store.lock_signers(connection, to_change=False)
        current = bag_store.get_bag(connection, bag_id, lock=True)
        record = get_record(signer_store.list_records(connection), current.thumbprint or "")
        told: list[Told] = []
        last = current.last_seq
        for entry, found in sorted(checked, key=lambda pair: pair[0].seq):
            if entry.seq <= last:
                there = bag_store.get_entry(connection, bag_id, entry.seq)
                told.append(Told(entry.seq, there.outcome.value, there.reason, there.detail))
                continue
            if entry.seq != last + 1:
                break
            last = entry.seq
            told.append(_store_one(connection, services, agent, current, record.state, entry, found, now))
            wake = wake or entry.paper != "site"
        bag_store.update_bag(connection, bag_id, last_seq=last)
        return last, told

    acknowledged, told = await services.store.write(store)
    for one in told:
        if one.reason in _MISUSE:
            _LOG.error("day bag: what no honest site brings", bag_id=bag_id, seq=one.seq, reason=one.reason)
    if wake:
        services.wakeups.notify(bag.site_id)
    return acknowledged, told


def _own_bag(connection: Connection, agent: Agent, journal_id: str, bag_id: str) -> tuple[Bag, bytes]:
    bag = bag_store.get_bag(connection, bag_id)
    if (bag.site_id, bag.journal_id) != (agent.site_id, journal_id):
        raise AccessError(403, "This day bag is another agent's.", vi="Gói ngày này của điểm in khác.")
    record = get_record(signer_store.list_records(connection), bag.thumbprint or "")
    return bag, record.certificate


def _rules(services: Services, bag: Bag, certificate: bytes) -> Rules:
    assert bag.expires_at is not None
    return Rules(
        SiteId(bag.site_id),
        certificate,
        bag.range,
        services.issuer,
        services.country,
        bag.expires_at,
        OFFLINE_POLICY,
        VALUE_SETS,
    )


def _check_all(
    entries: Sequence[BroughtEntry], rules: Rules, now: datetime
) -> list[tuple[BroughtEntry, Brought | Doubtful]]:
    return [(one, check_brought(one.event, one.hcert, one.entered_at, rules, now=now)) for one in entries]


def _store_one(
    connection: Connection,
    services: Services,
    agent: Agent,
    bag: Bag,
    state: SignerState,
    entry: BroughtEntry,
    found: Brought | Doubtful,
    now: datetime,
) -> Told:
    if entry.copy_number > 1:
        return _store_copy(connection, services, agent, bag, entry, now)
    doubt = found if isinstance(found, Doubtful) else _doubt(connection, bag, state, found)
    if doubt is None:
        assert isinstance(found, Brought)
        _insert(connection, services, agent, bag, entry, found, now, was_in_doubt=entry.told_before)
    dose_id = found.event.dose_id if isinstance(found, Brought) else _dose_id(entry.event)
    if doubt is not None:
        outcome = EntryOutcome.CONFLICT
    else:
        outcome = EntryOutcome.STORED if isinstance(found, Brought) and found.certificate else EntryOutcome.HELD
    later = doubt is None and isinstance(found, Brought) and found.mark == IDENTITY_LATER
    written = Entry(
        bag.bag_id,
        entry.seq,
        bag.site_id,
        dose_id,
        uvci_of(entry.hcert) if entry.hcert else "",
        outcome,
        doubt.code if doubt else "",
        doubt.en if doubt else "",
        now,
        body=_body(entry) if doubt else None,
        identity=LaterIdentity.WAITING if later else LaterIdentity.NONE,
    )
    bag_store.insert_entry(connection, written)
    return Told(entry.seq, outcome.value, written.reason, written.detail)


def _store_copy(
    connection: Connection, services: Services, agent: Agent, bag: Bag, entry: BroughtEntry, now: datetime
) -> Told:
    """Store a further paper that the site printed of one of its certificates: paper is a fact."""
    before = job_store.jobs_of(connection, [entry.uvci]) if bag.range.find(entry.uvci) is not None else []
    dose_id = _dose_id(entry.event)
    written = Entry(
        bag.bag_id, entry.seq, bag.site_id, dose_id, "", EntryOutcome.STORED, "copy", entry.copy_reason.value, now
    )
    if not before or any(job.copy_number == entry.copy_number for job in before):
        doubt = "The certificate of this copy is not stored, or the number is taken."
        written = replace(
            written, outcome=EntryOutcome.CONFLICT, reason="copy_unknown", detail=doubt, body=_body(entry)
        )
    else:
        job = make_job(
            Uvci(entry.uvci),
            SiteId(bag.site_id),
            form=FormChoice(FormId(before[0].form), before[0].media, 0),
            job_id=offline_job_id(entry.uvci, entry.copy_number),
            now=now,
            copy_number=entry.copy_number,
            reason=entry.copy_reason,
            asked_by=f"site:{bag.site_id}"[:64],
        )
        job_store.insert_jobs(connection, [job])
        job = _lease_to_site(connection, services, agent, bag, entry, job, now)
        if entry.told_before:
            _doubt_paper(connection, job, now)
    bag_store.insert_entry(connection, written)
    return Told(entry.seq, written.outcome.value, written.reason, written.detail)


def _doubt(connection: Connection, bag: Bag, state: SignerState, found: Brought) -> Doubtful | None:
    """Why what is right in itself cannot be stored; None where it can."""
    certificate = found.certificate
    if state is SignerState.COMPROMISED:
        return _doubtful("signer_compromised", "Khóa ủy quyền đã bị lộ.", "Its signer is compromised.")
    if certificate is not None and bag.ended_at is not None and certificate.issued_at >= bag.ended_at:
        return _doubtful(
            "signer_ended", "Ký sau khi trung tâm kết thúc gói ngày.", "It was signed after the centre ended the bag."
        )
    there = dose_store.find_doses(connection, bag.source, [found.event.dose_id]).get(found.event.dose_id)
    if there is not None:
        fields = differing_fields(there.event, found.event)
        if fields:
            told = ", ".join(fields)
            return _doubtful(
                "dose_differs", f"Mã mũi tiêm đã có với giá trị khác ở: {told}.", f"It is recorded otherwise: {told}."
            )
        return _doubtful("dose_recorded", "Mũi tiêm này đã được ghi.", "This dose is recorded already.")
    if certificate is not None and bag_store.taken_uvcis(connection, [certificate.uvci]):
        return _doubtful("uvci_used", "Mã UVCI này đã được dùng.", "This UVCI was used already.")
    if certificate is not None and _has_dose(connection, found):
        return _doubtful(
            "person_has_dose",
            "Người này đã có chứng nhận cho mũi tiêm này.",
            "The person has a certificate of this dose already.",
        )
    return None


def _has_dose(connection: Connection, found: Brought) -> bool:
    key = dose_store.person_key(found.event.person)
    wanted = same_dose(_Seen(0, found.event, None))[:2]
    return key is not None and any(same_dose(one)[:2] == wanted for one in dose_store.doses_of_person(connection, key))


@dataclass(frozen=True, slots=True)
class _Seen:
    dose_pk: int
    event: Any
    certificate: Certificate | None


def _doubtful(code: str, vi: str, en: str) -> Doubtful:
    return Doubtful(code, vi, en)


def _insert(
    connection: Connection,
    services: Services,
    agent: Agent,
    bag: Bag,
    entry: BroughtEntry,
    found: Brought,
    now: datetime,
    *,
    was_in_doubt: bool = False,
) -> None:
    """Store dose, certificate and print job of what was found right."""
    certificate = found.certificate
    outcome = ISSUED if certificate else HELD
    new = NewDose(bag.source, found.event, outcome, found.reasons, found.mark, now)
    pk = dose_store.insert_doses(connection, [new])[found.event.dose_id]
    if certificate is None:
        return
    dose_store.insert_certificates(connection, [(pk, certificate)])
    own = services.form.form_id == entry.form
    form = services.form if own or not entry.form else FormChoice(FormId(entry.form[:64]), entry.media[:64], 0)
    job = make_job(
        certificate.uvci,
        found.event.site_id,
        form=form,
        job_id=offline_job_id(certificate.uvci),
        now=now,
        asked_by=bag.source,
        injected_at=found.event.dose.injected_at,
        clock=services.paper_clock,
    )
    job_store.insert_jobs(connection, [job])
    if entry.paper != "site":
        return
    job = _lease_to_site(connection, services, agent, bag, entry, job, now)
    if was_in_doubt:
        _doubt_paper(connection, job, now)


def _doubt_paper(connection: Connection, job: PrintJob, now: datetime) -> None:
    """The site's own word of the paper came before the job was stored, and was of a job that nobody knew."""
    for event in (JobEvent.SUBMIT, JobEvent.DOUBT):
        happening = Happening(event, now, "service", fencing_token=1, reason="was-a-conflict")
        job = leases.apply_event(connection, job, happening, now=now)


def _lease_to_site(
    connection: Connection,
    services: Services,
    agent: Agent,
    bag: Bag,
    entry: BroughtEntry,
    job: PrintJob,
    now: datetime,
) -> PrintJob:
    """Write down that the site's journal has the job; its reports follow."""
    holder = {"holder_agent": agent.agent_id, "holder_journal": bag.journal_id, "fencing_token": 1}
    deadline = now + timedelta(seconds=services.lease_s)
    happening = Happening(JobEvent.LEASE, entry.entered_at, agent.agent_id, fencing_token=1, reason="without-a-line")
    return leases.apply_event(connection, job, happening, now=now, deadline=deadline, **holder)


def _body(entry: BroughtEntry) -> dict[str, Any]:
    return {
        "event": entry.event,
        "hcert": entry.hcert,
        "entered_at": entry.entered_at.isoformat(),
        "paper": entry.paper,
        "form": entry.form,
        "media": entry.media,
    }


def _dose_id(event: Any) -> str:
    found = event.get("dose_id") if isinstance(event, Mapping) else None
    return found[:128].replace("\0", "") if isinstance(found, str) else ""


async def settle_conflict(services: Services, bag_id: str, seq: int, decision: Settlement, *, actor: str) -> Entry:
    """Decide a conflict; again with the same decision, it changes nothing.

    `accept` stores the dose after all (only for a person who has the dose, or a signer that had ended); `revoke` puts
    its code on the revocation list. Raises NotFoundError, StateError where that cannot be, or was decided otherwise.
    """
    now = services.clock()

    def store(connection: Connection) -> Entry:
        entry = bag_store.get_entry(connection, bag_id, seq, lock=True)
        if entry.outcome is not EntryOutcome.CONFLICT or (entry.settled_at and entry.settlement != decision):
            raise StateError(
                "This entry is not an open conflict.", vi="Mục này không phải xung đột đang mở.", code="not_open"
            )
        if entry.settled_at is not None:
            return entry
        bag = bag_store.get_bag(connection, bag_id)
        brought = _brought_of(entry)
        match decision:
            case Settlement.ACCEPT:
                _accept(connection, services, bag, entry, brought, now)
            case Settlement.REVOKE:
                _revoke(connection, bag, entry, brought, actor, now)
            case Settlement.DISMISS:
                pass
        bag_store.settle_entry(connection, entry, settlement=decision.value, actor=actor[:64], now=now)
        return bag_store.get_entry(connection, bag_id, seq)

    return await services.store.write(store)


def _brought_of(entry: Entry) -> BroughtEntry:
    body = entry.body or {}
    return BroughtEntry(
        entry.seq,
        body.get("event"),
        body.get("hcert", ""),
        datetime.fromisoformat(body["entered_at"]),
        body.get("paper", "site"),
        body.get("form", ""),
        body.get("media", ""),
    )


def _accept(
    connection: Connection, services: Services, bag: Bag, entry: Entry, brought: BroughtEntry, now: datetime
) -> None:
    if entry.reason not in MAY_ACCEPT:
        raise StateError(
            f"A conflict of the kind {entry.reason} cannot be accepted: revoke its code, and let the dose be recorded.",
            vi="Không thể chấp nhận xung đột này: hãy thu hồi mã, rồi ghi lại mũi tiêm.",
            code="cannot_accept",
        )
    record = get_record(signer_store.list_records(connection), bag.thumbprint or "")
    if record.state is SignerState.COMPROMISED:
        raise StateError("Its signer is compromised.", vi="Khóa ủy quyền đã bị lộ.", code="signer_compromised")
    rules = _rules(services, bag, record.certificate)
    found = check_brought(brought.event, brought.hcert, brought.entered_at, rules, now=now)
    if isinstance(found, Doubtful):
        raise StateError(found.en, vi=found.vi, code=found.code)
    if dose_store.find_doses(connection, bag.source, [found.event.dose_id]):
        raise StateError("This dose is recorded by now.", vi="Mũi tiêm này nay đã được ghi.", code="dose_recorded")
    agent = Agent(bag.agent_id or "", bag.site_id, bag.journal_id or "", 0)
    _insert(connection, services, agent, bag, brought, found, now, was_in_doubt=True)


def _revoke(connection: Connection, bag: Bag, entry: Entry, brought: BroughtEntry, actor: str, now: datetime) -> None:
    """Keep the certificate under a source of its own, where it never counts, and revoke it."""
    cannot = StateError(
        "There is no code of this signer to revoke: dismiss the conflict, or end the signer.",
        vi="Không có mã nào của khóa này để thu hồi: hãy bỏ qua xung đột, hoặc kết thúc khóa ký.",
        code="cannot_revoke",
    )
    if entry.reason in _CANNOT_REVOKE or not brought.hcert or not entry.uvci:
        raise cannot
    try:
        decoded = decode_hcert(brought.hcert)
        event = parse_event(brought.event, now=brought.entered_at)
    except (NotHcertError, DoseError):
        raise cannot from None
    if not decoded.issued_at or not decoded.expires_at or bag_store.taken_uvcis(connection, [entry.uvci]):
        raise cannot
    source = f"day-bag:{bag.bag_id}"
    new = NewDose(source, event, REFUSED, (), entry.reason[:32], now)
    pk = dose_store.insert_doses(connection, [new]).get(event.dose_id)
    if pk is None:  # the same dose twice in one bag
        raise cannot
    kid = (decoded.kid or b"").hex()
    certificate = Certificate(
        Uvci(entry.uvci), event.dose_id, 1, brought.hcert, kid, decoded.issued_at, decoded.expires_at
    )
    dose_store.insert_certificates(connection, [(pk, certificate)])
    revocation_store.lock_revocations(connection)
    found = revocation_store.find_revocable(connection, [entry.uvci])[entry.uvci]
    revocation = new_revocation(found, RevocationReason.DATA_ERROR, f"day-bag:{bag.bag_id}:{entry.seq}")
    revocation_store.insert_revocations(connection, [revocation], revoked_by=actor[:64], now=now)
