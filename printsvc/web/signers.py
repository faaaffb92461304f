"""/v1/signers: for admins, who signs and who will. Certificates go in and out: no private key, no bytes to sign.

The gauges of the same are here too, and the warnings of /readyz.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from printsvc.credential.dsc import read_dsc
from printsvc.credential.life import ALIVE, Ending, alarm_level, alarms, signing_covered_until
from printsvc.domain.signer import SignerRecord, SignerRole, SignerState
from printsvc.errors import CredentialError, InputError, PrintsvcError, Problem, SignerError
from printsvc.flows.keys import compromise, get_record, overview, register, signer_document, stale_document, start
from printsvc.flows.services import Services
from printsvc.flows.trust import list_signer_document
from printsvc.store.signers import list_records
from printsvc.web.access import ADMIN, require
from printsvc.web.bodies import read_model
from printsvc.web.keys import SERVICES

_DAY = timedelta(days=1)
_OTHERS = {
    "list": ("list-signer", "trust list", "ký danh sách tin cậy"),
    "seal": ("seal", "seal on digital copies", "đóng dấu số"),
}
"""role → (the command that makes the key, what it is for in English, in Vietnamese)."""
_SIGNS = frozenset({SignerState.PLANNED, SignerState.SIGNING})


class SignerIn(BaseModel):
    """The body of `POST /v1/signers`: a certificate of the registered CSCA (DER in base64), or a CSCA's own.

    `key_store` says where the service finds the private key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    certificate: str = Field(max_length=32_768)
    key_store: str = Field(default="file", pattern="^(file|pkcs11)$")
    signing_from: AwareDatetime | None = None
    signing_until: AwareDatetime | None = None


