"""One small country: a CSCA, a vaccination signer, its trust list, and a person with a dose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from printsvc.credential.dcc import build_vaccination
from printsvc.credential.hcert import encode_hcert
from printsvc.credential.keys import Algorithm, LocalSigner, PrivateKey, make_csca, make_dsc, make_private_key
from printsvc.credential.trust import TrustList, make_trust_list
from printsvc.domain.dose import DoseKind, Injection
from printsvc.domain.person import IdType, Person, Sex
from printsvc.domain.uvci import make_uvci

NOW = datetime(2021, 10, 30, 2, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Country:
    """`issue` signs a payload (a good one by default) at NOW for a year."""

    now: datetime
    csca: bytes
    csca_key: PrivateKey
    signer: LocalSigner
    rsa_signer: LocalSigner
    trust: TrustList
    payload: dict[str, Any]
    issue: Callable[..., str]


@pytest.fixture(scope="session")
def person() -> Person:
    return Person(
        full_name="NGUYỄN THỊ MINH KHAI",
        family_name="NGUYỄN",
        given_name="THỊ MINH KHAI",
        date_of_birth=date(1985, 4, 12),
        sex=Sex.FEMALE,
        nationality="VN",
        id_type=IdType.CCCD,
        id_number="001185012345",
    )


@pytest.fixture(scope="session")
def injection() -> Injection:
    return Injection("EU/1/20/1528", "FG3712", 2, 2, DoseKind.BASIC, NOW)


@pytest.fixture(scope="session")
def country(person: Person, injection: Injection) -> Country:
    csca_key, key, rsa_key = make_private_key(), make_private_key(), make_private_key(Algorithm.PS256)
    csca = make_csca(csca_key, country="VN", organisation="MOH", common_name="CSCA VN", serial=1, now=NOW)
    ders = [
        make_dsc(
            private.public_key(),
            csca=csca,
            csca_key=csca_key,
            organisation="MOH",
            common_name=f"DSC {serial}",
            serial=serial,
            now=NOW,
        )
        for serial, private in ((2, key), (3, rsa_key))
    ]
    signer, rsa_signer = LocalSigner(ders[0], key), LocalSigner(ders[1], rsa_key)
    good = build_vaccination(person, injection, uvci=make_uvci("VN", bytes(range(16))), issuer="Bộ Y tế")

    def issue(payload: dict[str, Any] | None = None, **changes: Any) -> str:
        arguments: dict[str, Any] = {
            "issuer": "VN",
            "issued_at": NOW,
            "expires_at": NOW + timedelta(days=365),
            "signer": signer,
        }
        return encode_hcert(good if payload is None else payload, **(arguments | changes))

    trust = make_trust_list(ders, version=1, made_at=NOW)
    return Country(NOW, csca, csca_key, signer, rsa_signer, trust, good, issue)
