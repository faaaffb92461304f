"""Day bags: leave for a site to issue without a line, the signer that it gets, and the bag that it takes along."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from printsvc.credential.dsc import Usage, read_dsc
from printsvc.credential.keys import issued_by, make_dsc
from printsvc.credential.life import next_state
from printsvc.domain.signer import SignerEvent, SignerRecord, SignerRole, SignerState
from printsvc.domain.uvcirange import MAX_SIZE, PREFIX_BYTES, SECRET_BYTES, UvciRange
from printsvc.errors import InputError, NotFoundError, Problem, SignerError, StateError
from printsvc.flows.intake import VALUE_SETS
from printsvc.flows.keymaking import Authority
from printsvc.flows.keys import get_record, signer_document
from printsvc.flows.revocation_lists import load_snapshot
from printsvc.flows.services import Services
from printsvc.identity.gate import OFFLINE_POLICY
from printsvc.issuing.bag import (
    MAX_DAYS,
    MAX_VALIDITY,
    REVOCATIONS,
    TRUST,
    VALUES,
    BagForm,
    Manifest,
    pack,
    read_request,
)
from printsvc.store import daybags as bag_store
from printsvc.store import signers as signer_store
from printsvc.store import sites as site_store
from printsvc.store.daybags import Bag, BagState, Entry
from printsvc.store.sites import Agent

SITE_STORE = "site"
"""What the books call the place of a delegate's key: it never leaves the site."""
GRANT_LIFETIME = timedelta(hours=48)
_BACKDATED = timedelta(hours=1)


async def grant(
    services: Services, site_id: str, *, doses: int, days: int, source: str = "platform", actor: str
) -> Bag:
    """Give a site leave to take a bag within 48 hours, for so many doses and days. Raises NotFoundError, InputError."""
    now = services.clock()
    problems = []
    if not 1 <= doses <= MAX_SIZE:
        vi, en = f"Số liều từ 1 đến {MAX_SIZE}.", f"Doses are from 1 to {MAX_SIZE}."
        problems.append(Problem("/doses", "doses_range", vi, en))
    if not 1 <= days <= MAX_DAYS:
        vi, en = f"Số ngày từ 1 đến {MAX_DAYS}.", f"Days are from 1 to {MAX_DAYS}."
        problems.append(Problem("/days", "days_range", vi, en))
    if problems:
        raise InputError(problems)
    given = UvciRange(services.country, services.random_bytes(PREFIX_BYTES), services.random_bytes(SECRET_BYTES), doses)
    bag = Bag(
        bag_id=services.random_bytes(8).hex(),
        site_id=site_id,
        doses=doses,
        days=days,
        source=source[:64],
        state=BagState.GRANTED,
        granted_at=now,
        granted_by=actor[:64],
        grant_expires_at=now + GRANT_LIFETIME,
        range=given,
    )

    def store(connection: Connection) -> None:
        site_store.get_site(connection, site_id)
        bag_store.insert_bag(connection, bag)

    await services.store.write(store)
    return bag


async def take(services: Services, agent: Agent, *, journal_id: str, request: bytes) -> bytes:
    """Return the archive for an agent with leave; the same request gets the same signer and range again.

    Raises InputError for a request that is not the agent's, NotFoundError (no_day_bag) without leave, SignerError
    (day_bag_waits) where the CSCA's key is elsewhere, StateError where the bag was ended.
    """
    kit = services.day_bags
    if kit is None:
        raise _waits("")
    read_request(request, agent.agent_id)
    now = services.clock()
    there = await services.store.read(lambda c: bag_store.find_requested(c, agent.site_id, request))
    authority = None
    if there is None or there.state is BagState.REQUESTED:
        authority = await asyncio.to_thread(kit.authority, now)

    def store(connection: Connection) -> Bag:
        bag = bag_store.find_requested(connection, agent.site_id, request)
        if bag is None:
            bag = _take_leave(connection, agent, journal_id, request, now)
        if (bag.agent_id, bag.journal_id) != (agent.agent_id, journal_id):
            raise NotFoundError("This bag is another agent's.", vi="Gói ngày này của điểm in khác.", code="no_day_bag")
        if bag.state is BagState.REQUESTED and authority is not None:
            bag = certify(connection, bag, authority, now=now, serial=services.random_bytes(15), actor=agent.agent_id)
        return bag

    bag = await services.store.write(store)
    if bag.state is BagState.REQUESTED:
        raise _waits(bag.bag_id)
    if bag.state is not BagState.OUT or bag.expires_at is None or bag.expires_at <= now:
        raise StateError(
            "This day bag is over: ask for a new one.", vi="Gói ngày này đã kết thúc: hãy xin gói mới.", code="bag_over"
        )
    await services.signers.look(now)
    return await _pack(services, bag, now)


