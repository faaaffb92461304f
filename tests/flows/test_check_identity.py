"""The identity check before the needle."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from printsvc.errors import DoseError
from printsvc.flows.check_identity import check

NOW = datetime.fromisoformat("2021-10-30T02:12:00+00:00")
PERSON: dict[str, Any] = {
    "full_name": "Nguyễn Thị Minh Khai",
    "date_of_birth": "1985-04-12",
    "sex": "female",
    "nationality": "VN",
    "id_type": "cccd",
    "id_number": "001185012345",
}
FOREIGNER = PERSON | {"nationality": "FR", "id_type": "passport", "id_number": "15AB12345"}


@pytest.mark.parametrize(
    ("person", "status", "decision", "number"),
    [
        (PERSON, "matched", "issue", "agrees"),
        (PERSON | {"sex": "male"}, "matched", "hold", "wrong_sex"),
        (PERSON, "mismatched", "hold", "agrees"),
        (PERSON, "unchecked", "hold", "agrees"),
        (PERSON, None, "hold", "agrees"),
        (FOREIGNER, "exempt", "issue", "agrees"),
        (PERSON | {"id_type": "none", "id_number": None}, "exempt", "issue", "absent"),
    ],
)
def test_the_gate_says_what_would_become_of_the_dose(
    person: dict[str, Any], status: str | None, decision: str, number: str
) -> None:
    document = {"person": person} | ({"identity": {"status": status}} if status else {})
    answer = check(document, now=NOW)
    assert (answer["decision"], answer["number"]) == (decision, number)
    assert bool(answer["reasons"]) == (decision == "hold")
    assert all(reason["vi"] != reason["en"] for reason in answer["reasons"])


@pytest.mark.parametrize(
    ("document", "pointers"),
    [
        ({}, ["/person"]),
        ({"person": None}, ["/person"]),
        ({"person": PERSON | {"sex": "x", "more": 1}}, ["/person/sex", "/person/more"]),
        ({"person": PERSON, "identity": {"status": "sure"}}, ["/identity/status"]),
        ({"person": PERSON, "identities": {}}, ["/identities"]),
        ({"person": PERSON | {"date_of_birth": "2031-01-01"}}, ["/person/date_of_birth"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place_in_what_was_sent(document: dict[str, Any], pointers: list[str]) -> None:
    with pytest.raises(DoseError) as caught:
        check(document, now=NOW)
    assert [problem.pointer for problem in caught.value.problems] == pointers
