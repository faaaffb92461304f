"""Which paper counts, and what a scanned one is: by example, and for every history that a dose can have."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.print_job import CopyReason, JobEvent, JobState, PrintJob
from printsvc.domain.site import SiteId
from printsvc.domain.uvci import Uvci
from printsvc.printing.job import TRANSITIONS
from printsvc.printing.paper import PaperState, Relation, ScanVerdict, judge_scan, may_exist, standings

T0 = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
S, V = JobState, ScanVerdict


def paper(copy: int, state: JobState, uvci: str = "A", **more: object) -> PrintJob:
    made = PrintJob(
        job_id=f"{uvci}{copy}",
        uvci=Uvci(uvci),
        copy_number=copy,
        reason=CopyReason.ISSUED if copy == 1 else CopyReason.LOST,
        asked_by="site:HN-1",
        site_id=SiteId("HN-1"),
        form="a4/43-2022",
        media="iso_a4_210x297mm",
        priority=50,
        state=state,
        state_reason="",
        created_at=T0 + timedelta(minutes=copy),
        changed_at=T0,
    )
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "verdict", "event"),
    [
        (S.SENT, V.RIGHT_PAPER, JobEvent.SCAN),
        (S.PRINTED, V.RIGHT_PAPER, JobEvent.SCAN),
        (S.UNCERTAIN, V.RIGHT_PAPER, JobEvent.SCAN),
        (S.FAILED, V.RIGHT_PAPER, JobEvent.SCAN),
        (S.CONFIRMED, V.RIGHT_PAPER, None),
        (S.WAITING, V.NOT_PRINTED, None),
        (S.LEASED, V.NOT_PRINTED, None),
        (S.CANCELED, V.NOT_PRINTED, None),
    ],
)
def test_the_only_paper_of_a_certificate(state: JobState, verdict: ScanVerdict, event: JobEvent | None) -> None:
    ruling = judge_scan("A", [paper(1, state)])
    assert (ruling.verdict, ruling.event) == (verdict, event)


def test_the_code_of_two_papers_is_the_same_so_the_number_must_be_read() -> None:
    family = [paper(1, S.CONFIRMED), paper(2, S.PRINTED)]
    asked = judge_scan("A", family)
    assert (asked.verdict, asked.must_see, asked.event) == (V.WHICH_COPY, 2, None)
    old = judge_scan("A", family, copy_number=1)
    assert (old.verdict, old.must_see, old.event, old.paper) == (V.OLD_COPY, 2, None, family[0])
    right = judge_scan("A", family, copy_number=2)
    assert (right.verdict, right.event, right.paper) == (V.RIGHT_PAPER, JobEvent.SCAN, family[1])
    assert judge_scan("A", family, copy_number=3).verdict is V.UNKNOWN_COPY


def test_while_the_copy_is_not_out_every_paper_is_the_old_one() -> None:
    family = [paper(1, S.FAILED, state_reason="not_here"), paper(2, S.WAITING)]
    ruling = judge_scan("A", family)
    assert (ruling.verdict, ruling.must_see, ruling.event) == (V.OLD_COPY, 2, None)
    assert judge_scan("A", family, copy_number=2).verdict is V.NOT_PRINTED


def test_the_paper_of_a_certificate_that_was_issued_again_is_old_by_its_code_alone() -> None:
    family = [paper(1, S.CONFIRMED), paper(2, S.PRINTED, "B")]
    assert judge_scan("A", family).verdict is V.OLD_COPY
    assert judge_scan("B", family).verdict is V.RIGHT_PAPER
    only_code = [paper(1, S.CONFIRMED)]
    assert judge_scan("A", only_code).verdict is V.RIGHT_PAPER, "no newer paper: the old one counts until its end"
    assert judge_scan("B", only_code).verdict is V.NOT_PRINTED, "a code that was never printed"


def test_an_old_paper_that_nobody_was_sure_of_is_settled_and_still_not_handed_over() -> None:
    family = [paper(1, S.UNCERTAIN), paper(2, S.PRINTED, "B")]
    ruling = judge_scan("A", family)
    assert (ruling.verdict, ruling.event) == (V.OLD_COPY, JobEvent.SCAN)


def test_revoked_and_spoilt_papers_and_those_of_others_are_not_handed_over() -> None:
    family = [paper(1, S.PRINTED)]
    assert judge_scan("A", family, revoked={"A"}).verdict is V.REVOKED
    assert judge_scan("A", [paper(1, S.FAILED, state_reason="spoilt")]).verdict is V.OLD_COPY
    assert judge_scan("A", family, relation=Relation.OTHER_PERSON).verdict is V.WRONG_PERSON
    assert judge_scan("A", family, relation=Relation.SAME_PERSON).verdict is V.WRONG_PAPER


@st.composite
def families(draw: st.DrawFn) -> list[PrintJob]:
    """Any papers that a dose may have had: copies of one certificate, then of the one that was issued in its place."""
    states = draw(st.lists(st.sampled_from(S), min_size=1, max_size=5))
    turn = draw(st.integers(1, len(states)))
    return [
        paper(
            number,
            state,
            "A" if number <= turn else "B",
            holder_agent=draw(st.sampled_from([None, "agent-1"])),
            attempt_id=draw(st.sampled_from(["", "ps-1"])),
            state_reason=draw(st.sampled_from(["", "spoilt", "not_here"])),
        )
        for number, state in enumerate(states, 1)
    ]


revocations = st.frozensets(st.sampled_from(["A", "B"]))


@given(families(), revocations, st.randoms(use_true_random=False))
def test_at_most_one_paper_counts_and_every_earlier_one_says_what_replaced_it(
    family: list[PrintJob], revoked: frozenset[str], random: object
) -> None:
    found = standings(family, revoked)
    assert found.keys() == {job.job_id for job in family}
    current = [job for job in family if found[job.job_id].state is PaperState.CURRENT]
    assert len(current) <= 1
    for job in family:
        standing = found[job.job_id]
        if standing.state is PaperState.REPLACED:
            assert standing.replaced_by is not None
            assert standing.replaced_by.copy_number > job.copy_number
            assert standing.replaced_by.state is not S.CANCELED
        else:
            assert standing.replaced_by is None
        assert (standing.state is PaperState.VOID) <= bool(standing.reason)
    random.shuffle(family)  # type: ignore[attr-defined]
    assert standings(family, revoked) == found, "in whatever order the books are read"


@given(families(), revocations, st.sampled_from(["A", "B"]), st.one_of(st.none(), st.integers(1, 6)))
def test_only_the_paper_that_counts_is_handed_over_and_the_table_allows_what_happens(
    family: list[PrintJob], revoked: frozenset[str], uvci: str, number: int | None
) -> None:
    ruling = judge_scan(uvci, family, revoked=revoked, copy_number=number)
    standing = standings(family, revoked)
    if ruling.verdict is V.RIGHT_PAPER:
        assert ruling.paper is not None
        assert standing[ruling.paper.job_id].state is PaperState.CURRENT
        assert (ruling.paper.uvci, ruling.paper.copy_number) == (uvci, ruling.must_see)
        others = [job for job in family if job.uvci == uvci and job is not ruling.paper and may_exist(job)]
        assert number is not None or not others, "the code alone decided where it could not"
    else:
        assert ruling.event is None or (ruling.paper is not None and ruling.paper.state is S.UNCERTAIN)
    if ruling.event is not None:
        assert ruling.paper is not None
        after = TRANSITIONS[ruling.paper.state, ruling.event]
        settled = [replace(job, state=after) if job is ruling.paper else job for job in family]
        again = judge_scan(uvci, settled, revoked=revoked, copy_number=number)
        assert (again.verdict, again.must_see, again.event) == (ruling.verdict, ruling.must_see, None), "once"


@given(families())
def test_asking_for_a_copy_takes_the_place_of_every_paper_before_it(family: list[PrintJob]) -> None:
    copy = paper(len(family) + 1, S.WAITING, family[-1].uvci)
    found = standings([*family, copy], ())
    assert found[copy.job_id].state is PaperState.CURRENT
    assert all(found[job.job_id].state is not PaperState.CURRENT for job in family)
    for job in family:
        assert judge_scan(job.uvci, [*family, copy], copy_number=job.copy_number).verdict is not V.RIGHT_PAPER