def certify(connection: Connection, bag: Bag, authority: Authority, *, now: datetime, serial: bytes, actor: str) -> Bag:
    """Let the CSCA certify the signer of a bag that was requested, publish it, and return the bag as it is now.

    Raises InputError, SigningError.
    """
    return publish(connection, bag, make_delegate(bag, authority, now=now, serial=serial), now=now, actor=actor)


def make_delegate(bag: Bag, authority: Authority, *, now: datetime, serial: bytes) -> bytes:
    """Return the certificate (DER) of the signer of a bag that was requested. Raises InputError, SigningError."""
    if bag.request is None or bag.agent_id is None:
        raise StateError("Nobody has asked for this bag.", vi="Chưa có điểm in nào xin gói này.", code="not_requested")
    begins = now.replace(microsecond=0) - _BACKDATED
    validity = min(timedelta(days=bag.days) + _BACKDATED, timedelta(days=MAX_DAYS))
    return make_dsc(
        read_request(bag.request, bag.agent_id),
        csca=authority.certificate,
        csca_key=authority.key,
        organisation=f"Điểm tiêm {bag.site_id}"[:64],
        common_name=f"DAY BAG {bag.bag_id}",
        serial=int.from_bytes(b"\x01" + serial, "big"),
        now=max(begins, read_dsc(authority.certificate).not_before),
        validity=validity,
        uvci_beginning=bag.range.beginning,
    )


def publish(connection: Connection, bag: Bag, certificate: bytes, *, now: datetime, actor: str) -> Bag:
    """Publish the signer of a bag that was requested, and return the bag as it is now: the agent may take it.

    Raises InputError for a certificate that is not of the registered CSCA, or not for this bag.
    """
    records = signer_store.list_records(connection)
    _check_delegate(bag, certificate, records)
    dsc = read_dsc(certificate)
    record = SignerRecord(
        thumbprint=dsc.thumbprint,
        kid=dsc.kid.hex(),
        role=SignerRole.DELEGATE,
        state=SignerState.SIGNING,
        certificate=certificate,
        not_before=dsc.not_before,
        not_after=dsc.not_after,
        signing_from=dsc.not_before,
        signing_until=dsc.not_after,
        key_store=SITE_STORE,
        created_at=now,
        changed_at=now,
    )
    if not signer_store.insert_record(connection, record, actor=actor):
        raise StateError("This signer is registered already.", vi="Khóa ký này đã được đăng ký.", code="signer_known")
    values: dict[str, Any] = {"thumbprint": dsc.thumbprint, "taken_at": now, "expires_at": dsc.not_after}
    bag_store.update_bag(connection, bag.bag_id, state=BagState.OUT.value, **values)
    return replace(bag, state=BagState.OUT, **values)


def _check_delegate(bag: Bag, certificate: bytes, records: Sequence[SignerRecord]) -> None:
    dsc = read_dsc(certificate)
    authorities = [r.certificate for r in records if r.role is SignerRole.CSCA and r.state is SignerState.SIGNING]
    fits = (
        bag.state is BagState.REQUESTED
        and bag.request is not None
        and dsc.public_key == read_request(bag.request, bag.agent_id or "")
        and dsc.uvci_beginning == bag.range.beginning
        and dsc.not_after - dsc.not_before <= MAX_VALIDITY
        and dsc.usages == frozenset([Usage.VACCINATION])
        and any(issued_by(certificate, authority) for authority in authorities)
    )
    if not fits:
        vi = "Chứng thư không phải của gói ngày này, hoặc không do CSCA đã đăng ký cấp."
        en = "The certificate is not for this bag, or not of the registered CSCA."
        raise InputError([Problem("/certificate", "certificate_refused", vi, en)])


