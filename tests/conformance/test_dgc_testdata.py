"""The EU's dgc-testdata: every case, every expectation, with the case's own clock and signer."""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from printsvc.credential.base45 import parse_base45
from printsvc.credential.batch import parse_instant, verify_line
from printsvc.credential.cose import signature_agrees
from printsvc.credential.dcc import check_dcc, usage_of
from printsvc.credential.hcert import DecodedHcert, decode_hcert, decompress, strip_prefix
from printsvc.credential.trust import TrustList, make_trust_list
from printsvc.credential.verify import CLOCK_SKEW, Outcome, verify
from printsvc.errors import NotHcertError

MAX_DISAGREEMENTS = 0.02
CASES = 332

# A misspelt key of five cases; their certificates are within their time and the value is true: read as the right one.
MISSPELT = {"EXPTECTEDEXPIRED": "EXPECTEDEXPIRATIONCHECK"}
# About making a case or about its picture, which is checked with pictures.
ELSEWHERE = {"EXPECTEDENCODE", "EXPECTEDPICTUREDECODE", "EXPECTEDRESULTS"}


@dataclass(frozen=True)
class Case:
    name: str
    body: dict[str, Any]

    @property
    def code(self) -> str:
        return str(self.body["PREFIX"])

    @property
    def clock(self) -> datetime:
        return parse_instant(self.body["TESTCTX"]["VALIDATIONCLOCK"])

    @property
    def trust(self) -> TrustList:
        der = base64.b64decode(self.body["TESTCTX"]["CERTIFICATE"])
        return make_trust_list([der], version=1, made_at=self.clock)

    @property
    def expectations(self) -> Iterator[tuple[str, bool]]:
        for key, value in self.body["EXPECTEDRESULTS"].items():
            name = MISSPELT.get(key, key)
            if name not in ELSEWHERE:
                yield name, value

    def decoded(self) -> DecodedHcert:
        return decode_hcert(self.code)


@pytest.fixture(scope="module")
def cases(conformance: Path) -> list[Case]:
    root = conformance / "dgc-testdata"
    return [
        Case(path.relative_to(root).as_posix(), json.loads(path.read_text("utf-8-sig")))
        for path in sorted(root.rglob("*.json"))
    ]


@pytest.fixture(scope="module")
def disagreements() -> dict[tuple[str, str], str]:
    listed = tomllib.loads(Path(__file__).with_name("disagreements.toml").read_text("utf-8"))
    return {(case, entry["expectation"]): entry["reason"] for case, entries in listed.items() for entry in entries}


def decodes(step: str) -> Callable[[Case], bool]:
    """The code gets at least through `step` (the order is that of decoding)."""
    order = ["prefix", "base45", "zlib", "cose", "cbor", "claims"]

    def check(case: Case) -> bool:
        try:
            case.decoded()
        except NotHcertError as error:
            return order.index(error.step) > order.index(step)
        return True

    return check


def unprefixes(case: Case) -> bool:
    body = strip_prefix(case.code)
    return body is not None and body == case.body.get("BASE45", body)


def decodes_base45(case: Case) -> bool:
    data = parse_base45(case.code[4:]).hex()
    return data == case.body.get("COMPRESSED", data).lower()


def inflates(case: Case) -> bool:
    try:
        inflated = decompress(parse_base45(case.code[4:])).hex()
    except NotHcertError:
        return False
    return inflated == case.body.get("COSE", inflated).lower()


def content_is_the_same(case: Case) -> bool:
    try:
        return _without_times(case.decoded().payload) == _without_times(case.body.get("JSON", case.decoded().payload))
    except NotHcertError:
        return False


def signature_is_right(case: Case) -> bool:
    decoded = case.decoded()
    return decoded.algorithm is not None and any(
        signature_agrees(dsc.public_key, decoded.algorithm, decoded.cose.signature, decoded.cose.to_be_signed)
        for dsc in case.trust.candidates(decoded.kid)
    )


def schema_is_right(case: Case) -> bool:
    decoded = case.decoded()
    issued_on: date | None = decoded.issued_at.date() if decoded.issued_at else None
    return not check_dcc(decoded.payload, issued_on=issued_on)


def usage_is_right(case: Case) -> bool:
    usage = usage_of(case.decoded().payload)
    return usage is not None and case.trust.certificates[0].may_sign(usage)


def time_is_right(case: Case) -> bool:
    decoded = case.decoded()
    return bool(
        decoded.issued_at
        and decoded.expires_at
        and decoded.issued_at - case.clock <= CLOCK_SKEW
        and case.clock <= decoded.expires_at
    )


