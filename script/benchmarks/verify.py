"""verify: one code after another against a trust list, ES256, in one process."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.measure import Plan, percentile
from benchmarks.people import dose_events
from printsvc.credential.batch import verify_request
from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.credential.trust import make_trust_list
from printsvc.domain.form import FormId
from printsvc.flows.bulk import opaque_of
from printsvc.flows.intake import parse_event
from printsvc.flows.issue import make_certificate
from printsvc.flows.services import FormChoice

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
CODES = 1_000
SIGNERS = 150
"""About as many as a year of the European trust list had."""
SECONDS = 10.0


def run(plan: Plan) -> dict[str, Any]:
    """Return the figures; docs/bench.md says what each means."""
    csca_key = make_private_key()
    csca = make_csca(csca_key, country="VN", organisation="BENCH", common_name="BENCH CSCA", serial=1, now=NOW)
    signers = []
    for number in range(SIGNERS):
        key = make_private_key()
        dsc = make_dsc(
            key.public_key(),
            csca=csca,
            csca_key=csca_key,
            organisation="BENCH",
            common_name=f"BENCH {number}",
            serial=number + 2,
            now=NOW,
        )
        signers.append(LocalSigner(dsc, key))
    trust = make_trust_list([signer.certificate for signer in signers], version=1, made_at=NOW)
    form = FormChoice(FormId("a4/43-2022"), "", 4296)
    codes = []
    for number, document in enumerate(itertools.islice(dose_events(plan.seed, now=NOW), CODES)):
        event = parse_event(document, now=NOW)
        opaque = opaque_of(bytes(32), event.dose_id)
        signer = signers[number % SIGNERS]
        certificate = make_certificate(
            event, signer=signer, form=form, issuer="Bộ Y tế", country="VN", opaque=opaque, now=NOW
        )
        codes.append(certificate.hcert)
    for code in codes[:SIGNERS]:
        if verify_request({"id": 0, "code": code}, trust=trust, now=NOW)["verdict"] != "valid":
            raise AssertionError("a code that was just signed must be valid")
    times: list[float] = []
    begun = before = time.perf_counter()
    end = begun + (plan.seconds or SECONDS if plan.count is None else 1e9)
    while before < end and (plan.count is None or len(times) < plan.count):
        verify_request({"id": 0, "code": codes[len(times) % CODES]}, trust=trust, now=NOW)
        now = time.perf_counter()
        times.append(1000 * (now - before))
        before = now
    return {
        "per_s_1": round(len(times) / (before - begun), 1),
        "ms_p50": round(percentile(times, 50), 3),
        "ms_p99": round(percentile(times, 99), 3),
        "codes": len(times),
        "signers": SIGNERS,
    }
