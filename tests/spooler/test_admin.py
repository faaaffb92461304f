"""What an administrator may do at a real cupsd, and what is refused there: the printers' own log is the truth."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spooler.cupsd import admin, check, server
from spooler.cupsd.admin import Refused

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if os.geteuid() != 0 or not shutil.which("ippeveprinter") or not shutil.which("cupsd"):
        pytest.skip("a printing lab needs root, cupsd and ippeveprinter")
    from lab import PDF, Lab

    with Lab(tmp_path_factory.mktemp("lab")) as opened:
        # As CUPS is by itself: what is done wrongly here does print twice.
        opened.add_queue("plain", opened.add_printer("plain", (PDF,)), once=False)
        opened.add_queue("other", opened.add_printer("other", (PDF,)), once=False)
        yield opened


@pytest.fixture
def document(tmp_path: Path, pdf: Any) -> Path:
    path = tmp_path / "page.pdf"
    path.write_bytes(pdf("foreign"))
    return path


def test_while_a_job_prints_nothing_is_done_that_prints_it_again(lab: Any, document: Path) -> None:
    connection, printer = lab.connection(), lab.printers["plain"]
    printer.behave(media_empty=True)
    before = len(printer.pages())
    empty_before = sum(one.event == "media-empty" for one in printer.truth())
    active = lab.submit(lab.queues["plain"], document, "somebody's letter")
    printer.wait_for("media-empty", empty_before + 1)
    for refused in (
        lambda: admin.disable(connection, "plain"),
        lambda: admin.enable(connection, "plain"),
        lambda: admin.hold(connection, active, yes=True),
        lambda: admin.hold(connection, active, yes=False),
        lambda: admin.cancel(connection, active),
        lambda: admin.move(connection, active, "other"),
    ):
        with pytest.raises(Refused) as caught:
            refused()
        assert caught.value.reason == "job-active"
        assert "letter" not in caught.value.en + caught.value.vi, "what others call their jobs stays here"
    with pytest.raises(Refused) as caught:
        admin.remove(connection, "plain")
    assert caught.value.reason == "queue-not-empty"
    printer.refill()
    lab.wait_for_job(active, 9)
    assert len(printer.wait_for_pages(before + 1)) == before + 1
    admin.disable(connection, "plain")
    assert connection.getPrinterAttributes("plain")["printer-state"] == 5
    admin.enable(connection, "plain")


def test_a_job_that_has_not_begun_is_held_released_moved_and_cancelled(lab: Any, document: Path) -> None:
    connection = lab.connection()
    plain, other = lab.printers["plain"], lab.printers["other"]
    pages = len(plain.pages()), len(other.pages())
    admin.disable(connection, "plain")
    held, moved, gone = (lab.submit(lab.queues["plain"], document, name) for name in ("x", "y", "z"))
    admin.hold(connection, held, yes=True)
    admin.move(connection, moved, "other")
    admin.cancel(connection, gone)
    assert [job.held for job in admin.list_jobs(connection, "plain")] == [True]
    other.wait_for_pages(pages[1] + 1)
    admin.enable(connection, "plain")
    admin.hold(connection, held, yes=False)
    plain.wait_for_pages(pages[0] + 1)
    for job in (held, moved):
        lab.wait_for_job(job, 9)
    assert (len(plain.pages()), len(other.pages())) == (pages[0] + 1, pages[1] + 1)


def test_a_certificates_job_is_never_touched_by_its_number_in_cups(lab: Any, document: Path) -> None:
    connection = lab.connection()
    job = lab.submit(lab.queues["other"], document, "ps-j1-1-1", {"job-hold-until": "indefinite"})
    for verb in (admin.cancel, lambda c, n: admin.hold(c, n, yes=False), lambda c, n: admin.move(c, n, "plain")):
        with pytest.raises(Refused) as caught:
            verb(connection, job)
        assert caught.value.reason == "certificate-job"
    connection.cancelJob(job)
    with pytest.raises(Refused) as caught:
        admin.cancel(connection, job)
    assert caught.value.reason == "no-such-job"


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 65])
def test_a_queues_name_and_a_printers_address_are_looked_at_before_cups_is_asked(name: str) -> None:
    with pytest.raises(Refused) as caught:
        admin.begin_queue(None, name, "ipp://192.0.2.7/ipp/print")
    assert caught.value.reason == "queue-name"
    for uri in ("ipp://192.0.2.7/ipp/print?waitjob=false", "file:///etc/passwd", "socket://192.0.2.7", "ipp://"):
        with pytest.raises(Refused) as caught:
            admin.begin_queue(None, "desk1", uri)
        assert caught.value.reason == "printer-uri"


def test_a_queue_as_cups_makes_it_is_found_wanting_with_the_mend(lab: Any) -> None:
    connection = lab.connection()
    connection.addPrinter("bad", ppdname="raw", device=lab.printers["plain"].uri)
    connection.setPrinterErrorPolicy("bad", "stop-printer")
    connection.addPrinterOptionDefault("bad", "print-scaling", "fit")
    try:
        facts, findings = check.check_queue(
            connection, "bad", media="iso_a4_210x297mm", dpi=600, traits=None, once=True
        )
    finally:
        connection.deletePrinter("bad")
    codes = {one.code for one in findings}
    assert {"queue-raw", "printer-silent", "queue-not-once", "queue-error-policy"} <= codes
    assert {one.code for one in findings if one.stops} >= {"queue-raw", "printer-silent"}
    for one in findings:
        assert all((one.en, one.vi, one.mend_en, one.mend_vi)), one
    assert facts["error_policy"] == "stop-printer"
    assert check.check_queue(connection, "gone", media="", dpi=0, traits=None, once=None)[1][0].code == "no-such-queue"


def test_cupsds_own_configuration_is_read_and_compared(lab: Any) -> None:
    text = server.read_cupsd_conf(lab.connection())
    assert text is not None
    assert "DirtyCleanInterval 0" in text
    assert [one.code for one in check.check_conf(text, "cupsd.conf")] == ["cupsd-preservejobfiles"]
    files = check.read_file(lab.cupsd.base / "etc/cups-files.conf")
    assert check.check_conf(files, "cups-files.conf") == []
    assert check.has_once(files) is True


def test_each_setting_that_loses_or_repeats_jobs_is_named() -> None:
    codes = [one.code for one in check.check_conf("", "cupsd.conf")]
    assert codes == [
        "cupsd-dirtycleaninterval",
        "cupsd-maxjobtime",
        "cupsd-jobretrylimit",
        "cupsd-maxjobs",
        "cupsd-preservejobfiles",
    ]
    assert [one.code for one in check.check_conf("", "cups-files.conf")] == ["cupsd-synconclose"]
    for name in ("cupsd.conf", "cups-files.conf"):
        (one,) = check.check_conf(None, name)
        assert one.code == f"{name}-unreadable"
    right = "DirtyCleanInterval 0\nMaxJobTime 0\nJobRetryLimit 0\nMaxJobs 0\nPreserveJobFiles no\n"
    assert check.check_conf(right, "cupsd.conf") == []
    (wrong,) = check.check_conf(right + "MaxJobs 500\n", "cupsd.conf")
    assert "MaxJobs 0" in wrong.mend_en
    assert "restart cupsd" in wrong.mend_en


def test_where_the_backend_is_not_installed_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    assert check.has_once(f"ServerBin {tmp_path}\n") is False
    assert check.has_once(f"ServerBin {tmp_path}/nowhere\n") is None
