"""Scan-back: somebody holds a paper, its code is read, and the books say whether it is the one to hand over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from printsvc.credential.formats import recognise, subject_of
from printsvc.credential.hcert import decode_hcert
from printsvc.credential.trustedkey import CredentialFormat
from printsvc.domain.print_job import Happening, PrintJob
from printsvc.domain.uvci import full_uvci
from printsvc.errors import NotFoundError, NotHcertError, ScanError
from printsvc.flows import leases
from printsvc.flows.services import Services
from printsvc.printing.paper import Relation, Ruling, ScanVerdict, Standing, judge_scan, standings
from printsvc.render.scan import read_codes
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store import papers as paper_store
from printsvc.store.doses import StoredDose
from printsvc.store.papers import ScanRecord

_AROUND = "\ufeff\r\n\t "
"""What scanners put around a code."""

SENTENCES: dict[ScanVerdict, tuple[str, str]] = {
    ScanVerdict.RIGHT_PAPER: (
        "The right paper: hand it over.",
        "Đúng giấy: hãy trao cho người được tiêm.",
    ),
    ScanVerdict.WRONG_PERSON: (
        "Another person's paper: do not hand it over here.",
        "Giấy của người khác: không được trao cho người này.",
    ),
    ScanVerdict.WRONG_PAPER: (
        "The right person's paper, but of another dose.",
        "Đúng người nhưng là giấy của mũi tiêm khác.",
    ),
    ScanVerdict.OLD_COPY: (
        "An old or spoilt copy: do not hand it over, destroy it.",
        "Bản cũ hoặc bản hỏng: không được trao, hãy hủy.",
    ),
    ScanVerdict.WHICH_COPY: (
        "Several papers have this code: read the number after “Bản in số / Copy No.” and send it along.",
        "Có nhiều bản in cùng mã này: hãy đọc số sau “Bản in số / Copy No.” và gửi kèm.",
    ),
    ScanVerdict.UNKNOWN_COPY: (
        "The books have no copy of that number: read it again.",
        "Không có bản in mang số này: hãy đọc lại số.",
    ),
    ScanVerdict.NOT_PRINTED: (
        "The books have not printed this paper yet; a printout of the file is no paper. Scan it again in a minute.",
        "Bản này chưa được in theo sổ; bản tự in từ tệp không phải là giấy. Hãy quét lại sau một phút.",
    ),
    ScanVerdict.REVOKED: (
        "The certificate was revoked: do not hand the paper over.",
        "Chứng nhận đã bị thu hồi: không được trao giấy.",
    ),
    ScanVerdict.NOT_OURS: (
        "This is no paper of this site.",
        "Đây không phải giấy của điểm tiêm này.",
    ),
    ScanVerdict.UNREADABLE: (
        "The code cannot be read: scan it again, one paper at a time. Spoilt? Print another copy.",
        "Không đọc được mã: hãy quét lại, mỗi lần một tờ. Giấy hỏng thì in bản khác.",
    ),
}


@dataclass(frozen=True, slots=True)
class Expected:
    """Which paper somebody waits for: a print job, or a certificate."""

    job_id: str | None = None
    uvci: str | None = None


@dataclass(frozen=True, slots=True)
class ScanReport:
    """`paper` is the scanned one as it is now, `must_see` the copy number of the one that counts.

    `settled`: this scan changed what the books say of the paper.
    """

    verdict: ScanVerdict
    paper: PrintJob | None = None
    standing: Standing | None = None
    must_see: int | None = None
    settled: bool = False

    def sentences(self) -> tuple[str, str]:
        """Return the sentence for the person who scanned, English and Vietnamese."""
        en, vi = SENTENCES[self.verdict]
        if self.must_see is not None:
            en += f" Copy {self.must_see} is the one that counts."
            vi += f" Chỉ bản số {self.must_see} có giá trị."
        return en, vi


async def scan_back(
    services: Services,
    scanned: str | bytes,
    *,
    actor: str,
    site_id: str | None = None,
    expected: Expected | None = None,
    copy_number: int | None = None,
) -> ScanReport:
    """Return what a paper is whose code was scanned, as text or as a picture (PNG, JPEG) or PDF.

    The right paper is confirmed, once; whoever scans it again gets the same answer. `site_id` is who scans (None: an
    admin): papers of other sites are none of its own, as are codes that are not ours to the last character.
    `copy_number` is what stands on the paper. Every scan is kept. Raises NotFoundError where what was expected is not
    there, or another site's; ScanError for a file that is too large.
    """
    code, unreadable = await _code_of(scanned)
    uvci = _uvci_of(code) if code else ""
    now = services.clock()

    def store(connection: Connection) -> ScanReport:
        awaited = _find_expected(connection, expected, site_id)
        dose = _find_dose(connection, uvci, code, site_id)
        ruling = Ruling(unreadable or ScanVerdict.NOT_OURS)
        family: list[PrintJob] = []
        revoked: frozenset[str] = frozenset()
        if dose is not None:
            family, revoked = _lock_family(connection, dose)
            relation = _relation(dose, awaited)
            ruling = judge_scan(uvci, family, revoked=revoked, relation=relation, copy_number=copy_number)
        paper, settled = ruling.paper, ruling.event is not None
        if paper is not None and ruling.event is not None:
            happening = Happening(ruling.event, now, actor[:64], reason=ruling.verdict)
            paper = leases.apply_event(connection, paper, happening, now=now)
        scan = ScanRecord(
            site_id=site_id or (dose.event.site_id if dose is not None else None),
            at=now,
            actor=actor[:64],
            verdict=ruling.verdict,
            uvci=uvci if dose is not None else None,
            job_id=paper.job_id if paper is not None else None,
            expected_job_id=expected.job_id if expected is not None else None,
            copy_number=copy_number,
            settled=settled,
        )
        paper_store.insert_scan(connection, scan)
        standing = standings(family, revoked).get(paper.job_id) if paper is not None else None
        return ScanReport(ruling.verdict, paper, standing, ruling.must_see, settled)

    return await services.store.write(store)


async def _code_of(scanned: str | bytes) -> tuple[str, ScanVerdict | None]:
    """Return the one HCERT in what was scanned, or why there is none."""
    if isinstance(scanned, str):
        codes = [scanned.strip(_AROUND)]
    else:
        try:
            codes = await asyncio.to_thread(read_codes, scanned)
        except ScanError as error:
            if error.code == "too_large":
                raise
            return "", ScanVerdict.UNREADABLE
    ours = [code for code in codes if recognise(code) is CredentialFormat.HCERT]
    if not ours:
        return "", ScanVerdict.NOT_OURS if any(codes) else ScanVerdict.UNREADABLE
    if len(ours) > 1:
        return "", ScanVerdict.UNREADABLE  # two papers in one picture: which of them is meant?
    try:
        decode_hcert(ours[0])
    except NotHcertError:
        return "", ScanVerdict.UNREADABLE
    return ours[0], None


def _uvci_of(code: str) -> str:
    identifiers = subject_of(decode_hcert(code)).uvcis
    return identifiers[0] if len(identifiers) == 1 else ""


def _find_dose(connection: Connection, uvci: str, code: str, site_id: str | None) -> StoredDose | None:
    """Return the dose of a code that is ours to the last character; another site's is none."""
    try:
        dose = dose_store.get_dose_of(connection, uvci)
    except NotFoundError:
        return None
    genuine = dose.certificate is not None and dose.certificate.hcert == code
    return dose if genuine and site_id in (None, dose.event.site_id) else None


