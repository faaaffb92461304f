"""What is read from CUPS's descriptions, and what is said of queues and of cupsd that are set up wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spooler.cupsd.server import CupsQueue, advise_cupsd, advise_queue, check_queue, printer_uri_of

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
    assert said.startswith(f"{problem}: ")
    assert " / " in said


def test_queue_that_may_print_twice_or_without_witness_is_advised() -> None:
    plain = advise_queue(replace(GOOD, device_uri="ipp://192.0.2.7/ipp/print"))
    assert [advice.partition(":")[0] for advice in plain] == ["queue-not-once"]
    usb = advise_queue(replace(GOOD, device_uri="printsvc-once:/usb://HP/LaserJet"))
    assert [advice.partition(":")[0] for advice in usb] == ["printer-no-witness"]


def test_cupsd_that_loses_or_cancels_jobs_is_advised() -> None:
    right = "DirtyCleanInterval 0\nMaxJobTime 0\nJobRetryLimit 0\nmaxjobs 0\n"
    for word in ("No", "off", "False", "0"):
        assert advise_cupsd(f"{right}PreserveJobFiles {word}\n") == ()
    for word in ("Yes", "3600"):
        (kept,) = advise_cupsd(f"{right}PreserveJobFiles {word}\n")
        assert kept.startswith("cupsd-preservejobfiles: ")
    said = advise_cupsd(
        "PreserveJobFiles No  # not kept\n# MaxJobTime 0\nMaxJobs 100\nDirtyCleanInterval 30\nDirtyCleanInterval 0\n"
    )
    assert [advice.partition(":")[0] for advice in said] == ["cupsd-maxjobtime", "cupsd-jobretrylimit", "cupsd-maxjobs"]
    assert len(advise_cupsd("")) == 5
