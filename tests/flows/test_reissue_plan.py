"""What becomes of a certificate and its papers when it is issued again: the rules, without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from printsvc.domain.print_job import CopyReason, JobState, PrintJob
from printsvc.domain.revocation import RevocationReason
from printsvc.domain.site import SiteId
from printsvc.domain.uvci import Uvci
from printsvc.flows.reissue_plan import Fate, decide, plan_paper
from printsvc.store.reissues import ItemOutcome, Standing

NOW = datetime(2021, 10, 30, tzinfo=UTC)
S, R = JobState, CopyReason


def job(state: JobState, number: int = 1, reason: CopyReason = R.ISSUED, holder: str | None = None) -> PrintJob:
    return PrintJob(
        f"{number}{state}", Uvci("U"), number, reason, "a", SiteId("HN-1"), "f", "m", 50, state, "", NOW, NOW, holder
    )


@pytest.mark.parametrize(
    ("changes", "revokes_old", "fate"),
    [
        ({}, False, Fate(ItemOutcome.ISSUED)),
        ({}, True, Fate(ItemOutcome.ISSUED, RevocationReason.RENEWED)),
        ({"kid": "bad"}, False, Fate(ItemOutcome.ISSUED, RevocationReason.SIGNER_COMPROMISED)),
        ({"kid": "bad"}, True, Fate(ItemOutcome.ISSUED, RevocationReason.SIGNER_COMPROMISED)),
        ({"kid": "bad", "revoked_for": "signer_compromised"}, True, Fate(ItemOutcome.ISSUED)),
        ({"revoked_for": "fraud"}, True, Fate(ItemOutcome.REVOKED)),
        ({"kid": "bad", "revoked_for": "corrected"}, False, Fate(ItemOutcome.REVOKED)),
        ({"is_superseded": True}, True, Fate(ItemOutcome.ALREADY)),
        ({"newest": 2}, False, Fate(ItemOutcome.ALREADY)),
        ({"newest": 2, "revoked_for": "corrected"}, False, Fate(ItemOutcome.ALREADY)),
    ],
)
def test_what_becomes_of_a_certificate(changes: dict[str, Any], revokes_old: bool, fate: Fate) -> None:
    values = {"dose_pk": 1, "version": 1, "newest": 1, "kid": "good", "is_superseded": False, "revoked_for": None}
    assert decide(Standing(**(values | changes)), compromised={"bad"}, revokes_old=revokes_old) == fate


@pytest.mark.parametrize(
    ("jobs", "is_dead", "is_printed", "canceled", "copy"),
    [
        # Nothing came out and nobody has it: the same paper, of the new certificate.
        ([job(S.WAITING)], False, False, 1, (1, R.ISSUED)),
        ([job(S.WAITING)], True, True, 1, (1, R.ISSUED)),
        ([job(S.FAILED)], False, False, 1, (1, R.ISSUED)),
        # A paper is there: another one where papers were asked for, and never a second number 1.
        ([job(S.PRINTED)], False, False, 0, None),
        ([job(S.CONFIRMED)], True, False, 0, None),
        ([job(S.PRINTED)], True, True, 0, (2, R.RENEWED)),
        ([job(S.PRINTED), job(S.WAITING, 2, R.LOST)], False, False, 1, (3, R.RENEWED)),
        # Under way: let it come where the old one counts, owed anew where it does not.
        ([job(S.LEASED, holder="a")], False, False, 0, None),
        ([job(S.LEASED, holder="a")], True, False, 0, (2, R.RENEWED)),
        ([job(S.WAITING, holder="a")], False, False, 0, None),
        ([job(S.SENT, holder="a")], True, False, 0, (2, R.RENEWED)),
        ([job(S.UNCERTAIN, holder="a")], False, True, 0, (2, R.RENEWED)),
        ([job(S.CANCELED)], False, False, 0, None),
        ([job(S.CANCELED)], False, True, 0, (2, R.RENEWED)),
        ([], False, False, 0, None),
    ],
)
def test_what_becomes_of_papers(
    jobs: list[PrintJob], is_dead: bool, is_printed: bool, canceled: int, copy: tuple[int, CopyReason] | None
) -> None:
    plan = plan_paper(jobs, jobs, is_dead=is_dead, is_printed=is_printed)
    assert (len(plan.cancel), plan.copy) == (canceled, copy)


def test_numbers_go_on_over_all_certificates_of_a_dose() -> None:
    ever = [job(S.PRINTED), job(S.PRINTED, 2, R.RENEWED)]
    plan = plan_paper([], ever, is_dead=False, is_printed=True)
    assert plan.copy == (3, R.RENEWED), "issued again digitally before: it has no paper of its own"
