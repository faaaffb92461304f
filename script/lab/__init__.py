"""A printing lab: a private CUPS with virtual IPP Everywhere printers, whose paper can be counted and read back.

Nothing of the machine's own CUPS is touched: own D-Bus, own cupsd (own directories, a free port, loopback only), own
printers. Several labs run side by side. Runs as root, on Debian with cups, cups-filters, cups-ipp-utils and dbus.

::

    from lab import PDF, PWG, URF, Lab

    with Lab(tmp_path / "lab") as lab:
        printer = lab.add_printer("site1-pdf", formats=(PDF,))          # a device: ippeveprinter on a free port
        queue = lab.add_queue("site1-pdf", printer)                     # a driverless queue that prints only once
        job_id = lab.submit(queue, pdf_path, "ps-job1-1-1")             # or pycups at lab.host, lab.port
        page = printer.wait_for_pages(1)[0]                             # what came out, raises LabError when late
        page.job_name, page.content_type, page.path, page.image(300)    # a PIL image of the paper

        printer.behave(sleep_s=5)                # every page takes 5 s
        printer.behave(media_empty=True)         # out of paper until printer.refill()
        printer.behave(exit_code=1)              # the printer aborts the job: no page
        printer.behave(marker_levels=(3,))       # toner nearly gone
        printer.silence(); printer.wake()        # answers nothing (SIGSTOP), and again (SIGCONT)
        printer.kill(); printer.start()          # power cut, and back on the same port
        lab.cupsd.kill(); lab.cupsd.start()      # kill -9, and again on the same port and spool
        lab.cupsd.restart()                      # SIGTERM, as an administrator's restart
        lab.cupsd.stop()                         # SIGTERM only

**The truth** is `printer.truth()`: the log that the print command itself writes. `printer.pages()` are the documents
that came out, in order; CUPS's opinion has no part in either. `lab.job(job_id)` is what CUPS says.

**Addresses.** `lab.host` and `lab.port` for pycups (`lab.connection()` gives a new `cups.Connection`), `lab.server` as
`CUPS_SERVER`; `printer.uri` (`ipp://localhost:PORT/ipp/print`) to ask the printer itself.

**Out of paper** is `media-empty-warning` in printer-state-reasons: ippeveprinter knows no `-error`, real printers do.

**Stopping.** `close()` or the end of `with` ends every process of this lab; so does the death of the process that
opened it, kill -9 included. The directory stays: logs in `ROOT/log`, printers in `ROOT/printers/NAME` with their
`pages/`, `truth.ndjson` and `log`. Opened again, papers are added to those that are there; printers and queues are to
be added anew. Where user lp could not pass to the directory (pytest's `tmp_path`), cupsd's own files are kept in a
directory below /tmp that goes when the lab is closed.

`python -m lab ROOT` opens one by hand with three printers.
"""

from lab.cupsd import Cupsd
from lab.errors import LabError
from lab.lab import PDF, PWG, URF, Lab
from lab.page import Page
from lab.printer import Behaviour, TruthEvent, VirtualPrinter
from lab.queues import A4, Queue, once_uri

__all__ = [
    "A4",
    "PDF",
    "PWG",
    "URF",
    "Behaviour",
    "Cupsd",
    "Lab",
    "LabError",
    "Page",
    "Queue",
    "TruthEvent",
    "VirtualPrinter",
    "once_uri",
]
