"""The account of a chaos run finds what it is there to find."""

from __future__ import annotations

from benchmarks.chaos_books import Account, BookedJob, PostedDose, hold_against

from printsvc.domain.print_job import JobState

DOSE = PostedDose("d1", "A", "U1")


def account(*jobs: tuple[str, str], sheets: dict[str, int], reason: str = "printer-silent") -> Account:
    books = [BookedJob(job_id, "U1", "A", JobState(state), reason) for job_id, state in jobs]
    return hold_against([DOSE], books, sheets)


def test_a_paper_for_each_dose_agrees() -> None:
    found = account(("j1", "printed"), sheets={"j1": 1})
    assert found.agrees
    assert (found.papers_true, found.papers_booked, found.troubles()) == (1, 1, [])


def test_a_paper_that_is_only_in_the_books_is_found() -> None:
    found = account(("j1", "confirmed"), sheets={})
    assert found.booked_but_absent == ("j1",)
    assert found.unaccounted == ("d1",)


def test_second_sheets_and_sheets_of_no_job_are_found() -> None:
    assert account(("j1", "printed"), sheets={"j1": 3}).second_unasked == ("j1", "j1")
    assert account(("j1", "printed"), sheets={"j1": 1, "stray": 1}).second_unasked == ("stray",)


def test_a_copy_that_was_asked_for_is_no_second_one() -> None:
    found = account(("j1", "failed"), ("j2", "printed"), sheets={"j2": 1})
    assert found.agrees
    assert not found.on_lists


def test_a_paper_that_the_books_deny_is_found() -> None:
    found = account(("j1", "failed"), ("j2", "printed"), sheets={"j1": 1, "j2": 1})
    assert found.denied_but_present == ("j1",)
    assert not found.agrees


def test_uncertain_with_a_reason_is_on_a_list_whether_the_paper_is_there_or_not() -> None:
    for sheets in ({}, {"j1": 1}):
        found = account(("j1", "uncertain"), sheets=sheets)
        assert found.agrees
        assert found.uncertain == 1
        assert found.on_lists == {"uncertain: printer-silent": 1}
    assert account(("j1", "uncertain"), sheets={}, reason="").unaccounted == ("d1",)


def test_a_dose_that_waits_or_was_never_taken_is_unaccounted() -> None:
    assert account(("j1", "sent"), sheets={}).unaccounted == ("d1",)
    assert account(("j1", "failed"), ("j2", "waiting"), sheets={}).unaccounted == ("d1",)
    assert account(sheets={}).unaccounted == ("d1",)
    held = PostedDose("d2", "A", held=True)
    assert hold_against([held], [], {}).agrees
