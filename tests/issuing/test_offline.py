"""What a site brings home is stored only where it is what the centre's own rules would have made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from proofs.daybag import ISSUER, VALUE_SETS, BagAgent, Country, dose_document

from printsvc.credential.dcc import build_vaccination
from printsvc.credential.hcert import encode_hcert
from printsvc.credential.keys import LocalSigner, make_private_key
from printsvc.credential.trust import make_trust_list
from printsvc.credential.verify import Outcome, verify
from printsvc.domain.site import SiteId
from printsvc.domain.uvci import make_uvci
from printsvc.domain.uvcirange import UvciRange
from printsvc.errors import InputError
from printsvc.identity.gate import IDENTITY_LATER, OFFLINE_POLICY, Issue
from printsvc.issuing.certificate import make_certificate
from printsvc.issuing.offline import Brought, Doubtful, Rules, check_brought, enter, uvci_of

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
COUNTRY = Country(NOW)
AGENT = BagAgent(COUNTRY)
RULES = Rules(SiteId("HN-1"), AGENT.dsc, AGENT.range, ISSUER, "VN", AGENT.signer.not_after, OFFLINE_POLICY, VALUE_SETS)
LATER = NOW + timedelta(hours=9)


def issue(document: Any = None, *, opaque: bytes | None = None, now: datetime = NOW, **changes: Any) -> str:
    event = enter(document or dose_document(), RULES, now=now).event
    how = {"signer": AGENT.signer, "qr_capacity": 1000, "issuer": ISSUER, "country": "VN"} | changes
    opaque = opaque or AGENT.range.opaque(0)
    return make_certificate(event, opaque=opaque, now=now, products=VALUE_SETS.products, **how).hcert


def brought(document: Any, hcert: str, *, entered_at: datetime = NOW, rules: Rules = RULES) -> Brought | Doubtful:
    return check_brought(document, hcert, entered_at, rules, now=LATER)


def test_what_the_site_made_by_the_rules_is_taken() -> None:
    found = brought(dose_document(), issue())
    assert isinstance(found, Brought)
    assert found.certificate is not None
    assert (found.mark, found.certificate.uvci) == (IDENTITY_LATER, AGENT.range.uvci(0))
    assert found.certificate.expires_at == AGENT.signer.not_after
    held = dose_document(id_number="001285012345")
    assert isinstance(brought(held, ""), Brought)


def test_what_the_rules_would_not_have_made_is_doubtful() -> None:
    document, good = dose_document(), issue()
    stranger = BagAgent(Country(NOW), size=5)
    out_of_range = make_uvci("VN", bytes(16))
    cases = {
        "unreadable": brought(document, "HC1:nothing"),
        "bad_signature": brought(document, issue(signer=stranger.signer)),
        "claims_differ": brought(dose_document(full_name="GIÀNG THỊ MAI"), good),
        "rules": brought(document | {"dose": document["dose"] | {"product": "none"}}, good),
        "identity_rules": brought(dose_document(id_number="001285012345"), good),
        "outside_range": brought(document, issue(opaque=bytes(16))),
        "outside_time": brought(document, issue(), rules=replace(RULES, until=NOW)),
        "clock": brought(document, good, entered_at=LATER + timedelta(hours=1)),
    }
    assert {name: getattr(found, "code", found) for name, found in cases.items()} == {name: name for name in cases}
    assert all(isinstance(one, Doubtful) and one.vi != one.en and "GIÀNG" not in one.en for one in cases.values())
    assert isinstance(brought(document, ""), Doubtful)  # held by the site, and the rules say issue
    assert uvci_of(issue(opaque=bytes(16))) == out_of_range


def test_a_longer_life_than_the_rules_give_is_doubtful() -> None:
    event = enter(dose_document(), RULES, now=NOW).event
    payload = build_vaccination(event.person, event.dose, uvci=AGENT.range.uvci(0), issuer=ISSUER)
    for begin, end in ((NOW, NOW + timedelta(hours=1)), (NOW - timedelta(days=3), AGENT.signer.not_after)):
        text = encode_hcert(payload, issuer="VN", issued_at=begin, expires_at=end, signer=AGENT.signer)
        found = brought(dose_document(), text)
        assert isinstance(found, Doubtful)
        assert found.code == "outside_time"


@pytest.mark.parametrize(
    ("changes", "is_issued"),
    [
        ({}, True),
        ({"identity": {"status": "matched"}}, True),
        ({"identity": {"status": "mismatched"}}, False),
        ({"id_number": "001285012345"}, False),
        ({"id_type": "none", "id_number": None}, False),
        ({"id_type": "none", "id_number": None, "identity": {"status": "exempt"}}, True),
    ],
)
def test_the_gate_without_a_line_lets_through_what_can_be_checked_later(changes: Any, is_issued: bool) -> None:
    entered = enter(dose_document(**changes), RULES, now=NOW)
    assert isinstance(entered.decision, Issue) == is_issued


def test_a_dose_of_another_site_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        enter(dose_document(site_id="HN-2"), RULES, now=NOW)
    assert [one.pointer for one in caught.value.problems] == ["/site_id"]


def test_verifiers_believe_a_delegate_in_its_range_alone() -> None:
    trust = make_trust_list([AGENT.dsc], version=1, made_at=NOW)
    assert verify(issue(), trust=trust, at=NOW).verdict is Outcome.VALID
    assert verify(issue(opaque=bytes(16)), trust=trust, at=NOW).verdict is Outcome.WRONG_KEY_USAGE
    after = AGENT.signer.not_after + timedelta(seconds=1)
    assert verify(issue(), trust=trust, at=after).verdict is Outcome.EXPIRED


def test_another_key_over_the_same_range_signs_nothing_here() -> None:
    key = make_private_key()
    other = LocalSigner(COUNTRY.delegate(key, UvciRange("VN", bytes(range(8)), bytes(16), 5), serial=9), key)
    found = brought(dose_document(), issue(signer=other))
    assert isinstance(found, Doubtful)
    assert found.code == "bad_signature"
