"""At most one realistic person in a hundred needs WeasyPrint: persons with all their doses, on every form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from proofs.histories import pages

from printsvc.domain.form import FormId
from printsvc.render.formfile import find_forms
from printsvc.render.stamp import NeedsWeasyPrint, Stamper

FORMS = find_forms(Path(__file__).resolve().parents[2] / "templates")
MOST = 0.01
# The confirmation of 2021 has two rows, for the two doses that there were: see docs/forms.md.
MOST_DOSES = {FormId("a4/3588-2021"): 2}

StamperOf = Callable[[FormId], Stamper]


def ways_out(stamper: Stamper, form_id: FormId, count: int) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for page in pages(77, count, most_doses=MOST_DOSES.get(form_id, 8)):
        try:
            stamper.stamp(page)
        except NeedsWeasyPrint as why:
            reasons[why.reason] += 1
    return reasons


def test_a_few_hundred_persons_are_stamped(stamper_of: StamperOf) -> None:
    form_id = FormId("receipt80/43-2022")
    found = ways_out(stamper_of(form_id), form_id, 300)
    assert found.total() <= 300 * MOST, found


@pytest.mark.slow
@pytest.mark.parametrize("form_id", FORMS)
def test_thousands_of_persons_are_stamped_on_every_form(
    stamper_of: StamperOf, record_property: Callable[[str, object], None], form_id: FormId
) -> None:
    found = ways_out(stamper_of(form_id), form_id, 5000)
    for reason, number in found.items():
        record_property(reason, number)
    assert found.total() <= 5000 * MOST, found