def _find_expected(connection: Connection, expected: Expected | None, site_id: str | None) -> StoredDose | None:
    if expected is None or (expected.job_id is None and expected.uvci is None):
        return None
    if expected.job_id is not None:
        job = job_store.get_job(connection, expected.job_id)
        if site_id not in (None, job.site_id):
            raise NotFoundError("There is no such print job.", vi="Không có lệnh in này.")
        return dose_store.get_dose_of(connection, job.uvci)
    dose = dose_store.get_dose_of(connection, full_uvci(expected.uvci or ""))
    if site_id not in (None, dose.event.site_id):
        raise NotFoundError("There is no such certificate.", vi="Không có giấy chứng nhận này.")
    return dose


def _lock_family(connection: Connection, dose: StoredDose) -> tuple[list[PrintJob], frozenset[str]]:
    # Locked, then read again: a copy may have been asked for meanwhile, and it counts in place of this paper.
    known = job_store.jobs_of_doses(connection, [dose.dose_pk]).get(dose.dose_pk, [])
    job_store.lock_jobs(connection, [job.job_id for job in known])
    family = job_store.jobs_of_doses(connection, [dose.dose_pk]).get(dose.dose_pk, [])
    return family, paper_store.revoked_of_dose(connection, dose.dose_pk)


def _relation(dose: StoredDose, awaited: StoredDose | None) -> Relation:
    if awaited is None or awaited.dose_pk == dose.dose_pk:
        return Relation.SAME_DOSE
    mine, theirs = dose_store.person_key(dose.event.person), dose_store.person_key(awaited.event.person)
    return Relation.SAME_PERSON if mine is not None and mine == theirs else Relation.OTHER_PERSON


async def papers_of(services: Services, uvci: str) -> list[tuple[PrintJob, Standing]]:
    """Return the papers of a certificate with their standing, by copy number; none for one that is not there."""

    def read(connection: Connection) -> list[tuple[PrintJob, Standing]]:
        dose_pk = paper_store.dose_pks_of(connection, [uvci]).get(uvci)
        if dose_pk is None:
            return []
        family = job_store.jobs_of_doses(connection, [dose_pk]).get(dose_pk, [])
        known = standings(family, paper_store.revoked_of_dose(connection, dose_pk))
        return [(job, known[job.job_id]) for job in family if job.uvci == uvci]

    return await services.store.read(read)


def standing_document(standing: Standing) -> dict[str, Any]:
    """Return whether a paper may be handed over, as JSON."""
    later = standing.replaced_by
    told: dict[str, Any] = {"state": standing.state, "reason": standing.reason}
    if later is not None:
        told |= {
            "replaced_by": later.job_id,
            "replaced_by_copy": later.copy_number,
            "replaced_at": later.created_at.isoformat(),
            "replaced_for": later.asked_by,
        }
    return told
