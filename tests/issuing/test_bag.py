"""A day bag is used whole, signed by the centre, by the agent it was made for, in its time; or not at all."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proofs.daybag import BagAgent, Country, elliptic

from printsvc.credential.keys import make_private_key
from printsvc.errors import InputError
from printsvc.issuing.bag import MANIFEST, VALUES, check_time, make_request, open_bag, read_request

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
COUNTRY = Country(NOW)
AGENT = BagAgent(COUNTRY)
ARCHIVE = AGENT.archive()


def opened(archive: bytes = ARCHIVE, **changes: Any) -> Any:
    how = {"pins": [COUNTRY.csca], "key": elliptic(AGENT.key), "agent_id": AGENT.agent_id} | changes
    return open_bag(archive, **how)


def refused(archive: bytes = ARCHIVE, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        opened(archive, **changes)
    assert caught.value.vi != caught.value.en
    return caught.value.code


def test_a_bag_comes_out_as_it_went_in() -> None:
    bag = opened()
    parts = bag.manifest.parts
    assert {name: bag.part(name) for name in parts} == AGENT.parts()
    assert bag.manifest.forms == AGENT.manifest.forms
    assert bag.manifest.policy == AGENT.manifest.policy
    assert (bag.manifest.range, bag.manifest.site, bag.manifest.dsc) == (AGENT.range, AGENT.manifest.site, AGENT.dsc)
    assert bag.values.products["EU/1/20/1528"].name == "Comirnaty"
    assert AGENT.archive() == ARCHIVE


@given(st.integers(0, len(ARCHIVE) - 1), st.integers(1, 255))
def test_a_changed_byte_changes_nothing_that_is_believed(place: int, change: int) -> None:
    # What no reader of ZIP looks at may change; what is read of the bag never does.
    changed = bytearray(ARCHIVE)
    changed[place] ^= change
    try:
        bag = opened(bytes(changed))
    except InputError:
        return
    assert {name: bag.part(name) for name in bag.manifest.parts} == AGENT.parts()
    assert bag.manifest == opened().manifest


def rewritten(**parts: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, parts.get(name.partition(".")[0], old.read(name)))
    return out.getvalue()


def test_a_part_or_a_manifest_of_somebody_else_is_refused() -> None:
    assert opened(rewritten()).manifest == opened().manifest
    assert refused(rewritten(values=b"{}")) == "bag_damaged"
    other = Country(NOW)
    with zipfile.ZipFile(io.BytesIO(BagAgent(other).archive())) as theirs:
        assert refused(rewritten(manifest=theirs.read(MANIFEST))) == "bag_not_trusted"
    assert refused(pins=[other.csca]) == "bag_not_trusted"
    assert refused(pins=[]) == "bag_not_trusted"
    assert refused(b"PK not a bag") == "bag_damaged"
    assert VALUES in opened().manifest.parts


def test_a_bag_is_its_agents_alone() -> None:
    assert refused(agent_id="agent-2") == "bag_of_another"
    assert refused(key=elliptic(make_private_key())) == "bag_of_another"


@pytest.mark.parametrize("days", [7.1, 30])
def test_a_signer_for_more_than_a_week_is_no_delegate(days: float) -> None:
    agent = BagAgent(COUNTRY, days=days)
    assert refused(agent.archive(), key=elliptic(agent.key)) == "signer_not_delegated"


def test_the_signer_must_be_for_the_range_and_of_the_pinned_authority() -> None:
    other = BagAgent(Country(NOW))
    assert refused(AGENT.archive(dsc=other.dsc)) == "signer_not_delegated"
    wide = AGENT.archive(expires_at=AGENT.signer.not_after + timedelta(seconds=1))
    assert refused(wide) == "signer_not_delegated"


def test_a_bag_is_over_to_the_second_and_says_so() -> None:
    manifest = opened().manifest
    check_time(manifest, NOW)
    check_time(manifest, manifest.expires_at - timedelta(seconds=1))
    for moment, code in (
        (manifest.expires_at, "bag_expired"),
        (NOW + timedelta(days=400), "bag_expired"),
        (NOW - timedelta(hours=2), "bag_not_yet"),
    ):
        with pytest.raises(InputError) as caught:
            check_time(manifest, moment)
        assert caught.value.code == code


def test_a_request_proves_its_key_and_names_its_agent() -> None:
    key = make_private_key()
    request = make_request(key, "agent-1")
    assert read_request(request, "agent-1") == key.public_key()
    for wrong in (request[:-1] + bytes([request[-1] ^ 1]), request[:40], b""):
        with pytest.raises(InputError):
            read_request(wrong, "agent-1")
    with pytest.raises(InputError) as caught:
        read_request(request, "agent-2")
    assert caught.value.code == "request_of_another"