class CompromiseIn(BaseModel):
    """The body of `POST /v1/signers/{thumbprint}/compromise`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reason: str = Field(min_length=1, max_length=500)


async def list_signers(request: web.Request) -> web.Response:
    """List the signers with their states, what is under each, and what ends soon."""
    await require(request, ADMIN)
    services = request.app[SERVICES]
    now = services.clock()
    told = await services.store.read(lambda c: overview(c, now=now))
    seals = [] if services.seal is None else await asyncio.to_thread(services.seal.documents, now)
    with contextlib.suppress(PrintsvcError):
        await services.trust.get_list_signer(now)
    lists = services.trust.list_signer
    return web.json_response(
        told | {"seals": seals, "list_signer": None if lists is None else list_signer_document(lists.certificate)}
    )


async def post_signer(request: web.Request) -> web.Response:
    """Publish a signer: it is on the trust list at once, and signs when its time comes.

    A second CSCA is refused (409): whose token is stolen could make signers under one of their own.
    """
    caller = await require(request, ADMIN)
    body = await read_model(request, SignerIn)
    services = request.app[SERVICES]
    now = services.clock()
    try:
        certificate = base64.b64decode(body.certificate, validate=True)
        read_dsc(certificate)
    except (binascii.Error, ValueError, CredentialError):
        vi, en = "Không đọc được chứng thư.", "The certificate cannot be read."
        raise InputError([Problem("/certificate", "certificate_unreadable", vi, en)]) from None
    record, new = await services.store.write(
        lambda c: register(
            c,
            certificate,
            key_store=body.key_store,
            signing_from=body.signing_from,
            signing_until=body.signing_until,
            now=now,
            actor=caller.name,
            may_replace_authority=False,
        )
    )
    await services.signers.look(now)
    return web.json_response(signer_document(record), status=201 if new else 200)


async def get_signer_certificates(request: web.Request) -> web.Response:
    """Count, by site, the certificates that stop being valid where this signer ends."""
    await require(request, ADMIN)
    services, name = request.app[SERVICES], request.match_info["thumbprint"]
    return web.json_response(await services.store.read(lambda c: stale_document(c, name, now=services.clock())))


async def start_signer(request: web.Request) -> web.Response:
    """Let a planned signer sign from now on, in place of the one that does."""
    caller = await require(request, ADMIN)
    services, name = request.app[SERVICES], request.match_info["thumbprint"]
    now = services.clock()
    await services.signers.look(now)

    def write(connection: Connection) -> SignerRecord:
        record = get_record(list_records(connection), name)
        if record.state is SignerState.PLANNED and record.thumbprint not in services.signers.held():
            raise SignerError(
                f"The key of the signer {record.kid} cannot be opened here.",
                vi=f"Không mở được khóa ký {record.kid}.",
            )
        return start(connection, record.thumbprint, now=now, actor=caller.name)

    record = await services.store.write(write)
    await services.signers.look(now)
    return web.json_response(signer_document(record))


async def compromise_signer(request: web.Request) -> web.Response:
    """End the trust in a signer for good; the next planned one takes over at once."""
    caller = await require(request, ADMIN)
    body = await read_model(request, CompromiseIn)
    services, name = request.app[SERVICES], request.match_info["thumbprint"]
    now = services.clock()

    def write(connection: Connection) -> dict[str, Any]:
        stale = stale_document(connection, name, now=now)
        lost, signing = compromise(
            connection, name, reason=body.reason, now=now, actor=caller.name, held=services.signers.held()
        )
        return stale | {"signer": signer_document(lost), "signing": signer_document(signing) if signing else None}

    answer = await services.store.write(write)
    await services.signers.look(now)
    return web.json_response(answer)


async def warnings(services: Services, now: datetime) -> list[dict[str, str]]:
    """Return what an admin should see to while all still works: what ends within 60 days, keys that do not open."""
    found = await _other_keys(services, now)
    records = services.signers.records()
    for alarm in alarms(records, now):
        kid, days = alarm.record.kid, max(alarm.days, 0)
        if alarm.ending is Ending.SIGNING:
            en = f"Signing ends in {days} days, and no signer is planned after {kid}: printsvc keys plan."
            vi = f"Còn {days} ngày là hết thời gian ký và chưa có khóa nào sau {kid}: printsvc keys plan."
        else:
            en = f"The signer {kid} ({alarm.record.role}) expires in {days} days, and what it signed with it."
            vi = f"Khóa ký {kid} ({alarm.record.role}) hết hạn sau {days} ngày, cùng các giấy đã ký."
        found.append({"code": f"{alarm.ending}_ends_{alarm.level}", "detail": en, "detail_vi": vi})
    kids = {record.thumbprint: record.kid for record in records}
    for thumbprint, error in services.signers.closed().items():
        kid = kids.get(thumbprint, thumbprint[:16])
        en, vi = f"The key of the signer {kid} cannot be opened here: ", f"Không mở được khóa ký {kid}: "
        found.append({"code": "key_closed", "detail": en + error.en, "detail_vi": vi + error.vi})
    return found


async def _other_keys(services: Services, now: datetime) -> list[dict[str, str]]:
    """Return the warnings of who signs the trust list, and of who seals where copies are sealed."""
    found = []
    if services.trust.is_to_sign:
        try:
            await services.trust.get_list_signer(now)
        except PrintsvcError as error:
            found.append({"code": "list_signer_missing", "detail": error.en, "detail_vi": error.vi})
    if services.seal is not None:
        try:
            await services.seal.get_key(now)
        except PrintsvcError as error:
            found.append({"code": "seal_missing", "detail": error.en, "detail_vi": error.vi})
    for role, certificate in _certificates_of_others(services):
        dsc = read_dsc(certificate)
        level, days = alarm_level(dsc.not_after, now), (dsc.not_after - now) // _DAY
        name, what, vi = _OTHERS[role]
        if level is not None:
            en = f"The key of the {what} ends in {max(days, 0)} days: printsvc keys {name}."
            vi = f"Khóa {vi} hết hạn sau {max(days, 0)} ngày: printsvc keys {name}."
            found.append({"code": f"{name.replace('-', '_')}_ends_{level}", "detail": en, "detail_vi": vi})
    return found


def _certificates_of_others(services: Services) -> list[tuple[str, bytes]]:
    """Return (role, DER) of who signs the trust list and who seals, as far as this process has looked."""
    lists, seal = services.trust.list_signer, services.seal.key if services.seal is not None else None
    found = [("list", lists.certificate)] if lists is not None else []
    return found + ([("seal", seal.signer.certificate)] if seal is not None else [])


class SignerGauges(Collector):
    """The signers as this process last saw them, read when somebody asks. Days may be negative: then it is over."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = self._services.clock()
        records = self._services.signers.records()
        held = self._services.signers.held()
        state = GaugeMetricFamily("printsvc_signer_state", "Signers by state.", labels=["kid", "role", "state"])
        validity = GaugeMetricFamily(
            "printsvc_signer_validity_days", "Days until a signer expires.", labels=["kid", "role"]
        )
        period = GaugeMetricFamily(
            "printsvc_signer_signing_days", "Days until a signer's signing period ends.", labels=["kid"]
        )
        opened = GaugeMetricFamily("printsvc_signer_key_open", "1 where this process can sign with it.", labels=["kid"])
        alarm = GaugeMetricFamily(
            "printsvc_signer_alarm",
            "What ends soon: 60, 30 or 7, the smallest that is reached.",
            labels=["kid", "ending"],
        )
        for record in records:
            state.add_metric([record.kid, record.role, record.state], 1)
            if record.state in ALIVE:
                validity.add_metric([record.kid, record.role], (record.not_after - now) / _DAY)
            if record.role is SignerRole.DSC and record.state in _SIGNS:
                period.add_metric([record.kid], (record.signing_until - now) / _DAY)
                opened.add_metric([record.kid], record.thumbprint in held)
        for role, certificate in _certificates_of_others(self._services):
            dsc = read_dsc(certificate)
            validity.add_metric([dsc.kid.hex(), role], (dsc.not_after - now) / _DAY)
            level = alarm_level(dsc.not_after, now)
            if level is not None:
                alarm.add_metric([dsc.kid.hex(), Ending.VALIDITY], level)
        for one in alarms(records, now):
            alarm.add_metric([one.record.kid, one.ending], one.level)
        yield from (state, validity, period, opened, alarm)
        covered = signing_covered_until(records, now)
        days = (covered - now) / _DAY if covered else 0.0
        yield GaugeMetricFamily("printsvc_signing_covered_days", "Days until nobody would sign.", value=days)