async def end(services: Services, name: str, *, reason: str, actor: str) -> Bag:
    """End a bag: its signer signs no more; what it signed until now is good. Again, it changes nothing.

    For a key in wrong hands see `keys.compromise`. Raises NotFoundError.
    """
    now = services.clock()

    def store(connection: Connection) -> Bag:
        bag = bag_store.get_bag(connection, find_bag(connection, name).bag_id, lock=True)
        if bag.state is BagState.ENDED:
            return bag
        if bag.thumbprint is not None:
            signer_store.lock_signers(connection, to_change=True)
            record = get_record(signer_store.list_records(connection), bag.thumbprint)
            if record.state is SignerState.SIGNING:
                after = next_state(record.state, SignerEvent.END)
                signer_store.move(connection, record, SignerEvent.END, after, now=now, actor=actor, reason=reason)
        values = {"ended_at": now, "end_reason": reason[:500]}
        bag_store.update_bag(connection, bag.bag_id, state=BagState.ENDED.value, **values)
        return bag_store.get_bag(connection, bag.bag_id)

    bag = await services.store.write(store)
    await services.signers.look(now)
    return bag


def find_bag(connection: Connection, name: str) -> Bag:
    """Return the bag with this id, or the one of the delegated signer with this kid or thumbprint. NotFoundError."""
    try:
        return bag_store.get_bag(connection, name)
    except NotFoundError:
        record = get_record(signer_store.list_records(connection), name)
        bag = bag_store.find_bag_of_signer(connection, record.thumbprint)
        if bag is None:
            raise
        return bag


def _take_leave(connection: Connection, agent: Agent, journal_id: str, request: bytes, now: datetime) -> Bag:
    bag = bag_store.lock_granted(connection, agent.site_id, now)
    if bag is None:
        raise NotFoundError(
            f"No day bag was granted to this site: ask the centre (printsvc daybag make {agent.site_id}).",
            vi=f"Trung tâm chưa cấp gói ngày cho điểm tiêm này: hãy đề nghị (printsvc daybag make {agent.site_id}).",
            code="no_day_bag",
        )
    values: dict[str, Any] = {"agent_id": agent.agent_id, "journal_id": journal_id, "request": request}
    bag_store.update_bag(connection, bag.bag_id, state=BagState.REQUESTED.value, **values)
    return replace(bag, state=BagState.REQUESTED, **values)


async def _pack(services: Services, bag: Bag, now: datetime) -> bytes:
    assert services.day_bags is not None
    signer = await services.trust.get_list_signer(now)
    lists = await services.trust.load(services.store, now)
    _, revocations = await load_snapshot(services)
    compiled = await services.day_bags.compiled_form(services.form.form_id)

    def read(connection: Connection) -> tuple[Any, bytes]:
        record = get_record(signer_store.list_records(connection), bag.thumbprint or "")
        return site_store.get_site(connection, bag.site_id), record.certificate

    site, certificate = await services.store.read(read)
    form = BagForm(
        services.form.form_id,
        services.form.media,
        services.form.qr_capacity,
        f"forms/{services.form.form_id.replace('/', '-')}.cbor",
        next((form.qr.module_um for form in services.known_forms if form.form_id == services.form.form_id), 0),
    )
    manifest = Manifest(
        bag_id=bag.bag_id,
        version=int(now.timestamp()),
        site=site,
        agent_id=bag.agent_id or "",
        journal_id=bag.journal_id or "",
        source=bag.source,
        made_at=now.replace(microsecond=0),
        expires_at=read_dsc(certificate).not_after,
        dsc=certificate,
        range=bag.range,
        issuer=services.issuer,
        country=services.country,
        forms=(form,),
        policy=OFFLINE_POLICY,
        parts={},
    )
    parts = {
        VALUES: json.dumps(VALUE_SETS.to_json(), ensure_ascii=False, sort_keys=True).encode(),
        TRUST: json.dumps(lists.everybody.to_json(), sort_keys=True).encode(),
        REVOCATIONS: revocations,
        form.part: compiled,
    }
    return await asyncio.to_thread(pack, manifest, parts, signer)


