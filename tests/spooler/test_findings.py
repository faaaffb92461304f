"""What is said of queues and of cupsd that are set up wrongly, and what is to be done about it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.printer import stops_paper
from spooler.cupsd.findings import (
    CupsQueue,
    Finding,
    QueueSettings,
    Weight,
    advise_queue,
    check_cups_files_conf,
    check_cupsd_conf,
    check_queue,
    check_queue_settings,
    check_queue_state,
    printer_uri_of,
)

A4 = "iso_a4_210x297mm"
GOOD = CupsQueue("a", "printsvc-once:/ipp://192.0.2.7:631/ipp/print", "Printer - IPP Everywhere", 3, (), True)


@pytest.mark.parametrize(
    ("device_uri", "printer_uri"),
    [
        ("ipp://192.0.2.7:631/ipp/print", "ipp://192.0.2.7:631/ipp/print"),
        ("ipps://printer.local/ipp/print?waitjob=false", "ipps://printer.local/ipp/print"),
        ("printsvc-once:/ipp://192.0.2.7/ipp/print?waitjob=false", "ipp://192.0.2.7/ipp/print"),
        ("printsvc-once:/usb://HP/LaserJet", None),
        ("socket://192.0.2.7:9100", None),
        ("", None),
    ],
)
def test_printer_behind_a_queue(device_uri: str, printer_uri: str | None) -> None:
    assert printer_uri_of(device_uri) == printer_uri


def test_fit_queue_has_no_problem() -> None:
    assert check_queue(GOOD) == ()
    assert advise_queue(GOOD) == ()
    assert check_queue_state(GOOD) == ()
    assert check_queue_settings("a", QueueSettings("retry-job", False, (A4,)), media=A4) == ()
    assert check_queue_settings("a", QueueSettings(), media=A4) == (), "what CUPS does not say is not found wrong"


@pytest.mark.parametrize(
    ("queue", "problem"),
    [
        (replace(GOOD, make_and_model="Local Raw Printer"), "queue-raw"),
        (replace(GOOD, make_and_model=""), "queue-raw"),
        (replace(GOOD, make_and_model="HP LaserJet Series PCL 4/5"), "queue-not-driverless"),
        (replace(GOOD, device_uri="file:///dev/null"), "queue-no-device"),
    ],
)
def test_unfit_queues_are_said_in_both_languages(queue: CupsQueue, problem: str) -> None:
    (said,) = check_queue(queue)
    assert said.weight is Weight.PROBLEM
    assert said.line().startswith(f"{problem}: ")
    assert " / " in said.line()
    assert said.mend_en.endswith(("-v ipp://192.0.2.7:631/ipp/print", "-v file:///dev/null"))


def test_queue_that_may_print_twice_or_without_witness_is_advised() -> None:
    (plain,) = advise_queue(replace(GOOD, device_uri="ipp://192.0.2.7/ipp/print"))
    assert (plain.code, plain.weight) == ("queue-not-once", Weight.ADVICE)
    assert plain.mend_en == "lpadmin -p a -v printsvc-once:/ipp://192.0.2.7/ipp/print"
    usb = advise_queue(replace(GOOD, device_uri="printsvc-once:/usb://HP/LaserJet"))
    assert [advice.code for advice in usb] == ["printer-no-witness"]


def test_cupsd_that_loses_or_cancels_jobs_is_advised() -> None:
    right = "DirtyCleanInterval 0\nMaxJobTime 0\nmaxjobs 0\n"
    for word in ("No", "off", "False", "0"):
        assert check_cupsd_conf(f"{right}PreserveJobFiles {word}\n") == ()
    for word in ("Yes", "3600"):
        (kept,) = check_cupsd_conf(f"{right}PreserveJobFiles {word}\n")
        assert kept.code == "cupsd-preservejobfiles"
        assert f"PreserveJobFiles is {word}, should be No" in kept.line()
        assert "`PreserveJobFiles No`" in kept.mend_en
        assert "`PreserveJobFiles No`" in kept.mend_vi
    said = check_cupsd_conf(
        "PreserveJobFiles No  # not kept\n# MaxJobTime 0\nMaxJobs 100\nDirtyCleanInterval 30\nDirtyCleanInterval 0\n"
    )
    assert [advice.code for advice in said] == ["cupsd-maxjobtime", "cupsd-maxjobs"]
    assert len(check_cupsd_conf("")) == 4
    assert [one.code for one in check_cupsd_conf(f"{right}PreserveJobFiles No", thorough=True)] == [
        "cupsd-jobretrylimit"
    ]


def test_cups_files_conf_that_does_not_sync_is_advised() -> None:
    assert check_cups_files_conf("#SyncOnClose No\nUser lp\n") == (), "Debian's cupsd syncs by itself"
    (said,) = check_cups_files_conf("SyncOnClose No\n", place="/etc/cups/cups-files.conf")
    assert (said.code, said.place) == ("cupsd-synconclose", "/etc/cups/cups-files.conf")


@pytest.mark.parametrize(
    ("settings", "code", "command"),
    [
        (QueueSettings(error_policy="stop-printer"), "queue-error-policy", "printer-error-policy=retry-job"),
        (QueueSettings(error_policy="abort-job"), "queue-error-policy", "printer-error-policy=retry-job"),
        (QueueSettings(is_shared=True), "queue-shared", "printer-is-shared=false"),
    ],
)
def test_what_a_queue_does_by_itself(settings: QueueSettings, code: str, command: str) -> None:
    (said,) = check_queue_settings("desk1", settings, media=A4)
    assert said.code == code
    assert said.mend_en == f"lpadmin -p desk1 -o {command}"


def test_a_printer_without_the_paper_is_unfit() -> None:
    (said,) = check_queue_settings("a", QueueSettings(media_supported=("na_letter_8.5x11in",)), media=A4)
    assert (said.code, said.weight) == ("queue-media-missing", Weight.PROBLEM)
    assert check_queue_settings("a", QueueSettings(media_supported=(A4, "iso_a5_148x210mm")), media=A4) == ()


@pytest.mark.parametrize(
    ("queue", "weight", "hand"),
    [
        (replace(GOOD, reasons=("media-empty-error",)), Weight.PROBLEM, "load paper"),
        (replace(GOOD, reasons=("media-empty-warning",)), Weight.ADVICE, "load paper"),
        (replace(GOOD, reasons=("marker-supply-low-report",)), Weight.ADVICE, "lay ink or toner ready"),
        (replace(GOOD, reasons=("com.example-odd-error",)), Weight.PROBLEM, "look at the printer's display"),
        (replace(GOOD, state=5, reasons=("paused",)), Weight.PROBLEM, "cupsenable a"),
        (replace(GOOD, state=5), Weight.PROBLEM, "cupsenable a"),
        (replace(GOOD, accepting=False), Weight.PROBLEM, "cupsaccept a"),
    ],
)
def test_a_printer_in_need_says_which_hand_it_needs(queue: CupsQueue, weight: Weight, hand: str) -> None:
    (said,) = check_queue_state(queue)
    assert (said.weight, said.mend_en, said.place) == (weight, hand, "a")
    assert said.mend_vi


def test_cups_own_progress_is_no_finding() -> None:
    assert check_queue_state(replace(GOOD, state=4, reasons=("cups-waiting-for-job-completed",))) == ()


@given(st.lists(st.from_regex(r"[a-z]{1,8}(-[a-z]{1,8}){0,3}(-error|-warning|-report)?", fullmatch=True), max_size=5))
def test_every_reason_that_stops_paper_is_a_problem_and_no_other(reasons: list[str]) -> None:
    found: tuple[Finding, ...] = check_queue_state(replace(GOOD, reasons=tuple(reasons)))
    assert len(found) == len(reasons)
    for reason, finding in zip(reasons, found, strict=True):
        assert (finding.weight is Weight.PROBLEM) == stops_paper(reason)
        assert finding.mend_en
        assert finding.mend_vi
