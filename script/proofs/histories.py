"""Pages as the service makes them for persons with several doses: intake, certificate, rows of the table, wording.

The shares are made up after what was given in Vietnam by the middle of 2022: most have three doses, some four or five,
hardly anybody more than the seven that the table of Decision 43/2022 holds.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from benchmarks.people import PRODUCTS, SITES, dose_events

from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.domain.form import FormChoice, FormId, PageData
from printsvc.domain.site import Site, SiteId
from printsvc.domain.uvci import Uvci
from printsvc.flows.intake import parse_event
from printsvc.flows.issue import make_certificate, make_job
from printsvc.flows.page import page_of
from printsvc.store.doses import ISSUED, StoredDose

NOW: Final = datetime(2022, 6, 30, 2, 12, tzinfo=UTC)
# Doses received, and how many of ten thousand persons have so many.
SHARES: Final = {1: 400, 2: 2000, 3: 5000, 4: 2000, 5: 500, 6: 80, 7: 15, 8: 5}
# Kind, number, series of the doses of a person with so many.
_FULL: Final[Sequence[tuple[str, int, int]]] = (
    ("basic", 1, 2), ("basic", 2, 2), ("additional", 3, 3), ("booster", 3, 3), ("booster", 4, 4), ("booster", 5, 5),
    ("booster", 6, 6), ("booster", 7, 7),
)  # fmt: skip
_WITHOUT_ADDITIONAL: Final = frozenset((3, 4))


def pages(seed: int, count: int, *, most_doses: int = max(SHARES)) -> Iterator[PageData]:
    """Give the page of each person's latest dose; nobody has more than `most_doses`."""
    key, csca_key = make_private_key(), make_private_key()
    names: dict[str, Any] = {"organisation": "PROOF", "now": NOW}
    csca = make_csca(csca_key, country="VN", common_name="PROOF CSCA", serial=1, **names)
    dsc = make_dsc(key.public_key(), csca=csca, csca_key=csca_key, common_name="PROOF", serial=2, **names)
    signer = LocalSigner(dsc, key)
    choice = FormChoice(FormId("a4/43-2022"), "iso_a4_210x297mm", 960)
    sites = {site_id: Site(SiteId(site_id), name, authority) for site_id, name, authority in SITES}
    shares = {doses: share for doses, share in SHARES.items() if doses <= most_doses}
    for number, event in enumerate(itertools.islice(dose_events(seed, now=NOW), count)):
        dice = random.Random(f"{seed}/{number}")
        doses = dice.choices(list(shares), list(shares.values()))[0]
        stored = [_dose(dice, event, place, doses) for place in range(doses)]
        latest = stored[-1].event
        certificate = make_certificate(
            latest, signer=signer, form=choice, issuer="Bộ Y tế", country="VN", opaque=dice.randbytes(16), now=NOW
        )
        yield page_of(
            dataclasses.replace(stored[-1], certificate=certificate),
            job=make_job(Uvci(certificate.uvci), latest.site_id, form=choice, job_id="", now=NOW),
            site=sites[latest.site_id],
            others=stored,
            site_names={site_id: site.name for site_id, site in sites.items()},
        )


def _dose(dice: random.Random, event: dict[str, Any], place: int, doses: int) -> StoredDose:
    course = [one for one in _FULL if one[0] != "additional" or doses not in _WITHOUT_ADDITIONAL]
    kind, number, series = course[place]
    given = {
        **event["dose"],
        "kind": kind,
        "number": number,
        "series": series,
        "product": dice.choice(PRODUCTS),
        "lot": dice.choice("FEPAC") + dice.choice("ABCDEFGH") + f"{dice.randint(0, 9999):04d}",
        "injected_at": (NOW - timedelta(days=60 * (doses - 1 - place), hours=1)).isoformat(),
    }
    own = {"dose_id": f"{event['dose_id']}/{place}", "site_id": dice.choice(SITES)[0], "dose": given}
    parsed = parse_event(event | own, now=NOW)
    return StoredDose(place, "proof", parsed, parsed.identity, ISSUED, (), "", NOW, None)
