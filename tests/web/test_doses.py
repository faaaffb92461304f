"""POST /v1/doses and what follows from it, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from printsvc_api_harness import HELD, MATCHED, Api, event, held

from printsvc.errors import InputError, StoreError
from printsvc.flows.intake import parse_event
from printsvc.web.bodies import parse_json
from printsvc.web.problems import document_of, response

PROBLEM = "application/problem+json"


async def counts(api: Api) -> dict[str, int]:
    return dict((await api.call("GET", "/v1/stats", by="admin")).body)


async def test_a_dose_is_issued_and_a_replay_gets_the_stored_answer(api: Api) -> None:
    first = await api.call("POST", "/v1/doses", event())
    again = await api.call("POST", "/v1/doses", event())
    assert (first.status, again.status) == (201, 200)
    assert first.body["outcome"] == "issued"
    assert first.body["certificate"]["hcert"].startswith("HC1:")
    assert again.body == first.body | {"replayed": True}
    assert (await counts(api))["certificates"] == 1


async def test_one_key_with_two_bodies_is_a_conflict_that_says_where(api: Api) -> None:
    await api.issue()
    answer = await api.call("POST", "/v1/doses", event(lot="OTHER", sex="male", site_id="NO-SUCH-SITE"))
    assert answer.status == 409
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.body["fields"] == ["/site_id", "/person/sex", "/dose/lot"]
    assert "OTHER" not in json.dumps(answer.body)


async def test_a_held_dose_says_why_in_both_languages_and_is_released_once(api: Api) -> None:
    sent = held("D-held")
    answer = await api.call("POST", "/v1/doses", sent)
    assert answer.status == 202
    assert answer.body["outcome"] == "held"
    assert "certificate" not in answer.body
    for reason in answer.body["reasons"]:
        assert reason["code"]
        assert reason["vi"] != reason["en"]
    again = await api.call("POST", "/v1/doses", sent)
    assert again.status == 200
    assert again.body["outcome"] == "held"

    still = await api.call("POST", "/v1/doses/D-held/identity", HELD)
    assert still.status == 202
    released = await api.call("POST", "/v1/doses/D-held/identity", MATCHED)
    assert released.status == 201
    assert released.body["outcome"] == "issued"
    repeated = await api.call("POST", "/v1/doses/D-held/identity", MATCHED)
    assert repeated.status == 200
    assert repeated.body["uvci"] == released.body["uvci"]
    other = await api.call("POST", "/v1/doses/D-held/identity", MATCHED | {"reference": "NPD-10"})
    assert (other.status, other.body["code"]) == (409, "already_issued")

    replay = await api.call("POST", "/v1/doses", sent)
    assert replay.status == 200, "the body as it was first sent is still a replay"
    assert replay.body["uvci"] == released.body["uvci"]
    assert replay.body["job_id"] == released.body["job_id"]


async def test_identity_results_that_race_release_a_dose_once(api: Api) -> None:
    await api.call("POST", "/v1/doses", held("D-race"))
    answers = await asyncio.gather(*(api.call("POST", "/v1/doses/D-race/identity", MATCHED) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    assert len({answer.body["uvci"] for answer in answers}) == 1


async def test_every_mistake_is_told_at_once_with_its_pointer_and_in_both_languages(api: Api) -> None:
    wrong = event(sex="both", date_of_birth="1985-02-30", lot="?", number=3)
    wrong["person"]["surprise"] = 1
    answer = await api.call("POST", "/v1/doses", wrong)
    assert answer.status == 422
    found = {error["pointer"]: error for error in answer.body["errors"]}
    assert {"/person/sex", "/person/date_of_birth", "/person/surprise"} <= set(found)
    for error in found.values():
        assert error["vi"] != error["en"]
        assert re.fullmatch(r"[a-z_]+", error["code"])
    later = (await api.call("POST", "/v1/doses", event(lot="?", number=3, site_id="NOWHERE"))).body["errors"]
    assert {error["pointer"] for error in later} == {"/dose/lot", "/dose/number"}
    site = (await api.call("POST", "/v1/doses", event(site_id="NOWHERE"))).body["errors"]
    assert [(error["pointer"], error["code"]) for error in site] == [("/site_id", "unknown_site")]


@pytest.mark.parametrize(("by", "status"), [(None, 401), ("nobody", 401), ("site", 403), ("admin", 403)])
async def test_only_the_platform_sends_doses(api: Api, by: str | None, status: int) -> None:
    answer = await api.call("POST", "/v1/doses", event(), by=by)
    assert answer.status == status
    assert answer.headers["Content-Type"] == PROBLEM
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert (await counts(api))["doses"] == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 422),
        (b"\xff\xfe", 422),
        (json.dumps(event()).encode("utf-16"), 422),
        (b"[" * 100_000, 422),
        (b'{"dose_id": NaN}', 422),
        (b"null", 422),
        (b"[]", 422),
        (b'{"dose_id": ' + b"1" * 5000 + b"}", 422),
        (rb'{"dose_id": "\ud800", "\udfff": 1}', 422),
        (b'{"person": ' + b'{"a":' * 500 + b"1" + b"}" * 501, 422),
        (b" " * (17 * 1024 * 1024), 413),
    ],
    ids=["empty", "bytes", "utf-16", "deep", "nan", "null", "array", "long-number", "surrogate", "nested", "huge"],
)
async def test_bodies_that_are_no_event(api: Api, data: bytes, status: int) -> None:
    answer = await api.call("POST", "/v1/doses", data=data, headers={"Content-Type": "application/json"})
    assert answer.status == status
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.body["detail"] != answer.body["detail_vi"]
    assert (await counts(api))["doses"] == 0


async def test_a_byte_order_mark_is_no_mistake(api: Api) -> None:
    data = b"\xef\xbb\xbf" + json.dumps(event()).encode()
    assert (await api.call("POST", "/v1/doses", data=data, headers={"Content-Type": "application/json"})).status == 201


async def test_another_content_type_is_415(api: Api) -> None:
    answer = await api.call("POST", "/v1/doses", data=b"a=1", headers={"Content-Type": "text/csv"})
    assert answer.status == 415
    assert "application/x-ndjson" in answer.body["detail"]


# --- batches


async def test_a_batch_answers_each_line_in_order_and_bad_lines_stop_nothing(api: Api) -> None:
    lines: list[Any] = [
        event("B-1"),
        b"{not json",
        held("B-2"),
        event("B-1"),
        event("B-1", lot="OTHER"),
        rb'{"dose_id": "\ud800\udead"}',
        rb'{"dose_id": "\ud800"}',
        b"\xff\xff",
        b"[[" * 60_000,
        b"",
        event("B-3", site_id="NOWHERE"),
        event("B-4", lot="?"),
        b"17",
        event("B-5", site_id="HN-2"),
    ]
    _, answers = await api.batch(lines)
    assert [answer["line"] for answer in answers] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14]
    assert [answer["status"] for answer in answers] == [201, 422, 202, 200, 409, 422, 422, 422, 422, 422, 422, 422, 201]
    assert answers[3]["uvci"] == answers[0]["uvci"]
    assert answers[3]["job_id"] == answers[0]["job_id"]
    assert answers[4]["fields"] == ["/dose/lot"]
    assert answers[6]["dose_id"] == "\ud800"
    assert answers[10]["dose_id"] == "B-4"
    numbers = await counts(api)
    assert (numbers["doses"], numbers["held"], numbers["certificates"]) == (3, 1, 2)

    _, again = await api.batch(lines)
    assert [answer["status"] for answer in again] == [200, 422, 200, 200, 409, 422, 422, 422, 422, 422, 422, 422, 200]
    assert [answer.get("uvci") for answer in again] == [answer.get("uvci") for answer in answers]


async def test_a_thousand_lines_are_taken_and_one_more_is_413(api: Api) -> None:
    lines = [event(f"M-{number}") for number in range(1001)]
    refused, _ = await api.batch(lines)
    assert refused.status == 413
    assert refused.headers["Content-Type"] == PROBLEM
    assert "1000" in refused.body["detail"]
    assert (await counts(api))["doses"] == 0
    _, answers = await api.batch(lines[:1000])
    assert {answer["status"] for answer in answers} == {201}
    assert len({answer["uvci"] for answer in answers}) == 1000


async def test_an_empty_batch_has_no_answers(api: Api) -> None:
    answer, lines = await api.batch([b"", b"  "])
    assert (answer.status, lines) == (200, [])


async def test_batches_at_once_with_the_same_doses_make_one_certificate_each(api: Api) -> None:
    lines = [event(f"R-{number}") for number in range(20)]
    results = await asyncio.gather(*(api.batch(lines if number % 2 else lines[::-1]) for number in range(6)))
    uvcis = {(answer["dose_id"], answer["uvci"]) for _, answers in results for answer in answers}
    assert len(uvcis) == 20
    assert sum(answer["status"] == 201 for _, answers in results for answer in answers) == 20


# --- when nothing can be stored, or nobody can sign


async def test_503_with_retry_after_when_the_store_fails_and_nothing_is_stored(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Any, unit: Any) -> Any:
        raise StoreError("The disk is full: nothing was stored.", vi="Ổ đĩa đã đầy.", retry_after_s=30)

    with monkeypatch.context() as patch:
        patch.setattr("printsvc.store.engine.Store.write", fail)
        answer = await api.call("POST", "/v1/doses", event())
        batch, _ = await api.batch([event()])
    for one in (answer, batch):
        assert (one.status, one.headers["Retry-After"], one.body["code"]) == (503, "30", "store_unavailable")
    assert (await api.call("POST", "/v1/doses", event())).status == 201


async def test_503_when_nobody_can_sign_but_what_is_stored_is_still_answered(api: Api) -> None:
    first = await api.issue()
    api.world.clock.now += timedelta(days=3 * 365)
    again = await api.call("POST", "/v1/doses", event())
    assert again.status == 200, "a replay needs no signer"
    assert again.body["uvci"] == first["uvci"]
    answer = await api.call("POST", "/v1/doses", event("D-2"))
    assert (answer.status, answer.headers["Retry-After"], answer.body["code"]) == (503, "60", "signer_unavailable")
    ready = await api.call("GET", "/readyz", by=None)
    assert ready.status == 503
    assert [one["code"] for one in ready.body["failing"]] == ["signer_unavailable"]
    assert (await counts(api))["doses"] == 1


# --- what is told of a dose


async def test_a_dose_is_told_to_its_site_and_not_to_another(api: Api) -> None:
    await api.issue("HN/2021/17")
    for by in ("platform", "admin", "site"):
        answer = await api.call("GET", "/v1/doses/HN/2021/17", by=by)
        assert (answer.status, answer.body["outcome"]) == (200, "issued")
    other = await api.call("GET", "/v1/doses/HN/2021/17", by="site2")
    missing = await api.call("GET", "/v1/doses/HN/2021/18", by="site")
    assert other.status == missing.status == 404
    assert other.body == missing.body


async def test_identity_of_an_unknown_dose_or_a_bad_body(api: Api) -> None:
    assert (await api.call("POST", "/v1/doses/NONE/identity", MATCHED)).status == 404
    wrong = await api.call("POST", "/v1/doses/NONE/identity", MATCHED | {"checked_at": "2031-01-01T00:00:00Z"})
    assert (wrong.status, wrong.body["errors"][0]["pointer"]) == (422, "/checked_at")
    assert (await api.call("POST", "/v1/doses/NONE/identity", MATCHED, by="site")).status == 403


async def test_an_identity_check_stores_nothing_and_says_what_would_be(api: Api) -> None:
    person = event()["person"]
    yes = await api.call("POST", "/v1/identity-checks", {"person": person, "identity": MATCHED}, by="site")
    assert (yes.status, yes.body["decision"], yes.body["reasons"]) == (200, "issue", [])
    no = await api.call("POST", "/v1/identity-checks", {"person": person | {"sex": "male"}, "identity": MATCHED})
    assert no.body["decision"] == "hold"
    assert [reason["code"] for reason in no.body["reasons"]] == ["number_wrong_sex"]
    wrong = await api.call("POST", "/v1/identity-checks", {"person": person | {"sex": "x"}, "more": 1})
    assert wrong.status == 422
    assert {error["pointer"] for error in wrong.body["errors"]} == {"/person/sex", "/more"}
    for body in ([], 1, None, {"person": None}, {}):
        assert (await api.call("POST", "/v1/identity-checks", data=json.dumps(body).encode())).status == 422
    assert (await counts(api))["doses"] == 0


# --- anything at all

_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=12)
_NAMES = (
    st.sampled_from(["dose_id", "site_id", "person", "identity", "dose", "full_name", "sex", "lot", "~/"]) | st.text()
)
_ANYTHING = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4), max_leaves=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.dictionaries(_NAMES, _ANYTHING, max_size=6), tail=st.binary(max_size=20))
def test_no_body_makes_the_service_fail(parts: dict[str, Any], tail: bytes) -> None:
    for raw in (json.dumps(event() | parts).encode(), json.dumps(parts).encode() + tail):
        try:
            parse_event(parse_json(raw), now=datetime(2021, 10, 30, 3, tzinfo=UTC))
        except InputError as error:
            answer = response(document_of(error))
            assert answer.status == 422
            assert json.loads(answer.body)["errors"]  # type: ignore[arg-type]
