"""What becomes of one certificate that is to be issued again, and of its papers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from printsvc.domain.print_job import ON_PAPER, CopyReason, JobState, PrintJob
from printsvc.domain.revocation import RevocationReason
from printsvc.store.reissues import ItemOutcome, Standing


@dataclass(frozen=True, slots=True)
class Fate:
    """What to do with the old certificate. `revoke_for` None: it stays as it is, valid or revoked before."""

    outcome: ItemOutcome
    revoke_for: RevocationReason | None = None


@dataclass(frozen=True, slots=True)
class PaperPlan:
    """`cancel` are jobs of the old certificate that nobody wants any more; `copy` is the paper to make, if any."""

    cancel: tuple[PrintJob, ...] = ()
    copy: tuple[int, CopyReason] | None = None
    template: PrintJob | None = None


def decide(standing: Standing, *, compromised: Collection[str], revokes_old: bool) -> Fate:
    """Return what becomes of a certificate: it may have changed since the run began.

    Under a compromised signer the old one is revoked for that. Else it counts until its own end: the paper in
    somebody's pocket must not fail because a better code exists; `revokes_old` is for who wants it otherwise.
    """
    if standing.is_superseded or standing.version < standing.newest:
        return Fate(ItemOutcome.ALREADY)
    if standing.revoked_for is not None:
        for_its_signer = standing.revoked_for == RevocationReason.SIGNER_COMPROMISED
        return Fate(ItemOutcome.ISSUED if for_its_signer else ItemOutcome.REVOKED)
    if standing.kid in compromised:
        return Fate(ItemOutcome.ISSUED, RevocationReason.SIGNER_COMPROMISED)
    return Fate(ItemOutcome.ISSUED, RevocationReason.RENEWED if revokes_old else None)


def plan_paper(old: Sequence[PrintJob], ever: Sequence[PrintJob], *, is_dead: bool, is_printed: bool) -> PaperPlan:
    """Return what becomes of the papers: `old` are the jobs of the old certificate, `ever` all of the dose.

    A paper that is still owed is made of the new certificate, whether papers were asked for (`is_printed`) or not: with
    its own number where certainly none came out, else as a further copy. `is_dead` says that the old one no longer
    counts: then what is under way with it is owed too.
    """
    # One that an agent held once may have been printed while the line was cut: its word is still to come.
    unwanted = tuple(
        job
        for job in old
        if job.state is JobState.FAILED or (job.state is JobState.WAITING and job.holder_agent is None)
    )
    under_way = [job for job in old if job not in unwanted and job.state not in ON_PAPER | {JobState.CANCELED}]
    newest = max(ever, key=lambda job: (job.copy_number, job.created_at), default=None)
    if newest is None:
        return PaperPlan(unwanted)
    there = any(job.state in ON_PAPER for job in ever)
    if unwanted and not under_way and not there:
        first = unwanted[-1]
        return PaperPlan(unwanted, (first.copy_number, first.reason), first)
    if unwanted or (is_dead and under_way) or is_printed:
        return PaperPlan(unwanted, (newest.copy_number + 1, CopyReason.RENEWED), newest)
    return PaperPlan(unwanted)
