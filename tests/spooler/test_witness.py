"""The rules of evidence: each line of the table, and that nothing but the printer's own word is `printed`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooler.core.witness import (
    Answer,
    CupsWord,
    Evidence,
    Heard,
    Mute,
    Patience,
    PrinterJob,
    Unreachable,
    Verdict,
    judge,
    words_of,
)

T0 = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
PATIENCE = Patience()


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def verdict_of(
    cups: CupsWord, answer: Answer, *, until_s: float, ended_s: float = 1.0, unbroken: bool = True, up_time_s: int = 100
) -> Verdict | None:
    """Return the verdict at `until_s` where the printer gave that answer each second and CUPS its word at `ended_s`."""
    evidence = Evidence.begun(T0, up_time_s) if unbroken else Evidence()
    for second in range(int(until_s) + 1):
        if second >= ended_s:
            evidence = evidence.with_cups(cups, at(second))
        said = Heard(answer.jobs, up_time_s + second) if isinstance(answer, Heard) else answer
        evidence = evidence.with_printer(said, at(second), PATIENCE)
        verdict = judge(evidence, at(second), T0, PATIENCE)
        if verdict is not None:
            return verdict
    return None


def heard(*jobs: tuple[int, int | None]) -> Heard:
    return Heard(tuple(PrinterJob(*job) for job in jobs))


@pytest.mark.parametrize(
    ("cups", "answer", "until_s", "expected"),
    [
        # The printer says that the page is out: CUPS is not asked.
        (CupsWord.UNKNOWN, heard((9, 1)), 0, "printed"),
        (CupsWord.CANCELED, heard((9, 1)), 2, "printed"),
        (CupsWord.ACTIVE, heard((9, None)), 0, "printed"),
        (CupsWord.COMPLETED, heard((8, 0), (9, 1)), 2, "printed"),
        # At work, or out of paper: for as long as it takes.
        (CupsWord.ACTIVE, heard((5, 0)), 4000, None),
        (CupsWord.COMPLETED, heard((6, 0)), 4000, None),
        # CUPS is content and the printer knows nothing: as when its power was cut.
        (CupsWord.COMPLETED, heard(), 3, None),
        (CupsWord.COMPLETED, heard(), 10, "uncertain"),
        # Cancelled before a byte was sent, by a CUPS and a printer that were watched all the time; not at once: what
        # the backend has begun to send it ends.
        (CupsWord.CANCELED, heard(), 10, None),
        (CupsWord.CANCELED, heard(), 30, "failed"),
        (CupsWord.ABORTED, heard(), 10, "failed"),
        # cupsd was restarted: its old backend may still be sending.
        (CupsWord.REFUSED, heard(), 10, None),
        (CupsWord.REFUSED, heard(), 30, "uncertain"),
        (CupsWord.GONE, heard(), 30, "uncertain"),
        # The backend never had a whole document and says so, whether the printer can be asked or not.
        (CupsWord.NEVER_SENT, heard(), 1, "failed"),
        (CupsWord.NEVER_SENT, Unreachable(), 1, "failed"),
        (CupsWord.NEVER_SENT, Mute(), 1, "failed"),
        (CupsWord.NEVER_SENT, heard((9, 1)), 1, "printed"),
        (CupsWord.NEVER_SENT, heard((5, 0)), 4000, None),
        # Cancelled at the printer: the page was seen to come out. Aborted by it: it was not.
        (CupsWord.CANCELED, heard((7, 0)), 10, "uncertain"),
        (CupsWord.CANCELED, heard((8, 0)), 10, "failed"),
        (CupsWord.CANCELED, heard((8, 1)), 10, "uncertain"),
        (CupsWord.CANCELED, heard((8, None)), 10, "uncertain"),
        (CupsWord.ACTIVE, heard((8, 0)), 4000, None),  # CUPS may send it once more
        (CupsWord.COMPLETED, heard((9, 0)), 10, "uncertain"),
        # Silent.
        (CupsWord.ACTIVE, Unreachable(), 59, None),
        (CupsWord.ACTIVE, Unreachable(), 61, "uncertain"),
        (CupsWord.COMPLETED, Unreachable(), 61, "uncertain"),
        # CUPS does not get on and the printer never had it.
        (CupsWord.ACTIVE, heard(), 299, None),
        (CupsWord.ACTIVE, heard(), 301, "uncertain"),
        # A printer that cannot be asked: CUPS's word.
        (CupsWord.COMPLETED, Mute(), 2, "printed"),
        (CupsWord.ACTIVE, Mute(), 299, None),
        (CupsWord.CANCELED, Mute(), 10, "uncertain"),
        (CupsWord.GONE, Mute(), 10, "uncertain"),
    ],
)
def test_table(cups: CupsWord, answer: Answer, until_s: float, expected: str | None) -> None:
    verdict = verdict_of(cups, answer, until_s=until_s)
    assert (verdict.outcome if verdict else None) == expected


def test_witness_and_count_are_told() -> None:
    assert verdict_of(CupsWord.ACTIVE, heard((9, 1)), until_s=1) == Verdict("printed", "", "printer", 1)
    assert verdict_of(CupsWord.COMPLETED, Mute(), until_s=2) == Verdict("printed", "", "cups", None)
    twice = verdict_of(CupsWord.COMPLETED, heard((9, 1), (9, 1)), until_s=2)
    assert twice == Verdict("printed", "printed-more-than-once", "printer", 2)


def test_absence_after_a_restart_of_the_agent_proves_nothing() -> None:
    verdict = verdict_of(CupsWord.CANCELED, heard(), until_s=30, unbroken=False)
    assert verdict is not None
    assert verdict.outcome == "uncertain"


def test_absence_after_a_restart_of_the_printer_proves_nothing() -> None:
    evidence = Evidence.begun(T0, 100).with_printer(Heard((), 101), at(1), PATIENCE)
    evidence = evidence.with_printer(Unreachable(), at(2), PATIENCE)
    evidence = evidence.with_printer(Heard((), 3), at(8), PATIENCE).with_cups(CupsWord.CANCELED, at(8))
    evidence = evidence.with_printer(Heard((), 19), at(24), PATIENCE)
    verdict = judge(evidence, at(24), T0, PATIENCE)
    assert verdict is not None
    assert verdict.outcome == "uncertain"


def test_absence_after_a_gap_proves_nothing() -> None:
    evidence = Evidence.begun(T0, 100).with_cups(CupsWord.CANCELED, at(20))
    evidence = evidence.with_printer(Heard((), 190), at(90), PATIENCE)
    verdict = judge(evidence, at(90), T0, PATIENCE)
    assert verdict is not None
    assert verdict.outcome == "uncertain"


def test_job_that_was_there_and_is_forgotten_is_not_absent_from_the_first() -> None:
    evidence = Evidence.begun(T0, 100).with_printer(Heard((PrinterJob(5, 0),), 101), at(1), PATIENCE)
    for second in range(2, 30):
        evidence = evidence.with_cups(CupsWord.CANCELED, at(second))
        evidence = evidence.with_printer(Heard((), 100 + second), at(second), PATIENCE)
    verdict = judge(evidence, at(30), T0, PATIENCE)
    assert verdict is not None
    assert verdict.outcome == "uncertain"


_WORDS = st.sampled_from(list(CupsWord))
_JOBS = st.lists(st.builds(PrinterJob, st.integers(3, 9), st.none() | st.integers(0, 3)), max_size=3).map(
    lambda jobs: Heard(tuple(jobs), 100)
)
_ANSWERS = st.one_of(_JOBS, st.just(Unreachable()), st.just(Mute()))


@given(steps=st.lists(st.tuples(st.floats(0, 50), st.one_of(_WORDS, _ANSWERS)), max_size=15), last=st.floats(0, 500))
def test_printed_needs_the_printers_word_and_failed_needs_no_page_seen(
    steps: list[tuple[float, CupsWord | Answer]], last: float
) -> None:
    evidence, now = Evidence.begun(T0, 0), 0.0
    for wait_s, said in steps:
        now += wait_s
        if isinstance(said, CupsWord):
            evidence = evidence.with_cups(said, at(now))
        else:
            evidence = evidence.with_printer(said, at(now), PATIENCE)
    verdict = judge(evidence, at(now + last), T0, PATIENCE)
    if verdict is None:
        return
    jobs = evidence.printer.jobs if isinstance(evidence.printer, Heard) else ()
    if verdict.outcome == "printed" and verdict.witness == "printer":
        assert any(job.state == 9 and job.impressions != 0 for job in jobs)
    elif verdict.outcome == "printed":
        assert (evidence.printer, evidence.cups, verdict.witness) == (Mute(), CupsWord.COMPLETED, "cups")
    elif verdict.outcome == "failed" and evidence.cups is CupsWord.NEVER_SENT:
        # The backend's own word that no byte went out; a printer that knows the attempt would belie it.
        assert verdict.reason == "document-cut"
        assert not jobs
        assert not evidence.ever_heard
    elif verdict.outcome == "failed":
        assert all(job.state == 8 and job.impressions == 0 for job in jobs)
        assert evidence.cups in (CupsWord.CANCELED, CupsWord.ABORTED, CupsWord.COMPLETED)
        assert jobs or (evidence.unbroken and not evidence.ever_heard and evidence.cups is not CupsWord.COMPLETED)


def test_every_answer_has_words_for_the_books() -> None:
    assert [words_of(answer) for answer in (None, Unreachable(), Mute(), heard())] == [
        "",
        "unreachable",
        "cannot-tell",
        "no-such-job",
    ]
    assert (
        words_of(heard(*((state, 0) for state in range(3, 7)))) == "pending,pending-held,processing,processing-stopped"
    )
    assert words_of(heard((7, 0), (8, 0), (9, 1))) == "canceled,aborted,completed"
    assert len(words_of(heard(*[(6, 0)] * 1000))) <= 80
