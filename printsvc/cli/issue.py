"""issue: dose events of a file to PDFs in a folder, without a service."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from printsvc.flows.bulkrun import Progress

PLAIN_EVERY_S = 5.0


@click.command()
@click.option("--in", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True,
              help="Dose events, one JSON a line.")  # fmt: skip
@click.option("--out", "folder", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="Folder of the PDFs, the ledger and the reports.")  # fmt: skip
@click.option("--form", help="Form of the certificates.  [PRINTSVC_FORM, or a4/43-2022]")
@click.option("--sites", "sites_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Sites as GET /v1/sites gives them; without it the paper has a site's id for its name.")  # fmt: skip
@click.option("--merge", type=click.Choice(["site", "site-only"]),
              help="site: also PDFs of up to 500 papers of a site, to be printed; site-only: nothing but these, in "
              "half the time.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [as many as there are processors]")
def issue(
    file: Path, folder: Path, form: str | None, sites_file: Path | None, merge: str | None, jobs: int | None
) -> None:
    """Issue a certificate for every dose event in FILE; the service's database only tells who signs.

    Signs with the key file of that signer in the data folder. Run it again with the same FILE and folder to go on after
    a kill: what is done stays as it is, and no dose gets a second certificate. Which lines were not issued, and why, is
    in report.ndjson.

    Exit code 0 when every line was issued or is a repetition, 1 when some were not.
    """
    import hashlib
    import os

    from printsvc.app import choose_form, open_signer, passphrase
    from printsvc.clock import clock
    from printsvc.domain.form import FormId
    from printsvc.errors import InputError, SignerError
    from printsvc.flows.bulk import MERGED, Papers, Run
    from printsvc.flows.bulkcrew import WorkerSetup
    from printsvc.flows.bulkrun import begin, issue_file, merge_by_site
    from printsvc.render.draw import RenderSetup, sources_digest
    from printsvc.render.merge import check_merging
    from printsvc.settings import read_settings
    from printsvc.store.bulkledger import BulkLedger
    from printsvc.store.keyfile import KeyFolder

    if not file.is_file():  # it is read twice, and again after a kill
        raise InputError(
            en=f"{file} is no file: a pipe cannot be read again. Write it to a file first.",
            vi=f"{file} không phải tệp: hãy ghi ra tệp trước.",
        )
    given: dict[str, Any] = {"form": form} if form else {}
    settings = read_settings(**given)
    keys = KeyFolder(settings.data_dir / "keys")
    if (keys.folder / "development.passphrase").exists():
        settings = read_settings(**given, development=True)
    now = clock()
    signer = open_signer(settings)
    sealed = next((one for one in keys.read() if one.certificate == signer.certificate), None)
    if sealed is None:
        raise SignerError(
            "Issuing in bulk needs the signer's key as a file in the data folder.",
            vi="Cấp hàng loạt cần khóa ký dạng tệp trong thư mục dữ liệu.",
        )
    choice = choose_form(settings)
    render = RenderSetup(
        settings.templates_dir,
        settings.fonts_dir,
        settings.data_dir / "cache",
        forms=(FormId(settings.form),),
        warms_way_out=False,  # most runs do without it
    )
    wanted = Run(
        secret=os.urandom(32),
        started_at=now.replace(microsecond=0),
        form=choice,
        kid=signer.kid.hex(),
        sources=sources_digest(render),
        issuer=settings.issuer,
        country=settings.country,
        sites=hashlib.sha256(sites_file.read_bytes()).hexdigest() if sites_file else "",
        papers=Papers.BY_SITE if merge == "site-only" else Papers.SINGLE,
    )
    if merge == "site":
        check_merging()  # and not after a million papers
    if sites_file is None:
        click.echo(
            "Không có --sites: giấy ghi mã điểm tiêm thay cho tên. | "
            "Without --sites the papers have a site's id for its name.",
            err=True,
        )
    workers = jobs or len(os.sched_getaffinity(0))
    ledger = BulkLedger(folder)
    try:
        run = begin(ledger, wanted)
        setup = WorkerSetup(render, run, sealed, passphrase(settings, keys), _sites(sites_file), folder)
        with _progress("lines") as tell:
            progress = issue_file(file, ledger, setup, workers=workers, tell=tell, lists=merge != "site")
        lost, not_again = progress.lost, len(progress.not_again)
        if merge == "site":
            click.echo("Đang gộp giấy theo điểm tiêm. | Putting the papers of each site together.", err=True)
            with _progress("papers") as tell:
                merging = merge_by_site(ledger, folder, workers=workers, tell=tell, lost=progress.not_again)
            lost, not_again = lost + sum(merging), not_again + merging.not_again
        to_print = [name for name in ledger.files() | ledger.print_files() if name.startswith(f"{MERGED}/")]
        counts, ways_out, unstamped = ledger.counts(), ledger.ways_out(), ledger.unstamped_sites()
    except KeyboardInterrupt:
        click.echo(
            "Đã dừng; chạy lại đúng lệnh này để làm tiếp. | Stopped; the same command goes on from here.", err=True
        )
        sys.exit(130)
    finally:
        ledger.close()
    words = [f"{number} {status}" for status, number in sorted(counts.items())]
    click.echo(f"{folder}: " + (", ".join(words) or "no lines"))
    if merge:
        click.echo(f"to be printed by site: {len(to_print)} files in {folder / MERGED}")
    if ways_out:
        reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(ways_out.items()))
        alone = ", each in a file of its own beside them" if merge == "site-only" else ""
        click.echo(f"drawn without the stamp{alone}: {reasons}")
    for site_id, number in unstamped.items() if merge == "site-only" else ():
        click.echo(f"site {site_id}: not one of its {number} papers could be stamped: look at its name in --sites")
    if lost:
        click.echo(f"papers whose files were gone or cut short: {lost - not_again} made again, {not_again} not")
    sys.exit(1 if set(counts) - {"issued", "replayed"} or not_again else 0)


def _sites(file: Path | None) -> dict[str, Any]:
    from printsvc.domain.site import Site, SiteId
    from printsvc.errors import InputError

    if file is None:
        return {}
    try:
        document = json.loads(file.read_bytes())
        found = document["sites"] if isinstance(document, dict) else document
        return {
            one["site_id"]: Site(SiteId(one["site_id"]), one["name"], one["authority"], one.get("province", ""))
            for one in found
        }
    except (ValueError, KeyError, TypeError):
        raise InputError(
            en=f"{file} is not a list of sites with site_id, name and authority.",
            vi=f"{file} không phải danh sách điểm tiêm (site_id, name, authority).",
        ) from None


@contextmanager
def _progress(of: str) -> Iterator[Callable[[Progress], None]]:
    """Give what shows progress on standard error, `of` lines or papers: a bar on a terminal, else a line at times."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}/s"), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True)) as bar:
            started = time.monotonic()

            def show(progress: Progress) -> None:
                # Not before: a bar without a total is of a hundred things, and stays where there is nothing to do.
                task = bar.task_ids[0] if bar.tasks else bar.add_task(of, rate="–")
                rate = f"{progress.now / (time.monotonic() - started):.0f}"
                bar.update(task, completed=progress.done, total=progress.total, rate=rate)

            yield show
        return
    started = told_at = time.monotonic()

    def say(progress: Progress) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at < PLAIN_EVERY_S and progress.done < progress.total:
            return
        told_at = now
        rate = progress.now / (now - started)
        left = (progress.total - progress.done) / rate if rate else 0
        click.echo(f"{progress.done} of {progress.total} {of}, {rate:.0f}/s, {left:.0f} s left", err=True)

    yield say


COMMANDS = (issue,)
