"""Codes of vaccines, makers and diseases, as the EU value sets name them.

Only what a certificate of this service may say: the vaccines used in Vietnam, plus those that foreigners bring.
Source: EU eHealth Network value sets, vaccine-medicinal-product, vaccine-mah-manf, vaccine-prophylaxis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

COVID_19 = "840539006"


@dataclass(frozen=True, slots=True)
class Product:
    """`code` is DCC `mp`, `manufacturer_code` is `ma`, `prophylaxis` is `vp`; `manufacturer` is short, for paper."""

    code: str
    name: str
    manufacturer_code: str
    manufacturer: str
    prophylaxis: str


@dataclass(frozen=True, slots=True)
class Prophylaxis:
    code: str
    vi: str
    en: str


_MRNA = "1119349007"
_PROTEIN = "1162643001"
_VECTOR = "29061000087103"
_INACTIVATED = "1157024006"

PROPHYLAXES = {
    p.code: p
    for p in (
        Prophylaxis(_MRNA, "Vắc xin mRNA phòng SARS-CoV-2", "SARS-CoV-2 mRNA vaccine"),
        Prophylaxis(_PROTEIN, "Vắc xin protein tái tổ hợp", "SARS-CoV-2 recombinant spike protein vaccine"),
        Prophylaxis(_VECTOR, "Vắc xin véc tơ vi rút", "COVID-19 non-replicating viral vector vaccine"),
        Prophylaxis(_INACTIVATED, "Vắc xin bất hoạt", "Inactivated whole SARS-CoV-2 vaccine"),
    )
}

PRODUCTS = {
    p.code: p
    for p in (
        Product("EU/1/20/1528", "Comirnaty", "ORG-100030215", "Pfizer/BioNTech", _MRNA),
        Product("EU/1/20/1507", "Spikevax", "ORG-100031184", "Moderna", _MRNA),
        Product("EU/1/21/1529", "Vaxzevria", "ORG-100001699", "AstraZeneca", _VECTOR),
        Product("EU/1/20/1525", "Jcovden", "ORG-100001417", "Janssen", _VECTOR),
        Product("Sputnik-V", "Sputnik V", "Gamaleya-Research-Institute", "Gamaleya", _VECTOR),
        Product("BBIBP-CorV", "Vero Cell", "ORG-100020693", "Sinopharm Beijing", _INACTIVATED),
        Product("Hayat-Vax", "Hayat-Vax", "ORG-100023050", "Gulf Pharmaceutical", _INACTIVATED),
        Product("Abdala", "Abdala", "CIGB", "CIGB", _PROTEIN),
        Product("Covaxin", "Covaxin", "Bharat-Biotech", "Bharat Biotech", _INACTIVATED),
        Product("Covishield", "Covishield", "ORG-100001981", "Serum Institute of India", _VECTOR),
        Product("CoronaVac", "CoronaVac", "Sinovac-Biotech", "Sinovac", _INACTIVATED),
        Product("EU/1/21/1618", "Nuvaxovid", "ORG-100032020", "Novavax", _PROTEIN),
        Product("Sputnik-Light", "Sputnik Light", "Gamaleya-Research-Institute", "Gamaleya", _VECTOR),
    )
}


@dataclass(frozen=True, slots=True)
class ValueSets:
    """The codes that a certificate may hold, by code; `countries` are (Vietnamese, English) names."""

    products: Mapping[str, Product]
    prophylaxes: Mapping[str, Prophylaxis]
    countries: Mapping[str, tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Return the sets as JSON, for a site that has no line to ask."""
        return {
            "products": [asdict(product) for product in self.products.values()],
            "prophylaxes": [asdict(one) for one in self.prophylaxes.values()],
            "countries": {code: list(names) for code, names in self.countries.items()},
        }

    @classmethod
    def from_json(cls, body: Any) -> ValueSets:
        """Return the sets of `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        products = [Product(**product) for product in body["products"]]
        prophylaxes = [Prophylaxis(**one) for one in body["prophylaxes"]]
        countries = {str(code): (str(vi), str(en)) for code, (vi, en) in body["countries"].items()}
        return cls({one.code: one for one in products}, {one.code: one for one in prophylaxes}, countries)
