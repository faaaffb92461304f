"""What stands on the page of a stored dose: `issuing.page`, with the value sets of this release."""

from __future__ import annotations

from collections.abc import Iterable

from printsvc.domain.form import DoseRow, PageData
from printsvc.domain.print_job import PrintJob
from printsvc.domain.site import Site
from printsvc.flows.intake import VALUE_SETS
from printsvc.issuing import page
from printsvc.issuing.page import ROWS, VIETNAM_TIME, group_uvci
from printsvc.store.doses import StoredDose

__all__ = ["ROWS", "VIETNAM_TIME", "dose_rows", "group_uvci", "more_dose_rows", "page_of"]


def page_of(
    dose: StoredDose, *, job: PrintJob, site: Site, others: Iterable[StoredDose], site_names: dict[str, str]
) -> PageData:
    """Return the page of a dose's certificate for one paper. Raises NotFoundError for a dose without a certificate."""
    return page.page_of(
        dose, copy_number=job.copy_number, site=site, others=others, site_names=site_names, values=VALUE_SETS
    )


def dose_rows(attested: StoredDose, others: Iterable[StoredDose], site_names: dict[str, str]) -> list[DoseRow | None]:
    """Return the seven rows of the table; see `issuing.page`."""
    return page.dose_rows(attested, others, site_names, VALUE_SETS.products)


def more_dose_rows(attested: StoredDose, others: Iterable[StoredDose], site_names: dict[str, str]) -> list[DoseRow]:
    """Return the doses for which the table has no row; see `issuing.page`."""
    return page.more_dose_rows(attested, others, site_names, VALUE_SETS.products)
