"""Day bags for tests: a country with a CSCA, a list signer, and a site's agent that has a delegated signer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.credential.trust import make_trust_list
from printsvc.credential.trustsigned import make_list_signer
from printsvc.domain.site import Site, SiteId
from printsvc.domain.uvcirange import UvciRange
from printsvc.domain.valuesets import PRODUCTS, PROPHYLAXES, ValueSets
from printsvc.identity.gate import OFFLINE_POLICY
from printsvc.issuing.bag import REVOCATIONS, TRUST, VALUES, BagForm, Manifest, pack

VALUE_SETS = ValueSets(PRODUCTS, PROPHYLAXES, {"VN": ("Việt Nam", "Viet Nam"), "LA": ("Lào", "Laos")})
FORM = BagForm("a4/43-2022", "iso_a4_210x297mm", 1000, "forms/a4-43-2022.cbor", 339)
ISSUER = "Bộ Y tế Việt Nam"


def elliptic(key: Any) -> ec.EllipticCurvePublicKey:
    public = key.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return public


@dataclass
class Country:
    """A CSCA, and the list signer under it that signs bags."""

    now: datetime
    csca_key: Any = field(default_factory=make_private_key)

    def __post_init__(self) -> None:
        begin = self.now - timedelta(days=30)
        self.csca = make_csca(
            self.csca_key, country="VN", organisation="MOH", common_name="CSCA VN", serial=1, now=begin
        )
        key = make_private_key()
        certificate = make_list_signer(key.public_key(), csca=self.csca, csca_key=self.csca_key, serial=2, now=self.now)
        self.lists = LocalSigner(certificate, key)

    def delegate(
        self, key: Any, given: UvciRange, *, days: float = 1, serial: int = 7, now: datetime | None = None
    ) -> bytes:
        """Return the certificate of a delegated signer."""
        return make_dsc(
            key.public_key(),
            csca=self.csca,
            csca_key=self.csca_key,
            organisation="Điểm tiêm",
            common_name="DAY BAG",
            serial=serial,
            now=(now or self.now) - timedelta(hours=1),
            validity=timedelta(days=days),
            uvci_beginning=given.beginning,
        )


@dataclass
class BagAgent:
    """An agent with a key and a bag of `size` doses."""

    country: Country
    agent_id: str = "agent-1"
    site_id: str = "HN-1"
    size: int = 5
    days: float = 1

    def __post_init__(self) -> None:
        self.key = make_private_key()
        self.range = UvciRange("VN", bytes(range(8)), bytes(16), self.size)
        self.dsc = self.country.delegate(self.key, self.range, days=self.days)
        self.signer = LocalSigner(self.dsc, self.key)
        self.manifest = Manifest(
            bag_id="bag-1",
            version=1,
            site=Site(SiteId(self.site_id), "Điểm tiêm lưu động", "TRUNG TÂM Y TẾ"),
            agent_id=self.agent_id,
            journal_id="journal-1",
            source="platform",
            made_at=self.country.now,
            expires_at=self.signer.not_after,
            dsc=self.dsc,
            range=self.range,
            issuer=ISSUER,
            country="VN",
            forms=(FORM,),
            policy=OFFLINE_POLICY,
            parts={},
        )

    def parts(self) -> dict[str, bytes]:
        trust = make_trust_list([self.dsc], version=1, made_at=self.country.now)
        trust = replace(trust, authorities=(self.country.csca,))
        return {
            VALUES: json.dumps(VALUE_SETS.to_json()).encode(),
            TRUST: json.dumps(trust.to_json()).encode(),
            REVOCATIONS: b"revocations",
            FORM.part: b"compiled",
        }

    def archive(self, **changes: Any) -> bytes:
        """Return the bag; `changes` are fields of the manifest."""
        return pack(replace(self.manifest, **changes), self.parts(), self.country.lists)


def dose_document(dose_id: str = "D-1", **changes: Any) -> dict[str, Any]:
    """Return a dose that a site may issue without a line; `changes` go into the person, the dose, or the event."""
    person = {
        "full_name": "GIÀNG THỊ MỶ",
        "date_of_birth": "1985-04-12",
        "sex": "female",
        "nationality": "VN",
        "id_type": "cccd",
        "id_number": "001185012345",
    }
    dose = {
        "product": "EU/1/20/1528",
        "lot": "FG3712",
        "number": 1,
        "series": 2,
        "kind": "basic",
        "injected_at": "2021-10-30T09:02:00+07:00",
    }
    event: dict[str, Any] = {"dose_id": dose_id, "site_id": "HN-1"}
    for name, value in changes.items():
        (person if name in person else dose if name in dose else event)[name] = value
    return event | {"person": person, "dose": dose}
