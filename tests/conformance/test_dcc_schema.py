"""What is built here, against the published JSON schemas; what is read, against the older ones."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.dcc import build_vaccination, check_dcc
from printsvc.domain.dose import DoseKind, Injection
from printsvc.domain.person import IdType, Person, Sex
from printsvc.domain.uvci import make_uvci
from printsvc.domain.valuesets import COVID_19, PRODUCTS
from printsvc.errors import PersonError

NAMES = st.text(st.characters(max_codepoint=0x1EFF, exclude_categories=["C", "Z", "N", "S"]), max_size=90)


@pytest.fixture(scope="module")
def schemas(conformance: Path) -> dict[str, Any]:
    found = {}
    for version in ("1.3.0", "1.3.1", "1.3.2", "1.3.3"):
        schema = json.loads((conformance / "dcc-schema" / f"{version}.json").read_text("utf-8"))
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        found[version] = jsonschema.Draft202012Validator(schema, format_checker=checker)
    return found


@given(
    family=NAMES,
    given_name=NAMES,
    born=st.dates(date(1850, 1, 1), date(2021, 12, 31)),
    product=st.sampled_from(sorted(PRODUCTS)),
    number=st.integers(1, 9),
    injected=st.integers(1609459200, 1893456000),
    opaque=st.binary(min_size=16, max_size=16),
)
def test_every_certificate_is_valid_by_the_schemas_or_refused_before(
    schemas: dict[str, Any],
    family: str,
    given_name: str,
    born: date,
    product: str,
    number: int,
    injected: int,
    opaque: bytes,
) -> None:
    person = Person(f"{family} {given_name}", family, given_name, born, Sex.OTHER, "VN", IdType.NONE)
    dose = Injection(product, "A1", number, number, DoseKind.BASIC, datetime.fromtimestamp(injected, UTC))
    try:
        payload = build_vaccination(person, dose, uvci=make_uvci("VN", opaque), issuer="Bộ Y tế")
    except PersonError:
        return
    for version, schema in schemas.items():
        assert [error.message for error in schema.iter_errors(payload)] == [], version
    assert check_dcc(payload) == []


def test_our_codes_are_in_the_value_sets(conformance: Path) -> None:
    def codes(name: str) -> set[str]:
        return set(json.loads((conformance / "valuesets" / f"{name}.json").read_text("utf-8"))["valueSetValues"])

    assert COVID_19 in codes("disease-agent-targeted")
    assert {product.code for product in PRODUCTS.values()} <= codes("vaccine-medicinal-product")
    assert {product.prophylaxis for product in PRODUCTS.values()} <= codes("vaccine-prophylaxis")
    assert {product.manufacturer_code for product in PRODUCTS.values()} <= codes("vaccine-mah-manf")


def test_countries_of_the_value_set_are_countries(conformance: Path) -> None:
    listed = json.loads((conformance / "valuesets" / "country-2-codes.json").read_text("utf-8"))["valueSetValues"]
    assert len(listed) > 240
    for code in [*listed, "XK", "EL", "UK"]:
        entry = {
            "tg": "1",
            "co": code,
            "is": "X",
            "ci": "X",
            "fr": "2021-05-01",
            "df": "2021-05-01",
            "du": "2021-05-02",
        }
        assert check_dcc({"ver": "1.3.0", "nam": {"fnt": "A"}, "dob": "", "r": [entry]}) == [], code


def test_the_schema_library_checks_dates() -> None:
    """Else the test above would pass for any date."""
    assert "date" in jsonschema.Draft202012Validator.FORMAT_CHECKER.checkers, sys.version
