"""The registry's word on somebody whose certificate a site without a line issued unchecked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from printsvc.credential.keys import Signer
from printsvc.domain.certificate import Certificate
from printsvc.domain.dose import Identity, IdentityStatus
from printsvc.domain.eventdocument import identity_to_document
from printsvc.domain.revocation import RevocationReason
from printsvc.flows.issue import make_certificate
from printsvc.flows.revoke import revoke
from printsvc.flows.services import Services
from printsvc.flows.signers import store_signed
from printsvc.identity.gate import IDENTITY_LATER, Hold, Issue, decide
from printsvc.issuing.offline import reasons_of
from printsvc.store import daybags as bag_store
from printsvc.store import doses as dose_store
from printsvc.store import reissues as reissue_store
from printsvc.store.daybags import LaterIdentity
from printsvc.store.doses import HELD, ISSUED, StoredDose

CONFIRMED = "identity-confirmed"
REGISTRY = "registry"


def is_waiting(dose: StoredDose) -> bool:
    """Return whether the registry is still to be asked about this dose."""
    return dose.outcome == ISSUED and dose.mark == IDENTITY_LATER and dose.certificate is not None


async def confirm(services: Services, dose: StoredDose, identity: Identity) -> StoredDose:
    """Take the registry's word on a dose that waits for it; return the dose as it is now.

    Confirmed: a certificate of the centre's own signer, for the whole 12 months, is put in place of the site's, which
    ends with its signer. Not confirmed: the certificate is revoked and the dose stands on the site's worklist. "Not
    checked" changes nothing. Raises StoreError, SignerError.
    """
    if identity.status is IdentityStatus.UNCHECKED:
        return dose
    match decide(dose.event.person, identity):
        case Issue(mark):
            return await _renew(services, dose, identity, mark or CONFIRMED)
        case Hold() as hold:
            return await _refuse(services, dose, identity, reasons_of(hold))


async def _renew(services: Services, dose: StoredDose, identity: Identity, mark: str) -> StoredDose:
    old = dose.certificate
    assert old is not None
    now = services.clock()

    async def prepare(signer: Signer) -> Certificate:
        return make_certificate(
            dose.event,
            signer=signer,
            form=services.form,
            issuer=services.issuer,
            country=services.country,
            opaque=services.random_bytes(16),
            now=now,
            version=old.version + 1,
        )

    def store(connection: Connection, new: Certificate) -> StoredDose | None:
        settled = _settle(connection, dose, identity, ISSUED, (), mark, LaterIdentity.CONFIRMED, now)
        if not settled:
            return None
        dose_store.insert_certificates(connection, [(dose.dose_pk, new)])
        reissue_store.supersede(connection, {old.uvci: new.uvci}, now=now)
        return replace(dose, identity=identity, mark=mark, certificate=new)

    return await store_signed(services, now, prepare, store) or dose


async def _refuse(
    services: Services, dose: StoredDose, identity: Identity, reasons: Sequence[dict[str, str]]
) -> StoredDose:
    assert dose.certificate is not None
    uvci, now = dose.certificate.uvci, services.clock()
    # Revoked first: after a kill in between the registry's word comes again, and finds it revoked.
    await revoke(
        services, uvci, RevocationReason.IDENTITY_MISMATCH, actor=REGISTRY, request_id=f"identity:{dose.dose_pk}"
    )

    def store(connection: Connection) -> bool:
        return _settle(connection, dose, identity, HELD, reasons, "", LaterIdentity.MISMATCHED, now)

    await services.store.write(store)
    return replace(dose, identity=identity, outcome=HELD, reasons=tuple(reasons), mark="")


def _settle(
    connection: Connection,
    dose: StoredDose,
    identity: Identity,
    outcome: str,
    reasons: Sequence[dict[str, Any]],
    mark: str,
    later: LaterIdentity,
    now: Any,
) -> bool:
    assert dose.certificate is not None
    changed = bag_store.confirm_dose(
        connection,
        dose.dose_pk,
        outcome=outcome,
        identity=identity_to_document(identity),
        reasons=list(reasons),
        mark=mark,
        before=IDENTITY_LATER,
        now=now,
    )
    if changed:
        bag_store.set_identity(connection, dose.certificate.uvci, later)
    return changed