CHECKS: dict[str, Callable[[Case], bool]] = {
    "EXPECTEDUNPREFIX": unprefixes,
    "EXPECTEDB45DECODE": decodes_base45,
    "EXPECTEDCOMPRESSION": inflates,
    "EXPECTEDDECODE": decodes("claims"),
    "EXPECTEDVALIDOBJECT": decodes("claims"),
    "EXPECTEDVALIDJSON": content_is_the_same,
    "EXPECTEDVERIFY": signature_is_right,
    "EXPECTEDSCHEMAVALIDATION": schema_is_right,
    "EXPECTEDKEYUSAGE": usage_is_right,
    "EXPECTEDEXPIRATIONCHECK": time_is_right,
}

FAILURES: dict[str, set[Outcome]] = {
    "EXPECTEDUNPREFIX": {Outcome.NOT_A_CERTIFICATE},
    "EXPECTEDB45DECODE": {Outcome.MALFORMED},
    "EXPECTEDCOMPRESSION": {Outcome.MALFORMED},
    "EXPECTEDDECODE": {Outcome.MALFORMED},
    "EXPECTEDVERIFY": {Outcome.BAD_SIGNATURE, Outcome.UNKNOWN_SIGNER},
    "EXPECTEDSCHEMAVALIDATION": {Outcome.SCHEMA_INVALID},
    "EXPECTEDKEYUSAGE": {Outcome.WRONG_KEY_USAGE},
    "EXPECTEDEXPIRATIONCHECK": {Outcome.EXPIRED, Outcome.NOT_YET_VALID},
}


def test_every_expectation_is_replayed(cases: list[Case], disagreements: dict[tuple[str, str], str]) -> None:
    assert len(cases) == CASES
    replayed, differing = 0, set()
    for case in cases:
        for expectation, expected in case.expectations:
            replayed += 1
            if CHECKS[expectation](case) is not expected:
                differing.add((case.name, expectation))
    assert replayed > 2000
    assert differing == set(disagreements)
    assert len({case for case, _ in differing}) <= MAX_DISAGREEMENTS * len(cases)


def test_every_disagreement_has_a_reason(disagreements: dict[tuple[str, str], str]) -> None:
    assert all(len(reason.split()) > 8 for reason in disagreements.values())


def test_the_verdict_names_an_expected_failure(cases: list[Case], disagreements: dict[tuple[str, str], str]) -> None:
    """Nothing that should fail is valid, and the verdict is one of the failures that the case names.

    A verdict other than valid where the case names no failure must be about something that it does not state.
    """
    for case in cases:
        stated = {name: value for name, value in case.expectations if (case.name, name) not in disagreements}
        failing = {name for name, value in stated.items() if value is False}
        verdict = verify(case.code, trust=case.trust, at=case.clock).verdict
        if failing:
            assert verdict in set().union(*(FAILURES[name] for name in failing)), case.name
        elif verdict is not Outcome.VALID:
            about = {name for name, outcomes in FAILURES.items() if verdict in outcomes}
            assert about, case.name
            assert not about & set(stated), (case.name, verdict)


def test_as_lines_of_a_batch(cases: list[Case]) -> None:
    for case in cases:
        context = case.body["TESTCTX"]
        request = {
            "id": case.name,
            "code": case.code,
            "at": context["VALIDATIONCLOCK"],
            "certificates": [context["CERTIFICATE"]],
        }
        empty = TrustList(0, case.clock, ())
        answer = verify_line(json.dumps(request), trust=empty, now=case.clock)
        alone = verify(case.code, trust=case.trust, at=case.clock)
        assert (answer["id"], answer["verdict"], answer.get("claims")) == (
            case.name,
            alone.verdict.value,
            alone.claims,
        )


def test_one_altered_byte_of_a_real_code_never_verifies_as_something_else(cases: list[Case]) -> None:
    good = [case for case in cases if verify(case.code, trust=case.trust, at=case.clock).is_valid][::9]
    assert len(good) > 20
    for case in good:
        before = verify(case.code, trust=case.trust, at=case.clock)
        for position in range(4, len(case.code), 23):
            swapped = "A" if case.code[position] != "A" else "B"
            altered = case.code[:position] + swapped + case.code[position + 1 :]
            after = verify(altered, trust=case.trust, at=case.clock)
            assert not after.is_valid or after.claims == before.claims, (case.name, position)


def _without_times(value: Any) -> Any:
    """Return `value` with dates cut to the day and empty groups left out: cases print them in several ways."""
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    if isinstance(value, str) and value[4:5] == value[7:8] == "-" and value[10:11] == "T":
        return value[:10]
    return value