def _waits(bag_id: str) -> SignerError:
    return SignerError(
        f"The signer of the day bag {bag_id} waits for the CSCA, whose key is not on this service: "
        f"printsvc daybag certify {bag_id}, then take it again.",
        vi=f"Khóa ký của gói ngày {bag_id} chờ CSCA ký: printsvc daybag certify {bag_id}, rồi lấy lại.",
        retry_after_s=60,
    )


# --- documents: what routes answer and commands print


def bag_document(bag: Bag) -> dict[str, Any]:
    """Return a bag as JSON, without the secret of its range."""
    return {
        "bag_id": bag.bag_id,
        "site_id": bag.site_id,
        "state": bag.state.value,
        "doses": bag.doses,
        "days": bag.days,
        "source": bag.source,
        "granted_at": _text(bag.granted_at),
        "granted_by": bag.granted_by,
        "grant_expires_at": _text(bag.grant_expires_at),
        "agent_id": bag.agent_id,
        "request": base64.b64encode(bag.request).decode("ascii") if bag.request else None,
        "kid": bag.thumbprint[:16] if bag.thumbprint else None,
        "range": bag.range.beginning,
        "taken_at": _text(bag.taken_at),
        "expires_at": _text(bag.expires_at),
        "ended_at": _text(bag.ended_at),
        "end_reason": bag.end_reason,
        "brought": bag.last_seq,
    }


def bag_of_document(document: Mapping[str, Any]) -> Bag:
    """Return the bag of `bag_document`, as far as its signer's certificate needs it: the secret of its range is not."""
    granted_at = datetime.fromisoformat(document["granted_at"])
    country, _, prefix = document["range"].removeprefix("URN:UVCI:01:").partition(":")
    return Bag(
        bag_id=document["bag_id"],
        site_id=document["site_id"],
        doses=document["doses"],
        days=document["days"],
        source=document["source"],
        state=BagState(document["state"]),
        granted_at=granted_at,
        granted_by=document["granted_by"],
        grant_expires_at=datetime.fromisoformat(document["grant_expires_at"]),
        range=UvciRange(country, bytes.fromhex(prefix), bytes(SECRET_BYTES), document["doses"]),
        agent_id=document["agent_id"],
        request=base64.b64decode(document["request"]) if document["request"] else None,
    )


def entry_document(entry: Entry) -> dict[str, Any]:
    """Return what became of one entry as JSON: nothing of the person."""
    return {
        "bag_id": entry.bag_id,
        "seq": entry.seq,
        "site_id": entry.site_id,
        "dose_id": entry.dose_id,
        "uvci": entry.uvci,
        "outcome": entry.outcome.value,
        "reason": entry.reason,
        "detail": entry.detail,
        "brought_at": _text(entry.brought_at),
        "identity": entry.identity.value,
        "settlement": entry.settlement,
        "settled_at": _text(entry.settled_at),
        "settled_by": entry.settled_by,
    }


def certificates_document(connection: Connection, name: str) -> dict[str, Any]:
    """Return every UVCI of a bag (by its id, or its signer's kid), one by one, with what is known of each.

    `state` is stored, held, conflict, or not_brought: then nobody here knows whether it was used.
    """
    bag = find_bag(connection, name)
    entries = bag_store.list_entries(connection, bag.bag_id)
    by_uvci = {entry.uvci: entry for entry in entries if entry.uvci}
    known = []
    for number in range(bag.range.size):
        uvci = bag.range.uvci(number)
        entry = by_uvci.pop(uvci, None)
        known.append(
            {
                "number": number,
                "uvci": uvci,
                "state": entry.outcome.value if entry else "not_brought",
                "dose_id": entry.dose_id if entry else None,
                "reason": entry.reason if entry else "",
            }
        )
    outside = [entry_document(entry) for entry in by_uvci.values()]
    signer = None
    if bag.thumbprint is not None:
        signer = signer_document(get_record(signer_store.list_records(connection), bag.thumbprint))
    return {"bag": bag_document(bag), "signer": signer, "certificates": known, "outside_range": outside}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
